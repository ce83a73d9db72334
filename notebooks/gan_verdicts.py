# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [train_gans_again]
# ---

# %% [markdown]
# # GANs: the verdicts
#
# A sweep gives hundreds of pairs of runs, and some of them agree with any statement. **Which of the
# paper's statements on GANs for images hold, on seeds that nobody had looked at before the rule was
# written?** This page gives each comparison as one interval, by [that
# rule](../book/how_claims_are_judged.md). Until eight fresh seeds of both methods have been trained, a
# statement is not settled, whatever its interval looks like.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # there are no settings: those of train_gans_again say what was run

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import arms, effects, figures, sweep
from ddbook.sweeps.arms import (
    ADAM,
    ALTERNATING,
    BOTH_AFTER,
    CANCELLED,
    DISCRIMINATOR,
    DISCRIMINATOR_AFTER,
    GENERATOR,
    RK4,
    SIMULTANEOUS,
    adjusted,
)
from ddbook.sweeps.effects import Comparison, best, closer, spreads

run = page.open("gan_verdicts", profile, parameters)
claims = run.claims
here, shown = sweep.open(run, trained_by="train_gans_again")
data = here.tables[0]

# %% [markdown]
# | | the paper | here |
# | --- | --- | --- |
# | images | CIFAR-10, 32×32 | CIFAR-10, 16×16 |
# | networks | SN-GAN | SN-GAN, an eighth as wide |
# | minibatch | 128 | 64 |
# | steps | 300,000 | 2,000, and 20,000 at one rate |
# | seeds | 5 | 8 fresh ones, as far as they have come |
# | scorer | Inception score, by Inception | Fréchet distance, by a [classifier of our own](train_scorer.py) |
# | verdicts | Figure 5: {claim}`dd-fig5-alternating`, {claim}`dd-fig5-rk4` | Figure 7: {claim}`dd-fig7-cancelling`, {claim}`dd-fig7-recovers-rk4`, {claim}`dd-fig7-matches-adam` |
#
# ## What is compared
#
# A comparison is two methods and a statistic. `closer` pairs runs of the same rate and seed, `best`
# takes each method at its own best rate, `spreads` asks whose distance hangs more on the rate.
# Comparisons for one figure of the paper are a family.

# %% tags=["hide-input"]
NS_ALT, NS_SIM = (
    arm._replace(loss="non-saturating") for arm in (ALTERNATING, SIMULTANEOUS)
)
FAMILIES = {
    "Figure 5": [
        Comparison(
            "alternating / simultaneous", ALTERNATING, SIMULTANEOUS, closer
        ),
        Comparison("RK4 / simultaneous", RK4, SIMULTANEOUS, closer),
        Comparison("RK4 / alternating", RK4, ALTERNATING, closer),
    ],
    "Figure 7": [
        Comparison("cancelled / simultaneous", CANCELLED, SIMULTANEOUS, closer),
        Comparison("cancelled / RK4", CANCELLED, RK4, closer),
        Comparison("cancelled / Adam, best rates", CANCELLED, ADAM, best),
        Comparison("D's term / G's term", DISCRIMINATOR, GENERATOR, closer),
        Comparison("D's term / no term", DISCRIMINATOR, SIMULTANEOUS, closer),
        Comparison(
            "D's term / half of it",
            DISCRIMINATOR,
            DISCRIMINATOR._replace(strength=0.5),
            closer,
        ),
        Comparison(
            "D's term / twice it",
            DISCRIMINATOR,
            DISCRIMINATOR._replace(strength=2.0),
            closer,
        ),
    ],
    "Figure 9": [
        Comparison(
            "D's term / both, alternating",
            DISCRIMINATOR_AFTER,
            BOTH_AFTER,
            closer,
        ),
    ],
    "Figure 10": [
        Comparison(
            "non-saturating: alternating / simultaneous", NS_ALT, NS_SIM, closer
        ),
    ],
}

