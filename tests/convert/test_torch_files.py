"""Files as torch writes them, whole and in every way wrong: arrays, or one line."""

import argparse
import collections
import datetime
import pickle
import pickletools
import zipfile

import numpy as np
import pytest
from torch_bytes import as_legacy, as_zip, mapping, name, numbers, plain, program, storage, tensor

from dalle_jax.convert import files
from dalle_jax.errors import UserError


def arrays(tmp_path, data, called="weights.pt"):
  (tmp_path / called).write_bytes(data)
  return files.arrays(tmp_path / called)


def refused(tmp_path, data, called="weights.pt"):
  """The one line; and nothing was written beside the file."""
  with pytest.raises(UserError) as info:
    arrays(tmp_path, data, called)
  assert [file.name for file in tmp_path.iterdir()] == [called]
  assert "\n" not in str(info.value)
  assert called in str(info.value)
  return str(info.value)


WHOLE = program(mapping({"a.weight": tensor(), "a.bias": tensor(storage("1", 2), 0, (2,), (1,))}))
STORAGES = {"0": numbers(), "1": numbers(2)}
ZIPPED = as_zip(WHOLE, {key: own.tobytes() for key, own in STORAGES.items()})


@pytest.mark.parametrize("data", [ZIPPED, as_legacy(WHOLE, STORAGES)], ids=["zip", "legacy"])
def test_a_state_dict_is_arrays_by_name(tmp_path, data):
  found = arrays(tmp_path, data)
  assert list(found) == ["a.weight", "a.bias"]
  np.testing.assert_array_equal(found["a.weight"], [[1, 2, 3], [4, 5, 6]])
  np.testing.assert_array_equal(found["a.bias"], [1, 2])
  assert found["a.weight"].dtype == np.float32


def test_windows_on_a_storage_have_their_offsets_and_strides(tmp_path):
  own = storage()
  items = {"t": tensor(own, 0, (3, 2), (1, 3)), "row": tensor(own, 3, (3,), (1,)), "one": tensor(own, 5, (), ())}
  items["none"] = tensor(own, 6, (0, 4), (4, 1))
  found = arrays(tmp_path, as_zip(program(mapping(items)), {"0": numbers().tobytes()}))
  np.testing.assert_array_equal(found["t"], numbers().reshape(2, 3).T)
  np.testing.assert_array_equal(found["row"], [4, 5, 6])
  assert found["one"] == 6
  assert found["none"].shape == (0, 4)


def test_arrays_can_not_be_written(tmp_path):
  found = arrays(tmp_path, ZIPPED)
  with pytest.raises(ValueError, match="read-only"):
    found["a.weight"][0, 0] = 7


def test_half_floats_of_both_kinds_are_read(tmp_path):
  import ml_dtypes

  own = {"0": np.float16([1.5, -2]).tobytes(), "1": np.array([0.1, 3], ml_dtypes.bfloat16).tobytes()}
  items = {
    "half": tensor(storage("0", 2, "Half"), 0, (2,), (1,)),
    "brain": tensor(storage("1", 2, "BFloat16"), 0, (2,), (1,)),
  }
  found = arrays(tmp_path, as_zip(program(mapping(items)), own))
  np.testing.assert_array_equal(found["half"], np.float16([1.5, -2]))
  np.testing.assert_array_equal(found["brain"].astype(np.float32), np.float32([0.10009765625, 3]))


def module(of, parameters=b"}", modules=b"}", buffers=b"}", passing=b"]"):
  """Operations that push a module as torch pickles one."""
  state = {"training": b"\x88", "_parameters": parameters, "_buffers": buffers, "_modules": modules}
  state["_non_persistent_buffers_set"] = passing
  pairs = b"".join(plain(key) + ops for key, ops in state.items())
  return name(*of.rsplit(".", 1)) + b")\x81}(" + pairs + b"ub"


def test_a_whole_module_has_the_names_of_its_state_dict(tmp_path):
  inner = module(
    "torch.nn.modules.linear.Linear",
    mapping({"weight": tensor(), "bias": b"N"}),
    buffers=mapping({"mean": tensor(), "scratch": tensor()}),
    passing=name("__builtin__", "set") + b"](" + plain("scratch") + b"e\x85R",
  )
  whole = module("dall_e.encoder.Encoder", mapping({"w": tensor()}), mapping({"blocks": inner}))
  found = arrays(tmp_path, as_zip(program(whole), {"0": numbers().tobytes()}))
  assert list(found) == ["w", "blocks.weight", "blocks.mean"]


def test_of_torchscript_the_attributes_that_are_tensors_are_named(tmp_path):
  inner = (
    name("__torch__.clip.Mlp", "Mlp") + b")\x81}(" + plain("weight") + tensor() + plain("width") + plain(3) + b"ub"
  )
  whole = name("__torch__", "Clip") + b")\x81}(" + plain("scale") + tensor() + plain("mlp") + inner + b"ub"
  code = [("archive/code/__torch__.py", b"import os\nos.system('touch marker')\n")]
  data = as_zip(program(whole), {"0": numbers().tobytes()}, extra=code, compress=("archive/code/__torch__.py",))
  assert list(arrays(tmp_path, data)) == ["scale", "mlp.weight"]


