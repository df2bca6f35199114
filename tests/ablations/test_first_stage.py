"""What the packs on the dVAE read of a run's log."""

import json

import pytest

from dalle_jax.ablations import first_stage, metrics
from dalle_jax.errors import UserError
from dalle_jax.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
  """A run whose log has 20 lines of training, and one of what was shown."""
  rows = [{"step": 10 * i, "loss": float(i), "skipped_total": float(i // 10)} for i in range(1, 21)]
  (tmp_path / "dvae").mkdir()
  lines = [json.dumps(row) for row in [*rows, {"step": 200, "valid_psnr": 3.0}]]
  (tmp_path / "dvae/metrics.jsonl").write_text("\n".join(lines) + "\n")
  return Workdir(tmp_path)


def test_how_it_starts_is_the_mean_of_the_first_tenth(workdir):
  metric = first_stage.early_loss(smallest=0.1)
  assert metric.measure(workdir, None, 0) == pytest.approx((1 + 2) / 2)
  assert metric.lower


def test_updates_that_were_left_out_are_a_share_of_all(workdir):
  assert metrics.left_out(smallest=0.1, stage="dvae").measure(workdir, None, 0) == pytest.approx(2 / 200)


def test_a_run_without_such_a_column_is_named(workdir):
  (workdir.path / "dvae/metrics.jsonl").write_text(json.dumps({"step": 1, "valid_psnr": 3.0}) + "\n")
  with pytest.raises(UserError, match=r"has no loss in dvae/metrics\.jsonl"):
    first_stage.early_loss(smallest=0.1).measure(workdir, None, 0)
