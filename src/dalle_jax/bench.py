"""Times the train step and the sampler of a transformer of any size, with random weights, on this machine.

    timer = train_step_timer(shape) | ...        compiles; each call runs once and returns seconds
    seconds = measure(timer, warmup=, repeats=)
    report(...)                                  one dict: what was measured, on what, with which versions

Timers wait for the device to finish, and copy one number out, before the clock is read.

B batch, T text positions, N image positions.
"""

import dataclasses
import functools
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dalle_jax import chips, sharding
from dalle_jax.errors import UserError
from dalle_jax.models import flops, transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import generate
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import init_state, make_step

Timer = Callable[[], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
  """What is timed: the transformer's sizes (see `transformer.Config`) and the batch."""

  layers: int = 4
  dim: int = 512
  heads: int = 8
  text: int = 256
  grid: int = 32
  text_vocab: int = 16384
  image_vocab: int = 8192
  batch: int = 2
  mix: tuple[str, ...] = ("row", "column", "row", "row")
  last: str | None = "conv"
  kernel: int = 11
  attention: str = "auto"
  remat: str = "none"
  scan: bool = True
  dtype: str = "float32"
  seed: int = 0

  def __post_init__(self) -> None:
    if self.batch < 1:
      raise UserError(f"got batch={self.batch}, wanted at least 1")
    if self.heads < 1 or self.dim % self.heads:
      raise UserError(f"got dim={self.dim} and heads={self.heads}, wanted a width that the heads divide")

  def model(self) -> transformer.Config:
    """The transformer of these sizes. Raises UserError for sizes that none has."""
    own = {field.name for field in dataclasses.fields(transformer.Config)}
    same = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name in own}
    return transformer.Config(head_dim=self.dim // self.heads, **same)


def train_step_timer(shape: Shape) -> Timer:
  """A whole training step on one device: loss, gradient, clipping, Adam. Every call moves the same state on."""
  objective = TransformerNll(model=shape.model())
  optimizer = AdamW(lr=Constant(value=3e-4), clip=0.5)
  mesh, rules = _one_device()
  state = init_state(objective, optimizer, seed=shape.seed, mesh=mesh, rules=rules)
  step = make_step(objective, optimizer, seed=shape.seed, mesh=mesh, rules=rules)
  batch = {k: jnp.asarray(x) for k, x in random_batch(shape).items()}

  def timer() -> float:
    nonlocal state
    begin = time.perf_counter()
    state, metrics = step(state, {}, batch)
    loss = float(jax.block_until_ready((state, metrics))[1]["loss"])
    seconds = time.perf_counter() - begin
    if not np.isfinite(loss):
      raise UserError(f"the loss became {loss} while timing; change dtype or the sizes")
    return seconds

  return timer


def sample_timer(shape: Shape, given_rows: int = 0) -> Timer:
  """Drawing `batch` pictures' codes of one caption, caches and all; divide by grid² for seconds a token.

  given_rows: of the grid, from the top, whose codes are not drawn.
  """
  model, sampling = shape.model(), SamplingConfig()
  params = jax.jit(lambda: transformer.in_compute_dtype(random_weights(shape), model))()
  text_CT, codes_CN = (jnp.asarray(random_batch(shape)[name][:1]) for name in ("text", "codes"))
  given_CN = codes_CN.at[:, given_rows * shape.grid :].set(-1) if given_rows else None
  key, numbers = jax.random.key(shape.seed), jnp.arange(shape.batch)
  how = {"model": model, "sampling": sampling, "given_CN": given_CN}

  def timer() -> float:
    begin = time.perf_counter()
    codes_CSN = generate(params, text_CT, key, jnp.zeros(1, jnp.int32), numbers, **how)
    codes_CSN.block_until_ready()
    return time.perf_counter() - begin

  return timer


def random_weights(shape: Shape) -> PyTree:
  """As training begins with them."""
  return sharding.unbox(TransformerNll(model=shape.model()).init(jax.random.key(shape.seed)))


def random_batch(shape: Shape) -> dict[str, np.ndarray]:
  """Seeded tokens without meaning: text int32 [B, T], its last position a pad, and codes int32 [B, N]."""
  rng = np.random.default_rng(shape.seed)
  text_BT = rng.integers(0, shape.text_vocab, (shape.batch, shape.text), dtype=np.int32)
  text_BT[:, -1] = shape.text_vocab + shape.text - 1
  codes_BN = rng.integers(0, shape.image_vocab, (shape.batch, shape.grid**2), dtype=np.int32)
  return {"text": text_BT, "codes": codes_BN}


def measure(timer: Timer, *, warmup: int, repeats: int) -> list[float]:
  """Seconds of `repeats` calls, after `warmup` calls that don't count. Raises UserError if nothing would be timed."""
  if repeats < 1 or warmup < 1:
    raise UserError(f"got warmup={warmup} and repeats={repeats}, wanted at least 1 of each")
  for _ in range(warmup):
    timer()
  return [timer() for _ in range(repeats)]


def train_step(shape: Shape, *, warmup: int = 2, repeats: int = 10) -> dict[str, Any]:
  """Times the train step. Keys: median_s, spread_s, tokens_per_s, mfu, and those of `report`.

  mfu: the model's FLOPs (`models.flops`) over the chip's peak in bfloat16; None on a chip that `chips` does not list.
  """
  seconds = measure(train_step_timer(shape), warmup=warmup, repeats=repeats)
  tokens = shape.batch * (shape.text + shape.grid**2)
  median = statistics.median(seconds)
  chip = chips.of_kind(jax.devices()[0].device_kind)
  mfu = flops.of_transformer(shape.model()) * shape.batch / median / chip.peak if chip else None
  return {"median_s": median, "tokens_per_s": tokens / median, "mfu": mfu} | report("train-step", shape, seconds)


def report(name: str, shape: Shape, seconds: list[float]) -> dict[str, Any]:
  """What every benchmark reports beside its figure; `spread_s` is the least, the quartiles and the greatest."""
  return {
    "bench": name,
    "spread_s": spread(seconds),
    "repeats": len(seconds),
    "parameters": parameters(shape),
    "shape": dataclasses.asdict(shape),
    "device": device(),
    "versions": versions(),
  }


def spread(seconds: list[float]) -> dict[str, float]:
  """Least, quartiles and greatest."""
  names = ("min", "p25", "p75", "max")
  return dict(zip(names, (float(x) for x in np.quantile(seconds, (0, 0.25, 0.75, 1)))))


@functools.cache
def parameters(shape: Shape) -> int:
  """How many numbers the model learns; computes nothing."""
  boxed = jax.eval_shape(TransformerNll(model=shape.model()).init, jax.random.key(0))
  return sum(x.size for x in jax.tree.leaves(sharding.unbox(boxed)))


def device() -> dict[str, Any]:
  """The accelerator as JAX calls it, the processor's name, and how many of its cores this process may use."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  first = jax.devices()[0]
  return {"platform": first.platform, "kind": first.device_kind, "processor": processor(), "cores": cores}


def processor() -> str:
  """The processor's model name, from Linux's /proc/cpuinfo where there is one."""
  try:
    with open("/proc/cpuinfo") as lines:
      return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
  """Python's and the libraries' that the figures depend on."""
  names = ("jax", "jaxlib", "flax", "optax", "numpy", "dalle-jax")
  return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _one_device() -> tuple[jax.sharding.Mesh, sharding.Rules]:
  return sharding.make_mesh(sharding.MeshShape(data=1), jax.devices()[:1]), sharding.Rules()
