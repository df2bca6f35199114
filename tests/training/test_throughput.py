"""Rates and utilisation worked out by hand, chips that are not known, and a trace that can be opened."""

from types import SimpleNamespace

import pytest

from dalle_jax.training.loop import train
from dalle_jax.training.throughput import Throughput, Work


def devices_of(kind, count=4, peak=None):
  stats = None if peak is None else {"peak_bytes_in_use": peak}
  return [SimpleNamespace(device_kind=kind, process_index=0, memory_stats=lambda: stats)] * count


def test_utilisation_is_model_flops_over_all_chips_peak():
  rate = Throughput(devices_of("TPU v5 lite", peak=3 * 2**30), Work(flops=197 * 10**10, tokens=1280))
  rate.examples = 64
  found = rate.of(0.5)
  assert found == {"images_per_s": 32.0, "tokens_per_s": 40960.0, "mfu": 0.08, "peak_memory_gib": 3.0}
  assert rate.text() == "32.0 images/s  MFU 8.0%"
  assert rate.unknown() == ""


def test_a_chip_that_is_not_known_is_said_and_has_no_utilisation():
  rate = Throughput(devices_of("TPU v99"), Work(flops=1))
  rate.examples = 2
  assert rate.text() == ""
  assert rate.of(3.0) == {"images_per_s": 6.0}
  assert rate.unknown() == "no utilisation is reported: the peak of TPU v99 is not in dalle_jax/chips.py"
  assert Throughput(devices_of("TPU v99"), None).unknown() == ""


@pytest.mark.slow
def test_a_trace_of_the_steps_asked_for_is_written(toy, tmp_path, capfd):
  train(steps=4, **toy.options("denoise", tmp_path, profile=(2, 3), work=Work(flops=100, tokens=7)))
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  said = capfd.readouterr().err
  assert "no utilisation is reported: the peak of cpu" in said
  assert "up/kernel" not in said  # nothing is split on one device
  assert "up/kernel" in (tmp_path / "parameters.txt").read_text()
  assert '"tokens_per_s"' in (tmp_path / "metrics.jsonl").read_text()
  train(steps=4, **toy.options("denoise", tmp_path / "other"))
  assert not (tmp_path / "other" / "profile").exists()
