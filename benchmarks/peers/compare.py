"""dalle_jax beside DALLE-pytorch on the same cores, in alternating runs: one table, one JSON file.

Each side is a process that lives as long as the comparison, is bound to the same cores, and answers one request at a
time: while one side computes, the other waits for a line on its standard input. A request is one JSON line

    {"bench": "train-step"|"sample", "shape": {...}, "kinds": [...], ...}    ->    {"seconds": s, "parameters": n, ...}

and the first of a kind is warmed up before it is timed. So a disturbance meets both sides alike, and ratios hold
where absolute times don't.
"""

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from dalle_jax import bench

HERE = Path(__file__).parent
SHAPE = {"layers": 4, "dim": 512, "heads": 8, "text": 256, "grid": 32, "text_vocab": 16384, "image_vocab": 8192}
SMALL = SHAPE | {"dim": 64, "grid": 8, "text": 16, "text_vocab": 256, "image_vocab": 128}
PAPER = ("row", "column", "row", "conv")  # the paper's schedule at four layers
AXIAL = ("row_only", "column")  # the same pairs of positions as theirs
THEIR_AXIAL = ("axial_row", "axial_col")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One line of the table."""

  name: str
  bench: str
  batch: int
  ours: tuple[str, ...]
  theirs: tuple[str, ...] = THEIR_AXIAL
  kernel: int = 11
  repaired: bool = True
  tokens: int | None = None  # of theirs, where drawing a whole picture takes too long; None for all


ROWS = (
  Row(name="train step, batch 2, paper's layers against axial", bench="train-step", batch=2, ours=PAPER),
  Row(name="train step, batch 2, axial on both sides", bench="train-step", batch=2, ours=AXIAL),
  Row(name="train step, batch 2, full attention", bench="train-step", batch=2, ours=("full",), theirs=("full",)),
  Row(
    name="train step, batch 2, three axial layers and a 5×5 conv",
    bench="train-step",
    batch=2,
    ours=("row_only", "column", "row_only", "conv_corner"),
    theirs=("axial_row", "axial_col", "axial_row", "conv_like"),
    kernel=5,
  ),
  Row(name="sampling, batch 1, paper's layers, its cache repaired", bench="sample", batch=1, ours=PAPER),
  Row(name="sampling, batch 1, axial, its cache repaired", bench="sample", batch=1, ours=AXIAL),
  Row(
    name="sampling, batch 1, full attention, its cache repaired",
    bench="sample",
    batch=1,
    ours=("full",),
    theirs=("full",),
  ),
  Row(name="sampling, batch 8, axial, its cache repaired", bench="sample", batch=8, ours=AXIAL),
  Row(name="sampling, batch 1, axial, as shipped", bench="sample", batch=1, ours=AXIAL, repaired=False, tokens=6),
)


class Worker:
  """A process that times one side."""

  def __init__(self, python: str, script: Path):
    self.process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self.versions = self._read()["versions"]

  def ask(self, request: dict[str, Any]) -> dict[str, Any]:
    """Has the process time what is asked for, once."""
    self.process.stdin.write(json.dumps(request) + "\n")
    self.process.stdin.flush()
    return self._read()

  def close(self) -> None:
    """Ends the process."""
    self.process.stdin.close()
    self.process.wait()

  def _read(self) -> dict[str, Any]:
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit(f"{self.process.args[1]} ended with {self.process.wait()}; its error is above")
    return json.loads(line)


def compare(row: Row, shape: dict[str, int], rounds: int, ours: Worker, theirs: Worker) -> dict[str, Any]:
  """Both sides in turn, `rounds` times. Ratios are theirs over ours: above 1, ours is faster."""
  shape = shape | {"batch": row.batch}
  common = {"bench": row.bench, "shape": shape}
  own = common | {"kinds": row.ours * (1 if len(row.ours) > 1 else shape["layers"]), "kernel": row.kernel}
  tokens = shape["grid"] ** 2 if row.tokens is None else row.tokens
  peers = common | {"kinds": row.theirs, "repaired": row.repaired, "tokens": tokens}
  answers = [(ours.ask(own), theirs.ask(peers)) for _ in range(rounds)]
  found: dict[str, Any] = {"name": row.name, "bench": row.bench, "rounds": rounds, "batch": row.batch}
  for side, given in zip(("ours", "theirs"), zip(*answers)):
    seconds = [answer["seconds"] for answer in given]
    found[side] = {"median_s": statistics.median(seconds), "spread_s": bench.spread(seconds), "seconds": seconds}
    found[side] |= {k: v for k, v in given[-1].items() if k != "seconds"}
  found["ratio"] = found["theirs"]["median_s"] / found["ours"]["median_s"]
  found["ratio_of_best"] = found["theirs"]["spread_s"]["min"] / found["ours"]["spread_s"]["min"]
  return found


def table(results: list[dict[str, Any]]) -> str:
  """Markdown."""
  head = ("what", "dalle_jax", "DALLE-pytorch", "ratio", "ratio of the best", "parameters, millions", "rounds")
  lines = [" | ".join(head), " | ".join("---" for _ in head)]
  for found in results:
    own, other = found["ours"], found["theirs"]
    sizes = f"{own['parameters'] / 1e6:.1f} / {other['parameters'] / 1e6:.1f}"
    ratios = (f"{found['ratio']:.2f}×", f"{found['ratio_of_best']:.2f}×")
    lines.append(" | ".join((found["name"], _time(own), _time(other), *ratios, sizes, str(found["rounds"]))))
  return "\n".join(f"| {line} |" for line in lines)


def _time(side: dict[str, Any]) -> str:
  """Median, least and greatest."""
  unit, scale = ("s", 1) if side["median_s"] >= 0.5 else ("ms", 1000)
  numbers = (side["median_s"], side["spread_s"]["min"], side["spread_s"]["max"])
  median, least, greatest = (f"{x * scale:.3g}" for x in numbers)
  return f"{median} {unit} ({least} to {greatest})"


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--peer-python", required=True, help="the interpreter that has DALLE-pytorch")
  parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
  parser.add_argument("--rounds", type=int, default=5, help="alternations of a row")
  parser.add_argument("--cores", default="", help="such as 2,3; the first two by default")
  parser.add_argument("--only", default="", help="only rows whose name contains this")
  parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
  return parser.parse_args()


def main() -> None:
  """Compares, prints the table, writes the JSON."""
  args = _arguments()
  allowed = sorted(os.sched_getaffinity(0))
  cores = [int(core) for core in args.cores.split(",")] if args.cores else allowed[:2]
  os.sched_setaffinity(0, cores)  # the workers inherit it
  ours = Worker(sys.executable, HERE / "dalle_jax_worker.py")
  theirs = Worker(args.peer_python, HERE / "dalle_pytorch_worker.py")
  commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True, check=False)
  result: dict[str, Any] = {
    "commit": commit.stdout.strip(),
    "date": datetime.date.today().isoformat(),
    "processor": bench.processor(),
    "cores": len(cores),
    "versions": {"ours": ours.versions, "theirs": theirs.versions},
    "load_before": os.getloadavg(),
    "shape": SMALL if args.small else SHAPE,
    "rows": [],
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  for row in ROWS:
    if args.only in row.name:
      result["rows"].append(compare(row, result["shape"], args.rounds, ours, theirs))
      print(table(result["rows"][-1:]).splitlines()[-1], file=sys.stderr, flush=True)
      args.out.write_text(json.dumps(result | {"load_after": os.getloadavg()}, indent=1))
  ours.close()
  theirs.close()
  print(table(result["rows"]))


if __name__ == "__main__":
  main()
