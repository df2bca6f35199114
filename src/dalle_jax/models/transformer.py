"""The sparse transformer over text and image tokens (paper 2.2, B.1; Child et al. 2019).

The stream, T text and N = grid^2 image positions:

    input   start-of-text  t1 ... t(T-1)  |  start-of-image  z0 ... z(N-2)
    target  t1             t2 ... tT      |  z0              z1 ... z(N-1)

`Config.order` "image_first" puts the two parts in the other order, each as it is: such a model writes captions of
pictures. Its last input of the image is z(N-2), so what it writes knows nothing of the last code.

Every block is x + attention(norm(x)), then x + mlp(norm(x)). Which image tokens a layer looks at depends on its index
(`Config.kinds`). Drawing calls the same blocks on the text (`prefill`), on rows of what is given of an image
(`prefill_row`), then on one position after the other (`decode_step`); writing a caption does so on the picture
(`read_picture`) and on text positions (`text_step`).

B batch, L = T + N stream, T text, N image, D width, H heads, K head dim, V classes, W grid.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dalle_jax.errors import UserError
from dalle_jax.models import layers
from dalle_jax.ops.sparse_attention import Pattern, attend, decode, decode_text, given_text
from dalle_jax.ops.sparse_attention.kept import ATTENTION
from dalle_jax.sharding import constrain, parts

Place = Int[Array, ""] | decode.Row | None  # of what a block is called on: a position, a row of the grid, or a start

_kept = jax.checkpoint_policies.save_only_these_names(ATTENTION)
_products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
REMAT = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "save_attention": _kept,
  "save_dots": jax.checkpoint_policies.save_from_both_policies(_kept, _products),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The 12-billion-parameter model's sizes.

  text: text positions, the last always a pad; an absent token at position i is id text_vocab + i, a class of its own.
  mix, last: kinds of attention of layers 0, 1, 2, ... in turn, and of the last layer (None: as its turn comes).
  attention: implementation of `sparse_attention.attend`.
  remat: what a block keeps for its gradient: "none" for all of it, "full" for its input alone, "save_attention" for
  what attention gives as well, "save_dots" for the products with its matrices too.
  scan: compile one period of `mix` and loop over it; the last period is always unrolled.
  order: "text_first", or "image_first", where the image is modelled by itself and the text given the image.
  mask_pads: whether nothing looks at absent text tokens (the paper's way is to learn them instead).
  softmax: "joint" over text and image keys, or "separate" over each of the two, to compare with: such a model is
  trained and measured, and neither draws nor writes.
  """

  text_vocab: int = 16384
  text: int = 256
  image_vocab: int = 8192
  grid: int = 32
  layers: int = 64
  heads: int = 62
  head_dim: int = 64
  mix: tuple[str, ...] = ("row", "column", "row", "row")
  last: str | None = "conv"
  kernel: int = 11
  attention: str = "auto"
  remat: str = "none"
  scan: bool = True
  dtype: str = "float32"
  order: str = "text_first"
  mask_pads: bool = False
  softmax: str = "joint"

  def __post_init__(self) -> None:
    for name in ("text_vocab", "text", "image_vocab", "grid", "layers", "heads", "head_dim"):
      if getattr(self, name) < 1:
        raise UserError(f"the transformer's {name} is {getattr(self, name)}: it must be at least 1")
    if not self.mix:
      raise UserError('the transformer\'s mix is empty: name at least one kind of attention, such as ("full",)')
    if self.remat not in REMAT:
      raise UserError(f"the transformer's remat is {self.remat!r}: one of {', '.join(REMAT)} is wanted")
    if self.dtype not in ("float32", "bfloat16"):
      raise UserError(f'the transformer\'s dtype is {self.dtype!r}: "float32" or "bfloat16" is wanted')
    for kind in set(self.kinds()):
      self.pattern(kind)
    if self.mask_pads and self.order != "text_first":
      raise UserError("mask_pads is for a transformer whose text comes first: set one of it and order back")

  @property
  def dim(self) -> int:
    """Width of the residual stream."""
    return self.heads * self.head_dim

  @property
  def text_classes(self) -> int:
    """Text tokens and one pad a position."""
    return self.text_vocab + self.text

  @property
  def scanned(self) -> int:
    """Periods of `mix` that are looped over."""
    return (self.layers - 1) // len(self.mix) if self.scan else 0

  def kinds(self) -> tuple[str, ...]:
    """The kind of attention of every layer (paper B.1)."""
    kinds = [self.mix[i % len(self.mix)] for i in range(self.layers)]
    return (*kinds[:-1], self.last or kinds[-1])

  def pattern(self, kind: str) -> Pattern:
    """Who looks at whom in a layer of that kind."""
    sizes = {"text": self.text, "grid": self.grid, "kernel": self.kernel}
    return Pattern(**sizes, kind=kind, order=self.order, softmax=self.softmax)


