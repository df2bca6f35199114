"""What a compiled program does, read from its text: collectives, kernels, estimated cycles, each as often as it runs.

The compiler counts the body of a loop once. Here the program is walked from its entry, and a loop's body counts as
often as its condition lets it run.

What goes between slices of a TPU pod is sent by the hosts: a send whose attributes name the collective, and the slices.
A TPU's reduce-scatter stands in the text as a fusion that calls an all-reduce and keeps a part of it.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
BYTES |= {"f64": 8, "s64": 8, "u64": 8, "f8e4m3fn": 1, "f8e5m2": 1}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all", "ragged-all-to-all")

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-~]+) \(.*\{$")
_END = re.compile(r"^\}(, execution_thread=.*)?$")
_OP = re.compile(r"^\s+(?:ROOT )?%?([\w.\-~]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|[ )}])([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLS = re.compile(r"\b(calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-~]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_BETWEEN = re.compile(r'_xla_megascale_target="\{([^}]*)\}.*_xla_megascale_transfer_type="(\w+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
  """A collective that runs `times` a step; bytes: of the whole that a group of so many devices makes or adds up."""

  kind: str
  bytes: int
  group: int
  times: int

  @property
  def sent(self) -> float:
    """Bytes that a device sends in a step, by the best algorithm on a ring."""
    share = 2.0 if self.kind.startswith("all-reduce") else 1.0
    part = 1.0 if self.kind == "collective-permute" else (self.group - 1) / self.group
    return share * self.bytes * part * self.times


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A call of hand-written code that runs `times` a step; where: the names of the modules that lead to it."""

  name: str
  where: str
  times: int


@dataclasses.dataclass(frozen=True)
class Program:
  """cycles: the compiler's estimates for all but kernels and collectives, or None where it gives none."""

  collectives: tuple[Collective, ...]
  kernels: tuple[Kernel, ...]
  cycles: int | None


def read(text: str, devices: int) -> Program:
  """The program of a compiled function's text, which runs on so many devices. Raises ValueError for other text."""
  bodies, entry = _computations(text)
  collectives, kernels, cycles, seen = [], [], 0, False
  for line, opcode, times, fused in _walk(bodies, entry, 1):
    kind = opcode.removesuffix("-start")
    if kind in COLLECTIVES:
      scattered = fused.startswith("all-reduce-scatter") and kind == "all-reduce"
      group = _group(line, devices)
      size = _bytes(line, opcode, kind, group)
      collectives.append(Collective("reduce-scatter" if scattered else kind, size, group, times))
    elif opcode == "send" and (between := _BETWEEN.search(line)):
      kind, group = between[2].lower().replace("_", "-"), between[1].count(",") + 1
      size = _first_bytes(line) * (group if kind == "all-gather" else 1)
      collectives.append(Collective(f"{kind} between slices", size, group, times))
    elif opcode == "custom-call" and 'custom_call_target="tpu_custom_call"' in line:
      kernels.append(Kernel(_OP.match(line)[1], _where(line), times))
    elif not fused and (found := _CYCLES.search(line)):
      cycles, seen = cycles + int(found[1]) * times, True
  return Program(tuple(collectives), tuple(kernels), cycles if seen else None)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  bodies: dict[str, list[str]] = {}
  entry, name = "", ""
  for line in text.splitlines():
    if header := _HEADER.match(line):
      name = header[2]
      bodies[name] = []
      entry = name if header[1] else entry
    elif _END.match(line):
      name = ""
    elif name and line.startswith("  "):
      bodies[name].append(line)
    elif name and bodies[name]:  # of an operation whose attributes hold text of several lines, as splash's do
      bodies[name][-1] += line
  if not entry:
    raise ValueError("no entry computation: this is not the text of a compiled program")
  return bodies, entry


def _walk(bodies: dict[str, list[str]], name: str, times: int, fused: str = "") -> Iterator[tuple[str, str, int, str]]:
  """Each operation of a computation and of those that it runs: line, opcode, how often, the fusion that it is in."""
  for line in bodies.get(name, ()):
    op = _OP.match(line)
    found = op and _OPCODE.search(op[2])
    if not found:
      continue
    opcode = found[1]
    yield line, opcode, times, fused
    called = dict(_CALLS.findall(line))
    if opcode == "while":
      yield from _walk(bodies, called["body"], times * _trips(line, bodies, called["condition"]), fused)
    elif opcode in ("fusion", "async-start"):
      yield from _walk(bodies, called.get("calls", ""), times, fused or called.get("calls", "") or "fusion")
    elif opcode == "call":
      yield from _walk(bodies, called.get("to_apply", ""), times, fused)
    elif opcode == "conditional":
      branches = _BRANCHES.search(line)
      names = [each.strip().lstrip("%") for each in branches[1].split(",")] if branches else list(called.values())
      for each in names:
        yield from _walk(bodies, each, times, fused)


def _trips(line: str, bodies: dict[str, list[str]], condition: str) -> int:
  """How often a loop runs: as the compiler says, or the constant that its condition compares the counter with."""
  if known := _TRIPS.search(line):
    return int(known[1])
  lines = bodies[condition]
  # The comparison may be wrapped in a fusion, whose operands stand beside it.
  constants = [int(c[1]) for each in lines if (c := re.search(r" [su]32\[\]\S* constant\((\d+)\)", each))]
  if len(constants) != 1:
    raise ValueError(f"the loop of {condition} has no one constant that its counter is compared with: {constants}")
  return constants[0]


def _bytes(line: str, opcode: str, kind: str, group: int) -> int:
  """Of the whole that a collective makes or adds up; what was started has its operands beside its results."""
  op = _OP.match(line)[2]
  of_result = op[: _OPCODE.search(op).start(1)]
  total = sum(
    BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
    for dtype, shape in _ARRAY.findall(of_result)
    if dtype in BYTES
  )
  if opcode != kind and kind in ("all-gather", "reduce-scatter"):
    return total * group // (group + 1)
  if opcode != kind and kind == "collective-permute":
    return total // 2
  return total * group if kind == "reduce-scatter" else total


def _first_bytes(line: str) -> int:
  """Of the array that is sent; a number and a token stand beside it."""
  dtype, shape = _ARRAY.findall(line)[0]
  return BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)


def _group(line: str, devices: int) -> int:
  """How many devices take part in each group of a collective."""
  if "source_target_pairs=" in line:
    return 2
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
    sizes = {name: int(n) for name, n in re.findall(r"'([\w.]+)'=(\d+)", mesh[1])}
    return math.prod(sizes.get(name, 1) for name in re.findall(r"'([\w.]+)'", mesh[2]))
  if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line):
    return int(iota[2])
  if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
    return len(listed[1].split(","))
  return devices


def _where(line: str) -> str:
  found = re.search(r'op_name="([^"]*)"', line)
  return found[1] if found else ""
