"""What the chapters on GANs conclude from a sweep's tables, on tables written by hand."""

import base64
import io
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from ddbook.runner import cells, places, tables
from ddbook.sweeps import batch, figures, pairs, pictures
from ddbook.sweeps import sweep as sweeps
from ddbook.sweeps.arms import (
    ALTERNATING,
    CANCELLED,
    EXACT,
    JOINT,
    RK4,
    SIMULTANEOUS,
    Arm,
    name,
)
from ddbook.sweeps.store import Store
from PIL import Image

mpl.use("Agg")
STEPS = (0, 10, 20)


class Label:
    label = "made by hand"


A, B, C, D, ABSENT = SIMULTANEOUS, ALTERNATING, RK4, CANCELLED, Arm(loss="least squares")
NAMED = {"a": A, "b": B, "c": C, "cancelled": D, "joint": JOINT}


def sweep(**arms):
    """{one of NAMED: {(alpha, lambda, seed): Fréchet distances at STEPS, fewer if it diverged}}.

    The Inception score is 10 less the distance.
    """
    runs, curves = [], []
    for letter, found in arms.items():
        for (alpha, lam, seed), distances in found.items():
            columns = batch.Run("by hand", NAMED[letter], alpha, lam, seed).columns()
            for step, distance in zip(STEPS, distances, strict=False):
                score = {"frechet_distance": distance, "inception_score": 10 - distance}
                curves.append({**columns, "step": step, **score})
            lost = np.isnan(distances[-1])
            runs.append({**columns, **score, "diverged_at": 15 if lost else -1, "picture": None})
    return sweeps.Sweep(pd.DataFrame(runs), pd.DataFrame(curves), (Label, Label))


def diagonal(*last, seeds=1):
    """A method at equal rates only: one run for each last distance."""
    return {(0.1 * (i + 1), 0.1 * (i + 1), i % seeds): (9.0, 9.0, x) for i, x in enumerate(last)}


def everywhere(last):
    return {(a, b, s): (9.0, 9.0, last) for a in (0.1, 0.2) for b in (0.1, 0.2) for s in (0, 1)}


DIVERGED = (9.0, np.nan)


def test_a_share_is_one_of_the_runs_that_there_are():
    """Not of a full grid over their rates and seeds, which the method did not run."""
    table = sweep(a=diagonal(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0))
    best = sweeps.best(table, A, "frechet_distance", 0.25)
    assert sorted(best.iloc[-1]) == [1.0, 2.0]
    assert sweeps.best(table, A, "frechet_distance", 1.0).shape == (3, 8)
    assert sweeps.top(table, A, 0.25) == {"inception_score": 8.5, "frechet_distance": 1.5}


def test_a_share_is_at_least_one_run():
    assert sweeps.best(sweep(a=diagonal(2.0, 1.0)), A, "inception_score", 0.1).shape == (3, 1)


def test_the_best_are_best_at_some_time():
    """DD compares peaks: what was good once and is bad at the end is among the best."""
    table = sweep(a={(0.1, 0.1, 0): (9.0, 1.0, 8.0), (0.2, 0.2, 0): (9.0, 5.0, 5.0)})
    assert sweeps.top(table, A, 0.5)["frechet_distance"] == 8.0


def test_a_diverged_run_counts_as_a_run_and_as_the_worst():
    runs = diagonal(1.0, 2.0, 3.0) | {(0.9, 0.9, 0): DIVERGED}
    table = sweep(a=runs)
    assert sweeps.best(table, A, "frechet_distance", 1.0).shape[1] == 4
    assert sweeps.top(table, A, 1.0) == {
        "inception_score": (9 + 8 + 7 + 1) / 4,
        "frechet_distance": np.inf,
    }
    assert sorted(sweeps.final(table, A, "frechet_distance")) == [1.0, 2.0, 3.0, np.inf]


