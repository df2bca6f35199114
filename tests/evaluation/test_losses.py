import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.evaluation import losses

VOCAB = 10


@dataclasses.dataclass(frozen=True)
class Objective:
  """Stands in for the transformer's: metrics that tell what they were given."""

  vocab: int = VOCAB

  @property
  def model(self):
    return types.SimpleNamespace(text_vocab=self.vocab)

  def loss(self, params, frozen, batch, key, step):
    text = batch["text"].astype(jnp.float32)
    present = batch["text"] < self.vocab
    metrics = {
      "loss": jnp.mean(text) * params,
      "loss_text_no_pads": jnp.sum(text * present) / jnp.maximum(present.sum(), 1),
      "step": step.astype(jnp.float32),
      "noise": jax.random.uniform(key),
    }
    return metrics["loss"], metrics


def test_the_mean_over_a_split_does_not_depend_on_how_it_falls_into_batches():
  text = np.random.default_rng(0).integers(0, 15, (7, 4))
  batches = [{"text": text[:2]}, {"text": text[2:3]}, {"text": text[3:]}]
  got = losses.held_out(Objective(), jnp.float32(2), None, batches, step=300)
  assert got["loss"] == pytest.approx(2 * text.mean(), rel=1e-6)
  assert got["loss_text_no_pads"] == pytest.approx(text[text < VOCAB].mean(), rel=1e-6)
  assert got["step"] == 300


def test_it_repeats_and_the_seed_reaches_the_noise():
  batches = [{"text": np.ones((2, 4), np.int32)}] * 2
  noise = [losses.held_out(Objective(), jnp.float32(1), None, batches, step=0, seed=s)["noise"] for s in (0, 0, 1)]
  assert noise[0] == noise[1] != noise[2]


def test_no_batch_is_refused():
  with pytest.raises(ValueError, match="no batch"):
    losses.held_out(Objective(), jnp.float32(1), None, [], step=0)
