"""What a pack's plot shows: a control far off leaves the others their room."""

import pytest
from matplotlib.figure import Figure

from dalle_jax.ablations import plot
from dalle_jax.evaluation import plots


def row(arm, *values):
  if not values:
    return {"arm": arm, "figures": {"loss": None}}
  mean = sum(values) / len(values)
  found = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "values": dict(enumerate(values))}
  return {"arm": arm, "figures": {"loss": found}}


def table(*rows):
  metric = {"name": "loss", "unit": "nats", "smallest": 0.2, "lower": True}
  return {"metric": metric, "arms": list(rows), "control": {"arm": "slow"}}


def test_a_control_far_off_is_not_in_the_span():
  low, high = plot.span(table(row("a", 4.0, 4.2), row("b", 4.4), row("slow", 9.0)))
  assert low == pytest.approx(3.8 - 0.04 * 0.9)
  assert high == pytest.approx(4.7 + 0.04 * 0.9)


def test_a_control_nearby_is_in_it():
  low, high = plot.span(table(row("a", 4.0, 4.2), row("b", 4.4), row("slow", 5.0)))
  assert low < 3.8
  assert high > 5.1


def test_arms_without_figures_leave_a_span():
  assert plot.span(table(row("a"), row("slow"))) == (0.0, 1.0)
  assert plot.span(table(row("a"), row("slow", 2.0)))[0] < 2.0 < plot.span(table(row("a"), row("slow", 2.0)))[1]
  assert plot.span(table(row("a", 1.0), row("slow")))[1] < 1.4


def test_where_a_control_lies_is_written_at_the_edge():
  axes = Figure().add_subplot()
  plot.draw(table(row("a", 4.0, 4.2), row("slow", 9.0)))(axes, plots.PAPERS[0])
  assert [text.get_text() for text in axes.texts] == ["9 →"]
  assert axes.get_xlim()[1] < 9
