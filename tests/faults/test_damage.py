"""Random damage to checkpoints, prepared pictures and codes: none is taken for what was written."""

import hashlib
import logging
import os
import random
import re
import shutil

import jax
import numpy as np
import pytest
import toy_run
import unseen

from dalle_jax import cli, sharding
from dalle_jax.data import codes, intact
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import StorageError, UserError
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.loop import train
from dalle_jax.training.step import abstract_state

SEED = 0
NEWEST, BEFORE = 12, 8


def files(root):
  """Those that are read: not links, not empty ones, and not what only `dalle data inspect` tells of."""
  found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
  return sorted(path for path in found if path.stat().st_size and path.name not in intact.LEFT_OUT)


def bit(root, rng):
  """One bit of one file."""
  file = rng.choice(files(root))
  data = bytearray(file.read_bytes())
  data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  file.write_bytes(data)


def cut(root, rng):
  """The end of one file, from anywhere on."""
  file = rng.choice(files(root))
  os.truncate(file, rng.randrange(file.stat().st_size))


def gone(root, rng):
  """One file."""
  rng.choice(files(root)).unlink()


def no_metadata(root, rng):
  """One of the files that describe the others."""
  named = ("manifest.json", "_METADATA", "_sharding", "features.json", "dataset_info.json", "codes.json")
  rng.choice([file for file in files(root) if file.name in named]).unlink()


def noise(root, rng):
  """Random bytes in a piece of one file."""
  file = rng.choice(files(root))
  data = bytearray(file.read_bytes())
  begin = rng.randrange(len(data))
  piece = data[begin : begin + rng.randint(8, 4096)]
  data[begin : begin + len(piece)] = bytes(255 - byte for byte in piece)
  file.write_bytes(data)


DRAWN = (bit, cut, gone, no_metadata, noise)


def damages(theirs, count):
  """So many damages, each with a name: those of someone who has not read what handles them, and drawn ones."""
  rng = random.Random(SEED)
  found = [(name, damage) for name, damage in theirs.items()]
  found += [(damage.__name__, damage) for damage in rng.choices(DRAWN, k=count - len(found))]
  return [(name, damage, rng.randrange(1 << 30)) for name, damage in found]


def fingerprint(root):
  """Of the names and bytes of all files, links and directories."""
  sha = hashlib.sha256()
  for path in sorted(root.rglob("*")):
    sha.update(f"{path.relative_to(root)} {path.is_symlink()} {path.is_dir()}\n".encode())
    if path.is_file():
      sha.update(path.read_bytes())
  return sha.hexdigest()


def damaged(whole, place, damage, seed, inside="."):
  """A copy with the damage, which first is shown to change it."""
  shutil.rmtree(place, ignore_errors=True)
  shutil.copytree(whole, place)
  before = fingerprint(place)
  damage(place / inside, random.Random(seed))
  assert fingerprint(place) != before
  return place


def one_line(text):
  return "\n" not in text and len(text) < 400


def test_a_damaged_checkpoint_is_never_read(tmp_path, figure, goal, caplog):
  whole = tmp_path / "whole"
  train(**toy_run.options("denoise", whole), steps=NEWEST)
  objective, mesh = toy_run.Denoise(), sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1])
  like = abstract_state(objective, toy_run.options("denoise", whole)["optimizer"], mesh=mesh, rules=sharding.Rules())
  assert Checkpoints(whole / "checkpoints").restore(like)[1] == NEWEST
  drawn = damages(unseen.CHECKPOINT_DAMAGES, goal(100, 500))
  for name, damage, seed in drawn:
    place = damaged(whole, tmp_path / "damaged", damage, seed, f"checkpoints/{NEWEST}")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      state, step = Checkpoints(place / "checkpoints").restore(like)
    assert step == BEFORE == int(state.step), name
    (warning,) = caplog.messages
    assert f"checkpoint {NEWEST} is not good (" in warning
    assert one_line(warning), name
    assert cli.main(["checkpoint", "verify", str(place / "checkpoints")]) == 88, name
  figure("damaged checkpoints taken for good ones", f"0 of {len(drawn)}", [SEED])


def corners(images_BHWC):
  """Codes of 2x2 made of the pictures' corners, where a dVAE stands."""
  return (images_BHWC[:, ::15, ::15, 0] // 16).astype(np.int64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """Splits of one size, which can be exchanged."""
  place = tmp_path_factory.mktemp("data") / "pictures"
  prepare(Scenes(Config(image=16, train=24, valid=24, test=24, test_pairs=24)), place, shards=2)
  return place


@pytest.fixture(scope="module")
def encoded(pictures, tmp_path_factory):
  place = tmp_path_factory.mktemp("data") / "codes"
  prepared = open_prepared(pictures)
  stamp = codes.stamp(prepared, dvae="d" * 64, vocab=16, grid=2, size=16, crops=1, seed=0)
  codes.encode(prepared, place, stamp, corners)
  return place


@pytest.mark.parametrize("kind", ["pictures", "codes"])
def test_a_damaged_data_set_is_never_read(pictures, encoded, tmp_path, figure, goal, capsys, kind):
  whole, opened = {"pictures": (pictures, open_prepared), "codes": (encoded, codes.open_codes)}[kind]
  opened(whole)
  drawn, counted = damages(unseen.DATA_DAMAGES, goal(60, 260)), 0
  for name, damage, seed in drawn:
    try:
      place = damaged(whole, tmp_path / "damaged", damage, seed)
    except (AssertionError, IndexError):
      if name in unseen.DATA_DAMAGES and kind == "codes":
        continue  # it looks for what codes have not
      raise
    if {f.name for f in files(whole)} - {f.name for f in files(place)} == {"manifest.json"}:
      continue  # all that is read is intact, and a warning says that this is not known
    counted += 1
    with pytest.raises((StorageError, UserError)) as info:
      opened(place)
    assert one_line(str(info.value)), name
    if kind == "pictures":
      assert cli.main(["data", "inspect", str(place)]) in (2, 88), name
      said = capsys.readouterr().err
      assert re.fullmatch(r"dalle: .*\n", said), (name, said)
  assert counted >= 0.8 * len(drawn)
  figure(f"damaged {kind} taken for good ones", f"0 of {counted}", [SEED])
