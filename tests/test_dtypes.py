"""One policy for numbers, over the public functions of the mathematical rooms.

What is computed from a state has the state's precision, also where rates, step sizes and
coefficients come in double precision and float64 is enabled; what has no meaning (integers that
cannot move by fractions) is refused by name. Values are held against double precision.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddlib import curvature, drift, flows, games, methods, stability
from ddlib import regularizers as reg
from ddlib.games import Players

H = np.float64(0.125)  # no weak type: under x64 it would make everything double
RATES = Players(np.float64(0.5), np.float64(0.25))
TERMS = reg.consensus(np.float64(0.25))
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def loss(y):
    """Real for real and for complex y."""
    return jnp.sum(jnp.abs(y) ** 2 * jnp.array([1, 2], y.real.dtype)) / 2 + jnp.sum(y.real) / 4


def holomorphic(y):
    return jnp.sum(y**2 * jnp.array([1, 2], y.dtype)) / 2 + jnp.sum(y) / 4


def of_vector(y):
    return games.gradient_field(loss)(y)


def pair(y):
    return Players(y, y / 2)


LOSSES = Players(lambda y: loss(y.phi + y.theta / 2), lambda y: loss(y.theta - y.phi))
GAME = games.game_field(LOSSES)
LINEAR = games.linear_game(np.float64(0.25), jnp.array(0.5))
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])


def matvec(v):
    return jnp.asarray(MATRIX).astype(v.dtype) @ v


# name: (function of a vector of two entries, the argument's name in errors, complex is refused)
TABLE = {
    "gradient_field": (of_vector, "y", False),
    "game_field": (lambda y: GAME(pair(y)), "y", False),
    "linear_game": (lambda y: LINEAR(pair(y)), "y", False),
    "euler": (lambda y: methods.euler(of_vector)(H, y), "y", False),
    "simultaneous": (
        lambda y: methods.simultaneous_euler(LINEAR, RATES)(H, pair(y)),
        "y",
        False,
    ),
    "alternating": (
        lambda y: methods.alternating_euler(LINEAR, RATES, Players(2, 1))(H, pair(y)),
        "y",
        False,
    ),
    "runge_kutta": (
        lambda y: methods.runge_kutta(LINEAR, methods.RK4, RATES)(H, pair(y)),
        "y",
        False,
    ),
    "implicit_midpoint": (lambda y: methods.implicit_midpoint(of_vector)(H, y), "y", False),
    "sweeps": (lambda y: methods.implicit_midpoint(of_vector).sweeps(2)(H, y), "y", False),
    "iterate": (lambda y: methods.iterate(lambda h, y: y - h * y, H, y, 2), "y", False),
    "modified_terms": (
        lambda y: drift.modified_terms(lambda h, y: y - h * y, 1, at=H)(y),
        "y",
        False,
    ),
    "modified_field": (
        lambda y: drift.modified_field(methods.simultaneous_euler(LINEAR, RATES), H, 1)(pair(y)),
        "y",
        False,
    ),
    "estimate_modified_field": (
        lambda y: (
            drift.estimate_modified_field(jnp.stack([y, y / 2]), H)
            if jnp.issubdtype(y.dtype, jnp.inexact)
            else drift.estimate_modified_field(jnp.stack([y, y]), H)
        ),
        "iterates",
        False,
    ),
    "published_drift": (lambda y: drift.published_drift(LINEAR, RATES)(pair(y)), "y", False),
    "regularized_field": (
        lambda y: reg.regularized_field(LINEAR, TERMS)(pair(y)),
        "y",
        True,
    ),
    "regularized_losses": (
        lambda y: games.game_field(reg.regularized_losses(LOSSES, TERMS))(pair(y)),
        "y",
        True,
    ),
    "jacobian": (lambda y: stability.jacobian(lambda y: -H.astype(y.dtype) * y, y), "y", False),
    "gradient": (lambda y: curvature.gradient(holomorphic, y), "params", False),
    "hvp": (lambda y: curvature.hvp(holomorphic, y)(jnp.ones(2)), "params", False),
    "hessian": (lambda y: curvature.hessian(holomorphic, y), "params", False),
    "eigh": (lambda y: jnp.abs(curvature.eigh(holomorphic, y).vectors), "params", True),
    "top_eigenpairs": (
        lambda y: jnp.abs(curvature.top_eigenpairs(matvec, y, 1, num_matvecs=2)[0].vectors),
        "start",
        True,
    ),
    "matrix_function": (
        lambda y: curvature.matrix_function(matvec, y, lambda z: z * z, 2),
        "start",
        False,
    ),
    "integrate": (
        lambda y: flows.integrate(lambda y: -y, y, np.array([0.0, 0.5])),
        "y0",
        False,
    ),
    "integrate_with_error": (
        lambda y: flows.integrate_with_error(lambda y: -y, y, np.array([0.0, 0.5]))[0],
        "y0",
        False,
    ),
    "spectral_field": (
        lambda y: flows.spectral_field(holomorphic, flows.igr_alpha, H)(y),
        "params",
        False,
    ),
    "spectral_field, complex": (
        lambda y: flows.spectral_field(holomorphic, flows.principal_alpha, H)(y),
        "params",
        False,
    ),
    "spectral_field, by products": (
        lambda y: flows.spectral_field(holomorphic, flows.igr_alpha, H, 2)(y),
        "params",
        False,
    ),
    "polynomial_field": (
        lambda y: flows.polynomial_field(holomorphic, jnp.array([1.0, 0.5]), H)(y),
        "params",
        False,
    ),
    "nonprincipal_term": (
        lambda y: flows.nonprincipal_term(lambda y: jnp.sum(y**3), H)(y),
        "y",
        False,
    ),
    "critical_jacobian": (
        lambda y: flows.critical_jacobian(holomorphic, flows.igr_alpha, y, H),
        "y",
        True,
    ),
}
DECOMPOSED = {"float16": "float32", "bfloat16": "float32"}  # what LAPACK has no halves of


def leaves(tree):
    return jax.tree.leaves(tree)


@pytest.fixture(scope="module")
def exact():
    """Each function's value in double precision, once."""
    found = {}

    def value(name):
        if name not in found:
            found[name] = leaves(TABLE[name][0](jnp.array([0.5, -0.25])))
        return found[name]

    return value


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", TABLE)
def test_the_state_s_precision_is_kept(name, dtype, exact):
    y = jnp.array([0.5, -0.25], dtype)  # exact in every precision
    for got, value in zip(leaves(TABLE[name][0](y)), exact(name), strict=True):
        if jnp.iscomplexobj(got):
            assert got.dtype == jnp.complex64
        else:
            assert got.dtype == jnp.dtype(dtype)
        scale = 1 + np.abs(value).max()
        rounding = 64 * EPS[dtype] + (1e-5 if "integrate" in name else 0)
        np.testing.assert_allclose(
            np.asarray(got.astype(value.dtype)), value, rtol=0, atol=rounding * scale
        )


