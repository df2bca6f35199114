import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.evaluation import reconstruction
from dalle_jax.models import dvae
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Constant

CONFIG = dvae.Config(image=8, vocab=12, hidden=8, groups=2, blocks=1, code_dim=4)


@pytest.fixture(scope="module")
def params():
  objective = DvaeElbo(model=CONFIG, kl=Constant(0.0), temperature=Constant(1.0))
  shapes = sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), shapes)


def test_psnr_and_codes_are_those_of_all_pictures_together(params):
  images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
  got = reconstruction.measure(params, CONFIG, [images[:3], images[3:]])
  decoded, codes = reconstruction.reconstruct(params, CONFIG, images)
  x, y = images / 255, decoded / 255
  assert got.pictures == 6
  assert got.psnr == pytest.approx(-10 * np.log10(np.mean((x - y) ** 2)))
  assert got.psnr_mean_picture == pytest.approx(-10 * np.log10(np.mean((x - x.mean(0)) ** 2)))
  values, counts = np.unique(codes, return_counts=True)
  assert got.used == len(values)
  p = counts / counts.sum()
  assert got.perplexity == pytest.approx(np.prod(p**-p))
  assert got.counts_V.sum() == 6 * CONFIG.grid**2


def test_perplexity_is_the_vocabulary_where_all_codes_are_used_alike():
  even = reconstruction.Reconstruction(pictures=1, psnr=0.0, psnr_mean_picture=0.0, counts_V=np.full(12, 7))
  single = reconstruction.Reconstruction(pictures=1, psnr=0.0, psnr_mean_picture=0.0, counts_V=np.eye(12, dtype=int)[0])
  assert even.perplexity == pytest.approx(12)
  assert single.perplexity == pytest.approx(1)


def test_no_picture_is_refused(params):
  with pytest.raises(ValueError, match="no picture"):
    reconstruction.measure(params, CONFIG, [])


def test_a_perfect_picture_has_a_number_too():
  assert reconstruction.psnr(0.0) == 120
  assert reconstruction.psnr(0.01) == pytest.approx(20)
