"""Headless Chromium (Debian's chromium and chromium-driver) for the tests that drive a page, and what it noticed."""

import contextlib
import json
import shutil

import pytest

FLAGS = (
  "--headless=new",
  "--no-sandbox",  # it does not start as root with one
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--hide-scrollbars",
  "--force-device-scale-factor=1",
)


class Browser:
  """A page in a window. Where the page says something on its console, or asks the network, `check` fails."""

  def __init__(self, driver):
    self.driver = driver

  def open(self, page):
    self.driver.get(page.absolute().as_uri())

  def all(self, selector):
    """The elements of a CSS selector."""
    return self.driver.find_elements("css selector", selector)

  def texts(self, selector):
    return [each.text for each in self.all(selector)]

  def wait(self, script):
    """Waits until an expression of JavaScript holds."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda d: d.execute_script(f"return {script}"))

  def pictures(self, selector="img"):
    """The file of each picture, from the page's folder, once all have loaded."""
    self.wait(f"[...document.querySelectorAll('{selector}')].every(each => each.complete)")
    found = self.driver.execute_script(
      f"return [...document.querySelectorAll('{selector}')].map(each => [each.getAttribute('src'), each.naturalWidth])"
    )
    assert found
    assert all(width > 0 for _, width in found), found
    return [file for file, _ in found]

  def press(self, key):
    """A key, to whatever has the focus."""
    self.driver.switch_to.active_element.send_keys(key)

  def resize(self, width, height):
    self.driver.execute_cdp_cmd(
      "Emulation.setDeviceMetricsOverride",
      {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )

  def prefer(self, scheme):
    """Light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

  def check(self):
    """Nothing on the console since the last call, and no request but for files."""
    assert self.driver.get_log("browser") == []
    messages = [json.loads(row["message"])["message"] for row in self.driver.get_log("performance")]
    sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert sent
    assert all(url.startswith("file://") for url in sent), sent


@contextlib.contextmanager
def opened():
  """A browser; the test is skipped where there is none."""
  webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the dev extra")
  chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
  if not (chromium and driver):
    pytest.skip("needs Debian's chromium and chromium-driver")
  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  for flag in FLAGS:
    options.add_argument(flag)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
  browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
  try:
    yield Browser(browser)
  finally:
    browser.quit()
