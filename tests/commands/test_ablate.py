"""`dalle ablate` and `dalle report`: mistakes in one line before anything is written, what is listed, the page."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from dalle_jax import cli, report
from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper, scenes, table, worker_process
from dalle_jax.ablations.figures import Figures
from dalle_jax.ablations.packs import Found, load
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import StorageError, UserError

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/support/toy_pack.py"
JUDGED = ("rerank", "temperature", "top_k_p", "guidance", "caption_repetition", "weight_decay", "blur")
PART = ["ablate", str(TOY), "--scale", "smoke", "--seeds", "1", "--part"]


@pytest.fixture(autouse=True)
def at_the_project(monkeypatch):
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv("PATH", "")  # no sbatch


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--scale", "tiny"], "got --scale where the PACK or GROUP is wanted"),
    (["nowhere.py"], "no pack file nowhere.py; those that come with the project are in experiments/ablations/"),
    (["last_layr"], "no pack and no group 'last_layr'; did you mean 'last_layer'?"),
    (["atention"], "did you mean 'attention'?"),
    (["setup.cfg.py"], "no pack file setup.cfg.py"),
    (["last_layer", "--seeds", "0"], "got --seeds 0, wanted 1 or more"),
    (["last_layer", "--seed", "-1"], "got --seed -1, wanted 0 or more"),
    (["last_layer", "--seed", "1", "--part", "tables"], "got --seed 1 where all seeds are wanted"),
    (["last_layer", "--sbatch=--qos=x"], "--sbatch is read by --launcher slurm alone"),
    (["last_layer", "--launcher", "slurm", "--part", "runs"], "got --part runs with --launcher slurm"),
    (["last_layer", "--scale", "huge"], "--scale"),
    (["last_layer", "--only", "convv"], "no arm 'convv'; there are conv, row, full, 1/30 of the rate"),
    (["last_layer", "--data", "no/such"], "no data at no/such"),
    (["last_layer", "--scale", "paper"], "--scale paper wants pictures of your own"),
    (["last_layer", "--lancher", "slurm"], "Perhaps you meant: --launcher"),
  ],
)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_is_trained(argv, says, tmp_path, capsys):
  out = tmp_path / "out"
  assert cli.main(["ablate", *argv, "--out", str(out)]) == 2
  said = capsys.readouterr().err
  assert says in said
  assert said.count("\n") == 1
  assert not out.exists() or {file.name for file in out.iterdir()} <= {"ablations.json"}


@pytest.mark.parametrize(
  ("text", "says"),
  [
    ("x = 1\n", "defines no pack(): it must return a dalle_jax.ablations.pack.Pack"),
    ("x = 1\nraise KeyError('lr')\n", "mine.py:2: KeyError: 'lr'"),
    ("def pack():\n  return 3\n", "pack() returned a int, a Pack is wanted"),
  ],
)
def test_a_pack_s_own_mistake_is_told_with_its_line(text, says, tmp_path, capsys):
  (tmp_path / "mine.py").write_text(text)
  assert cli.main(["ablate", str(tmp_path / "mine.py"), "--out", str(tmp_path / "out")]) == 2
  assert says in capsys.readouterr().err


def test_a_pack_is_found_with_what_it_imports_from_any_directory_and_told_alike(tmp_path, monkeypatch):
  near, far = Path("experiments/ablations/mix.py"), ROOT / "experiments/ablations/mix.py"
  assert load(near).told == "experiments/ablations/mix.py"
  monkeypatch.chdir(tmp_path)
  for name in ("bases", "dalle_12b", "dvae_256"):
    monkeypatch.delitem(sys.modules, name)  # imported anew
  assert load(far).told == "experiments/ablations/mix.py"


def test_a_directory_of_another_scale_is_refused(tmp_path, capsys):
  (tmp_path / "ablations.json").write_text('{"scale": "tiny"}')
  assert cli.main(["ablate", "last_layer", "--scale", "smoke", "--out", str(tmp_path)]) == 2
  assert f"{tmp_path} holds ablations at scale tiny, not smoke: take another --out" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"size": 1}'])
def test_a_directory_whose_mark_is_damaged_is_refused(text, tmp_path, capsys):
  (tmp_path / "ablations.json").write_text(text)
  assert cli.main(["ablate", "last_layer", "--scale", "smoke", "--out", str(tmp_path)]) == 2
  said = capsys.readouterr().err
  assert f"{tmp_path}/ablations.json, which says the scale of what is there, is damaged" in said
  assert said.count("\n") == 1


def test_figures_that_cannot_be_written_are_told_in_one_line(data, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(worker_process, "Worker", type("Worker", (Fails,), {"cannot": "train"}))
  (tmp_path / "toy_pack").touch()  # where their folder is to be
  assert cli.main([*PART, "runs", "--data", str(data), "--out", str(tmp_path)]) == StorageError.exit_code
  assert f"cannot write {tmp_path}/toy_pack/figures/plain-0.json (" in capsys.readouterr().err.splitlines()[-1]


def test_slurm_that_is_not_there_is_told(tmp_path, capsys):
  argv = ["ablate", "last_layer", "--scale", "smoke", "--launcher", "slurm", "--out", str(tmp_path / "out")]
  assert cli.main(argv) == 2
  assert "--launcher slurm wants sbatch, which is not in PATH" in capsys.readouterr().err


class Fails(worker_process.Worker):
  """A worker that can't do one thing and says that it did the others."""

  cannot, diverged = "", False

  def ask(self, *, do, **asked):
    return {"failed": "no room on the disk", "diverged": self.diverged} if do == self.cannot else {}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return scenes.provided(tmp_path_factory.mktemp("ablations"), "smoke", None, lambda what, done, total: None).path


