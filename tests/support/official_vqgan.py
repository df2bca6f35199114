"""The official VQGANs of the parity tests, by the import that their packages still allow."""

import sys

import official

# The packages that name these moved them since; both names are of the same function or module.
MOVED = {"pytorch_lightning.utilities.distributed": "pytorch_lightning.utilities.rank_zero"}


def taming():
  """taming-transformers' module of VQModel and GumbelVQ."""
  for old, new in MOVED.items():
    sys.modules.setdefault(old, official.load(new))
  return official.load("taming.models.vqgan")


def rudalle():
  """ruDALL-E's module of VQGanGumbelVAE. It imports a function for downloads, never called here, of old hubs."""
  hub = official.load("huggingface_hub")
  if not hasattr(hub, "cached_download"):
    hub.cached_download = hub.hf_hub_download
  return official.load("rudalle.vae.model")