def test_pairs_are_of_the_same_rates_and_seed():
    one = {(0.1, 0.1, 0): (9.0, 9.0, 1.0), (0.1, 0.1, 1): (9.0, 9.0, 5.0), (0.2, 0.1, 0): DIVERGED}
    other = {
        (0.1, 0.1, 0): (9.0, 9.0, 3.0),
        (0.1, 0.1, 1): (9.0, 9.0, 4.0),
        (0.1, 0.2, 0): (9.0, 9.0, 9.0),  # no partner
        (0.2, 0.1, 0): (9.0, 9.0, 2.0),
    }
    both = pairs.paired(sweep(a=one, b=other), A, B, "frechet_distance")
    assert list(both["gain"]) == [2.0, -1.0, -np.inf]
    assert list(pairs.paired(sweep(a=one, b=other), A, B, "inception_score")["gain"]) == [
        2,
        -1,
        -7,
    ]


def test_two_that_diverged_are_no_pair_for_either():
    lost = {(0.1, 0.1, seed): DIVERGED for seed in range(4)}
    good = {(0.2, 0.2, 0): (9.0, 9.0, 1.0)}
    bad = {(0.2, 0.2, 0): (9.0, 9.0, 2.0)}
    found = pairs.judge(sweep(a=lost | good, b=lost | bad), A, B)
    assert (found["better_pairs"], found["pairs"], found["chance"]) == (1, 5, 0.5)


def test_judging():
    table = sweep(a=everywhere(1.0), b=everywhere(2.0))
    found = pairs.judge(table, A, B)
    assert found == {
        "inception": 9.0,
        "inception_other": 8.0,
        "frechet": 1.0,
        "frechet_other": 2.0,
        "better_pairs": 8,
        "pairs": 8,
        "chance": pytest.approx(1 / 256, rel=1e-12),
        "every_seed": True,
        "best_better": True,
    }
    back = pairs.judge(table, B, A)
    assert (back["chance"], back["every_seed"], back["best_better"]) == (1.0, False, False)


def test_one_bad_seed_shows():
    """Many pairs can look certain where one seed says otherwise."""
    good = {(a / 10, 0.1, 0): (9.0, 9.0, 1.0) for a in range(1, 11)}
    bad = {(a / 10, 0.1, 1): (9.0, 9.0, 3.0) for a in range(1, 4)}
    plain = {key: (9.0, 9.0, 2.0) for key in good | bad}
    found = pairs.judge(sweep(a=good | bad, b=plain), A, B)
    assert found["chance"] < 0.05
    assert not found["every_seed"]


def test_comparing_leaves_out_what_is_not_there():
    table = sweep(a=everywhere(1.0), b=everywhere(2.0))
    rows = pairs.compare(table, [(A, B), (A, C)])
    assert len(rows) == 1
    assert rows.iloc[0]["median ratio of distances"] == 0.5
    assert pairs.compare(table, [(A, C)]).empty


def test_restricting_takes_both_tables():
    part = sweeps.restrict(sweep(a=everywhere(1.0)), lambda t: t["rate_phi"] == t["rate_theta"])
    assert (len(part.runs), len(part.curves)) == (4, 12)


@pytest.mark.parametrize(
    ("gains", "chance"),
    [
        ([1, 1, 1], 1 / 8),
        ([1, 1, 0, np.nan], 1 / 4),
        ([-1, -1], 1.0),
        ([], 1.0),
        ([np.inf, -np.inf], 3 / 4),
    ],
)
def test_sign_test(gains, chance):
    assert pairs.sign_test(gains) == pytest.approx(chance, rel=1e-12)


def test_figures_say_how_many_diverged():
    table = sweep(a=everywhere(1.0) | {(0.9, 0.9, 0): DIVERGED}, b=everywhere(2.0))
    fig = figures.figure(table, {"first": A, "second": B, "third": ABSENT})
    labels = [tick.get_text() for tick in fig.axes[3].get_yticklabels()]
    assert labels == ["first\n(1 diverged)", "second"]


def test_a_mean_ends_where_one_of_its_runs_diverged():
    table = sweep(a=diagonal(1.0, 2.0) | {(0.9, 0.9, 0): DIVERGED})
    fig = figures.lines(table, {"first": A})
    drawn = fig.axes[1].lines[0].get_ydata()
    assert drawn[0] == 9.0
    assert np.isnan(drawn[1:]).all()


