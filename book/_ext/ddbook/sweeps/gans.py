"""What the chapters on GANs share: the sweep's tables, and the ways to look at them.

sweep = gans.open(run)
gans.curves(ax, sweep, {"SGD": "simultaneous", "cancelled": "cancelled"})
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddbook import page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

COLORS = {
    "simultaneous": page.COLORS["simultaneous"],
    "alternating": page.COLORS["alternating"],
    "RK4": page.COLORS["rk4"],
    "cancelled": page.COLORS["regularized"],
    "joint clock": page.COLORS["modified"],
    "discriminator": page.COLORS["published"],
    "generator": page.COLORS["heun"],
    "consensus": page.COLORS["modified"],
    "SGA": page.COLORS["published"],
    "Adam": page.COLORS["midpoint"],
}

SCORES = {  # column: (name, whether more is better)
    "inception_score": ("Inception score", True),
    "frechet_distance": ("Fréchet distance", False),
}


LOST = 1e6  # the distance that a diverged run counts as, where a mean or a quantile needs one
RUN = ["rate_phi", "rate_theta", "seed"]  # what tells a method's runs apart
EXACT = "cancelled on one clock"


class Sweep(NamedTuple):
    """The tables of `train_gans` that a chapter shows: one row a run, one row a scoring."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    tables: tuple[page.Table, page.Table]

    @property
    def label(self) -> str:
        """A few words for a figure's title."""
        return self.tables[0].label


def open(run: page.Run, needed: Iterable[str] = ()) -> list[Sweep]:
    """The sweeps to show: this profile's, and in the quick one the published one after it.

    The published one is left out while it lacks one of the methods `needed`.
    """
    found = [(run.load("runs", "train_gans"), run.load("curves", "train_gans"))]
    if run.profile == "quick":
        runs, curves = (run.published(table, "train_gans") for table in ("runs", "curves"))
        if runs and curves and set(needed) <= set(runs.frame["method"]):
            found.append((runs, curves))
    return [Sweep(runs.frame, curves.frame, (runs, curves)) for runs, curves in found]


def published(run: page.Run) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    """The published runs of `train_gans` by the digest of their keys: (row of runs, its curve).

    The curve has the columns step and those of `SCORES`. Of the methods that share a run, the one
    with a picture of it counts. There are none where nothing is published, or no digests.
    """
    runs, curves = (run.published(table, "train_gans") for table in ("runs", "curves"))
    if runs is None or curves is None or "key" not in runs.frame:
        return {}
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]] = {}
    label = ["method", *RUN]
    by_run = {name: rows[["step", *SCORES]] for name, rows in curves.frame.groupby(label)}
    pictures_last = runs.frame.sort_values("picture", key=lambda x: x.notna(), kind="stable")
    for record in pictures_last.to_dict("records"):
        row = {str(column): value for column, value in record.items()}
        curve = by_run[tuple(row[column] for column in label)]
        found[row["key"]] = (row, curve.reset_index(drop=True))
    return found


def final(sweep: Sweep, method: str, score: str) -> np.ndarray:
    """The last score of each run of a method; a diverged run has the worst there can be."""
    runs = sweep.runs[sweep.runs["method"] == method]
    return runs[score].fillna(_worst(score)).to_numpy()


def _worst(score: str) -> float:
    return 1.0 if SCORES[score][1] else np.inf


def best(sweep: Sweep, method: str, score: str, share: float = 0.1) -> pd.DataFrame:
    """The curves of the best share of a method's runs, by their best score after the start.

    Returns a table: index the step, columns the runs; a run that diverged has no score from there
    on. DD, Section 7: curves are those of the best tenth of the sweep over rates and seeds. Which
    runs these are is another matter for each score.
    """
    mine = sweep.curves[sweep.curves["method"] == method]
    if mine.empty:
        raise ValueError(f"the sweep has no runs of {method!r}")
    wide = mine.pivot(index="step", columns=RUN, values=score)
    more = SCORES[score][1]
    trained = wide.iloc[1:]
    peak = trained.max() if more else trained.min()
    number = max(1, round(share * wide.shape[1]))
    return wide[peak.sort_values(ascending=not more, na_position="last").index[:number]]


