"""Backward error analysis: the flow that a method follows, to any order, for any step.

For a one-step map Φ_h with Φ₀ = id, the modified field f̃ is the field whose time-h flow is Φ_h.
Formally h·f̃ = log(Φ_h*) id, with Φ_h* g = g ∘ Φ_h, and the logarithm's series in Φ_h* − I is a
fixed rational combination of the iterates:

    h·f̃(y) = Σ_{m=0}^{p} w_m Φ_h^m(y) + O(h^{p+1}),

the weights of the forward-difference derivative at the first of p + 1 equidistant points. Expanded
in the *scalar* h it gives every term of f̃ = f₀ + h f₁ + h² f₂ + …; left as it is, it estimates f̃
from iterates alone. Theorems 3.1 and 3.2 of DD and PF's third-order flow are instances, so here
they are tests. (Hairer, Lubich and Wanner 2006, Chapter IX.)
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ddlib import taylor
from ddlib._check import (
    check_count,
    check_field,
    check_inexact,
    check_play,
    check_players,
    check_rates,
    check_state,
    check_step,
    check_step_size,
    is_concrete,
    like,
)
from ddlib.frozen import thaw
from ddlib.games import Field, Players
from ddlib.memory import Memoryless
from ddlib.memory import memoryless as memoryless
from ddlib.methods import ImplicitStep, Step
from ddlib.modifying import modifying_field as modifying_field
from ddlib.modifying import modifying_terms as modifying_terms


def logarithm_weights(num_steps: int) -> np.ndarray:
    """Weights w_0 … w_p of log(Φ*) = Σ_k (−1)^{k−1}/k (Φ* − I)^k on the iterates Φ^0 … Φ^p.

    >>> logarithm_weights(2).tolist()
    [-1.5, 2.0, -0.5]
    """
    weights = np.zeros(num_steps + 1)
    for k in range(1, num_steps + 1):
        for m in range(k + 1):
            weights[m] += (-1) ** (k - 1) / k * comb(k, m) * (-1) ** (k - m)
    return weights


def _combine(weights: np.ndarray, iterates: PyTree) -> PyTree:
    """Σ_m w_m y_m along the leading axis, in differences from y_0, which the sum must not feel."""

    def leaf(x: Array) -> Array:
        return jnp.tensordot(jnp.asarray(weights[1:], x.dtype), x[1:] - x[:1], axes=1)

    return jax.tree.map(leaf, iterates)


def _logarithm(iterates: PyTree, num_steps: int) -> PyTree:
    """log(Φ*) from so many iterates beyond the first: no more than it takes, for they cancel."""
    first = jax.tree.map(lambda x: x[: num_steps + 1], iterates)
    return _combine(logarithm_weights(num_steps), first)


def modified_terms(
    step: Step, order: int, *, at: float | Array = taylor.SMALL
) -> Callable[[PyTree], tuple[PyTree, ...]]:
    """The terms f₀, f₁, …, f_order of the modified field of any step.

    f₀ is the field that the step discretises; h f₁ is its discretisation drift. The cost is that
    of order + 1 steps in the arithmetic of truncated power series (see `ddlib.taylor`): about
    (order + 2)²/2 plain steps each.

    The term of hᵏ is a difference of order k + 1 of iterates, whose digits cancel: in single
    precision the terms of a bent field keep six digits to order 2, about three at order 4, none
    from order 7 on. Give the state double precision where high orders are wanted.

    A step may branch, loop and compare: the terms are those of small positive h, and where a step
    looks at h alone (`h == 0`, `h > 1e-8`) those of h = `at`. One that iterates until something is
    small is expanded about what the iteration converges to.

    Args:
      step: a one-step map `(h, y) -> y` with `step(0, y) == y`, smooth in both.
      order: how many terms beyond f₀, zero or more.
      at: the step size of interest, positive; it matters to steps that look at h alone.

    Returns:
      A function from a state to the tuple (f₀, …, f_order), each like the state.

    Raises:
      ValueError: a step that is none (a field, say); a bad order or `at`; a state of integers or
        without arrays; or, outside a trace, a step that moves when h = 0, at this state or at
        others (heavy ball with fixed momentum does: see `memoryless`), or that has no series
        in h where it has a value. Inside a trace the terms of both are NaN.

    >>> from ddlib.methods import euler
    >>> terms = modified_terms(euler(lambda y: -y), order=2)(jnp.array(1.0))
    >>> [round(float(f), 5) for f in terms]  # log(1 - h)/h = -1 - h/2 - h²/3 - …
    [-1.0, -0.5, -0.33333]
    """
    check_step("step", step)
    check_count("order", order, least=0)
    check_step_size("at", at)
    given = step
    if isinstance(step, ImplicitStep):  # that many sweeps have the same series to this order
        step = step.sweeps(order + 1)

    def same(h: Any, y: PyTree) -> PyTree:
        new = step(h, y)
        check_state("step(h, y)", new, y)
        return like(new, y)

    def expanded(y: PyTree, highest: int) -> tuple[PyTree, ...]:
        return taylor.scan_compose(same, y, num_steps=order + 1, order=highest, at=at)

    def terms(y: PyTree) -> tuple[PyTree, ...]:
        check_inexact("y", y)
        y = jax.tree.map(jnp.asarray, y)
        if isinstance(step, Memoryless):  # which has them without a series of its own
            return step.terms(y, order)
        iterates = expanded(y, order + 1)
        if is_concrete(iterates) and not _finite(iterates):
            iterates = expanded(y, 2 * order + 4)[: order + 2]  # a norm takes an order a step
        moves = _moves_at_rest(same, iterates[0], y)
        if is_concrete(moves) and bool(moves):
            raise ValueError(
                "step(0, y) must return y, got a step that moves at h = 0, at y or at a state near "
                "it (a momentum that is zero at y rests there alone): it has no modified field in "
                "these coordinates; `memoryless` makes a step of y alone of one with memory"
            )
        found = tuple(_logarithm(coefficient, k) for k, coefficient in enumerate(iterates[1:], 1))
        if not is_concrete(found):
            return jax.tree.map(lambda x: jnp.where(moves, jnp.nan, x).astype(x.dtype), found)
        one = [jax.tree.map(lambda x: x[1], coefficient) for coefficient in iterates]
        if not _describes(one, lambda h: given(h, y), y, at):
            raise ValueError(
                "step must have a series in h at y, but its terms are not finite where its value "
                "is, or say nothing of where it goes: it is not smooth in h there, decides by what "
                "ties at h = 0, or loops until something is small and does not settle"
            )
        return found

    return terms


def _moves_at_rest(step: Step, iterates: PyTree, y: PyTree) -> Array:
    """Whether step(0, ·) moves y or a state near it: a momentum may be zero at this one."""

    def beside(x: Array) -> Array:
        apart = jnp.cos(jnp.arange(x.size, dtype=x.real.dtype)).reshape(x.shape)
        return x + 32 * float(jnp.finfo(x.dtype).eps) ** 0.5 * (1 + jnp.abs(x)) * apart

    zero = _like_y(0.0, y)
    near = step(zero, jax.tree.map(beside, y))  # a projection rests where it has led
    after = step(zero, near)

    def moved(new: Array, old: Array) -> Array:  # a NaN, where `near` leaves a domain, says nothing
        rounding = 1024 * jnp.finfo(old.dtype).eps * (1 + jnp.abs(old))
        return jnp.any(jnp.abs(new - old) > rounding)

    found = jax.tree.map(moved, (iterates, after), (y, near))
    return jnp.any(jnp.stack(jax.tree.leaves(found)))


def _describes(series: list[PyTree], step: Callable[[Any], PyTree], y: PyTree, at: Any) -> bool:
    """Whether one step's series says where the step goes, for some small h at the least.

    For a smooth step it does so better and better as h falls, until the move drowns in rounding.
    A series that is off by an eighth of an entry's move at every h at which it can be seen, at two
    at the least, or that is not finite where the step is, is of another function.
    """
    if not _finite(series):
        return not _finite(step(_like_y(at, y)))  # without a value, divergence is data
    leaves = jax.tree.leaves(y)
    seen, off = ([jnp.zeros(x.shape, int) for x in leaves] for _ in range(2))
    for factor in (1.0, 2.0**-4, 2.0**-8, 2.0**-12, 2.0**-20):
        h = _like_y(at * factor, y)
        columns = zip(leaves, *map(jax.tree.leaves, (step(h), *series)), strict=True)
        for i, (old, new, *parts) in enumerate(columns):
            said = sum(h.astype(c.real.dtype) ** k * c for k, c in enumerate(parts))
            rounding = 64 * float(jnp.finfo(old.dtype).eps) * (1 + jnp.abs(old))
            visible = jnp.abs(new - old) > rounding
            seen[i] += visible
            off[i] += visible & (jnp.abs(new - said) > jnp.abs(new - old) / 8)
    return not any(bool(jnp.any((n >= 2) & (m == n))) for n, m in zip(seen, off, strict=True))


def _like_y(h: Any, y: PyTree) -> Array:
    """A step size as an array in the precision of y."""
    return jnp.asarray(h, jnp.finfo(jnp.result_type(*jax.tree.leaves(y))).dtype)


def _finite(tree: PyTree) -> bool:
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


def modified_field(step: Step, h: float | Array, order: int) -> Field:
    """The truncated modified field y ↦ Σ_{k ≤ order} h^k f_k(y).

    Its flow over time h meets one step to O(h^{order + 2}). For a two-player step with rates
    (α, λ) this is the *joint* field, both players on the one clock of h; DD's theorems read each
    player on its own clock instead (see `published_drift`).

    Args:
      step: a one-step map with `step(0, y) == y`.
      h: step size, zero or positive; may be traced.
      order: 0 is the plain flow, 1 the first-order drift.

    Raises:
      ValueError: as `modified_terms`, or a negative or non-finite h.

    >>> from ddlib.methods import euler
    >>> field = modified_field(euler(lambda y: -y), h=0.1, order=1)
    >>> round(float(field(jnp.array(1.0))), 5)
    -1.05
    """
    check_step("step", step)
    check_step_size("h", h, zero=True)
    at = jnp.where(jnp.asarray(h) > 0, h, taylor.SMALL)  # what looks at h alone sees this one
    terms = modified_terms(step, order, at=at)

    def field(y: PyTree) -> PyTree:
        def horner(*leaves: Array) -> Array:
            total = leaves[-1]
            for leaf in leaves[-2::-1]:
                total = leaf + jnp.asarray(h).astype(leaf.dtype) * total
            return total

        return jax.tree.map(horner, *terms(y))

    return field


def estimate_modified_field(iterates: PyTree, h: float | Array) -> PyTree:
    """The modified field at the first of p + 1 successive iterates, from the iterates alone.

    No derivative is taken, so this is an independent check of `modified_field`, and it works for
    networks of any size and for steps that are not differentiable. Error O(h^p).

    Args:
      iterates: pytree whose leaves have a leading axis p + 1 ≥ 2: y, Φ(y), …, Φ^p(y).
      h: step size, positive and finite.

    Returns:
      A pytree like one iterate.

    Raises:
      ValueError: fewer than two iterates, leaves that disagree on their number, or a bad h.

    >>> from ddlib.methods import euler, iterate
    >>> ys = iterate(euler(lambda y: -y), 0.1, jnp.array(1.0), 4)
    >>> round(float(estimate_modified_field(ys, 0.1)), 4)  # log(0.9)/0.1
    -1.0536
    """
    check_step_size("h", h)
    check_inexact("iterates", iterates)
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(iterates)}
    if len(lengths) != 1 or min(lengths, default=()) < (2,):
        raise ValueError(
            "iterates must share one leading axis of length at least 2, got leading axes "
            f"{sorted(lengths)}"
        )
    (length,) = next(iter(lengths))
    total = _combine(logarithm_weights(length - 1), jax.tree.map(jnp.asarray, iterates))
    return jax.tree.map(lambda x: x / jnp.asarray(h).astype(x.dtype), total)


def published_drift(
    field: Field,
    rates: Players,
    num_updates: Players = Players(1, 1),
    method: Literal["simultaneous", "alternating"] = "simultaneous",
) -> Field:
    """The first-order drift of DD, Theorems 3.1 and 3.2, each player on its own clock.

    As printed: φ̇ = f + h·drift.phi and θ̇ = g + h·drift.theta, with

        simultaneous  drift.phi   = −(α/2)(f∇φf + g∇θf)
                      drift.theta = −(λ/2)(f∇φg + g∇θg)
        alternating   drift.phi   = −(α/2)(f∇φf/m + g∇θf)
                      drift.theta = −(λ/2)((1 − 2α/λ) f∇φg + g∇θg/k).

    **Two clocks.** One discrete step is φ of this coupled flow read at time αh and θ of the *same*
    flow read at time λh, with error O(h³). If α ≠ λ no single solution passes through successive
    iterates: restart it from every iterate, or use the joint field on the one clock of h,
    `modified_field(simultaneous_euler(field, rates), h, order=1)`, whose φ velocity is
    α(f − (h/2)(α f∇φf + λ g∇θf)): there the interaction term carries the *other* player's rate.
    At α = λ the two agree up to the factor α in time.

    Args:
      field: (f, g) on `Players`.
      rates: `Players` (α, λ), positive.
      num_updates: `Players` (m, k); anything but (1, 1) needs method "alternating".
      method: "simultaneous" (Theorem 3.1) or "alternating" (Theorem 3.2, φ moves first).

    Returns:
      A field on `Players`: the drift without its factor h.

    Raises:
      ValueError: unknown method, rates that are not positive `Players`, or several updates with
        simultaneous play.

    >>> from ddlib.games import linear_game
    >>> drift = published_drift(linear_game(0.0, 0.0), Players(1.0, 1.0))
    >>> [float(x) for x in drift(Players(2.0, 1.0))]  # outward: +½ y
    [1.0, 0.5]
    """
    check_field("field", field)
    check_rates(rates, zero=False)
    check_play(method, num_updates)
    alpha, lam = rates
    m, k = num_updates
    seen = 1.0 if method == "simultaneous" else 1 - 2 * alpha / lam

    field = thaw(field)

    def drift(y: Players) -> Players:
        check_players("y", y)
        check_inexact("y", y)
        y = jax.tree.map(jnp.asarray, y)
        f, g = field(y)
        rest = jax.tree.map(jnp.zeros_like, y)
        by_phi = jax.jvp(field, (y,), (rest._replace(phi=f),))[1]  # f∇φf and f∇φg
        by_theta = jax.jvp(field, (y,), (rest._replace(theta=g),))[1]  # g∇θf and g∇θg

        def mix(rate: Any, a: Any, first: PyTree, b: Any, second: PyTree) -> PyTree:
            return jax.tree.map(lambda x, z: -rate / 2 * (a * x + b * z), first, second)

        found = Players(
            phi=mix(alpha, 1 / m, by_phi.phi, 1, by_theta.phi),
            theta=mix(lam, seen, by_phi.theta, 1 / k, by_theta.theta),
        )
        return like(found, y)

    return drift
