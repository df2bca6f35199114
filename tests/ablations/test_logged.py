"""Means over a log's lines, some of which were not finite."""

import json
import math

import pytest

from dalle_jax.ablations import first_stage, logged, metrics
from dalle_jax.errors import UserError
from dalle_jax.workdir import Workdir


@pytest.fixture
def run_of(tmp_path):
  """A run that logged these losses, and a line of what was shown."""

  def make(losses):
    (tmp_path / "dvae").mkdir(exist_ok=True)
    rows = [{"step": i, "loss": loss} for i, loss in enumerate(losses, 1)]
    lines = [json.dumps(row) for row in [*rows, {"step": len(losses), "valid_psnr": 3.0}]]
    (tmp_path / "dvae/metrics.jsonl").write_text("\n".join(lines) + "\n")
    return Workdir(tmp_path)

  return make


# By the figure, the 20 of 200 lines that it is a mean of.
FIGURES = {
  "early": (first_stage.early_loss(smallest=0.1), slice(0, 20)),
  "final": (metrics.training_loss(smallest=0.1, stage="dvae"), slice(180, 200)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_lines_that_are_not_finite_are_counted_and_more_than_a_tenth_make_no_figure(run_of, name):
  metric, own = FIGURES[name]
  losses = [float(i) for i in range(200)]
  wanted = losses[own]
  assert metric.measure(run_of(losses), None, 0) == pytest.approx(sum(wanted) / 20)
  losses[own.start + 3] = losses[own.start + 7] = None
  left = [value for i, value in enumerate(wanted) if i not in (3, 7)]
  assert metric.measure(run_of(losses), None, 0) == pytest.approx(sum(left) / 18)
  losses[own.start + 9] = None
  assert math.isnan(metric.measure(run_of(losses), None, 0))
  assert math.isnan(metric.measure(run_of([None] * 200), None, 0))


def test_a_column_has_all_lines_of_training(run_of):
  assert logged.column(run_of([1.0, None, 3.0]), "dvae", "loss") == pytest.approx([1.0, math.nan, 3.0], nan_ok=True)
  with pytest.raises(UserError, match=r"has no loss_image in dvae/metrics\.jsonl"):
    logged.column(run_of([1.0]), "dvae", "loss_image")
