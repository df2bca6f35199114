"""FLOPs of an example: the paper-size figures, and products counted as often as they run."""

import jax
import jax.numpy as jnp
import pytest

from dalle_jax.models import flops, transformer
from dalle_jax.models.dvae import Config
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.schedules import Constant


def test_the_largest_model_takes_94_teraflop_a_picture():
  # 3 x 1,280 tokens x (24.18 of matrices + 0.26 of pairs that are seen) GFLOP, and 0.3 TFLOP of both heads.
  assert flops.of_transformer(transformer.Config()) == pytest.approx(3 * 1280 * 24.44e9 + 0.30e12, rel=1e-3)


def test_pairs_that_are_not_seen_do_not_count():
  sparse, dense = (transformer.Config(layers=4, mix=(kind,), last=None) for kind in ("row", "full"))
  pairs = 819_840 - 328_304  # of causal attention and of the row pattern, at 256 text and 32 x 32 image tokens
  assert flops.of_transformer(dense) - flops.of_transformer(sparse) == 3 * 4 * 4 * sparse.dim * pairs


def test_in_either_order_the_pairs_that_are_seen_count():
  first, last = (transformer.Config(layers=1, mix=("row",), last=None, order=o) for o in ("text_first", "image_first"))
  # Each way every position of the one part sees all of the other.
  assert first.pattern("row").mask().sum() == last.pattern("row").mask().sum() == 328_304
  assert flops.of_transformer(last) == flops.of_transformer(first)


@pytest.mark.slow
def test_the_published_dvae_takes_twice_290_gigamac_forward():
  objective = DvaeElbo(model=Config(), kl=Constant(0.0), temperature=Constant(1.0))
  assert objective.flops() == pytest.approx(3 * 2 * (136e9 + 154e9), rel=0.01)
  patches = PatchDvae(model=Config(), patches_from=1)
  encode, decode = patches._forward_flops()
  assert patches.flops() == encode + 3 * decode < objective.flops()


def test_products_in_loops_and_under_remat_count_as_often_as_they_run():
  x, w = jnp.zeros((5, 7)), jnp.zeros((3, 7, 7))
  loop = lambda x, w: jax.lax.scan(jax.checkpoint(lambda x, w: (x @ w, None)), x, w)[0]  # noqa: E731
  assert flops.of_products(loop, x, w) == 3 * 2 * 5 * 7 * 7
  image, kernel = jnp.zeros((2, 6, 6, 3)), jnp.zeros((3, 3, 3, 4))
  conv = lambda x, k: jax.lax.conv_general_dilated(  # noqa: E731
    x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  assert flops.of_products(conv, image, kernel) == 2 * (2 * 6 * 6 * 4) * (3 * 3 * 3)