def test_nothing_to_show_is_said():
    fig = figures.figure(sweep(a=everywhere(1.0)), {"first": ABSENT})
    assert "not trained here" in fig.axes[0].texts[0].get_text()


def picture(level):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_pictures_are_of_the_run_that_ends_closest():
    table = sweep(
        a=diagonal(3.0, 1.0, 2.0) | {(0.9, 0.9, 0): DIVERGED}, b={(0.9, 0.9, 0): DIVERGED}
    )
    table.runs["picture"] = [picture(10), picture(20), picture(30), None, None]
    first, second = pictures.pictures(table, {"A": A, "B": B, "not run": C}).axes
    assert (np.asarray(first.images[0].get_array()) == 20).all()
    assert "α = 0.2, λ = 0.2, distance 1" in first.get_title()
    assert not second.images
    assert second.get_title() == "B: none that ended"
    table.runs["picture"] = None
    lone = pictures.pictures(table, {"A": A}).axes[0]
    assert lone.get_title() == "A: no picture"
    many = {f"{k}": A for k in range(4)}
    assert len(pictures.pictures(table, many).axes) == 6  # two rows of three


class Table(NamedTuple):
    frame: pd.DataFrame
    label: str


class Run(NamedTuple):
    """What `sweeps.open` asks of a run."""

    profile: str
    saved: sweeps.Sweep | None
    name: str = "train_gans"

    def load(self, table, notebook):
        assert notebook == "train_gans"
        return Table(getattr(sweep(a=everywhere(1.0)), table), "this profile's")

    def published(self, table, notebook):
        assert notebook == "train_gans"
        return self.saved and Table(getattr(self.saved, table), "published")


@pytest.mark.parametrize(
    ("profile", "needed", "labels"),
    [
        ("quick", [], ["this profile's", "published"]),
        ("quick", [B], ["this profile's", "published"]),
        ("quick", [B, C], ["this profile's"] * 2),
        ("standard", [], ["this profile's"] * 2),
    ],
)
def test_a_quick_chapter_shows_the_published_sweep_if_it_has_what_is_needed(
    profile, needed, labels
):
    saved = sweep(a=everywhere(1.0), b=everywhere(2.0))
    found = sweeps.open(Run(profile, saved), needed)
    assert [one.label for one in found] == labels
    assert sweeps.present(found[-1]) == ({A, B} if labels[-1] == "published" else {A})


def test_a_sweep_not_published_yet_is_not_shown():
    here, shown = sweeps.open(Run("quick", None))
    assert here is shown and here.label == "this profile's"
    assert [table.label for table in sweeps.tables(here, shown)] == ["this profile's"] * 2


def test_published_runs_are_found_by_their_keys():
    """Two methods may share a run: then the one that has its picture counts."""
    saved = sweep(a={(0.1, 0.1, 0): (9.0, 5.0, 4.0), (0.2, 0.1, 0): DIVERGED})
    saved = saved._replace(runs=saved.runs.assign(key=["x", "y"], seconds=[3.0, 4.0]))
    again = sweep(b={(0.1, 0.1, 0): (9.0, 5.0, 4.0)})
    named = again.runs.assign(key="x", seconds=3.0, picture="seen")
    both = saved._replace(
        runs=pd.concat([named, saved.runs], ignore_index=True),
        curves=pd.concat([again.curves, saved.curves], ignore_index=True),
    )
    found = batch.published(Run("standard", both))
    assert set(found) == {"x", "y"}
    row, curve = found["x"]
    assert (row["method"], row["picture"], row["frechet_distance"]) == (name(B), "seen", 4.0)
    assert curve["step"].tolist() == list(STEPS)
    assert curve["frechet_distance"].tolist() == [9.0, 5.0, 4.0]
    row, curve = found["y"]
    assert (row["diverged_at"], row["seconds"], len(curve)) == (15, 4.0, len(DIVERGED))
    assert batch.published(Run("standard", sweep(a=everywhere(1.0)))) == {}  # no keys: no run
    assert batch.published(Run("standard", None)) == {}


