"""`dalle train` from data to drawings: all stages, whatever kills them, and what is told where something is wrong."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quick import QUICK

from dalle_jax import cli, places, run, sampling, stage_codes, step_shapes
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.codes import open_codes
from dalle_jax.data.images import CentreCrop
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.experiment import load
from dalle_jax.models import dvae
from dalle_jax.sampling import draws
from dalle_jax.sampling.rankers import mix
from dalle_jax.training import lease, metrics
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.workdir import Workdir

STAGES = ("dvae", "transformer", "clip")
STEPS = 30

EXPERIMENT = """
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Cosine
from dalle_jax.training.optimizers import AdamW

VAE = dvae.Config(image=16, vocab=32, hidden=8, groups=3, blocks=1, code_dim=4)
WORDS = TokenizerConfig(vocab=320, length=96, spaces=False)
READS = {"text_vocab": WORDS.vocab, "text": WORDS.length}
STREAM = transformer.Config(**READS, image_vocab=32, grid=4, layers=2, heads=2, head_dim=4, mix=("row", "column"))
TOWERS = clip.Config(
  **READS, image=16, patch=8, embed=8, vision_layers=1, vision_width=8, vision_heads=2, text_layers=1, text_width=8,
  text_heads=2,
)


def stage(objective, examples):
  optimizer = AdamW(lr=Cosine(start=3e-3, end=1e-4, steps=30, warmup=3), decay=0.01, clip=1.0, ema=0.9)
  often = {"save_every": 4, "log_every": 1, "show_every": 30}
  return Stage(steps=30, batch=8, objective=objective, optimizer=optimizer, examples=examples, **often)


def experiment():
  patches = PatchDvae(model=VAE, patches_from=20)
  stages = {
    "dvae": stage(patches, Pictures(crop=Stage1Crop(size=16))),
    "transformer": stage(TransformerNll(model=STREAM), Codes(crops=2)),
    "clip": stage(ClipContrastive(model=TOWERS, dvae=VAE), Codes(crops=2)),
  }
  return Experiment(name="tiny", data="data", tokenizer=WORDS, stages=stages)
"""

# The command as it is, but for batches that come slowly, so that there is time to kill it.
SLOWLY = """
import sys, time
from dalle_jax import cli
from dalle_jax.data import pipeline

own = pipeline.batches

def slow(*args, **options):
  for batch in own(*args, **options):
    time.sleep(0.05)
    yield batch

pipeline.batches = slow
sys.exit(cli.main(sys.argv[1:]))
"""

# The command on a disk on which every save finds too little room.
ON_A_FULL_DISK = """
import collections, shutil, sys
from dalle_jax import cli

shutil.disk_usage = lambda path: collections.namedtuple("usage", "total used free")(100, 99, 1)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with the experiment and 60 captioned scenes, in which all commands are typed."""
  directory = tmp_path_factory.mktemp("place")
  (directory / "tiny.py").write_text(EXPERIMENT)
  prepare(Scenes(Config(image=16, train=60, valid=10, test=9, test_pairs=6)), directory / "data")
  return directory


def start(place, *argv, script=None, more=None):
  command = ["-m", "dalle_jax"] if script is None else ["-c", script]
  environment = os.environ | QUICK | (more or {})
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  return subprocess.Popen([sys.executable, *command, *map(str, argv)], cwd=place, env=environment, **pipes)


def dalle(place, *argv, code=0, script=None, more=None):
  """Runs a command to its end and returns what it printed. more: of the environment."""
  with start(place, *argv, script=script, more=more) as process:
    out, err = process.communicate()
  assert process.returncode == code, err
  return out, err


def train(workdir, *flags):
  return ("train", "tiny.py", "--workdir", workdir, *flags)


def refused(place, *argv, code=2, script=None):
  """The one line of a command that fails."""
  out, err = dalle(place, *argv, code=code, script=script)
  assert out == ""
  lines = [line for line in err.splitlines() if line.startswith("dalle: ")]
  assert len(lines) == 1
  assert err.endswith(lines[0] + "\n")
  assert "Traceback" not in err
  return lines[0]


@pytest.fixture(scope="module")
def whole(place):
  """A run that nobody touched: its workdir, and what it said."""
  out, err = dalle(place, *train("whole"))
  assert out == ""
  return place / "whole", err


def bits(workdir, stages=STAGES):
  """What training computed: every array of the last checkpoints, the rows without the clock, the codes, the words."""
  found = {"tokenizer": hashlib.sha256((workdir / "tokenizer.model").read_bytes()).hexdigest()}
  for stage in stages:
    checkpoints = Checkpoints(workdir / stage / "checkpoints")
    found[stage] = checkpoints.digest()
    for item in ("params", "opt", "ema", "counters"):
      for path, array in checkpoints._read_numpy(STEPS, item).items():
        found[f"{stage}/{item}/{path}"] = hashlib.sha256(array.tobytes()).hexdigest()
    rows = metrics.read(workdir / stage / "metrics.jsonl")
    found[f"{stage}/rows"] = [{k: v for k, v in row.items() if k != "timing"} for row in rows]
  source = open_codes(workdir / "codes").source("train")
  found["codes"] = {example["key"]: example["codes"].tolist() for example in source}
  return found


def copied(place, whole, name, *without):
  """The untouched run's workdir without some of its stages, as if they had not begun."""
  shutil.copytree(whole[0], place / name)
  for each in without:
    shutil.rmtree(place / name / each)
  return place / name


