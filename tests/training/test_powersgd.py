"""PowerSGD on one matrix: bases against NumPy's, numbers of few bits, factors that are the matrix at full rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.training.powersgd import Fixed, Floats, GramSchmidt, Householder, PowerSGD, Resampled, WarmStart, whole

SAME = lambda x: x  # noqa: E731


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def error(basis):
  """How far the columns are from orthonormal."""
  return np.abs(np.swapaxes(basis, -1, -2) @ basis - np.eye(basis.shape[-1])).max()


@pytest.mark.parametrize("orthogonal", [Householder(), GramSchmidt()])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_a_basis_is_numpy_s_whatever_the_matrix_s_size(orthogonal, size):
  p_AR = drawn(3, 24, 6)
  wanted = np.linalg.qr(p_AR.astype(np.float64))[0]
  basis = np.asarray(jax.jit(orthogonal)(jnp.asarray(p_AR * np.float32(size))))
  assert error(basis) < 2e-6
  assert error(p_AR) > 1
  # The same columns but for their signs; the damping moves them by some 1e-6.
  np.testing.assert_allclose(np.abs(np.sum(basis * wanted, axis=-2)), 1, atol=1e-5)


def test_householder_stays_orthonormal_where_gram_schmidt_does_not():
  almost = drawn(64, 1) @ np.ones((1, 16), np.float32) + 1e-5 * drawn(64, 16, seed=1)
  reflected, in_turn = (np.asarray(jax.jit(each)(jnp.asarray(almost))) for each in (Householder(), GramSchmidt()))
  assert error(reflected) < 2e-6
  assert error(in_turn) > 1e-3


@pytest.mark.parametrize("orthogonal", [Householder(), GramSchmidt()])
def test_damping_gives_nothing_at_all_a_basis(orthogonal):
  np.testing.assert_array_equal(np.abs(orthogonal(jnp.zeros((8, 3)))), np.eye(8, 3))


def test_without_damping_gram_schmidt_has_none_of_nothing():
  np.testing.assert_array_equal(GramSchmidt(damping=0.0)(jnp.zeros((8, 3))), 0)


def half(x):
  """float16 without subnormal numbers, by NumPy: what is too great is the greatest."""
  least, greatest = np.finfo(np.float16).tiny, np.finfo(np.float16).max
  found = np.clip(x, -greatest, greatest).astype(np.float16).astype(np.float32)
  return np.where(np.abs(found) < least, 0, found)


def test_five_and_ten_bits_are_numpy_s_float16():
  x = drawn(4000) * np.exp2(np.random.default_rng(1).uniform(-20, 20, 4000)).astype(np.float32)
  found = np.asarray(jax.jit(Floats(exponent=5, mantissa=10, top=16).round)(jnp.asarray(x)))
  assert (half(x) != x).mean() > 0.9
  assert (np.abs(found) == np.finfo(np.float16).max).any()
  assert (found == 0).any()
  np.testing.assert_array_equal(found, half(x))


def test_the_paper_s_format_ends_just_under_16_and_at_2_to_the_minus_58():
  greatest = 16 - 2.0**-6
  of = lambda *x: np.asarray(jax.jit(Floats().round)(jnp.array(x, jnp.float32))).tolist()  # noqa: E731
  assert of(np.inf, -np.inf, 1e30, 15.999, 15.9) == [greatest, -greatest, greatest, greatest, 15.90625]
  assert of(2.0**-58, 2.0**-59, 0.0) == [2.0**-58, 0.0, 0.0]
  assert of(1 + 2.0**-9, 1 + 2.0**-10 + 2.0**-12) == [1 + 2.0**-9] * 2  # nine bits after the point
  assert np.isnan(of(np.nan)[0])


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (2, 3, 16, 16)])
def test_at_full_rank_the_factors_are_the_matrix(shape):
  held = drawn(*shape)
  q = drawn(*shape[:-2], shape[-1], min(shape[-2:]), seed=1)
  p, new = PowerSGD(rank=100).factors(jnp.asarray(held), jnp.asarray(q), SAME)
  np.testing.assert_allclose(whole(p, new), held, atol=2e-5)
  less = whole(*PowerSGD(rank=4).factors(jnp.asarray(held), jnp.asarray(q[..., :4]), SAME))
  assert np.abs(less - held).max() > 0.5


def test_factors_are_of_the_mean_of_replicas():
  held = jnp.asarray(drawn(4, 10, 6))
  q = jnp.asarray(drawn(6, 3, seed=1))
  one = PowerSGD(rank=3).factors(held.mean(0), q, SAME)
  four = jax.vmap(lambda own: PowerSGD(rank=3).factors(own, q, lambda x: jax.lax.pmean(x, "m")), axis_name="m")(held)
  for a, b in zip(one, four, strict=True):
    np.testing.assert_allclose(np.asarray(b), np.broadcast_to(a, b.shape), atol=1e-5)


def left_of(kind, steps=12, rank=4):
  """The share of a matrix, most of it of low rank, that is not in its factors, by the last step's Q."""
  matrix = drawn(48, rank) @ drawn(rank, 32, seed=1) + 0.3 * drawn(48, 32, seed=2)
  q, power = jnp.asarray(drawn(32, rank, seed=3)), PowerSGD(rank=rank, q=kind)
  for i in range(steps):
    p, new = power.factors(jnp.asarray(matrix), q, SAME)
    q = kind.after(q, new, jax.random.key(i))
  return float(np.linalg.norm(whole(p, new) - matrix) / np.linalg.norm(matrix))


def test_a_warm_start_comes_to_the_best_factors_and_others_do_not():
  matrix = drawn(48, 4) @ drawn(4, 32, seed=1) + 0.3 * drawn(48, 32, seed=2)
  singular = np.linalg.svd(matrix, compute_uv=False)
  best = float(np.sqrt((singular[4:] ** 2).sum() / (singular**2).sum()))
  warm, fixed, resampled = (left_of(kind) for kind in (WarmStart(), Fixed(), Resampled()))
  assert warm == pytest.approx(best, rel=1e-3)
  assert min(fixed, resampled) > 1.05 * best


def test_what_q_is_next():
  old, new, key = jnp.zeros((4, 2)), jnp.ones((4, 2)), jax.random.key(1)
  np.testing.assert_array_equal(Fixed().after(old, new, key), old)
  np.testing.assert_array_equal(WarmStart().after(old, new, key), new)
  drawn_anew = Resampled().after(old, new, key)
  assert np.abs(drawn_anew).min() > 0
  assert not np.array_equal(drawn_anew, Resampled().after(old, new, jax.random.key(2)))


def test_what_is_left_is_forgotten_as_often_as_asked():
  forgets = lambda every: [bool(PowerSGD(rank=1, zero_every=every).forgets(jnp.int32(i))) for i in range(6)]  # noqa: E731
  assert forgets(None) == [False] * 6
  assert forgets(1) == [True] * 6
  assert forgets(3) == [False, False, True] * 2


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (lambda: PowerSGD(rank=0), "rank is 0"),
    (lambda: PowerSGD(rank=1, zero_every=0), "zero_every is 0"),
    (lambda: Householder(damping=-1.0), "damping=-1.0"),
    (lambda: GramSchmidt(damping=1.0), "damping=1.0"),
    (lambda: Floats(exponent=9), "9 bits of exponent"),
    (lambda: Floats(top=40), "top=40"),
  ],
)
def test_values_that_mean_nothing_are_refused(make, words):
  with pytest.raises(UserError, match=words):
    make()
