"""Our VQGAN beside taming-transformers', ruDALL-E's and min-dalle's own modules, all with the same random weights.

vqgan-jax is on no package index: what is compared with there is `support/vqgan_jax.py`, not the original.
"""

import dataclasses
import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import official
import pytest
import random_weights
import vqgan_jax
from small_vqgans import (
  EMBEDDINGS,
  OFFICIAL,
  WIDTH,
  codebook,
  filled,
  gumbel,
  outputs,
  pictures,
  rudalle,
  sizes,
  to_numpy,
  to_torch,
  vq,
)

from dalle_jax.convert import dalle_mini, files
from dalle_jax.convert import vqgan as taming
from dalle_jax.convert.named import Names
from dalle_jax.models import vqgan

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
  """Small networks take longer by waiting for each other's threads than by computing, where tests share the cores."""
  torch = official.load("torch")
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@functools.cache
def drawn(name):
  """An official module with random weights, and ours of the file that its project would write."""
  make, dd = OFFICIAL[name]
  theirs = filled(name)
  saved = theirs.state_dict() if make is rudalle else official.trained(theirs)
  arrays = official.read_back(saved, "last.ckpt")
  assert set(arrays) == set(theirs.state_dict())
  assert taming.recognises(arrays)
  assert not dalle_mini.recognises(arrays)
  return theirs, *taming.read(arrays, image=dd["resolution"])


def apply(cfg, params, x, method):
  return jax.jit(lambda params, x: vqgan.Vqgan(cfg).apply({"params": params}, x, method=method))(params, jnp.asarray(x))


@pytest.mark.parametrize("name", OFFICIAL)
def test_latents_logits_and_decoded_pixels_are_the_official_modules(name):
  theirs, cfg, params = drawn(name)
  images = pictures(2, cfg.image)
  codes = np.random.default_rng(1).integers(0, cfg.vocab, (2, cfg.grid, cfg.grid))
  z, scores, x = (to_numpy(each) for each in outputs(theirs, images, codes))
  mapped = vqgan.map_pixels(cfg, jnp.asarray(images))
  assert random_weights.error(apply(cfg, params, mapped, "latents"), z) < TOLERANCE
  if cfg.gumbel:
    assert random_weights.error(apply(cfg, params, mapped, "scores"), scores) < TOLERANCE
  assert random_weights.error(apply(cfg, params, codes, "decode_codes"), x) < TOLERANCE


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_tensor_of_the_official_modules_matters(name):
  theirs, cfg, _ = drawn(name)
  images = pictures(1, cfg.image)
  codes = np.arange(cfg.grid**2).reshape(1, cfg.grid, cfg.grid)
  state = {key: tensor for key, tensor in theirs.state_dict().items() if _is_read(key)}
  assert random_weights.idle(state, lambda: outputs(theirs, images, codes), TOLERANCE) == []


def _is_read(name):
  """Not a key's bias in attention: it adds the same to all of a query's logits, so that no softmax shows it."""
  return not name.endswith(".k.bias")


def official_codes(theirs, images):
  """The official class's own codes, without noise, and how much worse its second best code is, as a share."""
  torch = official.load("torch")
  inner = getattr(theirs, "model", theirs)
  x = to_torch(images).float() / 255
  with torch.no_grad():
    if hasattr(theirs, "get_codebook_indices"):
      grid = int((images.shape[1] * images.shape[2]) ** 0.5) // 2 ** (inner.encoder.num_resolutions - 1)
      codes = theirs.get_codebook_indices(x, disable_gumbel_softmax=True).reshape(len(images), grid, grid)
    z = inner.quant_conv(inner.encoder(2 * x - 1))
    if hasattr(inner.quantize, "proj"):
      scores = inner.quantize(z, return_logits=True)[3].permute(0, 2, 3, 1)
      codes = scores.argmax(-1) if inner is theirs else codes
    else:
      codes = inner.encode(2 * x - 1)[2][2].reshape(len(images), z.shape[2], z.shape[3])
      scores = -(torch.cdist(z.permute(0, 2, 3, 1).flatten(1, 2), codebook(inner).weight[None]) ** 2)
      scores = scores.reshape(*codes.shape, -1)
  best = scores.topk(2).values
  return codes.numpy(), ((best[..., 0] - best[..., 1]) / best.abs().max()).numpy()


