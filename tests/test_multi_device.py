"""Every objective trains alike on one device and on any mesh of eight: losses, gradients, and what is saved there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.ops.sparse_attention import attend
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state, init_state, make_step

OPTIMIZER = AdamW(lr=Constant(3e-3), decay=0.1, clip=1.0, ema=0.9)
SPLIT = ("fsdp", "model")  # weights in two stages, as dalle_12b_v5e.py has them
IN_STAGES = Rules(batch=("data", *SPLIT), embed=SPLIT, conv_out=SPLIT, mlp=(), heads=(), vocab=())
MESHES = {
  "data": (MeshShape(data=8), Rules()),
  "fsdp": (MeshShape(data=1, fsdp=8), Rules()),
  "model": (MeshShape(data=4, model=2), Rules()),
  "data-fsdp": (MeshShape(data=2, fsdp=4), Rules()),
  "all": (MeshShape(data=2, fsdp=2, model=2), Rules()),
  "in-stages": (MeshShape(data=2, fsdp=2, model=2), IN_STAGES),
}


@pytest.fixture(scope="module")
def toy():
  import toy_run

  return toy_run


def stage(toy, name):
  """Objective and data, of sizes that any of the meshes divides."""
  objective, draw = toy.STAGES[name]()
  if name == "transformer":
    model = dataclasses.replace(objective.model, layers=5, heads=2, head_dim=16, text_vocab=12, image_vocab=12)
    return TransformerNll(model=model, vocab_parts=2), draw
  if name == "dvae":
    return dataclasses.replace(objective, model=dataclasses.replace(objective.model, hidden=32, code_dim=8)), draw
  return objective, draw


def one_device():
  return {"mesh": sharding.make_mesh(MeshShape(), jax.devices()[:1]), "rules": Rules()}


def drawn(objective):
  """Parameters drawn by NumPy; scales around 1, so that no gradient is all rounding."""
  shapes = abstract_state(objective, OPTIMIZER, **one_device()).params
  rng = np.random.default_rng(1)
  around = lambda path: 1.0 if "scale" in path[-1].key else 0.0  # noqa: E731
  draw = lambda path, x: (around(path) + 0.3 * rng.normal(size=x.shape)).astype(x.dtype)  # noqa: E731
  return jax.tree_util.tree_map_with_path(draw, shapes)


def loss_and_gradient(objective, params, batch, mesh, rules):
  """Loss, and gradient as NumPy arrays, of parameters and a batch that lie on the mesh as in training."""
  layout = jax.tree.map(lambda x: x.sharding, abstract_state(objective, OPTIMIZER, mesh=mesh, rules=rules).params)
  placed = {k: jax.device_put(x, sharding.batch_sharding(mesh, rules, x.ndim)) for k, x in batch.items()}

  def loss(p, data):
    with sharding.in_scope(mesh, rules):
      return objective.loss(p, {}, data, jax.random.key(0), jnp.int32(0))[0]

  run = jax.jit(jax.value_and_grad(loss), in_shardings=(layout, None), out_shardings=(None, layout))
  value, gradient = run(jax.tree.map(jax.device_put, params, layout), placed)
  parts = {len({str(shard.index) for shard in x.addressable_shards}) for x in jax.tree.leaves(gradient)}
  return float(value), jax.device_get(gradient), max(parts)


def assert_close(gradient, wanted):
  """Each tensor to 1e-5 of its greatest entry, or of a tenth of all tensors', where it is a small difference."""
  least = 0.1 * max(np.abs(x).max() for x in jax.tree.leaves(wanted))
  pairs = zip(jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(wanted), strict=True)
  for (path, got), own in pairs:
    assert np.abs(got - own).max() <= 1e-5 * max(np.abs(own).max(), least), jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def wanted(toy):
  """Objective, parameters, batch, loss and gradient on one device, of each kind of stage."""

  @functools.cache
  def of(name):
    objective, draw = stage(toy, name)
    params, batch = drawn(objective), draw(np.random.default_rng(3))
    loss, gradient, parts = loss_and_gradient(objective, params, batch, **one_device())
    assert parts == 1
    return objective, params, batch, loss, gradient

  return of


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", ["dvae", "transformer", "clip"])
def test_any_mesh_gives_the_loss_and_gradient_of_one_device(wanted, name, mesh):
  shape, rules = MESHES[mesh]
  objective, params, batch, loss, gradient = wanted(name)
  got, split, parts = loss_and_gradient(objective, params, batch, sharding.make_mesh(shape), rules)
  # The dVAE has no axis that tensor parallelism splits.
  assert (parts > 1) == (mesh not in ("data",) and (name, mesh) != ("dvae", "model"))
  assert got == pytest.approx(loss, rel=1e-5)
  assert_close(split, gradient)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["all", "in-stages"])
