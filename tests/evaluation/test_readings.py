"""Readings in several processes are those of one, in the same order."""

import os
import random

import numpy as np
import pytest

from dalle_jax.data import scene_drawing, scene_layout, scene_reading
from dalle_jax.evaluation import readings


@pytest.fixture
def groups():
  rng = random.Random(0)
  scenes = [scene_layout.sample(rng, count=1 + i % 3, split="train") for i in range(12)]
  pictures = np.stack([scene_drawing.draw(scene, 32) for scene in scenes])
  pictures[1] = pictures[0]  # a sample drawn twice is read once
  return [pictures[:5], pictures[5:6], pictures[6:]]


def test_processes_read_what_one_does_in_the_same_order(groups, monkeypatch):
  expected = [scene_reading.read(group) for group in groups]
  assert len({reading for group in expected for reading in group}) == 11
  monkeypatch.setattr(readings, "FEW", 1)
  started = []
  pool = readings.ProcessPoolExecutor
  monkeypatch.setattr(readings, "ProcessPoolExecutor", lambda *a, **k: started.append(1) or pool(*a, **k))
  assert list(readings.read_groups(groups)) == expected
  if len(os.sched_getaffinity(0)) > 1:
    assert started


def test_few_pictures_start_no_process(groups, monkeypatch):
  monkeypatch.setattr(readings, "ProcessPoolExecutor", None)
  assert [len(group) for group in readings.read_groups(groups)] == [5, 1, 6]


@pytest.mark.parametrize("before", [None, "3"])
def test_processes_start_with_one_thread_and_the_environment_is_as_before(before, monkeypatch):
  monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
  if before:
    monkeypatch.setenv("OMP_NUM_THREADS", before)
  with readings._one_thread_each():
    assert os.environ["OMP_NUM_THREADS"] == "1"
  assert os.environ.get("OMP_NUM_THREADS") == before
