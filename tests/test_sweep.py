import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.games import Players, linear_game
from ddlib.loop import run_steps, watch
from ddlib.methods import simultaneous_euler
from ddlib.sweep import first_nonfinite, program_fingerprint


def step(t, state):
    """Momentum on sin, with a decaying rate: every step depends on its number."""
    x, v = state
    v = 0.9 * v - 0.1 / (1 + t) * jnp.sin(x)
    return x + v, v


def by_hand(x, v, count):
    states = [(x, v)]
    for t in range(count):
        v = 0.9 * v - 0.1 / (1 + t) * np.sin(x)
        x = x + v
        states.append((x, v))
    return states


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_it_is_the_loop(every, convolutional):
    start = np.linspace(-1, 1, 5)
    states = by_hand(start, 0 * start, 6)
    final, seen = run_steps(
        step,
        (jnp.asarray(start), jnp.zeros(5)),
        6,
        observe=lambda s: {"x": s[0], "energy": jnp.sum(s[1] ** 2)},
        every=every,
        convolutional=convolutional,
    )
    # six steps of a few roundings each
    np.testing.assert_allclose(final, states[-1], rtol=0, atol=1e-14)
    assert isinstance(seen["x"], np.ndarray)
    np.testing.assert_allclose(seen["x"], [x for x, _ in states[::every]], rtol=0, atol=1e-14)
    energies = [np.sum(v**2) for _, v in states[::every]]
    np.testing.assert_allclose(seen["energy"], energies, rtol=0, atol=1e-14)


def convolve(t, state):
    kernel, image = state
    image = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME")
    return kernel * (1 - 0.01 * t), jnp.tanh(image)


def test_scan_and_one_by_one_give_the_same_run():
    rng = np.random.default_rng(0)
    state = (jnp.asarray(rng.normal(size=(2, 2, 3, 3))), jnp.asarray(rng.normal(size=(1, 2, 5, 5))))
    runs = [
        run_steps(convolve, state, 4, observe=lambda s: s[1], every=2, convolutional=c)
        for c in (False, True)
    ]
    for scanned, driven in zip(*map(jax.tree.leaves, runs), strict=True):
        # two programs round differently; a step amplifies that by the kernel's sum, below 10
        np.testing.assert_allclose(scanned, driven, rtol=0, atol=1e-11)


@pytest.mark.parametrize("convolutional", [False, True])
def test_the_caller_s_arrays_and_the_observations_survive_donation(convolutional):
    """Observing the state itself hands out views of buffers that the next step is given."""
    start = jnp.arange(100_000.0)
    before = np.array(start)
    final, seen = run_steps(
        lambda t, s: (s[0] + 1, s[1] * 2),
        (start, start),  # the same buffer twice
        5,
        observe=lambda s: s,
        convolutional=convolutional,
    )
    np.testing.assert_array_equal(start, before)
    for n in range(6):
        np.testing.assert_array_equal(seen[0][n], before + n)
        np.testing.assert_array_equal(seen[1][n], before * 2**n)
    np.testing.assert_array_equal(final[1], before * 32)


def test_reports_come_after_each_observation():
    calls = []
    run_steps(lambda t, s: s, jnp.zeros(()), 6, observe=lambda s: s, every=2, report=calls.append)
    assert calls == [2, 4, 6]


def test_no_steps_observe_the_start():
    calls = []
    final, seen = run_steps(
        step, (jnp.ones(2), jnp.zeros(2)), 0, observe=lambda s: s[0], every=5, report=calls.append
    )
    np.testing.assert_array_equal(final[0], 1.0)
    np.testing.assert_array_equal(seen, [[1.0, 1.0]])
    assert calls == []


