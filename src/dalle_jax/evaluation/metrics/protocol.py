"""How a figure was made: everything that must be the same for two figures to be compared.

A protocol is a JSON object of named facts. Some of them say what was measured, the subject: of two figures that are
compared, these are expected to differ. All others have to be equal.
"""

import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax.errors import UserError

# What is compared, and what it ran on; its results differ by rounding alone.
SUBJECT = ("experiment", "checkpoints", "versions", "commit", "device")


def identity(about: Mapping[str, Any]) -> str:
  """The first 16 digits of the SHA-256 of the facts, in whatever order they are told."""
  return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def surroundings() -> dict[str, Any]:
  """Versions of what computes, and the commit where the program is a checkout of its repository."""
  packages = ("jax", "jaxlib", "flax", "numpy", "pillow")
  versions = {name: importlib.metadata.version(name) for name in packages}
  return {
    "versions": {"dalle-jax": importlib.metadata.version("dalle-jax"), "python": platform.python_version(), **versions},
    "commit": commit(),
  }


@functools.cache
def commit() -> str:
  """The commit of the program's own repository, with `+` where tracked files have changed; "unknown" elsewhere."""
  root = Path(__file__).resolve().parents[4]
  if not (root / ".git").exists():
    return "unknown"
  try:
    told = [
      subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True).stdout
      for args in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
  except (OSError, subprocess.SubprocessError):
    return "unknown"
  return told[0].strip() + ("+" if told[1].strip() else "")


def unlike(
  a: Mapping[str, Any], b: Mapping[str, Any], *, across: Sequence[str] = (), subject: Sequence[str] = SUBJECT
) -> list[str]:
  """The facts in which two protocols differ, as `name: one / other`, the subject and those in `across` left out.

  A fact inside another is named with a dot, as in sampling.guidance; `across` may name either.
  """
  found = []
  for name in [*a, *(name for name in b if name not in a)]:
    if name in subject or name in across:
      continue
    found += _unlike(name, a.get(name), b.get(name), across)
  return found


def _unlike(name: str, a: Any, b: Any, across: Sequence[str]) -> list[str]:
  if name in across or a == b:
    return []
  if isinstance(a, Mapping) and isinstance(b, Mapping):
    inner = [*a, *(key for key in b if key not in a)]
    return [line for key in inner for line in _unlike(f"{name}.{key}", a.get(key), b.get(key), across)]
  return [f"{name}: {_told(a)} / {_told(b)}"]


def check_across(across: Sequence[str], protocols: Sequence[Mapping[str, Any]]) -> None:
  """Raises UserError for a fact that is to be passed over and that no protocol has."""
  known = {name for each in protocols for name in _names(each)}
  for name in across:
    if name not in known:
      raise UserError(f"got --across {name}, and no protocol of these has it; they have {', '.join(sorted(known))}")


def _names(about: Mapping[str, Any], before: str = "") -> list[str]:
  found = []
  for name, value in about.items():
    found.append(f"{before}{name}")
    if isinstance(value, Mapping):
      found += _names(value, f"{before}{name}.")
  return found


def _told(value: Any) -> str:
  return "not said" if value is None else json.dumps(value) if isinstance(value, list | dict) else str(value)
