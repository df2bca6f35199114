"""A published CLIP's files as each project saves them, converted, against the module that was saved."""

import json
from pathlib import Path

import numpy as np
import official
import published_clip
import pytest
import random_weights

from dalle_jax import convert_files, published
from dalle_jax.evaluation import clip_pixels

pytestmark = pytest.mark.parity

CAPTIONS = ["an armchair in the shape of an avocado", "a café", "12 red cubes, 3 green ones & the rest"]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}


def vocabulary():
  return Path(official.load("open_clip.tokenizer").default_bpe())


def openai(folder, small):
  """A scripted archive in half precision, with the three scalars that OpenAI's hold."""
  torch = official.load("torch")
  module, image = small.module, small.description["vision_cfg"]["image_size"]
  for name, number in (("input_resolution", image), ("context_length", 77), ("vocab_size", 49408)):
    vars(module).pop(name, None)
    module.register_buffer(name, torch.tensor(number))
  example = {"encode_image": torch.zeros(1, 3, image, image), "encode_text": torch.zeros(1, 77, dtype=torch.int64)}
  with official.warnings.catch_warnings():
    official.warnings.simplefilter("ignore")  # scripting is deprecated, and it is how these files were made
    torch.jit.trace_module(module, example).half().save(str(folder / "ViT-B-32.pt"))
  module.half().float()
  return [folder / "ViT-B-32.pt", vocabulary()]


def training(folder, small):
  """open_clip's checkpoint of a training on several devices, and the model's configuration beside it."""
  torch = official.load("torch")
  state = {f"module.{name}": tensor for name, tensor in small.module.state_dict().items()}
  torch.save({"epoch": 3, "name": "run", "state_dict": state}, folder / "epoch_3.pt")
  (folder / "ViT-B-32.json").write_text(json.dumps(small.description))
  return [folder / "epoch_3.pt", folder / "ViT-B-32.json", vocabulary()]


def hub(folder, small):
  """A folder of the hub as transformers writes it."""
  small.module.save_pretrained(folder / "hub")
  tokenizer = official.load("open_clip.tokenizer").SimpleTokenizer()
  names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
  ids = {names.get(symbol, symbol): i for symbol, i in tokenizer.encoder.items()}
  (folder / "hub" / "vocab.json").write_text(json.dumps(ids))
  merges = "".join(f"{first} {second}\n" for first, second in tokenizer.bpe_ranks)
  (folder / "hub" / "merges.txt").write_text("#version: 0.2\n" + merges)
  return [folder / "hub"]


FILES = {
  "OpenAI's archive": (
    openai,
    lambda: published_clip.open_clip({**published_clip.VIT, "width": 64, "head_width": 64}, quick_gelu=True, text=TEXT),
  ),
  "OpenAI's archive of a ResNet": (
    openai,
    lambda: published_clip.open_clip(published_clip.RESNET, quick_gelu=True, text=TEXT),
  ),
  "open_clip's checkpoint": (training, lambda: published_clip.open_clip(published_clip.VIT, text=TEXT)),
  "transformers' folder": (hub, lambda: published_clip.hugging_face(vocab=49408, length=77, eos=49407)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_its_project_saves_it_becomes_the_same_network(name, tmp_path):
  torch = official.load("torch")
  save, make = FILES[name]
  small = make()
  paths = save(tmp_path, small)
  convert_files.convert(paths, tmp_path / "converted")
  ours = published.clip(tmp_path / "converted")
  images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
  images[1] //= 4
  pixels = clip_pixels.prepare(images, ours.model).transpose(0, 3, 1, 2).copy()
  ids = official.load("open_clip.tokenizer").SimpleTokenizer()(CAPTIONS)
  with torch.no_grad():
    wanted = [small.images(torch.from_numpy(pixels)).numpy(), small.texts(ids).numpy()]
  for found, features in zip((ours.embed_images(images), ours.embed_texts(CAPTIONS)), wanted):
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert random_weights.error(found, features) < 1e-4
    assert np.abs(features[0] - features[1]).max() > 1e-2
