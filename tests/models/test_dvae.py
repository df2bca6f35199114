"""The dVAE against the published sizes and statistics, and a NumPy rewrite of the paper's tables of layers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import dvae

TINY = dvae.Config(image=16, vocab=24, hidden=16, groups=3, blocks=2, code_dim=6)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


def shapes(cfg):
  pixels = jax.ShapeDtypeStruct((1, cfg.image, cfg.image, 3), jnp.float32)
  return sharding.unbox(jax.eval_shape(dvae.Dvae(cfg).init, jax.random.key(0), pixels)["params"])


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@functools.cache
def drawn(cfg, scale=None):
  """Parameters as they start; or with a scale every one of them, biases too, drawn with that deviation."""
  if scale is None:
    pixels = jnp.zeros((1, cfg.image, cfg.image, 3))
    start = lambda key: sharding.unbox(dvae.Dvae(cfg).init(key, pixels)["params"])  # noqa: E731
    return jax.jit(start, compiler_options=QUICK)(jax.random.key(0))
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), shapes(cfg))


def run(cfg, params, x, method):
  apply = jax.jit(lambda p, x: dvae.Dvae(cfg).apply({"params": p}, x, method=method), compiler_options=QUICK)
  return np.asarray(apply(params, x))


def noise(cfg, batch=1, seed=0):
  """Uniform noise in the range of mapped pixels."""
  shape = (batch, cfg.image, cfg.image, 3)
  return jnp.asarray(np.random.default_rng(seed).uniform(0.1, 0.9, shape), jnp.float32)


def test_the_published_sizes_come_back():
  params = shapes(dvae.Config())
  assert count(params["encoder"]) == 53_786_240
  assert count(params["decoder"]) == 43_829_766


def test_the_published_layers_have_the_published_widths():
  params = shapes(dvae.Config())
  kernels = {
    sharding.path_name(path).removesuffix("/kernel"): x.shape
    for path, x in jax.tree_util.tree_leaves_with_path(params)
    if x.ndim == 4
  }
  assert kernels["encoder/input"] == (7, 7, 3, 256)
  assert kernels["encoder/output"] == (1, 1, 2048, 8192)
  assert kernels["decoder/input"] == (1, 1, 8192, 128)
  assert kernels["decoder/output"] == (1, 1, 256, 6)
  # A block's single 1x1 is last in the encoder and first in the decoder; its inside is a quarter of its output.
  assert [kernels[f"encoder/group_3/block_1/conv_{i}"] for i in (1, 2, 3, 4)] == [
    (3, 3, 512, 256),
    (3, 3, 256, 256),
    (3, 3, 256, 256),
    (1, 1, 256, 1024),
  ]
  assert [kernels[f"decoder/group_1/block_1/conv_{i}"] for i in (1, 2, 3, 4)] == [
    (1, 1, 128, 512),
    (3, 3, 512, 512),
    (3, 3, 512, 512),
    (3, 3, 512, 2048),
  ]
  widths = {"encoder": [256, 512, 1024, 2048], "decoder": [2048, 1024, 512, 256]}
  for half, expected in widths.items():
    assert [kernels[f"{half}/group_{g}/block_2/conv_4"][-1] for g in (1, 2, 3, 4)] == expected
  identities = {name for name in kernels if name.endswith("identity")}
  assert identities == {f"encoder/group_{g}/block_1/identity" for g in (2, 3, 4)} | {
    f"decoder/group_{g}/block_1/identity" for g in (1, 2, 3, 4)
  }
  cfg = dvae.Config()
  assert (cfg.grid, cfg.branch_gain, cfg.positions_per_subpixel) == (32, 1 / 64, 1 / 192)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_weights_start_with_the_published_deviations_and_biases_at_zero(half):
  cfg = dvae.Config(image=16, vocab=256, hidden=64, groups=2, blocks=1, code_dim=32)
  for path, x in jax.tree_util.tree_leaves_with_path(drawn(cfg)[half]):
    if x.ndim == 1:
      assert (x == 0).all()
    else:
      k, _, n_in, _ = x.shape
      expected = 1 / math.sqrt(n_in * k**2)
      slack = 0.01 + 4 / math.sqrt(2 * x.size)  # four standard errors
      assert np.std(x) == pytest.approx(expected, rel=slack), sharding.path_name(path)


def check_start(cfg, batch):
  """Logits' deviation, KL a position and NLL a sub-pixel as the paper's code has them at random weights."""
  params, x = drawn(cfg), noise(cfg, batch)
  logits = run(cfg, params, x, "encode")
  assert np.std(logits) == pytest.approx(0.43, abs=0.05)
  wide = logits.astype(np.float64)
  log_q = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
  kl = math.log(cfg.vocab) + (np.exp(log_q) * log_q).sum(-1).mean()
  assert kl == pytest.approx(0.09, abs=0.02)
  key = jax.random.key(1)
  soft = jax.nn.softmax(jnp.asarray(logits) + jax.random.gumbel(key, logits.shape))
  stats = run(cfg, params, soft, "decode")
  assert 0.001 < np.std(stats) < 0.02
  assert np.abs(stats).max() < 0.1
  nll = np.mean(dvae.logit_laplace_nll(x, jnp.asarray(stats)))
  assert nll == pytest.approx(-0.048, abs=0.01)


@pytest.mark.slow
def test_narrow_layers_start_with_the_published_statistics():
  check_start(dvae.Config(image=32, hidden=64, vocab=1024, blocks=1), batch=4)


@pytest.mark.slow
@pytest.mark.parametrize("image", [32, 128])
def test_the_published_widths_start_with_the_published_statistics(image):
  check_start(dvae.Config(image=image), batch=128 // image)


def conv_np(x_BHWC, params, relu=True):
  """Zero-padded convolution as a sum over shifted pictures."""
  kernel, bias = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
  k, (_, h, w, _) = kernel.shape[0], x_BHWC.shape
  x_BHWC = np.maximum(x_BHWC, 0) if relu else x_BHWC
  pad = (k - 1) // 2
  padded = np.pad(x_BHWC, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  out = sum(padded[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(k) for j in range(k))
  return out + bias


def block_np(x, params, gain):
  y = x
  for i in (1, 2, 3, 4):
    y = conv_np(y, params[f"conv_{i}"])
  x = conv_np(x, params["identity"], relu=False) if "identity" in params else x
  return x + gain * y


def group_np(x, params, gain):
  for name in sorted(params):
    x = block_np(x, params[name], gain)
  return x


def encoder_np(x, params, gain, pool=np.max):
  groups = sorted(name for name in params if name.startswith("group"))
  x = conv_np(np.asarray(x, np.float64), params["input"], relu=False)
  for name in groups:
    x = group_np(x, params[name], gain)
    if name != groups[-1]:
      quarters = np.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
      x = pool(quarters, axis=0)
  return conv_np(x, params["output"])


def decoder_np(weights, params, gain):
  groups = sorted(name for name in params if name.startswith(("group", "stack")))
  x = conv_np(np.asarray(weights, np.float64), params["input"], relu=False)
  for name in groups:
    x = group_np(x, params[name], gain)
    if name != groups[-1]:
      x = x.repeat(2, axis=1).repeat(2, axis=2)
  return conv_np(x, params["output"])


def relative(a, b):
  return np.abs(a - b).max() / np.abs(b).max()


def side_by_side(quarters, axis):
  return np.concatenate(list(quarters), axis=-1)


@pytest.mark.parametrize(
  ("pool", "hidden", "own", "other"),
  [
    ("max", 16, np.max, np.mean),
    ("average", 16, np.mean, np.max),
    ("fold", 16, side_by_side, None),
    ("max", 20, np.max, np.mean),  # on a CPU the first layer makes 33 features then
  ],
)
def test_the_encoder_is_the_paper_s_table_of_layers(pool, hidden, own, other):
  cfg = dvae.Config(**(vars(TINY) | {"pool": pool, "hidden": hidden}))
  params, x = drawn(cfg, 0.4), noise(cfg, 2)
  gain = 1 / 6**2  # six blocks
  expected = encoder_np(x, params["encoder"], gain, own)
  if other:
    assert relative(encoder_np(x, params["encoder"], gain, other), expected) > 1e-2
  assert relative(encoder_np(x, params["encoder"], 1 / 6, own), expected) > 1e-2
  got = run(cfg, params, x, "encode")
  assert got.shape == (2, 4, 4, 24)
  assert relative(got, expected) <= 1e-5


@pytest.mark.parametrize(("hidden", "made"), [(16, 16), (20, 33), (32, 33), (36, 36)])
def test_few_features_of_a_picture_are_made_of_33_on_a_cpu(hidden, made):
  cfg = dvae.Config(**(vars(TINY) | {"hidden": hidden}))
  encode = lambda p, x: dvae.Dvae(cfg).apply({"params": p}, x, method="encode")  # noqa: E731
  assert f"f32[1,16,16,{made}] = conv_general_dilated" in str(jax.make_jaxpr(encode)(shapes(cfg), noise(cfg)))


def test_the_decoder_is_the_paper_s_table_of_layers():
  params = drawn(TINY, 0.4)
  weights = np.random.default_rng(3).dirichlet(np.ones(24), (2, 4, 4)).astype(np.float32)
  expected = decoder_np(weights, params["decoder"], 1 / 6**2)
  assert relative(expected, decoder_np(weights, params["decoder"], 1 / 6)) > 1e-2
  got = run(TINY, params, jnp.asarray(weights), "decode")
  assert got.shape == (2, 16, 16, 6)
  assert relative(got, expected) <= 1e-5


@pytest.mark.parametrize("changed", [{"code_kernel": 3}, {"gain": 0.3}])
def test_larger_kernels_beside_the_codes_and_another_gain_are_those_layers_with_these_numbers(changed):
  cfg = dvae.Config(**(vars(TINY) | changed))
  params, x, gain = drawn(cfg, 0.4), noise(cfg, 2), changed.get("gain", 1 / 36)
  weights = jnp.asarray(np.random.default_rng(3).dirichlet(np.ones(24), (2, 4, 4)), jnp.float32)
  for half, method, given, by_hand in (
    ("encoder", "encode", x, encoder_np),
    ("decoder", "decode", weights, decoder_np),
  ):
    own = params[half]
    side = {"encoder": "output", "decoder": "input"}[half]
    middle = own | {side: own[side] | {"kernel": own[side]["kernel"][1:2, 1:2]}} if "code_kernel" in changed else own
    assert relative(by_hand(given, middle, 1 / 36), by_hand(given, own, gain)) > 1e-2
    assert relative(run(cfg, params, given, method), by_hand(given, own, gain)) <= 1e-5


def test_every_parameter_counts_in_that_comparison():
  params, x = drawn(TINY, 0.4), noise(TINY)
  run_all = jax.jit(lambda p: dvae.Dvae(TINY).apply({"params": p}, x), compiler_options=QUICK)
  base = run_all(params)
  leaves, tree = jax.tree.flatten(params)
  for i, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
    changed = run_all(jax.tree.unflatten(tree, [*leaves[:i], jnp.zeros_like(leaf), *leaves[i + 1 :]]))
    if "encoder" not in sharding.path_name(path):
      assert relative(changed, base) > 1e-4, sharding.path_name(path)
    else:
      assert (changed != base).any(), sharding.path_name(path)


def test_recomputing_blocks_changes_no_number():
  plain = dvae.Config(**(vars(TINY) | {"groups": 2, "blocks": 1}))
  cfg = dvae.Config(**(vars(plain) | {"remat": True}))
  params, x = drawn(plain, 0.4), noise(plain)
  loss = lambda c: lambda p: jnp.sum(jnp.square(dvae.Dvae(c).apply({"params": p}, x)))  # noqa: E731
  assert str(jax.make_jaxpr(jax.grad(loss(cfg)))(params)).count("remat") > 0
  assert str(jax.make_jaxpr(jax.grad(loss(plain)))(params)).count("remat") == 0
  got, expected = (jax.jit(jax.grad(loss(c)), compiler_options=QUICK)(params) for c in (cfg, plain))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * np.abs(b).max()), got, expected)


@pytest.mark.parametrize("code_kernel", [1, 3])
def test_codes_are_decoded_like_their_one_hot_weights(code_kernel):
  cfg = dvae.Config(**(vars(TINY) | {"code_kernel": code_kernel}))
  params = drawn(cfg, 0.4)
  codes = jnp.asarray(np.random.default_rng(2).integers(0, 24, (2, 4, 4)), jnp.int32)
  got = run(cfg, params, codes, "decode_codes")
  expected = run(cfg, params, jax.nn.one_hot(codes, 24), "decode")
  assert relative(expected, run(cfg, params, (codes + 1) % 24, "decode_codes")) > 1e-2
  assert relative(got, expected) <= 1e-6
  images = dvae.decode_images(params, cfg, codes)
  location = 1 / (1 + np.exp(-np.asarray(got[..., :3], np.float64)))
  exact = np.clip((location - 0.1) / 0.8, 0, 1) * 255
  assert images.dtype == jnp.uint8
  assert np.abs(np.asarray(images) - exact).max() <= 0.51


def test_codes_of_pictures_are_the_largest_logits_without_noise():
  params = drawn(TINY, 0.4)
  images = jnp.asarray(np.random.default_rng(4).integers(0, 256, (3, 16, 16, 3)), jnp.uint8)
  logits = encoder_np(0.1 + 0.8 * np.asarray(images) / 255, params["encoder"], 1 / 36)
  codes = dvae.encode_images(params, TINY, images)
  np.testing.assert_array_equal(codes, logits.argmax(-1))
  assert codes.dtype == jnp.int32
  assert len(np.unique(codes)) > 3


def test_bfloat16_leaves_the_layers_next_to_the_codes_in_float32():
  half = dvae.Config(**(vars(TINY) | {"dtype": "bfloat16"}))
  params, x = drawn(TINY, 0.4), noise(TINY)
  dtypes = lambda method, x: convolutions(  # noqa: E731
    jax.make_jaxpr(lambda p, x: dvae.Dvae(half).apply({"params": p}, x, method=method))(params, x)
  )
  encoder = dtypes("encode", x)
  decoder = dtypes("decode", jnp.zeros((1, 4, 4, 24)))
  # 6 blocks of 4 convolutions and two "identity", the first, the last.
  assert encoder == ["bfloat16"] * (1 + 6 * 4 + 2) + ["float32"]
  assert decoder == ["float32"] + ["bfloat16"] * (6 * 4 + 3 + 1)
  assert run(half, params, x, "encode").dtype == np.float32
  assert run(half, params, jnp.full((1, 4, 4, 24), 1 / 24), "decode").dtype == np.float32
  exact, rough = (run(c, params, x, "encode") for c in (TINY, half))
  assert 0 < relative(rough, exact) < 0.05


def convolutions(jaxpr):
  """Dtypes of what every convolution and matrix product takes, in the program's order."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("conv_general_dilated", "dot_general"):
      found.append(str(equation.invars[0].aval.dtype))
    for value in equation.params.values():
      if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        found += convolutions(value)
  return found


