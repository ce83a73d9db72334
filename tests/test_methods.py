import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from games_for_tests import distance, flat, flow, last_slope, norm

from ddlib.drift import modified_field, modified_terms
from ddlib.games import Players, linear_game
from ddlib.methods import (
    HEUN,
    RK4,
    Tableau,
    alternating_euler,
    compose,
    euler,
    implicit_midpoint,
    iterate,
    runge_kutta,
    simultaneous_euler,
)

EPS = np.finfo(float).eps
RATES = Players(1.3, 0.4)
MIX = np.random.default_rng(0).normal(size=(5, 5)) / 2


def curved(y):
    """A smooth field of players of 3 and 2 numbers that numpy evaluates too, and no gradient."""
    x = MIX @ np.concatenate(y) if isinstance(y[0], np.ndarray) else MIX @ jnp.concatenate(y)
    value = (np if isinstance(x, np.ndarray) else jnp).tanh(x) - 0.2 * x
    return Players(value[:3], value[3:])


def start():
    y = np.random.default_rng(1).normal(size=5)
    return Players(y[:3], y[3:])


METHODS = {
    "euler": lambda f: euler(f),
    "simultaneous": lambda f: simultaneous_euler(f, RATES),
    "alternating": lambda f: alternating_euler(f, RATES),
    "alternating, 2 and 3 updates": lambda f: alternating_euler(f, RATES, Players(2, 3)),
    "alternating, theta first": lambda f: alternating_euler(f, RATES, first="theta"),
    "heun": lambda f: runge_kutta(f, HEUN),
    "heun with rates": lambda f: runge_kutta(f, HEUN, RATES),
    "rk4": lambda f: runge_kutta(f, RK4),
    "rk4 with rates": lambda f: runge_kutta(f, RK4, RATES),
    "midpoint": lambda f: implicit_midpoint(f),
    "midpoint with rates": lambda f: implicit_midpoint(f, RATES),
}


def on_device(y):
    return jax.tree.map(jnp.asarray, y)


def test_simultaneous_updates_are_equations_6_and_7():
    h, y = 0.3, start()
    f, g = curved(y)
    expected = Players(y.phi + 1.3 * h * f, y.theta + 0.4 * h * g)
    got = simultaneous_euler(curved, RATES)(h, on_device(y))
    np.testing.assert_allclose(flat(got), flat(expected), rtol=20 * EPS)


@pytest.mark.parametrize("first", ["phi", "theta"])
@pytest.mark.parametrize("updates", [(1, 1), (2, 3), (4, 1)])
def test_alternating_updates_are_equations_8_and_9(updates, first):
    """Each of φ's m updates moves by αh/m and sees the last, each of θ's k by λh/k."""
    h, (m, k) = 0.3, updates
    phi, theta = start()

    def move_phi():
        nonlocal phi
        for _ in range(m):
            phi = phi + 1.3 * h / m * curved((phi, theta)).phi

    def move_theta():
        nonlocal theta
        for _ in range(k):
            theta = theta + 0.4 * h / k * curved((phi, theta)).theta

    for move in (move_phi, move_theta) if first == "phi" else (move_theta, move_phi):
        move()
    got = alternating_euler(curved, RATES, Players(m, k), first)(h, on_device(start()))
    np.testing.assert_allclose(flat(got), flat((phi, theta)), rtol=100 * EPS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("zero", [0, jnp.zeros(())], ids=["int", "array"])
def test_a_step_of_size_zero_rests_exactly(method, zero):
    y = on_device(start())
    np.testing.assert_array_equal(flat(METHODS[method](curved)(zero, y)), flat(y))


@functools.cache
def solution():
    return jax.jit(lambda y: flow(curved, y, 1.0))(on_device(start()))


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("rk4", 4)]
)
def test_global_order(method, order):
    """At a fixed time the error falls as h^order; the next term is smaller by a factor h ≤ 1/32."""
    y, step, exact = on_device(start()), METHODS[method](curved), solution()

    @jax.jit
    @jax.vmap
    def error(count):
        return norm(jax.lax.fori_loop(0, count, lambda _, y: step(1 / count, y), y), exact)

    counts = np.array([8, 16, 32, 64])
    assert last_slope(1 / counts, error(counts)) == pytest.approx(order, abs=0.1)


