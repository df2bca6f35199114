"""Steps with PowerSGD on simulated devices: an uncompressed step at full rank, nothing lost, little sent, all kept."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training import compression
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.powersgd import Floats, GramSchmidt, Householder, PowerSGD, Resampled, WarmStart
from dalle_jax.training.step import abstract_state, init_state, make_step

# Its first moment is the gradient that was applied, and weights stay where they are.
REMEMBERS = AdamW(lr=Constant(1e-12), b1=0.0)
FULL = 1024
MESHES = {
  "one": MeshShape(data=1),
  "data": MeshShape(data=2),
  "data-fsdp": MeshShape(data=2, fsdp=2),
}


def place(shape, rules=None):
  return {
    "mesh": sharding.make_mesh(shape, jax.devices()[: shape.data * shape.fsdp * shape.model]),
    "rules": rules or Rules(),
  }


@dataclasses.dataclass(frozen=True)
class Still:
  """A perceptron without noise: its gradient is the mean of those of parts of a batch. `up` is two matrices in one."""

  def init(self, key):
    up, down, table = jax.random.split(key, 3)
    normal = jax.nn.initializers.normal(0.3)
    return {
      "up": {
        "kernel": sharding.axes(normal, None, "embed", "mlp")(up, (2, 8, 32)),
        "bias": sharding.axes(jax.nn.initializers.zeros, "mlp")(up, (32,)),
      },
      "down": {"kernel": sharding.axes(normal, "mlp", "embed")(down, (32, 8))},
      "out": {"kernel": sharding.axes(normal, "embed", "heads")(down, (8, 8))},
      "head": {"kernel": sharding.axes(normal, "embed", "vocab")(table, (8, 8))},
    }

  def loss(self, params, frozen, batch, key, step):
    x_BD = sharding.constrain(batch["x"], "batch", None)
    a_DM, b_DM = params["up"]["kernel"]
    h_BM = sharding.constrain(jnp.tanh(x_BD @ a_DM + params["up"]["bias"][None]) * (x_BD @ b_DM), "batch", "mlp")
    y_BD = jnp.tanh(h_BM @ params["down"]["kernel"] @ params["out"]["kernel"]) @ params["head"]["kernel"]
    loss = jnp.mean(jnp.square(y_BD - batch["x"]))
    return loss, {"loss": loss}


@pytest.fixture(scope="module")
def objective():
  return Still()


@pytest.fixture(scope="module")
def batches(toy):
  return [toy.vectors(np.random.default_rng([3, i])) for i in range(6)]


def transformer(toy):
  """One of five layers, four of which are looped over, and its batches."""
  given, _ = toy.STAGES["transformer"]()
  model = dataclasses.replace(given.model, layers=5, heads=2, head_dim=8, text_vocab=12, image_vocab=12)
  return TransformerNll(model=model), [toy.codes(np.random.default_rng([3, i])) for i in range(2)]


def begun(objective, where, reduce=None):
  """The first state, with weights drawn by NumPy: heads that start at zero would leave the blocks without gradient."""
  like = abstract_state(objective, REMEMBERS, **where, reduce=reduce)
  state = init_state(objective, REMEMBERS, seed=0, **where, reduce=reduce)
  rng = np.random.default_rng(1)
  around = lambda path: 1.0 if "scale" in path[-1].key else 0.0  # noqa: E731
  draw = lambda path, x: around(path) + 0.3 * rng.normal(size=x.shape).astype(np.float32)  # noqa: E731
  drawn = jax.tree_util.tree_map_with_path(draw, like.params)
  # Copied, because the step is given them for good.
  return state._replace(params=jax.tree.map(lambda x, at: jnp.copy(jax.device_put(x, at.sharding)), drawn, like.params))


def followed(objective, where, batches, reduce=None, accumulate=1):
  """The gradient applied in each step as NumPy arrays by path, the metrics, and the last state."""
  state = begun(objective, where, reduce)
  step = make_step(objective, REMEMBERS, seed=0, **where, reduce=reduce, accumulate=accumulate)
  applied, rows = [], []
  for batch in batches:
    state, metrics = step(state, {}, batch)
    (adam,) = [part for part in state.opt if hasattr(part, "m")]
    applied.append({sharding.path_name(path): np.array(x) for path, x in jax.tree_util.tree_leaves_with_path(adam.m)})
    rows.append({name: float(x) for name, x in metrics.items()})
  return applied, rows, state


@pytest.fixture(scope="module")
def wanted(objective, batches):
  """The same on one device, without PowerSGD."""
  return followed(objective, place(MESHES["one"]), batches)[:2]


def far(a, b):
  """max|a - b| / max|b|, the worst of all arrays."""
  greatest = {path: np.abs(b[path]).max() for path in b}
  found = np.max([np.abs(a[path] - b[path]).max() / most for path, most in greatest.items() if not most <= 1e-6])
  assert np.isfinite(found)  # Python's max would pass over what is no number
  return found


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("one", "data")]


@pytest.mark.parametrize("mesh", [*SLOW, "data-fsdp"])
def test_at_full_rank_a_step_is_the_uncompressed_one(objective, batches, wanted, mesh):
  applied, rows, _ = followed(objective, place(MESHES[mesh]), batches[:2], PowerSGD(rank=FULL))
  assert_alike(applied, rows, *wanted)


def assert_alike(applied, rows, gradients, metrics):
  for mine, theirs, own, other in zip(applied, gradients, rows, metrics):
    assert far(mine, theirs) < 1e-4
    assert own["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert own["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)
  assert far(gradients[0], gradients[1]) > 0.1  # steps of different gradients


@pytest.mark.slow
def test_at_full_rank_a_transformer_s_step_is_the_uncompressed_one(toy):
  objective, batches = transformer(toy)
  wanted = followed(objective, place(MESHES["one"]), batches)[:2]
  for mesh in MESHES.values():
    applied, rows, state = followed(objective, place(mesh), batches, PowerSGD(rank=FULL))
    assert_alike(applied, rows, *wanted)
    assert len(state.reduce.q) == 12  # qkv, out, up and down of a period's two blocks and of the last


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "data-fsdp"])
def test_what_was_applied_and_what_is_left_are_all_there_was(objective, batches, wanted, mesh):
  applied, _, state = followed(objective, place(MESHES[mesh]), batches, PowerSGD(rank=2))
  assert far(applied[0], wanted[0][0]) > 0.3  # rank 2 loses much of a step
  left = {path: np.asarray(x).mean(0) for path, x in state.reduce.left.items()}
  for path in wanted[0][0]:
    there_was = sum(each[path].astype(np.float64) for each in wanted[0])
    found = sum(each[path].astype(np.float64) for each in applied) + left.get(path, 0)
    assert np.abs(found - there_was).max() <= 3e-5 * max(np.abs(there_was).max(), 1e-3), path
  assert set(left) == {path for path in wanted[0][0] if path.endswith("kernel") and "head" not in path}


@pytest.mark.slow
def test_without_feedback_it_is_lost(objective, batches, wanted):
  kept, forgotten = (
    followed(objective, place(MESHES["one"]), batches, PowerSGD(rank=2, zero_every=every)) for every in (None, 1)
  )
  total = lambda applied: {path: sum(each[path] for each in applied) for path in applied[0]}  # noqa: E731
  far_with, far_without = (far(total(each[0]), total(wanted[0])) for each in (kept, forgotten))
  assert far_with < far_without
  assert all(np.all(np.asarray(x) == 0) for x in forgotten[2].reduce.left.values())
  assert all(np.any(np.asarray(x) != 0) for x in kept[2].reduce.left.values())


@pytest.mark.slow
def test_a_resampled_q_leaves_more_than_a_warm_one(objective, batches):
  error = {}
  for q in (WarmStart(), Resampled()):
    rows = followed(objective, place(MESHES["one"]), [batches[0]] * 6, PowerSGD(rank=2, q=q, zero_every=1))[1]
    error[type(q)] = rows[-1]["compression_error"]
  assert error[Resampled] > 1.05 * error[WarmStart] > 0.1


@pytest.mark.slow
def test_parts_of_a_batch_are_averaged_before_they_are_compressed(objective, batches):
  where, power = place(MESHES["data-fsdp"]), PowerSGD(rank=4)
  double = {name: np.concatenate([x, batches[1][name]]) for name, x in batches[0].items()}
  whole, parts = (followed(objective, where, [double], power, accumulate=n)[0][0] for n in (1, 2))
  assert far(parts, whole) < 2e-5


def test_a_step_that_is_not_finite_changes_nothing_that_is_kept(toy):
  where, power = place(MESHES["data"]), PowerSGD(rank=2, q=Resampled(), floats=Floats())
  step = make_step(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=power)
  state, _ = step(
    init_state(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=power), {}, toy.vectors(np.random.default_rng(0))
  )
  before = jax.device_get(state)
  bad = {"x": toy.vectors(np.random.default_rng(1))["x"]}
  bad["x"][0, 0] = np.inf  # of one replica alone; clamped, it would pass for a number
  state, metrics = step(state, {}, bad)
  assert int(metrics["skipped_total"]) == 1
  jax.tree.map(
    np.testing.assert_array_equal, jax.device_get((state.params, state.reduce)), (before.params, before.reduce)
  )
  state, metrics = step(state, {}, toy.vectors(np.random.default_rng(2)))
  assert (int(metrics["skipped_total"]), int(metrics["skipped"])) == (1, 0)
  assert not np.array_equal(state.reduce.q["up/kernel"], before.reduce.q["up/kernel"])


@pytest.mark.slow
def test_replicas_draw_noise_of_their_own(toy):
  """The same examples on both replicas: with the same noise, both would have the same gradient and leave the same."""
  where = place(MESHES["data"])
  half = toy.vectors(np.random.default_rng(0))["x"][:4]
  step = make_step(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=PowerSGD(rank=1))
  state, _ = step(
    init_state(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=PowerSGD(rank=1)), {}, {"x": np.tile(half, (2, 1))}
  )
  first, second = np.asarray(state.reduce.left["up/kernel"])
  assert np.abs(first - second).max() > 1e-4


# Each field, another value of it.
OTHERS = (
  {"rank": 4},
  {"q": WarmStart()},
  {"q": Resampled()},
  {"orthogonal": GramSchmidt()},
  {"orthogonal": Householder(damping=1e-3)},
  {"orthogonal": GramSchmidt(damping=1e-3)},
  {"zero_every": 3},
  {"zero_every": 1},
  {"floats": Floats()},
  {"floats": Floats(exponent=5)},
  {"floats": Floats(mantissa=10)},
  {"floats": Floats(top=5)},
)


@pytest.mark.slow
def test_every_field_is_in_the_program(toy):
  where, texts = place(MESHES["data"]), {}
  for change in ({}, *OTHERS):
    power = dataclasses.replace(PowerSGD(rank=2), **change)
    state = abstract_state(toy.Denoise(), REMEMBERS, **where, reduce=power)
    batch = {"x": jax.ShapeDtypeStruct((8, 8), jnp.float32)}
    step = make_step(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=power)
    texts[str(change)] = step.lower(state, {}, batch).as_text()
  assert len(set(texts.values())) == len(OTHERS) + 1


def saved(directory, state, step):
  checkpoints = Checkpoints(directory, keep=1)
  checkpoints.save(step, state, {})
  checkpoints.wait()
  return checkpoints


@pytest.mark.slow
def test_what_is_left_and_q_go_on_after_a_restart(objective, batches, tmp_path):
  where, power = place(MESHES["data-fsdp"]), PowerSGD(rank=4, q=WarmStart())
  step = make_step(objective, REMEMBERS, seed=0, **where, reduce=power)
  state = begun(objective, where, power)
  for batch in batches[:3]:
    state = jax.block_until_ready(step(state, {}, batch)[0])
  checkpoints = saved(tmp_path, state, 3)
  for batch in batches[3:]:
    state = jax.block_until_ready(step(state, {}, batch)[0])
  again, at = checkpoints.restore(abstract_state(objective, REMEMBERS, **where, reduce=power))
  assert at == 3
  for batch in batches[3:]:
    again = jax.block_until_ready(step(again, {}, batch)[0])
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))

  # Of another number of replicas, each has the mean of what is left.
  restored, _ = checkpoints.restore(
    abstract_state(objective, REMEMBERS, **place(MeshShape(data=4, fsdp=2)), reduce=power)
  )
  kept, _ = checkpoints.restore(abstract_state(objective, REMEMBERS, **where, reduce=power))
  for path, x in kept.reduce.left.items():
    x, other = np.asarray(x), np.asarray(restored.reduce.left[path])
    assert np.abs(x[0] - x[1]).max() > 0
    assert other.shape[0] == 4
    np.testing.assert_allclose(other, np.broadcast_to(x.mean(0), other.shape), atol=1e-7)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored.reduce.q), jax.device_get(kept.reduce.q))
  with pytest.raises(UserError, match=r"reduce/q/down/kernel is float32\[2,8,2\], wanted float32\[1,8,4\]"):
    checkpoints.restore(abstract_state(objective, REMEMBERS, **place(MESHES["data"]), reduce=power))


def test_a_checkpoint_without_powersgd_has_nothing_of_it(toy, tmp_path):
  where = place(MESHES["one"])
  checkpoints = saved(tmp_path, init_state(toy.Denoise(), REMEMBERS, seed=0, **where), 1)
  assert sorted(checkpoints.arrays(1)) == ["counters", "opt", "params"]
  assert checkpoints.restore(abstract_state(toy.Denoise(), REMEMBERS, **where))[0].reduce is None
  with pytest.raises(UserError, match="reduce/left/down/kernel is not there"):
    checkpoints.restore(abstract_state(toy.Denoise(), REMEMBERS, **where, reduce=PowerSGD(rank=2)))


@pytest.mark.parametrize(
  ("shape", "rank", "rules", "words"),
  [
    (MeshShape(data=2, model=2), 2, {}, "this has model=2"),
    (MeshShape(data=2, fsdp=2), 3, {}, r"share of the rank 3: both must divide by 2"),
    (MeshShape(data=2), 2, {"mlp": ("data",)}, "is split over data"),
    (MeshShape(data=2), 2, {"batch": ("fsdp",)}, "must have it"),
  ],
)
def test_meshes_and_ranks_that_do_not_fit_are_refused(toy, shape, rank, rules, words):
  where = place(shape, Rules(**rules))
  with pytest.raises(UserError, match=words):
    make_step(toy.Denoise(), REMEMBERS, seed=0, **where, reduce=PowerSGD(rank=rank))


def test_a_model_without_such_matrices_is_refused():
  where = place(MESHES["one"])
  leaf = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=sharding.replicated(where["mesh"]))
  with pytest.raises(UserError, match="this model has none"):
    compression.matrices(PowerSGD(rank=2), {"conv": {"kernel": leaf}}, where["mesh"])


def sent(heads, rank):
  """What a step of two layers so wide sends, see support/factors_sent.py."""
  root = Path(__file__).parents[2]
  flags = os.environ.get("XLA_FLAGS", "").replace("--xla_force_host_platform_device_count=8", "")
  done = subprocess.run(
    [sys.executable, str(root / "tests/support/factors_sent.py"), str(heads), str(rank)],
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(root / "src"), "XLA_FLAGS": flags},
    timeout=500,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout)


def between_replicas(found):
  """Bytes of all-reduces whose groups are two devices, the replicas, or all 16."""
  return sum(
    each["bytes"] * each["times"]
    for each in found["collectives"]
    if each["kind"] == "all-reduce" and each["group"] != 8
  )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "rank", "rate"), [(1920, 512, 83.3), (2688, 640, 85.1), (3968, 896, 85.9)])
def test_replicas_send_the_paper_s_share_of_the_matrices_gradients(width, rank, rate):
  found = sent(width // 64, rank)
  factors = between_replicas(found) - 4 * found["others"]
  scalars = 64  # losses, whether all is finite, how much is left
  assert 100 * (1 - factors / (4 * found["matrices"])) == pytest.approx(rate, abs=0.05)
  exact = 4 * found["matrices"] * 5 * rank / (8 * width)
  assert exact <= factors <= exact + scalars
  # Nothing but all-reduces goes between replicas.
  kinds = {each["kind"] for each in found["collectives"] if each["group"] in (2, 16)}
  assert kinds == {"all-reduce"}


@pytest.mark.slow
def test_without_powersgd_they_send_all_of_them():
  found = sent(3968 // 64, 0)
  assert between_replicas(found) >= 4 * (found["matrices"] + found["others"])
