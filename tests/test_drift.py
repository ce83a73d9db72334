import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from games_for_tests import (
    flat,
    flow,
    last_slope,
    losses_of,
    norm,
    once,
    order_of,
    random_game,
    random_parameters,
    truncation_errors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ddlib.drift import (
    estimate_modified_field,
    modified_field,
    modified_terms,
    published_drift,
)
from ddlib.games import Players, game_field, gradient_field, linear_game, zero_sum
from ddlib.methods import (
    HEUN,
    RK4,
    alternating_euler,
    euler,
    implicit_midpoint,
    iterate,
    runge_kutta,
    simultaneous_euler,
)
from ddlib.regularizers import (
    cancel_interaction,
    consensus,
    regularized_field,
    regularized_losses,
)

SIZES = np.array([0.16, 0.08, 0.04, 0.02, 0.01, 0.005])
rates = st.floats(0.3, 2.0)

METHODS = {
    "simultaneous": lambda f, r: simultaneous_euler(f, r),
    "alternating": lambda f, r: alternating_euler(f, r),
    "alternating, 2 and 3 updates": lambda f, r: alternating_euler(f, r, Players(2, 3)),
    "alternating, theta first": lambda f, r: alternating_euler(f, r, first="theta"),
    "heun": lambda f, r: runge_kutta(f, HEUN, r),
    "rk4": lambda f, r: runge_kutta(f, RK4, r),
    "midpoint": lambda f, r: implicit_midpoint(f, r),
}


# A method of order q has f_1 = … = f_{q−1} = 0, and a symmetric one no odd terms: the local error
# against the field truncated at order 0, 1, 2, 3 then has these orders.
LOCAL_ORDERS = {
    "heun": [3, 3, 4, 5],
    "rk4": [5, 5, 5, 5],
    "midpoint": [3, 3, 5, 5],
}


# Every kind of program to the third term, its variants to the second.
HIGHEST = {
    "midpoint": 2,
    "rk4": 2,
    "alternating, 2 and 3 updates": 2,
    "alternating, theta first": 2,
}


@pytest.mark.parametrize("method", METHODS)
def test_truncated_field_meets_one_step_to_its_order(method):
    _, field, y = random_game(1)
    step = METHODS[method](field, Players(1.0, 0.6))
    highest = HIGHEST.get(method, 3)
    rows = truncation_errors(step, y, SIZES, highest)
    for order, errors in enumerate(rows):
        expected = LOCAL_ORDERS.get(method, [2, 3, 4, 5])[order]
        # the next term is smaller by a factor of order h, and h is 0.02 or less where it counts
        assert last_slope(SIZES, errors) == pytest.approx(expected, abs=0.2), (order, errors)


@pytest.mark.parametrize("method", METHODS)
def test_terms_of_linear_fields_are_the_logarithm_of_the_step(method):
    eps = (0.3, 0.7)
    step = METHODS[method](linear_game(*eps), Players(0.8, 1.3))
    at = Players(jnp.array(0.4), jnp.array(-0.9))

    def matrix(h):
        rows = [step(h, Players(*(jnp.array(v) for v in e))) for e in np.eye(2)]
        return np.array([[float(x) for x in row] for row in rows]).T

    h = 1e-2
    exact = scipy.linalg.logm(matrix(h)) @ flat(at) / h
    terms = once(modified_terms(step, 5))(at)
    series = sum(h**k * flat(term) for k, term in enumerate(terms))
    # the remainder is f_6 h^6, and |f_6| is of order one; logm costs eps/h
    np.testing.assert_allclose(series, exact, atol=10 * h**6 + 100 * np.finfo(float).eps / h)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=rates,
    lam=rates,
    updates=st.sampled_from([(1, 1), (2, 3)]),
    method=st.sampled_from(["simultaneous", "alternating"]),
)
def test_published_theorems_are_the_general_mechanism_on_two_clocks(
    seed, alpha, lam, updates, method
):
    """Theorems 3.1 and 3.2 against the joint field, for random games and rates.

    If φ at αh and θ at λh are read off one solution of (F, G), the pair moves on the clock of h
    as αF + (h/2)α(α − λ) G∇θF and λG + (h/2)λ(λ − α) F∇φG, to first order in h.
    """
    updates = Players(1, 1) if method == "simultaneous" else Players(*updates)
    joint, expected = joint_and_published(method, updates)(*random_parameters(seed), alpha, lam)
    scale = 1 + np.abs(flat(expected)).max()
    np.testing.assert_allclose(flat(joint), flat(expected), atol=1e-12 * scale)


@functools.cache
def joint_and_published(method, updates):
    def both(parameters, y, alpha, lam):
        field = game_field(losses_of(parameters))
        rates = Players(alpha, lam)
        if method == "simultaneous":
            step = simultaneous_euler(field, rates)
        else:
            step = alternating_euler(field, rates, updates)
        drift = published_drift(field, rates, updates, method)(y)
        f, g = field(y)
        rest = jax.tree.map(jnp.zeros_like, y)
        f_by_theta = jax.jvp(field, (y,), (rest._replace(theta=g),))[1].phi
        g_by_phi = jax.jvp(field, (y,), (rest._replace(phi=f),))[1].theta
        expected = Players(
            alpha * drift.phi + alpha * (alpha - lam) / 2 * f_by_theta,
            lam * drift.theta + lam * (lam - alpha) / 2 * g_by_phi,
        )
        return modified_terms(step, 1)(y)[1], expected

    return once(both)


@pytest.mark.parametrize(
    ("method", "updates"),
    [("simultaneous", Players(1, 1)), ("alternating", Players(1, 1)), ("alternating", (2, 3))],
)
def test_published_flow_read_on_two_clocks_has_third_order_local_error(method, updates):
    alpha, lam = 1.0, 0.5
    updates = Players(*updates)
    _, field, y = random_game(7)
    drift = published_drift(field, Players(alpha, lam), updates, method)
    if method == "simultaneous":
        step = simultaneous_euler(field, Players(alpha, lam))
    else:
        step = alternating_euler(field, Players(alpha, lam), updates)

    def error(h):
        def modified(y):
            return jax.tree.map(lambda v, d: v + h * d, field(y), drift(y))

        landed = Players(flow(modified, y, alpha * h).phi, flow(modified, y, lam * h).theta)
        return norm(landed, step(h, y))

    observed, errors = order_of(error, SIZES)
    assert observed == pytest.approx(3, abs=0.15), errors


def test_one_clock_reading_of_the_published_drift_is_only_second_order():
    """At unequal rates the published coefficients on one clock leave O(h²)."""
    alpha, lam = 0.25, 1.0
    _, field, y = random_game(3)
    step = simultaneous_euler(field, Players(alpha, lam))
    drift = published_drift(field, Players(alpha, lam))

    def one_clock(h):
        return lambda y: Players(
            alpha * (field(y).phi + h * drift(y).phi), lam * (field(y).theta + h * drift(y).theta)
        )

    def joint_clock(h):
        return modified_field(step, h, 1)

    published, _ = order_of(lambda h: norm(flow(one_clock(h), y, h), step(h, y)), SIZES)
    joint, _ = order_of(lambda h: norm(flow(joint_clock(h), y, h), step(h, y)), SIZES)
    assert published == pytest.approx(2, abs=0.15)
    assert joint == pytest.approx(3, abs=0.15)


def test_second_term_of_gradient_descent_is_the_third_order_flow():
    """PF, third-order flow: f₂ = −(⅓H²g + (1/12)∇³E[g, g])."""

    def loss(x):
        return jnp.sum(jnp.sin(x) * jnp.roll(x, 1) ** 2) + jnp.prod(jnp.cos(x)) + x @ x

    x = jnp.array([0.3, -0.8, 0.5])
    gradient, hessian = jax.grad(loss), jax.hessian(loss)
    g, h2 = gradient(x), hessian(x)
    third = jax.jvp(lambda z: hessian(z) @ g, (x,), (g,))[1]
    terms = once(modified_terms(euler(gradient_field(loss)), 2))(x)
    np.testing.assert_allclose(terms[0], -g, rtol=1e-13)
    np.testing.assert_allclose(terms[1], -h2 @ g / 2, rtol=1e-12)
    np.testing.assert_allclose(terms[2], -(h2 @ h2 @ g / 3 + third / 12), rtol=1e-12)


def test_rk4_follows_the_rescaled_field_and_drifts_from_the_paper_s_clocks():
    """With different rates RK4 has drift O(h) on the two clocks, O(h⁴) on one."""
    alpha, lam = 1.0, 0.4
    _, field, y = random_game(11)
    terms = once(modified_terms(runge_kutta(field, RK4, Players(alpha, lam)), 3))(y)
    scale = np.abs(flat(terms[0])).max()
    for term in terms[1:]:
        np.testing.assert_allclose(flat(term), 0, atol=1e-12 * scale)
    f, g = field(y)
    np.testing.assert_allclose(flat(terms[0]), flat(Players(alpha * f, lam * g)), rtol=1e-13)


@functools.cache
def errors_of_estimates():
    """At each step size, the errors of the estimates from one step, two, three and four."""
    _, field, y = random_game(5)
    step = alternating_euler(field, Players(1.0, 0.7))

    def errors(h):
        iterates, exact = iterate(step, h, y, 4), modified_field(step, h, 6)(y)
        some = [jax.tree.map(lambda x, n=n: x[: n + 1], iterates) for n in (1, 2, 3, 4)]
        return [norm(estimate_modified_field(first, h), exact) for first in some]

    return once(jax.vmap(errors))(jnp.asarray(SIZES / 4))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
def test_estimate_from_iterates_has_order_of_the_number_of_steps(num_steps):
    errors = errors_of_estimates()[num_steps - 1]
    assert last_slope(SIZES / 4, errors) == pytest.approx(num_steps, abs=0.2), errors


@pytest.mark.parametrize("terms", [consensus(0.1), cancel_interaction(Players(0.1, 0.1))])
def test_stop_gradient_in_a_loss_does_not_hide_its_drift(terms):
    """The step depends on h through stopped values too; nested forward mode would miss that."""
    losses, field, y = random_game(13, sizes=(2, 1))
    ways = (game_field(regularized_losses(losses, terms)), regularized_field(field, terms))
    found = [once(modified_terms(simultaneous_euler(way, Players(1.0, 1.0)), 1))(y) for way in ways]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(flat(a), flat(b), rtol=1e-10, atol=1e-12)


def test_terms_work_under_jit_vmap_and_with_traced_rates():
    _, field, y = random_game(2)

    @jax.jit
    def drift(alpha):
        return modified_terms(alternating_euler(field, Players(alpha, 1.0)), 1)(y)[1].phi

    many = jax.vmap(drift)(jnp.array([0.5, 2.0]))
    for alpha, got in zip((0.5, 2.0), many, strict=True):
        step = alternating_euler(field, Players(alpha, 1.0))
        np.testing.assert_allclose(got, modified_terms(step, 1)(y)[1].phi, rtol=1e-12)


def test_a_step_that_moves_at_rest_is_refused():
    def heavy_ball(h, y):
        position, velocity = y
        velocity = 0.9 * velocity - h * position
        return position + velocity, velocity

    with pytest.raises(ValueError, match=r"step\(0, y\) must return y"):
        modified_terms(heavy_ball, 1)((jnp.array(1.0), jnp.array(1.0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: modified_terms(s, -1), "order must be an integer of at least 0"),
        (lambda s: modified_terms(s, 1.5), "order must be an integer"),
        (lambda s: modified_field(s, float("nan"), 1), "h must be finite"),
        (lambda s: modified_field(s, -0.1, 1), "h must be zero or positive"),
        (lambda s: estimate_modified_field(jnp.ones((1, 2)), 0.1), "leading axis of length at"),
        (lambda s: estimate_modified_field(jnp.array(1.0), 0.1), "leading axis of length at"),
        (lambda s: estimate_modified_field((jnp.ones(2), jnp.ones(3)), 0.1), "share one leading"),
        (lambda s: estimate_modified_field(jnp.ones(3), 0.0), "h must be positive"),
        (lambda s: published_drift(lambda y: y, (1.0, 1.0)), "rates must be ddlib.games.Players"),
        (lambda s: published_drift(lambda y: y, Players(1.0, -1.0)), "rates.theta must be"),
        (lambda s: published_drift(lambda y: y, Players(1, 1), method="both"), "method must be"),
        (lambda s: published_drift(lambda y: y, Players(1, 1), Players(2, 1)), "num_updates must"),
        (
            lambda s: published_drift(lambda y: y, Players(1, 1), Players(0, 1), "alternating"),
            "num_updates.phi must be",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(euler(lambda y: -y))


def test_zero_sum_drift_is_the_gradient_of_the_modified_losses():
    """Corollaries 6.1 and 6.2, with the coefficients as printed."""
    losses, _, y = random_game(17)
    value = losses.phi
    field = game_field(zero_sum(value))
    alpha, lam, m, k = 0.7, 1.2, 2, 3

    def norms(player):
        def squared(y):
            g = jax.grad(lambda p: value(y._replace(**{player: p})))(getattr(y, player))
            return jnp.sum(g**2)

        return squared

    of_phi, of_theta = norms("phi"), norms("theta")
    for method, updates, c in (
        ("simultaneous", Players(1, 1), -1.0),
        ("alternating", Players(m, k), -(1 - 2 * alpha / lam)),
    ):
        drift = published_drift(field, Players(alpha, lam), updates, method)(y)
        own = updates
        first = jax.grad(
            lambda p, own=own: (
                alpha / (4 * own.phi) * of_phi(y._replace(phi=p))
                - alpha / 4 * of_theta(y._replace(phi=p))
            )
        )(y.phi)
        second = jax.grad(
            lambda p, own=own, c=c: (
                c * lam / 4 * of_phi(y._replace(theta=p))
                + lam / (4 * own.theta) * of_theta(y._replace(theta=p))
            )
        )(y.theta)
        np.testing.assert_allclose(drift.phi, -first, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(drift.theta, -second, rtol=1e-10, atol=1e-12)
