"""Cached decoding of text after an image: each step is the full attention's row, for each of a picture's captions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, decode, decode_text
from dalle_jax.ops.sparse_attention.patterns import KINDS

TEXT, GRID, PICTURES, SAMPLES = 5, 4, 2, 3
IMAGE, ROWS = GRID**2, PICTURES * SAMPLES
QUICK = {"xla_backend_optimization_level": 0}


def small(kind):
  return Pattern(text=TEXT, grid=GRID, kind=kind, kernel=3, order="image_first")


@functools.cache
def inputs():
  """Of a stream a row, the image's part the same for all captions of a picture."""
  rng, made = np.random.default_rng(0), []
  for scale in (2.0, 1.5, 1.0):
    image = np.repeat(rng.normal(size=(PICTURES, IMAGE, 2, 8)), SAMPLES, axis=0)
    made.append(jnp.asarray(scale * np.concatenate([image, rng.normal(size=(ROWS, TEXT, 2, 8))], 1), jnp.float32))
  return made


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_is_the_full_attention_s_row(kind):
  pattern = small(kind)
  q, k, v = inputs()
  expected = np.asarray(jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(pattern.mask())[None, None]))

  @functools.partial(jax.jit, compiler_options=QUICK)
  def run(cache, q, k, v):
    image = [x[::SAMPLES, :IMAGE] for x in (q, k, v)]
    cache = decode_text.prefill(cache, *image[1:], pattern)
    rows = []
    for i in range(TEXT):
      of_row = (x[:, IMAGE + i] for x in (q, k, v))
      o_BHK, cache = decode_text.decode_step(*of_row, cache, jnp.int32(i), pattern)
      rows.append(o_BHK)
    return decode.attend_prefix(*image, pattern), jnp.stack(rows, axis=1)

  empty = decode_text.init_cache(pattern, PICTURES, SAMPLES, 2, 8, "float32")
  assert all((x == 0).all() for x in empty)
  dirty = jax.tree.map(lambda x: jnp.full_like(x, 50.0), empty)  # what shows where a place is read that holds nothing
  of_image, of_text = run(dirty, q, k, v)
  size = np.abs(expected).max()
  assert np.abs(of_image - expected[::SAMPLES, :IMAGE]).max() <= 2e-6 * size
  assert np.abs(of_text - expected[:, IMAGE:]).max() <= 2e-6 * size


def test_the_picture_is_kept_once_for_all_of_its_captions():
  cache = decode_text.init_cache(small("row"), PICTURES, SAMPLES, 2, 8, "bfloat16")
  assert cache.image_k_CHNK.shape == (PICTURES, 2, IMAGE, 8)
  assert cache.text_v_BHTK.shape == (ROWS, 2, TEXT, 8)
  assert {x.dtype for x in cache} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("wrong", [{"order": "text_first"}, {"order": "image_first", "softmax": "separate"}])
def test_patterns_that_no_caption_can_be_written_from_are_refused(wrong):
  with pytest.raises(UserError, match="captions need the image first and a joint softmax"):
    decode_text.init_cache(Pattern(text=TEXT, grid=GRID, **wrong), 1, 1, 2, 8, "float32")
