"""The scales move as worked out by hand in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.objectives.loss_scales import LossScales


def by_hand(rule, fine_US, replicas):
  """The scales after each update, from the paper's words: floats, one scale after the other."""
  found = []
  for fine_U in np.asarray(fine_US).T:
    scale, last, rows = replicas * 2.0**rule.initial, None, []
    for update, fine in enumerate(fine_U):
      if fine:
        scale *= 2 ** (1 / rule.doubling)
      elif last is None or update - last >= rule.apart:
        scale, last = scale / np.sqrt(2), update
      scale = min(max(scale, replicas * 2.0**rule.least), replicas * 2.0**rule.most)
      rows.append(scale)
    found.append(rows)
  return np.array(found).T


def moved(rule, fine_US, replicas):
  after = lambda scales, fine_S: (new := rule.after(scales, fine_S, replicas), jnp.exp2(new.log2_S))  # noqa: E731
  begin = rule.begin(fine_US.shape[1], replicas)
  return jax.jit(lambda fine_US: jax.lax.scan(after, begin, fine_US)[1])(fine_US)


@pytest.mark.parametrize(
  "rule",
  [
    LossScales(),
    LossScales(doubling=3.0, apart=4),
    LossScales(doubling=0.5, apart=1, initial=9.0, most=10.0),
    LossScales(doubling=50.0, apart=1, initial=8.0),
  ],
)
def test_the_scales_are_those_worked_out_by_hand(rule):
  rng = np.random.default_rng(0)
  fine_US = rng.random((400, 4)) < np.array([1.0, 0.99, 0.5, 0.0])
  expected = by_hand(rule, fine_US, 64)
  np.testing.assert_allclose(moved(rule, jnp.asarray(fine_US), 64), expected, rtol=1e-3)
  assert len({*expected[-1]}) > 1, "all scales ended alike"


def test_the_numbers_are_the_papers():
  rule, fine = LossScales(), np.ones((1000, 1), bool)
  np.testing.assert_allclose(moved(rule, jnp.asarray(fine), 64)[-1], 64 * 2.0**14, rtol=1e-3)
  bad = by_hand(rule, ~fine, 64)[:, 0]
  assert (bad[0], bad[124], bad[125]) == pytest.approx((64 * 2**12.5, 64 * 2**12.5, 64 * 2**12), rel=1e-9)
  assert (rule.initial, rule.least, rule.most) == (13, 7, 24)


def test_scales_that_begin_beyond_their_bounds_are_refused():
  with pytest.raises(UserError, match="begin at 2\\^30 between 2\\^7 and 2\\^24"):
    LossScales(initial=30.0)
