"""Many steps: the one loop that steps, observes, reports and stops.

Steps are scanned on the device in one program; but XLA:CPU runs a convolution inside a loop about
14 times slower than in a top-level program, so that a convolutional step is driven there one by one
from Python. A step takes over the arrays of the state it is given; whoever observes gets copies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from ddlib._check import check_count

Advance = Callable[[int, int, Any], Any]


def compiled(step: Callable[..., Any], *, convolutional: bool = False) -> Callable[..., Any]:
    """Many of a step as one program, which takes over the arrays of its state.

    Args:
      step: function (t, state, *inputs) -> state, t the number of steps taken so far.
      convolutional: the step holds convolutions: on a CPU, each is a call of its own.

    Returns:
      advance(begin, end, state, *inputs): the state after the steps begin, …, end − 1. Whatever
      their number, it is compiled once.

    >>> advance = compiled(lambda t, y: y + t)
    >>> float(advance(2, 5, jnp.array(0.0)))  # 2 + 3 + 4
    9.0
    """
    if convolutional and jax.default_backend() == "cpu":
        one = jax.jit(step, donate_argnums=1)

        def advance(begin: int, end: int, state: Any, *inputs: Any) -> Any:
            for t in range(begin, end):
                state = one(jnp.asarray(t), state, *inputs)
            return state

        return advance

    @partial(jax.jit, donate_argnums=2)
    def many(begin: Array, end: Array, state: Any, *inputs: Any) -> Any:
        return jax.lax.fori_loop(begin, end, lambda t, y: step(t, y, *inputs), state)

    return lambda begin, end, state, *inputs: many(
        jnp.asarray(begin), jnp.asarray(end), state, *inputs
    )


def watch(
    advance: Advance,
    state: Any,
    times: Sequence[int],
    *,
    observe: Callable[[Any], Any],
    ended: Callable[[Any], bool] = lambda state: False,
    report: Callable[[int], None] | None = None,
) -> tuple[Any, list[Any]]:
    """Carry a state through the given times and observe it at each.

    Args:
      advance: function (begin, end, state) -> state, as `compiled` makes it.
      state: pytree of arrays, at the first of the times. It is copied, so the caller's stay valid.
      times: numbers of steps, increasing; at least one.
      observe: what is kept of a state; it may do anything on the host.
      ended: whether a state needs no further step, as one that has diverged.
      report: called with the number of steps after each observation but the first.

    Returns:
      The last state, and the observations: one for each time, or as many as there were before the
      run ended.

    Raises:
      ValueError: times that do not increase.

    >>> state, seen = watch(lambda a, b, y: y + (b - a), 0, [0, 1, 4], observe=lambda y: 10 * y)
    >>> state, seen
    (Array(4, ...), [Array(0, ...), Array(10, ...), Array(40, ...)])
    """
    if not len(times) or any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError(f"times must be one or more and increase, got {list(times)}")
    state = jax.tree.map(jnp.copy, state)
    seen = [observe(jax.tree.map(jnp.copy, state))]
    for begin, end in itertools.pairwise(times):
        if ended(state):
            break
        state = advance(begin, end, state)
        seen.append(observe(jax.tree.map(jnp.copy, state)))
        if report is not None:
            report(end)
    return state, seen


def run_steps(
    step: Callable[[Int[Array, ""], Any], Any],
    state: Any,
    num_steps: int,
    *,
    observe: Callable[[Any], PyTree],
    every: int = 1,
    report: Callable[[int], None] | None = None,
    convolutional: bool = False,
) -> tuple[Any, PyTree]:
    """Take `num_steps` steps, observing the state before the first and after every `every`.

    Args:
      step: function (t, state) -> state, t the number of steps taken so far. It may draw its own
        minibatch from t and a key. Many runs at once are a `jax.vmap` over whatever differs
        between them.
      state: pytree of arrays. It is copied, so the caller's arrays stay valid.
      num_steps: a multiple of `every`.
      observe: function from a state to a pytree of arrays: what is kept of the run.
      every: how many steps lie between observations.
      report: called with the number of steps taken after each observation.
      convolutional: the step holds convolutions: on a CPU, drive it step by step.

    Returns:
      The last state, and the observations as numpy arrays with a leading axis
      num_steps // every + 1. A run that diverges goes on: its non-finite numbers are data.

    Raises:
      ValueError: counts that are not positive integers or do not divide.

    >>> final, seen = run_steps(lambda t, y: y / 2, jnp.array(8.0), 4, observe=lambda y: y, every=2)
    >>> float(final), seen.tolist()
    (0.5, [8.0, 2.0, 0.5])
    """
    check_count("every", every)
    check_count("num_steps", num_steps, least=0)
    if num_steps % every:
        raise ValueError(f"num_steps must be a multiple of every={every}, got {num_steps}")
    look = jax.jit(observe)
    state, seen = watch(
        compiled(step, convolutional=convolutional),
        state,
        range(0, num_steps + 1, every),
        observe=lambda state: jax.device_get(look(state)),
        report=report,
    )
    return state, jax.tree.map(lambda *xs: np.stack(xs), *seen)
