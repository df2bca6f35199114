"""A mark on an array that only some platforms may compute: lowering it for another one is the user's error.

What a program is lowered for is not known while it is traced (it may be compiled ahead, for a pod that is elsewhere),
so the check is an operation of its own, without any work.
"""

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from dalle_jax.errors import UserError

only_on_p = Primitive("only_on")


def only_on(x: Array, platform: str, message: str) -> Array:
  """x; UserError with the message when the program is lowered for another platform ("tpu", "cuda")."""
  return only_on_p.bind(jnp.asarray(x), platform=platform, message=message)


@only_on_p.def_impl
def _run(x, *, platform, message):
  if next(iter(x.devices())).platform != {"cuda": "gpu"}.get(platform, platform):
    raise UserError(message)
  return x


@only_on_p.def_abstract_eval
def _shape(x, *, platform, message):
  del platform, message
  return x


def _lower(ctx, x, *, platform, message):
  if list(ctx.module_context.platforms) != [platform]:
    raise UserError(message)
  return [x]


mlir.register_lowering(only_on_p, _lower)
batching.defvectorized(only_on_p)
ad.deflinear2(only_on_p, lambda cotangent, *_, **__: [cotangent])
