"""The demo: captioned scenes at 32x32, a dVAE of 8x8 codes, a small sparse transformer over them, and CLIP.

Run      make demo            (prepares runs/demo-data, trains in runs/demo, writes runs/demo/index.html)
By hand  dalle data prepare captioned_scenes --out runs/demo-data
         dalle train experiments/demo.py --workdir runs/demo && dalle eval runs/demo
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Cosine
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW


def experiment(
  data: str = "runs/demo-data", dvae_steps: int = 500, transformer_steps: int = 1800, clip_steps: int = 350
) -> Experiment:
  """All three stages for minutes on two cores."""
  return small(
    name="demo",
    data=data,
    words=TokenizerConfig(vocab=512, length=32, spaces=False, dropout=0.0),
    codes=dvae.Config(image=32, vocab=1536, hidden=48, groups=3, blocks=1, code_dim=64, pool="fold"),
    layers=4,
    heads=4,
    patch=8,
    steps=(dvae_steps, transformer_steps, clip_steps),
    patches_from=2500,
  )


def small(
  *,
  name: str,
  data: str,
  words: TokenizerConfig,
  codes: dvae.Config,
  layers: int,
  heads: int,
  patch: int,
  steps: tuple[int, int, int],
  crops: int = 1,
  patches_from: int = 5000,
) -> Experiment:
  """A dVAE, a transformer and a CLIP for thousands of pictures rather than millions, in minutes or hours.

  patch: CLIP's, in pixels; steps: of each stage; crops: encoded of each picture; patches_from: pictures whose patches
  are clustered. What differs from the paper, because there is so little time: the dVAE's codes are clusters of the
  data's patches and only its decoder learns, matrices are trained by Muon, and CLIP has near misses as negatives.
  """
  dvae_steps, transformer_steps, clip_steps = steps
  stream = transformer.Config(
    text_vocab=words.vocab,
    text=words.length,
    image_vocab=codes.vocab,
    grid=codes.grid,
    layers=layers,
    heads=heads,
    head_dim=32,
    scan=False,
  )
  towers = clip.Config(
    image=codes.image,
    patch=patch,
    text_vocab=words.vocab,
    text=words.length,
    embed=128,
    vision_layers=3,
    vision_width=128,
    vision_heads=4,
    text_layers=2,
    text_width=128,
    text_heads=4,
    scan=False,
  )
  return Experiment(
    name=name,
    data=data,
    tokenizer=words,
    stages={
      "dvae": Stage(
        steps=dvae_steps,
        batch=16,
        objective=PatchDvae(model=codes, patches_from=patches_from),
        optimizer=AdamW(lr=_rate(4e-3, dvae_steps), clip=1.0, ema=0.99),
        examples=Pictures(crop=Stage1Crop(size=codes.image)),
        show_every=max(1, dvae_steps // 2),
      ),
      "transformer": Stage(
        steps=transformer_steps,
        batch=16,
        objective=TransformerNll(model=stream),
        optimizer=Muon(lr=_rate(6e-3, transformer_steps), b2=0.96, decay=4.5e-2, clip=4.0, ema=0.99, matrices=5 / 3),
        examples=Codes(crops=crops),
        show_every=max(1, transformer_steps // 2),
      ),
      "clip": Stage(
        steps=clip_steps,
        batch=48,
        objective=ClipContrastive(model=towers, dvae=codes, spoil_picture=0.1),
        optimizer=Muon(lr=_rate(2e-3, clip_steps), b2=0.98, eps=1e-6, decay=0.1, clip=1.0, ema=0.99),
        examples=Codes(crops=crops, near_misses=True),
        show_every=clip_steps,
      ),
    },
  )


def _rate(peak: float, steps: int) -> Cosine:
  return Cosine(start=peak, end=peak / 50, steps=steps, warmup=min(100, steps // 10))
