"""Steps with memory: momentum, running averages of gradients and of their squares.

A step (h, y, s) ↦ (y, s) whose memory s forgets at h = 0 has a slow manifold s = σ(y; h), to which
every run comes at a geometric rate. On it the step is one of y alone, which rests at h = 0, and
that step has a modified field like any other (`ddlib.drift`): of heavy ball, Nesterov's method,
RMSProp, Adam. (Cattaneo, Klusowski and Shigida 2024 derive Adam's first term by hand, Ghosh et al.
2023 that of heavy ball.)

Nothing is differentiated in y. On the slow manifold the coefficient of hᵏ of the n-th iterate,
and of its memory, is a polynomial in n of degree k at most: as Φ_hⁿ = exp(n log Φ_h). So

    y_n = Σ_k hᵏ P_k(n),      y_{n+1} = Y(h, y_n, s_n),
    s_n = Σ_k hᵏ Q_k(n),      s_{n+1} = S(h, y_n, s_n)

is solved order by order: P_k is a sum of what lower orders say, and Q_k solves one linear system in
I − ∂S/∂s for each of its k + 1 differences. The modified field's terms are P'_{k+1}(0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ddlib import taylor
from ddlib._check import (
    check_count,
    check_field,
    check_inexact,
    check_memory_step,
    check_state,
    is_concrete,
    like,
)
from ddlib.frozen import thaw
from ddlib.games import Field

MemoryStep = Callable[[Any, Any, Any], tuple[Any, Any]]

DENSE = 256  # up to how many numbers of memory their Jacobian is formed


def optimizer_step(
    optimizer: optax.GradientTransformation, field: Field
) -> tuple[MemoryStep, Callable[[PyTree], PyTree]]:
    """An optax optimiser as a step with memory, and what makes its first memory.

    Args:
      optimizer: with learning rate 1, since h is its learning rate: `optax.sgd(1.0, momentum=0.9)`,
        `optax.scale_by_adam()` followed by `optax.scale(-1.0)`.
      field: minus the gradient, such as `ddlib.games.gradient_field(loss)`, or a game's field: the
        optimiser is handed −field(y) as its gradient.

    Returns:
      The step (h, y, s) ↦ (y + h·update, s) and `init`, y ↦ s: what `memoryless` takes.

    Raises:
      ValueError: an optimiser or a field that is none.

    >>> from ddlib.games import gradient_field
    >>> step, init = optimizer_step(optax.sgd(1.0, momentum=0.5), gradient_field(lambda y: y**2))
    >>> y, s = step(0.1, jnp.array(1.0), init(jnp.array(1.0)))
    >>> round(float(y), 6)
    0.8
    """
    if not (callable(getattr(optimizer, "update", None)) and callable(optimizer.init)):
        raise ValueError(
            f"optimizer must be an optax.GradientTransformation, got {type(optimizer).__name__}"
        )
    check_field("field", field)
    field = thaw(field)

    def step(h: Any, y: PyTree, s: PyTree) -> tuple[PyTree, PyTree]:
        gradient = jax.tree.map(jnp.negative, field(y))
        updates, s = optimizer.update(gradient, s, y)
        return jax.tree.map(lambda x, u: x + jnp.asarray(h).astype(x.dtype) * u, y, updates), s

    return step, optimizer.init


@dataclass(frozen=True)
class Memoryless:
    """The step of y alone that a step with memory takes on its slow manifold; see `memoryless`."""

    step: MemoryStep
    init: Callable[[PyTree], PyTree]
    order: int = 2
    count: int | None = None

    def __call__(self, h: Any, y: PyTree) -> PyTree:
        """One step from y, on the slow manifold, to O(h^{order + 2})."""
        ys, _ = self._series(y, self.order + 1)
        return _polynomial(h, [jax.tree.map(lambda x: x[1], c) for c in ys], y)

    def memory(self, h: Any, y: PyTree) -> PyTree:
        """The memory σ(y; h) on the slow manifold, to O(h^{order + 1}): a start without transient.

        Integers of the memory are those at which the step was taken.
        """
        _, ss = self._series(y, self.order)
        split = _Split(self, y)
        return split.join(_polynomial(h, [jax.tree.map(lambda x: x[0], c) for c in ss], ss[0]))

    def terms(self, y: PyTree, order: int) -> tuple[PyTree, ...]:
        """The terms f₀, …, f_order of the modified field at y."""
        ys, _ = self._series(y, order + 1)
        found = []
        for k, values in enumerate(ys[1:], start=1):
            slope = np.array([0.0, *((-1.0) ** (j - 1) / j for j in range(1, k + 1))])
            weights = slope @ _differences(k)
            found.append(jax.tree.map(lambda x, w=weights, n=k + 1: _sum(w, x[:n]), values))
        return tuple(found)

    def _series(self, y: PyTree, top: int) -> tuple[list[PyTree], list[PyTree]]:
        """P_k and Q_k, k ≤ top, each at n = 0, …, top along a new leading axis."""
        check_inexact("y", y, real=True)
        y = jax.tree.map(jnp.asarray, y)
        split = _Split(self, y)
        settled = _Settled(split, y)
        nodes = top + 1

        def everywhere(x: Array) -> Array:
            return jnp.broadcast_to(x, (nodes, *x.shape))

        ys, ss = [jax.tree.map(everywhere, y)], [jax.tree.map(everywhere, settled.memory)]
        batched = jax.vmap(split.step, in_axes=(None, 0, 0))
        still, blank = jax.tree.map(jnp.zeros_like, (ys[0], ss[0]))
        differences = _differences(top)
        for k in range(1, nodes):
            clock = [jnp.asarray(float(j == 1), split.real) for j in range(k + 1)]
            moved, remembered = taylor.compose(batched, k, clock=True)(
                tuple(clock), (*ys, still), (*ss, blank)
            )[k]
            # P_k(n + 1) − P_k(n) is what the step says without P_k, and P_k(0) = 0
            ys.append(jax.tree.map(lambda x: jnp.cumsum(x, axis=0) - x, moved))
            known = jax.tree.map(jnp.add, remembered, settled.by_y(ys[k]))
            rows = differences[: k + 1]
            steps = jax.tree.map(lambda x, rows=rows: _combine(rows, x), known)
            found: list[PyTree] = []
            for j in range(k, -1, -1):
                right = jax.tree.map(lambda x, j=j: x[j], steps)
                if found:
                    right = jax.tree.map(jnp.subtract, right, found[-1])
                found.append(settled.solve(right))
            stacked = jax.tree.map(lambda *xs: jnp.stack(xs[::-1]), *found)
            choose = np.array([[comb(n, j) for j in range(k + 1)] for n in range(nodes)], float)
            ss.append(jax.tree.map(lambda x, c=choose: _combine(c, x), stacked))
        return ys, ss


class _Split:
    """A step whose memory is floating-point numbers alone: integers are held where they settle."""

    def __init__(self, reduced: Memoryless, y: PyTree) -> None:
        first = reduced.init(y)
        leaves, self.tree = jax.tree.flatten(first)
        for leaf in leaves:
            kind = jnp.result_type(leaf)
            if jnp.issubdtype(kind, jnp.complexfloating) or not jnp.issubdtype(kind, jnp.number):
                if kind != jnp.bool_:
                    raise ValueError(
                        f"init must give a memory of real numbers and integers, got {kind}"
                    )
        leaves = [jnp.asarray(x) for x in leaves]
        self.moves = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
        self.held = [_settled_count(x, reduced.count) for x in leaves]
        self.first = [x for x, m in zip(leaves, self.moves, strict=True) if m]
        self.real = jnp.finfo(jnp.result_type(*jax.tree.leaves(y))).dtype
        self._step = reduced.step

    def join(self, moving: list[Array]) -> PyTree:
        rest = iter(moving)
        leaves = [next(rest) if m else held for m, held in zip(self.moves, self.held, strict=True)]
        return jax.tree.unflatten(self.tree, leaves)

    def step(self, h: Any, y: PyTree, moving: list[Array]) -> tuple[PyTree, list[Array]]:
        whole = self.join(moving)
        pair = self._step(h, y, whole)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise ValueError(
                f"step must return the pair of a state and its memory, got {type(pair).__name__}"
            )
        new, memory = pair
        check_state("step's state", new, y)
        found: Any = jax.tree.structure(memory)
        if found != self.tree:
            raise ValueError(
                f"step's memory must have the structure of init's, got {found} for {self.tree}"
            )
        kept = [x for x, m in zip(jax.tree.leaves(memory), self.moves, strict=True) if m]
        check_state("step's memory", kept, moving)
        return like(new, y), like(kept, moving)


def _settled_count(x: Array, count: int | None) -> Array:
    """Integers count steps: they are held at `count`, or at the last that their type can say."""
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return x
    return jnp.full_like(x, jnp.iinfo(x.dtype).max if count is None else count)


class _Settled:
    """The memory at rest at h = 0, and the linear systems in I − ∂S/∂s there."""

    def __init__(self, split: _Split, y: PyTree) -> None:
        zero = jnp.zeros((), split.real)
        flat, self._unravel = ravel_pytree(split.first)

        def remember(state: PyTree, s: Array) -> Array:
            return ravel_pytree(split.step(zero, state, self._unravel(s))[1])[0]

        self._remember, self._y = remember, y
        for _ in range(3):  # one is enough where S is affine in s
            self._at(flat)
            flat = flat + self._solve(remember(y, flat) - flat)
        self._at(flat)
        self.memory = self._unravel(flat)
        forgets, rests = self._forgets(), self._rests(split, zero)
        if is_concrete(rests) and not bool(rests):
            raise ValueError(
                "step(0, y, s) must return y, whatever s is, got a step that moves at h = 0: let "
                "h multiply the update"
            )
        if is_concrete(forgets) and not bool(forgets):
            raise ValueError(
                "the memory must contract at h = 0, got one that does not forget: a momentum or a "
                "decay must be below 1"
            )
        if not (is_concrete(forgets) and is_concrete(rests)):
            sound = forgets & rests
            self.memory = jax.tree.map(lambda x: jnp.where(sound, x, jnp.nan), self.memory)

    def _at(self, flat: Array) -> None:
        """Linearise S(0, y, ·) there: dense where that is small."""
        self._flat = flat
        if flat.size <= DENSE:
            self._matrix = jax.jacfwd(lambda s: self._remember(self._y, s))(flat)

    def _apply(self, v: Array) -> Array:
        return jax.jvp(lambda s: self._remember(self._y, s), (self._flat,), (v,))[1]

    def _solve(self, right: Array) -> Array:
        if not right.size:
            return right
        if right.size <= DENSE:
            return jnp.linalg.solve(jnp.eye(right.size, dtype=right.dtype) - self._matrix, right)
        found, _ = jax.scipy.sparse.linalg.gmres(
            lambda v: v - self._apply(v), right, tol=4 * float(jnp.finfo(right.dtype).eps)
        )
        return found

    def solve(self, right: PyTree) -> PyTree:
        """The x of (I − ∂S/∂s) x = right."""
        return self._unravel(self._solve(ravel_pytree(right)[0]))

    def by_y(self, direction: PyTree) -> PyTree:
        """∂S/∂y times directions along a leading axis."""

        def one(d: PyTree) -> PyTree:
            found = jax.jvp(lambda y: self._remember(y, self._flat), (self._y,), (d,))[1]
            return self._unravel(found)

        return jax.vmap(one)(direction)

    def _forgets(self) -> Array:
        """Whether powers of ∂S/∂s go to zero."""
        if not self._flat.size:
            return jnp.array(True)
        if self._flat.size <= DENSE:
            power = self._matrix
            for _ in range(16):  # to the power 65,536: a decay of 0.9999 has gone by then
                power = jnp.clip(power @ power, -1e9, 1e9)
            return jnp.linalg.norm(power) < 1
        v = jnp.cos(jnp.arange(self._flat.size, dtype=self._flat.dtype))

        def again(v: Array, _: None) -> tuple[Array, Array]:
            size = jnp.linalg.norm(v)
            new = self._apply(v / jnp.where(size > 0, size, 1))
            return new, jnp.linalg.norm(new)

        _, sizes = jax.lax.scan(again, v, None, length=64)
        return sizes[-1] < 1

    def _rests(self, split: _Split, zero: Array) -> Array:
        """Whether step(0, y, s) is y at the settled memory and beside it."""
        beside = self._flat + (1 + jnp.abs(self._flat)) * 0.5
        same = []
        for flat in (self._flat, beside):
            new, _ = split.step(zero, self._y, self._unravel(flat))
            for x, old in zip(jax.tree.leaves(new), jax.tree.leaves(self._y), strict=True):
                rounding = 64 * jnp.finfo(old.dtype).eps * (1 + jnp.abs(old))
                same.append(jnp.all((jnp.abs(x - old) <= rounding) | jnp.isnan(x)))
        return jnp.all(jnp.stack(same))


def memoryless(
    step: MemoryStep,
    init: Callable[[PyTree], PyTree],
    order: int = 2,
    *,
    count: int | None = None,
) -> Memoryless:
    """The step of y alone that a step with memory takes on its slow manifold.

    After a transient, which a momentum m or a decay β ends like mⁿ or βⁿ, the memory is a function
    of the state, s = σ(y; h), and the step one of y alone that rests at h = 0. `modified_terms` and
    `modified_field` of it give the flow that an optimiser with momentum follows, to any order.

    Integers in the memory count steps. They are held: at `count`, where a schedule or the bias
    correction of that step is asked for, or else at the largest that their type can say, where
    corrections for the start have gone and a schedule has ended.

    Args:
      step: (h, y, s) ↦ (y, s), with step(0, y, s) = (y, ·) for every s, smooth in all three, and
        at h = 0 a contraction in s. `optimizer_step` makes one of an optax optimiser.
      init: y ↦ s, a memory to begin with; only its structure matters where S is affine in s.
      order: to which order the step itself is kept when it is *called*: to O(h^{order + 2}).
        `modified_terms` takes its own.
      count: the number of steps taken, where that matters.

    Returns:
      A step (h, y) ↦ y, with `memory(h, y)`, the memory that goes with y.

    Raises:
      ValueError: a step or an init that is none, a bad order or count. When called: a y without
        real numbers; a memory of complex numbers or random keys; a memory that does not contract at
        h = 0 (heavy ball with m ≥ 1); a step that moves at h = 0. Inside a trace the last two give
        NaN.

    >>> from ddlib.drift import modified_terms
    >>> from ddlib.games import gradient_field
    >>> ball = optimizer_step(optax.sgd(1.0, momentum=0.5), gradient_field(lambda y: y**2 / 2))
    >>> terms = modified_terms(memoryless(*ball), order=1)(jnp.array(1.0))
    >>> [round(float(f), 4) for f in terms]  # −g/(1 − m), −(1 + m)/(2(1 − m)³) Hg
    [-2.0, -6.0]
    """
    check_memory_step("step", step)
    if not callable(init):
        raise ValueError(f"init must be a function of y, got {type(init).__name__}")
    check_count("order", order, least=0)
    if count is not None:
        check_count("count", count, least=0)
    return Memoryless(step, init, order, count)


def _differences(top: int) -> np.ndarray:
    """Row j gives the j-th forward difference at 0 of values at 0, …, top."""
    return np.array(
        [[(-1.0) ** (j - n) * comb(j, n) for n in range(top + 1)] for j in range(top + 1)]
    )


def _combine(weights: np.ndarray, x: Array) -> Array:
    """Rows of weights times values along the leading axis."""
    return jnp.tensordot(jnp.asarray(weights, x.dtype), x[: weights.shape[1]], axes=1)


def _sum(weights: np.ndarray, x: Array) -> Array:
    return jnp.tensordot(jnp.asarray(weights, x.dtype), x, axes=1)


def _polynomial(h: Any, coefficients: list[PyTree], template: PyTree) -> PyTree:
    """Σ_k hᵏ c_k, by Horner's rule."""

    def leaf(*xs: Array) -> Array:
        total = xs[-1]
        for x in xs[-2::-1]:
            total = x + jnp.asarray(h).astype(x.dtype) * total
        return total

    return jax.tree.map(leaf, *coefficients)
