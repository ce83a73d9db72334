"""The statistic that compares two methods, against SciPy's and worked by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from ddbook.sweeps import arms, effects, figures
from ddbook.sweeps.sweep import Sweep
from scipy import stats

ONE, OTHER = arms.ALTERNATING, arms.SIMULTANEOUS


def sweep_of(distances: dict[arms.Arm, dict[tuple[float, int], float]]) -> Sweep:
    rows = [
        {**arm._asdict(), "rate_phi": rate, "rate_theta": rate, "seed": seed,
         "frechet_distance": value}
        for arm, runs in distances.items()
        for (rate, seed), value in runs.items()
    ]  # fmt: skip
    runs = pd.DataFrame(rows)
    return Sweep(runs, runs, ())


def test_seeds_count_and_not_runs():
    """The interval is Student's over the seeds' means, as SciPy has it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"seed": np.repeat(np.arange(9), 4), "value": rng.normal(0.3, 1, 36)})
    found = effects.effect(frame)
    means = frame.groupby("seed").value.mean()
    test = stats.ttest_1samp(means, 0)
    interval = test.confidence_interval(0.95)
    np.testing.assert_allclose(found[:4], [means.mean(), *interval, test.pvalue], rtol=1e-12)
    assert (found.seeds, found.pairs) == (9, 36)
    doubled = effects.effect(pd.concat([frame, frame]))  # the same runs twice are no more evidence
    np.testing.assert_allclose(doubled[:4], found[:4], rtol=1e-12)


def test_one_seed_says_nothing_and_what_is_not_finite_is_refused():
    found = effects.effect(pd.DataFrame({"seed": [1, 1], "value": [0.1, 0.2]}))
    assert (found.low, found.high, found.chance) == (-np.inf, np.inf, 1.0)
    none = effects.effect(pd.DataFrame({"seed": [], "value": []}))
    assert (none.mean, none.seeds, none.chance) == (0.0, 0, 1.0)
    with pytest.raises(ValueError, match=r"values must be finite"):
        effects.effect(pd.DataFrame({"seed": [1], "value": [np.nan]}))


def test_a_lost_run_is_ten_times_as_far_and_two_lost_ones_are_even():
    keys = [(0.1, 1), (0.1, 2), (0.1, 3), (0.1, 4)]
    one = dict(zip(keys, [2.0, np.nan, 2.0, np.nan], strict=True))
    other = dict(zip(keys, [4.0, 4.0, np.nan, np.nan], strict=True))
    ratios = effects.closer(sweep_of({ONE: one, OTHER: other}), ONE, OTHER)
    np.testing.assert_allclose(
        ratios.set_index("seed").value, [-np.log(2), np.log(10), -np.log(10), 0.0], rtol=1e-12
    )


def test_only_pairs_count_and_the_best_is_over_each_one_s_own_rates():
    one = {(0.1, 1): 2.0, (0.2, 1): 1.0, (0.1, 2): 8.0}
    other = {(0.1, 1): 4.0, (0.3, 1): 3.0, (0.3, 2): 2.0}
    made = sweep_of({ONE: one, OTHER: other})
    assert effects.closer(made, ONE, OTHER).value.tolist() == pytest.approx([np.log(0.5)])
    assert effects.best(made, ONE, OTHER).value.tolist() == pytest.approx(np.log([1 / 3, 4]))


def test_the_spread_over_rates_is_of_logarithms_by_seed():
    one = {(0.1, 1): 1.0, (0.2, 1): np.e}
    other = {(0.1, 1): 1.0, (0.2, 1): np.e**2}
    found = effects.spreads(sweep_of({ONE: one, OTHER: other}), ONE, OTHER)
    assert found.value.tolist() == pytest.approx([np.std([0, 1], ddof=1) - np.std([0, 2], ddof=1)])


