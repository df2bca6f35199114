"""Mistakes at the command line: one line that names the thing and what to change, exit code 2, nothing written."""

import dataclasses
import os
import random
import string

import numpy as np
import pytest
import unseen
from few import FEW
from PIL import Image

from dalle_jax import cli

SEED = 0
MOST = 200


@dataclasses.dataclass(frozen=True)
class Mistake:
  """A command, what is wrong with it, and what its line has to name."""

  what: str
  argv: tuple[str, ...]
  names: str = ""


def mistake(what, argv, names=""):
  return Mistake(what, tuple(argv.split()) if isinstance(argv, str) else tuple(argv), names)


TRAIN = "train demo.py --workdir new --data data"
AGAIN = ("train", "demo.py", "--workdir", "run", "--data", "data", *FEW)
WRITTEN = [
  mistake("no command of that name", "trian demo.py", "train"),
  mistake("a command of data misspelt", "data prepar captioned_scenes --out new", "prepare"),
  mistake("a command of checkpoint misspelt", "checkpoint verfy run", "verify"),
  mistake("an unknown benchmark", "bench everything", "everything"),
  mistake("no experiment", "train --workdir new", "EXPERIMENT"),
  mistake("no workdir", "train demo.py", "--workdir"),
  mistake("an experiment that is not there", "train demos.py --workdir new", "demos.py"),
  mistake("a directory for an experiment", "train data --workdir new", "data"),
  mistake("a picture for an experiment", "train picture.png --workdir new", "picture.png"),
  mistake("an experiment with a syntax error", "train broken.py --workdir new", "broken.py"),
  mistake("an experiment without experiment()", "train nothing.py --workdir new", "experiment"),
  mistake("an experiment that is a number", "train number.py --workdir new", "number.py"),
  mistake("an experiment that raises", "train raises.py --workdir new", "out of cheese"),
  mistake("data that is not there", "train demo.py --workdir new --data nowhere", "nowhere"),
  mistake("a folder of pictures for data", "train demo.py --workdir new --data folder", "folder"),
  mistake("a file for data", "train demo.py --workdir new --data note.txt", "note.txt"),
  mistake("the data for a workdir", "train demo.py --workdir data --data data", "data"),
  mistake("a stage that is not there", f"{TRAIN} --only dave", "dave"),
  mistake("a stage before what it needs", f"{TRAIN} --only transformer", "dvae"),
  mistake("no steps", f"{TRAIN} --dvae-steps 0", "0"),
  mistake("steps in words", f"{TRAIN} --dvae-steps many", "many"),
  mistake("a batch of none", f"{TRAIN} --stages.dvae.batch 0", "batch"),
  mistake("a batch of parts of a picture", f"{TRAIN} --stages.dvae.batch 1.5", "1.5"),
  mistake("heads that are too wide for nothing", f"{TRAIN} --stages.transformer.objective.model.heads 0", "heads"),
  mistake("other codes than the dVAE's", f"{TRAIN} --stages.transformer.objective.model.image_vocab 9", "9"),
  mistake("another vocabulary than the tokenizer's", f"{TRAIN} --tokenizer.vocab 400", "400"),
  mistake("a mesh that does not divide", f"{TRAIN} --mesh.fsdp 7", "7"),
  mistake("a batch that the mesh does not divide", f"{TRAIN} --mesh.data 8 --stages.dvae.batch 12", "12"),
  mistake("a profile that ends before it begins", f"{TRAIN} --profile 9:3", "9:3"),
  mistake("a profile of words", f"{TRAIN} --profile first", "first"),
  mistake("no time for a step", f"{TRAIN} --processes.step_limit 0", "step_limit"),
  mistake("an index without a count", f"{TRAIN} --processes.index 1", "--processes."),
  mistake(
    "a coordinator without a port",
    f"{TRAIN} --processes.coordinator here --processes.count 2 --processes.index 0",
    "here",
  ),
  mistake("a rollback where nothing went wrong", [*AGAIN, "--rollback"], "--rollback"),
  mistake("weights of a run that is not there", f"{TRAIN} --stages.dvae.from nowhere", "nowhere"),
  mistake("frozen without weights", f"{TRAIN} --stages.dvae.frozen True", "frozen"),
  mistake("another seed in the same workdir", [*AGAIN, "--seed", "5"], "seed"),
  mistake("a caption for a workdir", ["sample", "a red square"], "WORKDIR"),
  mistake("no caption", "sample run", "caption"),
  mistake("an empty caption", ["sample", "run", "", "--out", "new"], "caption"),
  mistake("a workdir that is not there", ["sample", "nowhere", "a red square"], "nowhere"),
  mistake("no pictures", ["sample", "run", "a square", "--num", "0", "--out", "new"], "--num"),
  mistake("more kept than drawn", ["sample", "run", "a square", "--num", "2", "--keep", "3", "--out", "new"], "--keep"),
  mistake(
    "a temperature below zero", ["sample", "run", "a square", "--temperature", "-1", "--out", "new"], "temperature"
  ),
  mistake("a probability above one", ["sample", "run", "a square", "--top-p", "1.5", "--out", "new"], "top"),
  mistake(
    "a file for a folder", ["sample", "run", "a square", "--num", "2", "--keep", "1", "--out", "note.txt"], "note.txt"
  ),
  mistake("a workdir for evaluation that is data", "eval data", "data"),
  mistake("a split that is not there", "eval run --data data --split tets", "tets"),
  mistake("no captions to evaluate", "eval run --data data --captions 0", "captions"),
  mistake("no path", "checkpoint ls", "PATH"),
  mistake("a path that is not there", "checkpoint ls nowhere", "nowhere"),
  mistake("data for checkpoints", "checkpoint verify data", "data"),
  mistake("one of two paths", "checkpoint diff run", "PATH PATH"),
  mistake("an export without a place", "checkpoint export run", "--out"),
  mistake("a step that is not there", "checkpoint export run/dvae/checkpoints/7 --out new", "7"),
  mistake("no source of data", "data prepare --out new", "data prepare"),
  mistake("no place for data", "data prepare captioned_scenes", "--out"),
  mistake("a place that is taken", "data prepare captioned_scenes --out folder", "folder"),
  mistake("a folder without pictures", "data prepare empty --out new", "empty"),
  mistake("pictures without captions", "data prepare folder --out new", "folder"),
  mistake("pictures of no size", "data prepare captioned_scenes --out new --image 0", "image"),
  mistake("filters of an unknown name", "data prepare folder --out new --filters all", "all"),
  mistake("no shards", "data prepare captioned_scenes --out new --shards 0", "0"),
  mistake("data to inspect that is not there", "data inspect nowhere", "nowhere"),
  mistake("a dVAE that is not there", "data encode data --dvae nowhere --out new", "nowhere"),
  mistake("no crops", "data encode data --dvae run --out new --crops 0", "crops"),
  mistake("codes drawn without probabilities", "data encode data --dvae run --out new --sampled True", "PatchDvae"),
  mistake("a plan for a topology that does not exist", "plan demo.py --data data --topology v5p:3", "v5p:3"),
  mistake("a plan for a chip that does not exist", "plan demo.py --data data --topology v9:2x2", "v9"),
  mistake("a plan of a stage that is not there", "plan demo.py --data data --topology h100:8 --stage dave", "dave"),
  mistake("a plan without a topology", "plan demo.py", "--topology"),
]


