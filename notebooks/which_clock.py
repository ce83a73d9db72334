# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [train_gans]
# ---

# %% [markdown]
# (which-clock)=
# # Which clock, which term
#
# At two different rates the paper's coefficients for [cancelling](cancelling_drift.py) do not cancel
# the interaction terms of the flow that both players follow in one common time. **Do the coefficients
# that do cancel there train better, and which of the two players' terms does the work?** In our first
# sweep the paper's coefficients trained better, not those that cancel. The discriminator's term seemed
# to do most of the work, though its size alone did not explain it.
#
# | | the paper | here |
# | --- | --- | --- |
# | networks, images | SN-GAN, 32×32 | SN-GAN at an eighth of its width, 16×16 |
# | steps, minibatch | 300,000 of 128 | 2,000 of 64 |
# | data | CIFAR-10 | CIFAR-10, as JPEG |
# | seeds | 5 | 3, looked at before the [rule](../book/how_claims_are_judged.md) was written |
# | scorer | Inception | a [classifier of our own](train_scorer.py) |
# | verdicts, ours | the joint clock's coefficients train better | {claim}`ours-joint-clock-trains-better` |
# | | the discriminator's term does the work | {claim}`ours-which-term` |
# | | the larger $c_1$ trains better | {claim}`ours-stronger-penalty` |

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import figures, pairs, sweep
from ddbook.sweeps.arms import (
    CANCELLED,
    DISCRIMINATOR,
    EXACT,
    GENERATOR,
    JOINT,
    SIMULTANEOUS,
    color_of,
)
from ddlib import regularizers as reg
from ddlib.games import Players

run = page.open("which_clock", profile, parameters)
claims = run.claims
here, shown = sweep.open(run, [SIMULTANEOUS])
data = here.tables[0]
ALONE_JOINT = DISCRIMINATOR._replace(clock="joint")
ALONE = {"discriminator": DISCRIMINATOR, "generator": GENERATOR}


def named(groups):
    """Measured values of several comparisons in one record, each under its comparison's name."""
    return {
        f"{group}_{k}": v
        for group, found in groups.items()
        for k, v in found.items()
    }


def strengths(player):
    """One player's term alone, at multiples of the coefficient that cancels it."""
    alone = ALONE[player]
    return {
        "0": SIMULTANEOUS,
        "½": alone._replace(strength=0.5),
        "1": alone,
        "2": alone._replace(strength=2.0),
    }


# %% [markdown]
# ## Two clocks, two coefficients
#
# Cancelling adds $c_1\|\nabla_\theta E\|^2$ to the discriminator's loss and
# $c_2\|\nabla_\phi E\|^2$ to the generator's. Read with each player on its *own* clock, as the paper
# does, drift asks for $c_1 = \alpha h/4$ and $c_2 = \lambda h/4$. That is right as a statement about
# one step. On a *joint* clock, on which the time of both players is $h$ after a step, each coefficient
# carries the rate of the other player ([two-player games](two_player_games.py) shows both). Here
# are the two at α = 4λ, in units of $\lambda h/4$.

# %%
rates = Players(16.0, 4.0)  # α and λ; with h = 1 the unit λh/4 is one
coefficients = {}
for clock in ("own", "joint"):
    terms = reg.cancel_interaction(rates, clock=clock)
    coefficients[f"{clock} clock"] = {
        "c₁": terms.phi.other_norm - terms.phi.interaction / 2,
        "c₂": terms.theta.other_norm - terms.theta.interaction / 2,
    }
pd.DataFrame(coefficients).T

