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
# # GANs: how the players take turns
#
# Toy games have exact answers. **Does discretisation drift matter where a GAN is trained on
# images?** If it does, schemes with different drift must train differently, though they follow the
# same game at the same rates. In our first sweep alternating updates ended closer to the images than
# simultaneous ones more often than not, and so did Runge–Kutta 4. Three seeds cannot settle it; the
# [verdicts](gan_verdicts.py) are left to fresh ones.
#
# | | the paper | here |
# | --- | --- | --- |
# | networks, images | SN-GAN, 32×32 | SN-GAN at an eighth of its width, 16×16 |
# | steps, minibatch | 300,000 of 128 | 2,000 of 64 |
# | data | CIFAR-10 | CIFAR-10, as JPEG |
# | seeds | 5 | 3, looked at before the [rule](../book/how_claims_are_judged.md) was written |
# | scorer | Inception | a [classifier of our own](train_scorer.py) |
# | verdicts | simultaneous worse than alternating; Runge–Kutta 4 best | {claim}`dd-fig5-alternating`, {claim}`dd-fig5-rk4` |
# | | little difference with another loss | {claim}`dd-fig10-little-change` |

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import figures, pairs, pictures, sweep
from ddbook.sweeps.arms import ADAM, ALTERNATING, CANCELLED, RK4, SIMULTANEOUS
from ddlib import regularizers as reg
from ddlib.games import Players

run = page.open("gan_update_schemes", profile, parameters)
claims = run.claims
here, shown = sweep.open(run)
data = here.tables[0]

# %% [markdown]
# ## The game
#
# In the zero-sum game of {cite:t}`goodfellow2014generative` the discriminator φ and the generator θ
# play for
#
# $$
# E(\phi, \theta) = \mathbb E_x \log \sigma(D_\phi(x))
#   + \mathbb E_z \log\bigl(1 - \sigma(D_\phi(G_\theta(z)))\bigr)
# $$
#
# with $L_1 = -E$ and $L_2 = E$.
#
# A scheme says how the two move. With *simultaneous* updates both take their gradient at the same
# point and step at once. With *alternating* updates φ steps first, and θ's gradient is taken where φ
# has arrived. *Runge–Kutta 4* combines four gradients of both players, so that a step follows the
# flow of the game far more closely.
#
# Simultaneous updates follow the flows of ({cite:t}`rosca2021discretization`, Eqs. 14–15; each
# player on its own clock, see [two-player games](two_player_games.py))
#
# $$
# \begin{aligned}
# \tilde L_1 &= -E + \tfrac{\alpha h}{4}\left(\|\nabla_\phi E\|^2 - \|\nabla_\theta E\|^2\right), \\
# \tilde L_2 &= E + \tfrac{\lambda h}{4}\left(\|\nabla_\theta E\|^2 - \|\nabla_\phi E\|^2\right):
# \end{aligned}
# $$
#
# each player is driven to *increase* the other's gradient. That is the interaction term, the second
# one in the brackets. Alternating updates, φ first, change the generator's to
# $-\tfrac{\lambda h}{4}(1 - \tfrac{2\alpha}{\lambda}) \|\nabla_\phi E\|^2$. The library has these
# coefficients; here they are at one rate for both players, in units of $\alpha h/4$.

# %%
rates = Players(4.0, 4.0)  # with h = 1 the unit αh/4 is one
schemes = ("simultaneous", "alternating")
drift = {scheme: reg.drift_terms(rates, method=scheme) for scheme in schemes}
pd.DataFrame(
    {
        scheme: {
            "‖∇φE‖² for φ": terms.phi.self_norm,
            "‖∇θE‖² for φ": -terms.phi.interaction / 2,
            "‖∇θE‖² for θ": terms.theta.self_norm,
            "‖∇φE‖² for θ": -terms.theta.interaction / 2,
        }
        for scheme, terms in drift.items()
    }
).T

