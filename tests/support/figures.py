"""The figures that the fault tests wrote, as the rows of docs/reliability.md: figures.py FILE.jsonl."""

import json
import sys
from pathlib import Path


def main(file):
  """Prints a row of Markdown for each."""
  print("| fault | what came of it | seeds |\n|---|---|---|")
  for line in Path(file).read_text().splitlines():
    row = json.loads(line)
    print(f"| {row['fault']} | {row['measured']} | {', '.join(map(str, row['seeds'])) or '-'} |")


if __name__ == "__main__":
  main(sys.argv[1])
