"""Weights & Biases gets what metrics.jsonl gets, and is not needed."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from dalle_jax import cli
from dalle_jax.errors import UserError
from dalle_jax.training import metrics, wandb_log

ROOT = Path(__file__).parents[2]


def test_without_the_package_one_line_says_so(monkeypatch, tmp_path, capsys):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(UserError, match=r"pip install 'dalle-jax\[wandb\]'"):
    wandb_log.require()
  argv = ["train", str(ROOT / "experiments/demo.py"), "--workdir", str(tmp_path / "w"), "--data", "data"]
  argv += ["--wandb", "project"]
  assert cli.main(argv) == 2
  assert "which is not installed" in capsys.readouterr().err.splitlines()[-1]
  assert not (tmp_path / "w").exists()


def test_what_wandb_refuses_is_one_line(monkeypatch, tmp_path):
  class Refusing:
    """A wandb that nobody is logged in to."""

    Image, Settings, Error = None, dict, RuntimeError

    @staticmethod
    def init(**options):
      raise RuntimeError("api_key not configured\n(no-tty)")

  monkeypatch.setitem(sys.modules, "wandb", Refusing)
  with pytest.raises(UserError, match=r"api_key not configured \(no-tty\): `wandb login`"):
    wandb_log.WandbLog("project", tmp_path)


def test_a_run_that_did_not_ask_does_not_load_it(tmp_path):
  log = metrics.MetricsLog(tmp_path, 0)
  log.write(1, {"loss": 2.0})
  log.close()
  assert "wandb" not in sys.modules


def records(data):
  """Those of a LevelDB log after wandb's header of 7 bytes: checksum, length and kind, then the bytes."""
  at, block, parts = 7, 2**15, []
  while at + 7 <= len(data):
    if block - at % block < 7:  # too little of the block is left for a header
      at += block - at % block
      continue
    size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
    parts.append(data[at + 7 : at + 7 + size])
    at += 7 + size
    if kind in (1, 4):  # whole, or the last part
      yield b"".join(parts)
      parts = []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb's own imports
def test_numbers_and_pictures_of_a_run_and_of_the_one_that_goes_on(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason="pip install 'dalle-jax[wandb]'")
  from wandb.proto import wandb_internal_pb2

  monkeypatch.setenv("WANDB_MODE", "offline")
  stage = tmp_path / "run" / "dvae"
  stage.mkdir(parents=True)
  for resumed, step, loss in ((0, 1, 2.0), (0, 2, 1.5), (1, 2, 1.25)):
    log = metrics.MetricsLog(stage, resumed, "project")
    log.write(step, {"loss": loss}, {"steps_per_s": 3.0})
    log.show(step, {"samples": np.zeros((4, 4, 3), np.uint8)})
    log.close()
  rows, ids = [], set()
  for file in sorted((stage / "wandb").glob("offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime):
    for data in records(file.read_bytes()):
      record = wandb_internal_pb2.Record.FromString(data)
      if record.WhichOneof("record_type") == "run":
        ids.add((record.run.run_id, record.run.display_name, record.run.project))
      if record.WhichOneof("record_type") == "history":
        rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
  assert len(ids) == 1
  assert next(iter(ids))[1:] == ("run/dvae", "project")
  assert [(r["step"], r["loss"], r["timing/steps_per_s"]) for r in rows if "loss" in r] == [
    (1, 2.0, 3.0),
    (2, 1.5, 3.0),
    (2, 1.25, 3.0),
  ]
  assert [r["samples/_type"] for r in rows if "samples/_type" in r] == ["image-file"] * 3
