"""What looks at pictures for a figure: a network, and the facts by which a protocol knows it.

B pictures, N captions, H W pixels, D features, K classes, E CLIP's shared space.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

Pictures = UInt8[np.ndarray, "B H W 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Features:
  """Inception: `look` gives each picture's `dim` features and, of its last ones, the scores of classes."""

  about: Mapping[str, Any]
  look: Callable[[Pictures], tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B K"] | None]]
  dim: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contrastive:
  """CLIP: unit vectors of pictures and of captions."""

  about: Mapping[str, Any]
  pictures: Callable[[Pictures], Float[np.ndarray, "B E"]]
  captions: Callable[[Sequence[str]], Float[np.ndarray, "N E"]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
  """Those that the figures asked for need; None for one that is not."""

  inception: Features | None = None
  clip: Contrastive | None = None
