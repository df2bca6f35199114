"""Flags by tyro, with its errors in one line: what was got, what was meant, and exit code 2 by way of UserError."""

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from dalle_jax.errors import UserError

FRAME = re.compile(r"[│╭╮╰╯─]+|-{5,}")


def parse(flags: Any, argv: Sequence[str], *, prog: str, description: str = "") -> Any:
  """Parses `argv` into the dataclass `flags`.

  Raises UserError in one line for anything that does not parse; exits with 0 after printing the help for `--help`.
  """
  _refuse_empty_paths(flags, argv)
  complaint = io.StringIO()
  try:
    with contextlib.redirect_stderr(complaint):
      config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
      return tyro.cli(flags, args=list(argv), prog=prog, description=description, config=config)
  except SystemExit as stop:
    if not stop.code:
      raise
    raise UserError(_first_thing(one_line(complaint.getvalue())) + f" (all flags: {prog} --help)") from None


def _refuse_empty_paths(flags: Any, argv: Sequence[str]) -> None:
  """Raises UserError for `--out ""`, an unset variable of the shell as a rule: as a path it is the current folder."""
  hints = typing.get_type_hints(flags).items()
  paths = {f"--{name.replace('_', '-')}" for name, hint in hints if Path in (hint, *typing.get_args(hint))}
  words = [word for argument in argv for word in (argument.split("=", 1) if argument.startswith("--") else [argument])]
  for flag, value in itertools.pairwise(words):
    if flag.replace("_", "-") in paths and not value:
      raise UserError(f"got {flag} with nothing after it, wanted a path; . is the current folder")


def with_experiment(flags: type, experiment: Any) -> type:
  """The dataclass `flags` with one more field, `experiment`, whose fields are flags without a prefix."""
  bare = Annotated[type(experiment), tyro.conf.arg(name="")]
  field = ("experiment", bare, dataclasses.field(default=experiment))
  return dataclasses.make_dataclass(flags.__name__, [field], bases=(flags,), frozen=True, kw_only=True)


def _first_thing(complaint: str) -> str:
  """Of flags that there are not the first, with the nearest one that there is; other complaints as they are.

  What Python says of numbers that are none is said in our words, and what a dataclass of flags refuses as it says it.
  """
  number = re.match(r"Error parsing (\S+): .*(?:invalid literal for int|could not convert string to float)", complaint)
  if number is not None and (got := re.search(r"'([^']*)'\s*$", complaint)):
    return f"got {number[1]} {got[1]}, wanted a {'whole ' if 'for int' in complaint else ''}number"
  complaint = re.sub(r"^Error parsing [A-Z]\w*: ", "", complaint)
  unknown = re.match(r"Unrecognized options?: (\S+)", complaint)
  if unknown is None:
    return complaint
  meant = re.search(r"Perhaps you meant: (--[\w.-]+)", complaint)
  return f"there is no flag {unknown[1].rstrip(',')}" + (f". Perhaps you meant: {meant[1]}" if meant else "")


def one_line(complaint: str) -> str:
  """tyro's framed paragraphs as one line, without the pointer to the help and the rules between them."""
  lines = [FRAME.sub(" ", line).strip() for line in complaint.splitlines()[1:]]
  kept, skipping = [], False
  for line in lines:
    skipping = skipping or line.startswith(("For full helptext", "Argument helptext", "Full helptext"))
    if line and not skipping:
      kept.append(line)
  return re.sub(r"\s+", " ", " ".join(kept)).strip() or complaint.strip()
