"""The sparse transformer: its layers, sizes and start as published, the token stream, who sees what by gradients."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.ops.sparse_attention import Pattern, decode

TEXT, GRID = 4, 4
IMAGE = GRID**2
KINDS = ("row", "column", "conv", "full")
ORDERS = ("text_first", "image_first")
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


def tiny(**changes):
  sizes = {"text_vocab": 11, "text": TEXT, "image_vocab": 13, "grid": GRID, "heads": 2, "head_dim": 8, "kernel": 3}
  return transformer.Config(**(sizes | {"layers": 1, "mix": ("row",), "last": None} | changes))


@functools.cache
def shapes(cfg):
  return sharding.unbox(jax.eval_shape(TransformerNll(model=cfg).init, jax.random.key(0)))


def drawn(cfg, scale=0.3):
  """Every parameter at random, so that heads, norms and positions all count."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype), shapes(dataclasses.replace(cfg, attention="xla"))
  )


def tokens(cfg, batch=2, seed=0):
  """Captions that end in pads, and codes."""
  rng = np.random.default_rng(seed)
  text = rng.integers(0, cfg.text_vocab, (batch, cfg.text))
  text[:, 2:] = cfg.text_vocab + np.arange(2, cfg.text)
  codes = rng.integers(0, cfg.image_vocab, (batch, cfg.grid**2))
  return jnp.asarray(text, jnp.int32), jnp.asarray(codes, jnp.int32)


def forward(cfg):
  net = transformer.Transformer(cfg)
  return jax.jit(lambda params, *tokens: net.apply({"params": params}, *tokens), compiler_options=QUICK)


def test_the_layers_look_as_published():
  kinds = transformer.Config().kinds()
  assert [kinds.count(kind) for kind in ("row", "column", "conv")] == [47, 16, 1]
  assert kinds[:6] == ("row", "column", "row", "row", "row", "column")
  for i, kind in enumerate(kinds, start=1):
    if i == 64:
      assert kind == "conv"
    else:
      assert kind == ("column" if i % 4 == 2 else "row")


@pytest.mark.parametrize("scan", [True, False])
def test_the_blocks_attend_as_their_layer_s_kind_says(monkeypatch, scan):
  asked = []
  attend = transformer.attend
  monkeypatch.setattr(transformer, "attend", lambda *a, **k: asked.append(k["pattern"].kind) or attend(*a, **k))
  cfg = tiny(layers=7, mix=("row", "column", "row", "row"), last="conv", scan=scan)
  jax.eval_shape(lambda p: transformer.Transformer(cfg).apply({"params": p}, *tokens(cfg)), shapes(cfg))
  # Scanned, the one period stands for all of its kind; its body may be traced more than once.
  assert len(asked) % (7 if not scan else 1) == 0
  assert tuple(asked[-7:]) == ("row", "column", "row", "row", "row", "column", "conv")


@pytest.mark.parametrize(
  ("layers", "heads", "scan"),
  [
    (64, 62, True),
    *(pytest.param(*sizes, True, marks=pytest.mark.slow) for sizes in [(64, 42), (64, 30), (24, 32), (24, 16)]),
    (24, 16, False),
  ],
  ids=["12b", "5b", "2b", "1b", "350m", "350m-unrolled"],
)
def test_outside_embeddings_and_heads_there_are_exactly_12_layers_width_squared_weights(layers, heads, scan):
  cfg = transformer.Config(layers=layers, heads=heads, scan=scan)
  params, d = shapes(cfg), 64 * heads
  assert cfg.dim == d
  ends = {"text_token", "image_token", "start", "text_position", "row", "column", "text_head", "image_head"}
  blocks = {name: tree for name, tree in params.items() if name not in ends}
  kinds = {"kernel": 0, "bias": 0, "scale": 0}
  for path, x in jax.tree_util.tree_leaves_with_path(blocks):
    kinds[path[-1].key] += x.size
  assert kinds["kernel"] == 12 * layers * d**2
  # Biases a layer: q k v 3d, out d, up 4d, down d, two norms 2d; and the last norm.
  assert kinds["bias"] == layers * 11 * d + d
  assert kinds["scale"] == layers * 2 * d + d
  assert {name: tuple(x.shape for x in jax.tree.leaves(params[name])) for name in ends} == {
    "text_token": ((16384 + 256, d),),
    "image_token": ((8192, d),),
    "start": ((2, d),),
    "text_position": ((256, d),),
    "row": ((32, d),),
    "column": ((32, d),),
    "text_head": ((d, 16384 + 256),),
    "image_head": ((d, 8192),),
  }


