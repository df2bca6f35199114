"""Arrays of an official state dict, taken one after the other by name: what is missing, misshapen or left is told.

... the shape that an array has.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Shaped

from dalle_jax.errors import UserError


class Taking:
  """What has not been taken yet of `arrays`; what: whose they are, for messages, such as "CLIP"."""

  def __init__(self, arrays: Mapping[str, Shaped[np.ndarray, "..."]], what: str):
    self._left, self._what = dict(arrays), what

  def __contains__(self, name: str) -> bool:
    return name in self._left

  def shape(self, name: str, axes: int) -> tuple[int, ...]:
    """The shape of an array that is there with this many axes. Raises UserError else."""
    if name not in self._left:
      raise UserError(f"the weights of {self._what} lack {name}: the file is cut short, or of another network")
    shape = tuple(self._left[name].shape)
    if len(shape) != axes or not all(shape):
      raise UserError(f"{name} of {self._what} is of shape {list(shape)}: {axes} axes are wanted, none of them empty")
    return shape

  def take(self, name: str, *shape: int) -> Float[np.ndarray, "..."]:
    """The array as float32. Raises UserError where it is missing, of another shape, or holds what is not finite."""
    found = self.shape(name, len(shape))
    if found != shape:
      raise UserError(f"{name} of {self._what} is of shape {list(found)}: {list(shape)} is wanted beside the others")
    # A file may hold half precision, or be read-only memory.
    array = np.array(self._left.pop(name), np.float32)
    if not np.isfinite(array).all():
      raise UserError(f"{name} of {self._what} holds NaN or infinity: the file is damaged, fetch it again")
    return array

  def count(self, prefix: str) -> int:
    """1 + the highest N of names such as `prefix`N.weight; 0 where there is none."""
    numbers = (name.removeprefix(prefix).partition(".")[0] for name in self._left if name.startswith(prefix))
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)

  def finish(self) -> None:
    """Raises UserError where something is left, naming the first."""
    if self._left:
      more = f" and {len(self._left) - 1} others" if len(self._left) > 1 else ""
      raise UserError(f"the weights hold {min(self._left)}{more}, which {self._what} has no place for")
