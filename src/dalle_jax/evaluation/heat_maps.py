"""Heat maps of likelihoods: of each code beside its picture, and of every picture against every caption.

H W pixels, h w the grid of codes, P pictures, C captions.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def save_code_map(
  file: Path,
  image_HWC: UInt8[np.ndarray, "H W 3"],
  nats_hw: Float[np.ndarray, "h w"],
  *,
  most: float,
  guess: float,
) -> None:
  """The picture, and beside it -ln p of each of its codes, from 0 to `most` nats; a blind guess's `guess` is marked."""
  figure = Figure(figsize=(7.4, 3.5), layout="constrained")
  picture, heat = figure.subplots(1, 2)
  picture.imshow(image_HWC, interpolation="nearest")
  drawn = heat.imshow(nats_hw, interpolation="nearest", cmap="magma", vmin=0, vmax=most)
  for axes, title in ((picture, "the picture"), (heat, f"{nats_hw.mean():.3f} nats a code")):
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)
  bar = figure.colorbar(drawn, ax=heat, label="nats: high where it was not expected")
  if guess < most:
    bar.ax.axhline(guess, color="#2e9bff", linewidth=1.5)
  figure.savefig(file, dpi=128)


def save_matching_map(file: Path, scores_PC: Float[np.ndarray, "P C"], right_PC: Bool[np.ndarray, "P C"]) -> None:
  matching_map(scores_PC, right_PC).savefig(file, dpi=128)


def matching_map(scores_PC: Float[np.ndarray, "P C"], right_PC: Bool[np.ndarray, "P C"]) -> Figure:
  """Every picture's score with every caption, those that belong together marked by a ring where there are few."""
  figure = Figure(figsize=(6.4, 5.2), layout="constrained")
  axes = figure.add_subplot()
  most = max(float(np.abs(scores_PC).max()), 1e-6)
  drawn = axes.imshow(scores_PC, interpolation="nearest", cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
  if max(scores_PC.shape) <= 64:
    pictures, captions = np.nonzero(right_PC)
    for colour, width in (("white", 2.4), ("#222222", 0.9)):  # to be seen on dark fields and on light ones
      axes.scatter(captions, pictures, s=24, facecolors="none", edgecolors=colour, linewidths=width)
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.set_xlabel("captions")
  axes.set_ylabel("pictures")
  figure.colorbar(drawn, ax=axes, label="nats that the caption tells of the picture")
  return figure