# From data to drawings.


@pytest.mark.slow
def test_all_stages_run_in_their_order_and_leave_what_they_should(whole):
  workdir, said = whole
  assert [what for what, _ in times(workdir)] == ["tokenizer", "dvae", "codes", "transformer", "clip"]
  for stage in STAGES:
    assert Checkpoints(workdir / stage / "checkpoints").good_steps() == [24, 28, 30]
    files = Checkpoints(workdir / stage / "checkpoints").files()
    assert {"experiment.json", "tokenizer.model", "hashes.json"} <= set(files)
    assert json.loads(files["experiment.json"])["name"] == "tiny"
    rows = metrics.read(workdir / stage / "metrics.jsonl")
    assert {row["step"] for row in rows} == set(range(1, STEPS + 1))
  for stage, picture in (("dvae", "reconstructions"), ("transformer", "samples")):
    with Image.open(workdir / stage / f"pictures/{picture}-0000030.png") as image:
      assert min(image.size) > 32
  last = metrics.read(workdir / "transformer/metrics.jsonl")[-1]
  assert {"loss", "loss_text", "loss_text_no_pads", "loss_image"} <= set(last)
  assert len(open_codes(workdir / "codes").source("train")) == 60
  assert open_codes(workdir / "codes").stamp.dvae == Checkpoints(workdir / "dvae/checkpoints").digest()
  assert "codes: crop 170/170" in said  # two of each of 85 pictures


def times(workdir):
  rows = [json.loads(line) for line in (workdir / "times.jsonl").read_text().splitlines()]
  return [(row["what"], row["seconds"]) for row in rows]


@pytest.mark.slow
def test_running_it_again_does_nothing(place, whole):
  files = {file: file.stat().st_mtime_ns for file in whole[0].rglob("*") if file.is_file() and file.name != ".lock"}
  out, err = dalle(place, *train("whole"))
  assert out == ""
  assert [line for line in err.splitlines() if "done" in line] == [f"{stage}: done, 30 steps" for stage in STAGES]
  again = {file: file.stat().st_mtime_ns for file in whole[0].rglob("*") if file.is_file() and file.name != ".lock"}
  assert {file.name for file in files if again.get(file) != files[file]} <= {"experiment.json"}
  assert again.keys() == files.keys()


@pytest.mark.slow
def test_pictures_are_drawn_from_captions_and_the_best_are_kept(place, whole):
  out, _ = dalle(place, "sample", "whole", "a red circle", "a blue square", "--num", 4, "--keep", 2, "--out", "drawn")
  page = place / out.strip()
  assert page == place / "drawn/index.html"
  for caption in ("a red circle", "a blue square"):
    assert caption in page.read_text()
  assert [image.shape for image in drawn(page.parent)] == [(16, 16, 3)] * 4
  assert len(list(page.parent.glob("**/sheet.png"))) == 2


@pytest.mark.slow
def test_what_was_drawn_is_ranked_again_without_drawing(place, whole):
  dalle(place, "sample", "whole", "a red circle", "a blue square", "--num", 6, "--keep", 2, "--out", "once")
  kept = draws.read(place / "once")
  assert list(kept.scores) == ["clip"]
  _, said = dalle(place, "sample", "whole", "--drawn", "once", "--keep", 3, "--rank", "likelihood", "--out", "again")
  assert "drawing" not in said
  assert "ranking" in said
  rows = [json.loads(line) for line in (place / "again/samples.jsonl").read_text().splitlines()]
  own = draws.read(place / "once").scores["likelihood"]
  assert [row["sample"] for row in rows] == [int(n) for scores_N in own for n in np.argsort(-scores_N)[:3]]
  assert [row["codes"] for row in rows] == [
    kept.codes_CNP[row["caption_number"], row["sample"]].tolist() for row in rows
  ]
  _, said = dalle(place, "sample", "whole", "--drawn", "once", "--keep", 1, "--rank", "clip=1,likelihood=2")
  assert "ranking" not in said  # both are kept by now
  assert "1 CLIP + 2 likelihood" in (place / "once/index.html").read_text()
  assert len(list((place / "once").glob("*/[0-9]*.png"))) == 2
  draws.write(place / "foreign", dataclasses.replace(kept, weights=kept.weights | {"dvae": "another"}))
  line = refused(place, "sample", "whole", "--drawn", "foreign", "--keep", 1)
  assert "foreign was drawn with other weights of dvae than whole has: draw anew" in line
  line = refused(place, "sample", "whole", "a cat", "--drawn", "once")
  assert "--drawn draws nothing, so the caption 'a cat' would not be read" in line
  assert "once holds 6 samples" in refused(place, "sample", "whole", "--drawn", "once", "--keep", 7)
  assert "--seed would not be read" in refused(place, "sample", "whole", "--drawn", "once", "--seed", 1)


