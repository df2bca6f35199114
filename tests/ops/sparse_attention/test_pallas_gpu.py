"""The GPU kernels, their bodies interpreted here, against jax's own attention under the mask.

Interpreting compiles every warpgroup of every program anew, some seconds each: streams here are a program or two.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend, pallas_gpu, tiles
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import Workers
from dalle_jax.ops.sparse_attention.patterns import KINDS

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
ALL = Workers(4, 4)  # streams of four blocks are one program then
interpreted = functools.partial(pallas_gpu.attend, interpret=True, workers=ALL)


def drawn(pattern, batch=1, heads=1, head_dim=64, dtype=jnp.bfloat16):
  """Queries, keys, values and the output's cotangent; scores spread over several nats."""
  rng = np.random.default_rng(0)
  shape = (batch, pattern.length, heads, head_dim)
  return tuple(jnp.asarray(scale * rng.normal(size=shape), dtype) for scale in (2.0, 1.5, 1.0, 1.0))


def oracle(q, k, v, pattern, lengths=None):
  """jax's attention under the dense mask, in which captions end where their lengths say."""
  i = jnp.arange(pattern.length)
  mask = pattern.allowed(i[:, None], i[None, :])[None, None]
  if lengths is not None:
    mask = mask & ((i >= pattern.text)[None] | (i[None] < lengths[:, None]))[:, None, None]
  return jax.nn.dot_product_attention(q, k, v, mask=mask)


def values_and_cotangents(function, q, k, v, cotangent):
  o, backwards = jax.vjp(function, q, k, v)
  return {"o": o} | dict(zip("qkv", backwards(cotangent)))


def errors(got, expected):
  """Of each tensor the norm of the difference over that of what was expected."""
  pairs = {n: (np.asarray(got[n], np.float32), np.asarray(b, np.float32)) for n, b in expected.items()}
  return {n: np.linalg.norm(a - b) / np.linalg.norm(b) for n, (a, b) in pairs.items()}


def assert_as_near_as_dense(pattern, inputs, lengths=None, **how):
  """To float32 of the same inputs, at most twice as far as dense attention of their own dtype."""
  lengths = None if lengths is None else jnp.asarray(lengths)
  dense = functools.partial(oracle, pattern=pattern, lengths=lengths)
  exact = values_and_cotangents(dense, *(x.astype(jnp.float32) for x in inputs))
  ours = functools.partial(interpreted, pattern=pattern, text_lengths_B=lengths, **how)
  got = values_and_cotangents(ours, *inputs)
  assert {x.dtype for x in got.values()} == {inputs[0].dtype}
  theirs, mine = errors(values_and_cotangents(dense, *inputs), exact), errors(got, exact)
  assert all(1e-5 < mine[name] <= 2 * theirs[name] for name in mine), (mine, theirs)
  return got


@pytest.mark.slow
def test_values_and_cotangents_are_as_near_to_float32_as_dense_attention():
  pattern = Pattern(text=4, grid=5, kind="conv", kernel=3)
  inputs = drawn(pattern)
  got = assert_as_near_as_dense(pattern, inputs)
  # Without gradients the forward kernel is another one, which keeps nothing.
  np.testing.assert_array_equal(interpreted(*inputs[:3], pattern), got["o"])


@pytest.mark.slow
def test_where_windows_and_programs_cross():
  # Two blocks of text and four of the image, by programs of four: text and image in one, and a last one half idle.
  pattern = Pattern(text=70, grid=16, kind="conv", kernel=5)
  assert_as_near_as_dense(pattern, drawn(pattern))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "head_dim"), [(jnp.bfloat16, 16), (jnp.float16, 128)])
def test_dtypes_and_head_dimensions(dtype, head_dim):
  pattern = Pattern(text=4, grid=5, kind="row")
  assert_as_near_as_dense(pattern, drawn(pattern, head_dim=head_dim, dtype=dtype))


