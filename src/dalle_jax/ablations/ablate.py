"""Runs packs: what comes before once, then every arm at every seed, each in another process, then the tables."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dalle_jax import places, processes
from dalle_jax.ablations import arms, figures, plot, scenes, table
from dalle_jax.ablations.figures import Figures
from dalle_jax.ablations.pack import Scale
from dalle_jax.ablations.packs import Found
from dalle_jax.ablations.runs import Bench
from dalle_jax.ablations.table import Table
from dalle_jax.ablations.worker_process import Worker
from dalle_jax.data import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import StorageError, UserError
from dalle_jax.experiment import Experiment
from dalle_jax.workdir import Workdir

ABOUT = "ablations.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """What is to be run. only: these arms, all if empty; data: None for the scale's own scenes."""

  packs: tuple[Found, ...]
  scale: str
  out: Path
  seeds: tuple[int, ...]
  only: tuple[str, ...] = ()
  data: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A pack as it will be run: its arms' experiments, and which of them share a run."""

  found: Found
  experiments: Mapping[str, Experiment]
  only: tuple[str, ...]

  def runs(self, bench: Bench, seed: int) -> list[list[str]]:
    """Arms whose experiments are equal, together."""
    together: dict[Path, list[str]] = {}
    for name in self.only:
      place = bench.workdir(self.experiments[name], self.found.pack.stage, seed)
      together.setdefault(place, []).append(name)
    return list(together.values())


def plans(asked: Asked) -> list[Plan]:
  """All arms of all packs, resolved. Raises UserError for what can't be run as it says, before anything is written."""
  scale = Scale(name=asked.scale, data=str(asked.data or asked.out / "data"))
  made = []
  for found in asked.packs:
    experiments = arms.resolve(found.pack, scale)
    for name in asked.only:
      found.pack.arm(name)
    made.append(Plan(found=found, experiments=experiments, only=asked.only or tuple(experiments)))
  return made


def bench(asked: Asked, progress: prepare.Progress) -> Bench:
  """The directory, marked as of this scale, and the data. Raises UserError where it is of another scale."""
  mark = asked.out / ABOUT
  try:
    asked.out.mkdir(parents=True, exist_ok=True)
    if mark.is_file() and (told := _scale_of(mark)) != asked.scale:
      raise UserError(f"{asked.out} holds ablations at scale {told}, not {asked.scale}: take another --out")
    places.write(mark, json.dumps({"scale": asked.scale}).encode() + b"\n")
  except OSError as error:
    raise UserError(f"cannot write to {asked.out} ({error.strerror}): take another --out") from error
  return Bench(out=asked.out, data=scenes.provided(asked.out, asked.scale, asked.data, progress))


def _scale_of(mark: Path) -> str:
  try:
    return str(json.loads(mark.read_text())["scale"])
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{mark}, which says the scale of what is there, is damaged: take another --out") from error


def check_data(place: Bench, made: Sequence[Plan]) -> None:
  """Says which figures will be left out, as the data lacks what they are of; raises UserError for a deciding one."""
  prepared = open_prepared(place.data.path)
  for plan in made:
    pack = plan.found.pack
    for metric in figures.metrics(pack):
      try:
        metric.check(prepared)
      except UserError as error:
        said = f"{plan.found.name}, {metric.name}: {error}"
        if metric is pack.metric:
          raise UserError(f"{said}: take other --data, or leave the pack out") from error
        processes.say_once(f"{said}: it will be left out")


def check_devices(asked: Asked, place: Bench, made: Sequence[Plan], worker: Worker) -> None:
  """Raises UserError where an arm's mesh can't be made of the devices that are here."""
  for plan in made:
    answer = worker.ask(**_words("devices", asked, place, plan, plan.only))
    if "failed" in answer:
      raise UserError(f"{plan.found.name} at scale {asked.scale}: {answer['failed']}")


