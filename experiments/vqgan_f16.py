"""A transformer over the codes of a VQGAN that another project trained: 16x16 codes of 16,384, a picture of 256 pixels.

Claim    none yet: it takes nobody else's transformer, only the first stage
Cost     the 256 image tokens are a quarter of the dVAE's 1,024; 200,000 updates of 512 pictures. Not yet measured here.
Run      dalle convert last.ckpt --out weights/vqgan_f16
         dalle data prepare PICTURES --out data/pictures
         dalle train experiments/vqgan_f16.py --data data/pictures --workdir runs/vqgan_f16

last.ckpt is taming-transformers' vqgan_imagenet_f16_16384, or minDALL-E's stage1_last.ckpt of the same sizes. The
weights say their own sizes; where they are others, the first line of `dalle train` names the field.
"""

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage2Crop
from dalle_jax.experiment import Experiment, Pictures, Stage
from dalle_jax.models import transformer
from dalle_jax.models.vqgan import VqganConfig
from dalle_jax.objectives.first_stage import FrozenVqgan
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW, WarmupPlateau

CODES = VqganConfig()


def experiment(data: str = "data/pictures", weights: str = "weights/vqgan_f16") -> Experiment:
  """The frozen VQGAN, and a transformer that encodes pictures by it in its step.

  weights: what `dalle convert` wrote.
  """
  words = TokenizerConfig(length=64)
  stream = transformer.Config(
    text_vocab=words.vocab,
    text=words.length,
    image_vocab=CODES.vocab,
    grid=CODES.grid,
    layers=24,
    heads=16,
    remat="save_attention",
    dtype="bfloat16",
  )
  return Experiment(
    name="vqgan_f16",
    data=data,
    tokenizer=words,
    stages={
      "vqgan": Stage(
        steps=1,
        batch=1,
        objective=FrozenVqgan(model=CODES),
        optimizer=AdamW(lr=Constant(0.0)),
        examples=Pictures(crop=Stage2Crop(size=CODES.image)),
        from_=weights,
        frozen=True,
      ),
      "transformer": Stage(
        steps=200_000,
        batch=512,
        objective=TransformerNll(model=stream, dvae=CODES),
        optimizer=AdamW(lr=WarmupPlateau(peak=4.5e-4, warmup=5_000), b2=0.96, decay=4.5e-2, clip=4.0),
        examples=Pictures(crop=Stage2Crop(size=CODES.image), captions=True),
      ),
    },
  )
