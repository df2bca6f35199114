"""`dalle ablate PACK|GROUP`: runs packs of ablations and says what became of their claims."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dalle_jax.commands.suggest import suggest
from dalle_jax.errors import UserError
from dalle_jax.pack_files import FOLDER, files

if TYPE_CHECKING:
  from dalle_jax.ablations.packs import Found

USAGE = """\
usage: dalle ablate PACK|GROUP [--seeds 3] [--scale tiny|small|paper|smoke] [--only ARM] [--out DIR] [--data DIR]
                    [--launcher local|slurm [--sbatch FLAG ...]] [--seed N] [--part all|shared|runs|tables]
       dalle ablate [PACK|GROUP] --list

Trains every arm of a claim at the same seeds, data order and steps, measures it, and writes a table with intervals over
seeds, a plot and a verdict into OUT/PACK. What is done is not done again; whatever ends it, the same call goes on.

PACK     a file, or the name of one in experiments/ablations/
GROUP    attention, losses, text, dvae, numerics, powersgd, sampling, optimizer: its packs, one after the other; or all
"""

GROUPS = ("attention", "losses", "text", "dvae", "numerics", "powersgd", "sampling", "optimizer")
ALL = "all"
PLAN = "dalle plan experiments/dalle_12b.py --topology v5p:4x4x4 --stage"  # docs/plans has what it said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Runs packs of ablations."""

  seeds: int = 3
  """How many: 0, 1, 2, ..."""
  scale: Literal["tiny", "small", "paper", "smoke"] = "tiny"
  """tiny: minutes an arm on two cores; small: hours; paper: the paper's own; smoke: two updates each."""
  only: tuple[str, ...] = ()
  """These arms alone."""
  seed: int | None = None
  """This seed alone, in place of --seeds, and no tables."""
  out: Path | None = None
  """Where everything goes; runs/ablations/SCALE if not said. Packs in one directory share what they can."""
  data: Path | None = None
  """What `dalle data prepare` wrote, in place of the embedded scenes, which are drawn into OUT/data."""
  launcher: Literal["local", "slurm"] = "local"
  """slurm: a job of what comes before, an array of the runs, and a job of the tables, each after the one before."""
  sbatch: tuple[str, ...] = ()
  """Flags of sbatch for all of these jobs, such as --sbatch=--partition=gpu."""
  part: Literal["all", "shared", "runs", "tables"] = "all"
  """Only what comes before, only the runs, or only the tables of what there is."""

  def __post_init__(self) -> None:
    if self.seeds < 1:
      raise UserError(f"got --seeds {self.seeds}, wanted 1 or more")
    if self.seed is not None and self.seed < 0:
      raise UserError(f"got --seed {self.seed}, wanted 0 or more")
    if self.sbatch and self.launcher != "slurm":
      raise UserError("--sbatch is read by --launcher slurm alone: add it, or leave --sbatch out")
    if self.launcher == "slurm" and self.part != "all":
      raise UserError(f"got --part {self.part} with --launcher slurm, which runs all parts: leave one of them out")
    if self.seed is not None and (self.launcher == "slurm" or self.part == "tables"):
      raise UserError(f"got --seed {self.seed} where all seeds are wanted: say how many by --seeds")


def run(argv: list[str]) -> int:
  """Parses the flags, runs the packs, prints the verdicts. Returns the exit code: 1 where a run failed."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  words = [word for word in argv if word != "--list"]
  listing = len(words) < len(argv)
  if words and not words[0].startswith("-"):
    what, rest = words[0], words[1:]
  elif listing:
    what, rest = ALL, words
  else:
    raise UserError(f"got {argv[0]} where the PACK or GROUP is wanted, as in dalle ablate attention: name it first")
  files = _files(what)
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle ablate PACK")
  packs = _packs(what, files)
  if listing:
    _list(packs)
    return 0
  return _run(given, packs)


def _files(what: str) -> list[Path]:
  """The files in which it is looked for. Raises UserError where it is neither a pack nor a group."""
  if what.endswith(".py"):
    if not Path(what).is_file():
      raise UserError(f"no pack file {what}; those that come with the project are in {FOLDER}/")
    return [Path(what)]
  if (named := FOLDER / f"{what}.py") in files():
    return [named]
  if what not in (*GROUPS, ALL):
    known = suggest(what, [*GROUPS, ALL, *(file.stem for file in files())])
    raise UserError(f"no pack and no group {what!r}; {known}")
  if not files():
    raise UserError(f"no packs in {FOLDER}/: run this where the project's experiments/ lie, or name a pack's file")
  return files()


def _packs(what: str, files: list[Path]) -> "tuple[Found, ...]":
  from dalle_jax.ablations import packs

  found = [packs.load(file) for file in files]
  if what in GROUPS and len(files) > 1:
    found = [each for each in found if each.pack.group == what]
  if not found:
    raise UserError(f"no pack is of the group {what} yet")
  return tuple(found)


def _list(packs: "tuple[Found, ...]") -> None:
  for each in sorted(packs, key=lambda each: (each.pack.group, each.name)):
    print(f"{each.pack.group:<10} {each.name:<24} {each.pack.title}")
    print(f"{'':<35} {', '.join(arm.name for arm in each.pack.arms)} (control: {each.pack.control})")


def _run(given: Flags, packs: "tuple[Found, ...]") -> int:
  from dalle_jax.ablations import ablate, slurm
  from dalle_jax.ablations.worker_process import Worker
  from dalle_jax.commands import progress

  asked = ablate.Asked(
    packs=packs,
    scale=given.scale,
    out=given.out or Path("runs/ablations") / given.scale,
    seeds=tuple(range(given.seeds)) if given.seed is None else (given.seed,),
    only=given.only,
    data=given.data,
  )
  made = ablate.plans(asked)
  if given.scale == "paper":
    for stage in sorted({each.pack.stage for each in packs}):
      print(f"what an arm takes, which docs/plans/README.md has for some topologies: {PLAN} {stage}")
  with progress.shown() as tell:
    place = ablate.bench(asked, tell)
  if given.part != "tables":
    ablate.check_data(place, made)
  if given.launcher == "slurm":
    print("\n".join(slurm.submit(asked, place, made, given.sbatch)))
    return 0
  worker, failed = Worker(), False
  try:
    if given.scale == "paper":
      ablate.check_devices(asked, place, made, worker)
    if given.part != "tables":
      failed = ablate.train(asked, place, made, worker, shared_only=given.part == "shared")
  finally:
    worker.close()
  if given.part not in ("all", "tables") or given.seed is not None:
    return int(failed)
  return _told(ablate.tables(asked, place, made), asked.out)


def _told(tables: list[dict], out: Path) -> int:
  """Prints the verdicts. 1 where a run failed by anything but its training's going out of bounds."""
  failed = False
  for table in tables:
    print(f"{table['title']}\n")
    for each in table["verdicts"]:
      print(f"  {each['claim']}: {each['verdict']} ({each['why']})")
    for row in table["arms"]:
      for seed, why in row["failed"].items():
        print(f"  {row['arm']}, seed {seed}: {why}")
        failed = failed or int(seed) not in row["diverged"]
    print(f"\n{out / table['pack'] / 'table.md'}\n")
  return int(failed)
