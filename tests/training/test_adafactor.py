"""Adafactor against optax's own, whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.schedules import Constant
from dalle_jax.training.adafactor import Adafactor
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state

RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Toy:
  """Parameters of a few kinds that are drawn to nothing."""

  def init(self, key):
    normal = jax.nn.initializers.normal(0.5)
    return {
      "up": {
        "kernel": sharding.axes(normal, "embed", "mlp")(key, (8, 12)),
        "bias": sharding.axes(normal, "mlp")(key, (12,)),
      },
      "token": {"embedding": sharding.axes(normal, "vocab", "embed")(key, (16, 8))},
    }

  def loss(self, params, frozen, batch, key, step):
    loss = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))
    return loss, {"loss": loss}


PARAMS = sharding.unbox(Toy().init(jax.random.key(0)))


def after(transform, count=6, **more):
  """The parameters after so many updates with the same gradients of noise."""
  params, state = PARAMS, transform.init(PARAMS)
  update = jax.jit(lambda g, s, p: transform.update(g, s, p, **more))
  for n in range(count):
    keys = iter(jax.random.split(jax.random.key(n), 3))
    grads = jax.tree.map(lambda p, keys=keys: jax.random.normal(next(keys), p.shape), PARAMS)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    ({}, {}),
    ({"factor_from": 4}, {"min_dim_size_to_factor": 4}),
    ({"power": 0.5, "most": 0.3, "factor_from": 4}, {"decay_rate": 0.5, "clipping_threshold": 0.3}),
    ({"relative": False, "momentum": 0.9}, {"multiply_by_parameter_scale": False, "momentum": 0.9}),
  ],
)
def test_it_moves_as_optax_s_does(ours, theirs):
  theirs = {"min_dim_size_to_factor": ours.get("factor_from", 128)} | theirs
  mine = after(Adafactor(lr=Constant(RATE), **ours).build(), value=jnp.float32(1.0))
  for a, b, p in zip(*map(jax.tree.leaves, (mine, after(optax.adafactor(RATE, **theirs)), PARAMS)), strict=True):
    assert np.abs(a - p).max() > 1e-4
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_each_setting_moves_elsewhere():
  settings = [{}, {"factor_from": 4}, {"power": 0.5}, {"most": 0.3}, {"relative": False}, {"momentum": 0.9}]
  found = [after(Adafactor(lr=Constant(RATE), **each).build(), value=jnp.float32(1.0)) for each in settings]
  kernels = [np.asarray(each["up"]["kernel"]) for each in found]
  assert len({x.tobytes() for x in kernels}) == len(settings)


def test_what_is_kept_of_a_matrix_is_as_long_as_its_sides_and_whole_on_every_device():
  mesh = sharding.make_mesh(sharding.MeshShape(fsdp=2, model=2), jax.devices()[:4])
  rules = sharding.Rules()
  state = abstract_state(Toy(), Adafactor(lr=Constant(RATE), factor_from=4, momentum=0.9), mesh=mesh, rules=rules)
  leaves = jax.tree_util.tree_leaves_with_path(state.opt)
  sizes = {jax.tree_util.keystr(path): x for path, x in leaves}
  (kept,) = [x for path, x in sizes.items() if ".v_row" in path and "'up'" in path and "kernel" in path]
  assert kept.size == 8
  assert kept.sharding.is_fully_replicated
  (moving,) = [x for path, x in sizes.items() if ".ema" in path and "'up'" in path and "kernel" in path]
  assert moving.sharding == state.params["up"]["kernel"].sharding
  adam = abstract_state(Toy(), AdamW(lr=Constant(RATE)), mesh=mesh, rules=rules)
  bare = abstract_state(Toy(), Adafactor(lr=Constant(RATE), factor_from=4), mesh=mesh, rules=rules)
  numbers = lambda state: sum(x.size for x in jax.tree.leaves(state.opt))  # noqa: E731
  assert numbers(bare) < 0.3 * numbers(adam)


def test_wrong_numbers_are_refused():
  good = Adafactor(lr=Constant(RATE))
  for field, value in (("power", 1.0), ("most", 0.0), ("momentum", 1.0), ("factor_from", 0), ("clip", -1.0)):
    with pytest.raises(UserError, match=f"got {field}={value}"):
      dataclasses.replace(good, **{field: value})
