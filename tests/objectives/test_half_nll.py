"""Float16 emulated in the transformer: the plain model where nothing is rounded, and blocks that do not disturb others.

S scales: of each layer attention's, then the MLP's.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import config, sharding
from dalle_jax.errors import UserError
from dalle_jax.experiment import Objective, Stage
from dalle_jax.models import transformer
from dalle_jax.models.half import Format
from dalle_jax.objectives.half_nll import HalfNll
from dalle_jax.objectives.loss_scales import LossScales, Scales
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import abstract_state, init_state, make_step

TINY = transformer.Config(
  text_vocab=11, text=5, image_vocab=7, grid=4, layers=2, heads=2, head_dim=4, mix=("row",), last=None, kernel=3
)
FLOAT32 = Format(exponent=8, mantissa=23)
KEY, STEP = jax.random.key(0), jnp.int32(0)
QUICK = {"xla_backend_optimization_level": 0}
WHERE = {"mesh": sharding.make_mesh(MeshShape(), jax.devices()[:1]), "rules": Rules()}
replace = dataclasses.replace


@functools.cache
def params(cfg=TINY):
  rng, shapes = np.random.default_rng(1), sharding.unbox(jax.eval_shape(TransformerNll(model=cfg).init, KEY))
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


def batch():
  rng = np.random.default_rng(0)
  return {"text": rng.integers(0, 11, (3, 5)).astype(np.int32), "codes": rng.integers(0, 7, (3, 16)).astype(np.int32)}


@functools.cache
def slope(objective):
  data = jax.tree.map(jnp.asarray, batch())
  fn = lambda p, carried: objective.slope(p, carried, {}, data, KEY, STEP)  # noqa: E731
  return jax.jit(fn, compiler_options=QUICK)


def taken(objective, carried=None):
  (loss, metrics), grads, after = slope(objective)(params(objective.model), carried or objective.begin())
  return float(loss), {name: float(x) for name, x in metrics.items()}, grads, after


@functools.cache
def plain(cfg):
  """Loss and gradient by `jax.grad` of the objective that knows nothing of any of this."""
  objective, data = TransformerNll(model=cfg), jax.tree.map(jnp.asarray, batch())
  fn = jax.value_and_grad(lambda p: objective.loss(p, {}, data, KEY, STEP)[0])
  return jax.jit(fn, compiler_options=QUICK)(params(cfg))


def farthest(grads, others):
  """The greatest difference of a tensor, by its greatest number."""
  apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()), grads, others)
  found = np.max(jax.tree.leaves(apart))  # Python's max would pass over what is no number
  assert np.isfinite(found)
  return found


@pytest.mark.slow
@pytest.mark.parametrize(
  ("model", "fields"),
  [
    ({}, {"half_logits": True, "half_embeddings": True}),
    pytest.param(
      {"scan": False, "remat": "full", "order": "image_first", "layers": 3},
      {"scales": LossScales(each=False)},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_without_rounding_it_is_the_plain_model_and_with_it_it_is_not(model, fields):
  cfg = replace(TINY, **model)
  loss, grads = plain(cfg)
  objective = HalfNll(model=cfg, replicas=64, form=FLOAT32, **fields)
  found, _, own, _ = taken(objective)
  assert found == pytest.approx(float(loss), rel=2e-6)
  assert farthest(own, grads) < 2e-6
  found, _, own, _ = taken(replace(objective, form=Format()))
  assert 1e-4 < farthest(own, grads) < 2e-2
  assert 0 < abs(found - float(loss)) < 1e-2


@pytest.mark.slow
def test_each_of_logits_and_embeddings_is_rounded_where_it_is_asked_for():
  exact = HalfNll(model=TINY, form=Format(exponent=8, mantissa=4))
  losses = [taken(replace(exact, **{name: True}))[0] for name in ("half_logits", "half_embeddings")]
  assert len({taken(exact)[0], *losses}) == 3
  assert exact.begin().log2_S.shape == (4,)
  assert replace(exact, half_logits=True, half_embeddings=True).parts()[-2:] == ["logits", "embeddings"]


HALF = HalfNll(model=TINY, replicas=64, scales=LossScales(most=90.0))


def overflowing(objective, at):
  """What is added to the scales where one is so great that its branch's gradient overflows."""
  before = shifted(objective.begin(), at, 60.0)
  _, metrics, grads, after = taken(objective, before)
  assert metrics["overflowed"] > 0
  assert np.isnan(jax.tree.leaves(grads)[0]).all(), "the update is not left out"
  return np.asarray(after.log2_S - before.log2_S)


def shifted(scales, at, by):
  return Scales(scales.log2_S.at[at].add(by), scales.since_S)


@pytest.mark.slow
def test_an_overflow_lowers_the_scale_of_its_own_branch_alone_where_there_is_a_filter():
  np.testing.assert_allclose(overflowing(HALF, 2), [1e-3, 1e-3, -0.5, 1e-3], atol=1e-5)
  unfiltered = replace(HALF, scales=replace(HALF.scales, filters=False))
  np.testing.assert_allclose(overflowing(unfiltered, 2), [-0.5, -0.5, -0.5, 1e-3], atol=1e-5)


