"""Modified losses: each against the general mechanism, and by its order of convergence."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games_for_tests import flat, flow, last_slope, norm, once, order_of

from ddlib.drift import modified_terms, published_drift
from ddlib.games import Players, common_payoff, game_field, gradient_field, zero_sum
from ddlib.methods import alternating_euler, compose, euler, simultaneous_euler
from ddlib.modified_losses import (
    alignment,
    common_payoff_game,
    epoch_mean,
    general_game,
    implicit_gradient_regularisation,
    n_step_sgd,
    zero_sum_game,
)

SIZES = 0.02 * 2.0 ** -np.arange(4)
RATES = Players(1.0, 0.6)


def batch_loss(y, batch):
    """A quartic of a vector of three."""
    a, b = batch
    z = a @ y + b
    return z @ z / 2 + jnp.sum(z * z * z) / 9 + jnp.sum(y * y * y * y) / 10


def batches_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(count, 2, 3))), jnp.asarray(rng.normal(size=(count, 2)))


POINT = jnp.asarray([0.4, -0.3, 0.6])


def each(batches):
    """The losses of single batches."""
    count = len(batches[0])
    return [
        partial(batch_loss, batch=jax.tree.map(lambda x, k=k: x[k], batches)) for k in range(count)
    ]


def sgd(batches):
    """n steps of size h each, one a batch: one step of the composition."""
    return compose(*(euler(gradient_field(loss)) for loss in each(batches)))


def shuffled(batches, order):
    return jax.tree.map(lambda x: x[jnp.asarray(order)], batches)


def apart(a, b):
    return np.abs(flat(a) - flat(b)).max()


# ----------------------------------------------------------------------------------- one objective


def test_igr_is_the_first_order_modified_flow_of_gradient_descent():
    (loss,) = each(batches_of(1))
    first, second = modified_terms(euler(gradient_field(loss)), 1)(POINT)
    slope = jax.jit(lambda h: gradient_field(implicit_gradient_regularisation(loss, h))(POINT))
    for h in (0.0, 0.05, 0.3):
        found = slope(h)
        assert apart(found, first + h * second) < 1e-12


def test_igr_halves_a_step_s_error_by_eight_where_the_loss_itself_has_four():
    (loss,) = each(batches_of(1))
    step = euler(gradient_field(loss))

    def error(h, on):
        field = gradient_field(implicit_gradient_regularisation(loss, on * h))
        return norm(flow(field, POINT, h), step(h, POINT))

    assert abs(order_of(partial(error, on=1.0), SIZES)[0] - 3) < 0.1
    assert abs(order_of(partial(error, on=0.0), SIZES)[0] - 2) < 0.1


@pytest.mark.parametrize("count", [1, 3])
def test_n_steps_of_sgd_are_the_mechanism_s_at_the_start(count):
    batches = batches_of(count)
    first, second = modified_terms(sgd(batches), 1)(POINT)  # on a clock on which they take h
    h = 0.07
    found = count * gradient_field(n_step_sgd(batch_loss, batches, h, POINT))(POINT)
    assert apart(found, first + h * second) < 1e-12


@pytest.mark.parametrize("count", [3])
def test_n_steps_of_sgd_follow_their_loss_to_third_order_and_the_full_batch_s_to_second(count):
    batches = batches_of(count)
    mean = lambda y: jax.vmap(batch_loss, (None, 0))(y, batches).mean()  # noqa: E731
    sizes = SIZES / count

    def error(h, kind):
        loss = {
            "n steps": lambda: n_step_sgd(batch_loss, batches, h, POINT),
            "full batch": lambda: implicit_gradient_regularisation(mean, count * h),
            "epoch mean": lambda: epoch_mean(batch_loss, batches, h),
        }[kind]()
        return norm(flow(gradient_field(loss), POINT, count * h), sgd(batches)(h, POINT))

    assert abs(order_of(partial(error, kind="n steps"), sizes)[0] - 3) < 0.1
    assert abs(order_of(partial(error, kind="full batch"), sizes)[0] - 2) < 0.1
    assert abs(order_of(partial(error, kind="epoch mean"), sizes)[0] - 2) < 0.1  # of one order


def test_the_mean_over_all_orders_follows_the_epoch_mean_to_third_order():
    batches = batches_of(3)
    orders = list(itertools.permutations(range(3)))

    def error(h, on):
        ends = [sgd(shuffled(batches, order))(h, POINT) for order in orders]
        field = gradient_field(epoch_mean(batch_loss, batches, on * h))
        return norm(flow(field, POINT, 3 * h), sum(ends) / len(ends))

    assert abs(order_of(partial(error, on=1.0), SIZES)[0] - 3) < 0.1
    assert abs(order_of(partial(error, on=0.0), SIZES)[0] - 2) < 0.1


def test_the_epoch_mean_is_the_mean_of_the_n_step_losses_gradients():
    batches, h = batches_of(4), 0.1
    orders = [jnp.asarray(order) for order in itertools.permutations(range(4))]
    slope = jax.jit(lambda b: gradient_field(n_step_sgd(batch_loss, b, h, POINT))(POINT))
    mean = sum(slope(shuffled(batches, order)) for order in orders) / len(orders)
    assert apart(mean, gradient_field(epoch_mean(batch_loss, batches, h))(POINT)) < 1e-12


def test_alignment_by_hand():
    batches, other = batches_of(4), POINT + 0.1
    here = [jax.grad(loss)(POINT) for loss in each(batches)]
    there = [jax.grad(loss)(other) for loss in each(batches)]
    by_hand = sum(there[m] @ here[t] for m in range(4) for t in range(m))
    np.testing.assert_allclose(alignment(batch_loss, batches, POINT)(other), by_hand, rtol=1e-12)
    by_h = jnp.stack(here)
    whole = (jnp.sum(by_h.sum(0) ** 2) - jnp.sum(by_h**2)) / 2
    forth = alignment(batch_loss, batches, POINT)(POINT)
    back = alignment(batch_loss, shuffled(batches, [3, 2, 1, 0]), POINT)(POINT)
    np.testing.assert_allclose((forth + back) / 2, whole, rtol=1e-12)


def test_the_start_is_held_constant_by_an_outer_derivative_too():
    batches = batches_of(3)

    def of(y):  # the start is the point itself: only the later factor may be differentiated
        return alignment(batch_loss, batches, y)(y)

    apart_from_it = jax.grad(alignment(batch_loss, batches, POINT))(POINT)
    assert apart(jax.grad(of)(POINT), apart_from_it) < 1e-12


# ------------------------------------------------------------------------------------- two players


PLAYS = {
    "simultaneous": ("simultaneous", Players(1, 1)),
    "alternating": ("alternating", Players(1, 1)),
    "alternating, m=2 k=3": ("alternating", Players(2, 3)),
}


def step_of(field, play, rates=RATES):
    method, updates = play
    if method == "simultaneous":
        return simultaneous_euler(field, rates)
    return alternating_euler(field, rates, updates)


def sum_of(y, h, drift, field):
    return jax.tree.map(lambda a, b: a + h * b, field(y), drift(y))


def scaled(y, rates=RATES):
    return Players(
        jax.tree.map(lambda x: rates.phi * x, y.phi),
        jax.tree.map(lambda x: rates.theta * x, y.theta),
    )


def game():
    """Losses of two players, of a pair of numbers and of one, that have nothing in common."""

    def first(y):
        a, b = y.phi
        return a * y.theta + b * b * y.theta * y.theta / 2 + a * b * b - a * y.theta**3 / 3 + b

    def second(y):
        a, b = y.phi
        return y.theta * y.theta * (a + b) - y.theta * b * b + a * a * b - y.theta * a / 2

    return Players(first, second), Players(jnp.asarray([0.7, -0.4]), jnp.asarray(0.5))


def kinds(losses):
    """Three games of two random losses, and who makes their modified losses."""
    value = losses.phi
    return {
        "general": (losses, [partial(general_game, losses)]),
        "zero-sum": (
            zero_sum(value), [partial(zero_sum_game, value), partial(general_game, zero_sum(value))]
        ),
        "common payoff": (
            common_payoff(value),
            [partial(common_payoff_game, value), partial(general_game, common_payoff(value))],
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "play"),
    [
        ("general", "simultaneous"),
        ("general", "alternating, m=2 k=3"),
        ("zero-sum", "alternating, m=2 k=3"),
        ("common payoff", "alternating"),
    ],
)
def test_a_game_s_modified_losses_are_the_theorems_and_the_mechanism_s(kind, play):
    losses, y = game()
    played, makers = kinds(losses)[kind]
    field, (method, updates), h = game_field(played), PLAYS[play], 0.13

    @once
    def all_of(y):
        published = sum_of(y, h, published_drift(field, RATES, updates, method), field)
        first, second = modified_terms(step_of(field, PLAYS[play]), 1)(y)
        joint = jax.tree.map(lambda a, b: a + h * b, first, second)
        frozen = general_game(played, RATES, h, updates, method, start=y)
        found = [game_field(make(RATES, h, updates, method))(y) for make in makers]
        ones = [scaled(game_field(make(RATES, h, updates, method, "joint"))(y)) for make in makers]
        return published, joint, [*found, game_field(frozen)(y)], ones

    published, joint, found, ones = all_of(y)
    for own in found:
        assert apart(own, published) < 1e-12
    for one in ones:
        assert apart(one, joint) < 1e-12
    assert apart(published, joint) > 1e-3  # the clocks differ, and the test can tell


@pytest.mark.parametrize("play", ["simultaneous", "alternating, m=2 k=3"])
def test_a_general_game_s_step_follows_its_modified_losses_to_third_order(play):
    losses, y = game()
    field = game_field(losses)
    method, updates = PLAYS[play]
    step = step_of(field, PLAYS[play])
    keep = jnp.asarray([1.0, 2.0, 0.0])  # of the self terms; 2 is the slides' h/2 before them

    @once
    def errors(h):
        modified = general_game(losses, RATES, h, updates, method, "joint", start=y)

        def error(keep):
            more = (keep - 1) * h / 4
            changed = Players(
                lambda z: (
                    modified.phi(z)
                    + more * RATES.phi / updates.phi * self_term(losses.phi, z, "phi")
                ),
                lambda z: (
                    modified.theta(z)
                    + more * RATES.theta / updates.theta * self_term(losses.theta, z, "theta")
                ),
            )
            return norm(flow(lambda z: scaled(game_field(changed)(z)), y, h), step(h, y))

        return jax.lax.map(error, keep)

    found = np.asarray([errors(h) for h in SIZES])
    slopes = [last_slope(SIZES, column) for column in found.T]
    np.testing.assert_allclose(slopes, [3, 2, 2], atol=0.1)


def self_term(loss, y, player):
    slope = jax.grad(lambda p: loss(y._replace(**{player: p})))(getattr(y, player))
    return jnp.sum(slope**2)


def test_common_payoff_at_one_rate_is_igr():
    losses, y = game()
    rates = Players(0.7, 0.7)
    modified = common_payoff_game(losses.phi, rates, 0.2)
    one = implicit_gradient_regularisation(losses.phi, 0.7 * 0.2)
    np.testing.assert_allclose(modified.phi(y), one(y), rtol=1e-12)
    np.testing.assert_allclose(modified.theta(y), one(y), rtol=1e-12)


def test_only_at_equal_rates_and_one_simultaneous_update_does_the_sum_stay_zero():
    losses, y = game()

    def total(rates, updates=Players(1, 1), method="simultaneous"):
        modified = zero_sum_game(losses.phi, rates, 0.2, updates, method)
        return abs(float(modified.phi(y) + modified.theta(y)))

    assert total(Players(1.0, 1.0)) < 1e-12
    squares = self_term(losses.phi, y, "phi"), self_term(losses.phi, y, "theta")
    np.testing.assert_allclose(  # (α − λ)h/4·(‖∇φE‖² − ‖∇θE‖²)
        total(Players(1.0, 0.6)), 0.4 * 0.05 * abs(squares[0] - squares[1]), rtol=1e-10
    )
    np.testing.assert_allclose(  # the alternating game at equal rates gains (h/2)‖∇φE‖²
        total(Players(1.0, 1.0), method="alternating"), 0.1 * squares[0], rtol=1e-10
    )


def test_rates_and_sizes_may_be_traced():
    losses, y = game()
    batches = batches_of(2)

    @jax.jit
    def values(h, rates):
        return (
            general_game(losses, rates, h, start=y).phi(y),
            zero_sum_game(losses.phi, rates, h, method="alternating").theta(y),
            n_step_sgd(batch_loss, batches, h, POINT)(POINT),
            epoch_mean(batch_loss, batches, h)(POINT),
        )

    given = jnp.asarray([0.1, 0.2])
    found = jax.vmap(values)(given, Players(given, given))
    for i, h in enumerate((0.1, 0.2)):
        np.testing.assert_allclose([x[i] for x in found], values(h, Players(h, h)), rtol=1e-12)


def test_single_precision_stays():
    y = jnp.asarray([1.0, 2.0], jnp.float32)
    h = jnp.asarray(0.1, jnp.float32)
    assert implicit_gradient_regularisation(lambda y: jnp.sum(y**2), h)(y).dtype == jnp.float32
    assert jax.grad(implicit_gradient_regularisation(lambda y: jnp.sum(y**2), 0.1))(y).dtype == (
        jnp.float32
    )


# ------------------------------------------------------------------------------------- bad input


def square(y):
    return jnp.sum(y**2)


def product(y, c):
    return jnp.sum(y * c)


ONES = jnp.ones(2)
GAME = Players(lambda y: y.phi * y.theta, lambda y: y.phi + y.theta)
AT = Players(1.0, 1.0)
BAD = {
    "no loss": (lambda: implicit_gradient_regularisation(3.0, 0.1), "loss must be a loss"),
    "a batch too many": (
        lambda: implicit_gradient_regularisation(product, 0.1),
        "loss must be a loss, a function of params alone",
    ),
    "no batch": (lambda: epoch_mean(square, ONES, 0.1), "loss must be .*params and batch"),
    "negative h": (lambda: implicit_gradient_regularisation(square, -0.1), "h must be zero or pos"),
    "nan h": (lambda: epoch_mean(product, ONES, float("nan")), "h must be finite"),
    "integers": (
        lambda: implicit_gradient_regularisation(square, 0.1)(jnp.arange(2)), "params must hold",
    ),
    "complex": (
        lambda: implicit_gradient_regularisation(square, 0.1)(1j * ONES), "params must hold real",
    ),
    "a vector": (
        lambda: implicit_gradient_regularisation(lambda y: y, 0.1)(ONES), "loss must return a sc",
    ),
    "a vector on batches": (
        lambda: epoch_mean(lambda y, c: y * c, ONES, 0.1)(ONES), "loss must return a scalar",
    ),
    "one number for batches": (lambda: epoch_mean(product, 1.0, 0.1), "batches must share"),
    "no batches": (lambda: n_step_sgd(product, jnp.ones((0, 2)), 0.1, ONES), "batches must share"),
    "unequal batches": (
        lambda: alignment(product, (jnp.ones((2, 1)), jnp.ones((3, 1))), ONES),
 "batches must share",
    ),
    "an integer start": (lambda: n_step_sgd(product, ONES, 0.1, 1), "start must hold"),
    "another start": (
        lambda: n_step_sgd(product, ONES, 0.1, jnp.ones(3))(jnp.ones(4)), "params must have the sh",
    ),
    "a field for losses": (
        lambda: general_game(lambda y: y, Players(1.0, 1.0)), "losses must be .*Players",
    ),
    "no losses": (
        lambda: general_game(Players(1.0, square), Players(1.0, 1.0)), "losses.phi must be a loss",
    ),
    "a zero rate": (lambda: general_game(GAME, Players(0.0, 1.0)), "rates.phi must be positive"),
    "one rate": (lambda: zero_sum_game(square, 0.1), "rates must be .*Players"),
    "updates": (
        lambda: common_payoff_game(square, Players(1.0, 1.0), 0.1, Players(2, 1)),
        "num_updates must be",
    ),
    "method": (
        lambda: zero_sum_game(square, Players(1.0, 1.0), 0.1, method="together"), "method must be",
    ),
    "clock": (
        lambda: zero_sum_game(square, Players(1.0, 1.0), 0.1, clock="mine"), "clock must be",
    ),
    "a start that is no game's": (
        lambda: general_game(GAME, Players(1.0, 1.0), start=(1.0, 1.0)), "start must be .*Players",
    ),
    "a y unlike start": (
        lambda: general_game(GAME, Players(1.0, 1.0), start=AT).phi(Players(ONES, ONES)),
        "y must have the shapes",
    ),
    "a y of integers": (
        lambda: zero_sum_game(GAME.phi, Players(1.0, 1.0)).phi(Players(1, 1)), "y must hold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make()
