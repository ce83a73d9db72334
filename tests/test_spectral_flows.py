import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.curvature import hessian
from ddlib.drift import modified_terms
from ddlib.flows import (
    continued_alpha,
    critical_jacobian,
    igr_alpha,
    integrate,
    integrate_with_error,
    ngf_alpha,
    nonprincipal_term,
    polynomial_field,
    positive_alpha,
    principal_alpha,
    series_alpha,
    spectral_field,
    stability_coefficients,
)
from ddlib.games import gradient_field
from ddlib.methods import euler, iterate
from ddlib.stability import jacobian

SCALES = jnp.array([1.0, 0.3, 0.01])


def quadratic(y):
    return 0.5 * jnp.sum(SCALES * y**2) + 0.2 * y[0]


def smooth(y):
    """Holomorphic, non-quadratic, with a Hessian of mixed sign."""
    return (
        0.25 * jnp.sum(y**4) - 0.5 * y[0] * y[1] + jnp.sum(jnp.cos(y) * jnp.roll(y, 1)) + y[2] ** 2
    )


def test_principal_alpha_is_the_logarithm_and_its_derivative_everywhere():
    z = jnp.array([-3.0, -0.4, 1e-9, 0.02, 0.03, 0.5, 0.999, 1.5, 2.0, 7.0])
    real = np.asarray(z)
    exact = np.where(real < 1, np.log1p(-np.minimum(real, 0.9995)), 0) + 0j
    exact = np.where(real > 0.9, np.log((1 - real).astype(complex)), exact) / real
    np.testing.assert_allclose(principal_alpha(z), exact, rtol=1e-13)
    assert principal_alpha(jnp.array(0.0)) == -1
    assert principal_alpha(jnp.array(1.0)).real == -jnp.inf
    np.testing.assert_allclose(principal_alpha(jnp.array(2.0)), 0.5j * np.pi, atol=1e-15)
    slope = jax.vmap(jax.grad(lambda x: principal_alpha(x).real))
    for x, got in zip(z, slope(z), strict=True):
        if abs(x) > 0.1:
            true = (-1 / (1 - x) - np.log(abs(1 - x)) / x) / x
        else:  # the series of the derivative
            true = -sum(p * x ** (p - 1) / (p + 1) for p in range(1, 14))
        np.testing.assert_allclose(got, true, rtol=1e-11)
    np.testing.assert_allclose(jax.grad(lambda x: principal_alpha(x).real)(0.0), -0.5)


def test_the_continued_coefficient_differs_by_one_turn_above_the_cut_only():
    real = jnp.linspace(-2.0, 4.0, 25)
    np.testing.assert_allclose(continued_alpha(real), principal_alpha(real), rtol=1e-14)
    z = real[:, None] + 1j * jnp.array([-1.0, -0.1, 0.1, 1.0])
    turn = (z.real > 1) & (z.imag > 0)
    expected = principal_alpha(z) + jnp.where(turn, 2j * np.pi / z, 0)
    np.testing.assert_allclose(continued_alpha(z), expected, rtol=1e-12)
    slope = jax.vmap(jax.grad(lambda x: continued_alpha(x).real))(real)
    np.testing.assert_allclose(
        slope, jax.vmap(jax.grad(lambda x: principal_alpha(x).real))(real), rtol=1e-11
    )


def test_a_flow_across_the_cut_needs_the_continued_coefficient():
    """A quartic well at hλ = 1.5: its Hessian leaves the real axis with the state."""

    def well(y):
        return 0.5 * y[0] ** 2 + 0.05 * y[0] ** 4

    h, start = 1.3, jnp.array([0.6])
    ts, reached = h * jnp.arange(4.0), {}
    for alpha in (principal_alpha, continued_alpha):
        flow = spectral_field(well, alpha, h)
        path = integrate(flow, start.astype(complex), ts, rtol=1e-8, atol=1e-10, max_steps=2000)
        reached[alpha] = bool(jnp.isfinite(path).all())
    assert reached == {principal_alpha: False, continued_alpha: True}
    steps = iterate(euler(gradient_field(well)), h, start, 3)
    gradient_flow = integrate(spectral_field(well, ngf_alpha, h), start, ts)
    # `path` is the continued one's.
    assert jnp.abs(path - steps).max() < jnp.abs(gradient_flow - steps).max() / 4


