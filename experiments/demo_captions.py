"""The demo the other way round: the image comes first in the stream, and the transformer writes captions of pictures.

Run      dalle data prepare captioned_scenes --out runs/demo-data --train 10000     (as `make demo` does)
         dalle train experiments/demo_captions.py --workdir runs/demo-captions
         dalle caption runs/demo-captions picture.png
"""

import dataclasses

import demo

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.experiment import Experiment
from dalle_jax.models import dvae

replace = dataclasses.replace


def experiment(data: str = "runs/demo-data", dvae_steps: int = 100, transformer_steps: int = 1800) -> Experiment:
  """A dVAE and an image-first transformer, for minutes on two cores. Captions need the dVAE's encoder alone.

  Spaces are tokens, so that what is written can be read; the losses' weights are the other way round too.
  """
  whole = demo.small(
    name="demo-captions",
    data=data,
    words=TokenizerConfig(vocab=512, length=64, spaces=True, dropout=0.0),
    codes=dvae.Config(image=32, vocab=1536, hidden=48, groups=3, blocks=1, code_dim=64, pool="fold"),
    layers=4,
    heads=4,
    patch=8,
    steps=(dvae_steps, transformer_steps, 1),
    patches_from=2500,
  )
  stage = whole.stage("transformer")
  objective = replace(
    stage.objective,
    model=replace(stage.objective.model, order="image_first"),
    text_weight=stage.objective.image_weight,
    image_weight=stage.objective.text_weight,
  )
  return replace(whole, stages={"dvae": whole.stage("dvae"), "transformer": replace(stage, objective=objective)})