@pytest.mark.slow
def test_four_devices_draw_what_one_draws(place, whole):
  seen = {}
  for name, devices, flags in (("one", 1, ()), ("four", 4, ("--mesh.data", 2, "--mesh.fsdp", 2))):
    more = {"XLA_FLAGS": f"{QUICK['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"}
    dalle(place, "sample", "whole", "a red circle", "--num", 3, "--keep", 3, *flags, "--out", f"by-{name}", more=more)
    seen[name] = draws.read(place / f"by-{name}").codes_CNP.tolist()
  assert seen["one"] == seen["four"]
  assert "1 devices" in refused(place, "sample", "whole", "a red circle", "--mesh.data", 3)


@pytest.mark.slow
def test_a_sampler_in_python_draws_what_the_command_draws(place, whole):
  dalle(place, "sample", "whole", "a red circle", "a blue square", "--num", 4, "--keep", 2, "--out", "by-command")
  rows = [json.loads(line) for line in (place / "by-command/samples.jsonl").read_text().splitlines()]
  sampler = sampling.Sampler.from_checkpoint(whole[0])
  found = sampler.draw(["a red circle", "a blue square"], num=4, keep=2)
  assert [int(n) for each in found for n in each.kept_K] == [row["sample"] for row in rows]
  for each, file in zip((image for one in found for image in one.images_KHWC), rows):
    with Image.open(place / "by-command" / file["file"]) as image:
      np.testing.assert_array_equal(each, np.asarray(image))
  own = sampler.drawer.own()["likelihood"]
  ranked = sampler.draw(["a red circle"], num=4, rankers={"own": own})[0]
  np.testing.assert_allclose(sampler.score("a red circle", ranked.codes_NP, own), ranked.scores_N, atol=1e-4)
  with pytest.raises(UserError, match="go together"):
    sampler.draw(["a"], picture_HWC=np.zeros((16, 16, 3), np.uint8))


