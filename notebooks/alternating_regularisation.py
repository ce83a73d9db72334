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
# # Regularising alternating updates
#
# Alternating updates are said to have the less harmful drift. **Is there anything left to cancel?**

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
from ddbook import page
from ddbook.sweeps import gans

run = page.open("alternating_regularisation", profile)
claims = run.claims
sweeps = gans.open(run)
here, shown = sweeps[0], sweeps[-1]
run.uses(here.tables[0])
METHODS = {
    "alternating": "alternating",
    "both cancelled": "alternating, both cancelled",
    "discriminator's": "alternating, discriminator cancelled",
}
SHADES = [gans.COLORS["alternating"], gans.COLORS["cancelled"], gans.COLORS["discriminator"]]

# %% [markdown]
# ## The terms
#
# With φ first, the interaction terms of drift are (DD, Eqs. 16–17)
#
# $$
# -\tfrac{\alpha h}{4}\|\nabla_\theta E\|^2 \;\text{ in } \tilde L_1,
# \qquad
# -\tfrac{\lambda h}{4}\left(1 - \tfrac{2\alpha}{\lambda}\right)\|\nabla_\phi E\|^2
# \;\text{ in } \tilde L_2.
# $$
#
# Where α/λ > ½ the second one *minimises* the discriminator's gradient, and DD argues that to cancel
# it takes something useful away. So DD cancels the discriminator's alone, $c_1 = \alpha h/4$, and
# finds (its Figure 9) that this makes training less sensitive to the rates, while cancelling both
# can hurt. These are coefficients with each player on its own clock: on one clock the generator's
# is $+\tfrac{\alpha h}{4}$ at every ratio, and the threshold at one half is gone
# ([two-player games](two_player_games.py) has both).

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance of alternating updates, with both interaction terms cancelled, and with only the discriminator's cancelled."}, "figure": {"caption": "DD, Figure 9. Alternating updates, the same with both interaction terms cancelled, and with the discriminator's alone. Left: the best tenth, mean and range. Right: all runs, quartiles and extremes.", "name": "fig-alternating-cancelled"}}
gans.figure(shown, METHODS, colors=SHADES, needed=METHODS.values())
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of each method."}, "figure": {"caption": "Samples of the best run of each method, by Fréchet distance at the end.", "name": "fig-alternating-samples"}}
gans.pictures(shown, METHODS)
plt.show()

# %% [markdown]
# :::{when-judged} dd-fig9-less-sensitive
# The interquartile range of $\log_{10}$ of the Fréchet distance over the sweep is
# {measured}`dd-fig9-less-sensitive:spread_alternating:.2g` for alternating updates,
# {measured}`dd-fig9-less-sensitive:spread_both:.2g` with both terms cancelled and
# {measured}`dd-fig9-less-sensitive:spread_discriminator:.2g` with the discriminator's alone
# (simultaneous ones have {measured}`dd-fig9-less-sensitive:spread_simultaneous:.2g`); the medians of the distance are {measured}`dd-fig9-less-sensitive:median_alternating:.3g`,
# {measured}`dd-fig9-less-sensitive:median_both:.3g` and
# {measured}`dd-fig9-less-sensitive:median_discriminator:.3g`. Seed by seed the range is smaller with
# the discriminator's term cancelled than without in
# {measured}`dd-fig9-less-sensitive:seeds_less_spread` of
# {measured}`dd-fig9-less-sensitive:seeds`: {claim}`dd-fig9-less-sensitive` The worst runs are another
# matter: they end at {measured}`dd-fig9-less-sensitive:worst_alternating:.3g`,
# {measured}`dd-fig9-less-sensitive:worst_both:.3g` and, with the discriminator's alone,
# {measured}`dd-fig9-less-sensitive:worst_discriminator:.3g`.
# :::
#
# ## Pair by pair, and by the sign of the term
#
# :::{when-judged} dd-fig9-both-can-hurt
# Where α/λ > ½, cancelling the discriminator's term alone ends closer than cancelling both in
# {measured}`dd-fig9-both-can-hurt:better_pairs` of {measured}`dd-fig9-both-can-hurt:pairs` pairs of
# runs (a sign test gives {measured}`dd-fig9-both-can-hurt:chance:.2g`):
# {claim}`dd-fig9-both-can-hurt` Plain alternating updates end closer than with both cancelled in
# {measured}`dd-fig9-both-can-hurt:plain_better_pairs` (it gives
# {measured}`dd-fig9-both-can-hurt:plain_chance:.2g`).
# :::
#
# Where α/λ < ½ the generator's term maximises, and to cancel it should help. At ½ it is absent, and
# the two ways of cancelling are the same.
#
# :::{when-judged} ours-sign-of-the-term
# Cancelling the generator's term beside the discriminator's changes the distance the way the term's
# sign says in {measured}`ours-sign-of-the-term:better_pairs` of
# {measured}`ours-sign-of-the-term:pairs` pairs of runs (a sign test gives
# {measured}`ours-sign-of-the-term:chance:.2g`): {claim}`ours-sign-of-the-term` In the mean it
# multiplies the distance by {measured}`ours-sign-of-the-term:factor_above:.2f` where α/λ > ½ and by
# {measured}`ours-sign-of-the-term:factor_below:.2f` where α/λ < ½. This does not tell the clocks
# apart: what is added penalises $\|\nabla_\phi E\|^2$ below one half and rewards it above, whatever
# drift's own term is.
# :::

