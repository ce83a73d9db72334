import functools
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from ddlib import taylor

EPS = np.finfo(float).eps
ORDER = 3
MATRIX = np.random.default_rng(0).normal(size=(4, 4)) / 2


def curve(t):
    """A vector that bends with t, away from every kink below for |t| ≤ 0.1."""
    x, v, w = np.array([[0.3, -0.7, 1.1, 0.6], [-0.2, 0.5, 0.8, -0.4], [0.4, -0.3, 0.2, 0.1]])
    x, v, w = (jnp.asarray(z, t.dtype) for z in (x, v, w))
    return x + t * v + t * t * w


def square(x):
    return jnp.outer(x, jnp.cos(x)) + MATRIX.astype(x.dtype)


@jax.custom_jvp
def by_own_rule(x):
    return jnp.sin(x) * x


@by_own_rule.defjvp
def _(primals, tangents):
    (x,), (v,) = primals, tangents
    return by_own_rule(x), (jnp.cos(x) * x + jnp.sin(x)) * v


@jax.custom_vjp
def by_lying_rule(x):
    return jnp.sin(x) * x


by_lying_rule.defvjp(lambda x: (by_lying_rule(x), None), lambda _, g: (7 * g,))


def loop(body, x, count=3):
    return lax.fori_loop(0, count, lambda _, c: body(c), x)


def rnn(x):
    return lax.scan(lambda c, a: (jnp.tanh(c) * a + c, c * a), x[0], x)


