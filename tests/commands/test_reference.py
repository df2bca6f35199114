"""`dalle reference`: statistics of a folder with thin weights, and what its flags ask for together."""

import inception_arrays
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from dalle_jax import cli
from dalle_jax.convert import inception as converter
from dalle_jax.convert import weights
from dalle_jax.evaluation import features, frechet, reference, resize


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder of pictures of two sizes, and thin weights, as a published file and converted."""
  folder = tmp_path_factory.mktemp("reference")
  (folder / "p").mkdir()
  rng = np.random.default_rng(0)
  for number in range(5):
    image_HWC = rng.integers(0, 256, (20 + 9 * (number % 2), 24, 3), dtype=np.uint8)
    Image.fromarray(image_HWC).save(folder / "p" / f"{number}.png")
  arrays = inception_arrays.official()
  save_file({name: np.asarray(array) for name, array in arrays.items()}, folder / "inception.pth")
  (folder / "converted").mkdir()
  cfg, params = converter.read(arrays)
  weights.save(folder / "converted", "inception", cfg, params, sources=[folder / "inception.pth"])
  return folder


def test_a_folders_statistics_are_those_of_its_features(place, monkeypatch, capsys):
  monkeypatch.chdir(place)
  argv = ["p", "--inception", "inception.pth", "--features", "64", "--batch", "2", "--keep", "--resize", "tensorflow"]
  assert cli.main(["reference", *argv, "--out", "a.npz"]) == 0
  printed = capsys.readouterr()
  assert "5 pictures of p as 64 features, resize tensorflow" in printed.out
  assert "fid of 5 pictures" in printed.err
  found = reference.load("a.npz")
  images = [np.asarray(Image.open(file)) for file in sorted((place / "p").iterdir())]
  features_ND, _ = features.features(converter.read(inception_arrays.official())[1], images, resize.TENSORFLOW, 64)
  np.testing.assert_allclose(found.features_ND, features_ND, rtol=1e-5, atol=1e-6)
  wanted = frechet.of(features_ND)
  np.testing.assert_allclose(found.mean_D, wanted.mean_D, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.covariance_DD, wanted.covariance_DD, rtol=1e-3, atol=1e-6)
  told = found.protocol
  assert (told["resize"], told["dim"], told["crop"], told["network"]) == ("tensorflow", 64, None, "inception")
  assert told["pictures"]["pictures"] == 5


def test_converted_weights_are_the_published_ones_and_what_is_cut_is_other_pictures(place, monkeypatch):
  monkeypatch.chdir(place)
  found = {}
  for name, argv in {
    "file": ["--inception", "inception.pth"],
    "converted": ["--inception", "converted"],
    "cropped": ["--inception", "converted", "--crop", "16"],
  }.items():
    assert cli.main(["reference", "p", "--out", f"{name}.npz", "--features", "64", *argv]) == 0
    found[name] = reference.load(f"{name}.npz")
  assert found["file"].protocol == found["converted"].protocol
  np.testing.assert_array_equal(found["file"].covariance_DD, found["converted"].covariance_DD)
  assert found["cropped"].protocol["crop"] == 16
  assert found["cropped"].protocol["pictures"]["pixels"] != found["file"].protocol["pictures"]["pixels"]
  assert np.abs(found["cropped"].mean_D - found["file"].mean_D).max() > 1e-3


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--out", "x.npz"], "no pictures given, got --out first; wanted: dalle reference PICTURES --out FILE.npz"),
    (["p", "--out", "x.npz"], "no feature network given: --inception WEIGHTS, where WEIGHTS is https://github.com/"),
    (["p", "--out", "x.npz", "--inception", "no.pth"], "no Inception weights at no.pth: fetch https://github.com/mse"),
    (["p", "--inception", "converted"], "required"),
    (["p", "--out", "x.npz", "--inception", "p"], "p holds no converted weights"),
    (["p", "--out", "x.npz", "--inception", "p/0.png"], "p/0.png"),
    (["p", "--out", "x.pt", "--inception", "converted"], "got x.pt, wanted a file that ends in .npz"),
    (["q", "--out", "x.npz", "--inception", "converted"], "no pictures at q"),
    (["p", "--out", "x.npz", "--inception", "converted", "--features", "65"], "no features of 65 numbers"),
    (
      ["p", "--out", "x.npz", "--inception", "converted", "--resize", "cubic"],
      "no resize 'cubic'; wanted one of",
    ),
    (["p", "--out", "x.npz", "--inception", "converted", "--batch", "0"], "got --batch 0, wanted at least 1"),
  ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(place, monkeypatch, capsys, argv, says):
  monkeypatch.chdir(place)
  assert cli.main(["reference", *argv]) == 2
  printed = capsys.readouterr()
  assert says in printed.err
  assert printed.err.count("\n") == 1
  assert len(printed.err) <= 260
  assert not (place / "x.npz").exists()