# %% [markdown]
# The two clocks have the same two numbers, and change their places. On the joint clock the paper's
# coefficients leave $1 - \alpha/\lambda$ of φ's interaction term and $1 - \lambda/\alpha$ of θ's, so
# that one is cut short and the other turned round. If one clock's coefficients train better, it may
# be for what they cancel, or only for how strongly they penalise a gradient.
#
# ## The clocks on images
#
# The comparison is over pairs of two different rates; at one rate for both the clocks agree.
# {ref}`How runs are compared <how-gans-are-compared>` is said in the chapter on updates.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with the paper's coefficients and those of the joint clock at unequal rates."}, "figure": {"caption": "Unequal rates only: no cancellation, the paper's coefficients, those of the joint clock.", "name": "fig-clocks"}}
clocks = {
    "simultaneous": SIMULTANEOUS,
    "paper's": CANCELLED,
    "joint clock": JOINT,
}
figures.figure(sweep.uneven(shown), clocks, needed=[JOINT])
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, JOINT, CANCELLED):
    uneven = sweep.uneven(here)
    found = pairs.judge(uneven, JOINT, CANCELLED)
    both = pairs.paired(uneven, JOINT, CANCELLED, "frechet_distance")
    above = both["rate_phi"] > both["rate_theta"]
    factors = {
        f"factor_{side}": float(np.exp(pairs.log_ratio(both)[where].mean()))
        for side, where in (("above", above), ("below", ~above))
    }
    asides = {"published": pairs.judge(uneven, CANCELLED, JOINT)}
    if sweep.has(here, SIMULTANEOUS):
        asides["plain"] = pairs.judge(uneven, JOINT, SIMULTANEOUS)
        asides["published_plain"] = pairs.judge(uneven, CANCELLED, SIMULTANEOUS)
    claims.record(
        "ours-joint-clock-trains-better",
        holds=pairs.improves(found),
        measured=found | factors | named(asides),
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-joint-clock-trains-better
# The paper's coefficients end closer than the joint clock's in
# {measured}`ours-joint-clock-trains-better:published_better_pairs` of
# {measured}`ours-joint-clock-trains-better:pairs` pairs. Nearly all of the difference lies where
# the discriminator is the faster player. There the joint clock's coefficients multiply the distance by
# {measured}`ours-joint-clock-trains-better:factor_above:.2f`, elsewhere by
# {measured}`ours-joint-clock-trains-better:factor_below:.2f`. By the rule:
# {claim}`ours-joint-clock-trains-better`
# :::
#
# ### Cancelling everywhere on the joint clock
#
# At one rate the paper's coefficients cancel, and at two the joint clock's do. Taken together, these
# runs are a sweep whose terms cancel everywhere. If it is by cancelling that the paper's coefficients
# help, these should help at least as much.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Grids of numbers: the Fréchet distance at the end for each pair of rates, for simultaneous updates, the paper's coefficients and coefficients that cancel on the joint clock."}, "figure": {"caption": "Fréchet distance at the end (median over seeds, less is better) for each pair of rates. The last has the coefficients of the joint clock, which at one rate for both players are the paper's.", "name": "fig-clock-map"}}
maps = {
    "simultaneous": SIMULTANEOUS,
    "paper's": CANCELLED,
    "exactly cancelled": EXACT,
}
figures.maps(shown, maps)
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, EXACT, SIMULTANEOUS):
    found = pairs.judge(here, EXACT, SIMULTANEOUS)
    claims.record(
        "ours-exact-cancelling",
        holds=pairs.improves(found),
        measured=found,
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-exact-cancelling
# They end closer than plain updates in {measured}`ours-exact-cancelling:better_pairs` of
# {measured}`ours-exact-cancelling:pairs` pairs. By the rule: {claim}`ours-exact-cancelling`
# :::
#
# ## One player's term
#
# Does the work of cancelling lie with the discriminator's term, $c_1\|\nabla_\theta E\|^2$, which
# penalises the generator's gradient, or with the generator's, $c_2\|\nabla_\phi E\|^2$? Each is
# added alone, with the paper's coefficient.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with only one player's term cancelled."}, "figure": {"caption": "Cancelling the interaction term of one player only (the paper's coefficients), over the full grid.", "name": "fig-one-term"}}
terms = {
    "simultaneous": SIMULTANEOUS,
    "both": CANCELLED,
    "discriminator's": DISCRIMINATOR,
    "generator's": GENERATOR,
}
figures.figure(shown, terms, needed=ALONE.values())
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, DISCRIMINATOR, GENERATOR, SIMULTANEOUS):
    against = {
        "generator": pairs.judge(here, DISCRIMINATOR, GENERATOR),
        "neither": pairs.judge(here, DISCRIMINATOR, SIMULTANEOUS),
    }
    asides = {"other_neither": pairs.judge(here, GENERATOR, SIMULTANEOUS)}
    if sweep.has(here, CANCELLED):
        asides["both"] = pairs.judge(here, CANCELLED, DISCRIMINATOR)
    claims.record(
        "ours-which-term",
        holds=all(
            found["chance"] < 0.01 and found["every_seed"]
            for found in against.values()
        ),
        measured=named(against | asides),
        data=data,
    )
