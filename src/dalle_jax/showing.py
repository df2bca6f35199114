"""What a stage shows while it trains: reconstructions, pictures of held-out captions or the reverse, and numbers.

N pictures, H W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax.data.prepared import Prepared
from dalle_jax.evaluation import examples, reconstruction
from dalle_jax.experiment import Stage, dvae_stage
from dalle_jax.models import image_tokenizer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeObjective
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import rerank
from dalle_jax.sampling.caption import describe
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import contact_sheet
from dalle_jax.training.loop import Hook
from dalle_jax.workdir import Workdir

PICTURES, MEASURED = 16, 256
WIDE = 288  # pixels, for two lines of a caption


def hooks(name: str, workdir: Workdir, prepared: Prepared) -> Sequence[Hook]:
  """The hooks of one stage: they look at examples that training does not, where the data has such."""
  stage = workdir.experiment().stage(name)
  kinds = ((DvaeObjective, _reconstructions), (ClipContrastive, _retrieval), (TransformerNll, _drawings))
  fn = next(fn for kind, fn in kinds if isinstance(stage.objective, kind))
  if fn is _drawings and stage.objective.model.order == "image_first":
    fn = _captions
  if isinstance(stage.objective, TransformerNll) and stage.objective.model.softmax != "joint":
    return ()  # it neither draws nor writes
  return (Hook(every=stage.show_every, fn=fn(stage, workdir, prepared)),)


def _reconstructions(stage: Stage, workdir: Workdir, prepared: Prepared) -> Any:
  cfg = stage.objective.model
  images_NHWC = held_out(prepared, NoWords(), MEASURED, cfg.image).images_NHWC

  def show(step: int, params: Any) -> Mapping[str, Any]:
    measured = reconstruction.measure(params, cfg, _parts(images_NHWC))
    first_NHWC = images_NHWC[:PICTURES]
    decoded_NHWC = reconstruction.reconstruct(params, cfg, first_NHWC)[0]
    pairs = [each for pair in zip(first_NHWC, decoded_NHWC) for each in pair]
    labels = ["picture", "decoded"] * len(first_NHWC)
    numbers = {"valid_psnr": measured.psnr, "valid_perplexity": measured.perplexity, "valid_codes_used": measured.used}
    return numbers | {"reconstructions": np.asarray(contact_sheet(pairs, labels))}

  return show


def _drawings(stage: Stage, workdir: Workdir, prepared: Prepared) -> Any:
  name = dvae_stage(workdir.experiment())
  vae = workdir.experiment().stage(name).objective.model
  vae_params, _ = workdir.weights(name)
  asked = held_out(prepared, workdir.tokenizer(), PICTURES, vae.image)

  def show(step: int, params: Any) -> Mapping[str, Any]:
    drawer = Drawer(
      transformer=stage.objective.model,
      transformer_params=params,
      dvae=vae,
      dvae_params=vae_params,
      batch=PICTURES,
    )
    drawn = list(drawer.draw(asked.text_NT, num=1, seed=0))
    return {"samples": np.asarray(contact_sheet([each.images_KHWC[0] for each in drawn], asked.captions, columns=4))}

  return show


def _captions(stage: Stage, workdir: Workdir, prepared: Prepared) -> Any:
  name, words, cfg = dvae_stage(workdir.experiment()), workdir.tokenizer(), stage.objective.model
  vae = workdir.experiment().stage(name).objective.model
  asked = held_out(prepared, words, PICTURES, vae.image)
  codes_Nhw = np.asarray(image_tokenizer.encode_images(workdir.weights(name)[0], vae, jnp.asarray(asked.images_NHWC)))
  how = {"model": cfg, "sampling": SamplingConfig(temperature=0.0), "words": words.size}

  def show(step: int, params: Any) -> Mapping[str, Any]:
    codes_NP, number_N = jnp.asarray(codes_Nhw.reshape(len(codes_Nhw), -1)), jnp.arange(len(codes_Nhw))
    text_NST = np.asarray(describe(params, codes_NP, jax.random.key(0), number_N, jnp.arange(1), **how).text_CST)
    written = [words.decode(ids) for ids in text_NST[:, 0].tolist()]
    return {"captions": np.asarray(contact_sheet(list(asked.images_NHWC), written, columns=4, least=WIDE))}

  return show


def _retrieval(stage: Stage, workdir: Workdir, prepared: Prepared) -> Any:
  cfg = stage.objective.model
  asked = held_out(prepared, workdir.tokenizer(), MEASURED, cfg.image)

  def show(step: int, params: Any) -> Mapping[str, Any]:
    image_NE = np.concatenate([rerank.embed_pictures(params, cfg, part) for part in _parts(asked.images_NHWC)])
    text_NE = np.asarray(rerank.embed_captions(params, cfg, asked.text_NT))
    first_N = (text_NE @ image_NE.T).argmax(axis=1)
    return {f"valid_first_of_{len(first_N)}": float((first_N == np.arange(len(first_N))).mean())}

  return show


class NoWords:
  """The dVAE reads no captions."""

  def ids(self, text: str) -> np.ndarray:
    return np.zeros(0, np.int32)


def held_out(prepared: Prepared, words: examples.Words, count: int, size: int) -> examples.Examples:
  """The first examples that training does not see, where the data has such."""
  return examples.first(prepared, held_out_split(prepared), count, size=size, words=words)


def held_out_split(prepared: Prepared) -> str:
  """What is looked at while training goes on: not the test split, by which it would then be chosen."""
  return "valid" if "valid" in prepared.splits else prepared.splits[-1]


def _parts(images_NHWC: np.ndarray, size: int = 64) -> list[np.ndarray]:
  """Equal parts, so that one program serves them all; a rest is left out unless it is all there is."""
  whole = len(images_NHWC) // size * size
  return [images_NHWC[i : i + size] for i in range(0, whole, size)] or [images_NHWC]
