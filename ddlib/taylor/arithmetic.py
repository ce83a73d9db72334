"""Functions of power series by their recurrences (Griewank and Walther 2008, Chapter 13)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ddlib.taylor.series import Series


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
        known = sum((b[j] * y[k - j] for j in range(1, k + 1)), jnp.zeros_like(a[0]))
        y.append((a[k] - known) / b[0])
    return y


def _log1p(x: Series) -> Series:
    return [jnp.log1p(x[0]), *_log([1 + x[0], *x[1:]])[1:]]


ELEMENTWISE = {
    "exp": _exp,
    "log": _log,
    "log1p": _log1p,
    "logistic": _logistic,
    "tanh": _tanh,
}


def power(x: Series, exponent: int) -> Series:
    """x to a positive integer power, by products."""
    y = x
    for _ in range(exponent - 1):
        y = [_convolve(x, y, k) for k in range(len(x))]
    return y


def sqrt(x: Series) -> Series:
    """√x for t → 0⁺: where x begins with t², as the square of a norm that is 0 at t = 0, t√(x/t²).

    There the two highest coefficients rest on ones that are not kept: they are NaN.
    """
    y = _sqrt_of_positive(x)
    if len(x) > 2:
        shifted = [*_sqrt_of_positive(x[2:]), *[jnp.full_like(x[0], jnp.nan)] * 2]
        begins = (x[0] == 0) & (x[1] == 0)
        nothing = functools.reduce(operator.and_, [c == 0 for c in x])
        inner = [jnp.zeros_like(x[0]), *shifted[: len(x) - 1]]
        y = [jnp.where(begins, z, w) for w, z in zip(y, inner, strict=True)]
        y = [jnp.where(nothing, 0, w) for w in y]
    return y


def _sqrt_of_positive(x: Series) -> Series:
    y = [jnp.sqrt(x[0])]
    for k in range(1, len(x)):
        known = sum((y[j] * y[k - j] for j in range(1, k)), jnp.zeros_like(x[0]))
        y.append((x[k] - known) / (2 * y[0]))
    return y
