"""Learned pads against masked ones, on captions of what was never shown (the paper, 2.2; claim 12).

Claim    with a learned vector for every absent token, captions unlike those of training fare better; a statement, no
         number. Here they are of pairs of shape and colour that training never shows. The runs are those of pads.py
Run      dalle ablate experiments/ablations/pads_unseen.py
"""

import pads

from dalle_jax.ablations import Better, Pack, metrics


def pack() -> Pack:
  """Which has the lower loss on held-out captions of pairs that were never shown."""
  return pads.compared(
    "Learned and masked pads, on captions of unseen pairs",
    "learning a vector for each absent text token serves captions better that are unlike those of training",
    metrics.image_loss(smallest=0.01, split="test_pairs"),
    Better(arm="learned", than="masked"),
  )
