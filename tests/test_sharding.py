"""Logical axes on a 2x2x2 mesh of simulated devices: layouts counted shard by shard, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training import parameter_table


@pytest.fixture(scope="module")
def mesh():
  assert len(jax.devices()) == 8, "tests/conftest.py asks for eight simulated devices"
  return sharding.make_mesh(MeshShape(data=2, fsdp=2, model=2))


def boxed(shape, *names):
  return jax.eval_shape(lambda: sharding.axes(jax.nn.initializers.zeros, *names)(jax.random.key(0), shape))


def test_the_table_shows_only_what_is_really_split():
  mesh = sharding.make_mesh(sharding.MeshShape(data=8))
  split = sharding.make_mesh(sharding.MeshShape(data=1, fsdp=4, model=2))
  for where, layout in ((mesh, "- -"), (split, "fsdp model")):
    tree = {"kernel": boxed((8, 8), "embed", "mlp")}
    placed = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      sharding.unbox(tree),
      sharding.shardings(tree, where, Rules()),
    )
    (row,) = parameter_table.describe(placed)
    assert (row.spec, row.bytes_per_device) == (layout, 256 // (1 if where is mesh else 8))


def test_minus_one_takes_the_devices_that_are_left():
  assert dict(sharding.make_mesh(MeshShape()).shape) == {"data": 8, "fsdp": 1, "model": 1}
  assert dict(sharding.make_mesh(MeshShape(data=1, fsdp=-1, model=4)).shape) == {"data": 1, "fsdp": 2, "model": 4}
  assert dict(sharding.make_mesh(MeshShape(), jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1, "model": 1}


@pytest.mark.parametrize(
  "shape", [MeshShape(data=3), MeshShape(data=2, fsdp=2), MeshShape(model=3), MeshShape(data=16)]
)
def test_a_mesh_that_does_not_use_every_device_is_refused(shape):
  with pytest.raises(UserError, match="for 8 devices"):
    sharding.make_mesh(shape)


@pytest.mark.parametrize("sizes", [{"data": 0}, {"fsdp": -2}, {"data": -1, "model": -1}])
def test_a_mesh_of_no_sense_is_refused(sizes):
  with pytest.raises(UserError, match="wanted positive numbers"):
    MeshShape(**sizes)


def test_each_device_holds_the_part_that_the_rules_say(mesh):
  tree = {"kernel": boxed((8, 6), "embed", "mlp"), "bias": boxed((6,), "mlp"), "scale": boxed((4,), None)}
  layout = sharding.shardings(tree, mesh, Rules())
  x = jax.device_put(np.arange(48.0).reshape(8, 6), layout["kernel"])
  # embed over fsdp (2), mlp over model (2), copied over data (2).
  assert {s.data.shape for s in x.addressable_shards} == {(4, 3)}
  assert len({str(s.index) for s in x.addressable_shards}) == 4
  assert layout["bias"].spec == P("model")
  assert layout["scale"].is_fully_replicated


def test_the_batch_is_split_over_data_and_fsdp(mesh):
  x = jax.device_put(np.zeros((8, 3)), sharding.batch_sharding(mesh, Rules(), 2))
  assert {s.data.shape for s in x.addressable_shards} == {(2, 3)}


def test_a_changed_rule_changes_the_layout(mesh):
  tree = {"kernel": boxed((8, 6), "embed", "mlp")}
  rules = dataclasses.replace(Rules(), embed=("data", "fsdp"), mlp=())
  assert sharding.shardings(tree, mesh, rules)["kernel"].spec == P(("data", "fsdp"), None)


def test_a_misspelt_axis_is_refused_at_once_with_a_suggestion():
  with pytest.raises(ValueError, match="did you mean 'embed'"):
    sharding.axes(jax.nn.initializers.zeros, "embd")
  with pytest.raises(ValueError, match="did you mean 'heads'"):
    sharding.constrain(jnp.zeros((2, 3)), "batch", "head")


def test_names_must_match_the_rank_even_without_a_mesh():
  with pytest.raises(ValueError, match="has 2 axes, but 1 names"):
    sharding.constrain(jnp.zeros((2, 3)), "batch")
  with pytest.raises(ValueError, match="has 1 axes, but 2 names"):
    sharding.axes(jax.nn.initializers.zeros, "embed", "mlp")(jax.random.key(0), (4,))


def test_a_dimension_that_does_not_divide_is_named(mesh):
  with pytest.raises(UserError, match=r"blocks/kernel: its axis mlp of 5 does not divide over 2 devices \(model\)"):
    sharding.shardings({"blocks": {"kernel": boxed((8, 5), "embed", "mlp")}}, mesh, Rules())


def test_two_axes_over_one_mesh_axis_are_refused(mesh):
  with pytest.raises(UserError, match="heads and mlp are both split over model"):
    sharding.shardings({"kernel": boxed((4, 4), "heads", "mlp")}, mesh, Rules())


@pytest.mark.parametrize(
  ("axes", "words"), [(("pipe",), "wanted one of data, fsdp, model"), (("embed",), "the mesh axis .embed.")]
)
def test_a_rule_for_no_mesh_axis_is_refused(axes, words):
  with pytest.raises(UserError, match=words):
    Rules(embed=axes)


def test_constrain_lays_out_only_within_its_scope(mesh):
  def f(x):
    return sharding.constrain(2 * x, "batch", "mlp")

  def scoped(x):
    with sharding.in_scope(mesh, Rules()):
      return f(x)

  x = np.ones((8, 4), np.float32)
  assert "sharding_constraint" not in str(jax.make_jaxpr(f)(x))
  y = jax.jit(scoped)(x)
  assert {s.data.shape for s in y.addressable_shards} == {(2, 2)}
  np.testing.assert_array_equal(y, 2 * x)
  assert "sharding_constraint" not in str(jax.make_jaxpr(f)(x)), "the scope must end with its block"


def test_unbox_leaves_plain_arrays():
  init = sharding.axes(jax.nn.initializers.ones, "embed")
  tree = sharding.unbox({"a": init(jax.random.key(0), (4,)), "b": jnp.zeros(2)})
  assert all(type(x) is type(jnp.zeros(1)) for x in jax.tree.leaves(tree))
  np.testing.assert_array_equal(tree["a"], np.ones(4))


def test_the_table_counts_bytes_on_each_device(mesh):
  tree = {"kernel": boxed((8, 6), "embed", "mlp"), "scale": boxed((4,), None)}
  layout = sharding.shardings(tree, mesh, Rules())
  placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), sharding.unbox(tree), layout)
  rows = {row.path: row for row in parameter_table.describe(placed)}
  assert rows["kernel"].bytes_per_device == 4 * 3 * 4
  assert rows["scale"].bytes_per_device == 4 * 4
  assert rows["kernel"].spec == "fsdp model"
  assert "52 numbers" in parameter_table.table(list(rows.values()))


def test_arrays_of_many_layers_are_one_row():
  alike = [parameter_table.Row(f"block_{i}/up/kernel", (8, 6), "fsdp -", 48) for i in range(3)]
  other = parameter_table.Row("block_3/up/kernel", (8, 7), "fsdp -", 56)
  rows = parameter_table.grouped([*alike, other])
  assert rows == [parameter_table.Row("block_*/up/kernel", (8, 6), "fsdp -", 144, 3), other]
  text = parameter_table.table(rows)
  assert "3 of block_*/up/kernel" in text
  assert text.splitlines()[-1].split() == ["4", "arrays", "200", "numbers", "200"]


def test_whether_an_axis_is_split_follows_from_mesh_and_rules(mesh):
  assert not sharding.is_split("mlp")  # out of any scope
  with sharding.in_scope(mesh, Rules()):
    assert sharding.is_split("mlp")
    assert not sharding.is_split("seq")
    with pytest.raises(ValueError, match="did you mean 'mlp'"):
      sharding.is_split("mpl")
  with sharding.in_scope(mesh, Rules(seq=("model",))):
    assert sharding.is_split("seq")
  with sharding.in_scope(sharding.make_mesh(MeshShape(data=8)), Rules()):
    assert not sharding.is_split("mlp")


def test_a_weight_split_over_two_mesh_axes_is_first_gathered_along_the_second(mesh):
  rules = Rules(batch=("data", "fsdp", "model"), embed=("fsdp", "model"), mlp=())

  def program(rules):
    def scoped(w):
      with sharding.in_scope(mesh, rules):
        return sharding.in_stages(w, "embed", "mlp")

    return str(jax.make_jaxpr(scoped)(jnp.zeros((8, 4))))

  assert "spec=P('fsdp', None)" in program(rules)
  assert "sharding_constraint" not in program(dataclasses.replace(rules, embed=("fsdp",)))
  w = jnp.zeros((8, 4))
  assert sharding.in_stages(w, "embed", "mlp") is w  # out of any scope


def test_parts_of_an_axis_are_those_of_its_mesh_axes():
  assert sharding.parts("batch") == 1
  with sharding.in_scope(sharding.make_mesh(MeshShape(data=2, fsdp=2, model=2)), Rules()):
    assert (sharding.parts("batch"), sharding.parts("heads"), sharding.parts("seq")) == (4, 2, 1)
    assert sharding.parts("rows") == 2  # beside weights that fsdp splits: data alone
    assert sharding.is_split("rows")
    assert not sharding.is_split("seq")


def test_one_process_holds_every_part_of_a_batch(mesh):
  assert sharding.share(mesh, Rules()) == sharding.Share((0, 1, 2, 3), 4)
  rows_BD = np.arange(24).reshape(8, 3)
  placed = sharding.place(rows_BD, sharding.share(mesh, Rules()), mesh, Rules())
  np.testing.assert_array_equal(placed, rows_BD)
  assert placed.sharding.is_equivalent_to(sharding.batch_sharding(mesh, Rules(), 2), 2)


def test_a_host_s_parts_of_a_batch_need_not_be_neighbours():
  """A block of a TPU's torus: along one mesh axis its chips are the first and the last."""
  whole_BD = np.arange(24).reshape(8, 3)
  own_BD, share = whole_BD[[0, 1, 6, 7]], sharding.Share((0, 3), 4)
  for rows in (slice(0, 2), slice(6, 8)):
    np.testing.assert_array_equal(sharding._rows(own_BD, share, (rows, slice(None))), whole_BD[rows])


