"""What the packs of numerics start from: 64 layers of small width, in emulated float16, the loss divided by 1024.

A batch of 16 stands for 64 replicas of it. "tiny" is hundreds of updates in place of 430,000, too few for scales to
climb from 2^13 to where gradients overflow, and until one does all ways of scaling are the same: so there they begin
near that height, under a higher cap, double in 200 updates and step down once in 5 (docs/ablations/numerics.md).
"""

import dataclasses

import bases

from dalle_jax.ablations import Scale
from dalle_jax.experiment import Experiment
from dalle_jax.objectives.half_nll import HalfNll
from dalle_jax.objectives.loss_scales import LossScales
from dalle_jax.schedules import Cosine
from dalle_jax.training.health import Spikes

GLOBAL_BATCH = 1024
OBJECTIVE = "stages.transformer.objective"
# Of the transformer: layers, heads and their size, updates, and the peak of the rate.
SIZES = {"smoke": (2, 2, 4, 2, 1e-3), "tiny": (64, 2, 16, 500, 1e-3), "small": (64, 4, 32, 10_000, 5e-4)}
FASTER = {"tiny": LossScales(initial=25.0, most=40.0, doubling=200.0, apart=5)}


def experiment(scale: Scale) -> Experiment:
  """The stages "dvae" and "transformer" of `bases.transformer`, the second deep and narrow; the paper's at "paper"."""
  base = bases.transformer(scale)
  stage = base.stage("transformer")
  model = dataclasses.replace(stage.objective.model, dtype="float32")
  optimizer = dataclasses.replace(stage.optimizer, spikes=Spikes(z=1e9), max_skipped=1_000_000)
  scales = FASTER.get(scale.name, LossScales())
  if scale.name == "paper":  # the whole global batch is one: what counts the replicas is in the scales
    scales = LossScales(initial=13.0 + 10, least=7.0 + 10, most=24.0 + 10)
  else:
    layers, heads, head_dim, steps, peak = SIZES[scale.name]
    model = dataclasses.replace(model, layers=layers, heads=heads, head_dim=head_dim, scan=True)
    rate = Cosine(start=peak, end=peak / 10, steps=steps, warmup=min(50, steps // 4))
    optimizer = dataclasses.replace(optimizer, lr=rate)
    sizes = {
      "steps": steps,
      "save_every": max(1, steps // 4),
      "show_every": 2 * steps,
      "log_every": max(1, steps // 70),
    }
    stage = dataclasses.replace(stage, **sizes)
  own = {field.name: getattr(stage.objective, field.name) for field in dataclasses.fields(stage.objective)}
  own |= {"model": model, "vocab_parts": 1}  # the arm of float16 logits has them whole
  objective = HalfNll(**own, replicas=GLOBAL_BATCH // stage.batch, scales=scales)
  stage = dataclasses.replace(stage, objective=objective, optimizer=optimizer)
  return dataclasses.replace(base, name=f"deep-{scale.name}", stages={**base.stages, "transformer": stage})


def scaled(base: Experiment, **changes: object) -> Experiment:
  """With fields of the scales replaced."""
  scales = dataclasses.replace(base.stage("transformer").objective.scales, **changes)
  return bases.changed(base, "transformer", objective={"scales": scales})
