"""A loss may hold a factor constant; derivatives of its field must not.

Expected values: closed forms of polynomial games, and finite differences of the field's value.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ddlib import curvature, drift, flows, methods, stability
from ddlib import regularizers as reg
from ddlib.frozen import hold, thaw
from ddlib.games import Players, game_field, gradient_field, zero_sum

H = 0.2
RATES = Players(1.0, 0.5)
ORIGIN = Players(jnp.array(0.0), jnp.array(0.0))
AT = Players(jnp.array(0.3), jnp.array(0.7))
PRODUCT = zero_sum(lambda y: y.phi * y.theta)
TERMS = {
    "cancel": reg.cancel_interaction(RATES, H),
    "sga": reg.sga(1.0),
    "drift": reg.drift_terms(RATES, H),
    "everything": Players(reg.DriftTerms(0.3, -0.2, 0.1), reg.DriftTerms(0.1, 0.4, -0.2)),
}


def of_the_product(terms):
    """The Jacobian of the regularised game of φθ: L₁ = −φθ, L₂ = φθ.

    ‖∇φL₁‖² = θ² moves θ alone, ⟨∇θL₁, [∇θL₂]⟩ = −φ[φ] pulls φ by its factor times [φ], and
    ‖∇θL₂‖² = φ² by twice its factor; likewise for θ.
    """
    pull_phi = -terms.phi.interaction + 2 * terms.phi.other_norm
    pull_theta = -terms.theta.interaction + 2 * terms.theta.other_norm
    return np.array([[-pull_phi, 1.0], [-1.0, -pull_theta]])


def by_hand(terms):
    """The same game with the frozen factors written by the user."""

    def field(y):
        def first(phi):
            frozen = lax.stop_gradient(phi)
            return (
                -phi * y.theta
                + terms.phi.self_norm * y.theta**2
                - terms.phi.interaction * phi * frozen
                + terms.phi.other_norm * phi**2
            )

        def second(theta):
            frozen = lax.stop_gradient(theta)
            return (
                y.phi * theta
                + terms.theta.self_norm * y.phi**2
                - terms.theta.interaction * theta * frozen
                + terms.theta.other_norm * theta**2
            )

        return Players(-jax.grad(first)(y.phi), -jax.grad(second)(y.theta))

    return field


WAYS = {
    "from losses": lambda terms: game_field(reg.regularized_losses(PRODUCT, terms)),
    "from the field": lambda terms: reg.regularized_field(game_field(PRODUCT), terms),
    "by hand": by_hand,
    "jitted": lambda terms: jax.jit(game_field(reg.regularized_losses(PRODUCT, terms))),
    "checkpointed": lambda terms: jax.checkpoint(by_hand(terms)),
    "in a scan": lambda terms: (
        lambda y: lax.scan(lambda c, _: (by_hand(terms)(y), None), y, None, length=2)[0]
    ),
}


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("way", WAYS)
def test_jacobian_eigenvalues_and_verdict_are_those_of_the_game(way, name):
    field, expected = WAYS[way](TERMS[name]), of_the_product(TERMS[name])
    np.testing.assert_allclose(stability.jacobian(field, ORIGIN), expected, atol=1e-14)
    found = np.sort_complex(stability.eigenvalues(field, ORIGIN))
    np.testing.assert_allclose(found, np.sort_complex(np.linalg.eigvals(expected)), atol=1e-13)
    stable = bool(np.all(np.linalg.eigvals(expected).real < 0))
    assert bool(stability.is_stable(field, ORIGIN)) == stable


@pytest.mark.parametrize("way", WAYS)
def test_a_linear_field_s_drift_is_minus_half_its_square(way):
    """Simultaneous updates of ẏ = Jy: −½ diag(rates) J² y, Theorem 3.1 for linear fields."""
    terms = TERMS["everything"]
    y, matrix = np.array([AT.phi, AT.theta]), of_the_product(terms)
    expected = -np.diag(RATES) @ matrix @ matrix @ y / 2
    got = drift.published_drift(WAYS[way](terms), RATES)(AT)
    np.testing.assert_allclose(np.stack(got), expected, rtol=1e-13)


@pytest.mark.parametrize("way", WAYS)
def test_regularising_once_more_pulls_down_the_true_norms(way):
    """Consensus on a linear field: y ↦ Jy − γ∇φ(‖f‖² + ‖g‖²) and so on, each by its own rows."""
    terms, gamma = TERMS["everything"], 0.5
    y, matrix = np.array([AT.phi, AT.theta]), of_the_product(terms)
    expected = matrix @ y - 2 * gamma * matrix.T @ matrix @ y
    got = reg.regularized_field(WAYS[way](terms), reg.consensus(gamma))(AT)
    np.testing.assert_allclose(np.stack(got), expected, rtol=1e-13)


@pytest.mark.parametrize("way", ["from losses", "by hand"])
def test_implicit_steps_solve_the_game_s_own_equation(way):
    terms = TERMS["everything"]
    y, matrix = np.array([AT.phi, AT.theta]), of_the_product(terms)
    expected = np.linalg.solve(np.eye(2) - H * matrix / 2, (np.eye(2) + H * matrix / 2) @ y)
    got = methods.implicit_midpoint(WAYS[way](terms))(H, AT)
    np.testing.assert_allclose(np.stack(got), expected, rtol=1e-14)


def test_regularised_losses_can_be_regularised_again():
    terms, gamma = TERMS["everything"], 0.5
    y, matrix = np.array([AT.phi, AT.theta]), of_the_product(terms)
    once = reg.regularized_losses(PRODUCT, terms)
    twice = game_field(reg.regularized_losses(once, reg.locally_stable(gamma)))
    # ‖∇φL₁‖² of the regularised L₁ is that of row 0 of the matrix, for θ alone
    expected = matrix @ y - np.array([0.0, 2 * gamma * matrix[0, 1] * (matrix[0] @ y)])
    np.testing.assert_allclose(np.stack(twice(AT)), expected, rtol=1e-13)


def bent(y):
    """A game that is no polynomial, with a vector player."""
    return jnp.sum(jnp.sin(y.phi) * y.theta) + jnp.tanh(y.theta[0]) * jnp.cos(y.phi[1])


@pytest.mark.parametrize("transform", ["forward", "reverse", "twice", "vmapped", "jitted"])
def test_derivatives_of_a_field_are_its_finite_differences(transform):
    losses = reg.regularized_losses(zero_sum(bent), TERMS["everything"])
    fields = game_field(losses)

    def field(x):
        return jnp.concatenate(fields(Players(x[:2], x[2:])))

    x, v = jnp.array([0.3, -0.4, 0.7, 0.2]), jnp.array([0.5, 1.0, -0.3, 0.8])
    step = 1e-3  # central differences of fourth order: error about 1e-12, rounding 1e-12

    def along(fn):
        def at(t):
            return fn(x + t * step * v)

        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)

    if transform == "twice":
        slope = jax.jit(lambda x: jax.jvp(field, (x,), (v,))[1])
        got, expected = jax.jvp(slope, (x,), (v,))[1], along(slope)
    else:
        jacobian = {
            "forward": lambda x: jax.jacfwd(field)(x) @ v,
            "reverse": lambda x: jax.jacrev(field)(x) @ v,
            "jitted": jax.jit(lambda x: jax.jacfwd(jax.jit(field))(x) @ v),
            "vmapped": lambda x: jax.vmap(jax.jacfwd(field))(jnp.stack([x, 2 * x]))[0] @ v,
        }[transform]
        got, expected = jacobian(x), along(jax.jit(field))
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_a_gradient_field_s_own_frozen_parts_are_seen_too():
    """E = y·[y]: the field is −y, and its derivative −1, where the gradient's would be 0."""
    field = gradient_field(lambda y: jnp.sum(y * lax.stop_gradient(y)))
    y = jnp.array([0.5, 2.0])
    np.testing.assert_array_equal(field(y), -y)
    np.testing.assert_array_equal(stability.jacobian(field, y), -np.eye(2))
    np.testing.assert_array_equal(jax.jvp(field, (y,), (y,))[1], -y)


