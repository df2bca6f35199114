"""Imports point down, run in no circle, and each heavy dependency has one door."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import dalle_jax

# From top to bottom. A module imports its own unit and the units of lower lines; those beside it in a line it does not.
LAYERS = (
  ("__main__",),
  ("cli",),
  ("commands",),
  ("bench_attention", "bench_gpu", "bench_sample", "bench_tpu"),
  ("probe_again",),
  ("probe",),
  ("golden",),
  ("report",),
  ("ablations",),
  ("measure",),
  ("plan", "bench", "draw", "sampler", "score", "describe", "raven", "run"),
  ("overlap", "human", "stage_inputs"),
  ("inspect_page", "checkpoint_files", "convert_files", "stage_codes"),
  ("rank", "attention_maps"),
  ("prompt_metrics",),
  ("evaluate", "showing", "step_shapes"),
  ("workdir",),
  ("experiment",),
  ("published", "reference"),
  ("evaluation", "convert"),
  ("sampling",),
  ("objectives",),
  ("models", "pattern_pictures"),
  ("ops", "training", "data"),
  ("sharding", "schedules", "config"),
  ("processes", "allocator", "chips", "manifest", "mirror", "__init__"),
  ("places", "pack_files"),
  ("errors",),
)
RANK = {unit: rank for rank, line in enumerate(LAYERS) for unit in line}

# Of `training`, what may be seen from between the experiment and the models; of `data`, nothing but in evaluation.
NOT_BELOW = {
  "models": ("training", "data"),
  "objectives": ("training", "data"),
  "sampling": ("training", "data"),
  "evaluation": ("training",),
  "convert": ("training", "data"),
}
CHECKPOINT = "dalle_jax.training.checkpoint"
READ_CHECKPOINTS = ("sampling", "evaluation", "convert")

# Where a dependency may be imported: modules, and packages that end in a dot.
DOORS = {
  "flax": ("models.", "sharding"),
  "jax.experimental.pallas": ("ops.",),
  "optax": ("training.",),
  "orbax": ("training.checkpoint",),
  "tensorflow_datasets": ("data.",),
  "grain": ("data.",),
  "sentencepiece": ("data.",),
  "array_record": ("data.",),
  "tyro": ("commands.", "experiment"),
  "matplotlib": ("evaluation.", "ablations", "report", "plan."),
  "tensorboardX": ("training.tensorboard",),
  "safetensors": ("checkpoint_files", "convert."),
  "msgpack": ("convert.",),
  "wandb": ("training.wandb_log",),
  "etils": ("places", "mirror", "training.lease"),
  "fsspec": ("places",),
  "google": ("training.lease",),
  "tensorflow": (),
  "torch": (),
}

# A name that loads what stands above its package where somebody asks for it; importing the package does not.
ON_DEMAND = {("dalle_jax.sampling", "dalle_jax.sampler")}

# What must run on jax, flax, optax and orbax alone, with all that it imports.
BARE = (
  "models.",
  "ops.",
  "objectives.",
  "training.step",
  "sampling.",
  "bench",
  "bench_attention",
  "bench_gpu",
  "bench_sample",
  "bench_tpu",
)
NOT_BARE = ("tyro", "grain", "tensorflow_datasets")


def sources():
  """The text of every module, by its dotted name."""
  root = Path(dalle_jax.__file__).parent
  names = {path: ".".join((root.name, *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")}
  return {name.removesuffix(".__init__"): path.read_text() for path, name in names.items()}


@functools.cache
def imported(name, text, known):
  """The modules that a text imports, in functions too; a package where the name asked for is no module of it."""
  found = set()
  package = name if any(other.startswith(f"{name}.") for other in known) else name.rpartition(".")[0]
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
      found |= {f"{base}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
      called = getattr(node.func, "attr", getattr(node.func, "id", ""))
      if called in ("import_module", "__import__"):
        found.add(str(node.args[0].value))
  ours = {target for target in found if target.split(".")[0] == "dalle_jax"}
  return (found - ours) | {target if target in known else target.rpartition(".")[0] for target in ours}


def graph(texts):
  known = frozenset(texts)
  found = {name: imported(name, text, known) for name, text in texts.items()}
  return {name: {target for target in targets if (name, target) not in ON_DEMAND} for name, targets in found.items()}


def unit(name):
  return name.split(".")[1] if "." in name else "__init__"


def starts(name, prefixes):
  """Whether a module or dependency is one of these, or inside one."""
  return any(name == prefix.rstrip(".") or name.startswith(f"{prefix.rstrip('.')}.") for prefix in prefixes)


def violations(texts):
  """A line for every import that points up or sideways, or does not use its dependency's door."""
  lines = []
  edges = graph(texts)
  for name, targets in sorted(edges.items()):
    mine, short = unit(name), name.removeprefix("dalle_jax.")
    if mine not in RANK:
      lines.append(f"{name} has no layer")
      continue
    for target in sorted(targets):
      if target.split(".")[0] != "dalle_jax":
        for dependency, doors in DOORS.items():
          if starts(target, [dependency]) and not starts(short, doors):
            lines.append(f"{name} imports {dependency}, whose door is {', '.join(doors) or 'nowhere'}")
        continue
      theirs = unit(target)
      if theirs != mine and RANK.get(theirs, -1) <= RANK[mine]:
        lines.append(f"{name} imports {target}, which is not below it")
      if theirs in NOT_BELOW.get(mine, ()) and not (target == CHECKPOINT and mine in READ_CHECKPOINTS):
        lines.append(f"{name} imports {target}, which {mine} does without")
  for name in sorted(edges):
    if starts(name.removeprefix("dalle_jax."), BARE):
      for target in sorted(reached(name, edges)):
        if starts(target, NOT_BARE):
          lines.append(f"{name} needs {target}")
  return lines


