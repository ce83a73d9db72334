"""How a game is trained: the static side of training, one object that is passed whole.

>>> Rule(Update("alternating"), terms=True).update.num_batches
2
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ddlib._check import check_count, check_players
from ddlib.games import Players
from ddlib.gan.slopes import TWO_HALVES, Estimator, check_estimator
from ddlib.methods import HEUN, RK4

Method = Literal["simultaneous", "alternating", "heun", "rk4", "midpoint", "adams-bashforth"]
METHODS = ("simultaneous", "alternating", "heun", "rk4", "midpoint", "adams-bashforth")
TABLEAUX = {"heun": HEUN, "rk4": RK4}

Optimizers = Players
"""`Players` of functions from a rate to an optax transformation, such as `optax.sgd`."""


class Update(NamedTuple):
    """How the players move in one step of training.

    Attributes:
      method: "simultaneous"; "alternating", a player seeing the other's move; or, both jointly,
        "heun", "rk4" (a fresh minibatch a stage), "midpoint" (implicit, by fixed-point sweeps on
        one minibatch), "adams-bashforth" (of order 2; the first step is Euler's).
      num_updates: `Players` (m, k) of an alternating step, each on a fresh minibatch. Each moves
        by the whole rate divided by m or k, so that a step moves as far as one update would (DD,
        Eqs. 8–9).
      first: the player that moves first in an alternating step.

    >>> Update("alternating", Players(2, 1)).num_batches
    3
    """

    method: Method = "simultaneous"
    num_updates: Players = Players(1, 1)
    first: Literal["phi", "theta"] = "phi"

    @property
    def num_batches(self) -> int:
        """Minibatches that one step takes."""
        if self.method == "alternating":
            return sum(self.num_updates)
        return len(TABLEAUX[self.method].b) if self.method in TABLEAUX else 1


SIMULTANEOUS = Update()


def check_update(update: Update) -> None:
    """Raise `ValueError` unless `update` makes sense.

    >>> check_update(Update("simultaneous", Players(2, 1)))
    Traceback (most recent call last):
    ...
    ValueError: update.num_updates must be Players(1, 1) if simultaneous, got ...
    """
    if not isinstance(update, Update):
        raise ValueError(f"update must be an Update, got {update!r}")
    if update.method not in METHODS:
        raise ValueError(
            f"update.method must be one of {', '.join(METHODS)}, got {update.method!r}"
        )
    check_players("update.num_updates", update.num_updates)
    check_count("update.num_updates.phi", update.num_updates.phi)
    check_count("update.num_updates.theta", update.num_updates.theta)
    if update.method != "alternating" and tuple(update.num_updates) != (1, 1):
        raise ValueError(
            f"update.num_updates must be Players(1, 1) if {update.method}, got {update.num_updates}"
        )
    if update.first not in ("phi", "theta"):
        raise ValueError(f'update.first must be "phi" or "theta", got {update.first!r}')


class Rule(NamedTuple):
    """What of training is in the program; hashable, and equal rules share what is compiled.

    Rates and coefficients are numbers in the state instead (`Setting`), which a sweep may vary.

    Attributes:
      update: how the players move.
      terms: whether the setting's terms are in the program. In a "heun" or "rk4" step they enter
        once, as an Euler step on the first stage's minibatch (ODE-GAN, Algorithm 1); in a
        "midpoint" step they are part of the slope at the middle, in an "adams-bashforth" step of
        the slope that is taken and remembered.
      estimator: how they are made of a minibatch.
      optimizers: `Players` of functions from a rate to an optax transformation, for simultaneous
        and alternating updates; None is gradient descent.

    >>> Rule(Update("rk4"), terms=True, estimator=Estimator(unbiased=False)).optimizers is None
    True
    """

    update: Update = SIMULTANEOUS
    terms: bool = False
    estimator: Estimator = TWO_HALVES
    optimizers: Optimizers | None = None


def as_rule(rule: Rule | Update = SIMULTANEOUS, **parts: Any) -> Rule:
    """The rule that is meant, checked.

    Args:
      rule: a `Rule`, or an `Update` that stands for the rule of nothing else.
      parts: fields of `Rule`, or of its `Estimator`, that replace those of `rule`.

    Raises:
      ValueError: an unknown part, an update that makes no sense, alignment or halves
        without terms, optimizers that are no functions or go with a method that is no descent.

    >>> as_rule(Update("alternating"), terms=True, halved=True).estimator
    Estimator(unbiased=True, halved=True, align=False)
    """
    if not isinstance(rule, Rule):
        rule = Rule(rule)
    for name, value in parts.items():
        if name in Estimator._fields:
            rule = rule._replace(estimator=rule.estimator._replace(**{name: value}))
        else:
            rule = rule._replace(**{name: value})
    check_update(rule.update)
    check_estimator(rule.estimator)
    if rule.estimator.align and not rule.terms:
        raise ValueError("align gives terms their sign: it goes with terms=True")
    if rule.estimator.halved and not rule.terms:
        raise ValueError("halved is about slopes beside terms: it goes with terms=True")
    if rule.optimizers is not None:
        _check_optimizers(rule.optimizers)
        if rule.update.method not in ("simultaneous", "alternating"):
            raise ValueError(f"optimizers go with descent, not with {rule.update.method}")
    return rule


def _check_optimizers(optimizers: Optimizers) -> None:
    check_players("optimizers", optimizers)
    for name, make in optimizers._asdict().items():
        if not callable(make):
            raise ValueError(
                f"optimizers.{name} must be a function from a rate to an optax transformation, "
                f"such as optax.sgd, got {type(make).__name__}"
            )
