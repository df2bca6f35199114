"""`dalle bench train-step|sample [--layers N ...] [--json]`: times this machine; see dalle_jax.bench."""

import dataclasses
import json
import sys
from typing import Any

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle bench train-step|sample [--layers 4 --dim 512 --heads 8 --batch 2 ...] [--repeats N] [--json]

train-step    seconds a training step: median_s
sample        seconds a drawn image token of the whole batch, with caches: s_per_token

--json prints one JSON object. dalle bench train-step --help lists every size that can be set.
"""


def run(argv: list[str]) -> int:
  """Parses the flags, times, prints. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  what, *rest = argv
  if what not in ("train-step", "sample"):
    from dalle_jax.commands.suggest import suggest

    raise UserError(f"dalle bench can't time {what!r}; {suggest(what, ['train-step', 'sample'])}")
  as_json = "--json" in rest
  from dalle_jax import bench
  from dalle_jax.commands import flags

  time = bench.train_step if what == "train-step" else bench.sample
  given = flags.parse(
    _flags(bench.Shape, time.__kwdefaults__),
    [arg for arg in rest if arg != "--json"],
    prog=f"dalle bench {what}",
    description="Times this machine. --json prints one JSON object.",
  )
  shape = bench.Shape(**{f.name: getattr(given, f.name) for f in dataclasses.fields(bench.Shape)})
  result = time(shape, warmup=given.warmup, repeats=given.repeats)
  print(json.dumps(result) if as_json else text(result))
  sys.stdout.flush()
  return 0


def text(result: dict[str, Any]) -> str:
  """The result for a person."""
  key = "median_s" if "median_s" in result else "s_per_token"
  spread, device = result["spread_s"], result["device"]
  unit = "s a step" if key == "median_s" else "s a token"
  return (
    f"{result['bench']}: {result[key]:.4g} {unit} (median of {result['repeats']}, "
    f"{spread['min']:.4g} to {spread['max']:.4g}), {result['tokens_per_s']:.4g} tokens/s\n"
    f"{result['parameters']:,} parameters, {device['kind']}, {device['processor']}, {device['cores']} cores"
  )


def _flags(shape: type, defaults: dict[str, int]) -> type:
  """The shape's fields, and how often to run."""
  how_often = [(name, int, dataclasses.field(default=value)) for name, value in defaults.items()]
  return dataclasses.make_dataclass("Flags", how_often, bases=(shape,), frozen=True, kw_only=True)