def curves(
    ax: Axes,
    sweep: Sweep,
    methods: Mapping[str, str],
    score: str = "inception_score",
    share: float = 0.1,
    colors: Sequence[str] | None = None,
) -> None:
    """Mean and range of the best share's curves; methods are labels and the sweep's names."""
    for label, color, frame in _each(sweep, methods, score, share, colors):
        steps = frame.index.to_numpy()
        ax.fill_between(
            steps, frame.min(axis=1), frame.max(axis=1), color=color, alpha=0.15, linewidth=0
        )
        mean = frame.mean(axis=1, skipna=False)  # it ends where one of them diverged
        ax.plot(steps, mean, color=color, label=f"{label} ({frame.shape[1]})")
    ax.set(xlabel="step", ylabel=SCORES[score][0])


def _each(
    sweep: Sweep,
    methods: Mapping[str, str],
    score: str,
    share: float,
    colors: Sequence[str] | None,
) -> Iterable[tuple[str, str, pd.DataFrame]]:
    for number, (label, method) in enumerate(methods.items()):
        color = colors[number] if colors else color_of(method)
        yield label, color, best(sweep, method, score, share)


def boxes(
    ax: Axes,
    sweep: Sweep,
    methods: Mapping[str, str],
    score: str = "inception_score",
    colors: Sequence[str] | None = None,
) -> None:
    """Last scores over all rates and seeds: box at the quartiles, whiskers at the extremes.

    A diverged run has no Fréchet distance; the label says how many there are.
    """
    values = [final(sweep, method, score) for method in methods.values()]
    finite = [x[np.isfinite(x)] for x in values]
    drawn = ax.boxplot(
        finite, orientation="horizontal", whis=(0, 100), widths=0.6, patch_artist=True
    )
    for number, (patch, method) in enumerate(zip(drawn["boxes"], methods.values(), strict=True)):
        color = colors[number] if colors else color_of(method)
        patch.set(facecolor=color, alpha=0.35, edgecolor=color)
        drawn["medians"][number].set(color=color, linewidth=2)
    lost = [len(x) - len(y) for x, y in zip(values, finite, strict=True)]
    labels = [
        f"{label}\n({n} diverged)" if n else label for label, n in zip(methods, lost, strict=True)
    ]
    ax.set_yticks(range(1, len(methods) + 1), labels)
    ax.invert_yaxis()
    ax.set(xlabel=SCORES[score][0])


def pictures(sweep: Sweep, methods: Mapping[str, str]) -> Figure:
    """Samples of each method's best run: that of the smallest Fréchet distance at the end.

    The table has a picture of the best run of all, and of the best at one rate for both players;
    of the runs of another part of the sweep there may be none.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    there = available(sweep, methods)
    if not there:
        return _nothing(sweep)
    columns = min(len(there), 3)
    rows = -(-len(there) // columns)
    size = (7.4, 0.3 + rows * (0.4 + 3.7 / columns))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (label, method) in zip(axes.flat, there.items(), strict=False):
        runs = sweep.runs[sweep.runs["method"] == method]
        ended, runs = runs["frechet_distance"].notna().any(), runs[runs["picture"].notna()]
        if runs.empty:
            ax.set_title(f"{label}: {'no picture' if ended else 'none that ended'}", fontsize=9)
            continue
        row = runs.sort_values("frechet_distance").iloc[0]
        image = Image.open(io.BytesIO(base64.b64decode(row["picture"])))
        ax.set_axis_on()  # a frame: samples may be as white as the page
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7", linewidth=0.6)
        ax.imshow(np.asarray(image), interpolation="nearest")
        ax.set_title(
            f"{label}\nα = {row['rate_phi']:g}, λ = {row['rate_theta']:g}, "
            f"distance {row['frechet_distance']:.3g}",
            fontsize=9,
        )
    fig.suptitle(sweep.label, fontsize=10.5)
    return fig


def color_of(method: str) -> str:
    """The colour of a method of the sweep, by the most telling part of its name."""
    order = ("joint clock", "discriminator", "generator", "cancelled", "SGA", "consensus")
    for name in (*order, "RK4", "Adam", "simultaneous", "alternating"):
        if name in method:
            return COLORS[name]
    return page.COLORS["flow"]


def paired(sweep: Sweep, one: str, other: str, score: str) -> pd.DataFrame:
    """The last scores of two methods, run by run: same rates, same seed, hence same start.

    Returns a table with the columns rate_phi, rate_theta, seed, one, other and gain, which is
    positive where `one` is better and zero where both diverged.
    """
    frames = []
    for name, method in (("one", one), ("other", other)):
        runs = sweep.runs[sweep.runs["method"] == method].set_index(RUN)[score]
        frames.append(runs.fillna(_worst(score)).rename(name))
    both = frames[0].to_frame().join(frames[1], how="inner").reset_index()
    sign = 1 if SCORES[score][1] else -1
    equal = both["one"] == both["other"]  # infinity less infinity is no number
    return both.assign(gain=(sign * (both["one"] - both["other"])).mask(equal, 0.0))


def restrict(sweep: Sweep, keep: Callable[[pd.DataFrame], Any]) -> Sweep:
    """The part of a sweep whose rows `keep` marks: a function from a table to truth values."""
    return sweep._replace(
        runs=sweep.runs[keep(sweep.runs)], curves=sweep.curves[keep(sweep.curves)]
    )


def exactly(sweep: Sweep) -> Sweep:
    """The sweep with one more method, `EXACT`: the runs whose terms cancel drift's on one clock.

    At one rate for both players these are the runs of "cancelled", at two those of "cancelled,
    joint clock". A sweep that lacks one of them comes back as it was.
    """
    import pandas as pd

    if not {"cancelled", "cancelled, joint clock"} <= set(sweep.runs["method"]):
        return sweep

    def exact(table: pd.DataFrame) -> Any:
        level = table["rate_phi"] == table["rate_theta"]
        published, joint = (table["method"] == f"cancelled{x}" for x in ("", ", joint clock"))
        return level & published | ~level & joint

    added = restrict(sweep, exact)
    return sweep._replace(
        runs=pd.concat([sweep.runs, added.runs.assign(method=EXACT)], ignore_index=True),
        curves=pd.concat([sweep.curves, added.curves.assign(method=EXACT)], ignore_index=True),
    )


def level(sweep: Sweep) -> Sweep:
    """The part of a sweep at one rate for both players."""
    return restrict(sweep, lambda t: t["rate_phi"] == t["rate_theta"])


def common(sweep: Sweep, methods: Iterable[str]) -> Sweep:
    """The part of a sweep at those pairs of rates and seeds that all of the methods have."""
    runs = sweep.runs
    found = [
        set(zip(*(runs.loc[runs["method"] == m, c] for c in RUN), strict=True)) for m in methods
    ]
    shared = set.intersection(*found) if found else set()
    return restrict(
        sweep, lambda t: [row in shared for row in zip(*(t[c] for c in RUN), strict=True)]
    )


def available(sweep: Sweep, methods: Mapping[str, str]) -> dict[str, str]:
    """Those of the methods that the sweep has."""
    there = set(sweep.runs["method"])
    return {label: method for label, method in methods.items() if method in there}


def figure(
    sweep: Sweep,
    methods: Mapping[str, str],
    share: float = 0.1,
    colors: Sequence[str] | None = None,
    needed: Iterable[str] = (),
) -> Figure:
    """Curves of the best share beside boxes of the whole sweep, a row a score.

    Methods that the sweep lacks are left out; without those `needed` there is nothing to compare,
    and the figure says so.
    """
    import matplotlib.pyplot as plt

    there = available(sweep, methods)
    if not there or not set(needed) <= set(there.values()):
        return _nothing(sweep)
    if colors is not None:
        colors = [
            c
            for c, method in zip(colors, methods.values(), strict=True)
            if method in there.values()
        ]
    height = 4.4 + 0.35 * max(0, len(there) - 2)
    fig, axes = plt.subplots(2, 2, figsize=(7.4, height), width_ratios=(1.2, 1))
    for row, score in zip(axes, SCORES, strict=True):
        curves(row[0], sweep, there, score, share, colors)
        boxes(row[1], sweep, there, score, colors)
        if score == "frechet_distance":
            log_axis(row[0], "y")
            log_axis(row[1], "x")
    if len(there) > 3:  # too many to stand over the curves
        handles, names = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8.5)
    else:
        axes[0, 0].legend(fontsize=8.5, frameon=True, framealpha=0.8, edgecolor="none")
    axes[0, 0].set_title(f"best {share:.0%} ({sweep.label})", fontsize=10.5)
    axes[0, 1].set_title("last score, whole sweep", fontsize=10.5)
    return fig


def lines(sweep: Sweep, methods: Mapping[str, str]) -> Figure:
    """Curves of all runs of each method, side by side for the two scores; no boxes."""
    import matplotlib.pyplot as plt

    there = available(sweep, methods)
    if not there:
        return _nothing(sweep)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.2))
    for ax, score in zip(axes, SCORES, strict=True):
        curves(ax, sweep, there, score, share=1.0)
    log_axis(axes[1], "y")
    axes[0].legend(fontsize=9)
    axes[0].set_title(sweep.label, fontsize=10.5)
    return fig


def seed_ranges(sweep: Sweep, method: str) -> pd.Series:
    """log10 of the largest over the smallest last distance over seeds, for each pair of rates.

    A pair of rates at which a run diverged has none.
    """
    runs = sweep.runs[sweep.runs["method"] == method]
    groups = np.log10(runs["frechet_distance"]).groupby([runs["rate_phi"], runs["rate_theta"]])
    whole = groups.count() == groups.size()
    return (groups.max() - groups.min())[whole]


def apart(sweep: Sweep, one: str, other: str) -> pd.DataFrame:
    """How far two methods' runs have parted at each scoring: |log of the ratio of the distances|.

    Returns a table with the columns rate_phi, rate_theta, seed, step and apart; a diverged run has
    a distance of `LOST` from there on.
    """
    return _apart(_distances(sweep, one), _distances(sweep, other), [*RUN, "step"])


def seeds_apart(sweep: Sweep, method: str) -> pd.DataFrame:
    """The same between each two seeds of a method at the same rates.

    Returns a table with the columns rate_phi, rate_theta, step, seed_one, seed_other and apart.
    """
    mine = _distances(sweep, method)
    both = _apart(mine, mine, ["rate_phi", "rate_theta", "step"])
    return both[both["seed_one"] < both["seed_other"]].reset_index(drop=True)


def _distances(sweep: Sweep, method: str) -> pd.DataFrame:
    mine = sweep.curves[sweep.curves["method"] == method]
    wide = mine.pivot(index=RUN, columns="step", values="frechet_distance")
    return wide.fillna(np.inf).reset_index().melt(RUN, value_name="frechet_distance")


def _apart(one: pd.DataFrame, other: pd.DataFrame, shared: list[str]) -> pd.DataFrame:
    both = one.merge(other, on=shared, suffixes=("_one", "_other"))
    ends = {"one": both.pop("frechet_distance_one"), "other": both.pop("frechet_distance_other")}
    return both.assign(apart=log_ratio(both.assign(**ends)).abs())


def outcomes(sweep: Sweep, methods: Iterable[str]) -> pd.DataFrame:
    """How the runs of each method ended: a row a method that the sweep has.

    `began` and `ended` are medians of the Fréchet distance, `farther` is how many runs ended
    farther than they began, diverged ones included.
    """
    import pandas as pd

    rows = []
    for method in dict.fromkeys(m for m in methods if m in set(sweep.runs["method"])):
        mine = sweep.curves[(sweep.curves["method"] == method) & (sweep.curves["step"] == 0)]
        began = mine.set_index(RUN)["frechet_distance"]
        ended = sweep.runs[sweep.runs["method"] == method].set_index(RUN)["frechet_distance"]
        ended = ended.fillna(_worst("frechet_distance")).reindex(began.index)
        rows.append(
            {
                "method": method,
                "runs": len(began),
                "began": float(began.median()),
                "ended": float(ended.median()),
                "farther": int((ended > began).sum()),
                "diverged": int(np.isinf(ended).sum()),
            }
        )
    return pd.DataFrame(rows)


def spread(sweep: Sweep, method: str) -> float:
    """Interquartile range of log10 of the last distance over a method's runs.

    A diverged run counts as a distance of `LOST`.
    """
    values = np.log10(final(sweep, method, "frechet_distance").clip(max=LOST))
    return float(np.subtract(*np.quantile(values, [0.75, 0.25])))


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


def maps(sweep: Sweep, methods: Mapping[str, str], score: str = "frechet_distance") -> Figure:
    """The last score for each pair of rates, a grid of numbers a method: medians over seeds.

    A pair at which half of the runs diverged has no Fréchet distance, and ∞ stands there.
    """
    import matplotlib.pyplot as plt

    there = available(sweep, methods)
    if not there:
        return _nothing(sweep)
    tables = [
        sweep.runs[sweep.runs["method"] == method]
        .fillna({score: _worst(score)})
        .pivot_table(index="rate_theta", columns="rate_phi", values=score, aggfunc="median")
        for method in there.values()
    ]
    size, sharey = (7.4, 7.4 / max(3, len(there)) + 0.7), _alike(table.index for table in tables)
    fig, axes = plt.subplots(1, len(there), figsize=size, sharey=sharey, squeeze=False)
    finite = np.concatenate([table.to_numpy().ravel() for table in tables])
    finite = np.log10(finite[np.isfinite(finite)])
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    colours = "cividis" if SCORES[score][1] else "cividis_r"
    for ax, label, grid in zip(axes[0], there, tables, strict=True):
        values = np.log10(grid.to_numpy())
        ax.imshow(values, vmin=low, vmax=high, cmap=colours, origin="lower")
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            if np.isnan(value):
                continue  # this pair of rates is not in the method's grid
            lost = np.isinf(value)
            dark = (values[i, j] > (low + high) / 2) != SCORES[score][1] and not lost
            text, color = "∞" if lost else f"{value:.3g}", "white" if dark else "black"
            ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color=color)
        ax.set_xticks(range(grid.shape[1]), [f"{r:g}" for r in grid.columns], fontsize=7.5)
        ax.set_yticks(range(grid.shape[0]), [f"{r:g}" for r in grid.index], fontsize=7.5)
        ax.grid(False)
        ax.set_xlabel("α", fontsize=10)
        ax.set_title(label, fontsize=9.5)
    axes[0, 0].set_ylabel("λ", fontsize=10)
    fig.suptitle(sweep.label, fontsize=10.5)
    return fig


def along(sweep: Sweep, methods: Mapping[str, str], colors: Sequence[str] | None = None) -> Figure:
    """The last Fréchet distance at each rate of both players: a mark a run, a line by the medians.

    Runs at unequal rates are left out. A diverged run has no mark, and the legend counts them.
    """
    import matplotlib.pyplot as plt

    sweep = level(sweep)
    there = available(sweep, methods)
    if not there:
        return _nothing(sweep)
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for number, (label, method) in enumerate(methods.items()):
        if label not in there:
            continue
        color = colors[number] if colors else color_of(method)
        runs = sweep.runs[sweep.runs["method"] == method]
        lost = int(runs["frechet_distance"].isna().sum())
        shift = 1.04 ** (number - (len(methods) - 1) / 2)  # side by side, not on one another
        medians = runs.groupby("rate_phi")["frechet_distance"].median()
        ax.plot(medians.index * shift, medians, color=color)
        ax.plot(
            runs["rate_phi"] * shift, runs["frechet_distance"], "o",
            color=color, alpha=0.7, markersize=5,
            label=f"{label} ({lost} diverged)" if lost else label,
        )  # fmt: skip
    ax.set_xscale("log")
    ticks = sorted(sweep.runs["rate_phi"].unique())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="rate of both players", ylabel=SCORES["frechet_distance"][0])
    log_axis(ax, "y")
    ax.legend(fontsize=9)
    ax.set_title(sweep.label, fontsize=10.5)
    return fig


def partings(sweep: Sweep, methods: Mapping[str, tuple[str, str]]) -> Figure:
    """How far runs part from the same runs otherwise started: {label: (one start, another)}.

    Left the distances at the end, one against the other; right the median of `apart` over training,
    dashed that of `seeds_apart` among the former.
    """
    import matplotlib.pyplot as plt

    if not {m for two in methods.values() for m in two} <= set(sweep.runs["method"]):
        return _nothing(sweep)
    fig, (ends, growth) = plt.subplots(1, 2, figsize=(7.4, 3.4))
    for label, (one, other) in methods.items():
        color = color_of(one)
        both = paired(sweep, other, one, "frechet_distance").clip(upper=LOST)
        ends.plot(both["other"], both["one"], "o", color=color, alpha=0.7, markersize=5)
        for found, style in ((apart(sweep, one, other), "-"), (seeds_apart(sweep, one), "--")):
            median = found[found["step"] > 0].groupby("step")["apart"].median()
            growth.plot(median, style, color=color, label=label if style == "-" else None)
    for axis in "xy":
        log_axis(ends, axis)
    span = ends.dataLim.intervalx
    ends.plot(span, span, color="0.6", lw=0.8, zorder=0)
    ends.set(xlabel="distance at the end", ylabel="from the other start")
    ends.set_title(sweep.label, fontsize=10.5)
    growth.set(xlabel="step", ylabel="|log ratio| of distances, median")
    log_axis(growth, "y")
    growth.legend(fontsize=9)
    return fig


def ratios(sweep: Sweep, methods: Mapping[str, str]) -> Figure:
    """Scores at the end against the ratio of rates: a mark a run, a line by the medians."""
    import matplotlib.pyplot as plt

    there = available(sweep, methods)
    if not there:
        return _nothing(sweep)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    for ax, (score, (name, _)) in zip(axes, SCORES.items(), strict=True):
        for number, (label, method) in enumerate(there.items()):
            runs = sweep.runs[sweep.runs["method"] == method]
            ratio = (runs["rate_phi"] / runs["rate_theta"]).round(3)
            medians = runs[score].fillna(_worst(score)).groupby(ratio).median()
            shift = 1.06 ** (number - (len(there) - 1) / 2)  # side by side, not on one another
            ax.plot(ratio * shift, runs[score], ".", color=color_of(method), alpha=0.4)
            ax.plot(medians, color=color_of(method), label=label)
        ax.axvline(0.5, color="k", lw=0.8)
        ax.set(xscale="log", xlabel="ratio α/λ", ylabel=name)
        ax.set_xticks(ticks := [0.1, 0.2, 0.5, 1, 2, 5, 10], [f"{r:g}" for r in ticks])
        ax.minorticks_off()
    log_axis(axes[1], "y")
    axes[0].legend(fontsize=9, loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")
    axes[0].set_title(sweep.label, fontsize=10.5)
    return fig


def _alike(indices: Iterable[pd.Index]) -> bool:
    return len({tuple(index) for index in indices}) == 1


def log_axis(ax: Axes, which: str) -> None:
    """Put an axis on a logarithmic scale with plain labels, where its range is worth one."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    data = ax.dataLim.intervaly if which == "y" else ax.dataLim.intervalx
    low, high = max(data[0], 1e-9), data[1]
    if high < 4 * low:
        return
    axis = ax.yaxis if which == "y" else ax.xaxis
    (ax.set_yscale if which == "y" else ax.set_xscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _nothing(sweep: Sweep) -> Figure:
    """A figure that says that there is nothing to show, so that its place in the text is kept."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 1.0))
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not trained here ({sweep.label})", ha="center", va="center")
    return fig


def top(sweep: Sweep, method: str, share: float = 0.1) -> dict[str, float]:
    """Mean last scores of the best share of a method's runs, by score."""
    return {
        score: float(best(sweep, method, score, share).iloc[-1].fillna(_worst(score)).mean())
        for score in SCORES
    }


def judge(sweep: Sweep, one: str, other: str, share: float = 0.1) -> dict[str, Any]:
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


def median_ratio(both: pd.DataFrame) -> float:
    """The median over pairs of `one` over `other`, from a table of `paired` scores."""
    return float((both["one"] / both["other"]).median())


def log_ratio(both: pd.DataFrame) -> pd.Series:
    """log(one / other) of each pair of `paired` distances; a diverged run has one of `LOST`."""
    return np.log(both["one"].clip(upper=LOST)) - np.log(both["other"].clip(upper=LOST))


def by_rates(both: pd.DataFrame, resamples: int = 9999) -> dict[str, Any]:
    """Whether what is gained hangs on the rates, from a table of `paired` Fréchet distances.

    `better_rates` and `worse_rates` are the pairs of rates at which the first method ends closer,
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


def compare(sweep: Sweep, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """A row for each pair of methods that the sweep has: how often the first is the better one."""
    import pandas as pd

    there = set(sweep.runs["method"])
    rows = []
    for one, other in pairs:
        if {one, other} <= there:
            both = paired(sweep, one, other, "frechet_distance")
            found = tally(both)
            rows.append(
                {
                    "better?": one,
                    "than": other,
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
    methods: list[Any] = ["better?", "than"]
    names = {"text-align": "left", "white-space": "normal"}  # else the numbers are out of sight
    styler = styler.format("{:.2g}", subset=["chance"]).set_properties(methods, **names)
    return styler.map_index(lambda c: "text-align: left" if c in methods else "", axis="columns")


def sign_test(gains: Any) -> float:
    """The probability that fair coins would show at least so many gains among the non-zero ones.

    Gains that are not a number do not count.

    >>> sign_test([1, 2, 3, -1])
    0.3125
    """
    from math import comb

    gains = np.asarray(gains, float)
    gains = gains[~np.isnan(gains)]
    up, n = int(np.sum(gains > 0)), int(np.sum(gains != 0))
    return sum(comb(n, k) for k in range(up, n + 1)) / 2**n
