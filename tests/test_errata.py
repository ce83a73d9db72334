"""The checks of the errata (book/errata.md) that no notebook records.

Each shows that what is printed fails, and that what the errata give instead holds; the numbers come
from closed forms and from quadrature, not from the flows of the library.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from ddlib.drift import modified_terms
from ddlib.games import gradient_field
from ddlib.methods import euler

ROUNDING = 1e-12


def test_theorem_3_1_leaves_a_third_derivative_and_none_above_it():
    """PF: E = ½ay² + by³/6 has no derivative above the third; its f₂ has more than ⅓H²g."""
    a, b, y = 0.7, 1.3, 0.4
    slope, curvature = a * y + b * y**2 / 2, a + b * y
    step = euler(gradient_field(lambda y: a * y**2 / 2 + b * y**3 / 6))
    second = float(modified_terms(step, 2)(jnp.asarray(y))[2])
    principal, rest = -(curvature**2) * slope / 3, -b * slope**2 / 12
    assert abs(rest) > 0.01
    assert abs(second - principal - rest) < ROUNDING


def test_the_series_diverges_at_a_large_negative_eigenvalue():
    """PF, Section 3: hλ = −1.5 is below one, and the series of log(1 − z)/z diverges there."""
    z = -1.5
    partial = -sum(z**p / (p + 1) for p in range(41))
    flow = math.log(1 - z) / z
    assert abs(partial - flow) > 1e4
    assert abs(math.exp(flow * z) - (1 - z)) < ROUNDING  # gradient descent's factor
    inside = -sum((-0.5) ** p / (p + 1) for p in range(41))
    assert abs(inside - math.log(1.5) / -0.5) < ROUNDING


def test_footnote_1_the_norm_has_no_drift_and_is_not_linear():
    """PF: E = ‖θ‖ has ∇²E ∇E = 0 away from the origin."""
    theta, h = jnp.array([1.2, -0.5, 2.0]), 0.3
    gradient, curvature = jax.grad(jnp.linalg.norm)(theta), jax.hessian(jnp.linalg.norm)(theta)
    assert jnp.abs(curvature @ gradient).max() < ROUNDING
    assert jnp.linalg.norm(curvature, 2) > 0.1
    # what the footnote has in place of the sum over j is not zero
    assert jnp.abs(gradient * jnp.diag(curvature)).max() > 0.01
    # the flow goes straight to the origin at unit speed
    flow = theta * (1 - h / jnp.linalg.norm(theta))
    assert jnp.abs(theta - h * gradient - flow).max() < ROUNDING


def test_figure_4_the_solution_depends_on_time():
    """PF: gradient descent on ½z² is at (1 − h)ⁿ z(0) after n steps."""
    h, n = 0.6, 3
    descent = (1 - h) ** n
    assert abs(math.exp(n * h * math.log(1 - h) / h) - descent) < ROUNDING
    assert abs(math.exp(math.log(1 - h) / h) - descent) > 0.1


def test_theorem_6_1_has_no_one_point_for_all_coordinates():
    """PF: ½‖∇E‖² is homogeneous of degree one, so its gradient Hg depends on the angle alone."""

    def loss(y):
        r = jnp.sqrt(y @ y)
        return jnp.sqrt(r) * (2 * r + y[0])

    gradient = jax.jit(jax.grad(loss))
    product = jax.jit(lambda y: jax.hessian(loss)(y) @ jax.grad(loss)(y))
    start, h = jnp.array([0.3, 1.0]), 0.2
    path = solve_ivp(
        lambda t, y: -np.asarray(gradient(y)), (0, h), start, rtol=1e-12, atol=1e-14,
        dense_output=True,
    )  # fmt: skip
    mean = (path.sol(h) - np.asarray(start - h * gradient(start))) / (h**2 / 2)

    # the integral that the errata give, as the mean of Hg with weight 2(1 − s)
    integral = [
        quad(lambda s, i=i: 2 * (1 - s) * float(product(path.sol(s * h))[i]), 0, 1, epsrel=1e-9)[0]
        for i in (0, 1)
    ]
    np.testing.assert_allclose(integral, mean, rtol=1e-7)

    # each coordinate has its point, on a ray near the start
    def curve(angle):
        return np.asarray(product(jnp.array([np.cos(angle), np.sin(angle)])))

    first = math.atan2(*start[::-1])
    last = math.atan2(*path.sol(h)[::-1])
    points = [brentq(lambda a, i=i: curve(a)[i] - mean[i], first, last) for i in (0, 1)]
    assert abs(points[0] - points[1]) > 1e-3

    # and no angle has both: the curve of all values keeps its distance from the mean
    angles = np.linspace(-np.pi, np.pi, 20_001)
    values = np.asarray(jax.vmap(product)(jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)))
    between = np.linalg.norm(np.diff(values, axis=0), axis=1).max()
    assert np.linalg.norm(values - mean, axis=1).min() > 2 * between
