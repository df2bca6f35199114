"""The weight of the KL: 6.6, 1 or 0, by how much of the codebook is used (the paper, 2.1; claim 6 of its ablations).

Claim    6.6 gives better codebook usage and in the end a lower reconstruction error than less; a statement, no number
Run      dalle ablate experiments/ablations/dvae_beta_usage.py

The runs are those of dvae_beta.py, which is decided by the reconstruction.
"""

import dataclasses

import dvae_beta

from dalle_jax.ablations import Pack, metrics


def pack() -> Pack:
  """Three weights, by the perplexity of the codes of held-out pictures."""
  return dataclasses.replace(
    dvae_beta.pack(),
    title="The weight of the KL, by usage",
    metric=metrics.perplexity(smallest=2.0),
    also=(metrics.usage(smallest=0.05), metrics.psnr(smallest=0.2)),
  )
