"""Configurations survive JSON, print as golden text, and refuse what they do not know."""

import dataclasses
import json

import pytest

from dalle_jax import config
from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
  value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  start: float
  end: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  rate: Constant | Line
  from_: str | None = None
  sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
  name: str
  parts: dict[str, Part]


WHOLE = Whole(
  name="w",
  parts={"a": Part(rate=Constant(value=1.0)), "b": Part(rate=Line(start=0.0, end=2.0), from_="x", sizes=(3,))},
)


def test_a_configuration_comes_back_from_json_equal_and_of_the_same_classes():
  back = config.from_dict(Whole, json.loads(json.dumps(config.to_dict(WHOLE))))
  assert back == WHOLE
  assert type(back.parts["b"].rate) is Line


def test_an_integer_in_a_float_field_comes_back_as_a_float():
  data = config.to_dict(WHOLE)
  data["parts"]["a"]["rate"]["value"] = 3
  assert type(config.from_dict(Whole, data).parts["a"].rate.value) is float


def test_the_golden_text_has_a_line_for_every_leaf():
  text = config.to_text(WHOLE)
  assert "parts.b.rate.kind = 'Line'\n" in text
  assert "parts.b.from = 'x'\n" in text
  assert text.count("\n") == len(list(config.leaves(WHOLE)))


def test_the_digest_changes_with_every_leaf_and_only_then():
  changed = dataclasses.replace(WHOLE, name="v")
  assert config.digest(WHOLE) == config.digest(dataclasses.replace(WHOLE))
  assert config.digest(WHOLE) != config.digest(changed)


@pytest.mark.parametrize(
  ("change", "says"),
  [
    (lambda d: d["parts"]["a"].update(stpes=3), "experiment.parts.a has the field 'stpes'"),
    (lambda d: d["parts"]["a"]["rate"].update(kind="Cosine"), "experiment.parts.a.rate is a 'Cosine'"),
  ],
)
def test_what_this_version_does_not_know_is_refused_by_name(change, says):
  data = config.to_dict(WHOLE)
  change(data)
  with pytest.raises(UserError, match=says.replace(".", r"\.")):
    config.from_dict(Whole, data)


def test_a_float_that_is_not_finite_is_refused_by_name():
  bad = Whole(name="w", parts={"a": Part(rate=Constant(value=float("nan")))})
  with pytest.raises(UserError, match=r"parts\.a\.rate\.value is nan"):
    config.to_dict(bad)
