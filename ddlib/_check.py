"""Argument checks shared by the rooms: static mistakes are named before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether `value` can be looked at now, that is, whether no leaf is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def check_step_size(name: str, value: Any, *, zero: bool = False) -> None:
    """Raise unless `value` is finite and positive (or, with `zero`, not negative).

    Traced values pass: they cannot be looked at, and a sweep over step sizes must compile.
    """
    if not is_concrete(value):
        return
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number, got {value!r}") from error
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if np.any(numbers < 0) or (not zero and np.any(numbers == 0)):
        wanted = "zero or positive" if zero else "positive"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_inexact(name: str, tree: Any) -> None:
    """Raise unless every leaf holds floating-point or complex numbers.

    An integer cannot move by a fraction: cast to its type, every step size below 1 would be 0.
    """
    for leaf in jax.tree.leaves(tree):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"{name} must hold floating-point or complex numbers, got {dtype}: write 1.0 for 1"
            )


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    integral = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integral or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
