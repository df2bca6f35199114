"""Muon against singular value decompositions in NumPy, and AdamW where it is AdamW."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state

MODEL = transformer.Config(
  text_vocab=11, text=4, image_vocab=13, grid=3, layers=5, heads=3, head_dim=8, mix=("row", "column"), last=None
)
RATE = 0.01


@pytest.fixture(scope="module")
def params():
  boxed = TransformerNll(model=MODEL).init(jax.random.key(0))
  return sharding.unbox(boxed)


def first_update(optimizer, params, grads):
  transform = optimizer.build()
  updates, _ = jax.jit(transform.update)(grads, transform.init(params), params, value=jnp.float32(1.0))
  return updates


def noise(params, seed):
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])


def matrices(block):
  """The matrices of one block, as their update is meant to treat them."""
  return [
    *block["qkv"]["kernel"],
    block["out"]["kernel"],
    block["mlp"]["up"]["kernel"],
    block["mlp"]["down"]["kernel"],
  ]


@pytest.mark.slow
def test_every_singular_value_of_a_matrix_moves_about_as_far_as_adamw_would_move_it(params):
  grads = noise(params, 1)
  updates = first_update(Muon(lr=Constant(RATE), matrices=2.0), params, grads)
  scanned = [jax.tree.map(lambda x, p=p: x[p], updates["periods"]["block_1"]) for p in range(2)]
  of_grads = [jax.tree.map(lambda x, p=p: x[p], grads["periods"]["block_1"]) for p in range(2)]
  for update, grad in zip([*scanned, updates["block_4"]], [*of_grads, grads["block_4"]], strict=True):
    for u, g in zip(matrices(update), matrices(grad), strict=True):
      left, before, right = np.linalg.svd(np.asarray(g), full_matrices=False)
      assert before.max() / before.min() > 2  # or there would be nothing to make equal
      along = np.diag(left.T @ np.asarray(-u) @ right.T) / (RATE * 2.0 * 0.2 * np.sqrt(max(u.shape)))
      assert along.max() < 1.3  # five Newton-Schulz iterations are no exact SVD
      assert along[before > 0.1 * before.max()].min() > 0.6
      rest = left.T @ np.asarray(-u) @ right.T
      assert np.abs(rest - np.diag(np.diag(rest))).max() < 1e-4


@pytest.mark.slow
def test_all_that_is_no_matrix_of_a_block_moves_as_with_adamw(params):
  grads = noise(params, 2)
  muon = first_update(Muon(lr=Constant(RATE), decay=0.1, clip=1.0), params, grads)
  adamw = first_update(AdamW(lr=Constant(RATE), decay=0.1, clip=1.0), params, grads)
  equal = {
    jax.tree_util.keystr(path, simple=True, separator="/"): bool((a == b).all())
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(muon), jax.tree.leaves(adamw), strict=True)
  }
  moved = {name for name, same in equal.items() if not same}
  assert moved == {
    f"{block}/{name}/kernel"
    for block in ("periods/block_0", "periods/block_1", "block_4")
    for name in ("qkv", "out", "mlp/up", "mlp/down")
  }


def test_moments_lie_on_the_mesh_as_their_parameters_do():
  mesh = sharding.make_mesh(sharding.MeshShape(fsdp=2, model=4), jax.devices()[:8])
  model = dataclasses.replace(MODEL, heads=4)
  state = abstract_state(
    TransformerNll(model=model), Muon(lr=Constant(RATE)), mesh=mesh, rules=sharding.Rules(vocab=(), position=())
  )
  (muon,) = [part for part in state.opt if hasattr(part, "muon")]
  kernel = state.params["block_4"]["mlp"]["up"]["kernel"].sharding
  assert not kernel.is_fully_replicated
  assert muon.muon.mu["block_4/mlp/up/kernel"].sharding == kernel


@pytest.mark.slow
def test_decay_shrinks_the_matrices_too(params):
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates = first_update(Muon(lr=Constant(RATE), decay=0.1), params, zeros)
  np.testing.assert_allclose(
    updates["block_4"]["mlp"]["up"]["kernel"], -RATE * 0.1 * params["block_4"]["mlp"]["up"]["kernel"], atol=1e-9
  )


def test_wrong_numbers_are_refused():
  good = Muon(lr=Constant(RATE))
  for field, value in (("momentum", 1.0), ("matrices", 0.0), ("b1", 2.0)):
    with pytest.raises(UserError, match=f"got {field}={value}"):
      dataclasses.replace(good, **{field: value})