def test_pixels_are_mapped_into_the_middle_and_back():
  pixels = jnp.arange(256, dtype=jnp.uint8).reshape(1, 1, 256, 1).repeat(3, -1)
  mapped = dvae.map_pixels(pixels)
  expected = 0.1 + 0.8 * np.arange(256) / 255
  np.testing.assert_allclose(mapped[0, 0, :, 0], expected, rtol=1e-6)
  assert (np.asarray(mapped) > 0).all()
  back = dvae.unmap_pixels(mapped)
  np.testing.assert_array_equal(np.rint(np.asarray(back) * 255), np.asarray(pixels))
  outside = dvae.unmap_pixels(jnp.array([0.0, 0.05, 0.95, 1.0]).reshape(1, 1, 4, 1).repeat(3, -1))
  np.testing.assert_array_equal(outside[0, 0, :, 0], [0, 0, 1, 1])


def test_pixels_are_spread_over_their_levels_and_no_further():
  x = dvae.map_pixels(jnp.full((1, 64, 64, 3), 128, jnp.uint8))
  steps = (np.asarray(dvae.spread_levels(x, jax.random.key(0)), np.float64) - np.asarray(x, np.float64)) / (0.8 / 255)
  assert 0.49 < steps.max() < 0.501
  assert -0.501 < steps.min() < -0.49
  assert np.abs(np.mean(steps)) < 0.01
  assert np.var(steps) == pytest.approx(1 / 12, rel=0.05)