@pytest.mark.slow
def test_the_page_on_drawing_does_what_it_shows(whole):
  page = (Path(__file__).parents[1] / "docs/sampling.md").read_text()
  [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  assert "runs/demo" in code
  seen = {}
  exec(compile(code.replace("runs/demo", str(whole[0])), "sampling.md", "exec"), seen)
  assert len(seen["circle"].images_KHWC) == len(seen["mixed"].images_KHWC) == 8
  by = seen["mixed"].by_ranker
  assert set(by) == {"clip", "own"}
  expected = mix(by, {"clip": 1.0, "own": 0.5})
  np.testing.assert_allclose(seen["mixed"].scores_N, expected, atol=1e-6)
  assert (seen["rest"].codes_NP[:, :8] == seen["sampler"].encode(seen["likely"].images_KHWC).reshape(-1)[:8]).all()


@pytest.mark.slow
def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(place, whole):
  copied(place, whole, "other-words")
  file = place / "other-words/tokenizer.model"
  right = file.read_bytes()
  file.write_bytes(right + b"\0")
  assert "is no SentencePiece model" in refused(place, "sample", "other-words", "a red circle", "--out", "unsaid")
  file.write_bytes(right + b"\xf8\x07\x01")  # a field that no reader knows, and passes over
  line = refused(place, "sample", "other-words", "a red circle", "--out", "unsaid")
  assert re.search(r"stage transformer was trained with the tokenizer \w{12}, and tokenizer.model is \w{12}", line)
  assert not (place / "unsaid").exists()
  file.write_bytes(right)
  dalle(place, "sample", "other-words", "a red circle", "--num", 1, "--out", "said")


@pytest.mark.slow
def test_maps_of_attention_come_with_the_pictures_where_they_are_asked_for(place, whole):
  dalle(place, "sample", "whole", "a red circle", "--num", 2, "--keep", 2, "--attention", "--out", "looked")
  assert len(list((place / "looked").glob("*/0?-attention.png"))) == 2
  assert "00-attention.png" in (place / "looked/index.html").read_text()


@pytest.mark.slow
def test_pictures_are_scored_from_a_folder_as_from_the_data(place, whole):
  out, _ = dalle(place, "score", "whole", "--data", "data", "--split", "test", "--limit", 3, "--retrieval")
  assert out.endswith("whole/scores/index.html\n")
  assert "caption to picture, by Bayes' rule: top-1" in out
  source = open_prepared(place / "data").source("test")
  (place / "scored").mkdir()
  for number in range(3):
    Image.fromarray(source[number]["image"]).save(place / f"scored/{number}.png")
  (place / "scored.txt").write_text("".join(f"{source[number]['captions'][0]}\n" for number in range(3)))
  dalle(place, "score", "whole", "scored", "--captions", "scored.txt", "--out", "scored-out")
  tables = [(folder / "scores.tsv").read_text() for folder in (whole[0] / "scores", place / "scored-out")]
  rows = [[line.split("\t")[1:-1] for line in table.splitlines()] for table in tables]
  assert len(rows[0]) == 4
  assert rows[0] == rows[1]


@pytest.mark.slow
def test_guidance_and_what_it_leads_away_from_change_what_is_drawn(place, whole):
  seen = {}
  # What has been trained for 30 steps hardly looks at captions.
  for name, flags in {
    "plain": (),
    "guided": ("--guidance", 3000),
    "away": ("--guidance", 3000, "--against", "blue"),
  }.items():
    _, said = dalle(place, "sample", "whole", "a red circle", "--num", 2, *flags, "--out", f"g-{name}")
    assert ("drop_captions was 0 in training" in said) == (name == "guided")
    seen[name] = [json.loads(line)["codes"] for line in (place / f"g-{name}/samples.jsonl").read_text().splitlines()]
  assert seen["plain"] != seen["guided"] != seen["away"] != seen["plain"]


@pytest.mark.slow
def test_captions_come_from_a_file_too_and_long_ones_are_refused_where_that_is_asked_for(place, whole):
  (place / "captions.txt").write_text("a blue square\n\n  a green star \n")
  dalle(place, "sample", "whole", "a red circle", "--captions", "captions.txt", "--num", 1, "--out", "of-a-file")
  rows = [json.loads(line) for line in (place / "of-a-file/samples.jsonl").read_text().splitlines()]
  assert [row["caption"] for row in rows] == ["a red circle", "a blue square", "a green star"]
  long = "a red circle and a blue square " * 20
  _, said = dalle(place, "sample", "whole", long, "--num", 1, "--out", "long")
  assert "tokens; only the first 95 are read" in said
  _, said = dalle(place, "sample", "whole", "カピバラ", "--num", 1, "--out", "strange")
  assert "this checkpoint does not know the words of 'カピバラ': its tokenizer leaves more than 30 % of it" in said
  line = refused(place, "sample", "whole", long, "--num", 1, "--strict", "--out", "strict")
  assert re.search(r"has \d+ tokens, wanted at most 95: shorten it", line)
  assert not (place / "strict").exists()


@pytest.mark.slow
def test_without_clip_the_first_pictures_are_kept_and_this_is_said(place, whole):
  copied(place, whole, "unranked", "clip")
  said = "no CLIP is trained in this run: the first 1 of 2 pictures are kept, and not the best"
  for name, expected in (("unranked", True), ("whole", False)):
    _, err = dalle(place, "sample", name, "a red circle", "--num", 2, "--keep", 1, "--out", f"{name}-drawn")
    assert (said in err) == expected


def drawn(directory):
  """The pictures that were kept, of all captions in turn."""
  found = []
  for file in sorted(directory.glob("*/[0-9]*.png")):
    with Image.open(file) as image:
      found.append(np.asarray(image))
  return found


@pytest.mark.slow
def test_the_same_seed_draws_the_same_pictures(place, whole):
  seen = []
  for name, seed in (("one", 0), ("two", 0), ("three", 1)):
    dalle(place, "sample", "whole", "a red circle", "--num", 2, "--keep", 2, "--seed", seed, "--out", name)
    seen.append([image.tolist() for image in drawn(place / name)])
  assert len(seen[0]) == 2
  assert seen[0] == seen[1]
  assert seen[0] != seen[2]


@pytest.mark.slow
def test_a_part_of_a_picture_is_given_and_the_rest_is_drawn(place, whole):
  one = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8))
  one.save(place / "given.png")
  asked = ("sample", "whole", "a red circle", "--num", 2, "--image-prompt", "given.png")
  parts = {"top": ("--rows", 2), "cropped": ("--rows", 2, "--crop-first"), "hole": ("--region", "1,1,3,3")}
  drawn_codes = {}
  for name, flags in parts.items():
    _, said = dalle(place, *asked, *flags, "--out", name)
    assert ("7 of the 12 codes given come after codes that are drawn" in said) == (name == "hole")
    lines = (place / name / "samples.jsonl").read_text().splitlines()
    drawn_codes[name] = [json.loads(line)["codes"] for line in lines]
    assert "given.png" in (place / name / "index.html").read_text()
  workdir = Workdir.open(whole[0])
  picture = CentreCrop(size=16)(np.asarray(one), np.random.default_rng(0))
  model = workdir.experiment().stage("dvae").objective.model
  codes = np.asarray(dvae.encode_images(workdir.weights("dvae")[0], model, picture[None])).reshape(-1)
  for codes_P in drawn_codes["top"]:
    assert codes_P[:8] == codes[:8].tolist()
  for codes_P in drawn_codes["hole"]:
    np.testing.assert_array_equal(np.delete(codes_P, [5, 6, 9, 10]), np.delete(codes, [5, 6, 9, 10]))
  assert drawn_codes["top"][0][8:] != drawn_codes["top"][1][8:]
  assert len(drawn_codes["cropped"]) == 2


@pytest.mark.slow
def test_what_was_trained_is_measured_and_shown(place, whole):
  out, _ = dalle(place, "eval", "whole", "--captions", 4, "--samples", 2)
  assert out.strip().endswith("whole/index.html")
  found = json.loads((whole[0] / "evaluation.json").read_text())
  assert set(found["losses"]) == set(STAGES)
  assert "psnr" in found["losses"]["dvae"]
  assert "loss_image" in found["losses"]["transformer"]
  assert found["best_of_n"]["test"]["CLIP"]["2"]["of"] == 4
  made_by = found["protocol"]
  assert set(made_by["checkpoints"]) == set(STAGES)
  assert all(len(each["sha256"]) == 64 and each["step"] for each in made_by["checkpoints"].values())
  assert {"data", "experiment", "device", "versions", "commit", "seed", "samples"} <= set(made_by)
  assert "What tiny draws" in (whole[0] / "index.html").read_text()


