"""Figures of a sweep: each draws from its tables and returns a Matplotlib figure.

Arms are given as {label: arm}; those that the sweep lacks are left out, and a figure that has
nothing to show says so, so that its place in the text is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddbook.sweeps import arms as named
from ddbook.sweeps import effects
from ddbook.sweeps.arms import Arm, color_of
from ddbook.sweeps.pairs import apart, paired, seeds_apart
from ddbook.sweeps.sweep import LOST, SCORES, Sweep, available, best, final, level, present, worst

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(
    sweep: Sweep,
    arms: Mapping[str, Arm],
    share: float = 0.1,
    colors: Sequence[str] | None = None,
    needed: Iterable[Arm] = (),
) -> Figure:
    """Curves of the best share beside boxes of the whole sweep, a row a score.

    Methods that the sweep lacks are left out; without those `needed` there is nothing to compare,
    and the figure says so.
    """
    import matplotlib.pyplot as plt

    there = available(sweep, arms)
    if not there or not set(needed) <= set(there.values()):
        return nothing(sweep)
    if colors is not None:
        colors = [c for c, arm in zip(colors, arms.values(), strict=True) if arm in there.values()]
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


VERDICTS = {True: ("#009E73", "o"), False: ("#D55E00", "X"), None: ("0.55", "s")}


def intervals(
    tables: Mapping[str, pd.DataFrame], verdicts: Mapping[str, bool | None], label: str
) -> Figure:
    """Effects of several families (`effects.compare`), each a factor of distances with interval.

    `verdicts` is by the words of a comparison. A point left of one: the first method is closer.
    Comparisons without runs are left out; one of a single seed has no interval.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    tables = {name: table[np.isfinite(table["mean"])] for name, table in tables.items()}
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        fig, ax = plt.subplots(figsize=(7.4, 1.2))
        ax.text(0.5, 0.5, f"no such runs yet ({label})", ha="center", va="center")
        ax.set_axis_off()
        return fig
    sizes = [len(table) for table in tables.values()]
    fig, axes = plt.subplots(
        len(tables), 1, figsize=(7.4, 1.3 + 0.36 * sum(sizes)), sharex=True, squeeze=False,
        height_ratios=sizes,
    )  # fmt: skip
    for ax, (family, table) in zip(axes[:, 0], tables.items(), strict=True):
        for y, found in enumerate(table.to_dict("records")):
            color, marker = VERDICTS[verdicts.get(found["comparison"])]
            if np.isfinite(found["low"]):  # one seed has no interval
                ax.plot(np.exp([found["low"], found["high"]]), [y, y], color=color, lw=2)
            ax.plot(np.exp(found["mean"]), y, marker, color=color, ms=7)
        ax.axvline(1, color="k", lw=0.8)
        ax.set_yticks(range(len(table)), list(table["comparison"]), fontsize=9)
        ax.set(ylim=(len(table) - 0.5, -0.5), xscale="log")
        ax.set_title(family, loc="left", fontsize=9.5)
        ax.grid(axis="y", visible=False)
    axes[-1, 0].set_xlabel("Fréchet distance of the first over that of the second")
    axes[-1, 0].set_xticks(
        [0.3, 0.5, 0.7, 1, 1.4, 2, 3], ["0.3", "0.5", "0.7", "1", "1.4", "2", "3"]
    )
    axes[-1, 0].minorticks_off()
    words = {True: "holds", False: "does not", None: "not settled"}
    handles = [
        Line2D([], [], color=color, marker=marker, label=words[verdict])
        for verdict, (color, marker) in VERDICTS.items()
    ]
    fig.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=9)
    fig.suptitle(label, fontsize=10, x=0.02, ha="left")
    return fig


def pairwise(parts: Mapping[str, Sweep], wanted: Iterable[tuple[Arm, Arm]], label: str) -> Figure:
    """The effect of each pair of arms in each part of a sweep, as `intervals` draws them.

    Nothing is judged here: no effect has a verdict, and all are drawn in grey.
    """
    family = []
    for one, other in wanted:
        first, second = named.name(one), named.name(other)
        if one.loss == other.loss:  # said once
            second = second.removeprefix(f"{one.loss} ")
        line = "\n" if len(first + second) > 34 else " "
        words = f"{first} /{line}{second}"
        family.append(effects.Comparison(words, one, other, effects.closer))
    tables = {words: effects.compare(part, family) for words, part in parts.items()}
    fig = intervals(tables, {}, label)
    for legend in fig.legends:
        legend.remove()
    for ax in fig.axes:
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, 0.15), min(high, 7.0))  # three seeds' intervals may be far longer
    fig.axes[-1].set_xlabel("distance of the first / of the second")
    fig.set_figheight(1.15 * fig.get_figheight())
    return fig


def lines(sweep: Sweep, arms: Mapping[str, Arm]) -> Figure:
    """Curves of all runs of each arm, side by side for the two scores; no boxes."""
    import matplotlib.pyplot as plt

    there = available(sweep, arms)
    if not there:
        return nothing(sweep)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.2))
    for ax, score in zip(axes, SCORES, strict=True):
        curves(ax, sweep, there, score, share=1.0)
    log_axis(axes[1], "y")
    axes[0].legend(fontsize=9)
    axes[0].set_title(sweep.label, fontsize=10.5)
    return fig


