"""The demo: captioned scenes at 32x32, a dVAE of 8x8 codes, a small sparse transformer over them, and CLIP.

Run      make demo            (prepares runs/demo-data, trains in runs/demo, writes runs/demo/index.html)
By hand  dalle data prepare captioned_scenes --out runs/demo-data && dalle train experiments/demo.py --workdir runs/demo
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Cosine
from dalle_jax.training.optimizers import AdamW

SIDE, TEXT, TEXT_VOCAB = 32, 32, 512


def experiment(
  dvae_steps: int = 1500, transformer_steps: int = 1500, clip_steps: int = 600, data: str = "runs/demo-data"
) -> Experiment:
  """All three stages for a machine with two cores."""
  codes = dvae.Config(image=SIDE, vocab=1024, hidden=32, groups=3, blocks=1, code_dim=64, pool="average")
  words = TokenizerConfig(vocab=TEXT_VOCAB, length=TEXT, spaces=False)
  stream = transformer.Config(
    text_vocab=TEXT_VOCAB,
    text=TEXT,
    image_vocab=codes.vocab,
    grid=codes.grid,
    layers=4,
    heads=4,
    head_dim=32,
    mix=("row", "column", "row", "row"),
    last="conv",
    kernel=11,
  )
  towers = clip.Config(
    image=SIDE,
    patch=4,
    text_vocab=TEXT_VOCAB,
    text=TEXT,
    embed=128,
    vision_layers=3,
    vision_width=128,
    vision_heads=4,
    text_layers=2,
    text_width=128,
    text_heads=4,
  )
  rate = lambda peak, steps: Cosine(start=peak, end=peak / 50, steps=steps, warmup=min(100, steps // 10))  # noqa: E731
  return Experiment(
    name="demo",
    data=data,
    tokenizer=words,
    stages={
      "dvae": Stage(
        steps=dvae_steps,
        batch=16,
        objective=DvaeElbo(
          model=codes,
          kl=Cosine(start=0.0, end=0.2, steps=dvae_steps // 2),
          temperature=Cosine(start=1.0, end=1 / 16, steps=dvae_steps * 3 // 4),
          log_b_floor=-1.8,
          patches_from=1000,
        ),
        optimizer=AdamW(lr=rate(1e-3, dvae_steps), decay=1e-4, clip=1.0, ema=0.99),
        examples=Pictures(crop=Stage1Crop(size=SIDE)),
        show_every=dvae_steps,
      ),
      "transformer": Stage(
        steps=transformer_steps,
        batch=32,
        objective=TransformerNll(model=stream),
        optimizer=AdamW(lr=rate(2e-3, transformer_steps), b2=0.96, decay=4.5e-2, clip=4.0, ema=0.99),
        examples=Codes(),
        show_every=transformer_steps,
      ),
      "clip": Stage(
        steps=clip_steps,
        batch=128,
        objective=ClipContrastive(model=towers, dvae=codes, spoil=0.3),
        optimizer=AdamW(lr=rate(1e-3, clip_steps), b2=0.98, eps=1e-6, decay=0.1, clip=1.0, ema=0.99),
        examples=Codes(),
        show_every=clip_steps,
      ),
    },
  )
