"""Arms: what they may differ in, and what is refused before anything runs."""

import dataclasses
import sys
from pathlib import Path

import pytest

from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper, Scale, arms, figures, packs, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.commands.ablate import GROUPS
from dalle_jax.errors import UserError
from dalle_jax.pack_files import files

ROOT = Path(__file__).parents[2]
SCALE = Scale(name="smoke", data="DATA")
FIELD = "stages.transformer.objective.model.last"


@pytest.fixture(autouse=True)
def at_the_project(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.fixture
def bases():
  packs.load(Path("experiments/ablations/last_layer.py"))
  return sys.modules["bases"]


def pack_of(bases, *more):
  metric = Metric(name="m", unit="u", smallest=1.0, measure=lambda workdir, setting, seed: 0.0)
  return Pack(
    title="T",
    group="attention",
    paper=Paper(rows=(14,), says="s", where="w"),
    base=bases.transformer,
    stage="transformer",
    arms=(Arm(name="plain"), Arm(name="other", change=row(bases), fields=(FIELD,)), *more),
    control="other",
    metric=metric,
    claims=(Better(arm="plain", than="other"),),
  )


def row(bases, **more):
  return lambda base: bases.changed(base, "transformer", model={"last": "row"}, **more)


def test_arms_that_differ_in_what_they_name_are_resolved(bases):
  found = arms.resolve(pack_of(bases), SCALE)
  assert list(found) == ["plain", "other"]
  assert found["plain"] == bases.transformer(SCALE)
  assert arms.changes(found["plain"], found["other"]) == [f"{FIELD}: conv -> row"]


@pytest.mark.parametrize(
  ("change", "fields", "said"),
  [
    ({"batch": 8}, (FIELD,), "differs from the base in stages.transformer.batch: 4 -> 8, which its fields do not name"),
    ({"batch": 8}, (), "differs from the base in stages.transformer.batch: 4 -> 8 and 1 more, which its"),
    ({}, (FIELD, "stages.transformer.steps"), "names stages.transformer.steps, in which it does not differ"),
    ({}, ("stages.transformer.objective.model.la",), "which its fields do not name"),
  ],
)
def test_an_arm_that_differs_otherwise_than_it_says_is_refused(bases, change, fields, said):
  odd = Arm(name="odd", change=row(bases, **change), fields=fields)
  with pytest.raises(UserError, match=r"^T: the arm 'odd' ") as caught:
    arms.resolve(pack_of(bases, odd), SCALE)
  assert said in str(caught.value)


def test_a_beginning_of_fields_names_all_below_it(bases):
  one = Arm(
    name="all",
    change=row(bases, objective={"text_weight": 0.5}),
    fields=("stages.transformer.objective",),
  )
  assert len(arms.changes(bases.transformer(SCALE), arms.resolve(pack_of(bases, one), SCALE)["all"])) == 2


def test_the_same_arm_twice_is_refused_and_settings_tell_arms_apart(bases):
  with pytest.raises(UserError, match="the arms 'plain' and 'again' are the same"):
    arms.resolve(pack_of(bases, Arm(name="again")), SCALE)
  assert "again" in arms.resolve(pack_of(bases, Arm(name="again", setting=2)), SCALE)


def test_the_seed_is_no_arm(bases):
  odd = Arm(name="odd", change=lambda base: dataclasses.replace(base, seed=3), fields=("seed",))
  with pytest.raises(UserError, match="'odd' changes the seed, which is the same for all arms"):
    arms.resolve(pack_of(bases, odd), SCALE)


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda base: dataclasses.replace(base, workers=-1), "T, odd: got workers -1"),
    (lambda base: dataclasses.replace(base, nonsense=1), "T, odd: .*nonsense"),
    (lambda base: None, "T, odd: made a NoneType, an Experiment is wanted"),
  ],
)
def test_an_arm_that_makes_no_experiment_is_told_by_name(bases, change, said):
  with pytest.raises(UserError, match=said):
    arms.resolve(pack_of(bases, Arm(name="odd", change=change, fields=("workers",))), SCALE)


@pytest.mark.parametrize("file", files(ROOT / "experiments/ablations"), ids=lambda file: file.stem)
@pytest.mark.parametrize("scale", ["smoke", "tiny", "small", "paper"])
def test_the_project_s_packs_resolve_at_every_scale(file, scale):
  pack = packs.load(file).pack
  found = arms.resolve(pack, Scale(name=scale, data="DATA"))
  assert list(found) == [arm.name for arm in pack.arms]
  assert 2 <= len(pack.arms) <= 8
  assert pack.group in GROUPS
  assert all(1 <= number <= 34 for number in pack.paper.rows)
  if any(metric.measure.__module__ == sampled.__name__ for metric in figures.metrics(pack)):
    assert all(isinstance(arm.setting, Drawing) for arm in pack.arms), "a figure's key has to have how it draws"
