"""A game of networks on a minibatch: its losses, and what each player descends along."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ddlib._check import as_real, check_precision
from ddlib.frozen import hold
from ddlib.games import Players
from ddlib.gan.loss import Loss
from ddlib.gan.networks import Networks


class Game(NamedTuple):
    """Networks and their loss.

    >>> from ddlib.gan import mlp_networks, saturating
    >>> Game(mlp_networks(), saturating()).loss.name
    'saturating'
    """

    networks: Networks
    loss: Loss


class Memory(NamedTuple):
    """What the networks remember and no player's gradient moves.

    `vectors` of the discriminator's power iteration; `statistics` of the generator's batch norm.
    """

    vectors: PyTree
    statistics: PyTree


class Batch(NamedTuple):
    """A minibatch: real samples (n, …) and latents (n, latents); `mix` (n,) in [0, 1] places the
    points of a gradient penalty."""

    real: Array
    z: Array
    mix: Array


def check_game(game: Game) -> None:
    """Raise `ValueError` unless `game` is two networks and a loss.

    >>> from ddlib.gan import mlp_networks
    >>> check_game(Game(mlp_networks(), "hinge"))
    Traceback (most recent call last):
    ...
    ValueError: game.loss must be a Loss, such as saturating(), got 'hinge'
    """
    if not isinstance(game, Game):
        raise ValueError(f"game must be a Game, got {game!r}")
    if not isinstance(game.networks, Networks):
        raise ValueError(f"game.networks must be Networks, got {game.networks!r}")
    if not isinstance(game.loss, Loss):
        raise ValueError(f"game.loss must be a Loss, such as saturating(), got {game.loss!r}")


def start(game: Game, key: Array) -> tuple[Players, Memory]:
    """The two networks at their start.

    >>> from ddlib.gan import mlp_networks, saturating
    >>> players, memory = start(Game(mlp_networks(), saturating()), jax.random.key(0))
    >>> sorted(players.phi)
    ['layer_0', 'layer_1', 'layer_2']
    """
    one, two = jax.random.split(key)
    phi, vectors = game.networks.phi.init(one)
    theta, statistics = game.networks.theta.init(two)
    return Players(phi, theta), Memory(vectors, statistics)


def losses(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(L₁, L₂) on a minibatch. With a zero-sum loss L₂ = −L₁.

    >>> from ddlib.gan import mlp_networks, saturating
    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> [x.item() for x in losses(game, players, memory, batch)]
    [1.386..., -1.386...]
    """
    return _losses(game, players, memory, batch)[0]


def _losses(game: Game, players: Players, memory: Memory, batch: Batch) -> tuple[Players, PyTree]:
    """Both losses, and the generator's statistics after its pass in training mode."""
    networks, loss = game
    dtype = check_precision("players and memory", (players, memory))
    batch = Batch(*(as_real(f"batch.{k}", x, dtype) for k, x in batch._asdict().items()))
    fake, statistics = networks.theta.apply(players.theta, memory.statistics, batch.z, True)
    judge = partial(networks.phi.apply, players.phi, memory.vectors)
    first = loss.phi(judge(batch.real), on_fake := judge(fake))
    if loss.gradient_penalty:
        mix = batch.mix.reshape(-1, *(1,) * (fake.ndim - 1))
        between = hold(batch.real + mix * (fake - batch.real))
        slopes = jax.grad(lambda x: judge(x).sum())(between)  # D takes each sample by itself
        norms = jnp.sqrt(jnp.sum(slopes.reshape(len(slopes), -1) ** 2, 1) + 1e-12)
        first += loss.gradient_penalty * jnp.mean((norms - 1) ** 2)
    second = -first if loss.zero_sum else loss.theta(on_fake)
    return Players(first, second), statistics


def gradients(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(∇φL₁, ∇θL₂) on a minibatch; one forward and one backward pass if the game is zero-sum.

    >>> from ddlib.gan import mlp_networks, saturating
    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> gradients(game, players, memory, batch).theta["layer_2"]["bias"].shape
    (2,)
    """
    return own_slopes(game, players, memory, batch)[0]


def own_slopes(
    game: Game, players: Players, memory: Memory, batch: Batch
) -> tuple[Players, PyTree]:
    """`gradients`, and the generator's statistics after its pass."""
    check_precision("players and memory", (players, memory))
    if game.loss.zero_sum:
        whole, statistics = jax.grad(
            lambda y: _first(*_losses(game, y, memory, batch)), has_aux=True
        )(players)
        return Players(whole.phi, optax.tree.scale(-1, whole.theta)), statistics
    # XLA finds that the two share their forward pass.
    phi = jax.grad(lambda p: losses(game, players._replace(phi=p), memory, batch).phi)(players.phi)
    theta, statistics = jax.grad(
        lambda p: _second(*_losses(game, players._replace(theta=p), memory, batch)), has_aux=True
    )(players.theta)
    return Players(phi, theta), statistics


def _first(both: Players, statistics: PyTree) -> tuple[Array, PyTree]:
    return both.phi, statistics


def _second(both: Players, statistics: PyTree) -> tuple[Array, PyTree]:
    return both.theta, statistics


def cross_gradients(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(∇φL₂, ∇θL₁), of a game that is not zero-sum."""
    return Players(
        jax.grad(lambda p: losses(game, players._replace(phi=p), memory, batch).theta)(players.phi),
        jax.grad(lambda p: losses(game, players._replace(theta=p), memory, batch).phi)(
            players.theta
        ),
    )
