"""The resolved text of every experiment, committed and read in review; `python -m dalle_jax.golden` writes it.

experiments/NAME.py              ->  experiments/golden/NAME.txt
experiments/ablations/NAME.py    ->  experiments/golden/ablations/NAME.txt    a pack's base at scale tiny, and in what
                                                                             each of its arms differs from it
"""

import inspect
import sys
from pathlib import Path
from typing import Any

from dalle_jax import config, experiment, pack_files
from dalle_jax.ablations import Scale, arms, packs
from dalle_jax.errors import UserError

EXPERIMENTS = Path("experiments")
PACKS = "ablations"
EXAMPLES = 10_000  # that an experiment is resolved for which chooses its steps by the data


def names(root: Path = EXPERIMENTS) -> list[str]:
  """The experiments there are, such as demo."""
  return sorted(file.stem for file in root.glob("*.py") if not file.name.startswith("_"))


def pack_names(root: Path = EXPERIMENTS) -> list[str]:
  """The packs of ablations there are, such as ablations/last_layer."""
  return [f"{PACKS}/{file.stem}" for file in pack_files.files(root / PACKS)]


def resolved(name: str, root: Path = EXPERIMENTS, **given: Any) -> experiment.Experiment:
  """An experiment, for EXAMPLES examples where it follows its data; given: arguments of its function."""

  def choose(signature: inspect.Signature) -> dict[str, Any]:
    return given | ({"examples": EXAMPLES} if "examples" in signature.parameters else {})

  return experiment.load(root / f"{name}.py", choose)


def text(name: str, root: Path = EXPERIMENTS) -> str:
  """What an experiment resolves to now, a line a leaf field; of a pack its base, and its arms' differences."""
  if not name.startswith(f"{PACKS}/"):
    return config.to_text(resolved(name, root))
  pack, scale = packs.load(root / f"{name}.py").pack, Scale(name="tiny", data="DATA")
  base, lines = pack.base(scale), []
  for arm, made in arms.resolve(pack, scale).items():
    lines += ["", f"# {arm}", *arms.changes(base, made)]
  return config.to_text(base) + "\n".join(lines) + "\n"


def file(name: str, root: Path = EXPERIMENTS) -> Path:
  """Where an experiment's or a pack's text is committed."""
  return root / "golden" / f"{name}.txt"


def check(root: Path = EXPERIMENTS) -> list[str]:
  """The names whose committed text is missing, is not the present one, or is of no experiment."""
  folder = root / "golden"
  now = {name: text(name, root) for name in [*names(root), *pack_names(root)]}
  committed = {str(path.relative_to(folder).with_suffix("")): path.read_text() for path in folder.rglob("*.txt")}
  return sorted(name for name in now.keys() | committed.keys() if now.get(name) != committed.get(name))


def write(root: Path = EXPERIMENTS) -> list[str]:
  """Writes every text anew, removes those of no experiment, and returns the names that differed."""
  changed, known = check(root), [*names(root), *pack_names(root)]
  for name in changed:
    if name not in known:
      file(name, root).unlink()
      continue
    file(name, root).parent.mkdir(parents=True, exist_ok=True)
    file(name, root).write_text(text(name, root))
  return changed


def main() -> int:
  """Writes, and says what differed. Returns the exit code."""
  try:
    changed = write()
  except UserError as error:
    print(f"golden: {error}", file=sys.stderr)
    return error.exit_code
  print(f"{len(names())} experiments, {len(pack_names())} packs; changed: {', '.join(changed) or 'none'}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
