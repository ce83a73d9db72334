import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games_for_tests import flat

from ddlib.drift import modified_terms, published_drift
from ddlib.games import Players, common_payoff, game_field, linear_game, zero_sum
from ddlib.methods import alternating_euler, simultaneous_euler
from ddlib.regularizers import (
    DriftTerms,
    cancel_interaction,
    consensus,
    drift_terms,
    locally_stable,
    minibatch_regularized_losses,
    ode_gan,
    regularized_field,
    regularized_losses,
    sga,
)
from ddlib.stability import jacobian

H = 0.3
# method, number of updates
PLAY = [
    ("simultaneous", Players(1, 1)),
    ("alternating", Players(1, 1)),
    ("alternating", Players(2, 3)),
]


def waves(seed):
    """A smooth function of players of 3 and 2 numbers, none of whose derivatives vanish."""
    rng = np.random.default_rng(seed)
    weights, mix, shift = rng.normal(size=6), rng.normal(size=(6, 5)) / 2, rng.normal(size=6)
    return lambda y: jnp.asarray(weights) @ jnp.sin(mix @ jnp.concatenate(y) + shift)


LOSSES = Players(waves(0), waves(1))  # a general-sum game
FIELD = game_field(LOSSES)
POINTS = Players(*(jnp.asarray(np.random.default_rng(2).normal(size=(4, n))) for n in (3, 2)))


def everywhere(*fields):
    """The values of several fields at four points, compiled as one program."""
    return jax.jit(jax.vmap(lambda y: [field(y) for field in fields]))(POINTS)


def assert_same(one, two, tolerance=1e-12):
    scale = 1 + np.abs(flat(two)).max()
    np.testing.assert_allclose(flat(one), flat(two), rtol=0, atol=tolerance * scale)


def apart(one, two):
    return np.abs(flat(one) - flat(two)).max()


@pytest.mark.parametrize(("method", "updates"), PLAY)
def test_own_clock_terms_are_the_published_drift(method, updates):
    """DD, Theorems 3.1 and 3.2: the field with the terms is (f, g) + h·drift, exactly."""

    @jax.jit
    @jax.vmap
    def both(alpha, lam, y):
        rates = Players(alpha, lam)
        terms = drift_terms(rates, H, updates, method)
        drift = published_drift(FIELD, rates, updates, method)(y)
        moved = jax.tree.map(lambda f, d: f + H * d, FIELD(y), drift)
        return regularized_field(FIELD, terms)(y), moved

    alphas, lams = jnp.array([[1.0, 0.5, 2.0, 0.3], [1.0, 1.5, 0.4, 0.7]])
    assert_same(*both(alphas, lams, POINTS))


@pytest.mark.parametrize(("method", "updates"), PLAY)
def test_joint_clock_terms_are_backward_error_analysis(method, updates):
    """On the one clock of h the field is (αf, λg) of the game with the terms, to first order."""

    @jax.jit
    @jax.vmap
    def both(alpha, lam, y):
        rates = Players(alpha, lam)
        f, g = regularized_field(FIELD, drift_terms(rates, H, updates, method, clock="joint"))(y)
        f0, f1 = modified_terms(step_of(FIELD, rates, method, updates), 1)(y)
        return Players(alpha * f, lam * g), jax.tree.map(lambda a, b: a + H * b, f0, f1)

    alphas, lams = jnp.array([[1.0, 0.5, 2.0, 0.3], [1.0, 1.5, 0.4, 0.7]])
    assert_same(*both(alphas, lams, POINTS))


def step_of(field, rates, method, updates):
    if method == "simultaneous":
        return simultaneous_euler(field, rates)
    return alternating_euler(field, rates, updates)


def test_the_clocks_agree_where_the_rates_do():
    rates = Players(0.7, 0.7)
    for method, updates in PLAY:
        own = drift_terms(rates, H, updates, method)
        joint = drift_terms(rates, H, updates, method, clock="joint")
        np.testing.assert_allclose(own, joint, rtol=1e-15)
    assert drift_terms(Players(0.2, 0.4)) == Players(DriftTerms(0.05, 0.1), DriftTerms(0.1, 0.2))
    assert drift_terms(Players(0.2, 0.4), clock="joint").phi.interaction == 0.2


