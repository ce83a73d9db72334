"""Explicit regularisation by coefficients: what drift adds to each player, added or taken away.

Each player's loss gets three terms. For the first player (for the second, exchange the roles):

    L₁ + self_norm·‖∇φL₁‖² + interaction·⟨∇θL₁, [∇θL₂]⟩ + other_norm·‖∇θL₂‖²

where [·] is held constant when φ differentiates. The first two are what discretisation drift
consists of: simultaneous updates are, to O(h³), the flow of the losses with self_norm = αh/4 and
interaction = αh/2. In a zero-sum game interaction and other_norm act on the same thing,
⟨∇θL₁, [∇θL₂]⟩ having the gradient of −½‖∇θE‖². DD, Theorem 3.1, Corollary 6.1 and Table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ddlib._check import (
    check_field,
    check_inexact,
    check_play,
    check_players,
    check_rates,
    check_step_size,
    check_terms,
    like,
)
from ddlib.frozen import freeze, thaw
from ddlib.games import Field, Players


class DriftTerms(NamedTuple):
    """The coefficients of one player's extra terms; floats or traced arrays.

    >>> DriftTerms(other_norm=0.5)
    DriftTerms(self_norm=0.0, interaction=0.0, other_norm=0.5)
    """

    self_norm: Any = 0.0
    interaction: Any = 0.0
    other_norm: Any = 0.0


def drift_terms(
    rates: Players,
    h: float | Array = 1.0,
    num_updates: Players = Players(1, 1),
    method: Literal["simultaneous", "alternating"] = "simultaneous",
    clock: Literal["own", "joint"] = "own",
) -> Players:
    """The coefficients of discretisation drift itself, as terms of the two losses.

    DD, Theorems 3.1 and 3.2, Corollaries 6.1 and 6.2 (clock "own"). Clock "joint" gives those of
    the field that follows the iterates on the single clock of h, from backward error analysis:
    its interaction coefficients carry the other player's rate. They agree when α = λ.

    Args:
      rates: `Players` (α, λ), positive; with h = 1 they are the learning rates themselves.
      h: step size.
      num_updates: `Players` (m, k).
      method: "simultaneous" or "alternating" (φ first).
      clock: "own" as published, or "joint".

    Returns:
      `Players` of `DriftTerms`, other_norm zero.

    Raises:
      ValueError: rates, updates, method or clock that make no sense.

    >>> drift_terms(Players(0.25, 0.5), method="alternating").theta
    DriftTerms(self_norm=0.125, interaction=0.0, other_norm=0.0)
    """
    check_rates(rates, zero=False)
    check_step_size("h", h)
    check_play(method, num_updates)
    if clock not in ("own", "joint"):
        raise ValueError(f'clock must be "own" or "joint", got {clock!r}')
    alpha, lam = rates.phi * h, rates.theta * h
    m, k = num_updates
    if clock == "own":
        of_phi, of_theta = alpha / 2, lam / 2
        if method == "alternating":
            of_theta = (lam - 2 * alpha) / 2
    else:
        of_phi, of_theta = lam / 2, alpha / 2
        if method == "alternating":  # θ sees all of φ's move: the drift changes sign
            of_theta = -alpha / 2
    return Players(
        DriftTerms(self_norm=alpha / (4 * m), interaction=of_phi),
        DriftTerms(self_norm=lam / (4 * k), interaction=of_theta),
    )


def cancel_interaction(
    rates: Players,
    h: float | Array = 1.0,
    num_updates: Players = Players(1, 1),
    method: Literal["simultaneous", "alternating"] = "simultaneous",
    clock: Literal["own", "joint"] = "own",
) -> Players:
    """The terms that cancel the interaction terms of drift and leave the self terms.

    DD, Section 7.3 and Table 1. In a zero-sum game they are +(αh/4)‖∇θE‖² for the first player
    and +(λh/4)‖∇φE‖² for the second, (λ − 2α)h/4 if alternating. Arguments as `drift_terms`.

    >>> cancel_interaction(Players(0.5, 0.25)).phi
    DriftTerms(self_norm=0.0, interaction=-0.25, other_norm=0.0)
    """
    terms = drift_terms(rates, h, num_updates, method, clock)
    return Players(
        DriftTerms(interaction=-terms.phi.interaction),
        DriftTerms(interaction=-terms.theta.interaction),
    )


def sga(strength: float | Array = 1.0) -> Players:
    """Symplectic gradient adjustment ξ + strength·Aᵀξ without alignment, for any game.

    Balduzzi et al. (2018), with A the antisymmetric part of the Jacobian of ξ = (∇φL₁, ∇θL₂). In
    a zero-sum game this is (strength/2)‖∇θE‖² and (strength/2)‖∇φE‖² (DD, Table 1); in a
    common-payoff game the terms annihilate each other.

    >>> sga().theta
    DriftTerms(self_norm=0.0, interaction=-0.5, other_norm=0.25)
    """
    check_step_size("strength", strength, zero=True)
    terms = DriftTerms(interaction=-strength / 2, other_norm=strength / 4)
    return Players(terms, terms)


def consensus(strength: float | Array) -> Players:
    """Consensus optimisation: strength·(‖∇φL₁‖² + ‖∇θL₂‖²) for both players.

    Mescheder et al. (2017); DD, Eqs. 21–22 with γ = strength.

    >>> consensus(0.5).phi
    DriftTerms(self_norm=0.5, interaction=0.0, other_norm=0.5)
    """
    check_step_size("strength", strength, zero=True)
    terms = DriftTerms(self_norm=strength, other_norm=strength)
    return Players(terms, terms)


def drift_consensus(rates: Players, h: float | Array = 1.0) -> Players:
    """Consensus optimisation with the strengths of drift: interaction cancelled, self doubled.

    αh/4 before both norms in the first player's loss, λh/4 in the second's, which the drift of
    simultaneous updates adds to (DD, Section 7.3 and Figure 8(b)).

    >>> drift_consensus(Players(0.5, 0.25)).phi
    DriftTerms(self_norm=0.125, interaction=0.0, other_norm=0.125)
    """
    terms = drift_terms(rates, h)
    return Players(*(DriftTerms(t.self_norm, 0.0, t.self_norm) for t in terms))


def strengthen_self(rates: Players, h: float | Array = 1.0) -> Players:
    """The self terms of drift once more, (αh/4)‖∇φL₁‖² and (λh/4)‖∇θL₂‖², and no interaction.

    >>> strengthen_self(Players(0.5, 0.25)).theta
    DriftTerms(self_norm=0.0625, interaction=0.0, other_norm=0.0)
    """
    return Players(*(DriftTerms(self_norm=t.self_norm) for t in drift_terms(rates, h)))


def locally_stable(strength: float | Array) -> Players:
    """Locally stable GAN: strength·‖∇φL₁‖² for the second player (the generator) alone.

    Nagarajan and Kolter (2017); DD, Table 1.

    >>> locally_stable(0.5).theta.other_norm
    0.5
    """
    check_step_size("strength", strength, zero=True)
    return Players(DriftTerms(), DriftTerms(other_norm=strength))


def ode_gan(strength: float | Array) -> Players:
    """ODE-GAN: strength·‖∇θL₂‖² for the first player (the discriminator) alone.

    Qin et al. (2020); DD, Table 1.

    >>> ode_gan(0.5).phi.other_norm
    0.5
    """
    check_step_size("strength", strength, zero=True)
    return Players(DriftTerms(other_norm=strength), DriftTerms())


def _inner(a: PyTree, b: PyTree) -> Array:
    return optax.tree.sum(optax.tree.mul(a, b))


def _regularized(
    losses: Players, terms: Players, me: str, other: str
) -> Callable[[Players, tuple[Any, ...], tuple[Any, ...]], Array]:
    """(y, a, b) ↦ one player's loss, each product of gradients taken between the data a and b."""
    mine, theirs, weights = getattr(losses, me), getattr(losses, other), getattr(terms, me)

    def gradient(loss: Callable, y: Players, player: str, data: tuple[Any, ...]) -> PyTree:
        def slope(y: Players, *data: Any) -> PyTree:
            return jax.grad(lambda p: loss(y._replace(**{player: p}), *data))(getattr(y, player))

        return thaw(slope, only_factors=True)(y, *data)  # of losses regularised before, that is

    def loss(y: Players, a: tuple[Any, ...], b: tuple[Any, ...]) -> Array:
        check_inexact("y", y, real=True)
        own_a, own_b = (gradient(mine, y, me, data) for data in (a, b))
        via_a, via_b = (gradient(mine, y, other, data) for data in (a, b))
        far_a, far_b = (gradient(theirs, y, other, data) for data in (a, b))
        crossed = _inner(via_a, freeze(far_b)) + _inner(via_b, freeze(far_a))
        return (
            (mine(y, *a) + mine(y, *b)) / 2
            + weights.self_norm * _inner(own_a, own_b)
            + weights.interaction * crossed / 2
            + weights.other_norm * _inner(far_a, far_b)
        )

    return loss


