"""Batches of NaN, gradients a hundred times too large, NaN in one process alone: the state keeps its bits in all."""

import numpy as np
import pytest
from gang import finished, losses, rows

from dalle_jax.training.checkpoint import Checkpoints

STEPS, AT = 150, {"nan": 10, "large": 140}  # a spike is one beside the norms of 128 updates before it
ITEMS = ("params", "opt", "ema")


def same_bits(ours, theirs):
  return ours.keys() == theirs.keys() and all(ours[path].tobytes() == theirs[path].tobytes() for path in ours)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """The losses of a run that reads no bad batch."""
  workdir = tmp_path_factory.mktemp("good")
  finished(2, workdir, steps=STEPS)
  return losses(workdir)


@pytest.mark.parametrize(
  ("what", "who"),
  [("nan", "0,1"), ("nan", "1"), ("large", "0,1")],
  ids=["nan in both", "nan in one shard", "100x in both"],
)
def test_an_update_that_is_left_out_leaves_no_trace_in_any_process(good, tmp_path, figure, what, who):
  at = AT[what]
  bad = {"BAD": f"{who}:{at - 1}:{what}"}
  finished(2, tmp_path / "before", steps=at - 1, **bad)
  finished(2, tmp_path / "after", steps=at, **bad)
  before, after = (Checkpoints(tmp_path / name / "checkpoints") for name in ("before", "after"))
  for item in ITEMS:
    assert same_bits(before.read(at - 1, item), after.read(at, item)), item

  finished(2, tmp_path / "after", steps=at + 3, **bad)
  found = rows(tmp_path / "after")
  assert [row["skipped"] for row in found] == [int(row["step"] == at) for row in found]
  assert found[-1]["skipped_spikes"] == (what == "large")
  ours = losses(tmp_path / "after")
  np.testing.assert_array_equal(ours[: at - 1], good[: at - 1])
  assert ours[at] != good[at]  # the batch in its place would have counted

  names = {"nan": "a batch of NaN", "large": "a gradient 100 times as large"}
  where = "in both of 2 processes" if "," in who else "in one of 2 processes"
  figure(f"{names[what]}, {where}: bits of parameters, optimizer and average after it", "unchanged in all")
