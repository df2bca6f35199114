"""Inception v3, FID, KID, Inception Score and resizes beside pytorch-fid's, torch-fidelity's and clean-fid's."""

import functools
import warnings

import jax
import numpy as np
import official
import official_inception
import pytest
import random_weights
import scipy.linalg
from official_inception import DIMS, as_pytorch_fid, pictures

from dalle_jax import cli
from dalle_jax import reference as made
from dalle_jax.convert import inception as converter
from dalle_jax.evaluation import features, frechet, inception_score, kid, reference, resize
from dalle_jax.models import inception

pytestmark = pytest.mark.parity

FEATURES = 1e-4  # max|a - b| / max|b|
SQRTM = scipy.linalg.sqrtm


@pytest.fixture(scope="module")
def network():
  return official_inception.network()


@pytest.fixture(scope="module")
def converted(network):
  return converter.read({name: tensor.numpy() for name, tensor in network.state_dict().items()})


def test_features_are_pytorch_fids_at_each_dim(network, converted):
  torch = official.load("torch")
  cfg, params = converted
  assert cfg == inception.Config()
  images_BHWC = pictures(np.random.default_rng(0), 2, 40, 61)
  with torch.no_grad():
    wanted = as_pytorch_fid(network, DIMS)(torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2) / np.float32(255)))
  for dim, maps in zip(DIMS, wanted):
    theirs_BD = maps.mean((2, 3)).numpy()
    assert theirs_BD.shape == (2, dim)
    assert 0.3 < theirs_BD.std() < 3
    # The two pictures' features differ by more than the tolerance: it is not a constant that is compared.
    assert random_weights.error(theirs_BD[0], theirs_BD[1]) > 10 * FEATURES
    ours_BD, logits_BK = features.features(params, images_BHWC, resize.PYTORCH_FID, dim)
    assert random_weights.error(ours_BD, theirs_BD) <= FEATURES
    assert (logits_BK is None) == (dim != 2048)


def test_features_and_logits_are_torch_fidelitys(network, converted, tmp_path):
  torch = official.load("torch")
  module = official.load("torch_fidelity.feature_extractor_inceptionv3")
  torch.save(network.state_dict(), tmp_path / "weights.pth")
  names = ["2048", "logits_unbiased", "logits"]
  extractor = module.FeatureExtractorInceptionV3("i", names, feature_extractor_weights_path=tmp_path / "weights.pth")
  images_BHWC = pictures(np.random.default_rng(1), 2, 320, 300)
  with torch.no_grad():
    theirs = [out.numpy() for out in extractor(torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2).copy()))]
  assert random_weights.error(theirs[1], theirs[2]) > 10 * FEATURES
  ours_BD, logits_BK = features.features(converted[1], images_BHWC, resize.TENSORFLOW)
  assert random_weights.error(ours_BD, theirs[0]) <= FEATURES
  assert random_weights.error(logits_BK, theirs[1]) <= FEATURES
  assert random_weights.error(inception.with_bias(converted[1], jax.numpy.asarray(logits_BK)), theirs[2]) <= FEATURES


def test_each_tensor_moves_the_outputs(network):
  # Features of one dim are computed anew from the map before it, where what lies between is what is changed.
  torch, checked = official.load("torch"), []
  with torch.no_grad():
    # From 107 pixels a side the last map has more than one position: kernels are more than their middles.
    before = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (1, 3, 107, 107)).astype(np.float32))
    for dim, part in zip(DIMS, as_pytorch_fid(network, DIMS).blocks):
      last = torch.nn.ModuleDict({"part": part} | ({"fc": network.fc} if dim == 2048 else {}))
      outputs = functools.partial(outputs_of, last, before)
      assert random_weights.idle(last.state_dict(), outputs, FEATURES) == []
      checked += [tensor.data_ptr() for tensor in last.state_dict().values() if tensor.is_floating_point()]
      before = part(before)
  assert sorted(checked) == sorted(t.data_ptr() for t in network.state_dict().values() if t.is_floating_point())
  assert len(checked) == 472


