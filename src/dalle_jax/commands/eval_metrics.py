"""`dalle eval WORKDIR --metrics ...` and `--stage ...`: figures over a whole split, each with its protocol."""

import dataclasses
import sys
from pathlib import Path

from dalle_jax.commands.mesh_flags import Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle eval WORKDIR --stage STAGE | --metrics NAME ...
       [--data DIR] [--split NAME] [--exclude FILE] [--seed 0] [--batch 64] [--out DIR] [--mesh.data -1 ...]

  of the dVAE          nll elb psnr ssim codes rfid      --stage dvae: all but rfid, which needs --inception
  of the transformer   loss                              --stage transformer
  of drawn pictures    fid kid is fd_clip clip_score r_precision composition
       [--pictures 30000] [--best-of 1] [--rank clip|likelihood|probability|published]
       [--temperature 1 --top-k 0 --top-p 1 --guidance 1] [--blur 0 1 2 4 8] [--sweep guidance=1,3,5 temperature=0.85,1]
       [--inception DIR] [--resize clean] [--features 2048] [--reference FILE ...] [--clip DIR]

Prints a table, and writes eval.json, plots and a page into WORKDIR/metrics, or --out. Ended at any moment, the same
command goes on where it was. `dalle compare` puts two results beside each other.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Measures figures of a run's stages; each carries how it was made."""

  metrics: tuple[str, ...] = ()
  """What is measured."""
  stage: str | None = None
  """A stage of the run: its own figures where --metrics says nothing; which of several of a kind otherwise."""
  data: str | None = None
  """A prepared data set; the run's own if not said."""
  split: str | None = None
  """The split that is measured on; the one that was trained on least if not said."""
  exclude: str = ""
  """A list that `dalle data overlap` wrote: every figure is told without those pictures, too."""
  pictures: int = 30_000
  """Captions drawn, chosen by the seed; all of the split where it has fewer."""
  best_of: int = 1
  """Samples of each caption, of which the best is taken."""
  rank: str | None = None
  """What chooses it: clip, likelihood, probability, published (--clip's), or a mix such as clip=1,probability=0.5."""
  temperature: float = 1.0
  """0 takes the most likely token each time."""
  top_k: int = 0
  """Draw only from the k most likely tokens; 0: from all."""
  top_p: float = 1.0
  """Draw only from the fewest tokens that hold this much of the probability; 1: from all."""
  guidance: float = 1.0
  """How far towards the caption, and past what the model says where above 1."""
  blur: tuple[float, ...] = (0.0,)
  """Radii in pixels at which drawn and real pictures are blurred before they are looked at."""
  sweep: tuple[str, ...] = ()
  """Ways to draw that are all tried: guidance=1,3,5 temperature=0.85,1 top_k=0,64 top_p=0.9,1 best_of=1,32."""
  inception: str = ""
  """Inception's converted weights (`dalle convert`), for fid, kid, is and rfid."""
  resize: str = "clean"
  """How pictures get to Inception's size: clean, pytorch-fid or tensorflow; figures of two do not compare."""
  features: int = 2048
  """Numbers of each picture: 64, 192, 768 or 2048. Fewer are no published figure, and want fewer pictures."""
  reference: tuple[str, ...] = ()
  """Statistics that `dalle reference` wrote, a file for each radius; the split's own pictures if not said."""
  clip: str = ""
  """A published CLIP's converted weights; the run's own CLIP if not said."""
  seed: int = 0
  """The same seed gives the same figures."""
  batch: int = 64
  """Pictures at the same time."""
  out: Path | None = None
  """Where the result is written; WORKDIR/metrics if not said."""
  mesh: Devices = Devices()
  """Devices that measure and draw."""


def run(directory: str, argv: list[str]) -> int:
  """Parses the flags, measures, prints the table and the page's path. Returns the exit code."""
  if any(arg in ("-h", "--help") for arg in argv):
    print(USAGE, end="")
    return 0
  from dalle_jax.commands import flags

  given = flags.parse(Flags, argv, prog="dalle eval WORKDIR --stage")
  if given.top_k < 0:
    raise UserError(f"got --top-k {given.top_k}, wanted 1 or more, or 0 for all tokens")
  from dalle_jax import measure
  from dalle_jax.commands import progress
  from dalle_jax.convert.published import INCEPTION
  from dalle_jax.evaluation.metrics import result
  from dalle_jax.measure import asked
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  sampling = SamplingConfig(
    temperature=given.temperature,
    top_k=given.top_k or None,
    top_p=None if given.top_p == 1 else given.top_p,
    guidance=given.guidance,
  )
  workdir = Workdir.open(directory)
  metrics = given.metrics or asked.of_stage(workdir.experiment(), given.stage, inception=bool(given.inception))
  wanted = asked.Asked(
    metrics=metrics,
    stage=given.stage,
    split=given.split,
    pictures=given.pictures,
    seed=given.seed,
    batch=given.batch,
    blur=given.blur,
    settings=asked.sweep(given.sweep, asked.Setting(sampling=sampling, best_of=given.best_of)),
    rank=given.rank,
    inception=given.inception,
    resize=given.resize,
    features=given.features,
    clip=given.clip,
    references=given.reference,
    exclude=given.exclude,
  )
  if not given.metrics and "psnr" in metrics and "rfid" not in metrics:
    print(f"rfid is left out: it wants --inception {INCEPTION.file}, to be had at {INCEPTION.url}", file=sys.stderr)
  with progress.shown() as tell:
    done = measure.measure(
      workdir,
      wanted,
      out=given.out,
      data=given.data,
      shape=given.mesh.shape(),
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  print(result.as_text([each.figure for each in done.measured]))
  print(f"\n{done.page}")
  return 0
