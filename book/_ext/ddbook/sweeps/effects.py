"""How two methods are compared, and what a comparison says about a claim.

The one statistic is the mean over seeds of a number that each seed gives: as a rule the mean, over
the pairs of runs of a seed, of the logarithm of the ratio of two distances. Runs of one seed share
their start, so that seeds count, not runs. The page "How claims are judged" states the rule; the
numbers here are its numbers.

    found = effect(closer(sweep, one, other))
    closer_than(found, holm([found.chance, …])[0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddbook.sweeps.arms import Arm
from ddbook.sweeps.sweep import RUN, Sweep, has

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 8  # fewer settle nothing
LEVEL = 0.95  # of an interval; 1 − LEVEL is what a chance must be below
MARGIN = float(np.log(1.1))  # a method that is closer is closer by a tenth
EQUAL = float(np.log(1.25))  # two that are alike are alike to within a quarter
FAR = float(np.log(10.0))  # a logarithm of a ratio counts as no more than that, a lost run as that


class Comparison(NamedTuple):
    """Two arms and how they are compared: `closer`, `best`, `spreads`, or another such function."""

    words: str
    one: Arm
    other: Arm
    how: Callable[[Sweep, Arm, Arm], pd.DataFrame]


class Effect(NamedTuple):
    """The mean over seeds of a number, its interval, and the chance of so large a mean by none.

    `chance` is two-sided, of Student's test. Of a ratio's logarithm, `mean` below zero says that
    the first method is closer. With fewer than two seeds the interval is infinite.
    """

    mean: float
    low: float
    high: float
    chance: float
    seeds: int
    pairs: int


def effect(values: pd.DataFrame) -> Effect:
    """Return the effect of a table with the columns seed and value.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"seed": [1, 1, 2, 2], "value": [0.0, 2.0, 3.0, 3.0]})
    >>> found = effect(table)
    >>> found.mean, found.seeds, found.pairs, round(found.high, 2)
    (2.0, 2, 4, 14.71)
    """
    from scipy.stats import t

    if not np.isfinite(values["value"]).all():
        raise ValueError("values must be finite, got some that are not; a lost run has FAR")
    means = values.groupby("seed")["value"].mean().to_numpy()
    n, mean = len(means), float(means.mean()) if len(means) else 0.0
    if n < 2:
        return Effect(mean, -np.inf, np.inf, 1.0, n, len(values))
    error = float(means.std(ddof=1) / np.sqrt(n))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    chance = float(2 * t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    return Effect(mean, mean - half, mean + half, chance, n, len(values))


def mean_of(frame: pd.DataFrame, column: str = "value") -> Effect:
    """Return the effect of a column of numbers or truths; the other column is seed.

    >>> import pandas as pd
    >>> mean_of(pd.DataFrame({"seed": [1, 2], "up": [True, False]}), "up").mean
    0.5
    """
    return effect(frame[["seed"]].assign(value=frame[column].astype(float)))


def above(found: Effect, bound: float) -> bool | None:
    """Whether a mean is above a bound: its interval lies above it, below it, or neither.

    >>> above(Effect(0.5, 0.4, 0.6, 0.01, 5, 5), 0.3), above(Effect(0.5, 0.2, 0.8, 0.01, 5, 5), 0.3)
    (True, None)
    """
    return True if found.low > bound else False if found.high < bound else None


def below(found: Effect, bound: float) -> bool | None:
    """Whether a mean is below a bound, likewise."""
    return True if found.high < bound else False if found.low > bound else None


def closer(sweep: Sweep, one: Arm, other: Arm, score: str = "frechet_distance") -> pd.DataFrame:
    """The logarithm of the ratio of the last distances, pair by pair: same rates, same seed.

    Returns a table with the columns seed and value. A lost run is `FAR` farther than one that is
    not, and as far as another lost one.
    """
    ends = [arm.of(sweep.runs).set_index(RUN)[score].fillna(np.inf) for arm in (one, other)]
    both = ends[0].rename("one").to_frame().join(ends[1].rename("other"), how="inner")
    return ratios(both.reset_index())


def best(sweep: Sweep, one: Arm, other: Arm, score: str = "frechet_distance") -> pd.DataFrame:
    """The same of the smallest distances that each method has over its own rates, by seed."""
    least = [
        arm.of(sweep.runs).fillna({score: np.inf}).groupby("seed")[score].min()
        for arm in (one, other)
    ]
    both = least[0].rename("one").to_frame().join(least[1].rename("other"), how="inner")
    return ratios(both.reset_index())


def spreads(sweep: Sweep, one: Arm, other: Arm, score: str = "frechet_distance") -> pd.DataFrame:
    """How much more one method's distance hangs on the rates than another's, by seed.

    That is the difference of the standard deviations, over the rates that both have, of the
    logarithm of the distance, which counts as at most ten times the median of all.
    """
    import pandas as pd

    runs = [arm.of(sweep.runs).set_index(RUN)[score].fillna(np.inf) for arm in (one, other)]
    both = pd.concat(runs, axis=1, keys=["one", "other"], join="inner")
    middle = np.nanmedian(both.replace(np.inf, np.nan).to_numpy()) if len(both) else 1.0
    logs = np.log(both.clip(upper=10 * middle))
    deviations = pd.DataFrame(logs).groupby(level="seed").std(ddof=1).reset_index()
    return deviations[["seed"]].assign(value=deviations["one"] - deviations["other"])


def ratios(both: pd.DataFrame) -> pd.DataFrame:
    """The logarithm of the ratio of two distances, `one` and `other`; infinite is lost.

    >>> import pandas as pd
    >>> pairs = pd.DataFrame({"seed": [1, 2], "one": [2.0, np.inf], "other": [2.0, 1.0]})
    >>> ratios(pairs)["value"].round(2).tolist()
    [0.0, 2.3]
    """
    lost = np.isinf(both["one"]) & np.isinf(both["other"])
    with np.errstate(invalid="ignore"):
        value = np.log(both["one"]) - np.log(both["other"])
    value = value.mask(lost, 0.0).clip(-FAR, FAR)
    return both[["seed"]].assign(value=value)


def compare(sweep: Sweep, family: Sequence[Comparison]) -> pd.DataFrame:
    """A row for each comparison of a family: its effect, and its chance in the family.

    One whose arms the sweep lacks has no seeds, and counts in the family all the same.
    """
    import pandas as pd

    none = Effect(np.nan, -np.inf, np.inf, 1.0, 0, 0)
    found = [
        effect(one.how(sweep, one.one, one.other)) if has(sweep, one.one, one.other) else none
        for one in family
    ]
    table = pd.DataFrame(found, columns=list(Effect._fields))
    table.insert(0, "comparison", [one.words for one in family])
    return table.assign(chance_in_family=holm(table["chance"].tolist()))


def row(table: pd.DataFrame, words: str) -> tuple[Effect, float]:
    """The effect of a comparison in a table of `compare`, and its chance in the family."""
    [found] = table[table["comparison"] == words].to_dict("records")
    return Effect(*(found[field] for field in Effect._fields)), found["chance_in_family"]


def holm(chances: Sequence[float]) -> list[float]:
    """The chances of a family, adjusted for their number (Holm 1979).

    >>> [round(chance, 12) for chance in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(chances)
    adjusted, reached = [0.0] * len(chances), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(chances) - rank) * chances[i]))
        adjusted[i] = reached
    return adjusted


