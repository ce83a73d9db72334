"""Functions of power series by their recurrences (Griewank and Walther 2008, Chapter 13)."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ddlib.taylor.series import Clock, Series, absent


def _convolve(a: Series, b: Series, k: int) -> Array:
    """Coefficient k of the product a·b."""
    return sum((a[j] * b[k - j] for j in range(k + 1)), jnp.zeros_like(a[0]))


def _weighted(a: Series, b: Series, k: int) -> Array:
    """(1/k) Σ_{j=1}^{k} j a_j b_{k−j}: coefficient k of the integral of a'·b."""
    return sum((j * a[j] * b[k - j] for j in range(1, k + 1)), jnp.zeros_like(a[0])) / k


def _exp(x: Series) -> Series:
    y = [jnp.exp(x[0])]
    for k in range(1, len(x)):
        y.append(_weighted(x, y, k))
    return y


def _log(x: Series) -> Series:
    y = [jnp.log(x[0])]
    for k in range(1, len(x)):
        inner = sum((j * y[j] * x[k - j] for j in range(1, k)), jnp.zeros_like(x[0])) / k
        y.append((x[k] - inner) / x[0])
    return y


def _riccati(first: Array, x: Series, slope: Callable[[Series], Array]) -> Series:
    """y with y' = s(y)·x', where `slope` gives s(y)'s newest coefficient from y's so far."""
    y, s = [first], []
    for k in range(1, len(x)):
        s.append(slope(y))
        y.append(_weighted(x, s, k))
    return y


def _tanh(x: Series) -> Series:
    def slope(y: Series) -> Array:  # 1 − y²
        k = len(y) - 1
        return (1.0 if k == 0 else 0.0) - _convolve(y, y, k)

    return _riccati(jnp.tanh(x[0]), x, slope)


def _logistic(x: Series) -> Series:
    def slope(y: Series) -> Array:  # y − y²
        k = len(y) - 1
        return y[k] - _convolve(y, y, k)

    return _riccati(jax.nn.sigmoid(x[0]), x, slope)


def divide(a: Series, b: Series) -> Series:
    """The quotient a/b."""
    y: Series = []
    for k in range(len(a)):
        kept = (j for j in range(1, k + 1) if not absent(b, j))
        known = sum((b[j] * y[k - j] for j in kept), jnp.zeros_like(a[0]))
        y.append((a[k] - known) / b[0])
    return y


def divide_near(a: Series, b: Series) -> Series:
    """The quotient a/b for t → 0⁺: where both begin with t, that of a/t and b/t.

    There the highest coefficient rests on ones that are not kept: it is NaN.
    """
    if len(a) < 2:
        return divide(a, b)
    begins = (a[0] == 0) & (b[0] == 0) & (b[1] != 0)
    rest = Clock(b[1:]) if isinstance(b, Clock) else b[1:]
    shifted = [*divide(a[1:], rest), jnp.full_like(a[0], jnp.nan)]
    if absent(b, 0) and not absent(b, 1):
        return [jnp.where(a[0] == 0, z, jnp.inf * a[0]) for z in shifted]
    y = divide(a, b)
    return [jnp.where(begins, z, w) for w, z in zip(y, shifted, strict=True)]


def _log1p(x: Series) -> Series:
    return [jnp.log1p(x[0]), *_log([1 + x[0], *x[1:]])[1:]]


def _expm1(x: Series) -> Series:
    return [jnp.expm1(x[0]), *_exp(x)[1:]]


def _exp2(x: Series) -> Series:
    two = math.log(2.0)
    return [jnp.exp2(x[0]), *_exp([two * c for c in x])[1:]]


def _pair(first: tuple[Array, Array], x: Series, sign: float) -> tuple[Series, Series]:
    """s and c with s' = c·x' and c' = sign·s·x': sine and cosine, or the hyperbolic ones."""
    s, c = [first[0]], [first[1]]
    for k in range(1, len(x)):
        new = _weighted(x, c, k), sign * _weighted(x, s, k)
        s.append(new[0])
        c.append(new[1])
    return s, c


def _sin(x: Series) -> Series:
    return _pair((jnp.sin(x[0]), jnp.cos(x[0])), x, -1.0)[0]


def _cos(x: Series) -> Series:
    return _pair((jnp.sin(x[0]), jnp.cos(x[0])), x, -1.0)[1]


def _sinh(x: Series) -> Series:
    return _pair((jnp.sinh(x[0]), jnp.cosh(x[0])), x, 1.0)[0]


def _cosh(x: Series) -> Series:
    return _pair((jnp.sinh(x[0]), jnp.cosh(x[0])), x, 1.0)[1]


def _tan(x: Series) -> Series:
    def slope(y: Series) -> Array:  # 1 + y²
        k = len(y) - 1
        return (1.0 if k == 0 else 0.0) + _convolve(y, y, k)

    return _riccati(jnp.tan(x[0]), x, slope)


