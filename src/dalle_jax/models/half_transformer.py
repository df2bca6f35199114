"""The transformer with the branches of its blocks in few bits, each between two scalings of its gradient (paper 2.4).

    x + leave(round(f(round(norm(enter(x))))))      f: attention or the MLP, each product rounded forward and backward

The residual stream, norms, biases and all outside the blocks are float32, and so are their gradients; so are scores
and softmax of attention, as a kernel keeps them. The parameters are those of `transformer`.

B batch, L stream, D width, S branches: of each layer attention's, then the MLP's.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from dalle_jax.models import half, layers, transformer
from dalle_jax.models.half import Gauge
from dalle_jax.ops.sparse_attention import attend
from dalle_jax.sharding import constrain

FLOAT32 = "float32"
Round = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Low:
  """How branches are computed: in which format, and whether gradients are filtered of what is not finite."""

  form: half.Format
  filters: bool


def blocks(
  params: PyTree, cfg: transformer.Config, low: Low, gauges: Gauge, x_BLD: Float[Array, "B L D"]
) -> Float[Array, "B L D"]:
  """The stream after the last block. gauges: [S], one a branch."""
  period, mix = len(cfg.mix), cfg.mix
  looped = cfg.scanned * period

  def layer(x_BLD: Array, kind: str, own: PyTree, gauges: Gauge) -> Array:
    first, second = (jax.tree.map(lambda g, i=i: g[i], gauges) for i in (0, 1))
    x_BLD = _branch(lambda p, x, r: _attention(cfg, kind, p, x, r), own, ("norm_1", "qkv", "out"), x_BLD, first, low)
    return _branch(lambda p, x, r: _mlp(cfg, p, x, r), own, ("norm_2", "mlp"), x_BLD, second, low)

  def one_period(x_BLD: Array, own: tuple[PyTree, Gauge]) -> tuple[Array, None]:
    params, gauges = own
    for i, kind in enumerate(mix):
      x_BLD = layer(x_BLD, kind, params[f"block_{i}"], jax.tree.map(lambda g, i=i: g[i], gauges))
    return x_BLD, None

  def kept(fn: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    return fn if cfg.remat == "none" else jax.checkpoint(fn, policy=transformer.REMAT[cfg.remat], **how)

  of_layers = jax.tree.map(lambda g: g.reshape(cfg.layers, 2, *g.shape[1:]), gauges)
  if cfg.scanned:
    of_periods = jax.tree.map(lambda g: g[:looped].reshape(cfg.scanned, period, *g.shape[1:]), of_layers)
    x_BLD, _ = jax.lax.scan(kept(one_period, prevent_cse=False), x_BLD, (params["periods"], of_periods))
  for i, kind in enumerate(cfg.kinds()[looped:], looped):
    own = jax.tree.map(lambda g, i=i: g[i], of_layers)
    x_BLD = kept(layer, static_argnums=1)(x_BLD, kind, params[f"block_{i}"], own)
  return x_BLD


def _branch(
  fn: Callable[[PyTree, Array, Round], Array],
  params: PyTree,
  names: tuple[str, ...],
  x_BLD: Array,
  gauge: Gauge,
  low: Low,
) -> Array:
  """x and the branch: fn of the parameters of these names, x, and what rounds."""
  own = jax.tree.map(lambda w: half.enter(w, gauge, False), {name: params[name] for name in names})
  r = lambda x: half.rounded(x, gauge, low.form)  # noqa: E731
  y_BLD = r(fn(own, half.enter(x_BLD, gauge, low.filters), r))
  return constrain(x_BLD + half.leave(y_BLD, gauge, low.filters), "batch", "seq", None)


def _attention(cfg: transformer.Config, kind: str, params: PyTree, x_BLD: Array, r: Round) -> Array:
  h_BLD = r(_norm(params["norm_1"], x_BLD))
  qkv = layers.Qkv(cfg.heads, cfg.head_dim, 0.0, FLOAT32).apply({"params": _kernel(params["qkv"], r)}, h_BLD)
  q, k, v = map(r, qkv)
  o_BLHK = r(attend(q, k, v, pattern=cfg.pattern(kind), implementation=cfg.attention))
  return _linear(params["out"], ("heads", "embed"), layers.join_heads(o_BLHK), r)


def _mlp(cfg: transformer.Config, params: PyTree, x_BLD: Array, r: Round) -> Array:
  del cfg
  h_BLD = r(_norm(params["norm_2"], x_BLD))
  h_BLF = r(_linear(params["mlp"]["up"], ("embed", "mlp"), h_BLD, r))
  h_BLF = constrain(r(layers.quick_gelu(h_BLF)), "batch", "seq", "mlp")
  return _linear(params["mlp"]["down"], ("mlp", "embed"), h_BLF, r)


def _norm(params: PyTree, x_BLD: Array) -> Array:
  return layers.Norm(FLOAT32).apply({"params": params}, x_BLD)


def _linear(params: PyTree, names: tuple[str, str], x: Array, r: Round) -> Array:
  shape = params["kernel"].shape
  return layers.Linear(shape, names, 0.0, FLOAT32).apply({"params": _kernel(params, r)}, x)


def _kernel(params: PyTree, r: Round) -> PyTree:
  """With the kernel rounded; biases are not."""
  return {**params, "kernel": r(params["kernel"])}
