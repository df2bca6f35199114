"""Cross-entropy by parts of the classes: optax's numbers, and no array with a score of every class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dalle_jax import sharding
from dalle_jax.objectives.token_nll import token_nll
from dalle_jax.sharding import MeshShape, Rules

B, L, D, V = 2, 6, 5, 24


def drawn():
  rng = np.random.default_rng(0)
  x_BLD, head_DV = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((B, L, D), (D, V)))
  return x_BLD, head_DV, jnp.asarray(rng.integers(0, V, (B, L)), jnp.int32)


@pytest.mark.parametrize("parts", [1, 2, 3, 24])
def test_any_number_of_parts_gives_optax_s_numbers_and_gradients(parts):
  x, head, targets = drawn()
  weights = jnp.asarray(np.random.default_rng(1).normal(size=(B, L)), jnp.float32)
  ours = lambda x, head: token_nll(x, head, targets, parts)  # noqa: E731
  theirs = lambda x, head: optax.softmax_cross_entropy_with_integer_labels(x @ head, targets)  # noqa: E731
  (got, pull), (wanted, pull_theirs) = (jax.vjp(jax.jit(f), x, head) for f in (ours, theirs))
  assert np.ptp(wanted) > 1
  np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
  for a, b in zip(pull(weights), pull_theirs(weights), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
def test_only_one_part_makes_scores_of_all_classes(parts):
  x, head, targets = drawn()
  program = jax.jit(jax.grad(lambda x, head: token_nll(x, head, targets, parts).sum(), (0, 1))).lower(x, head).as_text()
  assert (f"tensor<{B}x{L}x{V}xf32>" in program) == (parts == 1)
  assert (f"tensor<{B}x{L}x{V // 4}xf32>" in program) == (parts == 4)


def test_great_scores_do_not_overflow_in_any_part():
  scores = jnp.array([[[1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]]])
  for parts in (1, 3):
    got = token_nll(scores, jnp.eye(3), jnp.array([[1, 2]]), parts)
    np.testing.assert_allclose(got, [[1000, np.log(3)]], rtol=1e-6)


def test_parts_of_classes_that_are_split_over_the_mesh_give_the_same():
  x, head, targets = drawn()
  mesh = sharding.make_mesh(MeshShape(data=2, model=4))

  def on_the_mesh(x, head):
    with sharding.in_scope(mesh, Rules()):
      return token_nll(x, sharding.constrain(head, "embed", "vocab"), targets, 3)

  np.testing.assert_allclose(jax.jit(on_the_mesh)(x, head), token_nll(x, head, targets), rtol=1e-5, atol=1e-6)


def test_parts_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="24 classes don't divide into 5 parts"):
    token_nll(*drawn(), 5)
