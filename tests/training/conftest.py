"""The toys of toy_run.py, and a user who may not write everywhere, as fixtures."""

import contextlib
import os

import pytest


@pytest.fixture(scope="session")
def toy():
  """The module toy_run.py, which is run as a process too."""
  import toy_run

  return toy_run


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
