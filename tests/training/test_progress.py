"""Progress: plain lines where there is no terminal, a bar where there is one."""

import io

import pytest

from dalle_jax.training import progress


class Clock:
  """A clock that the test moves."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end(capsys):
  clock = Clock()
  shown = progress.StepProgress("clip", 100, 0, clock=clock)
  for step in range(1, 101):
    clock.now += 0.25
    shown.update(step, 2.0)
  shown.close()
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
    "clip: step 40/100  loss 2.0000  4.0 steps/s  0:15 left",
    "clip: step 80/100  loss 2.0000  4.0 steps/s  0:05 left",
    "clip: step 100/100  loss 2.0000  4.0 steps/s  0:00 left",
  ]


def test_work_without_a_loss_is_counted_in_its_own_unit(capsys):
  clock = Clock()
  shown = progress.StepProgress("codes", 40_000, 0, unit="crops", clock=clock)
  clock.now += 20
  shown.update(30_000)
  assert capsys.readouterr().err == "codes: crop 30000/40000  1,500.0 crops/s  0:06 left\n"


def test_a_resumed_run_counts_its_rate_from_where_it_resumed(capsys):
  clock = Clock()
  shown = progress.StepProgress("dvae", 1000, 900, clock=clock)
  clock.now += 20
  shown.update(940, 0.5)
  assert capsys.readouterr().err == "dvae: step 940/1000  loss 0.5000  2.0 steps/s  0:30 left\n"


def test_a_terminal_gets_a_bar_with_rate_time_left_and_loss(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  monkeypatch.delenv("NO_COLOR", raising=False)
  terminal, clock = Terminal(), Clock()
  monkeypatch.setattr(progress.sys, "stderr", terminal)
  shown = progress.StepProgress("transformer", 10, 0, clock=clock)
  shown.say("begins")
  for step in range(1, 11):
    clock.now += 1
    shown.update(step, 1 / step)
  shown.close()
  text = terminal.getvalue()
  for words in ("transformer: begins", "10/10", "1.0 steps/s", "loss 0.1000", "left"):
    assert words in text
  assert "step 10/10" not in text, "no plain lines beside the bar"


@pytest.mark.parametrize("step", [1, 5])
def test_a_step_within_the_ten_seconds_prints_nothing(capsys, step):
  progress.StepProgress("dvae", 10, 0, clock=Clock()).update(step, 1.0)
  assert capsys.readouterr().err == ""
