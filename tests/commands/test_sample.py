"""`dalle sample`: what its flags ask for together, told before anything is loaded."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dalle_jax import cli
from dalle_jax.commands import sample
from dalle_jax.draw import Prompt
from dalle_jax.sampling import prompts
from dalle_jax.sampling.drawer import Drawer


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--captions", "no.txt"], "cannot read the captions no.txt: No such file or directory"),
    (["--captions", "blank.txt"], "blank.txt holds no caption, wanted one on each line"),
    (["--captions", "one.png"], "cannot read the captions one.png: byte 0 is no UTF-8; save it as UTF-8"),
    (["--against", "a dog"], "--against is read by guidance alone: add --guidance 3, or leave it out"),
    (["--guidance", "-1"], "got guidance=-1.0, wanted 1 (none) or more, or 0 to draw without the caption"),
    (["-n", "4"], "there is no flag -n; a caption that begins with a dash goes into --captions FILE"),
    (
      ["--rank", "clap"],
      "got --rank clap, wanted one of clip, likelihood, probability, published, or a mix: clip=1",
    ),
    (["--rank", "clip=1,clip=2"], "got --rank clip=1,clip=2, wanted one of"),
    (["--rank", "clip=much"], "'much' is no weight; wanted a number, as in clip=0.5"),
    (["--rank", "clip=0"], "a weight of 0 ranks nothing"),
    (["--mesh.data", "some"], "got --mesh.data some, wanted a whole number"),
    (["--rows", "2"], "--rows, --region, --crop-first and --two-panels want a picture: --image-prompt PICTURE"),
    (["--crop-first"], "want a picture: --image-prompt PICTURE"),
    (["--image-prompt", "one.png"], "--image-prompt wants --rows (how many stay), or --region TOP,LEFT,BOTTOM,RIGHT"),
    (
      ["--image-prompt", "one.png", "--rows", "1", "--region", "0,0,1,1"],
      "--image-prompt wants --rows (how many stay)",
    ),
    (["--image-prompt", "one.png", "--region", "0,0,1"], "got a region 0,0,1, wanted top,left,bottom,right in codes"),
    (["--image-prompt", "one.png", "--region", "0,0,1,1", "--crop-first"], "--crop-first is for --rows alone"),
    (["--image-prompt", "no.png", "--rows", "1"], "cannot read the picture no.png: No such file or directory"),
    (["--image-prompt", "text.png", "--rows", "1"], "cannot read the picture text.png: it is no picture that can be"),
    (["--image-prompt", "one.png", "--rows", "x"], "got --rows x, wanted a whole number"),
    (["--image-prompt", "one.png", "--rows", "1"], "nowhere is not a workdir: it holds no experiment.json"),
  ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path, monkeypatch, capsys, flags, says):
  monkeypatch.chdir(tmp_path)
  Image.new("RGB", (4, 4)).save("one.png")
  (tmp_path / "text.png").write_text("text")
  (tmp_path / "blank.txt").write_text("\n  \n")
  assert cli.main(["sample", "nowhere", "a cat", *flags]) == 2
  printed = capsys.readouterr()
  assert says in printed.err
  assert printed.err.count("\n") == 1
  assert len(printed.err) <= 200


def test_two_panels_are_made_of_the_picture_where_that_is_asked_for(tmp_path):
  file = tmp_path / "one.png"
  Image.new("RGB", (8, 6)).save(file)
  flags = sample.Flags(image_prompt=str(file), rows=1)
  one, two = (sample._prompt(flags, False, panels).image_HWC for panels in (False, True))
  assert one.shape == (6, 8, 3)
  assert two.shape == (8, 8, 3)
  assert (two[:4] == 0).all()
  assert (two[4:] == 255).all()


class SeesAll(Drawer):
  """Encodes each part of a picture as the mean of all that it is given."""

  def encode(self, images_NHWC):
    images, height = images_NHWC.shape[:2]
    return np.full((images, height // 2, 4), int(images_NHWC.mean()), np.int32)


def test_a_picture_that_is_cut_first_knows_nothing_of_what_is_below():
  image = np.zeros((8, 8, 3), np.uint8)
  image[2:] = 200
  drawer = object.__new__(SeesAll)
  object.__setattr__(drawer, "dvae", SimpleNamespace(image=8, grid=4))
  for crop_first, code in ((False, 150), (True, 0)):
    prompt = Prompt(name="one", image_HWC=image, part=prompts.Top(rows=1), crop_first=crop_first)
    assert prompt.codes(drawer).tolist() == [code] * 4 + [prompts.DRAWN] * 12


@pytest.mark.parametrize("command", ["sample", "eval", "score", "probe", "caption"])
def test_a_short_help_flag_is_help_wherever_it_stands(command, capsys):
  with pytest.raises(SystemExit) as stop:
    raise SystemExit(cli.main([command, "nowhere", "-h"]))
  assert not stop.value.code
  assert f"dalle {command}" in capsys.readouterr().out
