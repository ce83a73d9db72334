import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.drift import modified_field, published_drift
from ddlib.games import Players, dirac_gan, game_field, linear_game
from ddlib.methods import alternating_euler, simultaneous_euler
from ddlib.regularizers import DriftTerms, drift_terms, regularized_field
from ddlib.stability import (
    eigenvalues,
    is_stable,
    jacobian,
    jacobian_product,
    largest_eigenvalues,
)

EPS = np.finfo(float).eps
ORIGIN = Players(jnp.zeros(()), jnp.zeros(()))
SLOPE = 0.5  # l'(0) of the Dirac-GAN
DIRAC = game_field(dirac_gan())


def published(field, rates, h, updates=Players(1, 1), method="simultaneous"):
    """The modified field as published, each player on its own clock."""
    drift = published_drift(field, rates, updates, method)
    return lambda y: jax.tree.map(lambda f, d: f + h * d, field(y), drift(y))


def at_rest(seed):
    """A general-sum game of players of 3 and 2 numbers that rests, nonlinearly, at the origin."""
    rng = np.random.default_rng(seed)

    def loss():
        quadratic, mix, weights = (
            rng.normal(size=(5, 5)),
            rng.normal(size=(4, 5)),
            rng.normal(size=4),
        )

        def value(y):
            x = jnp.concatenate(y)
            return x @ quadratic @ x / 2 + jnp.asarray(weights) @ (jnp.sin(mix @ x) - mix @ x)

        return value

    return game_field(Players(loss(), loss())), Players(jnp.zeros(3), jnp.zeros(2))


