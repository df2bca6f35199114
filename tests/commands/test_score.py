"""`dalle score`: what its flags ask for together, told before anything is loaded."""

import pytest
from PIL import Image

from dalle_jax import cli


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--maps", "3"], "no workdir given; wanted: dalle score WORKDIR PICTURES --captions FILE, or dalle score WORKDIR"),
    (["w"], "no pictures given; wanted: dalle score WORKDIR PICTURES"),
    (["w", "p"], "no captions given; wanted: dalle score WORKDIR PICTURES"),
    (["w", "p", "q"], "got q after the workdir and the pictures"),
    (["w", "p", "--data", "d"], "got --data and pictures or captions too"),
    (["w", "--data", "d", "--captions", "one.txt"], "got --data and pictures or captions too"),
    (["w", "p", "--captions", "one.txt", "--limit", "3"], "--split and --limit are of a prepared data set: add --data"),
    (["w", "p", "--captions", "one.txt", "--batch", "0"], "got --batch 0, wanted at least 1"),
    (["w", "p", "--captions", "one.txt", "--maps", "-1"], "got --maps -1, wanted at least 0"),
    (["w", "p", "--captions", "one.txt", "--map", "1"], "there is no flag --map. Perhaps you meant: --maps"),
    (["w", "p", "--captions", "two.txt"], "got 2 captions in two.txt for 1 picture in p, wanted one on each line"),
    (["w", "p", "--captions", "one.txt"], "w is not a workdir: it holds no experiment.json"),
  ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path, monkeypatch, capsys, argv, says):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "p").mkdir()
  Image.new("RGB", (4, 4)).save("p/one.png")
  (tmp_path / "one.txt").write_text("one")
  (tmp_path / "two.txt").write_text("one\ntwo")
  assert cli.main(["score", *argv]) == 2
  printed = capsys.readouterr()
  assert says in printed.err
  assert printed.err.count("\n") == 1
  assert len(printed.err) <= 200
