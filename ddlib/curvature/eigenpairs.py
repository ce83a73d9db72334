"""Eigenpairs: of a small Hessian all, of a large symmetric matrix the largest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ddlib._check import at_least_single, check_count, check_inexact, is_concrete
from ddlib.curvature.products import Matvec, hessian
from ddlib.curvature.spaces import krylov


class Eigen(NamedTuple):
    """Eigenvalues, largest first, and eigenvectors: pytrees like params, leading axis the index.

    >>> Eigen(jnp.array([2.0]), None).values.tolist()
    [2.0]
    """

    values: Array
    vectors: Any


def eigh(loss: Callable[[PyTree], Array], params: PyTree) -> Eigen:
    """The full eigendecomposition of the (real) Hessian; for small nets.

    Returns:
      `Eigen`: n eigenvalues, largest first, in single precision at least; unit eigenvectors as a
      pytree like params with a leading axis n.

    Raises:
      ValueError: as `hvp`; complex params; or, outside a trace, a matrix that is not symmetric.

    >>> values, vectors = eigh(lambda x: x[0] ** 2 + 2 * x[1] ** 2, jnp.zeros(2))
    >>> values.tolist(), jnp.abs(vectors).tolist()
    ([4.0, 2.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    check_inexact("params", params, real=True)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
    values, vectors = jnp.linalg.eigh(symmetric("the Hessian", hessian(loss, params)))
    return Eigen(values[::-1], jax.vmap(unravel)(vectors.T[::-1].astype(flat.dtype)))


def symmetric(name: str, matrix: Array) -> Array:
    """The symmetric part of a real matrix, in single precision at least, which must be all of it.

    Raises:
      ValueError: outside a trace, a matrix with more than rounding beside that part: a product that
        is of no symmetric matrix, or a loss that holds a factor constant, whose gradient is none.

    >>> symmetric("A", jnp.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    # Rounding of the products themselves, larger than of one operation; a factor held constant
    # shows at the size of the matrix.
    allowed = float(jnp.finfo(matrix.dtype).eps) ** (1 / 3)
    wide = at_least_single(matrix)
    if is_concrete(wide):
        size, apart = jnp.abs(wide).max(), jnp.abs(wide - wide.T).max()
        if bool(apart > allowed * size):
            raise ValueError(
                f"{name} must be symmetric to rounding, got one that differs from its transpose by "
                f"{float(apart):.2g} where its largest entry is {float(size):.2g}; a loss that "
                "holds a factor constant (stop_gradient) has no symmetric Hessian"
            )
    return wide / 2 + wide.T / 2


def top_eigenpairs(
    matvec: Matvec, start: PyTree, num: int, *, num_matvecs: int = 30, scan: bool = True
) -> tuple[Eigen, Float[Array, " num"]]:
    """The largest eigenvalues of a real symmetric matrix and their vectors, by Lanczos.

    Warm start: pass the sum of the vectors found nearby as `start`. One start has a share in one
    vector of each eigenspace, so that an eigenvalue which repeats is found once, until all that are
    distinct are found: then the search goes on orthogonal to them.

    Args:
      matvec: product with a real symmetric matrix.
      start: a real vector with a share in what is wanted; random will do.
      num: how many, at most num_matvecs.
      num_matvecs: the number of products.
      scan: as `krylov`.

    Returns:
      `Eigen`, largest (algebraic) first, and the residual norms |Av − λv| of the pairs: they say
      which have converged.

    Raises:
      ValueError: more pairs than products, more products than entries; a start of zeros, integers
        or complex numbers; or, outside a trace, a matrix that is not symmetric.

    >>> pairs, residuals = top_eigenpairs(
    ...     lambda v: jnp.array([1.0, 2.0, 5.0]) * v, jnp.ones(3), 1, num_matvecs=3)
    >>> round(pairs.values.tolist()[0], 4)
    5.0
    """
    check_count("num", num)
    if num > num_matvecs:
        raise ValueError(f"num must be at most num_matvecs={num_matvecs}, got {num}")
    check_inexact("start", start, real=True)
    if is_concrete(start) and not any(bool(jnp.any(x != 0)) for x in jax.tree.leaves(start)):
        raise ValueError("start must not be zero: a zero vector has a share in no eigenvector")
    space, unravel = krylov(matvec, start, num_matvecs, scan=scan, restart=True)
    values, small = eigh_scaled(symmetric("the matrix", space.matrix))
    values, small = values[::-1][:num], small[:, ::-1][:, :num]
    residuals = jnp.abs(small[-1]) * space.residual
    return Eigen(values, jax.vmap(unravel)(small.T @ space.basis)), residuals


def eigh_scaled(matrix: Array) -> tuple[Array, Array]:
    """`eigh`, of matrices whose entries may be as small or as large as their dtype can hold."""
    size = jnp.abs(matrix).max()
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eigh(matrix / size)
    return values * size, vectors


def eig_scaled(matrix: Array) -> tuple[Array, Array]:
    """`eig`, of complex matrices of any scale that their dtype can hold.

    Raises:
      ValueError: outside a trace, a matrix whose eigenvectors are no basis to half its digits.

    >>> eig_scaled(jnp.array([[2.0 + 0j]]))[0].tolist()
    [(2+0j)]
    """
    size = jnp.abs(matrix).max()
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eig(matrix / size)
    if is_concrete(vectors):
        smallest = float(jnp.linalg.svd(vectors, compute_uv=False)[-1])
        if smallest < float(jnp.finfo(vectors.dtype).eps) ** 0.5:
            raise ValueError(
                "the matrix must have a basis of eigenvectors, got one that is defective to "
                f"rounding (smallest singular value of its eigenvectors {smallest:.1g})"
            )
    return values * size, vectors
