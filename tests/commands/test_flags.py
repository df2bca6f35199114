"""tyro's framed errors become one line that names the flag and the nearest known one."""

import dataclasses
from pathlib import Path

import pytest

from dalle_jax.commands import flags
from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
  steps: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
  name: str
  stages: dict[str, Inner]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
  workdir: str


FLAGS = flags.with_experiment(Own, Outer(name="n", stages={"dvae": Inner()}))


def parse(*argv):
  return flags.parse(FLAGS, argv, prog="dalle train")


@pytest.mark.parametrize("got", ["2.5", "two", "1e3"])
def test_a_number_that_is_none_is_told_in_our_words(got):
  with pytest.raises(UserError, match=rf"got --stages.dvae.steps {got}, wanted a whole number \(all flags: "):
    parse("--workdir", "w", "--stages.dvae.steps", got)


def test_fields_of_the_experiment_are_flags_without_a_prefix():
  got = parse("--workdir", "w", "--stages.dvae.steps", "7")
  assert got.experiment == Outer(name="n", stages={"dvae": Inner(steps=7)})
  assert got.workdir == "w"


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (
      ["--workdir", "w", "--stages.dvae.stesp", "7"],
      ["--stages.dvae.stesp", "Perhaps you meant", "--stages.dvae.steps"],
    ),
    (["--workdir", "w", "--stages.dvae.steps", "seven"], ["--stages.dvae.steps", "seven"]),
    (["--stages.dvae.steps", "7"], ["--workdir", "Missing"]),
  ],
)
def test_a_wrong_flag_is_one_line_that_names_it(argv, says):
  with pytest.raises(UserError) as error:
    parse(*argv)
  message = str(error.value)
  assert "\n" not in message
  assert len(message) <= 200
  for words in says:
    assert words in message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writes:
  out_dir: Path | None = None
  font: Path = Path("a.ttf")
  against: str | None = None


@pytest.mark.parametrize(
  ("argv", "flag"),
  [
    (["--out-dir", ""], "--out-dir"),
    (["--out_dir", ""], "--out_dir"),
    (["--out-dir="], "--out-dir"),
    (["--against", "", "--font", ""], "--font"),
  ],
)
def test_a_path_of_nothing_is_refused_and_not_the_current_folder(argv, flag):
  with pytest.raises(UserError, match=rf"^got {flag} with nothing after it, wanted a path"):
    flags.parse(Writes, argv, prog="dalle sample")


def test_a_text_of_nothing_is_a_text():
  got = flags.parse(Writes, ["--against", "", "--out-dir", "."], prog="dalle sample")
  assert got == Writes(against="", out_dir=Path())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
  num: int = 1

  def __post_init__(self) -> None:
    if self.num < 1:
      raise UserError(f"got --num {self.num}, wanted at least 1")


def test_what_flags_refuse_themselves_is_told_in_their_words():
  with pytest.raises(UserError, match=r"^got --num 0, wanted at least 1 \(all flags: dalle sample --help\)$"):
    flags.parse(Counts, ["--num", "0"], prog="dalle sample")