@pytest.mark.parametrize("nest", ["state_dict", "model", "module"])
def test_a_checkpoint_s_weights_are_found_beside_other_things(tmp_path, nest):
  beside = {"epoch": plain(3), "optimizer": mapping({"momentum": tensor()}), nest: mapping({"module.w": tensor()})}
  assert list(arrays(tmp_path, as_zip(program(mapping(beside)), {"0": numbers().tobytes()}))) == ["w"]


BESIDE = {
  "counts": collections.defaultdict(int, {"a": 1}),
  "types": [int, str, bool, bytes, range, object, complex],
  "places": {(0, 1): "a tuple", frozenset({2}): "a set", 3: "a number"},
  "began": datetime.datetime(2021, 1, 5, tzinfo=datetime.UTC),
  "took": datetime.timedelta(hours=3),
  "last": collections.deque([1.0, 2.0], maxlen=5),
  "rows": range(3),
  "raw": bytearray(b"abc"),
  "options": argparse.Namespace(lr=complex(1, 2)),
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("what", BESIDE)
def test_what_trainers_keep_beside_weights_is_passed_over(tmp_path, what, protocol):
  # In Python 3's protocol 2, torch.save's, int is __builtin__.long and str __builtin__.unicode.
  beside = pickletools.optimize(pickle.dumps(BESIDE[what], protocol=protocol))[2:-1]
  data = program(mapping({"hyper_parameters": beside, "state_dict": mapping({"w": tensor()})}))
  assert list(arrays(tmp_path, as_zip(data, {"0": numbers().tobytes()}))) == ["w"]


def test_a_class_in_an_older_file_is_named_by_a_persistent_id_with_its_source(tmp_path):
  encoder = (
    b"(" + plain("module") + name("dall_e.encoder", "Encoder") + plain("encoder.py") + plain("import os") + b"tQ"
  )
  whole = encoder + b")\x81}(" + plain("_modules") + b"}" + plain("_parameters") + mapping({"w": tensor()}) + b"ub"
  assert list(arrays(tmp_path, as_legacy(program(whole), {"0": numbers()}))) == ["w"]


EVIL = b"cos\nsystem\n(Vtouch marker\ntR"


@pytest.mark.parametrize(
  "data",
  [
    program(EVIL),
    b"cos\nsystem\n(Vtouch marker\ntR.",
    as_zip(program(EVIL), {}),
    as_zip(program(mapping({"w": tensor(), "x": EVIL})), {"0": numbers().tobytes()}),
    as_legacy(program(mapping({"w": tensor(), "x": EVIL})), {"0": numbers()}),
    as_zip(program(mapping({"w": tensor(b"(" + plain("storage") + EVIL + b"tQ")})), {}),
  ],
  ids=["pickle", "text", "zip", "inside", "legacy", "persistent"],
)
def test_a_malicious_file_is_refused_and_nothing_is_run(tmp_path, monkeypatch, data):
  monkeypatch.chdir(tmp_path)
  line = refused(tmp_path, data)
  assert "its pickle asks for os.system, which weights do not need: nothing of it was run" in line


NO_SIZE = "offset, shape or strides are no sizes"
OUTSIDE = "reaches outside its storage of 6 numbers"


@pytest.mark.parametrize(
  ("operations", "words"),
  [
    (tensor(offset=1), OUTSIDE),
    (tensor(shape=(2, 4)), OUTSIDE),
    (tensor(strides=(4, 1)), OUTSIDE),
    (tensor(offset=7, shape=(0,), strides=(1,)), OUTSIDE),
    (tensor(shape=(1000000, 1000000), strides=(0, 0)), OUTSIDE),
    (tensor(shape=(2**61, 1), strides=(0, 0)), OUTSIDE),
    (tensor(offset=-1), NO_SIZE),
    (tensor(strides=(-3, 1)), NO_SIZE),
    (tensor(shape=(2**70, 1)), NO_SIZE),
    (tensor(shape=(2.0, 3)), NO_SIZE),
    (tensor(shape=(True, 3)), NO_SIZE),
    (tensor(shape=(2, 3, 1)), "a tensor of no shape"),
    (tensor(shape=5, strides=5), "a tensor of no shape"),
    (tensor(plain("0")), "a tensor without a storage"),
    (tensor(storage(numel=-6)), "a storage of no size"),
    (tensor(storage(numel="6")), "a storage of no size"),
    (tensor(storage(key="../0")), "key is not a number or a word"),
    (tensor(storage(key=0)), "key is not a number or a word"),
    (tensor(storage(tag="other")), "persistent id that is not torch's"),
    (plain(7) + b"Q", "persistent id that is not torch's"),
    (tensor(storage(kind="QInt8")), "asks for torch.QInt8Storage"),
    (tensor(storage(numel=2**40)), "storage 0 has 24 bytes, 1,099,511,627,776 float32 are wanted"),
    (tensor(storage(key="9")), "storage 9 is not there, 6 float32 are wanted"),
    (name("torch._utils", "_rebuild_tensor_v2") + b")R", "is given what it does not take"),
  ],
)
def test_sizes_that_can_not_be_are_refused(tmp_path, operations, words):
  assert words in refused(tmp_path, as_zip(program(mapping({"w": operations})), {"0": numbers().tobytes()}))


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (as_zip(WHOLE, {}, root="../up"), "as torch never writes"),
    (as_zip(WHOLE, {}, extra=[("archive/../../etc/passwd", b"x")]), "as torch never writes"),
    (as_zip(WHOLE, {}, extra=[("/etc/passwd", b"x")]), "as torch never writes"),
    (as_zip(WHOLE, {}, extra=[("other/data.pkl", WHOLE)]), "not one that torch.save wrote"),
    (as_zip(WHOLE, {"0": bytes(1 << 20)}, compress=("archive/data/0",)), "compressed or overlapping"),
    (as_zip(WHOLE + bytes(1 << 20), {}, compress=("archive/data.pkl",)), "compressed or overlapping"),
    (as_zip(program(mapping({})), {}), "holds no weights"),
    (as_zip(program(plain([1, 2])), {}), "holds no weights"),
    (as_zip(program(storage(kind="Float") + storage(kind="Half") + b"\x86"), {}), "two storages with the key 0"),
    (as_zip(WHOLE, {}).replace(b"little", b"bigger"), "is damaged"),
    (as_legacy(WHOLE, STORAGES, little=False), "big-endian"),
    (as_legacy(WHOLE, STORAGES, keys=["0"]), "its list of storages"),
    (as_legacy(WHOLE, STORAGES, keys=["0", ["1"]]), "its list of storages"),
    (as_legacy(WHOLE, {"0": numbers(5), "1": numbers(2)}), "damaged or cut off at storage 0"),
    (program(plain({"a": 1})), "not one that torch.save wrote"),
    (b"", "is empty"),
    (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    (b"\n<!doctype html><html>", "is a web page"),
    (b"GIF89a" + bytes(100), "its pickle is damaged or cut off"),
  ],
)
def test_a_file_of_another_kind_is_told(tmp_path, data, words):
  assert words in refused(tmp_path, data)


