import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation.metrics.parts import measured


class Squares:
  """Computes squares, and notes which examples it was asked for."""

  def __init__(self, stop_at=None):
    self.asked, self.stop_at = [], stop_at

  def __call__(self, begin, end):
    if begin == self.stop_at:
      raise KeyboardInterrupt
    self.asked.append((begin, end))
    return {"square": np.arange(begin, end) ** 2, "rows": np.ones((end - begin, 2))}


def test_columns_are_of_all_examples_in_order(tmp_path):
  parts = measured(tmp_path, {"what": "squares"}, 10, Squares(), size=4)
  assert parts.column("square").tolist() == [n**2 for n in range(10)]
  assert [len(part) for part in parts.each("rows")] == [4, 4, 2]
  assert parts.bytes() > 0


def test_what_was_ended_goes_on_and_nothing_is_measured_twice(tmp_path):
  first = Squares(stop_at=8)
  with pytest.raises(KeyboardInterrupt):
    measured(tmp_path, {"what": "squares"}, 10, first, size=4)
  second = Squares()
  parts = measured(tmp_path, {"what": "squares"}, 10, second, size=4)
  assert (first.asked, second.asked) == ([(0, 4), (4, 8)], [(8, 10)])
  assert parts.column("square").tolist() == [n**2 for n in range(10)]


@pytest.mark.parametrize("about", [{"what": "cubes"}, {"what": "squares", "seed": 1}])
def test_what_depends_on_other_things_is_measured_anew(tmp_path, about):
  measured(tmp_path, {"what": "squares"}, 10, Squares(), size=4)
  other = Squares()
  measured(tmp_path, about, 10, other, size=4)
  assert len(other.asked) == 3


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:60] + bytes(20) + b[80:]])
def test_a_damaged_part_is_measured_anew(tmp_path, spoil):
  parts = measured(tmp_path, {"what": "squares"}, 10, Squares(), size=4)
  file = list(parts.files())[1]
  file.write_bytes(spoil(file.read_bytes()))
  again = Squares()
  parts = measured(tmp_path, {"what": "squares"}, 10, again, size=4)
  assert again.asked == [(4, 8)]
  assert parts.column("square").tolist() == [n**2 for n in range(10)]


def test_progress_tells_what_is_done_whether_it_was_there_or_not(tmp_path):
  told = []
  for _ in range(2):
    measured(tmp_path, {"what": "squares"}, 10, Squares(), size=4, progress=told.append)
  assert told == [0, 4, 8, 10] * 2


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"cannot write what is measured to .*file"):
    measured(tmp_path / "file", {}, 4, Squares())


def test_columns_of_another_length_are_an_error(tmp_path):
  with pytest.raises(ValueError, match="wanted columns of 4 examples"):
    measured(tmp_path, {}, 4, lambda begin, end: {"square": np.zeros(3)})