class Logits(NamedTuple):
  """Float32 scores of the next token: text ones at text positions, image ones at image positions."""

  text_BTV: Float[Array, "B T V"]
  image_BNV: Float[Array, "B N W"]


class Caches(NamedTuple):
  """Keys and values: for each layer of a period, those of all scanned periods stacked; then the other layers'."""

  periods: tuple[PyTree, ...]
  tail: tuple[PyTree, ...]


class Layout(NamedTuple):
  """Logical axes: of the residual stream's rows and width, and of the rows in attention.

  In training the weights come to the rows. In drawing they stay, and what there is of the rows goes round: to the
  weights, and back to where its caches lie.
  """

  rows: str | None
  embed: str | None
  attention: str | None


class Block(nn.Module):
  """Attention and MLP, each a branch of the residual stream that starts with a norm."""

  cfg: Config
  kind: str

  def setup(self) -> None:
    c = self.cfg
    d, std = c.dim, 0.125 / math.sqrt(c.dim)
    shrink = layers.residual_std(c.layers)
    self.norm_1 = layers.Norm(c.dtype)
    self.qkv = layers.Qkv(c.heads, c.head_dim, std, c.dtype)
    self.out = layers.Linear((d, d), ("heads", "embed"), std * shrink, c.dtype)
    self.norm_2 = layers.Norm(c.dtype)
    self.mlp = layers.Mlp(d, std, std / 2 * shrink, c.dtype)

  def __call__(
    self, x_BLD: Float[Array, "B L D"], cache: PyTree | None = None, j: Place = None, length_B: Array | None = None
  ) -> tuple[Float[Array, "B L D"], PyTree | None]:
    """The whole stream without a cache; with one its start, or the row or position j alone of what is drawn.

    With the text alone as the cache it is the whole image after it. length_B: of the text's keys, where it is read.
    """
    lay = _layout(x_BLD, cache)
    o_BLHK, cache = self._attend(*self.qkv(self.norm_1(x_BLD), lay.attention), cache, j, length_B)
    x_BLD = constrain(x_BLD + self.out(layers.join_heads(o_BLHK)), lay.rows, "seq", lay.embed)
    return constrain(x_BLD + self.mlp(self.norm_2(x_BLD), lay.rows), lay.rows, "seq", lay.embed), cache

  def _attend(
    self, q: Array, k: Array, v: Array, cache: PyTree | None, j: Place, length_B: Array | None
  ) -> tuple[Array, PyTree | None]:
    pattern = self.cfg.pattern(self.kind)
    if cache is not None and pattern.softmax != "joint":
      raise UserError("a transformer of separate softmaxes is trained and measured only: caches serve the joint one")
    if isinstance(cache, given_text.Text):
      return given_text.attend_image(q, k, v, cache, pattern, self.cfg.attention), None
    if cache is None:
      how = {"implementation": self.cfg.attention, "text_lengths_B": length_B}
      return attend(q, k, v, pattern=pattern, **how), None
    writes = isinstance(cache, decode_text.Cache)
    if j is None:
      filled = decode_text.prefill(cache, k, v, pattern) if writes else decode.prefill(cache, k, v, pattern, length_B)
      return decode.attend_prefix(q, k, v, pattern, length_B), _split(filled)
    if isinstance(j, decode.Row):
      o_BLHK, cache = decode.read_row(q, k, v, cache, j, pattern)
      return o_BLHK, _split(cache)
    one = (q[:, 0], k[:, 0], v[:, 0], cache, j, pattern)
    o_BHK, cache = decode_text.decode_step(*one) if writes else decode.decode_step(*one, self.cfg.attention)
    return o_BHK[:, None], _split(cache)