@pytest.mark.parametrize(
    ("method", "updates"),
    [("simultaneous", (1, 1)), ("alternating", (1, 1)), ("alternating", (2, 3))],
)
def test_modified_jacobian_at_an_equilibrium(method, updates):
    """J − (h/2) diag(α, λ) J² for simultaneous play, and its blocks for alternating."""
    field, y = at_rest(0)
    h, alpha, lam, (m, k) = 0.3, 0.7, 1.6, updates

    @jax.jit
    def both(h):
        modified = published(field, Players(alpha, lam), h, Players(m, k), method)
        return jacobian(field, y), jacobian(modified, y)

    j, got = map(np.asarray, both(h))
    a, b, c, d = j[:3, :3], j[:3, 3:], j[3:, :3], j[3:, 3:]
    seen = 1 if method == "simultaneous" else 1 - 2 * alpha / lam
    expected = j - h / 2 * np.block(
        [
            [alpha * (a @ a / m + b @ c), alpha * (a @ b / m + b @ d)],
            [lam * (seen * c @ a + d @ c / k), lam * (seen * c @ b + d @ d / k)],
        ]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    if method == "simultaneous":
        rates = np.diag([alpha] * 3 + [lam] * 2)
        np.testing.assert_allclose(got, j - h / 2 * rates @ j @ j, rtol=1e-12, atol=1e-12)
    assert np.abs(got - j).max() > 0.1


def test_equal_rates_move_eigenvalues_by_their_squares():
    """μ̃ = μ − (αh/2)μ²."""
    field, y = at_rest(1)
    h, alpha = 0.2, 0.7
    plain, moved = jax.jit(
        lambda h: (
            eigenvalues(field, y),
            eigenvalues(published(field, Players(alpha, alpha), h), y),
        )
    )(h)
    expected = plain - alpha * h / 2 * plain**2
    np.testing.assert_allclose(np.sort_complex(moved), np.sort_complex(expected), rtol=1e-10)


@pytest.mark.parametrize(
    ("eps", "method", "printed", "modulus", "stable"),
    [
        (0.2, "simultaneous", (-0.104, 1.040), 0.98061, True),  # DD, Fig. 2
        (0.2, "alternating", (-0.204, 1.015), 0.960, True),
        (0.09, "simultaneous", (0.00919, 1.0180), 1.00216, False),  # DD, Fig. 3
        (0.09, "alternating", (-0.0908, 1.0040), 0.982, True),
    ],
)
def test_linear_game_of_figures_2_and_3(eps, method, printed, modulus, stable):
    """Reference values derived by hand, as many digits as were written down."""
    values, verdict, flow, multipliers, joint = map(np.asarray, linear_verdicts(method)(eps))
    np.testing.assert_allclose(values[0].real, printed[0], rtol=5e-3, atol=0)
    np.testing.assert_allclose(abs(values[0].imag), printed[1], rtol=5e-4, atol=0)
    assert verdict == stable
    assert flow  # the flow always converges
    np.testing.assert_allclose(multipliers, modulus, atol=6e-6)
    assert (multipliers.max() < 1) == stable
    # the joint field of backward error analysis is the same at equal rates
    np.testing.assert_allclose(joint, values, rtol=1e-12)


@functools.cache
def linear_verdicts(method):
    h, rates = 0.2, Players(1.0, 1.0)

    def ask(eps):
        field = linear_game(eps, eps)
        modified = published(field, rates, h, method=method)
        make = {"simultaneous": simultaneous_euler, "alternating": alternating_euler}[method]
        step = make(field, rates)
        return (
            eigenvalues(modified, ORIGIN),
            is_stable(modified, ORIGIN),
            is_stable(field, ORIGIN),
            jnp.abs(eigenvalues(functools.partial(step, h), ORIGIN)),
            eigenvalues(modified_field(step, h, 1), ORIGIN),
        )

    return jax.jit(ask)


def test_dirac_flow_is_a_centre():
    values = np.asarray(eigenvalues(DIRAC, ORIGIN))
    np.testing.assert_allclose(values, [SLOPE * 1j, -SLOPE * 1j], atol=10 * EPS)
    assert not is_stable(DIRAC, ORIGIN)


@pytest.mark.parametrize(("alpha", "lam"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_dirac_modified_jacobians(alpha, lam):
    """Simultaneous unstable at all rates; the trace of alternating has the sign of λ − α.

    That trace is an artefact of two clocks: the step itself keeps |multiplier| = 1.
    """
    h = 0.1
    sim, alt, step, joint = map(np.asarray, dirac_jacobians()(h, alpha, lam))
    diagonal = np.array([alpha, lam]) * h * SLOPE**2 / 2
    spin = np.array([[0, SLOPE], [-SLOPE, 0]])
    np.testing.assert_allclose(sim, spin + np.diag(diagonal), atol=10 * EPS)
    assert np.all(np.linalg.eigvals(sim).real > 0)
    diagonal[1] -= alpha * h * SLOPE**2
    np.testing.assert_allclose(alt, spin + np.diag(diagonal), atol=10 * EPS)
    if alpha == lam:
        expected = SLOPE * np.sqrt(1 - (alpha * h * SLOPE) ** 2 / 4)
        np.testing.assert_allclose(np.linalg.eigvals(alt).imag, [expected, -expected], rtol=1e-14)
        assert f"{expected:.5f}" == "0.49984"
        np.testing.assert_allclose(np.linalg.eigvals(sim)[0], 0.0125 + 0.5j, atol=1e-4)
    else:
        assert np.sign(np.linalg.eigvals(alt).real).tolist() == [np.sign(lam - alpha)] * 2
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(step)), 1.0, atol=10 * EPS)
    assert abs(np.trace(joint)) <= 10 * EPS


@functools.cache
def dirac_jacobians():
    """Of the published fields, the alternating step and its joint field."""

    @jax.jit
    def ask(h, alpha, lam):
        rates = Players(alpha, lam)
        step = alternating_euler(DIRAC, rates)
        return (
            jacobian(published(DIRAC, rates, h), ORIGIN),
            jacobian(published(DIRAC, rates, h, method="alternating"), ORIGIN),
            jacobian(functools.partial(step, h), ORIGIN),
            jacobian(modified_field(step, h, 1), ORIGIN),
        )

    return ask


def test_dirac_with_explicit_terms():
    """With u‖∇θE‖² and ν‖∇φE‖², 2(αh/4 − u)l² and 2(λh/4 − ν)l² on the diagonal."""
    h, alpha, lam, u, nu = 0.1, 0.8, 1.3, 0.05, 0.01
    drift = drift_terms(Players(alpha, lam), h)
    terms = Players(
        DriftTerms(drift.phi.self_norm, drift.phi.interaction, u),
        DriftTerms(drift.theta.self_norm, drift.theta.interaction, nu),
    )
    got = jacobian(regularized_field(DIRAC, terms), ORIGIN)
    diagonal = 2 * SLOPE**2 * np.array([alpha * h / 4 - u, lam * h / 4 - nu])
    expected = np.array([[0, SLOPE], [-SLOPE, 0]]) + np.diag(diagonal)
    np.testing.assert_allclose(got, expected, atol=10 * EPS)


@pytest.mark.parametrize(("rate", "threshold"), [(0.1, 0.025016), (0.5, 0.12702)])
def test_discrete_threshold_of_explicit_regularisation(rate, threshold):
    """The smallest u at which the step's multipliers enter the unit circle, just above αh/4."""

    @jax.jit
    def growth(u):
        terms = Players(DriftTerms(other_norm=u), DriftTerms(other_norm=u))
        step = simultaneous_euler(regularized_field(DIRAC, terms), Players(1.0, 1.0))
        return jnp.abs(eigenvalues(functools.partial(step, rate), ORIGIN)).max() - 1

    low, high = rate / 4, rate / 2
    assert growth(low) > 0 > growth(high)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle) > 0 else (low, middle)
    # (1 − αh·u/2)² + (αh/2)² = 1
    assert low == pytest.approx(2 / rate * (1 - np.sqrt(1 - rate**2 / 4)), rel=1e-10)
    assert low == pytest.approx(threshold, rel=5e-5)


