"""Ablations: packs of runs that test one claim each, with intervals over seeds and a verdict."""

from dalle_jax.ablations.pack import Arm, Better, Metric, Pack, Paper, Plot, Same, Scale

__all__ = ["Arm", "Better", "Metric", "Pack", "Paper", "Plot", "Same", "Scale"]
