"""`dalle data inspect`: what a prepared data set holds, what was left out and why, and how many captions are too long.

The tokenizer is trained on the captions of the data set itself, as a run would.
"""

import collections
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dalle_jax.data import captions, prepare_report
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
from dalle_jax.data.prepare_report import Report, Spread
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.data.source import Dropped
from dalle_jax.errors import UserError

MOST = 100_000  # captions that are tokenized, evenly spaced; more would tell nothing new
SHOWN = 3  # examples named of each reason


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
  """Tokens a caption, of the captions looked at. truncated: those of more than `limit` tokens; vocab: pieces learnt."""

  lengths_C: Int[np.ndarray, " C"]
  limit: int
  vocab: int

  @property
  def truncated(self) -> int:
    return int((self.lengths_C > self.limit).sum())

  @property
  def spread(self) -> Spread:
    return prepare_report.spread(self.lengths_C)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
  """report: as it was prepared; tokens: None where no tokenizer can be trained; dropped: a few of each reason."""

  prepared: Prepared
  report: Report
  tokens: Tokens | None
  dropped: dict[str, list[Dropped]]


def inspect(path: str | Path, cfg: TokenizerConfig) -> Inspection:
  """Reads what `dalle data prepare` wrote. Raises UserError when the directory holds no prepared data set."""
  prepared = open_prepared(path)
  report = _report(prepared)
  texts = list(_captions(prepared))
  return Inspection(
    prepared=prepared, report=report, tokens=_tokens(texts, cfg), dropped=_dropped(prepared.path / "dropped.jsonl")
  )


def as_text(found: Inspection) -> str:
  """What was found, for a terminal."""
  lines = [prepare_report.as_text(found.report)]
  for reason, examples in found.dropped.items():
    lines += [f"            {reason}: {_named(each)}" for each in examples]
  return "\n".join([*lines, f"  tokens    {tokens_text(found.tokens)}"])


def tokens_text(tokens: Tokens | None) -> str:
  """Caption lengths in tokens, and how many captions are cut."""
  if tokens is None:
    return "no tokenizer can be trained on these captions"
  spread, seen = tokens.spread, len(tokens.lengths_C)
  share = 100 * tokens.truncated / seen
  return (
    f"{spread.least:g} to {spread.most:g} a caption (median {spread.median:g}, 99 % up to {spread.p99:g}) "
    f"by a vocabulary of {tokens.vocab:,}; {tokens.truncated:,} of {seen:,} captions "
    f"({share:.2g} %) are cut to {tokens.limit}"
  )


def _named(dropped: Dropped) -> str:
  return f"{dropped.key} ({dropped.detail})" if dropped.detail else dropped.key


def _report(prepared: Prepared) -> Report:
  file = prepared.path / "report.json"
  try:
    return prepare_report.from_json(file.read_text(encoding="utf-8"))
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"cannot read {file} ({type(error).__name__}): prepare the data set anew") from error


def _captions(prepared: Prepared) -> Iterator[str]:
  """Captions of all splits, the one to train on first, MOST in all or a little more."""
  total = sum(len(prepared.source(split)) for split in prepared.splits)
  for split in prepared.splits:
    records = prepared.source(split).records  # its pictures are not decoded
    for index in range(0, len(records), max(1, total // MOST)):
      yield from (text.decode() for text in records[index]["captions"])


def _tokens(texts: list[str], cfg: TokenizerConfig) -> Tokens | None:
  try:
    tokenizer = Tokenizer(captions.train(texts, cfg), cfg)
  except UserError:
    return None
  lengths = np.array([len(tokenizer.encode(text)) for text in texts], np.int32)
  return Tokens(lengths_C=lengths, limit=cfg.length - 1, vocab=tokenizer.size)


def _dropped(file: Path) -> dict[str, list[Dropped]]:
  """The first few examples of each reason."""
  found: dict[str, list[Dropped]] = collections.defaultdict(list)
  if file.is_file():
    with file.open(encoding="utf-8") as lines:
      for row in map(json.loads, lines):
        if len(found[row["reason"]]) < SHOWN:
          found[row["reason"]].append(Dropped(key=row["key"], reason=row["reason"], detail=row["detail"]))
  return dict(found)