def test_jacobian_is_in_columns_phi_before_theta():
    """Entry (i, j) is ∂field_i/∂y_j over all leaves, for players that are pytrees."""
    matrix = np.random.default_rng(3).normal(size=(6, 6))

    def field(y):
        x = matrix @ jnp.concatenate([y.phi["a"].ravel(), y.phi["b"][None], y.theta])
        return Players({"a": x[:4].reshape(2, 2), "b": x[4]}, x[5:])

    y = Players({"a": jnp.ones((2, 2)), "b": jnp.array(2.0)}, jnp.ones(1))
    np.testing.assert_allclose(jacobian(field, y), matrix, rtol=10 * EPS)
    values = np.asarray(eigenvalues(field, y))
    assert np.all(np.diff(values.real) <= 0)
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(matrix)))


def test_a_map_of_eigenvalues_is_one_program():
    values = jax.jit(
        jax.vmap(lambda eps: (eigenvalues(linear_game(eps, eps), ORIGIN),
                              is_stable(linear_game(eps, eps), ORIGIN)))
    )(jnp.array([-0.1, 0.0, 0.2]))  # fmt: skip
    np.testing.assert_allclose(
        values[0], [[-e + 1j, -e - 1j] for e in (-0.1, 0.0, 0.2)], atol=1e-14
    )
    assert values[1].tolist() == [False, False, True]


def test_what_is_not_a_number_is_not_stable():
    assert not is_stable(lambda y: y * jnp.nan, jnp.ones(2))


@pytest.mark.parametrize("ask", [jacobian, eigenvalues, is_stable])
def test_a_field_of_another_size_is_named(ask):
    with pytest.raises(ValueError, match="got 3 of a y of 2"):
        ask(lambda y: jnp.ones(3), jnp.ones(2))


@pytest.mark.parametrize("ask", [jacobian, eigenvalues, is_stable])
def test_integer_points_are_named(ask):
    with pytest.raises(ValueError, match="y must hold floating-point or complex numbers, got int"):
        ask(lambda y: 2 * y, jnp.array([1, 2]))


