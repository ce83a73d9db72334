"""Training of a game from a state to a step, and samples of its generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ddlib import loop
from ddlib._check import as_real, check_count, check_precision
from ddlib.gan.game import Batch, Game
from ddlib.gan.rules import SIMULTANEOUS, Rule, Update, as_rule
from ddlib.gan.state import State, check_state
from ddlib.gan.steps import make_step


def draw_batches(
    data: Array, state: State, latents: int, batch_size: int, num_batches: int
) -> Batch:
    """Minibatches of one step, all from the state's key and step.

    Args:
      data: real samples, scaled as the generator's are; drawn with replacement.
      state: whose key and step say which.
      latents, batch_size, num_batches: sizes.

    Returns:
      A `Batch` of arrays with leading axes (num_batches, batch_size); latents are normal numbers.

    >>> from ddlib.gan import Setting, init, mlp_networks, saturating
    >>> from ddlib.games import Players
    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> draw_batches(jnp.zeros((10, 2)), state, 32, 4, 1).z.shape
    (1, 4, 32)
    """
    dtype = check_precision("state.players", state.players)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    which, noise, mix = jax.random.split(key, 3)
    shape = (num_batches, batch_size)
    return Batch(
        as_real("data", data, dtype)[jax.random.randint(which, shape, 0, len(data))],
        jax.random.normal(noise, (*shape, latents), dtype),
        jax.random.uniform(mix, shape, dtype),
    )


@lru_cache(maxsize=64)
def _advance(
    step: Callable[[State, Batch], State],
    latents: int,
    batch_size: int,
    num_batches: int,
    convolutional: bool,
) -> Callable[[int, int, State, Array], State]:
    """Many of a step, each on minibatches of its own: one program for all calls of `train`."""

    def one(t: Array, state: State, data: Array) -> State:
        return step(state, draw_batches(data, state, latents, batch_size, num_batches))

    return loop.compiled(one, convolutional=convolutional)


def train(
    game: Game,
    state: State,
    data: Array,
    num_steps: int,
    *,
    rule: Rule | Update = SIMULTANEOUS,
    batch_size: int = 128,
    every: int = 1,
    observe: Callable[[State], PyTree] = lambda state: {},
    report: Callable[[int], None] | None = None,
    **parts: Any,
) -> tuple[State, list[PyTree]]:
    """Train from `state` up to step `num_steps`.

    Args:
      game: networks and loss.
      state: from `init`, or from an earlier call: then only the steps that are left are taken, and
        the trajectory is the same to the bit.
      data: real samples, leading axis the sample, scaled as the generator's: images in [−1, 1].
      num_steps: the step to end at; with the state's own step a multiple of `every` apart.
      rule, parts: as `make_step`.
      batch_size: of each minibatch.
      every: steps between observations.
      observe: what is kept, from the state before the first and after each `every` steps; it may
        do anything on the host.
      report: called with the step after each observation.

    Returns:
      The state and the observations. A run that diverges ends at the next observation, which is
      its last; `state.diverged_at` says at which step it did.

    Raises:
      ValueError: data of another shape than the generator's samples, a batch size that will not do,
        steps that do not divide, a state that was made for something else (terms that the program
        would leave out, another update or other optimizers); before anything is compiled.

    >>> from ddlib.gan import Setting, init, mlp_networks, saturating
    >>> from ddlib.games import Players
    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> state, seen = train(game, state, jnp.zeros((10, 2)), 4, batch_size=6, every=2,
    ...                     observe=lambda state: state.step.item())
    >>> seen
    [0, 2, 4]
    """
    rule = as_rule(rule, **parts)
    step = make_step(game, rule)
    check_state(game, state, rule)
    shape = game.networks.theta.shape
    if jnp.shape(data)[1:] != shape or game.networks.phi.shape != shape:
        raise ValueError(
            f"data must have shape (n, {', '.join(map(str, shape))}) and fit both networks, got "
            f"{jnp.shape(data)} and a discriminator of {game.networks.phi.shape}"
        )
    data = as_real("data", data, check_precision("state.players", state.players))
    if not len(data):
        raise ValueError("data must have samples, got none")
    check_count("batch_size", batch_size)
    if rule.terms and rule.estimator.unbiased and batch_size % 2:
        raise ValueError(f"batch_size must be even for the two-half estimator, got {batch_size}")
    check_count("every", every)
    check_count("num_steps", num_steps, least=0)
    first = int(state.step)
    if first > num_steps or (num_steps - first) % every:
        raise ValueError(
            f"num_steps must lie a multiple of every={every} beyond step {first}, got {num_steps}"
        )
    advance = _advance(
        step, game.networks.theta.latents, batch_size, rule.update.num_batches, len(shape) == 3
    )
    return loop.watch(
        lambda begin, end, state: advance(begin, end, state, data),
        state,
        range(first, num_steps + 1, every),
        observe=observe,
        ended=lambda state: int(state.diverged_at) >= 0,
        report=report,
    )


@lru_cache(maxsize=64)
def _sampler(game: Game, num_samples: int, running: bool) -> Callable[..., Array]:
    def draw(theta: PyTree, statistics: PyTree, key: Array) -> Array:
        dtype = check_precision("state.players.theta", theta)
        z = jax.random.normal(key, (num_samples, game.networks.theta.latents), dtype)
        return game.networks.theta.apply(theta, statistics, z, not running)[0]

    return jax.jit(draw)


def sample(
    game: Game,
    state: State,
    key: Array,
    num_samples: int,
    *,
    running: bool = False,
    batch_size: int = 250,
) -> Float[np.ndarray, "n ..."]:
    """Samples of the generator, in its own scale: images in [−1, 1].

    Args:
      game, state: what is trained.
      key: PRNG key of the latents.
      num_samples: how many.
      running: whether batch norm uses its running statistics, which lag by a thousand steps; else
        it uses those of each batch of samples.
      batch_size: samples made at once.

    Raises:
      ValueError: numbers that are not positive integers; running statistics before the first step,
        when there are none.

    >>> from ddlib.gan import Setting, init, mlp_networks, saturating
    >>> from ddlib.games import Players
    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> sample(game, state, jax.random.key(1), 5).shape
    (5, 2)
    """
    check_count("num_samples", num_samples)
    check_count("batch_size", batch_size)
    if running and not int(state.step):
        raise ValueError("there are no running statistics before the first step of training")
    draw = _sampler(game, min(batch_size, num_samples), running)
    made = [
        np.asarray(draw(state.players.theta, state.memory.statistics, jax.random.fold_in(key, i)))
        for i in range(-(-num_samples // batch_size))
    ]
    return np.concatenate(made)[:num_samples]
