"""Reference statistics of a set of pictures, and the feature network that they are made with.

H W pixels, N pictures, D dimensions.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from dalle_jax import __version__
from dalle_jax.convert import files, inception, kinds, weights
from dalle_jax.convert.published import INCEPTION
from dalle_jax.convert.weights import Weights
from dalle_jax.data.images import CentreCrop
from dalle_jax.errors import UserError
from dalle_jax.evaluation import features, frechet
from dalle_jax.evaluation.metrics.blur import blurred
from dalle_jax.evaluation.picture_sets import PictureSet
from dalle_jax.evaluation.resize import Resize
from dalle_jax.training import checkpoint

KIND = "inception"
Tell = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
  """How features are made. dim: how many numbers; crop: the square in the middle at so many pixels first, or whole.

  blur: the radius in pixels by which pictures are blurred before they are resized.
  """

  resize: Resize
  dim: int = features.DIMS[-1]
  crop: int | None = None
  blur: float | int = 0

  def __post_init__(self) -> None:
    if self.dim not in features.DIMS:
      wanted = ", ".join(map(str, features.DIMS))
      raise UserError(f"Inception has no features of {self.dim} numbers: wanted one of {wanted}")

  def told(self, network: Weights) -> dict[str, Any]:
    """Every field that two results must share to be compared, and what computed it."""
    return {
      **self.resize.protocol(),
      "crop": self.crop,
      "blur": self.blur,
      "network": network.kind,
      "weights": network.digest,
      "dim": self.dim,
      "versions": {"dalle_jax": __version__, "jax": jax.__version__, "numpy": np.__version__},
    }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
  """statistics: of all pictures; digest: of their pixels, whatever their order; features_ND: where they are kept."""

  statistics: frechet.Statistics
  digest: str
  features_ND: Float[np.ndarray, "N D"] | None = None


def network(path: str | Path) -> Weights:
  """FID's Inception v3, of the published file or of what `dalle convert` made of it.

  Raises UserError where it is not there, damaged, or of another kind.
  """
  path = Path(path)
  if not path.exists():
    raise UserError(f"no Inception weights at {path}: fetch {INCEPTION.url} ({INCEPTION.size} MB), and name that file")
  if path.is_dir():
    found = weights.load(path)
    if found.kind != KIND:
      raise UserError(f"{path} holds {kinds.one(found.kind).title}, wanted {kinds.one(KIND).title}")
    return found
  cfg, params = inception.read(files.arrays(path))
  flat = {name.replace(".", "/"): array for name, array in weights.flat(params).items()}
  return Weights(KIND, cfg, params, checkpoint.digest(flat))


def measure(
  network: Weights,
  pictures: PictureSet,
  protocol: Protocol,
  *,
  batch: int = 32,
  keep: bool = False,
  tell: Tell = lambda what, done, total: None,
) -> Measured:
  """The statistics of all the pictures; keep: their features too. Raises UserError for fewer than two pictures."""
  if pictures.count < 2:
    raise UserError(f"{pictures} holds {pictures.count} picture: statistics want at least 2")
  digests: list[bytes] = []
  statistics, kept = frechet.nothing(protocol.dim // network.config.thin), []
  tell("pictures", 0, pictures.count)
  read = _read(pictures, protocol, digests)
  for features_BD, _ in features.stream(network.params, read, protocol.resize, protocol.dim, batch):
    statistics += frechet.of(features_BD)
    kept += [features_BD] if keep else []
    tell("pictures", statistics.pictures, pictures.count)
  digest = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
  return Measured(statistics=statistics, digest=digest, features_ND=np.concatenate(kept) if keep else None)


def _read(pictures: PictureSet, protocol: Protocol, digests: list[bytes]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
  """The pictures as they are measured, and the digest of each before it is blurred."""
  cut = None if protocol.crop is None else CentreCrop(size=protocol.crop)
  for number in range(pictures.count):
    image_HWC = pictures.picture(number)
    if cut is not None:
      image_HWC = cut(image_HWC, np.random.default_rng(0))
    digests.append(hashlib.sha256(f"{image_HWC.shape}".encode() + image_HWC.tobytes()).digest())
    yield blurred(image_HWC[None], protocol.blur)[0]
