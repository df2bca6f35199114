"""Figures of a run's trained stages, each with its protocol; a measurement that was ended goes on."""

from dalle_jax.measure.whole import Done, measure

__all__ = ["Done", "measure"]
