"""SIGTERM to any one of four processes: all save the same step and exit with 75, soon."""

import itertools
import random
import signal
import statistics
import time

from gang import ended, reached, rows, start

from dalle_jax.training.checkpoint import Checkpoints

SEED, COUNT = 0, 4


def step_s(workdir):
  """Seconds that a step of the run took, by its own clock."""
  walls = [row["timing"]["wall_s"] for row in rows(workdir)]
  return statistics.median(b - a for a, b in itertools.pairwise(walls))


def test_sigterm_to_any_one_of_four_saves_the_same_step_in_all(tmp_path, figure, goal):
  rng, times = random.Random(SEED), goal(10, 30)
  victims = [i % COUNT for i in range(times)]
  rng.shuffle(victims)
  slowest = 0.0
  for i, victim in enumerate(victims):
    workdir = tmp_path / str(i)
    gang = start(COUNT, workdir, steps=4000)
    reached(gang, workdir, rng.randint(4, 30))
    begin = time.monotonic()
    gang[victim].send_signal(signal.SIGTERM)
    codes, said = ended(gang, within=120)
    took = time.monotonic() - begin
    assert codes == [75] * COUNT, said
    saved = Checkpoints(workdir / "checkpoints").good_steps()[-1]
    assert all(f"saved step {saved}:" in text for text in said)
    assert len(rows(workdir)) == saved
    assert took < 5 + step_s(workdir), (victim, saved)
    slowest = max(slowest, took)
  figure(
    f"SIGTERM to one of {COUNT} processes: the same step saved in all, exit code 75",
    f"{times} of {times}, after {slowest:.1f} s at the most",
    [SEED],
  )
