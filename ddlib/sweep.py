"""Many steps, many runs: a portable step loop, and sweeps as one compiled program.

A sweep is `jax.vmap` over whatever differs between runs (seeds, rates, coefficients: all traced),
so one program carries all runs. The loop below drives it: as scans over chunks of steps, or, for
convolutional networks on a CPU, as a Python loop over one donated step, because XLA:CPU runs a
convolution inside a scan about 14 times slower than in a top-level program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from ddlib._check import check_count


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
        minibatch from t and a key.
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
    one_by_one = convolutional and jax.default_backend() == "cpu"
    look = jax.jit(observe)

    @partial(jax.jit, donate_argnums=1)
    def advance(t: Array, y: Any) -> Any:
        if one_by_one:
            return step(t, y)
        return jax.lax.fori_loop(t, t + every, step, y)

    state = jax.tree.map(jnp.copy, state)
    seen = [jax.device_get(look(state))]
    for start in range(0, num_steps, every):
        if one_by_one:
            for t in range(start, start + every):
                state = advance(jnp.asarray(t), state)
        else:
            state = advance(jnp.asarray(start), state)
        seen.append(jax.device_get(look(state)))
        if report is not None:
            report(start + every)
    return state, jax.tree.map(lambda *xs: np.stack(xs), *seen)


def first_nonfinite(values: PyTree, steps: Int[np.ndarray, " t"]) -> np.ndarray:
    """The step at which each run diverged, or −1 if it never did.

    Args:
      values: pytree of arrays whose two leading axes are time and run.
      steps: the step number of each time, length t.

    Returns:
      Integer array, one entry a run: the first step at which any value is not finite.

    Raises:
      ValueError: values and steps of different lengths, or leaves that differ in their runs.

    >>> first_nonfinite(np.array([[1.0, 1.0], [2.0, np.inf]]), np.array([0, 10])).tolist()
    [-1, 10]
    """
    leaves = [np.asarray(x) for x in jax.tree.leaves(values)]
    shapes = {x.shape[:2] for x in leaves}
    if len(shapes) != 1 or len(min(shapes)) != 2 or min(shapes)[0] != len(steps):
        raise ValueError(
            f"values must have leading axes (time, run) with {len(steps)} times, one for each of "
            f"steps, got leading axes {sorted(shapes)}"
        )
    bad = np.zeros(leaves[0].shape[:2], bool)
    for x in leaves:
        bad |= ~np.isfinite(x).reshape(*x.shape[:2], -1).all(-1)
    return np.where(bad.any(0), np.asarray(steps)[bad.argmax(0)], -1)


def program_fingerprint(function: Callable[..., Any], *arguments: Any) -> str:
    """The sha256 of the program that JAX makes of a function: what is computed, not how it reads.

    It changes with the mathematics, with the arguments' shapes and types and with the version of
    JAX, and with no comment or name: a key for finished runs of a long batch. Arrays that the
    function closes over are part of it.

    Args:
      function: what would be compiled; static arguments bound.
      arguments: examples, or `jax.ShapeDtypeStruct`s.

    Raises:
      ValueError: a function that calls back to Python, of which the program says nothing.

    >>> program_fingerprint(lambda x: x + 1, 1.0) == program_fingerprint(lambda y: 1 + y, 1.0)
    False
    >>> program_fingerprint(lambda x: x + 1, 1.0) == program_fingerprint(lambda y: y + 1, 2.0)
    True
    """

    def program(*arguments: Any) -> Any:  # its name is in the text
        return function(*arguments)

    lowered = jax.jit(program).lower(*arguments)
    text = lowered.as_text()
    if found := re.search(r"custom_call @(\w*python\w*callback)", text):
        raise ValueError(f"function must not call back to Python, got a program with {found[1]}")
    digest = hashlib.sha256(f"{jax.__version__}\n{text}".encode())
    if "jax.const = true" in text:  # JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS: arguments, not text
        constants: Any = lowered._lowering.const_args
        for constant in map(jnp.asarray, constants):
            if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
                constant = jax.random.key_data(constant)
            digest.update(f"\n{constant.dtype}{constant.shape}\n".encode())
            digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()