def test_the_largest_model_has_12_billion_weights():
  total = sum(x.size for x in jax.tree.leaves(shapes(transformer.Config())))
  assert total == pytest.approx(12.09e9 + 0.2e9, rel=0.01)


def test_weights_start_as_sparse_transformers_do():
  cfg = tiny(text_vocab=300, text=60, image_vocab=500, grid=12, layers=5, heads=4, head_dim=16, mix=("row", "column"))
  params = jax.jit(lambda key: sharding.unbox(TransformerNll(model=cfg).init(key)), compiler_options=QUICK)
  params = params(jax.random.key(0))
  d, shrink = cfg.dim, 1 / math.sqrt(2 * cfg.layers)
  wanted = {
    "qkv/kernel": 0.125 / math.sqrt(d),
    "out/kernel": 0.125 / math.sqrt(d) * shrink,
    "up/kernel": 0.125 / math.sqrt(d),
    "down/kernel": 0.125 / math.sqrt(4 * d) * shrink,
    "text_token/embedding": 0.125 / math.sqrt(d),
    "image_token/embedding": 0.125 / math.sqrt(d),
    "start/embedding": 0.125 / math.sqrt(d),
    # Tables that are added up share their variance; the text has one, the image two.
    "text_position/embedding": 0.125 / math.sqrt(d),
    "row/embedding": 0.125 / math.sqrt(2 * d),
    "column/embedding": 0.125 / math.sqrt(2 * d),
    "text_head/kernel": 0.0,
    "image_head/kernel": 0.0,
  }
  met = set()
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = sharding.path_name(path[-2:])
    kind = path[-1].key
    if name in wanted:
      met.add(name)
      assert np.std(x) == pytest.approx(wanted[name], rel=0.01 + 4 / math.sqrt(2 * x.size)), sharding.path_name(path)
    else:
      assert kind in ("bias", "scale")
      assert (x == (kind == "scale")).all(), sharding.path_name(path)
  assert met == set(wanted)
  stacked = params["periods"]["block_0"]["qkv"]["kernel"]
  assert not np.array_equal(stacked[0], stacked[1])  # each layer draws its own


def test_at_the_start_every_token_is_equally_likely():
  cfg = tiny(layers=2)
  params = jax.jit(lambda key: sharding.unbox(TransformerNll(model=cfg).init(key)), compiler_options=QUICK)
  logits = forward(cfg)(params(jax.random.key(0)), *tokens(cfg))
  assert (logits.text_BTV == 0).all()
  assert (logits.image_BNV == 0).all()
  assert logits.text_BTV.shape == (2, TEXT, 11 + TEXT)
  assert logits.image_BNV.shape == (2, IMAGE, 13)


@functools.cache
def loss_and_gradients(cfg):
  """Of parameters, jitted."""
  objective = TransformerNll(model=cfg)
  text, codes = tokens(cfg)
  loss = lambda p: objective.loss(p, {}, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0))[0]  # noqa: E731
  return jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)


def program(cfg):
  return str(loss_and_gradients(cfg).trace(shapes(cfg)).jaxpr)


def assert_alike(got, expected, limit):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
    # The keys' bias shifts all scores of a query alike: its gradient is rounding, next to that of the queries' bias.
    size = max(np.abs(b).max(), 1e-5)
    assert np.abs(a - b).max() <= limit * size, sharding.path_name(path)


