"""A list of evaluation pictures to leave out, since training has seen them or something much like them.

    exclude.json    which pictures, of which data, found how: training data, embedding, threshold, digests of all three
    exclude.txt     their keys alone, one on each line

The list belongs to one split of one data set, and is refused for another.

N examples of a split.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from dalle_jax import __version__
from dalle_jax.data.prepared import Prepared
from dalle_jax.errors import UserError

KIND, VERSION = "pictures to leave out", 1
FIELDS = ("training", "evaluation", "embedding", "threshold", "excluded")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Excluded:
  """A picture's key, the cosine of the training picture nearest to it, and that one's key."""

  key: str
  cosine: float
  nearest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exclusion:
  """What is left out, and how it was found. training, evaluation: as `PictureSet.told`; embedding: as `Embedding.told`.

  A picture is left out where the cosine of its nearest training picture is `threshold` or more.
  """

  training: dict[str, Any]
  evaluation: dict[str, Any]
  embedding: dict[str, Any]
  threshold: float
  excluded: tuple[Excluded, ...]

  def as_json(self) -> str:
    """The text of exclude.json."""
    head = {"kind": KIND, "version": VERSION, "dalle_jax": __version__}
    return json.dumps(head | dataclasses.asdict(self), indent=1) + "\n"

  def as_text(self) -> str:
    """The keys, a line each."""
    return "".join(f"{' '.join(each.key.splitlines())}\n" for each in self.excluded)

  def keep(self, keys: Sequence[str], *, digest: str, split: str | None) -> Bool[np.ndarray, " N"]:
    """Which of the pictures with these keys stay. digest, split: of the data that they are of.

    Raises UserError where the list is of another data set or split, or names a key that is not there.
    """
    if digest != self.evaluation["digest"]:
      raise UserError(
        f"the list of pictures to leave out is of the data {self.evaluation['digest'][:12]} "
        f"({self.evaluation['place']}), this is {digest[:12]}: run `dalle data overlap` on this data"
      )
    if split != self.evaluation["split"]:
      raise UserError(
        f"the list of pictures to leave out is of the split {self.evaluation['split']}, wanted one of {split}: "
        f"run `dalle data overlap` on that split"
      )
    out = {each.key for each in self.excluded}
    if lost := sorted(out - set(keys)):
      raise UserError(f"the list of pictures to leave out names {lost[0]}, which the split {split} does not hold")
    return np.array([key not in out for key in keys], bool)


def read(file: str | Path) -> Exclusion:
  """The list in an exclude.json. Raises UserError where there is none, or it is no such list."""
  try:
    found = json.loads(Path(file).read_text(encoding="utf-8"))
  except OSError as error:
    raise UserError(f"cannot read {file}: {error.strerror}; `dalle data overlap A B --out DIR` writes one") from error
  except ValueError as error:
    raise UserError(f"{file} is no JSON: wanted the exclude.json that `dalle data overlap` writes") from error
  if not isinstance(found, dict) or found.get("kind") != KIND or found.get("version") != VERSION:
    raise UserError(f"{file} is no list of pictures to leave out: wanted the exclude.json of `dalle data overlap`")
  try:
    own = {name: found[name] for name in FIELDS}
    list_of = tuple(Excluded(**each) for each in own.pop("excluded"))
    for name in ("digest", "split", "place"):
      own["evaluation"][name]
    return Exclusion(excluded=list_of, **own)
  except (KeyError, TypeError) as error:
    raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:60]} is not as it was written") from error


def keep(exclusion: Exclusion, prepared: Prepared, split: str) -> Bool[np.ndarray, " N"]:
  """Which examples of a prepared split stay. Raises UserError as `Exclusion.keep`."""
  source = prepared.source(split)
  return exclusion.keep([source.key(i) for i in range(len(source))], digest=prepared.digest(), split=split)
