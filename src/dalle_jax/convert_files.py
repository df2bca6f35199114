"""Files of other projects' weights made converted weights, and what is told of them."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalle_jax import config, places
from dalle_jax.convert import files, kinds, weights
from dalle_jax.convert.kinds import Kind
from dalle_jax.data.scratch import publish, scratch_for
from dalle_jax.errors import UserError
from dalle_jax.evaluation import published_clip

# Files that explain weights: they are kept beside them as they are.
EXPLAIN = (".json", ".txt", ".gz", ".model", ".vocab", ".yaml", ".yml", ".tsv")
# What of a kind can only be checked here, because convert/ reads no vocabularies: of its sizes and the files kept.
CHECKS: dict[str, Callable[[Any, Sequence[Path]], object]] = {"openai_clip": published_clip.words}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
  """What was found: the arrays of the files, and the parameters made of them."""

  name: str
  kind: Kind
  arrays: int
  ignored: tuple[str, ...]
  parameters: int
  sizes: object
  digest: str
  kept: tuple[str, ...]


def convert(paths: Sequence[Path], out: Path, name: str | None = None) -> Converted:
  """Reads files of weights, and writes OUT, which appears whole or not at all.

  name: the kind of weights; found by the arrays' names if None. Raises UserError in one line where a file is not what
  it should be, or OUT holds something.
  """
  if name is not None:
    kinds.one(name)
  check_out(out)
  kept = [path for path in paths if path.suffix in EXPLAIN and path.is_file()]
  sources = [path for path in paths if path not in kept]
  if not sources:
    raise UserError(f"got {paths[0]} alone, wanted the file of the weights too: {files.KINDS}")
  arrays = files.merged(sources)
  shown = ", ".join(map(str, sources))
  name = name or kinds.find(arrays, shown)
  kind = kinds.one(name)
  try:
    if kind.read_beside:
      cfg, params, kept = kind.read_beside(arrays, paths)
    else:
      cfg, params = kind.read(arrays)
    if name in CHECKS:
      CHECKS[name](cfg, kept)
  except UserError as error:
    raise UserError(f"{shown} as {name}: {error}") from error
  _check_names(kept)
  read = [part for source in sources for part in files.parts(source)]
  with scratch_for(out) as scratch:
    whole = scratch / "whole"
    whole.mkdir()
    digest = weights.save(whole, name, cfg, params, sources=read, files=kept)
    publish(whole, out)
  return Converted(
    name=name,
    kind=kind,
    arrays=len(arrays),
    ignored=tuple(kind.ignored(arrays.keys())),
    parameters=sum(int(np.size(array)) for array in weights.flat(params).values()),
    sizes=cfg,
    digest=digest,
    kept=tuple(path.name for path in kept),
  )


def _check_names(kept: Sequence[Path]) -> None:
  """Raises UserError where files kept beside the weights would stand in each other's place, or in that of ours."""
  names = [weights.WEIGHTS, weights.CONFIG]
  for path in kept:
    if path.name in names:
      raise UserError(f"{path} would be kept as {path.name}, and there is one: give it another name, or leave it out")
    names.append(path.name)


def check_out(out: Path) -> None:
  """Raises UserError where something stands at OUT, or it is in a bucket: before large files are read."""
  if str(out).startswith(("gs:/", *places.OTHER_STORES)):
    raise UserError(f"got --out {out}, wanted a directory of this machine: copy it from there")
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(f"{out} holds something already: take another --out, or remove it")


def as_text(found: Converted, out: Path) -> str:
  """A table of what was found, and what to do next."""
  rows = [
    ("kind", f"{found.name}: {found.kind.title}"),
    ("arrays", f"{found.arrays:,}"),
    *([("  not used", f"{len(found.ignored):,} ({found.ignored[0]} ...)")] if found.ignored else []),
    ("parameters", f"{found.parameters:,}"),
    *([("kept beside", ", ".join(found.kept))] if found.kept else []),
    *((f"  {path}", str(leaf)) for path, leaf in config.leaves(found.sizes) if path != "kind"),
    ("digest", found.digest[:16]),
  ]
  table = "\n".join(f"{left:<20} {right}" for left, right in rows)
  return f"{table}\n\nnext: {then(found.kind, out)}"


def then(kind: Kind, out: Path) -> str:
  """What to do with weights of that kind at OUT."""
  return re.sub(r"\bDIR\b", lambda _: str(out), kind.then)
