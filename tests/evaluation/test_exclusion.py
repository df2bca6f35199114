"""Lists of pictures to leave out: they belong to one split of one data set, and leave out just what they name."""

import dataclasses
import json

import pytest

from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation import exclusion
from dalle_jax.evaluation.exclusion import Excluded, Exclusion


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  out = tmp_path_factory.mktemp("data") / "out"
  prepare(Scenes(Config(image=16, train=8, valid=2, test=5, test_pairs=2)), out)
  return open_prepared(out)


def listed(prepared, rows, split="test"):
  source = prepared.source(split)
  told = {"place": "somewhere", "split": split, "pictures": len(source), "digest": prepared.digest()}
  return Exclusion(
    training=told | {"split": "train"},
    evaluation=told,
    embedding={"name": "thumbnails", "weights": None, "size": 16},
    threshold=0.9,
    excluded=tuple(Excluded(key=source[row]["key"], cosine=0.95, nearest="x") for row in rows),
  )


def test_it_is_read_as_it_was_written(prepared, tmp_path):
  written = listed(prepared, [3, 1])
  (tmp_path / "exclude.json").write_text(written.as_json())
  assert exclusion.read(tmp_path / "exclude.json") == written
  assert written.as_text().split() == [each.key for each in written.excluded]


def test_only_what_is_named_is_left_out(prepared):
  found = listed(prepared, [3, 1])
  assert exclusion.keep(found, prepared, "test").tolist() == [True, False, True, False, True]


def test_a_list_of_other_data_or_of_another_split_is_refused(prepared):
  found = listed(prepared, [1])
  with pytest.raises(UserError, match="is of the split test, wanted one of valid"):
    exclusion.keep(found, prepared, "valid")
  other = dataclasses.replace(found, evaluation=found.evaluation | {"digest": "0" * 64})
  with pytest.raises(UserError, match=r"is of the data 000000000000 \(somewhere\), this is"):
    exclusion.keep(other, prepared, "test")
  lost = dataclasses.replace(found, excluded=(Excluded(key="nobody", cosine=1.0, nearest="x"),))
  with pytest.raises(UserError, match="names nobody, which the split test does not hold"):
    exclusion.keep(lost, prepared, "test")


@pytest.mark.parametrize(
  ("text", "says"),
  [
    (None, "cannot read .*No such file"),
    ("[", "is no JSON"),
    ("[]", "is no list of pictures to leave out"),
    ('{"kind": "other"}', "is no list of pictures to leave out"),
    (json.dumps({"kind": exclusion.KIND, "version": 1}), "is damaged"),
    (json.dumps({"kind": exclusion.KIND, "version": 2}), "is no list of pictures to leave out"),
  ],
)
def test_another_file_is_one_line(tmp_path, text, says):
  if text is not None:
    (tmp_path / "exclude.json").write_text(text)
  with pytest.raises(UserError, match=says):
    exclusion.read(tmp_path / "exclude.json")