def reached(name, edges):
  """All that a module imports, and what that imports, and so on."""
  seen, todo = set(), [name]
  while todo:
    for target in edges.get(todo.pop(), ()):
      if target not in seen:
        seen.add(target)
        todo.append(target)
  return seen


def circle(texts):
  try:
    graphlib.TopologicalSorter(graph(texts)).prepare()
  except graphlib.CycleError as error:
    return " -> ".join(error.args[1])
  return None


def test_imports_point_down_and_through_the_doors():
  texts = sources()
  assert {"dalle_jax.models.dvae", "dalle_jax.ops.sparse_attention", "dalle_jax.cli", "dalle_jax"} <= set(texts)
  assert violations(texts) == []


def test_no_module_imports_itself_in_a_circle():
  assert circle(sources()) is None


def test_the_doors_are_used():
  # A door that nobody goes through would make its rule empty.
  edges = graph(sources())
  for dependency in ("flax", "optax", "orbax", "tensorflow_datasets", "grain", "sentencepiece", "tyro"):
    assert any(starts(target, [dependency]) for targets in edges.values() for target in targets), dependency


def test_what_runs_on_a_bare_machine_is_found():
  edges = graph(sources())
  assert any(starts(target, ["tyro"]) for target in reached("dalle_jax.cli", edges))
  assert any(starts(target, ["flax"]) for target in reached("dalle_jax.bench", edges))


@pytest.mark.parametrize(
  ("module", "snippet", "complaint"),
  [
    ("models.dvae", "from dalle_jax.experiment import Stage", "imports dalle_jax.experiment, which is not below it"),
    ("models.dvae", "from dalle_jax import experiment", "imports dalle_jax.experiment, which is not below it"),
    (
      "objectives.clip",
      "import dalle_jax.sampling.drawer as d",
      "imports dalle_jax.sampling.drawer, which is not below",
    ),
    ("ops.sparse_attention.xla", "from ...models import dvae", "imports dalle_jax.models.dvae, which is not below it"),
    ("ops.sparse_attention", "from ...models import dvae", "imports dalle_jax.models.dvae, which is not below it"),
    (
      "training.step",
      "def f():\n  from dalle_jax.models import clip",
      "imports dalle_jax.models.clip, which is not below",
    ),
    ("data.images", "from dalle_jax.models import dvae", "imports dalle_jax.models.dvae, which is not below it"),
    ("data.images", "from dalle_jax.training import loop", "imports dalle_jax.training.loop, which is not below it"),
    ("experiment", "from dalle_jax import run", "imports dalle_jax.run, which is not below it"),
    ("workdir", "import importlib\nimportlib.import_module('dalle_jax.commands.flags')", "is not below it"),
    ("bench", "from dalle_jax import run", "imports dalle_jax.run, which is not below it"),
    ("commands.flags", "from dalle_jax.cli import main", "imports dalle_jax.cli, which is not below it"),
    ("objectives.dvae", "from dalle_jax.training import step", "which objectives does without"),
    ("sampling.generate", "from dalle_jax.training import loop", "which sampling does without"),
    ("models.clip", "from dalle_jax.data import scenes", "which models does without"),
    ("run", "import orbax.checkpoint as ocp", "imports orbax, whose door is training.checkpoint"),
    ("objectives.clip", "from flax import linen as nn", "imports flax, whose door is models., sharding"),
    ("sampling.rerank", "import grain", "imports grain, whose door is data."),
    ("evaluation.report", "import tensorflow_datasets as tfds", "imports tensorflow_datasets, whose door is data."),
    ("run", "import sentencepiece", "imports sentencepiece, whose door is data."),
    ("models.dvae", "from jax.experimental import pallas as pl", "imports jax.experimental.pallas, whose door is ops."),
    ("data.images", "import tensorflow as tf", "imports tensorflow, whose door is nowhere"),
    ("bench", "from dalle_jax.workdir import Workdir", "dalle_jax.bench needs tyro"),
    ("utils", "", "dalle_jax.utils has no layer"),
  ],
)
def test_an_import_that_should_not_be_is_reported(module, snippet, complaint):
  texts = sources()
  name = f"dalle_jax.{module}"
  texts[name] = f"{texts.get(name, '')}\n{snippet}\n"
  assert [line for line in violations(texts) if line.startswith(f"{name} ") and complaint in line]


def test_a_circle_is_reported():
  texts = sources()
  texts["dalle_jax.data.scenes"] += "\ndef f():\n  from dalle_jax.data import scene_layout\n"
  assert "dalle_jax.data.scenes" in circle(texts)


def test_what_sampling_evaluation_and_convert_may_see_of_training_is_the_checkpoint():
  texts = sources()
  texts["dalle_jax.sampling.drawer"] += "\nfrom dalle_jax.training.checkpoint import Checkpoints\n"
  texts["dalle_jax.convert.clip"] = "from dalle_jax.training import checkpoint\nfrom dalle_jax.models import clip\n"
  assert violations(texts) == []


def test_a_name_on_demand_is_loaded_when_it_is_asked_for_and_no_sooner():
  for package, target in ON_DEMAND:
    name = target.rpartition(".")[2].capitalize()
    loaded = f"{target!r} in sys.modules"
    code = f"import sys, {package}; assert not {loaded}; {package}.{name}; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)
