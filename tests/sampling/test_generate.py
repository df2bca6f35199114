"""Cached drawing is full recomputation, token by token, for every kind of attention."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_transformer import GRID, TEXT, WORDS, captions, config, weights

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.plan import hlo
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import generate, generate_recompute

PLAIN = SamplingConfig()


def drawn(how, cfg, params, *, count=2, samples=3, first=0, seed=0, sampling=PLAIN):
  numbers = jnp.arange(first, first + count), jnp.arange(samples)
  text = captions(8)[first : first + count]
  return np.asarray(how(params, text, jax.random.key(seed), *numbers, model=cfg, sampling=sampling))


@pytest.mark.parametrize("kind", ["full", "row", "column", "conv"])
def test_cached_drawing_is_full_recomputation(kind):
  cfg = config((kind,))
  params = weights(cfg)
  got = drawn(generate, cfg, params)
  np.testing.assert_array_equal(got, drawn(generate_recompute, cfg, params))
  assert got.shape == (2, 3, GRID**2)
  assert len(np.unique(got)) > 5


def test_a_stack_of_all_kinds_that_training_loops_over_is_drawn_alike():
  cfg = config(("row", "column"), layers=5, last="conv")
  params = weights(cfg)
  assert cfg.scanned == 2
  sampling = SamplingConfig(temperature=0.8, top_k=12, top_p=0.9)
  expected = drawn(generate_recompute, cfg, params, sampling=sampling)
  np.testing.assert_array_equal(drawn(generate, cfg, params, sampling=sampling), expected)


@pytest.fixture(scope="module")
def row():
  cfg = config(("row",))
  return cfg, weights(cfg)


def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(row):
  together = drawn(generate, *row)
  alone = drawn(generate, *row, count=1, first=1, samples=2)
  np.testing.assert_array_equal(together[1:, :2], alone)


def test_samples_captions_and_seeds_differ(row):
  got, other = drawn(generate, *row), drawn(generate, *row, seed=1)
  assert (got[0, 0] != got[0, 1]).any()
  assert (got[0, 0] != got[1, 0]).any()
  assert (got[0, 0] != other[0, 0]).any()


def test_the_most_likely_tokens_are_the_forward_pass_s_own(row):
  cfg, params = row
  codes = drawn(generate, cfg, params, samples=1, sampling=SamplingConfig(temperature=0.0))[:, 0]
  logits = transformer.Transformer(cfg).apply({"params": params}, captions(2), jnp.asarray(codes))
  np.testing.assert_array_equal(np.argmax(logits.image_BNV, axis=-1), codes)


OTHER = captions(8)[5:7]


def guided(how, cfg, params, guidance, against=None, temperature=1.0):
  sampling = SamplingConfig(guidance=guidance, temperature=temperature)
  return drawn(functools.partial(how, against_CT=against), cfg, params, sampling=sampling)


@pytest.mark.parametrize(
  "against", [pytest.param(None, id="empty", marks=pytest.mark.slow), pytest.param(OTHER, id="another")]
)
@pytest.mark.parametrize("guidance", [pytest.param(0.5, marks=pytest.mark.slow), 3.0])
def test_guided_drawing_is_full_recomputation(guidance, against):
  cfg = config(("row", "column"), layers=3, last="conv")
  params = weights(cfg)
  got = guided(generate, cfg, params, guidance, against)
  np.testing.assert_array_equal(got, guided(generate_recompute, cfg, params, guidance, against))
  assert (got != drawn(generate, cfg, params)).any()


def test_guidance_of_nothing_draws_what_it_leads_away_from(row):
  got = guided(generate, *row, 0.0, OTHER)
  instead = generate(
    row[1], OTHER, jax.random.key(0), jnp.arange(2), jnp.arange(3), model=row[0], sampling=SamplingConfig()
  )
  np.testing.assert_array_equal(got, instead)


def test_guidance_is_along_the_line_through_both(row):
  cfg, params = row
  codes = guided(generate, cfg, params, 2.0, OTHER, temperature=0.0)[:, 0]
  net = transformer.Transformer(cfg)
  told, other = (net.apply({"params": params}, text, jnp.asarray(codes)).image_BNV for text in (captions(2), OTHER))
  np.testing.assert_array_equal(np.argmax(2 * told - other, axis=-1), codes)


def test_what_guidance_leads_away_from_is_the_empty_caption_where_none_is_named(row):
  empty = jnp.tile(WORDS + jnp.arange(TEXT, dtype=jnp.int32), (2, 1))
  np.testing.assert_array_equal(guided(generate, *row, 2.0), guided(generate, *row, 2.0, empty))


@pytest.mark.slow
def test_guidance_on_eight_devices_is_that_on_one():
  cfg = config(("row", "column"), layers=3, last="conv")
  params = weights(cfg)
  sampling = SamplingConfig(guidance=2.0)
  got = on_a_mesh(cfg, params, count=2, samples=4, sampling=sampling)
  np.testing.assert_array_equal(got, drawn(generate, cfg, params, count=2, samples=4, sampling=sampling))


MESH = sharding.MeshShape(data=2, fsdp=2, model=2)


def on_a_mesh(cfg, params, given_CN=None, **how):
  """Drawn by eight devices, each with its part of the weights."""
  mesh = sharding.make_mesh(MESH)
  boxed = jax.eval_shape(TransformerNll(model=cfg).init, jax.random.key(0))
  params = jax.device_put(params, sharding.shardings(boxed, mesh, sharding.Rules()))
  kernel = params["image_head"]["kernel"]
  assert kernel.sharding.shard_shape(kernel.shape) == (kernel.shape[0] // 2, kernel.shape[1] // 2)
  return drawn(functools.partial(generate, mesh=mesh, given_CN=given_CN), cfg, params, **how)


@pytest.mark.parametrize(
  ("count", "samples"),
  [
    pytest.param(1, 8, marks=pytest.mark.slow),
    pytest.param(2, 4, marks=pytest.mark.slow),
    pytest.param(4, 1, marks=pytest.mark.slow),
    (3, 4),
  ],
)
def test_eight_devices_draw_what_one_draws(count, samples):
  cfg = config(("row", "column"), layers=3, last="conv")
  params = weights(cfg)
  got = on_a_mesh(cfg, params, count=count, samples=samples)
  np.testing.assert_array_equal(got, drawn(generate, cfg, params, count=count, samples=samples))
  assert len(np.unique(got)) > 5


@pytest.mark.parametrize(("count", "samples"), [(1, 8), (4, 2)])
@pytest.mark.slow
def test_eight_devices_complete_what_one_completes(count, samples):
  cfg = config(("row", "column"), layers=3, last="conv")
  params = weights(cfg)
  given = np.random.default_rng(3).integers(0, cfg.image_vocab, (count, GRID**2))
  given[:, 13:] = -1
  how = {"count": count, "samples": samples, "sampling": SamplingConfig(guidance=2.0)}
  alone = drawn(functools.partial(generate, given_CN=jnp.asarray(given)), cfg, params, **how)
  np.testing.assert_array_equal(on_a_mesh(cfg, params, given_CN=jnp.asarray(given), **how), alone)
  np.testing.assert_array_equal(alone[:, :, :13], np.repeat(given[:, None, :13], samples, axis=1))


def test_on_a_mesh_weights_stay_where_they_are():
  cfg = dataclasses.replace(config(("row", "column"), layers=3, last="conv"), heads=8, head_dim=32)
  mesh = sharding.make_mesh(MESH)
  boxed = jax.eval_shape(TransformerNll(model=cfg).init, jax.random.key(0))
  layout = sharding.shardings(boxed, mesh, sharding.Rules())
  params = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), sharding.unbox(boxed), layout)
  numbers = jnp.arange(1), jnp.arange(8)
  lowered = generate.lower(params, captions(1), jax.random.key(0), *numbers, model=cfg, sampling=PLAIN, mesh=mesh)
  program = hlo.read(lowered.compile().as_text(), 8)
  smallest = cfg.dim * cfg.dim * 4 // 4  # bytes of a square kernel on each of its four devices
  assert len([each for each in program.collectives if each.times >= GRID**2]) > 10
  assert max(each.bytes for each in program.collectives) < smallest


def test_rows_that_do_not_divide_are_an_error(row):
  with pytest.raises(UserError, match="batch of 3 does not divide over 4 devices"):
    on_a_mesh(*row, count=1, samples=3)


@pytest.mark.slow
def test_weights_in_the_dtype_they_are_used_in_give_the_same_scores():
  cfg = dataclasses.replace(config(("row", "column"), layers=3, last="conv"), dtype="bfloat16")
  params = weights(cfg)
  cast = transformer.in_compute_dtype(params, cfg)
  assert cast["block_2"]["qkv"]["kernel"].dtype == jnp.bfloat16
  assert cast["image_head"]["kernel"].dtype == jnp.float32
  assert cast["block_2"]["norm_1"]["scale"].dtype == jnp.float32
  codes = jnp.asarray(np.random.default_rng(2).integers(0, cfg.image_vocab, (2, GRID**2)))
  scores = jax.jit(lambda p: transformer.Transformer(cfg).apply({"params": p}, captions(2), codes).image_BNV)
  np.testing.assert_array_equal(scores(cast), scores(params))
  coarse = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)  # heads too: those are other numbers
  assert (scores(coarse) != scores(params)).any()


def test_no_matrix_is_copied_for_a_token():
  """Those of queries, keys and values lie in one kernel: taking one out of it is a copy, made for every token."""
  cfg = dataclasses.replace(config(("row", "column"), layers=3, last="conv"), heads=4, head_dim=32)
  params, numbers = weights(cfg), jnp.arange(1)
  lowered = generate.lower(params, captions(1), jax.random.key(0), numbers, numbers, model=cfg, sampling=PLAIN)
  in_loop = [line for line in lowered.compile().as_text().splitlines() if "/while/body/" in line]
  square = re.compile(rf"= f32\[(1,)?{cfg.dim},{cfg.dim}\]")
  assert any("qkv" in line for line in in_loop)
  assert not [line for line in in_loop if square.search(line)]
