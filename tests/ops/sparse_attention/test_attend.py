"""Attention by `reference` and `xla` against jax's own under the boolean mask: values, cotangents, sight, work."""

import functools
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend, attention_weights, reference, xla
from dalle_jax.ops.sparse_attention.attend import choose
from dalle_jax.ops.sparse_attention.patterns import KINDS

IMPLEMENTATIONS = ("reference", "xla")
ORDERS = ("text_first", pytest.param("image_first", marks=pytest.mark.slow))
TEXT, GRID = 4, 5  # 25 image positions do not divide into the blocks of full attention
LENGTHS = (1, 3, 4)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


def small(kind, order="text_first", softmax="joint"):
  return Pattern(text=TEXT, grid=GRID, kind=kind, kernel=3, order=order, softmax=softmax)


def drawn(pattern, batch=3, heads=2, head_dim=8, seed=0, dtype=jnp.float32):
  """Queries, keys, values and the output's cotangent; scores spread over several nats."""
  rng = np.random.default_rng(seed)
  shape = (batch, pattern.length, heads, head_dim)
  scales = (2.0, 1.5, 1.0, 1.0)
  return tuple(jnp.asarray(scale * rng.normal(size=shape), dtype) for scale in scales)


def mask_of(pattern, lengths=None):
  """[B or 1, 1, L, L]: the pattern's mask, and in each example the text keys that its caption has."""
  mask = pattern.mask()[None, None]
  if lengths is None:
    return mask
  key = np.arange(pattern.length)
  place = key if pattern.order == "text_first" else key - pattern.image
  is_text = (place >= 0) & (place < pattern.text)
  return mask & (~is_text | (place < np.array(lengths)[:, None]))[:, None, None]


def oracle(q, k, v, *, pattern, lengths=None):
  """jax's attention under the dense mask; with separate softmaxes, once for the text and once for the image keys."""
  mask = mask_of(pattern, lengths)
  if pattern.softmax == "joint":
    return jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(mask))
  first = TEXT if pattern.order == "text_first" else GRID**2
  total = 0
  for keys in (np.arange(pattern.length) < first, np.arange(pattern.length) >= first):
    part = mask & keys
    any_BL11 = jnp.asarray(part.any(-1).swapaxes(1, 2))[..., None]
    total = total + jnp.where(any_BL11, jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(part)), 0)
  return total


def ours(q, k, v, *, pattern, implementation, lengths=None):
  lengths = None if lengths is None else jnp.asarray(lengths)
  return attend(q, k, v, pattern=pattern, implementation=implementation, text_lengths_B=lengths)


def values_and_cotangents(function, q, k, v, cotangent):
  o, backwards = jax.vjp(function, q, k, v)
  return {"o": o} | dict(zip("qkv", backwards(cotangent)))


def errors(got, expected):
  """Largest difference of each tensor over the largest entry of what was expected."""
  return {n: np.abs(np.asarray(got[n]) - np.asarray(b)).max() / np.abs(b).max() for n, b in expected.items()}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_cotangents_are_those_of_dense_masked_attention(kind, order):
  cases = [(softmax, lengths) for softmax in ("joint", "separate") for lengths in (None, LENGTHS)]
  inputs = drawn(small(kind))

  @functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
  def run(function, *inputs):
    return [
      values_and_cotangents(functools.partial(function, pattern=small(kind, order, s), lengths=n), *inputs)
      for s, n in cases
    ]

  expected = run(oracle, *inputs)
  for i in range(len(cases)):  # the four cases are four different things
    for j in range(i):
      assert max(errors(expected[i], expected[j]).values()) > 1e-2
  for name in IMPLEMENTATIONS:
    got = run(functools.partial(ours, implementation=name), *inputs)
    for case, a, b in zip(cases, got, expected):
      assert max(errors(a, b).values()) <= 2e-6, (name, case, errors(a, b))


@pytest.mark.parametrize("kind", KINDS)
def test_the_implementations_and_the_oracle_are_three_programs(kind):
  q, k, v, _ = drawn(small(kind))
  programs = {
    str(jax.make_jaxpr(functools.partial(f, pattern=small(kind)))(q, k, v))
    for f in (oracle, *(functools.partial(ours, implementation=name) for name in IMPLEMENTATIONS))
  }
  assert len(programs) == 3


