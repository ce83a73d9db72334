import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib.flows import integrate
from ddlib.games import Players, dirac_gan, game_field, linear_game

TIMES = jnp.linspace(0.0, 5.0, 6)


def test_closed_forms_to_the_default_tolerance():
    """Local errors of 1e-11 add up over some tens of steps, and contracting flows forget them."""
    eps, start = 0.2, Players(jnp.array(1.0), jnp.array(-0.5))

    def logistic(y):
        return y * (1 - y)

    spiral, growth = jax.jit(
        lambda y: (
            integrate(linear_game(eps, eps), y, TIMES),
            integrate(logistic, jnp.array([0.1, 0.7]), TIMES),
        )
    )(start)
    # φ + iθ turns clockwise: d(φ + iθ)/dt = −(ε + i)(φ + iθ)
    turned = (1.0 - 0.5j) * np.exp(-(eps + 1j) * TIMES)
    np.testing.assert_allclose(spiral.phi, turned.real, rtol=0, atol=1e-9)
    np.testing.assert_allclose(spiral.theta, turned.imag, rtol=0, atol=1e-9)
    y0 = np.array([0.1, 0.7])
    expected = 1 / (1 + (1 / y0 - 1) * np.exp(-TIMES)[:, None])
    np.testing.assert_allclose(growth, expected, rtol=1e-9)
    np.testing.assert_array_equal(growth[0], y0)


def test_dirac_flow_keeps_its_radius():
    ys = integrate(game_field(dirac_gan()), Players(1.0, 1.0), jnp.array([0.0, 50.0, 100.0]))
    np.testing.assert_allclose(np.hypot(*ys), np.sqrt(2), rtol=1e-8)


def test_tolerances_are_used_and_traced_calls_agree():
    def error(tolerance):
        ys = integrate(lambda y: -y, jnp.array(1.0), TIMES, rtol=tolerance, atol=tolerance)
        return jnp.abs(ys - jnp.exp(-TIMES)).max()

    loose, tight = jax.jit(jax.vmap(error))(jnp.array([1e-3, 1e-12]))
    assert tight < 1e-10 < loose < 1e-1


def test_one_program_for_many_starts_times_and_parameters():
    def run(rate, y0, end):
        return integrate(lambda y: -rate * y, y0, jnp.array([0.0, 1.0]) * end)[-1]

    rates, starts, ends = jnp.array([[0.5, 1.0, 2.0], [1.0, -2.0, 3.0], [1.0, 2.0, 0.1]])
    got = jax.jit(jax.vmap(run))(rates, starts, ends)
    np.testing.assert_allclose(got, starts * np.exp(-rates * ends), rtol=1e-9)


def test_blow_up_is_data():
    """ẏ = y² from 1 ends at t = 1: what lies before is right, what lies beyond is not finite."""
    times = jnp.array([0.0, 0.5, 0.9, 1.5, 2.0])
    ys = jax.jit(lambda y: integrate(lambda y: y**2, y, times))(jnp.array([1.0, 0.1]))
    # the second solution is still smooth at t = 2, but shares its clock with the first
    np.testing.assert_allclose(ys[:3, 0], [1.0, 2.0, 10.0], rtol=1e-8)
    assert not np.isfinite(ys[3:, 0]).any()
    apart = jax.vmap(lambda y: integrate(lambda y: y**2, y, times))(jnp.array([1.0, 0.1]))
    np.testing.assert_allclose(apart[1], 1 / (10 - times), rtol=1e-9)
    assert not np.isfinite(apart[0, 3:]).any()


def test_steps_that_run_out_are_data():
    ys = integrate(lambda y: -y, jnp.array(1.0), jnp.array([0.0, 0.1, 1e4]), max_steps=20)
    assert np.isfinite(ys).tolist() == [True, True, False]


def test_a_field_that_is_no_number_ends_the_run():
    ys = integrate(lambda y: y * jnp.nan, jnp.array(1.0), jnp.array([0.0, 1.0]))
    assert not np.isfinite(ys[-1])


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