class Period(nn.Module):
  """The blocks of one period of `mix`: what `nn.scan` loops over."""

  cfg: Config

  @nn.compact
  def __call__(
    self, x_BLD: Float[Array, "B L D"], caches: tuple[PyTree, ...] | None, j: Place, length_B: Array | None
  ) -> tuple[Float[Array, "B L D"], tuple[PyTree, ...]]:
    block = _block_class(self.cfg)
    done = []
    for i, kind in enumerate(self.cfg.mix):
      x_BLD, cache = block(self.cfg, kind, name=f"block_{i}")(x_BLD, caches[i] if caches else None, j, length_B)
      done.append(cache)
    return x_BLD, tuple(done)


class Transformer(nn.Module):
  """Embeddings, blocks and heads."""

  cfg: Config

  def setup(self) -> None:
    c = self.cfg
    d, token, position = c.dim, 0.125 / math.sqrt(c.dim), 0.125 / math.sqrt(c.dim)
    table = lambda rows, std, axis: layers.Embedding(rows, d, std, (axis, "embed"), c.dtype)  # noqa: E731
    self.text_token = table(c.text_classes, token, "vocab")
    self.image_token = table(c.image_vocab, token, "vocab")
    self.start = table(2, token, None)
    self.text_position = table(c.text, position, "position")
    self.row = table(c.grid, position / math.sqrt(2), "position")
    self.column = table(c.grid, position / math.sqrt(2), "position")
    if c.scanned:
      scan = nn.scan(
        Period,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast),
        length=c.scanned,
        metadata_params={nn.PARTITION_NAME: "layers"},
      )
      self.periods = scan(c)
    first = c.scanned * len(c.mix)
    block = _block_class(c)
    self.tail = [block(c, kind, name=f"block_{first + i}") for i, kind in enumerate(c.kinds()[first:])]
    self.norm = layers.Norm("float32")  # from here on float32 whatever the compute dtype is (paper 3.7)
    self.text_head = layers.Linear((d, c.text_classes), ("embed", "vocab"), 0.0, "float32", bias=False)
    self.image_head = layers.Linear((d, c.image_vocab), ("embed", "vocab"), 0.0, "float32", bias=False)

  def __call__(self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]) -> Logits:
    """Scores of every token of the stream given those before it."""
    text_BTD, image_BND = self.features(text_BT, codes_BN)
    return Logits(_scores(self.text_head, text_BTD), _scores(self.image_head, image_BND))

  def features(
    self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]
  ) -> tuple[Float[Array, "B T D"], Float[Array, "B N D"]]:
    """What the two heads read, float32; their kernels are ["text_head" | "image_head"]["kernel"] of the parameters."""
    stream_BLD = self.embed(text_BT, codes_BN)
    return self.read(self._blocks(stream_BLD, None, None, self._lengths(text_BT))[0])

  def embed(self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]) -> Float[Array, "B L D"]:
    """The stream before the first block."""
    parts = [self._embed_text(text_BT), self._embed_image(codes_BN)]
    return jnp.concatenate(parts[::-1] if self.cfg.order == "image_first" else parts, axis=1)

  def read(self, x_BLD: Float[Array, "B L D"]) -> tuple[Float[Array, "B T D"], Float[Array, "B N D"]]:
    """What the two heads read of the stream after the last block."""
    if self.cfg.order == "image_first":
      n = self.cfg.grid**2
      return self.norm(x_BLD[:, n:]), self.norm(x_BLD[:, :n])
    t = self.cfg.text
    return self.norm(x_BLD[:, :t]), self.norm(x_BLD[:, t:])

  def prefill(self, text_BT: Int[Array, "B T"], caches: Caches) -> Caches:
    """Fills the caches with the text. Drawing then goes on with `decode_step(..., caches, 0)`, or by what is given."""
    return self._blocks(self._embed_text(text_BT), caches, None, self._lengths(text_BT))[1]

  def prefill_row(self, codes_BN: Int[Array, "B N"], caches: Caches, row: decode.Row) -> Caches:
    """Fills the caches with a row of an image's given codes, after the rows before it.

    Codes that are not given may have any value. After all rows with a code that is given, drawing goes on with
    `decode_step(z(given - 1), caches, given)`.
    """
    w = self.cfg.grid
    first = row.row * w
    before_BN = jnp.pad(codes_BN[:, :-1], ((0, 0), (1, 0)))
    before_BW = jax.lax.dynamic_slice_in_dim(before_BN, first, w, axis=1)
    is_start_1W1 = (first + jnp.arange(w) == 0)[None, :, None]
    x_BWD = jnp.where(is_start_1W1, self.start.table()[1][None, None], self.image_token(before_BW))
    x_BWD += (self.row.table()[row.row][None] + self.column.table())[None]
    return self._blocks(x_BWD, caches, row)[1]

  def image_features(self, codes_BN: Int[Array, "B N"], texts: Caches) -> Float[Array, "B N D"]:
    """What the image head reads of pictures, as `features` has it, after captions that were read: `texts_of`.

    B is a multiple of the captions' number: the first of them is that of the first rows.
    """
    return self.norm(self._blocks(self._embed_image(codes_BN), texts, None)[0])

  def decode_step(
    self, code_B: Int[Array, " B"], caches: Caches, j: Int[Array, ""]
  ) -> tuple[Float[Array, "B V"], Caches]:
    """Scores of z_j given z_(j-1), which is not read where j is 0."""
    before_BD = jnp.where(j == 0, self.start.table()[1][None], self.image_token(code_B))
    grid = self.cfg.grid
    x_BD = before_BD + (self.row.table()[j // grid] + self.column.table()[j % grid])[None]
    x_BLD, caches = self._blocks(x_BD[:, None], caches, j)
    logits_BLV = constrain(self.image_head(self.norm(x_BLD)), "rows", "seq", "vocab")
    return constrain(logits_BLV[:, 0], "batch", None), caches

  def read_picture(self, codes_CN: Int[Array, "C N"], caches: Caches) -> Caches:
    """Image first: fills the caches with pictures, for captions that then begin with `text_step(..., caches, 0)`."""
    return self._blocks(self._embed_image(codes_CN), caches, None)[1]

  def text_step(
    self, token_B: Int[Array, " B"], caches: Caches, i: Int[Array, ""]
  ) -> tuple[Float[Array, "B V"], Caches]:
    """Image first: scores of t_(i+1) given t_i, which is not read where i is 0."""
    before_BD = jnp.where(i == 0, self.start.table()[0][None], self.text_token(token_B))
    x_BD = before_BD + self.text_position.table()[i][None]
    x_BLD, caches = self._blocks(x_BD[:, None], caches, i)
    logits_BLV = constrain(self.text_head(self.norm(x_BLD)), "rows", "seq", "vocab")
    return constrain(logits_BLV[:, 0], "batch", None), caches

  def _lengths(self, text_BT: Int[Array, "B T"]) -> Int[Array, " B"] | None:
    """The start and the tokens there are of what the text positions hold, where nothing looks at the others."""
    return 1 + jnp.sum(text_BT[:, :-1] < self.cfg.text_vocab, axis=1) if self.cfg.mask_pads else None

  def _embed_text(self, text_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return self._shift(0, self.text_token(text_BT[:, :-1])) + self.text_position.table()[None]

  def _embed_image(self, codes_BN: Int[Array, "B N"]) -> Float[Array, "B N D"]:
    position_WWD = self.row.table()[:, None] + self.column.table()[None]
    position_ND = position_WWD.reshape(-1, self.cfg.dim)
    return self._shift(1, self.image_token(codes_BN[:, :-1])) + position_ND[None]

  def _shift(self, start: int, x_BSD: Float[Array, "B S D"]) -> Float[Array, "B L D"]:
    """Puts the start-of-text (0) or start-of-image (1) vector before the others."""
    start_BSD = jnp.broadcast_to(self.start.table()[start], (x_BSD.shape[0], 1, x_BSD.shape[2]))
    return jnp.concatenate([start_BSD, x_BSD], axis=1)

  def _blocks(
    self, x_BLD: Float[Array, "B L D"], caches: Caches | None, j: Place, length_B: Array | None = None
  ) -> tuple[Float[Array, "B L D"], Caches]:
    lay = _layout(x_BLD, caches)
    x_BLD = constrain(x_BLD, lay.rows, "seq", lay.embed)
    periods: Any = ()
    if self.cfg.scanned:
      x_BLD, periods = self.periods(x_BLD, caches.periods if caches else None, j, length_B)
    tail = []
    for i, block in enumerate(self.tail):
      x_BLD, cache = block(x_BLD, caches.tail[i] if caches else None, j, length_B)
      tail.append(cache)
    return x_BLD, Caches(periods, tuple(tail))


def _scores(head: layers.Linear, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
  return constrain(head(x_BLD), "batch", "seq", "vocab")


def init_caches(cfg: Config, batch: int) -> Caches:
  """Empty caches for `batch` pictures. Raises UserError for a model that is image-first."""
  dtype = jnp.dtype(cfg.dtype)
  return _of_layers(cfg, lambda kind: decode.init_cache(cfg.pattern(kind), batch, cfg.heads, cfg.head_dim, dtype))


def init_text_caches(cfg: Config, pictures: int, samples: int) -> Caches:
  """Empty caches for so many captions of each picture. Raises UserError for a model that is text-first."""
  size = (pictures, samples, cfg.heads, cfg.head_dim, jnp.dtype(cfg.dtype))
  return _of_layers(cfg, lambda kind: decode_text.init_cache(cfg.pattern(kind), *size))


def _of_layers(cfg: Config, cache: Callable[[str], PyTree]) -> Caches:
  stacked = lambda x: jnp.broadcast_to(x, (cfg.scanned, *x.shape))  # noqa: E731
  periods = tuple(jax.tree.map(stacked, cache(kind)) for kind in cfg.mix) if cfg.scanned else ()
  return Caches(periods, tuple(cache(kind) for kind in cfg.kinds()[cfg.scanned * len(cfg.mix) :]))


def texts_of(caches: Caches) -> Caches:
  """Of what `prefill` made of captions their keys and values alone."""
  return jax.tree.map(given_text.text_of, caches, is_leaf=lambda x: isinstance(x, decode.Cache))


def repeat(caches: Caches, samples: int) -> Caches:
  """What `prefill` made of captions, for so many samples of each, which follow one another."""
  stacked = jax.vmap(lambda cache: decode.repeat(cache, samples))
  tail = tuple(_split(decode.repeat(cache, samples)) for cache in caches.tail)
  return Caches(tuple(stacked(cache) for cache in caches.periods), tail)


def in_compute_dtype(params: PyTree, cfg: Config) -> PyTree:
  """The weights in the dtype that they are used in: the same numbers from less memory, where nothing trains them."""
  exact = {"norm_1", "norm_2", "norm", "text_head", "image_head"}  # used in float32 always

  def cast(path: tuple[Any, ...], x: Array) -> Array:
    return x if exact & {getattr(key, "key", None) for key in path} else x.astype(cfg.dtype)

  return jax.tree_util.tree_map_with_path(cast, params)


def unroll(params: PyTree, cfg: Config) -> tuple[PyTree, Config]:
  """The same model with every block by itself: what draws fastest, because no loop copies the caches."""
  params = dict(params)
  periods = params.pop("periods", {})
  for name, block in periods.items():
    for p in range(cfg.scanned):
      index = p * len(cfg.mix) + int(name.removeprefix("block_"))
      params[f"block_{index}"] = jax.tree.map(lambda x, p=p: x[p], block)
  return params, dataclasses.replace(cfg, scan=False)


def _layout(x_BLD: Array, caches: PyTree | None) -> Layout:
  first = caches.tail[0] if isinstance(caches, Caches) else caches
  if first is None or isinstance(first, given_text.Text):
    return Layout("batch", None, "batch")
  return Layout(_if_enough("rows", x_BLD), "embed", _if_enough("batch", x_BLD))


def _if_enough(name: str, x: Array) -> str | None:
  """The logical axis, unless there are too few captions to be split along it: those are whole on each device."""
  return name if x.shape[0] % parts(name) == 0 else None


def _split(cache: PyTree) -> PyTree:
  """The cache, split along heads, samples, and captions where there are enough of them, as a batch is."""
  split = lambda x: constrain(x, _if_enough("batch", x), "heads", None, None) if x.ndim == 4 else x  # noqa: E731
  return jax.tree.map(split, cache)


def _block_class(cfg: Config) -> type[Block]:
  return nn.remat(Block, prevent_cse=not cfg.scan, policy=REMAT[cfg.remat]) if cfg.remat != "none" else Block
