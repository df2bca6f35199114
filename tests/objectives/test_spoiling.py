"""Spoilt pictures: parts of another of the batch, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax.objectives import spoiling


def random_pictures(count=6, side=8):
  return jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, side, side, 3)), jnp.uint8)


def test_whole_blocks_come_from_the_picture_before_up_to_the_share():
  images = random_pictures(count=40)
  spoilt, same = spoiling.pictures(images, 0.5, 4, jax.random.key(0))
  other = np.roll(images, 1, axis=0)
  blocks = np.asarray(spoilt == images).reshape(40, 4, 2, 4, 2, 3).all(axis=(2, 4, 5))
  taken = np.asarray(spoilt == other).reshape(40, 4, 2, 4, 2, 3).all(axis=(2, 4, 5))
  assert (blocks ^ taken).all()
  assert 0.15 < taken.mean() < 0.35  # shares from 0 to a half
  assert taken.mean(axis=(1, 2)).std() > 0.1
  np.testing.assert_array_equal(same, blocks.all(axis=(1, 2)))


def test_equal_pictures_are_told_to_be_unchanged():
  images = random_pictures(1).repeat(3, axis=0)
  assert spoiling.pictures(images, 1.0, 4, jax.random.key(0))[1].all()
