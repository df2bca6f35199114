"""The clustered start of the codebook: it finds planted clusters, uses many codes, and touches two layers only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import dvae
from dalle_jax.objectives import codebook
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Constant

CFG = dvae.Config(image=16, vocab=32, hidden=16, groups=2, blocks=1, code_dim=6)


@pytest.fixture(scope="module")
def params():
  objective = DvaeElbo(model=CFG, kl=Constant(0.0), temperature=Constant(1.0))
  return jax.jit(lambda key: sharding.unbox(objective.init(key)))(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
  """Flat pictures of a few colours, a little noisy: patches in clusters."""
  rng = np.random.default_rng(0)
  colours = rng.integers(0, 256, (24, 3))
  patches = colours[rng.integers(24, size=(80, 4, 4))].repeat(4, 1).repeat(4, 2)
  return np.clip(patches + rng.integers(-6, 7, (80, 16, 16, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def started(params, images):
  return codebook.start(params, CFG, images, seed=0)


def of_patches(params, images, method):
  """The encoder's features or logits, a row for each patch."""
  apply = jax.jit(lambda p, x: dvae.Dvae(CFG).apply({"params": p}, dvae.map_pixels(x), method=method))
  found = np.asarray(apply(params, images))
  return found.reshape(-1, found.shape[-1])


def logits(params, images):
  return of_patches(params, images, "encode")


def used(params, images):
  """exp of the entropy of how often each code is the most likely one."""
  p_V = np.bincount(logits(params, images).argmax(1), minlength=CFG.vocab) / (len(images) * CFG.grid**2)
  return np.exp(-(p_V * np.log(p_V + 1e-12)).sum())


def test_it_uses_many_codes_where_a_random_start_uses_few(params, started, images):
  assert used(params, images) < 8
  assert used(started, images) > 16


def test_positions_are_left_with_about_one_nat_of_doubt(started, images):
  x_PV = logits(started, images)
  log_p_PV = x_PV - np.log(np.exp(x_PV - x_PV.max(1, keepdims=True)).sum(1, keepdims=True)) - x_PV.max(1, keepdims=True)
  entropy_P = -(np.exp(log_p_PV) * log_p_PV).sum(1)
  assert entropy_P.mean() == pytest.approx(codebook.ENTROPY, abs=0.1)


def test_the_most_likely_code_is_that_of_the_nearest_centre(params, started, images):
  """logits = (c.x - |c|²/2) / s²: the kernel over the bias gives s² and the centres back."""
  features_PC = of_patches(params, images[:20], "features")
  kernel_CV = np.asarray(started["encoder"]["output"]["kernel"])[0, 0]
  bias_V = np.asarray(started["encoder"]["output"]["bias"])
  variance = np.median(-2 * bias_V / np.square(kernel_CV).sum(0))
  centres_VC = (kernel_CV * variance).T
  nearest_P = np.square(features_PC[:, None] - centres_VC[None]).sum(-1).argmin(1)
  assert (logits(started, images[:20]).argmax(1) == nearest_P).mean() > 0.99


def test_only_the_encoders_last_layer_and_the_codes_vectors_change(params, started):
  changed = set()
  for (path, old), (_, new) in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree_util.tree_leaves_with_path(started)
  ):
    assert (old.shape, old.dtype, old.sharding) == (new.shape, new.dtype, new.sharding)
    if not np.array_equal(old, new):
      changed.add(sharding.path_name(path))
  assert jax.tree.structure(params) == jax.tree.structure(started)
  assert changed == {"encoder/output/kernel", "encoder/output/bias", "decoder/input/kernel"}


def test_codes_of_like_patches_have_like_vectors(params, started):
  """Distances between vectors follow those between centres; in a random start they do not."""

  def correlation(tree):
    kernel_CV = np.asarray(started["encoder"]["output"]["kernel"])[0, 0]
    vectors_VD = np.asarray(tree["decoder"]["input"]["kernel"])[0, 0]
    apart = [np.square(x[:, None] - x[None]).sum(-1)[np.triu_indices(CFG.vocab, 1)] for x in (kernel_CV.T, vectors_VD)]
    return np.corrcoef(*apart)[0, 1]

  assert correlation(started) > 0.6
  assert abs(correlation(params)) < 0.3


def test_it_is_a_function_of_parameters_pictures_and_seed(params, started, images):
  again, other = (codebook.start(params, CFG, images, seed=seed) for seed in (0, 1))
  jax.tree.map(np.testing.assert_array_equal, again, started)
  assert not np.array_equal(other["encoder"]["output"]["kernel"], started["encoder"]["output"]["kernel"])


def test_more_patches_than_are_clustered_are_thinned_out(params, images, monkeypatch):
  monkeypatch.setattr(codebook, "MOST_PATCHES", 500)
  seen = []
  monkeypatch.setattr(codebook, "cluster", lambda features, *rest: seen.append(features) or features[: CFG.vocab])
  codebook.start(params, CFG, images, seed=0)
  assert seen[0].shape == (500, CFG.hidden * 2)


def test_kmeans_finds_planted_clusters():
  rng = np.random.default_rng(1)
  planted_VC = rng.normal(0, 10, (12, 5))
  points_PC = (planted_VC[rng.integers(12, size=3000)] + rng.normal(0, 0.1, (3000, 5))).astype(np.float32)
  found_VC = codebook.cluster(points_PC, 12, np.random.default_rng(2))
  distance_VV = np.sqrt(np.square(planted_VC[:, None] - found_VC[None]).sum(-1))
  assert sorted(distance_VV.argmin(1)) == list(range(12))
  assert distance_VV.min(1).max() < 0.05


def test_fewer_patches_than_codes_are_no_trouble(params, images):
  few = codebook.start(params, CFG, images[:1, :, :, :] // 255 * 255, seed=0)
  for leaf in jax.tree.leaves(few):
    assert bool(jnp.isfinite(leaf).all())
