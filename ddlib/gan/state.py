"""All that training carries from step to step, and its start."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ddlib._check import check_players, check_step_size, check_terms
from ddlib.games import Players
from ddlib.gan.game import Game, Memory, check_game, start
from ddlib.gan.rules import SIMULTANEOUS, Optimizers, Rule, Update, as_rule
from ddlib.regularizers import DriftTerms


class Setting(NamedTuple):
    """What a sweep varies: `Players` of rates and of `DriftTerms`; numbers or traced arrays.

    >>> Setting(Players(0.01, 0.02)).terms.phi.interaction
    0.0
    """

    rates: Players
    terms: Players = Players(DriftTerms(), DriftTerms())


class State(NamedTuple):
    """All that training carries: a pytree of arrays, whole in a checkpoint."""

    players: Players
    memory: Memory
    optimizers: Players | None  # optax states, or None for plain gradient descent
    velocity: Players | None  # the last slopes, of Adams and Bashforth's method; else None
    setting: Setting
    key: Array  # as raw data: of the minibatches and latents
    step: Array
    diverged_at: Array  # the first step after which a parameter was not finite, or −1


def init(
    game: Game,
    key: Array,
    setting: Setting,
    rule: Rule | Update = SIMULTANEOUS,
    optimizers: Optimizers | None = None,
    **parts: Any,
) -> State:
    """The state of training at its start.

    Args:
      game: networks and loss.
      key: PRNG key; networks, minibatches and latents all follow from it.
      setting: rates and terms.
      rule, parts: as given to `make_step`.
      optimizers: a part too.

    Raises:
      ValueError: no game, rates that are no `Players` of positive numbers, terms of the wrong
        structure or not finite, an update that makes no sense, optimizers that are no functions.

    >>> from ddlib.gan import mlp_networks, saturating
    >>> game = Game(mlp_networks(), saturating())
    >>> init(game, jax.random.key(0), Setting(Players(0.1, 0.1))).step.item()
    0
    """
    check_game(game)
    if optimizers is not None:
        parts = {**parts, "optimizers": optimizers}
    rule = as_rule(rule, **parts)
    if not isinstance(setting, Setting):
        raise ValueError(f"setting must be a Setting, got {setting!r}")
    check_players("setting.rates", setting.rates)
    check_step_size("setting.rates.phi", setting.rates.phi)
    check_step_size("setting.rates.theta", setting.rates.theta)
    for name, rate in setting.rates._asdict().items():
        if np.ndim(rate):
            raise ValueError(
                f"setting.rates.{name} must be one number, got shape {np.shape(rate)}; for many at "
                "once, jax.vmap"
            )
    check_terms(setting.terms)
    setting = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), setting)
    networks_key, data_key = jax.random.split(key)
    players, memory = start(game, networks_key)
    states = None
    if rule.optimizers is not None:
        states = Players(
            rule.optimizers.phi(setting.rates.phi).init(players.phi),
            rule.optimizers.theta(setting.rates.theta).init(players.theta),
        )
    velocity = None
    if rule.update.method == "adams-bashforth":
        velocity = jax.tree.map(jnp.zeros_like, players)
    return State(
        players,
        memory,
        states,
        velocity,
        setting,
        jax.random.key_data(data_key),
        jnp.zeros((), jnp.int32),
        jnp.full((), -1, jnp.int32),
    )


def check_state(game: Game, state: State, rule: Rule) -> None:
    """Raise `ValueError` for a state that was made for another game or way of training."""
    if not isinstance(state, State):
        raise ValueError(f"state must be a State, from init, got {type(state).__name__}")
    if not rule.terms and any(np.any(np.asarray(x)) for x in jax.tree.leaves(state.setting.terms)):
        raise ValueError("the state's setting has terms, and without terms=True they do nothing")
    if (rule.optimizers is None) != (state.optimizers is None):
        have = "none" if state.optimizers is None else "some"
        raise ValueError(f"init and training must get the same optimizers; the state has {have}")
    if (rule.update.method == "adams-bashforth") != (state.velocity is not None):
        raise ValueError(f"the state was made for another update than {rule.update.method}")

    def shapes(tree: PyTree) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}

    make = partial(init, game, setting=state.setting, rule=rule)
    wanted, found = shapes(jax.eval_shape(make, jax.random.key(0))), shapes(state)
    for path in wanted | found:
        if wanted.get(path) != found.get(path):
            raise ValueError(
                f"the state was made for another game or other optimizers: its {path} has shape "
                f"{found.get(path)}, here it is {wanted.get(path)}"
            )