def test_the_positive_gradient_flow_climbs():
    y = jnp.array([0.4, -0.7, 1.1])
    climb = spectral_field(smooth, positive_alpha, 0.1)(y)
    np.testing.assert_allclose(climb, jax.grad(smooth)(y), rtol=1e-12)


def test_the_reported_error_bounds_the_error_and_follows_the_tolerance():
    ts, start = jnp.linspace(0.0, 3.0, 4), jnp.array([1.0, 0.5])
    exact = start * jnp.exp(-ts)[:, None]
    found = []
    for rtol in (1e-5, 1e-9):
        ys, errors = integrate_with_error(lambda y: -y, start, ts, rtol=rtol, atol=rtol / 100)
        true = jnp.linalg.norm(ys - exact, axis=1)
        assert jnp.all(true <= errors + 1e-15)
        found.append(float(errors.max()))
    assert found[1] < found[0] / 100


def test_series_tends_to_the_principal_coefficient_inside_the_disc_only():
    inside, outside = jnp.array(0.7), jnp.array(1.3)
    gaps = [abs(complex(series_alpha(n)(inside) - principal_alpha(inside))) for n in (4, 16, 64)]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]
    assert float(series_alpha(64)(outside)) < -1e5
    np.testing.assert_array_equal(series_alpha(0)(inside), ngf_alpha(inside))
    np.testing.assert_allclose(series_alpha(1)(inside), igr_alpha(inside))


@pytest.mark.parametrize("h", [0.5, 0.9, 1.8, 2.1])
def test_principal_flow_is_gradient_descent_on_quadratics(h):
    """PF, Remark 3.1: at the times nh, through the complex space once hλ₀ > 1."""
    start = jnp.array([-0.35, -0.2, 0.4])
    steps = iterate(euler(gradient_field(quadratic)), h, start, 8)
    flow = spectral_field(quadratic, principal_alpha, h)
    path = integrate(flow, start.astype(complex), h * jnp.arange(9.0))
    np.testing.assert_allclose(path, steps, atol=1e-9)
    middle = integrate(flow, start.astype(complex), jnp.array([0.0, h / 2]))[-1]
    assert (jnp.abs(middle.imag).max() > 1e-3) == (h > 1)


@pytest.mark.parametrize("alpha", [ngf_alpha, igr_alpha, principal_alpha])
def test_krylov_field_is_the_dense_field(alpha):
    real = jnp.array([0.4, -0.7, 1.1])
    state = real + 1j * jnp.array([0.2, 0.1, -0.3])
    for y in (real, state):
        dense = spectral_field(smooth, alpha, 0.9)(y)
        krylov = spectral_field(smooth, alpha, 0.9, num_matvecs=3)(y)
        np.testing.assert_allclose(krylov, dense, rtol=1e-10)


def test_a_field_in_chunks_of_the_batch_is_the_field_of_the_batch():
    x = jnp.linspace(-1.0, 1.0, 12).reshape(6, 2)

    def loss(y, batch):
        return jnp.mean(jnp.tanh(batch @ y) ** 2 + batch @ y)

    y = jnp.array([0.3, -0.8])
    whole = spectral_field(lambda p: loss(p, x), principal_alpha, 2.0)(y)
    for options in ({}, {"num_matvecs": 2}, {"num_matvecs": 2, "num_chunks": 3, "scan": False}):
        field = spectral_field(loss, principal_alpha, 2.0, batch=x, **options)
        np.testing.assert_allclose(field(y), whole, rtol=1e-12)


def test_flows_are_what_backward_error_analysis_gives():
    y, h = jnp.array([0.4, -0.7, 1.1]), 0.05
    f0, f1, f2 = jax.jit(modified_terms(euler(gradient_field(smooth)), 2))(y)
    np.testing.assert_allclose(spectral_field(smooth, ngf_alpha, h)(y), f0, rtol=1e-12)
    np.testing.assert_allclose(spectral_field(smooth, igr_alpha, h)(y), f0 + h * f1, rtol=1e-12)
    third = spectral_field(smooth, series_alpha(2), h)(y) + nonprincipal_term(smooth, h)(y)
    np.testing.assert_allclose(third, f0 + h * f1 + h**2 * f2, rtol=1e-12)


