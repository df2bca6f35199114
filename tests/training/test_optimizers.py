"""The optimizer against the formulas worked out in NumPy, float64, update by update."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.schedules import Constant, Linear
from dalle_jax.training.optimizers import AdamW, WarmupPlateau, decay_mask, learning_rate

PARAMS = {"dense": {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.1, -0.2])}}


def gradients(count):
  rng = np.random.default_rng(1)
  return [jax.tree.map(lambda p: 10 * rng.normal(size=p.shape), PARAMS) for _ in range(count)]


def by_hand(optimizer, rates, grads):
  """Clip by the global norm, then moments, then the clamp, then decay, then the rate: each in its place."""
  params = {k: v.copy() for k, v in PARAMS["dense"].items()}
  m = {k: np.zeros_like(v) for k, v in params.items()}
  v = {k: np.zeros_like(x) for k, x in params.items()}
  for n, (rate, grad) in enumerate(zip(rates, grads), 1):
    g = grad["dense"]
    norm = np.sqrt(sum(np.sum(x**2) for x in g.values()))
    scale = 1.0 if optimizer.clip is None else min(1.0, optimizer.clip / norm)
    for k in params:
      m[k] = optimizer.b1 * m[k] + (1 - optimizer.b1) * scale * g[k]
      v[k] = optimizer.b2 * v[k] + (1 - optimizer.b2) * (scale * g[k]) ** 2
      used = v[k] if optimizer.second_moment_clamp is None else np.minimum(v[k], optimizer.second_moment_clamp)
      step = (m[k] / (1 - optimizer.b1**n)) / (np.sqrt(used / (1 - optimizer.b2**n)) + optimizer.eps)
      decay = optimizer.decay * params[k] if k == "kernel" else 0.0
      params[k] = params[k] - rate * (step + decay)
  return params


def run(optimizer, grads, losses=None):
  to_f32 = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)  # noqa: E731
  transform, params = optimizer.build(), to_f32(PARAMS)
  state, rates = transform.init(params), []

  @jax.jit
  def update(params, state, grad, loss):
    updates, state = transform.update(grad, state, params, value=loss)
    return jax.tree.map(jnp.add, params, updates), state

  for i, grad in enumerate(grads):
    params, state = update(params, state, to_f32(grad), jnp.float32(1.0 if losses is None else losses[i]))
    rates.append(float(learning_rate(state)))
  return params["dense"], rates


@pytest.mark.parametrize(
  "optimizer",
  [
    AdamW(lr=Constant(0.01)),
    AdamW(lr=Constant(0.01), clip=4.0),
    AdamW(lr=Constant(0.01), decay=0.3),
    AdamW(lr=Constant(0.01), second_moment_clamp=0.05),
    AdamW(lr=Constant(0.02), b1=0.8, b2=0.9, eps=1e-3, decay=0.1, clip=2.0, second_moment_clamp=0.2),
  ],
)
def test_twelve_updates_equal_those_worked_out_by_hand(optimizer):
  grads = gradients(12)
  params, _ = run(optimizer, grads)
  wanted = by_hand(optimizer, [optimizer.lr.value] * 12, grads)
  for name in wanted:
    np.testing.assert_allclose(params[name], wanted[name], rtol=2e-5, atol=1e-6)


def test_the_schedule_is_read_at_the_index_of_the_update():
  optimizer = AdamW(lr=Linear(start=0.1, end=0.0, steps=4))
  grads = gradients(5)
  params, rates = run(optimizer, grads)
  assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0])
  np.testing.assert_allclose(params["kernel"], by_hand(optimizer, rates, grads)["kernel"], rtol=2e-5)


def test_decay_shrinks_kernels_and_nothing_else():
  tree = {
    "blocks": {"attention": {"kernel": 1, "bias": 2}, "norm": {"scale": 3, "bias": 4}},
    "text_embedding": {"embedding": 5},
    "row": 6,
    "kernel": {"scale": 7},
  }
  wanted = {
    "blocks": {"attention": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}},
    "text_embedding": {"embedding": False},
    "row": False,
    "kernel": {"scale": False},
  }
  assert decay_mask(tree) == wanted


def test_with_no_gradient_only_the_kernel_shrinks():
  zero = jax.tree.map(np.zeros_like, PARAMS)
  params, _ = run(AdamW(lr=Constant(0.1), decay=0.5), [zero])
  np.testing.assert_allclose(params["kernel"], PARAMS["dense"]["kernel"] * 0.95, rtol=1e-6)
  np.testing.assert_array_equal(params["bias"], PARAMS["dense"]["bias"].astype(np.float32))


def test_the_plateau_halves_after_so_many_windows_without_progress():
  lr = WarmupPlateau(peak=0.8, warmup=4, window=2, patience=2, halvings=2, tolerance=0.01)
  # Warm-up takes four updates and is not watched from its second to last on; windows begin at its last update.
  falling, flat = [9.0, 9.0, 9.0, 5.0, 5.0, 4.0, 4.0], [4.0] * 20
  _, rates = run(AdamW(lr=lr), gradients(27), falling + flat)
  assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
  # Means of windows from the update of index 4 (or 3): 5 or so, 4, then no better: two windows later, half; then again.
  halved = [i for i in range(1, 27) if rates[i] < rates[i - 1]]
  assert len(halved) == 2, "halved twice, which is the most"
  assert halved[1] - halved[0] == lr.window * lr.patience
  assert rates[-1] == pytest.approx(0.2)
  assert rates[halved[0] - 1] == pytest.approx(0.8)


def test_the_plateau_keeps_its_rate_while_the_loss_falls():
  lr = WarmupPlateau(peak=0.8, warmup=1, window=2, patience=1, tolerance=1e-4)
  _, rates = run(AdamW(lr=lr), gradients(30), [2 * 0.9**i for i in range(30)])
  assert rates == pytest.approx([0.8] * 30)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"b1": 1.0}, "b1=1.0"),
    ({"eps": 0.0}, "eps=0.0"),
    ({"clip": -1.0}, "clip=-1.0"),
    ({"decay": -0.1}, "decay=-0.1"),
    ({"ema": 1.5}, "ema=1.5"),
    ({"ema_every": 0}, "ema_every=0"),
    ({"max_skipped": 0}, "max_skipped=0"),
  ],
)
def test_an_impossible_optimizer_is_one_line_that_names_the_field(change, words):
  with pytest.raises(UserError, match=words):
    dataclasses.replace(AdamW(lr=Constant(0.1)), **change)


@pytest.mark.parametrize("change", [{"peak": 0.0}, {"warmup": 0}, {"window": 0}, {"patience": 0}, {"halvings": -1}])
def test_an_impossible_plateau_is_refused(change):
  with pytest.raises(UserError, match=next(iter(change))):
    WarmupPlateau(**{"peak": 0.1, "warmup": 5} | change)


@pytest.mark.parametrize(
  ("fields", "shrunk"),
  [
    ({}, {"kernel"}),
    ({"decay_norms": True}, {"kernel", "scale", "bias"}),
    ({"decay_embeddings": True}, {"kernel", "embedding"}),
    ({"decay_norms": True, "decay_embeddings": True}, {"kernel", "scale", "bias", "embedding"}),
  ],
)
def test_decay_shrinks_what_it_is_asked_to(fields, shrunk):
  names = ("kernel", "scale", "bias", "embedding", "logit_scale")
  params = {"layer": {name: jnp.ones((2, 2)) for name in names}}
  transform = AdamW(lr=Constant(0.1), decay=0.5, **fields).build()
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = transform.update(zeros, transform.init(params), params, value=jnp.float32(1.0))
  assert {name for name, u in updates["layer"].items() if (u != 0).any()} == shrunk
  for name in shrunk:
    np.testing.assert_allclose(updates["layer"][name], -0.05, rtol=1e-6)


def test_what_decays_without_decay_is_refused():
  with pytest.raises(UserError, match="decay=0"):
    AdamW(lr=Constant(0.1), decay_norms=True)
