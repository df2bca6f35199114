"""`dalle sample WORKDIR CAPTION ...`: draws pictures from captions and keeps those that CLIP ranks first."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from dalle_jax.commands.mesh_flags import MESH, Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle sample WORKDIR ["a caption" "another" ...] [--captions FILE] [--strict]
                    [--num 64 --keep 8 --temperature 1 --top-k 0 --top-p 1 --guidance 1 [--against "a caption"]]
                    [--rank clip|likelihood|probability|clip=1,probability=0.5] [--clip DIR] [--seed 0]
                    [--out DIR] [--attention] [--batch 256] [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]
                    [--image-prompt PICTURE (--rows 15 [--crop-first] | --region TOP,LEFT,BOTTOM,RIGHT) [--two-panels]]
       dalle sample WORKDIR --drawn DIR [--keep 8] [--rank ...] [--clip DIR] [--out DIR]

Draws --num pictures of each caption, ranks them by CLIP and writes the --keep best as PNGs, a sheet and a page of HTML.
--clip names a published CLIP, converted (`dalle convert`), which ranks in place of the run's own.
--drawn ranks what an earlier command wrote to DIR, without drawing: scores are kept there.
--strict refuses captions that are longer than what is read of them, which otherwise are cut off with a warning.
--attention adds a sheet of each picture that shows which words its tokens looked at, layer by layer.
With --image-prompt a part of a picture is given: its top rows of codes, or all but a rectangle of them.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Draws pictures from captions and keeps those that CLIP ranks first."""

  captions: str | None = None
  """A file with a caption on each line, drawn after those of the command."""
  num: int = 64
  """Pictures drawn of each caption."""
  keep: int | None = None
  """Pictures kept of each caption, the best; 8, or all where fewer are drawn, if not said."""
  temperature: float = 1.0
  """0 takes the most likely token each time."""
  top_k: int = 0
  """Draw only from the k most likely tokens; 0: from all."""
  top_p: float = 1.0
  """Draw only from the fewest tokens that hold this much of the probability; 1: from all."""
  guidance: float = 1.0
  """How far from the logits without the caption to those with it, and past them above 1; costs as much again."""
  against: str | None = None
  """A caption that guidance leads away from; the empty one if not said."""
  seed: int = 0
  """The same seed draws the same pictures."""
  out: Path | None = None
  """Where to write; WORKDIR/samples if not said."""
  batch: int = 256
  """Pictures drawn at the same time."""
  rank: str | None = None
  """What ranks: clip, likelihood, probability (the transformer's own two), published, or a mix; CLIP if not said."""
  clip: Path | None = None
  """What `dalle convert` made of a published CLIP, which then ranks."""
  mesh: Devices = Devices()
  """Devices that draw, rank and look."""
  drawn: Path | None = None
  """Ranks again what was written there, and draws nothing."""

  image_prompt: str | None = None
  """A picture of which a part is given."""
  rows: int | None = None
  """So many of its top rows of codes; the paper's 15 of 32."""
  region: str | None = None
  """All but the codes TOP,LEFT,BOTTOM,RIGHT, which are drawn anew."""

  def __post_init__(self) -> None:
    for name in ("num", "keep", "batch"):
      if (value := getattr(self, name)) is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")
    if self.drawn is None and self.keep is not None and self.keep > self.num:
      raise UserError(f"got --keep {self.keep} of --num {self.num}, wanted no more than are drawn: lower --keep")
    if self.against is not None and self.guidance == 1:
      raise UserError("--against is read by guidance alone: add --guidance 3, or leave it out")
    if self.top_k < 0:
      raise UserError(f"got --top-k {self.top_k}, wanted 1 or more, or 0 for all tokens")


