"""Places: the same calls on this machine's disks and in a bucket, and what is told of a name that can't be one."""

import os
import time

import pytest

from dalle_jax import manifest, places
from dalle_jax.errors import UserError

FILES = {"a.txt": b"one", "deep/b.bin": bytes(range(256)), "deep/.hidden": b"x"}


@pytest.fixture(params=["disk", "bucket"])
def directory(request, tmp_path):
  """A directory that is empty yet, of each kind."""
  if request.param == "disk":
    return tmp_path / "place"
  request.getfixturevalue("bucket_environment")
  return places.at(f"gs://bucket/{tmp_path.name}")


def fill(directory, files=FILES):
  for name, data in files.items():
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    places.write(directory / name, data)


def test_files_are_written_listed_and_removed(directory):
  assert places.inside(directory) == []
  fill(directory)
  assert places.files(directory) == {name: len(data) for name, data in sorted(FILES.items())}
  assert [each.name for each in places.inside(directory)] == ["a.txt", "deep"]
  assert (directory / "deep/b.bin").read_bytes() == FILES["deep/b.bin"]
  assert abs(places.written(directory) - time.time()) < 60
  places.remove(directory / "deep")
  assert places.files(directory) == {"a.txt": 3}


def test_what_another_writes_is_seen_at_once(directory, tmp_path):
  fill(directory)
  assert len(places.files(directory)) == 3
  places.write(directory / "a.txt", b"longer")
  (directory / "deep/b.bin").unlink()
  assert places.files(directory) == {"a.txt": 6, "deep/.hidden": 1}


def test_a_manifest_notices_what_changed(directory):
  fill(directory)
  manifest.write(directory, {})
  assert manifest.problem(directory, contents=True) is None
  places.write(directory / "a.txt", b"two")
  assert manifest.problem(directory, contents=False) is None
  assert manifest.problem(directory, contents=True) == "a.txt is damaged: its SHA-256 differs"
  places.write(directory / "a.txt", b"three")
  assert manifest.problem(directory, contents=False) == "a.txt has 5 bytes, wanted 3"
  (directory / "a.txt").unlink()
  assert manifest.problem(directory, contents=False) == "a.txt is missing"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n", b"\n\n", b"--", b"\n--==0==", b"\0"])
def test_every_byte_is_kept(bucket_environment, tmp_path, end):
  data = bytes(range(256)) + end
  (tmp_path / "here").write_bytes(data)
  there = places.at(f"gs://bucket/{tmp_path.name}")
  places.upload(tmp_path / "here", there / "uploaded")
  places.write(there / "written", data)
  places.download(there / "uploaded", tmp_path / "back")
  assert (tmp_path / "back").read_bytes() == (there / "written").read_bytes() == data


def test_both_kinds_have_one_sha256(directory):
  fill(directory)
  assert places.sha256(directory / "a.txt") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


@pytest.mark.parametrize(
  ("name", "complaint"),
  [
    ("s3://bucket/run", "got s3://bucket/run, wanted a directory, or gs://BUCKET/NAME"),
    ("gs:/bucket/run", "got gs:/bucket/run, wanted a directory, or gs://BUCKET/NAME"),
    ("", "got an empty name, wanted a directory, or gs://BUCKET/NAME"),
    ("gs://", "got gs://, wanted a name in a bucket, as in gs://BUCKET/NAME"),
    ("gs://bucket", "got gs://bucket, wanted a name in a bucket, as in gs://BUCKET/NAME"),
    ("gs://nowhere/run", "cannot read the bucket gs://nowhere (there is none): look at its name, and at your rights"),
  ],
)
def test_a_name_that_cannot_be_a_place_is_told(bucket_environment, name, complaint):
  with pytest.raises(UserError) as info:
    places.at(name)
  assert complaint in str(info.value)
  assert len(str(info.value)) < 200


def test_what_a_bucket_wants_installed_is_told(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"wants the package gcsfs, .*: pip install 'dalle-jax\[gcs\]'"):
    places.at("gs://bucket/run")


def test_a_bucket_out_of_reach_is_told(bucket_environment, monkeypatch):
  class Refuses:
    def call(self, *args, **kwargs):
      raise PermissionError(f"Anonymous caller does not have storage.objects.list access\n{'x' * 500}")

  monkeypatch.setattr(places, "_bucket_files", Refuses)
  with pytest.raises(UserError, match=r"cannot read the bucket gs://mine \(Anonymous caller does not have") as info:
    places.at("gs://mine/run")
  assert "\n" not in str(info.value)
  assert os.fspath(places.at("gs://bucket/run/")) == "gs://bucket/run"
