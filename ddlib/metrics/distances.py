"""Distances between two sets of samples: Fréchet's, of features, and the energy distance."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddlib.metrics.rows import is_real, matrix

ROWS = 256  # of a table of distances at a time


class Statistics(NamedTuple):
    """Mean and covariance of features, of how many images, and by which scorer (None: unnamed)."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    num_images: int
    scorer: str | None = None


def feature_statistics(features: Float[np.ndarray, "n d"], scorer: str | None = None) -> Statistics:
    """Mean and unbiased covariance of features, in float64.

    Args:
      features: one row an image. With n ≤ d the covariance is singular, and Fréchet distances to it
        say more about n than about the images.
      scorer: the name of the scorer that they come from.

    Raises:
      ValueError: another shape, fewer than two images, features that are not finite.

    >>> feature_statistics(np.array([[0.0, 0.0], [2.0, 0.0]])).covariance.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    x = matrix("features", features)
    if len(x) < 2:
        raise ValueError("features must be of at least 2 images: one has no covariance")
    mean = x.mean(0)
    x = x - mean
    return Statistics(mean, x.T @ x / (len(x) - 1), len(x), scorer)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """The squared Fréchet distance of two Gaussians, ‖μ−ν‖² + tr(A + B − 2(A^½ B A^½)^½).

    Heusel et al. (2017), arXiv:1706.08500, Eq. 6, who call it FID where the features are those of
    Inception. It is computed as ‖μ−ν‖² + ‖A^½ − B^½U‖² with the orthogonal U that brings the two
    roots closest: a sum of squares, so it is never negative, and 0 for equal statistics to the
    square of rounding.

    Args:
      a, b: statistics of the same scorer.

    Raises:
      ValueError: statistics of different scorers (a name and none are different too), of different
        or wrong shapes, not finite, a covariance that is not symmetric or has negative eigenvalues.

    >>> a = Statistics(np.zeros(2), np.diag([1.0, 4.0]), 100)
    >>> b = Statistics(np.array([3.0, 0.0]), np.diag([4.0, 4.0]), 100)
    >>> frechet_distance(a, b)  # 3² + (1 − 2)² + (2 − 2)²
    10.0
    """
    if a.scorer != b.scorer:
        raise ValueError(
            f"a and b come from different scorers, {a.scorer!r} and {b.scorer!r}: their distance "
            "means nothing"
        )
    (mu, first), (nu, second) = _gaussian("a", a), _gaussian("b", b)
    if mu.shape != nu.shape:
        raise ValueError(f"a and b differ in their features: {len(mu)} and {len(nu)} of them")
    left, _, right = np.linalg.svd(second @ first)
    apart = first - second @ (left @ right)
    return float(((mu - nu) ** 2).sum() + (apart**2).sum())


def energy_distance(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, ""]:
    """2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖, of samples: zero or positive, and 0 for equal ones.

    Székely & Rizzo (2013), doi:10.1016/j.jspi.2013.03.018. Means are over all pairs, a sample with
    itself among them, so that it is the energy distance of the two empirical distributions. It is
    in the units of x; some, SciPy among them, take its root. May be jitted and vmapped.

    Args:
      x, y: samples, one a row; memory grows with n + m, work with (n + m)².

    Raises:
      ValueError: other shapes, samples of different dimensions, none.

    >>> energy_distance(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])).item()
    10.0
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(f"x and y must have shapes (n, d) and (m, d), got {x.shape} and {y.shape}")

    def apart(a: Array, b: Array) -> Array:
        def mean(row: Array) -> Array:
            return jnp.linalg.norm(row - b, axis=1).mean()

        return jax.lax.map(mean, a, batch_size=ROWS).mean()

    return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def _gaussian(name: str, given: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the symmetric root of the covariance."""
    parts = np.asarray(given.mean), np.asarray(given.covariance)
    if not all(map(is_real, parts)):
        types = " and ".join(str(x.dtype) for x in parts)
        raise ValueError(f"{name} must have a mean and a covariance of real numbers, got {types}")
    mean, covariance = (x.astype(np.float64) for x in parts)
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(
            f"{name} must have a mean of shape (d,) and a covariance of shape (d, d), got "
            f"{mean.shape} and {covariance.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{name} must be finite")
    scale = np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > 1e-6 * scale:
        raise ValueError(f"{name} has a covariance that is not symmetric")
    values, vectors = np.linalg.eigh(covariance)
    if (values < -1e-6 * scale).any():
        raise ValueError(f"{name} has a covariance with the negative eigenvalue {values[0]:.3g}")
    # What is 0 but for rounding is made 0: its root would be as large as the root of rounding.
    rounding = len(values) * np.finfo(float).eps * scale
    return mean, (vectors * np.sqrt(np.where(values > rounding, values, 0))) @ vectors.T
