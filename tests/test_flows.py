import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.flows import integrate
from ddlib.games import Players, dirac_gan, game_field, linear_game

TIMES = jnp.linspace(0.0, 5.0, 6)


@jax.jit
@jax.vmap
def solve(a, b, y0, ts, tolerance):
    """Of ẏ = ay + by², one program for all that follows."""
    return integrate(lambda y: a * y + b * y**2, y0, ts, rtol=tolerance, atol=tolerance / 100)


def solutions(a, b, y0, ts=TIMES, tolerance=1e-11):
    """Of as many problems as a has entries, at most five: the rest of the batch repeats them."""
    count = len(a)
    y0 = np.broadcast_to(y0, count)
    given = (a, np.full(count, b), y0, np.tile(ts, (count, 1)), np.full(count, tolerance))
    return solve(*(np.resize(x, (5, *np.shape(x)[1:])) for x in given))[:count]


def test_default_tolerances_meet_the_closed_form():
    """φ + iθ turns clockwise: d(φ + iθ)/dt = −(ε + i)(φ + iθ).

    Local errors of 1e-11 add up over some tens of steps.
    """
    eps = 0.2
    ys = integrate(linear_game(eps, eps), Players(jnp.array(1.0), jnp.array(-0.5)), TIMES)
    turned = (1.0 - 0.5j) * np.exp(-(eps + 1j) * TIMES)
    np.testing.assert_allclose(ys.phi, turned.real, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ys.theta, turned.imag, rtol=0, atol=1e-10)
    assert (ys.phi[0], ys.theta[0]) == (1.0, -0.5)


def test_dirac_flow_keeps_its_radius():
    ys = integrate(game_field(dirac_gan()), Players(1.0, 1.0), jnp.array([0.0, 50.0, 100.0]))
    np.testing.assert_allclose(np.hypot(*ys), np.sqrt(2), rtol=1e-8)


def test_one_program_for_many_parameters_starts_times_and_tolerances():
    rng = np.random.default_rng(0)
    rates, starts, ends = rng.uniform(0.1, 2, 5), rng.normal(size=5), rng.uniform(0.1, 5, 5)
    times = np.linspace(0, 1, 6) * ends[:, None]
    ys = solve(-rates, 0 * rates, starts, times, np.full(5, 1e-11))
    expected = starts[:, None] * np.exp(-rates[:, None] * times)
    # also between the ends, where an interpolant would be worse by a factor of a hundred
    np.testing.assert_allclose(ys, expected, rtol=1e-10)
    (logistic,) = solutions([1.0], -1.0, 0.1)
    np.testing.assert_allclose(logistic, 1 / (1 + 9 * np.exp(-TIMES)), rtol=1e-10)


def test_tolerances_are_used():
    (loose,) = solutions([-1.0], 0.0, 1.0, np.array([0, 1e-9, 1e-8, 1e-7, 1e-6, 5.0]), 1e-3)
    assert 1e-10 < abs(loose[-1] - np.exp(-5.0)) < 1e-2


def test_blow_up_is_data():
    """ẏ = y² from 1 ends at t = 1: what lies before is right, what lies beyond is not finite.

    The run from 0.1 beside it is not disturbed.
    """
    times = np.array([0.0, 0.5, 0.9, 1.5, 2.0, 2.5])
    ends, goes_on = solutions([0.0, 0.0], 1.0, np.array([1.0, 0.1]), times)
    np.testing.assert_allclose(ends[:3], [1.0, 2.0, 10.0], rtol=1e-9)
    assert not np.isfinite(ends[3:]).any()
    np.testing.assert_allclose(goes_on, 1 / (10 - times), rtol=1e-10)


def test_a_field_that_is_no_number_ends_the_run():
    assert not np.isfinite(solutions([np.nan], 0.0, 1.0)[0][1:]).any()


def test_steps_that_run_out_are_data():
    ys = integrate(lambda y: -y, jnp.array(1.0), jnp.array([0.0, 0.1, 1e4]), max_steps=20)
    assert np.isfinite(ys).tolist() == [True, True, False]


def test_precision_and_kind_of_times():
    """float32 states stay float32 whatever the times are; times may be a list of integers."""
    ys = integrate(lambda y: -y, jnp.array(1.0, jnp.float32), TIMES)
    assert ys.dtype == np.dtype("float32")
    np.testing.assert_allclose(ys, np.exp(-TIMES), atol=1e-5)
    ys = integrate(lambda y: -y, 1.0, [0, 1])
    assert ys.dtype == np.dtype("float64")
    assert float(ys[-1]) == pytest.approx(np.exp(-1), rel=1e-9)


BAD = {
    "one time": ({"ts": jnp.array([0.0])}, "ts must hold at least two increasing times"),
    "a scalar time": ({"ts": jnp.array(0.0)}, "ts must hold at least two increasing times"),
    "repeated times": ({"ts": jnp.array([0.0, 1.0, 1.0])}, "increasing times"),
    "backward times": ({"ts": [1.0, 0.0]}, "increasing times"),
    "times of rank 2": ({"ts": jnp.ones((2, 2))}, "increasing times"),
    "a time that is no number": ({"ts": [0.0, np.nan]}, "increasing times"),
    "an infinite time": ({"ts": [0.0, np.inf]}, "ts must be finite"),
    "negative rtol": ({"rtol": -1e-3}, "rtol must be zero or positive, got -0.001"),
    "infinite atol": ({"atol": np.inf}, "atol must be finite"),
    "no steps": ({"max_steps": 0}, "max_steps must be an integer of at least 1"),
    "an integer state": ({"y0": 1}, "y0 must hold floating-point or complex numbers, got int"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        integrate(**{"field": lambda y: -y, "y0": 1.0, "ts": [0.0, 1.0], **given})


def test_many_times_are_all_reached():
    """A step clipped to the next time may be as short as rounding: that must not end the run."""
    times = 0.1 * jnp.arange(1000)

    def outwards(y):  # a slow spiral
        return jnp.array([[0.01, 1.0], [-1.0, 0.01]]) @ y

    radius = jnp.linalg.norm(integrate(outwards, jnp.array([1.0, 0.0]), times), axis=1)
    np.testing.assert_allclose(radius, np.exp(0.01 * np.asarray(times)), rtol=1e-8)