def test_holm_is_the_procedure_as_published():
    """Step down: reject while the k-th smallest is below level / (m − k + 1) (Holm 1979)."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        chances = list(rng.uniform(0, 0.2, 6))
        rejected = set()
        for rank, i in enumerate(np.argsort(chances)):
            if chances[i] >= 0.05 / (len(chances) - rank):
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(effects.holm(chances)) if p < 0.05} == rejected


def case(mean, half, seeds=8, chance=0.001):
    return effects.Effect(mean, mean - half, mean + half, chance, seeds, 4 * seeds)


M, Q = effects.MARGIN, effects.EQUAL


@pytest.mark.parametrize(
    ("found", "chance", "verdict"),
    [
        (case(-2 * M, M), 0.01, True),
        (case(-2 * M, M), 0.06, None),  # not once the family is counted
        (case(-2 * M, 2.1 * M), 0.01, None),  # reaches zero
        (case(-0.9 * M, 0.5 * M), 0.01, None),  # better, but by the margin? open
        (case(-0.5 * M, 0.4 * M), 0.01, False),  # better, but by less than the margin
        (case(0.5 * M, M), 0.5, False),  # excludes the gain
        (case(0.5 * M, 2 * M), 0.5, None),
        (case(2 * M, M), 0.01, False),  # the other way round
        (case(-2 * M, M, seeds=7), 0.01, None),  # too few
    ],
)
def test_closer_by_a_margin_in_three_words(found, chance, verdict):
    assert effects.closer_than(found, chance) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (case(0.2 * Q, 0.5 * Q), True),
        (case(0.2 * Q, 0.9 * Q), None),
        (case(-1.5 * Q, 0.4 * Q), False),
        (case(1.5 * Q, 0.4 * Q), False),
        (case(0, 3 * Q), None),
        (case(0.0, 0.1 * Q, seeds=5), None),
    ],
)
def test_alike_in_three_words(found, verdict):
    assert effects.alike(found) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (case(0, 0.5 * M), True),
        (case(-5 * M, M), True),
        (case(0, 2 * M), None),
        (case(3 * M, M), False),
    ],
)
def test_no_worse_in_three_words(found, verdict):
    assert effects.no_worse(found) is verdict


def test_the_rule_errs_as_seldom_as_it_says():
    """Where there is nothing, it says "closer" in less than one in forty."""
    rng = np.random.default_rng(2)

    def verdicts(shift):
        found = []
        for _ in range(400):
            values = rng.normal(shift, 0.15, (8, 1)) + rng.normal(0, 0.2, (8, 4))
            frame = pd.DataFrame({"seed": np.repeat(np.arange(8), 4), "value": values.ravel()})
            one = effects.effect(frame)
            found.append(effects.closer_than(one, one.chance))
        return found

    wrong = verdicts(0.0).count(True)
    assert wrong <= stats.binom.isf(1e-6, 400, 0.025)
    assert verdicts(-0.4).count(True) > 350
    assert verdicts(-0.4).count(False) == 0


def test_all_of_no_verdicts_is_open():
    assert effects.all_of([]) is None


def test_what_a_ledger_shows_is_a_factor():
    shown = effects.numbers(case(np.log(0.8), 0.1), 0.02)
    assert shown["factor"] == pytest.approx(0.8) and shown["chance_in_family"] == 0.02
    assert shown["factor_low"] == pytest.approx(0.8 * np.exp(-0.1))


def test_a_figure_of_pairs_draws_the_factor_and_judges_nothing():
    """Twice as far at every seed is a factor of two; a part without a method has no row of it."""
    rates = {(0.1, seed): 1.0 + seed for seed in range(8)}
    sweep = sweep_of({ONE: {key: 2 * value for key, value in rates.items()}, OTHER: rates})
    loss = "least squares"
    pairs = [(ONE, OTHER), (ONE, OTHER._replace(loss=loss))]
    figure = figures.pairwise({"all": sweep, "again": sweep}, pairs, "label")
    try:
        for ax, title in zip(figure.axes, ("all", "again"), strict=True):
            assert ax.get_title(loc="left") == title
            labels = [label.get_text() for label in ax.get_yticklabels()]
            assert labels == ["alternating / simultaneous"]
            [point] = [line for line in ax.get_lines() if line.get_marker() == "s"]
            np.testing.assert_allclose(point.get_xdata(), 2.0, rtol=1e-12)
            assert point.get_color() == figures.VERDICTS[None][0]
        assert not figure.legends
    finally:
        plt.close(figure)


def test_a_loss_that_two_methods_share_is_said_once():
    two = tuple(arm._replace(loss="least squares") for arm in (ONE, OTHER))
    sweep = sweep_of({arm: {(0.1, 0): 1.0, (0.1, 1): 2.0} for arm in two})
    figure = figures.pairwise({"all": sweep}, [two], "label")
    try:
        [label] = figure.axes[0].get_yticklabels()
        assert label.get_text() == "least squares alternating /\nsimultaneous"
    finally:
        plt.close(figure)
