"""Structural similarity beside torchmetrics'.

B batch, H W pixels.
"""

import jax.numpy as jnp
import numpy as np
import official
import pytest

from dalle_jax.evaluation.metrics.ssim import ssim

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("height", "width"), [(11, 11), (32, 48), (64, 64)])
def test_it_is_torchmetrics_within_the_borders(height, width):
  torch, functional = official.load("torch"), official.load("torchmetrics.functional.image")
  rng = np.random.default_rng(height)
  coarse = rng.integers(0, 256, (3, 4, 4, 3)).repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
  images_BHWC = coarse[:, :height, :width].astype(np.uint8)
  noisy_BHWC = np.clip(images_BHWC + rng.normal(scale=30, size=images_BHWC.shape), 0, 255).astype(np.uint8)
  ours_B = np.asarray(ssim(jnp.asarray(images_BHWC), jnp.asarray(noisy_BHWC)))
  x, y = (torch.from_numpy(each.transpose(0, 3, 1, 2).astype(np.float64) / 255) for each in (images_BHWC, noisy_BHWC))
  how = {"data_range": 1.0, "reduction": "none", "return_full_image": True}
  _, full_BCHW = functional.structural_similarity_index_measure(y, x, **how)
  # torchmetrics goes on over the borders, which it mirrors; the publication's own program stops at them.
  theirs_B = full_BCHW[..., 5 : height - 5, 5 : width - 5].mean((1, 2, 3)).numpy()
  assert 0.05 < theirs_B.min() < theirs_B.max() < 0.99
  np.testing.assert_allclose(ours_B, theirs_B, atol=2e-5)
