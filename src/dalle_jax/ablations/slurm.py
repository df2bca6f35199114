"""Packs on SLURM: a job of what comes before, an array with a task for each run, and a job that makes the tables.

Each job is a line of OUT/slurm/NAME.sh, which `launch/ablate.sbatch` runs: `dalle ablate` again, for a part of it. The
array begins when what comes before has ended, the tables when all of its tasks have, however they did.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dalle_jax import places
from dalle_jax.ablations.ablate import Asked, Plan
from dalle_jax.ablations.runs import Bench
from dalle_jax.errors import UserError

SCRIPT = Path("launch/ablate.sbatch")


def submit(asked: Asked, place: Bench, made: Sequence[Plan], flags: Sequence[str]) -> list[str]:
  """Submits the jobs and says which they are. flags: sbatch's. Raises UserError where SLURM is missing or refuses."""
  if shutil.which("sbatch") is None:
    raise UserError("--launcher slurm wants sbatch, which is not in PATH: run it where jobs are submitted")
  if not SCRIPT.is_file():
    raise UserError(f"--launcher slurm wants {SCRIPT}: run it where the project's launch/ lies")
  tasks = [
    _line(asked, place, plan, part="runs", seeds=f"--seed {seed}", only=names)
    for plan in made
    for seed in asked.seeds
    for names in plan.runs(place, seed)
  ]
  seeds = f"--seeds {len(asked.seeds)}"
  whole = [
    (part, [_line(asked, place, plan, part=part, seeds=seeds) for plan in made]) for part in ("shared", "tables")
  ]
  folder = asked.out / "slurm"
  folder.mkdir(exist_ok=True)
  for name, lines in (*whole, ("runs", tasks)):
    places.write(folder / f"{name}.sh", "".join(f"{line}\n" for line in lines).encode())
  before = _sbatch(folder, "shared", flags)
  array = _sbatch(folder, "runs", [*flags, f"--array=0-{len(tasks) - 1}", f"--dependency=afterany:{before}"])
  after = _sbatch(folder, "tables", [*flags, f"--dependency=afterany:{array}"])
  return [
    f"job {before}: what comes before",
    f"job {array}: {len(tasks)} runs, {folder / 'runs.sh'}",
    f"job {after}: the tables, in {asked.out}",
  ]


def _line(asked: Asked, place: Bench, plan: Plan, *, part: str, seeds: str, only: Sequence[str] = ()) -> str:
  """The command of one task, from the directory that this one runs in."""
  chosen = only or asked.only
  words = [*_dalle(), "ablate", str(plan.found.file), "--scale", asked.scale, *seeds.split(), "--part", part]
  words += ["--out", str(asked.out.resolve()), "--data", str(place.data.path), *(["--only", *chosen] if chosen else [])]
  return shlex.join(words)


def _dalle() -> list[str]:
  """The command: DALLE names another."""
  return shlex.split(os.environ["DALLE"]) if "DALLE" in os.environ else [sys.executable, "-m", "dalle_jax"]


def _sbatch(folder: Path, name: str, flags: Sequence[str]) -> str:
  """Submits a file of lines; the job's number."""
  logs = folder / f"{name}-%A_%a.log" if name == "runs" else folder / f"{name}-%j.log"
  argv = ["sbatch", "--parsable", f"--output={logs}", *flags, str(SCRIPT), str((folder / f"{name}.sh").resolve())]
  done = subprocess.run(argv, capture_output=True, text=True, check=False)
  if done.returncode:
    raise UserError(f"sbatch refused the job {name!r}: {' '.join(done.stderr.split())[:200]}")
  return done.stdout.strip().split(";")[0]
