"""The clustered start of the codebook: it finds planted clusters, uses many codes, and touches the ends only."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import dvae
from dalle_jax.objectives import codebook
from dalle_jax.objectives.patch_dvae import PatchDvae

CFG = dvae.Config(image=16, vocab=32, hidden=64, groups=2, blocks=1, code_dim=6, pool="fold")


@pytest.fixture(scope="module")
def params():
  objective = PatchDvae(model=CFG, patches_from=1)
  return jax.jit(lambda key: sharding.unbox(objective.init(key)))(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
  """Flat pictures of a few colours, a little noisy: patches in clusters."""
  rng = np.random.default_rng(0)
  colours = rng.integers(0, 256, (24, 3))
  patches = colours[rng.integers(24, size=(40, 4, 4))].repeat(4, 1).repeat(4, 2)
  return np.clip(patches + rng.integers(-6, 7, (40, 16, 16, 3)), 0, 255).astype(np.uint8)


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
  assert used(started, images) > 20


def explained(params, images):
  """How much of the patches' variance their most likely codes tell: 1 where all patches of a code are alike."""
  patches_PX, codes_P = cut(images), logits(params, images).argmax(1)
  inside = sum(np.square(of_one - of_one.mean(0)).sum() for of_one in (patches_PX[codes_P == k] for k in set(codes_P)))
  return 1 - inside / np.square(patches_PX - patches_PX.mean(0)).sum()


def cut(images):
  """The patches in the order of pictures, rows, columns, by slicing."""
  side = CFG.image // CFG.grid
  corners = [(n, i, j) for n in range(len(images)) for i in range(CFG.grid) for j in range(CFG.grid)]
  parts = [images[n, i * side : (i + 1) * side, j * side : (j + 1) * side] for n, i, j in corners]
  return np.stack(parts).reshape(len(parts), -1) / 255


def test_codes_stand_for_clusters_of_patches(params, started, images):
  assert explained(params, images) < 0.3
  assert explained(started, images) > 0.95


def test_patches_are_what_lies_under_each_position(images):
  np.testing.assert_allclose(codebook.patches(images, CFG.grid), cut(images), rtol=1e-6)


def test_only_the_encoders_ends_and_the_codes_vectors_change(params, started):
  changed = set()
  for (path, old), (_, new) in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree_util.tree_leaves_with_path(started)
  ):
    assert (old.shape, old.dtype, old.sharding) == (new.shape, new.dtype, new.sharding)
    if not np.array_equal(old, new):
      changed.add(sharding.path_name(path))
  assert jax.tree.structure(params) == jax.tree.structure(started)
  ends = {"encoder/input/kernel", "encoder/output/kernel", "encoder/output/bias"}
  assert changed == ends | {"encoder/group_2/block_1/conv_4/bias", "decoder/input/kernel"}


