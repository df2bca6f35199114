"""Few bits and scaled gradients: what becomes 0 or infinite under jit, what is counted, what the filter keeps out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.models import half
from dalle_jax.models.half import LOST, NOT_FINITE, SEEN, Format, Gauge

GAUGE = Gauge(jnp.float32(8.0), jnp.zeros(3))
VALUES = (1e-9, 1e6, -1e6, 1.0, 1 + 2**-12, 65504.0, 65521.0)
AS_FLOAT16 = (0.0, np.inf, -np.inf, 1.0, 1.0, 65504.0, np.inf)


def backward(fn, g):
  """The cotangents of x and of the gauge, under jit, for a cotangent g."""
  g = jnp.asarray(g, jnp.float32)
  return jax.jit(lambda g: jax.vjp(fn, jnp.ones_like(g), GAUGE)[1](g))(g)


def test_float16_is_rounded_to_forward_under_jit():
  rounded = jax.jit(lambda x: half.rounded(x, GAUGE, Format()))(jnp.array(VALUES, jnp.float32))
  np.testing.assert_array_equal(rounded, AS_FLOAT16)
  with np.errstate(over="ignore"):
    np.testing.assert_array_equal(rounded, np.asarray(VALUES, np.float16).astype(np.float32))


def test_its_cotangent_is_rounded_alike_and_what_is_lost_is_counted():
  g, gauge = backward(lambda x, gauge: half.rounded(x, gauge, Format()), (*VALUES, 0.0))
  np.testing.assert_array_equal(g, (*AS_FLOAT16, 0.0))
  assert gauge.zeros[LOST] == 1
  assert gauge.zeros[SEEN] == len(VALUES)
  assert gauge.zeros[NOT_FINITE] == 0 == gauge.scale


def test_float32_is_a_format_that_changes_nothing():
  x = jnp.array(VALUES, jnp.float32)
  np.testing.assert_array_equal(half.rounded(x, GAUGE, Format(exponent=8, mantissa=23)), x)


@pytest.mark.parametrize(("op", "times"), [(half.leave, 8.0), (half.enter, 1 / 8)])
@pytest.mark.parametrize("filters", [True, False])
def test_a_branch_multiplies_at_its_end_divides_at_its_beginning_and_filters_at_both(op, times, filters):
  g, _ = backward(lambda x, gauge: op(x, gauge, filters), (2.0, np.inf, -np.inf, np.nan))
  np.testing.assert_array_equal(g, (2 * times, *((0.0,) * 3 if filters else (np.inf, -np.inf, np.nan))))
  np.testing.assert_array_equal(op(jnp.arange(3.0), GAUGE, filters), np.arange(3.0))


@pytest.mark.parametrize("filters", [True, False])
def test_what_is_not_finite_is_counted_before_it_is_filtered(filters):
  _, gauge = backward(lambda x, gauge: half.enter(x, gauge, filters), (2.0, np.inf, np.nan))
  assert gauge.zeros[NOT_FINITE] == 2


def test_a_scale_saves_what_would_be_lost():
  def branch(x, gauge):
    return half.leave(half.rounded(half.enter(x, gauge, True), gauge, Format()), gauge, True)

  small = 2.0**-16
  assert backward(branch, small)[0] == small
  assert backward(lambda x, gauge: half.rounded(x, gauge, Format()), small)[0] == 0


def test_a_format_that_float32_does_not_hold_is_refused():
  with pytest.raises(UserError, match="got a format of 9 bits"):
    Format(exponent=9)
