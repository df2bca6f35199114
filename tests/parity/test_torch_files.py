"""Files as PyTorch itself writes them: the arrays are those that torch.load gives, and nothing in a file is run."""

import argparse
import collections
import os
from pathlib import Path

import numpy as np
import official
import pytest

from dalle_jax.convert import files
from dalle_jax.errors import UserError

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def torch():
  return official.load("torch")


def as_numpy(tensor):
  import torch

  tensor = tensor.detach()
  return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def same(found, state):
  assert list(found) == list(state)
  for name, tensor in state.items():
    ours, theirs = found[name], as_numpy(tensor)
    assert ours.shape == theirs.shape
    assert str(tensor.dtype).removeprefix("torch.") == str(ours.dtype)
    np.testing.assert_array_equal(ours.astype(theirs.dtype), theirs)


DTYPES = ("float64", "float32", "float16", "bfloat16", "complex64", "int64", "int32", "int16", "int8", "uint8", "bool")


def tensors(torch):
  """Tensors of every dtype, and such as look at storages in ways of their own."""
  base = torch.arange(24.0)
  found = {name: (torch.randn(3, 4) * 3).to(getattr(torch, name)) for name in DTYPES}
  found |= {"row": base[3:9], "transposed": base.view(4, 6).t(), "steps": base[::5], "one": base[7], "none": base[:0]}
  found |= {"scalar": torch.tensor(3), "parameter": torch.nn.Parameter(torch.randn(2, 2)), "folded": base.view(2, 3, 4)}
  return collections.OrderedDict(found)


@pytest.mark.parametrize("newer", [True, False], ids=["zip", "legacy"])
def test_every_dtype_and_window_is_torch_s(torch, tmp_path, newer):
  state = tensors(torch)
  torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=newer)
  same(files.arrays(tmp_path / "x.pt"), state)


@pytest.mark.parametrize("newer", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(torch, tmp_path, newer, protocol):
  state = {"a": torch.randn(3), "b": torch.randn(2, 2)}
  torch.save(state, tmp_path / "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=newer)
  same(files.arrays(tmp_path / "x.pt"), state)


def network(torch):
  nn = torch.nn
  layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
  whole = nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), layer=layer))
  whole.register_buffer("passing", torch.ones(3), persistent=False)
  whole.more = nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(3))])
  whole.table = nn.Embedding(5, 4)
  return whole


@pytest.mark.parametrize("newer", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module_gives_its_state_dict(torch, tmp_path, newer):
  module = network(torch)
  torch.save(module, tmp_path / "x.pkl", _use_new_zipfile_serialization=newer)
  same(files.arrays(tmp_path / "x.pkl"), module.state_dict())


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_torchscript_gives_its_state_dict(torch, tmp_path):
  traced = torch.jit.trace(
    torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).eval(), torch.randn(2, 3)
  )
  torch.jit.save(traced.half(), tmp_path / "x.pt")
  same(dict(sorted(files.arrays(tmp_path / "x.pt").items())), dict(sorted(traced.state_dict().items())))


def test_a_checkpoint_of_a_trainer_gives_its_weights(torch, tmp_path):
  module = network(torch)
  optimizer = torch.optim.AdamW(module.parameters())
  sum(parameter.square().sum() for parameter in module.parameters()).backward()
  optimizer.step()  # so that it holds tensors of its own
  kept = {"epoch": 3, "state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}
  kept |= {
    "hyper_parameters": argparse.Namespace(lr=0.1),
    "best": np.float64(0.5),
    "seen": collections.Counter(a=3),
    "at": Path("x"),
    "dtype": torch.float16,
  }
  torch.save(kept, tmp_path / "x.ckpt")
  same(files.arrays(tmp_path / "x.ckpt"), module.state_dict())


class Evil:
  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return os.mkdir, (self.marker,)


@pytest.mark.parametrize("newer", [True, False], ids=["zip", "legacy"])
def test_what_runs_in_torch_load_does_not_run_here(torch, tmp_path, newer):
  marker = tmp_path / "marker"
  state = {"w": torch.randn(3), "evil": Evil(str(marker))}
  torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=newer)
  with pytest.raises(
    UserError, match=r"its pickle asks for posix.mkdir, which weights do not need: nothing of it was run"
  ):
    files.arrays(tmp_path / "x.pt")
  assert not marker.exists()
  torch.load(tmp_path / "x.pt", weights_only=False)
  assert marker.exists()


def test_safetensors_and_a_folder_of_hugging_face_are_torch_s(torch, tmp_path):
  save_file = official.load("safetensors.torch").save_file
  state = {name: tensor.detach().clone() for name, tensor in tensors(torch).items() if name != "complex64"}
  save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
  found = files.arrays(tmp_path)
  same({name: found[name] for name in state}, state)