@pytest.mark.slow
def test_text_lengths_hide_the_text_after_them_and_what_sees_nothing_gets_zeros():
  pattern = Pattern(text=70, grid=3, kind="row")
  inputs, lengths = drawn(pattern, batch=3), (0, 1, 70)
  ours = lambda q, k, v: interpreted(q, k, v, pattern, jnp.array(lengths))  # noqa: E731
  got = {n: np.asarray(x, np.float32) for n, x in values_and_cotangents(ours, *inputs).items()}
  exact = lambda *lengths: values_and_cotangents(  # noqa: E731
    functools.partial(oracle, pattern=pattern, lengths=jnp.array(lengths)), *(x.astype(jnp.float32) for x in inputs)
  )
  # The definition's rows that see nothing are zeros; jax's own are averages of all values.
  first = {n: x[:1] for n, x in got.items()}
  assert all(np.isfinite(x).all() and (x[0, :70] == 0).all() for x in first.values())
  assert all((x[0, 70:] != 0).any() for x in first.values())
  others = {n: x[1:] for n, x in got.items()}
  assert max(errors(others, {n: x[1:] for n, x in exact(0, 1, 70).items()}).values()) <= 2e-2
  changed = {n: x[1:2] for n, x in exact(0, 2, 70).items()}
  assert min(errors({n: x[:1] for n, x in others.items()}, changed).values()) > 5e-2


@pytest.mark.slow
def test_columns_are_read_where_they_are():
  pattern = Pattern(text=128, grid=16, kind="column")
  inputs = drawn(pattern)
  assert_as_near_as_dense(pattern, inputs)
  run = functools.partial(pallas_gpu.attend, pattern=pattern)
  program = jax.jit(run).trace(*inputs[:3]).lower(lowering_platforms=("cuda",)).as_text()
  assert "sparse_attention_column_forward" in program
  assert "stablehlo.transpose" not in program
  other = Pattern(text=128, grid=24, kind="column")
  elsewhere = jax.jit(functools.partial(pallas_gpu.attend, pattern=other)).trace(*drawn(other)[:3])
  assert "stablehlo.transpose" in elsewhere.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.slow
def test_programs_of_few_and_of_many_blocks_give_the_same():
  pattern = Pattern(text=4, grid=8, kind="conv", kernel=3)
  inputs = drawn(pattern)
  runs = [functools.partial(interpreted, pattern=pattern, workers=Workers(*w)) for w in ((2, 4), (4, 3))]
  assert len({str(jax.make_jaxpr(run)(*inputs[:3])) for run in runs}) == 2
  first, *others = (jax.device_get(values_and_cotangents(run, *inputs)) for run in runs)
  for other in others:
    for name, x in first.items():
      np.testing.assert_array_equal(x, other[name])


