"""The copy of a bucket's workdir: made equal to it, and what changed brought back."""

import pytest

from dalle_jax import places
from dalle_jax.errors import StorageError, UserError
from dalle_jax.mirror import Mirror, copied


@pytest.fixture
def place(bucket_environment, tmp_path, monkeypatch):
  monkeypatch.setenv("DALLE_CACHE", str(tmp_path / "cache"))
  return places.at(f"gs://bucket/{tmp_path.name}")


def put(place, **files):
  for name, text in files.items():
    places.write(place / name.replace("__", "/"), text.encode())


def texts(directory):
  return {name: (directory / name).read_text() for name in places.files(directory)}


def test_a_copy_is_made_equal_to_the_bucket(place):
  put(place, a="1", deep__b="2", dvae__checkpoints__4__params="large")
  mirror = Mirror(place, "run")
  mirror.pull()
  assert texts(mirror.local) == {"a": "1", "deep/b": "2"}
  put(mirror.local, a="x", c="of a try whose machine died")
  put(place, deep__b="3")
  Mirror(place, "run").pull()
  assert texts(mirror.local) == {"a": "1", "deep/b": "3"}


def test_what_changed_is_brought_back_and_nothing_else(place):
  put(place, a="1", b="2", c="3")
  mirror = Mirror(place, "run")
  mirror.pull()
  put(mirror.local, a="one", d="four")
  (mirror.local / "c").unlink()
  put(mirror.local, **{".scratch": "half"})
  put(place, b="another's")
  mirror.push()
  assert texts(place) == {"a": "one", "b": "another's", "d": "four"}
  put(place, a="another's")
  mirror.push()  # nothing changed here since
  assert texts(place)["a"] == "another's"


def test_only_what_is_wanted_is_copied_and_the_rest_is_left(place):
  put(place, a="1", big__b="2")
  mirror = Mirror(place, "read")
  mirror.pull(lambda name: not name.startswith("big/"))
  assert texts(mirror.local) == {"a": "1"}
  mirror.pull(lambda name: name.startswith("big/"))
  assert texts(mirror.local) == {"a": "1", "big/b": "2"}
  mirror.push()
  assert texts(place) == {"a": "1", "big/b": "2"}


def test_copies_for_different_ends_and_places_lie_apart(place):
  there = {Mirror(place, "run").local, Mirror(place, "read").local, Mirror(place.parent / "other", "run").local}
  assert len(there) == 3


def test_what_is_here_already_is_not_copied_again(place, monkeypatch):
  put(place, a="1", b="2")
  fetched = []
  own = places.download
  monkeypatch.setattr(places, "download", lambda file, to: fetched.append(file.name) or own(file, to))
  copied(place)
  assert fetched == ["a", "b"]
  put(place, b="3")
  copied(place)
  assert fetched == ["a", "b", "b"]


def test_a_full_disk_is_told_as_such(place, monkeypatch):
  def full(file, to):
    raise OSError(28, "No space left on device")

  put(place, a="1")
  monkeypatch.setattr(places, "download", full)
  with pytest.raises(StorageError, match="no space left for the copy of gs://bucket/"):
    copied(place)


def test_a_file_of_the_same_size_that_changed_is_noticed(place):
  put(place, a="1")
  assert texts(copied(place)) == {"a": "1"}
  put(place, a="2")
  assert texts(copied(place)) == {"a": "2"}


def test_what_cannot_be_read_or_written_is_told_in_a_line(place, monkeypatch):
  def refuse(*args):
    raise PermissionError("403\nyou may not")

  mirror = Mirror(place, "run")
  mirror.pull()
  put(mirror.local, a="1")
  monkeypatch.setattr(places, "upload", refuse)
  with pytest.raises(StorageError, match=r"cannot write gs://bucket/.* \(403 you may not\); checkpoints are as they"):
    mirror.push()
  monkeypatch.setattr(places, "details", refuse)
  with pytest.raises(UserError, match=r"cannot read gs://bucket/.* \(403 you may not\): look at its name and"):
    mirror.pull()
