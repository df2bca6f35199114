"""Lists of captions to draw: a caption a line, or PartiPrompts' table (Yu et al. 2022).

a caption                                     blank lines are passed over
Prompt<TAB>Category<TAB>Challenge<TAB>Note    PartiPrompts.tsv, known by this first line; quotes mean nothing
"""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

COLUMNS = ("Prompt", "Category", "Challenge")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """A caption; of PartiPrompts what it is about and what is hard about it, elsewhere both empty."""

  text: str
  category: str = ""
  challenge: str = ""


def read(file: str | Path, limit: int | None = None) -> tuple[Prompt, ...]:
  """The first `limit` captions of a file (all, if None), in its order.

  Raises UserError where it can't be read, holds none, or a line of a table has no caption or not its columns.
  """
  try:
    text = Path(file).read_text(encoding="utf-8-sig")
  except OSError as error:
    raise UserError(f"cannot read the captions {file}: {error.strerror}") from error
  except UnicodeDecodeError as error:
    raise UserError(f"cannot read the captions {file}: byte {error.start} is no UTF-8; save it as UTF-8") from error
  lines = text.split("\n")
  head = [name.strip() for name in lines[0].split("\t")]
  if head[0] == COLUMNS[0] and len(head) > 1:
    found = _table(file, head, lines)
  else:
    found = [Prompt(text=" ".join(line.split())) for line in lines if line.strip()]
  if not found:
    raise UserError(f"{file} holds no caption, wanted one on each line, or PartiPrompts' table")
  return tuple(found[:limit])


def _table(file: str | Path, head: list[str], lines: list[str]) -> list[Prompt]:
  if missing := [name for name in COLUMNS if name not in head]:
    raise UserError(f"the table {file} has no column {missing[0]}, wanted {', '.join(COLUMNS)} as in PartiPrompts.tsv")
  place, found = {name: head.index(name) for name in COLUMNS}, []
  for number, line in enumerate(lines[1:], 2):
    if not line.strip():
      continue
    cells = [cell.strip() for cell in line.rstrip("\r").split("\t")]
    if len(cells) <= max(place.values()) or not cells[place["Prompt"]]:
      raise UserError(f"line {number} of {file} has no {' or no '.join(COLUMNS)}: wanted them parted by tabs")
    found.append(Prompt(**dict(zip(("text", "category", "challenge"), (cells[place[name]] for name in COLUMNS)))))
  return found
