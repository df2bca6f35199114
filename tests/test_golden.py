"""Every experiment that comes with the project: its text is the committed one, and its stages trace at full size."""

import math
import subprocess
import sys
import typing
from pathlib import Path
from typing import Literal

import jax
import pytest

from dalle_jax import experiment, golden, sharding, step_shapes
from dalle_jax.training.step import abstract_state, make_step

ROOT = Path(__file__).parents[1] / "experiments"
NAMES = golden.names(ROOT)
ALL = [*NAMES, *golden.pack_names(ROOT)]
# The stages of the others take as long again: they are slow tests.
TRACED = ("clip_vit_b32", "dalle_12b", "demo")


def variants(name):
  """Arguments of the experiment's function: the defaults, and each choice of a parameter that has choices."""
  found = [{}]

  def look(signature):
    for key, p in signature.parameters.items():
      choices = typing.get_args(p.annotation) if typing.get_origin(p.annotation) is Literal else ()
      found.extend({key: choice} for choice in choices if choice != p.default)
    return {"examples": golden.EXAMPLES} if "examples" in signature.parameters else {}

  experiment.load(ROOT / f"{name}.py", look)
  return found


def _id(name, arguments, stage):
  return "-".join([name, *arguments.values(), stage])


def stages():
  """Each stage that is trained of each experiment, once where experiments share it."""
  seen = []
  for name in NAMES:
    for arguments in variants(name):
      for stage, own in golden.resolved(name, ROOT, **arguments).stages.items():
        if own not in seen and not own.frozen:
          seen.append(own)
          marks = [pytest.mark.slow] if arguments or name not in TRACED else []
          yield pytest.param(name, arguments, stage, marks=marks, id=_id(name, arguments, stage))


STAGES = list(stages())


def test_there_are_experiments():
  assert "demo" in NAMES
  assert "ablations/last_layer" in ALL


@pytest.mark.parametrize("name", ALL)
def test_the_committed_text_is_what_the_experiment_resolves_to(name):
  file = golden.file(name, ROOT)
  if not file.is_file():
    pytest.fail(f"experiments/golden/{name}.txt is missing: run `make golden`")
  if file.read_text() != golden.text(name, ROOT):
    lines = set(golden.text(name, ROOT).splitlines()) ^ set(file.read_text().splitlines())
    pytest.fail(f"experiments/golden/{name}.txt is not of today, run `make golden`: {sorted(lines)[:4]}")


def test_no_committed_text_is_left_over():
  texts = {str(file.relative_to(ROOT / "golden").with_suffix("")) for file in (ROOT / "golden").rglob("*.txt")}
  assert texts - set(ALL) == set(), "run `make golden`"


@pytest.mark.parametrize(("name", "arguments", "stage"), STAGES)
def test_a_stage_traces_at_full_size(name, arguments, stage):
  """Initialisation, loss, gradient and update of the true sizes and batch, without a number computed."""
  whole = golden.resolved(name, ROOT, **arguments)
  own, mesh = whole.stage(stage), sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1])
  given = state, _, _ = step_shapes.arguments(whole, stage, mesh)
  options = {"mesh": mesh, "rules": whole.rules, "accumulate": own.accumulate, "reduce": own.reduce}
  run = make_step(own.objective, own.optimizer, seed=whole.seed, **options)
  after, metrics = jax.eval_shape(run, *given)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert shapes(after) == shapes(state)
  assert all(each.shape == () for each in metrics.values())
  assert {"loss", "grad_norm", "learning_rate"} <= set(metrics)


def count(name, stage):
  objective = golden.resolved(name, ROOT).stage(stage).objective
  boxed = jax.eval_shape(objective.init, jax.random.key(0))
  return sum(x.size for x in jax.tree.leaves(sharding.unbox(boxed)))


@pytest.mark.parametrize(
  ("name", "layers", "width"),
  [("12b", 64, 3968), ("5b", 64, 2688), ("2b", 64, 1920), ("1b", 24, 2048), ("350m", 24, 1024)],
)
def test_a_transformer_of_paper_size_has_the_paper_s_weights(name, layers, width):
  block = 12 * width + 13  # its products; biases of q, k, v, out and the MLP, and two norms
  tokens = 2 * (16384 + 256 + 8192)  # of text, its pads and the image, embedded and unembedded
  places = 256 + 32 + 32 + 2 + 2  # text positions, rows and columns, starts, the last norm
  assert count(f"dalle_{name}", "transformer") == width * (layers * block + tokens + places)


