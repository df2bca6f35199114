"""What is kept of a run's figures where some can't be had."""

import math
from pathlib import Path

import pytest
import tiny_run

from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper, measured
from dalle_jax.errors import TrainingPreempted, UserError
from dalle_jax.workdir import Workdir


def metric(name, value):
  """One that is `value`, or raises it."""

  def measure(workdir, setting, seed):
    if isinstance(value, BaseException):
      raise value
    return value

  return Metric(name=name, unit="u", smallest=1.0, measure=measure)


def found(decides, **also):
  pack = Pack(
    title="T",
    group="text",
    paper=Paper(rows=(1,), says="s", where="w"),
    base=lambda scale: tiny_run.experiment(),
    stage="transformer",
    arms=(Arm(name="a"), Arm(name="b")),
    control="b",
    metric=metric("decides", decides),
    also=tuple(metric(name, value) for name, value in also.items()),
    claims=(Better(arm="a", than="b"),),
  )
  return measured.measure(pack, Workdir(Path("OUT/runs/one")), None, 0)


def test_a_figure_beside_the_deciding_one_is_left_out_with_its_reason_and_the_rest_is_kept():
  got = found(1.5, one=math.inf, two=2.5, three=KeyError("loss"), four=UserError("no CLIP"))
  assert got.values == {"decides": 1.5, "two": 2.5}
  assert got.lacking == {"one": "one is inf", "three": "KeyError: 'loss'", "four": "no CLIP"}
  assert (got.failed, got.diverged, got.final) == (None, False, False)
  assert found(1.5, two=2.5, four=UserError("no CLIP")).final  # as it would be again


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_deciding_figure_that_is_not_finite_is_a_failure_with_its_reason(value):
  with pytest.raises(UserError, match=f"^decides is {value}$"):
    found(value, two=2.5)


def test_what_ends_the_deciding_metric_or_asks_to_go_is_told():
  with pytest.raises(RuntimeError, match="no such"):
    found(RuntimeError("no such"), two=2.5)
  with pytest.raises(TrainingPreempted):
    found(1.5, two=TrainingPreempted("asked to go"))


def test_reasons_do_not_say_where_files_lie(tmp_path):
  got = found(1.5, one=UserError(f"nothing in {tmp_path}/runs"))
  assert got.anywhere(tmp_path).lacking == {"one": "nothing in OUT/runs"}