# %% [markdown]
# Three of the four are the same. The last one has changed sign: under alternating updates the
# generator makes the discriminator's gradient smaller. Runge–Kutta 4 at equal rates, on the full
# batch, has no drift up to $O(h^5)$. So the paper expects (its Figure 5) that alternating updates are
# better than simultaneous ones, and that at equal rates Runge–Kutta 4 is better than both.
#
# (how-gans-are-compared)=
# ## How runs are compared
#
# [The training notebook](train_gans.py) says what is trained and how. A *run* is a method, a pair of
# rates and a seed; a *sweep* is many runs. Two scores of a run are made from its samples: the
# Inception score (more is better) and the Fréchet distance from the training images (less is better).
# [The scorer's chapter](train_scorer.py) shows what real images score.
#
# As in the paper, a curve shows the best tenth of a method's runs, or the best quarter where there
# are few: the mean, with a band from worst to best. They are chosen by their best score after the
# start, for each of the two scores by itself. The boxes beside the curve show what the best tenth
# hides, the whole sweep.
#
# Runs of two methods with the same rates and seed are a *pair*. They share their start and the first
# minibatch of each step. (An alternating step draws a second minibatch and a Runge–Kutta step four, so
# these methods see more data.) The first method *ends closer* where its Fréchet distance is the
# smaller one. An interval plot at the end of each chapter shows by what factor, on average over pairs,
# with a 95 % interval over seeds. *By the rule*, before a verdict, means by that of
# [how claims are judged](../book/how_claims_are_judged.md), which asks for eight fresh seeds.
#
# ### What a rounding does
#
# Each row of the sweep's table names the processor that trained it, and two processors round
# differently. Does that matter? To see how far a rounding carries, some runs were started from
# parameters larger by $2^{-23}$ of themselves, one or two units in the last place, and again from
# parameters smaller by as much.

# %% tags=["hide-input"]
PLAIN = {"simultaneous": SIMULTANEOUS, "alternating": ALTERNATING}
NUDGED = {
    "simultaneous": (
        SIMULTANEOUS._replace(nudge=1),
        SIMULTANEOUS._replace(nudge=-1),
    ),
    "alternating": (
        ALTERNATING._replace(nudge=1),
        ALTERNATING._replace(nudge=-1),
    ),
}

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Left: the Fréchet distance at the end of runs nudged down against that of the same runs nudged up. Right: the median over runs of how far the two have parted, against the step, beside how far two seeds have parted."}, "figure": {"caption": "What a rounding does, at one rate for both players. Left: distance at the end of a run from a start nudged up, and of the same run from one nudged down; grey: no difference. Right: how far the two have parted, as the absolute logarithm of the ratio of their distances, median over runs; dashed: the same of two seeds.", "name": "fig-rounding"}}
figures.partings(shown, NUDGED)
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, *(arm for two in NUDGED.values() for arm in two)):
    found = {
        "rounding": pd.concat(
            [pairs.apart(here, *two) for two in NUDGED.values()]
        ),
        "seeds": pd.concat(
            [pairs.seeds_apart(here, up) for up, _ in NUDGED.values()]
        ),
    }
    ends = {
        k: t.loc[t["step"] == t["step"].max(), "apart"]
        for k, t in found.items()
    }
    claims.record(
        "ours-rounding",
        holds=bool(ends["rounding"].median() >= ends["seeds"].median() / 2),
        measured={k: float(x.median()) for k, x in ends.items()}
        | {f"{k}_factor": float(np.exp(x.median())) for k, x in ends.items()}
        | {"runs": len(ends["rounding"]), "pairs_of_seeds": len(ends["seeds"])},
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-rounding
# At the end two such runs have parted by a factor of
# {measured}`ours-rounding:rounding_factor:.2f` in the median. Two seeds have parted by a factor of
# {measured}`ours-rounding:seeds_factor:.2f`. So the numbers of a single run are those of one
# processor, and a conclusion has to rest on many runs: {claim}`ours-rounding`
# :::
#
# ## Simultaneous and alternating updates
#
# First the two schemes that cost the same.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance against training step for simultaneous and alternating updates, and box plots over the whole sweep."}, "figure": {"caption": "DD, Figure 5, left. Simultaneous and alternating updates over the full grid of rates. Left: the best tenth of the sweep (number of runs in brackets), mean and range. Right: all runs, quartiles and extremes.", "name": "fig-gan-updates"}}
figures.figure(shown, PLAIN)
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, ALTERNATING, SIMULTANEOUS):
    found = pairs.judge(here, ALTERNATING, SIMULTANEOUS)
    claims.record(
        "dd-fig5-alternating",
        holds=pairs.improves(found),
        measured=found,
        data=data,
    )

# %% [markdown]
# :::{when-judged} dd-fig5-alternating
# Pair by pair, alternating updates end closer in {measured}`dd-fig5-alternating:better_pairs` of
# {measured}`dd-fig5-alternating:pairs`. Their best tenth ends closer, too, at a Fréchet distance of
# {measured}`dd-fig5-alternating:frechet:.3g` against
# {measured}`dd-fig5-alternating:frechet_other:.3g`. By the rule: {claim}`dd-fig5-alternating`
# :::
#
# Much of this is about which runs fail. The table shows how all of them ended: the medians of the
# Fréchet distance before the first step and after the last, and how many runs ended farther from the
# images than they began.

