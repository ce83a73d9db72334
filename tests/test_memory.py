"""Steps with memory against closed forms, the literature and long runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from games_for_tests import flow

from ddlib import memory
from ddlib.drift import modified_field, modified_terms
from ddlib.games import Players, game_field, gradient_field, linear_game
from ddlib.memory import memoryless, optimizer_step
from ddlib.methods import iterate

M = 0.3  # the series in h converges to (1 − √m)²/λ, of heavy ball: small decays, small steps


def loss(y):
    bowl = jnp.cosh(y[0]) + 0.5 * y[1] ** 2 * (1 + 0.3 * y[0])
    return bowl + 0.1 * y[1] ** 4 + 0.2 * y[0]


FIELD = gradient_field(loss)
Y = np.array([0.7, -0.4])


def smooth_lion(b1, b2, width):
    """Lion with tanh(·/width) in place of the sign."""

    def update(gradient, state, params=None):
        turned = jax.tree.map(
            lambda g, m: -jnp.tanh((b1 * m + (1 - b1) * g) / width), gradient, state
        )
        return turned, jax.tree.map(lambda g, m: b2 * m + (1 - b2) * g, gradient, state)

    return optax.GradientTransformation(lambda y: jax.tree.map(jnp.zeros_like, y), update)


def down(transformation):
    return optax.chain(transformation, optax.scale(-1.0))


OPTIMISERS = {
    "heavy ball": optax.sgd(1.0, momentum=M),
    "Nesterov": optax.sgd(1.0, momentum=M, nesterov=True),
    "RMSProp": down(optax.scale_by_rms(decay=0.4, eps=0.3)),
    "Adam": down(optax.scale_by_adam(b1=0.3, b2=0.4, eps=0.3)),
    "NAdam": down(optax.scale_by_adam(b1=0.3, b2=0.4, eps=0.3, nesterov=True)),
    "Lion, smooth": smooth_lion(0.3, 0.4, width=2.0),
}


def reduced(name, field=FIELD, **options):
    return memoryless(*optimizer_step(OPTIMISERS[name], field), **options)


def test_heavy_ball_has_the_terms_that_are_derived_by_hand():
    gradient, hessian = jax.grad(loss)(Y), jax.hessian(loss)(Y)
    f0, f1 = modified_terms(reduced("heavy ball"), 1)(Y)
    np.testing.assert_allclose(f0, -gradient / (1 - M), rtol=1e-12)
    expected = -(1 + M) / (2 * (1 - M) ** 3) * hessian @ gradient  # Ghosh et al. 2023
    np.testing.assert_allclose(f1, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["heavy ball", "Nesterov"])
def test_on_a_parabola_every_order_is_that_of_the_multiplier(name):
    curvature, sizes = 1.3, np.array([0.01, 0.005])
    field = gradient_field(lambda y: curvature * y**2 / 2)
    terms = np.array(jax.jit(modified_terms(reduced(name, field), 4))(jnp.array(1.0)))

    def multiplier(h):  # of y: the root near 1 of the recursion of second order
        kept = 1 - h * curvature
        recursion = {
            "heavy ball": [1, -(kept + M), M],
            "Nesterov": [1, -(1 + M) * kept, M * kept],
        }[name]
        roots = np.roots(recursion)
        return roots[np.argmin(np.abs(roots - 1))]

    exact = np.log([multiplier(h) for h in sizes]) / sizes
    for order in range(5):
        errors = np.abs(exact - np.polyval(terms[: order + 1][::-1], sizes))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.2)


@pytest.mark.parametrize(("b1", "b2", "eps"), [(0.9, 0.5, 0.3), (0.3, 0.8, 0.02), (0.0, 0.9, 0.1)])
def test_adam_s_first_correction_is_that_of_the_literature(b1, b2, eps):
    """Cattaneo, Klusowski and Shigida 2024: full batches, ε within the root."""
    adam = down(optax.scale_by_adam(b1=b1, b2=b2, eps=0.0, eps_root=eps))
    f0, f1 = modified_terms(memoryless(*optimizer_step(adam, FIELD)), 1)(Y)
    gradient = jax.grad(loss)(Y)
    root = jnp.sqrt(gradient**2 + eps)
    slope = jax.grad(lambda y: jnp.sum(jnp.sqrt(jax.grad(loss)(y) ** 2 + eps)))(Y)
    first, second = (1 + b1) / (1 - b1), (1 + b2) / (1 - b2)
    bias = (first - second + second * eps / root**2) * slope / 2
    np.testing.assert_allclose(f0, -gradient / root, rtol=1e-12)
    np.testing.assert_allclose(f1, -bias / root, rtol=1e-11)


@pytest.mark.parametrize("name", ["RMSProp", "Adam", "Lion, smooth"])
def test_after_the_transient_long_runs_follow_the_modified_flow(name):
    step, init = optimizer_step(OPTIMISERS[name], FIELD)
    terms = modified_terms(reduced(name), 2)

    @jax.jit
    def errors(h, num_steps):
        start = (jnp.asarray(Y), init(jnp.asarray(Y)))
        y, s = jax.lax.fori_loop(0, num_steps, lambda _, state: step(h, *state), start)
        new, _ = step(h, y, s)

        def follow(kept):  # which orders of the field
            return flow(lambda y: kept @ (h ** jnp.arange(3)[:, None] * jnp.stack(terms(y))), y, h)

        return jnp.linalg.norm(new - jax.lax.map(follow, jnp.tril(jnp.ones((3, 3)))), axis=1)

    # a decay of 0.4 has gone after 40 steps, and both runs end near one place
    slopes = jnp.log2(errors(0.01, 40) / errors(0.005, 80))
    np.testing.assert_allclose(slopes, [2, 3, 4], atol=0.15)


def test_the_memory_on_the_slow_manifold_is_kept_by_the_step():
    step, _ = optimizer_step(OPTIMISERS["Adam"], FIELD)
    errors = []
    for h in (0.02, 0.01):
        slow = reduced("Adam", order=2)
        new, kept = step(h, Y, slow.memory(h, Y))
        there = slow.memory(h, new)
        parts = zip(*(jax.tree.leaves((s[0].mu, s[0].nu)) for s in (kept, there)), strict=True)
        errors.append(max(float(jnp.abs(a - b).max()) for a, b in parts))
        np.testing.assert_allclose(slow(h, Y), new, atol=100 * h**4)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.3)


def test_the_step_itself_has_the_terms_by_the_general_mechanism():
    slow = reduced("heavy ball", order=1)
    general = jax.jit(modified_terms(lambda h, y: slow(h, y), 1))(Y)
    np.testing.assert_allclose(general, modified_terms(slow, 1)(Y), rtol=1e-11)


def test_a_large_memory_is_solved_without_its_matrix(monkeypatch):
    dense = jax.jit(modified_terms(reduced("Adam"), 2))(Y)
    monkeypatch.setattr(memory, "DENSE", 0)
    large = jax.jit(modified_terms(reduced("Adam"), 2))(Y)
    np.testing.assert_allclose(large, dense, rtol=1e-10)


def test_a_game_with_momentum_has_the_multipliers_of_its_recursion():
    game, h = linear_game(0.1, 0.2), 0.01
    slow = memoryless(*optimizer_step(optax.sgd(1.0, momentum=M), game))
    y = Players(jnp.array(0.3), jnp.array(-0.2))
    ours = np.array(modified_field(slow, h, 3)(y))
    matrix = np.array([[-0.1, 1.0], [-1.0, -0.2]])
    np.testing.assert_allclose(game(y), matrix @ np.array(y), rtol=1e-14)
    values, vectors = np.linalg.eig(matrix)
    roots = [np.roots([1, -(1 + M + h * v), M]) for v in values]
    logs = [np.log(r[np.argmin(np.abs(r - 1))]) / h for r in roots]
    exact = (vectors @ np.diag(logs) @ np.linalg.inv(vectors)).real @ np.array(y)
    np.testing.assert_allclose(ours, exact, rtol=1e-5)


def test_counts_are_held_at_the_end_or_where_they_are_asked_for():
    scheduled = optax.chain(optax.scale_by_schedule(lambda n: 1 / (1.0 + n)), optax.scale(-1.0))
    step = optimizer_step(scheduled, FIELD)
    at_three, at_the_end = (
        modified_terms(memoryless(*step, count=count), 0)(Y)[0] for count in (3, None)
    )
    np.testing.assert_allclose(at_three, FIELD(Y) / 4, rtol=1e-12)
    np.testing.assert_allclose(at_the_end, 0 * Y, atol=1e-8)


def test_without_memory_it_is_the_step():
    slow = memoryless(*optimizer_step(optax.sgd(1.0), FIELD), order=1)
    np.testing.assert_allclose(slow(0.1, Y), Y + 0.1 * FIELD(Y), rtol=1e-12)


def test_it_compiles_batches_and_keeps_single_precision():
    terms = modified_terms(reduced("Adam"), 1)
    single = jax.jit(jax.vmap(terms))(jnp.stack([Y, -Y]).astype(jnp.float32))
    assert {x.dtype for x in single} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(single[1][0], terms(Y)[1], rtol=1e-4)
    ys = iterate(reduced("heavy ball", order=1), 0.05, jnp.asarray(Y), 3)
    assert ys.shape == (4, 2)


def heavy(m):
    return optimizer_step(optax.sgd(1.0, momentum=m), FIELD)


def drifting(h, y, s):
    return y + s, 0.5 * s


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memoryless(lambda h, y: y, jnp.zeros_like), "a step with memory.*h, y and s"),
        (lambda: memoryless(heavy(M)[0], 3), "init must be a function of y, got int"),
        (lambda: memoryless(*heavy(M), order=-1), "order must be an integer of at least 0"),
        (lambda: memoryless(*heavy(M), count=1.5), "count must be an integer"),
        (lambda: optimizer_step(3, FIELD), "optimizer must be an optax.GradientTransformation"),
        (lambda: optimizer_step(optax.sgd(1.0), 3), "field must be a field"),
        (lambda: memoryless(*heavy(1.0))(0.1, Y), "must contract at h = 0"),
        (lambda: memoryless(*heavy(1.1))(0.1, Y), "must contract at h = 0"),
        (lambda: memoryless(*heavy(M))(0.1, np.array([1, 2])), "y must hold .* write 1.0 for 1"),
        (lambda: memoryless(drifting, jnp.zeros_like)(0.1, Y), r"must return y, whatever s is"),
        (lambda: memoryless(lambda h, y, s: y, jnp.zeros_like)(0.1, Y), "the pair of a state"),
        (
            lambda: memoryless(heavy(M)[0], lambda y: jax.random.key(0))(0.1, Y),
            "a memory of real numbers and integers, got key",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_inside_a_trace_a_memory_that_does_not_forget_gives_nan():
    terms = modified_terms(memoryless(*heavy(1.1)), 0)
    assert np.isnan(jax.jit(terms)(Y)[0]).all()


def test_both_players_may_have_momentum():
    losses = Players(lambda y: y.phi * y.theta + y.phi**2, lambda y: -y.phi * y.theta)
    slow = memoryless(*optimizer_step(OPTIMISERS["heavy ball"], game_field(losses)))
    y = Players(jnp.array(0.5), jnp.array(1.0))
    (f0,) = modified_terms(slow, 0)(y)
    expected = np.array([-(1.0 + 1.0), 0.5]) / (1 - M)
    np.testing.assert_allclose(np.array(f0), expected, rtol=1e-12)
