"""Verdicts: SciPy's paired interval, and what each rule makes of figures chosen for it."""

import numpy as np
import pytest
from scipy import stats

from dalle_jax.ablations import Better, Metric, Same, verdict
from dalle_jax.ablations.figures import Figures

SEEDS = (0, 1, 2)
METRIC = Metric(name="loss", unit="nats", smallest=0.1, measure=lambda workdir, setting, seed: 0.0)
MORE = Metric(name="loss", unit="dB", smallest=0.1, measure=lambda workdir, setting, seed: 0.0, lower=False)
BETTER, SAME = Better(arm="one", than="two"), Same(arm="one", other="two")


def by_seed(*values):
  """Figures of the values; None where training went out of bounds, a text where something else went wrong."""
  made = {}
  for seed, value in enumerate(values):
    if value is None or isinstance(value, str):
      made[seed] = Figures(failed=value or "diverged", diverged=value is None)
    else:
      made[seed] = Figures(values={"loss": float(value)})
  return made


def judged(claim, one, two, *, metric=METRIC, control=True):
  return verdict.judge(metric, claim, {"one": by_seed(*one), "two": by_seed(*two)}, SEEDS, control)


def test_the_interval_is_that_of_a_paired_t_test():
  rng = np.random.default_rng(0)
  one, two = rng.normal(size=5), rng.normal(size=5)
  found = verdict.difference(MORE, by_seed(*one), by_seed(*two))
  expected = stats.ttest_rel(one, two).confidence_interval(0.95)
  assert found.seeds == 5
  np.testing.assert_allclose([found.mean, found.low, found.high], [(one - two).mean(), *expected], rtol=1e-12)


def test_two_seeds_by_hand():
  # Half the difference of two values is their standard error; the t quantile of one degree of freedom is tan(0.475 pi).
  found = verdict.interval([1.0, 3.0])
  np.testing.assert_allclose([found.mean, found.low, found.high], [2.0, 2 - 12.7062047, 2 + 12.7062047], rtol=1e-8)


def test_less_is_better_unless_the_metric_says_more():
  assert verdict.difference(METRIC, by_seed(1, 1), by_seed(2, 3)).mean == 1.5
  assert verdict.difference(MORE, by_seed(1, 1), by_seed(2, 3)).mean == -1.5


def test_only_seeds_that_both_have_are_paired():
  found = verdict.difference(METRIC, by_seed(1.0, "broken", 1.0), by_seed(2.0, 9.0, 4.0))
  assert (found.seeds, found.mean) == (2, 2.0)
  assert verdict.difference(METRIC, by_seed("broken"), by_seed(1.0)) is None


@pytest.mark.parametrize(
  ("claim", "one", "two", "says"),
  [
    (BETTER, (1.0, 1.1, 1.2), (1.5, 1.61, 1.7), "agrees"),  # 0.5, every time
    (BETTER, (1.5, 1.61, 1.7), (1.0, 1.1, 1.2), "disagrees"),  # worse
    (BETTER, (1.0, 1.1, 1.2), (1.05, 1.151, 1.25), "disagrees"),  # better, by less than would matter
    (BETTER, (1.0, 1.1, 1.2), (1.9, 1.1, 1.3), "can't tell at this scale"),  # by 0.9, 0 and 0.1
    (SAME, (1.0, 1.1, 1.2), (1.01, 1.1, 1.21), "agrees"),
    (SAME, (1.0, 1.1, 1.2), (1.5, 1.61, 1.7), "disagrees"),
    (SAME, (1.5, 1.61, 1.7), (1.0, 1.1, 1.2), "disagrees"),
    (SAME, (1.0, 1.1, 1.2), (1.3, 1.0, 1.1), "can't tell at this scale"),
    (BETTER, (1.0, 1.0, 1.0), (None, None, None), "agrees"),  # the other went out of bounds
    (SAME, (1.0, 1.0, 1.0), (None, None, None), "disagrees"),
    (BETTER, (None, None, None), (1.0, 1.0, 1.0), "disagrees"),
    (BETTER, (1.0, 1.0, 1.0), (None, 2.0, 2.1), "can't tell at this scale"),  # two seeds have an interval
    (BETTER, (1.0, 1.0, 1.0), (None, None, 1.0), "no verdict"),  # one has none
    (BETTER, (None, 1.0, 1.0), (1.0, None, None), "no verdict"),
    (SAME, (None, None, None), (None, None, None), "no verdict"),
    (BETTER, (1.0, 1.0, 1.0), (2.0, "killed", 2.0), "no verdict"),
    (BETTER, (1.0, 1.0), (2.0, 2.0), "no verdict"),  # the third seed is not there yet
  ],
)
def test_what_the_figures_say_of_a_claim(claim, one, two, says):
  found = judged(claim, one, two)
  assert found.verdict == says
  if found.verdict == verdict.CANNOT_TELL:
    assert found.difference.low < found.difference.high


@pytest.mark.parametrize("claim", [BETTER, SAME])
def test_without_the_control_told_apart_there_is_no_verdict(claim):
  found = judged(claim, (1.0, 1.1, 1.2), (1.5, 1.61, 1.7), control=False)
  assert (found.verdict, found.why) == ("no verdict", "the control was not told apart")
  assert found.difference.low > 0  # the interval is given all the same


def test_one_seed_has_no_interval():
  found = verdict.judge(METRIC, BETTER, {"one": by_seed(1.0), "two": by_seed(2.0)}, (0,), True)
  assert (found.verdict, found.why) == ("no verdict", "one seed has no interval")


@pytest.mark.parametrize(
  ("paper", "control", "seen"),
  [
    ((1.0, 1.1, 1.2), (2.0, 2.1, 2.21), True),
    ((1.0, 1.1, 1.2), (1.05, 1.151, 1.25), False),  # worse, by less than would matter
    ((1.0, 1.1, 1.2), (0.5, 0.6, 0.71), False),  # better
    ((1.0, 1.1, 1.2), (None, None, None), True),
    ((1.0, 1.1, 1.2), (2.0, 2.1), False),  # not all there yet
    ((1.0, 1.1, 1.2), (2.0, "killed", 2.2), False),
  ],
)
def test_a_control_is_told_apart_where_it_is_worse_by_as_much_as_matters(paper, control, seen):
  assert verdict.detected(METRIC, by_seed(*paper), by_seed(*control), SEEDS) is seen