# %% tags=["hide-input"]
ends = sweep.outcomes(shown, [SIMULTANEOUS, ALTERNATING, RK4, CANCELLED, ADAM])
ends.style.format("{:.3g}", subset=["began", "ended"]).hide(
    axis="index"
).set_table_attributes('class="dataframe"')

# %% [markdown]
# (Runge–Kutta 4 ran at one rate for both players only; [cancelling](cancelling_drift.py) is a later
# chapter.)
#
# ### Which rates
#
# A box plot hides which rates do well. Here is the distance at the end for each pair of them, over
# the rates of this sweep and over the paper's own. In a square the discriminator's rate grows to the
# right and the generator's upwards; the diagonal has one rate for both.

# %% tags=["hide-input"]
AT_PAPERS = {
    "simultaneous": SIMULTANEOUS._replace(grid="paper's rates"),
    "alternating": ALTERNATING._replace(grid="paper's rates"),
}

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Four grids of numbers: the Fréchet distance at the end for each pair of rates, for simultaneous and alternating updates over this sweep's rates and over the paper's."}, "figure": {"caption": "Fréchet distance at the end (median over seeds, less is better) for each pair of rates: of this sweep, and the paper's.", "name": "fig-gan-map"}}
figures.maps(
    shown,
    {**PLAIN, **{f"{label}, paper's": arm for label, arm in AT_PAPERS.items()}},
)
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, AT_PAPERS["alternating"]):
    two = (AT_PAPERS["alternating"], AT_PAPERS["simultaneous"])
    both = pairs.paired(here, *two, "frechet_distance")
    slow = both[(both["rate_phi"] <= 0.005) & (both["rate_theta"] <= 0.005)]
    top = both[(both["rate_phi"] == 0.05) & (both["rate_theta"] == 0.05)]
    difference = float((slow["one"] / slow["other"] - 1).abs().max())
    claims.record(
        "ours-papers-rates",
        holds=difference < 0.1,
        measured={
            "largest_difference": difference,
            "largest": 0.005,
            "steps": int(here.curves["step"].max()),
            "runs": len(slow),
            "closer_at_top": int((top["gain"] > 0).sum()),
            "seeds": len(top),
            **pairs.judge(here, *two),
        },
        data=data,
    )

# %% [markdown]
# :::{when-judged} ours-papers-rates
# The paper's smaller rates are too small for 2,000 steps. Where both are
# {measured}`ours-papers-rates:largest:g` or less, a simultaneous and an alternating run of the same
# start differ by {measured}`ours-papers-rates:largest_difference:.1%` at most:
# {claim}`ours-papers-rates` At the paper's largest rate alternating updates end closer in
# {measured}`ours-papers-rates:closer_at_top` of {measured}`ours-papers-rates:seeds` seeds.
# :::
#
# ## Runge–Kutta 4
#
# Drift of order $h$ is gone from a Runge–Kutta step only where both players have one rate: at two,
# the stages mix steps of two sizes, and an interaction term is left. So it is compared at one rate
# for both players. A step takes four gradients, each on a fresh minibatch, as the paper's released
# code does.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance for simultaneous updates, alternating ones and Runge–Kutta 4 at one rate for both players, and box plots over all such runs."}, "figure": {"caption": "DD, Figure 5, right. One rate for both players: simultaneous, alternating and Runge–Kutta 4 with a fresh minibatch at each stage; the best quarter of the runs.", "name": "fig-gan-rk4"}}
figures.figure(sweep.level(shown), {**PLAIN, "RK4": RK4}, share=0.25)
plt.show()

# %% tags=["hide-input", "remove-output"]
if sweep.has(here, RK4, *PLAIN.values()):
    against = {
        label: pairs.judge(sweep.level(here), RK4, arm, share=0.25)
        for label, arm in PLAIN.items()
    }
    claims.record(
        "dd-fig5-rk4",
        holds=all(
            found["best_better"] and found["chance"] < 0.05
            for found in against.values()
        ),
        measured={
            f"{m}_{k}": v
            for m, found in against.items()
            for k, v in found.items()
        },
        data=data,
    )

# %% [markdown]
# :::{when-judged} dd-fig5-rk4
# Runge–Kutta 4 ends closer than simultaneous updates in
# {measured}`dd-fig5-rk4:simultaneous_better_pairs` of {measured}`dd-fig5-rk4:simultaneous_pairs`
# pairs. Against alternating updates it does so in
# {measured}`dd-fig5-rk4:alternating_better_pairs`, which shows no lead at this length. By the
# rule: {claim}`dd-fig5-rk4`
# :::

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of each method."}, "figure": {"caption": "Samples of the best run of each method, by Fréchet distance at the end.", "name": "fig-gan-updates-samples"}}
pictures.pictures(shown, {**PLAIN, "RK4": RK4})
plt.show()

