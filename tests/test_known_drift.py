"""Modified equations that are known from the literature, to rounding.

Hairer, Lubich and Wanner 2006, Chapters III and IX, and what follows from them by hand for the
coefficients of a method, for linear fields and for splittings.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.drift import modified_terms
from ddlib.methods import HEUN, RK4, Tableau, compose, euler, implicit_midpoint, runge_kutta

MIDPOINT = Tableau(a=((), (1 / 2,)), b=(0.0, 1.0))
SSP33 = Tableau(a=((), (1.0,), (1 / 4, 1 / 4)), b=(1 / 6, 1 / 6, 2 / 3))
Y = jnp.array([0.4, -0.7])
A, B = np.random.default_rng(3).normal(size=(2, 2, 2))


def bent(y):
    return jnp.stack([jnp.sin(y[1]) + 0.2 * y[0] ** 2, jnp.tanh(y[0] * y[1]) - y[0]])


def terms(step, order, y=Y):
    return np.array(jax.jit(modified_terms(step, order))(y))


def elementary(y):
    """f'f'f and f''(f, f)."""
    f = bent(y)
    slope = jax.jacfwd(bent)(y)
    return slope @ slope @ f, jnp.einsum("ijk,j,k", jax.jacfwd(jax.jacfwd(bent))(y), f, f)


@pytest.mark.parametrize(
    ("method", "chain", "bush"),
    [
        (euler, 1 / 3, 1 / 12),
        (lambda f: runge_kutta(f, HEUN), -1 / 6, 1 / 12),
        (lambda f: runge_kutta(f, MIDPOINT), -1 / 6, -1 / 24),
        (implicit_midpoint, 1 / 12, -1 / 24),
        (lambda f: runge_kutta(f, SSP33), 0, 0),
    ],
    ids=["Euler", "Heun", "explicit midpoint", "implicit midpoint", "SSP33"],
)
def test_the_second_term_in_elementary_differentials(method, chain, bush):
    one, other = elementary(Y)
    np.testing.assert_allclose(terms(method(bent), 2)[2], chain * one + bush * other, atol=1e-12)


def test_euler_on_a_square_to_the_fifth_order():
    """ẏ = y² − h y³ + 3/2 h² y⁴ − 8/3 h³ y⁵ + 31/6 h⁴ y⁶ − 157/15 h⁵ y⁷ + … (HLW, Section IX.1)."""
    y = 0.9
    known = np.array([1, -1, 3 / 2, -8 / 3, 31 / 6, -157 / 15]) * y ** np.arange(2.0, 8.0)
    found = terms(euler(lambda y: y**2), 5, jnp.array(y))
    np.testing.assert_allclose(found, known, rtol=1e-12)


@pytest.mark.parametrize(
    ("tableau", "powers"),
    [
        (RK4, [1, 0, 0, 0, -1 / 120, 1 / 144]),
        (SSP33, [1, 0, 0, -1 / 24, 1 / 30]),
        (HEUN, [1, 0, -1 / 6, 1 / 8]),
    ],
    ids=["RK4", "SSP33", "Heun"],
)
def test_on_a_linear_field_it_is_the_logarithm_of_the_stability_function(tableau, powers):
    found = terms(runge_kutta(lambda y: jnp.asarray(A) @ y, tableau), len(powers) - 1)
    exact = [c * np.linalg.matrix_power(A, k + 1) @ Y for k, c in enumerate(powers)]
    np.testing.assert_allclose(found, exact, atol=1e-12)


def exponential(matrix):
    """exp(h·matrix), to h⁶."""

    def step(h, y):
        term, total = y, y
        for k in range(1, 7):
            term = h / k * (jnp.asarray(matrix) @ term)
            total = total + term
        return total

    return step


def commutator(a, b):
    return a @ b - b @ a


def test_lie_splitting_is_the_baker_campbell_hausdorff_series():
    found = terms(compose(exponential(A), exponential(B)), 2)
    first = commutator(B, A) / 2  # A acts first, so that B stands on the left
    second = (commutator(B, commutator(B, A)) + commutator(A, commutator(A, B))) / 12
    np.testing.assert_allclose(found, [(A + B) @ Y, first @ Y, second @ Y], atol=1e-12)


def test_strang_splitting_has_no_odd_term():
    found = terms(compose(exponential(A / 2), exponential(B), exponential(A / 2)), 3)
    second = -commutator(A, commutator(A, B)) / 24 - commutator(B, commutator(A, B)) / 12
    np.testing.assert_allclose(found, [(A + B) @ Y, 0 * Y, second @ Y, 0 * Y], atol=1e-12)


def pendulum_kick(h, y):
    return jnp.stack([y[0], y[1] - h * jnp.sin(y[0])])


def pendulum_drift(h, y):
    return jnp.stack([y[0] + h * y[1], y[1]])


def test_symplectic_euler_on_a_pendulum_has_its_modified_energy():
    """H̃ = H − (h/2) H_p H_q + (h²/12)(H_pp H_q² + H_qq H_p²), p first (HLW, Section IX.3)."""
    found = terms(compose(pendulum_kick, pendulum_drift), 2)

    def energy(k):
        def of(y):
            q, p = y
            parts = [
                p**2 / 2 - jnp.cos(q),
                -p * jnp.sin(q) / 2,
                (jnp.sin(q) ** 2 + jnp.cos(q) * p**2) / 12,
            ]
            return parts[k]

        return of

    for k in range(3):
        by_q, by_p = jax.grad(energy(k))(Y)
        np.testing.assert_allclose(found[k], [by_p, -by_q], atol=1e-12)


def test_verlet_on_a_pendulum():
    """From q = −1.2, v = 1: f₂ = (cos q · v/6, (sin q cos q + sin q · v²)/12)."""
    q, v = -1.2, 1.0
    half = lambda h, y: pendulum_kick(h / 2, y)  # noqa: E731
    found = terms(compose(half, pendulum_drift, half), 2, jnp.array([q, v]))
    known = [np.cos(q) * v / 6, (np.sin(q) * np.cos(q) + np.sin(q) * v**2) / 12]
    np.testing.assert_allclose(found[1], [0, 0], atol=1e-12)
    np.testing.assert_allclose(found[2], known, atol=1e-12)


def test_euler_on_lotka_and_volterra():
    """Its first term is −½f'f, here by hand."""
    p, q = 1.5, 0.7

    def field(y):
        return jnp.stack([y[0] * (2 - y[1]), y[1] * (y[0] - 1)])

    found = terms(euler(field), 1, jnp.array([p, q]))
    f, g = p * (2 - q), q * (p - 1)
    slope = np.array([[2 - q, -p], [q, p - 1]])
    np.testing.assert_allclose(found[0], [f, g], atol=1e-12)
    np.testing.assert_allclose(found[1], -slope @ [f, g] / 2, atol=1e-12)