def nll_of(x, mu, log_b, **options):
  """`logit_laplace_nll` of numbers, in one channel."""
  wide = [np.broadcast_to(a, np.shape(x)).astype(np.float32).reshape(1, 1, -1, 1).repeat(3, -1) for a in (x, mu, log_b)]
  stats = jnp.concatenate([jnp.asarray(wide[1]), jnp.asarray(wide[2])], axis=-1)
  return np.asarray(dvae.logit_laplace_nll(jnp.asarray(wide[0]), stats, **options))[0, 0, :, 0]


@pytest.mark.parametrize(("mu", "b"), [(0.0, 1.0), (1.3, 0.4), (-2.0, 0.1), (0.5, 0.02)])
def test_the_logit_laplace_density_integrates_to_one_and_is_the_formula_s(mu, b):
  # Equal steps in the logit, whose ends hold all but a vanishing part of the mass.
  logit = np.linspace(mu - 20 * b, mu + 20 * b, 20_001)
  inside = np.abs(logit) < 8
  logit = logit[inside]
  x = 1 / (1 + np.exp(-logit))
  formula = np.exp(-np.abs(logit - mu) / b) / (2 * b * x * (1 - x))
  if b > 0.05:
    np.testing.assert_allclose(nll_of(x, mu, math.log(b)), -np.log(formula), rtol=1e-3, atol=2e-4)
  density = np.exp(-nll_of(x, mu, math.log(b)).astype(np.float64))
  outside = 0.5 * (np.exp(-(8 - mu) / b) + np.exp(-(8 + mu) / b))  # mass that the cut left out
  assert np.trapezoid(density, x) == pytest.approx(1 - outside, abs=2e-3)


