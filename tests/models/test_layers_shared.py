"""What transformer and CLIP share, against NumPy: linear maps, norms, the MLP, embeddings, and how leaves are named."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import layers


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def given(params):
  return {"params": jax.tree.map(jnp.asarray, params)}


def params_of(module, *inputs, key=0):
  return sharding.unbox(module.init(jax.random.key(key), *inputs)["params"])


def names_of(module, *inputs):
  boxed = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
  return {
    sharding.path_name(path): leaf.names
    for path, leaf in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=lambda x: hasattr(x, "names"))
  }


def test_a_linear_map_keeps_a_split_sequence_split():
  mesh = sharding.make_mesh(sharding.MeshShape(data=2, model=4))
  module = layers.Linear((6, 5), (None, None), 0.1, "float32")
  x = normal(4, 8, 6)
  params = {"kernel": normal(6, 5, seed=1), "bias": normal(5, seed=2)}

  def gathers(rules):
    layout = sharding.NamedSharding(mesh, sharding.PartitionSpec("data", "model"))

    def loss(params, x_BLD):
      with sharding.in_scope(mesh, rules):
        return jnp.sum(jnp.sin(sharding.constrain(module.apply({"params": params}, x_BLD), "batch", "seq", None)))

    step = jax.jit(jax.value_and_grad(loss)).lower(params, jax.device_put(x, layout)).compile()
    return step.as_text().count(" all-gather("), step(params, jax.device_put(x, layout))

  split, (value, gradient) = gathers(sharding.Rules(seq=("model",)))
  y = x @ params["kernel"] + params["bias"]
  assert value == pytest.approx(np.sin(y).sum(), rel=1e-4)
  np.testing.assert_allclose(gradient["kernel"], np.einsum("bld,ble->de", x, np.cos(y)), rtol=1e-3, atol=1e-4)
  assert split == 0
  assert gathers(sharding.Rules())[0] > 0  # where the sequence is whole, a split input must be gathered


def test_norm_is_layer_norm_with_the_small_constant_inside_the_root():
  x = 3 + 5 * normal(2, 3, 16)
  x[0, 0] = 7.0 + 1e-3 * x[0, 0]  # a row whose variance is of the constant's order
  params = {"scale": normal(16, seed=1), "bias": normal(16, seed=2)}
  wide = x.astype(np.float64)
  expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
  expected = expected * params["scale"] + params["bias"]
  got = layers.Norm("float32").apply({"params": params}, jnp.asarray(x))
  np.testing.assert_allclose(got[0, 1:], expected[0, 1:], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(got[0, 0], expected[0, 0], rtol=1e-3, atol=1e-3)


def test_norm_starts_as_the_bare_normalisation():
  params = params_of(layers.Norm("float32"), jnp.zeros((1, 8)))
  assert (params["scale"] == 1).all()
  assert (params["bias"] == 0).all()


def test_norm_keeps_float32_statistics_of_bfloat16_inputs():
  # 256 +- 1 in bfloat16: a mean and squares taken in bfloat16 would lose everything.
  x = jnp.asarray(256 + 2 * np.sign(normal(1, 64)), jnp.bfloat16)
  params = params_of(layers.Norm("bfloat16"), x)
  got = layers.Norm("bfloat16").apply({"params": params}, x)
  assert got.dtype == jnp.bfloat16
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean()) / exact.std()
  np.testing.assert_allclose(np.asarray(got, np.float64), exact, rtol=1e-2)


def test_quick_gelu_is_x_times_the_sigmoid_of_1_702_x():
  x = np.linspace(-8, 8, 33)
  expected = x / (1 + np.exp(-1.702 * x))
  np.testing.assert_allclose(layers.quick_gelu(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5, atol=1e-7)
  exact = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
  assert 0.01 < np.abs(expected - exact).max() < 0.03  # near the true GELU, and not it


@pytest.mark.parametrize("lead", [(2, 7), (3,)])
def test_linear_multiplies_the_last_dimension_with_the_kernel(lead):
  x, shape, names = normal(*lead, 6), (6, 5), ("embed", "mlp")
  params = {"kernel": normal(*shape, seed=1), "bias": normal(5, seed=2)}
  module = layers.Linear(shape, names, 1.0, "float32")
  expected = x.astype(np.float64) @ params["kernel"] + params["bias"]
  np.testing.assert_allclose(module.apply(given(params), jnp.asarray(x)), expected, rtol=1e-5, atol=1e-5)
  assert names_of(module, jnp.asarray(x)) == {"kernel": names, "bias": names[1:]}
  plain = layers.Linear(shape, names, 1.0, "float32", bias=False)
  assert names_of(plain, jnp.asarray(x)) == {"kernel": names}
  got = plain.apply(given({"kernel": params["kernel"]}), jnp.asarray(x))
  np.testing.assert_allclose(got, expected - params["bias"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("std", [0.0, 0.02, 1.5])
def test_linear_starts_with_the_standard_deviation_asked_for(std):
  params = params_of(layers.Linear((64, 128), ("embed", "mlp"), std, "float32"), jnp.zeros((1, 64)))
  assert np.std(params["kernel"]) == pytest.approx(std, rel=0.05)
  assert (params["bias"] == 0).all()


def test_linear_computes_in_its_dtype_from_float32_parameters():
  module = layers.Linear((8, 4), ("embed", "mlp"), 1.0, "bfloat16")
  params = params_of(module, jnp.zeros((1, 8)))
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  assert module.apply({"params": params}, jnp.zeros((1, 8))).dtype == jnp.bfloat16


def test_queries_keys_and_values_of_all_heads_come_from_one_kernel_and_merge_back():
  x, heads, head_dim = normal(2, 3, 8), 2, 5
  kernel, bias = normal(3, 8, heads * head_dim, seed=1), normal(3, heads * head_dim, seed=2)
  project = layers.Qkv(heads, head_dim, 1.0, "float32")
  got = project.apply(given({"kernel": kernel, "bias": bias}), jnp.asarray(x))
  assert names_of(project, jnp.asarray(x)) == {"kernel": (None, "embed", "heads"), "bias": (None, "heads")}
  for i in range(3):
    of_heads = (slice(h * head_dim, (h + 1) * head_dim) for h in range(heads))
    expected = np.stack([x @ kernel[i][:, own] + bias[i][own] for own in of_heads], axis=2)
    np.testing.assert_allclose(got[i], expected, rtol=1e-5, atol=1e-5)
  q = np.asarray(got[0])
  np.testing.assert_array_equal(layers.join_heads(got[0]), np.concatenate([q[:, :, h] for h in range(heads)], axis=-1))


def test_the_mlp_is_two_linear_maps_around_the_gelu():
  x = normal(2, 3, 4)
  params = {
    "up": {"kernel": normal(4, 16, seed=1), "bias": normal(16, seed=2)},
    "down": {"kernel": normal(16, 4, seed=3), "bias": normal(4, seed=4)},
  }
  h = x @ params["up"]["kernel"] + params["up"]["bias"]
  expected = (h / (1 + np.exp(-1.702 * h))) @ params["down"]["kernel"] + params["down"]["bias"]
  got = layers.Mlp(4, 1.0, 1.0, "float32").apply(given(params), jnp.asarray(x))
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
  start = params_of(layers.Mlp(64, 0.5, 0.125, "float32"), jnp.zeros((1, 1, 64)))
  assert np.std(start["up"]["kernel"]) == pytest.approx(0.5, rel=0.03)
  assert np.std(start["down"]["kernel"]) == pytest.approx(0.125, rel=0.03)


def test_an_embedding_is_a_table_whose_rows_are_looked_up():
  module = layers.Embedding(5, 3, 1.0, ("vocab", "embed"), "bfloat16")
  table = jnp.asarray(normal(5, 3))
  ids = jnp.array([[4, 0], [2, 2]])
  got = module.apply({"params": {"embedding": table}}, ids)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got, jnp.asarray(table, jnp.bfloat16)[ids])
  whole = module.apply({"params": {"embedding": table}}, method="table")
  np.testing.assert_array_equal(whole, jnp.asarray(table, jnp.bfloat16))


@pytest.mark.parametrize("depth", [1, 12, 64])
def test_matrices_that_write_to_the_stream_start_smaller_the_deeper_the_model(depth):
  assert layers.residual_std(depth) == pytest.approx((2 * depth) ** -0.5)


def test_only_matrices_are_named_kernel_so_that_nothing_else_decays():
  x = jnp.zeros((1, 2, 8))
  leaves = (
    names_of(layers.Mlp(8, 1.0, 1.0, "float32"), x)
    | names_of(layers.Norm("float32"), x)
    | names_of(layers.Embedding(4, 8, 1.0, ("vocab", "embed"), "float32"), jnp.zeros((1,), jnp.int32))
  )
  assert set(leaves) == {"up/kernel", "up/bias", "down/kernel", "down/bias", "scale", "bias", "embedding"}
