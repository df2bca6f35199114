"""The committed results: each table is what today's pack makes of its own figures, and the index has all of them."""

import json
from pathlib import Path

import pytest

from dalle_jax import report
from dalle_jax.ablations import packs, table
from dalle_jax.ablations.figures import Figures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/ablations"
FOLDERS = sorted(file.parent for file in DOCS.glob("tiny/*/table.json"))


def figures(row):
  """An arm's, by seed, as its runs left them."""
  had = {name: each for name, each in row["figures"].items() if each}
  seeds = {seed for each in had.values() for seed in each["values"]} | set(row["failed"])
  return {
    int(seed): Figures(
      values={name: each["values"][seed] for name, each in had.items() if seed in each["values"]},
      lacking=row["lacking"].get(seed, {}),
      failed=row["failed"].get(seed),
      diverged=int(seed) in row["diverged"],
    )
    for seed in sorted(seeds)
  }


def test_there_are_results():
  assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_table_is_what_the_pack_says_of_its_figures(folder, monkeypatch):
  monkeypatch.chdir(ROOT)
  kept = json.loads((folder / "table.json").read_text())
  found = packs.load(ROOT / kept["file"])
  measured = {row["arm"]: figures(row) for row in kept["arms"]}
  made = table.build(found, kept["scale"], kept["data"], measured, kept["seeds"])
  assert json.loads(json.dumps(made)) == kept
  assert table.markdown(kept) == (folder / "table.md").read_text()
  assert len(kept["seeds"]) >= 3


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_said_how_a_table_was_made(folder):
  kept = json.loads((folder / "table.json").read_text())
  told = (folder / "how.md").read_text()
  assert told.startswith(f"`dalle ablate {kept['file']} --scale {kept['scale']} --seeds {len(kept['seeds'])}`")
  assert "unknown" not in told
  for picture in ("plot-light.png", "plot-dark.png"):
    assert (folder / picture).stat().st_size > 1000


def test_the_index_sums_them_up():
  assert report.index(report.gather(DOCS / "tiny"), DOCS) in (DOCS / "index.md").read_text()
