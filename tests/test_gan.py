import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from games_for_tests import flat, last_slope

from ddlib import gan
from ddlib.drift import modified_terms
from ddlib.games import Players
from ddlib.gan import (
    Batch,
    Estimator,
    Game,
    Loss,
    Memory,
    Networks,
    Rule,
    Setting,
    Update,
    as_rule,
    draw_batches,
    gradients,
    init,
    least_squares,
    losses,
    make_step,
    mlp_networks,
    non_saturating,
    regularized_gradients,
    sample,
    saturating,
    sngan_networks,
    train,
    wasserstein,
)
from ddlib.methods import HEUN, RK4, alternating_euler, runge_kutta, simultaneous_euler
from ddlib.regularizers import (
    DriftTerms,
    cancel_interaction,
    minibatch_regularized_losses,
    regularized_losses,
    sga,
)
from ddlib.sngan import Discriminator, Generator

# These programs run once: what takes their time is the compiler.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

KEY = jax.random.key(0)
RATES = Players(0.3, 0.2)
SOME = Players(DriftTerms(0.2, 0.3, 0.5), DriftTerms(0.7, 1.1, 1.3))
LOSSES = {
    "saturating": saturating(),
    "non-saturating": non_saturating(),
    "least squares": least_squares(),
    "sigmoid least squares": least_squares(sigmoid=True),
    "zero-sum least squares": least_squares(zero_sum=True),
    "zero-sum sigmoid least squares": least_squares(sigmoid=True, zero_sum=True),
    "penalised Wasserstein": wasserstein(),
    "Wasserstein": wasserstein(0),
}
ZERO_SUM, GENERAL_SUM = wasserstein(0), least_squares()  # whose programs are the smallest


# --- A small pair with all that the large one has: a power iteration and a batch norm


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def unit(x):
    return x / jnp.linalg.norm(x)


def pair(*, normed=True):
    """Networks of one hidden layer of three, for data and latents of two numbers."""

    def power(phi, vector):
        right = unit(phi["kernel"] @ vector)
        return right, unit(right @ phi["kernel"])

    def judge(phi, vectors, x):
        kernel = phi["kernel"]
        if normed:
            right, left = jax.lax.stop_gradient(power(phi, vectors["left"]))
            kernel = kernel / (right @ kernel @ left)
        return jnp.tanh(x @ kernel + phi["bias"]) @ phi["out"]

    def refresh(phi, vectors):
        return {"left": power(phi, vectors["left"])[1]} if normed else vectors

    def draw(theta, statistics, z, train):
        y = z @ theta["kernel"]
        if normed and train:
            mean, var = y.mean(0), y.var(0)
            new = jax.lax.stop_gradient({"mean": mean, "var": var})
            statistics = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, statistics, new)
        elif normed:
            mean, var = statistics["mean"], statistics["var"]
        if normed:
            y = (y - mean) / jnp.sqrt(var + 0.1)
        return jnp.tanh(y) @ theta["out"] + theta["bias"], statistics

    phi = {"kernel": numbers(2, 3), "bias": numbers(3, seed=1), "out": numbers(3, seed=2)}
    theta = {
        "kernel": numbers(2, 3, seed=3),
        "out": numbers(3, 2, seed=4),
        "bias": numbers(2, seed=5),
    }
    vectors = {"left": numbers(3, seed=6)} if normed else {}
    statistics = {"mean": numbers(3, seed=7), "var": jnp.ones(3)} if normed else {}
    return Networks(
        Discriminator(lambda key: (phi, vectors), judge, refresh, (2,)),
        Generator(lambda key: (theta, statistics), draw, 2, (2,)),
    )


NETWORKS, PLAIN = pair(), pair(normed=False)
PLAYERS, MEMORY = gan.start(Game(NETWORKS, saturating()), KEY)
BATCHES = Batch(
    numbers(5, 4, 2, seed=8) + 1,
    numbers(5, 4, 2, seed=9),
    jnp.asarray(np.random.default_rng(10).uniform(size=(5, 4))),
)
BATCH = jax.tree.map(lambda x: x[0], BATCHES)


def first(n):
    return jax.tree.map(lambda x: x[:n], BATCHES)


def assert_same(one, two, tolerance=1e-12):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    scale = 1 + np.abs(flat(two)).max()
    np.testing.assert_allclose(flat(one), flat(two), rtol=0, atol=tolerance * scale)


def apart(one, two):
    return np.abs(flat(one) - flat(two)).max()


