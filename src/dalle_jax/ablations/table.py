"""A pack's table: every arm's figures with intervals over seeds, its difference to the paper's way, and the verdicts.

OUT/PACK/table.json, table.md   the same for two runs of a pack: nothing of the clock or the machine is in them
OUT/PACK/how.md                 where, when and in what time they were made
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax import places
from dalle_jax.ablations import arms, figures, verdict
from dalle_jax.ablations.pack import Pack, Scale
from dalle_jax.ablations.packs import Found
from dalle_jax.ablations.verdict import BySeed

Table = dict[str, Any]
PLOT = (
  '<picture><source srcset="plot-dark.png" media="(prefers-color-scheme: dark)">'
  '<img src="plot-light.png" width="640" alt="Every arm at every seed"></picture>'
)


def build(
  found: Found, scale: str, data: Mapping[str, Any], measured: Mapping[str, BySeed], seeds: Sequence[int]
) -> Table:
  """What the figures say. data: which it was; measured: by arm and seed; what is not there yet is left out."""
  pack = found.pack
  paper, control = measured[pack.arms[0].name], measured[pack.control]
  seen = verdict.detected(pack.metric, paper, control, seeds)
  judged = [verdict.judge(pack.metric, claim, measured, seeds, seen) for claim in pack.claims]
  gap = verdict.difference(pack.metric, paper, control)
  return {
    "pack": found.name,
    "file": found.told,
    "title": pack.title,
    "group": pack.group,
    "paper": dataclasses.asdict(pack.paper),
    "scale": scale,
    "data": dict(data),
    "seeds": list(seeds),
    "metric": {name: getattr(pack.metric, name) for name in ("name", "unit", "smallest", "lower")},
    "also": [{name: getattr(metric, name) for name in ("name", "unit", "lower")} for metric in pack.also],
    "arms": _arms(pack, scale, measured, seeds),
    "control": {"arm": pack.control, "detected": seen, "difference": gap and dataclasses.asdict(gap)},
    "verdicts": [dataclasses.asdict(each) for each in judged],
  }


def _arms(pack: Pack, scale: str, measured: Mapping[str, BySeed], seeds: Sequence[int]) -> list[dict[str, Any]]:
  at = Scale(name=scale, data="DATA")
  base, experiments = pack.base(at), arms.resolve(pack, at)
  rows = []
  for arm in pack.arms:
    mine = measured[arm.name]
    values = {
      metric.name: {str(seed): mine[seed].values[metric.name] for seed in mine if metric.name in mine[seed].values}
      for metric in figures.metrics(pack)
    }
    paired = verdict.difference(pack.metric, mine, measured[pack.arms[0].name]) if arm is not pack.arms[0] else None
    rows.append(
      {
        "arm": arm.name,
        "changes": arms.changes(base, experiments[arm.name]),
        "setting": arms.setting(arm),
        "figures": {
          name: dataclasses.asdict(verdict.interval(list(each.values()))) | {"values": each} if each else None
          for name, each in values.items()
        },
        "better_than_first": paired and dataclasses.asdict(paired),
        "failed": {str(seed): mine[seed].failed for seed in mine if mine[seed].failed},
        "lacking": {str(seed): dict(mine[seed].lacking) for seed in mine if mine[seed].lacking},
        "diverged": [seed for seed in mine if mine[seed].diverged],
        "missing": [seed for seed in seeds if seed not in mine],
      }
    )
  return rows


def markdown(table: Table) -> str:
  """The table as it is committed and read."""
  paper, metric = table["paper"], table["metric"]
  unit = f"{metric['name']}, {metric['unit']}"
  better = "less" if metric["lower"] else "more"
  kind = f"a number: {paper['numbers']}" if paper["numbers"] else "a statement, no number"
  rows = ", ".join(map(str, paper["rows"]))
  claims = f"claim{'s' if len(paper['rows']) > 1 else ''} {rows}" if rows else "none of its listed claims"
  lines = [
    f"# {table['title']}",
    "",
    f"Paper ({paper['where']}; {claims}; {kind}): {paper['says']}",
    "",
    f"Scale {table['scale']}, seeds {', '.join(map(str, table['seeds']))}. Decided by {unit} ({better} is better); "
    f"a difference of {metric['smallest']:g} would matter. Intervals: 95 %, Student's t over seeds.",
    "",
    *([_data(table["data"]), ""] if "data" in table else []),
    *_rows(
      ["claim", "verdict", "difference", "because"],
      [[v["claim"], f"**{v['verdict']}**", interval(v["difference"]), v["why"]] for v in table["verdicts"]],
    ),
    "",
    f"The control, {table['control']['arm']}, is {'' if table['control']['detected'] else 'not '}told apart: the first "
    f"arm is better by {interval(table['control']['difference'])}.",
    "",
    *_rows(
      ["arm", unit, "better than the first by", *(f"{each['name']}, {each['unit']}" for each in table["also"])],
      [_row(table, row) for row in table["arms"]],
    ),
    "",
    PLOT,
    "",
    *notes(table),
  ]
  return "\n".join(lines).rstrip() + "\n"


def _data(data: Mapping[str, Any]) -> str:
  splits = ", ".join(f"{count:,} of {name}" for name, count in data["splits"].items())
  return f"Data {data['name']}: {splits}; digest {data['digest'][:16]}."


def _row(table: Table, row: Mapping[str, Any]) -> list[str]:
  cells = [interval(row["figures"][each["name"]]) for each in (table["metric"], *table["also"])]
  return [row["arm"], cells[0], interval(row["better_than_first"]), *cells[1:]]


def notes(table: Table) -> list[str]:
  """In what the arms differ from the base, and which runs failed or are not there, a line each."""
  notes = []
  for row in table["arms"]:
    if row["changes"]:
      notes.append(f"- {row['arm']}: {'; '.join(f'`{line}`' for line in row['changes'])}")
    if row["setting"] is not None:
      notes.append(f"- {row['arm']}: measured with `{json.dumps(row['setting'])}`")
    for seed, why in row["failed"].items():
      what = "training went out of bounds" if int(seed) in row["diverged"] else "failed"
      notes.append(f"- {row['arm']}, seed {seed}: {what}: {why}")
    for seed, lacking in row.get("lacking", {}).items():
      notes += [f"- {row['arm']}, seed {seed}: left out: {name}: {why}" for name, why in lacking.items()]
    if row["missing"]:
      notes.append(f"- {row['arm']}: not run yet at seed {', '.join(map(str, row['missing']))}")
  return notes


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
  return ["| " + " | ".join(line) + " |" for line in lines]


def interval(found: Mapping[str, Any] | None) -> str:
  """A mean and its interval as text."""
  if found is None:
    return "–"
  if found["low"] is None:
    return f"{found['mean']:.4g}"
  return f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def how(found: Found, scale: str, data: Path | None, measured: Mapping[str, BySeed]) -> str:
  """Where the figures were made, and in what time. data: what was given in place of the scale's own."""
  made = {(arm, seed): each.made for arm, by in measured.items() for seed, each in by.items() if each.made}
  devices, commits = ([*dict.fromkeys(str(m[name]) for m in made.values())] for name in ("device", "commit"))
  seeds = max((len(by) for by in measured.values()), default=0)
  lines = [
    f"`dalle ablate {found.told} --scale {scale} --seeds {seeds}{f' --data {data}' if data else ''}`",
    "",
    f"Commit {', '.join(commits) or 'unknown'}; {', '.join(devices) or 'unknown'}.",
    "",
    "Seconds of the trained stage, compilation with it, by arm and seed (arms that share a run show the same):",
    "",
    *(
      f"- {arm}: {', '.join(str(round(each.made.get('trained_s', 0))) for each in by.values())}"
      for arm, by in measured.items()
    ),
  ]
  return "\n".join(lines) + "\n"


def write(folder: Path, table: Table, told: str) -> None:
  """Writes the three files, each whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  places.write(folder / "table.json", json.dumps(table, indent=1).encode() + b"\n")
  places.write(folder / "table.md", markdown(table).encode())
  places.write(folder / "how.md", told.encode())
