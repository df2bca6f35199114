"""`dalle plan EXPERIMENT --topology NAME …`: does it fit, and how fast can it be, on devices that are not here."""

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle plan EXPERIMENT --topology NAME [NAME ...] [--stage transformer] [--batch N | --largest-batch] [--sample]
                  [--json FILE] [--plot FILE.png] [--FIELD VALUE ...]

Compiles a stage's train step for TPUs and GPUs that are not here, and says what a device holds, whether that fits, what
is sent, and the greatest utilisation that the compiled program allows. Several topologies are compared.

topologies    v4:4x4x4 v5e:16x16 v5p:8x8x16 v6e:16x16 tpu7x:4x4x4 (needs `make libtpu`)
              2xv5e:16x16: two slices, between which the mesh's data axis goes
              h100:8 h200:64                                     (needs `make gpu-compiler`)

--sample plans the stage's sampler instead: a batch of samples of one caption, drawn at the same time, with weights in
the dtype that they are used in. --largest-batch searches for the largest batch that fits. Every field of the experiment
is a flag, as of dalle train:
--mesh.fsdp 16 --stages.transformer.accumulate 4
"""


PICTURES = (".png", ".pdf", ".svg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Compiles a stage's train step for devices that are not here."""

  topology: tuple[str, ...]
  """Such as v5p:4x4x4 or h200:8; several are compared."""
  stage: str = "transformer"
  """Which stage's step."""
  batch: int | None = None
  """Examples of a step, over all devices, in place of the experiment's."""
  json: Path | None = None
  """Where to write all that was found."""
  plot: Path | None = None
  """Where to draw it."""


def run(argv: list[str]) -> int:
  """Parses the flags, compiles, prints. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  file, *rest = argv
  largest, sample = "--largest-batch" in rest, "--sample" in rest
  rest = [arg for arg in rest if arg not in ("--largest-batch", "--sample")]
  from dalle_jax.commands import experiment_flags

  experiment_flags.check_file(file)
  given = experiment_flags.parse(Flags, file, rest, prog="dalle plan")
  if not given.topology:
    raise UserError("no topology: name at least one, as in --topology v5p:4x4x4")
  whole, stage = given.experiment, given.experiment.stage(given.stage)
  if given.batch is not None:
    if given.batch < 1:
      raise UserError(f"got --batch {given.batch}, wanted 1 or more")
    if largest:
      raise UserError("got --batch and --largest-batch: leave one of them out")
    whole = dataclasses.replace(
      whole, stages=whole.stages | {given.stage: dataclasses.replace(stage, batch=given.batch)}
    )
  if rest.count("--topology") > 1 or len(set(given.topology)) < len(given.topology):
    raise UserError("a topology, or --topology, is there twice: name each once, as in --topology v5p:4x4x4 h200:8")
  if given.plot and given.plot.suffix not in PICTURES:
    raise UserError(f"got --plot {given.plot}, wanted a name that ends in {', '.join(PICTURES)}")
  for path in filter(None, (given.json, given.plot)):
    _check_writable(path)
  from dalle_jax import bench
  from dalle_jax.commands import progress
  from dalle_jax.plan import ask, draw, report

  if sample:
    draw.model_of(stage, given.stage)
  with progress.shown() as tell:
    results = ask.plan(whole, given.stage, list(given.topology), tell, largest=largest, sample=sample)
  for result in results:
    print(report.text(result), end="\n\n")
  if len(results) > 1:
    print(report.table(results))
  if given.json:
    command = shlex.join(["dalle", "plan", *argv])
    said = report.READS if sample else report.ESTIMATE
    made = {"experiment": whole.name, "command": command, "ceilings": said, "plans": results}
    with _writing(given.json):
      given.json.write_text(json.dumps(made | {"versions": bench.versions()}, indent=2) + "\n")
  if given.plot:
    with _writing(given.plot):
      report.plot(results, given.plot)
  not_fitting = [result["topology"] for result in results if not result["fits"]]
  if not_fitting:
    what, less = ("sampler", "") if sample else ("train step", ", or keep less with remat")
    raise UserError(
      f"{whole.name}'s {given.stage} {what} does not fit on {', '.join(not_fitting)}: lower the batch, or split more "
      f"over --mesh{less}"
    )
  return 0


def _check_writable(path: Path) -> None:
  """Raises UserError where no file can be written: compiling first would take minutes."""
  if not path.absolute().parent.is_dir():
    raise UserError(f"no directory {path.parent} to write {path.name} into: make it first")
  if path.is_dir():
    raise UserError(f"{path} is a directory: name a file to write")
  with _writing(path):
    there = path.exists()
    path.open("a").close()
    if not there:
      path.unlink()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise UserError(f"cannot write {path} ({error.strerror}): name another file") from error