@pytest.mark.parametrize("kind", ["row", "column", "conv", pytest.param("full", marks=pytest.mark.slow)])
def test_at_the_papers_size_the_sparse_work_gives_the_dense_result(kind):
  pattern = Pattern(text=256, grid=32, kind=kind)
  inputs = drawn(pattern, batch=1, heads=1, head_dim=16)

  @jax.jit
  def dense(mask, *inputs):
    return values_and_cotangents(functools.partial(jax.nn.dot_product_attention, mask=mask), *inputs)

  @jax.jit
  def sparse(*inputs):
    return values_and_cotangents(functools.partial(ours, pattern=pattern, implementation="xla"), *inputs)

  expected = dense(mask_of(pattern), *inputs)
  assert max(errors(expected, dense(mask_of(Pattern(text=256, grid=32, kind="row_only")), *inputs)).values()) > 1e-2
  assert max(errors(sparse(*inputs), expected).values()) <= 2e-6


def test_separate_softmaxes_are_two_averages_added_worked_by_hand():
  # One text key and two image keys, in one dimension: the last image token's scores are ln 1, ln 2, ln 6.
  pattern = Pattern(text=1, grid=2, kind="row_only", softmax="separate")
  q = jnp.ones((1, 5, 1, 1))
  k = jnp.log(jnp.array([1.0, 9.0, 9.0, 2.0, 6.0])).reshape(1, 5, 1, 1)
  v = jnp.array([10.0, 0.0, 0.0, 1.0, 5.0]).reshape(1, 5, 1, 1)
  for name in IMPLEMENTATIONS:
    assert ours(q, k, v, pattern=pattern, implementation=name)[0, 4, 0, 0] == pytest.approx(
      10 + (2 * 1 + 6 * 5) / 8, rel=1e-6
    )
  weights = attention_weights(q, k, pattern)
  np.testing.assert_allclose(weights[0, 0, 4], [1, 0, 0, 2 / 8, 6 / 8], rtol=1e-6)
  joint = attention_weights(q, k, Pattern(text=1, grid=2, kind="row_only"))
  np.testing.assert_allclose(joint[0, 0, 4], [1 / 9, 0, 0, 2 / 9, 6 / 9], rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("softmax", ["joint", "separate"])
def test_a_position_that_sees_nothing_gets_zeros_and_no_gradient(softmax, implementation):
  pattern = small("row", softmax=softmax)
  q, k, v, cotangent = drawn(pattern)
  run = functools.partial(ours, pattern=pattern, implementation=implementation, lengths=(0, 2, 4))
  got = jax.device_get(jax.jit(functools.partial(values_and_cotangents, run))(q, k, v, cotangent))
  assert (got["o"][0, :TEXT] == 0).all()
  assert (got["o"][0, TEXT:] != 0).all()
  assert (got["o"][1:] != 0).all()
  assert all(np.isfinite(x).all() for x in got.values())
  assert (got["q"][0, :TEXT] == 0).all()
  assert (got["v"][0, :TEXT] == 0).all()


def jacobians(pattern, implementation):
  """|d o_i / d v_j| and |d o_i / d k_j| for every pair of positions, summed over the head's dimensions."""
  q, k, v, _ = drawn(pattern, batch=1, heads=1, head_dim=2, seed=1)

  def output(k, v):
    return ours(q, k, v, pattern=pattern, implementation=implementation)[0, :, 0]

  by_k, by_v = jax.device_get(jax.jit(jax.jacobian(output, argnums=(0, 1)), compiler_options=QUICK)(k, v))
  return tuple(np.abs(x[:, :, 0, :, 0]).sum((1, 3)) for x in (by_v, by_k))


def assert_each_position_takes_from_those_it_sees_and_no_other(pattern, mask, implementation):
  by_v, by_k = jacobians(pattern, implementation)
  np.testing.assert_array_equal(by_v != 0, mask)
  assert (by_k[~mask] == 0).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_position_takes_from_those_it_sees_and_no_other(kind, order, implementation):
  pattern = small(kind, order)
  assert 0 < pattern.mask().sum() < pattern.length**2
  assert_each_position_takes_from_those_it_sees_and_no_other(pattern, pattern.mask(), implementation)


def leaky(function, at):
  """The function with its mask's every row one key wider."""

  def widened(*args):
    args = list(args)
    if args[at] is not None:
      args[at] = args[at] | jnp.roll(args[at], 1, axis=-1)
    return function(*args)

  return widened


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_leaky_mask_is_noticed(monkeypatch, kind, implementation):
  pattern = small(kind)
  mask = pattern.mask()
  if implementation == "reference":
    monkeypatch.setattr(reference, "masked_softmax", leaky(reference.masked_softmax, 1))
  else:
    monkeypatch.setattr(xla, "_scores", leaky(xla._scores, 2))
  with pytest.raises(AssertionError):
    assert_each_position_takes_from_those_it_sees_and_no_other(pattern, mask, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["full", "row", "column", "conv"])
def test_every_product_of_float32_is_asked_for_at_the_highest_precision(kind, implementation):
  run = functools.partial(ours, pattern=small(kind), implementation=implementation)
  products = {}
  for dtype in ("float32", "bfloat16"):
    inputs = drawn(small(kind), dtype=dtype)
    text = jax.jit(functools.partial(values_and_cotangents, run)).lower(*inputs).as_text()
    products[dtype] = re.findall(r"stablehlo\.dot_general.*", text)
  assert len(products["float32"]) >= 6  # two forward, four backward
  assert all("precision = [HIGHEST, HIGHEST]" in line for line in products["float32"])
  if implementation == "xla":  # the definition computes in float32 whatever it is given
    assert not any("HIGHEST" in line for line in products["bfloat16"])


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_comes_back_as_bfloat16_near_the_float32_result(kind):
  pattern = small(kind)
  inputs = drawn(pattern, dtype=jnp.bfloat16)[:3]
  exact = jax.jit(functools.partial(oracle, pattern=pattern), compiler_options=QUICK)
  expected = exact(*(x.astype(jnp.float32) for x in inputs))
  for name in IMPLEMENTATIONS:
    run = functools.partial(ours, pattern=pattern, implementation=name)
    got = jax.jit(run, compiler_options=QUICK)(*inputs)
    assert got.dtype == jnp.bfloat16
    assert 0 < errors({"o": np.asarray(got, np.float32)}, {"o": expected})["o"] < 2e-2


@pytest.mark.parametrize("name", ["reference", "xla", "pallas_tpu", "pallas_gpu", "auto"])
def test_no_examples_and_no_heads_give_none(name):
  for shape in ((0, small("row").length, 2, 64), (2, small("row").length, 0, 64)):
    x = jnp.zeros(shape, jnp.bfloat16)
    found = attend(x, x, x, pattern=small("row"), implementation=name)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)