def train(asked: Asked, place: Bench, made: Sequence[Plan], worker: Worker, *, shared_only: bool = False) -> bool:
  """Runs what is not there yet. What fails is written down, with its reason, and the rest goes on.

  Returns whether anything failed but by its training's going out of bounds.
  """
  ready: dict[Path | None, str | None] = {None: None}  # what comes before, and why it could not be trained
  failed = False
  for plan in made:
    todo = list(_todo(asked, place, plan))
    for done, (seed, names) in enumerate(todo):
      experiment = plan.experiments[names[0]]
      before = place.shared(experiment, plan.found.pack.stage)
      if before not in ready:
        processes.say_once(f"{plan.found.name}: what comes before")
        ready[before] = worker.ask(**_words("shared", asked, place, plan, names)).get("failed")
        if ready[before] is not None:
          failed = True
          processes.say_once(f"{plan.found.name}: what comes before failed: {ready[before]}")
      if shared_only:
        continue
      if ready[before] is not None:
        _write_failed(place, plan, seed, names, Figures(failed=f"what comes before: {ready[before]}"))
        continue
      processes.say_once(f"{plan.found.name}: run {done + 1} of {len(todo)}: {', '.join(names)}, seed {seed}")
      answer = worker.ask(**_words("train", asked, place, plan, names), seed=seed)
      if "failed" in answer:
        failed = failed or not answer.get("diverged")
        _write_failed(place, plan, seed, names, Figures(**answer))
        continue
      for name in names:
        answer = worker.ask(**_words("measure", asked, place, plan, [name]), seed=seed)
        if "failed" in answer:
          failed = True
          _write_failed(place, plan, seed, [name], Figures(**answer))
  return failed


def tables(asked: Asked, place: Bench, made: Sequence[Plan]) -> list[Table]:
  """Writes each pack's table and plot from what there is, and returns the tables."""
  found, data = [], place.data.told()
  given = None if asked.data is None or place.data.path == (asked.out / "data").resolve() else asked.data
  for plan in made:
    measured = {name: dict(_measured(asked, place, plan, name)) for name in plan.experiments}
    folder = asked.out / plan.found.name
    built = table.build(plan.found, asked.scale, data, measured, asked.seeds)
    try:
      table.write(folder, built, table.how(plan.found, asked.scale, given, measured))
      plot.write(folder, built)
      if runs := _finished(asked, place, plan, measured):
        for each in plan.found.pack.plots:
          each.draw(runs, folder / f"{each.name}.png")
    except OSError as error:
      raise StorageError(f"cannot write {folder} ({error.strerror})") from error
    found.append(built)
  return found


def _finished(
  asked: Asked, place: Bench, plan: Plan, measured: Mapping[str, Mapping[int, Figures]]
) -> dict[str, Workdir]:
  """Of each arm that was measured at the first seed, the run."""
  stage, seed = plan.found.pack.stage, asked.seeds[0]
  done = [name for name, by in measured.items() if seed in by and by[seed].failed is None]
  return {name: Workdir.open(place.workdir(plan.experiments[name], stage, seed)) for name in done}


def _todo(asked: Asked, place: Bench, plan: Plan) -> Iterator[tuple[int, list[str]]]:
  """Seeds, and arms of one run that have no final figures."""
  for seed in asked.seeds:
    for names in plan.runs(place, seed):
      left = [name for name in names if not (got := _read(place, plan, name, seed)) or not got.final]
      if left:
        yield seed, left


def _measured(asked: Asked, place: Bench, plan: Plan, name: str) -> Iterator[tuple[int, Figures]]:
  for seed in asked.seeds:
    got = _read(place, plan, name, seed)
    if got is not None:
      yield seed, got


def _read(place: Bench, plan: Plan, name: str, seed: int) -> Figures | None:
  return figures.read(figures.file(place.out, plan.found.name, name, seed), _key(place, plan, name, seed))


def _write_failed(place: Bench, plan: Plan, seed: int, names: Sequence[str], found: Figures) -> None:
  found = found.anywhere(place.out)
  processes.say_once(f"{plan.found.name}: {', '.join(names)}, seed {seed}: failed: {found.failed}")
  for name in names:
    figures.write(figures.file(place.out, plan.found.name, name, seed), _key(place, plan, name, seed), found)


def _key(place: Bench, plan: Plan, name: str, seed: int) -> str:
  return figures.key(place, plan.found.pack, plan.experiments[name], plan.found.pack.arm(name), seed)


def _words(do: str, asked: Asked, place: Bench, plan: Plan, names: Sequence[str]) -> dict:
  data = {"path": str(place.data.path), "digest": place.data.digest}
  own = {"file": str(plan.found.file), "name": plan.found.name, "scale": asked.scale}
  return {"do": do, "out": str(place.out), "data": data, "arms": list(names)} | own