def test_a_tableau_of_one_s_own():
    """Kutta's third-order method: 1/6, 4/6, 1/6 with A = (1/2; −1, 2)."""
    kutta = Tableau(a=((), (1 / 2,), (-1.0, 2.0)), b=(1 / 6, 2 / 3, 1 / 6))
    h = 0.1
    got = runge_kutta(lambda y: -y, kutta)(h, jnp.array(1.0))
    assert float(got) == pytest.approx(1 - h + h**2 / 2 - h**3 / 6, rel=10 * EPS)


@pytest.mark.parametrize("tableau", [HEUN, RK4], ids=["heun", "rk4"])
def test_rates_in_runge_kutta_rescale_the_field(tableau):
    """Stages that move by αh and λh are the method for (αf, λg): one clock."""

    def rescaled(y):
        f, g = curved(y)
        return Players(RATES.phi * f, RATES.theta * g)

    y = on_device(start())
    got = runge_kutta(curved, tableau, RATES)(0.3, y)
    np.testing.assert_allclose(
        flat(got), flat(runge_kutta(rescaled, tableau)(0.3, y)), rtol=40 * EPS
    )


def test_midpoint_keeps_the_radius_of_a_rotation():
    """Newton solves a linear equation to rounding, and a step's rounding moves the radius by it."""
    steps = 1000
    y = Players(jnp.array(0.6), jnp.array(-0.8))
    ys = iterate(implicit_midpoint(linear_game(0.0, 0.0)), 0.5, y, steps)
    radius = np.hypot(*ys)
    np.testing.assert_allclose(radius, 1.0, atol=10 * EPS * steps)
    # one step turns by 2·arctan(h/2), clockwise
    turned = (0.6 - 0.8j) * np.exp(-1j * steps * 2 * np.arctan(0.25))
    np.testing.assert_allclose(
        [ys.phi[-1], ys.theta[-1]], [turned.real, turned.imag], atol=20 * EPS * steps
    )


def test_midpoint_solves_its_equation():
    h, y = 0.5, start()
    z = jax.tree.map(np.asarray, implicit_midpoint(curved, RATES)(h, on_device(y)))
    f, g = curved(jax.tree.map(lambda a, b: (a + b) / 2, y, z))
    expected = Players(y.phi + 1.3 * h * f, y.theta + 0.4 * h * g)
    np.testing.assert_allclose(flat(z), flat(expected), rtol=100 * EPS, atol=100 * EPS)
    assert distance(z, simultaneous_euler(curved, RATES)(h, on_device(y))) > 1e-2


def test_midpoint_says_when_it_finds_no_root():
    # z = 1 + 100 e^{(1 + z)/2} has no real solution
    with pytest.raises(RuntimeError, match="no roots"):
        implicit_midpoint(jnp.exp)(100.0, jnp.array(1.0))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [(m, "float32") for m in METHODS]
    + [(m, "complex64") for m in METHODS if not m.startswith("midpoint")],  # optimistix warns
)
def test_a_step_keeps_the_type_of_its_state(method, dtype):
    """Also with a float64 h, which promotion would let win."""

    def turning(y):
        scale = 1j if dtype.startswith("complex") else 1
        return jax.tree.map(lambda x: (scale * x).astype(dtype), Players(y.theta, -y.phi))

    y = Players(jnp.asarray([0.3, 0.2], dtype), jnp.asarray([-1.0, 0.5], dtype))
    step = METHODS[method](turning)
    for h in (0.1, np.float64(0.1), jnp.asarray(0.1, jnp.float64)):
        for run in (step, lambda h, y: iterate(step, h, y, 2)):
            assert {x.dtype for x in jax.eval_shape(run, h, y)} == {np.dtype(dtype)}


