"""Pickles read without being run: a small machine of its own that imports nothing and calls nothing.

A pickle is a program. What it would import is a `Name` here, what it would call or build a `Thing` that holds what it
was given; both do nothing. Names that no file of weights needs are refused, wherever they stand in the file.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Collection, Mapping
from io import BufferedIOBase
from typing import Any

from dalle_jax.errors import UserError

MOST_OPCODES = 20_000_000
MOST_MEMO = 1 << 24
KEYS = (str, bytes, int, float, bool, type(None))


class Refused(ValueError):
  """What the pickle asks for is not given; the message says what, in the words of a half sentence."""


@dataclasses.dataclass(frozen=True)
class Name:
  """What a pickle would import: torch.nn.modules.linear.Linear. Nothing is behind it."""

  module: str
  name: str

  def __str__(self) -> str:
    return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False)
class Thing:
  """An object that a pickle would have made: its class's name, and what it would have been made of."""

  of: Name
  args: tuple = ()
  state: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
  """Names that a pickle may hold.

  inert: modules whose names may stand for things, with all below them; values: functions of ours that stand in for
  names that make plain values of their arguments; things that are neither are refused.
  """

  inert: Collection[str]
  values: Mapping[str, Callable[..., Any]]

  def holds(self, name: Name) -> bool:
    """Whether the name may be in a file of weights."""
    whole = str(name)
    return whole in self.values or any(whole == one or whole.startswith(f"{one}.") for one in self.inert)


def read(stream: BufferedIOBase, allowed: Allowed, persistent: Callable[[Any], Any]) -> Any:
  """The value of the pickle that the stream stands at, which it then stands behind.

  persistent: what a persistent id stands for. Raises Refused for a name that is not allowed and for an operation that
  data does not need; ValueError for what is no pickle, or ends early.
  """
  machine = _Machine(allowed, persistent)
  for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
    if count >= MOST_OPCODES:
      raise Refused(f"has more than {MOST_OPCODES:,} operations")
    if opcode.name == "STOP":
      return machine.pop()
    operation = OPERATIONS.get(opcode.name)
    if operation is None:
      raise Refused(f"uses the operation {opcode.name}, which data does not need")
    operation(machine, arg)
  raise ValueError("it has no end")


def explain(path: str, error: Exception) -> UserError:
  """The one line for a file whose pickle was refused or is broken."""
  if isinstance(error, Refused):
    return UserError(
      f"{path}: its pickle {error}: nothing of it was run, and nothing was written; do not trust the file"
    )
  said = " ".join(str(error).split())[:100]
  return UserError(f"{path}: its pickle is damaged or cut off ({said}): fetch the file again")


class Other:
  """A key of a dict that names no weights: a tuple, a thing."""


class _Mark:
  """Where a group of the stack's values begins."""


MARK = _Mark()