def test_a_map_shows_medians_over_seeds_and_what_was_lost():
    runs = {(0.1, 0.1, s): (9.0, 9.0, x) for s, x in enumerate((1.0, 2.0, 30.0))}
    runs |= {(0.1, 0.2, s): (9.0, *DIVERGED) for s in range(3)}
    fig = figures.maps(sweep(a=runs, b=everywhere(4.0)), {"A": A, "B": B, "none": C})
    first, second = fig.axes
    assert [text.get_text() for text in first.texts] == ["2", "∞"]
    assert [text.get_text() for text in second.texts] == ["4"] * 4
    assert first.get_title() == "A" and first.get_ylabel() == "λ"
    assert [text.get_text() for text in first.get_yticklabels()] == ["0.1", "0.2"]
    fig = figures.maps(sweep(a=everywhere(1.0), b=diagonal(*range(1, 4))), {"A": A, "B": B})
    rates = [[text.get_text() for text in ax.get_yticklabels()] for ax in fig.axes]
    assert rates == [["0.1", "0.2"], ["0.1", "0.2", "0.3"]]  # each grid its own


def test_common_keeps_the_runs_that_all_methods_have():
    table = sweep(a=everywhere(1.0), b=diagonal(2.0, 3.0), c=everywhere(4.0))
    shared = sweeps.common(table, [A, B])
    assert [len(arm.of(shared.runs)) for arm in (A, B, C)] == [2, 2, 2]
    assert set(shared.runs["rate_phi"]) == {0.1, 0.2} and set(shared.runs["seed"]) == {0}
    assert len(shared.curves) == 6 * len(STEPS)
    assert sweeps.common(table, [A, ABSENT]).runs.empty


def test_the_start_is_no_peak():
    table = sweep(a={(0.1, 0.1, 0): (1.0, 6.0, 6.0), (0.2, 0.2, 0): (9.0, 5.0, 5.5)})
    best = sweeps.best(table, A, "frechet_distance", 0.5)
    assert list(best.columns) == [(0.2, 0.2, 0)] and list(best.index) == list(STEPS)
    with pytest.raises(ValueError, match="got 'alternating', which has no runs"):
        sweeps.best(table, B, "frechet_distance")


def test_ranges_over_seeds_leave_out_where_a_run_was_lost():
    runs = {(0.1, 0.1, s): (9.0, 9.0, x) for s, x in enumerate((1.0, 10.0, 100.0))}
    runs |= {(0.2, 0.1, s): (9.0, *DIVERGED) for s in range(3)}
    runs |= {(0.1, 0.2, 0): (9.0, *DIVERGED), (0.1, 0.2, 1): (9.0, 9.0, 2.0)}
    ranges = sweeps.seed_ranges(sweep(a=runs), A)
    assert dict(ranges) == {(0.1, 0.1): pytest.approx(2.0)}


def test_spread_counts_lost_runs():
    assert sweeps.spread(sweep(a=diagonal(1.0, 1.0, 100.0, 100.0)), A) == pytest.approx(2.0)
    lost = {(0.1, 0.1, s): (9.0, *DIVERGED) for s in range(3)} | {(0.1, 0.1, 3): (9.0, 9.0, 1.0)}
    assert sweeps.spread(sweep(a=lost), A) == pytest.approx(1.5)  # 10^4.5 and a million


def test_contrast_compares_ratios_at_one_rate_and_seed():
    """One half itself is a small ratio; 0.15/0.3 is not above it by rounding."""
    small = {(0.15, 0.3, s): (9.0, 9.0, 100.0) for s in range(2)}
    small |= {(0.01, 0.3, s): (9.0, 9.0, 100.0) for s in range(2)}
    large = {(0.3, 0.3, s): (9.0, 9.0, 10.0 ** (s - 1)) for s in range(2)}
    alone = {(0.3, 0.1, 0): (9.0, 9.0, 1.0)}  # nothing to compare with at this λ
    runs = sweep(a=small | large | alone).runs
    at_lambda = sweeps.contrast(runs, "rate_theta")
    assert dict(at_lambda) == {(0.3, 0): pytest.approx(3.0), (0.3, 1): pytest.approx(2.0)}
    assert sweeps.contrast(runs, "rate_phi").empty
    lost = sweep(a=small | {(0.3, 0.3, 0): (9.0, *DIVERGED)}).runs
    assert dict(sweeps.contrast(lost, "rate_theta")) == {(0.3, 0): -np.inf}


