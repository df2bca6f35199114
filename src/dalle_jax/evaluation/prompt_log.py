"""What was measured of a fixed list of captions while a stage trained: a line a measurement, and the curves.

    prompt_metrics.jsonl    {"protocol": {...}}, then {"step": 500, "composition": 0.41, ...} a line
    prompt_metrics.png      a panel for each kind of metric

Every line is of the protocol in the first one, so a curve does not mix what can't be compared.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dalle_jax import places
from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation import plots

NAME = "prompt_metrics"
Rows = Sequence[Mapping[str, Any]]
# Names that begin so share a panel; what its axis says, and whether shares are drawn as per cent.
PANELS = (
  ("composition", "drawn right, %"),
  ("clip", "CLIP's cosine"),
  ("held_out_", "held out, nats"),
)
LOW, HIGH = "_low", "_high"


class PromptLog:
  """Reads, goes on with and writes the two files of a stage's directory."""

  def __init__(self, directory: Path, protocol: Mapping[str, Any], resumed: int):
    """Keeps the rows up to the step `resumed`. Raises UserError where they are of another protocol."""
    self._directory, self._protocol = directory, dict(protocol)
    found = read(directory)
    if found is not None and (differs := difference(found[0], protocol)):
      raise UserError(
        f"{directory / NAME}.jsonl was begun with {differs}: go on with what it was begun with, or move that file away"
      )
    self._rows = [dict(row) for row in (found[1] if found else []) if row["step"] <= resumed]

  def add(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one more line, and the curves. Raises StorageError where they can't be written."""
    self._rows.append({"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()})
    lines = [{"protocol": self._protocol}, *self._rows]
    file = self._directory / f"{NAME}.jsonl"
    try:
      self._directory.mkdir(parents=True, exist_ok=True)
      places.write(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
      draw(self._rows, self._directory / f"{NAME}.png")
    except OSError as error:
      raise StorageError(f"cannot write {file} ({error.strerror}); checkpoints are as they were") from error


def read(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
  """The protocol and the rows of a stage's directory; None where nothing was measured."""
  file = directory / f"{NAME}.jsonl"
  if not file.is_file():
    return None
  try:
    head, *rows = [json.loads(line) for line in file.read_text().splitlines()]
    return head["protocol"], rows
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{file} is damaged ({str(error)[:60]}): move it away") from error


def difference(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
  """The first thing that both tell of and that differs, as `name: begun, not asked`; empty where nothing does."""
  for name in begun:
    if name in asked and json.loads(json.dumps(asked[name])) != begun[name]:
      return f"{name} {begun[name]}, and not {asked[name]}"
  return ""


def draw(rows: Rows, file: Path) -> None:
  """The curves of all metrics that the rows hold."""
  names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
  panels = [
    _panel(rows, own, said)
    for start, said in PANELS
    if (own := [name for name in names if name.startswith(start) and not name.endswith((LOW, HIGH))])
  ]
  plots.save_panels(panels, file)


def _panel(rows: Rows, names: Sequence[str], said: str) -> Callable[[Axes, plots.Paper], object]:
  times = 100 if said.endswith("%") else 1

  def points(name: str) -> np.ndarray:
    return np.array([math.nan if (value := row.get(name)) is None else times * value for row in rows])

  def draw_panel(axes: Axes, paper: plots.Paper) -> None:
    steps = [row["step"] for row in rows]
    for i, name in enumerate(names):
      colour = paper.series[i % len(paper.series)]
      style = ("-", "--", ":")[i // len(paper.series) % 3]
      if any(name + LOW in row for row in rows):
        axes.fill_between(steps, points(name + LOW), points(name + HIGH), color=colour, alpha=0.13, linewidth=0)
      axes.plot(steps, points(name), style, color=colour, marker="o", markersize=3, linewidth=1.8, label=_called(name))
    if len(names) > 1:
      axes.legend(frameon=False, labelcolor="linecolor", fontsize=8, ncols=2)
    axes.set_ylabel(said)
    axes.set_xlabel("step")

  return draw_panel


def _called(name: str) -> str:
  return name.removeprefix("held_out_").replace("_", " ").replace("/", ": ")