# Killed and started again.


def wait_for_steps(process, workdir, stage, count):
  while len(metrics.read(workdir / stage / "metrics.jsonl")) < count:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)


@pytest.mark.slow
def test_a_stage_does_not_begin_on_the_codes_of_an_unfinished_dvae(place):
  with start(place, *train("half"), script=SLOWLY) as process:
    wait_for_steps(process, place / "half", "dvae", 7)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
  saved = Checkpoints(place / "half/dvae/checkpoints").good_steps()[-1]
  assert [what for what, _ in times(place / "half")] == ["tokenizer", "dvae"]  # what was stopped counts
  line = refused(place, *train("half", "--only", "transformer"))
  assert f"the stage dvae, whose codes are wanted, stands at step {saved} of 30: train it to its end first" in line
  assert not (place / "half/transformer").exists()


def data_workers(process):
  """Grain's processes of a run."""
  threads = Path(f"/proc/{process.pid}/task")
  children = [int(pid) for file in threads.glob("*/children") for pid in file.read_text().split()]
  return sorted(pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.slow
def test_a_killed_data_worker_is_told_in_one_line_and_the_same_command_ends_with_the_same_bits(place, whole):
  workdir = copied(place, whole, "killed-worker", "dvae")
  command = train(workdir.name, "--only", "dvae", "--workers", 2)
  for victim, steps in enumerate((7, 16)):
    with start(place, *command, script=SLOWLY) as process:
      wait_for_steps(process, workdir, "dvae", steps)
      workers = data_workers(process)
      assert len(workers) == 2
      os.kill(workers[victim], signal.SIGKILL)
      _, said = process.communicate(timeout=30)
    assert process.returncode == 86, said
    assert [line for line in said.splitlines() if not line.startswith("dvae: ")] == [
      "dalle: a data worker died (exit code -9; the system kills where memory runs out): start the same command again"
    ]
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert steps <= len(metrics.read(workdir / "dvae/metrics.jsonl")) < STEPS
  dalle(place, *command)
  assert bits(workdir) == bits(whole[0])  # which had no workers


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_on_another_machine(place, whole, bucket_environment):
  """Killed twice, with an empty copy each time that it goes on, and its bits are those of a run on a disk."""
  there = "gs://bucket/run"

  def machine(number):
    return bucket_environment | {"DALLE_CACHE": str(place / f"machine-{number}")}

  for number, stage in enumerate(("dvae", "transformer")):
    with start(place, *train(there), script=SLOWLY, more=machine(number)) as process:
      copy = appears(process, place / f"machine-{number}", "*/run")
      wait_for_steps(process, copy, stage, 14)
      process.kill()
    assert lease.NAME in places.files(places.at(there))
    (places.at(there) / lease.NAME).unlink()  # as if it had run out
  dalle(place, *train(there), more=machine(2))
  again = dalle(place, *train(there), more=machine(3))[1]
  assert [line for line in again.splitlines() if "done" in line] == [f"{stage}: done, 30 steps" for stage in STAGES]
  (copy,) = (place / "machine-3").glob("*/run")
  assert not list(copy.glob("*/checkpoints"))
  for name in places.files(places.at(there)):
    if "checkpoints" in name:
      (copy / name).parent.mkdir(parents=True, exist_ok=True)
      places.download(places.at(there) / name, copy / name)
  assert bits(copy) == bits(whole[0])


@pytest.mark.slow
def test_a_run_in_a_bucket_is_looked_at_drawn_from_and_measured(place, whole, bucket_environment, tmp_path):
  for file in whole[0].rglob("*"):
    if file.is_file():
      places.upload(file, places.at(f"gs://bucket/whole/{file.relative_to(whole[0])}"))
  here = bucket_environment | {"DALLE_CACHE": str(tmp_path)}
  assert dalle(place, "checkpoint", "verify", "gs://bucket/whole/clip", more=here)[0].endswith("clip 30: good\n")
  listed = dalle(place, "checkpoint", "ls", "gs://bucket/whole", more=here)[0].splitlines()
  assert [line.split()[:2] for line in listed[1:]] == [[s, str(n)] for s in sorted(STAGES) for n in (24, 28, 30)]
  out, _ = dalle(place, "checkpoint", "diff", "gs://bucket/whole/clip", "whole/clip", more=here)
  assert out == "nothing differs\n"
  out, _ = dalle(place, "sample", "gs://bucket/whole", "a red circle", "--num", 2, more=here)
  assert out == "gs://bucket/whole/samples/index.html\n"
  dalle(place, "sample", "whole", "a red circle", "--num", 2, "--out", tmp_path / "samples")
  (picture,) = {name for name in places.files(places.at("gs://bucket/whole/samples")) if name.endswith("/00.png")}
  assert (places.at("gs://bucket/whole/samples") / picture).read_bytes() == (
    tmp_path / "samples" / picture
  ).read_bytes()
  out, _ = dalle(place, "eval", "gs://bucket/whole", "--captions", 2, "--samples", 2, more=here)
  assert out.endswith("gs://bucket/whole/index.html\n")
  assert set(json.loads(places.at("gs://bucket/whole/evaluation.json").read_text())["losses"]) == set(STAGES)


@pytest.mark.slow
def test_data_in_a_bucket_is_trained_on_from_a_copy(place, bucket_environment, tmp_path):
  for file in (place / "data").iterdir():
    places.upload(file, places.at(f"gs://bucket/data/{file.name}"))
  here = bucket_environment | {"DALLE_CACHE": str(tmp_path)}
  short = ("--only", "dvae", "--stages.dvae.steps", 2)
  _, said = dalle(place, *train("from-bucket", "--data", "gs://bucket/data", *short), more=here)
  assert "gs://bucket/data is read from its copy, " in said
  assert len(list(tmp_path.glob("*/data/features.json"))) == 1
  assert Checkpoints(place / "from-bucket/dvae/checkpoints").good_steps() == [2]


def appears(process, folder, pattern):
  while not (found := list(folder.glob(pattern))):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.05)
  return found[0]


