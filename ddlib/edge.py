"""Gradient descent at the edge of stability: what decides about it, observed at every iteration.

    run = edge.watched(loss, num=2)
    state = run.begin(params)
    state, seen = run.advance(state, h, 500)   # and on from there, at another rate perhaps
    h * seen.values[:, 0]                      # hλ₀, to be held against 2

A state holds all there is: who keeps it and goes on from it has the same run to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ddlib._check import check_count, check_step_size
from ddlib.curvature import Track, hvp, tracker
from ddlib.flows import nonprincipal_term, principal_alpha
from ddlib.games import Field, Loss, gradient_field

SHOWN = ("loss", "values", "residuals", "slopes", "norm", "curvature", "turn", "cold")
LOOKS = 50  # compiled steps between two looks at whether a run has diverged; on the host each


class State(NamedTuple):
    """Where a run is: parameters, the tracked eigenpairs there, and how many steps it has taken."""

    params: Any
    track: Track
    step: int


class Seen(NamedTuple):
    """What was seen before each step, and last of all at the end: leading axis the iteration.

    `loss`; `values` λᵢ, `residuals` |Huᵢ − λᵢuᵢ| and `slopes` gᵀuᵢ ≥ 0 of the k largest eigenpairs;
    of the gradient its `norm`, the `curvature` ĝᵀHĝ and `turn` |Hĝ|; `cold` where eigenpairs were
    searched anew; `rate` the step size of the step that followed (of the last iteration: that came
    before). The run ended early, its last loss not finite, if `diverged_at` is not −1.
    """

    step: np.ndarray
    loss: np.ndarray
    values: np.ndarray
    residuals: np.ndarray
    slopes: np.ndarray
    norm: np.ndarray
    curvature: np.ndarray
    turn: np.ndarray
    cold: np.ndarray
    rate: np.ndarray
    diverged_at: int

    @property
    def coefficients(self) -> np.ndarray:
        """The stability coefficients α_PF(hλᵢ)·gᵀuᵢ, complex (PF, Definition 3.4)."""
        with jax.enable_x64(True):
            alpha = principal_alpha(jnp.asarray(self.rate[:, None] * self.values, jnp.float64))
        return np.asarray(alpha) * self.slopes

    @property
    def change(self) -> np.ndarray:
        """What a step does to the loss, to second order: −h‖g‖²(1 − h·ĝᵀHĝ/2)."""
        return -self.rate * self.norm**2 * (1 - self.rate * self.curvature / 2)

    @property
    def change_along(self) -> np.ndarray:
        """The part of `change` along each eigenvector: −h(gᵀuᵢ)²(1 − hλᵢ/2); axes (time, k)."""
        h = self.rate[:, None]
        return -h * self.slopes**2 * (1 - h * self.values / 2)

    @property
    def drift(self) -> np.ndarray:
        """The size of discretisation drift a step, to leading order: h²‖Hg‖/2 (PF, Section 6)."""
        return self.rate**2 * self.norm * self.turn / 2


class Watched(NamedTuple):
    """The two functions of `watched`."""

    begin: Callable[..., State]
    advance: Callable[..., tuple[State, Seen]]


def watched(
    loss: Callable[..., Array], num: int = 1, *, convolutional: bool = False, **options: Any
) -> Watched:
    """Gradient descent whose largest eigenpairs are tracked at every iteration.

    Args:
      loss: function params -> real scalar, or (params, batch) -> one.
      num: how many eigenpairs.
      convolutional: the loss holds convolutions.
      options: of `ddlib.curvature.tracker`.

    Returns:
      `begin(params, batch=None)` gives a state; `advance(state, h, num_steps, batch=None,
      report=None)` the state after so many steps of size h and what was `Seen`, num_steps + 1 rows,
      fewer of a run that diverges. Rows of the same iterate come at the end of one call and at the
      beginning of the next.

    Raises:
      ValueError: as `ddlib.curvature.tracker`; a step size or a number of steps that will not do.

    >>> run = watched(lambda y: y[0] ** 2 + 2 * y[1] ** 2)  # λ₀ = 4
    >>> state, seen = run.advance(run.begin(jnp.ones(2)), 0.25, 2)
    >>> seen.values[:, 0].round(4).tolist(), seen.loss.round(4).tolist()
    ([4.0, 4.0, 4.0], [3.0, 0.25, 0.0625])
    """
    begin_track, follow = tracker(loss, num, convolutional=convolutional, **options)
    on_host = convolutional or options.get("num_chunks", 1) > 1
    compiled_begin = begin_track if on_host else jax.jit(begin_track)

    def begin(params: PyTree, batch: PyTree = None) -> State:
        params = jax.tree.map(jnp.asarray, params)
        return State(params, compiled_begin(params, batch), 0)

    def step(params: PyTree, track: Track, h: Array, batch: PyTree) -> tuple[PyTree, Track]:
        params = jax.tree.map(lambda p, g: p - h.astype(p.dtype) * g, params, track.gradient)
        return params, follow(track, params, batch)

    one = step if on_host else jax.jit(step)

    def advance(
        state: State,
        h: float | Array,
        num_steps: int,
        batch: PyTree = None,
        report: Callable[[int], None] | None = None,
    ) -> tuple[State, Seen]:
        check_step_size("h", h)
        check_count("num_steps", num_steps, least=0)
        params, track, first = state
        rate, rows = jnp.asarray(h, float), [_row(track)]
        for n in range(num_steps):
            params, track = one(params, track, rate, batch)
            rows.append(_row(track))
            if on_host or (n + 1) % LOOKS == 0 or n + 1 == num_steps:
                if report is not None:
                    report(first + n + 1)
                if not bool(jnp.isfinite(track.norm) & jnp.isfinite(track.loss)):
                    break
        columns = [np.stack(column) for column in zip(*jax.device_get(rows), strict=True)]
        finite = np.isfinite(columns[0]) & np.isfinite(columns[SHOWN.index("norm")])
        end = len(rows) if finite.all() else int(np.argmin(finite)) + 1
        columns = [column[:end] for column in columns]
        steps = first + np.arange(end)
        rates = np.full(end, float(h))
        ended = -1 if finite.all() else int(steps[-1])
        after = first + len(rows) - 1
        shown: dict[str, Any] = dict(zip(SHOWN, columns, strict=True))
        return State(params, track, after), Seen(step=steps, **shown, rate=rates, diverged_at=ended)

    return Watched(begin, advance)


def _row(track: Track) -> tuple[Array, ...]:
    return tuple(getattr(track, name) for name in SHOWN)


def turned_field(loss: Loss, vectors: PyTree, coefficients: Array) -> Field:
    """The negative gradient flow with other coefficients along some directions.

    −g + Σᵢ (1 + cᵢ)(gᵀuᵢ)uᵢ: with cᵢ = −1 it is the flow itself, with cᵢ = 1 it climbs along uᵢ,
    with cᵢ = 0 it leaves that direction alone (PF, Figure 14, of one direction).

    Args:
      loss: function params -> real scalar.
      vectors: orthonormal directions: a pytree like params with a leading axis k.
      coefficients: shape (k,).

    >>> field = turned_field(lambda y: (y**2).sum() / 2, jnp.array([[1.0, 0.0]]), jnp.array([1.0]))
    >>> field(jnp.array([2.0, 3.0])).tolist()
    [2.0, -3.0]
    """
    down = gradient_field(loss)

    def field(y: PyTree) -> PyTree:
        velocity = down(y)
        parts = sum(
            jnp.tensordot(u, v, axes=v.ndim)
            for u, v in zip(jax.tree.leaves(vectors), jax.tree.leaves(velocity), strict=True)
        )
        weights = -(1 + jnp.asarray(coefficients)) * parts
        return jax.tree.map(lambda v, u: v + jnp.tensordot(weights, u, axes=1), velocity, vectors)

    return field


class Sharpening(NamedTuple):
    """What the terms of a flow do to an eigenvalue λ of the Hessian in the time h: h·∇λᵀv.

    The terms v are those of gradient descent's modified flow to third order (PF, Equation 8):
    `flow` of −g, `second` of −(h/2)Hg, which the IGR flow adds, `third` of −(h²/3)H²g, the next
    principal one, and `nonprincipal` of −(h²/12)∇³E[g, g]. Each is a scalar in λ's unit.
    """

    flow: Array
    second: Array
    third: Array
    nonprincipal: Array


def sharpening(loss: Loss, params: PyTree, vector: PyTree, h: float | Array) -> Sharpening:
    """Which terms of the third-order flow raise an eigenvalue of the Hessian, and which lower it.

    ∇λ = ∇³E[u, u] of an isolated eigenvalue with eigenvector u. Where the gradient is along u, the
    non-principal term lowers λ, whatever the loss: ∇λᵀv = −(h²/12)(gᵀu)²|∇λ|² (PF, Appendix B, has
    this as a pressure on λ(gᵀu)²).

    Args:
      loss: function params -> real scalar, three times differentiable at params.
      params: pytree of real floating-point arrays.
      vector: a unit eigenvector, like params: of `ddlib.curvature`, or of a tracked state.
      h: step size, positive; may be traced.

    Raises:
      ValueError: as `ddlib.curvature.hvp`; a step size that is not positive.

    >>> found = sharpening(lambda y: y**4, jnp.array(1.0), jnp.array(1.0), 0.1)  # λ = 12y²
    >>> [round(float(x), 3) for x in found]  # 0.1·24·(−4, −0.05·48, −0.01/3·576, −0.01/12·24·16)
    [-9.6, -5.76, -4.608, -0.768]
    """
    check_step_size("h", h)
    slope = jax.grad(loss)
    g, product = slope(params), hvp(loss, params)

    def curvature(y: PyTree) -> Array:
        return _dot(vector, jax.jvp(slope, (y,), (vector,))[1])

    toward = jax.grad(curvature)(params)
    once = product(g)
    terms = (
        -_dot(toward, g),
        -h / 2 * _dot(toward, once),
        -(h**2) / 3 * _dot(toward, product(once)),
        _dot(toward, nonprincipal_term(loss, h)(params)),
    )
    return Sharpening(*(h * term for term in terms))


def _dot(x: PyTree, y: PyTree) -> Array:
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    return sum((jnp.tensordot(a, b, axes=a.ndim) for a, b in pairs), start=jnp.zeros(()))
