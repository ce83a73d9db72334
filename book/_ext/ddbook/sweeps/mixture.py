"""The runs on the mixture of sixteen Gaussians: which there are, when each is observed, how two
are compared.

A comparison cuts the longer of two runs where the shorter ends, after equally many steps or
gradient evaluations, and takes the mean over the last quarter of what is left. So each run is
observed at its end, on the way there, and in the last quarter before each such cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddbook.sweeps import effects
from ddlib import gan

if TYPE_CHECKING:
    import pandas as pd

METHODS = {  # of the library's: what figures call it, evaluations a step
    "simultaneous": ("Euler", 1),
    "alternating": ("alternating", 1),
    "adams-bashforth": ("AB2", 1),
    "heun": ("Heun", 2),
    "rk4": ("RK4", 4),
    "midpoint": ("midpoint, 5 sweeps", 1 + gan.SWEEPS),
    "released": ("released RK4", 4),
}
MAIN = "non-saturating"  # the loss of the released notebook
RATE = 0.1  # its step
SEEN = (2, 3, 4, 5, 6)  # seeds that were looked at before the rule of comparison was written
TOGETHER = {"simultaneous": 0.025, "rk4": 0.4}  # what comparisons rest on; their other step


class Arm(NamedTuple):
    """What all seeds of a run share."""

    method: str
    loss: str
    regularised: bool
    rate: float
    steps: int


def cost(method: str, regularised: bool) -> int:
    """The evaluations of both players' gradients in a step; the regulariser's product is one.

    >>> cost("rk4", False), cost("rk4", True)
    (4, 5)
    """
    products = gan.SWEEPS if method == "midpoint" else 1
    return METHODS[method][1] + products * regularised


def plan(settings: Any) -> list[Arm]:
    """All runs that the settings of `train_mixture` ask for; `ValueError` for unknown methods."""
    if unknown := set(settings.methods) - set(METHODS):
        raise ValueError(f"methods: there are {sorted(METHODS)}, not {sorted(unknown)}")
    arms = []
    for regularised in (False, True):
        for method in settings.methods:
            paid = cost(method, regularised)
            steps = settings.num_evaluations // paid
            longest = steps
            if regularised and method in TOGETHER:
                longest = max(steps, settings.long_steps)
            arms.append(Arm(method, MAIN, regularised, RATE, longest))
            arms += [
                Arm(method, MAIN, regularised, rate, settings.rate_steps) for rate in settings.rates
            ]
            if method in TOGETHER:
                arms.append(Arm(method, MAIN, regularised, TOGETHER[method], steps))
                steps = settings.loss_evaluations // paid
                arms += [Arm(method, loss, regularised, RATE, steps) for loss in settings.losses]
    return arms


def looks(steps: int, number: int) -> np.ndarray:
    """The steps at which a run of so many is observed: `number` of them, and its start.

    >>> looks(10, 4).tolist()
    [0, 2, 5, 8, 10]
    """
    return np.unique(np.linspace(0, steps, number + 1).round().astype(int))


def last_quarter(steps: int, number: int) -> np.ndarray:
    """Those of `looks` that lie in the last quarter of a run.

    >>> last_quarter(10, 4).tolist()
    [8, 10]
    """
    at = looks(steps, number)
    return at[at >= 0.75 * steps]


def observed(arm: Arm, arms: Sequence[Arm], settings: Any) -> list[int]:
    """When a run is observed: on its way, and where it is cut for a comparison.

    That is where another run of the same method, or of Euler or RK4, ends.
    """
    others = [
        other
        for other in arms
        if other.method in (arm.method, *TOGETHER) and other.steps != settings.rate_steps
    ]
    own = cost(arm.method, arm.regularised)
    cuts = {other.steps for other in others}
    cuts |= {x.steps * cost(x.method, x.regularised) // own for x in others}
    times = [looks(arm.steps, settings.num_looks), np.asarray(settings.spectra_at, int)]
    times += [last_quarter(end, settings.num_looks) for end in cuts]
    return [int(t) for t in np.unique(np.concatenate(times)) if t <= arm.steps]


def select(
    curves: pd.DataFrame,
    method: str,
    regularised: bool = False,
    *,
    rate: float = RATE,
    loss: str = MAIN,
) -> pd.DataFrame:
    """The rows of one run, all seeds; of two runs, those of the longer."""
    rows = curves[
        (curves.method == method)
        & (curves.regularised == regularised)
        & (curves.rate == rate)
        & (curves.loss == loss)
    ]
    if rows.empty:
        return rows
    return rows[rows.run == rows.run.iloc[int(rows.step.to_numpy().argmax())]]


def ending(
    rows: pd.DataFrame, num_looks: int, *, steps: int | None = None, evaluations: int | None = None
) -> pd.DataFrame:
    """Per seed, the means over the last quarter of a run, cut at some steps or evaluations.

    A run that is lost is infinitely far from the mixture. `ValueError` for one that was not
    observed where it is cut.
    """
    end = int(rows.step.max()) if steps is None else steps
    if evaluations is not None:
        end = int(evaluations * rows.step.max() // rows.evaluations.max())
    at = last_quarter(end, num_looks)
    if missing := sorted({int(t) for t in at} - set(rows.step)):
        raise ValueError(f"a run is cut at {end} steps, and was not observed at {missing}")
    last = rows[rows.step.isin(at)].fillna({"energy": np.inf})
    return last.groupby("seed")[["modes", "good", "energy"]].mean()


def closer(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The logarithm of the ratio of two runs' energy distances, a row for each fresh seed.

    Both are of `ending`; seeds of `SEEN` are left out. Returns the columns seed and value.
    """
    both = one["energy"].rename("one").to_frame().join(other["energy"].rename("other"), how="inner")
    return effects.ratios(both[~both.index.isin(SEEN)].reset_index())