def assert_identical(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


# --- Losses


def logistic(x):
    return 1 / (1 + np.exp(-x))


REAL, FAKE = np.array([-1.0, 0.5, 2.0]), np.array([0.3, -2.0, 1.0])
VALUES = {
    "saturating": (
        -np.log(logistic(REAL)).mean() - np.log(1 - logistic(FAKE)).mean(),
        np.log(1 - logistic(FAKE)).mean(),
    ),
    "non-saturating": (
        -np.log(logistic(REAL)).mean() - np.log(1 - logistic(FAKE)).mean(),
        -np.log(logistic(FAKE)).mean(),
    ),
    "least squares": (((REAL - 1) ** 2).mean() + (FAKE**2).mean(), ((FAKE - 1) ** 2).mean()),
    "sigmoid least squares": (
        ((logistic(REAL) - 1) ** 2).mean() + (logistic(FAKE) ** 2).mean(),
        ((logistic(FAKE) - 1) ** 2).mean(),
    ),
    "zero-sum least squares": (((REAL - 1) ** 2).mean() + (FAKE**2).mean(), -(FAKE**2).mean()),
    "zero-sum sigmoid least squares": (
        ((logistic(REAL) - 1) ** 2).mean() + (logistic(FAKE) ** 2).mean(),
        -(logistic(FAKE) ** 2).mean(),
    ),
    "penalised Wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "Wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas(name):
    loss = LOSSES[name]
    np.testing.assert_allclose(loss.phi(REAL, FAKE), VALUES[name][0], rtol=1e-14)
    np.testing.assert_allclose(loss.theta(FAKE), VALUES[name][1], rtol=1e-14)
    assert loss.gradient_penalty == (10 if name == "penalised Wasserstein" else 0)


@pytest.fixture(scope="module")
def slopes():
    """Of each loss: both players' gradients of both losses, and what `gradients` says."""

    @quick
    def all_of_them(players):
        found = {}
        for name, loss in LOSSES.items():
            game = Game(NETWORKS, loss)
            own = gradients(game, players, MEMORY, BATCH)
            of_losses = [
                jax.grad(lambda y, i=i, game=game: losses(game, y, MEMORY, BATCH)[i])(players)
                for i in range(2)
            ]

            def generators(y, loss=loss):  # its loss as it is written, whatever is said of the sum
                fake, _ = NETWORKS.theta.apply(y.theta, MEMORY.statistics, BATCH.z, True)
                return loss.theta(NETWORKS.phi.apply(y.phi, MEMORY.vectors, fake))

            found[name] = own, *of_losses, jax.grad(generators)(players)
        return found

    return all_of_them(PLAYERS)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_losses(slopes, name):
    own, of_first, of_second, of_generators = slopes[name]
    assert_same(own, Players(of_first.phi, of_second.theta))
    assert_same(own.theta, of_generators.theta)
    assert apart(own.theta, jax.tree.map(jnp.zeros_like, own.theta)) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
def test_a_game_is_zero_sum_where_the_generators_gradients_add_to_zero(slopes, name):
    _, of_first, _, of_generators = slopes[name]
    add_to_zero = apart(of_generators.theta, jax.tree.map(jnp.negative, of_first.theta)) < 1e-12
    assert add_to_zero == (name == "saturating" or "zero-sum" in name or "Wasserstein" in name)
    assert LOSSES[name].zero_sum == (add_to_zero and not LOSSES[name].gradient_penalty)


def test_the_penalty_is_the_discriminators_alone(slopes):
    """It does not move with θ, though it is taken at points that do."""
    with_penalty, without = slopes["penalised Wasserstein"], slopes["Wasserstein"]
    assert_same(with_penalty[1].theta, without[1].theta)
    assert_same(with_penalty[0].theta, without[0].theta)
    assert apart(with_penalty[0].phi, without[0].phi) > 0.1


def test_the_penalty_of_a_linear_discriminator():
    """λ(‖w‖ − 1)², whatever the points."""
    w = jnp.array([3.0, 4.0])
    networks = PLAIN._replace(phi=PLAIN.phi._replace(apply=lambda w, vectors, x: x @ w))
    players, memory = PLAYERS._replace(phi=w), Memory({}, {})
    with_penalty, without = (
        losses(Game(networks, wasserstein(strength)), players, memory, BATCH)
        for strength in (2.5, 0)
    )
    np.testing.assert_allclose(with_penalty.phi - without.phi, 2.5 * 16, rtol=1e-12)


def test_the_penalty_is_taken_between_real_and_generated_samples():
    """At mix 0 on the real, at mix 1 on the generated: D = ‖x‖²/2 has slope ‖x‖."""
    networks = PLAIN._replace(
        phi=PLAIN.phi._replace(apply=lambda w, vectors, x: w * (x**2).sum(-1) / 2)
    )
    game, free = (Game(networks, wasserstein(strength)) for strength in (1.0, 0))
    players, memory = PLAYERS._replace(phi=jnp.ones(())), Memory({}, {})
    fake, _ = PLAIN.theta.apply(players.theta, {}, BATCH.z, True)
    for mix in (0.0, 1.0, 0.25):
        batch = BATCH._replace(mix=jnp.full(4, mix))
        points = (1 - mix) * BATCH.real + mix * fake
        expected = np.mean((np.linalg.norm(points, axis=1) - 1) ** 2)
        added = losses(game, players, memory, batch).phi - losses(free, players, memory, batch).phi
        np.testing.assert_allclose(added, expected, rtol=1e-9)


# --- Explicit regularisation


def random_terms(seed):
    values = np.random.default_rng(seed).normal(size=(2, 3))
    return Players(*(DriftTerms(*player) for player in values))


def losses_on(game, memory, batch):
    return Players(
        lambda y: losses(game, y, memory, batch).phi, lambda y: losses(game, y, memory, batch).theta
    )


def slopes_of(both):
    """(∇φL₁, ∇θL₂) of a `Players` of losses."""

    def of(y):
        return Players(
            jax.grad(lambda p: both.phi(y._replace(phi=p)))(y.phi),
            jax.grad(lambda p: both.theta(y._replace(theta=p)))(y.theta),
        )

    return of


REGULARIZED = {
    "zero-sum": Game(NETWORKS, ZERO_SUM),
    "general-sum": Game(NETWORKS, GENERAL_SUM),
    "with a penalty": Game(PLAIN, wasserstein()),
}


@pytest.mark.parametrize("name", REGULARIZED)
def test_biased_terms_are_those_of_the_losses(name):
    """On the whole batch they are `regularized_losses`, for any coefficients."""
    game = REGULARIZED[name]

    @quick
    def both(players, batch, terms):
        expected = slopes_of(regularized_losses(losses_on(game, MEMORY, batch), terms))(players)
        found = regularized_gradients(game, players, MEMORY, batch, terms, unbiased=False)
        return found, expected

    for seed in range(3):
        assert_same(*both(PLAYERS, BATCH, random_terms(seed)))


@pytest.mark.parametrize("name", ["zero-sum", "general-sum"])
def test_unbiased_terms_are_one_of_two_pairings_of_the_halves(name):
    """Their mean over both is `minibatch_regularized_losses`; each alone is something else."""
    game = REGULARIZED[name]

    @quick
    def ours(players, batch, terms):
        return regularized_gradients(game, players, MEMORY, batch, terms, halved=True)

    @quick
    def both_pairings(players, batch, terms):
        plain = Players(*(lambda y, b, i=i: losses(game, y, MEMORY, b)[i] for i in range(2)))
        both = minibatch_regularized_losses(plain, terms)
        return slopes_of(jax.tree.map(lambda loss: lambda y: loss(y, batch), both))(players)

    turned = jax.tree.map(lambda x: jnp.roll(x, 2, axis=0), BATCH)
    one, two = ours(PLAYERS, BATCH, SOME), ours(PLAYERS, turned, SOME)
    expected = both_pairings(PLAYERS, BATCH, SOME)
    assert_same(jax.tree.map(lambda a, b: (a + b) / 2, one, two), expected)
    assert apart(one, expected) > 1e-3


def test_slopes_are_the_whole_batchs_and_terms_the_halves():
    """The same terms whether or not the slopes are halved; batch norm tells the slopes apart."""
    game = Game(NETWORKS, GENERAL_SUM)

    none = Players(DriftTerms(None, None, None), DriftTerms(None, None, None))
    whole, halves = (
        quick(lambda h=h: regularized_gradients(game, PLAYERS, MEMORY, BATCH, none, halved=h))()
        for h in (False, True)
    )
    assert_same(whole, quick(functools.partial(gradients, game))(PLAYERS, MEMORY, BATCH))
    assert apart(whole, halves) > 1e-3
    terms = [
        jax.tree.map(
            jnp.subtract,
            quick(
                lambda h=h: regularized_gradients(game, PLAYERS, MEMORY, BATCH, SOME, halved=h)
            )(),
            plain,
        )
        for h, plain in ((False, whole), (True, halves))
    ]
    assert_same(*terms)
    assert np.abs(flat(terms[0])).max() > 0.01


def test_unbiased_terms_are_unbiased():
    """The mean over all 9 batches of two from three examples is the full-batch gradient."""
    game, memory = Game(PLAIN, GENERAL_SUM), Memory({}, {})
    data = jax.tree.map(lambda x: x[:3], BATCH)

    def mean(unbiased, indices):
        @quick
        def of(players, batches):
            found = jax.vmap(
                lambda batch: regularized_gradients(
                    game, players, memory, batch, SOME, unbiased=unbiased
                )
            )(batches)
            return jax.tree.map(lambda x: x.mean(0), found)

        return of(PLAYERS, jax.tree.map(lambda x: x[np.array(indices)], data))

    pairs = [*itertools.product(range(3), repeat=2)]
    whole = mean(False, [range(3)])
    assert_same(mean(True, pairs), whole)
    assert apart(mean(False, pairs), whole) > 0.01


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("name", ["zero-sum", "general-sum"])
def test_a_coefficient_that_is_none_is_zero_and_costs_nothing(name, unbiased):
    game = REGULARIZED[name]

    def size(slopes, *terms):
        return len(str(jax.make_jaxpr(slopes)(*terms)).splitlines())

    def with_terms(terms):
        return regularized_gradients(game, PLAYERS, MEMORY, BATCH, terms, unbiased=unbiased)

    zeros = Players(DriftTerms(), DriftTerms())
    nothing = jax.tree.map(lambda x: None, zeros)
    one = nothing._replace(phi=DriftTerms(None, 0.5, None))
    sizes = [size(with_terms, terms) for terms in (nothing, one, zeros)]
    assert sizes[0] < sizes[1] < sizes[2]
    if not unbiased:
        assert sizes[0] == size(lambda: gradients(game, PLAYERS, MEMORY, BATCH))


@pytest.mark.parametrize("name", ["zero-sum", "general-sum"])
def test_some_coefficients_of_none_are_as_zero(name):
    game = REGULARIZED[name]

    def some(kept, nothing):
        """SOME, with the terms that are not kept replaced: two sets, one for each player."""
        pairs = [zip(t, k, strict=True) for t, k in zip(SOME, kept, strict=True)]
        return Players(*(DriftTerms(*(x if k else nothing for x, k in pair)) for pair in pairs))

    @quick
    def slopes(players, terms):
        return regularized_gradients(game, players, MEMORY, BATCH, terms, unbiased=False)

    for kept in (((1, 0, 0), (0, 1, 1)), ((0, 1, 0), (0, 0, 1))):
        assert_same(slopes(PLAYERS, some(kept, None)), slopes(PLAYERS, some(kept, 0.0)))


# --- Drift of the steps


def of_field(game, memory, batch):
    """The field (−∇φL₁, −∇θL₂) on a minibatch, compiled once."""
    return functools.partial(_field(game), memory=memory, batch=batch)


@functools.lru_cache
def _field(game):
    @quick
    def field(y, memory, batch):
        return jax.tree.map(jnp.negative, slopes_of(losses_on(game, memory, batch))(y))

    return field


@pytest.mark.parametrize(
    ("method", "updates", "loss"),
    [
        ("simultaneous", Players(1, 1), GENERAL_SUM),
        ("alternating", Players(2, 1), ZERO_SUM),
    ],
)
def test_terms_add_themselves_to_the_drift_of_a_step(method, updates, loss):
    """With coefficients h·c, f₁ gains the terms of c; those that cancel leave the self terms."""
    game, memory, update = Game(PLAIN, loss), Memory({}, {}), Update(method, updates)
    rule = make_step(game, update, terms=True, unbiased=False)
    batches = jax.tree.map(lambda x: jnp.stack([x] * update.num_batches), BATCH)
    start = init(game, KEY, Setting(RATES, SOME), update)

    @quick
    def drift(y, c):
        def step(h, y):
            setting = Setting(*jax.tree.map(lambda x: h * x, (RATES, c)))
            return rule(start._replace(players=y, setting=setting), batches).players

        return modified_terms(step, 1)(y)

    @quick
    def added(y, c):
        """What terms add to the field, which is tested above."""
        plain = gradients(game, y, memory, BATCH)
        with_terms = regularized_gradients(game, y, memory, BATCH, c, unbiased=False)
        return scaled(RATES, jax.tree.map(jnp.subtract, plain, with_terms))

    nothing = Players(DriftTerms(), DriftTerms())
    cancel = cancel_interaction(RATES, 1.0, updates, method, clock="joint")
    of_self = [DriftTerms(self_norm=r / (4 * n)) for r, n in zip(RATES, updates, strict=True)]
    # of one type, so that the two programs are compiled once
    nothing, cancel, some, of_self = jax.tree.map(
        np.float64, (nothing, cancel, random_terms(1), Players(*of_self))
    )
    _, plain = drift(PLAYERS, nothing)
    for c in (some, cancel):
        f0, f1 = drift(PLAYERS, c)
        assert_same(f0, scaled(RATES, of_field(game, memory, BATCH)(PLAYERS)))
        assert_same(f1, jax.tree.map(jnp.add, plain, added(PLAYERS, c)))
    assert_same(f1, selfs := added(PLAYERS, of_self))
    assert apart(plain, selfs) > 1e-3


def scaled(rates, y):
    return Players(
        jax.tree.map(lambda x: rates.phi * x, y.phi),
        jax.tree.map(lambda x: rates.theta * x, y.theta),
    )


# --- Updates


@functools.lru_cache
def compiled(game, update=gan.SIMULTANEOUS, **options):
    return quick(make_step(game, update, **options))


THETA_FIRST = Update("alternating", Players(2, 3), "theta")
UPDATES = {
    "simultaneous": (Update(), lambda f: simultaneous_euler(f, RATES)),
    "alternating": (Update("alternating"), lambda f: alternating_euler(f, RATES)),
    "alternating, θ first": (
        THETA_FIRST,
        lambda f: alternating_euler(f, RATES, Players(2, 3), "theta"),
    ),
    "heun": (Update("heun"), lambda f: runge_kutta(f, HEUN, RATES)),
    "rk4": (Update("rk4"), lambda f: runge_kutta(f, RK4, RATES)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_are_the_librarys_steps(name):
    """With a fresh minibatch each time the field is asked, in order; and memory moves as it should.

    The discriminator's vectors take one step, from the start; the generator's statistics move with
    the generator's own passes: one after another if it moves several times, in the mean if its
    stages are one update.
    """
    update, method = UPDATES[name]
    game = Game(NETWORKS, GENERAL_SUM)
    batches = first(update.num_batches)
    asked = []

    def field(y):
        batch = jax.tree.map(lambda x: x[len(asked)], batches)
        asked.append((y, batch.z))
        return of_field(game, MEMORY, batch)(y)

    expected = method(field)(1.0, PLAYERS)
    assert len(asked) == update.num_batches
    start = init(game, KEY, Setting(RATES), update)
    state = compiled(game, update)(start, batches)
    assert_same(state.players, expected)
    assert_same(state.memory.vectors, NETWORKS.phi.refresh(PLAYERS.phi, MEMORY.vectors))
    statistics = MEMORY.statistics
    if update.method == "alternating":
        mine = asked[:3] if update.first == "theta" else asked[update.num_updates.phi :]
        for y, z in mine:
            _, statistics = NETWORKS.theta.apply(y.theta, statistics, z, True)
    else:
        moved = [NETWORKS.theta.apply(y.theta, statistics, z, True)[1] for y, z in asked]
        statistics = jax.tree.map(lambda *x: sum(x) / len(x), *moved)
    assert_same(state.memory.statistics, statistics)
    assert (int(state.step), int(state.diverged_at)) == (1, -1)
    assert_identical(state.setting, start.setting)
    assert_identical(state.key, start.key)


@pytest.mark.parametrize("name", ["simultaneous", "alternating"])
def test_a_player_without_a_rate_stays(name):
    """And its opponent moves as ever; the generator's statistics do, too."""
    update, game = UPDATES[name][0], Game(NETWORKS, GENERAL_SUM)
    start, step = init(game, KEY, Setting(RATES), update), compiled(game, update)
    batches = first(update.num_batches)
    free = step(start, batches)
    zero = jnp.zeros(())
    held = step(start._replace(setting=Setting(Players(start.setting.rates.phi, zero))), batches)
    assert_identical(held.players.theta, PLAYERS.theta)
    assert_identical(held.players.phi, free.players.phi)
    assert_same(held.memory.statistics, free.memory.statistics)
    held = step(start._replace(setting=Setting(Players(zero, start.setting.rates.theta))), batches)
    assert_identical(held.players.phi, PLAYERS.phi)
    assert_same(held.memory.statistics, free.memory.statistics)
    if name == "simultaneous":
        assert_identical(held.players.theta, free.players.theta)
    else:
        assert apart(held.players.theta, free.players.theta) > 1e-3  # it saw the other's move


def test_two_halves_move_statistics_as_two_batches_do():
    game = Game(NETWORKS, ZERO_SUM)
    start = init(game, KEY, Setting(RATES, SOME))
    whole = compiled(game, terms=True)(start, first(1))
    seen = NETWORKS.theta.apply(PLAYERS.theta, MEMORY.statistics, BATCH.z, True)[1]
    assert_same(whole.memory.statistics, seen)
    state = compiled(game, terms=True, halved=True)(start, first(1))
    halves = [
        NETWORKS.theta.apply(PLAYERS.theta, MEMORY.statistics, z, True)[1]
        for z in (BATCH.z[:2], BATCH.z[2:])
    ]
    assert_same(state.memory.statistics, jax.tree.map(lambda a, b: (a + b) / 2, *halves))
    ours = functools.partial(regularized_gradients, game, halved=True)
    slope = quick(ours)(PLAYERS, MEMORY, BATCH, SOME)
    expected = jax.tree.map(jnp.subtract, PLAYERS, scaled(RATES, slope))
    assert_same(state.players, expected)


def shrunk(state, h):
    return state._replace(
        setting=state.setting._replace(rates=jax.tree.map(lambda r: h * r, state.setting.rates))
    )


def test_the_implicit_midpoint_meets_its_equation():
    """z − y − f((y + z)/2) is O(h⁶) after four sweeps from Euler's slope."""
    game, update = Game(NETWORKS, GENERAL_SUM), Update("midpoint")
    start, step = init(game, KEY, Setting(RATES), update), compiled(game, update)
    field, sizes = of_field(game, MEMORY, BATCH), [1.0, 0.5, 0.25, 0.125]
    errors = []
    for h in sizes:
        state = step(shrunk(start, h), first(1))
        middle = jax.tree.map(lambda a, b: (a + b) / 2, PLAYERS, state.players)
        move = scaled(Players(h * RATES.phi, h * RATES.theta), field(middle))
        errors.append(apart(jax.tree.map(jnp.subtract, state.players, PLAYERS), move))
    assert last_slope(sizes, errors, floor=1e-13) == pytest.approx(gan.SWEEPS + 2, abs=0.3)
    seen = NETWORKS.theta.apply(PLAYERS.theta, MEMORY.statistics, BATCH.z, True)[1]
    assert apart(state.memory.statistics, seen) < 0.01
    assert_same(state.memory.vectors, NETWORKS.phi.refresh(PLAYERS.phi, MEMORY.vectors))


def test_adams_and_bashforths_method_starts_with_euler_and_has_local_order_three():
    game, update = Game(NETWORKS, GENERAL_SUM), Update("adams-bashforth")
    start, step = init(game, KEY, Setting(RATES), update), compiled(game, update)
    field, sizes = of_field(game, MEMORY, BATCH), [0.4, 0.2, 0.1]
    one = step(start, first(1))
    assert_same(one.players, simultaneous_euler(field, RATES)(1.0, PLAYERS))
    assert_same(one.velocity, jax.tree.map(jnp.negative, field(PLAYERS)))
    two = step(one._replace(memory=MEMORY), first(1))
    slope = jax.tree.map(lambda f, g: 1.5 * f - 0.5 * g, field(one.players), field(PLAYERS))
    expected = jax.tree.map(jnp.add, one.players, scaled(RATES, slope))
    assert_same(two.players, expected)

    def flow(h, num_steps=10):
        y, exact = PLAYERS, runge_kutta(field, RK4, RATES)
        for _ in range(num_steps):
            y = exact(h / num_steps, y)
        return y

    errors = []
    for h in sizes:
        before = jax.tree.map(jnp.negative, field(flow(-h)))
        state = step(shrunk(start, h)._replace(velocity=before, step=start.step + 1), first(1))
        errors.append(apart(state.players, flow(h)))
    assert last_slope(sizes, errors) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("unbiased", [False, True])
def test_terms_enter_a_runge_kutta_step_once(unbiased):
    """The step without them, and Euler's step of the terms on the first stage's minibatch."""
    game, update = Game(NETWORKS, ZERO_SUM), Update("rk4")
    start = init(game, KEY, Setting(RATES, SOME), update)
    plain = compiled(game, update)(start, first(4)).players
    state = compiled(game, update, terms=True, unbiased=unbiased)(start, first(4))

    @quick
    def of_terms(players):
        """What the terms add: to the halves' mean, which batch norm makes another, if unbiased."""
        with_terms, without = (
            regularized_gradients(game, players, MEMORY, BATCH, terms, unbiased=unbiased)
            for terms in (SOME, Players(DriftTerms(), DriftTerms()))
        )
        return jax.tree.map(jnp.subtract, with_terms, without)

    expected = jax.tree.map(jnp.subtract, plain, scaled(RATES, of_terms(PLAYERS)))
    assert_same(state.players, expected)
    assert apart(state.players, plain) > 0.01


def regularized_field(game):
    """The field of the game with SOME terms, everything on the whole batch."""

    @quick
    def field(y):
        slope = regularized_gradients(game, y, MEMORY, BATCH, SOME, unbiased=False)
        return jax.tree.map(jnp.negative, slope)

    return field


def test_terms_are_part_of_the_slope_at_the_middle():
    game, update = Game(NETWORKS, GENERAL_SUM), Update("midpoint")
    start = init(game, KEY, Setting(RATES, SOME), update)
    step, field = compiled(game, update, terms=True, unbiased=False), regularized_field(game)
    errors = []
    for h in (0.1, 0.05):
        state = step(shrunk(start, h), first(1))
        middle = jax.tree.map(lambda a, b: (a + b) / 2, PLAYERS, state.players)
        move = scaled(Players(h * RATES.phi, h * RATES.theta), field(middle))
        errors.append(apart(jax.tree.map(jnp.subtract, state.players, PLAYERS), move))
    assert errors[1] < errors[0] / 16 < 1e-4  # of sixth order, as without terms


def test_terms_are_part_of_the_slope_that_adams_and_bashforth_remember():
    game, update = Game(NETWORKS, GENERAL_SUM), Update("adams-bashforth")
    start = init(game, KEY, Setting(RATES, SOME), update)
    step, field = compiled(game, update, terms=True, unbiased=False), regularized_field(game)
    one = step(start, first(1))
    assert_same(one.players, simultaneous_euler(field, RATES)(1.0, PLAYERS))
    assert_same(one.velocity, jax.tree.map(jnp.negative, field(PLAYERS)))
    two = step(one._replace(memory=MEMORY), first(1))
    slope = jax.tree.map(lambda f, g: 1.5 * f - 0.5 * g, field(one.players), field(PLAYERS))
    assert_same(two.players, jax.tree.map(jnp.add, one.players, scaled(RATES, slope)))


# --- Alignment


@pytest.mark.parametrize("loss", ["zero-sum least squares", "least squares"])
def test_alignment_is_the_sign_of_its_formula(loss):
    """By the dense Jacobian of ξ, at places where the sign is either."""
    game, size = Game(NETWORKS, LOSSES[loss]), flat(PLAYERS).size
    _, unravel = jax.flatten_util.ravel_pytree(PLAYERS)

    def slope(y):
        return jax.flatten_util.ravel_pytree(gradients(game, unravel(y), MEMORY, BATCH))[0]

    @quick
    def at(y):
        xi, jacobian = slope(y), jax.jacfwd(slope)(y)
        adjustment = (jacobian - jacobian.T).T @ xi / 2
        return xi, jacobian.T @ xi, adjustment

    ours = quick(functools.partial(regularized_gradients, game, unbiased=False, align=True))
    signs = set()
    for seed in range(12):
        y = flat(PLAYERS) + 2 * numbers(size, seed=seed)
        xi, uphill, adjustment = at(y)
        sign = np.sign((xi @ uphill) * (adjustment @ uphill) / size + 0.1)
        for strength in (0.01, 0.3, 10.0):  # it does not enter the sign
            found = ours(unravel(y), MEMORY, BATCH, sga(strength))
            expected = xi + sign * strength * adjustment
            np.testing.assert_allclose(flat(found), expected, rtol=1e-7, atol=1e-9)
        signs.add(float(sign))
    assert signs == {1.0, -1.0}


# --- Optimisers

SGD = Players(optax.sgd, optax.sgd)
ADAM = Players(functools.partial(optax.adam, b1=0.5), functools.partial(optax.adam, b1=0.5))


def test_sgd_is_gradient_descent():
    """The rates of sub-updates, too."""
    game = Game(NETWORKS, GENERAL_SUM)
    plain = init(game, KEY, Setting(RATES), THETA_FIRST)
    tuned = init(game, KEY, Setting(RATES), THETA_FIRST, SGD)
    for _ in range(3):
        plain = compiled(game, THETA_FIRST)(plain, BATCHES)
        tuned = compiled(game, THETA_FIRST, optimizers=SGD)(tuned, BATCHES)
    assert_same(tuned.players, plain.players)
    assert_same(tuned.memory, plain.memory)


def test_adam_is_its_recursion():
    """Kingma and Ba, Algorithm 1, with β₁ = 0.5, for each player by itself."""
    game = Game(NETWORKS, GENERAL_SUM)
    state = init(game, KEY, Setting(RATES), optimizers=ADAM)
    step = compiled(game, optimizers=ADAM)
    y, memory = PLAYERS, MEMORY
    m = v = jax.tree.map(jnp.zeros_like, y)
    for t in range(1, 4):
        batch = jax.tree.map(lambda x, t=t: x[t], BATCHES)
        state = step(state, jax.tree.map(lambda x: x[None], batch))
        g = jax.tree.map(jnp.negative, of_field(game, memory, batch)(y))
        m = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        move = jax.tree.map(
            lambda m, v, t=t: m / (1 - 0.5**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v
        )
        memory = state.memory
        y = jax.tree.map(jnp.subtract, y, scaled(RATES, move))
        assert_same(state.players, y, 1e-10)


# --- Rules


def test_parts_of_a_rule_by_name_are_the_rule():
    """And an update alone is the rule of nothing else."""
    whole = Rule(THETA_FIRST, True, Estimator(halved=True), SGD)
    parts = {"terms": True, "halved": True, "optimizers": SGD}
    assert as_rule(THETA_FIRST, **parts) == as_rule(update=THETA_FIRST, **parts) == whole
    assert as_rule(whole) == as_rule(Rule(THETA_FIRST, True), halved=True, optimizers=SGD) == whole
    assert as_rule(whole, update=Update()).update == Update()
    assert as_rule() == Rule() == as_rule(gan.SIMULTANEOUS)
    assert as_rule(terms=True, estimator=Estimator(align=True)).estimator == Estimator(align=True)
    game = Game(PLAIN, ZERO_SUM)
    assert make_step(game, whole) is make_step(game, THETA_FIRST, **parts)
    assert make_step(game, whole) is not make_step(game, THETA_FIRST, terms=True, optimizers=SGD)
    by_name, by_rule = (
        init(game, KEY, Setting(RATES), *given) for given in ((THETA_FIRST, SGD), (whole,))
    )
    assert_identical(by_name, by_rule)


# --- What compiles once


def test_rates_coefficients_and_seeds_compile_once():
    """A step serves them all, and equal arguments give the same one."""
    game = Game(NETWORKS, ZERO_SUM)
    step = compiled(game, terms=True)
    states = [
        init(game, jax.random.key(seed), Setting(rates, terms))
        for seed, rates, terms in (
            (0, RATES, SOME),
            (1, Players(0.1, 1), SOME),
            (2, Players(jnp.float32(0.1), np.float64(0.2)), Players(DriftTerms(), DriftTerms(1))),
        )
    ]
    ends = [step(state, first(1)) for state in states]
    assert step._cache_size() == 1
    assert apart(ends[0].players, ends[1].players) > 1e-3
    same = make_step(Game(NETWORKS, wasserstein(0)), Update("simultaneous"), terms=True)
    assert same is make_step(game, terms=True)
    assert same is not make_step(game, terms=False)


def counting(trace):
    """A loss that notes when it is traced."""

    def phi(real, fake):
        trace.append(None)
        return saturating().phi(real, fake)

    return saturating()._replace(phi=phi)


DATA = numbers(10, 2, seed=11)


def test_training_compiles_once():
    trace, traced = [], []
    game = Game(PLAIN, counting(trace))
    for seed in range(3):
        state = init(game, jax.random.key(seed), Setting(Players(0.1 + seed, 0.2)))
        train(game, state, DATA + seed, 4, batch_size=4, every=2)
        traced.append(len(trace))
    assert traced[0] == traced[2] > 0


# --- Minibatches


def test_minibatches_follow_from_key_and_step():
    game = Game(PLAIN, saturating())
    state = init(game, KEY, Setting(RATES))
    one = draw_batches(DATA, state, 2, 6, 3)
    assert_identical(one, draw_batches(DATA, state, 2, 6, 3))
    assert (one.real.shape, one.z.shape, one.mix.shape) == ((3, 6, 2), (3, 6, 2), (3, 6))
    later = draw_batches(DATA, state._replace(step=state.step + 1), 2, 6, 3)
    other = draw_batches(DATA, init(game, jax.random.key(1), Setting(RATES)), 2, 6, 3)
    for batch in (later, other):
        assert all(apart(getattr(batch, name), getattr(one, name)) > 0.01 for name in one._fields)
    rows = {tuple(row) for row in np.asarray(DATA)}
    assert {tuple(row) for row in np.asarray(one.real).reshape(-1, 2)} <= rows
    assert ((one.mix >= 0) & (one.mix <= 1)).all()
    assert apart(one.z[0], one.z[1]) > 0.01


def test_updates_of_more_minibatches_begin_with_the_same_one():
    """So runs of two methods with one key share the first of each step: chapters compare pairs."""
    state = init(Game(PLAIN, saturating()), KEY, Setting(RATES))
    one, four = (draw_batches(DATA, state, 2, 6, n) for n in (1, 4))
    assert_identical(one, jax.tree.map(lambda x: x[:1], four))


# --- Training


def run(game, state, until, **options):
    return train(
        game, state, DATA, until, batch_size=4, every=2, observe=lambda s: int(s.step), **options
    )


def test_training_resumes_to_the_bit():
    """And the state that is given stays."""
    game = Game(NETWORKS, saturating())
    start = init(game, KEY, Setting(RATES))
    options = {"update": Update("alternating")}
    reported = []
    whole, seen = run(game, start, 8, report=reported.append, **options)
    assert (seen, reported) == ([0, 2, 4, 6, 8], [2, 4, 6, 8])
    half, seen = run(game, start, 4, **options)
    assert seen == [0, 2, 4]
    again, seen = run(game, half, 8, **options)
    assert seen == [4, 6, 8]
    assert_identical(again, whole)
    done, seen = run(game, again, 8, **options)
    assert seen == [8]
    assert_identical(done, whole)
    assert apart(whole.players, start.players) > 1e-3
    assert int(whole.diverged_at) == -1


def test_training_is_its_steps_on_its_minibatches():
    """In chunks on the device as one by one; numbers of another precision are taken as they are."""
    game, update = Game(NETWORKS, GENERAL_SUM), Update("heun")
    start = init(game, KEY, Setting(RATES), update)
    data = np.asarray(DATA, np.float32)
    state = start
    for _ in range(4):
        batches = draw_batches(jnp.asarray(data, float), state, 2, 4, 2)
        state = compiled(game, update)(state, batches)
    found, _ = train(game, start, data, 4, update=update, batch_size=4, every=4)
    assert_same(found, state)


@pytest.mark.parametrize(
    "options", [{"align": True}, {"unbiased": False}, {"halved": True}, {"align": False}]
)
def test_training_passes_on_how_terms_are_made(options):
    """At a place where alignment turns them."""
    game = Game(NETWORKS, ZERO_SUM)
    _, unravel = jax.flatten_util.ravel_pytree(PLAYERS)
    there = unravel(flat(PLAYERS) + 2 * numbers(flat(PLAYERS).size))
    start = init(game, KEY, Setting(RATES, sga(0.3)))._replace(players=there)
    batches = draw_batches(jnp.asarray(DATA), start, 2, 4, 1)
    steps = {str(o): compiled(game, terms=True, **o)(start, batches) for o in (options, {})}
    found, _ = train(game, start, DATA, 1, terms=True, batch_size=4, **options)
    assert_same(found.players, steps[str(options)].players)
    differs = apart(found.players, steps["{}"].players) > 1e-3
    assert differs == (options != {"align": False})


@pytest.mark.parametrize("every", [1, 5])
def test_divergence_is_noted_at_its_step(every):
    """φ grows by the factor 1 + 10⁵⁰ a step: 10³⁰⁰ is a number, 10³⁵⁰ is none."""
    networks = PLAIN._replace(
        phi=Discriminator(
            lambda key: (jnp.ones(()), {}),
            lambda phi, vectors, x: jnp.broadcast_to(phi, x.shape[:1]),
            lambda phi, vectors: vectors,
            (2,),
        )
    )
    grow = Loss(
        lambda real, fake: -jnp.mean(real**2) / 2, lambda fake: 0.0 * fake.sum(), False, 0.0, ""
    )
    game = Game(networks, grow)
    start = init(game, KEY, Setting(Players(1e50, 1.0)))
    state, seen = train(
        game, start, DATA, 30, batch_size=2, every=every, observe=lambda s: int(s.step)
    )
    assert int(state.diverged_at) == 7
    assert seen[-1] == (7 if every == 1 else 10)
    again, more = train(
        game, state, DATA, 30, batch_size=2, every=every, observe=lambda s: int(s.step)
    )
    assert more == seen[-1:]  # it stays ended
    assert_identical(again, state)


def test_images_are_trained():
    """The large pair in small, one step by one."""
    game = Game(sngan_networks(size=8, width=1 / 64, latents=2), saturating())
    start = filled(game)
    images = np.tanh(numbers(6, 8, 8, 3))
    state, seen = train(
        game,
        start,
        images,
        2,
        batch_size=4,
        every=2,
        observe=lambda s: jax.tree.map(np.asarray, s.memory.statistics),
    )
    assert (int(state.step), int(state.diverged_at)) == (2, -1)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for a, b in zip(*(map(jax.tree.leaves, (state.players, start.players))), strict=True):
        assert a.dtype == b.dtype and np.isfinite(a).all()
    for vectors in jax.tree.leaves(state.memory.vectors):
        np.testing.assert_allclose(np.sum(vectors**2), 1, rtol=1e-9)
    for norm in seen[-1].values():  # a generator's pass a step
        np.testing.assert_allclose(norm["weight"], 1 - 0.999**2, rtol=1e-12)


def filled(game):
    """A start whose numbers are drawn by NumPy, which takes no compiler."""
    shapes = jax.eval_shape(lambda: init(game, KEY, Setting(RATES)))
    rng = np.random.default_rng(0)
    players, vectors = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / max(1, np.prod(x.shape[:-1])) ** 0.5),
        (shapes.players, shapes.memory.vectors),
    )
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    rates = jax.tree.map(jnp.asarray, RATES)
    return zero._replace(
        players=players,
        memory=Memory(vectors, zero.memory.statistics),
        setting=zero.setting._replace(rates=rates),
        diverged_at=zero.diverged_at - 1,
    )


# --- Samples


def test_samples_are_made_in_batches():
    game = Game(NETWORKS, saturating())
    state = init(game, KEY, Setting(RATES))._replace(step=jnp.array(1))
    found = sample(game, state, KEY, 5, batch_size=2)
    assert found.shape == (5, 2)
    assert len({tuple(row) for row in found}) == 5
    np.testing.assert_array_equal(sample(game, state, KEY, 4, batch_size=2), found[:4])
    other = sample(game, state, KEY, 5, batch_size=2, running=True)
    assert apart(other, found) > 1e-3
    z = jax.random.normal(jax.random.fold_in(KEY, 0), (2, 2))
    for running, samples in ((False, found), (True, other)):
        made, _ = NETWORKS.theta.apply(state.players.theta, MEMORY.statistics, z, not running)
        np.testing.assert_allclose(samples[:2], made, rtol=1e-12)


def test_perceptrons_are_their_formulas():
    networks = mlp_networks(3, (4,), latents=2, activation="tanh")
    assert (networks.phi.shape, networks.theta.shape, networks.theta.latents) == ((3,), (3,), 2)
    (phi, vectors), (theta, statistics) = networks.phi.init(KEY), networks.theta.init(KEY)
    x, z = numbers(5, 3), numbers(5, 2, seed=1)

    def by_hand(params, x):
        y = np.tanh(x @ params["layer_0"]["kernel"] + params["layer_0"]["bias"])
        return y @ params["layer_1"]["kernel"] + params["layer_1"]["bias"]

    logits = networks.phi.apply(phi, vectors, x)
    np.testing.assert_allclose(logits, by_hand(phi, x)[:, 0], rtol=1e-12)
    for mode in (True, False):
        samples, kept = networks.theta.apply(theta, statistics, z, mode)
        np.testing.assert_allclose(samples, by_hand(theta, z), rtol=1e-12)
        assert kept == statistics == networks.phi.refresh(phi, vectors) == {}


# --- Bad input

BAD_UPDATES = {
    "no update": ("alternating", "update must be an Update, got 'alternating'"),
    "method": (Update("euler"), "update.method must be one of simultaneous, .*got 'euler'"),
    "updates a tuple": (Update("alternating", (1, 1)), "num_updates must be .*Players"),
    "no updates": (Update("alternating", Players(0, 1)), "num_updates.phi must .* 1, got 0"),
    "half an update": (Update("alternating", Players(1, 1.5)), "num_updates.theta must be an int"),
    "updates at once": (Update("simultaneous", Players(2, 1)), r"must be Players\(1, 1\) if simul"),
    "stages and updates": (Update("rk4", Players(1, 2)), r"must be Players\(1, 1\) if rk4"),
    "updates a list": (Update("alternating", [1, 1]), "num_updates must be .*Players"),
    "first": (Update("alternating", first="both"), 'first must be "phi" or "theta", got \'both\''),
}


@pytest.mark.parametrize("case", BAD_UPDATES)
@pytest.mark.parametrize("where", ["init", "make_step", "train"])
def test_bad_updates_are_named(case, where):
    update, message = BAD_UPDATES[case]
    game = Game(PLAIN, saturating())
    calls = {
        "init": lambda: init(game, KEY, Setting(RATES), update),
        "make_step": lambda: make_step(game, update),
        "train": lambda: train(game, START, DATA, 2, update=update),
    }
    with pytest.raises(ValueError, match=message):
        calls[where]()


GAME = Game(PLAIN, saturating())
START = init(GAME, KEY, Setting(RATES))
NEVER = {"observe": lambda state: pytest.fail("training began")}
BAD = {
    "no such part": (lambda: make_step(GAME, method="rk4"), "Got unexpected field names: .*method"),
    "no estimator": (
        lambda: make_step(GAME, terms=True, estimator="halved"),
        "estimator must be an Estimator, got 'halved'",
    ),
    "no such option": (
        lambda: regularized_gradients(GAME, PLAYERS, MEMORY, BATCH, SOME, biased=True),
        "Got unexpected field names: .*biased",
    ),
    "rates a tuple": (lambda: init(GAME, KEY, Setting((0.1, 0.1))), "setting.rates must be .*Play"),
    "rates zero": (lambda: init(GAME, KEY, Setting(Players(0.1, 0.0))), "rates.theta must be posi"),
    "rates for many": (
        lambda: init(GAME, KEY, Setting(Players(np.array([0.1, 0.2]), 0.1))),
        r"setting.rates.phi must be one number, got shape \(2,\)",
    ),
    "terms nan": (
        lambda: init(GAME, KEY, Setting(RATES, Players(DriftTerms(), DriftTerms(0.0, np.nan)))),
        "terms.theta.interaction must be finite, got nan",
    ),
    "no data": (lambda: train(GAME, START, DATA[:0], 2, **NEVER), "data must have samples"),
    "optimizers made": (
        lambda: make_step(GAME, optimizers=Players(optax.sgd, optax.sgd(0.1))),
        "optimizers.theta must be a function from a rate",
    ),
    "optimizers made at the start": (
        lambda: init(GAME, KEY, Setting(RATES), optimizers=Players(optax.sgd(0.1), optax.sgd)),
        "optimizers.phi must be a function from a rate",
    ),
    "another game's state": (
        lambda: train(
            GAME,
            init(Game(mlp_networks(widths=(5,)), saturating()), KEY, Setting(RATES)),
            DATA,
            2,
            **NEVER,
        ),
        r"made for another game or other optimizers: its .*players.phi",
    ),
    "another descent's state": (
        lambda: train(
            GAME, init(GAME, KEY, Setting(RATES), optimizers=ADAM), DATA, 2, optimizers=SGD, **NEVER
        ),
        "made for another game or other optimizers: its .*optimizers",
    ),
    "alignment of other terms": (
        lambda: regularized_gradients(
            GAME,
            PLAYERS,
            MEMORY,
            BATCH,
            Players(DriftTerms(0.1, None, None), SOME.theta),
            align=True,
        ),
        "as regularizers.sga has them",
    ),
    "rates nan": (lambda: init(GAME, KEY, Setting(Players(np.nan, 1))), "rates.phi must be finite"),
    "setting": (lambda: init(GAME, KEY, RATES), "setting must be a Setting, got Players"),
    "terms a tuple": (lambda: init(GAME, KEY, Setting(RATES, (1, 1))), "terms must be .*Players"),
    "terms of floats": (
        lambda: init(GAME, KEY, Setting(RATES, Players(0.1, DriftTerms()))),
        "terms.phi must be a DriftTerms, got float",
    ),
    "terms given": (
        lambda: regularized_gradients(GAME, PLAYERS, MEMORY, BATCH, SOME.phi),
        "terms must be .*Players",
    ),
    "odd batch": (
        lambda: regularized_gradients(
            GAME, PLAYERS, MEMORY, jax.tree.map(lambda x: x[:3], BATCH), SOME
        ),
        "needs an even batch, got 3 samples",
    ),
    "odd batches": (
        lambda: train(GAME, START, DATA, 2, terms=True, batch_size=3, **NEVER),
        "batch_size must be even for the two-half estimator, got 3",
    ),
    "no batch": (lambda: train(GAME, START, DATA, 2, batch_size=0, **NEVER), "batch_size must be"),
    "data": (
        lambda: train(GAME, START, DATA[:, :1], 2, **NEVER),
        r"data must have shape \(n, 2\) and fit both networks, got \(10, 1\)",
    ),
    "networks": (
        lambda: train(
            Game(PLAIN._replace(phi=PLAIN.phi._replace(shape=(3,))), saturating()),
            START,
            DATA,
            2,
            **NEVER,
        ),
        r"fit both networks, got \(10, 2\) and a discriminator of \(3,\)",
    ),
    "steps": (
        lambda: train(GAME, START, DATA, 5, every=2, **NEVER),
        "num_steps must lie a multiple of every=2 beyond step 0, got 5",
    ),
    "steps behind": (
        lambda: train(GAME, START._replace(step=jnp.array(4)), DATA, 2, every=2, **NEVER),
        "beyond step 4, got 2",
    ),
    "half a step": (lambda: train(GAME, START, DATA, 2.5, **NEVER), "num_steps must be an integer"),
    "every": (lambda: train(GAME, START, DATA, 2, every=0, **NEVER), "every must be an integer"),
    "optimizers with stages": (
        lambda: make_step(GAME, Update("rk4"), optimizers=SGD),
        "optimizers go with descent, not with rk4",
    ),
    "optimizers in training": (
        lambda: train(GAME, START, DATA, 2, update=Update("heun"), optimizers=SGD, **NEVER),
        "optimizers go with descent, not with heun",
    ),
    "optimizers a function": (lambda: make_step(GAME, optimizers=optax.sgd), "optimizers must be"),
    "batches": (
        lambda: make_step(GAME, Update("alternating"))(START, first(1)),
        r"leading axis of 2 for .*, got shape \(1, 4, 2\)",
    ),
    "no loss": (lambda: make_step(Game(PLAIN, "hinge")), "game.loss must be a Loss.*'hinge'"),
    "no networks": (
        lambda: init(Game(None, saturating()), KEY, Setting(RATES)),
        "must be Networks",
    ),
    "no game": (lambda: train(PLAIN, START, DATA, 2, **NEVER), "game must be a Game"),
    "no state": (lambda: train(GAME, PLAYERS, DATA, 2, **NEVER), "state must be a State"),
    "terms that do nothing": (
        lambda: train(GAME, init(GAME, KEY, Setting(RATES, SOME)), DATA, 2, **NEVER),
        "without terms=True they do nothing",
    ),
    "another's optimizers": (
        lambda: train(GAME, START, DATA, 2, optimizers=SGD, **NEVER),
        "must get the same optimizers; the state has none",
    ),
    "another's state": (
        lambda: train(GAME, START, DATA, 2, update=Update("adams-bashforth"), **NEVER),
        "made for another update than adams-bashforth",
    ),
    "halves of nothing": (lambda: make_step(GAME, halved=True), "goes with terms=True"),
    "gradients of halves of a whole": (
        lambda: regularized_gradients(
            GAME, PLAYERS, MEMORY, BATCH, SOME, unbiased=False, halved=True
        ),
        "with the two-half estimator",
    ),
    "halves of a whole": (
        lambda: make_step(GAME, terms=True, unbiased=False, halved=True),
        "with the two-half estimator",
    ),
    "alignment of nothing": (lambda: make_step(GAME, align=True), "goes with terms=True"),
    "alignment of one player": (
        lambda: regularized_gradients(
            GAME,
            PLAYERS,
            MEMORY,
            BATCH,
            SOME._replace(phi=DriftTerms(None, None, None)),
            align=True,
        ),
        "alignment needs terms of both players",
    ),
    "running statistics": (
        lambda: sample(GAME, START, KEY, 1, running=True),
        "no running statistics before the first step",
    ),
    "penalty": (lambda: wasserstein(-1), "gradient_penalty must be zero or positive, got -1"),
    "no sample": (lambda: sample(GAME, START, KEY, 0), "num_samples must be"),
    "no sample at once": (lambda: sample(GAME, START, KEY, 1, batch_size=0), "batch_size must be"),
    "widths": (lambda: mlp_networks(widths=(0,)), r"widths\[0\] must be"),
    "dimension": (lambda: mlp_networks(0), "inputs must be"),
    "size": (lambda: sngan_networks(size=12), "size must be a multiple of 8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