# %% tags=["hide-input"]
SGA = {x: adjusted("SGA", x) for x in (0.001, 0.01, 0.1, 1.0)}
CONSENSUS = {x: adjusted("consensus", x) for x in (0.001, 0.01, 0.1)}
DRIFT = adjusted("drift consensus", 1.0)
LS = [arm._replace(loss="least squares") for arm in (CANCELLED, SIMULTANEOUS)]
HALVES = [arm._replace(estimator="halves") for arm in (CANCELLED, SIMULTANEOUS)]
FAMILIES["Figure 8(a)"] = [
    Comparison(f"cancelled / SGA {x:g}", CANCELLED, arm, closer)
    for x, arm in SGA.items()
]
FAMILIES["Figure 8(b)"] = [
    Comparison("cancelled / consensus, drift's", CANCELLED, DRIFT, closer),
    *(
        Comparison(f"cancelled / consensus {x:g}", CANCELLED, arm, closer)
        for x, arm in CONSENSUS.items()
    ),
]
FAMILIES["Other losses, halves"] = [
    Comparison("least squares: cancelled / simultaneous", *LS, closer),
    Comparison("halves: cancelled / simultaneous", *HALVES, closer),
]
LONG = {
    "Figures 5 and 7, 20,000 steps": [
        one._replace(
            words=f"{one.words}, long",
            one=one.one._replace(grid="long"),
            other=one.other._replace(grid="long"),
        )
        for one in [*FAMILIES["Figure 5"], *FAMILIES["Figure 7"][:3]]
    ]
}

# %% [markdown]
# Three lines of it are the whole rule: the effect, its chance within the family, and the verdict.

# %%
family = effects.compare(here, FAMILIES["Figure 5"])
found, chance = effects.row(family, "alternating / simultaneous")
print(effects.closer_than(found, chance))  # True, False, or None: not settled

# %% tags=["hide-input"]
NO_FARTHER = {
    "cancelled / RK4": effects.EQUAL,
    "cancelled / Adam, best rates": effects.EQUAL,
    **{
        one.words: effects.MARGIN
        for figure in ("Figure 8(a)", "Figure 8(b)")
        for one in FAMILIES[figure][figure == "Figure 8(b)" :]
    },
}


def verdict(table, words):
    """What a comparison says about its claim: True, False or None."""
    found, chance = effects.row(table, words)
    plain = words.removesuffix(", long")
    if plain in NO_FARTHER:
        return effects.no_worse(found, NO_FARTHER[plain])
    if plain.startswith("non-saturating"):
        return effects.alike(found)
    return effects.closer_than(found, chance)


def judged(sweep, families):
    """The effects of all families, and the verdicts by the words of each comparison."""
    tables = {
        name: effects.compare(sweep, family)
        for name, family in families.items()
    }
    return tables, {
        words: verdict(table, words)
        for table in tables.values()
        for words in table["comparison"]
    }


tables, verdicts = judged(here, FAMILIES)
late, late_verdicts = judged(here, LONG)
_ = run.save(
    "effects",
    pd.concat(
        table.assign(
            family=name,
            holds=[
                {True: "yes", False: "no", None: "open"}[
                    {**verdicts, **late_verdicts}[words]
                ]
                for words in table["comparison"]
            ],
        )
        for name, table in {**tables, **late}.items()
    ),
    data=data,
)

# %% [markdown]
# ## After 2,000 steps
#
# All comparisons of all figures, each judged in its family:

# %% tags=["figure"] mystnb={"image": {"alt": "For each comparison of two methods the factor between their Fréchet distances at the end with its 95 percent interval, in a panel for each figure of the paper, coloured by verdict; comparisons whose runs are still to come are left out."}, "figure": {"caption": "After 2,000 steps at four rates, one for both players: the factor between the distances of two methods, mean and 95 % interval over seeds. Left of one, the first is closer.", "name": "fig-gan-verdicts"}}
figures.intervals(*judged(shown, FAMILIES), label=shown.label)
plt.show()

# %% tags=["hide-input", "remove-output"]
ALL = {**tables, **late}
WHERE = {
    words: table for table in ALL.values() for words in table["comparison"]
}


def numbers(*words):
    """What the ledger shows of one comparison, or of several."""
    shown = {}
    for number, one in enumerate(words):
        of_one = effects.numbers(*effects.row(WHERE[one], one))
        if number:
            of_one = {
                f"{key}_{number + 1}": value for key, value in of_one.items()
            }
        shown |= of_one
    return shown


