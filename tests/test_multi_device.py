"""Every objective trains alike on one device and on a 2x2x2 mesh whose devices hold parts of its parameters."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state, make_step

OPTIMIZER = AdamW(lr=Constant(3e-3), decay=0.1, clip=1.0, ema=0.9)


@pytest.fixture(scope="module")
def toy():
  path = Path(__file__).parent / "training" / "toy_run.py"
  spec = importlib.util.spec_from_file_location("toy_run", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules["toy_run"] = module
  spec.loader.exec_module(module)
  return module


def drawn(objective, mesh):
  """A state before the first step with parameters drawn by NumPy."""
  state = abstract_state(objective, OPTIMIZER, mesh=mesh, rules=Rules())
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), state.params)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
  return zeros._replace(params=params, ema=params)


def train(objective, start, batches, mesh):
  """Three losses from a state given as NumPy arrays, and the parameters as they lie in the end."""
  where = {"mesh": mesh, "rules": Rules()}
  layout = jax.tree.map(lambda x: x.sharding, abstract_state(objective, OPTIMIZER, **where))
  state, losses = jax.device_put(start, layout), []
  step = make_step(objective, OPTIMIZER, seed=0, **where)
  for batch in batches:
    state, metrics = step(state, {}, batch)
    losses.append(float(metrics["loss"]))
  return losses, state.params


def axes_used(params):
  """Mesh axes over which some array of at least two parts is split, seen from its parts."""
  used = set()
  for x in jax.tree.leaves(params):
    parts = {str(shard.index) for shard in x.addressable_shards}
    named = {axis for entry in x.sharding.spec if entry for axis in ((entry,) if isinstance(entry, str) else entry)}
    assert len(parts) == 2 ** len(named)
    used |= named
  return used


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dvae", "transformer", "clip"])
def test_a_mesh_of_eight_devices_gives_the_losses_of_one(toy, stage):
  objective, draw = toy.STAGES[stage]()
  batches = [draw(np.random.default_rng([11, i])) for i in range(3)]
  one = sharding.make_mesh(MeshShape(), jax.devices()[:1])
  eight = sharding.make_mesh(MeshShape(data=2, fsdp=2, model=2))
  start = drawn(objective, one)
  expected, whole = train(objective, start, batches, one)
  got, parts = train(objective, start, batches, eight)
  assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(whole))
  assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(parts))
  # The dVAE has no axis that tensor parallelism splits: its convolutions are split over fsdp alone.
  assert axes_used(parts) == ({"fsdp"} if stage == "dvae" else {"fsdp", "model"})
  assert got == pytest.approx(expected, rel=1e-5)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.device_get(parts), start.params)
  assert np.median(jax.tree.leaves(moved)) > 3e-3  # a step moves weights by about the rate
  assert len({round(loss, 4) for loss in expected}) == 3
