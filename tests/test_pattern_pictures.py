"""The pictures of the patterns show the masks, and the committed one is what is drawn now."""

from pathlib import Path

import numpy as np
from PIL import Image

from dalle_jax import pattern_pictures
from dalle_jax.ops import sparse_attention
from dalle_jax.ops.sparse_attention import Pattern


def test_a_cell_is_dark_where_the_mask_says_seen():
  pattern = Pattern(text=2, grid=3, kind="row")
  half = pattern_pictures.CELL // 2
  cells = pattern_pictures.picture(pattern)[half :: pattern_pictures.CELL, half :: pattern_pictures.CELL]
  np.testing.assert_array_equal((cells != pattern_pictures.UNSEEN).any(-1), pattern.mask())


def test_the_committed_picture_is_what_is_drawn():
  file = Path(sparse_attention.__file__).with_name("patterns.png")
  with Image.open(file) as committed:
    np.testing.assert_array_equal(np.asarray(committed), np.asarray(pattern_pictures.sheet()))
