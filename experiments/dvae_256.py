"""The paper's first stage alone: 256x256 pixels to 32x32 codes out of 8192 (2.1, appendix A).

Claim    the published dVAE: 97.6 million parameters, the bound with a weight of 6.6 on the KL, a relaxation to 1/16
Cost     3,000,000 updates of 512 pictures, 2.7e21 FLOP; the authors took 64 V100s. Not yet measured here
Run      dalle data prepare PICTURES --out data/pictures
         dalle train experiments/dvae_256.py --data data/pictures --workdir runs/dvae_256
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Experiment, Pictures, Stage
from dalle_jax.models import dvae
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Cosine
from dalle_jax.training.optimizers import AdamW

CODES = dvae.Config(dtype="bfloat16", remat=True)


def experiment(data: str = "data/pictures") -> Experiment:
  """The dVAE on each device's own pictures."""
  return Experiment(name="dvae_256", data=data, tokenizer=TokenizerConfig(), stages={"dvae": stage()})


def stage() -> Stage:
  """The recipe of appendix A.2."""
  kl = Cosine(start=0.0, end=6.6, steps=5_000)
  temperature = Cosine(start=1.0, end=1 / 16, steps=150_000)
  return Stage(
    steps=3_000_000,
    batch=512,
    objective=DvaeElbo(model=CODES, kl=kl, temperature=temperature),
    optimizer=AdamW(lr=Cosine(start=1e-4, end=1.25e-6, steps=1_200_000), decay=1e-4, ema=0.999),
    examples=Pictures(crop=Stage1Crop(size=CODES.image)),
    save_every=5_000,
    show_every=5_000,
  )