def test_a_step_may_draw_from_its_number_and_a_key():
    def noisy(t, state):
        key, x = state
        return key, x + jax.random.normal(jax.random.fold_in(key, t))

    runs = [
        run_steps(noisy, (jax.random.key(0), jnp.zeros(())), 4, observe=lambda s: s[1], every=n)[1]
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(runs[0][::2], runs[1])
    assert len({*np.diff(runs[0])}) == 4


@pytest.mark.parametrize("convolutional", [False, True])
def test_the_step_is_compiled_once(convolutional):
    traces = []

    def counted(t, s):
        traces.append(None)
        return s + t

    final, _ = run_steps(
        counted, jnp.zeros(()), 8, observe=lambda s: s, every=2, convolutional=convolutional
    )
    assert float(final) == 28.0
    assert len(traces) == 1


def test_divergence_goes_on_and_is_recorded():
    """Euler on ẏ = −20y with h ∈ {0.05, 0.2}: multipliers 0 and −3; the third run is unstable."""
    rates = jnp.array([0.05, 0.1, 0.2])
    final, seen = run_steps(
        lambda t, y: y - 20 * rates * y,
        jnp.full(3, 1e300),
        40,
        observe=lambda y: {"y": y, "pair": jnp.stack([y, 2 * y], -1)},
        every=4,
    )
    steps = np.arange(0, 41, 4)
    # 2·10³⁰⁰·3ⁿ exceeds 1.8·10³⁰⁸ from n = 17 on, first seen after 20 steps
    assert first_nonfinite(seen, steps).tolist() == [-1, -1, 20]
    assert first_nonfinite(seen["y"], steps).tolist() == [-1, -1, 20]
    assert not np.isfinite(final[2])
    np.testing.assert_array_equal(final[:2], [0.0, 1e300])


def test_first_nonfinite_looks_at_every_leaf_and_entry():
    values = {"a": np.ones((4, 3)), "b": np.ones((4, 3, 2)), "n": np.ones((4, 3), int)}
    values["a"][2:, 0] = np.nan
    values["b"][1, 0, 1] = -np.inf  # earlier, in another leaf, and finite again later
    values["b"][3, 2] = np.nan
    assert first_nonfinite(values, np.array([0, 5, 10, 20])).tolist() == [5, -1, 20]


def test_a_sweep_is_a_vmapped_step():
    """Two rates of the linear game at once, against its matrix powers."""
    alphas = jnp.array([0.1, 0.3])

    def one(alpha, y):
        return simultaneous_euler(linear_game(0.2, 0.2), Players(alpha, alpha))(1.0, y)

    start = Players(jnp.array([1.0, 1.0]), jnp.array([0.5, 0.5]))
    final, _ = run_steps(
        lambda t, y: jax.vmap(one)(alphas, y), start, 10, observe=lambda y: y.phi, every=10
    )
    for n, alpha in enumerate(alphas):
        matrix = np.eye(2) + alpha * np.array([[-0.2, 1.0], [-1.0, -0.2]])
        expected = np.linalg.matrix_power(matrix, 10) @ [1.0, 0.5]
        np.testing.assert_allclose([final.phi[n], final.theta[n]], expected, rtol=1e-13)


BAD = {
    "every zero": ({"every": 0}, "every must be an integer of at least 1, got 0"),
    "every half": ({"every": 0.5}, "every must be an integer"),
    "steps negative": ({"num_steps": -2}, "num_steps must be an integer of at least 0, got -2"),
    "steps a float": ({"num_steps": 4.0}, "num_steps must be an integer"),
    "steps that do not divide": ({"every": 3}, "num_steps must be a multiple of every=3, got 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_counts_are_named(case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        run_steps(
            **{"step": step, "state": (0.0, 0.0), "num_steps": 4, "observe": lambda s: s, **given}
        )


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (np.ones((3, 2)), [0, 1]),
        (np.ones(2), [0, 1]),
        ({"a": np.ones((2, 2)), "b": np.ones((2, 3))}, [0, 1]),
        ({}, [0, 1]),
    ],
)
def test_lengths_that_disagree_are_named(values, steps):
    with pytest.raises(ValueError, match="values must have leading axes \\(time, run\\) with 2"):
        first_nonfinite(values, np.array(steps))


def test_a_fingerprint_is_of_what_is_computed():
    def one(x, y):
        return jnp.sin(x) + 2 * y

    def other(a, b):
        """A comment, another name, another file: the same program."""
        wave = jnp.sin(a)
        return wave + 2 * b

    x = jnp.ones(3)
    base = program_fingerprint(one, x, x)
    assert base == program_fingerprint(other, 5 * x, x)
    assert base == program_fingerprint(one, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    for changed in (
        program_fingerprint(lambda x, y: jnp.sin(x) + 3 * y, x, x),
        program_fingerprint(lambda x, y: jnp.cos(x) + 2 * y, x, x),
        program_fingerprint(one, jnp.ones(4), jnp.ones(4)),
        program_fingerprint(one, x.astype(jnp.float32), x.astype(jnp.float32)),
    ):
        assert changed != base
    table = np.arange(3.0)  # a constant of the program
    assert program_fingerprint(lambda x: x + table, x) != program_fingerprint(
        lambda x: x + 2 * table, x
    )


# --- The loop itself


def test_a_run_that_has_ended_takes_no_further_step():
    calls, reports = [], []

    def advance(begin, end, y):
        calls.append((begin, end))
        return y + (end - begin)

    state, seen = watch(
        advance,
        3,
        [3, 4, 7, 9],
        observe=int,
        ended=lambda y: y >= 7,
        report=reports.append,
    )
    assert (int(state), seen, calls, reports) == (7, [3, 4, 7], [(3, 4), (4, 7)], [4, 7])
    assert watch(advance, 7, [7], observe=int)[1] == [7]


@pytest.mark.parametrize("times", [[], [0, 0], [2, 1]])
def test_times_that_do_not_increase_are_named(times):
    with pytest.raises(ValueError, match="times must be one or more and increase, got"):
        watch(lambda begin, end, y: y, 0, times, observe=int)