def test_a_figure_without_what_it_compares_says_so():
    table = sweep(a=everywhere(1.0), b=everywhere(2.0))
    methods = {"A": A, "B": B, "C": C}
    assert len(figures.figure(table, methods, needed=[B]).axes) == 4
    [ax] = figures.figure(table, methods, needed=[C]).axes
    assert "not trained here" in ax.texts[0].get_text()


def test_a_cut_elsewhere():
    runs = sweep(a={(0.3, 0.5, 0): (9.0, 9.0, 8.0), (0.4, 0.5, 0): (9.0, 9.0, 2.0)}).runs
    assert sweeps.contrast(runs, "rate_theta").empty
    assert sweeps.contrast(runs, "rate_theta", cut=0.7)[0.5, 0] == pytest.approx(np.log10(4))


def test_exactly_is_published_at_one_rate_and_joint_at_two():
    equal, unequal = (0.1, 0.1, 0), (0.1, 0.2, 0)
    published = {equal: (9.0, 9.0, 1.0), unequal: (9.0, 9.0, 2.0)}
    half = sweep(cancelled=published)
    assert sweeps.exactly(half) is half
    joint = {unequal: (9.0, 9.0, 3.0)}
    found = sweeps.exactly(sweep(cancelled=published, joint=joint))
    exact = EXACT.of(found.runs)
    assert sorted(exact["frechet_distance"]) == [1.0, 3.0]
    assert len(found.runs) == 5
    assert sweeps.best(found, EXACT, "frechet_distance", 1.0).shape == (3, 2)


def test_outcomes_count_the_lost_among_those_that_ended_farther():
    runs = {(0.1, 0.1, 0): (9.0, 9.0, 1.0), (0.1, 0.2, 0): (7.0, 9.0, 8.0), (0.2, 0.1, 0): DIVERGED}
    table = sweeps.outcomes(sweep(a=runs), [A, ABSENT, A])
    assert table.to_dict("records") == [
        {
            "method": "simultaneous",
            "runs": 3,
            "began": 9.0,
            "ended": 8.0,
            "farther": 2,
            "diverged": 1,
        }
    ]


def test_what_hangs_on_the_rates():
    """Closer at one rate and farther at another in every seed, which no permutation does better."""

    def runs(*rows):
        rates = (0.1, 0.2, 0.3)
        return {
            (rate, rate, seed): (9.0, 9.0, value)
            for rate, row in zip(rates, rows, strict=True)
            for seed, value in enumerate(row)
        }

    table = sweep(
        a=runs((4.0, 4.0, 4.0, 4.0), (4.0, 4.0, 4.0, 4.0), (4.0, 4.0, 4.0, 4.0)),
        b=runs((1.0, 1.1, 1.2, 1.3), (3.9, 4.1, 3.8, 4.2), (16.0, 15.0, 14.0, 13.0)),
        c=runs((3.0, 5.0, 4.1, 3.9), (4.2, 3.8, 5.1, 3.1), (3.9, 4.1, 3.2, 4.9)),
        cancelled=runs((2.0, 2.1, 2.2, 2.0), (2.1, 2.0, 2.0, 2.2), (2.2, 2.0, 2.1, 2.1)),
    )
    found = {
        label: pairs.by_rates(pairs.paired(table, arm, A, "frechet_distance"))
        for label, arm in (("both_ways", B), ("alike", C), ("better", D))
    }
    assert (found["both_ways"]["better_rates"], found["both_ways"]["worse_rates"]) == (1, 1)
    assert found["both_ways"]["rates"] == 3
    # 12!/(4!)^3 ways; the gap of means is reached when the outer groups are as they are, or swap
    assert found["both_ways"]["rates_chance"] < 0.002
    assert found["alike"]["rates_chance"] > 0.5
    assert (found["alike"]["better_rates"], found["alike"]["worse_rates"]) == (0, 0)
    assert (found["better"]["better_rates"], found["better"]["worse_rates"]) == (3, 0)
    assert found["better"]["rates_chance"] > 0.05
    lone = sweep(a=diagonal(4.0, 4.0), b=diagonal(3.0, 5.0))
    with pytest.raises(ValueError, match="two or more"):
        pairs.by_rates(pairs.paired(lone, B, A, "frechet_distance"))


