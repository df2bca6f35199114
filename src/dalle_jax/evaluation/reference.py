"""Reference statistics: what pictures are like to a feature network, kept in a file with how it was found out.

FILE.npz holds mu and sigma, as FID's published files do (so pytorch-fid reads it too), pictures (their number),
protocol (JSON) and, where they were kept for KID, features. Of a published file, with mu and sigma alone, nobody knows
the protocol: that is what is told of it.

N pictures, D dimensions.
"""

import dataclasses
import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dalle_jax import places
from dalle_jax.errors import UserError
from dalle_jax.evaluation import frechet
from dalle_jax.evaluation.frechet import Statistics

UNKNOWN = "unknown: the file tells its mean and covariance alone"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
  """digest: SHA-256 of mean and covariance. None where the file does not tell: pictures, protocol, features_ND."""

  mean_D: Float[np.ndarray, " D"]
  covariance_DD: Float[np.ndarray, "D D"]
  digest: str
  pictures: int | None = None
  protocol: Mapping[str, Any] | None = None
  features_ND: Float[np.ndarray, "N D"] | None = None

  @property
  def dim(self) -> int:
    return len(self.mean_D)

  def told(self) -> dict[str, Any]:
    """What a result says of what it was compared with: not where the pictures lay, nor which version looked at them."""
    if self.protocol is None:
      return {"sha256": self.digest, "pictures": self.pictures, "protocol": UNKNOWN}
    about = {name: value for name, value in self.protocol.items() if name not in ("versions", "pictures")}
    pictures = {name: value for name, value in dict(self.protocol.get("pictures", {})).items() if name != "place"}
    return {"sha256": self.digest, "pictures": self.pictures, "protocol": {**about, "pictures": pictures}}

  def distance(self, other: Statistics) -> float:
    """FID of other pictures. Raises UserError where their features are of another dimension, or they are too few."""
    return frechet.distance(self.mean_D, self.covariance_DD, other.mean_D, other.covariance_DD)


def check(file: Path) -> None:
  """Raises UserError where a reference can't be written under that name."""
  if file.suffix != ".npz":
    raise UserError(f"got {file}, wanted a file that ends in .npz")
  if file.exists():
    raise UserError(f"{file} is there already: take another --out, or remove it")
  if not file.parent.is_dir():
    raise UserError(f"no directory {file.parent} to write {file.name} into: make it first")
  try:
    with tempfile.TemporaryFile(dir=file.parent):
      pass
  except OSError as error:
    raise UserError(f"cannot write {file}: {error.strerror}; take another --out") from error


def save(
  file: Path,
  statistics: Statistics,
  protocol: Mapping[str, Any],
  features_ND: Float[np.ndarray, "N D"] | None = None,
) -> str:
  """Writes the file, whole or not at all. Returns the statistics' SHA-256.

  Raises UserError as `check`, or where it can't write.
  """
  check(file)
  arrays = {"mu": statistics.mean_D, "sigma": statistics.covariance_DD, "pictures": np.int64(statistics.pictures)}
  arrays["protocol"] = np.array(json.dumps(dict(protocol)))
  if features_ND is not None:
    arrays["features"] = features_ND
  data = io.BytesIO()
  np.savez(data, **arrays)
  try:
    places.write(file, data.getvalue())
    return _digest(statistics.mean_D, statistics.covariance_DD)
  except OSError as error:
    raise UserError(f"cannot write {file}: {error.strerror}") from error


def load(file: str | Path) -> Reference:
  """Raises UserError where there is no such file, or it does not hold what FID's statistics are."""
  file = Path(file)
  try:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
      found = {name: arrays[name] for name in arrays.files}
    protocol = json.loads(str(found["protocol"])) if "protocol" in found else None
    pictures = int(found["pictures"]) if "pictures" in found else None
  except FileNotFoundError:
    raise UserError(f"no file {file}: `dalle reference PICTURES --out {file}` makes it") from None
  except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
    raise UserError(f"{file} is no .npz file, or is damaged: make or fetch it again") from error
  mean_D, covariance_DD = (_numbers(file, found, name) for name in ("mu", "sigma"))
  if mean_D.ndim != 1 or covariance_DD.shape != 2 * mean_D.shape:
    raise UserError(f"{file}: mu is {mean_D.shape} and sigma {covariance_DD.shape}, wanted [D] and [D, D]")
  features_ND = _numbers(file, found, "features").astype(np.float32) if "features" in found else None
  if features_ND is not None and features_ND.shape[1:] != mean_D.shape:
    raise UserError(f"{file}: features is {features_ND.shape} and mu {mean_D.shape}, wanted [N, D] and [D]")
  return Reference(
    mean_D=mean_D,
    covariance_DD=covariance_DD,
    digest=_digest(mean_D, covariance_DD),
    pictures=pictures,
    protocol=protocol,
    features_ND=features_ND,
  )


def _digest(mean_D: Float[np.ndarray, " D"], covariance_DD: Float[np.ndarray, "D D"]) -> str:
  return hashlib.sha256(mean_D.astype(np.float64).tobytes() + covariance_DD.astype(np.float64).tobytes()).hexdigest()


def _numbers(file: Path, found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  if name not in found:
    raise UserError(f"{file} lacks {name}: wanted mu and sigma, as `dalle reference` and pytorch-fid write them")
  if found[name].dtype.kind != "f" or not np.isfinite(found[name]).all():
    raise UserError(f"{file}: {name} holds what is no finite number: make or fetch it again")
  return found[name].astype(np.float64)
