"""Files like OpenAI's encoder.pkl and decoder.pkl, of small sizes and random numbers, written without torch."""

import numpy as np
from torch_bytes import as_zip, mapping, program, storage, tensor

HIDDEN, VOCAB, CODE_DIM = 8, 32, 4


def shapes(half, blocks=1):
  """Names and shapes of the encoder or the decoder, as its module in the package dall_e has them."""
  if half == "encoder":
    sizes, widths, n_in, last = (3, 3, 3, 1), (1, 2, 4, 8), HIDDEN, VOCAB
    found = {"blocks.input": (HIDDEN, 3, 7)}
  else:
    sizes, widths, n_in, last = (1, 3, 3, 3), (8, 4, 2, 1), CODE_DIM, 6
    found = {"blocks.input": (CODE_DIM, VOCAB, 1)}
  for g, width in enumerate(widths, start=1):
    for b in range(1, blocks + 1):
      n_out, path = width * HIDDEN, f"blocks.group_{g}.block_{b}"
      if n_in != n_out:
        found[f"{path}.id_path"] = (n_out, n_in, 1)
      inner = (n_in, n_out // 4, n_out // 4, n_out // 4, n_out)
      for i, size in enumerate(sizes):
        found[f"{path}.res_path.conv_{i + 1}"] = (inner[i + 1], inner[i], size)
      n_in = n_out
  found["blocks.output.conv"] = (last, n_in, 1)
  weights = {f"{path}.w": (out, n, k, k) for path, (out, n, k) in found.items()}
  return {name: weights.get(name, found[name[:-2]][:1]) for path in found for name in (f"{path}.w", f"{path}.b")}


def arrays(half, seed=0):
  rng = np.random.default_rng([seed, half == "decoder"])
  return {name: (0.3 * rng.standard_normal(shape)).astype("<f4") for name, shape in shapes(half).items()}


def as_file(named, extra=b""):
  """The bytes of a state dict with these arrays."""
  items, own = {}, {}
  for i, (name, array) in enumerate(named.items()):
    strides = tuple(step // array.itemsize for step in array.strides)
    items[name] = tensor(storage(str(i), array.size), 0, array.shape, strides)
    own[str(i)] = array.tobytes()
  return as_zip(program(mapping(items | ({"extra": extra} if extra else {}))), own)


def write(place, seed=0):
  """Both files. Their paths."""
  paths = [place / f"{half}.pkl" for half in ("encoder", "decoder")]
  for path in paths:
    path.write_bytes(as_file(arrays(path.stem, seed)))
  return paths
