"""`dalle bench WHAT [--layers N ...] [--json]`: see USAGE for what can be timed, and dalle_jax.bench and its kind."""

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle bench train-step|sample [--layers 4 --dim 512 --heads 8 --batch 2 ...] [--repeats N] [--json]
       dalle bench attention [--heads 8 --head-dim 64 --batch 2 ...] [--repeats N] [--json]
       dalle bench tpu-cycles [--chips v5e v6e ...] [--text 256 --grid 32] [--json]
       dalle bench gpu-registers [--text 256 --grid 32 --head-dim 64 ...] [--json]

train-step    seconds a training step: median_s
sample        seconds a drawn image token of the whole batch: s_per_token; beside it a cache of all, and none, and with
              --given-rows R pictures whose top R rows are given; --beside 0 times ours alone
attention     seconds of each pattern's attention: dense under a mask, JAX's own under it, and ours, in turn: rows;
              on a GPU cuDNN's too, and --beside 0 leaves out those that write all scores to memory
tpu-cycles    our TPU kernel and JAX's splash attention in cycles of their compiled schedules, with no TPU: rows
gpu-registers our GPU kernels' registers and spills, compiled for an H200 with no GPU: rows

--json prints one JSON object. dalle bench train-step --help lists every size that can be set.
"""


def run(argv: list[str]) -> int:
  """Parses the flags, times, prints. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  what, *rest = argv
  if what not in TEXTS:
    from dalle_jax.commands.suggest import suggest

    raise UserError(f"dalle bench can't time {what!r}; {suggest(what, list(TEXTS))}")
  as_json = "--json" in rest
  from dalle_jax import bench, bench_attention, bench_gpu, bench_sample, bench_tpu
  from dalle_jax.commands import flags, progress

  time, sizes = {
    "train-step": (bench.train_step, bench.Shape),
    "sample": (bench_sample.sample, bench.Shape),
    "attention": (bench_attention.attention, bench_attention.Shape),
    "tpu-cycles": (bench_tpu.cycles, bench_tpu.Sizes),
    "gpu-registers": (bench_gpu.registers, bench_gpu.Sizes),
  }[what]
  given = flags.parse(
    _flags(sizes, time),
    [arg for arg in rest if arg != "--json"],
    prog=f"dalle bench {what}",
    description="--json prints one JSON object.",
  )
  shape = sizes(**{f.name: getattr(given, f.name) for f in dataclasses.fields(sizes)})
  how = {name: getattr(given, name) for name in _how_often(time)}
  with progress.shown() as tell:
    result = time(shape, **how, **({"progress": tell} if "progress" in inspect.signature(time).parameters else {}))
  print(json.dumps(result) if as_json else TEXTS[what](result))
  sys.stdout.flush()
  return 0


def _of_model(result: dict[str, Any]) -> str:
  key = "median_s" if "median_s" in result else "s_per_token"
  spread, unit = result["spread_s"], "s a step" if key == "median_s" else "s a token"
  return (
    f"{result['bench']}: {result[key]:.4g} {unit} (median of {result['repeats']}, "
    f"{spread['min']:.4g} to {spread['max']:.4g}), {result['tokens_per_s']:.4g} tokens/s{_share(result)}\n"
    f"{_beside(result)}{result['parameters']:,} parameters, {_where(result['device'])}"
  )


def _share(result: dict[str, Any]) -> str:
  """What part it is of what the chip could do at most, where its figures are known."""
  images = f", {result['images_per_s']:.4g} images/s" if "images_per_s" in result else ""
  of = {"mfu": "of the chip's peak in bfloat16", "roofline": "of the roofline at this batch"}
  return images + "".join(f", {100 * result[name]:.1f} % {what}" for name, what in of.items() if result.get(name))


def _beside(result: dict[str, Any]) -> str:
  """How many times as long the other samplers take."""
  lines = [
    f"{name}: {result[f'{side}_s_per_token']:.4g} s a token, {result[f'ratio_{side}']:.2f} times as long\n"
    for side, name in (("dense", "dense cache"), ("recompute", "no cache"), ("given", "top rows given"))
    if f"ratio_{side}" in result
  ]
  if not lines:
    return ""
  sizes = [f"{result[f'{side}_cache_bytes'] / 1e6:.1f} MB" for side in ("ours", "dense")]
  return "".join(lines) + f"caches of the batch: {sizes[0]}, dense {sizes[1]}\n"


def _of_attention(result: dict[str, Any]) -> str:
  from dalle_jax import bench_attention

  return bench_attention.text(result)


def _where(device: dict[str, Any]) -> str:
  return f"{device['kind']}, {device['processor']}, {device['cores']} cores"


def _of_tpu(result: dict[str, Any]) -> str:
  from dalle_jax import bench_tpu

  return bench_tpu.text(result)


def _of_gpu(result: dict[str, Any]) -> str:
  from dalle_jax import bench_gpu

  return bench_gpu.text(result)


# A result for a person.
TEXTS = {
  "train-step": _of_model,
  "sample": _of_model,
  "attention": _of_attention,
  "tpu-cycles": _of_tpu,
  "gpu-registers": _of_gpu,
}


def _flags(shape: type, time: Callable[..., dict[str, Any]]) -> type:
  """The shape's fields, and how often to run, as often as the function says by itself."""
  how_often = [(name, int, dataclasses.field(default=value)) for name, value in _how_often(time).items()]
  return dataclasses.make_dataclass("Flags", how_often, bases=(shape,), frozen=True, kw_only=True)


def _how_often(time: Callable[..., dict[str, Any]]) -> dict[str, int]:
  return {name: p.default for name, p in inspect.signature(time).parameters.items() if p.kind is p.KEYWORD_ONLY}
