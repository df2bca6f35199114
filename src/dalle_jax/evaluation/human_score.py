"""What people answered: a majority for each pair, shares with 95 % intervals, votes, and who agrees with the others.

The paper (appendix F): five workers a pair, the majority decides; a worker who disagreed with the others and took less
than four seconds was left out.

P pairs, V people.
"""

import collections
import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax.errors import UserError
from dalle_jax.evaluation.human_sheet import KEY, KIND, NEITHER, QUESTIONS, VERSION, Question
from dalle_jax.evaluation.intervals import Proportion, wilson

UNDECIDED = "no majority"
HASTY = 4.0  # seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
  """names: the two sources; pairs: of each the caption, and whose picture is x and whose is y; workers: forms made."""

  sheet: str
  names: tuple[str, str]
  workers: int
  pairs: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
  """One person's. chosen: for each pair answered and each question a source's name or `NEITHER`; seconds: of a pair."""

  worker: int
  chosen: Mapping[int, Mapping[str, str]]
  seconds: Mapping[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """One question. shares: of the pairs, whose majority is for each; votes: of the pairs that all people answered, how
  many got 0, 1, ... votes for the first source.
  """

  question: str
  pairs: int
  shares: Mapping[str, Proportion]
  votes: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
  """One person: pairs answered, how often they said what most of the others did, and how fast they were.

  agreement: by question; None where the others have a majority nowhere. hasty: share of pairs under `HASTY` seconds.
  """

  worker: int
  answered: int
  agreement: Mapping[str, Proportion | None]
  median_seconds: float
  hasty: float


def read_key(directory: str | Path) -> Key:
  """The key of a sheet. Raises UserError where there is none."""
  found = _json(Path(directory) / KEY, "`dalle human make` writes it")
  if not isinstance(found, dict) or found.get("kind") != KIND or found.get("version") != VERSION:
    raise UserError(f"{Path(directory) / KEY} is no key of a sheet: wanted what `dalle human make` wrote")
  try:
    first, second = found["names"]
    return Key(sheet=found["sheet"], names=(first, second), workers=found["workers"], pairs=tuple(found["pairs"]))
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"{Path(directory) / KEY} is damaged: make the sheet anew, or put its key back") from error


def read_answers(key: Key, files: Sequence[str | Path]) -> list[Answers]:
  """What people saved, with the key's names for the pictures.

  Raises UserError for a file that is none, or of another sheet, an answer that was not asked for, and a person twice.
  """
  found: dict[int, tuple[str | Path, Answers]] = {}
  for file in files:
    told = _json(Path(file), "a form saves it")
    known = isinstance(told, dict) and {"sheet", "worker", "answers"} <= set(told)
    if not known or not isinstance(told["worker"], int):
      raise UserError(f"{file} holds no answers: wanted what a form saved")
    if told["sheet"] != key.sheet:
      raise UserError(f"{file} answers another sheet ({told['sheet']}, this is {key.sheet}): leave it out")
    worker = told["worker"]
    if not 1 <= worker <= key.workers:
      raise UserError(f"{file} is of form {worker}, and {key.workers} were made: is it of this sheet?")
    if worker in found:
      raise UserError(f"{file} and {found[worker][0]} are both of form {worker}: leave one of them out")
    found[worker] = (file, _named(key, told, file))
  return [answers for _, answers in found.values()]


def majority(votes: Sequence[str]) -> str | None:
  """What more people said than anything else; None where no one answer leads."""
  first, *others = collections.Counter(votes).most_common(2) or [(None, 0)]
  return first[0] if not others or first[1] > others[0][1] else None


def score(key: Key, people: Sequence[Answers]) -> list[Result]:
  """A result for each question. Raises UserError where nobody answered anything."""
  asked = [number for number in range(len(key.pairs)) if any(number in each.chosen for each in people)]
  if not asked:
    raise UserError("nobody has answered any pair yet: name the files that the forms saved")
  return [_result(key, people, asked, question) for question in QUESTIONS]


def workers(people: Sequence[Answers]) -> list[Worker]:
  """How each person answered, beside the others."""
  return [
    Worker(
      worker=each.worker,
      answered=len(each.chosen),
      agreement={question.name: _agreement(each, people, question.name) for question in QUESTIONS},
      median_seconds=statistics.median(each.seconds.values()) if each.seconds else 0.0,
      hasty=sum(s < HASTY for s in each.seconds.values()) / max(1, len(each.seconds)),
    )
    for each in people
  ]