def closer_than(found: Effect, chance: float, margin: float = MARGIN) -> bool | None:
    """Whether the first method is closer by a margin: True, False, or None where it is open.

    True: the interval lies below zero, the mean reaches the margin, and `chance`, adjusted for the
    family, is small. False: the interval excludes so large a gain. None otherwise, and always with
    fewer than `SEEDS` seeds.
    """
    if found.seeds < SEEDS:
        return None
    if found.high < 0 and found.mean <= -margin and chance < 1 - LEVEL:
        return True
    return False if found.low > -margin else None


def alike(found: Effect, margin: float = EQUAL) -> bool | None:
    """Whether two methods are alike to within a margin: True, False, or None where it is open.

    True: the interval lies within the margin on both sides. False: it lies beyond on one side.
    """
    if found.seeds < SEEDS:
        return None
    if -margin < found.low and found.high < margin:
        return True
    return False if found.low > margin or found.high < -margin else None


def no_worse(found: Effect, margin: float = MARGIN) -> bool | None:
    """Whether the first method is no farther than the other by more than a margin."""
    if found.seeds < SEEDS:
        return None
    if found.high < margin:
        return True
    return False if found.low > margin else None


def all_of(verdicts: Sequence[bool | None]) -> bool | None:
    """What holds if all of several do: one that does not decides, else one that is open.

    >>> all_of([True, None]), all_of([None, False]), all_of([True, True])
    (None, False, True)
    """
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def numbers(found: Effect, chance: float | None = None) -> dict[str, Any]:
    """What a ledger shows of an effect: a factor of distances with its interval.

    `percent` is how much closer the first method is, in words' size: 12 for a factor of 0.88.
    """
    shown: dict[str, Any] = {
        "factor": float(np.exp(found.mean)),
        "factor_low": float(np.exp(found.low)),
        "factor_high": float(np.exp(found.high)),
        "seeds": found.seeds,
        "pairs": found.pairs,
        "chance": found.chance,
    }
    return shown if chance is None else {**shown, "chance_in_family": chance}
