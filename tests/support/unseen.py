"""Damages and mistakes by someone who has not read what handles them."""

import hashlib
import itertools
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

PAGE, BLOCK = 4096, 65536


# What is to be damaged, found by size and content rather than by name.


def _files(root: Path) -> list[Path]:
  """Regular files, the largest first."""
  found = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
  return sorted(found, key=lambda path: (-path.stat().st_size, path.relative_to(root).as_posix()))


def _large(root: Path, rng: random.Random) -> Path:
  """One of the files that are not much smaller than the largest: those hold arrays."""
  files = _files(root)
  least = files[0].stat().st_size / 4
  return rng.choice([path for path in files if path.stat().st_size >= least])


def _jsons(root: Path) -> list[Path]:
  """Files that are one JSON object or array, whatever they are called."""
  found = []
  for path in _files(root):
    if path.read_bytes()[:1] in (b"{", b"["):
      try:
        json.loads(path.read_bytes())
      except ValueError:
        continue
      found.append(path)
  return found


def _shards(root: Path) -> list[Path]:
  """Binary files, that with the most in it first: shards of very different splits may be padded to equal sizes."""
  found = [path for path in _files(root) if b"\0" in path.read_bytes()]
  return sorted(found, key=lambda path: (-_content(path), path.name))


def _content(path: Path) -> int:
  """How many bytes are not padding."""
  return int(np.count_nonzero(np.frombuffer(path.read_bytes(), np.uint8)))


def _split(path: Path) -> str:
  """What the shards of one split have in common."""
  return re.sub(r"\d+", "", path.name)


def _shard_list(root: Path) -> Path:
  """The metadata that says which shards there are."""
  return max(_jsons(root), key=lambda path: (path.read_bytes().lower().count(b"shard"), path.name))


# How it is damaged.


def _write(path: Path, data: bytes) -> None:
  """Other bytes under the same name and with the same times; other names of the old file keep what they had."""
  if data == path.read_bytes():
    raise ValueError(f"{path} would be what it was")
  stat = path.stat()
  path.unlink()
  path.write_bytes(data)
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _exchange(one: Path, other: Path) -> None:
  aside = one.with_name(f"{one.name}.aside")
  one.rename(aside)
  other.rename(one)
  aside.rename(other)


