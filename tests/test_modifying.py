"""Fields whose steps are exact: closed forms on a turning plane, orders on a bent field."""

from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games_for_tests import flow

from ddlib.drift import modified_terms, modifying_field, modifying_terms
from ddlib.methods import HEUN, euler, implicit_midpoint, runge_kutta

Y = np.array([0.3, 0.4])
SPEED = 1.3
TURN = SPEED * np.array([[0.0, 1.0], [-1.0, 0.0]])


def turning(y):
    return SPEED * jnp.stack([y[1], -y[0]])


def bent(y):
    return jnp.stack([jnp.sin(y[1]) + 0.2 * y[0] ** 2, jnp.tanh(y[0] * y[1]) - y[0]])


METHODS = {
    "Euler": (euler, 4),
    "Heun": (lambda f: runge_kutta(f, HEUN), 2),
    "midpoint": (implicit_midpoint, 2),
}


def test_euler_on_an_oscillator_to_the_ninth_order():
    """(exp(hA) − I)/h = Σ hᵏ A^{k+1}/(k + 1)!."""
    found = jax.jit(modifying_terms(euler, turning, 9))(Y)
    exact = [np.linalg.matrix_power(TURN, k + 1) @ Y / factorial(k + 1) for k in range(10)]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


def test_euler_on_a_nonlinear_oscillator_to_the_ninth_order():
    """A radius of its own speed: the flow turns by h/r², and so must Euler's step."""

    def field(y):
        return jnp.stack([y[1], -y[0]]) / (y[0] ** 2 + y[1] ** 2)

    y = np.array([0.9, -0.6])
    found = jax.jit(modifying_terms(euler, field, 9))(y)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]]) / (y @ y)
    exact = [np.linalg.matrix_power(turn, k + 1) @ y / factorial(k + 1) for k in range(10)]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


def test_the_midpoint_rule_on_an_oscillator():
    """Its step turns by 2 arctan(hc/2), so that c = (2/h) tan(hω/2)."""
    found = jax.jit(modifying_terms(implicit_midpoint, turning, 4))(Y)
    exact = [turning(Y), 0 * Y, turning(Y) * SPEED**2 / 12, 0 * Y, turning(Y) * SPEED**4 / 120]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_steps_of_the_modifying_field_are_exact_to_its_order(name):
    method, highest = METHODS[name]

    @jax.jit
    def error(h):
        def of(field):
            step = method(field)
            step = step.sweeps(9) if name == "midpoint" else step
            return jnp.linalg.norm(step(h, jnp.asarray(Y)) - flow(bent, Y, h))

        return jnp.stack([of(modifying_field(method, bent, h, k)) for k in (0, highest)])

    plain = {"Euler": 2, "Heun": 3, "midpoint": 3}[name]
    slopes = jnp.log2(error(0.08) / error(0.04))
    even = name == "midpoint"  # a symmetric method's terms are those of even powers
    np.testing.assert_allclose(slopes, [plain, highest + 2 + even], atol=0.3)


def test_it_is_the_inverse_of_backward_error_analysis():
    h = 0.05
    better = modifying_field(euler, bent, h, 3)
    found = modified_terms(lambda s, y: euler(modifying_field(euler, bent, s, 3))(s, y), 2)(Y)
    np.testing.assert_allclose(found, [bent(Y), 0 * Y, 0 * Y], atol=1e-12)
    np.testing.assert_allclose(better(Y), sum(h**k * g for k, g in enumerate(_terms())), rtol=1e-13)


def _terms():
    return modifying_terms(euler, bent, 3)(Y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modifying_terms(3, bent, 1), "method must be a function from a field to a step"),
        (lambda: modifying_terms(lambda f: f, bent, 1), "must be a step, a function of h and y"),
        (lambda: modifying_terms(euler, 3, 1), "field must be a field"),
        (lambda: modifying_terms(euler, bent, -1), "order must be an integer of at least 0"),
        (lambda: modifying_terms(euler, bent, 1)(np.array([1, 2])), "write 1.0 for 1"),
        (lambda: modifying_field(euler, bent, -0.1, 1), "h must be zero or positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