def test_the_density_is_the_one_of_a_laplace_variable_pushed_through_the_sigmoid():
  from scipy import stats

  x = np.linspace(0.1, 0.9, 41)
  logit = np.log(x / (1 - x))
  expected = -stats.laplace.logpdf(logit, loc=0.7, scale=0.3) + np.log(x) + np.log1p(-x)
  np.testing.assert_allclose(nll_of(x, 0.7, math.log(0.3)), expected, rtol=1e-5, atol=1e-5)


def test_location_and_scale_are_the_first_and_the_last_three_channels():
  x = jnp.full((1, 1, 1, 3), 0.5)
  stats = jnp.array([1.0, 2.0, 3.0, 0.0, math.log(2.0), math.log(4.0)]).reshape(1, 1, 1, 6)
  base = math.log(2) + 2 * math.log(0.5)
  expected = [base + 1 / 1, base + math.log(2) + 2 / 2, base + math.log(4) + 3 / 4]
  np.testing.assert_allclose(dvae.logit_laplace_nll(x, stats)[0, 0, 0], expected, rtol=1e-6)


def test_the_kl_to_uniform_lies_between_zero_and_the_logarithm_of_the_codes():
  v = 8192
  sure = jnp.zeros((1, 1, 1, v)).at[..., 5].set(200.0)
  logits = jnp.concatenate([jnp.full((1, 1, 1, v), 3.0), sure], axis=2)
  got = dvae.kl_to_uniform(logits)[0, 0]
  assert got[0] == pytest.approx(0, abs=1e-5)
  assert got[1] == pytest.approx(9.011, abs=1e-3)
  half = jnp.where(jnp.arange(v) < v // 2, 0.0, -200.0)[None, None, None]
  assert dvae.kl_to_uniform(half)[0, 0, 0] == pytest.approx(math.log(2), rel=1e-4)
  spread = dvae.kl_to_uniform(3 * jax.random.normal(jax.random.key(0), (1, 8, 8, v)))
  assert ((spread > 0) & (spread < math.log(v))).all()


def test_the_point_estimate_ignores_the_scale_and_psnr_is_in_decibels():
  stats = jax.random.normal(jax.random.key(0), (1, 2, 2, 6))
  location = 1 / (1 + np.exp(-np.asarray(stats[..., :3], np.float64)))
  got = dvae.reconstruct(stats)
  np.testing.assert_allclose(got, np.clip((location - 0.1) / 0.8, 0, 1), rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(got, dvae.reconstruct(stats.at[..., 3:].add(1.0)))
  a = jnp.full((1, 2, 2, 3), 0.5)
  assert dvae.psnr(a, a + 0.1) == pytest.approx(20, abs=1e-3)
  assert dvae.psnr(a, a) == pytest.approx(120, abs=1e-3)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"image": 20}, "20 pixels can't be halved 3 times"),
    ({"hidden": 6}, "hidden is 6"),
    ({"vocab": 0}, "vocab is 0"),
    ({"pool": "mean"}, "pool is 'mean'"),
    ({"code_kernel": 2}, "code_kernel is 2"),
    ({"gain": 0.0}, "gain is 0.0"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
  ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(wrong, message):
  with pytest.raises(UserError, match=message) as caught:
    dvae.Config(**wrong)
  assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_codes_are_drawn_as_often_as_they_are_likely():
  cfg = dvae.Config(image=4, vocab=5, hidden=4, groups=2, blocks=1, code_dim=4)
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)), jnp.uint8)
  params = dvae.Dvae(cfg).init(jax.random.key(1), dvae.map_pixels(images))["params"]
  params = sharding.unbox(params)
  bias = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.04, 0.01]))
  params["encoder"]["output"]["bias"] = bias
  params["encoder"]["output"]["kernel"] *= 0
  many = jnp.repeat(images, 2000, axis=0)
  drawn = np.asarray(dvae.sample_codes(params, cfg, many, jnp.arange(2000, dtype=jnp.uint32)))
  share = np.bincount(drawn.ravel(), minlength=5) / drawn.size
  np.testing.assert_allclose(share, np.exp(bias), atol=4 * np.sqrt(0.25 / drawn.size))
  again = dvae.sample_codes(params, cfg, many[:3], jnp.array([7, 1, 7], jnp.uint32))
  np.testing.assert_array_equal(again, drawn[[7, 1, 7]])