def one_hot(pattern):
  """Values and cotangents that name their position: o holds what a position takes of each other, and dv the same."""
  heads, spare = -(-pattern.length // 64), -pattern.length % 64
  names = jnp.pad(jnp.eye(pattern.length, dtype=jnp.bfloat16), ((0, 0), (0, spare))).reshape(1, -1, heads, 64)
  q, k, *_ = (jnp.broadcast_to(x, names.shape) for x in drawn(pattern))
  return q, k, names, names


def taken(pattern, got):
  """Of each position (row) what it takes of each other: in the forward pass, and in dv."""
  flat = lambda x: np.asarray(x.astype(jnp.float32)).reshape(pattern.length, -1)[:, : pattern.length]  # noqa: E731
  return flat(got["o"]), flat(got["v"]).T


@pytest.mark.parametrize("kind", ["row", *(slow(kind) for kind in KINDS if kind != "row")])
def test_each_position_takes_from_those_it_sees_and_no_other(kind):
  pattern = Pattern(text=4, grid=5, kind=kind, kernel=3)
  got = assert_as_near_as_dense(pattern, one_hot(pattern))
  for found in taken(pattern, got):
    np.testing.assert_array_equal(found != 0, pattern.mask())


@pytest.mark.slow
def test_a_leaky_mask_is_noticed(monkeypatch):
  pattern = Pattern(text=4, grid=5, kind="row")
  seen = tiles.seen
  monkeypatch.setattr(tiles, "seen", lambda plan, q, k: seen(plan, q, k) | (q == k + 9))
  sys.modules["dalle_jax.ops.sparse_attention.pallas_gpu.spec"].masks.cache_clear()
  try:
    run = functools.partial(interpreted, pattern=pattern)
    for found in taken(pattern, values_and_cotangents(run, *one_hot(pattern))):
      with pytest.raises(AssertionError):
        np.testing.assert_array_equal(found != 0, pattern.mask())
  finally:
    sys.modules["dalle_jax.ops.sparse_attention.pallas_gpu.spec"].masks.cache_clear()


def test_the_program_for_a_gpu_has_each_kernel_once_under_scan_remat_and_vmap():
  # The interpreter's callbacks can't be recomputed or mapped: here the kernels are lowered and not run.
  pattern = Pattern(text=64, grid=8, kind="row")
  x = jax.ShapeDtypeStruct((2, 1, pattern.length, 2, 64), jnp.bfloat16)
  run = functools.partial(attend, pattern=pattern, implementation="pallas_gpu")

  def loss(x):
    layer = jax.checkpoint(lambda x, _: (x + jax.vmap(lambda x: run(x, x, x))(x), None))
    return jax.lax.scan(layer, x, None, length=3)[0].astype(jnp.float32).sum()

  text = jax.jit(jax.grad(loss)).trace(x).lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("custom_call @mosaic_gpu") == 4  # forward, forward again, and two backward: for all layers
  for which in ("forward", "backward_queries", "backward_keys"):
    assert f"sparse_attention_row_{which}" in text


@pytest.mark.gpu
def test_under_scan_remat_and_vmap():
  pattern = Pattern(text=4, grid=5, kind="row")
  q, k, v, g = drawn(pattern, head_dim=16)

  def run(function):
    layer = jax.checkpoint(lambda x: x + function(x, k, v, pattern))
    scanned = lambda x: jax.lax.scan(lambda x, _: (layer(x), None), x, None, length=2)[0]  # noqa: E731
    values, pull = jax.vjp(jax.vmap(scanned), jnp.stack([q, 2 * q]))
    return {"o": values, "q": pull(jnp.stack([g, g]))[0]}

  assert max(errors(run(pallas_gpu.attend), run(oracle)).values()) <= 2e-2


@pytest.mark.parametrize("lengths", [None, (1, 2, 3, 4)])
def test_each_device_of_a_mesh_computes_its_own_heads_and_examples(lengths):
  # The interpreter waits for ever where two devices interpret at once: here the kernels are lowered and not run.
  pattern = Pattern(text=4, grid=5, kind="row")
  inputs = drawn(pattern, batch=4, heads=4)[:3]
  lengths = None if lengths is None else jnp.array(lengths)
  mesh = sharding.make_mesh(sharding.MeshShape(data=2, fsdp=2, model=2))

  def sharded(q, k, v, interpret=False):
    with sharding.in_scope(mesh, sharding.Rules()):
      return pallas_gpu.attend(q, k, v, pattern, lengths, interpret=interpret)

  with pytest.raises(UserError, match="interpreted on one device only: choose xla on this mesh"):
    sharded(*inputs, interpret=True)
  text = jax.jit(sharded).trace(*inputs).lower(lowering_platforms=("cuda",)).as_text()
  assert "manual_computation" in text
  assert "sparse_attention_row_forward" in text
  assert "tensor<1x29x2x64xbf16>" in text  # one of four examples, two of four heads


@pytest.mark.parametrize("kind", ["row", "column", "conv", "full"])
def test_the_kernels_are_in_the_program_for_a_gpu(kind):
  pattern = Pattern(text=256, grid=32, kind=kind)
  shape = jax.ShapeDtypeStruct((2, pattern.length, 3, 64), jnp.bfloat16)
  run = functools.partial(attend, pattern=pattern, implementation="pallas_gpu")
  traced = jax.jit(functools.partial(values_and_cotangents, run)).trace(*[shape] * 4)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  for which in ("forward", "backward_queries", "backward_keys"):
    assert f"sparse_attention_{kind}_{which}" in text
  assert text.count("custom_call @mosaic_gpu") == 3


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"dtype": jnp.float32}, "all bfloat16 or all float16, got float32, float32, float32: cast them, or choose xla"),
    ({"head_dim": 48}, "serves head dimensions 16, 32, 64 and 128, got 48: choose xla"),
    ({"order": "image_first"}, "serves order='text_first' and softmax='joint', got 'image_first' and 'joint'"),
    ({"softmax": "separate"}, "got 'text_first' and 'separate': choose reference or xla"),
    ({"grid": 65}, "serves rows of at most 64 tokens, got 65: choose xla"),
    ({"grid": 64, "kind": "conv_corner", "kernel": 23}, "in 227 KiB of shared memory, and 64x64 does not fit"),
    ({"kind": "full", "lengths": True}, "serves kind='full' without text lengths: choose xla"),
  ],
)
def test_what_the_kernels_do_not_serve_is_refused_in_one_line(change, message):
  sizes = {"text": 4, "grid": 3, "kind": "row"}
  apart = ("head_dim", "dtype", "lengths")
  pattern = Pattern(**sizes | {name: value for name, value in change.items() if name not in apart})
  x = jax.ShapeDtypeStruct((1, pattern.length, 2, change.get("head_dim", 64)), change.get("dtype", jnp.bfloat16))
  lengths = jnp.array([3]) if "lengths" in change else None
  run = functools.partial(attend, pattern=pattern, implementation="pallas_gpu", text_lengths_B=lengths)
  with pytest.raises(UserError, match=message) as caught:
    jax.eval_shape(run, x, x, x)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compiled", [True, False])
