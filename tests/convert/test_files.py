"""Files of weights of every kind give their arrays by name, and what is none of them is told."""

import json

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
import torch_bytes
from safetensors.numpy import save_file

from dalle_jax.convert import files
from dalle_jax.errors import UserError

ARRAYS = {
  "a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "a.bias": np.array([1, 2], ml_dtypes.bfloat16),
  "count": np.int64(7)[None],
}


def same(found, wanted=ARRAYS):
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


def pickled(count=6, key="w"):
  data = torch_bytes.program(torch_bytes.mapping({key: torch_bytes.tensor()}))
  return torch_bytes.as_zip(data, {"0": torch_bytes.numbers(count).tobytes()})


def test_safetensors_is_read_whatever_it_is_called(tmp_path):
  for called in ("x.safetensors", "pytorch_model.bin"):
    save_file(ARRAYS, tmp_path / called)
    same(files.arrays(tmp_path / called))


def test_flax_s_msgpack_has_dotted_names_and_its_large_arrays_in_pieces(tmp_path, monkeypatch):
  tree = {"a": {"kernel": ARRAYS["a.kernel"], "bias": ARRAYS["a.bias"]}, "count": ARRAYS["count"]}
  (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
  same(files.arrays(tmp_path / "x.msgpack"))
  whole = (tmp_path / "x.msgpack").read_bytes()
  monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 8)
  (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
  assert (tmp_path / "x.msgpack").read_bytes() != whole
  same(files.arrays(tmp_path / "x.msgpack"))


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (b"\x81", "or is damaged"),
    (b"\xc1", "or is damaged"),
    (b"\x81\xa1a\xc7\x03\x01abc", "or is damaged"),
    (b"\x81\xa1a\x07", "holds no arrays as Flax writes them"),
  ],
)
def test_msgpack_that_is_none_of_flax_s_is_told(tmp_path, data, words):
  (tmp_path / "x.msgpack").write_bytes(data)
  with pytest.raises(UserError, match=words):
    files.arrays(tmp_path / "x.msgpack")


def test_arrays_of_objects_are_no_arrays(tmp_path):
  import msgpack

  for dtype in ("O", "V8", "S8", "f4,f4"):
    inner = msgpack.packb(((1,), dtype, b"\0" * 8), use_bin_type=True)
    (tmp_path / "x.msgpack").write_bytes(msgpack.packb({"a": msgpack.ExtType(1, inner)}))
    with pytest.raises(UserError, match="something else than numbers"):
      files.arrays(tmp_path / "x.msgpack")


def test_a_file_cut_off_anywhere_is_one_line(tmp_path):
  save_file(ARRAYS, tmp_path / "x.safetensors")
  (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize({"a": ARRAYS["a.kernel"]}))
  for file in (tmp_path / "x.safetensors", tmp_path / "x.msgpack"):
    data = file.read_bytes()
    for end in range(len(data)):
      file.write_bytes(data[:end])
      with pytest.raises(UserError) as info:
        files.arrays(file)
      assert str(file) in str(info.value)


def test_a_folder_of_hugging_face_is_read_from_one_file_or_from_several(tmp_path):
  (tmp_path / "pytorch_model.bin").write_bytes(pickled())
  assert list(files.arrays(tmp_path)) == ["w"]
  assert files.parts(tmp_path) == files.parts(tmp_path / "pytorch_model.bin") == (tmp_path / "pytorch_model.bin",)
  (tmp_path / "pytorch_model.bin").unlink()
  parts = {"one.bin": ["u"], "two.bin": ["v"]}
  for part, names in parts.items():
    (tmp_path / part).write_bytes(pickled(key=names[0]))
  index = {"metadata": {}, "weight_map": {"u": "one.bin", "v": "two.bin"}}
  (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
  assert [part.name for part in files.parts(tmp_path)] == ["pytorch_model.bin.index.json", "one.bin", "two.bin"]
  assert sorted(files.arrays(tmp_path)) == ["u", "v"]


@pytest.mark.parametrize(
  ("index", "words"),
  [
    ("{", "is no index of weights"),
    ("[]", "is no index of weights"),
    ('{"weight_map": []}', "is no index of weights"),
    ('{"weight_map": {"w": ["w.bin"]}}', "is no index of weights"),
    ('{"weight_map": {"w": 3}}', "which is not in its folder"),
    ('{"weight_map": {"w": "../w.bin"}}', "which is not in its folder"),
    ('{"weight_map": {"w": "/etc/passwd"}}', "which is not in its folder"),
    ('{"weight_map": {"w": "gone.bin"}}', "no file"),
    ('{"weight_map": {"w": "w.bin", "v": "w.bin"}}', "v, of w.bin, is not there"),
  ],
)
def test_an_index_that_does_not_fit_is_told(tmp_path, index, words):
  folder = tmp_path / "folder"
  folder.mkdir()
  for place in (folder, tmp_path):
    (place / "w.bin").write_bytes(pickled())
  (folder / "model.safetensors.index.json").write_text(index)
  with pytest.raises(UserError, match=words):
    files.arrays(folder)


def test_what_is_no_file_of_weights_is_told(tmp_path):
  with pytest.raises(UserError, match="no file "):
    files.arrays(tmp_path / "nowhere.pt")
  with pytest.raises(UserError, match="holds no weights of Hugging Face"):
    files.arrays(tmp_path)
  (tmp_path / "x.png").write_bytes(b"\x89PNG" + bytes(20))
  with pytest.raises(UserError, match="is no file of weights that is known; wanted PyTorch"):
    files.arrays(tmp_path / "x.png")


def test_names_that_two_files_share_begin_with_the_file_s(tmp_path):
  for called, key in (("encoder.pkl", "w"), ("decoder.pkl", "w"), ("other.pkl", "v")):
    (tmp_path / called).write_bytes(pickled(key=key))
  paths = [tmp_path / called for called in ("encoder.pkl", "decoder.pkl")]
  assert list(files.merged(paths)) == ["encoder.w", "decoder.w"]
  assert list(files.merged([paths[0], tmp_path / "other.pkl"])) == ["w", "v"]
  with pytest.raises(UserError, match="give the files names that differ"):
    files.merged([paths[0], paths[0]])
