"""The command line: quick, one line for a mistake, exit code 2."""

import subprocess
import sys
import time

import pytest

from dalle_jax import cli


def dalle(*argv):
  begin = time.monotonic()
  done = subprocess.run([sys.executable, "-m", "dalle_jax", *argv], capture_output=True, text=True)
  return done, time.monotonic() - begin


def test_help_lists_every_command_without_importing_jax():
  script = "import sys; from dalle_jax import cli; assert cli.main(['--help']) == 0; assert 'jax' not in sys.modules"
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  for command in cli.COMMANDS:
    assert f"\n  {command}" in done.stdout


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["trian"], "did you mean 'train'?"),
    (["data", "prepair"], "did you mean 'prepare'?"),
    (["train", "experiments/no_such.py", "--workdir", "x"], "no experiment file experiments/no_such.py"),
    (["plan", "experiments/no_such.py", "--topology", "x"], "no experiment file experiments/no_such.py"),
    (["train", "experiments/demo.py", "--workdir", "x", "--profile", "9:3"], "wanted the first and the last step"),
  ],
)
def test_a_misspelt_command_or_a_missing_file_is_one_line_and_exit_code_2(argv, says):
  done, _ = dalle(*argv)
  assert done.returncode == 2
  assert done.stdout == ""
  assert says in done.stderr
  assert done.stderr.count("\n") == 1
  assert len(done.stderr) <= 201


def test_debug_shows_the_traceback_that_is_hidden_otherwise():
  done, _ = dalle("trian", "--debug")
  assert "Traceback" in done.stderr


def test_a_reader_that_leaves_early_is_no_traceback():
  with subprocess.Popen(
    [sys.executable, "-m", "dalle_jax", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    process.stdout.close()
    assert process.stderr.read() == ""
  assert process.returncode == 141
