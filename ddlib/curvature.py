"""Curvature: the Hessian of a loss, by products with it, never by its entries unless it is small.

Krylov methods here are Lanczos (real symmetric) and Arnoldi (complex symmetric) with full
reorthogonalisation, started at the vector of interest. When the Krylov space is exhausted, which
happens for any loss with fewer distinct eigenvalues than products, they stop there and the answer
is exact. (matfree 0.6.3 goes on with a spurious coupling: on the identity its tridiagonal matrix
has an off-diagonal 1/2 in the first row, hence our own thirty lines.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ddlib._check import check_count, is_concrete

Matvec = Callable[[Any], Any]


def _check_params(params: PyTree) -> None:
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError("params must hold at least one array, got none")
    kinds = {jnp.result_type(x) for x in leaves}
    for kind in kinds:
        if not jnp.issubdtype(kind, jnp.inexact):
            raise ValueError(f"params must be floating point, got an array of {kind}")
    if len(kinds) > 1:
        raise ValueError(f"params must share one dtype, got {sorted(map(str, kinds))}")


def _check_scalar(loss: Callable, *arguments: Any) -> None:
    shape = jax.eval_shape(loss, *arguments)
    if not hasattr(shape, "shape") or shape.shape != ():
        raise ValueError(f"loss must return a scalar, got {shape}")


def hvp(
    loss: Callable[..., Array], params: PyTree, batch: PyTree = None, *, num_chunks: int = 1
) -> Matvec:
    """Products with the Hessian of a loss at params: the function v ↦ ∇²loss(params)·v.

    Forward over reverse (Pearlmutter, 1994): about the cost of three gradients, no Hessian formed.
    A complex loss that is holomorphic in complex params gives the complex symmetric Hessian.

    Args:
      loss: function params -> scalar, or (params, batch) -> scalar, the mean over the batch.
      params: pytree of floating-point arrays of one dtype.
      batch: pytree of arrays with one leading axis, or None.
      num_chunks: the batch is cut into so many equal parts, one held in memory at a time.

    Returns:
      A function from a pytree like params to a pytree like params.

    Raises:
      ValueError: a loss that is not scalar, params of integers or mixed dtypes, chunks that do not
        divide the batch.

    >>> matvec = hvp(lambda x: x[0] ** 2 + 3 * x[0] * x[1], jnp.array([1.0, 2.0]))
    >>> matvec(jnp.array([1.0, 0.0])).tolist()
    [2.0, 3.0]
    """
    params = jax.tree.map(jnp.asarray, params)
    _check_params(params)
    parts = _parts_of(batch, num_chunks)
    _check_scalar(loss, params, *parts[0])
    if num_chunks == 1:
        return lambda v: _product(loss, params, v, *parts[0])
    return lambda v: _mean_over(parts, lambda part: _compiled_product(loss, params, v, *part))


def _slope(loss: Callable[..., Array], params: PyTree, *part: Any) -> PyTree:
    holomorphic = bool(jnp.iscomplexobj(jax.tree.leaves(params)[0]))
    return jax.grad(loss, holomorphic=holomorphic)(params, *part)


def _product(loss: Callable[..., Array], params: PyTree, v: PyTree, *part: Any) -> PyTree:
    return jax.jvp(lambda p: _slope(loss, p, *part), (params,), (v,))[1]


# Compiled once for a loss, not once for each params: a flow evaluates its field at many.
_compiled_slope = jax.jit(_slope, static_argnums=0)
_compiled_product = jax.jit(_product, static_argnums=0)


def gradient(
    loss: Callable[..., Array], params: PyTree, batch: PyTree = None, *, num_chunks: int = 1
) -> PyTree:
    """The gradient of a loss at params, in chunks of the batch where memory wants it.

    Args and errors as `hvp`; complex params take a holomorphic loss.

    >>> def loss(x, batch):
    ...     return jnp.mean(batch) * x**2
    >>> gradient(loss, 3.0, jnp.array([1.0, 2.0, 3.0, 4.0]), num_chunks=2).item()
    15.0
    """
    params = jax.tree.map(jnp.asarray, params)
    _check_params(params)
    parts = _parts_of(batch, num_chunks)
    _check_scalar(loss, params, *parts[0])
    if num_chunks == 1:
        return _slope(loss, params, *parts[0])
    return _mean_over(parts, lambda part: _compiled_slope(loss, params, *part))


def _parts_of(batch: PyTree, num_chunks: int) -> list[tuple[Any, ...]]:
    """The batch as arguments after params: none, or one chunk each."""
    check_count("num_chunks", num_chunks)
    if batch is None:
        if num_chunks != 1:
            raise ValueError(f"num_chunks is {num_chunks}, but there is no batch to cut")
        return [()]
    sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes or next(iter(sizes))[0] % num_chunks:
        raise ValueError(
            f"num_chunks={num_chunks} must divide one leading axis, got axes {sorted(sizes)}"
        )
    size = next(iter(sizes))[0] // num_chunks
    return [
        (jax.tree.map(lambda x, i=i: x[i * size : (i + 1) * size], batch),)
        for i in range(num_chunks)
    ]


def _mean_over(parts: list[tuple[Any, ...]], fn: Callable[[tuple[Any, ...]], PyTree]) -> PyTree:
    """The mean of fn over chunks, one in memory at a time.

    A Python loop, so that convolutions stay out of a scan (slow on XLA:CPU).
    """
    total = fn(parts[0])
    for part in parts[1:]:
        total = jax.tree.map(jnp.add, total, fn(part))
    return jax.tree.map(lambda x: x / len(parts), total)


def hessian(loss: Callable[[PyTree], Array], params: PyTree) -> Float[Array, "n n"]:
    """The dense Hessian in the coordinates of `ravel_pytree`; for small n (n² numbers).

    >>> hessian(lambda x: x[0] ** 2 + 3 * x[0] * x[1], jnp.array([1.0, 2.0])).tolist()
    [[2.0, 3.0], [3.0, 0.0]]
    """
    matvec = hvp(loss, params)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
    columns = jax.vmap(lambda e: ravel_pytree(matvec(unravel(e)))[0])
    return columns(jnp.eye(flat.size, dtype=flat.dtype)).T


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
      `Eigen`: n eigenvalues, largest first; unit eigenvectors as a pytree like params with a
      leading axis n.

    >>> values, vectors = eigh(lambda x: x[0] ** 2 + 2 * x[1] ** 2, jnp.zeros(2))
    >>> values.tolist(), jnp.abs(vectors).tolist()
    ([4.0, 2.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    _, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
    matrix = hessian(loss, params)
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    return Eigen(values[::-1], jax.vmap(unravel)(vectors.T[::-1]))


class Krylov(NamedTuple):
    """An orthonormal basis of a Krylov space and the matrix compressed to it.

    `basis` has shape (k, n), rows; `matrix` (k, k), tridiagonal for a symmetric matrix; `norm` is
    the start vector's; `residual` the norm of what the last product left outside: small means that
    the space is (nearly) invariant. Rows after exhaustion are zero.

    >>> Krylov(jnp.eye(1), jnp.eye(1), jnp.array(2.0), jnp.array(0.0)).norm.item()
    2.0
    """

    basis: Array
    matrix: Array
    norm: Array
    residual: Array


def krylov(
    matvec: Matvec, start: PyTree, num_matvecs: int, *, scan: bool = True
) -> tuple[Krylov, Callable[[Array], PyTree]]:
    """Arnoldi with full reorthogonalisation, done twice; on a symmetric matrix this is Lanczos.

    Args:
      matvec: product with a square matrix on pytrees like `start`.
      start: the first vector. Zero gives a zero basis.
      num_matvecs: the number of products, at most the number of entries.
      scan: drive the loop as a `lax.scan` (compiles once), or, for convolutional networks on a
        CPU, as a Python loop over a compiled `matvec`.

    Returns:
      The `Krylov` and the function that shapes a vector of n entries like `start`.

    Raises:
      ValueError: more products than entries, or none.

    >>> space, _ = krylov(lambda v: jnp.array([1.0, 2.0]) * v, jnp.array([3.0, 4.0]), 2)
    >>> [round(x, 4) for x in jnp.linalg.eigvalsh(space.matrix).tolist()], float(space.norm)
    ([1.0, 2.0], 5.0)
    """
    check_count("num_matvecs", num_matvecs)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, start))
    if num_matvecs > flat.size:
        raise ValueError(f"num_matvecs must be at most {flat.size} entries, got {num_matvecs}")
    if is_concrete(flat) and not bool(jnp.all(jnp.isfinite(flat))):
        raise ValueError("start must be finite, got a vector with NaN or infinite entries")
    norm = jnp.linalg.norm(flat)

    def advance(carry: tuple[Array, Array, Array], i: Any) -> tuple[Any, tuple[Array, Array]]:
        basis, q, scale = carry
        w = ravel_pytree(matvec(unravel(q)))[0]
        orthogonalise = _orthogonalise if scan else _compiled_orthogonalise
        return orthogonalise(basis, q, w, scale, jnp.asarray(i))

    basis = jnp.zeros((num_matvecs, flat.size), flat.dtype)
    carry: Any = (basis, _normalised(flat, norm, norm > 0), jnp.zeros_like(norm))
    if scan:
        carry, (columns, lengths) = jax.lax.scan(advance, carry, jnp.arange(num_matvecs))
    else:
        rows = []
        for i in range(num_matvecs):
            carry, row = advance(carry, i)
            rows.append(row)
        columns, lengths = (jnp.stack(x) for x in zip(*rows, strict=True))
    matrix = columns.T + jnp.diag(lengths[:-1].astype(flat.dtype), -1)
    return Krylov(carry[0], matrix, norm, lengths[-1]), unravel


def _normalised(v: Array, length: Array, alive: Array) -> Array:
    return jnp.where(alive, v / jnp.where(alive, length, 1), 0)


def _orthogonalise(basis: Array, q: Array, w: Array, scale: Array, i: Array) -> Any:
    """Put q into row i, take the part of w = Aq in the rows away: the next q, and a column."""
    basis = basis.at[i].set(q)
    scale = jnp.maximum(scale, jnp.linalg.norm(w))
    column = jnp.zeros(len(basis), basis.dtype)
    for _ in range(2):
        part = basis.conj() @ w
        column, w = column + part, w - part @ basis
    length = jnp.linalg.norm(w)
    # What is left below rounding is noise: the space is exhausted.
    alive = length > 10 * jnp.finfo(w.dtype).eps * w.size**0.5 * scale
    return (basis, _normalised(w, length, alive), scale), (column, jnp.where(alive, length, 0))


_compiled_orthogonalise = jax.jit(_orthogonalise, donate_argnums=0)  # the basis may be gigabytes


def top_eigenpairs(
    matvec: Matvec, start: PyTree, num: int, *, num_matvecs: int = 30, scan: bool = True
) -> tuple[Eigen, Float[Array, " num"]]:
    """The largest eigenvalues of a real symmetric matrix and their vectors, by Lanczos.

    Warm start: pass the sum of the vectors found nearby as `start`.

    Args:
      matvec: product with a real symmetric matrix.
      start: a vector with a share in what is wanted; random will do.
      num: how many, at most num_matvecs.
      num_matvecs: the number of products.
      scan: as `krylov`.

    Returns:
      `Eigen`, largest (algebraic) first, and the residual norms |Av − λv| of the pairs.

    Raises:
      ValueError: more pairs than products, more products than entries, a zero start.

    >>> pairs, residuals = top_eigenpairs(
    ...     lambda v: jnp.array([1.0, 2.0, 5.0]) * v, jnp.ones(3), 1, num_matvecs=3)
    >>> round(pairs.values.tolist()[0], 4)
    5.0
    """
    check_count("num", num)
    if num > num_matvecs:
        raise ValueError(f"num must be at most num_matvecs={num_matvecs}, got {num}")
    if is_concrete(start) and not any(bool(jnp.any(x != 0)) for x in jax.tree.leaves(start)):
        raise ValueError("start must not be zero: a zero vector has a share in no eigenvector")
    space, unravel = krylov(matvec, start, num_matvecs, scan=scan)
    # Rows after exhaustion are zero vectors, not eigenvectors of eigenvalue zero: put them last.
    dead = jnp.linalg.norm(space.basis, axis=1) == 0
    matrix = (space.matrix + space.matrix.T) / 2
    lowest = -2 * jnp.linalg.norm(matrix) - 1
    values, small = jnp.linalg.eigh(matrix + jnp.diag(jnp.where(dead, lowest, 0)))
    values, small = values[::-1][:num], small[:, ::-1][:, :num]
    residuals = jnp.abs(small[-1]) * space.residual
    return Eigen(values, jax.vmap(unravel)(small.T @ space.basis)), residuals


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
      fn: elementwise function of eigenvalues.
      num_matvecs: the number of products. The error falls exponentially once the eigenvalues at
        which fn is rough are resolved.
      scan: as `krylov`.

    Returns:
      A pytree like v, complex if fn is.

    Raises:
      ValueError: more products than entries, or a v that is not finite.

    >>> matrix_function(lambda v: jnp.array([1.0, 4.0]) * v, jnp.ones(2), jnp.sqrt, 2).tolist()
    [1.0, 2.0]
    """
    space, _ = krylov(matvec, v, num_matvecs, scan=scan)
    if jnp.iscomplexobj(space.matrix):
        values, vectors = jnp.linalg.eig(space.matrix)
        first = jnp.zeros(num_matvecs, space.matrix.dtype).at[0].set(1)
        weights = vectors @ (fn(values) * jnp.linalg.solve(vectors, first))
    else:
        values, vectors = jnp.linalg.eigh((space.matrix + space.matrix.T) / 2)
        weights = vectors @ (fn(values) * vectors[0])
    if jnp.iscomplexobj(weights) and not jnp.iscomplexobj(space.basis):
        # By parts, not by a complex copy of the basis.
        flat = jax.lax.complex(*(jnp.stack([weights.real, weights.imag]) @ space.basis))
    else:
        flat = weights @ space.basis
    return _unravel_like(v, space.norm * flat)


def _unravel_like(template: PyTree, flat: Array) -> PyTree:
    """Shape `flat` like the template, keeping its own dtype (which may have become complex)."""
    leaves, tree = jax.tree.flatten(template)
    ends = list(itertools.accumulate(jnp.size(x) for x in leaves))
    starts = [0, *ends[:-1]]
    return jax.tree.unflatten(
        tree,
        [flat[a:b].reshape(jnp.shape(x)) for a, b, x in zip(starts, ends, leaves, strict=True)],
    )
