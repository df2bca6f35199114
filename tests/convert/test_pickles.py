"""Pickles are read without being run: nothing is imported, nothing called, and what asks for it is refused by name."""

import collections
import io
import pickle
import pickletools
import subprocess

import pytest
import torch_bytes

from dalle_jax.convert import pickles
from dalle_jax.convert.pickles import Allowed, Name, Refused, Thing

PLAIN = Allowed(inert=("torch.nn",), values={"collections.OrderedDict": lambda *args: dict(*args)})


def refuse(pid):
  raise Refused("has a persistent id")


def read(data, allowed=PLAIN):
  return pickles.read(io.BytesIO(data), allowed, refuse)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_python_s_own_of_every_protocol(protocol):
  shared = ["one", b"two", 3.5, -7, 2**70, None, True]
  value = {"a": shared, "b": (shared, {}, []), 3: {"é\n": (1,), "x": (1, 2), "y": (1, 2, 3, 4)}, "text": "x" * 300}
  if protocol < 3:
    shared[1] = "two"  # bytes are a call of _codecs.encode there
  found = read(pickle.dumps(value, protocol))
  assert found == value
  assert found["a"] is found["b"][0]


@pytest.mark.parametrize("protocol", [4, 5])  # in which a set is an operation and no name
def test_keys_that_name_no_weights_are_kept_apart(protocol):
  found = read(pickle.dumps({(0, 1): "a", frozenset({2}): "b", "c": "d"}, protocol=protocol))
  assert sorted(found.values()) == ["a", "b", "d"]
  assert found["c"] == "d"


def test_ordered_dicts_are_dicts():
  assert read(pickle.dumps(collections.OrderedDict(a=1, b=2), 2)) == {"a": 1, "b": 2}


def test_objects_are_things_that_hold_what_they_were_given():
  program = torch_bytes.program(
    torch_bytes.name("torch.nn.modules.linear", "Linear") + b")\x81" + torch_bytes.plain({"weight": 1}) + b"b"
  )
  found = read(program)
  assert isinstance(found, Thing)
  assert (str(found.of), found.args, found.state) == ("torch.nn.modules.linear.Linear", (), {"weight": 1})


class Evil:
  """Pickled so that loading it runs a command of the shell."""

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return subprocess.check_call, (self.command,)


def touching(marker, how):
  """A pickle that makes a file when it is run by Python's own pickle."""
  if how == "reduce":
    return pickle.dumps({"weights": [1, Evil(["touch", str(marker)])]}, 4)
  call = f"V{marker}\n".encode()
  operations = {
    "global": b"cos\nmkdir\n(" + call + b"tR",
    "inst": b"(" + call + b"ios\nmkdir\n",
    "obj": b"(cos\nmkdir\n" + call + b"o",
    "stack": b"\x8c\x02os\x8c\x05mkdir\x93(" + call + b"tR",
    "eval": b"cbuiltins\neval\n(V__import__('os').mkdir(" + repr(str(marker)).encode() + b")\ntR",
    "nested": b"cbuiltins\ngetattr\n(cposix\n__dict__\nVmkdir\ntR",
    "build": b"ccopyreg\n_reconstructor\n)R}Vwhere\n" + call + b"sb",
  }
  return b"\x80\x04" + operations[how] + b"."


@pytest.mark.parametrize("how", ["reduce", "global", "inst", "obj", "stack", "eval"])
def test_a_malicious_pickle_is_refused_by_name_and_not_run(tmp_path, how):
  marker = tmp_path / "marker"
  data = touching(marker, how)
  with pytest.raises(
    Refused, match=r"asks for (subprocess.check_call|os.mkdir|builtins.eval), which weights do not need"
  ):
    read(data)
  assert not marker.exists()
  pickle.loads(data)  # run by Python's own, it does what it is there for
  assert marker.exists()