def regularized_losses(losses: Players, terms: Players) -> Players:
    """The losses of a game with the terms added, for full-batch or noise-free losses.

    Their `game_field` is the field of the regularised game: each player differentiates its own
    loss with respect to its own parameters alone. What the given losses hold constant by a
    `jax.lax.stop_gradient` of their own, such as the vectors of spectral norm, is constant in the
    terms too.

    Args:
      losses: `Players` of functions from `Players` to a scalar.
      terms: `Players` of `DriftTerms`.

    Raises:
      ValueError: losses or terms of the wrong structure.

    >>> from ddlib.games import game_field, zero_sum
    >>> losses = regularized_losses(zero_sum(lambda y: y.phi * y.theta), consensus(0.5))
    >>> [float(x) for x in game_field(losses)(Players(1.0, 2.0))]  # (θ − φ, −φ − θ)
    [1.0, -3.0]
    """
    check_players("losses", losses)
    check_terms(terms)
    first, second = (
        _regularized(losses, terms, "phi", "theta"),
        _regularized(losses, terms, "theta", "phi"),
    )
    return Players(lambda y: first(y, (), ()), lambda y: second(y, (), ()))


def minibatch_regularized_losses(losses: Players, terms: Players) -> Players:
    """The regularised losses on a minibatch, unbiased: each norm is a product over two halves.

    ‖∇E‖² of a minibatch mean is biased by the gradient's variance. Here every product of two
    gradients pairs one half of the batch with the other, both ways round, so that value and
    gradient are unbiased estimates of those of the full-batch term. (The papers' released code
    uses one of the two pairings.)

    Args:
      losses: `Players` of functions (players, batch) -> scalar, means over the batch's leading
        axis.
      terms: `Players` of `DriftTerms`.

    Returns:
      `Players` of functions (players, batch) -> scalar.

    Raises:
      ValueError: wrong structures; or, at trace time, a batch that does not halve.

    >>> losses = Players(lambda y, x: jnp.mean(x) * y.phi, lambda y, x: jnp.mean(x) * y.theta)
    >>> both = minibatch_regularized_losses(losses, consensus(1.0))
    >>> float(both.phi(Players(0.0, 0.0), jnp.array([1.0, 3.0])))  # 1·3 twice, not 2·2 twice
    6.0
    """
    check_players("losses", losses)
    check_terms(terms)

    def split(batch: PyTree) -> tuple[PyTree, PyTree]:
        sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
        if len(sizes) != 1 or () in sizes or next(iter(sizes))[0] % 2:
            raise ValueError(
                "the two-half estimator needs batches of one even size, got leading axes "
                f"{sorted(sizes)}"
            )
        half = next(iter(sizes))[0] // 2
        return jax.tree.map(lambda x: x[:half], batch), jax.tree.map(lambda x: x[half:], batch)

    def on_batch(loss: Callable) -> Callable[[Players, PyTree], Array]:
        def evaluate(y: Players, batch: PyTree) -> Array:
            a, b = split(batch)
            return loss(y, (a,), (b,))

        return evaluate

    return Players(
        on_batch(_regularized(losses, terms, "phi", "theta")),
        on_batch(_regularized(losses, terms, "theta", "phi")),
    )


