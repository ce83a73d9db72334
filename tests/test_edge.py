"""Eigenpairs along training, the edge of stability and the central flow, against dense algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddlib import edge
from ddlib.central import central
from ddlib.curvature import blocks, eigh, hessian, tracker
from ddlib.flows import central as exported
from ddlib.nets import functional, mlp

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(24, 5)))
Y = jnp.asarray(RNG.normal(size=(24, 3)))


def network(dtype=jnp.float64, seed=0):
    params, apply = functional(mlp(5, [7], 3, key=jax.random.key(seed), dtype=dtype))

    def loss(params, batch=(X, Y)):
        x, y = jax.tree.map(lambda z: z.astype(dtype), batch)
        return jnp.mean(jnp.sum((apply(params, x) - y) ** 2, 1)) / 2

    return params, loss


def flat(tree):
    return ravel_pytree(tree)[0]


def compiled(*arguments, **options):
    return tuple(map(jax.jit, tracker(*arguments, **options)))


# ----------------------------------------------------------------------------------- the tracker


@pytest.mark.parametrize("num", [1, 3])
def test_tracked_pairs_are_the_dense_ones_along_training(num):
    params, loss = network()
    begin, follow = compiled(loss, num)
    track = begin(params)
    worst = 0.0
    for _ in range(30):
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, track.gradient)
        track = follow(track, params)
        dense = eigh(loss, params)
        # a residual r bounds the distance to an eigenvalue (Bauer and Fike)
        gaps = jnp.abs(dense.values[:, None] - track.values[None]).min(0)
        assert jnp.all(gaps <= track.residuals + 1e-10)
        worst = max(worst, float(jnp.max(jnp.abs(track.values / dense.values[:num] - 1))))
    if num == 1:  # others by their residuals
        assert worst < 1e-3
    vectors = jax.vmap(flat)(track.vectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(num), atol=1e-12)


def test_what_is_said_of_the_gradient_is_exact():
    """From the span alone, since the gradient lies in it: against the dense Hessian."""
    params, loss = network()
    begin, follow = compiled(loss, 2)
    track = follow(begin(params), jax.tree.map(lambda p: p + 0.01, params))
    params = jax.tree.map(lambda p: p + 0.01, params)
    g, matrix = flat(jax.grad(loss)(params)), hessian(loss, params)
    unit = g / jnp.linalg.norm(g)
    np.testing.assert_allclose(flat(track.gradient), g, rtol=1e-12)
    np.testing.assert_allclose(track.loss, loss(params), rtol=1e-12)
    np.testing.assert_allclose(track.norm, jnp.linalg.norm(g), rtol=1e-12)
    np.testing.assert_allclose(track.curvature, unit @ matrix @ unit, rtol=1e-9)
    np.testing.assert_allclose(track.turn, jnp.linalg.norm(matrix @ unit), rtol=1e-9)
    vectors = jax.vmap(flat)(track.vectors)
    np.testing.assert_allclose(track.slopes, vectors @ g, rtol=1e-9)
    assert (track.slopes >= 0).all()
    np.testing.assert_allclose(
        track.residuals,
        jnp.linalg.norm(vectors @ matrix - track.values[:, None] * vectors, axis=1),
        atol=1e-9,
    )


def test_a_lost_pair_is_searched_anew():
    """Far from the last iterate the last vectors tell little; the residual says so."""
    params, loss = network()
    far = jax.tree.map(lambda p: 3 * jnp.cos(7 * p) + p, params)
    begin, follow = compiled(loss, 1, tolerance=0.01)
    _, careless = compiled(loss, 1, tolerance=jnp.inf)
    kept, again = careless(begin(params), far), follow(begin(params), far)
    assert float(kept.residuals[0]) > 0.01 * float(kept.values[0]) and not bool(kept.cold)
    assert bool(again.cold)
    np.testing.assert_allclose(again.values[0], eigh(loss, far).values[0], rtol=1e-6)


@pytest.mark.parametrize("case", ["chunks", "host"])
def test_in_chunks_and_on_the_host_it_is_the_same(case):
    params, loss = network()
    plain, _ = compiled(loss, 2)
    options = {"num_chunks": 4} if case == "chunks" else {"convolutional": True}
    begin, follow = tracker(loss, 2, num_matvecs=20, **options)
    batch = (X, Y)
    near = jax.tree.map(lambda p: p * 1.01, params)
    found, known = follow(begin(params, batch), near, batch), plain(near)
    np.testing.assert_allclose(found.values, known.values, rtol=1e-3)
    np.testing.assert_allclose(found.loss, known.loss, rtol=1e-12)
    np.testing.assert_allclose(flat(found.gradient), flat(known.gradient), rtol=1e-9, atol=1e-12)


def test_repeated_eigenvalues_a_zero_gradient_and_one_parameter():
    def round_(y):
        return jnp.sum(y**2)

    begin, follow = compiled(round_, 2)
    at_rest = follow(begin(jnp.ones(4)), jnp.zeros(4))
    np.testing.assert_allclose(at_rest.values, [2.0, 2.0], rtol=1e-12)
    assert at_rest.norm == 0 and at_rest.curvature == 0 and at_rest.turn == 0
    np.testing.assert_array_equal(at_rest.slopes, 0)
    begin, follow = compiled(lambda y: 3 * y**2, 1)
    one = follow(begin(jnp.array(2.0)), jnp.array(1.0))
    np.testing.assert_allclose((one.values[0], one.slopes[0], one.curvature), (6, 6, 6), rtol=1e-12)


def test_a_saddle_s_largest_may_be_negative():
    begin, follow = compiled(lambda y: -jnp.sum(y**2 * jnp.array([1.0, 2.0])), 1)
    track = follow(begin(jnp.ones(2)), jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(track.values, [-2.0], rtol=1e-9)


def test_a_loss_that_is_not_finite_is_data_and_the_next_search_is_new():
    def loss(y):
        return jnp.log(y[0]) ** 2 + y[1] ** 2

    begin, follow = compiled(loss, 1)
    track = follow(begin(jnp.ones(2)), jnp.array([-1.0, 1.0]))
    assert jnp.isnan(track.loss) and jnp.isnan(track.values[0])
    back = follow(track, jnp.ones(2))
    assert bool(back.cold) and jnp.isfinite(back.values[0])
    np.testing.assert_allclose(back.values[0], 2.0, rtol=1e-9)


def test_a_relu_at_its_kink_has_jax_s_one_sided_hessian():
    track = tracker(lambda y: jnp.sum(jax.nn.relu(y) ** 2), 1)[0](jnp.zeros(3))
    assert jnp.isfinite(track.values).all() and track.norm == 0


def test_low_precision_stays_what_it_is():
    params, loss = network(jnp.float32)
    begin, follow = compiled(loss, 1)
    track = follow(begin(params), jax.tree.map(lambda p: p * 1.001, params))
    assert {x.dtype for x in jax.tree.leaves((track.vectors, track.gradient))} == {
        jnp.dtype("float32")
    }
    exact = eigh(network()[1], jax.tree.map(lambda p: p.astype(jnp.float64) * 1.001, params))
    np.testing.assert_allclose(track.values[0], exact.values[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tracker(lambda y: y, 0), "num must be"),
        (lambda: tracker(lambda y: y, tolerance=0), "tolerance must be positive, got 0"),
        (lambda: tracker(lambda y: y, tolerance=float("nan")), "tolerance must be positive"),
        (lambda: tracker(lambda y: y)[0](jnp.ones(2)), "loss"),
        (lambda: tracker(lambda y: y.sum(), 3)[0](jnp.ones(2)), "num must be at most 2 param"),
        (lambda: tracker(lambda y: y.sum())[0](jnp.arange(2)), "params must hold floating"),
        (lambda: tracker(lambda y: y.sum(), num_chunks=2)[0](jnp.ones(2)), "num_chunks"),
    ],
)
def test_what_cannot_be_tracked_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_blocks_are_those_of_the_dense_hessian():
    params, loss = network()
    matrix, start = hessian(loss, params), 0
    expected = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        stop = start + leaf.size
        values = jnp.linalg.eigvalsh(matrix[start:stop, start:stop])
        expected[jax.tree_util.keystr(path)] = float(values[-1])
        start = stop
    found = blocks(loss, params, num_matvecs=40)
    assert [one.name for one in found] == sorted(expected, key=lambda name: -expected[name])
    for one in found:
        np.testing.assert_allclose(one.value, expected[one.name], rtol=1e-6)
        assert one.value <= eigh(loss, params).values[0] + 1e-9


# --------------------------------------------------------------------------- observed descent


def test_a_quadratic_s_run_is_known_in_closed_form():
    """Each component is multiplied by 1 − hλ a step; the loss changes to second order exactly."""
    values = jnp.array([4.0, 1.0])
    run = edge.watched(lambda y: jnp.sum(values * y**2) / 2, 2)
    h, start = 0.55, jnp.array([1.0, -2.0])  # hλ₀ = 2.2
    state, seen = run.advance(run.begin(start), h, 5)
    n = np.arange(6)[:, None]
    path = np.asarray(start) * (1 - h * np.asarray(values)) ** n
    np.testing.assert_allclose(state.params, path[-1], rtol=1e-12)
    np.testing.assert_allclose(seen.loss, (np.asarray(values) * path**2).sum(1) / 2, rtol=1e-12)
    np.testing.assert_allclose(seen.slopes, np.abs(np.asarray(values) * path), rtol=1e-9)
    np.testing.assert_allclose(seen.change[:-1], np.diff(seen.loss), rtol=1e-9)
    np.testing.assert_allclose(seen.change_along.sum(1), seen.change, rtol=1e-9)
    g = np.asarray(values) * path
    np.testing.assert_allclose(
        seen.drift, h**2 / 2 * np.linalg.norm(np.asarray(values) * g, axis=1), rtol=1e-9
    )
    alpha = np.log(1 - h * np.asarray(values) + 0j) / (h * np.asarray(values))
    np.testing.assert_allclose(seen.coefficients, alpha * seen.slopes, rtol=1e-6)
    assert seen.diverged_at == -1 and seen.step.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_interrupted_run_resumes_to_the_bit():
    params, loss = network()
    run = edge.watched(loss, 2)
    whole, seen = run.advance(run.begin(params), 0.1, 12)
    half, first = run.advance(run.begin(params), 0.1, 5)
    kept = jax.tree.map(lambda x: np.array(x), half)  # as from a disk
    end, second = run.advance(kept, 0.1, 7)
    for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in edge.SHOWN:
        joined = np.concatenate([getattr(first, name), getattr(second, name)[1:]])
        np.testing.assert_array_equal(joined, getattr(seen, name))
    assert second.step.tolist() == list(range(5, 13)) and end.step == 12


def test_a_run_that_diverges_ends_and_says_when():
    run = edge.watched(lambda y: jnp.sum(y**4), 1)
    _, seen = run.advance(run.begin(jnp.array([3.0, 1.0])), 1.0, 100)
    assert 0 < seen.diverged_at < 20 and seen.step[-1] == seen.diverged_at
    assert not np.isfinite(seen.loss[-1]) and np.isfinite(seen.loss[:-1]).all()
    assert len(seen.loss) == len(seen.values) == seen.diverged_at + 1


def test_reports_and_refusals():
    run, told = edge.watched(lambda y: jnp.sum(y**2)), []
    state = run.begin(jnp.ones(2))
    run.advance(state, 0.1, 120, report=told.append)
    assert told == [50, 100, 120]
    for h in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="h must be"):
            run.advance(state, h, 1)
    with pytest.raises(ValueError, match="num_steps must be"):
        run.advance(state, 0.1, -1)
    same, seen = run.advance(state, 0.1, 0)
    assert same.step == 0 and len(seen.loss) == 1


def test_a_turned_field_climbs_where_it_is_told_to():
    params, loss = network()
    vectors = jax.tree.map(lambda v: v[:2], eigh(loss, params).vectors)
    g = flat(jax.grad(loss)(params))
    u = jax.vmap(flat)(vectors)
    for c in ([1.0, -1.0], [0.0, 0.5]):
        found = flat(edge.turned_field(loss, vectors, jnp.array(c))(params))
        expected = -g + sum((1 + ci) * (g @ ui) * ui for ci, ui in zip(c, u, strict=True))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_sharpening_is_the_slope_of_the_eigenvalue_along_each_term():
    """Each term by dense derivatives, its effect by central differences of a dense eigenvalue."""
    h, (params, loss) = 0.3, network()
    start, unravel = ravel_pytree(params)

    def flat_loss(y):
        return loss(unravel(y))

    hessian_at = jax.jit(jax.hessian(flat_loss))
    values, vectors = np.linalg.eigh(hessian_at(start))
    u, g, dense = vectors[:, -1], jax.grad(flat_loss)(start), hessian_at(start)
    third = jax.jvp(hessian_at, (start,), (g,))[1] @ g
    terms = (-g, -h / 2 * dense @ g, -(h**2) / 3 * dense @ (dense @ g), -(h**2) / 12 * third)
    found = edge.sharpening(loss, params, unravel(jnp.asarray(u)), h)
    for value, term in zip(found, terms, strict=True):
        size = 1e-5 / np.linalg.norm(term)
        ends = [np.linalg.eigvalsh(hessian_at(start + s * size * term))[-1] for s in (1, -1)]
        np.testing.assert_allclose(value, h * (ends[0] - ends[1]) / (2 * size), rtol=1e-5)
    assert values[-1] > values[-2] + 1e-2  # isolated, as the formula asks


def test_along_its_own_vector_the_nonprincipal_term_lowers_an_eigenvalue():
    """PF, Appendix B: with g = (gᵀu)u it is −(h²/12)(gᵀu)²|∇λ|², here of E = (1 + z)y²/2, z = 0."""
    h, y = 0.7, 1.3

    def loss(p):
        return (1 + p[1]) * p[0] ** 2 / 2 - p[1] * y**2 / 2  # g = (y, 0)

    found = edge.sharpening(loss, jnp.array([y, 0.0]), jnp.array([1.0, 0.0]), h)
    # ∇λ = ∇³E[u, u] = (0, 1)
    np.testing.assert_allclose(found.nonprincipal, -(h**3) / 12 * y**2, rtol=1e-6)
    np.testing.assert_allclose(found.flow, 0, atol=1e-6)


@pytest.mark.parametrize("h", [0.0, -1.0, float("nan")])
def test_sharpening_refuses_a_bad_step_size(h):
    with pytest.raises(ValueError, match="h must be"):
        edge.sharpening(lambda y: y**2, jnp.array(1.0), jnp.array(1.0), h)


# ------------------------------------------------------------------------------ the central flow


def valley(y):
    """A valley whose two sharp directions flatten along y[2] and y[3]."""
    return (
        (1 + y[2] ** 2) * y[0] ** 2 / 2
        + (1.1 + y[3] ** 2 + 0.3 * y[2]) * y[1] ** 2 / 2
        + 0.2 * y[0] * y[1] * y[2]
        - 0.1 * (y[2] + y[3])
    )


def test_one_critical_direction_has_its_closed_form():
    """X = max(0, −a/b), a = 2/h − λ + h·G·∇E, b = h|G|²/2, by dense derivatives."""
    h, y = 1.0, jnp.array([0.0, 0.0, 1.1, 0.2])
    begin, step = map(jax.jit, central(valley, h))
    new, _, seen = step(y, begin(y))
    dense = eigh(valley, y)
    u = dense.vectors[0]
    slope = jax.grad(lambda w: u @ jax.hessian(valley)(w) @ u)(y)
    g = jax.grad(valley)(y)
    a, b = 2 / h - dense.values[0] + h * slope @ g, h * slope @ slope / 2
    x = max(0.0, float(-a / b))
    assert x > 0
    np.testing.assert_allclose(seen.spread[0, 0], x, rtol=1e-9)
    np.testing.assert_allclose(new, y - h * (g + slope * x / 2), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(seen.smoothed, valley(y) + x / h, rtol=1e-9)


def test_below_the_edge_it_is_a_step_of_the_gradient_flow():
    y = jnp.array([0.1, 0.2, 0.3, 0.2])
    begin, step = map(jax.jit, central(valley, 0.5, 2))
    new, _, seen = step(y, begin(y))
    g, dense = jax.grad(valley)(y), eigh(valley, y)
    shares = np.full(4, 0.5)
    shares[:2] = -np.expm1(-0.5 * np.asarray(dense.values[:2])) / np.asarray(dense.values[:2])
    expected = y - (np.asarray(dense.vectors) * (shares * (dense.vectors @ g))[:, None]).sum(0)
    np.testing.assert_allclose(new, expected, rtol=1e-9)
    np.testing.assert_array_equal(seen.spread, 0)


def test_several_critical_directions_meet_the_conditions_that_define_the_flow():
    y = jnp.array([0.0, 0.0, 1.3, 1.2])
    begin, step = map(jax.jit, central(valley, 1.0, 3))
    _, _, seen = step(y, begin(y))
    assert (seen.values[:2] > 2).all()
    spread = np.linalg.eigvalsh(seen.spread)
    assert spread[0] >= -1e-9 and spread[-1] > 0.01
    assert seen.feasibility >= -1e-6 and seen.complementarity <= 1e-6


def test_the_flow_holds_sharpness_at_the_edge_and_predicts_the_swings():
    """Gradient descent from beside the valley's floor: its mean path, and its mean loss."""
    h, y = 1.0, jnp.array([0.02, 0.0, 0.98, 0.0])

    def sharpening(y):
        return (1 + y[2] ** 2) * y[0] ** 2 / 2 - 0.0005 * y[2] + 0.3 * y[1] ** 2

    @jax.jit
    def descent(y):
        def step(y, _):
            return y - h * jax.grad(sharpening)(y), (y, sharpening(y))

        return jax.lax.scan(step, y, length=4000)[1]

    path, losses = map(np.asarray, descent(y))
    begin, step = map(jax.jit, central(sharpening, h))
    track, at, flow = begin(y), y, []
    for _ in range(600):
        at, track, seen = step(at, track)
        flow.append((float(seen.values[0]), float(at[2]), float(seen.smoothed)))
    values, floor, smoothed = np.array(flow)[300:].T
    path, losses = path[1000:], losses[1000:]
    assert (1 + path[:, 2] ** 2).mean() == pytest.approx(2, abs=0.02)  # descent is at the edge
    np.testing.assert_allclose(values * h, 2, atol=1e-3)
    np.testing.assert_allclose(floor.mean(), path[:, 2].mean(), atol=0.01)
    # what the swings add is the loss without its slope, −0.0005·y[2]
    swings, predicted = losses + 0.0005 * path[:, 2], smoothed + 0.0005 * floor
    assert predicted.mean() == pytest.approx(swings.mean(), rel=0.1)


def test_the_exported_name_is_the_flow():
    assert exported is central


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((valley, 0.0), "h must"), ((valley, 1.0, 0), "num must"), ((valley, jnp.nan), "h must")],
)
def test_a_central_flow_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        central(*arguments)
