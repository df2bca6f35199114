"""A published CLIP from pixels and words to scores, against open_clip, transformers and torchmetrics."""

import json
from pathlib import Path

import numpy as np
import official
import published_clip
import pytest
import random_weights

from dalle_jax.convert import clip
from dalle_jax.data import clip_vocabulary
from dalle_jax.data.clip_bpe import ClipTokenizer
from dalle_jax.evaluation import clip_pixels
from dalle_jax.evaluation.clip_score import clip_score, cosines
from dalle_jax.evaluation.published_clip import Clip
from dalle_jax.models import openai_clip

pytestmark = pytest.mark.parity

CAPTIONS = [
  "an armchair in the shape of an avocado",
  "a small red block on top of a LARGE green block!",
  "3 penguins &amp; a café",
  " ".join(["a very long caption"] * 30),
]
SIZES = [(24, 24), (24, 31), (37, 24), (64, 48), (101, 300), (9, 13), (500, 333), (25, 24), (47, 48)]


def pictures(shape, seed=0):
  """Smooth enough that a resized picture is not grey, with noise on top."""
  rng = np.random.default_rng(seed)
  height, width = shape[-3:-1]
  coarse = rng.integers(0, 256, (*shape[:-3], 4, 4, 3))
  smooth = np.repeat(np.repeat(coarse, -(-height // 4), -3), -(-width // 4), -2)[..., :height, :width, :]
  return np.clip(smooth + rng.integers(-40, 40, shape), 0, 255).astype(np.uint8)


def config(side, **changes):
  stack = openai_clip.Stack(layers=1, width=8, heads=1, mlp=8, quick_gelu=True)
  vision = openai_clip.VisionTransformer(image=side, patch=side, stack=stack)
  text = openai_clip.Text(vocab=8, length=8, stack=stack)
  return openai_clip.Config(vision=vision, text=text, embed=8, **changes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [24, 35])
def test_pixels_are_those_of_open_clip_s_transform(size, side):
  from PIL import Image

  transform = official.load("open_clip.transform").image_transform(side, is_train=False)
  image = pictures((*size, 3), seed=size[0])
  wanted = transform(Image.fromarray(image)).numpy().transpose(1, 2, 0)
  np.testing.assert_array_equal(clip_pixels.prepare([image], config(side))[0], wanted)


def test_pixels_are_those_of_transformers_with_pillow():
  processor = official.load("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil()
  for size in [(300, 260), (224, 224), (150, 400)]:
    image = pictures((*size, 3), seed=size[0])
    wanted = np.asarray(processor(images=image, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
    np.testing.assert_allclose(clip_pixels.prepare([image], config(224))[0], wanted, atol=1e-6)


def test_the_other_normalisation_of_a_description_is_taken():
  image = pictures((24, 24, 3))
  half = clip_pixels.prepare([image], config(24, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))[0]
  np.testing.assert_allclose(half, image / 127.5 - 1, atol=1e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """transformers' CLIPModel of the published vocabulary, its processor, and ours of the same weights."""
  transformers, torch = official.load("transformers"), official.load("torch")
  tokenizer = ClipTokenizer(clip_vocabulary.of([Path(official.load("open_clip.tokenizer").default_bpe())]))
  folder = tmp_path_factory.mktemp("tokenizer")
  (folder / "vocab.json").write_text(json.dumps(tokenizer.vocabulary.ids))
  merges = "".join(f"{a} {b}\n" for a, b in tokenizer.vocabulary.ranks)
  (folder / "merges.txt").write_text("#version: 0.2\n" + merges)
  small = published_clip.hugging_face(vocab=tokenizer.size, length=77, eos=tokenizer.end, seed=3)
  images = official.load("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil(
    size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
  )
  words = transformers.CLIPTokenizer.from_pretrained(str(folder))

  def processor(images_=images, text=None, images=None, return_tensors=None, padding=None):
    del padding
    if text is not None:
      return words(text, return_tensors=return_tensors, padding=True, truncation=True, max_length=77)
    return images_(images=[image.numpy() for image in images], return_tensors=return_tensors)

  class Model(torch.nn.Module):
    """torchmetrics was written for a transformers whose two functions gave the vectors themselves."""

    config = small.module.config

    def get_image_features(self, pixels):
      return small.images(pixels)

    def get_text_features(self, ids, mask):
      del mask
      return small.texts(ids)

  cfg, params = clip.read(small.arrays(), small.description)
  ours = Clip(model=cfg, params=params, tokenizer=tokenizer, digest="", batch=3)
  return ours, lambda: (Model(), processor)


def test_clip_score_is_torchmetrics(whole):
  torch = official.load("torch")
  ours, theirs = whole
  metric = official.load("torchmetrics.multimodal.clip_score").CLIPScore(theirs)
  update = official.load("torchmetrics.functional.multimodal.clip_score")._clip_score_update
  captions = [CAPTIONS[0], CAPTIONS[1], CAPTIONS[3], "a cube made of porcupine"]
  images_BHWC = pictures((len(captions), 40, 56, 3), seed=2)
  tensor = torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2).copy())
  images_BE, texts_BE = ours.embed_images(images_BHWC), ours.embed_texts(captions)
  np.testing.assert_allclose(np.linalg.norm(images_BE, axis=1), 1, atol=1e-6)
  with torch.no_grad():
    each, _ = update(tensor, captions, *theirs())
    metric.update(tensor, captions)
  found = clip_score(images_BE[:, None], texts_BE)
  # Random weights give cosines of both signs; the mean of these is above 0, where torchmetrics cuts nothing off.
  assert random_weights.error(100 * cosines(images_BE[:, None], texts_BE)[:, 0], each.numpy()) < 1e-4
  assert each.mean() > 1
  assert abs(100 * found.cosine.mean - float(metric.compute())) < 1e-4 * float(metric.compute())
  assert found.score.mean == pytest.approx(float(np.maximum(each.numpy(), 0).mean()), rel=1e-4)
