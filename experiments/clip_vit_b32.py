"""CLIP with a vision transformer of 32-pixel patches, to rank samples (Radford et al. 2021; the paper, 2.6).

Claim    the published ViT-B/32's sizes and recipe, over this project's captions of 256 tokens
Cost     390,625 updates of 32,768 pairs, 32 times through 400 million. Not yet measured here
Run      dalle data prepare PICTURES --out data/pictures
         dalle train experiments/clip_vit_b32.py --data data/pictures --workdir runs/clip_vit_b32
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage2Crop
from dalle_jax.experiment import Experiment, Pictures, Stage
from dalle_jax.models import clip
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.schedules import Cosine
from dalle_jax.training.optimizers import AdamW

PAIRS, EPOCHS, BATCH = 400_000_000, 32, 32_768


def experiment(data: str = "data/pictures") -> Experiment:
  """CLIP alone, on pictures of 224 pixels as published."""
  return Experiment(name="clip_vit_b32", data=data, tokenizer=TokenizerConfig(), stages={"clip": stage(image=224)})


def stage(*, image: int) -> Stage:
  """The published recipe; image: pixels a side, which are those of the samples that are to be ranked."""
  steps = PAIRS * EPOCHS // BATCH
  rate = Cosine(start=5e-4, end=0.0, steps=steps, warmup=2_000)
  return Stage(
    steps=steps,
    batch=BATCH,
    objective=ClipContrastive(model=clip.Config(image=image, dtype="bfloat16", remat=True)),
    optimizer=AdamW(lr=rate, b2=0.98, eps=1e-6, decay=0.2),
    examples=Pictures(crop=Stage2Crop(size=image), captions=True),
    show_every=5_000,
  )
