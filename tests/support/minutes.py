"""A pytest plugin, `--minutes M`: after so many minutes no test is begun any more. What was left out is told by file.

For CI, whose time ends while machines differ by a factor of two. Files come by how many tests they have, the fewest
first, so that most of them are reached.
"""

import time
from collections import Counter

import pytest

ENDS = pytest.StashKey[float]()


def pytest_addoption(parser):
  parser.addoption("--minutes", type=float, help="begin no test after so many minutes; say which files were left out")


@pytest.hookimpl(trylast=True)  # after -m took out what is not asked for
def pytest_collection_modifyitems(config, items):
  minutes = config.getoption("minutes")
  if minutes is not None:
    config.stash[ENDS] = time.monotonic() + 60 * minutes
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (tests[item.path], item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
  if time.monotonic() > item.config.stash.get(ENDS, float("inf")):
    pytest.skip(f"{item.path.name}: not begun, the {item.config.getoption('minutes'):g} minutes are over")