@pytest.mark.parametrize(
  ("part", "cannot", "code"),
  [("shared", "", 0), ("shared", "shared", 1), ("runs", "shared", 1), ("runs", "train", 1), ("runs", "measure", 1)],
)
def test_a_part_that_fails_says_why_and_ends_with_1(part, cannot, code, data, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(worker_process, "Worker", type("Worker", (Fails,), {"cannot": cannot}))
  assert cli.main([*PART, part, "--data", str(data), "--out", str(tmp_path / "out")]) == code
  assert ("failed: no room on the disk" in capsys.readouterr().err) == bool(code)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Prepared pictures of one's own: no claims, one split."""
  place = tmp_path_factory.mktemp("photos")
  (place / "folder").mkdir()
  for i in range(20):
    Image.new("RGB", (32, 32), (i, 0, 0)).save(place / f"folder/{i}.png")
    (place / f"folder/{i}.txt").write_text("a picture\n")
  assert cli.main(["data", "prepare", str(place / "folder"), "--out", str(place / "data")]) == 0
  return place / "data"


def test_data_that_lacks_what_decides_is_refused_before_anything_is_trained(photos, tmp_path, capsys):
  out = tmp_path / "out"
  assert cli.main(["ablate", "pads_unseen", "--scale", "smoke", "--data", str(photos), "--out", str(out)]) == 2
  said = capsys.readouterr().err
  assert said.startswith("dalle: pads_unseen, image loss, test_pairs: the data has no split 'test_pairs'; it has ")
  assert said.count("\n") == 1
  assert [file.name for file in out.iterdir()] == ["ablations.json"]


@pytest.mark.parametrize("name", JUDGED)
def test_packs_of_what_is_drawn_want_captions_that_claim_something(name, data, photos):
  check = load(Path(f"experiments/ablations/{name}.py")).pack.metric.check
  check(open_prepared(data))
  with pytest.raises(UserError, match="this data has captions without claims"):
    check(open_prepared(photos))


def test_data_that_lacks_a_figure_beside_is_told_and_taken(photos, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(worker_process, "Worker", Fails)
  argv = ["ablate", "bpe_dropout", "--scale", "smoke", "--part", "shared", "--data", str(photos)]
  assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 0
  told = "bpe_dropout, image loss, test_pairs: the data has no split 'test_pairs'"
  assert capsys.readouterr().err.startswith(told)


def test_training_out_of_bounds_is_no_failure_of_a_part(data, tmp_path, monkeypatch):
  monkeypatch.setattr(worker_process, "Worker", type("Worker", (Fails,), {"cannot": "train", "diverged": True}))
  assert cli.main([*PART, "runs", "--data", str(data), "--out", str(tmp_path / "out")]) == 0


def test_packs_are_listed_by_group(capsys):
  assert cli.main(["ablate", "--list"]) == 0
  said = capsys.readouterr().out
  assert re.search(r"^attention +last_layer +The last layer's attention$", said, re.MULTILINE)
  assert "conv, row, full, 1/30 of the rate (control: 1/30 of the rate)" in said
  assert cli.main(["ablate", "attention", "--list"]) == 0
  assert "joint_softmax" in capsys.readouterr().out


def measured(*values):
  return {seed: Figures(values={"loss": value}) for seed, value in enumerate(values)}


@pytest.fixture
def results(tmp_path):
  """A pack's table of figures made up."""
  found = load(TOY)
  figures = {arm.name: measured(1.0, 1.1, 1.2) for arm in found.pack.arms}
  figures |= {"slow": measured(2.0, 2.1, 2.21), "fails": {0: Figures(failed="it <broke>")}}
  figures["a bit more"][0] = Figures(values={"loss": 1.0}, lacking={"CLIP score": "no CLIP"})
  data = {"name": "drawn", "digest": 64 * "a", "splits": {"train": 1000, "test": 16}}
  built = table.build(Found(TOY, found.pack), "smoke", data, figures, (0, 1, 2))
  table.write(tmp_path / "toy_pack", built, table.how(found, "smoke", Path("my/data"), figures))
  return tmp_path, built


def test_the_table_says_who_is_better_by_how_much_and_what_failed(results):
  out, built = results
  assert json.loads((out / "toy_pack/table.json").read_text()) == json.loads(json.dumps(built))
  text = (out / "toy_pack/table.md").read_text()
  assert "| plain and a bit more are the same | **agrees** | 0 [0, 0] |" in text
  assert "| plain is better than fails | **no verdict** |" in text
  assert "| slow | 2.103 [1.842, 2.364] | -1.003 [-1.018, -0.989] |" in text
  assert "- fails, seed 0: failed: it <broke>" in text
  assert "- fails: not run yet at seed 1, 2" in text
  assert "- a bit more, seed 0: left out: CLIP score: no CLIP" in text
  assert f"Data drawn: 1,000 of train, 16 of test; digest {16 * 'a'}." in text
  assert built["file"] == "toy_pack.py"
  how = (out / "toy_pack/how.md").read_text()
  assert how.startswith("`dalle ablate toy_pack.py --scale smoke --seeds 3 --data my/data`\n")


def test_the_report_gathers_tables_on_one_page(results, capsys):
  out, _ = results
  (out / "toy_pack/scales_over_time.png").touch()  # a plot of the pack's own
  assert cli.main(["report", str(out)]) == 0
  said = capsys.readouterr().out
  claim = "nothing | plain and a bit more are the same | **agrees** | 0 [0, 0] | loss, nats | smoke, 3 |"
  assert f"| attention | [A toy](toy_pack/table.md) | {claim}" in said
  page = (out / report.PAGE).read_text()
  assert '<b class="right">agrees</b>' in page
  assert "it &lt;broke&gt;" in page
  assert 'src="toy_pack/plot-light.png"' in page
  assert 'src="toy_pack/scales_over_time.png" width="640" alt="scales over time"' in page
  assert "http" not in page


@pytest.mark.parametrize(
  ("text", "says"),
  [
    (None, "no table.json below"),
    ("{", "is damaged or no table"),
    ("{}", "is damaged or no table"),
    ('{"group": "text", "pack": "one", "title": "no more than that"}', "is damaged or no table"),
  ],
)
def test_a_report_of_nothing_is_refused(text, says, tmp_path, capsys):
  if text is not None:
    (tmp_path / "table.json").write_text(text)
  assert cli.main(["report", str(tmp_path)]) == 2
  assert says in capsys.readouterr().err
  assert not (tmp_path / report.PAGE).exists()


def test_a_pack_names_arms_that_it_has():
  metric = Metric(name="m", unit="u", smallest=1.0, measure=lambda workdir, setting, seed: 0.0)
  words = {"title": "T", "group": "attention", "paper": Paper(rows=(1,), says="s", where="w"), "stage": "s"}
  with pytest.raises(ValueError, match="speaks of arms that it does not have: c"):
    Pack(
      **words,
      base=lambda scale: None,
      arms=(Arm(name="a"), Arm(name="b")),
      control="b",
      metric=metric,
      claims=(Better(arm="a", than="c"),),
    )