def test_a_run_that_was_lost_is_far_in_the_means_over_rates():
    table = sweep(
        a={(r, r, seed): (9.0, 9.0, 1.0) for r in (0.1, 0.2) for seed in (0, 1)},
        b={
            (0.1, 0.1, 0): DIVERGED,
            (0.1, 0.1, 1): DIVERGED,
            (0.2, 0.2, 0): (9.0, 9.0, 0.5),
            (0.2, 0.2, 1): (9.0, 9.0, 0.5),
        },
    )
    found = pairs.by_rates(pairs.paired(table, B, A, "frechet_distance"))
    assert (found["better_rates"], found["worse_rates"]) == (1, 1)
    assert found["rates_chance"] == pytest.approx(2 / 6)  # as it is, or the other way round


def test_a_figure_along_the_rates_is_of_equal_rates_and_counts_what_was_lost():
    table = sweep(
        a={(0.1, 0.1, 0): (9.0, 9.0, 1.0), (0.2, 0.2, 0): DIVERGED, (0.1, 0.2, 0): (9.0, 9.0, 7.0)},
        b={(0.1, 0.1, 0): (9.0, 9.0, 2.0), (0.2, 0.2, 0): (9.0, 9.0, 3.0)},
    )
    (ax,) = figures.along(table, {"one": A, "two": B}).axes
    _, names = ax.get_legend_handles_labels()
    assert names == ["one (1 diverged)", "two"]
    marks = [line.get_ydata() for line in ax.lines if line.get_marker() == "o"]
    assert [list(y[np.isfinite(y)]) for y in marks] == [[1.0], [2.0, 3.0]]
    (nothing,) = figures.along(table, {"three": C}).axes
    assert "not trained here" in nothing.texts[0].get_text()


def test_runs_and_seeds_part():
    """|log of the ratio of the distances| at each step; what diverged is lost from there on."""
    plain = {(0.1, 0.1, s): (9.0, 3.0, 3.0 * 2**s) for s in (0, 1, 2)}
    nudged = {(0.1, 0.1, 0): (9.0, 3.0, 6.0), (0.1, 0.1, 1): (9.0, 6.0, np.nan)}
    table = sweep(a=plain, b=nudged)
    found = pairs.apart(table, B, A).set_index(["seed", "step"])["apart"]
    assert found[0, 0] == found[0, 10] == 0
    assert found[0, 20] == pytest.approx(np.log(2))
    assert found[1, 10] == pytest.approx(np.log(2))
    assert found[1, 20] == pytest.approx(np.log(sweeps.LOST / 6))
    assert len(found) == 6
    both = pairs.seeds_apart(table, A)
    assert set(both) == {"rate_phi", "rate_theta", "step", "seed_one", "seed_other", "apart"}
    last = both[both["step"] == 20].set_index(["seed_one", "seed_other"])["apart"] / np.log(2)
    assert dict(last.round(9)) == {(0, 1): 1.0, (0, 2): 2.0, (1, 2): 1.0}


def test_seeds_are_compared_at_the_same_rates_only():
    runs = {(0.1, 0.1, 0): (9.0, 9.0, 1.0), (0.2, 0.1, 1): (9.0, 9.0, 2.0)}
    assert pairs.seeds_apart(sweep(a=runs), A).empty


