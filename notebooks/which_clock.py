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
# At two different rates the published coefficients of [cancelling](cancelling_drift.py) do not cancel
# what they mean to, on one clock. **Do the coefficients that do cancel there train better, and which
# of the two players' terms does the work?**

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
# one step. On a *joint* clock, on which both players have gone $h$ after a step, each coefficient
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
# The two clocks have the same two numbers, and change their places. On one clock the published ones
# leave $1 - \alpha/\lambda$ of φ's interaction term and $1 - \lambda/\alpha$ of θ's, so that one is
# cut short and the other turned round. So if one clock's coefficients train better, it may be for
# what they cancel, or only for how strongly they penalise the discriminator.
#
# ## The clocks on images
#
# The comparison is over pairs of two different rates; at one rate for both the clocks agree.
# {ref}`How runs are compared <how-gans-are-compared>` is said in the chapter on updates.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with published and joint-clock coefficients at unequal rates."}, "figure": {"caption": "Unequal rates only: no cancellation, published coefficients, coefficients of the joint clock.", "name": "fig-clocks"}}
clocks = {
    "simultaneous": SIMULTANEOUS,
    "published": CANCELLED,
    "joint clock": JOINT,
}
figures.figure(sweep.uneven(shown), clocks, needed=[JOINT])
plt.show()