def test_the_tpu_kernel_interpreted_gives_the_same_on_any_mesh(monkeypatch, mesh):
  sizes = {"text_vocab": 12, "text": 4, "image_vocab": 12, "grid": 3, "layers": 3, "heads": 2, "head_dim": 16}
  model = transformer.Config(**sizes, mix=("row", "column"), last="conv", kernel=3, attention="pallas_tpu")
  calls = []

  def interpreted(*args, implementation, **how):
    calls.append(implementation)
    return attend(*args, implementation=implementation, interpret=implementation == "pallas_tpu", **how)

  monkeypatch.setattr(transformer, "attend", interpreted)
  objective, rng = TransformerNll(model=model), np.random.default_rng(3)
  batch = {"codes": rng.integers(0, 10, (8, 9)).astype(np.int32), "text": rng.integers(0, 12, (8, 4)).astype(np.int32)}
  params = drawn(objective)
  calls.clear()
  wanted, gradient, _ = loss_and_gradient(
    dataclasses.replace(objective, model=dataclasses.replace(model, attention="xla")), params, batch, **one_device()
  )
  assert set(calls) == {"xla"}
  shape, rules = MESHES[mesh]
  got, split, parts = loss_and_gradient(objective, params, batch, sharding.make_mesh(shape), rules)
  assert "pallas_tpu" in calls
  assert parts > 1
  assert got == pytest.approx(wanted, rel=1e-5)
  assert_close(split, gradient)


@pytest.fixture(scope="module")
def steps_on():
  """A compiled step for each mesh, made once."""
  return functools.cache(lambda objective, mesh: make_step(objective, OPTIMIZER, seed=0, mesh=mesh, rules=Rules()))


def trained(step, draw, state, first, steps):
  """The state after so many further steps, and the last loss."""
  loss = None
  for i in range(first, first + steps):
    state, metrics = step(state, {}, draw(np.random.default_rng([11, i])))
    loss = float(metrics["loss"])
  return state, loss


RESTORED = (
  (1, MeshShape()),
  (2, MeshShape(data=1, fsdp=2)),
  (4, MeshShape(data=2, fsdp=2)),
  (4, MeshShape(data=2, model=2)),
  (8, MeshShape(data=2, fsdp=2, model=2)),
)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "shape"), RESTORED, ids=lambda x: str(x) if isinstance(x, int) else "")
def test_what_was_saved_on_one_mesh_goes_on_on_another(toy, steps_on, tmp_path, devices, shape):
  objective, draw = stage(toy, "transformer")
  own = {"mesh": sharding.make_mesh(shape, jax.devices()[:devices]), "rules": Rules()}
  step = steps_on(objective, own["mesh"])
  state, _ = trained(step, draw, init_state(objective, OPTIMIZER, seed=0, **own), 0, 3)
  before = jax.device_get(state)
  checkpoints = Checkpoints(tmp_path, keep=1)
  checkpoints.save(3, state, {})
  checkpoints.wait()
  _, wanted = trained(step, draw, state, 3, 20)
  for others, other in RESTORED:
    where = {"mesh": sharding.make_mesh(other, jax.devices()[:others]), "rules": Rules()}
    restored, at = checkpoints.restore(abstract_state(objective, OPTIMIZER, **where))
    assert at == 3
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(restored.params)} == {others}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), before)
    _, loss = trained(steps_on(objective, where["mesh"]), draw, restored, 3, 20)
    assert loss == pytest.approx(wanted, rel=1e-5), (devices, others)
  checkpoints.close()


def test_moments_and_averages_lie_as_their_parameters(toy):
  for name in ("dvae", "transformer", "clip"):
    objective, _ = stage(toy, name)
    shape, _ = MESHES["all"]
    state = abstract_state(objective, OPTIMIZER, mesh=sharding.make_mesh(shape), rules=Rules())
    specs = lambda tree: [x.sharding.spec for x in jax.tree.leaves(tree)]  # noqa: E731
    (adam,) = [part for part in state.opt if hasattr(part, "m")]
    assert specs(state.params) == specs(adam.m) == specs(adam.v) == specs(state.ema)
    assert len(set(specs(state.params))) > 1
