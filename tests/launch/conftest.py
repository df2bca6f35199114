"""What the tests of launching share."""

import pytest
import slurm


@pytest.fixture
def cluster(tmp_path):
  """A function that runs a command on SLURM's controller and two nodes."""
  with slurm.cluster(tmp_path) as command:
    yield command
