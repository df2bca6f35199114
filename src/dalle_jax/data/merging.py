"""Byte-pair encoding's second half: the pairs of a vocabulary joined in the order in which it learnt them."""

import heapq
from collections.abc import Mapping, Sequence


def merged(parts: Sequence[int], rules: Mapping[tuple[int, int], tuple[int, int]]) -> list[int]:
  """The parts after all joins: always the pair of the lowest rank, of several the leftmost.

  rules: rank and joined part of each pair that may be joined.
  """
  part, after, before = list(parts), list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
  waiting: list[tuple[int, int, tuple[int, int]]] = []
  gone = -1

  def consider(left: int) -> None:
    if left >= 0 and after[left] < len(part) and (rule := rules.get((part[left], part[after[left]]))):
      heapq.heappush(waiting, (rule[0], left, (part[left], part[after[left]])))

  for i in range(len(part) - 1):
    consider(i)
  while waiting:
    _, left, pair = heapq.heappop(waiting)
    right = after[left]
    if right == len(part) or (part[left], part[right]) != pair:
      continue
    part[left], part[right], after[left] = rules[pair][1], gone, after[right]
    if after[right] < len(part):
      before[after[right]] = left
    consider(before[left])
    consider(left)
  return [one for one in part if one != gone]
