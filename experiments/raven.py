"""Raven's matrices, half of the kinds of rule: a dVAE of 12x12 codes of 48x48 pixels and a transformer, for minutes.

Run      dalle data prepare raven --out runs/raven-data
         dalle train experiments/raven.py --workdir runs/raven
         dalle probe runs/raven raven
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import CentreCrop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Cosine
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW


def experiment(data: str = "runs/raven-data", dvae_steps: int = 500, transformer_steps: int = 1800) -> Experiment:
  """Both stages, in ten minutes of processor time. The other kinds of rule are left for the probe."""
  words = TokenizerConfig(vocab=320, length=16, spaces=False, dropout=0.0)
  codes = dvae.Config(image=48, vocab=2048, hidden=32, groups=3, blocks=1, code_dim=64, pool="fold")
  stream = transformer.Config(
    text_vocab=words.vocab,
    text=words.length,
    image_vocab=codes.vocab,
    grid=codes.grid,
    layers=4,
    heads=4,
    head_dim=32,
    mix=("row", "column"),
    last="full",
    scan=False,
  )
  return Experiment(
    name="raven",
    data=data,
    tokenizer=words,
    stages={
      "dvae": Stage(
        steps=dvae_steps,
        batch=16,
        objective=PatchDvae(model=codes, patches_from=5000),
        optimizer=AdamW(lr=_rate(4e-3, dvae_steps), clip=1.0, ema=0.99),
        # Not turned, shrunk or mirrored: strokes lie on the grid of codes as they will when they are asked for.
        examples=Pictures(crop=CentreCrop(size=codes.image)),
        show_every=max(1, dvae_steps // 2),
      ),
      "transformer": Stage(
        steps=transformer_steps,
        batch=16,
        objective=TransformerNll(model=stream),
        optimizer=Muon(lr=_rate(6e-3, transformer_steps), b2=0.96, decay=4.5e-2, clip=4.0, ema=0.99, matrices=5 / 3),
        examples=Codes(),
        show_every=max(1, transformer_steps // 2),
      ),
    },
  )


def _rate(peak: float, steps: int) -> Cosine:
  return Cosine(start=peak, end=peak / 50, steps=steps, warmup=min(100, steps // 10))
