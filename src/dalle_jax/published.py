"""Networks that others published, converted before by `dalle convert`, as what evaluation measures with."""

from pathlib import Path

from dalle_jax.convert import weights
from dalle_jax.convert.published import CLIP, CLIP_WORDS
from dalle_jax.errors import UserError
from dalle_jax.evaluation import published_clip
from dalle_jax.evaluation.published_clip import Clip
from dalle_jax.models import openai_clip
from dalle_jax.sampling.devices import Devices


def clip(directory: str | Path, devices: Devices = Devices(), batch: int = 64) -> Clip:
  """The CLIP of a directory that `dalle convert` wrote, with its vocabulary.

  Raises UserError where the directory is not there or damaged, or holds another network.
  """
  if not weights.is_at(Path(directory)):
    raise UserError(
      f"{directory} holds no converted CLIP: `dalle convert {CLIP.file} {CLIP_WORDS.file} --out {_new(directory)}`, of "
      f"{CLIP.url} and {CLIP_WORDS.url}"
    )
  found = weights.load(directory)
  if not isinstance(found.config, openai_clip.Config):
    raise UserError(f"{directory} holds {found.kind}, wanted a CLIP: `dalle convert` its files")
  tokenizer = published_clip.words(found.config, list(found.files.values()))
  return Clip(
    model=found.config, params=found.params, tokenizer=tokenizer, digest=found.digest, devices=devices, batch=batch
  )


def _new(directory: str | Path) -> Path:
  """Where to convert to: the directory that was named, but where a file stands there."""
  return Path(directory).with_suffix("") if Path(directory).is_file() else Path(directory)