@pytest.mark.parametrize("order", ["text_first", pytest.param("image_first", marks=pytest.mark.slow)])
def test_a_loop_over_periods_is_the_blocks_one_by_one(order):
  cfg = tiny(layers=5, mix=("row", "column"), last="conv", scan=True, order=order)
  assert cfg.scanned == 2
  params = drawn(cfg)
  flat, unrolled = transformer.unroll(params, cfg)
  assert not unrolled.scan
  assert sorted(name for name in flat if name.startswith("block")) == [f"block_{i}" for i in range(5)]
  assert jax.tree.map(jnp.shape, flat) == jax.tree.map(jnp.shape, shapes(unrolled))
  assert "scan[" in program(cfg)
  assert "scan[" not in program(unrolled)
  scanned_loss, scanned_gradients = jax.device_get(loss_and_gradients(cfg)(params))
  flat_loss, flat_gradients = jax.device_get(loss_and_gradients(unrolled)(flat))
  assert flat_loss == pytest.approx(scanned_loss, rel=1e-6)
  assert_alike(flat_gradients, transformer.unroll(scanned_gradients, cfg)[0], 1e-5)
  swapped = flat | {"block_0": flat["block_2"], "block_2": flat["block_0"]}  # the order of the blocks matters
  assert loss_and_gradients(unrolled)(swapped)[0] != pytest.approx(scanned_loss, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_recomputing_blocks_changes_no_number(scan):
  plain = tiny(layers=2, last="conv", scan=scan)
  assert plain.scanned == scan
  full = dataclasses.replace(plain, remat="full")
  params = drawn(plain)
  assert "remat" in program(full)
  assert "remat" not in program(plain)
  (loss, gradients), (expected_loss, expected) = (jax.device_get(loss_and_gradients(c)(params)) for c in (full, plain))
  assert loss == pytest.approx(expected_loss, rel=1e-6)
  assert_alike(gradients, expected, 1e-5)


def influence(cfg, params):
  """How much the logits at i depend on the input at j, for all i and j, the input being what the first block gets."""
  net = transformer.Transformer(cfg)
  text, codes = tokens(cfg, batch=1)

  def inputs(module):
    parts = [module._embed_text(text), module._embed_image(codes)]
    return jnp.concatenate(parts if cfg.order == "text_first" else parts[::-1], axis=1)

  def outputs(module, x_BLD):
    x_BLD, _ = module._blocks(x_BLD, None, None)
    return module.image_head(module.norm(x_BLD))

  x_BLD = net.apply({"params": params}, method=inputs)
  # One backward pass a position, as in training, from a random mix of its logits.
  length, mix_V = x_BLD.shape[1], jnp.asarray(np.random.default_rng(2).normal(size=cfg.image_vocab), jnp.float32)

  def rows(x_BLD):
    _, backwards = jax.vjp(lambda x_BLD: net.apply({"params": params}, x_BLD, method=outputs), x_BLD)
    cotangent = lambda i: jnp.zeros((1, length, cfg.image_vocab)).at[0, i].set(mix_V)  # noqa: E731
    return jax.lax.map(lambda i: backwards(cotangent(i))[0][0], jnp.arange(length))

  return np.abs(np.asarray(jax.jit(rows, compiler_options=QUICK)(x_BLD))).sum(-1)


def assert_logits_depend_on_the_inputs_that_the_pattern_shows(cfg, params, mask):
  np.testing.assert_array_equal(influence(cfg, params) != 0, mask)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("attention", [pytest.param("reference", marks=pytest.mark.slow), "xla"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_depend_on_the_inputs_that_the_pattern_shows_and_on_no_other(kind, attention, order):
  cfg = tiny(mix=(kind,), attention=attention, order=order)
  mask = Pattern(text=TEXT, grid=GRID, kind=kind, kernel=3, order=order).mask()
  assert (mask.sum() < np.tri(len(mask)).sum()) == (kind != "full")
  assert_logits_depend_on_the_inputs_that_the_pattern_shows(cfg, drawn(cfg), mask)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_leaky_mask_is_noticed(monkeypatch, kind, order):
  cfg = tiny(mix=(kind,), attention="reference", order=order)
  mask = cfg.pattern(kind).mask()
  monkeypatch.setattr(Pattern, "mask", lambda self: mask | np.eye(len(mask), k=1, dtype=bool))
  with pytest.raises(AssertionError):
    assert_logits_depend_on_the_inputs_that_the_pattern_shows(cfg, drawn(cfg), mask)


def test_through_several_layers_logits_still_depend_on_nothing_later():
  cfg = tiny(layers=3, mix=("row", "column"), last="conv")
  got = influence(cfg, drawn(cfg))
  assert (got[np.triu_indices(len(got), 1)] == 0).all()
  assert (got[TEXT:, :TEXT] > 0).all()


@pytest.fixture(scope="module")
def full():
  cfg = tiny(layers=2, mix=("full",))
  return cfg, drawn(cfg), forward(cfg)


@pytest.mark.parametrize("j", [0, 1, 6, IMAGE - 2, IMAGE - 1])
def test_an_image_token_is_first_seen_by_the_logits_of_the_next(full, j):
  cfg, params, run = full
  text, codes = tokens(cfg)
  before, after = run(params, text, codes), run(params, text, codes.at[:, j].set((codes[:, j] + 1) % cfg.image_vocab))
  np.testing.assert_array_equal(after.text_BTV, before.text_BTV)
  np.testing.assert_array_equal(after.image_BNV[:, : j + 1], before.image_BNV[:, : j + 1])
  assert (after.image_BNV[:, j + 1 :] != before.image_BNV[:, j + 1 :]).any(-1).all()


@pytest.mark.parametrize("j", range(TEXT))
def test_a_text_token_is_first_seen_by_the_logits_of_the_next_and_by_the_whole_image(full, j):
  cfg, params, run = full
  text, codes = tokens(cfg)
  before, after = run(params, text, codes), run(params, text.at[:, j].set((text[:, j] + 1) % cfg.text_vocab), codes)
  np.testing.assert_array_equal(after.text_BTV[:, : j + 1], before.text_BTV[:, : j + 1])
  assert (after.text_BTV[:, j + 1 :] != before.text_BTV[:, j + 1 :]).any(-1).all()
  # The last text token, always a pad, is a target and no input: nothing sees it.
  assert (after.image_BNV != before.image_BNV).any(-1).all() == (j < TEXT - 1)


@pytest.fixture(scope="module")
def image_first():
  cfg = tiny(layers=3, mix=("full", "row"), order="image_first")
  return cfg, drawn(cfg), forward(cfg)


@pytest.mark.parametrize("j", range(TEXT))
def test_image_first_a_text_token_is_first_seen_by_the_logits_of_the_next_and_by_no_image_logits(image_first, j):
  cfg, params, run = image_first
  text, codes = tokens(cfg)
  before, after = run(params, text, codes), run(params, text.at[:, j].set((text[:, j] + 1) % cfg.text_vocab), codes)
  np.testing.assert_array_equal(after.image_BNV, before.image_BNV)
  np.testing.assert_array_equal(after.text_BTV[:, : j + 1], before.text_BTV[:, : j + 1])
  assert (after.text_BTV[:, j + 1 :] != before.text_BTV[:, j + 1 :]).any(-1).all()


@pytest.mark.parametrize("j", [0, 1, 6, IMAGE - 2, IMAGE - 1])
def test_image_first_an_image_token_is_first_seen_by_the_logits_of_the_next_and_by_the_whole_text(image_first, j):
  cfg, params, run = image_first
  text, codes = tokens(cfg)
  before, after = run(params, text, codes), run(params, text, codes.at[:, j].set((codes[:, j] + 1) % cfg.image_vocab))
  np.testing.assert_array_equal(after.image_BNV[:, : j + 1], before.image_BNV[:, : j + 1])
  assert (after.image_BNV[:, j + 1 : j + 2] != before.image_BNV[:, j + 1 : j + 2]).any(-1).all()
  # The last code is a target and no input: no text sees it.
  assert (after.text_BTV != before.text_BTV).any(-1).all() == (j < IMAGE - 1)
  assert (after.text_BTV != before.text_BTV).any() == (j < IMAGE - 1)


def by_hand(cfg, params, text, codes):
  """Both parts' scores by plain products and jax's own attention under the pattern's mask, block after block."""
  table = lambda name: params[name]["embedding"]  # noqa: E731
  start = lambda i: jnp.broadcast_to(table("start")[i], (len(text), 1, cfg.dim))  # noqa: E731
  text_BTD = jnp.concatenate([start(0), table("text_token")[text[:, :-1]]], 1) + table("text_position")[None]
  row, column = np.divmod(np.arange(cfg.grid**2), cfg.grid)
  places_ND = table("row")[row] + table("column")[column]
  image_BND = jnp.concatenate([start(1), table("image_token")[codes[:, :-1]]], 1) + places_ND[None]
  text_first = cfg.order == "text_first"
  x = jnp.concatenate([text_BTD, image_BND] if text_first else [image_BND, text_BTD], 1)

  def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"][None, None] + p["bias"][None, None]

  linear = lambda x, p: x @ p["kernel"] + p["bias"][None, None]  # noqa: E731
  for i, kind in enumerate(cfg.kinds()):
    p = params[f"block_{i}"]
    mask = Pattern(text=cfg.text, grid=cfg.grid, kind=kind, kernel=cfg.kernel, order=cfg.order).mask()
    y = norm(x, p["norm_1"])
    q, k, v = (
      (y @ w + b[None, None]).reshape(*y.shape[:2], cfg.heads, cfg.head_dim)
      for w, b in zip(p["qkv"]["kernel"], p["qkv"]["bias"])
    )
    o = jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(mask)[None, None])
    x = x + linear(o.reshape(x.shape), p["out"])
    h = linear(norm(x, p["norm_2"]), p["mlp"]["up"])
    x = x + linear(h * jax.nn.sigmoid(1.702 * h), p["mlp"]["down"])
  x = norm(x, params["norm"])
  text_BTD, image_BND = (x[:, :TEXT], x[:, TEXT:]) if text_first else (x[:, IMAGE:], x[:, :IMAGE])
  return text_BTD @ params["text_head"]["kernel"], image_BND @ params["image_head"]["kernel"]


@pytest.mark.parametrize("order", ORDERS)
def test_loss_and_gradients_are_those_of_a_dense_computation_by_hand(order):
  cfg = tiny(layers=3, mix=("row", "column"), last="conv", scan=False, order=order)
  params, (text, codes) = drawn(cfg), tokens(cfg)

  def loss(params):
    nll = [
      -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), targets[..., None], -1))
      for scores, targets in zip(by_hand(cfg, params, text, codes), (text, codes))
    ]
    return nll[0] / 8 + 7 * nll[1] / 8

  expected, gradients = jax.device_get(jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(params))
  got, own = jax.device_get(loss_and_gradients(cfg)(params))
  assert got == pytest.approx(expected, rel=1e-6)
  assert_alike(own, gradients, 2e-5)
  other = dataclasses.replace(cfg, order=ORDERS[order == "text_first"])
  assert loss_and_gradients(other)(params)[0] != pytest.approx(expected, rel=1e-3)