SAID = {**verdicts, **late_verdicts}
JUDGED = {
    "dd-fig5-alternating": ["alternating / simultaneous"],
    "dd-fig5-rk4": ["RK4 / simultaneous", "RK4 / alternating"],
    "dd-fig7-cancelling": ["cancelled / simultaneous"],
    "dd-fig7-recovers-rk4": ["cancelled / RK4"],
    "dd-fig7-matches-adam": ["cancelled / Adam, best rates"],
    "ours-which-term": ["D's term / G's term", "D's term / no term"],
    "ours-strength-that-cancels": [
        "D's term / half of it",
        "D's term / twice it",
    ],
    "dd-fig9-both-can-hurt": ["D's term / both, alternating"],
    "dd-fig10-little-change": ["non-saturating: alternating / simultaneous"],
    "ours-least-squares": ["least squares: cancelled / simultaneous"],
    "ours-halves": ["halves: cancelled / simultaneous"],
    "dd-fig5-alternating-long": ["alternating / simultaneous, long"],
    "dd-fig5-rk4-long": ["RK4 / simultaneous, long", "RK4 / alternating, long"],
    "dd-fig7-cancelling-long": ["cancelled / simultaneous, long"],
    "dd-fig7-recovers-rk4-long": ["cancelled / RK4, long"],
}
for claim, words in JUDGED.items():
    if all(np.isfinite(effects.row(WHERE[one], one)[0].mean) for one in words):
        claims.record(
            claim,
            holds=effects.all_of([SAID[one] for one in words]),
            measured=numbers(*words),
            data=data,
        )

# %% tags=["hide-input", "remove-output"]
# Figure 8: the strengths among themselves, best against worst
for claim, family, strengths in (
    ("dd-fig8-sga", "Figure 8(a)", SGA),
    ("dd-fig8-consensus", "Figure 8(b)", {**CONSENSUS, "drift": DRIFT}),
):
    if not sweep.has(here, CANCELLED, *strengths.values()):
        continue
    table = tables[family]
    order = table.sort_values("mean")["comparison"]
    last = {words.split()[-1].removesuffix("'s"): words for words in order}
    by = {f"{x:g}" if x != "drift" else x: arm for x, arm in strengths.items()}
    worst, top = (by[name] for name in (next(iter(last)), list(last)[-1]))
    spread = effects.effect(closer(here, top, worst))
    apart = effects.closer_than(spread, spread.chance, effects.EQUAL)
    no_farther = [SAID[words] for words in table["comparison"]]
    claims.record(
        claim,
        holds=effects.all_of([apart, *no_farther]),
        measured=effects.numbers(spread)
        | {"best": arms.name(top), "worst": arms.name(worst)},
        data=data,
    )
UPDATES = {
    "two of D": ALTERNATING._replace(updates_phi=2),
    "two of G": ALTERNATING._replace(updates_theta=2),
}
if sweep.has(here, ALTERNATING, *UPDATES.values()):
    by_rate = {
        (label, rate): effects.effect(
            closer(
                sweep.restrict(
                    here, lambda t, rate=rate: t["rate_phi"] == rate
                ),
                arm,
                ALTERNATING,
            )
        )
        for label, arm in UPDATES.items()
        for rate in sorted(here.runs.rate_phi.unique())
        if (arm.of(here.runs).rate_phi == rate).any()
    }
    chances = dict(
        zip(
            by_rate,
            effects.holm([e.chance for e in by_rate.values()]),
            strict=True,
        )
    )
    better = {
        key: effects.closer_than(e, chances[key]) for key, e in by_rate.items()
    }
    worse = {
        key: effects.closer_than(
            e._replace(mean=-e.mean, low=-e.high, high=-e.low), chances[key]
        )
        for key, e in by_rate.items()
    }
    both = [
        any(
            better[label, r] is True for label_, r in by_rate if label_ == label
        )
        and any(
            worse[label, r] is True for label_, r in by_rate if label_ == label
        )
        for label in UPDATES
    ]
    none = all(
        verdict is False for verdict in (*better.values(), *worse.values())
    )
    claims.record(
        "dd-multiple-updates",
        holds=True if any(both) else False if none else None,
        measured={
            f"factor, {label}, rate {rate:g}": float(np.exp(e.mean))
            for (label, rate), e in by_rate.items()
        }
        | {"seeds": min(e.seeds for e in by_rate.values())},
        data=data,
    )


