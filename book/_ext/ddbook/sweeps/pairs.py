"""Two arms of a sweep, run by run: the same rates, the same seed, hence the same start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbook.sweeps.arms import Arm, name
from ddbook.sweeps.sweep import LOST, RUN, SCORES, Sweep, has, top, worst

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


def paired(sweep: Sweep, one: Arm, other: Arm, score: str) -> pd.DataFrame:
    """The last scores of two arms, run by run: same rates, same seed, hence same start.

    Returns a table with the columns rate_phi, rate_theta, seed, one, other and gain, which is
    positive where `one` is better and zero where both diverged.
    """
    frames = []
    for side, arm in (("one", one), ("other", other)):
        runs = arm.of(sweep.runs).set_index(RUN)[score]
        frames.append(runs.fillna(worst(score)).rename(side))
    both = frames[0].to_frame().join(frames[1], how="inner").reset_index()
    sign = 1 if SCORES[score][1] else -1
    equal = both["one"] == both["other"]  # infinity less infinity is no number
    return both.assign(gain=(sign * (both["one"] - both["other"])).mask(equal, 0.0))


def log_ratio(both: pd.DataFrame) -> pd.Series:
    """log(one / other) of each pair of `paired` distances; a diverged run has one of `LOST`."""
    return np.log(both["one"].clip(upper=LOST)) - np.log(both["other"].clip(upper=LOST))


def median_ratio(both: pd.DataFrame) -> float:
    """The median over pairs of `one` over `other`, from a table of `paired` scores."""
    return float((both["one"] / both["other"]).median())


def tally(both: pd.DataFrame) -> dict[str, Any]:
    """In how many pairs of runs there is a gain, and how likely that is by chance (see `judge`).

    `both` is a table of `paired`, or any with the columns seed and gain.
    """
    majorities = np.sign(both["gain"]).groupby(both["seed"]).sum()
    return {
        "better_pairs": int((both["gain"] > 0).sum()),
        "pairs": len(both),
        "chance": sign_test(both["gain"]),
        "every_seed": bool((majorities > 0).all()),
    }


def sign_test(gains: Any) -> float:
    """The probability that fair coins would show at least so many gains among the non-zero ones.

    Gains that are not a number do not count.

    >>> round(sign_test([1, 2, 3, -1]), 12)
    0.3125
    """
    from scipy.stats import binomtest

    gains = np.asarray(gains, float)
    up, n = int(np.sum(gains > 0)), int(np.sum(gains > 0) + np.sum(gains < 0))
    return float(binomtest(up, n, alternative="greater").pvalue) if n else 1.0


def judge(sweep: Sweep, one: Arm, other: Arm, share: float = 0.1) -> dict[str, Any]:
    """What is to be known about `one` being better than `other`, for a claim's record.

    `best_better`: the best share of `one` has the higher Inception score and the smaller Fréchet
    distance. `chance`: of as many pairs, or more, in which `one` ends closer, were it a coin.
    Pairs of one seed share their start, so that the coins are not independent; hence `every_seed`:
    in each seed more pairs are better than worse.
    """
    a, b = top(sweep, one, share), top(sweep, other, share)
    return {  # first what a page shows beside a verdict
        **tally(paired(sweep, one, other, "frechet_distance")),
        "inception": a["inception_score"],
        "inception_other": b["inception_score"],
        "frechet": a["frechet_distance"],
        "frechet_other": b["frechet_distance"],
        "best_better": a["inception_score"] > b["inception_score"]
        and a["frechet_distance"] < b["frechet_distance"],
    }


def improves(found: Mapping[str, Any]) -> bool:
    """The predicate of DD's Figure 5, left, and of the claims that refer to it, from `judge`."""
    return bool(found["best_better"] and found["chance"] < 0.01 and found["every_seed"])