@pytest.mark.slow
def test_a_kill_while_codes_are_written_leaves_none_and_the_next_start_writes_them(place, whole):
  workdir = copied(place, whole, "killed-codes", "codes", "transformer")
  with start(place, *train(workdir.name)) as process:
    while not (workdir / ".codes.preparing").exists():
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.002)
    process.kill()
  assert not (workdir / "codes").exists()
  dalle(place, *train(workdir.name))
  assert not (workdir / ".codes.preparing").exists()
  assert bits(workdir) == bits(whole[0])


@pytest.mark.slow
def test_a_kill_while_stale_codes_are_removed_is_no_trouble(place, whole):
  workdir = copied(place, whole, "half-codes", "transformer")
  (workdir / "codes/codes.json").unlink()
  _, said = dalle(place, *train(workdir.name))
  assert "codes: crop 170/170" in said
  assert bits(workdir) == bits(whole[0])


# Stages by themselves, and from other runs.


@pytest.fixture(scope="module")
def other(place):
  """A run with another seed, of which only the dVAE is trained."""
  dalle(place, *train("other", "--seed", 1, "--only", "dvae"))
  return place / "other"


@pytest.mark.slow
def test_one_stage_can_be_run_alone(other, whole):
  assert [what for what, _ in times(other)] == ["tokenizer", "dvae"]
  assert not (other / "codes").exists()
  assert not (other / "transformer").exists()
  theirs, ours = (Checkpoints(workdir / "dvae/checkpoints").digest() for workdir in (other, whole[0]))
  assert theirs != ours


@pytest.mark.slow
def test_codes_of_a_retrained_dvae_are_encoded_anew(place, whole, other):
  workdir = copied(place, whole, "retrained", "dvae", "transformer")
  shutil.copytree(other / "dvae", workdir / "dvae")
  _, said = dalle(place, *train(workdir.name, "--only", "transformer"))
  assert "codes: those of the workdir are damaged, or of other weights or data; encoding anew" in said
  stamp = open_codes(workdir / "codes").stamp
  assert stamp.dvae == Checkpoints(other / "dvae/checkpoints").digest()
  assert open_codes(whole[0] / "codes").stamp == dataclass_with(stamp, dvae=open_codes(whole[0] / "codes").stamp.dvae)


def dataclass_with(value, **changes):
  return type(value)(**(vars(value) | changes))


@pytest.mark.slow
def test_a_finished_dvae_of_another_run_is_taken_with_its_codes_and_no_others(place, whole, other):
  for name in ("whole", "other"):
    out, _ = dalle(place, "data", "encode", "data", "--dvae", name, "--out", f"codes-{name}", "--crops", 2)
    assert out.strip().endswith(f"codes-{name}")
  flags = ("--stages.dvae.from", "whole", "--stages.dvae.frozen", "True", "--only", "transformer")
  wrong = refused(place, *train("wrong", *flags, "--stages.transformer.examples.dir", "codes-other"))
  assert "the codes in codes-other are of another dVAE (" in wrong
  dalle(place, *train("taken", *flags, "--stages.transformer.examples.dir", "codes-whole"))
  assert not (place / "taken/dvae").exists()
  assert not (place / "taken/codes").exists()
  ours, theirs = (Checkpoints(place / name / "transformer/checkpoints").digest() for name in ("whole", "taken"))
  assert ours == theirs


@pytest.mark.slow
def test_a_stage_begins_with_another_runs_weights(place, other):
  """The first update of the warm-up has a rate of 0: after it the weights are still those it began with."""
  dalle(place, *train("begun", "--stages.dvae.from", "other", "--stages.dvae.steps", 1, "--only", "dvae"))
  begun, theirs = (Checkpoints(place / name / "dvae/checkpoints").digest() for name in ("begun", "other"))
  assert begun == theirs
  assert metrics.read(place / "begun/dvae/metrics.jsonl")[0]["learning_rate"] == 0


