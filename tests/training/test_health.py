"""Spikes: the z of a norm among the last ones, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.training.health import LEAST, Spikes


def seen(spikes, norms):
  """The window after these norms were let through."""
  logs = spikes.begin()
  for i, norm in enumerate(norms):
    logs = spikes.after(logs, jnp.int32(i), jnp.float32(norm))
  return logs, jnp.int32(len(norms))


def test_a_spike_lies_so_many_deviations_above_the_last_norms():
  spikes = Spikes(window=5, z=2.0)
  norms = np.array([100.0, 1.0, 3.0, 0.5, 2.0, 6.0], np.float32)  # the first one has left the window
  logs = np.log(norms[1:])
  assert logs.std() > LEAST
  edge = float(np.exp(logs.mean() + 2.0 * logs.std()))
  assert not spikes.is_spike(*seen(spikes, norms), jnp.float32(edge * 0.99))
  assert spikes.is_spike(*seen(spikes, norms), jnp.float32(edge * 1.01))


def test_norms_that_are_all_alike_leave_room():
  spikes = Spikes(window=4, z=4.0)
  window = seen(spikes, [2.0] * 4)
  assert not spikes.is_spike(*window, jnp.float32(2 * np.exp(4 * LEAST) * 0.99))
  assert spikes.is_spike(*window, jnp.float32(2 * np.exp(4 * LEAST) * 1.01))
  assert not spikes.is_spike(*window, jnp.float32(1e-9))


def test_nothing_is_a_spike_before_the_window_is_full():
  spikes = Spikes(window=4, z=1.0)
  assert not spikes.is_spike(*seen(spikes, [1.0] * 3), jnp.float32(1e9))
  assert spikes.is_spike(*seen(spikes, [1.0] * 4), jnp.float32(1e9))


def test_a_gradient_of_zero_is_none_and_leaves_the_window_finite():
  spikes = Spikes(window=2)
  logs, passed = seen(spikes, [1.0, 0.0])
  assert jnp.isfinite(logs).all()
  assert not spikes.is_spike(logs, passed, jnp.float32(0))


@pytest.mark.parametrize("given", [{"window": 1}, {"z": 0.0}, {"z": float("nan")}])
def test_what_can_t_be_is_refused(given):
  with pytest.raises(UserError, match=r"wanted at least 2 updates and a number above 0"):
    Spikes(**given)
