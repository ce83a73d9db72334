"""A truncated power series: the coefficients c_0, c_1, …, c_p of Σ c_k t^k, as a list of arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ddlib._check import is_concrete

Series = list[Array]  # coefficients c_0, c_1, …, c_p of Σ c_k t^k

SMALL = 2.0**-10  # where comparisons of t alone are taken, unless the caller knows better


class Clock(list):
    """The series of something that depends on t alone."""


def absent(x: Series, k: int) -> bool:
    """Whether coefficient k of a series in t alone is known to be zero, as most of t itself are."""
    return isinstance(x, Clock) and is_concrete(x[k]) and not np.asarray(x[k]).any()


class Mode(NamedTuple):
    """How a program is expanded: to which power, and where comparisons are taken.

    `at` None: at t = 0. Else for t → 0⁺, and at t = `at` where only t is compared.
    """

    order: int
    at: Any = None


def value_at(x: Any, t: Any) -> Any:
    """A series' polynomial at t; what is no series as it is."""
    if not isinstance(x, list):
        return x
    total = x[-1]
    for c in x[-2::-1]:
        total = c + jnp.asarray(t).astype(jnp.finfo(c.dtype).dtype) * total
    return total


def is_inexact(x: Any) -> bool:
    """Whether x holds floating-point or complex numbers."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def full_series(x: Any, order: int) -> Any:
    """A constant as a series; integers and Booleans stay as they are, constants always."""
    if isinstance(x, list) or not is_inexact(x):
        return x
    return Clock([jnp.asarray(x), *(jnp.zeros_like(x) for _ in range(order))])


def constant(x: Any) -> Any:
    """What x is at t = 0."""
    return x[0] if isinstance(x, list) else x


def plain(carry: list[Any]) -> list[Any]:
    """As JAX's loops take them: series as lists and no subclass of it."""
    return [list(x) if isinstance(x, list) else x for x in carry]


def depends_on_t_alone(arguments: list[Any]) -> bool:
    """Whether every series among the arguments is a `Clock`."""
    return all(isinstance(x, Clock) for x in arguments if isinstance(x, list))


def marked(carry: list[Any], clocks: list[bool]) -> list[Any]:
    """The reverse of `plain`: the series that depend on t alone say so again."""
    return [Clock(x) if is_clock else x for x, is_clock in zip(carry, clocks, strict=True)]
