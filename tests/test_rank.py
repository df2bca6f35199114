"""Ranking again what was drawn: which scores are taken as they are, and which are computed."""

import numpy as np
import pytest

from dalle_jax import rank
from dalle_jax.models import dvae, transformer
from dalle_jax.sampling import draws, ranking
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.draws import Draws
from dalle_jax.sampling.rankers import Weighted

CHOSEN = {"clip": Weighted(ranker=lambda candidates: np.zeros((1, 1), np.float32))}


def kept(judges):
  return Draws(
    captions=("a cat",),
    seed=0,
    text_CT=np.zeros((1, 3), int),
    codes_CNP=np.arange(8).reshape(1, 2, 4),
    scores={"clip": np.array([[1.0, 2.0]], np.float32)},
    weights={},
    about={},
    judges=judges,
  )


def scored(folder, judges, now):
  """The scores, and whether they were computed anew."""
  asked = []

  def scores(self, caption_C, text_CT, codes_CSP, rankers):
    asked.append(sorted(rankers))
    return {name: np.full(codes_CSP.shape[:2], 9.0, np.float32) for name in rankers}

  nothing = {"transformer": transformer.Config(), "transformer_params": {}, "dvae": dvae.Config(), "dvae_params": {}}
  drawer = type("Judging", (Drawer,), {"scores": scores})(**nothing, batch=2, judges={"clip": now})
  found = rank.scored(folder, kept(judges), drawer, CHOSEN, lambda what, done, total: None)
  return found, bool(asked)


def test_scores_of_the_same_clip_are_taken_as_they_are(tmp_path):
  found, computed = scored(tmp_path, {"clip": "abc"}, "abc")
  assert not computed
  np.testing.assert_array_equal(found.scores["clip"], [[1, 2]])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("judges", [{"clip": "abc"}, {}])
def test_scores_of_another_clip_are_computed_anew_and_kept_with_its_digest(tmp_path, judges):
  found, computed = scored(tmp_path, judges, "def")
  assert computed
  again = draws.read(tmp_path)
  assert again.judges == found.judges == {"clip": "def"}
  np.testing.assert_array_equal(again.scores["clip"], [[9, 9]])


@pytest.mark.parametrize(
  ("asked", "says"),
  [
    ({"clip": 1.0}, "CLIP"),
    ({"likelihood": -1.0}, "-1 likelihood"),
    ({"clip": 1.0, "likelihood": 0.5}, "1 CLIP + 0.5 likelihood"),
    ({}, "nothing, in the order drawn"),
  ],
)
def test_what_ranks_is_told_with_its_weight(asked, says):
  chosen = {
    name: Weighted(ranker=lambda candidates: np.zeros((1, 1), np.float32), weight=weight)
    for name, weight in asked.items()
  }
  assert ranking.told(chosen) == says