def test_one_scale_goes_down_with_any_branch():
  one = replace(HALF, scales=replace(HALF.scales, each=False))
  assert one.begin().log2_S.shape == (1,)
  np.testing.assert_allclose(overflowing(one, 0), [-0.5], atol=1e-5)


def test_what_underflows_is_reported_of_each_branch():
  _, metrics, grads, _ = taken(HALF, shifted(HALF.begin(), slice(None), -60.0))
  assert metrics["underflow"] == metrics["underflow/mlp_000"] == metrics["underflow_late"] == 1
  assert not np.any(grads["block_1"]["out"]["kernel"])
  enough = taken(HALF)[1]
  assert 0 <= enough["underflow"] < 0.05
  assert enough["log2_scale/attention_000"] == 13 + 6


@pytest.mark.slow
def test_a_step_moves_the_scales_and_leaves_the_update_out_where_one_overflows(tmp_path):
  optimizer, where = AdamW(lr=Constant(1e-2), ema=0.9), {**WHERE, "seed": 0}
  begin = init_state(HALF, optimizer, **where)._replace(params=params())
  step = make_step(HALF, optimizer, **where)
  for shift in (0.0, 60.0):
    begin = begin._replace(carried=shifted(HALF.begin(), 1, shift))
    before = jax.device_get(begin)
    after, metrics = step(jax.tree.map(jnp.copy, begin), {}, batch())
    assert int(metrics["skipped"]) == (shift > 0)
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(before.params))]
    assert all(same) if shift else not any(same)
    moved_S = np.asarray(after.carried.log2_S - before.carried.log2_S)
    np.testing.assert_allclose(moved_S, [1e-3, -0.5 if shift else 1e-3, 1e-3, 1e-3], atol=1e-5)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, after, {})
  checkpoints.close()
  found, _ = checkpoints.restore(abstract_state(HALF, optimizer, **WHERE))
  jax.tree.map(np.testing.assert_array_equal, found, after)


DEEP = transformer.Config(
  text_vocab=30, text=4, image_vocab=16, grid=3, layers=64, heads=1, head_dim=8, mix=("row",), last=None
)
RISE = 2.0 ** (13 * np.arange(64) / 63)


def deep_params():
  """Values and hidden units that are 8192 times greater in the last layer than in the first.

  The stream grows with the layers, so its gradient falls, and in late branches even more.
  """
  rng = np.random.default_rng(0)

  def drawn(path, x):
    names = [key.key for key in path]
    if "head" in names[0]:
      return jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32)
    if names[-1] != "kernel":
      return x
    times = np.full(x.shape, 3.0, np.float32)
    grown = times[..., 2, :, :] if "qkv" in names else times if "up" in names else np.empty((63, 0, 0), np.float32)
    grown *= RISE[:63, None, None] if names[0] == "periods" else RISE[63]
    return x * times

  return jax.tree_util.tree_map_with_path(drawn, sharding.unbox(HalfNll(model=DEEP).init(KEY)))


@pytest.mark.slow
def test_scales_of_each_branch_save_gradients_of_late_blocks_that_one_scale_of_all_loses():
  rng, begin, lost = np.random.default_rng(0), deep_params(), {}
  data = {"text": rng.integers(0, 30, (8, 4)), "codes": rng.integers(0, 16, (8, 9))}
  data = {name: jnp.asarray(x, jnp.int32) for name, x in data.items()}
  for each in (True, False):
    objective = HalfNll(model=DEEP, replicas=128, scales=LossScales(each=each, doubling=2.0, apart=2))
    step = jax.jit(lambda c, o=objective: o.slope(begin, c, {}, data, KEY, STEP), compiler_options=QUICK)
    carried, rows = objective.begin(), []
    for _ in range(40):
      (_, metrics), _, carried = step(carried)
      rows.append({name: float(x) for name, x in metrics.items()})
    assert sum(row["overflowed"] > 0 for row in rows) > 1, "no scale has found its height"
    lost[each] = np.mean([row["underflow_late"] for row in rows[-10:]])
    early = np.mean([row["underflow_early"] for row in rows[-10:]])
    assert early < lost[each]
  assert lost[False] > 0.02
  assert lost[True] < lost[False] / 2


def test_other_objectives_carry_nothing():
  state = abstract_state(TransformerNll(model=TINY), AdamW(lr=Constant(1e-2)), **WHERE)
  assert state.carried is None


def test_parts_of_a_batch_are_refused():
  with pytest.raises(ValueError, match="takes the gradient of whole batches"):
    make_step(HALF, AdamW(lr=Constant(1e-2)), seed=0, accumulate=2, **WHERE)


@pytest.mark.parametrize(
  ("fields", "complaint"),
  [
    ({"replicas": 0}, "replicas is 0"),
    ({"model": replace(TINY, dtype="bfloat16")}, "dtype is 'bfloat16'"),
    ({"half_logits": True, "model": replace(TINY, image_vocab=8), "vocab_parts": 8}, "vocab_parts is 8"),
  ],
)
def test_what_cannot_be_emulated_is_refused(fields, complaint):
  with pytest.raises(UserError, match=complaint):
    HalfNll(**{"model": TINY, **fields})


def test_it_comes_back_from_its_json():
  objective = replace(HALF, half_logits=True, scales=LossScales(each=False))
  assert config.from_dict(Objective, config.to_dict(objective)) == objective
  assert Stage.__dataclass_fields__["objective"].type == Objective
