"""The VQ-VAE's network and its codebook, against SciPy's distances and the published recursion of two averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import dvae, image_tokenizer, vq

TINY = vq.VqConfig(image=8, vocab=9, hidden=8, groups=2, blocks=1, code_dim=5)
QUICK = {"xla_backend_optimization_level": 0}
IMAGES = jnp.asarray(np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3)), jnp.uint8)


def drawn():
  boxed = jax.eval_shape(lambda key: vq.Vq(TINY).init(key, jnp.zeros((1, 8, 8, 3)))["params"], jax.random.key(0))
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), sharding.unbox(boxed))
  z_PC = np.asarray(applied(params, dvae.map_pixels(IMAGES), "encode")).reshape(-1, 5)
  vectors_VC = z_PC[rng.permutation(len(z_PC))[:9]] + z_PC.std(0) * rng.normal(size=(9, 5))  # in the midst of them
  return params | {"codebook": params["codebook"] | {"vectors": jnp.asarray(vectors_VC, jnp.float32)}}


def applied(params, x, method):
  return jax.jit(lambda p, x: vq.Vq(TINY).apply({"params": p}, x, method=method), compiler_options=QUICK)(params, x)


def test_the_codes_of_pictures_are_those_of_the_nearest_vectors_and_decode_as_such():
  params = drawn()
  z = applied(params, dvae.map_pixels(IMAGES), "encode")
  assert z.shape == (6, 4, 4, 5)
  far = distance.cdist(np.asarray(z).reshape(-1, 5), params["codebook"]["vectors"])
  codes = image_tokenizer.encode_images(params, TINY, IMAGES)
  np.testing.assert_array_equal(np.asarray(codes).ravel(), far.argmin(1))
  assert len(np.unique(codes)) > 4
  got = image_tokenizer.decode_images(params, TINY, codes)
  stats = applied(params, params["codebook"]["vectors"][codes], "decode")
  np.testing.assert_allclose(got / 255.0, dvae.reconstruct(stats), atol=0.51 / 255)
  assert np.std(np.asarray(got, np.float32)) > 5


def test_the_encoder_and_the_decoder_are_the_dvae_s_but_for_what_touches_the_codes():
  own, its = (
    {
      sharding.path_name(path): leaf.shape
      for path, leaf in jax.tree_util.tree_leaves_with_path(
        jax.eval_shape(net.init, jax.random.key(0), pixels)["params"]
      )
    }
    for net in (vq.Vq(TINY), dvae.Dvae(dvae.Config(**vars(TINY))))
    for pixels in [jnp.zeros((1, 8, 8, 3))]
  )
  apart = {name.removesuffix("/value") for name in own.keys() | its.keys() if own.get(name) != its.get(name)}
  assert {name.rsplit("/", 1)[0] for name in apart} == {"encoder/output", "decoder/input", "codebook"}


def test_the_codebook_is_the_quotient_of_the_two_published_averages():
  rng, decay = np.random.default_rng(0), 0.9
  vectors, counts = rng.normal(size=(4, 3)), np.ones(4)
  m, n = vectors * counts[:, None], counts.copy()
  got = jnp.asarray(vectors, jnp.float32), jnp.asarray(counts, jnp.float32)
  for _ in range(30):
    z, codes = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)  # the last code is never the nearest
    hot = np.eye(4)[codes]
    n, m = decay * n + (1 - decay) * hot.sum(0), decay * m + (1 - decay) * hot.T @ z
    got = vq.averaged(*got, jnp.asarray(z, jnp.float32), jnp.asarray(codes), decay)
  np.testing.assert_allclose(got[1], n, rtol=1e-4)
  np.testing.assert_allclose(got[0][:3], (m / n[:, None])[:3], rtol=1e-3, atol=1e-4)
  assert np.abs(got[0][:3] - vectors[:3]).max() > 0.3
  np.testing.assert_array_equal(got[0][3], vectors[3].astype(np.float32))


def test_codes_that_are_the_nearest_are_not_drawn():
  with pytest.raises(UserError, match="no probabilities to draw them by"):
    image_tokenizer.sample_codes({}, TINY, IMAGES, jnp.arange(6, dtype=jnp.uint32))


def test_a_vector_for_every_code_wants_kernels_of_one():
  with pytest.raises(UserError, match="got code_kernel 3, wanted 1"):
    vq.VqConfig(code_kernel=3)