def _integral(first: Array, x: Series, slope: Series) -> Series:
    """y with y' = slope·x'."""
    return [first, *(_weighted(x, slope, k) for k in range(1, len(x)))]


def _square_plus(x: Series, scale: float, constant: float) -> Series:
    """constant + scale·x²."""
    return [scale * _convolve(x, x, k) + (constant if k == 0 else 0.0) for k in range(len(x))]


def _inverse(function: Callable, scale: float, constant: float, exponent: float) -> Callable:
    """The rule of an inverse function y with y' = (constant + scale·x²)^exponent."""

    def rule(x: Series) -> Series:
        return _integral(function(x[0]), x, real_power(_square_plus(x, scale, constant), exponent))

    return rule


def _acos(x: Series) -> Series:
    return [jnp.arccos(x[0]), *(-c for c in ELEMENTWISE["asin"](x)[1:])]


def _erf(x: Series) -> Series:
    bell = _exp(_square_plus(x, -1.0, 0.0))
    return _integral(jax.scipy.special.erf(x[0]), x, [2 / math.sqrt(math.pi) * c for c in bell])


def _erfc(x: Series) -> Series:
    return [jax.scipy.special.erfc(x[0]), *(-c for c in _erf(x)[1:])]


def real_power(x: Series, exponent: Any) -> Series:
    """x to a constant power: from x y' = exponent·x' y.

    At x₀ = 0 the coefficients below the exponent are 0; what a power has beyond is NaN.
    """
    a = jnp.asarray(exponent, x[0].real.dtype)
    y = _root([jnp.where(x[0] == 0, 1, x[0]), *x[1:]], jnp.power(x[0], a), a)
    at_zero = (jnp.where(a > k, 0, jnp.nan) for k in range(1, len(y)))
    rest = zip(y[1:], at_zero, strict=True)
    return [y[0], *(jnp.where(x[0] == 0, z, c).astype(c.dtype) for c, z in rest)]


def _root(x: Series, first: Array, exponent: Any) -> Series:
    """The same, where `first` is x₀ to the power."""
    y = [first]
    for k in range(1, len(x)):
        terms = ((exponent * j - (k - j)) * x[j] * y[k - j] for j in range(1, k + 1))
        y.append(sum(terms, jnp.zeros_like(x[0])) / (k * x[0]))
    return y


def general_power(x: Series, exponent: Series) -> Series:
    """x to a power that varies too, x₀ positive: exp(exponent·log x)."""
    log = _log(x)
    inner = [_convolve(exponent, log, k) for k in range(len(x))]
    return [jnp.power(x[0], exponent[0]), *_exp(inner)[1:]]


ELEMENTWISE = {
    "acos": _acos,
    "acosh": _inverse(jnp.arccosh, 1.0, -1.0, -0.5),
    "asin": _inverse(jnp.arcsin, -1.0, 1.0, -0.5),
    "asinh": _inverse(jnp.arcsinh, 1.0, 1.0, -0.5),
    "atan": _inverse(jnp.arctan, 1.0, 1.0, -1.0),
    "atanh": _inverse(jnp.arctanh, -1.0, 1.0, -1.0),
    "cbrt": lambda x: _root(x, jnp.cbrt(x[0]), 1 / 3),
    "cos": _cos,
    "cosh": _cosh,
    "erf": _erf,
    "erfc": _erfc,
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "logistic": _logistic,
    "rsqrt": lambda x: _root(x, lax.rsqrt(x[0]), -0.5),
    "sin": _sin,
    "sinh": _sinh,
    "tan": _tan,
    "tanh": _tanh,
}


def power(x: Series, exponent: int) -> Series:
    """x to a positive integer power, by products."""
    y = x
    for _ in range(exponent - 1):
        y = [_convolve(x, y, k) for k in range(len(x))]
    return y


def sqrt_near(x: Series) -> Series:
    """√x for t → 0⁺: where x begins with t², as the square of a norm that is 0 at t = 0, t√(x/t²).

    There the two highest coefficients rest on ones that are not kept: they are NaN.
    """
    y = sqrt(x)
    if len(x) > 2:
        shifted = [*sqrt(x[2:]), *[jnp.full_like(x[0], jnp.nan)] * 2]
        begins = (x[0] == 0) & (x[1] == 0)
        nothing = functools.reduce(operator.and_, [c == 0 for c in x])
        inner = [jnp.zeros_like(x[0]), *shifted[: len(x) - 1]]
        y = [jnp.where(begins, z, w) for w, z in zip(y, inner, strict=True)]
        y = [jnp.where(nothing, 0, w) for w in y]
    return y


def sqrt(x: Series) -> Series:
    """√x, x₀ not zero."""
    y = [jnp.sqrt(x[0])]
    for k in range(1, len(x)):
        known = sum((y[j] * y[k - j] for j in range(1, k)), jnp.zeros_like(x[0]))
        y.append((x[k] - known) / (2 * y[0]))
    return y
