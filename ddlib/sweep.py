"""Sweeps: many runs of one program. Which of them diverged, and by what a finished one is known.

A sweep is `jax.vmap` over whatever differs between runs (seeds, rates, coefficients: all traced),
so one program carries all runs; `ddlib.loop` drives it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree


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
