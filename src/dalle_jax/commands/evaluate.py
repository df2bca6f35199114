"""`dalle eval WORKDIR`: held-out losses, reconstructions, and how often the drawings are what the captions say."""

import dataclasses
import sys

from dalle_jax.commands.mesh_flags import Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle eval WORKDIR --stage STAGE | --metrics NAME ...     figures with their protocols; WORKDIR --stage --help
       dalle eval WORKDIR --human-sheet OTHER --captions FILE --out DIR ...     as dalle human make WORKDIR OTHER ...
       dalle eval WORKDIR [--data DIR] [--split NAME] [--captions 250] [--samples 32] [--seed 0]
       [--temperature 1 --top-k 0 --top-p 1 --guidance 1]
       [--rank clip probability clip=1,probability=0.5] [--batch 256] [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]

Prints a table, and writes WORKDIR/evaluation.json and WORKDIR/index.html.
"""


OF_FIGURES = (
  *("--pictures", "--best-of", "--blur", "--sweep", "--exclude", "--out"),
  *("--inception", "--resize", "--features", "--reference", "--clip"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Measures what a run has trained, and writes a page of its pictures."""

  data: str | None = None
  """A prepared data set; the run's own if not said."""
  split: str | None = None
  """The split of losses and captions; the one that was trained on least if not said: test, valid, ..."""
  captions: int = 250
  """Captions drawn of each judged split."""
  samples: int = 32
  """Pictures drawn of each caption."""
  temperature: float = 1.0
  """0 takes the most likely token each time."""
  top_k: int = 0
  """Draw only from the k most likely tokens; 0: from all."""
  top_p: float = 1.0
  """Draw only from the fewest tokens that hold this much of the probability; 1: from all."""
  guidance: float = 1.0
  """How far towards the caption, and past what the model says where above 1."""
  rank: tuple[str, ...] = ()
  """What chooses the best of N, of the same samples: clip, likelihood, probability, a mix; the first shows pictures."""
  seed: int = 0
  """The same seed draws the same pictures."""
  batch: int = 256
  """Pictures drawn at the same time."""
  mesh: Devices = Devices()
  """Devices that measure and draw."""

  def __post_init__(self) -> None:
    if self.top_k < 0:
      raise UserError(f"got --top-k {self.top_k}, wanted 1 or more, or 0 for all tokens")


def run(argv: list[str]) -> int:
  """Parses the flags, measures, prints the table and the page's path. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  directory, *rest = argv
  if directory.startswith("--"):
    raise UserError(f"no workdir given, got {directory} first; wanted: dalle eval WORKDIR [--captions 250 ...]")
  if any(arg.partition("=")[0] == "--human-sheet" for arg in rest):
    return _human_sheet(directory, rest)
  if any(arg.partition("=")[0] in ("--metrics", "--stage") for arg in rest):
    from dalle_jax.commands import eval_metrics

    return eval_metrics.run(directory, rest)
  for arg in rest:
    if arg.partition("=")[0] in OF_FIGURES:
      raise UserError(
        f"got {arg}, which goes with --metrics or --stage: dalle eval {directory} --stage --help tells them"
      )
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle eval")
  from dalle_jax import draw, evaluate
  from dalle_jax.commands import progress
  from dalle_jax.evaluation import results
  from dalle_jax.evaluation.report import Protocol
  from dalle_jax.sampling import ranking
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  sampling = SamplingConfig(
    temperature=given.temperature, top_k=given.top_k or None, top_p=given.top_p, guidance=given.guidance
  )
  protocol = Protocol(
    captions=given.captions,
    samples=given.samples,
    sampling=sampling,
    rank=given.rank,
    split=given.split,
    seed=given.seed,
    batch=given.batch,
  )
  workdir = Workdir.open(directory)
  asked = {name for each in given.rank for name in ranking.parse(each)}
  if ranking.PUBLISHED in asked:
    raise UserError(
      f"got --rank {ranking.PUBLISHED}, by which figures are ranked: add --metrics composition --best-of 32 --clip DIR"
    )
  for line in draw.untold(workdir, sampling, asked):
    print(line, file=sys.stderr)
  with progress.shown() as tell:
    report = evaluate.evaluate(workdir, protocol, data=given.data, shape=given.mesh.shape(), progress=tell)
  print(results.as_text(report))
  print(f"\n{workdir.place / 'index.html'}")
  return 0


def _human_sheet(directory: str, argv: list[str]) -> int:
  """The form on which people compare this run's pictures with another's."""
  from dalle_jax.commands import human

  place = next(i for i, arg in enumerate(argv) if arg.partition("=")[0] == "--human-sheet")
  _, given, other = argv[place].partition("=")
  rest = argv[place + 1 :] if given else argv[place + 2 :]
  other = other if given else "".join(argv[place + 1 : place + 2])
  if not other or other.startswith("--"):
    raise UserError("got --human-sheet alone, wanted what is compared with: --human-sheet OTHER, a workdir or a folder")
  return human.run(["make", directory, other, *argv[:place], *rest])