def embedded(cfg, params, text, codes):
  net = transformer.Transformer(cfg)
  parts = [net.apply({"params": params}, x, method=m) for x, m in ((text, "_embed_text"), (codes, "_embed_image"))]
  return np.concatenate(parts, axis=1)


def test_the_stream_is_start_tokens_shifted_tokens_and_positions():
  cfg = tiny()
  params, (text, codes) = drawn(cfg), tokens(cfg)
  table = {name: np.asarray(tree["embedding"]) for name, tree in params.items() if "embedding" in tree}
  rows = []
  for b in range(2):
    for i in range(TEXT):
      token = table["start"][0] if i == 0 else table["text_token"][text[b, i - 1]]
      rows.append(token + table["text_position"][i])
    for j in range(IMAGE):
      token = table["start"][1] if j == 0 else table["image_token"][codes[b, j - 1]]
      rows.append(token + table["row"][j // GRID] + table["column"][j % GRID])
  got = embedded(cfg, params, text, codes)
  np.testing.assert_allclose(got.reshape(-1, cfg.dim), np.stack(rows), rtol=1e-5, atol=1e-6)


def test_each_position_has_a_pad_of_its_own():
  cfg = tiny(text=6)
  params, (text, codes) = drawn(cfg), tokens(cfg)
  pads = np.asarray(params["text_token"]["embedding"])[cfg.text_vocab :]
  assert len(np.unique(pads, axis=0)) == 6
  image = lambda p: transformer.Transformer(cfg).apply({"params": p}, text, codes).image_BNV  # noqa: E731
  gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(image(p)))), compiler_options=QUICK)(params)
  used = np.abs(gradient["text_token"]["embedding"][cfg.text_vocab :]).sum(-1) > 0
  np.testing.assert_array_equal(used, [False, False, True, True, True, False])  # positions 0, 1 hold words; 5 no input


