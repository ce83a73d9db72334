"""One step of training: each player's move, or both players' by one slope."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from ddlib._check import check_precision
from ddlib.games import Players
from ddlib.gan.game import Batch, Game, check_game, own_slopes
from ddlib.gan.rules import SIMULTANEOUS, TABLEAUX, Rule, Update, as_rule
from ddlib.gan.slopes import slopes_and_terms, together
from ddlib.gan.state import State
from ddlib.methods import Tableau

SWEEPS = 4  # of the fixed-point iteration of the implicit midpoint rule


def make_step(
    game: Game, rule: Rule | Update = SIMULTANEOUS, **parts: Any
) -> Callable[[State, Batch], State]:
    """One step of training: a function (state, batches) -> state, to be jitted by the caller.

    The power iteration of the discriminator takes one step a step, on the parameters it starts
    with; the generator's passes use it and leave it. The generator's statistics move with the
    generator's own passes alone.

    Args:
      game: networks and loss.
      rule: how the game is trained; an `Update` stands for a rule of nothing else.
      parts: fields of `Rule` and of its `Estimator` by name, such as `terms=True`.

    Returns:
      step(state, batches): batches is a `Batch` whose arrays have a leading axis of
      `rule.update.num_batches`. The function is cached: equal arguments give the same one.

    Raises:
      ValueError: no game, or a rule that makes no sense: see `as_rule`.

    >>> from ddlib.gan import Setting, init, mlp_networks, saturating
    >>> game = Game(mlp_networks(), saturating())
    >>> step = make_step(game, Update("alternating"))
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> batches = Batch(jnp.ones((2, 4, 2)), jnp.ones((2, 4, 32)), jnp.ones((2, 4)))
    >>> step(state, batches).step.item()
    1
    """
    check_game(game)
    return _make_step(game, as_rule(rule, **parts))


@lru_cache(maxsize=64)
def _make_step(game: Game, rule: Rule) -> Callable[[State, Batch], State]:
    update = rule.update
    move = {"simultaneous": _simultaneous, "alternating": _alternating}.get(update.method, _joint)

    def step(state: State, batches: Batch) -> State:
        if batches.real.shape[:1] != (update.num_batches,):
            raise ValueError(
                f"batches must have a leading axis of {update.num_batches} for {update}, got "
                f"shape {batches.real.shape}"
            )
        check_precision("players and memory", (state.players, state.memory))
        vectors = game.networks.phi.refresh(state.players.phi, state.memory.vectors)
        after = move(game, rule, state, batches)
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(after.players)]).all()
        return after._replace(
            memory=after.memory._replace(vectors=vectors),
            step=state.step + 1,
            diverged_at=jnp.where(
                finite | (state.diverged_at >= 0), state.diverged_at, state.step + 1
            ),
        )

    return step


def _slopes(
    game: Game, rule: Rule, state: State, players: Players, batch: Batch, terms: bool
) -> tuple[Players, PyTree]:
    """The slopes of `players`, with the setting's terms or without, and the statistics."""
    if not terms:
        return own_slopes(game, players, state.memory, batch)
    own, extra, statistics = slopes_and_terms(
        game, players, state.memory, batch, state.setting.terms, rule.estimator
    )
    return together(own, extra), statistics


def _descend(rule: Rule, state: State, player: str, slope: PyTree, parts: int = 1) -> State:
    """One player's update by its own slope, at the parts-th part of its rate."""
    mine = getattr(state.players, player)
    rate = jnp.asarray(getattr(state.setting.rates, player), check_precision(player, mine))
    rate = rate / parts
    states = state.optimizers
    if rule.optimizers is None:
        moved = optax.tree.sub(mine, optax.tree.scale(rate, slope))
    else:
        change, kept = getattr(rule.optimizers, player)(rate).update(
            slope, getattr(states, player), mine
        )
        moved = optax.apply_updates(mine, change)
        states = states._replace(**{player: kept})  # type: ignore[union-attr]
    return state._replace(players=state.players._replace(**{player: moved}), optimizers=states)