def regularized_field(field: Field, terms: Players) -> Field:
    """The field of a game with the terms added, from the field alone.

    φ̇ = f − self_norm·∇φ‖f‖² − interaction·(g∇θf) − other_norm·∇φ‖g‖², likewise for θ. If the
    field comes from losses this equals `game_field(regularized_losses(…))`; it also serves fields
    that are no gradients, such as DD's Eq. 10. What a loss held constant by a
    `jax.lax.stop_gradient` of its own is differentiated here, since a field is a function of the
    state; there it is constant in the terms too (see `ddlib.frozen`).

    Args:
      field: (f, g) on `Players` of real arrays.
      terms: `Players` of `DriftTerms`.

    Raises:
      ValueError: terms of the wrong structure; when called: a y of integers or complex numbers.

    >>> from ddlib.games import linear_game
    >>> damped = regularized_field(linear_game(0.0, 0.0), cancel_interaction(Players(1.0, 1.0)))
    >>> [float(x) for x in damped(Players(1.0, 0.0))]
    [-0.5, -1.0]
    """
    check_field("field", field)
    check_terms(terms)
    field = thaw(field)

    def player(y: Players, value: Players, me: str, other: str) -> PyTree:
        weights: DriftTerms = getattr(terms, me)

        def seen(p: PyTree) -> Players:
            return field(y._replace(**{me: p}))

        rest = jax.tree.map(jnp.zeros_like, y)
        crossed = jax.jvp(field, (y,), (rest._replace(**{other: getattr(value, other)}),))[1]
        _, pull = jax.vjp(seen, getattr(y, me))
        weighted = value._replace(
            **{
                me: jax.tree.map(lambda x: 2 * weights.self_norm * x, getattr(value, me)),
                other: jax.tree.map(lambda x: 2 * weights.other_norm * x, getattr(value, other)),
            }
        )
        (norms,) = pull(like(weighted, value))
        return jax.tree.map(
            lambda v, c, n: v - weights.interaction * c - n,
            getattr(value, me),
            getattr(crossed, me),
            norms,
        )

    def regularized(y: Players) -> Players:
        check_players("y", y)
        check_inexact("y", y, real=True)
        y = jax.tree.map(jnp.asarray, y)
        value = field(y)
        found = Players(player(y, value, "phi", "theta"), player(y, value, "theta", "phi"))
        return like(found, y)

    return regularized