# %% tags=["hide-input"]
WANTED = [
    ("alternating, discriminator cancelled", "alternating"),
    ("alternating, both cancelled", "alternating"),
    ("alternating, discriminator cancelled", "alternating, both cancelled"),
]


def parts(sweep):
    """The sweep, where the generator's term minimises by its published sign, and where it does not.

    At a ratio of exactly one half (rates that are decimal halves compare exactly) it is absent.
    """
    return {
        "all": sweep,
        "α/λ > ½": gans.restrict(sweep, lambda t: t["rate_phi"] > 0.5 * t["rate_theta"]),
        "α/λ < ½": gans.restrict(sweep, lambda t: t["rate_phi"] < 0.5 * t["rate_theta"]),
    }


for name, part in parts(shown).items():
    table = gans.compare(part, WANTED)
    if len(table):
        display(gans.style(table).set_caption(name))  # noqa: F821

# %% tags=["hide-input", "remove-output"]
if {"simultaneous", *METHODS.values()} <= set(here.runs["method"]):
    spreads = {label: gans.spread(here, method) for label, method in METHODS.items()}
    each_seed = [
        gans.spread(one, METHODS["discriminator's"]) < gans.spread(one, METHODS["alternating"])
        for one in (
            gans.restrict(here, lambda t, seed=seed: t["seed"] == seed)
            for seed in here.runs["seed"].unique()
        )
    ]
    ends = {
        label: gans.final(here, method, "frechet_distance") for label, method in METHODS.items()
    }
    medians = {label: float(np.median(x)) for label, x in ends.items()}
    worst = {label: float(np.max(x)) for label, x in ends.items()}
    claims.record(
        "dd-fig9-less-sensitive",
        holds=bool(
            spreads["discriminator's"] < spreads["alternating"]
            and medians["discriminator's"] <= medians["alternating"]
            and all(each_seed)
        ),
        measured={
            "seeds_less_spread": sum(each_seed),
            "seeds": len(each_seed),
            "spread_alternating": spreads["alternating"],
            "spread_discriminator": spreads["discriminator's"],
            "spread_both": spreads["both cancelled"],
            "spread_simultaneous": gans.spread(here, "simultaneous"),
            "median_alternating": medians["alternating"],
            "median_discriminator": medians["discriminator's"],
            "median_both": medians["both cancelled"],
            "worst_alternating": worst["alternating"],
            "worst_discriminator": worst["discriminator's"],
            "worst_both": worst["both cancelled"],
        },
    )
    above = parts(here)["α/λ > ½"]
    both = gans.judge(above, METHODS["discriminator's"], METHODS["both cancelled"])
    plain = gans.judge(above, "alternating", METHODS["both cancelled"])
    claims.record(
        "dd-fig9-both-can-hurt",
        holds=bool(both["chance"] < 0.05 and both["every_seed"]),
        measured={**both, **{f"plain_{k}": v for k, v in plain.items()}},
    )
    added = gans.paired(
        here, METHODS["both cancelled"], METHODS["discriminator's"], "frechet_distance"
    )
    added = added[added["rate_phi"] != 0.5 * added["rate_theta"]]
    helps = added["rate_phi"] < 0.5 * added["rate_theta"]
    found = gans.tally(added.assign(gain=added["gain"].where(helps, -added["gain"])))
    logs = gans.log_ratio(added)
    claims.record(
        "ours-sign-of-the-term",
        holds=bool(found["chance"] < 0.05 and found["every_seed"]),
        measured={
            **found,
            "factor_above": float(np.exp(logs[~helps].mean())),
            "factor_below": float(np.exp(logs[helps].mean())),
        },
    )

# %% tags=["remove-input"]
run.card(*(table for sweep in sweeps for table in sweep.tables))

# %% [markdown]
# ## What to vary
#
# - `first="theta"`: the generator moves first, and the roles change.
# - `clock="joint"`: on one clock the generator's interaction term is $+\alpha h/4$ at every ratio.
