import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.sampling import draws
from dalle_jax.sampling.draws import Draws

KEPT = Draws(
  captions=("a cat", "ein Hund é"),
  seed=3,
  text_CT=np.arange(6).reshape(2, 3),
  codes_CNP=np.arange(24).reshape(2, 3, 4),
  scores={"clip": np.array([[1, 2, 3], [4, 5, 6]], np.float32)},
  weights={"dvae": "abc"},
  about={"temperature": 1.0},
)


def test_what_is_written_is_read(tmp_path):
  draws.write(tmp_path / "new", KEPT)
  found = draws.read(tmp_path / "new")
  assert (found.captions, found.seed, found.weights, found.about) == (KEPT.captions, 3, KEPT.weights, KEPT.about)
  np.testing.assert_array_equal(found.codes_CNP, KEPT.codes_CNP)
  np.testing.assert_array_equal(found.text_CT, KEPT.text_CT)
  np.testing.assert_array_equal(found.scores["clip"], KEPT.scores["clip"])


@pytest.mark.parametrize("content", [None, b"", b"text", "pickle", "foreign"])
def test_what_is_no_such_file_is_one_line(tmp_path, content):
  if content == "pickle":
    np.savez(tmp_path / draws.NAME, about=np.array([{}], object), codes=np.zeros(1))
  elif content == "foreign":
    np.savez(tmp_path / draws.NAME, codes=np.zeros(1))
  elif content is not None:
    (tmp_path / draws.NAME).write_bytes(content)
  with pytest.raises(UserError, match="dalle sample"):
    draws.read(tmp_path)
