"""Arms of a sweep of GANs: what a run is, apart from its rates and its seed.

An arm's fields are columns of the sweep's tables. Comparisons and colours select by them, and
`name` makes of them what a reader sees.

>>> name(CANCELLED._replace(players="phi", strength=2.0))
'cancelled, discriminator × 2'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddbook import page

if TYPE_CHECKING:
    import pandas as pd

COLORS = {
    "simultaneous": page.COLORS["simultaneous"],
    "alternating": page.COLORS["alternating"],
    "rk4": page.COLORS["rk4"],
    "cancel": page.COLORS["regularized"],
    "joint": page.COLORS["modified"],
    "phi": page.COLORS["published"],
    "theta": page.COLORS["heun"],
    "SGA": page.COLORS["published"],
    "consensus": page.COLORS["modified"],
    "drift consensus": page.COLORS["modified"],
    "Adam": page.COLORS["midpoint"],
}
"""A colour for each value of a field that may decide it."""

PLAYERS = {"phi": "discriminator", "theta": "generator"}


class Arm(NamedTuple):
    """What a run is; its defaults are plain simultaneous gradient descent.

    Attributes:
      loss: "saturating", "non-saturating" or "least squares".
      update: "simultaneous", "alternating" or "rk4".
      updates_phi, updates_theta: updates of each player a turn, DD's m and k.
      terms: of explicit regularisation: "none", "cancel", "SGA", "consensus", or "drift consensus",
        which is consensus optimisation with the strengths of drift.
      players: whose loss has the terms: "none", "both", "phi" or "theta".
      strength: of "cancel" and "drift consensus" in units of drift's own coefficients, of the
        others the coefficient itself.
      clock: of the coefficients that cancel: "own", as published, or "joint"; "none" of others.
        "exact" is no column's value; see `ddbook.sweeps.sweep.exactly`.
      optimizer: "gradient descent" or "Adam".
      estimator: the players' own gradients are of the "whole" minibatch, or means over its
        "halves".
      nudge: every parameter at the start is larger by so many float32 roundings of itself.
      grid: the part of the sweep: "main", "paper's rates", "ratios", "long" for longer runs, or
        "full size".
    """

    loss: str = "saturating"
    update: str = "simultaneous"
    updates_phi: int = 1
    updates_theta: int = 1
    terms: str = "none"
    players: str = "none"
    strength: float = 0.0
    clock: str = "none"
    optimizer: str = "gradient descent"
    estimator: str = "whole"
    nudge: int = 0
    grid: str = "main"

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a sweep's table that are this arm's."""
        found = table
        for column, value in zip(self._fields, self, strict=True):
            found = found[found[column] == value]
        return found


SIMULTANEOUS = Arm()
ALTERNATING = Arm(update="alternating")
RK4 = Arm(update="rk4")
ADAM = Arm(update="alternating", optimizer="Adam")
CANCELLED = Arm(terms="cancel", players="both", strength=1.0, clock="own")
JOINT = CANCELLED._replace(clock="joint")
DISCRIMINATOR = CANCELLED._replace(players="phi")
GENERATOR = CANCELLED._replace(players="theta")
EXACT = CANCELLED._replace(clock="exact")
BOTH_AFTER = CANCELLED._replace(update="alternating")
DISCRIMINATOR_AFTER = DISCRIMINATOR._replace(update="alternating")


def adjusted(terms: str, strength: float, **others: Any) -> Arm:
    """Return the arm with "SGA", "consensus" or "drift consensus" of a strength.

    >>> adjusted("SGA", 0.1).players
    'both'
    """
    return Arm(terms=terms, players="both", strength=strength, **others)


def name(arm: Arm) -> str:
    """Return what a table shows for an arm.

    >>> name(Arm(loss="least squares", update="alternating"))
    'least squares alternating'
    """
    whose = PLAYERS.get(arm.players, "")
    if arm.optimizer == "Adam":
        words = "Adam"
    elif arm.terms == "none":
        words = "RK4" if arm.update == "rk4" else arm.update
        if (arm.updates_phi, arm.updates_theta) != (1, 1):
            words += f" ({arm.updates_phi}, {arm.updates_theta})"
    elif arm.terms == "cancel" and arm.update == "simultaneous":
        words = f"cancelled, {whose}" if whose else "cancelled"
        words += f" × {arm.strength:g}" if arm.strength != 1 else ""
    elif arm.terms == "cancel":
        words = f"{arm.update}, {whose or 'both'} cancelled"
    elif arm.terms == "drift consensus":
        words = "consensus, drift's strength"
    else:
        words = f"{arm.terms} {arm.strength:g}"
    words += {"joint": ", joint clock", "exact": " on one clock"}.get(arm.clock, "")
    words += ", two halves" if arm.estimator == "halves" else ""
    words += f", nudged {'up' if arm.nudge > 0 else 'down'}" if arm.nudge else ""
    if arm.grid == "full size":
        words = f"full size {words}"
    elif arm.grid != "main":
        words += f", {arm.grid}"
    return words if arm.loss == "saturating" else f"{arm.loss} {words}"


def color_of(arm: Arm) -> str:
    """Return the colour of an arm, by its most telling field.

    >>> color_of(JOINT) == COLORS["joint"], color_of(DISCRIMINATOR_AFTER) == COLORS["phi"]
    (True, True)
    """
    if arm.clock == "joint":
        return COLORS["joint"]
    if arm.players in PLAYERS:
        return COLORS[arm.players]
    for value in (arm.terms, arm.optimizer, arm.update):
        if value in COLORS:
            return COLORS[value]
    return page.COLORS["flow"]
