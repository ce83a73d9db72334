"""Modified losses: what a discretised descent goes down, as losses that one can call and train on.

Where the first-order modified field is a gradient it is that of a modified loss: gradient descent
on E is, to O(h³) a step, the gradient flow of E + (h/4)‖∇E‖². Where it is none, as for several
minibatches in one order or for the players of a general game, it is still a gradient once some of
its factors are frozen at the state from which the steps set out: these losses hold for the steps
from that `start` and no others.

`ddlib.drift` finds the field itself, of any step, to any order; `ddlib.regularizers` has the terms
of games as coefficients to be added or taken away. Here are the losses, one for each setting that
the papers treat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ddlib._check import (
    check_inexact,
    check_loss,
    check_players,
    check_scalar,
    check_state,
    check_step_size,
)
from ddlib.games import Loss, Players, common_payoff, zero_sum
from ddlib.regularizers import DriftTerms, drift_terms, regularized_losses

BatchLoss = Callable[[Any, Any], Array]
Method = Literal["simultaneous", "alternating"]
Clock = Literal["own", "joint"]


def _inner(a: PyTree, b: PyTree) -> Array:
    return optax.tree.vdot(a, b)


# ------------------------------------------------------------------------------------ one objective


def implicit_gradient_regularisation(loss: Loss, h: float | Array) -> Loss:
    """E + (h/4)‖∇E‖²: gradient descent with rate h is its gradient flow, to O(h³) a step.

    Barrett and Dherin (2021), Eq. 2; DD, Eq. 1. Added to the loss of a descent with a small rate it
    is the explicit gradient penalty that has the first-order effect of a large one.

    Args:
      loss: function from a pytree of real arrays to a real scalar.
      h: learning rate, zero or positive; may be traced.

    Returns:
      A loss of the same parameters; its gradient costs about three gradients of `loss`.

    Raises:
      ValueError: a loss that is no function of the parameters alone, a negative or non-finite h;
        when called: parameters of integers or complex numbers, a loss that is no real scalar.

    >>> modified = implicit_gradient_regularisation(lambda y: y**2 / 2, 0.4)
    >>> round(float(modified(1.0)), 6), round(float(jax.grad(modified)(1.0)), 6)
    (0.6, 1.2)
    """
    check_loss("loss", loss)
    check_step_size("h", h, zero=True)

    def modified(params: PyTree) -> Array:
        check_inexact("params", params, real=True)
        check_scalar("loss", loss, params)
        value, slope = jax.value_and_grad(loss)(params)
        return value + h / 4 * _inner(slope, slope)

    return modified


def epoch_mean(loss: BatchLoss, batches: PyTree, h: float | Array) -> Loss:
    """Ē + (h/4n) Σ_k ‖∇E_k‖²: the mean of n SGD steps over the orders of their n minibatches.

    Smith et al. (2021), Eq. 1. The mean of the parameters after an epoch, over all orders in which
    it may take its batches, is within O(h³) of this loss's gradient flow over time nh. Since
    Σ‖∇E_k‖²/n exceeds ‖∇Ē‖² by the gradients' variance, small batches are regularised more.

    Args:
      loss: function (params, batch) -> a real scalar.
      batches: pytree of arrays whose leading axis is the n batches.
      h: learning rate, zero or positive; may be traced.

    Returns:
      A loss of the parameters alone.

    Raises:
      ValueError: as `implicit_gradient_regularisation`; batches without a leading axis in common.

    >>> modified = epoch_mean(lambda y, c: (y - c) ** 2 / 2, jnp.array([1.0, -1.0]), 0.4)
    >>> round(float(modified(0.0)), 6)  # ½ + 0.4/8·(1 + 1)
    0.6
    """
    check_loss("loss", loss, batch=True)
    check_step_size("h", h, zero=True)
    count = _number_of(batches)

    def modified(params: PyTree) -> Array:
        values, slopes = _on_batches(loss, params, batches)
        return values.mean() + h / (4 * count) * _inner(slopes, slopes)

    return modified


def n_step_sgd(loss: BatchLoss, batches: PyTree, h: float | Array, start: PyTree) -> Loss:
    """The loss whose gradient flow over time nh follows n SGD steps from `start`, to O(h³).

        Ẽ = Ē + (nh/4)‖∇Ē‖² − (h/n) Σ_{μ=1}^{n−1} ∇E_μ(θ)ᵀ Σ_{τ<μ} ∇E_τ(start)

    Rosca and Deisenroth (2023), as in the talk of 2023: batch 0 is taken first, and the gradients
    of earlier batches are frozen at the parameters from which the n steps set out. There is no
    expectation in it: it holds for these batches in this order. The middle term is the full
    batch's; the last, `alignment`, is what the order does, and rewards gradients that agree with
    those before them.

    Args:
      loss: function (params, batch) -> a real scalar.
      batches: pytree of arrays whose leading axis is the n batches, in the order of the steps.
      h: learning rate, zero or positive; may be traced.
      start: parameters at which the first of the steps is taken.

    Returns:
      A loss of the parameters alone. For n = 1 it is `implicit_gradient_regularisation`.

    Raises:
      ValueError: as `epoch_mean`; a start of integers; when called: parameters unlike start.

    >>> batches = jnp.array([1.0, -1.0])  # from 0 to h, and back to −h + h²
    >>> modified = n_step_sgd(lambda y, c: (y - c) ** 2 / 2, batches, 0.1, start=0.0)
    >>> round(float(-0.2 * jax.grad(modified)(0.0)), 6)  # nh·∇Ẽ: all but O(h³)
    -0.01
    """
    check_loss("loss", loss, batch=True)
    check_step_size("h", h, zero=True)
    count = _number_of(batches)
    check_inexact("start", start, real=True)
    agreement = alignment(loss, batches, start)

    def modified(params: PyTree) -> Array:
        values, slopes = _on_batches(loss, params, batches)
        mean = jax.tree.map(lambda x: x.mean(0), slopes)
        whole = count * h / 4 * _inner(mean, mean)
        return values.mean() + whole - h / count * agreement(params)

    return modified


def alignment(loss: BatchLoss, batches: PyTree, start: PyTree) -> Loss:
    """Σ_{μ=1}^{n−1} ∇E_μ(θ)ᵀ Σ_{τ<μ} ∇E_τ(start): how far gradients agree with those before.

    The sum in the last term of `n_step_sgd`, which −h/n multiplies. Zero for n = 1. Over all orders
    of the batches its mean at `start` is (n²‖∇Ē‖² − Σ‖∇E_k‖²)/2.

    Arguments and errors as there.

    >>> batches = jnp.array([1.0, -1.0])
    >>> float(alignment(lambda y, c: (y - c) ** 2 / 2, batches, start=0.0)(0.0))
    -1.0
    """
    check_loss("loss", loss, batch=True)
    _number_of(batches)
    check_inexact("start", start, real=True)

    def agreement(params: PyTree) -> Array:
        check_inexact("params", params, real=True)
        check_state("params", params, start)
        frozen = jax.lax.stop_gradient(_on_batches(loss, start, batches)[1])
        earlier = jax.tree.map(lambda x: jnp.cumsum(x, 0) - x, frozen)
        return _inner(_on_batches(loss, params, batches)[1], earlier)

    return agreement


def _on_batches(loss: BatchLoss, params: PyTree, batches: PyTree) -> tuple[Array, PyTree]:
    """The losses of all batches and their gradients."""
    check_inexact("params", params, real=True)
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.result_type(x)), batches
    )
    check_scalar("loss", loss, params, one)
    return jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0))(params, batches)


def _number_of(batches: PyTree) -> int:
    """How many batches there are: the leading axis of every leaf."""
    lengths = sorted({jnp.shape(x)[:1] for x in jax.tree.leaves(batches)})
    if len(lengths) != 1 or lengths[0] in ((), (0,)):
        raise ValueError(
            "batches must share one leading axis, the number of batches, of length at least 1, "
            f"got leading axes {lengths}; stack them, `jax.tree.map(jnp.stack, …)`"
        )
    return int(lengths[0][0])


# -------------------------------------------------------------------------------------- two players


def general_game(
    losses: Players,
    rates: Players,
    h: float | Array = 1.0,
    num_updates: Players = Players(1, 1),
    method: Method = "simultaneous",
    clock: Clock = "own",
    *,
    start: Players | None = None,
) -> Players:
    """The modified losses of any two-player game: zero-sum, common-payoff or neither.

        L̃φ = Lφ + (αh/4m)‖∇φLφ‖² + c_φ ⟨∇θLφ, [∇θLθ]⟩, and for θ with the roles exchanged.

    Rosca and Deisenroth (2023), which takes α = λ and simultaneous updates: c_φ = h/2. (The slides
    of 2023 print h/2 before the self term as well; it is h/4.) With other rates and alternating
    updates the coefficients are those of `ddlib.regularizers.drift_terms`. [·] is frozen: it is the
    partner's own gradient, and what φ may do to it is no part of φ's drift. That is why a general
    game needs it: ∇θφLφ ∇θLθ is not the gradient of anything in general.

    Args:
      losses: `Players` of functions from `Players` to a real scalar.
      rates: `Players` (α, λ), positive; may be traced. With h = 1 the learning rates themselves.
      h: step size, positive; may be traced.
      num_updates: `Players` (m, k) of sub-updates.
      method: "simultaneous", or "alternating" (φ first).
      clock: "own", each player read on the clock of its rate, as published; or "joint".
      start: where the partner's gradient is frozen: the state from which the step sets out, as in
        the paper. None: at the state itself, at every evaluation, which differs by O(h²) within a
        step and is what a flow over many steps needs.

    Returns:
      `Players` of losses. On the clock "joint" (α, λ) times their `game_field` is the first-order
      modified field of the step.

    Raises:
      ValueError: losses, rates, updates, method, clock or start that make no sense; when called: a
        y unlike start.

    >>> cubic = Players(lambda y: y.phi**3 * y.theta, lambda y: y.phi * y.theta)
    >>> modified = general_game(cubic, Players(1.0, 1.0), 0.1, start=Players(2.0, 1.0))
    >>> round(float(modified.phi(Players(2.0, 1.0))), 5)  # 8 + 0.1/4·12² + 0.1/2·8·2
    12.4
    """
    check_players("losses", losses)
    for name, loss in losses._asdict().items():
        check_loss(f"losses.{name}", loss)
    terms = drift_terms(rates, h, num_updates, method, clock)
    if start is None:
        return regularized_losses(losses, terms)
    check_players("start", start)
    check_inexact("start", start, real=True)

    def of(me: str, other: str) -> Loss:
        mine, theirs = getattr(losses, me), getattr(losses, other)
        weights: DriftTerms = getattr(terms, me)

        def modified(y: Players) -> Array:
            check_players("y", y)
            check_inexact("y", y, real=True)
            check_state("y", y, start)
            frozen = jax.lax.stop_gradient(_slope(theirs, start, other))
            own, crossed = _slope(mine, y, me), _slope(mine, y, other)
            return (
                mine(y)
                + weights.self_norm * _inner(own, own)
                + weights.interaction * _inner(crossed, frozen)
            )

        return modified

    return Players(of("phi", "theta"), of("theta", "phi"))


def zero_sum_game(
    value: Loss,
    rates: Players,
    h: float | Array = 1.0,
    num_updates: Players = Players(1, 1),
    method: Method = "simultaneous",
    clock: Clock = "own",
) -> Players:
    """The modified losses of the zero-sum game (−E, E), nothing frozen.

    DD, Corollaries 6.1 and 6.2 (clock "own"):

        simultaneous  L̃₁ = −E + (αh/4)‖∇φE‖² − (αh/4)‖∇θE‖²
                      L̃₂ =  E − (λh/4)‖∇φE‖² + (λh/4)‖∇θE‖²
        alternating   self terms divided by m and k; (1 − 2α/λ) before L̃₂'s ‖∇φE‖².

    Simultaneous at equal rates they sum to zero; else the modified game is no zero-sum game.

    Args, returns and errors as `general_game`; and
      value: E, a function from `Players` to a real scalar.

    >>> modified = zero_sum_game(lambda y: y.phi * y.theta, Players(1.0, 1.0), 0.4)
    >>> at = Players(1.0, 2.0)
    >>> [round(float(loss(at)), 5) for loss in modified]  # −2 + 0.1·(4 − 1), 2 + 0.1·(1 − 4)
    [-1.7, 1.7]
    """
    check_loss("value", value)
    terms = drift_terms(rates, h, num_updates, method, clock)
    # ⟨∇θL₁, [∇θL₂]⟩ = −⟨∇θE, [∇θE]⟩ has the gradient of −‖∇θE‖²/2
    return _norms_of(zero_sum(value), value, terms, -0.5)


def common_payoff_game(
    loss: Loss,
    rates: Players,
    h: float | Array = 1.0,
    num_updates: Players = Players(1, 1),
    method: Method = "simultaneous",
    clock: Clock = "own",
) -> Players:
    """The modified losses of the common-payoff game (E, E), nothing frozen.

    DD, Section 5 and Corollary 5.1 (alternating, one update each, clock "own"):

        L̃₁ = E + (αh/4)(‖∇φE‖² + ‖∇θE‖²),  L̃₂ = E + (λh/4)(1 − 2α/λ)‖∇φE‖² + (λh/4)‖∇θE‖².

    Simultaneous at equal rates, both are `implicit_gradient_regularisation` of E.

    Args, returns and errors as `general_game`; and
      loss: E, a function from `Players` to a real scalar.

    >>> modified = common_payoff_game(lambda y: y.phi * y.theta, Players(1.0, 1.0), 0.4)
    >>> at = Players(1.0, 2.0)
    >>> float(modified.phi(at)), float(modified.theta(at))  # 2 + 0.1·(4 + 1)
    (2.5, 2.5)
    """
    check_loss("loss", loss)
    terms = drift_terms(rates, h, num_updates, method, clock)
    return _norms_of(common_payoff(loss), loss, terms, 0.5)


def _norms_of(losses: Players, value: Loss, terms: Players, sign: float) -> Players:
    """Losses with self_norm and sign·interaction times the squared norms of E's gradients."""

    def of(me: str, other: str) -> Loss:
        mine, weights = getattr(losses, me), getattr(terms, me)

        def modified(y: Players) -> Array:
            check_players("y", y)
            check_inexact("y", y, real=True)
            check_scalar("E", value, y)
            own, crossed = _slope(value, y, me), _slope(value, y, other)
            return (
                mine(y)
                + weights.self_norm * _inner(own, own)
                + sign * weights.interaction * _inner(crossed, crossed)
            )

        return modified

    return Players(of("phi", "theta"), of("theta", "phi"))


def _slope(loss: Loss, y: Players, player: str) -> PyTree:
    """The gradient of a loss with respect to one player's parameters."""
    return jax.grad(lambda p: loss(y._replace(**{player: p})))(getattr(y, player))
