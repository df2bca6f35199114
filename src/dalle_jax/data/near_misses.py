"""Captions that are nearly another picture's: a word exchanged for one that stands in the same places.

Which words can stand for each other is learnt from captions alone: those that are often found between the same two
neighbours. "a small red circle" then becomes "a large red circle" or "a small red heart", which no picture of the first
shows, and a CLIP that has it among its negatives must hear the word. Some misses are none, "a little red circle"; they
are as many for a word as for its synonym, so they only add noise.

M near misses of a caption, T text positions, V vocabulary, P places (pairs of neighbours).
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from scipy import sparse

MOST = 8  # substitutes of a token
ALIKE = 0.05  # least cosine of two tokens' neighbours
EACH = 4  # near misses of a caption


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearMisses:
  """For each token those that may take its place, and how alike they are."""

  substitutes: dict[int, tuple[np.ndarray, np.ndarray]]

  def of(self, text_T: Int[np.ndarray, " T"], rng: np.random.Generator) -> Int[np.ndarray, "M T"]:
    """The caption EACH times, with one token exchanged; as it is where nothing has a substitute."""
    missed_MT = np.tile(text_T, (EACH, 1))
    places = [i for i, token in enumerate(text_T.tolist()) if token in self.substitutes]
    for missed_T in missed_MT if places else ():
      i = rng.choice(places)
      tokens, shares = self.substitutes[int(text_T[i])]
      missed_T[i] = rng.choice(tokens, p=shares)
    return missed_MT


def learn(captions: Iterable[Sequence[int]], vocab: int) -> NearMisses:
  """Substitutes by the neighbours (the token before and the one after, or the end) that tokens of captions share."""
  found: collections.Counter[tuple[int, tuple[int, int]]] = collections.Counter()
  for tokens in captions:
    padded = [-1, *tokens, -1]
    found.update((token, (before, after)) for before, token, after in zip(padded, padded[1:], padded[2:]))
  places = {place: i for i, place in enumerate(dict.fromkeys(place for _, place in found))}
  rows, columns = [token for token, _ in found], [places[place] for _, place in found]
  counts = np.sqrt(np.fromiter(found.values(), np.float64, len(found)))
  counts_VP = sparse.csr_matrix((counts, (rows, columns)), shape=(vocab, max(1, len(places))))
  norms_V = np.sqrt(np.asarray(counts_VP.multiply(counts_VP).sum(1))).ravel()
  alike = (counts_VP @ counts_VP.T).tocsr()
  substitutes = {}
  for token in np.flatnonzero(norms_V):
    row = slice(alike.indptr[token], alike.indptr[token + 1])
    others = alike.indices[row]
    cosines = alike.data[row] / (norms_V[token] * norms_V[others])
    order = [i for i in np.argsort(-cosines, kind="stable") if others[i] != token and cosines[i] > ALIKE][:MOST]
    if order:
      substitutes[int(token)] = (others[order], cosines[order] / cosines[order].sum())
  return NearMisses(substitutes=substitutes)