@pytest.mark.parametrize("name", OFFICIAL)
def test_codes_are_the_official_modules_but_for_ties(name):
  theirs, cfg, params = drawn(name)
  images = pictures(max(8, 1024 // cfg.grid**2), cfg.image, seed=3)
  codes, margins = official_codes(theirs, images)
  assert len(np.unique(codes)) > 10
  ours = np.asarray(vqgan.encode_images(params, cfg, jnp.asarray(images)))
  assert np.mean(ours == codes) >= 0.999
  assert np.all(margins[ours != codes] < TOLERANCE)
  # The pictures of the codes, too, to the level: what is rounded may fall to either side.
  found = np.asarray(vqgan.decode_images(params, cfg, jnp.asarray(codes[:4], jnp.int32)))
  x = np.clip(to_numpy(outputs(theirs, images[:1], codes[:4])[2]), -1, 1)
  assert np.abs(found - (x + 1) * 127.5).max() < 0.51
  assert np.std(found) > 30


def published(**dd):
  return sizes(**{"multiples": (1, 1, 2, 2, 4), "blocks": 2, "image": 256, "attention": (16,), "latent": 256, **dd})


@pytest.mark.parametrize(
  ("make", "dd", "options", "wanted"),
  [
    (vq, published(width=128), {"vocab": 16384, "code_dim": 256}, vqgan.VqganConfig()),
    (vq, published(width=128), {"vocab": 1024, "code_dim": 256}, vqgan.VqganConfig(vocab=1024)),
    (
      gumbel,
      published(width=128, multiples=(1, 1, 2, 4), attention=(32,)),
      {"vocab": 8192},
      vqgan.VqganConfig(vocab=8192, multiples=(1, 1, 2, 4), attention=(3,), gumbel=True),
    ),
  ],
)
def test_the_published_sizes_are_told_from_names_and_shapes(make, dd, options, wanted):
  torch = official.load("torch")
  with torch.device("meta"):
    state = make(dd, **options).state_dict()
  arrays = {name: np.broadcast_to(np.zeros((), np.float32), tuple(x.shape)) for name, x in state.items()}
  assert taming.config_of(Names(arrays), 256) == wanted
  init = functools.partial(vqgan.init, cfg=wanted)
  places = [
    taming.source(wanted, tuple(key.key for key in path), leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(taming.shapes_of(init))[0]
  ]
  assert {place.name: place.shape for place in places} == {name: x.shape for name, x in arrays.items()}


def test_what_training_left_in_a_checkpoint_is_passed_over_and_a_prefix_taken_off():
  theirs, cfg, params = drawn("vq")
  discriminator = official.load("taming.modules.discriminator.model").NLayerDiscriminator(n_layers=1)
  arrays = {f"first_stage_model.{name}": tensor.numpy() for name, tensor in theirs.state_dict().items()}
  beside = {f"first_stage_model.loss.discriminator.{k}": v.numpy() for k, v in discriminator.state_dict().items()}
  beside["transformer.pos_emb"] = np.zeros((1, 4, 8), np.float32)
  assert len(beside) > 5
  assert sorted(taming.ignored(arrays | beside)) == sorted(beside)
  again, found = taming.read(arrays | beside, image=cfg.image)
  assert again == cfg
  jax.tree.map(np.testing.assert_array_equal, found, params)


@functools.cache
def detokenizer():
  """min-dalle's decoder, which has but one size, and ours of the file of its state dict."""
  theirs = official.load("min_dalle.models.vqgan_detokenizer").VQGanDetokenizer().eval()
  random_weights.fill(theirs, gain=1.5, scales=EMBEDDINGS)
  arrays = official.read_back(theirs.state_dict(), "detoker.pt")
  assert dalle_mini.recognises(arrays)
  assert not taming.recognises(arrays)
  return theirs, *dalle_mini.read(arrays)


def of_detokenizer(theirs, codes):
  torch = official.load("torch")
  with torch.no_grad():
    return theirs.decoder(theirs.post_quant_conv(theirs.embedding(torch.from_numpy(codes)).permute(0, 3, 1, 2)))


def test_pictures_are_those_of_min_dalles_decoder():
  torch = official.load("torch")
  theirs, cfg, params = detokenizer()
  plain = vqgan.VqganConfig()
  assert cfg == dataclasses.replace(plain, encoder=False, low=0.0, epsilon=1e-5)
  codes = np.random.default_rng(0).integers(0, cfg.vocab, (1, 16, 16))
  with torch.no_grad():
    whole = theirs(False, torch.from_numpy(codes.reshape(1, 256))).numpy()
  found = np.asarray(vqgan.decode_images(params, cfg, jnp.asarray(codes, jnp.int32)))[0]
  assert np.abs(found - whole).max() < 0.51
  assert np.std(whole) > 30
  x = apply(cfg, params, codes[:, :4, :4], "decode_codes")
  assert random_weights.error(x, to_numpy(of_detokenizer(theirs, codes[:, :4, :4]))) < TOLERANCE


def test_every_tensor_of_min_dalles_decoder_matters():
  # It has one size, a large one: each tensor has to move what its own step makes, and each step what comes out.
  torch = official.load("torch")
  theirs, _, _ = detokenizer()
  net = theirs.decoder
  steps = [("embedding", lambda codes: theirs.embedding(codes).permute(0, 3, 1, 2))]
  steps += [("post_quant_conv", theirs.post_quant_conv), ("decoder.conv_in", net.conv_in), ("decoder.mid", net.mid)]
  steps += [(f"decoder.up.{i}", net.up[i]) for i in reversed(range(5))]
  end = torch.nn.Sequential(net.norm_out, torch.nn.SiLU(), net.conv_out)
  steps += [(("decoder.norm_out", "decoder.conv_out"), end)]

  def through(x, steps):
    with torch.no_grad():
      return functools.reduce(lambda x, step: step[1](x), steps, x)

  x = torch.arange(4).reshape(1, 2, 2)
  whole = through(x, steps)
  assert random_weights.error(whole, of_detokenizer(theirs, x.numpy())) < 1e-6
  state, seen = theirs.state_dict(), set()
  for i, (prefix, step) in enumerate(steps):
    own = {key: tensor for key, tensor in state.items() if key.startswith(prefix) and _is_read(key)}
    seen |= set(own)
    assert random_weights.idle(own, functools.partial(through, x, [(prefix, step)]), TOLERANCE) == []
    x = through(x, [(prefix, step)])
    assert random_weights.error(through(x.flip(-1), steps[i + 1 :]), whole) > 10 * TOLERANCE
  assert seen == {key for key in state if _is_read(key)}


JAX = vqgan.VqganConfig(
  image=16,
  vocab=200,
  code_dim=24,
  latent=32,
  width=WIDTH,
  multiples=(1, 2),
  attention=(1,),
  all_attention=True,
  low=0.0,
)


@functools.cache
def flax_arrays():
  """Random weights as vqgan-jax keeps them, gains and biases of normalisations in the four axes that they had."""
  shapes = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(taming.shapes_of(lambda key: vqgan.init(key, JAX)))[0]:
    name = ".".join(key.key for key in path).replace("sample.", "sample.conv.")
    shapes[name.replace("quantize.embedding", "quantize.embedding.embedding")] = leaf.shape
  rng = np.random.default_rng(0)
  kinds = {
    "kernel": lambda s: 1.5 * rng.standard_normal(s) / np.sqrt(np.prod(s[:-1])),
    "scale": lambda s: rng.uniform(0.5, 1.5, (1, 1, 1, *s)),
    "bias": lambda s: 0.3 * rng.standard_normal(s),
    "embedding": lambda s: rng.standard_normal(s),
  }
  return {name: kinds[name.rpartition(".")[2]](shape).astype(np.float32) for name, shape in shapes.items()}


def _as_flax_writes(arrays, file):
  """What our reader finds in the file that Flax writes of these arrays."""
  nested = flax.traverse_util.unflatten_dict({tuple(name.split(".")): array for name, array in arrays.items()})
  file.write_bytes(flax.serialization.to_bytes(nested))
  return files.arrays(file)


def test_vqgan_jax_is_the_oracle_written_of_it(tmp_path):
  arrays = flax_arrays()
  oracle = vqgan_jax.Oracle(arrays, levels=2, blocks=2)
  assert dalle_mini.recognises(arrays)
  assert not taming.recognises(arrays)
  cfg, params = dalle_mini.read(_as_flax_writes(arrays, tmp_path / "flax_model.msgpack"), image=16)
  assert cfg == JAX
  images = pictures(16, 16)
  z = oracle.latents(to_torch(images).float() / 255)
  codes = oracle.codes(z).numpy()
  x = to_numpy(oracle.decode(codes))
  mapped = vqgan.map_pixels(cfg, jnp.asarray(images))
  assert random_weights.error(apply(cfg, params, mapped, "latents"), to_numpy(z)) < TOLERANCE
  assert random_weights.error(apply(cfg, params, codes, "decode_codes"), x) < TOLERANCE
  assert len(np.unique(codes)) > 10
  assert np.mean(np.asarray(vqgan.encode_images(params, cfg, jnp.asarray(images))) == codes) >= 0.999
  found = np.asarray(vqgan.decode_images(params, cfg, jnp.asarray(codes, jnp.int32)))
  assert np.abs(found - np.clip(x, 0, 1) * 255).max() < 0.51
  # Each block's own attention alone, as taming has it, is another network.
  own = dataclasses.replace(cfg, all_attention=False)
  assert random_weights.error(apply(own, params, mapped, "latents"), to_numpy(z)) > 100 * TOLERANCE


def test_every_array_of_vqgan_jax_matters():
  arrays = {name: array.copy() for name, array in flax_arrays().items()}
  oracle = vqgan_jax.Oracle(arrays, levels=2, blocks=2)
  x, codes = to_torch(pictures(1, 16)).float() / 255, np.arange(64).reshape(1, 8, 8)
  state = {name: array for name, array in arrays.items() if _is_read(name)}
  assert random_weights.idle(state, lambda: (oracle.latents(x), oracle.decode(codes)), TOLERANCE) == []
