"""What is said of images one by one: matrices with one row for each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np


def matrix(name: str, values: Any) -> np.ndarray:
    """`values` in float64; raise unless they are finite real numbers, one row for each image."""
    x = np.asarray(values)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must be a matrix with one row for each image, got {x.shape}")
    if not is_real(x):
        raise ValueError(f"{name} must be real numbers, got {x.dtype}")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x).all(1)).sum())
        raise ValueError(f"{name} must be finite; {bad} of {len(x)} rows are not")
    return x


def is_real(x: np.ndarray) -> bool:
    """Whether an array holds real numbers."""
    return jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.kind in "iu"  # bfloat16 is of kind V
