"""Reference statistics in a file: ours, the published ones, and files that are neither."""

import json

import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation import frechet, reference


def statistics(seed=0):
  return frechet.of(np.random.default_rng(seed).standard_normal((20, 4)).astype(np.float32))


def test_what_is_saved_comes_back_with_its_protocol(tmp_path):
  file, told = tmp_path / "a.npz", {"resize": "clean", "pictures": {"count": 20}}
  kept_ND = np.ones((20, 4), np.float32)
  digest = reference.save(file, statistics(), told, kept_ND)
  found = reference.load(file)
  assert (found.digest, found.pictures, found.protocol, found.dim) == (digest, 20, told, 4)
  np.testing.assert_array_equal(found.covariance_DD, statistics().covariance_DD)
  np.testing.assert_array_equal(found.features_ND, kept_ND)
  assert found.told() == {"sha256": digest, "pictures": 20, "protocol": told}
  assert found.distance(statistics()) == pytest.approx(0, abs=1e-12)
  assert found.distance(statistics(1)) == pytest.approx(frechet.between(statistics(), statistics(1)))


def test_of_a_published_file_the_protocol_is_unknown(tmp_path):
  np.savez(tmp_path / "p.npz", mu=np.zeros(4, np.float32), sigma=np.eye(4))
  found = reference.load(tmp_path / "p.npz")
  assert (found.pictures, found.protocol, found.features_ND) == (None, None, None)
  assert found.mean_D.dtype == np.float64
  assert found.told()["protocol"] == "unknown: the file tells its mean and covariance alone"
  assert json.dumps(found.told())


@pytest.mark.parametrize(
  ("arrays", "says"),
  [
    ({"mu": np.zeros(4)}, "lacks sigma"),
    ({"mu": np.zeros(4), "sigma": np.eye(3)}, r"mu is \(4,\) and sigma \(3, 3\), wanted"),
    ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "mu holds what is no finite number"),
    ({"mu": np.zeros(4), "sigma": np.eye(4), "features": np.zeros((9, 3))}, r"features is \(9, 3\) and mu"),
    ({"mu": np.zeros(4), "sigma": np.eye(4), "protocol": np.array("{")}, "is damaged"),
    ({"mu": np.array([None]), "sigma": np.eye(1)}, "is no .npz file, or is damaged"),
  ],
)
def test_a_file_of_something_else_is_one_line(tmp_path, arrays, says):
  np.savez(tmp_path / "x.npz", **arrays)
  with pytest.raises(UserError, match=says):
    reference.load(tmp_path / "x.npz")


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"no file .*x.npz: `dalle reference PICTURES --out"):
    reference.load(tmp_path / "x.npz")
  reference.save(tmp_path / "x.npz", statistics(), {})
  whole = (tmp_path / "x.npz").read_bytes()
  for damaged in (b"", b"<html>", whole[:100], whole[: len(whole) // 2]):
    (tmp_path / "x.npz").write_bytes(damaged)
    with pytest.raises(UserError, match=r"is no .npz file, or is damaged"):
      reference.load(tmp_path / "x.npz")


def test_nothing_is_written_over_or_beside(tmp_path):
  reference.save(tmp_path / "x.npz", statistics(), {})
  for file, says in (("x.npz", "is there already"), ("x.npy", "ends in .npz"), ("no/x.npz", "no directory")):
    with pytest.raises(UserError, match=says):
      reference.save(tmp_path / file, statistics(), {})
