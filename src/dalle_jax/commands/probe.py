"""`dalle probe WORKDIR SUITE`: what the blog asked DALL-E to draw, on pages whose captions' words are picked."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dalle_jax.commands.mesh_flags import MESH, Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle probe WORKDIR SUITE ... [--limit 12] [--num 512 --keep 32] [--seed 0] [--out DIR] [--batch 256]
                   [--temperature 1 --top-k 0 --top-p 1 --guidance 1] [--image-prompt PICTURE [--rows N]]
                   [--rank clip|likelihood|probability|clip=1,probability=0.5] [--clip DIR]
                   [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]
       dalle probe WORKDIR SUITE ... --drawn DIR [--keep 32] [--rank ...] [--clip DIR] [--out DIR]
       dalle probe WORKDIR raven [--items 12] [--seed 0] [--out DIR] [--batch 64] [--mesh.data -1 ...]
       dalle probe --list

SUITE is one of those that --list prints, a category of them, or all. --num pictures of --limit captions of each suite
are drawn, the --keep best by CLIP are written to WORKDIR/probes/SUITE, and on its page the caption's words are picked.
--clip names a published CLIP, converted (`dalle convert`), which ranks in place of the run's own.
--drawn ranks what an earlier command wrote to DIR, without drawing, and writes the pages anew: scores are kept there.
raven asks for the last panel of Raven's matrices instead (dalle probe WORKDIR raven --help).
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Draws the blog's captions, as many of each suite as --limit says."""

  num: int = 512
  """Pictures drawn of each caption; the blog's 512."""
  keep: int | None = None
  """Pictures kept of each caption, the best; the blog's 32, or all where fewer are drawn, if not said."""
  limit: int = 12
  """Captions drawn of each suite, chosen by the seed."""
  temperature: float = 1.0
  """0 takes the most likely token each time."""
  top_k: int = 0
  """Draw only from the k most likely tokens; 0: from all."""
  top_p: float = 1.0
  """Draw only from the fewest tokens that hold this much of the probability; 1: from all."""
  guidance: float = 1.0
  """How far from the logits without the caption to those with it, and past them above 1; costs as much again."""
  seed: int = 0
  """The same seed chooses the same captions and draws the same pictures."""
  out: Path | None = None
  """Where to write; WORKDIR/probes if not said."""
  batch: int = 256
  """Pictures drawn at the same time."""
  image_prompt: str | None = None
  """A picture, of which suites that go on from one are given the top."""
  rows: int | None = None
  """So many of its rows of codes, in place of what the suite says."""
  rank: str | None = None
  """What ranks: clip, likelihood, probability (the transformer's own two), published, or a mix; CLIP if not said."""
  clip: Path | None = None
  """What `dalle convert` made of a published CLIP, which then ranks."""
  drawn: Path | None = None
  """Ranks again what was written there, and draws nothing."""
  mesh: Devices = Devices()
  """Devices that draw and rank."""

  def __post_init__(self) -> None:
    for name in ("num", "keep", "limit", "batch"):
      if (value := getattr(self, name)) is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")
    if self.drawn is None and self.keep is not None and self.keep > self.num:
      raise UserError(f"got --keep {self.keep} of --num {self.num}, wanted no more than are drawn: lower --keep")
    for name, value in (("seed", self.seed), ("top-k", self.top_k)):
      if value < 0:
        raise UserError(f"got --{name} {value}, wanted 0 or more")
    if self.rows is not None and self.image_prompt is None:
      raise UserError("--rows says how much of a picture is given: add --image-prompt PICTURE, or leave it out")


