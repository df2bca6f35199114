"""A pack for the tests of what runs packs: a small transformer, a control, and arms that share a run, fail, or die."""

import os
import signal

import bases

from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper, Same, metrics
from dalle_jax.schedules import Constant

STAGE = "transformer"
READS = metrics.training_loss(smallest=0.01)


def base(scale):
  """Of eighty steps, saved every twenty, so that it can be stopped on its way."""
  return rate(bases.changed(bases.transformer(scale), STAGE, steps=80, save_every=20, log_every=10), 0.01)


def rate(experiment, value):
  """At a rate that does not change."""
  return bases.changed(experiment, STAGE, optimizer={"lr": Constant(value), "max_skipped": 2})


def measure(workdir, setting, seed):
  """The training loss; a setting adds to it, ends the process, or is refused."""
  if setting == "die":
    os.kill(os.getpid(), signal.SIGKILL)
  if setting == "fail":
    raise RuntimeError(f"no figure in {workdir}")
  return READS.measure(workdir, None, seed) + (setting or 0.0)


def pack():
  """Half of the arms read the same run."""
  return Pack(
    title="A toy",
    group="attention",
    paper=Paper(rows=(14,), says="nothing", where="nowhere"),
    base=base,
    stage=STAGE,
    arms=(
      Arm(name="plain"),
      Arm(name="a bit more", setting=0.001),
      Arm(name="dies", setting="die"),
      Arm(name="fails", setting="fail"),
      Arm(name="slow", change=lambda e: bases.slower(e, STAGE, 100), fields=(f"stages.{STAGE}.optimizer.lr",)),
      Arm(name="too fast", change=lambda e: rate(e, 1e30), fields=(f"stages.{STAGE}.optimizer.lr",)),
    ),
    control="slow",
    metric=Metric(name="loss", unit="nats", smallest=0.01, measure=measure),
    claims=(
      Same(arm="plain", other="a bit more"),
      Better(arm="plain", than="too fast"),
      Better(arm="plain", than="fails"),
    ),
  )
