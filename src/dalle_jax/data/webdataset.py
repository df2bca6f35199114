"""WebDataset shards as a source of `dalle data prepare`: .tar files, read with the standard library.

Members that share a name up to the first dot are one example: 000.jpg with 000.txt (its caption) or 000.json (its
`caption`, or several `captions`). One example in twenty is held out, as `valid`.
"""

import dataclasses
import glob
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from dalle_jax.data import splitting
from dalle_jax.data.checks import suffixes
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError

DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebDataset:
  """The examples of some shards; what a damaged shard still holds is kept, and the damage is told."""

  shards: tuple[Path, ...]
  held_out: splitting.Threshold

  @property
  def name(self) -> str:
    return self.shards[0].name.split(".")[0]

  @property
  def splits(self) -> tuple[str, ...]:
    return self.held_out.splits

  def count(self, split: str) -> int:
    return self.held_out.count(split)

  def examples(self, split: str) -> Iterator[Raw | Dropped]:
    for name, shard in zip(_names(self.shards), self.shards):
      for key, members in _groups(shard, name):
        if isinstance(members, str):
          if split == "train":
            yield Dropped(key=key, reason="damaged shard", detail=members)
        elif self.held_out.split(key) == split:
          yield _example(key, members)


def open_tars(words: Sequence[str]) -> WebDataset:
  """The shards that the words name: paths, or patterns with * and ?. Raises UserError when a word names no file."""
  shards: list[Path] = []
  for word in words:
    found = sorted(glob.glob(word)) if any(c in word for c in "*?[") else [word]
    files = [Path(name) for name in found if Path(name).is_file()]
    if not files:
      hint = "; braces are for the shell: leave them unquoted" if "{" in word else ""
      raise UserError(f"no file matches {word}: wanted WebDataset .tar files{hint}")
    shards += files
  shards = list(dict.fromkeys(shards))
  keys = (
    key
    for name, shard in zip(_names(shards), shards)
    for key, members in _groups(shard, name)
    if not isinstance(members, str)
  )
  return WebDataset(shards=tuple(shards), held_out=splitting.threshold(keys))


def _names(shards: Sequence[Path]) -> list[str]:
  """What the shards are called in keys: their files' names where these differ."""
  short = [shard.name for shard in shards]
  return short if len(set(short)) == len(short) else [shard.as_posix() for shard in shards]


@dataclasses.dataclass(frozen=True)
class Members:
  """The members of one example in an open shard, by suffix."""

  tar: tarfile.TarFile
  by_suffix: dict[str, tarfile.TarInfo]

  def read(self, suffix: str) -> bytes:
    file = self.tar.extractfile(self.by_suffix[suffix])
    if file is None:
      return b""
    content = file.read()
    if len(content) < self.by_suffix[suffix].size:
      raise tarfile.ReadError("unexpected end of data")
    return content


def _groups(shard: Path, name: str) -> Iterator[tuple[str, Members | str]]:
  """Each example's key and members, in the shard's order; then, for a damaged shard, its name and what is wrong."""
  try:
    tar = tarfile.open(shard)  # noqa: SIM115 (the block below closes it)
  except DAMAGE as error:
    yield name, " ".join(str(error).split())[:120]
    return
  with tar:
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    wrong = ""
    try:
      for member in tar:
        file = PurePosixPath(member.name)
        if member.isfile() and not file.name.startswith("."):
          stem, _, suffix = file.name.partition(".")
          groups.setdefault((file.parent / stem).as_posix(), {})[f".{suffix.lower()}"] = member
      wrong = _rest(tar)
    except DAMAGE as error:
      wrong = " ".join(str(error).split())[:120]
    for key, by_suffix in groups.items():
      yield f"{name}/{key}", Members(tar, by_suffix)
    if wrong:
      yield name, wrong


def _rest(tar: tarfile.TarFile) -> str:
  """What is wrong with where the members end: tarfile takes a header it can't read for the end of the file."""
  tar.fileobj.seek(tar.offset)
  block = tar.fileobj.read(tarfile.BLOCKSIZE)
  return "a member's header can't be read" if block.strip(b"\0") else ""


def _example(key: str, members: Members) -> Raw | Dropped:
  picture = next((suffix for suffix in members.by_suffix if suffix in suffixes()), None)
  try:
    captions = _captions(members)
    if picture is None:
      return Dropped(key=key, reason="caption without picture" if captions else "neither picture nor caption")
    return Raw(key=key, image=members.read(picture), captions=captions)
  except UnicodeDecodeError:
    return Dropped(key=key, reason="caption file is not UTF-8")
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    return Dropped(key=key, reason="unreadable caption file", detail=" ".join(str(error).split())[:120])
  except DAMAGE as error:
    return Dropped(key=key, reason="damaged shard", detail=" ".join(str(error).split())[:120])


def _captions(members: Members) -> tuple[str, ...]:
  texts: list[str] = []
  if ".txt" in members.by_suffix:
    texts.append(members.read(".txt").decode("utf-8-sig"))
  if ".json" in members.by_suffix:
    row = json.loads(members.read(".json").decode("utf-8-sig"))
    if not isinstance(row, dict):
      raise TypeError("the JSON is no object")
    several, one = row.get("captions") or [], row.get("caption")
    if not isinstance(several, list) or not all(isinstance(text, str) for text in [*several, one or ""]):
      raise TypeError("a caption is no text")
    texts += several or ([one] if one else [])
  return tuple(dict.fromkeys(texts))
