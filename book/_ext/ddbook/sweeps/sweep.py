"""The tables of a sweep of GANs, and what is selected from them.

here, shown = sweep.open(run)
sweep.best(shown, arms.CANCELLED, "frechet_distance")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddbook import page
from ddbook.sweeps.arms import CANCELLED, EXACT, JOINT, Arm, name

if TYPE_CHECKING:
    import pandas as pd

TRAINED_BY = "train_gans"

SCORES = {  # column: (name, whether more is better)
    "inception_score": ("Inception score", True),
    "frechet_distance": ("Fréchet distance", False),
}

LOST = 1e6  # the distance that a diverged run counts as, where a mean or a quantile needs one
RUN = ["rate_phi", "rate_theta", "seed"]  # what tells an arm's runs apart


class Sweep(NamedTuple):
    """The tables of `train_gans` that a chapter shows: one row a run, one row a scoring."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    tables: tuple[page.Table, page.Table]

    @property
    def label(self) -> str:
        """A few words for a figure's title."""
        return self.tables[0].label


def open(
    run: page.Run, needed: Iterable[Arm] = (), *, trained_by: str = TRAINED_BY
) -> tuple[Sweep, Sweep]:
    """The sweep that is judged, this profile's, and the one that is shown.

    `trained_by` is the notebook that trained it. In the quick profile the published one is shown,
    unless it lacks one of the arms `needed`; else the two are the same. Both have the runs of
    `EXACT` where they can (see `exactly`).
    """
    here = _sweep(run.load("runs", trained_by), run.load("curves", trained_by))
    if run.profile == "quick":
        runs, curves = (run.published(table, trained_by) for table in ("runs", "curves"))
        if runs and curves:
            shown = _sweep(runs, curves)
            if set(needed) <= present(shown):
                return here, shown
    return here, here


def tables(*sweeps: Sweep) -> list[page.Table]:
    """The tables of sweeps, each once, for a page's card."""
    return list({id(table): table for one in sweeps for table in one.tables}.values())


def _sweep(runs: page.Table, curves: page.Table) -> Sweep:
    return exactly(Sweep(runs.frame, curves.frame, (runs, curves)))


def present(sweep: Sweep) -> set[Arm]:
    """The arms that a sweep has."""
    rows = sweep.runs[list(Arm._fields)].drop_duplicates()
    return {Arm(*row) for row in rows.itertuples(index=False)}


def has(sweep: Sweep, *arms: Arm) -> bool:
    """Whether a sweep has runs of all these arms."""
    return set(arms) <= present(sweep)


