"""jaxtyping's checks where there are arrays, and beartype's alone where there are none, which cost a tenth as much.

jaxtyping's import hook wraps every function of the package, binds its arguments by name at each call and checks them
twice, so that shapes agree with one another. A function whose annotations name no array has none: it is checked once.
"""

import inspect
import typing

import beartype
import jaxtyping
from jaxtyping import _decorator

_jaxtyped = jaxtyping.jaxtyped
# What is wrong is the same error either way, which is a TypeError as Python's own is.
_checked = beartype.beartype(conf=beartype.BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def names_arrays(annotation):
  """Whether jaxtyping has a part in an annotation, or in what it is made of."""
  if isinstance(annotation, str):  # of a name that is defined later: it may be anything
    return True
  if isinstance(annotation, list):  # of what a Callable takes
    return any(map(names_arrays, annotation))
  if (getattr(annotation, "__module__", None) or "").startswith("jaxtyping"):
    return True
  return any(map(names_arrays, typing.get_args(annotation)))


def jaxtyped(fn=None, *, typechecker=None):
  """`jaxtyping.jaxtyped`, as its import hook calls it, and as it calls itself of a dataclass's __init__."""
  if fn is None:
    return lambda fn: jaxtyped(fn, typechecker=typechecker)
  if inspect.isfunction(fn) and not any(map(names_arrays, fn.__annotations__.values())):
    return _checked(fn)
  return _jaxtyped(fn, typechecker=typechecker)


def install():
  """Puts ours where the import hook, and jaxtyping itself, look for theirs."""
  jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped
