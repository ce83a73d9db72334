import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddlib.games import (
    Players,
    common_payoff,
    dirac_gan,
    game_field,
    gradient_field,
    linear_game,
    zero_sum,
)

EPS, TINY = np.finfo(float).eps, np.finfo(float).tiny
reals = st.floats(-3, 3)


def bilinear(seed, n=3, m=2):
    """φᵀAθ + ½φᵀBφ + ½θᵀCθ with general B and C: value, two gradients in closed form, a point."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(n, m)), rng.normal(size=(n, n)), rng.normal(size=(m, m))

    def value(y):
        return y.phi @ a @ y.theta + y.phi @ b @ y.phi / 2 + y.theta @ c @ y.theta / 2

    def gradients(phi, theta):
        return a @ theta + (b + b.T) @ phi / 2, a.T @ phi + (c + c.T) @ theta / 2

    y = Players(jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=m)))
    return value, gradients, y


def test_gradient_field_descends():
    value, gradients, y = bilinear(0)
    field = gradient_field(value)(y)
    for got, gradient in zip(field, gradients(*y), strict=True):
        np.testing.assert_allclose(got, -gradient, rtol=100 * EPS)


def test_each_player_descends_its_own_loss():
    first, of_first, y = bilinear(1)
    second, of_second, _ = bilinear(2)
    f, g = game_field(Players(first, second))(y)
    np.testing.assert_allclose(f, -of_first(*y)[0], rtol=100 * EPS)
    np.testing.assert_allclose(g, -of_second(*y)[1], rtol=100 * EPS)


def test_zero_sum_first_climbs_and_second_descends():
    value, gradients, y = bilinear(3)
    losses = zero_sum(value)
    assert losses.phi(y) == -losses.theta(y) == -value(y)
    f, g = game_field(losses)(y)
    np.testing.assert_allclose(f, gradients(*y)[0], rtol=100 * EPS)
    np.testing.assert_allclose(g, -gradients(*y)[1], rtol=100 * EPS)


def test_common_payoff_is_one_gradient_flow():
    value, _, y = bilinear(4)
    field, whole = game_field(common_payoff(value))(y), gradient_field(value)(y)
    for a, b in zip(field, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=100 * EPS)


@settings(deadline=None)
@given(reals, reals, reals, reals)
def test_linear_game_is_its_matrix(eps1, eps2, phi, theta):
    """DD, Eq. 10, with −ε₂: trace −(ε₁ + ε₂), determinant ε₁ε₂ + 1 (errata: +ε₂ as printed)."""
    got = linear_game(eps1, eps2)(Players(phi, theta))
    expected = np.array([[-eps1, 1.0], [-1.0, -eps2]]) @ [phi, theta]
    np.testing.assert_allclose([got.phi, got.theta], expected, atol=40 * EPS)


def test_linear_game_converges_where_the_printed_sign_would_circle():
    field = linear_game(0.2, 0.2)
    columns = [field(Players(*e)) for e in np.eye(2)]
    values = np.linalg.eigvals(np.array(columns).T)
    np.testing.assert_allclose(values.real, -0.2, rtol=10 * EPS)


@settings(deadline=None)
@given(reals, reals)
@example(2.0, TINY)
def test_dirac_flow_keeps_the_radius(phi, theta):
    """DD, Eq. 18: f = l'(θφ)θ and g = −l'(θφ)φ with l'(z) = 1/(1 + e^z), so φf + θg = 0.

    XLA flushes what is smaller than `TINY` to zero: f and g may each be off by that much, and so
    may the two products and their sum.
    """
    f, g = game_field(dirac_gan())(Players(phi, theta))
    slope = 1 / (1 + np.exp(theta * phi))
    np.testing.assert_allclose([f, g], [slope * theta, -slope * phi], rtol=20 * EPS, atol=EPS)
    flushed = TINY * (abs(phi) + abs(theta) + 3)
    assert abs(phi * f + theta * g) <= 20 * EPS * slope * abs(phi * theta) + flushed


def test_dirac_losses_carry_the_real_sample_and_any_link():
    y = Players(jnp.array(0.7), jnp.array(-1.1))
    losses = dirac_gan()
    value = -np.log1p(np.exp(0.77)) - np.log(2)
    np.testing.assert_allclose([losses.phi(y), losses.theta(y)], [-value, value], rtol=10 * EPS)
    # Wasserstein: l(z) = z turns it into the linear game without friction
    f, g = game_field(dirac_gan(link=lambda z: z))(y)
    assert (f, g) == tuple(linear_game(0.0, 0.0)(y))


def test_players_may_be_pytrees_and_batches():
    def value(y):
        return jnp.sum(y.phi["w"] @ y.theta[0]) * y.phi["b"] + jnp.sum(y.theta[1] ** 2)

    y = Players(
        {"w": jnp.ones((2, 3)), "b": jnp.array(0.5)}, (jnp.arange(3.0), jnp.array([2.0, -1.0]))
    )
    field = game_field(zero_sum(value))
    got = jax.jit(field)(y)
    assert jax.tree.structure(got) == jax.tree.structure(y)
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, y)
    np.testing.assert_array_equal(got.phi["w"], 0.5 * np.tile([0.0, 1.0, 2.0], (2, 1)))
    np.testing.assert_array_equal(got.theta[1], [-4.0, 2.0])
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), y)
    doubled = jax.vmap(field)(batch)
    np.testing.assert_array_equal(doubled.theta[1], [[-4.0, 2.0], [-8.0, 4.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: game_field((jnp.sum, jnp.sum)), r"losses must be ddlib.games.Players.*got tuple"),
        (lambda: game_field(jnp.sum), r"losses must be ddlib.games.Players.*got"),
        (lambda: game_field(dirac_gan())((1.0, 2.0)), r"y must be ddlib.games.Players.*got tuple"),
        (lambda: linear_game(0.1, 0.1)([1.0, 2.0]), r"y must be ddlib.games.Players.*got list"),
    ],
)
def test_wrong_structure_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