def available(sweep: Sweep, arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Those of the arms that the sweep has."""
    there = present(sweep)
    return {label: arm for label, arm in arms.items() if arm in there}


def restrict(sweep: Sweep, keep: Callable[[pd.DataFrame], Any]) -> Sweep:
    """The part of a sweep whose rows `keep` marks: a function from a table to truth values."""
    return sweep._replace(
        runs=sweep.runs[keep(sweep.runs)], curves=sweep.curves[keep(sweep.curves)]
    )


def level(sweep: Sweep) -> Sweep:
    """The part of a sweep at one rate for both players."""
    return restrict(sweep, lambda t: t["rate_phi"] == t["rate_theta"])


def uneven(sweep: Sweep) -> Sweep:
    """The part of a sweep at two different rates."""
    return restrict(sweep, lambda t: t["rate_phi"] != t["rate_theta"])


def common(sweep: Sweep, arms: Iterable[Arm]) -> Sweep:
    """The part of a sweep at those pairs of rates and seeds that all of the arms have."""
    found = [set(zip(*(arm.of(sweep.runs)[c] for c in RUN), strict=True)) for arm in arms]
    shared = set.intersection(*found) if found else set()
    return restrict(
        sweep, lambda t: [row in shared for row in zip(*(t[c] for c in RUN), strict=True)]
    )


def exactly(sweep: Sweep) -> Sweep:
    """The sweep with one more arm, `EXACT`: the runs whose terms cancel drift's on one clock.

    At one rate for both players these are the runs of `CANCELLED`, at two those of `JOINT`. A sweep
    that lacks one of them comes back as it was.
    """
    import pandas as pd

    if not has(sweep, CANCELLED, JOINT):
        return sweep

    def with_exact(table: pd.DataFrame) -> pd.DataFrame:
        own, joint = CANCELLED.of(table), JOINT.of(table)
        added = [
            own[own["rate_phi"] == own["rate_theta"]],
            joint[joint["rate_phi"] != joint["rate_theta"]],
        ]
        rows = [rows.assign(clock=EXACT.clock) for rows in added]
        return pd.concat([table, *rows], ignore_index=True)

    return sweep._replace(runs=with_exact(sweep.runs), curves=with_exact(sweep.curves))


def worst(score: str) -> float:
    """The worst that a score can be: a diverged run's."""
    return 1.0 if SCORES[score][1] else np.inf


def final(sweep: Sweep, arm: Arm, score: str) -> np.ndarray:
    """The last score of each run of an arm; a diverged run has the worst there can be."""
    return arm.of(sweep.runs)[score].fillna(worst(score)).to_numpy()


def best(sweep: Sweep, arm: Arm, score: str, share: float = 0.1) -> pd.DataFrame:
    """The curves of the best share of an arm's runs, by their best score after the start.

    Returns a table: index the step, columns the runs; a run that diverged has no score from there
    on. DD, Section 7: curves are those of the best tenth of the sweep over rates and seeds. Which
    runs these are is another matter for each score. Raises ValueError for an arm without runs.
    """
    mine = arm.of(sweep.curves)
    if mine.empty:
        raise ValueError(f"arm must have runs in the sweep, got {name(arm)!r}, which has no runs")
    wide = mine.pivot(index="step", columns=RUN, values=score)
    more = SCORES[score][1]
    trained = wide.iloc[1:]
    peak = trained.max() if more else trained.min()
    number = max(1, round(share * wide.shape[1]))
    return wide[peak.sort_values(ascending=not more, na_position="last").index[:number]]


def top(sweep: Sweep, arm: Arm, share: float = 0.1) -> dict[str, float]:
    """Mean last scores of the best share of an arm's runs, by score."""
    return {
        score: float(best(sweep, arm, score, share).iloc[-1].fillna(worst(score)).mean())
        for score in SCORES
    }


def outcomes(sweep: Sweep, arms: Iterable[Arm]) -> pd.DataFrame:
    """How the runs of each arm ended: a row an arm that the sweep has, by its name.

    `began` and `ended` are medians of the Fréchet distance, `farther` is how many runs ended
    farther than they began, diverged ones included.
    """
    import pandas as pd

    there, rows = present(sweep), []
    for arm in dict.fromkeys(arm for arm in arms if arm in there):
        mine = arm.of(sweep.curves)
        began = mine[mine["step"] == 0].set_index(RUN)["frechet_distance"]
        ended = arm.of(sweep.runs).set_index(RUN)["frechet_distance"]
        ended = ended.fillna(worst("frechet_distance")).reindex(began.index)
        rows.append(
            {
                "method": name(arm),
                "runs": len(began),
                "began": float(began.median()),
                "ended": float(ended.median()),
                "farther": int((ended > began).sum()),
                "diverged": int(np.isinf(ended).sum()),
            }
        )
    return pd.DataFrame(rows)


def spread(sweep: Sweep, arm: Arm) -> float:
    """Interquartile range of log10 of the last distance over an arm's runs.

    A diverged run counts as a distance of `LOST`.
    """
    values = np.log10(final(sweep, arm, "frechet_distance").clip(max=LOST))
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])))


def seed_ranges(sweep: Sweep, arm: Arm) -> pd.Series:
    """log10 of the largest over the smallest last distance over seeds, for each pair of rates.

    A pair of rates at which a run diverged has none.
    """
    runs = arm.of(sweep.runs)
    groups = np.log10(runs["frechet_distance"]).groupby([runs["rate_phi"], runs["rate_theta"]])
    whole = groups.count() == groups.size()
    return (groups.max() - groups.min())[whole]


def contrast(runs: pd.DataFrame, fixed: str, cut: float = 0.5) -> pd.Series:
    """log10 of the distance at ratios α/λ up to a cut, one half, over that above, each a median.

    One value for each rate of the player whose rate is `fixed` ("rate_phi" or "rate_theta") and
    each seed that have ratios on both sides; a diverged run's distance is infinite.
    """
    above = runs["rate_phi"] > cut * runs["rate_theta"] * (1 + 1e-9)
    wide = (
        runs.assign(above=above)
        .fillna({"frechet_distance": np.inf})
        .pivot_table(
            index=[fixed, "seed"], columns="above", values="frechet_distance", aggfunc="median"
        )
        .reindex(columns=[False, True])
        .dropna()
    )
    with np.errstate(invalid="ignore"):  # both lost: no number, and no case of either
        return np.log10(wide[False]) - np.log10(wide[True])
