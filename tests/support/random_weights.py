"""Random weights for parity tests: every tensor drawn, and shown to matter.

Zeros, ones and identities hide what is left out: a bias that is never added, a gain that is never read, a table read in
the wrong order. So every parameter and every buffer is drawn here, and `idle` names the tensors that could be zeroed
or have their elements permuted without the outputs telling.
"""

import re

import numpy as np

# A tensor's error is max|a - b| / max|b|; the contract asks for this many tolerances.
MARGIN = 10


def draw(shapes, seed=0, gain=1.0, scales=None):
  """Arrays of these shapes, float32, by name.

  Args:
    shapes: a shape by name.
    seed: of NumPy's generator.
    gain: weights of two axes and more have the deviation gain / sqrt(fan in), fan in being all axes but the first.
    scales: a deviation by regular expression, for names that the rule would serve badly (tables of embeddings,
      kernels whose first axis is not the outputs'). The first that is found in the name counts.

  Vectors called weight (gains of norms) and running_var are uniform in 0.5 to 1.5; others (biases, running means) have
  the deviation 0.3.
  """
  rng = np.random.default_rng(seed)
  return {name: np.asarray(drawn(rng, name, shape, gain, scales or {})) for name, shape in shapes.items()}


def drawn(rng, name, shape, gain, scales):
  for pattern, scale in scales.items():
    if re.search(pattern, name):
      return (scale * rng.standard_normal(shape)).astype(np.float32)
  if len(shape) > 1:
    return (gain / np.sqrt(np.prod(shape[1:])) * rng.standard_normal(shape)).astype(np.float32)
  if name.rpartition(".")[2] in ("weight", "running_var"):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return (0.3 * rng.standard_normal(shape)).astype(np.float32)


def fill(module, seed=0, gain=1.0, scales=None):
  """Draws all floating tensors of a torch module's state dict into it and returns them; counters stay as they are."""
  import torch

  state = module.state_dict()
  floats = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
  arrays = draw(floats, seed, gain, scales)
  module.load_state_dict({**state, **{name: torch.from_numpy(array) for name, array in arrays.items()}})
  return arrays


def error(ours, theirs):
  """max|a - b| / max|b|, the greatest of all outputs where there are several."""
  if isinstance(theirs, (tuple, list)):
    assert len(ours) == len(theirs)
    return max(error(a, b) for a, b in zip(ours, theirs))
  a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  assert a.shape == b.shape, (a.shape, b.shape)
  return float(np.abs(a - b).max() / np.abs(b).max())


def idle(state, outputs, tolerance, seed=0, leave=()):
  """Names what could be zeroed or permuted unnoticed: an empty list is what a test asserts.

  Args:
    state: a torch module's state dict (its tensors are changed in place and put back), or a dict of NumPy arrays.
    outputs: a function of nothing that computes the outputs with what the tensors hold now: an array, or several of
      which one has to move.
    tolerance: of the parity test; the outputs must move by more than ten times as much.
    leave: names to leave out, each with a reason where it is passed.

  Returns lines such as "conv.bias zeroed moves the outputs by 0.0".
  """
  rng = np.random.default_rng(seed)
  before = arrays_of(outputs())
  found = []
  for name, tensor in state.items():
    view = as_array(tensor)
    if not np.issubdtype(view.dtype, np.floating) or name in leave:
      continue
    kept = view.copy()
    for change, array in spoilt(rng, kept):
      view[...] = array
      moved = error(arrays_of(outputs()), before)
      if not moved > MARGIN * tolerance:
        found.append(f"{name} {change} moves the outputs by {moved}")
    view[...] = kept
  return found


def spoilt(rng, array):
  """The array zeroed, and permuted where it has more than one element."""
  yield "zeroed", np.zeros_like(array)
  if array.size > 1:
    flat = rng.permutation(array.reshape(-1))
    if (flat == array.reshape(-1)).all():  # of three elements, one time in six
      flat = np.roll(flat, 1)
    yield "permuted", flat.reshape(array.shape)


def as_array(tensor):
  """A NumPy view of a torch tensor's memory, or the array itself."""
  return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def arrays_of(outputs):
  """Copies: what is computed next may be written where the outputs lie."""
  if isinstance(outputs, (tuple, list)):
    return [as_array(output).copy() for output in outputs]
  return as_array(outputs).copy()