@pytest.mark.parametrize(
    ("alpha", "eigenvalue"),
    [
        (ngf_alpha, lambda v, h: -v),
        (igr_alpha, lambda v, h: -v - h * v**2 / 2),  # PF prints h²/2 in Section 3.2
        (principal_alpha, lambda v, h: np.log((1 - h * v).astype(complex)) / h),
    ],
)
def test_jacobian_at_a_minimum(alpha, eigenvalue):
    h, scales = 0.6, np.array([4.0, 1.5, 0.5])

    def loss(y):  # minimum at 0, not quadratic, Hessian there diag(scales)
        return jnp.sum(scales * (jnp.cosh(y) - 1)) + y[0] ** 2 * y[1]

    matrix = jacobian(spectral_field(loss, alpha, h), jnp.zeros(3))
    np.testing.assert_allclose(hessian(loss, jnp.zeros(3)), np.diag(scales), atol=1e-14)
    np.testing.assert_allclose(np.diag(matrix), eigenvalue(scales, h), rtol=1e-12)
    np.testing.assert_allclose(matrix - np.diag(np.diag(matrix)), 0, atol=1e-12)
    formula = critical_jacobian(loss, alpha, jnp.zeros(3), h)  # PF, Eq. 16
    np.testing.assert_allclose(formula, matrix, atol=1e-12)


def test_alpha_may_pick_eigendirections_by_position():
    def flip(z):
        return jnp.where(jnp.arange(z.size) == 0, 1.0, -1.0)

    y = jnp.array([1.0, 1.0, 1.0])
    g = jax.grad(quadratic)(y)
    for num in (None, 3):
        got = spectral_field(quadratic, flip, 0.1, num_matvecs=num)(y)
        np.testing.assert_allclose(got, jnp.array([1.0, -1.0, -1.0]) * g, rtol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_polynomial_field_is_the_spectral_field_of_its_polynomial(order):
    real = jnp.array([0.4, -0.7, 1.1])
    for y in (real, real + 1j * jnp.array([0.2, 0.1, -0.3])):
        got = polynomial_field(smooth, 1 / jnp.arange(1.0, order + 2), 0.9)(y)
        np.testing.assert_allclose(
            got, spectral_field(smooth, series_alpha(order), 0.9)(y), rtol=1e-12
        )


def test_zero_gradient_gives_a_zero_field_also_where_alpha_is_infinite():
    for num in (None, 2):
        field = spectral_field(lambda y: 0.5 * y @ y, principal_alpha, 1.0, num_matvecs=num)
        np.testing.assert_array_equal(field(jnp.zeros(3)), 0)


def test_stability_coefficients_have_the_sign_of_alpha():
    values, sc = stability_coefficients(smooth, jnp.array([0.4, -0.7, 1.1]), 1.0)
    assert np.all(np.diff(values) <= 0)
    np.testing.assert_array_equal(np.sign(sc.real), np.sign(principal_alpha(values).real))
    field = spectral_field(smooth, principal_alpha, 1.0)(jnp.array([0.4, -0.7, 1.1]))
    np.testing.assert_allclose(jnp.linalg.norm(sc), jnp.linalg.norm(field), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_field(quadratic, ngf_alpha, 0.0), "h must be positive"),
        (lambda: spectral_field(quadratic, ngf_alpha, float("inf")), "h must be finite"),
        (lambda: spectral_field(quadratic, ngf_alpha, 0.1, 0), "num_matvecs must be"),
        (lambda: spectral_field(quadratic, ngf_alpha, 0.1, 9)(jnp.ones(3)), "at most 3"),
        (lambda: spectral_field(jnp.sin, ngf_alpha, 0.1)(jnp.ones(3)), "scalar"),
        (lambda: spectral_field(quadratic, ngf_alpha, 0.1)(jnp.arange(3)), "int"),
        (
            lambda: spectral_field(lambda y: jnp.nan * y.sum(), ngf_alpha, 0.1, 2)(jnp.ones(3)),
            "start must be finite",
        ),
        (lambda: series_alpha(-1), "order must be"),
        (lambda: polynomial_field(quadratic, jnp.zeros(0), 0.1), "coefficients must be"),
        (lambda: spectral_field(quadratic, ngf_alpha, 0.1, 2, num_chunks=2), "scan=False"),
        (
            lambda: integrate(
                spectral_field(quadratic, principal_alpha, 1.5),
                jnp.ones(3),
                jnp.array([0.0, 1.0]),
            ),
            "complex dtype",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