def test_complex_states_move_by_real_steps():
    y = jnp.array(1.0 + 0.5j)
    assert complex(euler(lambda z: 1j * z)(0.25, y)) == (1 + 0.25j) * (1 + 0.5j)


@pytest.mark.parametrize("method", ["euler", "simultaneous", "alternating", "rk4"])
def test_integer_states_are_refused(method):
    with pytest.raises(ValueError, match="y must hold floating-point or complex numbers, got int"):
        METHODS[method](linear_game(0.1, 0.1))(0.5, Players(1, 2))


def test_iterate_is_the_loop():
    y, h, step = on_device(start()), 0.1, METHODS["alternating"](curved)
    ys = iterate(step, h, y, 5)
    assert jax.tree.map(jnp.shape, ys) == Players((6, 3), (6, 2))
    np.testing.assert_array_equal(flat(jax.tree.map(lambda x: x[0], ys)), flat(y))
    for n in range(5):
        before, after = (jax.tree.map(lambda x, i=i: x[i], ys) for i in (n, n + 1))
        np.testing.assert_allclose(flat(after), flat(step(h, before)), rtol=20 * EPS)
    only = iterate(step, h, y, 0)
    np.testing.assert_array_equal(flat(only), flat(y))
    assert only.phi.shape == (1, 3)


def test_iterate_takes_plain_numbers():
    ys = iterate(simultaneous_euler(linear_game(0.0, 0.0), Players(1, 1)), 1, Players(1.0, 0.0), 2)
    np.testing.assert_array_equal(ys, [[1.0, 1.0, 0.0], [0.0, -1.0, -2.0]])


@pytest.mark.parametrize("method", ["simultaneous", "alternating", "rk4"])
def test_step_size_and_rates_are_traced(method):
    """A sweep over h, α and λ is one program, and equals the runs one by one."""
    traces = []

    def run(h, alpha, lam):
        traces.append(None)
        rates = Players(alpha, lam)
        step = {
            "simultaneous": lambda: simultaneous_euler(curved, rates),
            "alternating": lambda: alternating_euler(curved, rates, Players(2, 1)),
            "rk4": lambda: runge_kutta(curved, RK4, rates),
        }[method]()
        return flat_traced(iterate(step, h, on_device(start()), 3))

    def flat_traced(ys):
        return jnp.concatenate(ys, axis=-1)

    cases = jnp.array([[0.1, 1.0, 0.5], [0.2, 0.3, 0.0], [0.05, 2.0, 2.0]])
    sweep = jax.jit(jax.vmap(run))
    many = sweep(*cases.T)
    sweep(*(2 * cases.T))
    assert len(traces) == 1
    np.testing.assert_allclose(many[1], run(*map(float, cases[1])), rtol=100 * EPS, atol=EPS)


