"""Drawing: `dalle_jax.sampling.Sampler` is what a notebook wants."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
  # It reads a run's directory, which stands above this package: whoever asks for it loads that, nobody else does.
  if name == "Sampler":
    return importlib.import_module("dalle_jax.sampler").Sampler
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
