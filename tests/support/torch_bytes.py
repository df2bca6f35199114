"""Bytes of the files that torch writes, put together without torch, so that each part of them can be made wrong."""

import io
import pickle
import struct
import zipfile

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
KINDS = {"f4": "Float", "f2": "Half", "i8": "Long", "u1": "Byte"}


def plain(value):
  """Operations that push a plain value."""
  return pickle.dumps(value, 2)[2:-1]


def name(module, called):
  return f"c{module}\n{called}\n".encode()


def storage(key="0", numel=6, kind="Float", tag="storage", place="cpu"):
  """Operations that push what a persistent id stands for."""
  return b"(" + plain(tag) + name("torch", f"{kind}Storage") + plain(key) + plain(place) + plain(numel) + b"tQ"


def tensor(own=None, offset=0, shape=(2, 3), strides=(3, 1)):
  """Operations that push a tensor."""
  hooks = name("collections", "OrderedDict") + b")R"
  own = storage() if own is None else own
  call = b"(" + own + plain(offset) + plain(shape) + plain(strides) + b"\x89" + hooks + b"tR"
  return name("torch._utils", "_rebuild_tensor_v2") + call


def mapping(items):
  """Operations that push a state dict: names to operations."""
  pairs = b"".join(plain(key) + ops for key, ops in items.items())
  return name("collections", "OrderedDict") + b")R(" + pairs + b"u"


def program(operations):
  return b"\x80\x02" + operations + b"."


def as_zip(data, storages, root="archive", extra=(), compress=()):
  """A file of the newer format: the pickle's bytes, and the storages' by key."""
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as archive:
    files = {f"{root}/data.pkl": data, f"{root}/byteorder": b"little"}
    files |= {f"{root}/data/{key}": own for key, own in storages.items()}
    for path, own in [*files.items(), *extra]:
      how = zipfile.ZIP_DEFLATED if path in compress else zipfile.ZIP_STORED
      archive.writestr(path, own, how)
  return out.getvalue()


def as_legacy(data, storages, keys=None, little=True):
  """A file of the older format: storages are arrays by key."""
  machine = {"protocol_version": VERSION, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
  begin = b"".join(pickle.dumps(value, 2) for value in (MAGIC, VERSION, machine))
  listed = pickle.dumps(list(storages) if keys is None else keys, 2)
  own = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
  return begin + data + listed + own


def numbers(count=6):
  return np.arange(1, count + 1, dtype="<f4")
