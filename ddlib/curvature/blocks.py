"""Which layer is sharp: the largest eigenvalue of each diagonal block of a Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ddlib._check import check_count, check_inexact
from ddlib.curvature.eigenpairs import top_eigenpairs
from ddlib.curvature.products import hvp


class Block(NamedTuple):
    """One array of params: its name, the largest eigenvalue of its block, that pair's residual.

    >>> Block("[0]", 2.0, 0.0).name
    '[0]'
    """

    name: str
    value: Array
    residual: Array


def blocks(
    loss: Callable[[PyTree], Array],
    params: PyTree,
    *,
    num_matvecs: int = 20,
    scan: bool = True,
) -> list[Block]:
    """The largest eigenvalue of the Hessian in each array of params alone, the sharpest first.

    No eigenvalue of a block exceeds the largest of the whole (Cauchy's interlacing).

    Args:
      loss: function params -> real scalar.
      params: pytree of real floating-point arrays of one dtype.
      num_matvecs: products for each array, or its size if that is less.
      scan: as `ddlib.curvature.krylov`.

    Raises:
      ValueError: as `ddlib.curvature.hvp` and `ddlib.curvature.top_eigenpairs`.

    >>> def loss(y):
    ...     return y["a"] ** 2 + 3 * y["b"] ** 2
    >>> [(one.name, float(one.value)) for one in blocks(loss, {"a": 1.0, "b": 1.0})]
    [("['b']", 6.0), ("['a']", 2.0)]
    """
    check_inexact("params", params, real=True)
    params = jax.tree.map(jnp.asarray, params)
    search = block_search(loss, num_matvecs, scan=scan)
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    found = [
        Block(jax.tree_util.keystr(path), value, residual)
        for (path, leaf), (value, residual) in zip(paths, search(params), strict=True)
        if leaf.size
    ]
    return sorted(found, key=lambda one: -float(one.value))


def block_search(
    loss: Callable[..., Array], num_matvecs: int = 20, *, scan: bool = True
) -> Callable[..., list[tuple[Array, Array]]]:
    """The function that `blocks` searches by: (params, *batch) -> a value and a residual each.

    It may be compiled with `scan`, once for a loss. An empty array has the value 0.

    >>> search = block_search(lambda y: y[0] ** 2 + 3 * y[1] ** 2)
    >>> [float(value) for value, _ in search((1.0, 1.0))]
    [2.0, 6.0]
    """
    check_count("num_matvecs", num_matvecs)

    def search(params: PyTree, *batch: PyTree) -> list[tuple[Array, Array]]:
        leaves, shape = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
        found = []
        for i, leaf in enumerate(leaves):
            if not leaf.size:
                found.append((jnp.zeros(()), jnp.zeros(())))
                continue

            def part(x: Array, i: int = i) -> Array:
                return loss(jax.tree.unflatten(shape, [*leaves[:i], x, *leaves[i + 1 :]]), *batch)

            start = jnp.cos(jnp.arange(leaf.size) + 1.0).reshape(leaf.shape).astype(leaf.dtype)
            pairs, residuals = top_eigenpairs(
                hvp(part, leaf), start, 1, num_matvecs=min(num_matvecs, leaf.size), scan=scan
            )
            found.append((pairs.values[0], residuals[0]))
        return found

    return jax.jit(search) if scan else search
