"""Schedules against values worked out by hand."""

import math

import jax
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.schedules import Constant, Cosine, Linear

QUARTER = math.sqrt(0.5)


@pytest.mark.parametrize(
  ("schedule", "wanted"),
  [
    (Constant(0.3), {0: 0.3, 10**6: 0.3}),
    (Linear(start=0.0, end=6.6, steps=5000), {0: 0, 1250: 1.65, 2500: 3.3, 5000: 6.6, 9999: 6.6}),
    (Linear(start=4.0, end=1.0, steps=3), {0: 4, 1: 3, 2: 2, 3: 1, 4: 1}),
    (Cosine(start=1.0, end=0.0625, steps=100), {0: 1, 50: 0.53125, 100: 0.0625, 101: 0.0625}),
    (Cosine(start=2.0, end=0.0, steps=4), {1: 1 + QUARTER, 2: 1, 3: 1 - QUARTER, 4: 0}),
    (Cosine(start=2.0, end=0.0, steps=2, shape="quarter"), {0: 2, 1: 2 * QUARTER, 2: 0, 3: 0}),
    (Cosine(start=8.0, end=0.0, steps=12, warmup=4), {0: 0, 1: 2, 3: 6, 4: 8, 8: 4, 12: 0, 50: 0}),
  ],
)
def test_a_schedule_has_the_values_worked_out_by_hand(schedule, wanted):
  found = {step: float(schedule(step)) for step in wanted}
  assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
  "schedule", [Constant(2.0), Linear(start=1.0, end=0.0, steps=7), Cosine(start=1.0, end=0.1, steps=9, warmup=2)]
)
def test_a_traced_step_gives_the_same_float32_as_a_python_one(schedule):
  traced = jax.jit(jax.vmap(schedule))(np.arange(12, dtype=np.int32))
  assert traced.dtype == np.float32
  np.testing.assert_allclose(traced, [float(schedule(i)) for i in range(12)], rtol=1e-6, atol=1e-7)


def test_a_cosine_never_rises_after_its_warm_up():
  values = [float(Cosine(start=1.0, end=0.01, steps=50, warmup=10)(i)) for i in range(60)]
  assert np.all(np.diff(values[:11]) > 0)
  assert np.all(np.diff(values[10:]) <= 0)


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: Linear(start=0.0, end=1.0, steps=0), "steps=0"),
    (lambda: Cosine(start=0.0, end=1.0, steps=5, warmup=5), "warmup=5"),
    (lambda: Constant(float("nan")), "value=nan"),
    (lambda: Linear(start=0.0, end=float("inf"), steps=3), "end=inf"),
  ],
)
def test_an_impossible_schedule_is_one_line_that_names_the_field(make, words):
  with pytest.raises(UserError, match=words) as caught:
    make()
  assert "\n" not in str(caught.value)