@pytest.mark.parametrize(
    ("method", "updates"), [("simultaneous", Players(1, 1)), ("alternating", Players(2, 1))]
)
def test_cancelling_leaves_the_self_terms(method, updates):
    """f₁ of the step that cancels is −(α²/2m) f∇φf for φ: nothing of g, and likewise for θ."""
    m, k = updates

    @jax.jit
    @jax.vmap
    def terms_of(alpha, lam, y):
        rates = Players(alpha, lam)

        def step(h, y):
            terms = cancel_interaction(rates, h, updates, method, clock="joint")
            return step_of(regularized_field(FIELD, terms), rates, method, updates)(h, y)

        f, g = FIELD(y)
        rest = jax.tree.map(jnp.zeros_like, y)
        by_phi = jax.jvp(FIELD, (y,), (rest._replace(phi=f),))[1].phi
        by_theta = jax.jvp(FIELD, (y,), (rest._replace(theta=g),))[1].theta
        expected = Players(-(alpha**2) / (2 * m) * by_phi, -(lam**2) / (2 * k) * by_theta)
        plain = modified_terms(step_of(FIELD, rates, method, updates), 1)(y)[1]
        return modified_terms(step, 1)(y)[1], expected, plain

    alphas, lams = jnp.array([[0.7, 0.7, 2.0, 0.3], [0.7, 1.6, 0.4, 0.7]])
    cancelled, expected, plain = terms_of(alphas, lams, POINTS)
    assert_same(cancelled, expected)
    assert apart(plain, expected) > 0.1


def test_published_cancelling_leaves_something_at_unequal_rates():
    """The two-clock coefficients are not those of one clock."""
    rates = Players(0.7, 1.6)
    own, joint = (cancel_interaction(rates, H, clock=clock) for clock in ("own", "joint"))
    assert own.phi.interaction == joint.theta.interaction == -0.7 * H / 2
    assert own.theta.interaction == joint.phi.interaction == -1.6 * H / 2


VALUE = waves(3)


def norms(y):
    """‖∇φE‖² and ‖∇θE‖² as losses."""
    return jax.tree.map(lambda g: jnp.sum(g**2), jax.grad(lambda y: VALUE(y))(y))


ALPHA, LAM = 0.7, 1.6
# DD, Table 1, in a zero-sum game: terms, and what they add to L₁ = −E and L₂ = E by hand
TABLE = {
    "cancel, simultaneous": (
        cancel_interaction(Players(ALPHA, LAM), H),
        lambda y: ALPHA * H / 4 * norms(y).theta,
        lambda y: LAM * H / 4 * norms(y).phi,
    ),
    "cancel, alternating": (
        cancel_interaction(Players(ALPHA, LAM), H, Players(2, 3), "alternating"),
        lambda y: ALPHA * H / 4 * norms(y).theta,
        lambda y: (1 - 2 * ALPHA / LAM) * LAM * H / 4 * norms(y).phi,
    ),
    "sga": (sga(0.8), lambda y: 0.4 * norms(y).theta, lambda y: 0.4 * norms(y).phi),
    "consensus": (
        consensus(0.8),
        lambda y: 0.8 * (norms(y).phi + norms(y).theta),
        lambda y: 0.8 * (norms(y).phi + norms(y).theta),
    ),
    "locally stable": (locally_stable(0.8), lambda y: 0.0, lambda y: 0.8 * norms(y).phi),
    "ode-gan": (ode_gan(0.8), lambda y: 0.8 * norms(y).theta, lambda y: 0.0),
}


@pytest.mark.parametrize("row", TABLE)
def test_zero_sum_rows_of_table_1(row):
    terms, first, second = TABLE[row]
    losses = zero_sum(VALUE)
    by_hand = Players(lambda y: losses.phi(y) + first(y), lambda y: losses.theta(y) + second(y))
    expected, got, plain = everywhere(
        game_field(by_hand), regularized_field(game_field(losses), terms), game_field(losses)
    )
    assert_same(got, expected)
    assert apart(plain, expected) > 0.1


def test_values_of_the_terms():
    """‖∇φL₁‖² and ‖∇θL₂‖² with their coefficients, and ⟨∇θL₁, ∇θL₂⟩ once."""
    terms = Players(DriftTerms(0.2, 0.3, 0.5), DriftTerms(0.7, 1.1, 1.3))

    def by_hand(y):
        of_first, of_second = jax.grad(LOSSES.phi)(y), jax.grad(LOSSES.theta)(y)
        a, c = of_first.phi @ of_first.phi, of_second.theta @ of_second.theta
        return (
            LOSSES.phi(y) + 0.2 * a + 0.3 * of_first.theta @ of_second.theta + 0.5 * c,
            LOSSES.theta(y) + 0.7 * c + 1.1 * of_second.phi @ of_first.phi + 1.3 * a,
        )

    losses = regularized_losses(LOSSES, terms)
    got, expected = everywhere(lambda y: (losses.phi(y), losses.theta(y)), by_hand)
    assert_same(got, expected)


def test_sga_is_the_adjustment_by_the_dense_jacobian():
    """ξ + λAᵀξ with ξ = (∇φL₁, ∇θL₂) and A = (J − Jᵀ)/2, for a general-sum game."""
    strength = 0.8

    def by_hand(y):
        xi = jnp.concatenate(jax.tree.map(jnp.negative, FIELD(y)))
        j = jacobian(lambda y: jax.tree.map(jnp.negative, FIELD(y)), y)
        adjusted = xi + strength * (j - j.T).T / 2 @ xi
        return Players(-adjusted[:3], -adjusted[3:])

    got, expected, plain = everywhere(regularized_field(FIELD, sga(strength)), by_hand, FIELD)
    assert_same(got, expected)
    assert apart(plain, expected) > 0.1


def test_sga_vanishes_in_common_payoff():
    field = game_field(common_payoff(VALUE))
    assert_same(*everywhere(regularized_field(field, sga(0.8)), field))


def test_losses_and_field_agree_and_coefficients_are_traced():
    """All coefficients at once, for random values of them: one program."""
    traces = []

    @jax.jit
    @jax.vmap
    def both(coefficients, y):
        traces.append(None)
        terms = Players(DriftTerms(*coefficients[0]), DriftTerms(*coefficients[1]))
        by_losses = game_field(regularized_losses(LOSSES, terms))(y)
        return by_losses, regularized_field(FIELD, terms)(y)

    for seed in range(5):
        assert_same(*both(jnp.asarray(np.random.default_rng(seed).normal(size=(4, 2, 3))), POINTS))
    assert len(traces) == 1


@pytest.mark.parametrize("make", [sga, consensus, locally_stable, ode_gan])
def test_strengths_are_traced(make):
    traces = []

    @jax.jit
    @jax.vmap
    def run(strength):
        traces.append(None)
        y = regularized_field(linear_game(0.1, 0.2), make(strength))(Players(1.0, 2.0))
        return jnp.stack(y)

    strengths = jnp.array([0.0, 0.5, 2.0])
    values = run(strengths)
    run(strengths + 1)
    assert len(traces) == 1
    np.testing.assert_allclose(values[0], [1.9, -1.4], rtol=1e-14)
    # the terms are linear in the strength
    np.testing.assert_allclose(values[2] - values[0], 4 * (values[1] - values[0]), rtol=1e-12)


def data_losses(seed):
    """Losses (y, batch) that are means over the batch, its examples far from alike."""
    rng = np.random.default_rng(seed)
    mix, weights = rng.normal(size=(3, 5)), rng.normal(size=3)

    def loss(y, batch):
        inputs, labels = batch
        z = jnp.sin(inputs * (mix @ jnp.concatenate(y))[None, :])
        return jnp.mean((z @ weights - labels) ** 2)

    return loss


def test_minibatch_estimates_are_unbiased():
    """The mean over all 81 batches of four from three examples is the full-batch quantity."""
    rng = np.random.default_rng(5)
    inputs, labels = rng.normal(size=(3, 3)), rng.normal(size=3)
    losses = Players(data_losses(6), data_losses(7))
    terms = Players(DriftTerms(0.2, 0.3, 0.5), DriftTerms(0.7, 1.1, 1.3))
    estimate = minibatch_regularized_losses(losses, terms)
    full = (jnp.asarray(inputs), jnp.asarray(labels))
    whole = regularized_losses(jax.tree.map(lambda f: lambda y: f(y, full), losses), terms)
    naive = Players(
        *(
            lambda y, batch, player=player: getattr(
                regularized_losses(jax.tree.map(lambda f: lambda y: f(y, batch), losses), terms),
                player,
            )(y)
            for player in ("phi", "theta")
        )
    )
    y = jax.tree.map(lambda x: x[0], POINTS)
    indices = np.array([*itertools.product(range(3), repeat=4)])
    batches = (inputs[indices], labels[indices])

    @jax.jit
    def means(y):
        def mean(fn):
            return jax.tree.map(
                lambda x: jnp.mean(x, 0), jax.vmap(lambda batch: fn(y, batch))(batches)
            )

        return [
            (mean(jax.value_and_grad(e)), jax.value_and_grad(w)(y), mean(n))
            for e, w, n in zip(estimate, whole, naive, strict=True)
        ]

    for got, expected, biased in means(y):
        assert_same(got, expected)
        assert abs(biased - expected[0]) > 0.01 * abs(expected[0])


def test_both_halves_count_alike():
    """Exchanging the halves changes nothing: both pairings of the interaction are used."""
    losses = Players(data_losses(6), data_losses(7))
    terms = Players(DriftTerms(0.2, 0.3, 0.5), DriftTerms(0.7, 1.1, 1.3))
    estimate = minibatch_regularized_losses(losses, terms).phi
    rng = np.random.default_rng(8)
    inputs, labels = rng.normal(size=(4, 3)), rng.normal(size=4)
    y = jax.tree.map(lambda x: x[0], POINTS)
    both = jax.jit(jax.value_and_grad(estimate))
    assert_same(both(y, (inputs, labels)), both(y, (np.roll(inputs, 2, 0), np.roll(labels, 2))))


@pytest.mark.parametrize("make", [regularized_losses, minibatch_regularized_losses])
def test_precision_of_the_losses_is_kept(make):
    rest = () if make is regularized_losses else (jnp.ones(2, jnp.float32),)
    losses = zero_sum(lambda y: jnp.sin(y.phi) * y.theta)
    if rest:
        losses = Players(lambda y, b: jnp.mean(b) * y.phi, lambda y, b: jnp.mean(b) * y.theta)
    terms = Players(DriftTerms(0.2, 0.3, 0.5), DriftTerms(0.7, 1.1, 1.3))
    y = Players(jnp.float32(0.5), jnp.float32(0.3))
    assert {loss(y, *rest).dtype for loss in make(losses, terms)} == {np.dtype("float32")}


def on_pair(batch):
    losses = Players(lambda y, b: jnp.mean(b[0]) * y.phi, lambda y, b: jnp.mean(b[0]) * y.theta)
    return minibatch_regularized_losses(losses, consensus(1.0)).phi(Players(0.0, 0.0), batch)


ONES = Players(1.0, 1.0)
BAD = {
    "odd batch": (lambda: on_pair((jnp.ones(3),)), r"batches of one even size, got .*\(3,\)"),
    "two sizes": (lambda: on_pair((jnp.ones(4), jnp.ones(2))), r"one even size, got .*\(2,\), \(4"),
    "no size": (lambda: on_pair((jnp.array(1.0),)), r"one even size, got .*\(\)"),
    "terms a tuple": (
        lambda: regularized_field(FIELD, (DriftTerms(),) * 2),
        "terms must be .*Play",
    ),
    "terms of floats": (
        lambda: regularized_losses(LOSSES, Players(0.1, DriftTerms())),
        "terms.phi must be a DriftTerms, got float",
    ),
    "terms on batches": (lambda: minibatch_regularized_losses(LOSSES, 1.0), "terms must be .*Play"),
    "losses a tuple": (lambda: regularized_losses((sum, sum), consensus(1.0)), "losses must be"),
    "losses on batches": (lambda: minibatch_regularized_losses(sum, consensus(1.0)), "losses must"),
    "state a tuple": (lambda: regularized_field(FIELD, sga())((1.0, 2.0)), "y must be .*Players"),
    "rates a tuple": (lambda: drift_terms((1.0, 1.0)), "rates must be .*Players"),
    "rates zero": (lambda: drift_terms(Players(0.0, 1.0)), "rates.phi must be positive, got 0.0"),
    "rates nan": (lambda: cancel_interaction(Players(1.0, np.nan)), "rates.theta must be finite"),
    "h zero": (lambda: drift_terms(ONES, 0.0), "h must be positive"),
    "method": (lambda: drift_terms(ONES, method="both"), "method must be .*got 'both'"),
    "clock": (lambda: drift_terms(ONES, clock="two"), "clock must be .*got 'two'"),
    "updates": (lambda: drift_terms(ONES, 1.0, (1, 1)), "num_updates must be .*Players"),
    "updates half": (lambda: drift_terms(ONES, 1.0, Players(1, 0.5)), "num_updates.theta must"),
    "updates at once": (lambda: drift_terms(ONES, 1.0, Players(2, 1)), "num_updates must be Play"),
    **{
        f"strength of {make.__name__}": (
            functools.partial(make, strength),
            f"strength must be {word}",
        )
        for make, strength, word in (
            (sga, -1.0, "zero or positive, got -1.0"),
            (consensus, np.inf, "finite"),
            (locally_stable, "a", "a real number"),
            (ode_gan, -1e-9, "zero or positive"),
        )
    },
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