@pytest.mark.parametrize("stage", ["dvae", "transformer", "clip"])
def test_the_state_of_paper_size_is_split_over_all_devices(stage):
  whole = golden.resolved("dalle_12b", ROOT)
  own, mesh = whole.stage(stage), sharding.make_mesh(sharding.MeshShape(data=1, fsdp=8))
  state = jax.tree.leaves(abstract_state(own.objective, own.optimizer, mesh=mesh, rules=whole.rules))
  here = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in state)
  assert jax.device_count() == 8
  assert here < 1.02 / 8 * sum(x.size * x.dtype.itemsize for x in state)


def test_the_dvae_of_paper_size_has_the_published_weights():
  assert count("dvae_256", "dvae") == 53_786_240 + 43_829_766
  assert count("dalle_12b", "dvae") == count("dvae_256", "dvae")


def test_clip_has_the_published_towers():
  vision = 12 * (12 * 768**2 + 13 * 768) + 32**2 * 3 * 768 + (49 + 1) * 768 + 768 + 4 * 768 + 768 * 512
  text = 12 * (12 * 512**2 + 13 * 512) + 2 * 512 + 512 * 512
  words = (16384 + 256 + 256) * 512  # tokens, pads and places of this project's captions
  assert count("clip_vit_b32", "clip") == vision + text + words + 1  # and the temperature


EXPERIMENT = """
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.experiment import Experiment

def experiment():
  return Experiment(name="{name}", data="d", tokenizer=TokenizerConfig(vocab=400), stages={{}})
"""

PACK = """
import dataclasses
import one
from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Pictures, Stage
from dalle_jax.models import dvae
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW

def base(scale):
  aim = PatchDvae(model=dvae.Config(image=16), patches_from=4)
  examples = Pictures(crop=Stage1Crop(size=16))
  stage = Stage(steps=1, batch=1, objective=aim, optimizer=AdamW(lr=Constant(1.0)), examples=examples)
  return dataclasses.replace(one.experiment(), stages={"s": stage})

def pack():
  return Pack(
    title="second", group="attention", paper=Paper(rows=(1,), says="it is", where="here"),
    base=base, stage="s", control="b",
    arms=(Arm(name="a"), Arm(name="b", change=lambda e: dataclasses.replace(e, workers=3), fields=("workers",))),
    metric=Metric(name="m", unit="u", smallest=1.0, measure=lambda workdir, setting, seed: 0.0),
    claims=(Better(arm="a", than="b"),),
  )
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
  """A directory with an experiment, a pack, and no texts."""
  (tmp_path / "experiments/ablations").mkdir(parents=True)
  (tmp_path / "experiments/one.py").write_text(EXPERIMENT.format(name="first"))
  (tmp_path / "experiments/ablations/two.py").write_text(PACK)
  monkeypatch.chdir(tmp_path)
  return tmp_path / "experiments"


def test_the_command_writes_the_texts_of_all_experiments(project):
  assert golden.check(project) == ["ablations/two", "one"]
  done = subprocess.run([sys.executable, "-m", "dalle_jax.golden"], capture_output=True, text=True)
  assert (done.returncode, done.stdout) == (0, "1 experiments, 1 packs; changed: ablations/two, one\n"), done.stderr
  assert golden.check(project) == []
  lines = (project / "golden/one.txt").read_text().splitlines()
  assert lines[:3] == ["kind = 'Experiment'", "name = 'first'", "data = 'd'"]
  assert "tokenizer.vocab = 400" in lines
  pack = (project / "golden/ablations/two.txt").read_text()
  assert "name = 'first'" in pack
  assert pack.endswith("\n# a\n\n# b\nworkers: 0 -> 3\n")


def test_what_changed_what_is_new_and_what_is_gone_are_told(project):
  assert golden.write(project) == ["ablations/two", "one"]
  (project / "one.py").write_text(EXPERIMENT.format(name="changed"))
  (project / "three.py").write_text(EXPERIMENT.format(name="third"))
  (project / "ablations/two.py").unlink()
  assert golden.check(project) == ["ablations/two", "one", "three"]
  assert golden.write(project) == ["ablations/two", "one", "three"]
  assert golden.check(project) == []
  assert sorted(file.name for file in project.glob("golden/**/*.txt")) == ["one.txt", "three.txt"]


def test_an_experiment_with_an_error_is_one_line_and_exit_code_2(project):
  (project / "one.py").write_text("x = 1\nraise KeyError('lr')\n")
  done = subprocess.run([sys.executable, "-m", "dalle_jax.golden"], capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (2, "golden: experiments/one.py:2: KeyError: 'lr'\n")


def test_an_experiment_that_looks_at_the_data_is_resolved_without(project):
  text = EXPERIMENT.format(name="n").replace("experiment():", "experiment(examples=None):")
  (project / "one.py").write_text(text.replace("stages={}", "stages={}, seed=int(examples)"))
  assert golden.resolved("one", project).seed == golden.EXAMPLES
