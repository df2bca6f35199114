"""The published CLIP against open_clip's classes and transformers' CLIPModel, with the same random weights."""

import jax
import numpy as np
import published_clip
import pytest
import random_weights

from dalle_jax.convert import clip
from dalle_jax.models import openai_clip

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def one_thread():
  """Networks as small as these are slower on several threads than on one."""
  import torch

  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


TOLERANCE = 1e-4
# A bias of the keys adds the same number to all logits of a query: the softmax takes it out again.
KEY_BIAS = ("k_proj.bias",)

NETWORKS = {
  "open_clip ViT": lambda: published_clip.open_clip(published_clip.VIT),
  "open_clip ViT QuickGELU": lambda: published_clip.open_clip(published_clip.VIT, quick_gelu=True),
  "open_clip ResNet": lambda: published_clip.open_clip(published_clip.RESNET),
  "open_clip ResNet QuickGELU": lambda: published_clip.open_clip(published_clip.RESNET, quick_gelu=True),
  "open_clip own text tower": lambda: published_clip.open_clip(published_clip.VIT, own_text_tower=True),
  "transformers QuickGELU": lambda: published_clip.hugging_face(),
  "transformers GELU": lambda: published_clip.hugging_face(hidden_act="gelu"),
}


def theirs(small, pixels_BHWC, ids_BT):
  import torch

  with torch.no_grad():
    images = small.images(torch.from_numpy(np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2))))
    return images.numpy(), small.texts(torch.from_numpy(ids_BT.astype(np.int64))).numpy()


def ours(small, pixels_BHWC, ids_BT):
  cfg, params = clip.read(small.arrays(), small.description)
  encode = openai_clip.encode_images(params, cfg, jax.numpy.asarray(pixels_BHWC))
  return np.asarray(encode), np.asarray(openai_clip.encode_texts(params, cfg, jax.numpy.asarray(ids_BT)))


def inputs(small):
  cfg, _ = clip.read(small.arrays(), small.description)
  return published_clip.pixels(cfg.vision.image), published_clip.ids()


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_official_module(name):
  small = NETWORKS[name]()
  given = inputs(small)
  for a, b in zip(ours(small, *given), theirs(small, *given)):
    assert random_weights.error(a, b) < TOLERANCE
    # The inputs are told apart, so that equal features say something.
    assert np.abs(b[0] - b[1]).max() > 0.1 * np.abs(b).max()


@pytest.mark.parametrize(
  ("name", "tower"),
  [
    ("open_clip ViT QuickGELU", "vision"),
    ("open_clip ViT QuickGELU", "text"),
    ("open_clip ResNet", "vision"),
    ("transformers GELU", "vision"),
    ("transformers GELU", "text"),
  ],
)
def test_every_tensor_matters(name, tower):
  import torch

  small = NETWORKS[name]()
  pixels_BHWC, ids_BT = inputs(small)
  pixels, ids = torch.from_numpy(np.ascontiguousarray(pixels_BHWC[:2].transpose(0, 3, 1, 2))), torch.from_numpy(ids_BT)
  outputs = (lambda: small.images(pixels)) if tower == "vision" else (lambda: small.texts(ids.long()))
  tensors = {key: tensor for key, tensor in small.module.state_dict().items() if key != "logit_scale"}
  tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("vis") == (tower == "vision")}
  with torch.no_grad():
    leave = [key for key in tensors if key.endswith(KEY_BIAS)]
    assert not random_weights.idle(tensors, outputs, TOLERANCE, leave=leave)
    # What is left out moves nothing, zeroed or permuted: leaving it out hides nothing.
    assert len(random_weights.idle({key: tensors[key] for key in leave}, outputs, 1e-6)) == 2 * len(leave)


@pytest.mark.parametrize("name", ["open_clip ViT", "transformers QuickGELU"])
def test_the_other_gelu_is_another_network(name):
  small = NETWORKS[name]()
  given = inputs(small)
  towers = theirs(small, *given)
  if "vision_cfg" in small.description:
    small.description["quick_gelu"] = not small.description["quick_gelu"]
  else:
    for tower in ("vision_config", "text_config"):
      small.description[tower]["hidden_act"] = "gelu"
  for a, b in zip(ours(small, *given), towers):
    assert random_weights.error(a, b) > 10 * TOLERANCE


@pytest.mark.parametrize("eos", [2, 7, published_clip.VOCAB - 1])
def test_a_caption_is_read_where_transformers_reads_it(eos):
  # Of eos 2 it takes the highest id, of others the first that is eos; both stand in these captions.
  small = published_clip.hugging_face(eos=eos)
  pixels_BHWC, _ = inputs(small)
  ids_BT = published_clip.ids(end=eos, after=eos)
  ids_BT[:, 1] = published_clip.VOCAB - 2 if eos < published_clip.VOCAB - 1 else 1
  found, wanted = ours(small, pixels_BHWC, ids_BT)[1], theirs(small, pixels_BHWC, ids_BT)[1]
  assert random_weights.error(found, wanted) < TOLERANCE


@pytest.mark.parametrize("name", ["open_clip ViT", "transformers GELU"])
def test_cosines_and_their_factor_are_those_of_the_official_forward(name):
  import torch

  small = NETWORKS[name]()
  pixels_BHWC, ids_BT = inputs(small)
  _, params = clip.read(small.arrays(), small.description)
  pixels, ids = torch.from_numpy(pixels_BHWC.transpose(0, 3, 1, 2).copy()), torch.from_numpy(ids_BT).long()
  with torch.no_grad():
    if name == "open_clip ViT":
      wanted_BN = small.module.get_logits(pixels, ids)[0].numpy()
    else:
      wanted_BN = small.module(input_ids=ids, pixel_values=pixels).logits_per_image.numpy()
  found = [openai_clip.unit(jax.numpy.asarray(x)) for x in ours(small, pixels_BHWC, ids_BT)]
  found_BN = openai_clip.scale(params) * found[0] @ found[1].T
  assert random_weights.error(found_BN, wanted_BN) < TOLERANCE
