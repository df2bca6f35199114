"""A process that reads its share of the batches as `dalle train` does: share_reader.py PLACE WORKERS:FIRST ...

It is one of several where the environment says so, and prints what it read as JSON: for each WORKERS:FIRST a digest of
every row of each batch, and those of all rows that it made, which are more: it reads ahead.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from dalle_jax.data import near_misses
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.views import PictureView

WORDS = TokenizerConfig(vocab=300, length=96, dropout=0.3)
BATCH, STEPS = 8, 11


def digest(row):
  """SHA-256 of all arrays of a row: names, types, shapes, bytes."""
  sha = hashlib.sha256()
  for name, x in sorted(row.items()):
    sha.update(f"{name} {x.dtype} {x.shape} ".encode() + x.tobytes())
  return sha.hexdigest()


def rows(batch):
  """Each row of a batch by itself."""
  return [{name: np.asarray(x[i]) for name, x in batch.items()} for i in range(len(batch["image"]))]


class Noted:
  """A view that writes down what it makes, in whatever process."""

  def __init__(self, view, file):
    self.view, self.file = view, file

  def __call__(self, element, rng):
    seen = self.view(element, rng)
    with self.file.open("a") as file:
      file.write(digest(seen) + "\n")
    return seen


def source_and_view(place):
  """Crops that may be mirrored, captions with BPE dropout, and near misses of them: all that is random in a batch."""
  words = Tokenizer((place / "words.model").read_bytes(), WORDS)
  source = open_prepared(place / "data").source("train")
  misses = near_misses.learn((words.encode(text) for each in source.captions() for text in each), WORDS.vocab)
  return source, PictureView(crop=Stage1Crop(size=16), tokenizer=words, near_misses=misses)


def main():
  from dalle_jax import processes, sharding
  from dalle_jax.data import pipeline

  place = Path(sys.argv[1])
  processes.join(processes.Processes())
  share = sharding.share(sharding.make_mesh(sharding.MeshShape()), sharding.Rules())
  source, view = source_and_view(place)
  read, made = {}, {}
  for case in sys.argv[2:]:
    workers, first = map(int, case.split(":"))
    file = place / f"made-{os.getpid()}-{workers}-{first}"
    stream = pipeline.batches(
      source,
      Noted(view, file),
      seed=0,
      batch=BATCH,
      first=first,
      parts=share.parts,
      of=share.of,
      workers=workers,
    )
    read[case] = [[digest(row) for row in rows(next(stream))] for _ in range(first, STEPS)]
    stream.close()
    made[case] = file.read_text().split()
  print(json.dumps({"share": share, "read": read, "made": made}))


if __name__ == "__main__":
  main()