FUNCTIONS = {
    # linear primitives, products, quotients
    "matmul": lambda x: square(x) @ square(x) @ (MATRIX @ x),
    "einsum": lambda x: jnp.einsum("ij,j,k,ik", square(x), x, x, square(x)),
    "conv": lambda x: jnp.convolve(x, x[:3] * x[1:]),
    "conv 2d": lambda x: lax.conv_general_dilated(
        square(x)[None, None], square(2 * x)[None, None, :2, :3], (1, 2), "SAME"
    ),
    "layout": lambda x: jnp.pad(jnp.concatenate([x[::-1], x]).reshape(4, 2).T, 1)[1:, ::2],
    "pad with a variable": lambda x: lax.pad(x, x[0], [(1, 1, 1)]),
    "split": lambda x: jnp.split(x * x, 2),
    "squeeze": lambda x: jnp.squeeze(x[None, :, None] * 2, 0) + jnp.tile(x, 4).reshape(4, 4)[:, :1],
    "cumsum": lambda x: jnp.cumsum(x * x),
    "moments": lambda x: (jnp.mean(x), jnp.var(x), jnp.prod(x[:2])),
    "division": lambda x: (x / (2 + x * x), 1 / (2 + x), x / 3.0),
    "average pool": lambda x: lax.reduce_window(square(x), 0.0, lax.add, (2, 2), (1, 1), "VALID"),
    "max pool": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME"),
    # elementwise functions
    "exp": jnp.exp,
    "log": lambda x: jnp.log(2 + x),
    "log1p": lambda x: jnp.log1p(x * x),
    "expm1": jnp.expm1,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "log_sigmoid": jax.nn.log_sigmoid,
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.1),
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "sin cos": lambda x: jnp.sin(x) * jnp.cos(2 * x),
    "sqrt": lambda x: (jnp.sqrt(2 + x), lax.rsqrt(2 + x)),
    "powers": lambda x: [(1 + x) ** k for k in (0, 2, 3, 6)],
    "negative powers": lambda x: (2 + x) ** -2,
    "real powers": lambda x: (2 + x) ** x,
    "erf": lambda x: (jax.scipy.special.erf(x), jax.scipy.special.erfc(2 * x)),
    "tangent": lambda x: (jnp.tan(x), jnp.arctan(2 * x), lax.asin(x / 2), lax.acos(x / 2)),
    "hyperbolic": lambda x: (jnp.sinh(x), jnp.cosh(x), jnp.arcsinh(x), lax.atanh(x / 2)),
    "acosh": lambda x: lax.acosh(2.5 + x),
    "roots": lambda x: (jnp.cbrt(x), lax.rsqrt(2 + x), lax.pow(2 + x, 1.7), lax.pow(x, 40)),
    "exp2": jnp.exp2,
    "abs": jnp.abs,
    "max min": lambda x: (jnp.maximum(x, 0.1), jnp.minimum(x, x * x), jnp.clip(x, -0.5, 0.5)),
    "logsumexp": jax.nn.logsumexp,
    "softmax": jax.nn.softmax,
    # indices and predicates
    "select": lambda x: jnp.where(x > 0, jnp.sin(x), x**3),
    "gather": lambda x: x[jnp.array([2, 0, 0])] * jnp.take(x, 1),
    "gather with a fill": lambda x: x.at[jnp.array([1, 9])].get(mode="fill", fill_value=2.0),
    "scatter add": lambda x: jnp.zeros(4, x.dtype).at[jnp.array([1, 1, 2])].add(x[:3] * x[1:]),
    "scatter set": lambda x: (x * x).at[jnp.array([1, 2])].set(jnp.sin(x[:2])),
    "dynamic slice": lambda x: lax.dynamic_slice(x, (jnp.argmax(x) - 1,), (2,)),
    "dynamic update": lambda x: lax.dynamic_update_slice(x, x[:2] ** 2, (1,)),
    "sort": lambda x: (jnp.sort(x), lax.top_k(x, 2)[0]),
    "sort with a payload": lambda x: lax.sort((x, jnp.arange(4)), num_keys=1),
    "max": lambda x: (jnp.max(x), lax.cummax(x)),
    # programs within the program
    "scan": rnn,
    "reverse scan": lambda x: lax.scan(lambda c, a: (c * a, 2.0), x[0], x, reverse=True),
    "scan that counts": lambda x: lax.scan(
        lambda c, a: ((c[0] + 1, jnp.sin(c[1]) * a, c[2] * 2), c[1] * c[0]), (0, x[0], 1.0), x
    ),
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x + i * c, x),
    "while": lambda x: lax.while_loop(
        lambda c: jnp.sum(c[1] ** 2) < 30.0 + 0 * x[0], lambda c: (c[0] + 1, c[1] * 1.5 + x), (0, x)
    ),
    "vmapped while": jax.vmap(
        lambda a: lax.while_loop(lambda c: c < 3.0, lambda c: c * c + 1 + a * a, a)
    ),
    "cond": lambda x: lax.cond(x[0] > 0, lambda x: (x * x, 1.0, 2), lambda x: (x, 3.0, 1), x),
    "switch": lambda x: lax.switch(jnp.argmax(x) - 1, [jnp.sin, jnp.cos, jnp.exp], x),
    "vmapped cond": jax.vmap(lambda a: lax.cond(a > 0, jnp.sin, lambda a: a * a, a)),
    "jit": jax.jit(lambda x: jnp.sin(x) * x),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * x),
    "custom_jvp": by_own_rule,
    "custom_vjp": by_lying_rule,
    "custom_vjp in a scan": lambda x: lax.map(by_lying_rule, x),
    "gradient": jax.grad(lambda x: jnp.sum(jax.nn.softplus(square(x) @ x))),
    "gradient of a scan": jax.grad(lambda x: rnn(x)[0]),
    "gradient of a checkpoint": jax.grad(jax.checkpoint(lambda x: jnp.sum(jnp.tanh(x) * x))),
    "hessian product": lambda x: jax.jvp(jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 3)), (x,), (x,)),
    # stop_gradient is the identity, wherever it stands
    "stop": lambda x: lax.stop_gradient(x) * x,
    "stop in jit": jax.jit(lambda x: lax.stop_gradient(x) * x),
    "stop in a scan": lambda x: loop(lambda c: lax.stop_gradient(c) * x, x),
    "stop in a cond": lambda x: lax.cond(x[0] > 0, lambda x: lax.stop_gradient(x) * x, jnp.sin, x),
    "stop in a checkpoint": jax.checkpoint(lambda x: lax.stop_gradient(x) * x),
    # linear algebra
    "solve": lambda x: jnp.linalg.solve(square(x)[:2, :2] + 4 * jnp.eye(2), x[:2]),
    # complex numbers on a real line
    "complex": lambda x: (lax.complex(x, x * x) * jnp.exp(1j * x)).real,
    "complex log": lambda x: jnp.log(-1 - x + 1j * x),
    "modulus": lambda x: jnp.abs(jnp.exp((0.3 + 1j) * x) + x),
    "conjugate": lambda x: jnp.conj(jnp.exp(1j * x)) / (2 + 1j * x),
    "complex tanh": lambda x: jnp.tanh((1 + 1j) * x),
    "fft": lambda x: jnp.fft.fft(x.astype(complex)) ** 2,
    # nothing to expand
    "integers": lambda x: (jnp.argmax(x), x > 0, jnp.sign(x), x * 2),
    "constants": lambda x: (jnp.ones(3), 2, x),
    "noise": lambda x: x * jax.random.normal(jax.random.key(0), (4,)),
}


