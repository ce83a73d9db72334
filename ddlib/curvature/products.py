"""Products with the Hessian of a loss, in chunks of its batch where memory wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ddlib._check import check_count, check_scalar, like
from ddlib.curvature.programs import compiled
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
    return lambda v: _mean_over(parts, lambda: compiled(product, params, v, *parts[0]), params, v)


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
    return _mean_over(parts, lambda: compiled(slope, params, *parts[0]), params)


def hessian(loss: Callable[[PyTree], Array], params: PyTree) -> Float[Array, "n n"]:
    """The dense Hessian in the coordinates of `ravel_pytree`; for small n (n² numbers).

    >>> hessian(lambda x: x[0] ** 2 + 3 * x[0] * x[1], jnp.array([1.0, 2.0])).tolist()
    [[2.0, 3.0], [3.0, 0.0]]
    """
    matvec = hvp(loss, params)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
    columns = jax.vmap(lambda e: ravel_pytree(matvec(unravel(e)))[0])
    return columns(jnp.eye(flat.size, dtype=flat.dtype)).T


def _slope_of(loss: Callable[..., Array], params: PyTree, parts: list[tuple[Any, ...]]) -> Callable:
    """(params, *part) -> the gradient, of a loss that has been looked at."""
    holomorphic = bool(jnp.iscomplexobj(jax.tree.leaves(params)[0]))
    check_scalar("loss", loss, params, *parts[0], holomorphic=holomorphic)

    def slope(params: PyTree, *part: Any) -> PyTree:
        return jax.grad(loss, holomorphic=holomorphic)(params, *part)

    return thaw(slope)


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
