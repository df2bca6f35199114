"""Plans for people: one in full, several in a table and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")

GIB = 2**30
KINDS = ("params", "optimizer", "average", "frozen", "batch", "temporaries")
DRAWING = ("params", "batch", "temporaries")
READS = "estimate from FLOPs and what is read for a token, at published rates; nothing that is sent is in it"
ESTIMATE = "estimate from compilers' cycles, no time: waits for memory are not in it"


def text(result: dict[str, Any]) -> str:
  """One plan."""
  mesh = " x ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
  memory, devices, draws = result["memory"], result["devices"], result["program"] == "sampler"
  each = result["batch"] / devices
  parts = f" in {result['accumulate']} parts" if result["accumulate"] > 1 else ""
  lines = [
    f"{result['stage']}'s {result['program']} on {result['topology']}: {devices} devices ({mesh}), "
    f"batch {result['batch']:,}{parts}, {each:g} a device",
    *_searched(result),
    "",
    f"{'on each device':32}{'GiB':>9}",
    *(f"  {_name(kind):30}{memory[kind] / GIB:9.2f}" for kind in (DRAWING if draws else KINDS)),
    f"  {_inside(draws):30}{memory['caches' if draws else 'gradients'] / GIB:9.2f}",
    f"  {'the rest: padding, program':30}{_rest(memory, draws) / GIB:9.2f}",
    f"  {'in all':30}{memory['total'] / GIB:9.2f} of {memory['limit'] / GIB:.2f}: {_fits(result)}",
    "",
    f"{result['flops_per_example']:.4g} FLOPs {'a picture' if draws else 'an example'}, {result['flops_per_step']:.4g} "
    f"{'a batch, forward with caches' if draws else 'a step, forward and backward'}",
  ]
  if "collectives" in result:
    head = f"a {'batch' if draws else 'step'}, of each device"
    lines += ["", f"{head:28}{'devices':>8}{'calls':>8}{'GiB':>10}{'GiB sent':>10}"]
    lines += [
      f"  {row['kind']:26}{row['group']:8}{row['calls']:8,}{row['bytes'] / GIB:10.3f}{row['sent'] / GIB:10.3f}"
      for row in result["collectives"]
    ]
    lines += ["", *([] if draws else _ceiling(result))]
  lines += _rate(result) if draws else []
  if "compile_s" in result:
    lines.append(f"traced in {result['lower_s']:.0f} s, compiled in {result['compile_s']:.0f} s")
  return "\n".join(lines)


def _rest(memory: dict[str, int], draws: bool) -> int:
  return max(0, memory["total"] - sum(memory[kind] for kind in (DRAWING if draws else KINDS)))


def _searched(result: dict[str, Any]) -> list[str]:
  """What the search for the largest batch came to, where there was one."""
  if "larger_batch" not in result:
    return []
  if result["larger_batch"] is None:
    return ["the largest batch that was tried and fits; larger ones were not tried, and may"]
  return [f"the largest batch that fits: {result['larger_batch']:,} was tried and does not"]


def table(results: Sequence[dict[str, Any]]) -> str:
  """Several plans of the same program, a line each."""
  draws = results[0]["program"] == "sampler"
  head = f"{'topology':14}{'devices':>8}{'batch':>8}{'GiB':>8}{'of':>8}  {'fits':5}{'sent GiB':>9}"
  head += f"{'pictures/s':>12}" if draws else f"{'MFU: hidden':>13}{'none hidden':>13}"
  lines = [head]
  for result in results:
    memory, own = result["memory"], result.get("ceiling")
    sent = sum(each["sent"] for each in result.get("collectives", ())) / GIB
    hidden, shown = (f"{own[of]:.1%}" if own and own[of] else "-" for of in ("mfu_hidden", "mfu_shown"))
    lines.append(
      f"{result['topology']:14}{result['devices']:8}{result['batch']:8}{memory['total'] / GIB:8.2f}"
      f"{memory['limit'] / GIB:8.2f}  {'yes' if result['fits'] else 'no':5}{sent:9.2f}"
      + (f"{result['pictures_per_s']:12.3g}" if draws else f"{hidden:>13}{shown:>13}")
    )
  told = "pictures/s at most" if draws else "MFU ceilings"
  said = READS if draws else f"{ESTIMATE}; collectives beside the computation, or after it"
  return "\n".join([*lines, f"{told}: {said}"])


def plot(results: Sequence[dict[str, Any]], file: Path) -> None:
  """Memory by kind of each plan below the device's limit, and beside it how fast it can be at most, as a picture."""
  names = [result["topology"] for result in results]
  figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.6 * len(names) + 2.6), sharey=True, layout="constrained")
  begin = [0.0] * len(names)
  for kind in DRAWING if results[0]["program"] == "sampler" else KINDS:
    sizes = [result["memory"][kind] / GIB for result in results]
    left.barh(names, sizes, left=begin, label=_name(kind))
    begin = [a + b for a, b in zip(begin, sizes)]
  rest = [max(0.0, result["memory"]["total"] / GIB - filled) for result, filled in zip(results, begin)]
  left.barh(names, rest, left=begin, color="lightgray", label="padding, program")
  for i, result in enumerate(results):
    limit = result["memory"]["limit"] / GIB
    left.plot([limit, limit], [i - 0.45, i + 0.45], color="black")
  left.set_xlabel("GiB on each device (black: what it has)")
  left.legend(fontsize="small", ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
  (_pictures if results[0]["program"] == "sampler" else _ceilings)(right, names, results)
  figure.savefig(file, dpi=120)
  plt.close(figure)


def _pictures(axes: plt.Axes, names: Sequence[str], results: Sequence[dict[str, Any]]) -> None:
  axes.barh(names, [result["pictures_per_s"] for result in results], color="lightgray")
  axes.set_xlabel("pictures a second at most (estimate)")


def _ceilings(axes: plt.Axes, names: Sequence[str], results: Sequence[dict[str, Any]]) -> None:
  own = [result.get("ceiling") or {"mfu_hidden": None, "mfu_shown": None} for result in results]
  for i, each in enumerate(own):
    if each["mfu_hidden"] is None:
      axes.text(0, i, " not available", va="center", fontsize="small")
  if not any(each["mfu_hidden"] for each in own):
    axes.set_xlim(0, 100)
  axes.barh(names, [100 * (each["mfu_hidden"] or 0.0) for each in own], color="lightgray", label="collectives hidden")
  axes.barh(names, [100 * (each["mfu_shown"] or 0.0) for each in own], height=0.4, color="gray", label="none hidden")
  axes.set_xlabel("MFU ceiling, % (estimate from compilers' cycles)")
  axes.legend(fontsize="small", ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
  for i, each in enumerate(own):
    if each["mfu_shown"] is None:
      missing = "not available" if each["mfu_hidden"] is None else "none hidden: not known"
      axes.text(0.5, i, missing, va="center", fontsize="small")


def _ceiling(result: dict[str, Any]) -> list[str]:
  own = result["ceiling"]
  if own is None:
    return [f"MFU ceiling: not available: {result['no_ceiling']}"]
  cycles = f"{own['compiler']:.4g} cycles of the compiler's operations, {own['kernels']:.4g} of attention kernels,"
  if own["mfu_shown"] is None:
    shown, sent = "not known with none hidden", "no rate is published for the network between slices"
  else:
    shown = f"{own['mfu_shown']:.1%} with none hidden"
    sent = f"{own['collectives']:.4g} of collectives at the links' published rate"
  return [
    f"MFU ceiling {own['mfu_hidden']:.1%} with collectives hidden, {shown}",
    f"  ({ESTIMATE})",
    f"  {cycles}",
    f"  {sent}",
  ]


def _rate(result: dict[str, Any]) -> list[str]:
  read = result["bytes_read_a_token"] / GIB
  return [
    f"at most {result['pictures_per_s']:.3g} pictures a second: {read:.2f} GiB are read for a token of all samples",
    f"  ({READS})",
  ]


def _inside(draws: bool) -> str:
  return "(keys and values, in those)" if draws else "(gradients, in temporaries)"


def _fits(result: dict[str, Any]) -> str:
  return "fits" if result["fits"] else "does not fit"


def _name(kind: str) -> str:
  return {"params": "parameters", "average": "moving average", "frozen": "frozen models"}.get(kind, kind)
