"""Sixteen Gaussians: runs are compared where they are cut, and must have been observed there."""

import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from ddbook.runner import profiles
from ddbook.sweeps import mixture

ROOT = Path(__file__).parents[1]


def settings_of(profile):
    return SimpleNamespace(**profiles.read(ROOT, profile)["train_mixture"])


@pytest.mark.parametrize("profile", ["quick", "standard", "paper"])
def test_runs_are_observed_where_they_are_cut(profile):
    settings = settings_of(profile)
    arms = mixture.plan(settings)
    at = {arm: mixture.observed(arm, arms, settings) for arm in arms}
    paid = {arm: arm.steps * mixture.cost(arm.method, arm.regularised) for arm in arms}
    cuts = 0
    for arm, looks in at.items():
        assert looks[0] == 0 and looks[-1] == arm.steps  # its start and its end
        assert set(mixture.last_quarter(arm.steps, settings.num_looks)) <= set(looks)
        own = mixture.cost(arm.method, arm.regularised)
        for other in at:
            compared = (
                other.method in (arm.method, "simultaneous", "rk4") and arm.loss == other.loss
            )
            for end in (other.steps, paid[other] // own):
                if compared and end < arm.steps and other.steps != settings.rate_steps:
                    assert set(mixture.last_quarter(end, settings.num_looks)) <= set(looks)
                    cuts += 1
    assert cuts > 0 or profile == "quick"


def test_a_method_that_there_is_not_is_named():
    settings = settings_of("quick")
    settings.methods = ["simultaneous", "leapfrog"]
    with pytest.raises(ValueError, match=r"methods.*leapfrog"):
        mixture.plan(settings)


def curves(energy, run=0):
    """Two seeds, observed at the steps 0, 1, …, with these energies."""
    rows = [
        {"seed": seed, "step": t, "modes": 16, "good": 0.5, "energy": e * (seed + 1)}
        for seed in (0, 1)
        for t, e in enumerate(energy)
    ]
    same = {"method": "Euler", "regularised": False, "rate": 0.1, "loss": "non-saturating"}
    return pd.DataFrame(rows).assign(run=run, **same).assign(evaluations=lambda d: 2 * d.step)


def test_an_ending_is_the_mean_over_the_last_quarter():
    rows = curves([9.0, 9.0, 9.0, 1.0, 3.0, 5.0, 5.0, 2.0, 4.0])
    assert mixture.ending(rows, 8).energy.tolist() == [11 / 3, 22 / 3]  # steps 6, 7 and 8
    assert mixture.ending(rows, 4, steps=4).energy.tolist() == [2.0, 4.0]  # steps 3 and 4
    assert mixture.ending(rows, 4, evaluations=8).energy.tolist() == [2.0, 4.0]


def test_a_lost_run_is_infinitely_far():
    rows = curves([1.0, 1.0, 1.0, 1.0, float("nan")])
    assert mixture.ending(rows, 4).energy.tolist() == [float("inf")] * 2


def test_a_run_cut_where_it_was_not_observed_is_refused():
    with pytest.raises(ValueError, match=r"cut at 4 steps.*not observed at \[3\]"):
        mixture.ending(curves([1.0] * 5).query("step != 3"), 4)


def test_of_two_runs_the_longer_is_selected():
    both = pd.concat([curves([1.0, 2.0], run=0), curves([1.0, 2.0, 3.0], run=1)])
    assert set(mixture.select(both, "Euler").run) == {1}
    assert mixture.select(both, "Euler", rate=0.2).empty


def test_only_fresh_seeds_are_compared_and_a_lost_run_is_ten_times_as_far():
    seeds = pd.Index([*mixture.SEEN, 10, 11, 12], name="seed")
    one = pd.DataFrame({"energy": [1.0] * 6 + [math.inf, 3.0]}, index=seeds)
    other = pd.DataFrame({"energy": [9.0] * 5 + [2.0, 1.0, math.inf]}, index=seeds)
    found = mixture.closer(one, other)
    assert found.seed.tolist() == [10, 11, 12]
    assert found.value.tolist() == pytest.approx([-math.log(2), math.log(10), -math.log(10)])
