"""A dVAE of patches: the decoder learns by squared error, and nothing else moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import dvae
from dalle_jax.objectives import codebook
from dalle_jax.objectives.patch_dvae import PatchDvae

CFG = dvae.Config(image=16, vocab=32, hidden=16, groups=2, blocks=1, code_dim=6, pool="fold")
OBJECTIVE = PatchDvae(model=CFG, patches_from=8)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
  blocks = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3))
  return blocks.repeat(4, 1).repeat(4, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def params(images):
  params = jax.jit(lambda key: sharding.unbox(OBJECTIVE.init(key)))(KEY)
  return codebook.start(params, CFG, images, seed=0)


def loss(params, images):
  return jax.jit(OBJECTIVE.loss)(params, {}, {"image": jnp.asarray(images)}, KEY, jnp.int32(0))


def test_the_loss_is_the_squared_error_of_what_the_likely_codes_decode_to(params, images):
  pictures, codes = (
    np.asarray(fn(params, CFG, x))
    for fn, x in ((dvae.decode_images, dvae.encode_images(params, CFG, images)), (dvae.encode_images, images))
  )
  value, metrics = loss(params, images)
  error = np.square(0.8 * (pictures / 255 - images / 255)).mean()  # but for the rounding to 8 bits and the clipping
  assert value == pytest.approx(error * 2 * 2 * 3, rel=0.1)  # a position has 2x2 pixels
  assert metrics["psnr"] == pytest.approx(-10 * np.log10(np.square(pictures / 255 - images / 255).mean()), rel=0.02)
  assert metrics["codebook_usage"] == pytest.approx(len(np.unique(codes)) / 32)


def test_no_gradient_reaches_the_encoder_and_every_layer_of_the_decoder_has_one(params, images):
  grads = jax.grad(lambda p: loss(p, images)[0])(params)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads["encoder"]))
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads["decoder"]):
    assert np.any(leaf), path
  assert not np.any(grads["decoder"]["output"]["kernel"][..., 3:])  # the scales


def test_without_pictures_to_take_patches_from_it_is_refused():
  with pytest.raises(UserError, match="patches_from is 0: a number of pictures, at least 1"):
    PatchDvae(model=CFG, patches_from=0)
