"""The published programs of ruDALL-E and minDALL-E, imported where a test asks for them.

ruDALL-E is the package rudalle. minDALL-E is on no index; crfm-helm carries a copy of its code, which is what is
imported here. Neither imports by itself in the versions of today, for reasons that have nothing to do with networks.
"""

import importlib
import sys
import types
from pathlib import Path

import official

HELM = "helm.clients.image_generation.mindalle"


def rudalle(module):
  """A module of the package rudalle, whose downloads ask huggingface_hub for a function that it has no more."""
  hub = official.load("huggingface_hub")
  if not hasattr(hub, "cached_download"):
    hub.cached_download = hub.hf_hub_download
  return official.load(f"rudalle.{module}")


def mindalle(module):
  """A module of minDALL-E's `models`, whose own `__init__` asks Python for defaults that it refuses since 3.11."""
  name = f"{HELM}.models"
  if name not in sys.modules:
    package = types.ModuleType(name)
    package.__path__ = [str(Path(official.load(HELM).__file__).parent / "models")]
    sys.modules[name] = package
  return importlib.import_module(f"{name}.{module}")