@pytest.mark.filterwarnings("ignore:Duplicate name")  # what zipfile says as the file is made
def test_two_files_of_one_name_are_refused(tmp_path):
  assert "two files of one name" in refused(tmp_path, as_zip(WHOLE, {}, extra=[("archive/data.pkl", WHOLE)]))


def test_a_storage_that_says_it_is_longer_than_the_file_is_refused(tmp_path):
  data = ZIPPED
  with zipfile.ZipFile(tmp_path / "x", "w"):
    pass
  (tmp_path / "x").unlink()
  at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x05\x06"))
  longer = data[: at + 20] + (1 << 30).to_bytes(4, "little") * 2 + data[at + 28 :]
  assert "compressed or overlapping" in refused(tmp_path, longer)


@pytest.mark.parametrize("data", [ZIPPED, as_legacy(WHOLE, STORAGES)], ids=["zip", "legacy"])
def test_a_file_cut_off_anywhere_is_one_line(tmp_path, data):
  for end in range(len(data)):
    line = refused(tmp_path, data[:end])
    assert any(word in line for word in ("damaged", "empty", "wrote")), line


@pytest.mark.parametrize(
  "data", [ZIPPED, pytest.param(as_legacy(WHOLE, STORAGES), marks=pytest.mark.slow)], ids=["zip", "legacy"]
)
def test_a_flipped_bit_anywhere_is_one_line_or_arrays_of_the_same_sizes(tmp_path, data):
  """A legacy file has no checksum, and a flipped bit in a name is a name; whatever it is, nothing else is raised."""
  rng, told = np.random.default_rng(0), 0
  for at in range(len(data)):
    spoilt = bytearray(data)
    spoilt[at] ^= 1 << rng.integers(8)
    try:
      found = arrays(tmp_path, bytes(spoilt))
    except UserError:
      told += 1
    else:
      assert sum(array.size for array in found.values()) <= 8
  assert told > len(data) / 4


def test_things_inside_one_another_without_end_are_told(tmp_path):
  levels = b"}" + b"".join(b"q%c}(U\x01ah%cU\x01bh%cu" % (i, i, i) for i in range(10, 50))
  line = refused(tmp_path, as_zip(program(levels), {}))
  assert "more than 200,000 things inside one another" in line


def test_a_dict_that_holds_itself_is_told(tmp_path):
  data = b"}q\x01(" + plain("state_dict") + b"h\x01u"
  assert "holds no weights" in refused(tmp_path, as_zip(program(data), {}))
