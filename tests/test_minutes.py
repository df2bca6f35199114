"""`pytest --minutes`: what is not begun in time is left out and told by file; the order reaches most files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"
MANY = """import pytest, time

@pytest.mark.parametrize("n", range(3))
def test_many(n):
  time.sleep(0.5)
"""
ONE = """import pytest, time

@pytest.mark.parametrize("n", range(3))
def test_left_out(n):  # by -k, so that of this file one is left
  raise AssertionError

def test_one():
  time.sleep(0.5)
"""
FILES = {"test_a_many.py": MANY, "test_b_one.py": ONE, "test_c_many.py": MANY}


@pytest.fixture
def pytest_says(tmp_path):
  """What pytest prints over three files, without this project's settings."""
  (tmp_path / "pytest.ini").write_text("[pytest]\n")
  for name, text in FILES.items():
    (tmp_path / name).write_text(text)

  def run(*options):
    argv = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "minutes", "-rs", "-v", "-k", "not left_out"]
    env = os.environ | {"PYTHONPATH": str(SUPPORT)}
    done = subprocess.run([*argv, *options], capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  return run


def order(output):
  return re.findall(r"^(test_\w)_\w+\.py::\S+ (?:PASSED|SKIPPED)", output, re.MULTILINE)


@pytest.mark.slow
def test_without_it_all_run_in_their_own_order(pytest_says):
  assert order(pytest_says()) == 3 * ["test_a"] + ["test_b"] + 3 * ["test_c"]


@pytest.mark.slow
def test_the_file_of_the_fewest_tests_comes_first(pytest_says):
  found = pytest_says("--minutes", "5")
  assert order(found) == ["test_b"] + 3 * ["test_a"] + 3 * ["test_c"]
  assert "7 passed" in found


@pytest.mark.parametrize(
  "spread", [pytest.param((), marks=pytest.mark.slow), ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")]
)
def test_what_is_not_begun_in_time_is_told_by_file(pytest_says, spread):
  found = pytest_says("--minutes", "0.005", *spread)  # 0.3 s: over when a process has run one test
  assert len(re.findall(r"PASSED", found)) <= 2  # none, where a process waits that long for its first
  assert int(re.search(r"(\d+) skipped", found).group(1)) >= 5
  assert re.search(r"SKIPPED \[3\] .*test_c_many.py: not begun, the 0.005 minutes are over", found)