# %% tags=["remove-output"]
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
# The best tenth of the runs with the joint clock's coefficients ends at a Fréchet distance of
# {measured}`ours-joint-clock-trains-better:frechet:.3g` and an Inception score of
# {measured}`ours-joint-clock-trains-better:inception:.3g`, with the published ones at
# {measured}`ours-joint-clock-trains-better:frechet_other:.3g` and
# {measured}`ours-joint-clock-trains-better:inception_other:.3g`. Pair by pair the former end closer
# in {measured}`ours-joint-clock-trains-better:better_pairs` of
# {measured}`ours-joint-clock-trains-better:pairs`: {claim}`ours-joint-clock-trains-better` It is the
# published ones that do, in {measured}`ours-joint-clock-trains-better:published_better_pairs` (a
# sign test gives {measured}`ours-joint-clock-trains-better:published_chance:.2g`). Where α > λ the
# joint clock's coefficients multiply their distance by
# {measured}`ours-joint-clock-trains-better:factor_above:.2f` (the geometric mean), where α < λ by
# {measured}`ours-joint-clock-trains-better:factor_below:.2f`. Against plain simultaneous updates the
# joint clock's end closer in {measured}`ours-joint-clock-trains-better:plain_better_pairs` (it gives
# {measured}`ours-joint-clock-trains-better:plain_chance:.2g`), the published ones in
# {measured}`ours-joint-clock-trains-better:published_plain_better_pairs` (it gives
# {measured}`ours-joint-clock-trains-better:published_plain_chance:.2g`).
# :::
#
# ### Cancelling on one clock
#
# Taken together, the runs with the published coefficients at one rate and those with the joint
# clock's at two are a sweep whose terms cancel everywhere, on one clock. If it is by cancelling that
# the published coefficients help, these should help at least as much.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Grids of numbers: the Fréchet distance at the end for each pair of rates, for simultaneous updates, published coefficients and coefficients that cancel on one clock."}, "figure": {"caption": "Fréchet distance at the end (median over seeds, less is better) for each pair of rates. The last has the coefficients of the joint clock, which at one rate for both players are the published ones.", "name": "fig-clock-map"}}
maps = {
    "simultaneous": SIMULTANEOUS,
    "published": CANCELLED,
    "on one clock": EXACT,
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
# So is it by cancelling that the published coefficients help? All the runs taken together whose
# terms cancel on one clock, at equal rates the published ones and elsewhere the joint clock's, end
# closer than plain updates in {measured}`ours-exact-cancelling:better_pairs` of
# {measured}`ours-exact-cancelling:pairs` pairs (a sign test gives
# {measured}`ours-exact-cancelling:chance:.2g`): {claim}`ours-exact-cancelling`
# :::
#
# ## One player's term
#
# Does the work of cancelling lie with the discriminator's term, $c_1\|\nabla_\theta E\|^2$, which
# penalises the generator's gradient, or with the generator's, $c_2\|\nabla_\phi E\|^2$? Each is
# added alone, with its published coefficient.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with only one player's term cancelled."}, "figure": {"caption": "Cancelling the interaction term of one player only (published coefficients), over the full grid.", "name": "fig-one-term"}}
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
# pairs (a sign test gives {measured}`ours-which-term:generator_chance:.2g`), and closer than no term in
# {measured}`ours-which-term:neither_better_pairs` of {measured}`ours-which-term:neither_pairs`
# (it gives {measured}`ours-which-term:neither_chance:.2g`): {claim}`ours-which-term` The generator's
# alone ends closer than no term in {measured}`ours-which-term:other_neither_better_pairs` (it gives
# {measured}`ours-which-term:other_neither_chance:.2g`), and both together closer than the
# discriminator's alone in {measured}`ours-which-term:both_better_pairs` (it gives
# {measured}`ours-which-term:both_chance:.2g`): the generator's term shows no gain of its own.
# :::
#
# And is it the size of $c_1$ that decides, whichever clock it comes from? Where α > λ the published
# $c_1$ is the larger, where α < λ the joint clock's.
#
# :::{when-judged} ours-stronger-penalty
# Of two runs that differ in the clock, the one with the larger $c_1$ ends closer in
# {measured}`ours-stronger-penalty:both_better_pairs` of
# {measured}`ours-stronger-penalty:both_pairs` pairs where both terms are cancelled (a sign test
# gives {measured}`ours-stronger-penalty:both_chance:.2g`), and in
# {measured}`ours-stronger-penalty:alone_better_pairs` of
# {measured}`ours-stronger-penalty:alone_pairs` where the discriminator's is alone (it gives
# {measured}`ours-stronger-penalty:alone_chance:.2g`): {claim}`ours-stronger-penalty`
# :::
#
# ## How strong?
#
# Is the coefficient that cancels a special one? Below is each player's term alone, at half and at
# twice the coefficient that cancels it, at one rate for both players, where the clocks agree.


# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Fréchet distance at the end against the rate of both players, a mark a seed, with the discriminator's term at zero, half, once and twice the coefficient that cancels it."}, "figure": {"caption": "The discriminator's term alone at multiples of the coefficient that cancels it (0: simultaneous updates). Fréchet distance at the end at each rate of both players: a mark a seed, the line at the median.", "name": "fig-strengths-discriminator"}}
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
# The discriminator's term alone with the coefficient that cancels ends closer than with half of it in
# {measured}`ours-strength-that-cancels:discriminator_half_better_pairs` of
# {measured}`ours-strength-that-cancels:discriminator_half_pairs` pairs (a sign test gives
# {measured}`ours-strength-that-cancels:discriminator_half_chance:.2g`), and than with twice it in
# {measured}`ours-strength-that-cancels:discriminator_twice_better_pairs` (it gives
# {measured}`ours-strength-that-cancels:discriminator_twice_chance:.2g`):
# {claim}`ours-strength-that-cancels` The generator's ends closer than with half in
# {measured}`ours-strength-that-cancels:generator_half_better_pairs` (it gives
# {measured}`ours-strength-that-cancels:generator_half_chance:.2g`), than with twice in
# {measured}`ours-strength-that-cancels:generator_twice_better_pairs` (it gives
# {measured}`ours-strength-that-cancels:generator_twice_chance:.2g`). Of its runs with the
# coefficient that cancels {measured}`ours-strength-that-cancels:generator_once_farther` end
# farther from the images than they began, with half of it
# {measured}`ours-strength-that-cancels:generator_half_farther`, and
# {measured}`ours-strength-that-cancels:neither_farther` with no term. With the discriminator's they
# are {measured}`ours-strength-that-cancels:discriminator_once_farther` and
# {measured}`ours-strength-that-cancels:discriminator_half_farther`.
# :::
#
# ## Pair by pair
#
# How often the first method ends closer, and what a sign test gives.

# %% tags=["hide-input"]
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

# %% tags=["remove-input"]
run.card(*sweep.tables(here, shown))

# %% [markdown]
# ## What to vary
#
# - The damping: in a rotation the added terms damp as $\alpha c_1 + \lambda c_2$, and the published
#   coefficients never damp less than the joint clock's. [On the Dirac-GAN](general_games.py) damping
#   is all that tells them apart. Match the two here, and compare again.
# - The strength of the discriminator's term at unequal rates: between the two clocks' coefficients,
#   and beyond.
