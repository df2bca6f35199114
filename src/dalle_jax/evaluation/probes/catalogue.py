"""All suites, in the blog's order, and the ones that a person asks for."""

import difflib
from collections.abc import Sequence

from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes import attributes, fancies, interiors, settings, translation, views, worldly
from dalle_jax.evaluation.probes.suite import Category, Suite

SUITES: tuple[Suite, ...] = (
  *attributes.SUITES,
  *views.SUITES,
  *settings.SUITES,
  *interiors.SUITES,
  *fancies.SUITES,
  *translation.SUITES,
  *worldly.SUITES,
)


def find(names: Sequence[str]) -> tuple[Suite, ...]:
  """The suites of those names, of categories of those names, or `all`: each once, in the blog's order.

  Raises UserError for a name that there is not, with the nearest one.
  """
  by_name: dict[str, tuple[Suite, ...]] = {suite.name: (suite,) for suite in SUITES}
  for category in Category:
    by_name[category.name] = tuple(suite for suite in SUITES if suite.category is category)
  by_name["all"] = SUITES
  for name in names:
    if name not in by_name:
      close = difflib.get_close_matches(name, by_name, n=1)
      meant = f"did you mean {close[0]!r}? " if close else ""
      raise UserError(f"no suite {name!r}; {meant}(dalle probe --list has them all)")
  wanted = {suite.name for name in names for suite in by_name[name]}
  return tuple(suite for suite in SUITES if suite.name in wanted)
