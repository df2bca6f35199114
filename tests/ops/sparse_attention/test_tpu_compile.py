"""The TPU kernels in programs for TPUs that are not here: lowered without one, and compiled by libtpu where it is."""

import functools
import os

import jax
import jax.numpy as jnp
import pytest
from cycles import both, compiler, shapes

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend, tpu_cycles

# Cycles a head of splash's best block shape on v5e and v6e (`dalle bench tpu-cycles`), over the ratio we must keep.
MOST = {
  ("v5e", "forward"): 9100 / 2.5,
  ("v5e", "backward"): 15400 / 1.8,
  ("v6e", "forward"): 6100 / 2.5,
  ("v6e", "backward"): 10000 / 1.8,
}


@pytest.mark.parametrize("kind", ["row", "column", "conv", "full"])
def test_the_kernels_are_in_the_program_for_a_tpu(kind):
  pattern = Pattern(text=256, grid=32, kind=kind)
  traced = jax.jit(functools.partial(both, pattern)).trace(*shapes(pattern))
  text = traced.lower(lowering_platforms=("tpu",)).as_text()
  for which in ("forward", "backward"):
    assert f"sparse_attention_{kind}_{which}" in text
  assert text.count("tpu_custom_call") == 2


def test_splash_is_in_the_program_for_a_tpu():
  pattern = Pattern(text=128, grid=16, kind="row")
  run = functools.partial(attend, pattern=pattern, implementation="splash")
  assert "splash" in jax.jit(run).trace(*shapes(pattern)[:3]).lower(lowering_platforms=("tpu",)).as_text()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
  try:
    tpu_cycles.settings()
  except UserError as error:
    pytest.skip(str(error))
  with compiler(tmp_path_factory.mktemp("schedules")) as compiled:
    yield compiled


@pytest.mark.parametrize("chip", ["v5e", "v6e"])
def test_libtpu_compiles_both_passes_to_few_cycles(chip, compiled):
  found = compiled(chip, Pattern(text=256, grid=32, kind="row"))
  for which, kernel in found.items():
    assert 1000 < kernel.loop / 2 < MOST[chip, which]


@pytest.mark.slow
def test_the_compiler_leaves_this_process_its_environment(compiled):
  compiled("v5e", Pattern(text=256, grid=32, kind="row"))
  assert "xla_jf_dump_to" not in os.environ.get("LIBTPU_INIT_ARGS", "")


def in_full(cases):
  """Each case for each chip: those for v5e are slow, all others are long as well."""
  marks = {
    chip: [pytest.mark.slow, *([pytest.mark.long] if chip != "v5e" else [])] for chip in sorted(tpu_cycles.CHIPS)
  }
  return [pytest.param(chip, *case, marks=marks[chip]) for chip in marks for case in cases]


@pytest.mark.parametrize(("chip", "kind"), in_full([("column",), ("conv",), ("full",)]))
def test_libtpu_compiles_every_pattern_for_every_chip(chip, kind, compiled):
  assert set(compiled(chip, Pattern(text=256, grid=32, kind=kind))) == {"forward", "backward"}


@pytest.mark.slow
@pytest.mark.parametrize("chip", sorted(tpu_cycles.CHIPS.keys() - {"v5e", "v6e"}))
def test_libtpu_compiles_for_every_chip(chip, compiled):
  assert set(compiled(chip, Pattern(text=256, grid=32, kind="row"))) == {"forward", "backward"}


@pytest.mark.parametrize(
  ("chip", "pattern", "dtype"),
  in_full(
    [
      (Pattern(text=256, grid=64, kind="row"), jnp.bfloat16),  # in blocks
      (Pattern(text=256, grid=64, kind="conv"), jnp.bfloat16),
      (Pattern(text=77, grid=24, kind="conv_corner"), jnp.bfloat16),  # ragged
      (Pattern(text=256, grid=32, kind="column"), jnp.float32),
    ]
  ),
)
def test_libtpu_compiles_long_and_ragged_streams_and_float32(chip, pattern, dtype, compiled):
  assert set(compiled(chip, pattern, dtype)) == {"forward", "backward"}


def test_a_chip_that_does_not_exist_is_refused():
  with pytest.raises(UserError, match="no TPU 'v9': choose one of v4, v5e, v5p, v6e, tpu7x"):
    tpu_cycles.compile_for("v9", lambda x: x)


def test_without_libtpu_one_line_says_what_to_do(monkeypatch, tmp_path):
  monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "libtpu.so"))
  with pytest.raises(UserError, match=r"no libtpu at .*: run `make libtpu`"):
    tpu_cycles.begin(tmp_path)


def test_a_schedule_is_read_from_its_branches(tmp_path):
  # A loop of 0x20 bundles whose body may be skipped as a whole, and in it two parts of 4 and 8.
  lines = [f"0x{at:x} {label} : > {{ {text} }}" for at, label, text in [
    (0x0, "  ", ""), (0x4, "LB", ""), (0x6, "  ", "%1 = sbr.rel (%p1) target bundleno = 34 (0x22), region = 1"),
    (0x8, "  ", "%2 = sbr.rel (%p2) target bundleno = 12 (0xc), region = 2"), (0xC, "PF", ""),
    (0x10, "  ", "%3 = sbr.rel (!%p3) target bundleno = 24 (0x18), region = 3"), (0x18, "PF", ""), (0x22, "PF", ""),
    (0x24, "  ", "%4 = sbr.rel (!%p4) target bundleno = 4 (0x4), region = 4"),
  ]]  # fmt: skip
  (tmp_path / "17956-some_kernel.1-65-packed-bundles-post-ra.txt").write_text("\n".join(lines))
  (tmp_path / "17956-some_kernel.1-65-schedule-analysis_packed-bundles-post-ra.txt").write_text("none")
  (kernel,) = tpu_cycles.kernels(tmp_path)
  assert kernel == tpu_cycles.Kernel("some_kernel.1", loop=0x20, parts=(4, 8))
  assert kernel.cycles(3, 3, 1) == 3 * 20 + 3 * 4 + 8
  with pytest.raises(ValueError, match="has 2 parts that may be skipped, got counts of 1"):
    kernel.cycles(3, 3)
  assert not list(tmp_path.iterdir())
