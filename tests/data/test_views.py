"""Codes and pixels are two views of one thing: the same caption, the same crop, the same loss."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from PIL import Image

from dalle_jax import sharding
from dalle_jax.data import captions, codes, near_misses
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
from dalle_jax.data.images import Stage2Crop, numbered_crop
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.source import Raw
from dalle_jax.data.views import CodesView, PictureView, one_caption
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant

CROPS, SEED = 4, 5
WORDS = TokenizerConfig(vocab=300, length=24, dropout=0.5)
DVAE = dvae.Config(image=8, vocab=32, hidden=16, groups=1, blocks=1, code_dim=4)
MODEL = transformer.Config(
  text_vocab=WORDS.vocab,
  text=WORDS.length,
  image_vocab=DVAE.vocab,
  grid=DVAE.grid,
  layers=1,
  heads=2,
  head_dim=4,
  mix=("row",),
  last=None,
  kernel=3,
)


class Noisy:
  """Five pictures of noise, wider than high, each with three captions."""

  name, splits = "noisy", ("train",)

  def examples(self, split):
    for i in range(5):
      png = io.BytesIO()
      Image.fromarray(np.random.default_rng(i).integers(0, 256, (10, 50, 3)).astype(np.uint8)).save(png, "PNG")
      yield Raw(key=f"{i}", image=png.getvalue(), captions=tuple(f"picture {i} {way}" for way in ("left", "up", "in")))


@pytest.fixture(scope="module")
def vae():
  objective = DvaeElbo(model=DVAE, kl=Constant(0.0), temperature=Constant(1.0))
  return jax.jit(lambda key: sharding.unbox(objective.init(key)))(jax.random.key(0))


@pytest.fixture(scope="module")
def both(tmp_path_factory, vae):
  """The examples as pictures and as codes, by key; and a tokenizer."""
  directory = tmp_path_factory.mktemp("views")
  prepare(Noisy(), directory / "data")
  prepared = open_prepared(directory / "data")
  sizes = {"vocab": DVAE.vocab, "grid": DVAE.grid, "size": DVAE.image}
  stamp = codes.stamp(prepared, dvae="x", crops=CROPS, seed=SEED, **sizes)
  encode = lambda images: np.asarray(dvae.encode_images(vae, DVAE, images))  # noqa: E731
  encoded = codes.encode(prepared, directory / "codes", stamp, encode, batch=8)
  sources = prepared.source("train"), encoded.source("train")
  texts = [text for each in sources[0].captions() for text in each]
  pictures, their_codes = ({each["key"]: each for each in (source[i] for i in range(5))} for source in sources)
  return pictures, their_codes, Tokenizer(captions.train(texts, WORDS), WORDS)


def pixels_view(words, seed=SEED):
  return PictureView(crop=Stage2Crop(size=DVAE.image), tokenizer=words, crops=CROPS, seed=seed)


def test_the_same_generator_chooses_the_same_caption_and_crop_in_both_views(both, vae):
  pictures, their_codes, words = both
  texts, crops = set(), set()
  for key in pictures:
    for i in range(12):
      seen = pixels_view(words)(pictures[key], np.random.default_rng(i))
      coded = CodesView(tokenizer=words)(their_codes[key], np.random.default_rng(i))
      assert coded["codes"].dtype == np.uint16
      np.testing.assert_array_equal(seen["text"], coded["text"])
      encoded = dvae.encode_images(vae, DVAE, seen["image"][None])
      np.testing.assert_array_equal(coded["codes"], np.asarray(encoded).reshape(-1))
      texts.add((key, coded["text"].tobytes()))
      crops.add((key, coded["codes"].tobytes()))
  assert len(texts) > 5 * 6  # three captions, and dropout
  assert len(crops) > 5 * 2


@pytest.mark.slow
def test_codes_and_pixels_of_the_same_crop_give_the_same_loss(both, vae):
  pictures, their_codes, words = both
  on_codes, on_pixels = TransformerNll(model=MODEL), TransformerNll(model=MODEL, dvae=DVAE)
  params = jax.jit(lambda key: sharding.unbox(on_codes.init(key)))(jax.random.key(1))
  # Heads start at zero, where every picture costs the same.
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  params = jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])

  def batch(view, examples, seed):
    rows = [view(examples[key], np.random.default_rng([seed, int(key)])) for key in sorted(examples)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def loss(objective, given):
    step = jax.jit(lambda p, frozen, x: objective.loss(p, frozen, x, jax.random.key(0), jax.numpy.int32(0))[0])
    return float(step(params, {"dvae": vae}, given))

  coded = batch(CodesView(tokenizer=words), their_codes, 0)
  seen = batch(pixels_view(words), pictures, 0)
  other = batch(pixels_view(words), pictures, 1) | {"text": coded["text"]}
  assert abs(loss(on_pixels, other) - loss(on_codes, coded)) > 1e-3
  assert loss(on_pixels, seen) == pytest.approx(loss(on_codes, coded), abs=1e-6)


def test_without_numbers_each_look_takes_a_crop_of_its_own(both):
  pictures, _, words = both
  view = PictureView(crop=Stage2Crop(size=DVAE.image), tokenizer=words)
  numbered = dataclasses.replace(view, crops=CROPS)
  found, few = (
    {each(pictures["0"], np.random.default_rng(i))["image"].tobytes() for i in range(60)} for each in (view, numbered)
  )
  assert len(found) > 15
  assert len(few) <= CROPS


def test_numbered_crops_are_those_of_the_views_seed(both):
  pictures, _, words = both
  crop, image_HWC = Stage2Crop(size=DVAE.image), pictures["0"]["image"]
  wanted = [
    {numbered_crop(crop, image_HWC, seed=seed, key="0", number=n).tobytes() for n in range(CROPS)}
    for seed in (SEED, SEED + 1)
  ]
  for seed, crops in zip((SEED, SEED + 1), wanted):
    found = {pixels_view(words, seed)(pictures["0"], np.random.default_rng(i))["image"].tobytes() for i in range(40)}
    assert found == crops
  assert wanted[0] != wanted[1]


def test_without_a_tokenizer_there_is_no_text(both):
  assert set(PictureView(crop=Stage2Crop(size=DVAE.image))(both[0]["0"], np.random.default_rng(0))) == {"image"}


def test_every_caption_is_chosen_about_as_often(both):
  words = Tokenizer(both[2].model, dataclasses.replace(WORDS, dropout=0.0))
  texts = both[0]["3"]["captions"]
  rng = np.random.default_rng(0)
  drawn = [one_caption(texts, words, rng).tobytes() for _ in range(300)]
  for text in texts:
    assert 70 <= drawn.count(words.ids(text).tobytes()) <= 130


def test_both_views_add_the_same_near_miss_and_nothing_else_changes(both):
  pictures, their_codes, words = both
  texts = [words.encode(text) for each in pictures.values() for text in each["captions"]]
  misses = near_misses.learn(texts, WORDS.vocab)
  plain_view, plain_codes = pixels_view(words), CodesView(tokenizer=words)
  view, codes_view = (dataclasses.replace(each, near_misses=misses) for each in (plain_view, plain_codes))
  missed = 0
  for key in pictures:
    rng = lambda: np.random.default_rng(3)  # noqa: E731
    seen, of_codes = view(pictures[key], rng()), codes_view(their_codes[key], rng())
    np.testing.assert_array_equal(seen["negative_text"], of_codes["negative_text"])
    missed += int((seen["negative_text"] != seen["text"]).sum())
    for name, value in plain_view(pictures[key], rng()).items():
      np.testing.assert_array_equal(value, seen[name])
  assert missed >= len(pictures)


def test_captions_are_dropped_at_their_rate_from_both_views_alike_and_nothing_else_changes(both):
  pictures, their_codes, words = both
  view = dataclasses.replace(pixels_view(words), drop_captions=0.3)
  codes_view = CodesView(tokenizer=words, drop_captions=0.3)
  empty, dropped, looks = words.ids(""), 0, 400
  assert (empty >= WORDS.vocab).all()
  for i in range(looks):
    rng = lambda: np.random.default_rng(i)  # noqa: B023, E731
    seen, of_codes = view(pictures["3"], rng()), codes_view(their_codes["3"], rng())
    np.testing.assert_array_equal(seen["text"], of_codes["text"])
    plain = pixels_view(words)(pictures["3"], rng())
    np.testing.assert_array_equal(seen["image"], plain["image"])
    is_empty = (seen["text"] == empty).all()
    dropped += is_empty
    assert is_empty or (seen["text"] == plain["text"]).all()
  assert 0.22 * looks < dropped < 0.38 * looks