@pytest.mark.parametrize("scan", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_drawing_step_by_step_gives_the_logits_of_the_whole_stream(scan):
  cfg = tiny(layers=3, mix=("row", "column"), last="conv", scan=scan)
  params, (text, codes) = drawn(cfg), tokens(cfg)
  expected = np.asarray(forward(cfg)(params, text, codes).image_BNV)
  step, prefill, prefill_row = drawing(cfg, params)
  for given in (0, 6):
    caches = prefill(text, transformer.init_caches(cfg, 2))
    for row in range(math.ceil(given / GRID)):
      caches = prefill_row(codes, caches, decode.Row(jnp.int32(row), jnp.int32(given)))
    for j in range(given, IMAGE):
      logits, caches = step(codes[:, max(j - 1, 0)], caches, jnp.int32(j))
      assert np.abs(logits - expected[:, j]).max() <= 1e-5 * np.abs(expected).max()


def drawing(cfg, params):
  """A step, the text, and a row of what is given, compiled."""
  apply = functools.partial(transformer.Transformer(cfg).apply, {"params": params})
  methods = ("decode_step", "prefill", "prefill_row")
  return [jax.jit(functools.partial(apply, method=method), compiler_options=QUICK) for method in methods]


@pytest.mark.parametrize(
  ("scan", "remat"),
  [
    (True, "none"),
    pytest.param(True, "full", marks=pytest.mark.slow),
    pytest.param(False, "none", marks=pytest.mark.slow),
  ],
)
def test_rows_of_given_codes_leave_the_caches_that_steps_leave(scan, remat):
  cfg = tiny(layers=9, mix=KINDS, last="row", scan=scan, remat=remat)
  params, (text, codes) = drawn(cfg), tokens(cfg)
  step, prefill, prefill_row = drawing(cfg, params)
  for given in (1, 6, IMAGE):
    stepped = read = prefill(text, transformer.init_caches(cfg, 2))
    for j in range(given):
      _, stepped = step(codes[:, max(j - 1, 0)], stepped, jnp.int32(j))
    # What stands where nothing is given, such as -1, must not matter.
    known = jnp.where(jnp.arange(IMAGE) < given, codes, 0)
    for row in range(math.ceil(given / GRID)):
      read = prefill_row(known, read, decode.Row(jnp.int32(row), jnp.int32(given)))
    for got, expected in zip(jax.tree.leaves(read), jax.tree.leaves(stepped), strict=True):
      np.testing.assert_array_equal(got == 0, expected == 0)
      assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_in_bfloat16_scores_after_given_codes_are_as_exact_as_those_of_the_whole_stream():
  exact = tiny(layers=5, mix=KINDS, last="row")
  half = dataclasses.replace(exact, dtype="bfloat16")
  params, (text, codes) = drawn(exact), tokens(exact)
  expected = np.asarray(forward(exact)(params, text, codes).image_BNV)
  rounded = np.abs(forward(half)(params, text, codes).image_BNV - expected).max()
  step, prefill, prefill_row = drawing(half, params)
  given, caches = 2 * GRID - 1, prefill(text, transformer.init_caches(half, 2))
  for row in range(2):
    caches = prefill_row(codes, caches, decode.Row(jnp.int32(row), jnp.int32(given)))
  assert {x.dtype for x in jax.tree.leaves(caches)} == {jnp.dtype("bfloat16")}
  for j in range(given, IMAGE):
    logits, caches = step(codes[:, j - 1], caches, jnp.int32(j))
    assert np.abs(logits - expected[:, j]).max() <= 1.1 * rounded


@pytest.mark.parametrize("scan", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_writing_step_by_step_gives_the_logits_of_the_whole_stream(scan):
  cfg = tiny(layers=3, mix=("row", "column"), last="conv", scan=scan, order="image_first")
  params, (text, codes) = drawn(cfg), tokens(cfg)
  expected = np.asarray(forward(cfg)(params, text, codes).text_BTV)
  net = transformer.Transformer(cfg)
  step, read = (
    jax.jit(functools.partial(net.apply, {"params": params}, method=method), compiler_options=QUICK)
    for method in ("text_step", "read_picture")
  )
  caches = read(codes, transformer.init_text_caches(cfg, 2, 1))
  for i in range(TEXT):
    logits, caches = step(text[:, max(i - 1, 0)], caches, jnp.int32(i))
    assert np.abs(logits - expected[:, i]).max() <= 1e-5 * np.abs(expected).max()


def test_bfloat16_keeps_float32_parameters_and_logits():
  exact = tiny(layers=2)
  half = dataclasses.replace(exact, dtype="bfloat16")
  params, (text, codes) = drawn(exact), tokens(exact)
  assert {x.dtype for x in jax.tree.leaves(shapes(half))} == {jnp.dtype("float32")}
  got, expected = forward(half)(params, text, codes), forward(exact)(params, text, codes)
  assert {got.text_BTV.dtype, got.image_BNV.dtype} == {jnp.dtype("float32")}
  difference = np.abs(got.image_BNV - expected.image_BNV).max() / np.abs(expected.image_BNV).max()
  assert 1e-5 < difference < 0.1
  # Logits computed in bfloat16 and widened afterwards would all be multiples of its coarse steps.
  coarse = np.asarray(got.image_BNV.astype(jnp.bfloat16).astype(jnp.float32))
  assert (coarse != got.image_BNV).mean() > 0.9
  program = jax.make_jaxpr(lambda p: transformer.Transformer(half).apply({"params": p}, text, codes))(params)
  products = [e.invars[0].aval.dtype for e in program.eqns if e.primitive.name == "dot_general"]
  assert [str(dtype) for dtype in products[-2:]] == ["float32", "float32"]  # the heads


def test_the_last_norm_and_the_heads_round_nothing_to_bfloat16():
  cfg = tiny(dtype="bfloat16")
  params = drawn(cfg)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, cfg.dim)), jnp.bfloat16)
  head = lambda module, x: module.image_head(module.norm(x))  # noqa: E731
  got = transformer.Transformer(cfg).apply({"params": params}, x, method=head)
  wide = np.asarray(x, np.float64)
  wide = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
  norm, kernel = params["norm"], np.asarray(params["image_head"]["kernel"], np.float64)
  expected = (wide * np.asarray(norm["scale"]) + np.asarray(norm["bias"])) @ kernel
  assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
