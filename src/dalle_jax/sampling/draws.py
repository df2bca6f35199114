"""All that was drawn, kept to be ranked again: every sample's codes and what each ranker said, in one draws.npz.

    codes  [C, N, P]    score of RANKER  [C, N]    about: JSON text of captions, seed, sampling, and whose weights drew

C captions, N samples of each, T text positions, P image tokens.
"""

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dalle_jax import places
from dalle_jax.errors import UserError

NAME = "draws.npz"
SCORE = "score of "


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
  """scores: by ranker; weights: digests of what drew and decoded them, by stage; about: what the page says of them;
  judges: digests of models that ranked and drew nothing, by ranker.
  """

  captions: tuple[str, ...]
  seed: int
  text_CT: Int[np.ndarray, "C T"]
  codes_CNP: Int[np.ndarray, "C N P"]
  scores: Mapping[str, Float[np.ndarray, "C N"]]
  weights: Mapping[str, str]
  about: Mapping[str, Any]
  judges: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write(folder: Path, draws: Draws) -> None:
  """Writes FOLDER/draws.npz whole or not at all. Raises UserError where it can't be written."""
  told = {"captions": draws.captions, "seed": draws.seed, "weights": draws.weights, "about": draws.about}
  told["judges"] = draws.judges
  arrays = {"text": draws.text_CT, "codes": draws.codes_CNP.astype(np.int32)}
  arrays |= {SCORE + name: scores_CN for name, scores_CN in draws.scores.items()}
  file = io.BytesIO()
  np.savez_compressed(file, about=np.array(json.dumps(told)), **arrays)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    places.write(folder / NAME, file.getvalue())
  except OSError as error:
    raise UserError(f"cannot write what was drawn to {folder}: {error.strerror or error}") from error


def read(folder: Path) -> Draws:
  """What `write` wrote. Raises UserError where there is no such file, or one that is not of this kind."""
  file = folder / NAME
  try:
    with np.load(file, allow_pickle=False) as arrays:
      told = json.loads(str(arrays["about"]))
      scores = {name.removeprefix(SCORE): arrays[name] for name in arrays.files if name.startswith(SCORE)}
      return Draws(
        captions=tuple(told["captions"]),
        seed=told["seed"],
        text_CT=arrays["text"],
        codes_CNP=arrays["codes"],
        scores=scores,
        weights=told["weights"],
        about=told["about"],
        judges=told.get("judges", {}),
      )
  except OSError as error:
    raise UserError(
      f"cannot read {file}: {error.strerror or error}; `dalle sample` and `dalle probe` write it: draw anew"
    ) from error
  except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(
      f"{file} is not what `dalle sample` or `dalle probe` wrote: {str(error)[:80]}; draw anew"
    ) from error