GAME = linear_game(0.1, 0.1)
BAD = {
    "rates a tuple": (lambda: simultaneous_euler(GAME, (1.0, 1.0)), "rates must be .*Players"),
    "rates negative": (lambda: simultaneous_euler(GAME, Players(-1.0, 1.0)), "rates.phi must be"),
    "rates nan": (
        lambda: simultaneous_euler(GAME, Players(1.0, np.nan)),
        "rates.theta must be fin",
    ),
    "rates text": (lambda: simultaneous_euler(GAME, Players("a", 1.0)), "rates.phi must be a real"),
    "rates complex": (
        lambda: simultaneous_euler(GAME, Players(1j, 1.0)),
        "rates.phi must be a real",
    ),
    "rates in alternating": (lambda: alternating_euler(GAME, 1.0), "rates must be .*Players"),
    "rates in runge_kutta": (lambda: runge_kutta(GAME, RK4, Players(1, -2)), "rates.theta must be"),
    "rates in midpoint": (lambda: implicit_midpoint(GAME, (1, 1)), "rates must be .*Players"),
    "updates a tuple": (lambda: alternating_euler(GAME, RATES, (1, 1)), "num_updates must be"),
    "updates zero": (
        lambda: alternating_euler(GAME, RATES, Players(0, 1)),
        "num_updates.phi must be an integer of at least 1, got 0",
    ),
    "updates half": (lambda: alternating_euler(GAME, RATES, Players(1, 1.5)), "num_updates.theta"),
    "updates true": (lambda: alternating_euler(GAME, RATES, Players(True, 1)), "num_updates.phi"),
    "first": (
        lambda: alternating_euler(GAME, RATES, first="Phi"),
        'first must be "phi" or "theta", got \'Phi\'',
    ),
    "tableau full": (lambda: runge_kutta(GAME, Tableau(((0.5,),), (1.0,))), "tableau.a must have"),
    "tableau short": (lambda: runge_kutta(GAME, Tableau(((),), (0.5, 0.5))), "tableau.a must have"),
    "tableau wide": (
        lambda: runge_kutta(GAME, Tableau(((), (1.0, 0.0)), (0.5, 0.5))),
        r"rows of length 0 to 1, got \[0, 2\]",
    ),
    "state a tuple": (
        lambda: alternating_euler(GAME, RATES)(0.1, (1.0, 1.0)),
        "y must be .*Players",
    ),
    "field a tuple": (
        lambda: simultaneous_euler(lambda y: tuple(y), RATES)(0.1, Players(1.0, 1.0)),
        "y must be .*Players",
    ),
    "h zero": (lambda: iterate(euler(GAME), 0.0, Players(1.0, 1.0), 1), "h must be positive"),
    "h negative": (lambda: iterate(euler(GAME), -0.1, Players(1.0, 1.0), 1), "h must be positive"),
    "h infinite": (lambda: iterate(euler(GAME), np.inf, Players(1.0, 1.0), 1), "h must be finite"),
    "steps negative": (
        lambda: iterate(euler(GAME), 0.1, Players(1.0, 1.0), -1),
        "num_steps must be an integer of at least 0, got -1",
    ),
    "steps float": (lambda: iterate(euler(GAME), 0.1, Players(1.0, 1.0), 2.0), "num_steps must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_implicit_steps_solve_linear_equations_at_any_stiffness(dtype):
    """One direction, at hλ from 1e-8 to 1e14 and any size of state: (1 − hλ/2)/(1 + hλ/2)."""
    solve = jax.jit(lambda rate, y: implicit_midpoint(lambda y: -rate * y)(1.0, y))
    for rate in (1e-8, 1.0, 1e3, 1e6, 1e10, 1e14):
        for size in (1e-12, 1.0, 1e8):
            got = solve(jnp.asarray(rate, dtype), jnp.asarray(size, dtype))
            expected = size * (1 - rate / 2) / (1 + rate / 2)
            np.testing.assert_allclose(got, expected, rtol=8 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("dtype", "stiffest"), [("float32", 1e4), ("float64", 1e8), ("float64", 1e12)]
)
def test_implicit_steps_of_ill_conditioned_equations_end(dtype, stiffest):
    """In turned axes Newton's steps end as rounding: eps times the condition number."""
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    rates = np.array([-1.0, -10.0, -100.0, -stiffest])
    matrix = jnp.asarray((axes * rates) @ axes.T, dtype)
    got = implicit_midpoint(lambda y: matrix @ y)(1.0, jnp.ones(4, dtype))
    expected = axes @ ((1 + rates / 2) / (1 - rates / 2) * (axes.T @ np.ones(4)))
    allowed = 8 * float(jnp.finfo(dtype).eps) * stiffest
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_implicit_steps_of_small_states_are_solved_to_their_own_digits(dtype):
    """ẏ = −y²/s scales with s: from y = s, z/s solves z = 1 − (1 + z)²/4, 2√3 − 3."""
    for size in (1e-15, 1e-6, 1.0, 1e10):
        got = implicit_midpoint(lambda y, size=size: -(y**2) / size)(1.0, jnp.asarray(size, dtype))
        np.testing.assert_allclose(
            got / size, 2 * 3**0.5 - 3, rtol=64 * float(jnp.finfo(dtype).eps)
        )


def test_composed_flows_of_linear_fields_are_the_product_of_their_exponentials():
    rng = np.random.default_rng(5)
    matrices, y, h = rng.normal(size=(3, 4, 4)), rng.normal(size=4), 0.3

    def exact(matrix):
        return lambda h, y: jax.scipy.linalg.expm(h * matrix) @ y

    step = compose(*map(exact, jnp.asarray(matrices)))
    expected = y
    for matrix in matrices:  # the first is taken first
        expected = scipy.linalg.expm(h * matrix) @ expected
    np.testing.assert_allclose(step(h, jnp.asarray(y)), expected, rtol=1e-12)
    np.testing.assert_array_equal(step(0.0, jnp.asarray(y)), y)


def test_composed_euler_steps_follow_the_commutator():
    """Baker–Campbell–Hausdorff to second order: f₀ = f + g, f₁ = ½(g'f − f'g) − ½(f'f + g'g)."""
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 3, 3))
    y = rng.normal(size=3)
    fields = (lambda y: jnp.tanh(a @ y), lambda y: jnp.sin(b @ y))
    found = modified_terms(compose(*map(euler, fields)), 1)(jnp.asarray(y))
    f, g = np.tanh(a @ y), np.sin(b @ y)
    df, dg = (1 - f**2)[:, None] * a, np.cos(b @ y)[:, None] * b
    np.testing.assert_allclose(found[0], f + g, rtol=1e-13)
    expected = (dg @ f - df @ g - df @ f - dg @ g) / 2
    np.testing.assert_allclose(found[1], expected, rtol=1e-12, atol=1e-13)