def _simultaneous(game: Game, rule: Rule, state: State, batches: Batch) -> State:
    slope, statistics = _slopes(game, rule, state, state.players, _at(batches, 0), rule.terms)
    for player in ("phi", "theta"):
        state = _descend(rule, state, player, getattr(slope, player))
    return _with_statistics(state, statistics)


def _alternating(game: Game, rule: Rule, state: State, batches: Batch) -> State:
    number = 0
    for player in ("phi", "theta") if rule.update.first == "phi" else ("theta", "phi"):
        parts = getattr(rule.update.num_updates, player)
        for _ in range(parts):
            # The other player's half of the pass is not in the program: nothing uses it.
            slope, statistics = _slopes(
                game, rule, state, state.players, _at(batches, number), rule.terms
            )
            state = _descend(rule, state, player, getattr(slope, player), parts)
            if player == "theta":
                state = _with_statistics(state, statistics)
            number += 1
    return state


def _joint(game: Game, rule: Rule, state: State, batches: Batch) -> State:
    """Both players by one slope, made of those at one or several places."""
    rates, players, velocity = state.setting.rates, state.players, state.velocity
    at = partial(_slopes, game, rule, state)
    if rule.update.method == "adams-bashforth":
        first, statistics = at(players, _at(batches, 0), rule.terms)
        started = state.step == 0
        slope = jax.tree.map(
            lambda new, old: jnp.where(started, new, 1.5 * new - 0.5 * old), first, velocity
        )
        velocity = first
    elif rule.update.method == "midpoint":
        slope, statistics = at(players, _at(batches, 0), False)
        half = jax.tree.map(lambda r: r / 2, rates)
        for _ in range(SWEEPS):
            middle = _moved(players, half, slope)
            slope, statistics = at(middle, _at(batches, 0), rule.terms)
    else:
        slope, statistics = _stages(at, TABLEAUX[rule.update.method], rates, players, batches)
        if rule.terms:
            given = (players, state.memory, _at(batches, 0), state.setting.terms)
            _, extra, _ = slopes_and_terms(game, *given, rule.estimator)
            slope = together(slope, extra)
    state = state._replace(players=_moved(players, rates, slope), velocity=velocity)
    return _with_statistics(state, statistics)


def _stages(
    at: Callable[..., tuple[Players, PyTree]],
    tableau: Tableau,
    rates: Players,
    players: Players,
    batches: Batch,
) -> tuple[Players, PyTree]:
    """The mean slope of a Runge–Kutta step, a fresh minibatch a stage, and the mean statistics."""
    stages: list[Players] = []
    total = None
    for i, row in enumerate(tableau.a):
        place = players
        for node, stage in zip(row, stages, strict=True):
            if node:
                place = _moved(place, jax.tree.map(lambda r, node=node: r * node, rates), stage)
        stage, seen = at(place, _at(batches, i), False)
        stages.append(stage)
        total = seen if total is None else jax.tree.map(jnp.add, total, seen)
    statistics = jax.tree.map(lambda x: x / len(stages), total)
    slope = jax.tree.map(
        lambda *xs: sum(w * x for w, x in zip(tableau.b, xs, strict=True)), *stages
    )
    return slope, statistics


def _moved(players: Players, rates: Players, slopes: Players) -> Players:
    """Each player, moved by its rate down its own slope."""
    dtype = check_precision("players", players)
    rates = jax.tree.map(lambda x: jnp.asarray(x, dtype), rates)
    return Players(
        *(
            optax.tree.sub(x, optax.tree.scale(r, s))
            for x, r, s in zip(players, rates, slopes, strict=True)
        )
    )


def _with_statistics(state: State, statistics: PyTree) -> State:
    return state._replace(memory=state.memory._replace(statistics=statistics))


def _at(batches: Batch, number: int) -> Batch:
    return jax.tree.map(lambda x: x[number], batches)
