"""A list of evaluation pictures to leave out, since training has seen them or something much like them.

    exclude.json    which pictures, of which data, found how: training data, embedding, threshold, digests of all three
    exclude.txt     their keys alone, one on each line

The list belongs to one split of one data set, and is refused for another.

N examples of a split.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
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


@dataclasses.dataclass(frozen=True, eq=False)
class Without:
  """A prepared data set of whose one split only some examples stay: what evaluation reads in place of the whole one."""

  prepared: Prepared
  split: str
  rows_M: np.ndarray

  @property
  def splits(self) -> tuple[str, ...]:
    return self.prepared.splits

  def source(self, split: str) -> "Kept":
    """The split's examples that stay; of another split all."""
    source = self.prepared.source(split)
    return Kept(source, self.rows_M if split == self.split else np.arange(len(source)))


@dataclasses.dataclass(frozen=True, eq=False)
class Kept(Sequence):
  """Some examples of a split."""

  source: Any
  rows_M: np.ndarray

  def __len__(self) -> int:
    return len(self.rows_M)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self.source[int(self.rows_M[index])]

  def captions(self) -> Iterator[list[str]]:
    """Each example's captions."""
    wanted = set(self.rows_M.tolist())
    return (each for row, each in enumerate(self.source.captions()) if row in wanted)


def keep(exclusion: Exclusion, prepared: Prepared, split: str) -> Bool[np.ndarray, " N"]:
  """Which examples of a prepared split stay. Raises UserError as `Exclusion.keep`."""
  source = prepared.source(split)
  return exclusion.keep([source.key(i) for i in range(len(source))], digest=prepared.digest(), split=split)


def without(prepared: Prepared, exclusion: Exclusion, split: str) -> Without:
  """The data without what the list names of this split.

  Raises UserError where the list does not belong to the data or the split, or names all pictures there are.
  """
  rows_M = np.flatnonzero(keep(exclusion, prepared, split))
  if not len(rows_M):
    raise UserError(f"the list of pictures to leave out names all pictures of the split {split}: none would be left")
  return Without(prepared, split, rows_M)