def test_a_run_that_diverged_early_is_lost_at_every_later_step():
    early = {(0.1, 0.1, 0): (9.0, np.nan), (0.1, 0.1, 1): (9.0, 2.0, 3.0)}  # no row at step 20
    table = sweep(a={(0.1, 0.1, s): (9.0, 2.0, 3.0) for s in (0, 1)}, b=early)
    found = pairs.apart(table, B, A).set_index(["seed", "step"])["apart"]
    assert found[0, 20] == pytest.approx(np.log(sweeps.LOST / 3))
    assert found[1, 20] == 0
    assert len(pairs.seeds_apart(table, B)) == len(STEPS)


def test_a_figure_of_partings_has_ends_and_growth():
    one = everywhere(1.0) | {(0.1, 0.1, 0): (9.0, 9.0, 8.0)}  # far enough apart for a log axis
    table = sweep(a=one, b=everywhere(2.0))
    fig = figures.partings(table, {"first": (A, B)})
    fig.canvas.draw()
    ends, growth = fig.axes
    (marks,) = [line for line in ends.lines if line.get_marker() == "o"]
    assert set(marks.get_xdata()) == {1.0, 8.0} and set(marks.get_ydata()) == {2.0}
    (same,) = [line for line in ends.lines if line is not marks]
    assert list(same.get_xdata()) == list(same.get_ydata()) == [1.0, 8.0]
    assert ends.get_xscale() == "log"
    rounding, seeds = growth.lines
    assert list(rounding.get_xdata()) == [10, 20]
    assert rounding.get_ydata()[-1] == pytest.approx(np.log(2))
    assert (rounding.get_label(), seeds.get_linestyle()) == ("first", "--")
    (nothing,) = figures.partings(table, {"first": (A, ABSENT)}).axes
    assert "not trained here" in nothing.texts[0].get_text()


def test_a_figure_of_ratios_has_a_mark_a_run_and_medians():
    runs = {(0.1, 0.1, s): (9.0, 9.0, 2.0**s) for s in (0, 1, 2)} | {(0.1, 0.05, 0): DIVERGED}
    fig = figures.ratios(sweep(a=runs), {"A": A, "not run": B})
    marks, medians, half = fig.axes[1].lines
    assert list(marks.get_xdata()) == [1, 1, 1, 2]
    assert dict(zip(*medians.get_data(), strict=True)) == {1: 2.0, 2: np.inf}
    assert half.get_xdata()[0] == 0.5
    (nothing,) = figures.ratios(sweep(a=runs), {"B": B}).axes
    assert "not trained here" in nothing.texts[0].get_text()


def test_names_tell_arms_apart_and_are_those_of_the_tables():
    """Every published arm has a name of its own, which is the table's."""
    runs, _ = tables.read_table(places.root() / "results" / "train_gans" / "runs.parquet")
    named = {
        Arm(*row): method
        for method, *row in zip(
            runs["method"], *(runs[field] for field in Arm._fields), strict=True
        )
    }
    assert all(name(arm) == method for arm, method in named.items())
    assert len(set(named.values())) == len(named) == 40


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ([2, 2], r"shard must be \[i, n\] with 0 <= i < n, got \[2, 2\]"),
        ([0], r"shard must be \[i, n\]"),
        ([3, 4], r"shard must have a run, got \[3, 4\] of 3 runs"),
    ],
)
def test_a_shard_that_is_none_is_refused(shard, message):
    runs = [batch.Run("all", A, 0.1, 0.1, seed) for seed in range(3)]
    with pytest.raises(ValueError, match=message):
        batch.part(runs, shard)


def test_shards_have_all_runs_and_none_twice():
    runs = [batch.Run("all", arm, 0.1, 0.2, seed) for arm in (A, B) for seed in range(5)]
    parts = [run for i in range(3) for run in batch.part(runs, [i, 3])]
    assert sorted(parts) == sorted(runs)
    with pytest.raises(ValueError, match=r"got twice simultaneous at rates 0\.1 and 0\.2, seed 0"):
        batch.part([*runs, runs[0]._replace(group="again")], [0, 1])