def test_the_hessian_of_a_frozen_loss_is_the_derivative_of_its_gradient():
    """E = Σ aᵢyᵢ·[yᵢ] has gradient a·y, so PF's flow contracts by log(1 − ha)/h."""
    a, h = jnp.array([0.5, 2.0]), 0.25
    y = jnp.array([1.0, 3.0])

    def loss(y):
        return jnp.sum(a * y * lax.stop_gradient(y))

    np.testing.assert_array_equal(curvature.hessian(loss, y), np.diag(a))
    expected = np.log(1 - h * a) / h * y
    for products in (None, 2):
        got = flows.spectral_field(loss, flows.principal_alpha, h, products)(y)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    _, coefficients = flows.stability_coefficients(loss, y, h)
    np.testing.assert_allclose(np.sort(coefficients.real), np.sort(expected), rtol=1e-12)


def test_a_gradient_that_is_none_has_no_eigendecomposition():
    """E = y₀·[y₁]: the gradient (y₁, 0) has the Jacobian ((0, 1), (0, 0))."""

    def loss(y):
        return y[0] * lax.stop_gradient(y[1]) + jnp.sum(y**2)

    y = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(curvature.hessian(loss, y), [[2.0, 1.0], [0.0, 2.0]])
    for call in (
        lambda: curvature.eigh(loss, y),
        lambda: flows.spectral_field(loss, flows.igr_alpha, 0.1)(y),
        lambda: flows.spectral_field(loss, flows.igr_alpha, 0.1, 2)(y),
        lambda: flows.critical_jacobian(loss, flows.igr_alpha, y, 0.1),
        lambda: flows.stability_coefficients(loss, y, 0.1),
        lambda: curvature.top_eigenpairs(curvature.hvp(loss, y), y, 1, num_matvecs=2),
    ):
        with pytest.raises(ValueError, match="must be symmetric to rounding"):
            call()


