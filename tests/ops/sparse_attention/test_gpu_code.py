"""The GPU kernels compiled for a GPU that is not here: ptxas finds registers for all of it."""

import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, gpu_code
from dalle_jax.ops.sparse_attention.pallas_gpu.attend import WORKERS
from dalle_jax.ops.sparse_attention.pallas_gpu.program import REGISTERS

SAID = """\
ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient \
register resources for the function 'b_backward_mosaic_gpu_kernel'
ptxas info    : Compiling entry function 'b_backward_mosaic_gpu_kernel' for 'sm_90a'
ptxas info    : Function properties for b_backward_mosaic_gpu_kernel
    624 bytes stack frame, 1640 bytes spill stores, 1440 bytes spill loads
ptxas info    : Used 128 registers, used 16 barriers, 624 bytes cumulative stack size, 1 bytes smem
ptxas info    : Compiling entry function 'b_forward_mosaic_gpu_kernel' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 96 registers, used 16 barriers, 1 bytes smem
"""


def test_what_ptxas_says_is_read():
  assert gpu_code.parse(SAID) == [
    gpu_code.Code("b_forward", registers=96, spilled=0, serialized=False),
    gpu_code.Code("b_backward", registers=128, spilled=3080, serialized=True),
  ]


@pytest.mark.parametrize(
  ("kind", "grid", "head_dim"),
  [
    ("row", 32, 64),
    pytest.param("column", 32, 64, marks=pytest.mark.slow),
    pytest.param("conv", 32, 64, marks=pytest.mark.slow),
    pytest.param("conv", 64, 64, marks=pytest.mark.slow),
    pytest.param("column", 64, 64, marks=pytest.mark.slow),
    pytest.param("full", 32, 64, marks=pytest.mark.slow),
    pytest.param("conv_corner", 32, 128, marks=pytest.mark.slow),
    pytest.param("row", 32, 32, marks=pytest.mark.slow),
    pytest.param("column", 16, 16, marks=pytest.mark.slow),
  ],
)
def test_the_kernels_compile_for_an_h200_with_their_sums_in_registers(kind, grid, head_dim):
  try:
    codes = gpu_code.of_passes(Pattern(text=256, grid=grid, kind=kind), head_dim=head_dim)
  except UserError as error:
    pytest.skip(str(error))
  name = f"sparse_attention_{kind}"
  assert [code.name for code in codes] == [f"{name}_{p}" for p in ("forward", "backward_keys", "backward_queries")]
  of_pass = {"forward": WORKERS[head_dim].forward}
  few = 0 if head_dim < 128 and kind != "full" else 64
  for code in codes:
    workers = of_pass.get(code.name.removeprefix(f"{name}_"), WORKERS[head_dim].backward)
    computes, copies = REGISTERS[workers]
    # More than the program has at entry would be waited for for ever.
    assert workers * computes + copies <= (workers + 1) * code.registers <= 512
    assert code.spilled <= few
    assert not code.serialized


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(gpu_code.sysconfig, "get_path", lambda _: str(tmp_path))
  with pytest.raises(UserError, match="run `make gpu-compiler`"):
    gpu_code.of_passes(Pattern(text=4, grid=3))
