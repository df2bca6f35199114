"""The evaluation of tiny untrained stages as a whole: which parts there are, and what their numbers are of."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle_jax import sharding
from dalle_jax.data import captioned_scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples, report, results
from dalle_jax.evaluation.report import Protocol, Trained
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant

SIDE, VOCAB, TEXT, CODES = 32, 32, 6, 8


class Words:
  """A token a word, by its length."""

  def ids(self, text):
    ids = [len(word) % VOCAB for word in text.split()][: TEXT - 1]
    return np.array(ids + [VOCAB + i for i in range(len(ids), TEXT)], np.int32)


@dataclasses.dataclass
class Data:
  """Prepared examples in memory."""

  rows: dict

  @property
  def splits(self):
    return tuple(self.rows)

  def source(self, split):
    return self.rows[split]


def scenes(split, count):
  config = captioned_scenes.Config(image=SIDE)
  rows = [captioned_scenes.make_example(config, split, i) for i in range(count)]
  return [row | {"image": np.asarray(Image.open(io.BytesIO(row["image"])))} for row in rows]


@pytest.fixture(scope="module")
def judged_data():
  return Data({"train": scenes("train", 12), "test": scenes("test", 9), "test_pairs": scenes("test_pairs", 6)})


@pytest.fixture(scope="module")
def plain_data(judged_data):
  plain = {split: [row | {"attributes": ""} for row in rows] for split, rows in judged_data.rows.items()}
  return Data({"train": plain["train"], "valid": plain["test"]})


def trained(objective, seed):
  shapes = sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)
  return Trained(objective=objective, params=params, digest="", batch=4, step=10)


@pytest.fixture(scope="module")
def stages():
  pictures = dvae.Config(image=SIDE, vocab=CODES, hidden=8, groups=5, blocks=1, code_dim=4)
  words = transformer.Config(
    text_vocab=VOCAB, text=TEXT, image_vocab=CODES, grid=2, layers=1, heads=2, head_dim=4, mix=("full",), last=None
  )
  scores = clip.Config(
    image=SIDE, patch=16, text_vocab=VOCAB, text=TEXT, embed=8, vision_layers=1, vision_width=16, vision_heads=2,
    text_layers=1, text_width=16, text_heads=2,
  )  # fmt: skip
  return {
    "dvae": trained(DvaeElbo(model=pictures, kl=Constant(1.0), temperature=Constant(1.0)), 0),
    "transformer": trained(TransformerNll(model=words), 1),
    "clip": trained(ClipContrastive(model=scores), 2),
  }


PROTOCOL = Protocol(captions=6, samples=4, batch=24)


@pytest.fixture(scope="module")
def judged(stages, judged_data):
  told = []
  found = report.evaluate(stages, judged_data, Words(), PROTOCOL, lambda *what: told.append(what))
  return found, told


@pytest.mark.slow
def test_judged_data_is_scored_on_both_splits(judged):
  found, _ = judged
  assert found.split == "test"
  assert [each.split for each in found.composition] == ["test", "test_pairs"]
  assert found.best_of == (1, 4)
  assert not found.retrieval
  for each in found.composition:
    assert each.scores["CLIP"].shape == (6, 4)
    assert each.truth_C.all()
    np.testing.assert_array_equal(each.objects_C, [1, 2, 3, 1, 2, 3])
  results.to_json(found)


@pytest.mark.slow
def test_what_is_shown_is_the_best_by_clip_beside_the_true_picture(judged, judged_data):
  found, _ = judged
  first = found.shown[0]
  assert first.caption == judged_data.rows["test"][0]["captions"][0]
  np.testing.assert_array_equal(first.truth_HWC, judged_data.rows["test"][0]["image"])
  np.testing.assert_allclose(first.scores_K, np.sort(found.composition[0].scores["CLIP"][0])[::-1])


@pytest.mark.slow
def test_losses_are_the_objectives_own_on_the_held_out_split(judged, stages, judged_data):
  found, _ = judged
  assert set(found.losses) == {"dvae", "transformer", "clip"}
  rows = judged_data.rows["test"][:8]  # two equal batches of four; the ninth is left out
  text = jnp.asarray(np.stack([Words().ids(row["captions"][0]) for row in rows]))
  images = jnp.asarray(np.stack([row["image"] for row in rows]))
  vae, words = stages["dvae"], stages["transformer"]
  codes = dvae.encode_images(vae.params, vae.objective.model, images).reshape(8, -1)
  expected = words.objective.loss(words.params, None, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0))[
    1
  ]
  for name in ("loss", "loss_image", "loss_text", "loss_text_no_pads"):
    assert found.losses["transformer"][name] == pytest.approx(float(expected[name]), rel=1e-4)


@pytest.mark.slow
def test_progress_of_every_task_reaches_its_end(judged):
  _, told = judged
  last = {what: (done, total) for what, done, total in told}
  assert last["drawing test"] == last["judging test"] == (24, 24)
  assert all(done == total for done, total in last.values())


def test_without_a_judge_true_pictures_are_looked_up(stages, plain_data):
  found = report.evaluate(stages, plain_data, Words(), PROTOCOL)
  assert found.split == "valid"
  assert not found.composition
  by = {(each.split, each.pictures): each for each in found.retrieval}
  assert set(by) == {
    (split, name) for split in ("train", "valid") for name in ("best of 4 by CLIP", "ceiling: dVAE's reconstructions")
  }
  assert by["train", "best of 4 by CLIP"].candidates == 12
  assert by["valid", "best of 4 by CLIP"].candidates == 12 + 9
  assert {each.split for each in found.shown} == {"train", "valid"}
  assert all(each.right_K is None for each in found.shown)


def test_a_dvae_alone_is_measured_alone(stages, plain_data):
  found = report.evaluate({"dvae": stages["dvae"]}, plain_data, Words(), PROTOCOL)
  assert set(found.losses) == {"dvae"}
  assert found.reconstruction.pictures == 9
  assert found.pairs_2NHWC.shape == (2, 9, SIDE, SIDE, 3)
  assert not found.shown


@pytest.mark.slow
def test_without_clip_nothing_is_called_best(stages, judged_data):
  found = report.evaluate({k: stages[k] for k in ("dvae", "transformer")}, judged_data, Words(), PROTOCOL)
  assert not found.ranked
  assert found.best_of == (1,)
  assert "best of" not in results.as_text(found)


@pytest.mark.slow
def test_one_draw_is_ranked_in_every_way_that_is_asked_for(stages, judged, judged_data):
  found, _ = judged
  rankings = ("likelihood", "clip", "clip=1,likelihood=0.5")
  more = report.evaluate(stages, judged_data, Words(), dataclasses.replace(PROTOCOL, rank=rankings))
  names = "likelihood", "CLIP", "1 CLIP + 0.5 likelihood"
  assert more.ranked == tuple(more.composition[0].scores) == names
  scores = more.composition[0].scores
  np.testing.assert_allclose(scores["CLIP"], found.composition[0].scores["CLIP"])
  np.testing.assert_array_equal(more.composition[0].right["all"], found.composition[0].right["all"])
  standard = lambda name: (scores[name] - scores[name].mean(1, keepdims=True)) / scores[name].std(1, keepdims=True)  # noqa: E731
  np.testing.assert_allclose(scores[names[2]], standard("CLIP") + 0.5 * standard("likelihood"), atol=1e-5)
  np.testing.assert_allclose(more.shown[0].scores_K, np.sort(scores["likelihood"][0])[::-1])
  assert (np.argsort(scores["likelihood"]) != np.argsort(scores["CLIP"])).any()


def test_a_ranking_that_nothing_can_give_is_refused(stages, judged_data):
  for names, rank, says in (
    (("dvae", "transformer"), "clip", "has no trained CLIP"),
    (("dvae",), "likelihood", "nothing that draws is trained"),
  ):
    protocol = dataclasses.replace(PROTOCOL, rank=(rank,))
    with pytest.raises(UserError, match=says):
      report.evaluate({name: stages[name] for name in names}, judged_data, Words(), protocol)


@pytest.mark.parametrize(("rank", "says"), [(("clap",), "wanted one of clip"), (("clip", "clip"), "twice")])
def test_rankings_that_are_none_are_refused(rank, says):
  with pytest.raises(UserError, match=says):
    Protocol(rank=rank)


def test_an_unknown_split_is_refused_by_name(judged_data):
  with pytest.raises(UserError, match="no split 'tset'; it has train, test, test_pairs"):
    examples.held_out_split(judged_data, "tset")


@pytest.mark.parametrize("wrong", [{"captions": 0}, {"samples": 0}, {"batch": -1}])
def test_impossible_protocols_are_refused(wrong):
  with pytest.raises(UserError, match="wanted at least 1"):
    Protocol(**wrong)
