"""Why a training blows up: what one step of gradient descent does here, and along which directions.

    print(diagnose(loss, params, h=0.1))

To second order a step along direction u multiplies the gradient's part by 1 − hλ and changes the
loss by −h(gᵀu)²(1 − hλ/2): beyond hλ = 2 that part grows and the loss rises along u (PF, Sections
3.1 and 5). How much it rises depends on the gradient's part, not on λ alone: that is what the
stability coefficient says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ddlib._check import at_least_single, check_count, check_step_size
from ddlib.curvature import Block, Track, block_search, tracker
from ddlib.flows import principal_alpha


class Diagnosis(NamedTuple):
    """What a step of size h does from here; `str` of it is a few sentences.

    `loss`; `norm` ‖g‖; `values` λᵢ, the k largest eigenvalues of the Hessian, with the `residuals`
    that bound how far each is from one; `slopes` gᵀuᵢ ≥ 0; `coefficients` α_PF(hλᵢ)·gᵀuᵢ, complex;
    `curvature` ĝᵀHĝ; `turn` |Hĝ|; `predicted` change of the loss, to second order, and `along` its
    part along each eigenvector; `observed` change, by taking the step; `drift` h²‖Hg‖/2, the
    distance of the step from the gradient flow; `safe` 2/λ₀, below which no direction here grows;
    `falling` 2/ĝᵀHĝ, below which the loss falls to second order; `layers`, the sharpest first.
    """

    h: float
    loss: float
    norm: float
    values: np.ndarray
    residuals: np.ndarray
    slopes: np.ndarray
    coefficients: np.ndarray
    curvature: float
    turn: float
    predicted: float
    along: np.ndarray
    observed: float
    drift: float
    safe: float
    falling: float
    layers: list[Block]

    @property
    def unstable(self) -> int:
        """How many of the directions grow: hλᵢ > 2."""
        return int((self.h * self.values > 2).sum())

    @property
    def converged(self) -> bool:
        """Whether the eigenvalues are known to a part in a hundred."""
        return bool((self.residuals <= 0.01 * np.abs(self.values[0])).all())

    def __str__(self) -> str:
        return "\n".join(_sentences(self))


def diagnose(
    loss: Callable[..., Array],
    params: PyTree,
    h: float,
    batch: PyTree = None,
    *,
    num: int = 3,
    num_matvecs: int = 60,
    num_chunks: int = 1,
    layers: bool = True,
    convolutional: bool = False,
) -> Diagnosis:
    """Say what a step of gradient descent of size h does at params.

    Args:
      loss: function params -> real scalar, or (params, batch) -> one, the mean over the batch. It
        is compiled once: give the same function again for another look.
      params: pytree of real floating-point arrays of one dtype.
      h: the step size in question, a number.
      batch: what the loss is the mean over, or None.
      num: how many eigenpairs, or the number of parameters if that is less.
      num_matvecs: products with the Hessian to find them by.
      num_chunks: the batch is cut into so many equal parts, one held in memory at a time.
      layers: whether to look for the sharpest layer, at ten products an array of params.
      convolutional: the loss holds convolutions, which XLA:CPU is slow at within a loop.

    Returns:
      A `Diagnosis`. Where the loss is not finite, so are its numbers, and it says so.

    Raises:
      ValueError: a step size that is not positive and finite; as `ddlib.curvature.tracker`.

    >>> found = diagnose(lambda y: (5 * y[0] ** 2 + y[1] ** 2) / 2, jnp.array([1.0, 1.0]), h=0.5)
    >>> found.unstable, round(found.safe, 3), round(found.observed, 3), round(found.predicted, 3)
    (1, 0.4, 2.75, 2.75)
    >>> print(str(found).splitlines()[0])
    Unstable: 1 of the 2 largest eigenvalues is beyond 2/h = 4.
    """
    check_step_size("h", h)
    check_count("num", num)
    params = jax.tree.map(jnp.asarray, params)
    num = min(num, optax.tree.size(params))
    begin, search = _programs(loss, num, num_matvecs, num_chunks, convolutional)
    track: Track = jax.device_get(begin(params, batch))
    given = () if batch is None else (batch,)
    moved = jax.tree.map(lambda p, g: p - jnp.asarray(h, p.dtype) * g, params, track.gradient)
    observed = _mean(loss, moved, batch, num_chunks) - float(track.loss)
    norm, curvature, turn = float(track.norm), float(track.curvature), float(track.turn)
    values, slopes = np.asarray(track.values, float), np.asarray(track.slopes, float)
    with jax.enable_x64(True):
        alpha = np.asarray(principal_alpha(jnp.asarray(h * values)))
    found: list[Block] = []
    if layers and np.isfinite(norm) and np.isfinite(float(track.loss)):
        paths = jax.tree_util.tree_flatten_with_path(params)[0]
        values_of = jax.device_get(search(params, *given))
        for (path, leaf), (value, residual) in zip(paths, values_of, strict=True):
            if leaf.size:
                found.append(Block(jax.tree_util.keystr(path), value, residual))
        found.sort(key=lambda one: -float(one.value))
    return Diagnosis(
        float(h),
        float(track.loss),
        norm,
        values,
        np.asarray(track.residuals, float),
        slopes,
        alpha * slopes,
        curvature,
        turn,
        -h * norm**2 * (1 - h * curvature / 2),
        -h * slopes**2 * (1 - h * values / 2),
        observed,
        h**2 * norm * turn / 2,
        float(2 / values[0]) if values[0] > 0 else np.inf,
        2 / curvature if curvature > 0 else np.inf,
        found,
    )


@lru_cache(maxsize=8)
def _programs(
    loss: Callable[..., Array], num: int, num_matvecs: int, num_chunks: int, convolutional: bool
) -> tuple[Callable[..., Track], Callable[..., Any]]:
    """What finds the eigenpairs and the sharpest layers: compiled once for a loss."""
    begin, _ = tracker(
        loss, num, num_matvecs=num_matvecs, num_chunks=num_chunks, convolutional=convolutional
    )
    on_the_host = convolutional or num_chunks > 1
    return (
        begin if on_the_host else jax.jit(begin),
        block_search(loss, 10, scan=not convolutional),
    )


def _mean(loss: Callable[..., Array], params: PyTree, batch: PyTree, chunks: int) -> float:
    if batch is None:
        return float(loss(params))
    size = len(jax.tree.leaves(batch)[0]) // chunks
    one = jax.jit(loss)
    parts = [
        jax.tree.map(lambda x, i=i: x[i * size : (i + 1) * size], batch) for i in range(chunks)
    ]
    return float(np.mean([one(params, part) for part in parts]))


def _sentences(d: Diagnosis) -> list[str]:
    """A `Diagnosis` in words, the number behind each."""
    if not np.isfinite(d.norm) or not np.isfinite(d.loss):
        return [
            f"The loss ({d.loss:.3g}) or its gradient is not finite here: look at an earlier step."
        ]
    said = []
    edge, k = 2 / d.h, len(d.values)
    if d.unstable:
        some = f"{d.unstable} of the {k} largest eigenvalues {'is' if d.unstable == 1 else 'are'}"
        more = " (there may be more)" if d.unstable == k and k > 1 else ""
        said.append(f"Unstable: {some} beyond 2/h = {edge:.3g}{more}.")
    else:
        said.append(f"Stable: the largest eigenvalue is below 2/h = {edge:.3g}.")
    listed = ", ".join(f"{d.h * value:.3g}" for value in d.values)
    said.append(f"hλ = {listed}, to be held against 2.")
    if not d.converged:
        worst = float((d.residuals / np.abs(d.values[0])).max())
        said.append(f"Not converged: residuals are up to {worst:.1g} of λ₀; use more products.")
    if d.norm == 0:
        return [*said, "The gradient is zero: gradient descent rests here."]
    word = "rises" if d.predicted > 0 else "falls"
    said.append(
        f"The loss, {d.loss:.4g}, {word} by {abs(d.predicted):.3g} in the next step, to second "
        "order."
    )
    said.append(f"The step taken changes it by {d.observed:+.3g}.")
    up = d.along[d.along > 0]
    if len(up) and d.predicted <= 0:
        said.append(
            f"It is driven up by {up.sum():.3g} along what is unstable, and down by more elsewhere."
        )
    if d.unstable:
        parts = ", ".join(f"{c.real:.3g}" for c in d.coefficients[: d.unstable])
        said.append(f"Stability coefficients of the unstable directions, real parts: {parts}.")
    share = d.drift / (d.h * d.norm)
    said.append(f"The step ends {d.drift:.3g} beside the gradient flow, {share:.0%} of its length.")
    said.append(f"No direction here grows below h = {d.safe:.3g} (2/λ₀).")
    if d.curvature > 0:
        said.append(f"The loss falls, to second order, below h = {d.falling:.3g} (2/ĝᵀHĝ).")
    if d.layers:
        first = d.layers[0]
        said.append(f"The sharpest array is {first.name}, λ₀ = {first.value:.3g} by itself.")
    return said


class WatchState(NamedTuple):
    """State of `watch`: the track at the last look, steps taken, and hλ₀ there."""

    track: Track
    step: Array
    sharpness: Array


def watch(
    loss: Callable[..., Array], num: int = 1, *, every: int = 1, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """An observer for one's own training loop: it changes no update and tracks the Hessian.

    Chain it before an optimiser, and read its state: `state[0].sharpness` is λ₀, `state[0].track`
    a `ddlib.curvature.Track`.

    Args:
      loss: function (params) or, with `update(…, batch=…)`, (params, batch) -> real scalar.
      num: how many eigenpairs.
      every: steps between two looks.
      options: of `ddlib.curvature.tracker`; not chunks, and no convolutions within a loop.

    Raises:
      ValueError: counts that will not do; an update without params.

    >>> loss = lambda y: 3 * (y**2).sum()
    >>> tx = optax.chain(watch(loss), optax.sgd(0.1))
    >>> params = jnp.ones(2)
    >>> state = tx.init(params)
    >>> _, state = tx.update(jax.grad(loss)(params), state, params)
    >>> round(float(state[0].sharpness), 4)
    6.0
    """
    check_count("every", every)
    begin, follow = tracker(loss, num, **options)

    def init(params: PyTree) -> WatchState:
        shapes = jax.eval_shape(lambda p: _empty(p, num), params)
        empty = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)
        track = empty._replace(cold=jnp.asarray(False))
        return WatchState(track, jnp.zeros((), int), track.values[0])

    def update(
        updates: PyTree,
        state: WatchState,
        params: PyTree = None,
        *,
        batch: PyTree = None,
        **others: Any,
    ) -> tuple[PyTree, WatchState]:
        if params is None:
            raise ValueError("params must be given to update, got None: the Hessian is taken there")

        def look() -> Track:
            return jax.lax.cond(
                state.step == 0,
                lambda: begin(params, batch),
                lambda: follow(state.track, params, batch),
            )

        track = jax.lax.cond(state.step % every == 0, look, lambda: state.track)
        return updates, WatchState(track, state.step + 1, track.values[0])

    return optax.GradientTransformationExtraArgs(init, update)


def _empty(params: PyTree, num: int) -> Track:
    """A track of the right shapes."""
    dtype = at_least_single(jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))).dtype
    some, k = jnp.zeros((), dtype), jnp.zeros(num, dtype)
    vectors = jax.tree.map(lambda p: jnp.zeros((num, *jnp.shape(p)), jnp.result_type(p)), params)
    own = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    return Track(own, params, k, vectors, k, k, some, some, some, jnp.asarray(False))
