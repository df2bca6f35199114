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
import warnings

MISSING = re.compile(r"operator torchvision::(\w+) does not exist")


def load(name):
  """The module of this dotted name. One that is not installed fails the test: a parity test is never skipped."""
  with warnings.catch_warnings():
    # What other people's packages deprecate in each other as they are imported is not this project's to mend.
    warnings.simplefilter("ignore")
    torchvision()
    return importlib.import_module(name)


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
