"""Several processes that are really there: the same losses as one. What disturbs them is in tests/faults."""

import numpy as np
import pytest
from gang import finished, losses, rows

pytestmark = pytest.mark.slow

STEPS = 40


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """What one process computes on as many simulated devices."""
  found = {}
  for devices in (2, 4):
    workdir = tmp_path_factory.mktemp(f"one-{devices}")
    finished(1, workdir, devices=devices)
    found[devices] = losses(workdir)
  return found


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_have_one_s_losses_and_one_of_them_speaks(one, tmp_path, count):
  said = finished(count, tmp_path)
  np.testing.assert_allclose(losses(tmp_path), one[count], rtol=1e-5)
  assert f"on {count} cpu of {count} processes" in said[0]
  assert not any("denoise:" in text for text in said[1:])
  assert len(rows(tmp_path)) == STEPS


def test_a_checkpoint_of_four_goes_on_in_two_and_in_one(one, tmp_path):
  finished(4, tmp_path, steps=20)
  said = finished(2, tmp_path, steps=30)
  assert "going on from step 20" in said[0]
  said = finished(1, tmp_path)
  assert "going on from step 30" in said[0]
  np.testing.assert_allclose(losses(tmp_path), one[4], rtol=1e-5)