# %% [markdown]
# ## Another loss
#
# With the non-saturating generator loss, $L_2 = -\mathbb E_z \log \sigma(D(G(z)))$, the game is no
# longer zero-sum. A player's interaction term is then no gradient of the other's norm, and nothing
# says that it destabilises. The paper finds little difference between simultaneous and alternating
# updates then (its Figure 10).

# %% tags=["hide-input"]
NON_SATURATING = {
    "simultaneous": SIMULTANEOUS._replace(loss="non-saturating"),
    "alternating": ALTERNATING._replace(loss="non-saturating"),
}

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance for simultaneous and alternating updates with the non-saturating loss."}, "figure": {"caption": "DD, Figure 10. As above, with the non-saturating loss of the generator.", "name": "fig-gan-non-saturating"}}
figures.figure(shown, NON_SATURATING)
plt.show()

# %% tags=["hide-input", "remove-output"]
two = (ALTERNATING, SIMULTANEOUS)
others = [NON_SATURATING[label] for label in ("alternating", "simultaneous")]
if sweep.has(here, others[0], *two):
    zero_sum, other = pairs.judge(here, *two), pairs.judge(here, *others)
    ratios = [
        pairs.median_ratio(pairs.paired(here, *arms, "frechet_distance"))
        for arms in (others, two)
    ]

    def gap(found):
        return abs(np.log(found["frechet"] / found["frechet_other"]))

    claims.record(
        "dd-fig10-little-change",
        holds=bool(
            gap(other) < gap(zero_sum) / 2 and gap(other) < np.log(1.15)
        ),
        measured={
            **other,
            "gap": gap(other),
            "gap_zero_sum": gap(zero_sum),
            "median_ratio": ratios[0],
            "median_ratio_zero_sum": ratios[1],
        },
        data=data,
    )

# %% [markdown]
# :::{when-judged} dd-fig10-little-change
# The difference does become smaller: in the median over pairs alternating updates end at
# {measured}`dd-fig10-little-change:median_ratio:.2f` of the distance of simultaneous ones. But it does
# not vanish, for they end closer in {measured}`dd-fig10-little-change:better_pairs` of
# {measured}`dd-fig10-little-change:pairs` pairs. By the rule: {claim}`dd-fig10-little-change`
# :::

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of each method with the non-saturating loss."}, "figure": {"caption": "Samples of the best run of each method, by Fréchet distance at the end, with the non-saturating loss.", "name": "fig-gan-non-saturating-samples"}}
pictures.pictures(shown, NON_SATURATING)
plt.show()

# %% [markdown]
# ## Pair by pair
#
# Each comparison of this chapter as one interval. Left of one, the first method is the closer one.
# An interval over three seeds is long, and where it crosses one nothing can be said.

# %% tags=["remove-input", "remove-output"]
WANTED = [
    (ALTERNATING, SIMULTANEOUS),
    (RK4, SIMULTANEOUS),
    (RK4, ALTERNATING),
    (NON_SATURATING["alternating"], NON_SATURATING["simultaneous"]),
]
_ = run.save("pairs", pairs.compare(here, WANTED), data=data)
pairs.style(pairs.compare(shown, WANTED))

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "For four comparisons of two methods the factor between their Fréchet distances at the end with its 95 percent interval over three seeds, over all pairs of rates and at one rate for both players. Most intervals reach across one."}, "figure": {"caption": "The factor between the Fréchet distances of two methods at the end, mean over pairs and 95 % interval over seeds.", "name": "fig-gan-update-pairs"}}
OTHER_LOSS = [
    arm._replace(loss="non-saturating") for arm in (ALTERNATING, SIMULTANEOUS)
]
figures.pairwise(
    {"all pairs of rates": shown, "one rate": sweep.level(shown)},
    [
        (ALTERNATING, SIMULTANEOUS),
        (RK4, SIMULTANEOUS),
        (RK4, ALTERNATING),
        tuple(OTHER_LOSS),
    ],
    shown.label,
)
plt.show()

# %% tags=["remove-input"]
run.card(*sweep.tables(here, shown))

# %% [markdown]
# ## What follows
#
# Schemes that follow one game at the same rates do end in different places, as drift says they
# should, and simultaneous updates are the ones that fail most. How much is drift's doing is the
# subject of the next chapters: they [change the ratio of the rates](learning_rate_ratios.py), and
# [take the drift away](cancelling_drift.py).
#
# To vary:
#
# - The rates: add 0.2 to the grid and see which method is lost first.
# - The batch size: does noise hide the drift at a batch of 4?
# - `first="theta"` in the update: the generator moves first, and the drift's signs change places.
