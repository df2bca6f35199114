import re
import subprocess

import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation.metrics import comparison, protocol, result
from dalle_jax.evaluation.metrics.figures import Figure, of_mean, of_share
from dalle_jax.evaluation.metrics.result import Measured

ABOUT = {
  "data": {"name": "scenes", "split": "test", "pictures": 600},
  "sampling": {"guidance": 1.0, "temperature": 1.0},
  "seed": 0,
  "checkpoints": {"transformer": {"step": 10}},
}


def of(metric="fid", value=10.0, about=ABOUT, **more):
  return Measured(figure=Figure(metric=metric, value=value, unit="", examples=600, **more), protocol=about)


def test_the_order_of_facts_does_not_matter_and_their_values_do():
  assert protocol.identity({"a": 1, "b": {"c": 2, "d": 3}}) == protocol.identity({"b": {"d": 3, "c": 2}, "a": 1})
  assert protocol.identity({"a": 1}) != protocol.identity({"a": 2})


def test_the_commit_is_that_of_the_checkout():
  head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
  assert re.fullmatch(r"[0-9a-f]{12}\+?", protocol.commit())
  assert head.startswith(protocol.commit().rstrip("+"))


def test_what_is_compared_may_differ():
  other = {**ABOUT, "checkpoints": {"transformer": {"step": 20}}, "commit": "1234"}
  assert protocol.unlike(ABOUT, other) == []
  [pair] = comparison.compare([of()], [of(value=9.0, about=other)])
  assert (pair.a.value, pair.b.value) == (10.0, 9.0)


@pytest.mark.parametrize(
  ("changed", "named"),
  [
    ({"seed": 1}, "seed: 0 / 1"),
    ({"data": {**ABOUT["data"], "split": "valid"}}, "data.split: test / valid"),
    ({"sampling": {"guidance": 3.0, "temperature": 1.0}}, "sampling.guidance: 1.0 / 3.0"),
    ({"reference": {"sha256": "ab"}}, 'reference: not said / {"sha256": "ab"}'),
  ],
)
def test_unlike_protocols_are_refused_and_the_field_named(changed, named):
  with pytest.raises(UserError, match=re.escape(named)):
    comparison.compare([of()], [of(about={**ABOUT, **changed})])
  field = named.split(":")[0]
  assert comparison.compare([of()], [of(about={**ABOUT, **changed})], across=[field])


def test_a_field_inside_another_leaves_the_rest_of_it_to_be_compared():
  other = {**ABOUT, "sampling": {"guidance": 3.0, "temperature": 0.5}}
  with pytest.raises(UserError, match=r"sampling\.temperature"):
    comparison.compare([of()], [of(about=other)], across=["sampling.guidance"])


def test_across_of_what_no_protocol_has_is_refused():
  with pytest.raises(UserError, match=r"got --across guidance, .*sampling\.guidance"):
    comparison.compare([of()], [of()], across=["guidance"])


def test_only_the_same_measurements_stand_beside_each_other():
  a = [of("fid"), of("fid", blur=1, value=20.0), of("is", of="real")]
  b = [of("fid", blur=1, value=21.0), of("is", of="drawn")]
  assert [(pair.a.value, pair.b.value) for pair in comparison.compare(a, b)] == [(20.0, 21.0)]
  with pytest.raises(UserError, match="no figure in common: one has fid, is, the other psnr"):
    comparison.compare(a, [of("psnr")])


def test_intervals_that_do_not_meet_are_apart():
  low, high, wide = ({"low": 1.0, "high": 2.0}, {"low": 3.0, "high": 4.0}, {"low": 0.0, "high": 9.0})
  [pair] = comparison.compare([of(**low)], [of(**high)])
  assert pair.apart
  [pair] = comparison.compare([of(**low)], [of(**wide)])
  assert pair.apart is False
  [pair] = comparison.compare([of()], [of(**high)])
  assert pair.apart is None
  assert "yes" in comparison.as_text(comparison.compare([of(**low)], [of(**high)]))


def test_a_result_comes_back_as_it_was_written(tmp_path):
  measured = [of("fid", 3.25, blur=2, of="drawn", note="few"), of("loss", about={**ABOUT, "seed": 3})]
  result.write(tmp_path / "new" / "eval.json", measured)
  assert result.read(tmp_path / "new" / "eval.json") == measured


@pytest.mark.parametrize(
  "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "figures": [{}], "protocols": {}}', '{"format": 9}']
)
def test_a_file_of_another_kind_is_one_line(tmp_path, text):
  (tmp_path / "eval.json").write_text(text)
  with pytest.raises(UserError, match=r"eval\.json is"):
    result.read(tmp_path / "eval.json")
  with pytest.raises(UserError, match="cannot read"):
    result.read(tmp_path / "other.json")


def test_a_table_has_the_columns_that_say_something():
  plain, drawn = of("loss").figure, of("fid", of="drawn", blur=1, note="few pictures").figure
  assert result.head([plain]) == ["metric", "value", "unit", "examples"]
  assert result.head([plain, drawn]) == ["metric", "of", "blur", "value", "unit", "examples"]
  assert result.as_text([plain, drawn, drawn]).splitlines()[-1] == "(1) few pictures"
  assert result.as_text([plain, drawn]).count("(1)") == 2
  assert "25.0 % [" in result.as_text([of_share("composition", np.array([True, False, False, False]))])


def test_means_and_shares_have_intervals():
  figure = of_mean("loss", np.array([1.0, 2.0, 3.0]), "nats")
  assert figure.value == 2
  assert figure.high - figure.value == pytest.approx(1.959964 / 3**0.5)
  assert of_mean("loss", np.array([1.0]), "nats").low is None
  share = of_share("composition", np.array([True, False, False, False]))
  assert share.value == 0.25
  assert 0 < share.low < 0.25 < share.high < 1