def test_alternating_updates_are_a_composition():
    field, h, y = linear_game(0.3, 0.5), 0.2, Players(jnp.array(0.7), jnp.array(-1.1))
    alone = [
        simultaneous_euler(field, Players(1.0, 0.0)),
        simultaneous_euler(field, Players(0.0, 1.0)),
    ]
    got, expected = alternating_euler(field, Players(1.0, 1.0))(h, y), compose(*alone)(h, y)
    np.testing.assert_allclose(flat(got), flat(expected), rtol=4 * EPS)


STEP, FIELD = euler(lambda y: -y), linear_game(0.1, 0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: modified_terms(FIELD, 2),
        lambda: modified_field(FIELD, 0.1, 1),
        lambda: iterate(FIELD, 0.1, start(), 3),
        lambda: compose(STEP, FIELD),
        lambda: iterate(Players(FIELD, FIELD), 0.1, start(), 3),
    ],
)
def test_a_field_where_a_step_is_wanted_is_named(call):
    with pytest.raises(ValueError, match=r"must be a step, a function of h and y, got .*euler"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: euler(STEP),
        lambda: simultaneous_euler(STEP, RATES),
        lambda: alternating_euler(STEP, RATES),
        lambda: runge_kutta(STEP, RK4),
        lambda: implicit_midpoint(STEP),
        lambda: euler(Players(FIELD, FIELD)),
    ],
)
def test_a_step_where_a_field_is_wanted_is_named(call):
    with pytest.raises(ValueError, match=r"field must be a field, a function of y alone, got"):
        call()


def test_a_composition_of_nothing_is_refused():
    with pytest.raises(ValueError, match="steps must hold at least one step, got none"):
        compose()
