"""The central flow of gradient descent: where it goes on average while it oscillates.

At the edge of stability gradient descent swings along a few sharp directions. Averaged over the
swings it follows the gradient flow of the loss and of its own sharpness, the latter weighed by how
far it swings: Cohen et al., "Understanding optimization in deep learning with central flows"
(2024, arXiv:2410.24206). The weights are those, and the only ones, that keep every critical
eigenvalue at 2/h or below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ddlib._check import at_least_single, check_count, check_step_size
from ddlib.curvature import Track, tracker

NEAR = 1.5  # a direction counts as critical from λ = NEAR/h on, as Cohen et al. have it


class Central(NamedTuple):
    """One step of the central flow, in units of a step of gradient descent.

    `loss` is E there, `smoothed` the average loss E + tr X/h that gradient descent is predicted to
    have; `values` the k largest eigenvalues; `spread` X (k × k), the covariance of the swings along
    the eigenvectors, zero off the critical ones. The conditions that define X
    are X ⪰ 0, S ⪰ 0 and ⟨X, S⟩ = 0 with S = (2/h)I − Λ after the step, to first order:
    `feasibility` is the least eigenvalue of S over 2/h, `complementarity` |⟨X, S⟩| over |X|·2/h.
    """

    loss: Float[Array, ""]
    smoothed: Float[Array, ""]
    values: Float[Array, " k"]
    spread: Float[Array, "k k"]
    feasibility: Float[Array, ""]
    complementarity: Float[Array, ""]


def central(
    loss: Callable[[PyTree], Array], h: float | Array, num: int = 1, *, substeps: int = 1
) -> tuple[Callable[[PyTree], Track], Callable[..., tuple[PyTree, Track, Central]]]:
    """The central flow of gradient descent of step size h: (begin, step).

    `begin(params)` finds the eigenpairs; `step(params, track)` goes on for the time of one step of
    gradient descent and gives the new params, the eigenpairs there and a `Central` of its last
    substep. Compile it. Substeps are Euler's, and exact for a quadratic along the k directions,
    where Euler's own would swing: Cohen et al. take four of Euler's for one.

    Args:
      loss: function from a pytree of real arrays to a real scalar, three times differentiable.
      h: step size of the gradient descent that is averaged.
      num: how many directions may be critical; more than are is harmless, fewer is not.
      substeps: Euler steps in the time of one step.

    Raises:
      ValueError: a step size or counts that will not do; as `ddlib.curvature.tracker`.

    >>> def loss(y):  # a valley that flattens where y[1] falls: λ₀ = 1 + y[1]²
    ...     return y[0] ** 2 * (1 + y[1] ** 2) / 2
    >>> begin, step = central(loss, 1.0)
    >>> params = jnp.array([0.0, 1.2])
    >>> params, _, seen = step(params, begin(params))  # at λ₀ = 2.44 > 2/h the edge holds it
    >>> round(float(1 + params[1] ** 2), 2), bool(seen.spread[0, 0] > 0)
    (2.03, True)
    """
    check_step_size("h", h)
    check_count("num", num)
    check_count("substeps", substeps)
    begin, follow = tracker(loss, num)
    dt = 1.0 / substeps

    def euler(params: PyTree, track: Track) -> tuple[PyTree, Central]:
        flat, unravel = ravel_pytree(params)
        g = at_least_single(ravel_pytree(track.gradient)[0])
        rows = jax.vmap(lambda tree: ravel_pytree(tree)[0])(track.vectors)
        critical = track.values > NEAR / h
        upper = [(i, j) for i in range(num) for j in range(i, num)]
        at = {pair: n for n, pair in enumerate(upper)}
        slopes = jnp.stack(
            [at_least_single(_third(loss, unravel, flat, rows[i], rows[j])) for i, j in upper]
        )
        index = jnp.array([[at[min(i, j), max(i, j)] for j in range(num)] for i in range(num)])
        both = (critical[:, None] & critical[None, :]).astype(g.dtype)
        z = dt * h * track.values
        damped = jnp.where(jnp.abs(z) > 1e-3, -jnp.expm1(-z) / jnp.where(z == 0, 1, z), 1 - z / 2)
        g = g + ((damped - 1) * (rows @ g)) @ rows
        a = 2 / h * jnp.eye(num) - jnp.diag(track.values) + dt * h * (slopes @ g)[index]
        b = 0.5 * h * dt * (slopes @ slopes.T)[index[:, :, None, None], index[None, None]]
        x, slack = _complementary(a, b, both)
        force = g + 0.5 * jnp.tensordot(x.ravel(), slopes[index.ravel()], axes=1)
        moved = unravel((flat - dt * h * force).astype(flat.dtype))
        size = jnp.linalg.norm(x) * 2 / h
        least = jnp.linalg.eigvalsh(slack * both + jnp.diag(jnp.where(critical, 0, 1e3 / h)))[0]
        return moved, Central(
            track.loss,
            track.loss + jnp.trace(x) / h,
            track.values,
            x,
            least * h / 2,
            jnp.where(size > 0, jnp.abs(jnp.sum(x * slack)) / jnp.where(size > 0, size, 1), 0),
        )

    def step(params: PyTree, track: Track) -> tuple[PyTree, Track, Central]:
        for _ in range(substeps):
            params, seen = euler(params, track)
            track = follow(track, params)
        return params, track, seen

    return begin, step


def _third(loss: Callable, unravel: Callable, flat: Array, u: Array, v: Array) -> Array:
    """∇³E[u, v], the slope of uᵀHv."""

    def once(w: Array) -> Array:
        return jax.jvp(jax.grad(lambda y: loss(unravel(y))), (w,), (u,))[1]

    return jax.jvp(once, (flat,), (v,))[1]


def _complementary(a: Array, b: Array, both: Array, iterations: int = 300) -> tuple[Array, Array]:
    """X ⪰ 0 with S = A + B[X] ⪰ 0 and ⟨X, S⟩ = 0 on the critical block; returns X and S.

    That is the minimum of ½⟨X, B[X]⟩ + ⟨A, X⟩ over X ⪰ 0, by projected gradient steps with
    Nesterov's momentum, restarted where it points uphill.
    """
    k = len(a)
    a = a * both
    matrix = b.reshape(k * k, k * k) * jnp.outer(both.ravel(), both.ravel())
    largest = jnp.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
    rate = 1 / jnp.where(largest > 0, largest, 1)

    def slack(x: Array) -> Array:
        return a + (matrix @ x.ravel()).reshape(k, k)

    def positive(x: Array) -> Array:
        values, vectors = jnp.linalg.eigh((x + x.T) / 2)
        return (vectors * jnp.maximum(values, 0)) @ vectors.T

    def advance(carry: Any) -> Any:
        n, x, y, t, _ = carry
        new = positive(y - rate * slack(y))
        uphill = jnp.sum((y - new) * (new - x)) > 0
        t = jnp.where(uphill, 1.0, t)
        following = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        moved = jnp.linalg.norm(new - y)
        y = jnp.where(uphill, new, new + (t - 1) / following * (new - x))
        return n + 1, new, y, following, moved

    def goes_on(carry: Any) -> Array:
        n, x, _, _, moved = carry
        enough = 10 * jnp.finfo(a.dtype).eps * jnp.linalg.norm(x)
        return (n < iterations) & ~(moved <= enough)

    zero = jnp.zeros_like(a)
    one = jnp.ones((), a.dtype)
    begin = (jnp.zeros((), int), zero, zero, one, jnp.asarray(jnp.inf, a.dtype))
    if k == 1:  # X = max(0, −a/b)
        x = jnp.maximum(0, -a * rate)
    else:
        x = jax.lax.while_loop(goes_on, advance, begin)[1]
    x = jnp.where(largest > 0, x, 0)
    return x, slack(x)