def as_text(key: Key, results: Sequence[Result], told: Sequence[Worker]) -> str:
  """The table for a terminal."""
  lines = [f"{len(told)} of {key.workers} forms", ""]
  for result in results:
    lines.append(f"{result.question}: the majority of {result.pairs:,} pairs")
    lines += [f"  {name:<40} {share}" for name, share in result.shares.items()]
    cells = ", ".join(f"{votes}: {count}" for votes, count in enumerate(result.votes))
    lines += [f"  pairs by votes for {key.names[0]}  {cells}", ""]
  for each in told:
    agreed = ", ".join(f"{name} {share or 'nobody to compare with'}" for name, share in each.agreement.items())
    lines.append(
      f"form {each.worker}: {each.answered} pairs, agrees with the others' majority: {agreed}; median "
      f"{each.median_seconds:.1f} s, {100 * each.hasty:.0f} % under {HASTY:g} s"
    )
  return "\n".join(lines)


def to_json(key: Key, results: Sequence[Result], told: Sequence[Worker], left_out: Sequence[int]) -> dict[str, Any]:
  """All of it, for a file."""
  return {
    "sheet": key.sheet,
    "names": key.names,
    "left out": list(left_out),
    "results": [dataclasses.asdict(each) for each in results],
    "workers": [dataclasses.asdict(each) for each in told],
  }


def _result(key: Key, people: Sequence[Answers], asked: Sequence[int], question: Question) -> Result:
  decided: collections.Counter[str] = collections.Counter()
  for_first: collections.Counter[int] = collections.Counter()
  for number in asked:
    votes = [each.chosen[number][question.name] for each in people if number in each.chosen]
    decided[majority(votes) or UNDECIDED] += 1
    if len(votes) == len(people):
      for_first[votes.count(key.names[0])] += 1
  names = (*key.names, *([NEITHER] if question.neither else []), UNDECIDED)
  return Result(
    question=question.text,
    pairs=len(asked),
    shares={name: wilson(decided[name], len(asked)) for name in names},
    votes=tuple(for_first[count] for count in range(len(people) + 1)),
  )


def _agreement(own: Answers, people: Sequence[Answers], question: str) -> Proportion | None:
  same = of = 0
  for number, chosen in own.chosen.items():
    others = [each.chosen[number][question] for each in people if each is not own and number in each.chosen]
    most = majority(others)
    if most is not None:
      of, same = of + 1, same + (chosen[question] == most)
  return wilson(same, of) if of else None


def _named(key: Key, told: Mapping[str, Any], file: str | Path) -> Answers:
  chosen: dict[int, dict[str, str]] = {}
  seconds: dict[int, float] = {}
  try:
    for row in told["answers"]:
      number = row["pair"]
      if not 0 <= number < len(key.pairs):
        raise UserError(f"{file} answers pair {number}, and there are {len(key.pairs)}: is it of this sheet?")
      if number in chosen:
        raise UserError(f"{file} answers pair {number} twice: leave it out, or one of the two answers")
      if not float(row["seconds"]) >= 0:
        raise UserError(f"{file} has {row['seconds']} seconds for pair {number}: wanted 0 or more")
      for question in QUESTIONS:
        if row[question.name] not in question.answers:
          raise UserError(f"{file} answers {row[question.name]!r} to {question.text!r}, wanted {question.answers}")
      names = {**key.pairs[number], NEITHER: NEITHER}
      chosen[number] = {question.name: names[row[question.name]] for question in QUESTIONS}
      seconds[number] = float(row["seconds"])
  except (KeyError, TypeError, ValueError) as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:60]} is not as a form saves it") from error
  return Answers(worker=told["worker"], chosen=chosen, seconds=seconds)


def _json(file: Path, where_from: str) -> Any:
  try:
    return json.loads(file.read_text(encoding="utf-8"))
  except OSError as error:
    raise UserError(f"cannot read {file}: {error.strerror}; {where_from}") from error
  except ValueError as error:
    raise UserError(f"{file} is no JSON; {where_from}") from error
