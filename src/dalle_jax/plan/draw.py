"""The sampler as `generate` runs it, many samples of one caption at a time, for devices that need not be here.

The weights lie as the rules split them, in the dtype that they are used in, and stay; rows are split as a batch is.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dalle_jax import chips, sharding
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment, Stage
from dalle_jax.models import flops, transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.ops.sparse_attention import decode
from dalle_jax.plan import compiled
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import check_draws, generate


def model_of(stage: Stage, name: str) -> transformer.Config:
  """The stage's model, its blocks one by one as they are drawn with. Raises UserError where it does not draw."""
  if not isinstance(stage.objective, TransformerNll):
    raise UserError(f"stage {name} does not draw pictures: --sample plans a transformer's sampler")
  check_draws(stage.objective.model)
  return dataclasses.replace(stage.objective.model, scan=False)


def arguments(whole: Experiment, name: str, mesh: Mesh) -> tuple[Any, ...]:
  """Parameters, caption, key and the numbers of caption and samples, as shapes laid out on the mesh.

  Raises UserError where the weights or the samples, which are the stage's batch, do not divide over the mesh.
  """
  stage = whole.stage(name)
  sharding.check_batch(stage.batch, 1, mesh, whole.rules)
  model = model_of(stage, name)
  objective = dataclasses.replace(stage.objective, model=model)
  boxed = jax.eval_shape(objective.init, jax.random.key(0))
  layout = sharding.shardings(boxed, mesh, whole.rules)
  shapes = jax.eval_shape(lambda p: transformer.in_compute_dtype(p, model), sharding.unbox(boxed))
  params = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)
  params.pop("text_head")  # drawing scores no text
  everywhere = sharding.replicated(mesh)
  whole_on_each = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)  # noqa: E731
  key = jax.eval_shape(lambda: jax.random.key(0))
  numbers = (whole_on_each((1,), jnp.int32), whole_on_each((stage.batch,), jnp.int32))
  return params, whole_on_each((1, model.text), jnp.int32), whole_on_each(key.shape, key.dtype), *numbers


def lower(whole: Experiment, name: str, mesh: Mesh, given: tuple[Any, ...]) -> jax.stages.Lowered:
  """The sampler on these arguments, lowered for the mesh's devices."""
  model = model_of(whole.stage(name), name)
  return generate.lower(*given, model=model, sampling=SamplingConfig(), mesh=mesh, rules=whole.rules)


def sizes(whole: Experiment, name: str, mesh: Mesh, given: tuple[Any, ...]) -> dict[str, int]:
  """Bytes on a device, by kind."""
  params, *rest = given
  text, image = _cached(whole, name, mesh)
  batch = sum(compiled.on_a_device(x) for x in rest if x.dtype == jnp.int32)
  return {"params": compiled.on_a_device(params), "batch": batch, "caches": sum(text) + sum(image)}


def estimate(whole: Experiment, name: str, mesh: Mesh, given: tuple[Any, ...], chip: chips.Chip) -> dict[str, Any]:
  """What a device reads and computes at the least for a token of all samples, and the pictures a second that allows.

  Weights and the caption's keys are read once, of the image's those that a pattern sees, of tables nothing to speak of;
  no collectives, no waits.
  """
  model, devices = model_of(whole.stage(name), name), mesh.devices.size
  batch, tokens = whole.stage(name).batch, model.grid**2
  text, image = _cached(whole, name, mesh)
  seen = [size / model.grid if kind == "column" else size for kind, size in zip(model.kinds(), image)]
  weights = {name: x for name, x in given[0].items() if name not in ("text_token", "image_token")}
  read = compiled.on_a_device(weights) + sum(text) + sum(seen)
  seconds = max(read / chip.hbm, flops.of_drawing(model) * batch / tokens / devices / chip.peak)
  return {"bytes_read_a_token": read, "pictures_per_s": batch / (tokens * seconds)}


def _cached(whole: Experiment, name: str, mesh: Mesh) -> tuple[list[int], list[int]]:
  """Bytes on a device of the caption's keys and values, and of the samples', of each layer."""
  model, rules = model_of(whole.stage(name), name), whole.rules
  parts = lambda axes: math.prod(mesh.shape[axis] for axis in axes)  # noqa: E731
  heads, rows = model.heads // parts(rules.heads), whole.stage(name).batch // parts(rules.batch)
  position = 2 * heads * model.head_dim * jnp.dtype(model.dtype).itemsize
  patterns = [model.pattern(kind) for kind in model.kinds()]
  return [model.text * position for _ in patterns], [rows * decode.slots(p) * position for p in patterns]