def spread_over_seeds(arm, without=None):
    """The mean, over rates, of how far runs are from the median over seeds, in logarithms."""
    mine = arm.of(here.runs)
    mine = mine[mine.seed != without]
    logs = np.log(mine.frechet_distance.fillna(np.inf).clip(upper=sweep.LOST))
    middle = logs.groupby(mine.rate_phi).transform("median")
    return float((logs - middle).abs().mean())


if sweep.has(here, CANCELLED, ADAM):
    seeds = sorted(
        set(CANCELLED.of(here.runs).seed) & set(ADAM.of(here.runs).seed)
    )
    n = len(seeds)
    whole = np.log(spread_over_seeds(CANCELLED) / spread_over_seeds(ADAM))
    if n > 1:  # Tukey's jackknife: pseudo-values, a seed each
        left_out = np.log(
            [
                spread_over_seeds(CANCELLED, seed)
                / spread_over_seeds(ADAM, seed)
                for seed in seeds
            ]
        )
        found = effects.effect(
            pd.DataFrame(
                {"seed": seeds, "value": n * whole - (n - 1) * left_out}
            )
        )
        claims.record(
            "dd-seed-variance",
            holds=None
            if n < effects.SEEDS
            else True
            if found.low > 0
            else False
            if found.high < 0
            else None,
            measured={
                "factor": float(np.exp(found.mean)),
                "factor_low": float(np.exp(found.low)),
                "factor_high": float(np.exp(found.high)),
                "seeds": n,
            },
            data=data,
        )
if sweep.has(here, DISCRIMINATOR_AFTER, ALTERNATING):
    found = effects.effect(spreads(here, DISCRIMINATOR_AFTER, ALTERNATING))
    enough = found.seeds >= effects.SEEDS
    claims.record(
        "dd-fig9-less-sensitive",
        holds=(True if found.high < 0 else False if found.low > 0 else None)
        if enough
        else None,
        measured={
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "seeds": found.seeds,
        },
        data=data,
    )

# %% [markdown]
# What the paper says, and what these runs say of it:
#
# | statement | verdict |
# | --- | --- |
# | Alternating updates are better than simultaneous ones | {claim}`dd-fig5-alternating` |
# | Runge–Kutta 4 is better than both | {claim}`dd-fig5-rk4` |
# | Cancelling the interaction terms is better than leaving them | {claim}`dd-fig7-cancelling` |
# | … and recovers Runge–Kutta 4 | {claim}`dd-fig7-recovers-rk4` |
# | … and does as well as Adam | {claim}`dd-fig7-matches-adam` |
# | With the non-saturating loss the order of play matters little | {claim}`dd-fig10-little-change` |
#
# ## Ten times as long
#
# At 2,000 steps a run has just left its start. The same methods at one rate, 0.03, for 20,000 steps
# (Adam at its own, 0.0004):

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Fréchet distance against the step for runs of 20,000 steps, a line for each method, the geometric mean over seeds with a band from the closest to the farthest."}, "figure": {"caption": "Runs of 20,000 steps: geometric mean over seeds, band from the closest to the farthest seed. A line with few seeds is a first look.", "name": "fig-gan-long"}}
LINES = {
    "simultaneous": SIMULTANEOUS,
    "alternating": ALTERNATING,
    "RK4": RK4,
    "cancelled": CANCELLED,
    "discriminator's term": DISCRIMINATOR,
    "Adam": ADAM,
}
fig, ax = plt.subplots(figsize=(7.0, 4.0))
drawn = False
for label, arm in LINES.items():
    mine = arm._replace(grid="long").of(shown.curves)
    if mine.empty:
        continue
    drawn = True
    logs = np.log(
        mine.pivot(index="step", columns="seed", values="frechet_distance")
    )
    color = arms.color_of(arm)
    ax.plot(
        np.exp(logs.mean(axis=1)),
        color=color,
        label=f"{label} ({logs.shape[1]})",
    )
    ax.fill_between(
        logs.index,
        np.exp(logs.min(axis=1)),
        np.exp(logs.max(axis=1)),
        color=color,
        alpha=0.12,
        lw=0,
    )
