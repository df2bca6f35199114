"""The packs of numerics resolve at every scale, and read and draw what their runs report."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle_jax.ablations import Scale, arms, metrics, numerics, packs
from dalle_jax.errors import UserError
from dalle_jax.workdir import Workdir

ROOT = Path(__file__).parents[2] / "experiments" / "ablations"
NAMES = ("loss_scale", "nan_filter", "fp16_logits", "fp16_embeddings")


def resolved(name, scale):
  pack = packs.load(ROOT / f"{name}.py").pack
  return pack, arms.resolve(pack, Scale(name=scale, data="data"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["smoke", "tiny", "small", "paper"])
def test_packs_resolve_with_the_loss_divided_by_1024_and_the_papers_scales(name, scale):
  pack, found = resolved(name, scale)
  stage = found[pack.arms[0].name].stage("transformer")
  objective = stage.objective
  assert stage.batch * objective.replicas == 1024
  assert objective.model.layers == (2 if scale == "smoke" else 64)
  first = objective.begin().log2_S
  assert first.shape == (2 * objective.model.layers,)
  height = 25 if scale == "tiny" else 13
  np.testing.assert_array_equal(first, math.log2(1024 if scale == "paper" else objective.replicas) + height)


def test_no_scale_is_a_scale_of_one():
  _, found = resolved("loss_scale", "tiny")
  np.testing.assert_array_equal(found["no scale"].stage("transformer").objective.begin().log2_S, 0)


@pytest.fixture
def runs(tmp_path):
  """Workdirs of two arms that report 20 lines, the later ones of other numbers."""
  _, found = resolved("loss_scale", "smoke")
  made = {}
  for name in ("a scale for each branch", "one scale"):
    made[name] = Workdir.claim(tmp_path / name.replace(" ", "_"), found[name])
    objective = found[name].stage("transformer").objective
    told = objective.parts() if objective.scales.each else ["all"]
    rows = []
    for step in range(1, 21):
      late = 0.5 if step <= 15 else 0.1
      row = {"step": step, "underflow_late": late, "underflow_early": late / 2, "log2_scale": 20.0 + step}
      rows.append(row | {"skipped_total": step // 4} | {f"log2_scale/{part}": 20.0 + step for part in told})
    file = made[name].path / "transformer" / "metrics.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:3], {"step": 3, "samples": 1.0}, *rows[3:]]))
  return made


def test_figures_are_of_the_last_quarter(runs):
  run = runs["one scale"]
  replicas = math.log2(run.experiment().stage("transformer").objective.replicas)
  measured = lambda metric: metric.measure(run, None, 0)  # noqa: E731
  assert measured(numerics.underflow(smallest=0.1)) == pytest.approx(0.1)
  assert measured(numerics.underflow(smallest=0.1, where="early")) == pytest.approx(0.05)
  assert measured(numerics.scale(smallest=0.1)) == pytest.approx(20 + np.mean([16, 17, 18, 19, 20]) - replicas)
  assert measured(metrics.left_out(smallest=0.1)) == 5 / 20


def test_the_scales_of_all_arms_are_drawn(runs, tmp_path):
  first, *_ = runs.items()
  pictures = []
  for name, shown in (("both", runs), ("fewer", dict([first]))):
    numerics.over_time().draw(shown, tmp_path / f"{name}.png")
    with Image.open(tmp_path / f"{name}.png") as picture:
      pictures.append(picture.convert("RGB"))
  both, fewer = pictures
  assert both.height > fewer.height
  assert len(both.getcolors(1 << 20)) > 20


def test_a_run_of_another_objective_has_no_such_figures(tmp_path):
  pack, found = resolved("loss_scale", "smoke")
  run = Workdir.claim(tmp_path / "run", found[pack.arms[0].name])
  with pytest.raises(UserError, match="has no underflow in"):
    numerics.underflow(smallest=0.1).measure(run, None, 0)