@pytest.mark.parametrize("name", TABLE)
def test_integers_are_refused_by_name(name):
    fn, argument, _ = TABLE[name]
    with pytest.raises(ValueError, match=rf"^{argument} must .*int"):
        fn(jnp.array([1, 2]))


@pytest.mark.parametrize("name", TABLE)
def test_complex_numbers_are_kept_or_refused_by_name(name):
    fn, argument, refused = TABLE[name]
    y = jnp.array([0.5 + 0.25j, -0.25j], "complex64")
    if refused:
        with pytest.raises(ValueError, match=rf"^{argument} must .*complex"):
            fn(y)
    else:
        assert {x.dtype for x in leaves(fn(y))} == {np.dtype("complex64")}


@pytest.mark.parametrize("way", ["one loss", "a game"])
def test_a_loss_falls_down_its_field_also_for_complex_parameters(way):
    """Steepest descent of |z − a|² is 2(a − z); JAX's gradient is its conjugate, up to sign."""
    target, z = 1 - 2j, jnp.array(0.5 + 0.25j)

    def square(z):
        return jnp.abs(z - target) ** 2

    if way == "one loss":
        got = games.gradient_field(square)(z)
    else:
        losses = Players(lambda y: square(y.phi), lambda y: square(y.theta))
        got = games.game_field(losses)(Players(z, z)).theta
    np.testing.assert_allclose(got, 2 * (target - z), rtol=1e-14)


