"""Two results beside each other, where they were made alike; where they were not, the facts that differ are named."""

import dataclasses
from collections.abc import Sequence

from dalle_jax.errors import UserError
from dalle_jax.evaluation.metrics import protocol
from dalle_jax.evaluation.metrics.figures import SHARE, Figure
from dalle_jax.evaluation.metrics.result import Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """One measurement of both. apart: whether their 95 % intervals do not meet; None where one has none."""

  a: Figure
  b: Figure

  @property
  def apart(self) -> bool | None:
    """Intervals that do not meet are a difference; ones that do may be one too, on the same examples."""
    if None in (self.a.low, self.a.high, self.b.low, self.b.high):
      return None
    return self.a.high < self.b.low or self.b.high < self.a.low


def compare(a: Sequence[Measured], b: Sequence[Measured], *, across: Sequence[str] = ()) -> list[Pair]:
  """The figures that both have, in the order of the first.

  across: facts in which they may differ, because they are what is compared. Raises UserError naming the figure and the
  facts where protocols differ otherwise, and where no figure is in both.
  """
  protocol.check_across(across, [each.protocol for each in [*a, *b]])
  others = {each.figure.key: each for each in b}
  pairs = []
  for each in a:
    other = others.get(each.figure.key)
    if other is None:
      continue
    if unlike := protocol.unlike(each.protocol, other.protocol, across=across):
      more = f" (and {len(unlike) - 1} more: {'; '.join(unlike[1:4])})" if len(unlike) > 1 else ""
      raise UserError(
        f"{each.figure.metric} was not measured alike: {unlike[0]}{more}. Measure both in the same way, or say that "
        f"this is what you compare: --across {unlike[0].split(':')[0]}"
      )
    pairs.append(Pair(a=each.figure, b=other.figure))
  if not pairs:
    told = [", ".join(sorted({each.figure.metric for each in one})) or "nothing" for one in (a, b)]
    raise UserError(f"the two have no figure in common: one has {told[0]}, the other {told[1]}")
  return pairs


def ran_on(a: Sequence[Measured], b: Sequence[Measured]) -> list[str]:
  """In which versions, commits and devices the two were made, where these differ: their rounding may."""
  facts = ("versions", "commit", "device")
  told = [[{name: each.protocol.get(name) for name in facts} for each in one[:1]] for one in (a, b)]
  return protocol.unlike(*(one[0] if one else {} for one in told), subject=())


def as_text(pairs: Sequence[Pair]) -> str:
  """A table for a terminal."""
  head = ["metric", "of", "blur", "setting", "left out", "first", "second", "second - first", "apart"]
  cells = [head]
  for pair in pairs:
    a, b = pair.a, pair.b
    apart = {None: "", True: "yes", False: "no"}[pair.apart]
    left_out = f"{a.excluded}, {b.excluded}" if a.without_list else ""
    far = b.value - a.value
    difference = f"{100 * far:+.1f} points" if a.unit == SHARE else f"{far:+.4g}"
    cells.append([a.metric, a.of, f"{a.blur:g}", a.setting, left_out, a.told(), b.told(), difference, apart])
  keep = [i for i, name in enumerate(head) if name not in ("of", "setting", "left out") or any(c[i] for c in cells[1:])]
  keep = [i for i in keep if head[i] != "blur" or any(c[i] != "0" for c in cells[1:])]
  widths = {i: max(len(line[i]) for line in cells) for i in keep}
  return "\n".join("  ".join(line[i].ljust(widths[i]) for i in keep).rstrip() for line in cells)