def spread(seed, size=60):
    """A real matrix, far from normal, whose eigenvalues are known: pairs a ± ib and reals."""
    rng = np.random.default_rng(seed)
    blocks = np.diag(np.linspace(-3, 0.5, size))
    for i, (a, b) in enumerate([(0.4, 9.0), (-8.0, 2.0), (1.5, 0.5)]):
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[a, b], [-b, a]]
    basis = np.eye(size) + np.triu(rng.normal(size=(size, size)), 1) / size
    return basis @ blocks @ np.linalg.inv(basis)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        ("magnitude", [0.4 + 9j, 0.4 - 9j, -8 + 2j, -8 - 2j]),
        ("real", [1.5 + 0.5j, 1.5 - 0.5j, 0.5, 0.5 - 3.5 / 59]),
        ("imaginary", [0.4 + 9j, 0.4 - 9j, -8 + 2j, -8 - 2j]),
    ],
)
def test_largest_eigenvalues_of_a_large_jacobian(largest, expected):
    matrix = jnp.asarray(spread(0))

    def field(y):  # a frozen factor, which the Jacobian sees
        x = jnp.concatenate(y)
        out = matrix @ x + jax.lax.stop_gradient(x @ x) * x
        return Players(out[:20], out[20:])

    y = Players(jnp.zeros(20), jnp.zeros(40))
    start = Players(*jnp.split(jnp.asarray(np.random.default_rng(1).normal(size=60)), [20]))
    product = jax.jit(jacobian_product(field, y))
    found = largest_eigenvalues(product, start, 4, largest=largest, rtol=1e-10, max_restarts=400)
    np.testing.assert_allclose(found.values, expected, rtol=1e-8)
    assert (found.residuals <= 1e-8 * np.abs(expected)).all()
    few = largest_eigenvalues(product, start, 4, largest=largest, max_restarts=1)
    assert len(few.values) == len(few.residuals) <= 4


def test_largest_eigenvalues_of_matrices_too_small_for_a_search():
    field, y = at_rest(2)
    for num in (1, 4, 5):
        found = largest_eigenvalues(jacobian_product(field, y), y._replace(phi=jnp.ones(3)), num)
        dense = np.linalg.eigvals(np.asarray(jacobian(field, y)))
        sizes = np.sort(np.abs(dense))[::-1][:num]
        np.testing.assert_allclose(np.abs(found.values), sizes, rtol=1e-12)
        assert (found.residuals <= 1e-12 * sizes[0]).all()


def test_largest_eigenvalues_in_single_precision_keep_their_rounding():
    matrix = jnp.asarray(spread(3), jnp.float32)
    start = jnp.ones(60, jnp.float32)
    found = largest_eigenvalues(lambda v: matrix @ v, start, 2)
    np.testing.assert_allclose(found.values, [0.4 + 9j, 0.4 - 9j], rtol=1e-3)  # the default rtol


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, v: largest_eigenvalues(f, jnp.zeros(5), 1), "start must be finite and not zero"),
        (lambda f, v: largest_eigenvalues(f, v * jnp.nan, 1), "start must be finite and not zero"),
        (lambda f, v: largest_eigenvalues(f, v * 1j, 1), "start must hold real"),
        (lambda f, v: largest_eigenvalues(f, v, 6), "num must be at most 5 entries, got 6"),
        (lambda f, v: largest_eigenvalues(f, v, 0), "num must be an integer of at least 1"),
        (lambda f, v: largest_eigenvalues(f, v, 1, largest="LM"), "largest must be one of"),
        (lambda f, v: largest_eigenvalues(f, v, 1, rtol=-1.0), "rtol must be zero or positive"),
        (
            lambda f, v: jax.jit(lambda v: largest_eigenvalues(f, v, 1).values)(v),
            "start must hold numbers, got a traced array",
        ),
        (lambda f, v: jacobian_product(lambda h, y: y, v), "field must be a field"),
        (lambda f, v: jacobian(lambda h, y: y, v), "field must be a field"),
    ],
)
def test_bad_input_to_a_search_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda v: 2 * v, jnp.ones(5))
