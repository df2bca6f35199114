"""Scores of pictures and captions: the losses of training, all with all, and the files that are written of them."""

import csv
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_drawer
from PIL import Image

from dalle_jax import score
from dalle_jax.errors import UserError
from dalle_jax.evaluation import scores
from dalle_jax.evaluation.pairs import Pairs
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import likelihood

CAPTIONS = ("a red cube", "a green ball on the left", "blue rings")


def pictures(count=4):
  return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def pairs(picture=lambda number: pictures()[number]):
  names = tuple(f"{name}.png" for name in "abcd")
  return Pairs(pictures=names, captions=CAPTIONS, pairs=((0, 0), (1, 1), (2, 2), (3, 0)), picture=picture)


@pytest.fixture(scope="module")
def model():
  return toy_drawer.drawer()


@pytest.fixture(scope="module")
def words():
  return toy_drawer.tokenizer()


def scored(model, words, out, wanted=score.Wanted(batch=3), given=None):  # noqa: B008  it is frozen
  told = []
  options = {"about": {"experiment": "toy"}, "progress": lambda *done: told.append(done), "say": told.append}
  return score.score(model, words, given or pairs(), wanted, out=out, **options), told


def test_means_are_the_losses_that_training_reports(model, words, tmp_path):
  found, _ = scored(model, words, tmp_path)
  text = jnp.stack([words.ids(CAPTIONS[i]) for i in (0, 1, 2, 0)])
  codes = jnp.asarray(model.encode(pictures()).reshape(4, -1))
  objective = TransformerNll(model=model.transformer)
  _, losses = jax.jit(objective.loss)(
    model.transformer_params, {}, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0)
  )
  means = scores.mean(found.scores)
  assert means["text_nats_per_token"] == pytest.approx(float(losses["loss_text"]), rel=1e-5)
  assert means["text_no_pads_nats_per_token"] == pytest.approx(float(losses["loss_text_no_pads"]), rel=1e-5)
  assert means["image_nats_per_token"] == pytest.approx(float(losses["loss_image"]), rel=1e-5)
  # 16 codes of a picture of 8 x 8 x 3 numbers
  assert means["image_nats_per_dimension"] == pytest.approx(float(losses["loss_image"]) * 16 / 192, rel=1e-5)
  assert means["image_bits_per_dimension"] == pytest.approx(means["image_nats_per_dimension"] / math.log(2))


def test_the_table_holds_a_line_for_each_pair(model, words, tmp_path):
  found, _ = scored(model, words, tmp_path)
  with (tmp_path / "scores.tsv").open() as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  assert [row["file"] for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
  assert [row["caption"] for row in rows] == [CAPTIONS[i] for i in (0, 1, 2, 0)]
  assert [int(row["words"]) for row in rows] == [len(words.encode(row["caption"])) for row in rows]
  for row, told in zip(rows, found.scores, strict=True):
    difference = float(row["image_log_likelihood"]) - float(row["image_log_likelihood_no_caption"])
    assert float(row["information"]) == pytest.approx(difference, abs=1e-3)
    assert told.image == pytest.approx(float(row["image_log_likelihood"]), rel=1e-4)
    with Image.open(tmp_path / row["map"]) as image:
      assert image.size[0] > 600


@pytest.mark.parametrize(
  "batch", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(32, marks=pytest.mark.slow)]
)
def test_all_with_all_is_every_pair_by_itself(model, words, tmp_path, batch):
  found, told = scored(model, words, tmp_path, score.Wanted(batch=batch, retrieval=True))
  counts = [done for what, done, _ in (each for each in told if len(each) == 3) if what.startswith("every picture")]
  assert counts == sorted(counts)
  assert counts[-1] == 12
  rows = [line.split("\t") for line in (tmp_path / "retrieval.tsv").read_text().splitlines()]
  assert rows[0] == ["file", *CAPTIONS]
  matrix = np.array([[float(number) for number in row[1:]] for row in rows[1:]])
  assert matrix.shape == (4, 3)
  codes, text = model.encode(pictures()).reshape(4, -1), jnp.stack([words.ids(caption) for caption in CAPTIONS])
  for p, c in np.ndindex(4, 3):
    how = {"model": model.transformer}
    (alone,) = likelihood.image_given_caption(model.transformer_params, text[c][None], jnp.asarray(codes[[p]]), **how)
    assert matrix[p, c] == pytest.approx(float(alone), rel=1e-5, abs=1e-3)
  page = (tmp_path / "index.html").read_text()
  assert "caption to picture, by Bayes&#x27; rule" in page
  assert 'src="retrieval.png"' in page
  assert [len(row.ranks_Q) for row in found.matched] == [4, 3, 3, 3]
  best = (matrix.argmax(1) == [0, 1, 2, 0]).sum()
  assert found.matched[0].top(1).right == best