def run(argv: list[str]) -> int:
  """Parses the flags, draws, prints the page's path. Returns the exit code."""
  if not argv or ("--help" in argv and "raven" not in argv):
    print(USAGE, end="")
    return 0
  if "--list" in argv:
    return _list()
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  if begin < 2:
    raise UserError(f"got {' '.join(argv)[:60]}, wanted: dalle probe WORKDIR SUITE ... (dalle probe --list has them)")
  directory, *names = argv[:begin]
  if "raven" in names:
    if len(names) > 1:
      raise UserError(
        f"got raven beside {' '.join(n for n in names if n != 'raven')}: it has a command line of its own"
      )
    from dalle_jax.commands import raven

    return raven.run([directory, *argv[begin:]])
  from dalle_jax.commands import flags

  given = flags.parse(Flags, argv[begin:], prog="dalle probe")
  if given.drawn is not None:
    return _again(given, directory, names, argv[begin:])
  suites = _suites(names, given.image_prompt is not None)
  from dalle_jax import probe
  from dalle_jax.commands import progress
  from dalle_jax.sampling import prompts, ranking
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  sampling = SamplingConfig(
    temperature=given.temperature, top_k=given.top_k or None, top_p=given.top_p, guidance=given.guidance
  )
  rank_by = ranking.asked_for(given.rank, given.clip)
  picture = None
  if given.image_prompt is not None:
    image_HWC = prompts.read_picture(given.image_prompt)
    picture = probe.Picture(name=Path(given.image_prompt).name, image_HWC=image_HWC, rows=given.rows)
  workdir = Workdir.open(directory)
  with progress.shown() as tell:
    page = probe.probe(
      workdir,
      suites,
      num=given.num,
      keep=min(32, given.num) if given.keep is None else given.keep,
      limit=given.limit,
      sampling=sampling,
      seed=given.seed,
      batch=given.batch,
      out=given.out or workdir.path / "probes",
      picture=picture,
      rank_by=rank_by,
      clip=given.clip,
      mesh=given.mesh.shape(),
      progress=tell,
      say=_say,
    )
  workdir.keep()
  print(workdir.place / "probes" / page.name if workdir.mirror and given.out is None else page)
  return 0


def _again(given: Flags, directory: str, names: Sequence[str], rest: Sequence[str]) -> int:
  """Ranks what was drawn. Raises UserError where what it is to be drawn from is given as well."""
  from dalle_jax import draw, probe_again
  from dalle_jax.commands import progress
  from dalle_jax.sampling import ranking
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.workdir import Workdir

  flags = [word.split("=")[0] for word in rest if word.startswith("--")]
  known = ("--drawn", "--keep", "--rank", "--clip", "--out", "--batch", *MESH)
  if drawing := [flag for flag in flags if flag not in known]:
    raise UserError(f"--drawn draws nothing, so {drawing[0]} would not be read: leave it out, or leave out --drawn")
  rank_by = ranking.asked_for(given.rank, given.clip)
  suites, workdir = _drawn_suites(names, given.drawn), Workdir.open(directory)
  with progress.shown() as tell:
    page = probe_again.again(
      workdir,
      given.drawn,
      suites,
      keep=given.keep,
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


def _drawn_suites(names: Sequence[str], drawn: Path) -> Sequence[Any]:
  """The suites asked for that were drawn. Raises UserError where one named was not, or none of a category, or all."""
  from dalle_jax.evaluation.probes.catalogue import find
  from dalle_jax.sampling import draws

  suites = find(names)
  there = [suite for suite in suites if (drawn / suite.name / draws.NAME).is_file()]
  missing = [suite.name for suite in suites if suite not in there]
  if named := [name for name in missing if name in names] or ([] if there else missing):
    raise UserError(f"{drawn} holds no {draws.NAME} of {named[0]}: draw it first, with --out {drawn}")
  return there


def _suites(names: Sequence[str], picture: bool) -> Sequence[Any]:
  """The suites asked for. Raises UserError where one named goes on from a picture and there is none, or none does.

  Of a category, or all, those that do are passed over without one, and this is said.
  """
  from dalle_jax.evaluation.probes.catalogue import find

  suites = find(names)
  wanting = [suite for suite in suites if suite.image_prompt]
  if picture and not wanting:
    raise UserError(f"no suite of {', '.join(names)} goes on from a picture: leave --image-prompt out")
  if picture or not wanting:
    return suites
  named = next((suite for suite in wanting if suite.name in names), wanting[0] if wanting == [*suites] else None)
  if named is not None:
    raise UserError(f"{named.name} goes on from a picture ({named.image_prompt.shows}): add --image-prompt PICTURE")
  _say(f"without --image-prompt these are passed over: {', '.join(suite.name for suite in wanting)}")
  return [suite for suite in suites if not suite.image_prompt]


def _list() -> int:
  from dalle_jax.evaluation.probes.catalogue import SUITES

  for category in dict.fromkeys(suite.category for suite in SUITES):
    print(f"{category.name}  ({category.value})")
    for suite in SUITES:
      if suite.category is category:
        picture = "  goes on from --image-prompt" if suite.image_prompt else ""
        print(f"  {suite.name:<24}{len(suite):>6} captions{picture}")
  print("raven  (Raven's matrices: dalle probe WORKDIR raven)")
  return 0


def _say(line: str) -> None:
  print(line, file=sys.stderr)