def test_integers_that_are_numbers_are_taken_as_such():
    """Coefficients and z = hλ do not move: −(1 + ½·2), and the flow of (1,) is −∇E."""
    assert flows.igr_alpha(jnp.array(2)) == -2.0
    assert flows.series_alpha(1)(jnp.array(2)) == -2.0
    np.testing.assert_allclose(flows.principal_alpha(jnp.array(2)), 0.5j * np.pi, atol=1e-15)
    y = jnp.array([1.0, 3.0])
    got = flows.polynomial_field(lambda y: jnp.sum(y**2), jnp.array([1]), 0.5)(y)
    np.testing.assert_array_equal(got, -2 * y)


def test_leaves_of_two_precisions_keep_each_its_own():
    y = Players(jnp.array([0.5], "float32"), jnp.array([0.25], "float64"))
    for value in (
        LINEAR(y),
        methods.simultaneous_euler(LINEAR, RATES)(H, y),
        drift.published_drift(LINEAR, RATES)(y),
        reg.regularized_field(LINEAR, TERMS)(y),
        drift.modified_field(methods.simultaneous_euler(LINEAR, RATES), H, 1)(y),
        flows.integrate(LINEAR, y, np.array([0.0, 0.5])),
    ):
        assert [x.dtype.name for x in value] == ["float32", "float64"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: games.gradient_field(lambda y: 1j * y)(1.0), "loss must return a real"),
        (lambda: games.gradient_field(lambda y: y)(jnp.ones(2)), "loss must return a scalar"),
        (lambda: games.gradient_field(lambda y: 1.0)({}), "y must hold at least one array"),
        (lambda: curvature.hvp(lambda y: jnp.sum(jnp.abs(y)), jnp.ones(2) * 1j), "holomorphic"),
        (lambda: drift.modified_terms(methods.euler(lambda y: y), 1)({}), "y must hold at least"),
        (lambda: drift.published_drift(LINEAR, RATES)(Players(2, 1)), "y must .* write 1.0 for 1"),
        (lambda: methods.euler(lambda y: 1j * y)(0.1, jnp.ones(2)), "direction must be real"),
        (lambda: methods.iterate(lambda h, y: y * 1j, 0.1, jnp.ones(2), 2), "must be real where y"),
        (lambda: flows.integrate(lambda y: 1j * y, 1.0, jnp.arange(2.0)), "complex values on"),
        (lambda: stability.jacobian(lambda y: y, {"a": "text"}), "y must hold .*got 'text'"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TIMES = {
    "far from the start": (np.array([1e8, 1e8 + 1, 1e8 + 2]), [0.0, 1.0, 2.0], 1.0),
    "close together": (np.array([1000.0, 1000.0001]), [0.0, 1.0], 1e4),
    "backwards of zero": (np.array([-1e8, 1 - 1e8]), [0.0, 1.0], 1.0),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_count_from_the_first(name):
    times, passed, rate = TIMES[name]
    got = flows.integrate(lambda y: -rate * y, jnp.array(1.0, "float32"), times)
    # in double precision 1e8 + 1 and 1000.0001 are known to 1e-8 and 1e-9 of what passes
    np.testing.assert_allclose(got, np.exp(-np.array(passed)), rtol=1e-5)


def test_times_that_meet_in_the_state_s_precision_are_refused():
    with pytest.raises(ValueError, match=r"ts must increase in the precision of y0 \(float32\)"):
        flows.integrate(lambda y: -y, jnp.array(1.0, "float32"), np.array([0.0, 1e8, 1e8 + 1]))
    got = flows.integrate(lambda y: 0 * y, jnp.array(1.0), np.array([0.0, 1e8, 1e8 + 1]))
    assert got.tolist() == [1.0, 1.0, 1.0]
