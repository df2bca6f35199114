"""Converted weights compute what the official modules computed with them: the numbers of `tests/recorded/`.

`make test-parity` has the modules themselves, more of them and more of what they do.
"""

import jax
import jax.numpy as jnp
import numpy as np
import openai_files
import pytest
import random_weights
import recorded

from dalle_jax import cli
from dalle_jax.convert import clip, inception, mindalle, rudalle, weights
from dalle_jax.convert import vqgan as taming
from dalle_jax.evaluation import features, resize
from dalle_jax.models import dvae, openai_clip, vqgan
from dalle_jax.models.peers.mindalle import MinDalle
from dalle_jax.models.peers.rudalle import RuDalle

TOLERANCE = 1e-4  # max|a - b| / max|b|


def assert_theirs(ours, theirs):
  assert random_weights.error(ours, theirs) <= TOLERANCE
  # Neither a constant nor the same for each: parts of it differ by far more than the tolerance.
  halves = np.array_split(theirs.reshape(-1)[: theirs.size // 2 * 2], 2)
  assert random_weights.error(*halves) > 100 * TOLERANCE


def test_openais_dvae(tmp_path):
  halves = {half: recorded.load(f"openai-dvae-{half}") for half in ("encoder", "decoder")}
  for half, kept in halves.items():
    (tmp_path / f"{half}.pkl").write_bytes(openai_files.as_file(kept.weights()))
  paths = [str(tmp_path / f"{half}.pkl") for half in halves]
  assert cli.main(["convert", *paths, "--out", str(tmp_path / "dvae")]) == 0
  found = weights.load(tmp_path / "dvae")
  apply = jax.jit(dvae.Dvae(found.config).apply, static_argnames="method")
  variables = {"params": jax.tree.map(jnp.asarray, found.params)}
  pixels, codes = jnp.asarray(halves["encoder"].inputs["pixels"]), jnp.asarray(halves["decoder"].inputs["codes"])
  logits_BhwV = np.asarray(apply(variables, pixels, method="encode"))
  theirs_BhwV = halves["encoder"].outputs["logits"]
  assert_theirs(logits_BhwV, theirs_BhwV)
  np.testing.assert_array_equal(logits_BhwV.argmax(-1), theirs_BhwV.argmax(-1))
  assert len(np.unique(theirs_BhwV.argmax(-1))) > 1
  assert_theirs(apply(variables, codes, method="decode_codes"), halves["decoder"].outputs["statistics"])


@pytest.mark.parametrize("name", ["open-clip-vit", "open-clip-resnet", "hugging-face-clip"])
def test_clip(name):
  kept = recorded.load(name)
  cfg, params = clip.read(kept.weights(), kept.description)
  images_BE = openai_clip.encode_images(params, cfg, jnp.asarray(kept.inputs["pixels"]))
  assert_theirs(images_BE, kept.outputs["images"])
  assert_theirs(openai_clip.encode_texts(params, cfg, jnp.asarray(kept.inputs["ids"])), kept.outputs["texts"])


def test_inception():
  kept = recorded.load("inception")
  _, params = inception.read(kept.weights())
  for dim, theirs_BD in kept.outputs.items():
    ours_BD, _ = features.features(params, kept.inputs["images"], resize.PYTORCH_FID, int(dim))
    assert_theirs(ours_BD, theirs_BD)


@pytest.mark.parametrize(
  "name",
  [
    "taming-vq",
    pytest.param("taming-gumbel-f8", marks=pytest.mark.slow),
    pytest.param("rudalle-vqgan", marks=pytest.mark.slow),
  ],
)
def test_vqgan(name):
  kept = recorded.load(name)
  cfg, params = taming.read(kept.weights(), image=kept.description["image"])
  apply = jax.jit(vqgan.Vqgan(cfg).apply, static_argnames="method")
  variables, x_BHWC = {"params": params}, vqgan.map_pixels(cfg, jnp.asarray(kept.inputs["images"]))
  assert_theirs(apply(variables, x_BHWC, method="latents"), kept.outputs["latents"])
  assert_theirs(apply(variables, jnp.asarray(kept.inputs["codes"]), method="decode_codes"), kept.outputs["pixels"])


def test_mindalle():
  kept = recorded.load("mindalle")
  cfg, params = mindalle.read(kept.weights(), heads=kept.description["heads"])
  ids = [jnp.asarray(kept.inputs[name], jnp.int32) for name in ("text", "codes")]
  text_BSV, image_BNW = jax.jit(MinDalle(cfg).apply)({"params": params}, *ids)
  assert_theirs(text_BSV, kept.outputs["text"])
  assert_theirs(image_BNW, kept.outputs["image"])


def test_rudalle():
  kept = recorded.load("rudalle")
  cfg, params = rudalle.read(kept.weights(), heads=kept.description["heads"], version=3)
  ids = [jnp.asarray(kept.inputs[name], jnp.int32) for name in ("text", "codes")]
  joint = jax.jit(RuDalle(cfg).apply, static_argnames="method")({"params": params}, *ids, method="joint")
  assert_theirs(joint, kept.outputs["joint"])
