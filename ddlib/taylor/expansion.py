"""Taylor series of functions: of a program along polynomial arguments, and of a step composed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ddlib._check import check_count
from ddlib.taylor.program import evaluate
from ddlib.taylor.series import SMALL, Clock, Mode, is_inexact


def compose(
    fn: Callable[..., PyTree], order: int, *, clock: bool = False, at: float | Array = SMALL
) -> Callable[..., tuple[PyTree, ...]]:
    """Series in, series out: the Taylor coefficients of fn along polynomial arguments.

    Args:
      fn: function from pytrees of float arrays to a pytree of float arrays.
      order: the highest power kept, zero or more.
      clock: whether fn's first argument is t itself, and the expansion for small positive t: as in
        `scan_compose`.
      at: with `clock`, the t > 0 at which comparisons of t alone are taken.

    Returns:
      A function that takes, for every argument of fn, a tuple of order + 1 pytrees (the
      coefficients of t⁰ … t^order) and returns such a tuple for fn's value. Integer and Boolean
      arguments and values are taken at t = 0.

    Raises:
      ValueError: a bad order, or arguments that are not tuples of order + 1 coefficients.

    >>> t, zero = jnp.array(1.0), jnp.array(0.0)
    >>> [round(float(c), 4) for c in compose(jnp.exp, 3)((zero, t, zero, zero))]
    [1.0, 1.0, 0.5, 0.1667]
    """
    check_count("order", order, least=0)
    return _compose(fn, Mode(order, at) if clock else Mode(order))


def _compose(fn: Callable[..., PyTree], mode: Mode) -> Callable[..., tuple[PyTree, ...]]:
    order = mode.order

    def series(*arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        if any(len(coefficients) != order + 1 for coefficients in arguments):
            raise ValueError(
                f"every argument must be a tuple of {order + 1} coefficients, got lengths "
                f"{[len(coefficients) for coefficients in arguments]}"
            )
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*(c[0] for c in arguments))
        kinds = [list if mode.at is None else Clock] + [list] * len(arguments)  # t comes first
        inputs: list[Any] = [
            kind(x if isinstance(x, np.ndarray) else jnp.asarray(x) for x in column)
            if is_inexact(column[0])
            else column[0]
            for kind, coefficients in zip(kinds, arguments, strict=False)
            for column in zip(*map(jax.tree.leaves, coefficients), strict=True)
        ]
        outputs = evaluate(closed.jaxpr, closed.consts, inputs, mode)
        tree = jax.tree.structure(shape)
        full = [
            x if isinstance(x, list) else [jnp.asarray(x)] + [jnp.zeros_like(x)] * order
            for x in outputs
        ]
        return tuple(jax.tree.unflatten(tree, [x[k] for x in full]) for k in range(order + 1))

    return series


def coefficients(fn: Callable[[Array], PyTree], at: float | Array, order: int) -> tuple:
    """The Taylor coefficients of a function of one scalar: fn(at), fn'(at), …, fn^{(p)}(at)/p!.

    >>> [round(float(c), 4) for c in coefficients(jnp.tanh, 0.0, 3)]
    [0.0, 1.0, 0.0, -0.3333]
    """
    check_count("order", order, least=0)
    at = jnp.asarray(at, jnp.result_type(at, float))
    rest = [jnp.zeros_like(at)] * max(order - 1, 0)
    line = (at, jnp.ones_like(at), *rest)[: order + 1]
    return compose(fn, order)(line)


def scan_compose(
    fn: Callable[[Any, PyTree], PyTree],
    y: PyTree,
    num_steps: int,
    order: int,
    at: float | Array = SMALL,
) -> tuple[PyTree, ...]:
    """The series of y, fn(t, y), fn(t, fn(t, y)), … for small positive t: `num_steps` compositions.

    Args:
      fn: function of t and a pytree like y to a pytree like y.
      y: pytree of floating-point or complex arrays.
      num_steps: how many compositions.
      order: the highest power kept.
      at: the t > 0 at which comparisons of t alone are taken (`t == 0`, `t > 1e-8`, the number of
        turns in `ceil(t / 0.01)`).

    Returns:
      A tuple of order + 1 pytrees like y with a leading axis num_steps + 1.

    >>> ys = scan_compose(lambda t, y: y + t * y, jnp.array(1.0), 2, order=2)
    >>> [[float(c) for c in coefficient] for coefficient in ys]
    [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    """
    y = jax.tree.map(jnp.asarray, y)
    real = jnp.finfo(jnp.result_type(*jax.tree.leaves(y))).dtype
    zero, one = jnp.zeros((), real), jnp.ones((), real)
    clock = (zero, one, *[zero] * max(order - 1, 0))[: order + 1]
    step = _compose(fn, Mode(order, at))
    still = jax.tree.map(jnp.zeros_like, y)
    start = (y, *[still] * order)

    def body(state: tuple[PyTree, ...], _: None) -> tuple[tuple[PyTree, ...], Any]:
        new = step(clock, state)
        return new, new

    _, later = lax.scan(body, start, None, length=num_steps)
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), start, later)