class Page(NamedTuple):
    """What a batch asks of a page: a store in memory, and what is published."""

    kept: dict
    saved: sweeps.Sweep | None = None
    name: str = "train_gans"

    def digest(self, key, data):
        return Store.name(key)

    def cached(self, key, compute, data):
        assert data == "theirs"
        if self.digest(key, data) not in self.kept:
            origin = {"seconds": 1.0, "commit": "c", "dirty": False, "device": "cpu"}
            self.kept[self.digest(key, data)] = {**compute(), **origin}
        return self.kept[self.digest(key, data)]

    def out_of_time(self):
        return False

    def stored(self, key, data):
        return self.kept[self.digest(key, data)]

    def progress(self, step, total, text):
        pass

    def published(self, table, notebook):
        return self.saved and Table(getattr(self.saved, table), "published")


def test_a_batch_trains_what_is_neither_kept_nor_published():
    runs = [batch.Run("all", A, 0.1, 0.1, seed) for seed in range(3)]
    trained = []

    def train_one(run, key):
        trained.append(run.seed)
        return {"seen": [9.0, 4.0], "diverged_at": -1}

    def scores_of(run, found):
        distances = zip(STEPS, found["seen"], strict=False)
        return [
            {"step": s, "inception_score": 1.0, "frechet_distance": x} for s, x in distances
        ], None

    def key_of(run):
        return {"seed": run.seed}

    judged = {"judge": "ours"}
    digest = Store.name({"seed": 1, **judged})
    saved = sweep(a={(0.1, 0.1, 1): (9.0, 5.0, 3.0)})
    saved = saved._replace(runs=saved.runs.assign(key=digest, seconds=7.0))
    page = Page({}, saved)
    batch.train(
        page, runs[:1], key_of, train_one, judged=judged, data="theirs"
    )  # interrupted after the first
    done = batch.train(
        page, runs, key_of, train_one, judged=judged, data="theirs", keep_published=True
    )
    assert trained == [0, 2]
    curves, rows = batch.tables(page, done, scores_of, data="theirs")
    assert rows["seed"].tolist() == [0, 1, 2] and rows["seconds"].tolist() == [1.0, 7.0, 1.0]
    assert rows["key"].tolist() == [Store.name({**key_of(run), **judged}) for run in runs]
    assert rows["frechet_distance"].tolist() == [4.0, 3.0, 4.0]
    assert curves.groupby("seed").size().tolist() == [2, 3, 2]
    assert set(Arm._fields) < set(curves) and set(Arm._fields) < set(rows)
    done = batch.train(page, runs, key_of, train_one, judged=judged, data="theirs")
    assert trained == [0, 2, 1], "without the published ones, what is kept is kept"


@pytest.mark.parametrize("damage", ["key", "value"])
def test_a_damaged_run_of_a_shard_is_refused_by_its_name(tmp_path, damage):
    store, key = Store(tmp_path), {"rate": 0.1}
    store.put(key, {"loss": [1.0, 0.5]})
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace("0.1" if damage == "key" else "0.5", "0.25"))
    with pytest.raises(ValueError, match=path.name):
        store.get(key)


def test_of_an_arm_two_pictures_are_kept():
    table = sweep(
        a=everywhere(3.0) | {(0.1, 0.1, 0): (9.0, 9.0, 2.0), (0.1, 0.2, 0): (9.0, 9.0, 1.0)}
    )
    rows = batch.few_pictures(table.runs.assign(picture="seen"))
    kept = rows[rows["picture"].notna()]
    assert sorted(zip(kept["rate_phi"], kept["rate_theta"], strict=True)) == [
        (0.1, 0.1),
        (0.1, 0.2),
    ]


CHAPTERS = (
    "gan_update_schemes",
    "learning_rate_ratios",
    "cancelling_drift",
    "which_clock",
    "alternating_regularisation",
    "gan_variants",
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_drawn_from_tables_and_shows_code_that_fits_its_column(chapter):
    read = cells.read(places.root() / "notebooks" / f"{chapter}.py")
    assert cells.to_draw(read) is not None
    hidden = {"hide-input", "remove-input", "parameters"}
    shown = [
        line for c in read if c.code and not hidden & set(c.tags) for line in c.text.split("\n")
    ]
    assert len(shown) >= 5 and max(map(len, shown)) <= 80
