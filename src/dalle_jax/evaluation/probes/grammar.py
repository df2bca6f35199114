"""English before a word: a or an."""

import re

# Begin with a vowel and are said with a consonant, and the other way round.
SAID_WITH_A = re.compile(r"(uni(?!n|mp)|us[eu]|uk|ut[eio]|eu|ewe|on[ce]e?\b)")
SAID_WITH_AN = re.compile(r"(x-|hour|honest|honou?r|heir)")


def indefinite(words: str) -> str:
  """'a' or 'an', by how the first of the words is said."""
  if SAID_WITH_AN.match(words):
    return "an"
  return "an" if words[:1] in tuple("aeiou") and not SAID_WITH_A.match(words) else "a"