# Interpolation at 15 Chebyshev points in |t| ≤ 0.1 takes no derivative. The functions are analytic
# for |t| < 0.5 at least, so it leaves about 0.2^15/0.1² ~ 3e-9 times the aliasing factor of T_15,
# less than 0.1, and of rounding 15²·eps/0.1² ~ 5e-12.
RADIUS = 0.1
NODES = np.cos((np.arange(15) + 0.5) * np.pi / 15)
INTERPOLATE = np.linalg.inv(np.vander(NODES, increasing=True))[:3]
INTERPOLATE /= RADIUS ** np.arange(3)[:, None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_coefficients_are_those_of_the_interpolating_polynomial(name):
    fn = FUNCTIONS[name]

    def on_curve(t):
        return fn(curve(t))

    @jax.jit
    def both(t):
        nodes = t + jnp.asarray(RADIUS * NODES)
        return taylor.coefficients(on_curve, t, 2), on_curve(t), jax.vmap(on_curve)(nodes)

    coefficients, values, samples = map(jax.tree.leaves, both(jnp.zeros(())))
    series = [coefficients[i :: len(values)] for i in range(len(values))]
    for column, value, sample in zip(series, values, samples, strict=True):
        assert {(x.dtype, x.shape) for x in column} == {(value.dtype, value.shape)}
        np.testing.assert_allclose(column[0], value, rtol=1e3 * EPS, atol=1e3 * EPS)
        expected = np.tensordot(INTERPOLATE, np.asarray(sample), 1)
        scale = 1 + np.abs(expected).max()
        np.testing.assert_allclose(np.stack(column), expected, rtol=0, atol=1e-9 * scale)


RISE = 2 / np.sqrt(np.pi)  # of the error function at 0

SERIES = {
    "exp": (jnp.exp, [1 / factorial(k) for k in range(7)]),
    "log": (lambda t: jnp.log(1 + t), [0, *((-1) ** (k + 1) / k for k in range(1, 7))]),
    "log1p": (jnp.log1p, [0, *((-1) ** (k + 1) / k for k in range(1, 7))]),
    "tanh": (jnp.tanh, [0, 1, 0, -1 / 3, 0, 2 / 15, 0]),
    "sigmoid": (jax.nn.sigmoid, [1 / 2, 1 / 4, 0, -1 / 48, 0, 1 / 480, 0]),
    "geometric": (lambda t: 1 / (1 - t), [1] * 7),
    "quotient": (lambda t: jnp.exp(t) / (1 - t), np.cumsum([1 / factorial(k) for k in range(7)])),
    "cube": (lambda t: (1 + t) ** 3, [1, 3, 3, 1, 0, 0, 0]),
    "binomial": (lambda t: jnp.sqrt(1 + 4 * t), [1, 2, -2, 4, -10, 28, -84]),
    "sin": (jnp.sin, [0, 1, 0, -1 / 6, 0, 1 / 120, 0]),
    "cos": (jnp.cos, [1, 0, -1 / 2, 0, 1 / 24, 0, -1 / 720]),
    "tan": (jnp.tan, [0, 1, 0, 1 / 3, 0, 2 / 15, 0]),
    "asin": (lax.asin, [0, 1, 0, 1 / 6, 0, 3 / 40, 0]),
    "atan": (jnp.arctan, [0, 1, 0, -1 / 3, 0, 1 / 5, 0]),
    "asinh": (jnp.arcsinh, [0, 1, 0, -1 / 6, 0, 3 / 40, 0]),
    "erf": (jax.scipy.special.erf, [0, RISE, 0, -RISE / 3, 0, RISE / 10, 0]),
    "central binomial": (lambda t: lax.rsqrt(1 - 4 * t), [1, 2, 6, 20, 70, 252, 924]),
    "negative power": (lambda t: (1 - t) ** -3, [1, 3, 6, 10, 15, 21, 28]),
    "high power of zero": (lambda t: lax.pow(t, 9.5), [0] * 7),
    "turn": (lambda t: jnp.exp(1j * t), [1j**k / factorial(k) for k in range(7)]),
    "stop": (lambda t: lax.stop_gradient(t) * t, [0, 0, 1, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", SERIES)
def test_known_series_to_the_sixth_power(name):
    fn, expected = SERIES[name]
    got = jax.jit(lambda t: taylor.coefficients(fn, t, 6))(0.0)
    np.testing.assert_allclose(got, expected, rtol=100 * EPS, atol=100 * EPS)


@pytest.mark.parametrize("order", [0, 1])
def test_low_orders(order):
    got = taylor.coefficients(jnp.sin, 0.5, order)
    np.testing.assert_allclose(got, [np.sin(0.5), np.cos(0.5)][: order + 1], rtol=10 * EPS)


# Programs drawn at random: each is a list of numbers, and one compiled interpreter runs them all.
OPERATIONS = [
    lambda a, b: (a * b, a),
    lambda a, b: (a + 0.5 * b, b),
    lambda a, b: (MATRIX @ a, b),
    lambda a, b: (a / (1 + b * b), b),
    lambda a, b: (jnp.tanh(a), a),
    lambda a, b: (jnp.exp(-a * a), b),
    lambda a, b: (jax.nn.sigmoid(a), b),
    lambda a, b: (jnp.log(1 + a * a), b),
    lambda a, b: (jnp.sin(a), b),
    lambda a, b: (a**3 - b**2, a),
]


@functools.cache
def interpreter():
    def run(t, program, start, direction):
        def body(state, code):
            return lax.switch(code, OPERATIONS, *state), None

        a = start + t * direction
        return lax.scan(body, (a, jnp.flip(a)), program)[0]

    def by_series(*given):
        return taylor.coefficients(lambda t: run(t, *given), 0.0, ORDER)

    def by_forward_mode(*given):
        def derivative(fn):
            return lambda t: jax.jvp(fn, (t,), (jnp.ones_like(t),))[1]

        out, fn = [], lambda t: run(t, *given)
        for k in range(ORDER + 1):
            out.append(jax.tree.map(lambda x, k=k: x / factorial(k), fn(jnp.zeros(()))))
            fn = derivative(fn)
        return tuple(out)

    return jax.jit(lambda *given: (by_series(*given), by_forward_mode(*given)))


vectors = st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=5, max_size=5), vectors, vectors)
def test_random_compositions_agree_with_nested_forward_mode(program, start, direction):
    given = (np.array(program), np.array(start), np.array(direction))
    for series, expected in zip(*map(jax.tree.leaves, interpreter()(*given)), strict=True):
        # five operations, each of which can cancel numbers as large as it has made
        scale = 1 + max(np.abs(x).max() for x in jax.tree.leaves(interpreter()(*given)[1]))
        np.testing.assert_allclose(series, expected, rtol=0, atol=1e-12 * scale)


KINKS = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "maximum": lambda t: jnp.maximum(t, 3 * t * t),
    "minimum": lambda t: jnp.minimum(2 * t, t),
    "clip": lambda t: jnp.clip(t, 0.0, 1.0),
    "leaky_relu": lambda t: jax.nn.leaky_relu(t, 0.25),
}


@pytest.mark.parametrize("name", KINKS)
def test_on_a_kink_the_slope_is_the_one_that_jax_takes(name):
    fn = KINKS[name]
    second = jax.grad(jax.grad(fn))(0.0) / 2
    got = taylor.coefficients(fn, 0.0, 2)
    np.testing.assert_array_equal(got, [fn(0.0), jax.grad(fn)(0.0), second])


@pytest.mark.parametrize(
    "fn", [lambda x: jnp.maximum(x, 0.0), lambda x: jnp.minimum(0.0, x), jax.nn.relu, jnp.abs]
)
def test_not_a_number_is_handed_on(fn):
    assert np.isnan(taylor.coefficients(lambda t: fn(t * jnp.nan), 0.0, 2)[0])


def network(t):
    w = jnp.full((2, 2), 0.5, t.dtype)
    x = jnp.stack([t, jnp.ones_like(t)])
    x = jax.nn.gelu(w @ x) + jax.nn.softplus(x) / 3 + jnp.where(x > 0, 1.0 - x, x * 2) ** 5
    return jnp.maximum(x, 0), jnp.mean(jnp.tanh(x)) + jnp.sqrt(2 + t), lax.fori_loop(
        0, 2, lambda i, c: 1.5 * c + i, x
    )  # fmt: skip


@jax.jit
def network_series(t):
    return taylor.coefficients(network, t, 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_precision_is_kept_where_float64_is_enabled(dtype):
    got, exact = network_series(jnp.array(0.5, dtype)), network_series(0.5)
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    for x, value in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        scale = 1 + np.abs(value).max()
        error = np.abs(np.asarray(x, float) - value).max()
        assert error <= 100 * float(jnp.finfo(dtype).eps) * scale


def test_numbers_of_every_kind_are_taken():
    for at in (1, 1.0, np.float64(1), jnp.array(1), jnp.array(1.0)):
        got = taylor.coefficients(lambda t: t**3, at, 2)
        assert [float(c) for c in got] == [1.0, 3.0, 3.0]
        assert {c.dtype for c in got} == {np.dtype("float64")}
    got = taylor.coefficients(lambda t: t**2, 1j, 2)
    assert [complex(c) for c in got] == [-1, 2j, 1]


def test_compose_takes_series_in_several_arguments():
    """Matrices A(t) = A + tB and the vector v(t) = t²u, with an index that is no series."""
    a, b, u = MATRIX, MATRIX.T, np.arange(4.0)

    def fn(m, v, i):
        return {"product": m["a"] @ v["x"], "row": m["a"][i] * i}

    zero_m, zero_v, i = np.zeros_like(a), np.zeros_like(u), jnp.array(2)
    got = taylor.compose(fn, 3)(
        ({"a": a}, {"a": b}, {"a": zero_m}, {"a": zero_m}),
        ({"x": zero_v}, {"x": zero_v}, {"x": u}, {"x": zero_v}),
        (i, i * 0, i * 0, i * 0),
    )
    for coefficient, product, row in zip(
        got, [zero_v, zero_v, a @ u, b @ u], [2 * a[2], 2 * b[2], zero_v, zero_v], strict=True
    ):
        np.testing.assert_allclose(coefficient["product"], product, atol=10 * EPS)
        np.testing.assert_allclose(coefficient["row"], row, atol=10 * EPS)


def test_integers_have_no_coefficients_beyond_the_first():
    got = taylor.coefficients(lambda t: (jnp.array([1, 5])[(t > 0).astype(int)], t > 0), 0.5, 2)
    assert [x[0].tolist() for x in got] == [5, 0, 0]
    assert [x[1].tolist() for x in got] == [True, False, False]
    assert {x[1].dtype for x in got} == {np.dtype(bool)}


def test_a_declared_forward_rule_is_what_counts():
    @jax.custom_jvp
    def straight_through(x):
        return jnp.round(x)

    straight_through.defjvps(lambda v, ans, x: v)
    got = taylor.coefficients(lambda t: straight_through(3 * t), 0.5, 2)
    assert [float(c) for c in got] == [2.0, 3.0, 0.0]


def test_coefficients_can_be_differentiated_and_batched():
    at = jnp.array([0.0, 0.5])
    second = jax.vmap(jax.grad(lambda t: taylor.coefficients(jnp.exp, t, 2)[2]))(at)
    np.testing.assert_allclose(second, np.exp(at) / 2, rtol=10 * EPS)


def test_scan_compose_is_the_iterated_step():
    """(1 + t)^n y: binomial coefficients, and for t added n times an integral of it."""
    got = taylor.scan_compose(lambda t, y: (y[0] * (1 + t), y[1] + t * y[0]), (2.0, 0.0), 4, 3)
    for k, (first, second) in enumerate(got):
        binomials = [2 * factorial(n) / factorial(k) / factorial(n - k) if n >= k else 0
                     for n in range(5)]  # fmt: skip
        np.testing.assert_allclose(first, binomials, rtol=10 * EPS)
        np.testing.assert_allclose(second, binomials if k else np.zeros(5), rtol=10 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: taylor.compose(jnp.sin, -1), "order must be an integer of at least 0, got -1"),
        (lambda: taylor.coefficients(jnp.sin, 0.0, 1.5), "order must be an integer"),
        (
            lambda: taylor.compose(jnp.add, 2)((1.0, 1.0, 0.0), (1.0, 2.0)),
            r"a tuple of 3 coefficients, got lengths \[3, 2\]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
