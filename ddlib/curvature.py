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
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ddlib._check import (
    at_least_single,
    check_count,
    check_inexact,
    check_scalar,
    is_concrete,
    like,
)
from ddlib.frozen import thaw

Matvec = Callable[[Any], Any]


def _check_params(params: PyTree) -> None:
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError("params must hold at least one array, got none")
    kinds = {jnp.result_type(x) for x in leaves}
    for kind in kinds:
        if not jnp.issubdtype(kind, jnp.inexact):
            raise ValueError(f"params must be floating point or complex, got an array of {kind}")
    if len(kinds) > 1:
        raise ValueError(f"params must share one dtype, got {sorted(map(str, kinds))}")


def hvp(
    loss: Callable[..., Array], params: PyTree, batch: PyTree = None, *, num_chunks: int = 1
) -> Matvec:
    """Products with the Hessian of a loss at params: the function v ↦ ∇²loss(params)·v.

    Forward over reverse (Pearlmutter, 1994): about the cost of three gradients, no Hessian formed.
    A complex loss that is holomorphic in complex params gives the complex symmetric Hessian. Of a
    loss that holds something constant by `jax.lax.stop_gradient`, what is differentiated is its
    gradient, as a function of params: the result need not be symmetric, and then has no
    eigendecomposition here.

    Args:
      loss: function params -> scalar, or (params, batch) -> scalar, the mean over the batch.
      params: pytree of floating-point arrays of one dtype.
      batch: pytree of arrays with one leading axis, or None.
      num_chunks: the batch is cut into so many equal parts, one held in memory at a time.

    Returns:
      A function from a pytree like params to a pytree like params.

    Raises:
      ValueError: a loss that is not scalar, or real on complex params; params of integers or mixed
        dtypes; chunks that do not divide the batch.

    >>> matvec = hvp(lambda x: x[0] ** 2 + 3 * x[0] * x[1], jnp.array([1.0, 2.0]))
    >>> matvec(jnp.array([1.0, 0.0])).tolist()
    [2.0, 3.0]
    """
    params = jax.tree.map(jnp.asarray, params)
    _check_params(params)
    parts = _parts_of(batch, num_chunks)
    slope = _slope_of(loss, params, parts)

    def product(params: PyTree, v: PyTree, *part: Any) -> PyTree:
        return jax.jvp(lambda p: slope(p, *part), (params,), (like(v, params),))[1]

    if num_chunks == 1:
        return lambda v: product(params, v, *parts[0])
    return lambda v: _mean_over(parts, lambda: _compiled(product, params, v, *parts[0]), params, v)


def _slope_of(loss: Callable[..., Array], params: PyTree, parts: list[tuple[Any, ...]]) -> Callable:
    """(params, *part) -> the gradient, of a loss that has been looked at."""
    holomorphic = bool(jnp.iscomplexobj(jax.tree.leaves(params)[0]))
    check_scalar("loss", loss, params, *parts[0], holomorphic=holomorphic)

    def slope(params: PyTree, *part: Any) -> PyTree:
        return jax.grad(loss, holomorphic=holomorphic)(params, *part)

    return thaw(slope)


def _compiled(fn: Callable, *arguments: Any) -> Callable:
    """fn, compiled for arguments of these shapes; as it is, where it is being traced.

    Compiled once for a program, not once for each params, since a flow evaluates its field at
    many. What tells programs apart is their text, which holds the constants: a loss that is an
    object may hold arrays, and may change, so that neither its hash nor its identity would do.
    """
    if not is_concrete(arguments):
        return fn
    lowered = jax.jit(fn).lower(*arguments)
    return _compiled_text(_Text(lowered.as_text(), lowered))


class _Text(NamedTuple):
    """A lowered program that is known by its text."""

    text: str
    lowered: Any

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.text == other.text


@lru_cache(maxsize=64)
def _compiled_text(program: _Text) -> Callable:
    return program.lowered.compile()


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
    slope = _slope_of(loss, params, parts)
    if num_chunks == 1:
        return slope(params, *parts[0])
    return _mean_over(parts, lambda: _compiled(slope, params, *parts[0]), params)


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


def _mean_over(parts: list[tuple[Any, ...]], make: Callable[[], Callable], *given: Any) -> PyTree:
    """The mean over chunks of make()(*given, *chunk), one chunk in memory at a time.

    A Python loop, so that convolutions stay out of a scan (slow on XLA:CPU).
    """
    fn = make()
    total = fn(*given, *parts[0])
    for part in parts[1:]:
        total = jax.tree.map(jnp.add, total, fn(*given, *part))
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
    values, small = _eigh_scaled(symmetric("the matrix", space.matrix))
    values, small = values[::-1][:num], small[:, ::-1][:, :num]
    residuals = jnp.abs(small[-1]) * space.residual
    return Eigen(values, jax.vmap(unravel)(small.T @ space.basis)), residuals


def _eigh_scaled(matrix: Array) -> tuple[Array, Array]:
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
        values, vectors = _eigh_scaled(symmetric("the matrix", space.matrix) + lowest)
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
