"""How fast a run is: images and tokens a second, model FLOPs utilisation, and the most memory that a device used."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from dalle_jax import chips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What a training example is: FLOPs of its forward and backward pass, see `models.flops`, and tokens (0: none)."""

  flops: int
  tokens: int = 0


class Throughput:
  """Reckons with `examples` a step, over all processes; `of` is asked when it is known how many steps a second ran."""

  def __init__(self, devices: Sequence[Any], work: Work | None):
    self._devices, self._work = devices, work
    self._kind = devices[0].device_kind
    self._chip = chips.of_kind(self._kind)
    self._last: dict[str, float] = {}
    self.examples = 0

  def unknown(self) -> str:
    """Why no utilisation is reported; empty where it is."""
    if self._work is None or self._chip is not None:
      return ""
    return f"no utilisation is reported: the peak of {self._kind} is not in dalle_jax/chips.py"

  def of(self, steps_per_s: float) -> dict[str, float]:
    """images_per_s, tokens_per_s, mfu (of the chips' peak in bfloat16), and peak_memory_gib, those that are known."""
    rate = steps_per_s * self.examples
    self._last = {"images_per_s": round(rate, 3)}
    if self._work and self._work.tokens:
      self._last["tokens_per_s"] = round(rate * self._work.tokens, 1)
    if self._work and self._chip:
      self._last["mfu"] = round(rate * self._work.flops / (self._chip.peak * len(self._devices)), 4)
    own = [each for each in self._devices if each.process_index == jax.process_index()]
    peaks = [stats["peak_bytes_in_use"] for each in own if (stats := each.memory_stats())]
    if peaks:
      self._last["peak_memory_gib"] = round(max(peaks) / 2**30, 3)
    return self._last

  def text(self) -> str:
    """What was last reckoned, for a line of progress."""
    if not self._last:
      return ""
    words = [f"{self._last['images_per_s']:,.1f} images/s"]
    return "  ".join([*words, *([f"MFU {self._last['mfu']:.1%}"] if "mfu" in self._last else [])])