PROGRAMS = {
    "plain": (lambda x: lax.stop_gradient(x) * x, lambda x: x * x),
    "an output": (lax.stop_gradient, lambda x: x),
    "in jit": (jax.jit(lambda x: lax.stop_gradient(x) * x**2), lambda x: x**3),
    "in a loop": (
        lambda x: lax.fori_loop(0, 3, lambda _, c: lax.stop_gradient(c) * x, x),
        lambda x: x**4,
    ),
    "in a branch": (
        lambda x: lax.cond(x[0] > 0, lambda x: lax.stop_gradient(x) * x, jnp.sin, x),
        lambda x: x * x,
    ),
    "in a checkpoint": (jax.checkpoint(lambda x: lax.stop_gradient(x) * x), lambda x: x * x),
    "in a gradient": (
        lambda x: jax.grad(lambda p: jnp.sum(p * lax.stop_gradient(p**2)))(x),
        lambda x: x**2,
    ),
    "behind relu": (lambda x: jax.nn.relu(lax.stop_gradient(x) * x), lambda x: x * x),
    "softmax": (jax.nn.softmax, lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_thawed_programs_have_the_derivatives_of_their_values(name):
    (fn, plain), x = PROGRAMS[name], jnp.array([0.3, 0.7, 0.2])
    np.testing.assert_allclose(thaw(fn)(x), plain(x), rtol=1e-14)
    for transform in (jax.jacfwd, jax.jacrev, lambda f: jax.jacfwd(jax.jacrev(f))):
        np.testing.assert_allclose(transform(thaw(fn))(x), transform(plain)(x), atol=1e-13)


def test_what_is_held_for_good_stays_held():
    """The Jacobian of ∇(x²·[x])/2 = x·[x]: with x held it is [x] alone."""
    x = jnp.array([0.5, 2.0])
    field = gradient_field(lambda x: jnp.sum(x**2 * hold(x)) / 2)
    np.testing.assert_array_equal(field(x), -(x**2))
    np.testing.assert_array_equal(stability.jacobian(field, x), -np.diag(x))
    inside = jax.jit(lambda x: lax.fori_loop(0, 2, lambda _, c: c * hold(x), x))
    np.testing.assert_array_equal(jax.jacfwd(thaw(inside))(x), np.diag(x**2))


def test_a_loss_s_own_constants_are_constant_in_its_terms():
    """‖∇φL₁‖² of L₁ = φ²[θ], with θ a constant of the loss: θ feels no pull of it."""
    losses = Players(lambda y: y.phi**2 * lax.stop_gradient(y.theta), lambda y: y.theta**2)
    field = game_field(reg.regularized_losses(losses, reg.locally_stable(1.0)))
    np.testing.assert_allclose(np.stack(field(AT)), [-2 * 0.3 * 0.7, -2 * 0.7], rtol=1e-14)