def test_whatever_a_block_keeps_the_gradient_is_the_same(scan):
  cfg = tiny(layers=5, mix=("row", "column"), last="conv", scan=scan)
  params, (text, codes) = drawn(cfg), tokens(cfg)
  kept, gradients = {}, {}
  for remat in ("none", "full", "save_attention", "save_dots"):
    net = transformer.Transformer(dataclasses.replace(cfg, remat=remat))
    loss = lambda p, net=net: jnp.mean(jnp.sin(net.apply({"params": p}, text, codes).image_BNV))  # noqa: E731
    kept[remat] = sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda p, f=loss: jax.vjp(f, p)[1], params)))
    gradients[remat] = jax.jit(jax.grad(loss), compiler_options=QUICK)(params)
  assert kept["full"] < kept["save_attention"] < kept["save_dots"] < kept["none"]
  for other in ("full", "save_attention", "save_dots"):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients[other], gradients["none"])


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"layers": 0}, "layers is 0"),
    ({"mix": ()}, "mix is empty"),
    ({"layers": 2, "mix": ("row", "diagonal")}, "kind is 'diagonal'"),
    ({"last": "conv", "kernel": 2}, "kernel is 2"),
    ({"remat": "some"}, "remat is 'some'"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
    ({"order": "text_last"}, "order is 'text_last': one of text_first, image_first is wanted"),
  ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(wrong, message):
  with pytest.raises(UserError, match=message) as caught:
    tiny(**wrong)
  assert "\n" not in str(caught.value)