class _Machine:
  """The stack and the memory of one pickle."""

  def __init__(self, allowed: Allowed, persistent: Callable[[Any], Any]):
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}
    self.allowed, self.persistent = allowed, persistent
    self.given = 0  # things in the arguments of calls: the same long list can be given again and again

  def push(self, value: Any) -> None:
    self.stack.append(value)

  def pop(self) -> Any:
    value = self.top()
    self.stack.pop()
    return value

  def top(self) -> Any:
    if not self.stack or self.stack[-1] is MARK:
      raise ValueError("a value is wanted where there is none")
    return self.stack[-1]

  def group(self) -> list[Any]:
    """The values since the last mark, which go with it."""
    for at in range(len(self.stack) - 1, -1, -1):
      if self.stack[at] is MARK:
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values
    raise ValueError("a group ends that did not begin")

  def remember(self, index: int) -> None:
    if not 0 <= index < MOST_MEMO:
      raise Refused(f"remembers a value as number {index}")
    self.memo[index] = self.top()

  def recall(self, index: int) -> None:
    if index not in self.memo:
      raise ValueError(f"value {index} was never remembered")
    self.push(self.memo[index])

  def name(self, module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
      raise ValueError("a name is not text")
    found = Name(module, name)
    if not self.allowed.holds(found):
      raise Refused(f"asks for {_shown(str(found))}, which weights do not need")
    return found

  def made(self, of: Any, args: Any) -> Any:
    """What a call would have given: a plain value of ours, or a thing."""
    if not isinstance(of, Name):
      raise Refused(f"calls a {type(of).__name__}")
    if not isinstance(args, tuple):
      raise ValueError(f"{of} is given no tuple")
    make = self.allowed.values.get(str(of))
    if make is None:
      return Thing(of, args)
    self.given += sum(len(arg) for arg in args if isinstance(arg, list | tuple | dict))
    if self.given > MOST_OPCODES:
      raise Refused(f"copies more than {MOST_OPCODES:,} things")
    try:
      return make(*args)
    except TypeError as error:
      raise ValueError(f"{of} is given what it does not take") from error

  def set_items(self, pairs: list[Any]) -> None:
    into = self.top()
    if isinstance(into, Thing):  # a class of theirs that is a dict as well
      return
    if not isinstance(into, dict) or len(pairs) % 2:
      raise ValueError("items are set of what is no dict")
    into.update(zip(map(_key, pairs[::2]), pairs[1::2]))

  def append(self, values: list[Any]) -> None:
    into = self.top()
    if isinstance(into, Thing):
      return
    if not isinstance(into, list):
      raise ValueError("something is appended to what is no list")
    into.extend(values)

  def build(self, state: Any) -> None:
    thing = self.top()
    if isinstance(thing, Thing):
      thing.state = state
    elif not isinstance(thing, dict):  # an OrderedDict's attributes, such as a state dict's _metadata, tell us nothing
      raise Refused(f"sets the attributes of a {type(thing).__name__}")


def _key(value: Any) -> Any:
  """A dict's key: itself where it is plain; a tuple or a thing names no weights, so anything may stand for it."""
  if isinstance(value, tuple | Thing):
    return Other()
  if not isinstance(value, (*KEYS, Name)):
    raise Refused(f"has a {type(value).__name__} as the key of a dict")
  return value


def _shown(text: str) -> str:
  return "".join(c if c.isprintable() else "?" for c in text[:80])


def _literal(machine: _Machine, arg: Any) -> None:
  machine.push(arg)


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
  return lambda machine, _: machine.push(value)


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
  def operation(machine: _Machine, _: Any) -> None:
    machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

  return operation


def _global(machine: _Machine, arg: str) -> None:
  module, _, name = arg.partition(" ")
  machine.push(machine.name(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
  name, module = machine.pop(), machine.pop()
  machine.push(machine.name(module, name))


def _call(machine: _Machine, _: Any) -> None:
  args, of = machine.pop(), machine.pop()
  machine.push(machine.made(of, args))


def _call_with_names(machine: _Machine, _: Any) -> None:
  kwargs, args, of = machine.pop(), machine.pop(), machine.pop()
  if kwargs:
    raise Refused(f"makes a {of} by named arguments")
  machine.push(machine.made(of, args))


def _inst(machine: _Machine, arg: str) -> None:
  module, _, name = arg.partition(" ")
  of, args = machine.name(module, name), machine.group()
  machine.push(machine.made(of, tuple(args)))


def _obj(machine: _Machine, _: Any) -> None:
  values = machine.group()
  if not values:
    raise ValueError("an object of no class")
  machine.push(machine.made(values[0], tuple(values[1:])))


def _dict(machine: _Machine, _: Any) -> None:
  pairs = machine.group()
  machine.push({})
  machine.set_items(pairs)


def _set_item(machine: _Machine, _: Any) -> None:
  value, key = machine.pop(), machine.pop()
  machine.set_items([key, value])


def _append_one(machine: _Machine, _: Any) -> None:
  value = machine.pop()
  machine.append([value])


def _build(machine: _Machine, _: Any) -> None:
  state = machine.pop()
  machine.build(state)


def _grouped(take: Callable[[_Machine, list[Any]], None]) -> Callable[[_Machine, Any], None]:
  return lambda machine, _: take(machine, machine.group())


LITERALS = (
  *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
  *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
  *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = dict.fromkeys(LITERALS, _literal) | {
  "PROTO": lambda machine, _: None,
  "FRAME": lambda machine, _: None,
  "NONE": _constant(None),
  "NEWTRUE": _constant(True),
  "NEWFALSE": _constant(False),
  "EMPTY_TUPLE": _constant(()),
  "EMPTY_LIST": lambda machine, _: machine.push([]),
  "EMPTY_DICT": lambda machine, _: machine.push({}),
  "EMPTY_SET": lambda machine, _: machine.push([]),
  "MARK": _constant(MARK),
  "POP": lambda machine, _: machine.stack.pop() if machine.stack else machine.pop(),
  "POP_MARK": _grouped(lambda machine, values: None),
  "DUP": lambda machine, _: machine.push(machine.top()),
  "TUPLE": _grouped(lambda machine, values: machine.push(tuple(values))),
  "TUPLE1": _tuple_of(1),
  "TUPLE2": _tuple_of(2),
  "TUPLE3": _tuple_of(3),
  "LIST": _grouped(lambda machine, values: machine.push(values)),
  "FROZENSET": _grouped(lambda machine, values: machine.push(tuple(values))),
  "DICT": _dict,
  "SETITEM": _set_item,
  "SETITEMS": _grouped(_Machine.set_items),
  "APPEND": _append_one,
  "APPENDS": _grouped(_Machine.append),
  "ADDITEMS": _grouped(_Machine.append),
  "PUT": lambda machine, index: machine.remember(index),
  "BINPUT": lambda machine, index: machine.remember(index),
  "LONG_BINPUT": lambda machine, index: machine.remember(index),
  "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
  "GET": lambda machine, index: machine.recall(index),
  "BINGET": lambda machine, index: machine.recall(index),
  "LONG_BINGET": lambda machine, index: machine.recall(index),
  "GLOBAL": _global,
  "STACK_GLOBAL": _stack_global,
  "REDUCE": _call,
  "NEWOBJ": _call,
  "NEWOBJ_EX": _call_with_names,
  "INST": _inst,
  "OBJ": _obj,
  "BUILD": _build,
  "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}