@pytest.mark.slow
def test_a_stage_of_other_sizes_is_refused_with_the_arrays_that_differ(place, other):
  flags = ("--stages.dvae.from", "other", "--stages.dvae.objective.model.hidden", 16)
  both = ("--stages.clip.objective.dvae.hidden", 16)
  line = refused(place, *train("wide", *flags, *both, "--only", "dvae"))
  assert "is of another model: " in line
  assert ", wanted float32[" in line
  line = refused(place, *train("wide-frozen", *flags, *both, "--stages.dvae.frozen", "True", "--only", "transformer"))
  assert "is of another model: " in line


# Several processes.


@pytest.mark.slow
def test_two_processes_run_all_stages_with_one_s_losses(place, whole):
  launcher = Path(__file__).parents[1] / "launch/local.py"
  command = [sys.executable, launcher, "-n", "2", *train("of-two")[1:]]
  environment = os.environ | QUICK
  done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert [what for what, _ in times(place / "of-two")] == ["tokenizer", "dvae", "codes", "transformer", "clip"]
  for stage in STAGES:
    read = [metrics.read(workdir / stage / "metrics.jsonl") for workdir in (place / "of-two", whole[0])]
    ours, theirs = ([row for row in rows if "grad_norm" in row] for rows in read)
    for key in theirs[0].keys() & {"loss", "loss_text", "loss_image", "grad_norm"}:
      np.testing.assert_allclose([row[key] for row in ours], [row[key] for row in theirs], rtol=1e-5, err_msg=key)
    assert {row["step"] for row in ours} == set(range(1, STEPS + 1))
    assert f"{stage}: step 30/30" in done.stderr
  assert done.stderr.count("dvae: step 30/30") == 1
  for stage, picture in (("dvae", "reconstructions"), ("transformer", "samples")):
    assert (place / f"of-two/{stage}/pictures/{picture}-0000030.png").is_file()
  assert "training health has not stopped" in refused(place, *train("of-two", "--rollback"))


@pytest.mark.slow
def test_processes_that_differ_say_in_what_before_the_first_step(place):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  who = [
    ("--processes.coordinator", f"127.0.0.1:{port}", "--processes.count", 2, "--processes.index", i) for i in (0, 1)
  ]
  gang = [start(place, *train("differing", "--seed", seed, *told)) for seed, told in enumerate(who)]
  said = [process.communicate(timeout=120)[1] for process in gang]
  assert [process.returncode for process in gang] == [2, 2], said
  for index, text in enumerate(said):
    (line,) = [line for line in text.splitlines() if line.startswith("dalle: ")]
    assert line.startswith(f"dalle: process {index} of 2: the processes differ in their experiment: process 0 has ")
  assert not (place / "differing").exists()


# What is wrong is told in one line.


