import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dalle_jax.evaluation.intervals import wilson


@given(
  st.integers(1, 2000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))),
  st.sampled_from([0.9, 0.95, 0.99]),
)
def test_the_interval_is_scipys(case, confidence):
  right, of = case
  expected = stats.binomtest(right, of).proportion_ci(confidence, method="wilson")
  got = wilson(right, of, confidence)
  assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
  assert got.rate == right / of


def test_fractional_successes_lie_between_their_neighbours():
  assert wilson(7, 20).low < wilson(7.5, 20).low < wilson(8, 20).low


def test_it_prints_percent():
  assert str(wilson(50, 100)) == "50.0 % [40.4, 59.6]"


@pytest.mark.parametrize(("right", "of"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(right, of):
  with pytest.raises(ValueError, match="wanted 0 <= right <= of"):
    wilson(right, of)
