import numpy as np
import pytest

from dalle_jax.evaluation import r_precision


def vectors(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_pictures_of_nothing_in_particular_reach_chance():
  ranked = r_precision.among_drawn(vectors(400, 2, 16), vectors(300, 16, seed=1), np.arange(400) % 300, seed=0)
  assert (ranked.candidates, ranked.chance()) == (100, 0.01)
  assert ranked.within(1).low < 0.01 < ranked.within(1).high
  assert abs(ranked.within(50).rate - 0.5) < 0.08
  assert set(np.unique(ranked.ranks_CS)) <= set(range(1, 101))


def test_pictures_of_their_captions_come_first_and_those_of_others_do_not():
  texts = vectors(150, 16)
  own = np.arange(150)
  right = texts[:, None] + 0.1 * vectors(150, 3, 16, seed=1)
  assert r_precision.among_drawn(right, texts, own, seed=0).within().rate == 1
  assert r_precision.among_all(right, texts, own).within().rate == 1
  # Where every text is a candidate, a picture of another one never comes first.
  assert r_precision.among_drawn(right, texts, np.roll(own, 1), seed=0, candidates=150).within().rate == 0


def test_ranks_among_all_are_those_of_sorting():
  pictures, texts, own = vectors(20, 2, 8), vectors(37, 8, seed=1), np.random.default_rng(2).integers(0, 37, 20)
  found = r_precision.among_all(pictures, texts, own)
  for c in range(20):
    for s in range(2):
      cosines = texts @ pictures[c, s] / np.linalg.norm(texts, axis=1)
      assert found.ranks_CS[c, s] == 1 + list(np.argsort(-cosines)).index(own[c])
  # Drawn without leaving one out, they are the same.
  drawn = r_precision.among_drawn(pictures, texts, own, seed=5, candidates=37)
  np.testing.assert_array_equal(drawn.ranks_CS, found.ranks_CS)


def test_all_is_the_same_in_parts_of_rows(monkeypatch):
  pictures, texts, own = vectors(20, 3, 8), vectors(30, 8, seed=1), np.arange(20)
  whole = r_precision.among_all(pictures, texts, own).ranks_CS
  monkeypatch.setattr(r_precision, "ROWS", 7)
  np.testing.assert_array_equal(r_precision.among_all(pictures, texts, own).ranks_CS, whole)


def test_the_draw_depends_on_the_seed_and_the_caption_s_number_alone():
  pictures, texts, own = vectors(30, 2, 8), vectors(500, 8, seed=1), np.arange(30)
  whole = r_precision.among_drawn(pictures, texts, own, seed=3).ranks_CS
  parts = [r_precision.among_drawn(pictures[i : i + 10], texts, own[i : i + 10], seed=3, first=i) for i in (0, 10, 20)]
  np.testing.assert_array_equal(np.concatenate([part.ranks_CS for part in parts]), whole)
  assert (r_precision.among_drawn(pictures, texts, own, seed=4).ranks_CS != whole).any()
  # One picture of each less does not change the others.
  np.testing.assert_array_equal(r_precision.among_drawn(pictures[:, :1], texts, own, seed=3).ranks_CS, whole[:, :1])


def test_a_text_that_is_as_near_counts_as_nearer():
  texts = np.repeat(vectors(1, 8), 100, axis=0)
  assert (r_precision.among_drawn(vectors(3, 1, 8), texts, np.arange(3), seed=0).ranks_CS == 100).all()
  assert (r_precision.among_all(vectors(3, 1, 8), texts, np.arange(3)).ranks_CS == 100).all()


def test_more_candidates_than_texts_are_an_error():
  with pytest.raises(ValueError, match="got 100 candidates and 99 different captions"):
    r_precision.among_drawn(vectors(3, 1, 8), vectors(99, 8), np.arange(3), seed=0)
