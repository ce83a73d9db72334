"""The inverse of backward error analysis: the field whose steps are exact for a given one.

Backward error analysis asks which flow a method follows. Here a method is given a field f̃ of its
choice, f̃ = f + h g₁ + h² g₂ + …, such that its steps with f̃ are the flow of f: a *modifying
integrator* (Chartier, Hairer and Vilmart 2007). What must be added to a gradient so that gradient
descent is its gradient flow is the case of Euler's method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ddlib import taylor
from ddlib._check import (
    check_count,
    check_field,
    check_inexact,
    check_state,
    check_step,
    check_step_size,
    like,
)
from ddlib.frozen import thaw
from ddlib.games import Field
from ddlib.methods import ImplicitStep, Step


def modifying_terms(
    method: Callable[[Field], Step], field: Field, order: int
) -> Callable[[PyTree], tuple[PyTree, ...]]:
    """The terms g₀ = f, g₁, …, g_order of the field with which a method's steps are exact for f.

    A field that is right to hᵏ⁻¹ is mended by what its step misses: f̃ + (exact − step)/h is right
    to hᵏ. All orders come from one expansion of `order` such corrections in the scalar h. A method
    with s evaluations of its field runs s^order of them, so that Euler's method is cheap at any
    order and Runge–Kutta 4 at few.

    Args:
      method: field ↦ step: `ddlib.methods.euler`, `lambda f: runge_kutta(f, HEUN)`,
        `implicit_midpoint`.
      field: the field f to be followed exactly, smooth.
      order: how many terms beyond f, zero or more.

    Returns:
      A function from a state to the tuple (g₀, …, g_order), each like the state.

    Raises:
      ValueError: a method or field that is none, a bad order, a state of integers.

    >>> from ddlib.methods import euler
    >>> terms = modifying_terms(euler, lambda y: -y, order=3)(jnp.array(1.0))
    >>> [round(float(g), 5) for g in terms]  # (e^{−h} − 1)/h
    [-1.0, 0.5, -0.16667, 0.04167]
    """
    if not callable(method):
        raise ValueError(
            "method must be a function from a field to a step, such as ddlib.methods.euler, got "
            f"{type(method).__name__}"
        )
    check_field("field", field)
    check_count("order", order, least=0)
    check_step("method(field)", method(field))
    field = thaw(field)

    def modified(h: Any, y: PyTree) -> PyTree:
        follow = _remembered(lambda z: _exact(field, h, z, order + 1))

        def mended(below: Field, sweeps: int) -> Field:
            def better(z: PyTree) -> PyTree:
                step = method(below)
                taken = (
                    _sweeps(step, sweeps)(h, z) if isinstance(step, ImplicitStep) else step(h, z)
                )
                check_state("method(field)(h, y)", taken, z)

                def leaf(now: Array, exact: Array, new: Array) -> Array:
                    return now + (exact - new) / jnp.asarray(h).astype(now.dtype)

                return jax.tree.map(leaf, below(z), follow(z), like(taken, z))

            return better

        found = field
        for k in range(order):
            found = mended(_remembered(found), k + 2)
        return like(found(y), y)

    def terms(y: PyTree) -> tuple[PyTree, ...]:
        check_inexact("y", y)
        y = jax.tree.map(jnp.asarray, y)
        highest = 2 * order  # every correction takes one power for its division by h
        real = jnp.finfo(jnp.result_type(*jax.tree.leaves(y))).dtype
        clock = tuple(np.asarray(k == 1, real) for k in range(highest + 1))
        still = jax.tree.map(jnp.zeros_like, y)
        series = taylor.compose(modified, highest, clock=True)(clock, (y, *[still] * highest))
        return series[: order + 1]

    return terms


def modifying_field(
    method: Callable[[Field], Step], field: Field, h: float | Array, order: int
) -> Field:
    """The field y ↦ Σ_{k ≤ order} hᵏ g_k(y): with it the method is exact for f to O(h^{order + 2}).

    Args:
      method: field ↦ step.
      field: the field f to be followed.
      h: step size, zero or positive; may be traced.
      order: 0 is the field itself.

    Raises:
      ValueError: as `modifying_terms`, or a negative or non-finite h.

    >>> from ddlib.methods import euler
    >>> better = modifying_field(euler, lambda y: -y, h=0.1, order=4)
    >>> round(float(euler(better)(0.1, jnp.array(1.0))), 6)  # e^{−0.1}
    0.904837
    """
    check_step_size("h", h, zero=True)
    terms = modifying_terms(method, field, order)

    def modified(y: PyTree) -> PyTree:
        def leaf(*gs: Array) -> Array:
            total = gs[-1]
            for g in gs[-2::-1]:
                total = g + jnp.asarray(h).astype(g.dtype) * total
            return total

        return jax.tree.map(leaf, *terms(y))

    return modified


def _remembered(fn: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """The function, traced once for each state: a method's first stage is asked for often."""
    seen: dict[tuple[int, ...], tuple[PyTree, PyTree]] = {}

    def remembered(z: PyTree) -> PyTree:
        key = tuple(map(id, jax.tree.leaves(z)))
        if key not in seen:
            seen[key] = z, fn(z)  # z is kept, so that its id stays its own
        return seen[key][1]

    return remembered


def _exact(field: Field, h: Any, y: PyTree, order: int) -> PyTree:
    """The flow of the field over time h, to O(h^{order + 1}): Gauss's collocation, by sweeps."""
    stages = order // 2 + 1
    nodes, weights = np.polynomial.legendre.leggauss(stages)
    nodes, weights = (nodes + 1) / 2, weights / 2
    powers = np.vander(nodes, increasing=True)
    inner = nodes[:, None] * powers / np.arange(1, stages + 1) @ np.linalg.inv(powers)
    rows = np.vstack([inner, weights])

    def sweep(states: PyTree, _: None) -> tuple[PyTree, None]:
        slopes = jax.vmap(field)(jax.tree.map(lambda x: x[:-1], states))

        def leaf(x: Array, k: Array) -> Array:
            moved = jnp.tensordot(jnp.asarray(rows, x.dtype), k.astype(x.dtype), axes=1)
            return x + jnp.asarray(h).astype(x.dtype) * moved

        return jax.tree.map(leaf, y, slopes), None

    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (stages + 1, *x.shape)), y)
    states, _ = jax.lax.scan(sweep, start, None, length=order)
    return jax.tree.map(lambda x: x[-1], states)


def _sweeps(step: ImplicitStep, num_sweeps: int) -> Step:
    """The explicit step of so many fixed-point sweeps, whose program holds one of them."""

    def swept(h: Any, y: PyTree) -> PyTree:
        def body(z: PyTree, _: None) -> tuple[PyTree, None]:
            return like(step.sweep(h, y, z), y), None

        return jax.lax.scan(body, y, None, length=num_sweeps)[0]

    return swept