def by_rates(both: pd.DataFrame, resamples: int = 9999) -> dict[str, Any]:
    """Whether what is gained hangs on the rates, from a table of `paired` Fréchet distances.

    `better_rates` and `worse_rates` are the pairs of rates at which the first arm ends closer,
    or farther, in every seed. `rates_chance` is the share of permutations of the runs over the
    rates whose means of `log_ratio` are as far apart as these (largest less smallest). Raises
    ValueError for a pair of rates with one seed only: there is nothing to permute.
    """
    from scipy.stats import permutation_test

    groups = log_ratio(both).groupby([both["rate_phi"], both["rate_theta"]])

    def gap(*samples: Any, axis: int) -> Any:
        means = np.stack([np.mean(x, axis=axis) for x in samples])
        return means.max(axis=0) - means.min(axis=0)

    found = permutation_test(
        [group.to_numpy() for _, group in groups],
        gap,
        vectorized=True,
        n_resamples=resamples,
        alternative="greater",
        rng=0,
    )
    return {
        "better_rates": int((groups.max() < 0).sum()),
        "worse_rates": int((groups.min() > 0).sum()),
        "rates": groups.ngroups,
        "rates_chance": float(found.pvalue),
    }


def compare(sweep: Sweep, pairs: Iterable[tuple[Arm, Arm]]) -> pd.DataFrame:
    """A row for each pair of arms that the sweep has: how often the first is the better one."""
    import pandas as pd

    rows = []
    for one, other in pairs:
        if has(sweep, one, other):
            both = paired(sweep, one, other, "frechet_distance")
            found = tally(both)
            rows.append(
                {
                    "better?": name(one),
                    "than": name(other),
                    "pairs": found["pairs"],
                    "better in": found["better_pairs"],
                    "chance": found["chance"],
                    "in every seed": found["every_seed"],
                    "median ratio of distances": median_ratio(both),
                }
            )
    return pd.DataFrame(rows)


def style(compared: pd.DataFrame) -> Styler:
    """The table of `compare` as a page shows it."""
    styler = compared.style.format(precision=2).hide(axis="index")
    styler = styler.set_table_attributes('class="dataframe"')  # themes know it, dark ones too
    if not len(compared):
        return styler
    named: list[Any] = ["better?", "than"]
    names = {"text-align": "left", "white-space": "normal"}  # else the numbers are out of sight
    styler = styler.format("{:.2g}", subset=["chance"]).set_properties(named, **names)
    return styler.map_index(lambda c: "text-align: left" if c in named else "", axis="columns")


def apart(sweep: Sweep, one: Arm, other: Arm) -> pd.DataFrame:
    """How far two arms' runs have parted at each scoring: |log of the ratio of the distances|.

    Returns a table with the columns rate_phi, rate_theta, seed, step and apart; a diverged run has
    a distance of `LOST` from there on.
    """
    return _apart(_distances(sweep, one), _distances(sweep, other), [*RUN, "step"])


def seeds_apart(sweep: Sweep, arm: Arm) -> pd.DataFrame:
    """The same between each two seeds of an arm at the same rates.

    Returns a table with the columns rate_phi, rate_theta, step, seed_one, seed_other and apart.
    """
    mine = _distances(sweep, arm)
    both = _apart(mine, mine, ["rate_phi", "rate_theta", "step"])
    return both[both["seed_one"] < both["seed_other"]].reset_index(drop=True)


def _distances(sweep: Sweep, arm: Arm) -> pd.DataFrame:
    mine = arm.of(sweep.curves)
    wide = mine.pivot(index=RUN, columns="step", values="frechet_distance")
    return wide.fillna(np.inf).reset_index().melt(RUN, value_name="frechet_distance")


def _apart(one: pd.DataFrame, other: pd.DataFrame, shared: list[str]) -> pd.DataFrame:
    both = one.merge(other, on=shared, suffixes=("_one", "_other"))
    ends = {"one": both.pop("frechet_distance_one"), "other": both.pop("frechet_distance_other")}
    return both.assign(apart=log_ratio(both.assign(**ends)).abs())