def curves(
    ax: Axes,
    sweep: Sweep,
    arms: Mapping[str, Arm],
    score: str = "inception_score",
    share: float = 0.1,
    colors: Sequence[str] | None = None,
) -> None:
    """Mean and range of the best share's curves; arms by their labels."""
    for label, color, frame in _each(sweep, arms, score, share, colors):
        steps = frame.index.to_numpy()
        ax.fill_between(
            steps, frame.min(axis=1), frame.max(axis=1), color=color, alpha=0.15, linewidth=0
        )
        mean = frame.mean(axis=1, skipna=False)  # it ends where one of them diverged
        ax.plot(steps, mean, color=color, label=f"{label} ({frame.shape[1]})")
    ax.set(xlabel="step", ylabel=SCORES[score][0])


def _each(
    sweep: Sweep,
    arms: Mapping[str, Arm],
    score: str,
    share: float,
    colors: Sequence[str] | None,
) -> Iterable[tuple[str, str, pd.DataFrame]]:
    for number, (label, arm) in enumerate(arms.items()):
        color = colors[number] if colors else color_of(arm)
        yield label, color, best(sweep, arm, score, share)


def boxes(
    ax: Axes,
    sweep: Sweep,
    arms: Mapping[str, Arm],
    score: str = "inception_score",
    colors: Sequence[str] | None = None,
) -> None:
    """Last scores over all rates and seeds: box at the quartiles, whiskers at the extremes.

    A diverged run has no Fréchet distance; the label says how many there are.
    """
    values = [final(sweep, arm, score) for arm in arms.values()]
    finite = [x[np.isfinite(x)] for x in values]
    drawn = ax.boxplot(
        finite, orientation="horizontal", whis=(0, 100), widths=0.6, patch_artist=True
    )
    for number, (patch, arm) in enumerate(zip(drawn["boxes"], arms.values(), strict=True)):
        color = colors[number] if colors else color_of(arm)
        patch.set(facecolor=color, alpha=0.35, edgecolor=color)
        drawn["medians"][number].set(color=color, linewidth=2)
    lost = [len(x) - len(y) for x, y in zip(values, finite, strict=True)]
    labels = [
        f"{label}\n({n} diverged)" if n else label for label, n in zip(arms, lost, strict=True)
    ]
    ax.set_yticks(range(1, len(arms) + 1), labels)
    ax.invert_yaxis()
    ax.set(xlabel=SCORES[score][0])


def maps(sweep: Sweep, arms: Mapping[str, Arm], score: str = "frechet_distance") -> Figure:
    """The last score for each pair of rates, a grid of numbers an arm: medians over seeds.

    A pair at which half of the runs diverged has no Fréchet distance, and ∞ stands there.
    """
    import matplotlib.pyplot as plt

    there = available(sweep, arms)
    if not there:
        return nothing(sweep)
    tables = [
        arm.of(sweep.runs)
        .fillna({score: worst(score)})
        .pivot_table(index="rate_theta", columns="rate_phi", values=score, aggfunc="median")
        for arm in there.values()
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
                continue  # this pair of rates is not in the arm's grid
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


def along(sweep: Sweep, arms: Mapping[str, Arm], colors: Sequence[str] | None = None) -> Figure:
    """The last Fréchet distance at each rate of both players: a mark a run, a line by the medians.

    Runs at unequal rates are left out. A diverged run has no mark, and the legend counts them.
    """
    import matplotlib.pyplot as plt

    sweep = level(sweep)
    there = available(sweep, arms)
    if not there:
        return nothing(sweep)
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for number, (label, arm) in enumerate(arms.items()):
        if label not in there:
            continue
        color = colors[number] if colors else color_of(arm)
        runs = arm.of(sweep.runs)
        lost = int(runs["frechet_distance"].isna().sum())
        shift = 1.04 ** (number - (len(arms) - 1) / 2)  # side by side, not on one another
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


def partings(sweep: Sweep, arms: Mapping[str, tuple[Arm, Arm]]) -> Figure:
    """How far runs part from the same runs otherwise started: {label: (one start, another)}.

    Left the distances at the end, one against the other; right the median of `apart` over training,
    dashed that of `seeds_apart` among the former.
    """
    import matplotlib.pyplot as plt

    if not {m for two in arms.values() for m in two} <= present(sweep):
        return nothing(sweep)
    fig, (ends, growth) = plt.subplots(1, 2, figsize=(7.4, 3.4))
    for label, (one, other) in arms.items():
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


def ratios(sweep: Sweep, arms: Mapping[str, Arm]) -> Figure:
    """Scores at the end against the ratio of rates: a mark a run, a line by the medians."""
    import matplotlib.pyplot as plt

    there = available(sweep, arms)
    if not there:
        return nothing(sweep)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    for ax, (score, (name, _)) in zip(axes, SCORES.items(), strict=True):
        for number, (label, arm) in enumerate(there.items()):
            runs = arm.of(sweep.runs)
            ratio = (runs["rate_phi"] / runs["rate_theta"]).round(3)
            medians = runs[score].fillna(worst(score)).groupby(ratio).median()
            shift = 1.06 ** (number - (len(there) - 1) / 2)  # side by side, not on one another
            ax.plot(ratio * shift, runs[score], ".", color=color_of(arm), alpha=0.4)
            ax.plot(medians, color=color_of(arm), label=label)
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


def nothing(sweep: Sweep) -> Figure:
    """A figure that says that there is nothing to show, so that its place in the text is kept."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 1.0))
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not trained here ({sweep.label})", ha="center", va="center")
    return fig
