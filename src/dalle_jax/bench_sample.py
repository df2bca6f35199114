"""Times drawing with our caches beside the two ways that are usual: a cache of the whole stream, and none.

    ours        `sampling.generate`: of each layer the keys that its pattern can still see, the caption's once for all
    dense       every layer keeps keys and values of the whole stream for every sample, and looks at all of them, masked
    recompute   the whole stream anew for every token

All three draw the same tokens under the same noise. `dense_cache` is written out here, from the same weights. Where
rows of the pictures are given, ours is timed on the others too.

B samples of one caption, L = T + N stream, T text, N image, D width, H heads, K head dim, V codebook.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dalle_jax import bench, chips
from dalle_jax.errors import UserError
from dalle_jax.models import flops, layers, transformer
from dalle_jax.ops.sparse_attention import Pattern
from dalle_jax.sampling.choose import SamplingConfig, choose, sample_keys

OURS, DENSE, RECOMPUTE, GIVEN = "ours", "dense", "recompute", "given"


@functools.partial(jax.jit, static_argnames=("model", "sampling"))
def dense_cache(
  params: PyTree,
  text_CT: Int[Array, "1 T"],
  key: Key[Array, ""],
  caption_C: Int[Array, " 1"],
  sample_S: Int[Array, " B"],
  *,
  model: transformer.Config,
  sampling: SamplingConfig,
) -> Int[Array, "1 B N"]:
  """What `generate` draws of one caption, with keys and values of the whole stream for every sample."""
  params, model = transformer.unroll(params, model)
  batch, stream = sample_S.shape[0], model.text + model.grid**2
  empty = jnp.zeros((batch, model.heads, stream, model.head_dim), model.dtype)
  text_BT = jnp.repeat(text_CT, batch, axis=0)
  keys_B = sample_keys(key, jnp.repeat(caption_C, batch), sample_S)
  position_TD = _table(params["text_position"], model)
  start_2D = _table(params["start"], model)
  begin_B1D = jnp.broadcast_to(start_2D[0], (batch, 1, model.dim))
  x_BTD = jnp.concatenate([begin_B1D, _table(params["text_token"], model)[text_BT[:, :-1]]], axis=1) + position_TD[None]
  _, caches = _blocks(params, x_BTD, [(empty, empty)] * model.layers, jnp.int32(0), model)
  image_VD, row_GD, column_GD = (_table(params[name], model) for name in ("image_token", "row", "column"))

  def step(carry, j):
    code_B, caches = carry
    before_BD = jnp.where(j == 0, start_2D[1][None], image_VD[code_B])
    x_BD = before_BD + (row_GD[j // model.grid] + column_GD[j % model.grid])[None]
    x_BLD, caches = _blocks(params, x_BD[:, None], caches, model.text + j, model)
    y_BD = layers.Norm("float32").apply({"params": params["norm"]}, x_BLD[:, 0])
    code_B = choose(y_BD @ params["image_head"]["kernel"], keys_B, j, sampling)
    return (code_B, caches), code_B

  _, codes_NB = jax.lax.scan(step, (jnp.zeros(batch, jnp.int32), caches), jnp.arange(model.grid**2))
  return codes_NB.T[None]


def _table(params: PyTree, model: transformer.Config) -> Float[Array, "R D"]:
  return params["embedding"].astype(model.dtype)


def _blocks(
  params: PyTree, x_BPD: Float[Array, "B P D"], caches: list, first: Int[Array, ""], model: transformer.Config
) -> tuple[Float[Array, "B P D"], list]:
  """P positions of the stream from `first` on, and the caches with their keys and values in them."""
  done, std = [], 0.0  # of the weights' start, which is past
  for i, kind in enumerate(model.kinds()):
    block, pattern = params[f"block_{i}"], model.pattern(kind)
    norm = lambda name, x, block=block: layers.Norm(model.dtype).apply({"params": block[name]}, x)  # noqa: E731
    qkv = layers.Qkv(model.heads, model.head_dim, std, model.dtype)
    q, k, v = qkv.apply({"params": block["qkv"]}, norm("norm_1", x_BPD))
    o_BPHK, cache = _attend(q, k, v, caches[i], first, pattern)
    out = layers.Linear((model.dim, model.dim), ("heads", "embed"), std, model.dtype)
    x_BPD = x_BPD + out.apply({"params": block["out"]}, layers.join_heads(o_BPHK))
    mlp = layers.Mlp(model.dim, std, std, model.dtype)
    x_BPD = x_BPD + mlp.apply({"params": block["mlp"]}, norm("norm_2", x_BPD))
    done.append(cache)
  return x_BPD, done


def _attend(
  q_BPHK: Array, k_BPHK: Array, v_BPHK: Array, cache: tuple[Array, Array], first: Int[Array, ""], pattern: Pattern
) -> tuple[Array, tuple[Array, Array]]:
  put = lambda kept, x: jax.lax.dynamic_update_slice_in_dim(kept, x.swapaxes(1, 2), first, axis=2)  # noqa: E731
  k_BHLK, v_BHLK = put(cache[0], k_BPHK), put(cache[1], v_BPHK)
  exact = jax.lax.Precision.HIGHEST if q_BPHK.dtype == jnp.float32 else None
  at_P = first + jnp.arange(q_BPHK.shape[1])
  seen_PL = pattern.allowed(at_P[:, None], jnp.arange(pattern.length)[None, :])
  s_BHPL = jnp.einsum("BPHK,BHLK->BHPL", q_BPHK, k_BHLK, precision=exact).astype(jnp.float32)
  p_BHPL = jax.nn.softmax(jnp.where(seen_PL[None, None], s_BHPL * q_BPHK.shape[-1] ** -0.5, -jnp.inf))
  o_BPHK = jnp.einsum("BHPL,BHLK->BPHK", p_BHPL.astype(v_BHLK.dtype), v_BHLK, precision=exact)
  return o_BPHK, (k_BHLK, v_BHLK)


def sample(
  shape: bench.Shape, *, warmup: int = 1, repeats: int = 5, given_rows: int = 0, beside: int = 1
) -> dict[str, Any]:
  """Seconds a token of the whole batch, samples of one caption, of each side in alternating runs.

  Keys: s_per_token, tokens_per_s, images_per_s and roofline (ours, see `roofline`), SIDE_s_per_token, ratio_SIDE (above
  1: ours is faster), SIDE_cache_bytes, and those of `bench.report`. Recomputing costs every token the same, so one
  token of it is timed. given_rows: of the grid, whose codes are given; the side "given" is ours then, a token of all,
  given or drawn. beside: 0 times ours alone, where the other two's memory is not there. Raises UserError for more rows
  than there are.
  """
  if repeats < 1 or warmup < 1:
    raise UserError(f"got warmup={warmup} and repeats={repeats}, wanted at least 1 of each")
  if not 0 <= given_rows < shape.grid:
    raise UserError(f"got given_rows={given_rows}, wanted 0 (none) to {shape.grid - 1} of the grid's {shape.grid}")
  timers = {OURS: bench.sample_timer(shape)}
  if beside:
    timers |= {DENSE: _dense_timer(shape), RECOMPUTE: _recompute_timer(shape)}
  tokens = {OURS: shape.grid**2, DENSE: shape.grid**2, RECOMPUTE: 1, GIVEN: shape.grid**2}
  if given_rows:
    timers[GIVEN] = bench.sample_timer(shape, given_rows)
  for _ in range(warmup):
    for timer in timers.values():
      timer()
  rounds = [{side: timer() / tokens[side] for side, timer in timers.items()} for _ in range(repeats)]
  seconds = {side: [each[side] for each in rounds] for side in timers}
  median = {side: statistics.median(found) for side, found in seconds.items()}
  images = shape.batch / median[OURS] / shape.grid**2
  result = {"s_per_token": median[OURS], "tokens_per_s": shape.batch / median[OURS], "images_per_s": images}
  chip = chips.of_kind(jax.devices()[0].device_kind)
  result["roofline"] = images / roofline(shape, chip) if chip else None
  for side in timers.keys() - {OURS}:
    result |= {f"{side}_s_per_token": median[side], f"ratio_{side}": median[side] / median[OURS]}
    result[f"{side}_spread_s"] = bench.spread(seconds[side])
  return result | cache_bytes(shape) | bench.report("sample", shape, seconds[OURS])


def cache_bytes(shape: bench.Shape) -> dict[str, int]:
  """Of the caches of a batch of samples of one caption, and of those of the whole stream."""
  model, cache = shape.model(), lambda batch: jax.eval_shape(lambda: transformer.init_caches(shape.model(), batch))
  size = lambda x: x.size * x.dtype.itemsize  # noqa: E731
  caches = jax.eval_shape(functools.partial(transformer.repeat, samples=shape.batch), cache(1))
  dense = 2 * model.layers * shape.batch * (model.text + model.grid**2) * model.dim * jnp.dtype(model.dtype).itemsize
  return {f"{OURS}_cache_bytes": sum(map(size, jax.tree.leaves(caches))), f"{DENSE}_cache_bytes": dense}


def roofline(shape: bench.Shape, chip: chips.Chip) -> float:
  """Images a second where every token took no longer than its products at the chip's peak, or than reading once what it
  needs: the weights in the dtype they are used in, the text's keys and values, and of each sample those it sees.
  """
  model, tokens = shape.model(), shape.grid**2
  params = jax.eval_shape(lambda: transformer.in_compute_dtype(bench.random_weights(shape), model))
  read = {name: x for name, x in params.items() if name.startswith(("block", "periods", "image_head"))}
  weights = [x for x in jax.tree.leaves(read) if x.ndim > 1]
  patterns = [model.pattern(kind) for kind in model.kinds()]
  seen = sum(p.mask()[p.text :, p.text :].sum() for p in patterns) / tokens  # keys of a token, of all layers
  a_key = 2 * model.dim * jnp.dtype(model.dtype).itemsize
  memory = sum(x.size * x.dtype.itemsize for x in weights) + a_key * (shape.batch * seen + model.text * model.layers)
  products = flops.of_drawing(model) / tokens
  return shape.batch / tokens / max(memory / chip.hbm, shape.batch * products / chip.peak)


def _dense_timer(shape: bench.Shape) -> Callable[[], float]:
  params, arguments = _random(shape)
  run = functools.partial(dense_cache, params, *arguments, model=shape.model(), sampling=SamplingConfig())
  return functools.partial(_seconds, run)


def _recompute_timer(shape: bench.Shape) -> Callable[[], float]:
  """One token, the last, by the scores of the whole stream."""
  model = shape.model()
  params, (text_CT, key, caption_C, sample_S) = _random(shape)
  codes_BN = jnp.asarray(bench.random_batch(shape)["codes"])

  @jax.jit
  def token(params, text_CT, codes_BN):
    text_BT = jnp.repeat(text_CT, shape.batch, axis=0)
    net = transformer.Transformer(model)
    _, y_BND = net.apply({"params": params}, text_BT, codes_BN, method="features")
    logits_BV = y_BND[:, -1] @ params["image_head"]["kernel"]
    keys_B = sample_keys(key, jnp.repeat(caption_C, shape.batch), sample_S)
    return choose(logits_BV, keys_B, model.grid**2 - 1, SamplingConfig())

  return functools.partial(_seconds, functools.partial(token, params, text_CT, codes_BN))


def _random(shape: bench.Shape) -> tuple[PyTree, tuple[Array, Array, Array, Array]]:
  params = jax.jit(lambda: transformer.in_compute_dtype(bench.random_weights(shape), shape.model()))()
  text_CT = jnp.asarray(bench.random_batch(shape)["text"][:1])
  return params, (text_CT, jax.random.key(shape.seed), jnp.zeros(1, jnp.int32), jnp.arange(shape.batch))


def _seconds(run: Callable[[], Array]) -> float:
  begin = time.perf_counter()
  run().block_until_ready()
  return time.perf_counter() - begin
