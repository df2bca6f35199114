"""The train step of a stage as a run would compile it, for devices that need not be here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dalle_jax import sharding
from dalle_jax.data import near_misses
from dalle_jax.errors import UserError
from dalle_jax.experiment import Codes, Experiment, Stage, dvae_stage
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.training.step import State, abstract_state, make_step


def arguments(whole: Experiment, name: str, mesh: Mesh) -> tuple[State, Any, dict[str, jax.ShapeDtypeStruct]]:
  """State, frozen weights and batch of a stage's step, as shapes laid out on the mesh.

  Raises UserError where the stage does not divide over the mesh.
  """
  stage, rules = whole.stage(name), whole.rules
  sharding.check_batch(stage.batch, stage.accumulate, mesh, rules)
  state = abstract_state(stage.objective, stage.optimizer, mesh=mesh, rules=rules, reduce=stage.reduce)
  everywhere = sharding.replicated(mesh)
  frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), _frozen(whole, stage))
  batch = {
    key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.batch_sharding(mesh, rules, x.ndim))
    for key, x in batch_shapes(stage).items()
  }
  return state, frozen, batch


def batch_shapes(stage: Stage) -> dict[str, jax.ShapeDtypeStruct]:
  """What the stage's view gives it in a step, over all processes."""
  model, b, found = stage.objective.model, stage.batch, {}
  if isinstance(stage.examples, Codes):
    grid = (stage.objective.dvae or model).grid
    found["codes"] = jax.ShapeDtypeStruct((b, grid**2), jnp.uint16)
  else:
    side = stage.examples.crop.size
    found["image"] = jax.ShapeDtypeStruct((b, side, side, 3), jnp.uint8)
  if not isinstance(stage.objective, FirstStage):
    found["text"] = jax.ShapeDtypeStruct((b, model.text), jnp.int32)
  if stage.examples.near_misses:
    found["negative_text"] = jax.ShapeDtypeStruct((b, near_misses.EACH, model.text), jnp.int32)
  return found


def lower(whole: Experiment, name: str, mesh: Mesh, given: tuple[Any, ...]) -> jax.stages.Lowered:
  """The stage's step on these arguments, lowered for the mesh's devices. Raises what tracing does."""
  stage = whole.stage(name)
  step = _step(whole, stage, mesh)
  with jax.set_mesh(mesh):  # what kernels ask for the kind of device that they are lowered for
    return step.lower(*given)


def check(whole: Experiment, name: str, mesh: Mesh) -> None:
  """Traces the stage's step, compiling nothing. Raises UserError, naming the stage, where it can't run on the mesh."""
  stage = whole.stage(name)
  try:
    step = _step(whole, stage, mesh)
    step.eval_shape(*arguments(whole, name, mesh))
  except UserError as error:
    raise UserError(f"stage {name}: {error}") from error


def _step(whole: Experiment, stage: Stage, mesh: Mesh) -> Callable[..., Any]:
  options = {"mesh": mesh, "rules": whole.rules, "accumulate": stage.accumulate, "reduce": stage.reduce}
  return make_step(stage.objective, stage.optimizer, seed=whole.seed, **options)


def _frozen(whole: Experiment, stage: Stage) -> Any:
  if isinstance(stage.objective, FirstStage) or stage.objective.dvae is None:
    return {}
  objective = whole.stage(dvae_stage(whole)).objective
  return {"dvae": sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))}