@pytest.mark.slow
def test_no_feature_is_lost_below_zero(monkeypatch):
  """Twelve sub-pixels of a patch from sixteen features: half of them below zero would tell too little."""
  cfg = dataclasses.replace(CFG, hidden=8, vocab=64)
  noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
  narrow = sharding.unbox(PatchDvae(model=cfg, patches_from=1).init(jax.random.key(0)))
  centres_VX = codebook.patches(noise, cfg.grid)[:: 40 * cfg.grid**2 // 64][:64]
  monkeypatch.setattr(codebook, "cluster", lambda *args: centres_VX)
  nearest_P = np.square(codebook.patches(noise, cfg.grid)[:, None] - centres_VX[None]).sum(-1).argmin(1)

  def agreement():
    started = codebook.start(narrow, cfg, noise, seed=0)
    found_Bhw = dvae.encode_images(started, cfg, noise)
    return np.mean(np.asarray(found_Bhw).ravel() == nearest_P)

  lifted = agreement()
  monkeypatch.setattr(codebook, "_lifted", lambda params, *rest: params)
  assert lifted > 0.8
  assert agreement() < 0.6


def test_the_likely_code_of_a_patch_is_the_nearest_centre(params, images, monkeypatch):
  centres = []
  own = codebook.cluster
  monkeypatch.setattr(codebook, "cluster", lambda *args: centres.append(own(*args)) or centres[0])
  started = codebook.start(params, CFG, images, seed=0)
  squares_PV = np.square(cut(images)[:, None] - centres[0][None]).sum(-1)
  assert len(set(squares_PV.argmin(1))) > 20
  likely_P = logits(started, images).argmax(1)
  assert squares_PV[np.arange(len(likely_P)), likely_P].mean() < 1.1 * squares_PV.min(1).mean()
  wider = started | {"encoder": started["encoder"] | {"input": params["encoder"]["input"]}}
  likely_P = logits(wider, images).argmax(1)
  assert squares_PV[np.arange(len(likely_P)), likely_P].mean() > 5 * squares_PV.min(1).mean()


def test_codes_of_like_patches_have_like_vectors(params, started, images):
  """Distances between vectors follow those between the codes' patches; in a random start they do not."""

  codes_P, patches_PX = logits(started, images).argmax(1), cut(images)
  found = sorted(set(codes_P))
  means_VX = np.stack([patches_PX[codes_P == k].mean(0) for k in found])

  def correlation(tree):
    vectors_VD = np.asarray(tree["decoder"]["input"]["kernel"])[0, 0][found]
    apart = [np.square(x[:, None] - x[None]).sum(-1)[np.triu_indices(len(x), 1)] for x in (means_VX, vectors_VD)]
    return np.corrcoef(*apart)[0, 1]

  assert correlation(started) > 0.6
  assert abs(correlation(params)) < 0.3


def test_it_is_a_function_of_parameters_pictures_and_seed(params, started, images):
  again, other = (codebook.start(params, CFG, images, seed=seed) for seed in (0, 1))
  jax.tree.map(np.testing.assert_array_equal, again, started)
  assert not np.array_equal(other["encoder"]["output"]["kernel"], started["encoder"]["output"]["kernel"])


def test_more_patches_than_are_clustered_are_thinned_out(params, images, monkeypatch):
  monkeypatch.setattr(codebook, "MOST_DISTINCT", 500)
  seen = []
  monkeypatch.setattr(codebook, "cluster", lambda patches, *rest: seen.append(patches) or patches[: CFG.vocab])
  codebook.start(params, CFG, images, seed=0)
  assert seen[0].shape == (500, 12)
  everything = {patch.tobytes() for patch in codebook.patches(images, CFG.grid)}
  assert all(patch.tobytes() in everything for patch in seen[0])
  assert len({patch.tobytes() for patch in seen[0]}) == 500


def test_equal_patches_are_one_that_counts_as_many(params, images, monkeypatch):
  seen = []
  monkeypatch.setattr(codebook, "cluster", lambda *args: seen.append(args) or args[0][: CFG.vocab])
  codebook.start(params, CFG, np.concatenate([images, images[:1], images[:1]]), seed=0)
  patches_PX, counts_P = seen[0][:2]
  assert counts_P.sum() == 42 * CFG.grid**2
  threefold = {patch.tobytes() for patch in codebook.patches(images[:1], CFG.grid)}
  for patch, count in zip(patches_PX, counts_P):
    assert count >= (3 if patch.tobytes() in threefold else 1)
  assert (counts_P < 3).any()


def test_kmeans_finds_planted_clusters():
  rng = np.random.default_rng(1)
  planted_VC = rng.normal(0, 10, (12, 5))
  points_PC = (planted_VC[rng.integers(12, size=3000)] + rng.normal(0, 0.1, (3000, 5))).astype(np.float32)
  found_VC = codebook.cluster(points_PC, np.ones(3000, np.float32), 12, np.random.default_rng(2))
  distance_VV = np.sqrt(np.square(planted_VC[:, None] - found_VC[None]).sum(-1))
  assert sorted(distance_VV.argmin(1)) == list(range(12))
  assert distance_VV.min(1).max() < 0.05


def test_fewer_patches_than_codes_are_no_trouble(params, images):
  few = codebook.start(params, CFG, images[:1], seed=0)
  for leaf in jax.tree.leaves(few):
    assert bool(jnp.isfinite(leaf).all())
