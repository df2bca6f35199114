"""Inception v3's shapes, maps and precision. That it is FID's network is shown in tests/parity/test_inception.py."""

import inception_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.convert import inception as converter
from dalle_jax.errors import UserError
from dalle_jax.models import inception, inception_layout


@pytest.fixture(scope="module")
def params():
  return converter.read(inception_arrays.official())[1]


def test_the_published_network_has_its_widths_and_weights():
  shapes = inception.shapes(inception.Config())
  leaves = jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple))
  # pytorch-fid's module: 94 convolutions with norms of four vectors, and the last layer.
  assert len(leaves) == 94 * 5 + 2
  assert sum(int(np.prod(shape)) for shape in leaves) == 23_885_392
  assert shapes["Mixed_7c"]["branch3x3dbl_2"]["kernel"] == (3, 3, 448, 384)
  assert shapes["fc"]["kernel"] == (2048, 1008)


@pytest.mark.parametrize("dim", [64, 192, 768, 2048])
def test_features_have_the_width_of_their_map(params, dim):
  x_BHWC = jnp.zeros((2, 75, 75, 3))
  found = jax.eval_shape(lambda p, x: inception.embed(p, x, dim), params, x_BHWC)
  assert found.features_BD.shape == (2, dim // 16)
  assert (found.logits_BK is None) if dim < 2048 else found.logits_BK.shape == (2, 11)


def test_a_dim_that_there_is_not_is_named(params):
  with pytest.raises(UserError, match="no features of 100 numbers: wanted one of 64, 192, 768, 2048"):
    inception.embed(params, jnp.zeros((1, 75, 75, 3)), 100)


def test_every_product_is_of_the_highest_precision(params):
  lowered = jax.jit(inception.embed).lower(params, jnp.zeros((1, 75, 75, 3))).as_text()
  products = [line for line in lowered.splitlines() if "stablehlo.convolution" in line or "dot_general" in line]
  assert len(products) == 95
  assert all(line.count("HIGHEST") == 2 for line in products)


def test_an_average_leaves_the_padding_out_of_its_count():
  x_HW = np.arange(12.0, dtype=np.float32).reshape(3, 4)
  found_HW = np.asarray(inception_layout.average(jnp.asarray(x_HW)[None, :, :, None]))[0, :, :, 0]
  assert found_HW[0, 0] == x_HW[:2, :2].mean()
  assert found_HW[1, 1] == x_HW[:3, :3].mean()
  assert found_HW[2, 3] == x_HW[1:, 2:].mean()


@pytest.mark.parametrize(("changed", "says"), [({"classes": 0}, "classes are 0"), ({"thin": 3}, "thin is 3")])
def test_sizes_that_can_not_be_are_refused(changed, says):
  with pytest.raises(UserError, match=says):
    inception.Config(**changed)
