"""The best of N by CLIP, N = 1 to 512, all from one draw of 512 (the paper, 5 and figure 9; claim 28).

Claim    gains up to N = 32, little after: FID 34.6 at 1, 28.4 at 8, 27.7 at 32, 27.7 at 512, read off the figure
Run      dalle ablate experiments/ablations/rerank.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, sampled
from dalle_jax.ablations.drawing import Drawing

MOST, CAPTIONS = 512, 48


def pack() -> Pack:
  """One run and one draw for all N, by how much of what captions say is drawn right."""
  return Pack(
    title="The best of N by CLIP",
    group="sampling",
    paper=Paper(
      rows=(28,),
      says="the best of more samples is better up to 32 of them, with little gain after",
      where="section 2.6 and figure 9(c)",
      numbers="FID on COCO, off the figure: 34.6 of 1, 28.4 of 8, 27.7 of 32, 27.7 of 512",
    ),
    base=bases.clip,
    stage="transformer",
    arms=(
      *(_best_of(n) for n in (512, 32, 8, 1)),
      Arm(name="another's caption", setting=Drawing(captions=CAPTIONS, shuffled=True)),
    ),
    control="another's caption",
    metric=sampled.aspects(smallest=0.02),
    also=(
      sampled.composition(smallest=0.05),
      sampled.clip_score(smallest=1.0),
    ),
    claims=(
      Better(arm="of 8", than="of 1"),
      Better(arm="of 32", than="of 8"),
      Same(arm="of 512", other="of 32"),
    ),
  )


def _best_of(n: int) -> Arm:
  return Arm(name=f"of {n}", setting=Drawing(captions=CAPTIONS, samples=MOST, best_of=n))
