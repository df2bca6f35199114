import clip_arrays
import clip_words
import jax
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.convert import clip
from dalle_jax.errors import UserError
from dalle_jax.evaluation import clip_pixels
from dalle_jax.evaluation.published_clip import Clip, PublishedCosine, words
from dalle_jax.models import openai_clip
from dalle_jax.sampling.devices import Devices
from dalle_jax.sampling.rankers import Candidates, Ranker

CAPTIONS = ["the cat", "a cart", "", "cat at the car, at the cat, at the cart, at the cat"]


def loaded(folder, vocab=clip_words.SIZE, **changes):
  shapes = {**clip_arrays.openai_vit(), **clip_arrays.openai_text(vocab=vocab)}
  cfg, params = clip.read(clip_arrays.drawn(shapes), clip_arrays.OPEN_CLIP)
  tokenizer = words(cfg, [clip_words.openai(folder)])
  return Clip(model=cfg, params=params, tokenizer=tokenizer, digest="d", **changes)


def pictures(count, height=30, width=40):
  return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_vectors_are_those_of_the_towers_at_length_one(tmp_path):
  found = loaded(tmp_path, batch=2)
  images = pictures(5)
  pixels = clip_pixels.prepare(images, found.model)
  assert pixels.shape == (5, 24, 24, 3)
  wanted = np.asarray(openai_clip.encode_images(found.params, found.model, jax.numpy.asarray(pixels)))
  wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
  np.testing.assert_allclose(found.embed_images(images), wanted, atol=1e-5)
  ids = jax.numpy.asarray(found.tokenizer.ids(CAPTIONS, 9))
  wanted = np.asarray(openai_clip.encode_texts(found.params, found.model, ids))
  wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
  np.testing.assert_allclose(found.embed_texts(CAPTIONS), wanted, atol=1e-5)
  assert found.embed_images(images[:0]).shape == (0, 20)
  assert found.embed_texts([]).shape == (0, 20)


@pytest.mark.slow
def test_several_devices_find_the_same(tmp_path):
  mesh = sharding.make_mesh(sharding.MeshShape(data=4), jax.devices()[:4])
  alone, many = loaded(tmp_path), loaded(tmp_path, devices=Devices(mesh=mesh), batch=8)
  images = pictures(11)
  np.testing.assert_allclose(many.embed_images(images), alone.embed_images(images), atol=1e-5)
  np.testing.assert_allclose(many.embed_texts(CAPTIONS), alone.embed_texts(CAPTIONS), atol=1e-5)


def test_a_vocabulary_of_another_network_is_refused(tmp_path):
  with pytest.raises(UserError, match="the vocabulary has 522 ids, the CLIP reads 600: they are not a pair"):
    loaded(tmp_path, vocab=600)


def test_it_ranks_drawn_pictures_by_their_captions_cosines(tmp_path):
  found = loaded(tmp_path)
  ranker = PublishedCosine(found, CAPTIONS)
  assert isinstance(ranker, Ranker)
  images = pictures(6).reshape(2, 3, 30, 40, 3)
  blank = np.zeros((2, 3), np.int32)
  scores = ranker(
    Candidates(caption_C=np.array([3, 0]), text_CT=blank, codes_CSP=np.zeros((2, 3, 4), np.int32), images_CSHWC=images)
  )
  texts = found.embed_texts(CAPTIONS)
  for c, caption in enumerate((3, 0)):
    np.testing.assert_allclose(scores[c], found.embed_images(images[c]) @ texts[caption], atol=1e-5)
  assert (scores.dtype, scores.shape) == (np.float32, (2, 3))


@pytest.mark.parametrize("size", [(24, 24), (24, 61), (50, 33), (12, 7), (25, 24)])
def test_the_middle_of_a_picture_is_square_and_even(size):
  image = np.zeros((*size, 3), np.uint8)
  image[:, :, 0] = np.linspace(0, 255, size[0])[:, None]
  image[:, :, 1] = np.linspace(0, 255, size[1])[None]
  found = clip_pixels.middle(image, 24).astype(float)
  assert found.shape == (24, 24, 3)
  # What is cut off is as much on either side: the middle of a ramp stays in the middle.
  np.testing.assert_allclose(found[:, :, :2].mean((0, 1)), 127.5, atol=8)