@pytest.mark.slow
def test_a_full_disk_while_saving_is_exit_code_88(place, whole):
  copied(place, whole, "full", "dvae")
  line = refused(place, *train("full", "--only", "dvae"), code=88, script=ON_A_FULL_DISK)
  assert "cannot save checkpoint" in line
  assert "no space left on device" in line


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--data", "nowhere"], "no data at nowhere: make it with `dalle data prepare"),
    (["--data", "."], ". is not a prepared data set"),
    (["--only", "dave"], "tiny has no stage 'dave'; it has dvae, transformer, clip"),
    (["--workdir", "tiny.py"], "cannot write to tiny.py (File exists): take another --workdir"),
    (["--workdir", "data"], "the workdir data is the data's own directory: take another --workdir"),
    (["--stages.dvae.steps", "0"], "steps is 0"),
    (["--stages.transformer.objective.model.grid", "8"], "stage transformer models 8x8 image tokens of 32, the dVAE"),
    (["--stages.dvae.from", "nowhere"], "nowhere is not a workdir"),
    (["--only", "transformer"], "w has no weights of stage dvae yet: run `dalle train` on it first"),
    (["--mesh.data", "3"], "got a mesh of data=3, fsdp=1, model=1 for 8 devices"),
    pytest.param(
      ["--mesh.data", "1", "--mesh.model", "8"],
      "stage transformer: an activation with axes ('batch', 'seq', 'heads'",
      marks=pytest.mark.slow,
    ),
    (["--mesh.data", "8", "--stages.clip.batch", "9"], "stage clip: a batch of 9 does not divide over 8 devices"),
    pytest.param(["--mesh.model", "2", "--rules.embed", "model"], "stage transformer: params/", marks=pytest.mark.slow),
    (["--workers", "-1"], "got workers -1, wanted 0 or more data-loading processes"),
    (["--workdir", ""], "got an empty name, wanted a directory, or gs://BUCKET/NAME"),
    (["--workdir", "s3://bucket/run"], "got s3://bucket/run, wanted a directory, or gs://BUCKET/NAME"),
    (["--rollback"], "--rollback: training health has not stopped dvae or transformer or clip in"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(place, monkeypatch, capfd, tmp_path, flags, says):
  monkeypatch.chdir(place)
  workdir = [] if "--workdir" in flags else ["--workdir", str(tmp_path / "w")]
  assert cli.main(["train", "tiny.py", *workdir, *flags]) == 2
  printed = capfd.readouterr()
  assert printed.out == ""
  assert says in printed.err
  assert printed.err.count("dalle: ") == 1
  assert printed.err.count("\n") == 1
  assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("flags", [["--only", "transformer"], ["--rollback"]])
def test_what_needs_no_tracing_is_told_before_it(place, monkeypatch, capfd, tmp_path, flags):
  monkeypatch.chdir(place)
  monkeypatch.setattr(step_shapes, "check", lambda *_: pytest.fail("a step was traced"))
  assert cli.main(["train", "tiny.py", "--workdir", str(tmp_path / "w"), *flags]) == 2
  assert capfd.readouterr().err.count("dalle: ") == 1


def test_a_workdir_of_another_experiment_is_one_line(place, monkeypatch, capfd, tmp_path):
  monkeypatch.chdir(place)
  Workdir.claim(tmp_path / "w", load("tiny.py"))
  argv = ["train", "tiny.py", "--workdir", str(tmp_path / "w"), "--only", "dvae"]
  assert cli.main([*argv, "--seed", "7"]) == 2
  assert capfd.readouterr().err == (
    f"dalle: {tmp_path}/w holds another experiment (seed: 0 -> 7): take another --workdir\n"
  )


@pytest.mark.slow
def test_a_place_that_may_not_be_written_is_one_line(place, monkeypatch, capfd):
  with tempfile.TemporaryDirectory() as name:  # pytest's own directories can't be read by another user
    directory = Path(name)
    directory.chmod(0o755)
    shutil.copytree(place / "data", directory / "data")
    shutil.copy(place / "tiny.py", directory)
    (directory / "locked").mkdir(mode=0o500)
    monkeypatch.chdir(directory)
    was = os.geteuid()
    if was == 0:
      os.seteuid(65534)
    try:
      assert cli.main(["train", "tiny.py", "--workdir", "locked/w"]) == 2
    finally:
      os.seteuid(was)
    monkeypatch.undo()
  assert capfd.readouterr().err == "dalle: cannot write to locked/w (Permission denied): take another --workdir\n"


@pytest.fixture
def late(monkeypatch):
  """A stage whose dVAE has no weights is begun, so that it can be seen what is said before these are read."""
  monkeypatch.setattr(run, "_check_beforehand", lambda *args: None)


@pytest.mark.usefixtures("late")
def test_captions_that_are_cut_off_are_counted(place, monkeypatch, capfd, tmp_path):
  monkeypatch.chdir(place)
  sizes = ["--tokenizer.length", "--stages.transformer.objective.model.text", "--stages.clip.objective.model.text"]
  flags = [word for flag in sizes for word in (flag, "9")]
  assert cli.main(["train", "tiny.py", "--workdir", str(tmp_path / "w"), "--only", "transformer", *flags]) == 2
  said = capfd.readouterr().err.splitlines()[0]
  found = re.fullmatch(r"transformer: (\d+) of 120 captions have more than 8 tokens and are cut off at their end", said)
  assert 20 < int(found[1]) <= 120


@pytest.mark.usefixtures("late")
def test_a_schedule_that_ends_at_another_step_than_its_stage_is_said(place, monkeypatch, capfd, tmp_path):
  monkeypatch.chdir(place)
  flags = ["--only", "transformer", "--workdir", str(tmp_path / "w")]
  said = "transformer: takes 20 steps, and its rate falls until step 30: --stages.transformer.optimizer.lr.steps 20"
  for more, expected in ((["--stages.transformer.steps", "20"], True), ([], False)):
    assert cli.main(["train", "tiny.py", *flags, *more, "--workdir", str(tmp_path / f"w{len(more)}")]) == 2
    assert (said in capfd.readouterr().err) == expected


def test_the_time_of_what_was_stopped_counts_too(tmp_path):
  workdir = Workdir(tmp_path)
  for ends in (KeyboardInterrupt, None):
    with contextlib.suppress(KeyboardInterrupt), workdir.timed("dvae"):
      time.sleep(0.1)
      if ends is not None:
        raise ends
  assert workdir.times() == [("dvae", pytest.approx(0.2, abs=0.15))]
  assert len((tmp_path / "times.jsonl").read_text().splitlines()) == 2


def test_a_stage_begun_on_codes_of_another_dvae_is_not_gone_on_with(monkeypatch, tmp_path):
  class Begun:
    def files(self):
      return {"hashes.json": b'{"dvae": "a"}'}

  monkeypatch.setattr(Workdir, "checkpoints", lambda self, stage: Begun())
  stage_codes.check_begun_on("transformer", Workdir(tmp_path), {"dvae": "a"})
  with pytest.raises(UserError, match=r"begun on codes of another dVAE: remove .*transformer to train it anew"):
    stage_codes.check_begun_on("transformer", Workdir(tmp_path), {"dvae": "b"})


def test_a_second_process_on_the_same_workdir_is_refused(place, monkeypatch, capfd, tmp_path):
  from dalle_jax.training import lock

  monkeypatch.chdir(place)
  with lock.held(tmp_path / "w"):
    assert cli.main(["train", "tiny.py", "--workdir", str(tmp_path / "w"), "--workers", "1"]) == 2
  assert "is in use by process" in capfd.readouterr().err
  assert not (tmp_path / "w/experiment.json").exists()
