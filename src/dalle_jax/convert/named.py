"""Arrays taken by name: each once, of the shape it must have, finite, in float32; what is left over is told."""

from collections.abc import Iterator, Mapping

import numpy as np

from dalle_jax.errors import UserError


class Names:
  """The arrays whose names begin with a prefix, by what follows it."""

  def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = ""):
    self._prefix = prefix
    self._arrays = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    self._left = dict.fromkeys(self._arrays)

  def __iter__(self) -> Iterator[str]:
    return iter(self._arrays)

  def shape(self, name: str) -> tuple[int, ...]:
    """An array's shape, without taking it. Raises UserError where it is missing."""
    if name not in self._arrays:
      raise UserError(f"the array {self._prefix}{name} is missing: these are not all of the weights")
    return self._arrays[name].shape

  def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array in float32, a copy. Raises UserError where it is missing, of another shape or holds NaN or infinity."""
    if self.shape(name) != shape:
      raise UserError(f"the array {self._prefix}{name} is {self.shape(name)}, wanted {shape}")
    self._left.pop(name, None)
    if self._arrays[name].dtype.kind == "c":
      raise UserError(f"the array {self._prefix}{name} holds complex numbers, wanted real ones")
    with np.errstate(over="ignore"):  # it is infinity then, which is told
      array = np.array(self._arrays[name], np.float32)
    if not np.isfinite(array).all():
      raise UserError(f"the array {self._prefix}{name} holds NaN or infinity: the file is damaged, or was saved broken")
    return array

  def all_taken(self) -> None:
    """Raises UserError naming the first array that nothing took."""
    if self._left:
      raise UserError(f"the array {self._prefix}{next(iter(self._left))} is of another model: it is not known here")