def test_a_call_of_a_call_is_refused_too(tmp_path):
  for how in ("nested", "build"):
    with pytest.raises(Refused, match=r"asks for (builtins.getattr|copyreg._reconstructor)"):
      read(touching(tmp_path / "marker", how))
  assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
  ("program", "words"),
  [
    (b"\x80\x02cos\nsystem\n.", "asks for os.system"),
    (b"\x80\x02ctorch.nnx\nf\n.", "asks for torch.nnx.f"),
    (b"\x80\x02ctorch\nload\n.", "asks for torch.load"),
    (b"\x80\x02X\x01\x00\x00\x00a)R.", "calls a str"),
    (b"\x80\x02}}\x81.", "calls a dict"),
    (b"\x80\x02ctorch.nn\nf\n)R)R.", "calls a Thing"),
    (b"\x80\x02\x82\x01.", "uses the operation EXT1"),
    (b"\x80\x05\x97.", "uses the operation NEXT_BUFFER"),
    (b"\x80\x02Pa\n.", "uses the operation PERSID"),
    (b"\x80\x02K\x01Q.", "has a persistent id"),
    (b"\x80\x02]}b.", "sets the attributes of a list"),
    (b"\x80\x02}]K\x01s.", "has a list as the key of a dict"),
    (b"\x80\x02Nr\xff\xff\xff\xff.", "remembers a value as number 4294967295"),
    (b"\x80\x04ctorch.nn\nf\n)}(X\x01\x00\x00\x00aK\x01u\x92.", "by named arguments"),
  ],
)
def test_what_data_does_not_need_is_refused(program, words):
  with pytest.raises(Refused, match=words):
    read(program)


@pytest.mark.parametrize(
  "program",
  [
    b"",
    b"\x80\x02",
    b"\x80\x02.",
    b"\x80\x020.",
    b"\x80\x02t.",
    b"\x80\x02(.",
    b"\x80\x02K\x01K\x02s.",
    b"\x80\x02]K\x01K\x02s.",
    b"\x80\x02}(K\x01u.",
    b"\x80\x02h\x07.",
    b"\x80\x02K\x01\x85K\x01a.",
    b"\x80\x04K\x01K\x02\x93.",
    b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
    b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.",
    b"\x80\x02(o.",
    b"\x80\x02X\xff\xff\xff\xffa.",
    b"hello, there",
  ],
)
def test_a_broken_pickle_is_told_as_broken(program):
  with pytest.raises(ValueError) as info:  # noqa: PT011  which words is Python's matter
    read(program)
  assert not isinstance(info.value, Refused)


def test_a_dict_of_dicts_that_grow_without_end_is_small_here():
  # Each level holds the one before it twice: as a tree, 2^60 leaves; here nothing is copied or compared.
  levels = b"}" + b"".join(b"q%c}(U\x01ah%cU\x01bh%cu" % (i, i, i) for i in range(60))
  assert set(read(b"\x80\x02" + levels + b".")) == {"a", "b"}


def test_one_long_list_given_again_and_again_is_refused():
  pairs = b"](" + b"X\x01\x00\x00\x00aK\x01\x86" * 10_000 + b"eq\x07"
  with pytest.raises(Refused, match="copies more than 20,000,000 things"):
    read(b"\x80\x02" + pairs + b"ccollections\nOrderedDict\nq\x08" + b"h\x08h\x07\x85R0" * 3_000 + b".")


def test_every_operation_is_known_or_left_out_with_a_reason():
  left_out = {"STOP", "PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
  assert {opcode.name for opcode in pickletools.opcodes} - pickles.OPERATIONS.keys() == left_out


def test_the_line_names_the_file_and_says_that_nothing_ran():
  refused = str(pickles.explain("weights.pt", Refused("asks for os.system, which weights do not need")))
  assert refused.startswith(
    "weights.pt: its pickle asks for os.system, which weights do not need: nothing of it was run"
  )
  assert "is damaged or cut off" in str(pickles.explain("weights.pt", ValueError("what\never")))
  assert str(Name("os", "system")) == "os.system"