def outputs_of(last, before):
  """The features of a part of the network, and the logits that are made of them."""
  features_BD = last["part"](before).mean((2, 3))
  return [features_BD, last["fc"](features_BD)] if "fc" in last else [features_BD]


def files_of(folder, images_NHWC):
  from PIL import Image

  folder.mkdir()
  for number, image in enumerate(images_NHWC):
    Image.fromarray(image).save(folder / f"{number:05d}.png")
  return folder


def root_as_scipy_had_it(matrix, disp=True):
  """SciPy's root with the `disp` that pytorch-fid passes, which SciPy 1.18 took away.

  What it says of products that are nearly singular is left unsaid: so they are, and the figures are compared.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
    root = SQRTM(matrix)
  return root if disp else (root, None)


def test_fid_of_the_same_pictures_is_pytorch_fids(network, tmp_path, monkeypatch):
  torch, score = official.load("torch"), official.load("pytorch_fid.fid_score")
  monkeypatch.setattr(score.linalg, "sqrtm", root_as_scipy_had_it)
  torch.save(network.state_dict(), tmp_path / "inception.pth")
  rng, model = np.random.default_rng(3), as_pytorch_fid(network, (64,))
  sets = {"a": pictures(rng, 120, 24, 24), "b": pictures(rng, 120, 24, 24, contrast=0.25)}
  theirs, ours = [], []
  for name, images_NHWC in sets.items():
    folder, out = files_of(tmp_path / name, images_NHWC), tmp_path / f"{name}.npz"
    theirs.append(score.compute_statistics_of_path(str(folder), model, 40, 64, "cpu", num_workers=0))
    asked = ["--inception", str(tmp_path / "inception.pth"), "--resize", "pytorch-fid", "--features", "64"]
    assert cli.main(["reference", str(folder), "--out", str(out), *asked, "--batch", "40"]) == 0
    ours.append(reference.load(out))
    # pytorch-fid reads the file as its own.
    read = score.compute_statistics_of_path(str(out), model, 40, 64, "cpu", num_workers=0)
    np.testing.assert_array_equal(read[1], ours[-1].covariance_DD)
  wanted = score.calculate_frechet_distance(*theirs[0], *theirs[1])
  assert wanted > 1
  found = frechet.distance(ours[0].mean_D, ours[0].covariance_DD, ours[1].mean_D, ours[1].covariance_DD)
  assert abs(found / wanted - 1) <= 1e-3
  # What the tolerance has to tell apart: one set of the same pictures, resized by another filter.
  params = made.network(tmp_path / "inception.pth").params
  chunks = features.stream(params, sets["b"], resize.CLEAN, 64, batch=40)
  other = sum((frechet.of(features_BD) for features_BD, _ in chunks), frechet.nothing(64))
  assert abs(ours[0].distance(other) / wanted - 1) > 1e-2


@pytest.mark.parametrize(("dim", "pictures"), [(2048, 2500), (512, 200)])
def test_the_distance_of_many_features_is_pytorch_fids(dim, pictures, monkeypatch):
  # Of fewer pictures than dimensions the covariances are singular.
  score = official.load("pytorch_fid.fid_score")
  monkeypatch.setattr(score.linalg, "sqrtm", root_as_scipy_had_it)
  rng = np.random.default_rng(4)
  mixed_DD = rng.standard_normal((dim, dim)) / np.sqrt(dim) * np.geomspace(1, 1e-2, dim)[:, None]
  one_ND, other_ND = (np.maximum(rng.standard_normal((pictures, dim)) @ mixed_DD + at, 0) for at in (0.2, 0.3))
  one, other = frechet.of(one_ND), frechet.of(other_ND[:100]) + frechet.of(other_ND[100:])
  for ours, theirs_ND in ((one, one_ND), (other, other_ND)):
    np.testing.assert_allclose(ours.mean_D, theirs_ND.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(ours.covariance_DD, np.cov(theirs_ND, rowvar=False), rtol=1e-9, atol=1e-12)
  wanted = score.calculate_frechet_distance(one.mean_D, one.covariance_DD, other.mean_D, other.covariance_DD)
  assert wanted > 1
  assert abs(frechet.between(one, other) / wanted - 1) <= 1e-3


def test_the_inception_score_is_torch_fidelitys():
  torch, theirs = official.load("torch"), official.load("torch_fidelity.metric_isc")
  logits_NK = np.random.default_rng(5).standard_normal((203, 1008)).astype(np.float32) * 3
  wanted = theirs.isc_features_to_metric(torch.from_numpy(logits_NK), 10, True, 2020)
  found = inception_score.score(logits_NK)
  assert wanted[theirs.KEY_METRIC_ISC_STD] > 1e-2
  assert found.mean == pytest.approx(wanted[theirs.KEY_METRIC_ISC_MEAN], rel=1e-9)
  assert found.std == pytest.approx(wanted[theirs.KEY_METRIC_ISC_STD], rel=1e-7)
  # The order of the pictures counts, so it is the same shuffle.
  assert abs(inception_score.score(logits_NK, seed=1).mean / found.mean - 1) > 1e-4


def test_kid_is_torch_fidelitys():
  torch, theirs = official.load("torch"), official.load("torch_fidelity.metric_kid")
  rng = np.random.default_rng(6)
  one_ND, other_ND = (np.abs(rng.standard_normal((n, 256)) + at).astype(np.float32) for n, at in ((120, 0), (150, 0.8)))
  asked = {"kid_subsets": 20, "kid_subset_size": 60, "verbose": False}
  wanted = theirs.kid_features_to_metric(torch.from_numpy(one_ND), torch.from_numpy(other_ND), **asked)
  found = kid.distance(one_ND, other_ND, subsets=20, subset_size=60)
  assert wanted[theirs.KEY_METRIC_KID_MEAN] > 10 * wanted[theirs.KEY_METRIC_KID_STD] / np.sqrt(20)
  assert found.mean == pytest.approx(wanted[theirs.KEY_METRIC_KID_MEAN], rel=1e-4)
  assert found.std == pytest.approx(wanted[theirs.KEY_METRIC_KID_STD], rel=1e-4)
  assert abs(kid.distance(one_ND, other_ND, subsets=20, subset_size=60, seed=1).mean / found.mean - 1) > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (17, 41), (299, 299), (256, 256), (511, 640), (1024, 768)])
def test_resizes_are_clean_fids_pytorchs_and_tensorflows(size):
  torch = official.load("torch")
  image_HWC = np.random.default_rng(8).integers(0, 256, (*size, 3), dtype=np.uint8)
  x_1CHW = torch.from_numpy(image_HWC.transpose(2, 0, 1)[None].copy()).float()
  clean = official.load("cleanfid.resize").build_resizer("clean")(image_HWC)
  np.testing.assert_array_equal(resize.clean(image_HWC), clean)
  like_tensorflow = official.load("torch_fidelity.interpolate_compat_tensorflow")
  corner = like_tensorflow.interpolate_bilinear_2d_like_tensorflow1x(x_1CHW, size=(299, 299), align_corners=False)
  np.testing.assert_array_equal(resize.corner(image_HWC), corner[0].numpy().transpose(1, 2, 0))
  bilinear = torch.nn.functional.interpolate(x_1CHW / 255, size=(299, 299), mode="bilinear", align_corners=False)
  bilinear_HWC = bilinear[0].numpy().transpose(1, 2, 0)
  np.testing.assert_allclose(resize.half_pixel(image_HWC), bilinear_HWC, rtol=0, atol=1e-5)
  if size != (299, 299):
    others = (clean / 255, corner[0].numpy().transpose(1, 2, 0) / 255)
    assert all(np.abs(bilinear_HWC - other).max() > 1e-2 for other in others)