def test_within_a_replica_arrays_are_split_over_the_other_axes_alone():
  mesh, rules = sharding.make_mesh(MeshShape(data=2, fsdp=2), jax.devices()[:4]), Rules()
  seen = []

  def centred(x_BD):
    """Each part of the batch less its own mean: by device inside, by replica outside."""
    seen.append(x_BD.shape)
    return x_BD - x_BD.mean(axis=0, keepdims=True)

  def own(x_BD, scale):
    assert sharding.parts("batch") == 2
    x_BD = sharding.constrain(x_BD, "batch", None)
    by_device = sharding.by_shard(centred, (("batch", None),), ("batch", None))(x_BD)
    return by_device, centred(x_BD) * scale, jax.lax.psum(jnp.sum(x_BD), sharding.REPLICAS)

  x_BD = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
  run = sharding.by_replica(own, mesh, rules, (True, False), (True, True, False))
  by_device, by_replica, total = jax.jit(run)(x_BD, jnp.float32(2.0))
  assert seen == [(2, 3), (4, 3)]
  in_parts = lambda n: (x_BD.reshape(n, -1, 3) - x_BD.reshape(n, -1, 3).mean(axis=1, keepdims=True)).reshape(8, 3)  # noqa: E731
  np.testing.assert_allclose(by_device, in_parts(4), atol=1e-6)
  np.testing.assert_allclose(by_replica, 2 * in_parts(2), atol=1e-6)
  assert float(total) == pytest.approx(x_BD.sum(), abs=1e-4)
