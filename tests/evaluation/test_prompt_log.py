"""The file and the curves of what is measured while a stage trains."""

import json

import pytest
from PIL import Image

from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation import prompt_log
from dalle_jax.evaluation.prompt_log import PromptLog

PROTOCOL = {"metrics": ["clip", "losses"], "captions": 64}


def begun(tmp_path, steps=(5, 10, 15), protocol=PROTOCOL, resumed=0):
  log = PromptLog(tmp_path, protocol, resumed)
  for step in steps:
    log.add(step, {"clip": step / 100, "held_out_loss": 3.0, "composition": 0.1, "composition_low": 0.0} | HIGH)
  return log


HIGH = {"composition_high": 0.3}


def steps(tmp_path):
  return [row["step"] for row in prompt_log.read(tmp_path)[1]]


def test_rows_after_the_step_resumed_from_are_let_go_of(tmp_path):
  begun(tmp_path)
  assert steps(tmp_path) == [5, 10, 15]
  PromptLog(tmp_path, PROTOCOL, 12).add(15, {"clip": 0.5})
  assert steps(tmp_path) == [5, 10, 15]
  assert prompt_log.read(tmp_path)[1][-1] == {"step": 15, "clip": 0.5}
  assert prompt_log.read(tmp_path)[0] == PROTOCOL


def test_another_protocol_is_refused_and_more_to_tell_is_not(tmp_path):
  begun(tmp_path)
  with pytest.raises(UserError, match=r"was begun with captions 64, and not 32: go on with what it was begun with"):
    PromptLog(tmp_path, PROTOCOL | {"captions": 32}, 15)
  PromptLog(tmp_path, PROTOCOL | {"new": 1}, 15)
  assert prompt_log.difference(PROTOCOL, {"captions": 64}) == ""
  assert prompt_log.difference(PROTOCOL, {"metrics": ("clip",)}) != ""
  assert prompt_log.difference(PROTOCOL, {"metrics": ("clip", "losses")}) == ""


def test_what_is_not_finite_is_null_and_still_drawn(tmp_path):
  log = begun(tmp_path)
  log.add(20, {"clip": float("nan"), "held_out_loss": float("inf")})
  row = json.loads((tmp_path / "prompt_metrics.jsonl").read_text().splitlines()[-1])
  assert row == {"step": 20, "clip": None, "held_out_loss": None}
  with Image.open(tmp_path / "prompt_metrics.png") as image:
    assert min(image.size) > 500


def test_each_kind_of_metric_has_a_panel(tmp_path):
  sizes = []
  for name, values in (("one", {"clip": 0.1}), ("two", {"clip": 0.1, "held_out_loss": 2.0})):
    PromptLog(tmp_path / name, PROTOCOL, 0).add(5, values)
    with Image.open(tmp_path / name / "prompt_metrics.png") as image:
      sizes.append(image.size[1])
  assert sizes[1] > 1.5 * sizes[0]


def test_a_damaged_file_is_one_line(tmp_path):
  (tmp_path / "prompt_metrics.jsonl").write_text("{}\n")
  with pytest.raises(UserError, match="is damaged"):
    PromptLog(tmp_path, PROTOCOL, 0)


def test_what_cannot_be_written_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(StorageError, match="checkpoints are as they were"):
    PromptLog(tmp_path / "file" / "below", PROTOCOL, 0).add(5, {"clip": 0.1})