def test_numbers_do_not_depend_on_the_batch_and_come_out_the_same_again(model, words, tmp_path):
  files = []
  for batch, name in ((1, "one"), (3, "three"), (3, "again")):
    scored(model, words, tmp_path / name, score.Wanted(batch=batch))
    files.append((tmp_path / name / "scores.tsv").read_text())
  assert files[1] == files[2]
  numbers = [np.array([line.split("\t")[2:-1] for line in file.splitlines()[1:]], float) for file in files]
  np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-4, atol=1e-3)


def test_an_earlier_call_leaves_nothing_and_other_files_stay(model, words, tmp_path):
  (tmp_path / "maps").mkdir()
  (tmp_path / "maps/own.png").write_text("a person's own")
  scored(model, words, tmp_path, score.Wanted(retrieval=True))
  assert len(list((tmp_path / "maps").iterdir())) == 5
  found, _ = scored(model, words, tmp_path, score.Wanted(maps=1))
  assert {file.name for file in (tmp_path / "maps").iterdir()} == {"own.png", "0000-a.png"}
  assert not (tmp_path / "retrieval.png").exists()
  assert "3 more pairs are in scores.tsv" in found.page.read_text()


def test_progress_comes_to_its_end_for_each_thing_done(model, words, tmp_path):
  _, told = scored(model, words, tmp_path, score.Wanted(batch=3, retrieval=True))
  ends = {what: (done, total) for what, done, total in told}
  assert ends == {
    "reading pictures": (4, 4),
    "scoring pairs": (4, 4),
    "every picture with every caption": (12, 12),
    "heat maps": (4, 4),
  }


def test_a_long_caption_is_told_of_or_refused(model, words, tmp_path):
  long = "a red cube and a green ball on the left of blue rings"
  given = Pairs(pictures=("a",), captions=(long,), pairs=((0, 0),), picture=lambda number: pictures()[0])
  _, told = scored(model, words, tmp_path, given=given)
  assert "only the first 7 are read" in told[0]
  with pytest.raises(UserError, match="wanted at most 7: shorten it"):
    scored(model, words, tmp_path / "strict", score.Wanted(strict=True), given=given)
  assert not (tmp_path / "strict").exists()


def test_a_model_whose_image_comes_first_is_refused(model, words, tmp_path):
  cfg = dataclasses.replace(model.transformer, order="image_first")
  with pytest.raises(UserError, match="image first: it knows no likelihood of pictures given captions"):
    scored(dataclasses.replace(model, transformer=cfg), words, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_a_picture_cannot_be_read(model, words, tmp_path):
  def picture(number):
    if number == 3:
      raise UserError("cannot read the picture")
    return pictures()[number]

  with pytest.raises(UserError, match="cannot read the picture"):
    scored(model, words, tmp_path / "out", given=pairs(picture))
  assert not (tmp_path / "out").exists()
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="file: it is a file; take another --out"):
    scored(model, words, tmp_path / "file")