def flops(function, *extra):
  shape = jax.ShapeDtypeStruct((1, 1280, 2, 64), jnp.float32)
  return jax.jit(function).lower(shape, shape, shape, *extra).compile().cost_analysis()["flops"]


def gradient(function):
  return jax.grad(lambda *inputs: function(*inputs).sum(), argnums=(0, 1, 2))


@pytest.fixture(scope="module")
def dense_flops():
  """Of dense masked attention at the paper's size: forward, backward."""

  def dense(q, k, v, mask):
    return jax.nn.dot_product_attention(q, k, v, mask=mask)

  mask = jax.ShapeDtypeStruct((1, 1, 1280, 1280), bool)
  forward, backward = flops(dense, mask), flops(gradient(lambda q, k, v: dense(q, k, v, jnp.ones(mask.shape, bool))))
  products = 2 * 2 * 2 * 64 * 1280**2  # two products over every pair, two heads
  assert forward > products
  assert backward > 2 * products
  return forward, backward


@pytest.mark.parametrize(("kind", "share"), [("row", 0.26), ("column", 0.24), ("conv", 0.37), ("full", 0.62)])
def test_the_work_of_sparse_patterns_is_a_small_part_of_the_dense_work(dense_flops, kind, share):
  sparse = functools.partial(ours, pattern=Pattern(text=256, grid=32, kind=kind), implementation="xla")
  assert flops(sparse) < share * dense_flops[0]
  if kind in ("row", "column"):
    assert flops(gradient(sparse)) < 1.15 * share * dense_flops[1]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"interpret": True}, "attention 'auto' is 'reference', no kernel, and can't be interpreted"),
    ({"implementation": "xlaa"}, "no attention implementation 'xlaa': choose one of auto, reference, xla, splash"),
    ({"interpret": True, "implementation": "xla"}, "attention is 'xla', no kernel, and can't be"),
    ({"length": 28}, r"all must be \[batch, 29, heads, head_dim\] for 4 text and 5x5 image positions"),
  ],
)
def test_what_cannot_run_is_refused_in_one_line(change, message):
  q, k, v, _ = drawn(small("row"))
  if length := change.pop("length", None):
    q, k, v = (x[:, :length] for x in (q, k, v))
  with pytest.raises(UserError, match=message) as caught:
    attend(q, k, v, pattern=small("row"), **change)
  assert "\n" not in str(caught.value)