def run(argv: list[str]) -> int:
  """Parses the flags, draws, prints the page's path. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  directory, captions, rest = _split(argv)
  bare = {flag: flag in rest for flag in ("--crop-first", "--two-panels", "--strict", "--attention")}
  from dalle_jax.commands import flags

  given = flags.parse(Flags, [arg for arg in rest if arg not in bare], prog="dalle sample")
  from dalle_jax import draw
  from dalle_jax.commands import progress
  from dalle_jax.sampling import ranking
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  sampling = SamplingConfig(
    temperature=given.temperature, top_k=given.top_k or None, top_p=given.top_p, guidance=given.guidance
  )
  rank_by = ranking.asked_for(given.rank, given.clip)
  if given.drawn is not None:
    return _again(given, directory, captions, rest, rank_by)
  captions += _captions(given.captions)
  if not captions:
    raise UserError(
      'no caption to draw; wanted: dalle sample WORKDIR "a red circle" ["another caption" ...] [--captions FILE]'
    )
  prompt = _prompt(given, bare["--crop-first"], bare["--two-panels"])
  workdir = Workdir.open(directory)
  with progress.shown() as tell:
    page = draw.draw(
      workdir,
      captions,
      num=given.num,
      keep=min(8, given.num) if given.keep is None else given.keep,
      sampling=sampling,
      seed=given.seed,
      batch=given.batch,
      out=given.out or workdir.path / "samples",
      prompt=prompt,
      strict=bare["--strict"],
      against=given.against,
      rank_by=rank_by,
      clip=given.clip,
      mesh=given.mesh.shape(),
      attention=bare["--attention"],
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  workdir.keep()
  print(workdir.place / "samples" / page.name if workdir.mirror and given.out is None else page)
  return 0


def _again(given: Flags, directory: str, captions: list[str], rest: list[str], rank_by: dict[str, float] | None) -> int:
  """Ranks what was drawn. Raises UserError where what it is to be drawn from is given as well."""
  from dalle_jax import draw, rank
  from dalle_jax.commands import progress
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  known = ("--drawn", "--keep", "--rank", "--clip", "--out", "--batch", *MESH)
  drawing = [flag for word in rest if word.startswith("--") and (flag := word.split("=")[0]) not in known]
  if captions or drawing:
    what = drawing[0] if drawing else f"the caption {captions[0][:40]!r}"
    raise UserError(f"--drawn draws nothing, so {what} would not be read: leave it out, or leave out --drawn")
  workdir = Workdir.open(directory)
  with progress.shown() as tell:
    page = rank.again(
      workdir,
      given.drawn,
      keep=8 if given.keep is None else given.keep,
      out=given.out or given.drawn,
      batch=given.batch,
      asked=rank_by,
      clip=given.clip,
      mesh=given.mesh.shape(),
      progress=tell,
    )
  for line in draw.untold(workdir, SamplingConfig(), rank_by or ()):
    print(line, file=sys.stderr)
  print(page)
  return 0


def _prompt(given: Flags, crop_first: bool, two_panels: bool) -> Any:
  """The picture that is given in part, or None. Raises UserError where the flags don't fit together."""
  from dalle_jax.draw import Prompt
  from dalle_jax.sampling import prompts

  if given.image_prompt is None:
    if given.rows is not None or given.region is not None or crop_first or two_panels:
      raise UserError("--rows, --region, --crop-first and --two-panels want a picture: --image-prompt PICTURE")
    return None
  if (given.rows is None) == (given.region is None):
    raise UserError("--image-prompt wants --rows (how many stay), or --region TOP,LEFT,BOTTOM,RIGHT (what is drawn)")
  if crop_first and given.rows is None:
    raise UserError("--crop-first is for --rows alone: a rectangle has no upper part to be encoded by itself")
  part = prompts.Top(rows=given.rows) if given.rows is not None else prompts.Region.parse(given.region)
  image_HWC = prompts.read_picture(given.image_prompt)
  image_HWC = prompts.two_panels(image_HWC) if two_panels else image_HWC
  return Prompt(name=Path(given.image_prompt).name, image_HWC=image_HWC, part=part, crop_first=crop_first)


def _captions(file: str | None) -> list[str]:
  """The captions of a file, a line each. Raises UserError where it can't be read, or holds none."""
  if file is None:
    return []
  try:
    lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
  except OSError as error:
    raise UserError(f"cannot read the captions {file}: {error.strerror}") from error
  except UnicodeDecodeError as error:
    raise UserError(f"cannot read the captions {file}: byte {error.start} is no UTF-8; save it as UTF-8") from error
  if not any(lines):
    raise UserError(f"{file} holds no caption, wanted one on each line")
  return [line for line in lines if line]


def _split(argv: list[str]) -> tuple[str, list[str], list[str]]:
  """The workdir, the captions that follow it, and the flags."""
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  if not begin:
    raise UserError(f'no workdir given, got {argv[0]} first; wanted: dalle sample WORKDIR "a red circle" [--num 64]')
  directory, *captions = argv[:begin]
  if dashed := [word for word in captions if word.startswith("-")]:
    raise UserError(f"there is no flag {dashed[0]}; a caption that begins with a dash goes into --captions FILE")
  return directory, captions, argv[begin:]