CLOCKS = {  # arms that differ in the clock: the published one, then the joint one
    "both": (CANCELLED, JOINT),
    "alone": (DISCRIMINATOR, ALONE_JOINT),
}
if sweep.has(here, *(arm for two in CLOCKS.values() for arm in two)):
    against = {}
    for label, two in CLOCKS.items():
        both = pairs.paired(sweep.uneven(here), *two, "frechet_distance")
        published_is_larger = both["rate_phi"] > both["rate_theta"]
        gain = both["gain"].where(published_is_larger, -both["gain"])
        against[label] = pairs.tally(both.assign(gain=gain))
    claims.record(
        "ours-stronger-penalty",
        holds=all(
            found["chance"] < 0.01 and found["every_seed"]
            for found in against.values()
        ),
        measured=named(against),
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-which-term
# The discriminator's term alone ends closer than the generator's alone in
# {measured}`ours-which-term:generator_better_pairs` of {measured}`ours-which-term:generator_pairs`
# pairs. Against no term it does in {measured}`ours-which-term:neither_better_pairs`, and the
# generator's alone in {measured}`ours-which-term:other_neither_better_pairs`: the generator's term
# shows no gain of its own. By the rule: {claim}`ours-which-term`
# :::
#
# And is it the size of $c_1$ that decides, whichever clock it comes from? Where α > λ the paper's
# $c_1$ is the larger, where α < λ the joint clock's.
#
# :::{when-judged} ours-stronger-penalty
# Where both terms are cancelled, the run with the larger $c_1$ ends closer in
# {measured}`ours-stronger-penalty:both_better_pairs` of {measured}`ours-stronger-penalty:both_pairs`
# pairs. Where the discriminator's is alone it does in
# {measured}`ours-stronger-penalty:alone_better_pairs`: {claim}`ours-stronger-penalty`
# :::
#
# ## How strong?
#
# Is the coefficient that cancels a special one? Below is each player's term alone, at half and at
# twice the coefficient that cancels it, at one rate for both players, where the clocks agree.


# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Fréchet distance at the end against the rate of both players, one mark for each seed, with the discriminator's term at zero, half, once and twice the coefficient that cancels it."}, "figure": {"caption": "The discriminator's term alone at multiples of the coefficient that cancels it (0: simultaneous updates). Fréchet distance at the end at each rate of both players: one mark for each seed, the line at the median.", "name": "fig-strengths-discriminator"}}
def one_term(player):
    labels = strengths(player)
    colors = [
        color_of(SIMULTANEOUS),
        "#56B4E9",
        color_of(labels["1"]),
        "#000000",
    ]
    return figures.along(sweep.common(shown, labels.values()), labels, colors)


one_term("discriminator")
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The same with the generator's term at zero, half, once and twice the coefficient that cancels it."}, "figure": {"caption": "The same with the generator's term.", "name": "fig-strengths-generator"}}
one_term("generator")
plt.show()

# %% tags=["hide-input", "remove-output"]
OTHERS = {"half": "½", "twice": "2"}
LABELS = {"once": "1", **OTHERS}
if sweep.has(
    here, *(arm for player in ALONE for arm in strengths(player).values())
):
    against = {}
    for player in ALONE:
        arms = strengths(player)
        for label, other in OTHERS.items():
            both = pairs.paired(
                here, arms["1"], arms[other], "frechet_distance"
            )
            against[f"{player}_{label}"] = pairs.tally(both)
    ran = {
        f"{player}_{k}": strengths(player)[v]
        for player in ALONE
        for k, v in LABELS.items()
    }
    ran = {"neither": SIMULTANEOUS, **ran}
    ended = sweep.outcomes(sweep.level(here), ran.values())["farther"]
    claims.record(
        "ours-strength-that-cancels",
        holds=all(
            against[f"discriminator_{label}"]["chance"] < 0.05
            for label in OTHERS
        ),
        measured=named(against)
        | {
            f"{k}_farther": int(number)
            for k, number in zip(ran, ended, strict=True)
        },
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-strength-that-cancels
# The discriminator's term with the coefficient that cancels ends closer than with half of it in
# {measured}`ours-strength-that-cancels:discriminator_half_better_pairs` of
# {measured}`ours-strength-that-cancels:discriminator_half_pairs` pairs. Against twice it, it does so
# in {measured}`ours-strength-that-cancels:discriminator_twice_better_pairs`: nothing
# singles out the coefficient that cancels. By the rule:
# {claim}`ours-strength-that-cancels`
# :::
#
# ## Pair by pair
#
# Each comparison of this chapter as one interval. Left of one, the first method is the closer one.

# %% tags=["remove-input", "remove-output"]
WANTED = [
    (JOINT, SIMULTANEOUS),
    (JOINT, CANCELLED),
    (EXACT, SIMULTANEOUS),
    (DISCRIMINATOR, SIMULTANEOUS),
    (GENERATOR, SIMULTANEOUS),
    (DISCRIMINATOR, GENERATOR),
    (CANCELLED, DISCRIMINATOR),
    (DISCRIMINATOR, ALONE_JOINT),
    *(
        (strengths(player)["1"], strengths(player)[k])
        for player in ALONE
        for k in ("½", "2")
    ),
]
_ = run.save("pairs", pairs.compare(here, WANTED), data=data)
PARTS = {
    "all pairs of rates": shown,
    "one rate for both players": sweep.level(shown),
    "unequal rates": sweep.uneven(shown),
}
for label, part in PARTS.items():
    compared = pairs.compare(part, WANTED)
    if len(compared):
        display(pairs.style(compared).set_caption(f"{label} ({shown.label})"))  # noqa: F821

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "For each comparison of two ways of cancelling the factor between their Fréchet distances at the end with its 95 percent interval over three seeds, over all pairs of rates and at unequal rates."}, "figure": {"caption": "The factor between the Fréchet distances of two methods at the end, mean over pairs and 95 % interval over seeds.", "name": "fig-clock-pairs"}}
figures.pairwise(
    {"all pairs of rates": shown, "unequal rates": sweep.uneven(shown)},
    [
        (JOINT, SIMULTANEOUS),
        (JOINT, CANCELLED),
        (EXACT, SIMULTANEOUS),
        (DISCRIMINATOR, SIMULTANEOUS),
        (GENERATOR, SIMULTANEOUS),
        (DISCRIMINATOR, GENERATOR),
        (DISCRIMINATOR, DISCRIMINATOR._replace(strength=0.5)),
        (DISCRIMINATOR, DISCRIMINATOR._replace(strength=2.0)),
    ],
    shown.label,
)
plt.show()

# %% tags=["remove-input"]
run.card(*sweep.tables(here, shown))

# %% [markdown]
# ## What follows
#
# Whoever cancels drift at two rates need not change the paper's coefficients: those that cancel
# exactly train no better here. What the added terms do beside cancelling, they damp a rotation, and
# the measure of it is $\alpha c_1 + \lambda c_2$. The paper's coefficients never damp less than the
# joint clock's, and [on the Dirac-GAN](general_games.py) damping is all that tells them apart.
#
# To vary:
#
# - The damping: match $\alpha c_1 + \lambda c_2$ here as well, and compare again.
# - The strength of the discriminator's term at unequal rates: between the two clocks' coefficients,
#   and beyond.
