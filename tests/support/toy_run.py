"""Small objectives and data for the tests of training, and a process that trains one: toy_run.py STAGE WORKDIR STEPS.

Every batch is a function of its step. The process sleeps a little in each batch, so that there is time to kill it. It
is one of several where the environment says so; with STUCK=INDEX:STEP the one of that index never comes to that step,
and with BAD=INDICES:STEP:WHAT those read numbers there that are none (nan) or far too large ones (large).
"""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax import cli, processes, sharding
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Constant, Cosine, Linear
from dalle_jax.training.loop import train
from dalle_jax.training.optimizers import AdamW


@dataclasses.dataclass(frozen=True)
class Denoise:
  """A two-layer perceptron that removes noise: sharded, random at every step, and not finite for a batch of NaN."""

  width: int = 16

  def init(self, key):
    up, down = jax.random.split(key)
    normal = jax.nn.initializers.normal(0.3)
    return {
      "up": {
        "kernel": sharding.axes(normal, "embed", "mlp")(up, (8, self.width)),
        "bias": sharding.axes(jax.nn.initializers.zeros, "mlp")(up, (self.width,)),
      },
      "down": {"kernel": sharding.axes(normal, "mlp", "embed")(down, (self.width, 8))},
    }

  def loss(self, params, frozen, batch, key, step):
    x_BD = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)
    h_BM = sharding.constrain(jnp.tanh(x_BD @ params["up"]["kernel"] + params["up"]["bias"][None]), "batch", "mlp")
    loss = jnp.mean(jnp.square(h_BM @ params["down"]["kernel"] + frozen.get("offset", 0.0) - batch["x"]))
    return loss, {"loss": loss, "width": jnp.std(h_BM)}


def vectors(rng):
  return {"x": rng.normal(size=(8, 8)).astype(np.float32)}


def pictures(rng):
  return {"image": rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)}


def texts(rng):
  ids_BT = rng.integers(0, 12, (8, 4)).astype(np.int32)
  ids_BT[:, -1] = 12 + 3
  return {"text": ids_BT}


def codes(rng):
  return {"codes": rng.integers(0, 10, (8, 9)).astype(np.int32)} | texts(rng)


def denoise():
  return Denoise(), vectors


def tiny_dvae():
  from dalle_jax.models import dvae

  model = dvae.Config(image=16, vocab=8, hidden=8, groups=2, blocks=1, code_dim=4)
  kl, temperature = Linear(start=0.0, end=1.0, steps=20), Cosine(start=1.0, end=0.1, steps=20)
  return DvaeElbo(model=model, kl=kl, temperature=temperature), pictures


def tiny_transformer():
  from dalle_jax.models import transformer
  from dalle_jax.objectives.transformer import TransformerNll

  sizes = {"text_vocab": 12, "text": 4, "image_vocab": 10, "grid": 3, "layers": 2, "heads": 2, "head_dim": 4}
  return TransformerNll(model=transformer.Config(**sizes, mix=("row", "column"), last=None, kernel=3)), codes


def tiny_clip():
  from dalle_jax.models import clip

  towers = {
    "vision_layers": 1,
    "vision_width": 8,
    "vision_heads": 2,
    "text_layers": 1,
    "text_width": 8,
    "text_heads": 2,
  }
  model = clip.Config(image=16, patch=8, text_vocab=12, text=4, embed=8, **towers)
  return ClipContrastive(model=model), lambda rng: pictures(rng) | texts(rng)


STAGES = {"denoise": denoise, "dvae": tiny_dvae, "transformer": tiny_transformer, "clip": tiny_clip}


def batches(draw, start, pause=0.0):
  """Batches from a step on, for ever."""
  step = start
  while True:
    time.sleep(pause)
    yield draw(np.random.default_rng([7, step]))
    step += 1


def options(stage, workdir, **changes):
  """The arguments of `train`, on one device."""
  objective, draw = STAGES[stage]()
  return {
    "name": stage,
    "objective": objective,
    "optimizer": AdamW(lr=Constant(1e-2), decay=0.1, clip=4.0, ema=0.9),
    "seed": 3,
    "mesh": sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1]),
    "rules": sharding.Rules(),
    "frozen": {},
    "batches": lambda start: batches(draw, start),
    "workdir": Path(workdir),
    "files": {"experiment.json": b"{}"},
    "save_every": 4,
    "keep": 3,
    "log_every": 1,
  } | changes


def own_share(draw, mesh, first):
  """This process's rows of the batches from a step on, which come slowly."""
  share = sharding.share(mesh, sharding.Rules())
  stuck = [int(number) for number in os.environ.get("STUCK", "-1:-1").split(":")]
  bad, bad_step, what = os.environ.get("BAD", "-1:-1:nan").split(":")
  for step, batch in enumerate(batches(draw, first, pause=0.02), first):
    if stuck == [processes.index(), step]:
      time.sleep(1000)
    own = {key: np.concatenate([np.split(rows, share.of)[i] for i in share.parts]) for key, rows in batch.items()}
    here = step == int(bad_step) and str(processes.index()) in bad.split(",")
    yield {key: rows * np.float32({"nan": np.nan, "large": 100}[what]) for key, rows in own.items()} if here else own


def child():
  """A process that this one starts, as a data worker is: it ends with its parent."""
  from dalle_jax.data import pipeline

  subprocess.Popen(["sleep", "600"], preexec_fn=lambda: pipeline._die_with_parent(0, 1), stderr=subprocess.DEVNULL)


def main():
  if os.environ.get("CHILD"):
    child()
  stage, workdir, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
  processes.join(processes.Processes())
  mesh = sharding.make_mesh(sharding.MeshShape(data=1, fsdp=-1))
  draw = STAGES[stage]()[1]
  limit = float(os.environ.get("STEP_LIMIT", "1800"))
  train(
    steps=steps,
    **options(stage, workdir, mesh=mesh, batches=lambda first: own_share(draw, mesh, first), step_limit=limit),
  )
  return 0


if __name__ == "__main__":
  cli.COMMANDS["toy"] = lambda argv: main()
  sys.exit(cli.main(["toy"]))
