"""The paper's model: a dVAE of 32x32 codes, the 12-billion-parameter transformer over them, CLIP to rank its samples.

Claim    64 layers, 62 heads of 64, the recipe of appendix B.2; an author recalls 3.6 to 3.7 nats a dimension
Cost     430,000 updates of 1,024 pictures, 4.1e22 FLOP; the authors took 1,024 V100s. Not yet measured here.
         Weights, moments and average take 184 GiB, split over 16 devices (the tiles of 8 rows of 3,968 allow no
         more in one direction), and copied over the rest: 11.5 GiB a device. Less: see dalle_12b_v5e.py
Run      dalle plan experiments/dalle_12b.py --topology v5p:4x4x4
         dalle data prepare PICTURES --out data/pictures
         dalle train experiments/dalle_12b.py --data data/pictures --workdir runs/dalle_12b

What differs: bfloat16, whose exponents need no gradient scales for each block (2.4); a rule halves the rate where the
loss stops falling; no PowerSGD (2.5). The transformer encodes pictures in its step, as they are cropped.
"""

import clip_vit_b32
import dvae_256

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage2Crop
from dalle_jax.experiment import Experiment, Pictures, Stage
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sharding import MeshShape
from dalle_jax.training.optimizers import AdamW, WarmupPlateau


def experiment(data: str = "data/pictures") -> Experiment:
  """All three stages."""
  return of_size("dalle_12b", data, layers=64, heads=62, mesh=MeshShape(data=-1, fsdp=16))


def of_size(name: str, data: str, *, layers: int, heads: int, mesh: MeshShape) -> Experiment:
  """The paper's recipe for a transformer of this size."""
  words, codes = TokenizerConfig(), dvae_256.CODES
  stream = transformer.Config(
    text_vocab=words.vocab,
    text=words.length,
    image_vocab=codes.vocab,
    grid=codes.grid,
    layers=layers,
    heads=heads,
    remat="save_attention",
    dtype="bfloat16",
  )
  return Experiment(
    name=name,
    data=data,
    tokenizer=words,
    mesh=mesh,
    stages={
      "dvae": dvae_256.stage(),
      "transformer": Stage(
        steps=430_000,
        batch=1024,
        objective=TransformerNll(model=stream, dvae=codes, vocab_parts=2),
        optimizer=AdamW(
          lr=WarmupPlateau(peak=4.5e-4, warmup=5_000),
          b2=0.96,
          decay=4.5e-2,
          clip=4.0,
          second_moment_clamp=5.0,
          ema=0.99,
          ema_every=25,
        ),
        examples=Pictures(crop=Stage2Crop(size=codes.image), captions=True),
        show_every=5_000,
      ),
      "clip": clip_vit_b32.stage(image=codes.image),
    },
  )
