"""What lies beside a published CLIP's weights: the JSON file that describes it, and the vocabulary of its captions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree, Shaped

from dalle_jax.convert import clip
from dalle_jax.errors import UserError
from dalle_jax.models.openai_clip import Config

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
PAIR = ("vocab.json", "merges.txt")
# In a folder of Hugging Face; the first is transformers', the second open_clip's.
DESCRIPTIONS = ("config.json", "open_clip_config.json")


def read(
  arrays: Mapping[str, Shaped[np.ndarray, "..."]], paths: Sequence[Path]
) -> tuple[Config, PyTree, tuple[Path, ...]]:
  """Configuration, parameters, and the vocabulary's files, which are to be kept.

  paths: all that was named, files and folders. Raises UserError as `clip.read` does, and where no vocabulary is among
  them.
  """
  cfg, params = clip.read(arrays, _description(arrays, paths))
  return cfg, params, _vocabulary(paths)


def _description(arrays: Mapping[str, Shaped[np.ndarray, "..."]], paths: Sequence[Path]) -> Mapping[str, Any] | None:
  """The JSON file that describes the network; of two in a folder, the one of those who named the arrays."""
  named = [path for path in paths if path.suffix == ".json" and path.name != PAIR[0]]
  inside = [path / name for path in paths if path.is_dir() for name in DESCRIPTIONS if (path / name).is_file()]
  found = [data for path in named or inside if isinstance(data := _json(path), dict)]
  theirs = "vision_config" if any(name.startswith("vision_model.") for name in arrays) else "vision_cfg"
  found.sort(key=lambda data: theirs not in data.get("model_cfg", data))
  return found[0] if found else None


def _vocabulary(paths: Sequence[Path]) -> tuple[Path, ...]:
  named = [path for path in paths if path.name in (VOCABULARY, VOCABULARY.removesuffix(".gz"))]
  if named:
    return (named[0],)
  for folder in [path if path.is_dir() else path.parent for path in paths if path.is_dir() or path.name in PAIR]:
    if all((folder / name).is_file() for name in PAIR):
      return tuple(folder / name for name in PAIR)
    if (folder / VOCABULARY).is_file():
      return (folder / VOCABULARY,)
  raise UserError(
    f"no vocabulary is beside the weights, and no caption can be read without: name {VOCABULARY}, which is in"
    f" https://github.com/openai/CLIP under clip/, or {' and '.join(PAIR)}"
  )


def _json(path: Path) -> Any:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"can't read {path} ({error}): wanted the JSON file that describes the CLIP") from error
