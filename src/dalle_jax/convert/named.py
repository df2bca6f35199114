"""Arrays of a foreign file taken one by one, so that none is missing, of another shape, spoilt or left over."""

from collections.abc import Iterable, Mapping

import numpy as np

from dalle_jax.errors import UserError


class Named:
  """What is left of a file's arrays. whose: "ruDALL-E", for messages; prefix: what all names begin with."""

  def __init__(self, arrays: Mapping[str, np.ndarray], whose: str, prefix: str = ""):
    self._left, self.whose, self.prefix = dict(arrays), whose, prefix

  def take(self, name: str, *shape: int) -> np.ndarray:
    """The array of that name and shape in float32. Raises UserError if there is no such one, or it is not finite."""
    array = self.peek(name, len(shape))
    del self._left[self.prefix + name]
    if array.shape != shape:
      raise UserError(f"{self.whose}'s {self.prefix}{name} has the shape {array.shape}, {shape} is wanted")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
      raise UserError(f"{self.whose}'s {self.prefix}{name} holds a number that is not finite: the file is damaged")
    return array

  def peek(self, name: str, axes: int) -> np.ndarray:
    """The array as it is, which stays. Raises UserError if there is none of this many axes."""
    if self.prefix + name not in self._left:
      raise UserError(f"{self.whose}'s {self.prefix}{name} is missing: is this the file of the whole network?")
    array = self._left[self.prefix + name]
    if array.ndim != axes:
      raise UserError(f"{self.whose}'s {self.prefix}{name} has the shape {array.shape}: {axes} axes are wanted")
    return array

  def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, np.ndarray]:
    """A PyTorch linear map as `layers.Linear` holds it, whose kernel has the inputs first."""
    found = {"kernel": np.ascontiguousarray(self.take(f"{name}.weight", outputs, inputs).T)}
    return {**found, "bias": self.take(f"{name}.bias", outputs)} if bias else found

  def norm(self, name: str, width: int) -> dict[str, np.ndarray]:
    """A PyTorch layer norm as `layers.Norm` holds it."""
    return {"scale": self.take(f"{name}.weight", width), "bias": self.take(f"{name}.bias", width)}

  def table(self, name: str, rows: int, width: int) -> dict[str, np.ndarray]:
    """A PyTorch embedding as `layers.Embedding` holds it."""
    return {"embedding": self.take(f"{name}.weight", rows, width)}

  def count(self, name: str) -> int:
    """How many of a list of modules there are, by their numbers: the greatest after `name`, and one."""
    start = f"{self.prefix}{name}."
    numbers = [other[len(start) :].partition(".")[0] for other in self._left if other.startswith(start)]
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)

  def done(self, ignored: Iterable[str] = ()) -> None:
    """Raises UserError for the first array that nothing has taken, `ignored` ones aside."""
    left = sorted(set(self._left) - {self.prefix + name for name in ignored})
    if left:
      raise UserError(f"{self.whose} has no {left[0]}: is this a file of another network, or version?")
