"""Krylov spaces: an orthonormal basis by products with a matrix, and the matrix in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ddlib._check import at_least_single, check_count, check_inexact, is_concrete
from ddlib.curvature.products import Matvec


class Krylov(NamedTuple):
    """An orthonormal basis of a Krylov space and the matrix compressed to it.

    `basis` has shape (k, n), rows; `matrix` (k, k), tridiagonal for a symmetric matrix; `norm` is
    the start vector's; `residual` the norm of what the last product left outside: small means that
    the space is (nearly) invariant. Rows after exhaustion are zero, unless it was restarted.

    >>> Krylov(jnp.eye(1), jnp.eye(1), jnp.array(2.0), jnp.array(0.0)).norm.item()
    2.0
    """

    basis: Array
    matrix: Array
    norm: Array
    residual: Array


def krylov(
    matvec: Matvec, start: PyTree, num_matvecs: int, *, scan: bool = True, restart: bool = False
) -> tuple[Krylov, Callable[[Array], PyTree]]:
    """Arnoldi with full reorthogonalisation, done twice; on a symmetric matrix this is Lanczos.

    Args:
      matvec: product with a square matrix on pytrees like `start`.
      start: the first vector, of any size that its dtype can hold. Zero gives a zero basis.
      num_matvecs: the number of products, at most the number of entries.
      scan: drive the loop as a `lax.scan` (compiles once), or, for convolutional networks on a
        CPU, as a Python loop over a compiled `matvec`.
      restart: go on, where the space is exhausted, from a pseudo-random vector orthogonal to it:
        of a symmetric matrix the basis then spans several invariant spaces.

    Returns:
      The `Krylov`, in single precision at least, and the function that shapes a vector of n entries
      like `start`.

    Raises:
      ValueError: more products than entries, or none; a start of integers or that is not finite.

    >>> space, _ = krylov(lambda v: jnp.array([1.0, 2.0]) * v, jnp.array([3.0, 4.0]), 2)
    >>> [round(x, 4) for x in jnp.linalg.eigvalsh(space.matrix).tolist()], float(space.norm)
    ([1.0, 2.0], 5.0)
    """
    check_count("num_matvecs", num_matvecs)
    check_inexact("start", start)
    given, unravel_given = ravel_pytree(jax.tree.map(jnp.asarray, start))
    if num_matvecs > given.size:
        raise ValueError(f"num_matvecs must be at most {given.size} entries, got {num_matvecs}")
    if is_concrete(given) and not bool(jnp.all(jnp.isfinite(given))):
        raise ValueError("start must be finite, got a vector with NaN or infinite entries")
    flat = at_least_single(given)

    def unravel(x: Array) -> PyTree:
        return unravel_given(x.astype(given.dtype))

    norm = _norm(flat)
    orthogonalise = _orthogonalise if scan else _compiled_orthogonalise

    def advance(carry: tuple[Array, Array, Array], i: Any) -> tuple[Any, tuple[Array, ...]]:
        basis, q, scale = carry
        w = ravel_pytree(matvec(unravel(q)))[0].astype(flat.dtype)
        return orthogonalise(basis, q, w, scale, jnp.asarray(i), restart)

    basis = jnp.zeros((num_matvecs, flat.size), flat.dtype)
    first = _normalised(flat, norm, norm > 0)
    if restart:
        first = jax.lax.cond(norm > 0, lambda: first, lambda: _fresh(basis, jnp.asarray(0)))
    carry: Any = (basis, first, jnp.zeros_like(norm))
    if scan:
        carry, rows = jax.lax.scan(advance, carry, jnp.arange(num_matvecs))
    else:
        found = []
        for i in range(num_matvecs):
            carry, row = advance(carry, i)
            found.append(row)
        rows = tuple(jnp.stack(x) for x in zip(*found, strict=True))
    columns, couplings, lengths = rows
    matrix = columns.T + jnp.diag(couplings[:-1].astype(flat.dtype), -1)
    return Krylov(carry[0], matrix, norm, lengths[-1]), unravel


def _norm(x: Array) -> Array:
    """The Euclidean norm, of numbers whose squares may leave the range of their dtype too."""
    largest = jnp.max(jnp.abs(x), initial=0)
    return largest * jnp.linalg.norm(x / jnp.where(largest > 0, largest, 1))


def _normalised(v: Array, length: Array, alive: Array) -> Array:
    return jnp.where(alive, v / jnp.where(alive, length, 1), 0)


def _fresh(basis: Array, i: Array) -> Array:
    """A unit vector orthogonal to the rows."""
    real = jnp.finfo(basis.dtype).dtype
    v = jax.random.normal(jax.random.fold_in(jax.random.key(0), i), basis.shape[1:], real)
    v = v.astype(basis.dtype)
    for _ in range(2):
        v = v - (basis.conj() @ v) @ basis
    return v / _norm(v)


def _orthogonalise(
    basis: Array, q: Array, w: Array, scale: Array, i: Array, restart: bool
) -> tuple[Any, tuple[Array, ...]]:
    """Put q into row i, take the part of w = Aq in the rows away.

    What follows is the next q; the column of the compressed matrix, its coupling to the next row,
    and the length of what was left of w.
    """
    basis = basis.at[i].set(q)
    scale = jnp.maximum(scale, _norm(w))
    column = jnp.zeros(len(basis), basis.dtype)
    for _ in range(2):
        part = basis.conj() @ w
        column, w = column + part, w - part @ basis
    length = _norm(w)
    # What is left below rounding is noise: the space is exhausted.
    alive = length > 10 * jnp.finfo(w.dtype).eps * w.size**0.5 * scale
    following = _normalised(w, length, alive)
    if restart:
        following = jax.lax.cond(alive, lambda: following, lambda: _fresh(basis, i + 1))
    return (basis, following, scale), (column, jnp.where(alive, length, 0), length)


# the basis may be gigabytes
_compiled_orthogonalise = jax.jit(_orthogonalise, donate_argnums=0, static_argnums=5)
