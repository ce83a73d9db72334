"""The order of power series: comparisons, kinks and extremes, at t = 0 or for small t > 0."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ddlib.taylor.series import Clock, Mode, Series, full_series, value_at

COMPARISONS = {"eq": lax.eq, "ne": lax.ne, "lt": lax.lt, "le": lax.le, "gt": lax.gt, "ge": lax.ge}


def compare(name: str, a: Series, b: Series, mode: Mode) -> Array:
    """Whether a < b, and so on: at t = 0; for t → 0⁺, by the first coefficients that differ."""
    holds = COMPARISONS[name]
    if mode.at is None or a is b:  # x != x asks for NaN
        return holds(a[0], b[0])
    if isinstance(a, Clock) and isinstance(b, Clock):
        return holds(value_at(a, mode.at), value_at(b, mode.at))
    rest = jnp.zeros_like(a[0])
    for x, z in zip(a[:0:-1], b[:0:-1], strict=True):
        rest = jnp.where(x != z, x - z, rest)
    found = jnp.where(a[0] != b[0], holds(a[0], b[0]), holds(rest, jnp.zeros_like(rest)))
    # What is 0 at t = 0 is a move, and what it is held against a tolerance: ask at the t given.
    stays, rests = (functools.reduce(operator.and_, [c == 0 for c in x[1:]], True) for x in (a, b))
    move = ((a[0] == 0) & rests) | ((b[0] == 0) & stays)
    known = ([x[0], *(jnp.where(jnp.isnan(c), 0, c) for c in x[1:])] for x in (a, b))
    return jnp.where(move, holds(*(value_at(x, mode.at) for x in known)), found)


def extreme(bind: Callable, name: str, a: Series, b: Series, mode: Mode) -> Series:
    """The larger or the smaller; where two tie at t = 0, JAX's slope there is the mean of both."""
    first = compare("gt" if name == "max" else "lt", a, b, mode)
    tie = (a[0] == b[0]) & (mode.at is None)
    chosen = [
        jnp.where(first, x, jnp.where(tie, (x + z) / 2, z)) for x, z in zip(a, b, strict=True)
    ]
    if mode.at is None:
        return [*bind(a[0], b[0]), *chosen[1:]]  # which hands on a NaN of either
    return [jnp.where(jnp.isnan(a[0]), a[0], chosen[0]), *chosen[1:]]


def sign(x: Series, mode: Mode) -> Array:
    """Of real numbers, ±1 or 0."""
    zero = full_series(jnp.zeros_like(x[0]), mode.order)
    up, down = (compare(name, x, zero, mode).astype(x[0].dtype) for name in ("gt", "lt"))
    return up - down


def reduce_extreme(bind: Callable, name: str, x: Series, axes: Sequence[int]) -> Series:
    """The largest or smallest entry for t → 0⁺: those that tie go by the next coefficient."""
    left, others = jnp.ones(x[0].shape, bool), -jnp.inf if name == "reduce_max" else jnp.inf
    out = []
    for c in x:
        found = bind(jnp.where(left, c, others))[0]
        left = left & (c == jnp.expand_dims(found, axes))
        out.append(found)
    return out