if drawn:
    ax.set(yscale="log", xlabel="step", ylabel="Fréchet distance")
    ax.legend(title="method (seeds)", fontsize=9)
else:
    ax.text(0.5, 0.5, "no long runs yet", ha="center", transform=ax.transAxes)
    ax.set_axis_off()
ax.set_title(shown.label, fontsize=10)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The same comparisons after 20,000 steps: a factor between distances with its 95 percent interval for each pair of methods."}, "figure": {"caption": "After 20,000 steps at one rate: the factor between the distances of two methods, mean and 95 % interval over seeds.", "name": "fig-gan-verdicts-long"}}
figures.intervals(*judged(shown, LONG), label=shown.label)
plt.show()

# %% tags=["hide-input", "remove-output"]
cancelled, adam = (arm._replace(grid="long") for arm in (CANCELLED, ADAM))
if sweep.has(here, cancelled, adam):
    paths = {
        name: np.log(
            arm.of(here.curves)
            .pivot(index="step", columns="seed", values="frechet_distance")
            .fillna(np.inf)
            .iloc[1:]
        )
        for name, arm in (("cancelled", cancelled), ("Adam", adam))
    }

    def by_seed(values):
        return effects.effect(
            values.clip(-effects.FAR, effects.FAR)
            .rename("value")
            .rename_axis("seed")
            .reset_index()
            .dropna()
        )

    least = {name: path.min() for name, path in paths.items()}
    decay = by_seed(paths["cancelled"].iloc[-1] - least["cancelled"])
    claims.record(
        "dd-fig7-no-late-decay",
        holds=effects.no_worse(decay, effects.EQUAL),
        measured=effects.numbers(decay),
        data=data,
    )
    peak = by_seed(least["cancelled"] - least["Adam"])
    claims.record(
        "dd-fig7-same-peak",
        holds=effects.no_worse(peak, effects.EQUAL),
        measured=effects.numbers(peak),
        data=data,
    )
    bar = np.maximum(least["cancelled"], least["Adam"]) + effects.MARGIN
    reached = {
        name: pd.Series(
            {
                seed: (path[seed] <= bar[seed]).idxmax()
                for seed in bar.dropna().index
            }
        )
        for name, path in paths.items()
    }
    fewer = by_seed(np.log(reached["Adam"] / reached["cancelled"]))
    claims.record(
        "dd-fig7-adam-fewer-steps",
        holds=effects.closer_than(fewer, fewer.chance),
        measured=effects.numbers(fewer),
        data=data,
    )

# %% [markdown]
# | statement | verdict |
# | --- | --- |
# | Alternating updates are better than simultaneous ones | {claim}`dd-fig5-alternating-long` |
# | Runge–Kutta 4 is better than both | {claim}`dd-fig5-rk4-long` |
# | Cancelling is better than not | {claim}`dd-fig7-cancelling-long` |
# | … and recovers Runge–Kutta 4 | {claim}`dd-fig7-recovers-rk4-long` |
# | Cancelled updates do not decay late | {claim}`dd-fig7-no-late-decay` |
# | … and reach Adam's peak | {claim}`dd-fig7-same-peak` |
# | Adam needs fewer steps to it | {claim}`dd-fig7-adam-fewer-steps` |
#
# ## What follows
#
# Where an interval lies to one side, a statement of the paper can be taken home from networks as
# small as these. Where it does not, what remains is that the seeds so far could not tell, and the
# [ledger](../book/claims.md) says what would.

# %% tags=["remove-input"]
run.card(*sweep.tables(here, shown), "effects")

# %% [markdown]
# ## What to vary
#
# - The statistic: `effects.best` in place of `effects.closer` compares methods at their own best
#   rates, which is what a user of one would do.
# - The margin: a tenth is our choice. Which verdicts hang on it?