def misspelt(rng, flags):
  """A flag with a letter too few, too many, or exchanged."""
  flag = rng.choice(flags)
  at = rng.randrange(4, len(flag))
  letter = rng.choice(string.ascii_lowercase)
  wrong = rng.choice([flag[:at] + flag[at + 1 :], flag[:at] + letter + flag[at:], flag[:at] + letter + flag[at + 1 :]])
  return None if wrong in flags else mistake(f"{flag} misspelt", f"{TRAIN} {wrong} 3", wrong)


NUMBERS = (
  "--stages.dvae.batch",
  "--stages.dvae.save_every",
  "--stages.transformer.steps",
  "--stages.transformer.objective.model.layers",
  "--stages.clip.optimizer.b2",
  "--stages.clip.objective.model.embed",
  "--tokenizer.vocab",
  "--seed",
  "--workers",
  "--mesh.fsdp",
  "--processes.heartbeat",
  "--transformer-steps",
)
NO_NUMBERS = ("ten", "1e", "0x1p", "--", "1,5", "3 4", "NaN%", "½", "")


def no_number(rng, flags):
  flag, value = rng.choice(flags), rng.choice(NO_NUMBERS)
  return mistake(f"{flag} that is {value!r}", [*TRAIN.split(), flag, value], flag.strip("-").split(".")[-1])


def generated(count):
  rng, found = random.Random(SEED), {}
  while len(found) < count:
    each = rng.choice([misspelt, no_number])(rng, NUMBERS)
    if each is not None:
      found[each.what, each.argv] = each
  return list(found.values())


def theirs():
  for what, argv in unseen.COMMANDS:
    places = {"workdir": "run", "data": "data", "experiment": "demo.py", "tmp": "."}
    yield mistake(what, [part.format(**places).replace("./", "new-") for part in argv])


@pytest.fixture
def place(demo_place, monkeypatch):
  """Where all is typed, with things that are not what they are taken for."""
  (demo_place / "note.txt").write_text("a note")
  (demo_place / "broken.py").write_text("def experiment(:\n")
  (demo_place / "nothing.py").write_text("name = 'nothing'\n")
  (demo_place / "number.py").write_text("def experiment():\n  return 7\n")
  (demo_place / "raises.py").write_text("def experiment():\n  raise RuntimeError('out of cheese')\n")
  for name in ("empty", "folder"):
    (demo_place / name).mkdir(exist_ok=True)
  for picture in ("picture.png", "folder/a.png"):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(demo_place / picture)
  monkeypatch.chdir(demo_place)
  return demo_place


def names(place):
  return sorted(str(path) for path in place.rglob("*") if "xla_cache" not in path.parts and path.suffix != ".pyc")


def test_a_mistake_is_one_line_and_exit_code_2(place, figure, goal, capfd):
  mistakes = [*WRITTEN, *theirs(), *generated(goal(20, 60))]
  wrong = []
  for each in mistakes:
    before = names(place)
    try:
      code = cli.main(list(each.argv))
    except BaseException as error:  # all that comes out of it is a finding
      code = repr(error)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    left = sorted(set(names(place)) - set(before))
    fits = code == 2 and out == "" and len(lines) == 1 and len(err) <= MOST + 1 and err.startswith("dalle: ")
    if not fits or each.names.replace("-", "_") not in err.replace("-", "_") or left:
      wrong.append((each.what, " ".join(each.argv), code, len(err), lines[:3], f"out {out[:50]!r}", left[:3]))
    for name in left:
      if os.path.isfile(name):
        os.unlink(name)
  for each in wrong:
    print(*each, sep="\n    ")
  assert not wrong
  figure(
    "bad commands told in one line of at most 200 characters, exit code 2",
    f"{len(mistakes)} of {len(mistakes)}",
    [SEED],
  )
