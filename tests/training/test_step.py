"""The train step: the same on one device and on eight, blind to updates that are not finite, random by step alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.health import Spikes
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state, init_state, make_step

ADAMW = AdamW(lr=Constant(1e-2), decay=0.1, clip=1.0, ema=0.9)


def mesh_of(devices):
  shape = MeshShape(data=2, fsdp=2, model=2) if devices == 8 else MeshShape()
  return sharding.make_mesh(shape, jax.devices()[:devices])


def run(objective, batches, optimizer=ADAMW, seed=0, frozen=None):
  """The state after the batches on one device, and the metrics of each step."""
  where = {"mesh": mesh_of(1), "rules": Rules(), "seed": seed}
  state = init_state(objective, optimizer, **where)
  step = make_step(objective, optimizer, **where)
  rows = []
  for batch in batches:
    state, metrics = step(state, frozen or {}, batch)
    rows.append({k: float(v) for k, v in metrics.items()})
  return state, rows


def drawn(draw, count):
  return [draw(np.random.default_rng([7, i])) for i in range(count)]


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def plain(toy):
  """Six steps on one device."""
  return run(toy.Denoise(), drawn(toy.vectors, 6))


@pytest.mark.parametrize(
  "stage",
  ["denoise", *(pytest.param(name, marks=pytest.mark.slow) for name in ("transformer", "dvae", "clip"))],
)
def test_eight_devices_give_the_losses_of_one(toy, stage):
  objective, draw = toy.STAGES[stage]()
  batches = drawn(draw, 3)
  one, eight = ({"mesh": mesh_of(n), "rules": Rules()} for n in (1, 8))
  state = jax.device_get(init_state(objective, ADAMW, seed=0, **one))
  _, rows_one = follow(objective, state, batches, **one)
  end, rows_eight = follow(objective, state, batches, **eight)
  for a, b in zip(rows_one, rows_eight, strict=True):
    assert b["loss"] == pytest.approx(a["loss"], rel=2e-5)
    assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
  assert rows_one[0]["loss"] != rows_one[2]["loss"]
  split = [x for x in jax.tree.leaves(end.params) if not x.sharding.is_fully_replicated]
  assert split, "nothing lies on several devices in parts"


def follow(objective, state, batches, **where):
  """The metrics of each step from a state given as NumPy arrays."""
  layout = jax.tree.map(lambda x: x.sharding, abstract_state(objective, ADAMW, **where))
  state, rows = jax.device_put(state, layout), []
  step = make_step(objective, ADAMW, seed=0, **where)
  for batch in batches:
    state, metrics = step(state, {}, batch)
    rows.append({k: float(v) for k, v in metrics.items()})
  return state, rows


def test_parameters_and_moments_start_equal_on_any_mesh_and_lie_alike(toy):
  one, eight = (init_state(toy.Denoise(), ADAMW, seed=5, mesh=mesh_of(n), rules=Rules()) for n in (1, 8))
  equal(one, eight)
  moments = [x for x in jax.tree.leaves(eight.opt) if x.shape == (8, 16)]
  assert len(moments) == 2
  assert {s.data.shape for x in moments for s in x.addressable_shards} == {(4, 8)}
  assert {s.data.shape for s in eight.ema["up"]["kernel"].addressable_shards} == {(4, 8)}


def test_the_abstract_state_is_the_state(toy):
  abstract = abstract_state(toy.Denoise(), ADAMW, mesh=mesh_of(8), rules=Rules())
  state = init_state(toy.Denoise(), ADAMW, seed=0, mesh=mesh_of(8), rules=Rules())
  same = jax.tree.map(lambda a, b: (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding), abstract, state)
  assert all(jax.tree.leaves(same))


def test_a_model_that_does_not_divide_over_the_mesh_is_named(toy):
  with pytest.raises(UserError, match=r"params/.*mlp of 15 does not divide over 2"):
    abstract_state(toy.Denoise(width=15), ADAMW, mesh=mesh_of(8), rules=Rules())


def test_the_first_update_is_gradient_descent_by_sign(toy):
  # Adam's first step is rate * g / (|g| + eps): the sign of the gradient, whatever its size.
  optimizer = AdamW(lr=Constant(1e-2))
  before = jax.device_get(init_state(toy.Denoise(), optimizer, seed=0, mesh=mesh_of(1), rules=Rules()).params)
  batch = drawn(toy.vectors, 1)[0]
  key = jax.random.fold_in(jax.random.key(0), 0)
  grads = jax.grad(lambda p: toy.Denoise().loss(p, {}, batch, key, 0)[0])(before)
  after, rows = run(toy.Denoise(), [batch], optimizer=optimizer)
  wanted = jax.tree.map(lambda p, g: p - 1e-2 * np.sign(g), before, grads)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), jax.device_get(after.params), wanted)
  norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads)))
  assert rows[0]["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_an_update_that_is_not_finite_changes_nothing_but_the_counters(toy):
  good = drawn(toy.vectors, 3)
  bad = {"x": np.full((8, 8), np.nan, np.float32)}
  where = {"mesh": mesh_of(1), "rules": Rules(), "seed": 0}
  step = make_step(toy.Denoise(), ADAMW, **where)
  state, _ = step(init_state(toy.Denoise(), ADAMW, **where), {}, good[0])
  before = jax.device_get(state)
  for count in (1, 2):
    state, metrics = step(state, {}, bad)
    assert (int(metrics["skipped"]), int(metrics["skipped_total"])) == (count, count)
  after = jax.device_get(state)
  equal((after.params, after.opt, after.ema), (before.params, before.opt, before.ema))
  assert int(after.step) == int(before.step) + 2
  state, metrics = step(state, {}, good[1])
  assert (int(metrics["skipped"]), int(metrics["skipped_total"])) == (0, 2)
  assert np.isfinite(float(metrics["loss"]))
  assert not np.array_equal(state.params["up"]["kernel"], before.params["up"]["kernel"])


def test_a_gradient_a_hundred_times_as_great_as_the_last_ones_changes_nothing_but_the_counters(toy):
  optimizer = AdamW(lr=Constant(1e-3), ema=0.9, spikes=Spikes(window=8))
  where = {"mesh": mesh_of(1), "rules": Rules(), "seed": 0}
  step = make_step(toy.Denoise(), optimizer, **where)
  state = init_state(toy.Denoise(), optimizer, **where)
  good = drawn(toy.vectors, 12)
  great = {"x": good[0]["x"] * np.float32(100)}
  for batch in [*good[:6], great]:  # before the window is full, nothing is a spike
    state, metrics = step(state, {}, batch)
  assert int(metrics["skipped_total"]) == 0
  for batch in good[6:]:
    state, metrics = step(state, {}, batch)
  usual = float(metrics["grad_norm"])
  for batch in good:
    state, metrics = step(state, {}, batch)
  before = jax.device_get(state)
  state, metrics = step(state, {}, great)
  assert float(metrics["grad_norm"]) > 100 * usual
  assert (int(metrics["skipped"]), int(metrics["skipped_spikes"])) == (1, 1)
  after = jax.device_get(state)
  equal((after.params, after.opt, after.ema, after.norms), (before.params, before.opt, before.ema, before.norms))
  state, metrics = step(state, {}, good[0])
  assert (int(metrics["skipped"]), int(metrics["skipped_total"]), int(metrics["skipped_spikes"])) == (0, 1, 1)


def test_an_infinite_gradient_of_a_finite_loss_is_skipped_too(toy):
  class Steep(toy.Denoise):
    def loss(self, params, frozen, batch, key, step):
      loss, metrics = super().loss(params, frozen, batch, key, step)
      # The value is 0 there, its slope infinite.
      return loss + jnp.sqrt(jnp.abs(params["up"]["bias"][0])) * (step == 1), metrics

  _, rows = run(Steep(), drawn(toy.vectors, 1) * 2, optimizer=AdamW(lr=Constant(0.0)))
  assert np.isfinite(rows[1]["loss"])
  assert [row["skipped"] for row in rows] == [row["skipped_total"] for row in rows]
  assert not all(np.isfinite(row["grad_norm"]) for row in rows)


def test_the_same_seed_and_step_give_the_same_bits(toy, plain):
  state, rows = run(toy.Denoise(), drawn(toy.vectors, 6))
  assert rows == plain[1]
  equal(state, plain[0])


def test_another_seed_gives_other_parameters_and_other_noise(toy, plain):
  _, rows = run(toy.Denoise(), drawn(toy.vectors, 1), seed=1)
  assert rows[0]["loss"] != plain[1][0]["loss"]


def test_each_step_draws_its_own_noise(toy):
  still = AdamW(lr=Constant(0.0))
  _, rows = run(toy.Denoise(), drawn(toy.vectors, 1) * 3, optimizer=still)
  assert len({row["loss"] for row in rows}) == 3


def test_the_loss_falls(toy):
  _, rows = run(toy.Denoise(), drawn(toy.vectors, 150))
  assert np.mean([r["loss"] for r in rows[-10:]]) < 0.6 * np.mean([r["loss"] for r in rows[:10]])


@pytest.mark.parametrize("every", [1, 3])
def test_the_moving_average_is_the_one_worked_out_by_hand(toy, every):
  optimizer = AdamW(lr=Constant(1e-2), ema=0.8, ema_every=every)
  batches = drawn(toy.vectors, 7)
  where = {"mesh": mesh_of(1), "rules": Rules(), "seed": 0}
  state = init_state(toy.Denoise(), optimizer, **where)
  step = make_step(toy.Denoise(), optimizer, **where)
  wanted = np.array(state.params["up"]["kernel"], np.float64)
  for n, batch in enumerate(batches, 1):
    state, _ = step(state, {}, batch)
    if n % every == 0:
      wanted = 0.8 * wanted + 0.2 * np.array(state.params["up"]["kernel"], np.float64)
  np.testing.assert_allclose(state.ema["up"]["kernel"], wanted, rtol=1e-5, atol=1e-7)


def test_frozen_parameters_reach_the_objective(toy, plain):
  batches = drawn(toy.vectors, 1)
  _, rows = run(toy.Denoise(), batches, frozen={"offset": np.float32(3.0)})
  assert rows[0]["loss"] > plain[1][0]["loss"] + 1


def test_the_given_state_is_donated(toy):
  where = {"mesh": mesh_of(1), "rules": Rules(), "seed": 0}
  state = init_state(toy.Denoise(), ADAMW, **where)
  make_step(toy.Denoise(), ADAMW, **where)(state, {}, drawn(toy.vectors, 1)[0])
  assert state.params["up"]["kernel"].is_deleted()


class Quiet:
  """A loss that is a mean over examples and draws no noise."""

  def __init__(self, toy):
    self.init = toy.Denoise().init

  def loss(self, params, frozen, batch, key, step):
    h_BM = jnp.tanh(batch["x"] @ params["up"]["kernel"] + params["up"]["bias"][None])
    loss = jnp.mean(jnp.square(h_BM @ params["down"]["kernel"] - batch["x"]))
    return loss, {"loss": loss}


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(toy, parts, devices):
  parts = parts if devices == 1 else 2  # the mesh splits eight examples over four devices
  batch, where = drawn(toy.vectors, 1)[0], {"mesh": mesh_of(devices), "rules": Rules(), "seed": 0}
  states, rows, programs = [], [], []
  for accumulate in (1, parts):
    step = make_step(Quiet(toy), ADAMW, **where, accumulate=accumulate)
    state = init_state(Quiet(toy), ADAMW, **where)
    programs.append(step.lower(state, {}, batch).as_text())
    state, metrics = step(state, {}, batch)
    states.append(jax.device_get(state))
    rows.append({k: float(v) for k, v in metrics.items()})
  assert ["stablehlo.while" in program for program in programs] == [False, True]
  assert rows[0] == pytest.approx(rows[1], rel=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *states)


def test_each_part_of_a_batch_draws_noise_of_its_own_and_the_mean_is_taken(toy):
  batch, where = drawn(toy.vectors, 1)[0], {"mesh": mesh_of(1), "rules": Rules(), "seed": 0}
  state = init_state(toy.Denoise(), ADAMW, **where)
  params, key = jax.device_get(state.params), jax.random.fold_in(jax.random.key(0), 0)
  wanted = [toy.Denoise().loss(params, {}, {"x": batch["x"][i::2]}, jax.random.fold_in(key, i), 0)[0] for i in range(2)]
  assert abs(wanted[0] - wanted[1]) > 1e-3
  _, metrics = make_step(toy.Denoise(), ADAMW, **where, accumulate=2)(state, {}, batch)
  assert float(metrics["loss"]) == pytest.approx(float(np.mean(wanted)), rel=1e-5)


def test_an_objective_moves_its_own_parameters_after_the_update_and_not_after_one_that_is_left_out(toy):
  @dataclasses.dataclass(frozen=True)
  class Counting(toy.Denoise):
    """Counts the batch's rows into a parameter of its own."""

    def init(self, key):
      return super().init(key) | {"rows": sharding.axes(jax.nn.initializers.zeros, None)(key, (1,))}

    def loss(self, params, frozen, batch, key, step):
      return super().loss({k: v for k, v in params.items() if k != "rows"}, frozen, batch, key, step)

    def moved(self, before, params, batch, key):
      return params | {"rows": before["rows"] + len(next(iter(batch.values()))) + 0 * jax.random.uniform(key)}

  batches = drawn(toy.vectors, 3)
  rows = len(next(iter(batches[0].values())))
  lost = {name: np.full_like(x, np.nan) for name, x in batches[1].items()}
  counted, _ = run(Counting(), [batches[0], lost, batches[2]])
  plain, _ = run(toy.Denoise(), [batches[0], lost, batches[2]])
  assert float(counted.params["rows"][0]) == 2 * rows
  assert int(counted.skipped_total) == 1
  equal({name: leaf for name, leaf in counted.params.items() if name != "rows"}, plain.params)