def test_on_a_cpu_the_kernels_are_refused_in_one_line(compiled):
  pattern = Pattern(text=4, grid=3, kind="row")
  run = functools.partial(attend, pattern=pattern, implementation="pallas_gpu")
  with pytest.raises(UserError, match="pallas_gpu runs on NVIDIA GPUs: choose xla here, or interpret=True"):
    (jax.jit(run) if compiled else run)(*drawn(pattern)[:3])


def test_on_another_gpu_than_hopper_the_kernels_are_refused_in_one_line(monkeypatch):
  class Ampere:
    platform, compute_capability = "gpu", "8.0"

  monkeypatch.setattr(sharding, "device", Ampere)
  pattern = Pattern(text=4, grid=3, kind="row")
  with pytest.raises(UserError, match=r"runs on Hopper, compute capability 9.0, got a GPU of 8.0: choose xla"):
    attend(*drawn(pattern)[:3], pattern=pattern, implementation="pallas_gpu")


def test_too_few_threads_to_interpret_are_refused_in_one_line(monkeypatch):
  monkeypatch.setenv("NPROC", "1")
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  pattern = Pattern(text=4, grid=3, kind="row")
  with pytest.raises(UserError, match="takes 2 threads at once, and JAX has 1 here: set NPROC=2 before it starts"):
    attend(*drawn(pattern)[:3], pattern=pattern, implementation="pallas_gpu", interpret=True)


ON_A_GPU = [
  *(
    ("row", 4, 5, {"head_dim": head_dim, "dtype": dtype})
    for head_dim in (64, 16, 32, 128)
    for dtype in (jnp.bfloat16, jnp.float16)
  ),
  *((kind, text, grid, {}) for kind in KINDS for text, grid in ((130, 20), (256, 32), (128, 16), (0, 8))),
  ("row", 130, 16, {"lengths": (1, 130)}),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "text", "grid", "more"), ON_A_GPU)
def test_on_a_gpu_values_and_cotangents_are_as_near_to_float32_as_dense_attention(kind, text, grid, more):
  pattern = Pattern(text=text, grid=grid, kind=kind, kernel=5)
  lengths = more.get("lengths")
  how = {name: value for name, value in more.items() if name != "lengths"}
  with jax.default_matmul_precision("highest"):
    assert_as_near_as_dense(pattern, drawn(pattern, batch=2, heads=3, **how), lengths, interpret=False, workers=None)
