"""The official PyTorch packages of the parity tests, imported where a test asks for them.

The CPU build of PyTorch and the torchvision of the package index are built apart, so torchvision's compiled operators
do not load, and its import stops where it registers shapes for them. No parity test calls one. Their names are defined
here first, one after the other as the import asks for them, so that the Python of torchvision (networks, transforms)
imports. An operator that is called all the same raises.
"""

import functools
import importlib
import re
import sys
import tempfile
import warnings
from pathlib import Path

from dalle_jax.convert import files

MISSING = re.compile(r"operator torchvision::(\w+) does not exist")


def load(name):
  """The module of this dotted name. One that is not installed fails the test: a parity test is never skipped."""
  with warnings.catch_warnings():
    # What other people's packages deprecate in each other as they are imported is not this project's to mend.
    warnings.simplefilter("ignore")
    torchvision()
    return importlib.import_module(name)


def read_back(saved, name="weights.pt"):
  """The arrays that our reader finds in a file of what `torch.save` is given."""
  with tempfile.TemporaryDirectory() as folder:
    load("torch").save(saved, Path(folder) / name)
    found = files.arrays(Path(folder) / name)
    return {key: array.copy() for key, array in found.items()}


def trained(module):
  """A module's checkpoint as Lightning 1 wrote it of a training: classes as keys, an optimizer, options beside it."""
  torch = load("torch")
  optimizer = torch.optim.Adam([parameter for parameter in module.parameters() if parameter.requires_grad][:2])
  callback = load("pytorch_lightning.callbacks").ModelCheckpoint
  options = load("omegaconf").OmegaConf.create({"ch_mult": [1, 2], "lr": 1e-4, "amp": False, "target": "taming.VQ"})
  return {
    "epoch": 7,
    "global_step": 1000,
    "pytorch-lightning_version": "1.0.8",
    "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "best_model_path": "last.ckpt"}},
    "optimizer_states": [optimizer.state_dict()],
    "lr_schedulers": [],
    "hyper_parameters": options,
    "state_dict": module.state_dict(),
  }


@functools.cache
def torchvision():
  """torchvision, with its operators' names defined where its compiled library is not loaded."""
  import torch

  torch.set_num_threads(1)  # tests share the cores with each other
  library = torch.library.Library("torchvision", "FRAGMENT")
  while True:
    try:
      return importlib.import_module("torchvision"), library
    except RuntimeError as error:
      operator = MISSING.fullmatch(str(error))
      if not operator:
        raise
      library.define(f"{operator[1]}(Tensor x) -> Tensor")
      for module in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        del sys.modules[module]
