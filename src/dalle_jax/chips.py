"""Accelerators by their published figures: what a step's speed and memory are held against.

Of a device as JAX counts them, which is one of the two cores of a TPU v4 or TPU7x chip, and a whole chip elsewhere.

Sources: the pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPU7x (Ironwood)" of docs.cloud.google.com/tpu/docs,
read in November 2026 (peak in bfloat16, memory and its bandwidth, interconnect; the v4's links: Jouppi et al. 2023,
section 2); NVIDIA's data sheets of A100, H100 SXM, H200 and B200 (dense bfloat16; NVLink in one direction). The
bandwidths of TPU7x, A100 and B200 were not read again where they are published.
"""

import dataclasses
from importlib import resources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """peak: FLOP/s in bfloat16; memory: bytes; hbm: bytes/s that it is read at.

  link: bytes/s that a device sends along one axis of the torus, both ways together, or into an NVLink switch; axes: of
  the torus; per_cycle: FLOPs of the matrix units in a cycle (0 where the compiler counts no cycles).
  """

  name: str
  kind: str
  peak: float
  memory: int
  hbm: float
  link: float
  axes: int
  per_cycle: int = 0


_GIB = 2**30
# A v5e's 400 GB/s both ways are 200 one way over 4 links: 100 along an axis. v5p: 1200, 600, 6 links, 200. v6e: 800,
# 400, 4 links, 200. TPU7x: 1200 a chip, 600 over 6 links, 200 an axis, shared by two devices. v4: 6 links of 50.
CHIPS = (
  Chip(name="v4", kind="TPU v4", peak=137.5e12, memory=16 * _GIB, hbm=600e9, link=50e9, axes=3, per_cycle=2**17),
  Chip(name="v5e", kind="TPU v5 lite", peak=197e12, memory=16 * _GIB, hbm=819e9, link=100e9, axes=2, per_cycle=2**17),
  Chip(name="v5p", kind="TPU v5", peak=459e12, memory=95 * _GIB, hbm=2765e9, link=200e9, axes=3, per_cycle=2**18),
  Chip(name="v6e", kind="TPU v6 lite", peak=918e12, memory=32 * _GIB, hbm=1600e9, link=200e9, axes=2, per_cycle=2**19),
  Chip(name="tpu7x", kind="TPU7x", peak=1153.5e12, memory=96 * _GIB, hbm=3690e9, link=100e9, axes=3, per_cycle=2**19),
  Chip(name="a100", kind="NVIDIA A100", peak=312e12, memory=80 * 10**9, hbm=2039e9, link=300e9, axes=1),
  Chip(name="h100", kind="NVIDIA H100", peak=989.4e12, memory=80 * 10**9, hbm=3350e9, link=450e9, axes=1),
  Chip(name="h200", kind="NVIDIA H200", peak=989.4e12, memory=141 * 10**9, hbm=4800e9, link=450e9, axes=1),
  Chip(name="b200", kind="NVIDIA B200", peak=2250e12, memory=180 * 10**9, hbm=7700e9, link=900e9, axes=1),
)


def of_kind(device_kind: str) -> Chip | None:
  """The chip that JAX calls so ("TPU v5 lite", "NVIDIA H100 80GB HBM3"); None for one that is not listed."""
  exact = [chip for chip in CHIPS if device_kind == chip.kind]
  alike = [chip for chip in CHIPS if chip.kind.startswith("NVIDIA") and device_kind.startswith(chip.kind)]
  return next(iter(exact + alike), None)


def named(name: str) -> Chip | None:
  """The chip of that short name, such as v5e; None where there is none."""
  return next((chip for chip in CHIPS if chip.name == name), None)


def target(name: str) -> str:
  """What XLA's CUDA compiler has to know of a GPU that is not here, from the file in `targets/`."""
  return (resources.files("dalle_jax") / "targets" / f"{name}.txtpb").read_text()


def targets() -> tuple[str, ...]:
  """The GPUs there is such a file of."""
  files = (resources.files("dalle_jax") / "targets").iterdir()
  return tuple(sorted(file.name.removesuffix(".txtpb") for file in files if file.name.endswith(".txtpb")))