def _flip(path: Path, rng: random.Random) -> None:
  """Turns one bit of a byte that is not padding, somewhere in the middle half."""
  data = bytearray(path.read_bytes())
  used = np.flatnonzero(np.frombuffer(bytes(data), np.uint8))
  at = int(used[rng.randrange(len(used) // 4, max(len(used) // 4 + 1, 3 * len(used) // 4))])
  data[at] ^= 1 << rng.randrange(8)
  _write(path, bytes(data))


def _as_text(path: Path) -> None:
  """What a transfer in ASCII mode, or a checkout with autocrlf, makes of a binary file."""
  _write(path, path.read_bytes().replace(b"\n", b"\r\n"))


# A saved step.


def one_bit(step: Path, rng: random.Random) -> None:
  """The largest file has one bit turned; its length and times are as they were."""
  _flip(_files(step)[0], rng)


def last_byte_lost(step: Path, rng: random.Random) -> None:
  """An array's file is one byte short."""
  path = _large(step, rng)
  os.truncate(path, path.stat().st_size - 1)


def arrays_as_text(step: Path, rng: random.Random) -> None:
  """An array's file was copied as if it were text: every line feed has a carriage return before it."""
  _as_text(_large(step, rng))


def most_alike_folders_exchanged(step: Path, rng: random.Random) -> None:
  """Two folders trade names, such as the parameters' and the moving average's: each is whole in itself."""
  del rng
  folders = sorted(path for path in step.iterdir() if path.is_dir())
  listed = {
    folder: {(path.relative_to(folder).as_posix(), path.stat().st_size) for path in _files(folder)}
    for folder in folders
  }
  one, other = max(itertools.combinations(folders, 2), key=lambda pair: len(listed[pair[0]] & listed[pair[1]]))
  if listed[one] == listed[other]:
    raise ValueError(f"{one} and {other} may be the same")
  _exchange(one, other)


def two_array_files_exchanged(step: Path, rng: random.Random) -> None:
  """The two largest files of one folder trade names."""
  path = _large(step, rng)
  if not [other for other in _files(path.parent) if other != path]:
    path = _files(step)[0]
  other = next(other for other in _files(path.parent) if other != path and other.read_bytes() != path.read_bytes())
  _exchange(path, other)


def folder_in_itself(step: Path, rng: random.Random) -> None:
  """Somebody copied 4 to 4 and got 4/4: all is there, one level too deep."""
  del rng
  aside = step.with_name(f"{step.name}.aside")
  step.rename(aside)
  step.mkdir()
  aside.rename(step / step.name)


def number_in_metadata(step: Path, rng: random.Random) -> None:
  """A number of two digits or more has another first digit, in the JSON file that says the most by numbers."""
  path = max(_jsons(step), key=lambda path: len(set(re.findall(rb'"(\w+)":\s*\d', path.read_bytes()))))
  data = bytearray(path.read_bytes())
  at = rng.choice([match.start(1) for match in re.finditer(rb'":\s*([1-9])\d+\b', bytes(data))])
  data[at] = ord("1") + (data[at] - ord("1") + rng.randrange(1, 9)) % 9
  _write(path, bytes(data))


def link_to_itself(step: Path, rng: random.Random) -> None:
  """An array's file is a symbolic link that leads to itself."""
  path = _large(step, rng)
  path.unlink()
  path.symlink_to(path.name)


def checksum_made_to_fit(step: Path, rng: random.Random) -> None:
  """A bit of an array's file is turned, and wherever its SHA-256 stood, the new one stands."""
  path = _large(step, rng)
  before = hashlib.sha256(path.read_bytes()).hexdigest().encode()
  _flip(path, rng)
  after = hashlib.sha256(path.read_bytes()).hexdigest().encode()
  for listing in _jsons(step):
    if before in listing.read_bytes():
      _write(listing, listing.read_bytes().replace(before, after))


def checksums_emptied(step: Path, rng: random.Random) -> None:
  """The file with the most checksums is an empty JSON object, with blanks up to the length it had."""
  del rng
  path = max(_jsons(step), key=lambda path: len(re.findall(rb"\b[0-9a-f]{32,}\b", path.read_bytes())))
  _write(path, b"{}".ljust(path.stat().st_size))


CHECKPOINT_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
  damage.__name__: damage
  for damage in (
    one_bit,
    last_byte_lost,
    arrays_as_text,
    most_alike_folders_exchanged,
    two_array_files_exchanged,
    folder_in_itself,
    number_in_metadata,
    link_to_itself,
    checksum_made_to_fit,
    checksums_emptied,
  )
}


# A prepared data set.


def one_bit_of_a_record(data: Path, rng: random.Random) -> None:
  """The fullest shard has one bit turned where it is not padding; its length and times are as they were."""
  _flip(_shards(data)[0], rng)


def page_of_zeros(data: Path, rng: random.Random) -> None:
  """The fullest shard has zeros in a page that was full, as after a power cut."""
  path = _shards(data)[0]
  found = bytearray(path.read_bytes())
  pages = range(0, len(found), PAGE)
  full = [at for at in pages if found[at : at + PAGE].count(0) < PAGE // 2]
  at = rng.choice(full or [at for at in pages if any(found[at : at + PAGE])])
  found[at : at + PAGE] = bytes(len(found[at : at + PAGE]))
  _write(path, bytes(found))


def last_block_lost(data: Path, rng: random.Random) -> None:
  """The fullest shard ends a block of 64 KiB too early: its records may all be there, but not their index."""
  del rng
  path = _shards(data)[0]
  size = path.stat().st_size
  os.truncate(path, size - BLOCK if size > BLOCK else size // 2)


def shard_as_text(data: Path, rng: random.Random) -> None:
  """The fullest shard was copied as if it were text."""
  del rng
  _as_text(_shards(data)[0])


def training_exchanged(data: Path, rng: random.Random) -> None:
  """The fullest shard and the next fullest one of another split trade names: each is whole in itself."""
  del rng
  shards = _shards(data)
  _exchange(shards[0], next(path for path in shards if _split(path) != _split(shards[0])))


def held_out_exchanged(data: Path, rng: random.Random) -> None:
  """Of the other splits the two shards that are most alike in size trade names."""
  del rng
  shards = _shards(data)
  pairs = itertools.combinations([path for path in shards if _split(path) != _split(shards[0])], 2)
  apart = [pair for pair in pairs if _split(pair[0]) != _split(pair[1])]
  _exchange(*min(apart, key=lambda pair: abs(_content(pair[0]) - _content(pair[1]))))


def one_example_more_or_less(data: Path, rng: random.Random) -> None:
  """The metadata count one example more, or one less, in the longest shard; they keep their length."""
  path = _shard_list(data)
  text = path.read_bytes()
  counts = list(re.finditer(rb'shardLengths"\s*:\s*\[\s*"?(\d+)', text)) or list(re.finditer(rb'"?\b(\d+)\b', text))
  most = max(counts, key=lambda match: int(match[1]))
  near = [str(int(most[1]) + by).encode() for by in (-1, 1)]
  other = rng.choice([count for count in near if len(count) == len(most[1])])
  _write(path, text[: most.start(1)] + other + text[most.end(1) :])


def name_that_is_no_text(data: Path, rng: random.Random) -> None:
  """A letter of a name in the metadata is a byte that no UTF-8 has."""
  path = _shard_list(data)
  text = bytearray(path.read_bytes())
  at = rng.choice([match.start(1) for match in re.finditer(rb'"name"\s*:\s*"(\w)', bytes(text))])
  text[at] = 0xFF
  _write(path, bytes(text))


def metadata_of_nothing(data: Path, rng: random.Random) -> None:
  """The metadata are good JSON that says null, with blanks up to the length they had."""
  del rng
  path = _shard_list(data)
  _write(path, b"null".ljust(path.stat().st_size))


def folder_for_a_shard(data: Path, rng: random.Random) -> None:
  """Where the fullest shard was there is an empty folder of its name."""
  del rng
  path = _shards(data)[0]
  path.unlink()
  path.mkdir()


DATA_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
  damage.__name__: damage
  for damage in (
    one_bit_of_a_record,
    page_of_zeros,
    last_block_lost,
    shard_as_text,
    training_exchanged,
    held_out_exchanged,
    one_example_more_or_less,
    name_that_is_no_text,
    metadata_of_nothing,
    folder_for_a_shard,
  )
}


# At the command line. {workdir}: a finished run; {data}: its data; {experiment}: its file; {tmp}: an empty folder.


def _train(*flags: str, workdir: str = "{tmp}/run") -> list[str]:
  return ["train", "{experiment}", "--workdir", workdir, "--data", "{data}", *flags]


COMMANDS: list[tuple[str, list[str]]] = [
  ("a batch of 16 in three equal parts", _train("--stages.dvae.batch", "16", "--stages.dvae.accumulate", "3")),
  ("a probability of 1.5", _train("--tokenizer.dropout", "1.5")),
  (
    "the third of two processes",
    _train("--processes.coordinator", "127.0.0.1:47123", "--processes.count", "2", "--processes.index", "2"),
  ),
  ("a file for a workdir", _train(workdir="{data}/dataset_info.json")),
  ("another model in a finished workdir", _train("--stages.dvae.objective.model.hidden", "56", workdir="{workdir}")),
  (
    "a temperature that is no number",
    ["sample", "{workdir}", "a red square", "--num", "2", "--keep", "1", "--temperature", "nan", "--out", "{tmp}/out"],
  ),
  ("a split's name misspelt", ["eval", "{workdir}", "--data", "{data}", "--split", "tets"]),
  ("a file for the folder to export to", ["checkpoint", "export", "{workdir}", "--out", "{workdir}/experiment.json"]),
  ("what is prepared already in place of pictures", ["data", "prepare", "{data}", "--out", "{tmp}/again"]),
  ("a plan for no device at all", ["plan", "{experiment}", "--topology", "h200:0"]),
]
