"""The index of the paper's claims: all 34, and every pack, by the name of its file."""

import re
from pathlib import Path

from dalle_jax.ablations import packs
from dalle_jax.pack_files import files

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs/ablations/index.md").read_text()
ROWS = {int(row[1]): row[0] for row in re.finditer(r"^\| (\d+) \|.*$", INDEX, re.MULTILINE)}


def test_all_claims_of_the_paper_are_there_with_what_becomes_of_them():
  assert list(ROWS) == list(range(1, 35))
  for number, row in ROWS.items():
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4, number
    assert re.search(r"`\w+\.py`|`dalle |group `|can't be varied", cells[3]), number


def test_every_pack_stands_in_the_rows_that_it_is_about(monkeypatch):
  monkeypatch.chdir(ROOT)
  for file in files(ROOT / "experiments/ablations"):
    pack = packs.load(file).pack
    named = [number for number, row in ROWS.items() if f"`{file.name}`" in row or f"group `{pack.group}`" in row]
    assert named or f"`{file.name}`" in INDEX, file.name
    assert not named or set(named) & set(pack.paper.rows), file.name


def test_every_file_that_is_named_is_there():
  there = {file.name for file in files(ROOT / "experiments/ablations")}
  assert set(re.findall(r"`(\w+\.py)`", INDEX)) - there == set()
