"""What a run is, so that what was computed once is found again: its experiment, its seed, its data, the versions.

The commit is no part of it, since a word in a document changes it: it is told beside what was measured.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from typing import Any

from dalle_jax import __version__, config
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.experiment import Experiment
from dalle_jax.stage_inputs import reads_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def earlier(experiment: Experiment, stage: str) -> Experiment | None:
  """The stages before one, which all arms and seeds share where they agree in them, at seed 0; None where none is.

  Its tokenizer is that of all where no stage reads text: arms that read text in other ways share these stages too.
  """
  names = list(experiment.stages)
  before = {name: experiment.stages[name] for name in names[: names.index(stage)]}
  if not before:
    return None
  words = experiment.tokenizer if any(reads_text(each) for each in before.values()) else TokenizerConfig()
  return dataclasses.replace(experiment, name="shared", data="", seed=0, tokenizer=words, stages=before)


def run(experiment: Experiment, stage: str, seed: int) -> Experiment:
  """What is trained of an arm at a seed: the stages up to the one that the pack trains."""
  names = list(experiment.stages)
  kept = {name: experiment.stages[name] for name in names[: names.index(stage) + 1]}
  return dataclasses.replace(experiment, data="", seed=seed, stages=kept)


def digest(experiment: Experiment, data: str) -> str:
  """Sixteen hexadecimal digits of the experiment, the data's digest, and the versions that compute it."""
  return of({"experiment": config.to_dict(experiment), "data": data, "versions": versions()})


def of(facts: Any) -> str:
  """Sixteen hexadecimal digits of facts that are JSON."""
  return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
  """Of the project, and of the packages that compute."""
  return {"dalle_jax": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES}
