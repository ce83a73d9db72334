"""Gradient descent on one loss, observed as it goes, and the flows beside it.

What a run shows is what an observer keeps of it: a function of the parameters, which may remember
something from look to look (the eigenvector that the next search for it starts from).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree

from ddlib._check import (
    check_count,
    check_field,
    check_inexact,
    check_scalar,
    check_step_size,
    is_concrete,
)
from ddlib.curvature import hvp, top_eigenpairs
from ddlib.flows import integrate
from ddlib.games import Field, Loss, gradient_field
from ddlib.loop import run_steps
from ddlib.methods import euler


class Descent(NamedTuple):
    """A run of gradient descent.

    `params` are the last; `memory` is what the observer remembers there, None if nothing; `seen`
    holds the observations, leading axis num_steps // every + 1; `diverged_at` the number of steps
    after which the parameters were first observed not to be finite, −1 if never.

    >>> Descent(1.0, None, None, -1).diverged_at
    -1
    """

    params: Any
    memory: Any
    seen: Any
    diverged_at: Int[Array, ""] | int


def descend(
    loss: Loss,
    params: PyTree,
    h: float | Array,
    num_steps: int,
    *,
    observe: Callable[..., Any] = lambda params: params,
    memory: PyTree = None,
    every: int = 1,
    report: Callable[[int], None] | None = None,
    convolutional: bool = False,
) -> Descent:
    """Full-batch gradient descent, looked at before the first step and after every `every`.

    Inside a trace (`jax.jit` with params, h or a batch that the loss holds as arguments) it is one
    scan: compile it there if it is to be run many times. Outside it is a loop that reports.

    Args:
      loss: function from a pytree of floating-point arrays to a real scalar.
      params: where to start.
      h: step size, may be traced.
      num_steps: a multiple of `every`.
      observe: function params -> a pytree of arrays, by default the parameters themselves. With
        `memory` it is a function (params, memory) -> (a pytree of arrays, the next memory).
      memory: what the first look remembers: a pytree of arrays, or None for an observer that
        remembers nothing.
      every: how many steps lie between looks.
      report: called with the number of steps taken after each look; not inside a trace.
      convolutional: the loss holds convolutions: on a CPU, drive it step by step.

    Returns:
      A `Descent`. A run that diverges goes on: its non-finite numbers are data.

    Raises:
      ValueError: a loss that is no real scalar, params of integers, a step size that is not
        positive and finite, counts that do not divide, a report inside a trace.

    >>> run = descend(lambda y: y**2, jnp.array(1.0), 0.25, 4, every=2)  # y ← y/2
    >>> float(run.params), run.seen.tolist(), int(run.diverged_at)
    (0.0625, [1.0, 0.25, 0.0625], -1)
    """
    check_step_size("h", h)
    check_count("every", every)
    check_count("num_steps", num_steps, least=0)
    if num_steps % every:
        raise ValueError(f"num_steps must be a multiple of every={every}, got {num_steps}")
    check_inexact("params", params, real=True)
    params = jax.tree.map(jnp.asarray, params)
    check_scalar("loss", loss, params)
    step, remembers = euler(gradient_field(loss)), memory is not None

    def look(params: PyTree, memory: PyTree) -> tuple[PyTree, PyTree]:
        seen, memory = observe(params, memory) if remembers else (observe(params), None)
        return (seen, _finite(params)), memory

    def block(state: tuple[Any, ...]) -> tuple[Any, ...]:
        """`every` steps and a look."""
        params, memory, _ = state
        if every == 1:
            params = step(h, params)
        elif convolutional:  # a loop within the program is what they are slow in
            for _ in range(every):
                params = step(h, params)
        else:
            params = jax.lax.fori_loop(0, every, lambda _, y: step(h, y), params)
        seen, memory = look(params, memory)
        return params, memory, seen

    numbers = jnp.arange(0, num_steps + 1, every)
    if not _is_traced(params, memory, h):
        if remembers:
            first, memory = jax.jit(look)(params, memory)
            (params, memory, _), (seen, finite) = run_steps(
                lambda _, state: block(state),
                (params, memory, first),
                num_steps // every,
                observe=lambda state: state[2],
                report=None if report is None else lambda n: report(n * every),
                convolutional=convolutional,
            )
        else:
            params, (seen, finite) = run_steps(
                lambda _, params: step(h, params),
                params,
                num_steps,
                observe=lambda params: look(params, None)[0],
                every=every,
                report=report,
                convolutional=convolutional,
            )
        bad = np.flatnonzero(~finite)
        return Descent(params, memory, seen, int(numbers[bad[0]]) if len(bad) else -1)
    if report is not None:
        raise ValueError("report must be None inside a trace, got a function")
    first, memory = look(params, memory)

    def advance(state: tuple[Any, ...], _: None) -> tuple[Any, Any]:
        state = block((*state, None))
        return state[:2], state[2]

    (params, memory), rest = jax.lax.scan(advance, (params, memory), length=num_steps // every)
    seen, finite = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, rest)
    diverged_at = jnp.where(finite.all(), -1, numbers[jnp.argmin(finite)])
    return Descent(params, memory, seen, diverged_at)


def _finite(params: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()


def _is_traced(*given: Any) -> bool:
    """Whether this is part of a program that is being made, be it by what a loss holds."""
    return not is_concrete((given, jnp.zeros(())))


class Sharpness(NamedTuple):
    """The largest eigenvalue λ₀ of a Hessian, its unit vector and the residual |Hu − λu|.

    >>> Sharpness(2.0, None, 0.0).value
    2.0
    """

    value: Array
    vector: Any
    residual: Array


def sharpness(
    loss: Loss,
    params: PyTree,
    *,
    start: PyTree = None,
    num_matvecs: int = 20,
    scan: bool = True,
) -> Sharpness:
    """λ₀, the largest eigenvalue of the Hessian, by Lanczos: PF's measure, to be held against 2/h.

    Args:
      loss: function params -> real scalar.
      params: pytree of real floating-point arrays of one dtype.
      start: where the search starts: the vector found nearby (a warm start, which needs few
        products), or None for a fixed vector.
      num_matvecs: the number of Hessian-vector products, or the number of parameters if that is
        less.
      scan: as `ddlib.curvature.krylov`; False for convolutional networks on a CPU.

    Returns:
      A `Sharpness`; its residual bounds the distance of the value from an eigenvalue.

    Raises:
      ValueError: as `ddlib.curvature.hvp` and `ddlib.curvature.top_eigenpairs`.

    >>> round(float(sharpness(lambda y: y[0] ** 2 + 3 * y[1] ** 2, jnp.zeros(2)).value), 4)
    6.0
    """
    check_inexact("params", params, real=True)
    matvec = hvp(loss, params)
    if start is None:  # no symmetry of a network is orthogonal to it
        start = jax.tree.map(
            lambda x: (
                jnp.cos(jnp.arange(jnp.size(x)) + 1.0)
                .reshape(jnp.shape(x))
                .astype(jnp.result_type(x))
            ),
            params,
        )
    num_matvecs = min(num_matvecs, optax.tree.size(params))
    pairs, residuals = top_eigenpairs(matvec, start, 1, num_matvecs=num_matvecs, scan=scan)
    return Sharpness(pairs.values[0], jax.tree.map(lambda x: x[0], pairs.vectors), residuals[0])


def follow(
    field: Field,
    params: PyTree,
    h: float | Array,
    num_steps: int = 1,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
) -> PyTree:
    """The flow of a field from an iterate, at the times 0, h, …, num_steps·h of the descent.

    Where the field takes complex values, as the principal flow's does, the path is complex.

    Args:
      field: a field of `ddlib.flows` or one's own.
      params: an iterate, the start.
      h: step size of the descent, positive; may be traced.
      num_steps: for how many of its steps.
      rtol, atol, max_steps: as `ddlib.flows.integrate`.

    Returns:
      A pytree like params with a leading axis num_steps + 1. What was not reached is not finite.

    Raises:
      ValueError: a field that is none, a bad step size or count, params of integers.

    >>> path = follow(lambda y: -y, jnp.array(1.0), 0.5, 2)
    >>> [round(float(y), 4) for y in path]
    [1.0, 0.6065, 0.3679]
    """
    check_field("field", field)
    check_step_size("h", h)
    check_count("num_steps", num_steps)
    check_inexact("params", params)
    params = jax.tree.map(jnp.asarray, params)
    start = jax.tree.map(
        lambda x, v: x.astype(jnp.result_type(x, v.dtype)) if jnp.iscomplexobj(v) else x,
        params,
        jax.eval_shape(field, params),
    )
    times = h * jnp.arange(num_steps + 1.0)
    return integrate(field, start, times, rtol=rtol, atol=atol, max_steps=max_steps)
