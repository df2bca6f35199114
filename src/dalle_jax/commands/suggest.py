"""'Did you mean ...?' for a misspelt word."""

import difflib
from collections.abc import Sequence


def suggest(word: str, known: Sequence[str]) -> str:
  """The nearest known word as a question, or the list of them all."""
  close = difflib.get_close_matches(word, known, n=1)
  return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)}"
