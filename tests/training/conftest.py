"""The toys of toy_run.py, and a user who may not write everywhere, as fixtures."""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy():
  """The module toy_run.py, which is run as a process too."""
  spec = importlib.util.spec_from_file_location("toy_run", Path(__file__).parent / "toy_run.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules["toy_run"] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def unprivileged():
  """A context in which permissions bind even where the tests run as root."""

  @contextlib.contextmanager
  def context():
    root = os.geteuid() == 0
    if root:
      os.seteuid(65534)
    try:
      yield
    finally:
      if root:
        os.seteuid(0)

  return context
