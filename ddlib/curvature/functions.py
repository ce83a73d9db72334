"""Functions of a symmetric matrix times a vector, by the matrix compressed to a Krylov space."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ddlib._check import like
from ddlib.curvature.eigenpairs import eig_scaled, eigh_scaled, symmetric
from ddlib.curvature.products import Matvec
from ddlib.curvature.spaces import krylov


def matrix_function(
    matvec: Matvec,
    v: PyTree,
    fn: Callable[[Array], Array],
    num_matvecs: int,
    *,
    scan: bool = True,
) -> PyTree:
    """fn(A)·v for a symmetric matrix A, by products with A: fn of A compressed to a Krylov space.

    Real v: A real symmetric, Lanczos and `eigh`; fn may return complex values. Complex v: A is
    taken as complex *symmetric* (a holomorphic Hessian), which is not Hermitian and has orthogonal
    eigenvectors in no useful sense: Arnoldi and a general eigendecomposition V fn(Λ) V⁻¹ (on a GPU
    JAX may lack it: then run on the CPU).

    Args:
      matvec: product with A on pytrees like v.
      v: pytree of arrays; zero gives zero.
      fn: elementwise function of eigenvalues. Where it is infinite, so is the result in the
        directions of v that belong to those eigenvalues, and only there.
      num_matvecs: the number of products. The error falls exponentially once the eigenvalues at
        which fn is rough are resolved.
      scan: as `krylov`.

    Returns:
      A pytree like v, complex if fn is.

    Raises:
      ValueError: more products than entries; a v of integers or that is not finite; or, outside a
        trace, a real matrix that is not symmetric.

    >>> matrix_function(lambda v: jnp.array([1.0, 4.0]) * v, jnp.ones(2), jnp.sqrt, 2).tolist()
    [1.0, 2.0]
    """
    space, _ = krylov(matvec, v, num_matvecs, scan=scan)
    # Rows after exhaustion are zero vectors, not eigenvectors of eigenvalue zero: put them lowest,
    # where no other is, and leave them out.
    dead = jnp.max(jnp.abs(space.basis), axis=1) == 0
    size = jnp.max(jnp.abs(space.matrix))
    lowest = jnp.diag(jnp.where(dead, -2 * len(dead) * jnp.where(size > 0, size, 1), 0))
    if jnp.iscomplexobj(space.matrix):
        values, vectors = eig_scaled(space.matrix + lowest)
        first = jnp.zeros(num_matvecs, space.matrix.dtype).at[0].set(1)
        parts = jnp.linalg.solve(vectors, first)
    else:
        values, vectors = eigh_scaled(symmetric("the matrix", space.matrix) + lowest)
        parts = vectors[0]
    absent = jnp.where(dead[:, None], jnp.abs(vectors) ** 2, 0).sum(0) > 0.5
    weights = jnp.where(absent, 0, fn(values))
    parts = jnp.where(absent, 0, parts)

    def combine(coefficients: Array) -> Array:
        coefficients = vectors @ coefficients
        if jnp.iscomplexobj(coefficients) and not jnp.iscomplexobj(space.basis):
            # By parts, not by a complex copy of the basis.
            both = jnp.stack([coefficients.real, coefficients.imag])
            return jax.lax.complex(*(both @ space.basis))
        return coefficients @ space.basis

    flat = spectral_sum(combine, weights, parts, space.norm)
    return like(unravel_like(v, flat), v)


def spectral_sum(
    combine: Callable[[Array], Array], weights: Array, parts: Array, factor: Array | float = 1.0
) -> Array:
    """factor·Σⱼ weightsⱼ partsⱼ uⱼ, where infinite weights are felt in their own directions alone.

    0·∞ is 0 here, and what is zero but for rounding counts as zero: an infinite weight on a
    direction in which the vector has no part, or an entry in which the direction has none.

    Args:
      combine: coefficients (k, …) -> Σⱼ coefficientsⱼ uⱼ, with unit vectors uⱼ.
      weights: (k,), real or complex; infinite by their real part.
      parts: (k, …).
      factor: on all of it.

    >>> found = spectral_sum(lambda c: jnp.eye(2) @ c, jnp.array([-jnp.inf, 2.0]), jnp.ones(2))
    >>> found.tolist()
    [-inf, 2.0]
    """
    weights = weights.reshape(-1, *(1,) * (parts.ndim - 1))
    infinite = jnp.isinf(weights.real)
    tiny = 16 * parts.shape[0] * jnp.finfo(parts.dtype).eps
    finite = factor * combine(jnp.where(infinite, 0, weights) * parts)
    felt = infinite & (jnp.abs(parts) > tiny * jnp.abs(parts).max())
    towards = combine(jnp.where(felt, jnp.sign(weights.real) * parts, 0))

    def unbounded(x: Array) -> Array:
        return jnp.where(jnp.abs(x) > tiny * jnp.abs(x).max(), jnp.sign(x) * jnp.inf, 0)

    if jnp.iscomplexobj(finite):
        return jax.lax.complex(
            finite.real + unbounded(towards.real), finite.imag + unbounded(towards.imag)
        )
    return finite + unbounded(towards)


def unravel_like(template: PyTree, flat: Array) -> PyTree:
    """Shape `flat` like the template, keeping its own dtype (which may have become complex)."""
    leaves, tree = jax.tree.flatten(template)
    ends = list(itertools.accumulate(jnp.size(x) for x in leaves))
    starts = [0, *ends[:-1]]
    return jax.tree.unflatten(
        tree,
        [flat[a:b].reshape(jnp.shape(x)) for a, b, x in zip(starts, ends, leaves, strict=True)],
    )
