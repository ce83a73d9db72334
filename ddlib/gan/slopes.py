"""A game's slopes with explicit regularisation, on a minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ddlib._check import check_precision, check_terms
from ddlib.games import Players
from ddlib.gan.game import Batch, Game, Memory, cross_gradients, gradients, own_slopes
from ddlib.regularizers import DriftTerms, consensus

ALIGNMENT = 0.1  # ε of symplectic gradient adjustment with alignment


class Estimator(NamedTuple):
    """How terms are made of a minibatch.

    Unbiased: of each product of two gradients one is taken on the first half of the batch and held
    constant, the other on the second half and differentiated, as the papers' released code does.
    (`minibatch_regularized_losses` differentiates both ways round, for twice the work.) Biased:
    everything on the whole batch.

    Attributes:
      unbiased: which of the two.
      halved: the players' own slopes are the means over the two halves, which saves a pass, in
        place of those of the whole batch. With batch norm that is another game, whose batches are
        half as large.
      align: for the terms of `regularizers.sga`, strength·Aᵀξ: give them the sign of
        ⟨ξ, ∇H⟩⟨Aᵀξ, ∇H⟩/d + 0.1, with H = ‖ξ‖²/2 and d the number of parameters (Balduzzi et al.,
        2018, Algorithm 1). It takes one more product with the Hessian.

    >>> Estimator(unbiased=False)
    Estimator(unbiased=False, halved=False, align=False)
    """

    unbiased: bool = True
    halved: bool = False
    align: bool = False


TWO_HALVES = Estimator()


def check_estimator(estimator: Estimator) -> None:
    """Raise `ValueError` unless `estimator` makes sense.

    >>> check_estimator(Estimator(unbiased=False, halved=True))
    Traceback (most recent call last):
    ...
    ValueError: halved says how slopes go with the two-half estimator of terms
    """
    if not isinstance(estimator, Estimator):
        raise ValueError(f"estimator must be an Estimator, got {estimator!r}")
    if estimator.halved and not estimator.unbiased:
        raise ValueError("halved says how slopes go with the two-half estimator of terms")


def regularized_gradients(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    terms: Players,
    estimator: Estimator = TWO_HALVES,
    **options: bool,
) -> Players:
    """(∇φL₁, ∇θL₂) with the terms of `ddlib.regularizers` added, on a minibatch.

    Args:
      game, players, memory: the game and its state.
      batch: of even size, if unbiased.
      terms: `Players` of `DriftTerms`. A coefficient that is None costs nothing: its term is not
        in the program. Numbers, zero included, are traced.
      estimator: how the terms are made of the batch.
      options: parts of the estimator by name, such as `unbiased=False`.

    Raises:
      ValueError: terms of the wrong structure, an odd batch, halves without `unbiased`,
        alignment of terms that are not those of `sga`, an unknown option.

    >>> from ddlib.gan import mlp_networks, saturating, start
    >>> from ddlib.regularizers import consensus
    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> found = regularized_gradients(game, players, memory, batch, consensus(0.0))
    >>> plain = gradients(game, players, memory, batch)
    >>> [bool(jnp.allclose(a, b)) for a, b in zip(*map(jax.tree.leaves, (found, plain)))][:3]
    [True, True, True]
    """
    estimator = estimator._replace(**options)
    slopes, extra, _ = slopes_and_terms(game, players, memory, batch, terms, estimator)
    return together(slopes, extra)


def slopes_and_terms(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    terms: Players,
    estimator: Estimator,
) -> tuple[Players, Players, PyTree]:
    """The game's own gradients, those of the terms (None for a player without), the statistics."""
    check_terms(terms)
    check_estimator(estimator)
    if estimator.unbiased:
        size = batch.real.shape[0]
        if size % 2:
            raise ValueError(f"the two-half estimator needs an even batch, got {size} samples")
        held = jax.tree.map(lambda x: x[: size // 2], batch)
        moved = jax.tree.map(lambda x: x[size // 2 :], batch)
        fixed, first = own_slopes(game, players, memory, held)
        if estimator.halved:
            value, second = own_slopes(game, players, memory, moved)
            slopes = jax.tree.map(lambda a, b: (a + b) / 2, fixed, value)
            statistics = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        else:
            slopes, statistics = own_slopes(game, players, memory, batch)
    else:
        moved = batch
        slopes, statistics = own_slopes(game, players, memory, batch)
        fixed = slopes

    def gradients_of(terms: Players) -> Players:
        given = (game, players, memory, moved, fixed)
        return Players(
            _extra(*given, terms.phi, "phi", "theta"), _extra(*given, terms.theta, "theta", "phi")
        )

    extra = gradients_of(terms)
    if estimator.align:
        if None in extra or terms.phi.other_norm is None:
            raise ValueError("alignment needs terms of both players, as regularizers.sga has them")
        uphill = gradients_of(consensus(0.5))  # ∇H
        strength = 4 * terms.phi.other_norm
        both = _inner(slopes, uphill) * _inner(extra, uphill)  # times the strength
        along = both / optax.tree.size(players) + strength * ALIGNMENT >= 0
        extra = jax.tree.map(lambda x: jnp.where(along, x, -x), extra)
    return slopes, extra, statistics


def together(slopes: Players, extra: Players) -> Players:
    """Slopes and terms together; a player without terms has None for them."""
    return Players(
        *(
            slope if more is None else jax.tree.map(jnp.add, slope, more)
            for slope, more in zip(slopes, extra, strict=True)
        )
    )


def _extra(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    fixed: Players,
    weights: DriftTerms,
    me: str,
    other: str,
) -> PyTree | None:
    """The gradient of one player's terms: products of Hessians with what is held constant.

    ∇φ of self_norm·‖∇φL₁‖² + interaction·⟨∇θL₁, [∇θL₂]⟩ is the derivative of ∇φL₁ along
    (2 self_norm·∇φL₁, interaction·∇θL₂), and that of other_norm·‖∇θL₂‖² the derivative of ∇φL₂
    along (0, 2 other_norm·∇θL₂).
    """
    own, interaction, norm = weights
    dtype = check_precision("players", players)

    def along(gradient: Callable[..., Players], mine: Any, theirs: Any) -> PyTree:
        direction = {
            name: optax.tree.scale(jnp.asarray(factor, dtype), getattr(fixed, name))
            for name, factor in ((me, mine), (other, theirs))
            if factor is not None
        }

        def at(moving: dict[str, PyTree]) -> PyTree:
            return getattr(gradient(game, players._replace(**moving), memory, batch), me)

        start = {name: getattr(players, name) for name in direction}
        return jax.jvp(at, (start,), (direction,))[1]

    mine = None if own is None else 2 * own
    parts = []
    if game.loss.zero_sum:  # ∇φL₂ = −∇φL₁
        theirs = None
        if interaction is not None or norm is not None:
            theirs = 0.0 if interaction is None else interaction
            theirs = theirs if norm is None else theirs - 2 * norm
        if mine is not None or theirs is not None:
            parts.append(along(gradients, mine, theirs))
    else:
        if mine is not None or interaction is not None:
            parts.append(along(gradients, mine, interaction))
        if norm is not None:
            parts.append(along(cross_gradients, None, 2 * norm))
    return jax.tree.map(lambda *xs: sum(xs), *parts) if parts else None


def _inner(a: PyTree, b: PyTree) -> Array:
    return optax.tree.sum(optax.tree.mul(a, b))
