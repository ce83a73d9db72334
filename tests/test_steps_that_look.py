"""Steps whose value, branches or loops look at h: their terms are those of what they do for h > 0.

On ẏ = −y every method here has a rational step R(h)·y, so that the modified field is log R(h)/h·y.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ddlib import taylor
from ddlib.drift import estimate_modified_field, modified_field, modified_terms
from ddlib.methods import iterate

EULER = [-1, -1 / 2, -1 / 3]  # log(1 − h)/h
IMPLICIT = [-1, 1 / 2, -1 / 3]  # −log(1 + h)/h
FOUR_EULERS = [-1, -1 / 8, -1 / 48]  # 4 log(1 − h/4)/h


def slope(y):
    return -y


def fixed_point(until):
    """Implicit Euler by fixed-point turns."""

    def step(h, y):
        def turn(state):
            z, _, count = state
            new = y + h * slope(z)
            return new, jnp.max(jnp.abs(new - z)), count + 1

        return lax.while_loop(until, turn, (y, jnp.full((), jnp.inf, y.dtype), 0))[0]

    return step


def newton(h, y):
    def turn(z):
        return z - (z - y - h * slope(z)) / (1 + h)

    return lax.while_loop(lambda z: jnp.max(jnp.abs(y + h * slope(z) - z)) > 1e-12, turn, y)


def damped(h, y):  # gains a factor 2 a turn, not a power of h
    def residual(z):
        return y + h * slope(z) - z

    return lax.while_loop(
        lambda z: jnp.linalg.norm(residual(z)) > 1e-12, lambda z: z + residual(z) / 2, y
    )


def substeps(h, y):
    """Time runs to h in quarters."""

    def turn(state):
        t, y = state
        return t + h / 4, y + h / 4 * slope(y)

    return lax.while_loop(lambda state: state[0] < h, turn, (0.0 * h, y))[1]


def counted(h, y):
    """⌈h/0.004⌉ equal Euler steps: four for h in (0.012, 0.016]."""
    count = jnp.ceil(h / 0.004)
    return lax.fori_loop(0, count.astype(int), lambda _, y: y + h / count * slope(y), y)


def capped(h, y):
    """Euler steps of at most 0.004, the last one what is left."""

    def turn(state):
        left, y = state
        size = jnp.minimum(left, 0.004)
        return left - size, y + size * slope(y)

    return lax.while_loop(lambda state: state[0] > 0, turn, (h, y))[1]


def quick(h, y):
    return y + h * slope(y)


def until_flagged(h, y):
    def turn(state):
        z, _, count = state
        new = y + h * slope(z)
        return new, jnp.max(jnp.abs(new - z)) < 1e-12, count + 1

    return lax.while_loop(lambda s: ~s[1] & (s[2] < 100), turn, (y, jnp.array(False), 0))[0]


def until_norm(relative):
    def step(h, y):
        def turn(state):
            z, _ = state
            new = y + h * slope(z)
            size = jnp.linalg.norm(new) if relative else 1.0
            return new, jnp.linalg.norm(new - z) / size

        return lax.while_loop(lambda s: s[1] > 1e-12, turn, (y, jnp.array(jnp.inf)))[0]

    return step


def counted_turns(h, y):
    def turn(_, state):
        z, done = state
        new = y + h * slope(z)
        return jnp.where(done, z, new), done | (jnp.max(jnp.abs(new - z)) < 1e-12)

    return lax.fori_loop(0, 50, turn, (y, jnp.array(False)))[0]


def there_and_back(h, y):
    """A loop that ends by a number and is no fixed point."""
    turn = lambda s: (s[0] * 2, s[1] / 2)  # noqa: E731
    z, back = lax.while_loop(lambda s: jnp.abs(s[0][0]) < 10, turn, (y + h * slope(y), 1.0))
    return z * back


STEPS = {
    "a flag ends it": (until_flagged, IMPLICIT),
    "a norm ends it": (until_norm(False), IMPLICIT),
    "a relative norm ends it": (until_norm(True), IMPLICIT),
    "so many turns, some idle": (counted_turns, IMPLICIT),
    "a number ends it": (there_and_back, EULER),
    "where the move is small": (
        lambda h, y: jnp.where(jnp.max(jnp.abs(h * slope(y))) < 1e-10, y, quick(h, y)),
        EULER,
    ),
    "a branch on the move's norm": (
        lambda h, y: lax.cond(
            jnp.linalg.norm(h * slope(y)) > 1e-10, lambda: quick(h, y), lambda: y
        ),
        EULER,
    ),
    "a move of a norm": (lambda h, y: y - jnp.linalg.norm(h * y), EULER),
    "a rectified step": (lambda h, y: quick(jax.nn.relu(h), y), EULER),
    "a rectified move": (lambda h, y: y - jax.nn.relu(h * y), EULER),
    "fixed point, until the change is small": (fixed_point(lambda s: s[1] > 1e-12), IMPLICIT),
    "fixed point, at most so many turns": (
        fixed_point(lambda s: (s[1] > 1e-12) & (s[2] < 200)),
        IMPLICIT,
    ),
    "fixed point, a relative change": (
        fixed_point(lambda s: s[1] > 1e-12 * (1 + jnp.max(jnp.abs(s[0])))),
        IMPLICIT,
    ),
    "Newton, until the residual is small": (newton, IMPLICIT),
    "damped fixed point": (damped, IMPLICIT),
    "time runs to h": (substeps, FOUR_EULERS),
    "where h is 0": (lambda h, y: jnp.where(h == 0, y, quick(h, y)), EULER),
    "where h is not 0": (lambda h, y: jnp.where(h != 0, quick(h, y), y), EULER),
    "where h is hardly 0": (lambda h, y: jnp.where(jnp.abs(h) < 1e-8, y, quick(h, y)), EULER),
    "a branch": (lambda h, y: lax.cond(h > 0, lambda: quick(h, y), lambda: y), EULER),
    "a branch in jit": (
        jax.jit(lambda h, y: lax.cond(h > 1e-6, quick, lambda h, y: y, h, y)),
        EULER,
    ),
    "a switch": (
        lambda h, y: lax.switch((h > 0).astype(int), [lambda: y, lambda: quick(h, y)]),
        EULER,
    ),
    "in a scan": (
        lambda h, y: lax.scan(
            lambda y, _: (jnp.where(h == 0, y, quick(h / 4, y)), None), y, None, length=4
        )[0],
        FOUR_EULERS,
    ),
    "sign of h": (lambda h, y: y + jnp.sign(h) * h * slope(y), EULER),
    "modulus of h": (lambda h, y: quick(jnp.abs(h), y), EULER),
    "h, but no less than 0": (lambda h, y: quick(jnp.maximum(h, 0.0), y), EULER),
    "h, clipped": (lambda h, y: quick(jnp.clip(h, 0.0, 1.0), y), EULER),
    "modulus of the move": (lambda h, y: y - jnp.abs(h * slope(y)), EULER),
    "no move upwards": (lambda h, y: y + jnp.minimum(h * slope(y), 0.0), EULER),
    "largest move": (lambda h, y: y - jnp.max(jnp.abs(h * slope(y))), EULER),
    "where the move is 0": (
        lambda h, y: jnp.where(jnp.sum((h * slope(y)) ** 2) == 0, y, quick(h, y)),
        EULER,
    ),
    "a bound on the move": (
        lambda h, y: y + h * slope(y) * jnp.minimum(1.0, 1.0 / jnp.max(jnp.abs(h * y) + 1e-9)),
        EULER,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_terms_are_those_of_small_positive_h(name):
    step, factors = STEPS[name]
    y = jnp.array([1.5])
    got = modified_terms(step, 2)(y)
    np.testing.assert_allclose(np.ravel(got), 1.5 * np.array(factors), rtol=1e-9)


@pytest.mark.parametrize("name", ["where h is 0", "fixed point, until the change is small"])
def test_iterates_alone_say_the_same(name):
    step, h, y = STEPS[name][0], 0.01, jnp.array([1.5])
    seen = estimate_modified_field(iterate(step, h, y, 5), h)  # error O(h⁵)
    np.testing.assert_allclose(modified_field(step, h, 4)(y), seen, rtol=1e-9)


def test_loops_under_vmap_and_jit():
    many = jnp.array([[1.5], [0.5], [-2.0]])
    terms = modified_terms(fixed_point(lambda s: s[1] > 1e-12), 2)
    got = np.stack(jax.jit(jax.vmap(terms))(many))[..., 0]
    np.testing.assert_allclose(got, np.outer(IMPLICIT, many[:, 0]), rtol=1e-9)


def test_the_number_of_turns_is_that_of_the_step_size_of_interest():
    """⌈h/0.004⌉ Euler steps are four at h = 0.014, and one in the limit."""
    y, h = jnp.array([1.5]), 0.014
    np.testing.assert_allclose(np.ravel(modified_terms(counted, 2)(y)), 1.5 * np.array(EULER))
    expected = 1.5 * np.polyval(FOUR_EULERS[::-1], h)
    np.testing.assert_allclose(modified_field(counted, h, 2)(y), [expected], rtol=1e-12)


def test_a_step_of_steps_that_do_not_shrink_with_h():
    """One Euler step in the limit; at h = 0.014 three of 0.004 and a rest: no series in h."""
    y = jnp.array([1.5])
    np.testing.assert_allclose(np.ravel(modified_terms(capped, 2)(y)), 1.5 * np.array(EULER))
    with pytest.raises(ValueError, match="moves at h = 0"):
        modified_field(capped, 0.014, 2)(y)


def bisection(h, y):
    """Implicit Euler by halving a bracket: piecewise constant in h."""

    def turn(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        below = middle - y - h * slope(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    return lax.fori_loop(0, 60, turn, (y - 1, y + 1))[0]


@pytest.mark.parametrize(
    "step",
    [
        lambda h, y: y + jnp.sqrt(h) * slope(y),
        bisection,
        lambda h, y: y - jnp.sort(h * y),
        lambda h, y: y - lax.cummax(h * y),
    ],
)
def test_what_has_no_series_is_an_error_and_never_zero_drift(step):
    with pytest.raises(ValueError, match="step must have a series in h at y"):
        modified_terms(step, 2)(jnp.array([1.5, 0.5, 1.0]))


def test_divergence_of_the_field_stays_data():
    got = modified_terms(lambda h, y: y + h / y, 1)(jnp.array(0.0))
    assert not np.isfinite(got).any()


def heavy_ball(h, state):
    x, v = state
    v = 0.9 * v - h * x
    return x + v, v


MOVING = {
    "heavy ball": (heavy_ball, (jnp.array(1.0), jnp.array(0.0))),
    "heavy ball at its minimum": (heavy_ball, (jnp.array(0.0), jnp.array(0.0))),
    "a momentum alone": (lambda h, s: (s[0], s[1] / 2 - h * s[0]), (jnp.array(1.0), jnp.zeros(()))),
    "an average": (lambda h, y: 0.9 * y, jnp.zeros(2)),
    "only some entries": (lambda h, y: y * jnp.array([1.0, 0.5]), jnp.array([1.0, 0.0])),
}


@pytest.mark.parametrize("name", MOVING)
def test_steps_that_move_at_rest_are_refused_also_where_they_happen_to_stand(name):
    step, y = MOVING[name]
    with pytest.raises(ValueError, match="moves at h = 0"):
        modified_terms(step, 1)(y)
    assert np.isnan(np.concatenate([np.ravel(x) for x in jax.tree.leaves(
        jax.jit(modified_terms(step, 1))(y))])).all()  # fmt: skip


def test_comparisons_without_a_clock_stay_those_of_jax():
    """`taylor.coefficients` has no small positive t: on a kink it takes JAX's slope."""
    got = taylor.coefficients(lambda t: jnp.maximum(t, 0.0), 0.0, 1)
    assert [float(x) for x in got] == [0.0, 0.5]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [1.0, 1e3, 1e6])
def test_a_stiff_step_is_no_step_without_a_series(rate, dtype):
    """−λ, −λ²/2, −λ³/3, also where h·λ is far beyond the series' radius at the h of interest."""
    y = jnp.array([1.5, -0.25], dtype)
    got = modified_terms(lambda h, y: y - h * rate * y, 2)(y)
    for k, term in enumerate(got):
        expected = -(rate ** (k + 1)) / (k + 1) * np.float64(y)
        np.testing.assert_allclose(term, expected, rtol=64 * float(jnp.finfo(dtype).eps))
