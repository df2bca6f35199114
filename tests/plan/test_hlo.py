"""A compiled program's text: loops run as often as their condition says, and a TPU's reduce-scatter is one."""

# ruff: noqa: E501  the lines of a compiler's text are long

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dalle_jax import sharding
from dalle_jax.plan import hlo
from dalle_jax.plan.hlo import Collective

TPU = """\
HloModule jit_step

%all-reduce-scatter.1 (p: bf16[64,128]) -> bf16[16,128] {
  %p = bf16[64,128]{1,0} parameter(0)
  %all-reduce.3 = bf16[64,128]{1,0} all-reduce(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %slice = bf16[16,128]{1,0} dynamic-slice(%all-reduce.3, %i), backend_config={"estimated_cycles":"999"}
}

%body (x: (s32[], bf16[16,128])) -> (s32[], bf16[16,128]) {
  %all-gather.2 = bf16[64,128]{1,0} all-gather(%w), replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={0}
  %sparse_attention_row_forward.4 = (bf16[8]{0}, f32[8]{0}) custom-call(%q), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/periods/block_2/attend"}
  %fusion.8 = bf16[16,128]{1,0} fusion(%all-gather.2), kind=kOutput, calls=%other, backend_config={"estimated_cycles":"70"}
  %fusion.9 = bf16[16,128]{1,0} fusion(%fusion.8), kind=kCustom, calls=%all-reduce-scatter.1, backend_config={"x":1}
}

%condition (x: (s32[], bf16[16,128])) -> pred[] {
  %constant.5 = s32[]{:T(128)} constant(15)
  ROOT %lt = pred[] compare(%i, %constant.5), direction=LT
}

ENTRY %main (a: bf16[16,128]) -> bf16[16,128] {
  %while.1 = (s32[], bf16[16,128]) while(%t), condition=%condition, body=%body
  %copy.1 = bf16[16,128]{1,0} copy(%a), backend_config={"estimated_cycles":"7"}
  %all-reduce.7 = (f32[4]{0}, f32[2,2]{1,0}) all-reduce(%b, %c), replica_groups=[2,4]<=[8], to_apply=%add
}
"""


def test_what_stands_in_a_loop_counts_as_often_as_it_runs():
  program = hlo.read(TPU, 8)
  assert set(program.collectives) == {
    Collective("all-gather", 64 * 128 * 2, 4, 15),
    Collective("reduce-scatter", 64 * 128 * 2, 4, 15),
    Collective("all-reduce", 32, 4, 1),
  }
  assert program.cycles == 15 * 70 + 7
  (kernel,) = program.kernels
  assert (kernel.name, kernel.times) == ("sparse_attention_row_forward.4", 15)
  assert kernel.where == "jit(step)/periods/block_2/attend"


def test_whole_arrays_count_whichever_side_of_a_collective_they_stand_on():
  """Of those that are started, operands and results stand in one tuple."""
  lines = """
ENTRY %main (a: f32[4]) -> f32[4] {
  %ag = (f32[2]{0}, f32[8]{0}) all-gather-start(%a), replica_groups={{0,1,2,3}}
  %done = f32[8]{0} all-gather-done(%ag)
  %rs = f32[2]{0} reduce-scatter(%b), replica_groups={{0,1,2,3}}
  %rss = ((f32[8]{0}, f32[8]{0}), (f32[2]{0}, f32[2]{0})) reduce-scatter-start(%b, %c), replica_groups={{0,1,2,3}}
  %ar = (f32[8]{0}, f32[8]{0}) all-reduce-start(%b, %c), replica_groups={{0,1,2,3}}
  %cp = (f32[8]{0}, f32[8]{0}) collective-permute-start(%b), source_target_pairs={{0,1},{1,0}}
}
"""
  found = hlo.read(lines, 4).collectives
  assert [(each.kind, each.bytes) for each in found] == [
    ("all-gather", 32),
    ("reduce-scatter", 32),
    ("reduce-scatter", 64),
    ("all-reduce", 64),
    ("collective-permute", 32),
  ]


def test_what_a_device_sends_is_that_of_the_best_ring():
  assert Collective("all-gather", 400, 4, 2).sent == 2 * 300
  assert Collective("reduce-scatter", 400, 4, 1).sent == 300
  assert Collective("all-reduce", 400, 4, 1).sent == 600
  assert Collective("collective-permute", 400, 2, 1).sent == 400


def test_a_loop_whose_end_is_not_known_is_an_error_and_no_guess():
  with pytest.raises(ValueError, match="condition has no one constant"):
    hlo.read(TPU.replace("constant(15)", "parameter(0)"), 8)


def test_text_that_is_no_program_is_refused():
  with pytest.raises(ValueError, match="no entry computation"):
    hlo.read("nothing", 8)


def test_a_program_of_this_machine_is_read_as_it_was_written():
  # Weights in eight parts, gathered in each of five turns of a loop.
  mesh = sharding.make_mesh(sharding.MeshShape(data=1, fsdp=8))
  w = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "fsdp")))
  x = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))

  def loop(x, w):
    whole = NamedSharding(mesh, PartitionSpec())
    turn = lambda x, w: (jnp.tanh(x @ jax.lax.with_sharding_constraint(w, whole)), None)  # noqa: E731
    return jax.lax.scan(turn, x, w)[0]

  program = hlo.read(jax.jit(loop).lower(x, w).compile().as_text(), 8)
  assert program.cycles is None
  gathers = [each for each in program.collectives if each.kind == "all-gather"]
  assert sum(each.bytes * each.times for each in gathers) == 5 * 64 * 64 * 4
  assert {each.group for each in gathers} == {8}


def test_what_the_hosts_send_from_slice_to_slice_counts_too():
  attributes = '_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"'
  text = f"""
ENTRY %main (a: f32[4]) -> f32[4] {{
  %send.9 = (f32[128,8]{{1,0}}, u32[], token[]) send(%a, %after-all.9), channel_id=19, is_host_transfer=true, frontend_attributes={{{attributes}}}
  %send.1 = (f32[4]{{0}}, u32[], token[]) send(%a, %after-all.1), channel_id=3
}}
"""
  (found,) = hlo.read(text, 8).collectives
  assert found == Collective("all-reduce between slices", 4 * 128 * 8, 2, 1)
  assert found.sent == 4 * 128 * 8  # twice the half
  (found,) = hlo.read(text.replace("ALL_REDUCE", "ALL_GATHER"), 8).collectives
  assert found == Collective("all-gather between slices", 2 * 4 * 128 * 8, 2, 1)  # each sends its part of the whole


def test_an_operation_may_go_over_several_lines():
  text = """
%body (x: f32[4]) -> f32[4] {
  %splash.1 = f32[4]{0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 640}"
}}, metadata={op_name="jit(step)/periods/block_1/attend"}
  %ag = f32[8]{0} all-gather(%x), replica_groups={{0,1}}
}, execution_thread="main"

ENTRY %main (a: f32[4]) -> f32[4] {
  %while.1 = f32[4] while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""
  program = hlo.read(text, 2)
  assert [(each.where, each.times) for each in program.kernels] == [("jit(step)/periods/block_1/attend", 3)]
  assert program.collectives == (Collective("all-gather", 32, 2, 3),)
