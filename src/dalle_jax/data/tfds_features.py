"""Where the picture and the captions of a TFDS example are, found by the types of its features.

A path is the keys that lead to a feature: ("captions", "text"), told to users as captions/text.
"""

import difflib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dalle_jax.errors import UserError

Path = tuple[str, ...]
TELLING = ("caption", "text", "description", "sentence", "title")  # words in the names of features that hold captions


def find(name: str, features: Any, image: str | None, text: str | None) -> tuple[Path, Path]:
  """The paths of the picture and of the text of the data set `name`; image, text: as the user named them, or None.

  Raises UserError when there is none of its type, or several and none is named.
  """
  leaves = list(_leaves(features))
  pictures = [path for path, kind, many in leaves if isinstance(kind, tfds.features.Image) and not many]
  texts = [path for path, kind, _ in leaves if isinstance(kind, tfds.features.Text)]
  chosen_image = _named(name, "image", image, pictures)
  if text is None:
    telling = [path for path in texts if any(word in path[-1].lower() for word in TELLING)]
    texts = telling or texts
  return chosen_image, _named(name, "text", text, texts)


def undecoded(path: Path) -> dict[str, Any]:
  """TFDS's decoders that leave the picture as bytes."""
  inner: Any = tfds.decode.SkipDecoding()
  for key in reversed(path):
    inner = {key: inner}
  return inner


def bytes_at(example: Any, path: Path) -> bytes:
  """The picture's bytes."""
  for key in path:
    example = example[key]
  return bytes(example)


def texts_at(example: Any, path: Path) -> tuple[str, ...]:
  """The captions: one, or as many as a sequence holds; what is not UTF-8 in them is marked as such."""
  for key in path:
    example = [each[key] for each in example] if isinstance(example, list) else example[key]
  texts = [example] if isinstance(example, bytes | str) else np.asarray(example, dtype=object).ravel().tolist()
  return tuple(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts)


def _leaves(feature: Any, path: Path = (), many: bool = False) -> Iterator[tuple[Path, Any, bool]]:
  """Every feature with its path, and whether an example may hold several of it."""
  if isinstance(feature, tfds.features.FeaturesDict):
    for key, inner in feature.items():
      yield from _leaves(inner, (*path, key), many)
  elif isinstance(feature, tfds.features.Sequence):
    yield from _leaves(feature.feature, path, True)
  else:
    yield path, feature, many


def _named(name: str, kind: str, asked: str | None, found: list[Path]) -> Path:
  known = ["/".join(path) for path in found]
  if asked is not None:
    if asked not in known:
      close = difflib.get_close_matches(asked, known, n=1)
      hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known)[:80] or 'none'}"
      raise UserError(f"{name} has no {kind} feature {asked!r}; {hint}")
    return found[known.index(asked)]
  if not found:
    raise UserError(f"{name} has no {kind} feature: wanted a data set of pictures with text")
  if len(found) > 1:
    raise UserError(f"{name} has several {kind} features, {', '.join(known)[:90]}: name one with --{kind}-feature")
  return found[0]
