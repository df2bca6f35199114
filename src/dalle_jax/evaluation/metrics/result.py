"""A result: figures, each with how it was made, as eval.json and as a table."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax import places
from dalle_jax.data.scratch import FULL
from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation.metrics import protocol
from dalle_jax.evaluation.metrics.figures import SHARE, Figure

FORMAT = 1
NAME = "eval.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """A figure and its protocol."""

  figure: Figure
  protocol: Mapping[str, Any]


def write(file: Path, measured: Sequence[Measured]) -> None:
  """Writes the figures, and every protocol once. Raises UserError where it can't, StorageError on a full disk."""
  protocols = {protocol.identity(each.protocol): each.protocol for each in measured}
  told = {
    "format": FORMAT,
    "figures": [{**dataclasses.asdict(each.figure), "protocol": protocol.identity(each.protocol)} for each in measured],
    "protocols": protocols,
  }
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    places.write(file, json.dumps(told, indent=2).encode() + b"\n")
  except OSError as error:
    said = f"cannot write {file}: {error.strerror or error}"
    raise (StorageError if error.errno in FULL else UserError)(said) from error


def read(file: Path) -> list[Measured]:
  """What `write` wrote. Raises UserError where there is no such file, or one of another kind."""
  try:
    told = json.loads(file.read_text())
    if told["format"] != FORMAT:
      raise UserError(f"{file} is of format {told['format']}, and {FORMAT} is read: measure anew with `dalle eval`")
    fields = {field.name for field in dataclasses.fields(Figure)}
    return [
      Measured(
        figure=Figure(**{name: value for name, value in each.items() if name in fields}),
        protocol=told["protocols"][each["protocol"]],
      )
      for each in told["figures"]
    ]
  except OSError as error:
    raise UserError(f"cannot read {file}: {error.strerror or error}; `dalle eval --metrics` writes it") from error
  except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f"{file} is not what `dalle eval --metrics` wrote: name its eval.json") from error


def head(figures: Sequence[Figure]) -> list[str]:
  """The columns of a table of these figures: those that say nothing are left out."""
  optional = {
    "of": any(each.of for each in figures),
    "blur": any(each.blur for each in figures),
    "drawn with": any(each.setting for each in figures),
    "left out": any(each.without_list for each in figures),
  }
  return ["metric", *(name for name, there in optional.items() if there), "value", "unit", "examples"]


def row(figure: Figure, columns: Sequence[str], notes: Sequence[str] = ()) -> list[str]:
  """A figure's texts under these columns, with the number of its note."""
  mark = f" ({notes.index(figure.note) + 1})" if figure.note in notes else ""
  told = {
    "metric": figure.metric + mark,
    "of": figure.of,
    "blur": f"{figure.blur:g}",
    "drawn with": figure.setting,
    "left out": f"{figure.excluded}, by the list" if figure.without_list else "none",
    "value": figure.told(),
    "unit": "" if figure.unit == SHARE else figure.unit,
    "examples": str(figure.examples),
  }
  return [told[name] for name in columns]


def notes(figures: Sequence[Figure]) -> list[str]:
  """What is to be known of some of the figures, each once."""
  return list(dict.fromkeys(each.note for each in figures if each.note))


def as_text(figures: Sequence[Figure]) -> str:
  """A table for a terminal, and its notes."""
  columns, told = head(figures), notes(figures)
  cells = [columns, *(row(each, columns, told) for each in figures)]
  widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
  lines = ["  ".join(text.ljust(w) for text, w in zip(line, widths)).rstrip() for line in cells]
  if told:
    lines += ["", *(f"({i}) {note}" for i, note in enumerate(told, start=1))]
  return "\n".join(lines)
