"""Features by batches: the last one filled up, and rows over a mesh of devices."""

import inception_arrays
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.convert import inception as converter
from dalle_jax.errors import UserError
from dalle_jax.evaluation import features, resize
from dalle_jax.sampling.devices import Devices


@pytest.fixture(scope="module")
def params():
  return converter.read(inception_arrays.official())[1]


def pictures(count):
  return list(np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8))


def test_batches_have_the_features_of_their_pictures_and_nothing_of_what_fills_them(params):
  images = pictures(5)
  whole_ND, logits_NK = features.features(params, images, resize.TENSORFLOW)
  assert (whole_ND.shape, logits_NK.shape) == ((5, 128), (5, 11))
  chunks = list(features.stream(params, iter(images), resize.TENSORFLOW, batch=2))
  assert [len(features_BD) for features_BD, _ in chunks] == [2, 2, 1]
  for found, wanted in zip(map(np.concatenate, zip(*chunks)), (whole_ND, logits_NK)):
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_rows_over_a_mesh_have_the_same_features(params):
  images = pictures(8)
  wanted_ND, none = features.features(params, images, resize.TENSORFLOW, 64)
  assert none is None
  devices = Devices(mesh=sharding.make_mesh(sharding.MeshShape(data=4, fsdp=2)))
  found_ND, _ = features.features(params, images, resize.TENSORFLOW, 64, devices)
  np.testing.assert_allclose(found_ND, wanted_ND, rtol=1e-5, atol=1e-6)


def test_a_dim_that_there_is_not_is_refused(params):
  with pytest.raises(UserError, match="no features of 128 numbers"):
    features.features(params, pictures(1), resize.CLEAN, 128)