def test_numbers_that_attention_is_not_for_are_refused():
  q, k, v, _ = drawn(small("row"))
  with pytest.raises(UserError, match="attention takes float32, bfloat16, float16, got float8_e4m3fn: cast q, k and v"):
    attend(q, k, v.astype(jnp.float8_e4m3fn), pattern=small("row"))


def test_an_empty_batch_is_checked_like_another():
  q, k, v, _ = drawn(small("row"))
  assert attend(q[:0], k[:0], v[:0], pattern=small("row")).shape == q[:0].shape
  with pytest.raises(UserError, match="no attention implementation 'nonsense'"):
    attend(q[:0], k[:0], v[:0], pattern=small("row"), implementation="nonsense")


def test_auto_chooses_by_the_streams_length_and_logs_it_once(caplog):
  short, long = small("row"), Pattern(text=16, grid=12, kind="row")
  choose.cache_clear()
  with caplog.at_level(logging.INFO, logger="dalle_jax"):
    for pattern, name in ((short, "reference"), (long, "xla"), (long, "xla")):
      q, k, v, _ = drawn(pattern, batch=1)
      auto, named = (
        str(jax.make_jaxpr(functools.partial(ours, pattern=pattern, implementation=i))(q, k, v)) for i in ("auto", name)
      )
      assert auto == named
  lines = [record.getMessage() for record in caplog.records if record.name == "dalle_jax"]
  assert [line.split(" for ")[0] for line in lines] == [
    "attention: auto is reference on cpu",
    "attention: auto is xla on cpu",
  ]


def test_on_a_tpu_auto_is_our_kernel_where_it_serves():
  row = Pattern(text=256, grid=32, kind="row")
  assert choose(row, "tpu", 64, "bfloat16", "bfloat16", "bfloat16") == "pallas_tpu"
  assert choose(row, "tpu", 64, "bfloat16", "float32", "float32") == "xla"
  assert choose(row, "tpu", 80, "bfloat16", "bfloat16", "bfloat16") == "xla"
  assert choose(Pattern(text=256, grid=32, softmax="separate"), "tpu", 64, *["float32"] * 3) == "xla"
  assert choose(row, "gpu", 64, *["bfloat16"] * 3) == "xla"


def test_on_a_hopper_gpu_auto_is_our_kernel_where_it_serves(monkeypatch):
  row, full = (Pattern(text=256, grid=32, kind=kind) for kind in ("row", "full"))
  half = ["bfloat16"] * 3
  assert choose(row, "hopper", 64, *half) == "pallas_gpu"
  assert choose(row, "hopper", 64, *["float32"] * 3) == "xla"
  assert choose(row, "hopper", 64, *half, lengths=True) == choose(full, "hopper", 64, *half) == "pallas_gpu"
  assert choose(full, "hopper", 64, *half, lengths=True) == "xla"
  assert choose(Pattern(text=32, grid=8, kind="row"), "hopper", 64, *half) == "reference"

  class Hopper:
    platform, compute_capability = "gpu", "9.0"

  x = jax.ShapeDtypeStruct((2, row.length, 2, 64), jnp.bfloat16)
  program = lambda: jax.jit(lambda x: attend(x, x, x, pattern=row)).trace(x).lower(lowering_platforms=("cuda",))  # noqa: E731
  assert "sparse_attention_row_forward" not in program().as_text()
  monkeypatch.setattr(sharding, "device", Hopper)
  assert "sparse_attention_row_forward" in program().as_text()


def test_naming_an_implementation_logs_nothing(caplog):
  choose.cache_clear()
  q, k, v, _ = drawn(small("row"))
  with caplog.at_level(logging.INFO, logger="dalle_jax"):
    jax.eval_shape(functools.partial(ours, pattern=small("row"), implementation="xla"), q, k, v)
  assert not [record for record in caplog.records if record.name == "dalle_jax"]
