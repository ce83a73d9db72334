"""The largest eigenpairs of a Hessian along training, each from the last, at a few products a step.

From one iterate to the next the eigenvectors turn a little. So the search at the next one is in
the span of the last vectors, of the residuals that they have there, and of the gradient: a
Rayleigh–Ritz step, whose own residuals say how good it was. The products share one linearisation of
the gradient. When the residuals say that a pair was lost (its eigenvalue was crossed, training
jumped), Lanczos finds it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ddlib._check import at_least_single, check_count, check_inexact, check_scalar
from ddlib.curvature.eigenpairs import eigh_scaled, top_eigenpairs
from ddlib.curvature.products import gradient as mean_gradient
from ddlib.curvature.products import hvp
from ddlib.frozen import thaw


class Track(NamedTuple):
    """The k largest eigenpairs at one iterate, and what the gradient has to do with them.

    `values` λᵢ are largest first; `vectors` uᵢ a pytree like params with a leading axis k, turned
    so that gᵀuᵢ ≥ 0; `residuals` the norms |Huᵢ − λᵢuᵢ|, which bound how far each value is from an
    eigenvalue; `slopes` gᵀuᵢ. Of the gradient g: its `norm`, the `curvature` ĝᵀHĝ along it and
    `turn` |Hĝ|, ĝ its direction; both are zero where g is. `cold` says that this iterate's pairs
    were searched anew.
    """

    loss: Float[Array, ""]
    gradient: Any
    values: Float[Array, " k"]
    vectors: Any
    residuals: Float[Array, " k"]
    slopes: Float[Array, " k"]
    norm: Float[Array, ""]
    curvature: Float[Array, ""]
    turn: Float[Array, ""]
    cold: Bool[Array, ""]


def tracker(
    loss: Callable[..., Array],
    num: int = 1,
    *,
    tolerance: float = 0.05,
    num_matvecs: int = 40,
    num_chunks: int = 1,
    convolutional: bool = False,
) -> tuple[Callable[..., Track], Callable[..., Track]]:
    """The functions that find the largest eigenpairs, and that follow them: (begin, follow).

    `begin(params, batch=None)` searches by Lanczos; `follow(track, params, batch=None)` takes the
    last `Track` on to new parameters by 2·num + 1 products, and searches anew where the largest
    relative residual |Hu − λu|/|λ₀| is above the tolerance. Both may be compiled. Where the loss
    is not finite nothing is; the next search from there starts anew.

    Args:
      loss: function params -> real scalar, or (params, batch) -> one, the mean over the batch.
      num: how many eigenpairs, k; at most the number of parameters.
      tolerance: of the relative residual; `jnp.inf` for no search anew.
      num_matvecs: products of such a search, or the number of parameters if that is less.
      num_chunks: the batch is cut into so many equal parts, one held in memory at a time.
      convolutional: the loss holds convolutions, which XLA:CPU is slow at within a loop. Then, and
        with chunks, `follow` runs on the host, a compiled step within, and is not to be compiled.

    Raises:
      ValueError: counts that will not do, a tolerance that is not positive; when called, a loss
        that is no real scalar, params of integers, chunks that do not divide the batch.

    >>> def loss(y):
    ...     return (y**2 * jnp.array([1.0, 2.0, 4.0])).sum() / 2
    >>> begin, follow = tracker(loss)
    >>> track = begin(jnp.ones(3))
    >>> track = follow(track, jnp.array([0.5, 0.5, 0.1]))
    >>> round(float(track.values[0]), 4), bool(track.cold)
    (4.0, False)
    """
    check_count("num", num)
    check_count("num_matvecs", num_matvecs)
    check_count("num_chunks", num_chunks)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}")

    def at(params: PyTree, batch: PyTree) -> tuple[Array, Array, Callable[[Array], Array], Any]:
        """Loss, gradient and products, flat; how to shape a vector."""
        check_inexact("params", params, real=True)
        params = jax.tree.map(jnp.asarray, params)
        flat, unravel = ravel_pytree(params)
        if num > flat.size:
            raise ValueError(f"num must be at most {flat.size} parameters, got {num}")
        given = () if batch is None else (batch,)
        check_scalar("loss", loss, params, *given)
        if num_chunks == 1:
            both = thaw(jax.value_and_grad(loss))
            (value, slope), push = jax.linearize(lambda p: both(p, *given), params)

            def products(v: Array) -> PyTree:
                return push(unravel(v))[1]

        else:
            slope = mean_gradient(loss, params, batch, num_chunks=num_chunks)
            value = _mean_loss(loss, params, batch, num_chunks)
            matvec = hvp(loss, params, batch, num_chunks=num_chunks)

            def products(v: Array) -> PyTree:
                return matvec(unravel(v))

        def product(v: Array) -> Array:
            return at_least_single(ravel_pytree(products(v.astype(flat.dtype)))[0])

        return value, at_least_single(ravel_pytree(slope)[0]), product, unravel

    def ritz(
        value: Array,
        g: Array,
        product: Callable[[Array], Array],
        unravel: Any,
        basis: Array,
        images: Array,
    ) -> Track:
        """The k best pairs within a span; a row of the basis is a unit vector or empty."""
        small, empty = basis @ images.T, ~jnp.any(basis, 1)
        small = (small + small.T) / 2
        least = jnp.abs(small).sum() + 1  # below every eigenvalue: an empty row is no direction
        values, inner = eigh_scaled(small - jnp.diag(jnp.where(empty, least, 0)))
        values, inner = values[::-1][:num], inner[:, ::-1][:, :num]
        slopes = inner.T @ (basis @ g)
        inner = inner * jnp.where(slopes < 0, -1, 1).astype(slopes.dtype)
        vectors, moved = inner.T @ basis, inner.T @ images
        norm = _norm(g)
        parts = (basis @ g) / jnp.where(norm > 0, norm, 1)
        along = parts @ images  # Hĝ, for ĝ lies in the span
        return Track(
            value,
            unravel(g),
            values,
            jax.vmap(unravel)(vectors),
            jnp.sqrt(jnp.sum((moved - values[:, None] * vectors) ** 2, 1)),
            jnp.abs(slopes),
            norm,
            parts @ (basis @ along),
            _norm(along),
            jnp.asarray(False),
        )

    def begin(params: PyTree, batch: PyTree = None) -> Track:
        value, g, product, unravel = at(params, batch)
        return anew(value, g, product, unravel)

    def anew(value: Array, g: Array, product: Callable[[Array], Array], unravel: Any) -> Track:
        count = min(num_matvecs, g.size)
        start = g / jnp.where(_norm(g) > 0, _norm(g), 1) + _spread(g.size, g.dtype)
        start = jnp.where(jnp.isfinite(start).all(), start, _spread(g.size, g.dtype))
        found, _ = top_eigenpairs(
            product, start, min(num, count), num_matvecs=count, scan=not convolutional
        )
        vectors = _rows(found.vectors)
        basis = _append(vectors, g)
        images = jnp.stack([product(row) for row in basis])
        track = ritz(value, g, product, unravel, basis, images)
        return track._replace(cold=jnp.asarray(True))

    def lost(track: Track, last: Track) -> Array:
        scale = jnp.abs(track.values[0])
        good = jnp.isfinite(track.residuals).all() & (
            track.residuals.max() <= tolerance * jnp.where(scale > 0, scale, 1)
        )
        good = good & jnp.isfinite(last.values).all()
        return ~good & jnp.isfinite(track.norm)

    def one(track: Track, params: PyTree, batch: PyTree) -> Track:
        value, g, product, unravel = at(params, batch)
        basis = jnp.zeros((0, g.size), g.dtype)
        for row in _rows(track.vectors):
            basis = _append(basis, row)
        images = jnp.stack([product(row) for row in basis])
        rests = images - jnp.sum(images * basis, 1, keepdims=True) * basis
        for row in (*rests, g):
            basis = _append(basis, row)
        images = jnp.vstack([images, *(product(row)[None] for row in basis[num:])])
        return ritz(value, g, product, unravel, basis, images)

    step = one if num_chunks > 1 else jax.jit(one)  # in one program no chunk waits for another

    def on_the_host(track: Track, params: PyTree, batch: PyTree = None) -> Track:
        found = step(track, params, batch)
        return begin(params, batch) if bool(lost(found, track)) else found

    def follow(track: Track, params: PyTree, batch: PyTree = None) -> Track:
        found = one(track, params, batch)
        if tolerance == jnp.inf:
            return found
        return jax.lax.cond(lost(found, track), lambda: begin(params, batch), lambda: found)

    return begin, on_the_host if convolutional or num_chunks > 1 else follow


def _mean_loss(loss: Callable[..., Array], params: PyTree, batch: PyTree, chunks: int) -> Array:
    parts = jax.tree.map(lambda x: x.reshape(chunks, len(x) // chunks, *x.shape[1:]), batch)
    one = jax.jit(loss)
    return (
        sum(one(params, jax.tree.map(lambda x, i=i: x[i], parts)) for i in range(chunks)) / chunks
    )


def _rows(vectors: PyTree) -> Array:
    return jax.vmap(lambda tree: at_least_single(ravel_pytree(tree)[0]))(vectors)


def _append(basis: Array, row: Array) -> Array:
    """The basis with a unit vector more, from what a row has outside; empty if that is rounding."""
    size = _norm(row)
    unit = row / jnp.where(size > 0, size, 1)
    for _ in range(2):
        unit = unit - (basis @ unit) @ basis
    left = _norm(unit)
    some = left > 10 * jnp.finfo(row.dtype).eps
    unit = jnp.where(some, unit / jnp.where(some, left, 1), 0)
    return jnp.vstack([basis, unit[None]])


def _norm(x: Array) -> Array:
    size = jnp.abs(x).max()
    size = jnp.where(size > 0, size, 1)
    return size * jnp.sqrt(jnp.sum((x / size) ** 2))


def _spread(size: int, dtype: Any) -> Array:
    """A fixed unit vector that no symmetry of a network is orthogonal to."""
    v = jnp.cos(jnp.arange(size, dtype=dtype) + 1.0)
    return v / _norm(v)
