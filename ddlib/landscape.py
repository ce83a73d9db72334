"""Slices of a loss: its values along random directions, at the scale of the parameters' filters.

A network with ReLU and batch norm does not change when a filter is scaled, so that a direction of
fixed length looks sharp beside small filters and flat beside large ones. Li et al., "Visualizing
the loss landscape of neural nets" (2018, arXiv:1712.09913), scale each filter of a direction to the
length of the filter that it is added to: then slices of different networks can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ddlib._check import check_inexact


def filter_direction(key: Array, params: PyTree) -> PyTree:
    """A random direction, each filter of which is as long as the filter of params.

    A filter is what leads to one output: a slice along the last axis of an array of two axes or
    more. Along biases and scales (one axis or none) the direction is zero, as Li et al. have it.

    Args:
      key: PRNG key.
      params: pytree of real floating-point arrays, the last axis of each the outputs.

    Raises:
      ValueError: params that are none, or of integers.

    >>> params = {"w": jnp.array([[3.0, 0.0], [4.0, 1.0]]), "b": jnp.ones(2)}
    >>> found = filter_direction(jax.random.key(0), params)
    >>> jnp.linalg.norm(found["w"], axis=0).round(4).tolist(), found["b"].tolist()
    ([5.0, 1.0], [0.0, 0.0])
    """
    check_inexact("params", params, real=True)
    leaves, shape = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
    if not leaves:
        raise ValueError("params must hold at least one array, got none")
    found = []
    for i, leaf in enumerate(leaves):
        if leaf.ndim < 2:
            found.append(jnp.zeros_like(leaf))
            continue
        axes = tuple(range(leaf.ndim - 1))
        random = jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
        length = jnp.sqrt(jnp.sum(random**2, axes, keepdims=True))
        wanted = jnp.sqrt(jnp.sum(leaf**2, axes, keepdims=True))
        found.append(random * (wanted / jnp.where(length > 0, length, 1)))
    return jax.tree.unflatten(shape, found)


def line(
    loss: Callable[[PyTree], Array], params: PyTree, direction: PyTree, at: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The loss at params + t·direction for each t of `at`, one after another.

    >>> line(lambda y: y**2, jnp.array(1.0), jnp.array(2.0), jnp.array([-1.0, 0.0, 1.0])).tolist()
    [1.0, 1.0, 9.0]
    """
    return jax.lax.map(lambda t: loss(_moved(params, (t, direction))), jnp.asarray(at))


def plane(
    loss: Callable[[PyTree], Array],
    params: PyTree,
    directions: tuple[PyTree, PyTree],
    first: Float[Array, " n"],
    second: Float[Array, " m"],
) -> Float[Array, "n m"]:
    """The loss at params + s·d₁ + t·d₂, rows s of `first` and columns t of `second`.

    >>> axes = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    >>> at = jnp.array([0.0, 1.0, 2.0])
    >>> plane(lambda y: y[0] + 10 * y[1], jnp.zeros(2), axes, at[:2], at).tolist()
    [[0.0, 10.0, 20.0], [1.0, 11.0, 21.0]]
    """
    one, other = directions
    return jax.lax.map(
        lambda s: jax.lax.map(
            lambda t: loss(_moved(params, (s, one), (t, other))), jnp.asarray(second)
        ),
        jnp.asarray(first),
    )


def _moved(params: PyTree, *steps: tuple[Array, PyTree]) -> PyTree:
    for size, direction in steps:
        params = jax.tree.map(lambda p, d, t=size: p + (t * d).astype(p.dtype), params, direction)
    return params
