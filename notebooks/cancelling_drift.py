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
# # Cancelling drift
#
# If the interaction terms of drift destabilise training, take them away: add to each player's loss
# the term that cancels its own, with a coefficient that is known beforehand. **Does plain gradient
# descent then train a GAN as well as its competitors do?**

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/

# %% tags=["hide-input"]
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import gans

from ddlib import regularizers as reg
from ddlib.drift import modified_terms
from ddlib.games import Players, game_field, zero_sum
from ddlib.methods import alternating_euler, simultaneous_euler

run = page.open("cancelling_drift", profile)
claims = run.claims
sweeps = gans.open(run, ["simultaneous"])
here, shown = gans.exactly(sweeps[0]), gans.exactly(sweeps[-1])
PLAIN_HALVES, CANCELLED_HALVES = "simultaneous, two halves", "cancelled, two halves"

# %% [markdown]
# ## The terms
#
# In a zero-sum game all methods of explicit regularisation that DD's Table 1 compares are
#
# $$
# L_1 = -E + c_1 \|\nabla_\theta E\|^2 + s_1 \|\nabla_\phi E\|^2,
# \qquad
# L_2 = E + c_2 \|\nabla_\phi E\|^2 + s_2 \|\nabla_\theta E\|^2
# $$
#
# with their own coefficients. Drift itself has $c_1 = -\alpha h/4$, $c_2 = -\lambda h/4$,
# $s_1 = \alpha h/4$, $s_2 = \lambda h/4$, where each player is read on its own clock (DD, Theorem
# 3.1). Cancelling is $c_1 = \alpha h/4$, $c_2 = \lambda h/4$ and nothing else.
#
# The table below is generated, not copied: each row's coefficients come from the library, and what
# a row leaves of the drift comes from [backward error analysis](backward_error_analysis.py) of the
# regularised updates of a random smooth game on one clock, on which both players have gone $h$ after
# a step ([two-player games](two_player_games.py) has both clocks). There φ's interaction term
# carries the rate of θ, and θ's that of φ; coefficients that cancel these are called those of the
# *joint clock* below. An entry says what has become of a player's interaction term, as a multiple
# of the plain updates': 1 is untouched, 0 is cancelled, −1 is reversed.


# %%
def random_game(key, size=4):
    """A smooth zero-sum game of two players with `size` parameters each."""
    a, b, c = (jax.random.normal(k, (2 * size, 2 * size)) / 2 for k in jax.random.split(key, 3))

    def value(y):
        z = jnp.concatenate([y.phi, y.theta])
        return jnp.sum(jnp.tanh(a @ z) * jnp.sin(b @ z)) + z @ c @ z / 4

    return zero_sum(value)


@partial(jax.jit, static_argnums=3)
def interaction(rates, per_h, y, scheme):
    """Of the regularised updates' first-order drift all but the self terms, for φ and θ.

    `per_h` are the coefficients of the terms, divided by h.
    """

    def step(h, y):
        terms = jax.tree.map(lambda c: c * h, per_h)
        field = game_field(reg.regularized_losses(losses, terms))
        return scheme(field, rates)(h, y)

    first = modified_terms(step, 1)(y)[1]
    field = game_field(losses)
    found = []
    for name in ("phi", "theta"):
        rate, here, added = getattr(rates, name), getattr(y, name), getattr(per_h, name).self_norm

        def mine(p, name=name):
            return getattr(field(y._replace(**{name: p})), name)

        _, turned = jax.jvp(mine, (here,), (mine(here),))  # ∇‖∇L‖²/2 of the player's own loss
        found.append(getattr(first, name) + (rate**2 / 2 + 2 * added * rate) * turned)
    return found


ROWS = {  # at h = 1: all are proportional to h
    "nothing added": lambda rates: reg.consensus(0.0),
    "drift once more": lambda rates: reg.drift_terms(rates),
    "self terms once more": lambda rates: reg.strengthen_self(rates),
    "cancel, published coefficients": lambda rates: reg.cancel_interaction(rates),
    "cancel, joint clock": lambda rates: reg.cancel_interaction(rates, clock="joint"),
    "discriminator's only": lambda rates: reg.cancel_interaction(rates)._replace(
        theta=reg.DriftTerms()
    ),
    "SGA with strength h": lambda rates: reg.sga(1.0),
    "SGA with strength h/2": lambda rates: reg.sga(0.5),
    "consensus, γ = h/4": lambda rates: reg.consensus(0.25),
    "locally stable GAN, h/4": lambda rates: reg.locally_stable(0.25),
    "ODE-GAN, h/4": lambda rates: reg.ode_gan(0.25),
}
ALTERNATING = {
    "alternating: nothing added": lambda rates: reg.consensus(0.0),
    "alternating: cancel, published": lambda rates: reg.cancel_interaction(
        rates, method="alternating"
    ),
    "alternating: cancel, joint clock": lambda rates: reg.cancel_interaction(
        rates, method="alternating", clock="joint"
    ),
    "alternating: discriminator's only": lambda rates: reg.cancel_interaction(
        rates, method="alternating"
    )._replace(theta=reg.DriftTerms()),
}

with jax.enable_x64():
    losses = random_game(jax.random.key(3))
    y = Players(*(jax.random.normal(k, (4,)) for k in jax.random.split(jax.random.key(4))))
    rows, aside = [], 0.0
    for name, terms in (ROWS | ALTERNATING).items():
        row, scheme = {"method": name}, simultaneous_euler
        if name in ALTERNATING:
            scheme = alternating_euler
        for label, rates in (("equal rates", Players(1.0, 1.0)), ("α = 4 λ", Players(1.0, 0.25))):
            now, plain = (
                interaction(rates, t(rates), y, scheme) for t in (terms, ROWS["nothing added"])
            )
            for player, a, b in zip("φθ", now, plain, strict=True):
                share = (a @ b) / (b @ b)
                aside = max(aside, float(jnp.linalg.norm(a - share * b) / jnp.linalg.norm(b)))
                row[f"{player}, {label}"] = float(share)
        t = terms(Players(1.0, 1.0))
        row |= {
            "c₁/h": t.phi.other_norm - t.phi.interaction / 2,
            "c₂/h": t.theta.other_norm - t.theta.interaction / 2,
            "s₁/h": t.phi.self_norm,
            "s₂/h": t.theta.self_norm,
        }
        rows.append(row)
table = pd.DataFrame(rows)
_ = run.save("table_1", table)
numbers = table.columns[1:]
shown_table = table.assign(**(table[numbers].round(2) + 0.0))  # no −0.00
shown_table.style.format("{:.2f}", subset=numbers).hide(axis="index").set_table_attributes(
    'class="dataframe"'
)

# %% [markdown]
# At equal rates the published coefficients cancel the interaction terms exactly. At unequal rates
# they do not, on one clock: what cancels there carries the **other** player's rate. SGA with the
# strength that the drift has at equal rates, $h/2$, is cancelling; with twice that it reverses the
# terms. (The columns of coefficients are for $\alpha = \lambda = 1$.)

# %% tags=["hide-input", "remove-output"]
by = table.set_index("method")
EVEN, UNEVEN = ["φ, equal rates", "θ, equal rates"], ["φ, α = 4 λ", "θ, α = 4 λ"]
published = by.loc[["cancel, published coefficients", "alternating: cancel, published"]]
joint = by.loc[["cancel, joint clock", "alternating: cancel, joint clock"]]
claims.record(
    "ours-table-1",
    holds=bool(
        published[EVEN].abs().max(axis=None) < 1e-9
        and joint[UNEVEN].abs().max(axis=None) < 1e-9
        and published[UNEVEN].abs().min(axis=None) > 0.1
        and aside < 1e-9
    ),
    measured={
        "published_phi": float(published[UNEVEN[0]].iloc[0]),
        "published_theta": float(published[UNEVEN[1]].iloc[0]),
        "alternating_published_phi": float(published[UNEVEN[0]].iloc[1]),
        "alternating_published_theta": float(published[UNEVEN[1]].iloc[1]),
        "published_left_at_equal_rates": float(published[EVEN].abs().max(axis=None)),
        "joint_left": float(joint[UNEVEN].abs().max(axis=None)),
        "largest_part_aside": aside,
    },
)

# %% [markdown]
# {claim}`ours-table-1`: at α = 4λ the published coefficients turn φ's interaction term into
# {measured}`ours-table-1:published_phi:.3g` times itself and θ's into
# {measured}`ours-table-1:published_theta:.3g` times itself; with those of the joint clock
# {measured}`ours-table-1:joint_left:.1e` is left.
#
# ## Cancelling on images
#
# {ref}`How runs are compared <how-gans-are-compared>` is said in the chapter on updates.

# %% tags=["hide-input", "remove-output"]
run.uses(here.tables[0])

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance of simultaneous updates, of simultaneous updates with the interaction terms cancelled, and of Adam."}, "figure": {"caption": "DD, Figure 7. Simultaneous gradient descent, the same with its interaction terms cancelled, and Adam (alternating). Left: the best tenth, mean and range. Right: all runs, quartiles and extremes.", "name": "fig-cancel"}}
FIGURE_7 = {"simultaneous": "simultaneous", "cancelled": "cancelled", "Adam": "Adam"}
gans.figure(shown, FIGURE_7)
plt.show()

# %% [markdown]
# :::{when-judged} dd-fig7-cancelling
# The best tenth of the runs with the terms cancelled ends at a Fréchet distance of
# {measured}`dd-fig7-cancelling:frechet:.3g` and an Inception score of
# {measured}`dd-fig7-cancelling:inception:.3g`, with plain simultaneous updates at
# {measured}`dd-fig7-cancelling:frechet_other:.3g` and
# {measured}`dd-fig7-cancelling:inception_other:.3g`. Pair by pair the former end closer in
# {measured}`dd-fig7-cancelling:better_pairs` of {measured}`dd-fig7-cancelling:pairs` (a sign test
# gives {measured}`dd-fig7-cancelling:chance:.2g`): {claim}`dd-fig7-cancelling`
#
# Most of these pairs have two rates, at which the published coefficients do not cancel on one clock.
# At one rate for both players they do, and improve
# {measured}`dd-fig7-cancelling:level_better_pairs` of
# {measured}`dd-fig7-cancelling:level_pairs` (it gives
# {measured}`dd-fig7-cancelling:level_chance:.2g`): [below](which-clock) the two are told apart.
#
# And alternating updates, which add nothing, end closer than cancelled ones in
# {measured}`dd-fig7-cancelling:alternating_better_pairs` of
# {measured}`dd-fig7-cancelling:alternating_pairs` (it gives
# {measured}`dd-fig7-cancelling:alternating_chance:.2g`), at one rate in
# {measured}`dd-fig7-cancelling:level_alternating_better_pairs` of
# {measured}`dd-fig7-cancelling:level_alternating_pairs` (it gives
# {measured}`dd-fig7-cancelling:level_alternating_chance:.2g`). The median cancelled run took
# {measured}`dd-fig7-cancelling:times_as_long:.1f` times as long.
# :::
#
# :::{when-judged} dd-fig7-recovers-rk4
# At one rate for both players the best quarter of the cancelled runs ends at
# a distance of {measured}`dd-fig7-recovers-rk4:cancelled_frechet_distance:.3g` and an Inception
# score of {measured}`dd-fig7-recovers-rk4:cancelled_inception_score:.3g`, that of Runge–Kutta 4 at
# {measured}`dd-fig7-recovers-rk4:rk4_frechet_distance:.3g` and
# {measured}`dd-fig7-recovers-rk4:rk4_inception_score:.3g`; run by run the median ratio of the
# distances is {measured}`dd-fig7-recovers-rk4:median_ratio:.3g`: {claim}`dd-fig7-recovers-rk4`
# :::
#
# :::{when-judged} dd-fig7-matches-adam
# Adam's best tenth reaches a distance of {measured}`dd-fig7-matches-adam:adam_frechet:.3g` and an
# Inception score of {measured}`dd-fig7-matches-adam:adam_inception:.3g` on its way, the cancelled
# runs' {measured}`dd-fig7-matches-adam:cancelled_frechet:.3g` and
# {measured}`dd-fig7-matches-adam:cancelled_inception:.3g`: {claim}`dd-fig7-matches-adam`
# :::

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of each method."}, "figure": {"caption": "Samples of the best run of each method, by Fréchet distance at the end.", "name": "fig-cancel-samples"}}
gans.pictures(shown, {"simultaneous": "simultaneous", "cancelled": "cancelled", "Adam": "Adam"})
plt.show()

# %% [markdown]
# ### What the estimator costs
#
# A term is the norm of a gradient, and on one minibatch its square carries the minibatch's variance.
# So one gradient is taken on one half, the other on the other. It is tempting to take the players'
# own gradients as means over the same halves, which saves a pass. But batch norm makes the players'
# game depend on how many images are seen at a time, and half as many are another game.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance of simultaneous updates and of cancelled ones, with the players' own gradients from whole minibatches and from their halves."}, "figure": {"caption": "Simultaneous updates without and with their interaction terms cancelled, the players' own gradients from the whole minibatch, and as means over its two halves.", "name": "fig-halves"}}
WHOLE_AND_HALVES = {
    "simultaneous": "simultaneous",
    "cancelled": "cancelled",
    "simultaneous, halves": PLAIN_HALVES,
    "cancelled, halves": CANCELLED_HALVES,
}
first = [gans.color_of(m) for m in FIGURE_7.values()][:2]
gans.figure(shown, WHOLE_AND_HALVES, colors=[*first, "#E69F00", "#CC79A7"])
plt.show()

# %% [markdown]
# :::{when-judged} ours-halves
# On halves the best tenth of simultaneous updates ends at
# {measured}`ours-halves:frechet_other:.3g`, that of cancelled ones at
# {measured}`ours-halves:frechet:.3g`, and run by run the latter end closer in
# {measured}`ours-halves:better_pairs` of {measured}`ours-halves:pairs` (a sign test gives
# {measured}`ours-halves:chance:.2g`). Against simultaneous updates on whole minibatches they do in
# {measured}`ours-halves:against_whole_better_pairs` (it gives
# {measured}`ours-halves:against_whole_chance:.2g`): {claim}`ours-halves` Whether halves train worse
# is not settled. Whole minibatches end closer in
# {measured}`ours-halves:plain_whole_better_pairs` of {measured}`ours-halves:pairs` without terms (it
# gives {measured}`ours-halves:plain_whole_chance:.2g`), and with the terms cancelled in
# {measured}`ours-halves:whole_better_pairs` (it gives {measured}`ours-halves:whole_chance:.2g`).
# :::
#
# ### At full size
#
# The same at 32×32 pixels and whole width, simultaneous, alternating and cancelled updates, for one
# pair of rates and one seed: a look, and no measurement.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance against training step for one run each of simultaneous, alternating and cancelled updates at full size."}, "figure": {"caption": "Networks of full size, one pair of rates: one run of each method.", "name": "fig-full-size"}}
FULL = {m: f"full size {m}" for m in ("simultaneous", "alternating", "cancelled")}
gans.lines(shown, FULL)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of 32 by 32 pixels of the run of each method."}, "figure": {"caption": "Samples at the end of those runs.", "name": "fig-full-size-samples"}}
gans.pictures(shown, FULL)
plt.show()

# %% [markdown]
# In the published runs none of them trains: rates from the middle of the small networks' grid seem
# not to suit the large ones in so few steps of so few images. Simultaneous updates, cancelled or not, are
# lost before they are scored for the first time, and their samples are all alike; alternating ones
# are not lost, and stay near their start.
#
# ## Rate by rate
#
# A grid of rates hides where the gain comes from. Below is, for each pair of rates, the Fréchet
# distance at the end: its median over seeds.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Grids of numbers: the Fréchet distance at the end for each pair of rates, for four methods."}, "figure": {"caption": "Fréchet distance at the end (median over seeds, less is better) for each pair of rates. The last has the coefficients of the joint clock, which at one rate for both players are the published ones.", "name": "fig-cancel-map"}}
gans.maps(
    shown,
    {
        "simultaneous": "simultaneous",
        "alternating": "alternating",
        "cancelled": "cancelled",
        "on one clock": gans.EXACT,
    },
)
plt.show()

# %% [markdown]
# (which-clock)=
# ## Which clock, which term?
#
# At unequal rates the published coefficients do not cancel what they mean to, on one clock: they
# leave $1 - \alpha/\lambda$ of φ's interaction term and $1 - \lambda/\alpha$ of θ's, so one is cut
# short and the other turned round. Do those of the joint clock train better? And does the work of
# cancelling lie with the discriminator's term, $c_1\|\nabla_\theta E\|^2$, or the generator's,
# $c_2\|\nabla_\phi E\|^2$? The two clocks have the
# same two numbers, and change their places: published, $c_1$ goes with α and $c_2$ with λ; on one
# clock, $c_1$ with λ and $c_2$ with α. So if one of them trains better, it may be for what it
# cancels, or only for how strongly it penalises the discriminator.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with published and joint-clock coefficients at unequal rates."}, "figure": {"caption": "Unequal rates only: no cancellation, published coefficients, coefficients of the joint clock.", "name": "fig-clocks"}}
uneven = gans.restrict(shown, lambda t: t["rate_phi"] != t["rate_theta"])
gans.figure(
    uneven,
    {
        "simultaneous": "simultaneous",
        "published": "cancelled",
        "joint clock": "cancelled, joint clock",
    },
    needed=["cancelled, joint clock"],
)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with only one player's term cancelled."}, "figure": {"caption": "Cancelling the interaction term of one player only (published coefficients), over the full grid.", "name": "fig-one-term"}}
gans.figure(
    shown,
    {
        "simultaneous": "simultaneous",
        "both": "cancelled",
        "discriminator's": "cancelled, discriminator",
        "generator's": "cancelled, generator",
    },
    needed=["cancelled, discriminator", "cancelled, generator"],
)
plt.show()

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
# :::{when-judged} ours-exact-cancelling
# So is it by cancelling that the published coefficients help? All the runs taken together whose
# terms cancel on one clock, at equal rates the published ones and elsewhere the joint clock's, end
# closer than plain updates in {measured}`ours-exact-cancelling:better_pairs` of
# {measured}`ours-exact-cancelling:pairs` pairs (a sign test gives
# {measured}`ours-exact-cancelling:chance:.2g`): {claim}`ours-exact-cancelling`
# :::
#
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
# ### How strong?
#
# Is the coefficient that cancels a special one? Below is each player's term alone, at half and at
# twice the coefficient that cancels it, at one rate for both players, where the clocks agree.


# %% tags=["hide-input"]
def strengths(player):
    alone = f"cancelled, {player}"
    return {"0": "simultaneous", "½": f"{alone} × 0.5", "1": alone, "2": f"{alone} × 2"}


# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Fréchet distance at the end against the rate of both players, a mark a seed, with the discriminator's term at zero, half, once and twice the coefficient that cancels it."}, "figure": {"caption": "The discriminator's term alone at multiples of the coefficient that cancels it (0: simultaneous updates). Fréchet distance at the end at each rate of both players: a mark a seed, the line at the median.", "name": "fig-strengths-discriminator"}}
def one_term(player):
    labels = strengths(player)
    own = gans.color_of(labels["1"])
    colors = [gans.color_of("simultaneous"), "#56B4E9", own, "#000000"]
    return gans.along(gans.common(shown, labels.values()), labels, colors)


one_term("discriminator")
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The same with the generator's term at zero, half, once and twice the coefficient that cancels it."}, "figure": {"caption": "The same with the generator's term.", "name": "fig-strengths-generator"}}
one_term("generator")
plt.show()

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
# ## Other adjustments
#
# Symplectic gradient adjustment (SGA) {cite:p}`balduzzi2018mechanics` has the same terms with one
# strength that does not know the rates, $c_1 = c_2 = \text{strength}/2$; consensus optimisation
# {cite:p}`mescheder2017numerics` strengthens the self terms as much as it weakens the interaction,
# all four with one γ. DD finds both sensitive to their strength and neither better than
# cancelling (its Figure 8). At one rate α for both players cancelling is SGA with the strength α/2,
# and consensus optimisation with γ = α/4 cancels, too, and doubles the self terms.

# %% tags=["hide-input"]
SGA = [m for m in shown.runs["method"].unique() if m.startswith("SGA")]
CONSENSUS = [m for m in shown.runs["method"].unique() if m.startswith("consensus")]

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance of symplectic gradient adjustment at several strengths."}, "figure": {"caption": "DD, Figure 8(a). Symplectic gradient adjustment at several strengths; the best quarter of the runs, at the rates that all have.", "name": "fig-sga"}}
SHADES = ["#E69F00", "#CC79A7", "#7F7F7F", "#009E73"]
base = {"simultaneous": "simultaneous", "cancelled": "cancelled"}
first = [gans.color_of(m) for m in base.values()]


def family(methods):
    """Plain and cancelled updates beside a family of methods, where all of them ran."""
    together = gans.common(shown, [*base.values(), *methods])
    labels = base | {m.replace("consensus", "CO"): m for m in methods} if methods else {}
    return gans.figure(together, labels, share=0.25, colors=first + SHADES[: len(methods)])


family(SGA)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance of consensus optimisation at several strengths."}, "figure": {"caption": "DD, Figure 8(b). Consensus optimisation with γ, and with the strengths of drift, as above.", "name": "fig-consensus"}}
family(CONSENSUS)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of cancelled updates and of each adjustment at each strength."}, "figure": {"caption": "Samples of the best run of each, by Fréchet distance at the end, at the rates that all have.", "name": "fig-adjustments-samples"}}
together = gans.common(shown, ["cancelled", *SGA, *CONSENSUS])
gans.pictures(together, {m.replace("consensus", "CO"): m for m in ["cancelled", *SGA, *CONSENSUS]})
plt.show()

# %% [markdown]
# :::{when-judged} dd-fig8-sga
# The best quarter's distance at the end is between {measured}`dd-fig8-sga:best:.3g` and
# {measured}`dd-fig8-sga:worst:.3g` over the strengths of SGA, and
# {measured}`dd-fig8-sga:cancelled:.3g` with the terms cancelled; a sign test between the best and
# the worst strength gives {measured}`dd-fig8-sga:chance:.2g`: {claim}`dd-fig8-sga`
# :::
#
# :::{when-judged} dd-fig8-consensus
# It is between {measured}`dd-fig8-consensus:best:.3g` and
# {measured}`dd-fig8-consensus:worst:.3g` over those of consensus optimisation, and
# {measured}`dd-fig8-consensus:cancelled:.3g` with the terms cancelled, and the sign test gives
# {measured}`dd-fig8-consensus:chance:.2g`: {claim}`dd-fig8-consensus` With the strengths of drift it
# ends farther than cancelled updates in {measured}`dd-fig8-consensus:drifts_better_pairs` of
# {measured}`dd-fig8-consensus:drifts_pairs` pairs (a sign test gives
# {measured}`dd-fig8-consensus:drifts_chance:.2g`).
# :::
#
# ## Pair by pair
#
# Runs of two methods with the same rates and seed share their start and their minibatches (of an
# alternating step, the first). The published coefficients cancel at one rate for both players only,
# so the table is given for such pairs of rates, too, and for the others.

# %% tags=["hide-input"]
WANTED = [
    ("cancelled", "simultaneous"),
    (CANCELLED_HALVES, PLAIN_HALVES),
    ("simultaneous", PLAIN_HALVES),
    ("cancelled", CANCELLED_HALVES),
    ("cancelled", "alternating"),
    ("cancelled, joint clock", "simultaneous"),
    ("cancelled, joint clock", "cancelled"),
    (gans.EXACT, "simultaneous"),
    ("cancelled, discriminator", "simultaneous"),
    ("cancelled, generator", "simultaneous"),
    ("cancelled, discriminator", "cancelled, generator"),
    ("cancelled", "cancelled, discriminator"),
    ("cancelled, discriminator", "cancelled, discriminator, joint clock"),
    *(
        (labels["1"], labels[other])
        for labels in map(strengths, ("discriminator", "generator"))
        for other in ("½", "2")
    ),
    *((m, "simultaneous") for m in SGA + CONSENSUS),
    *(("cancelled", m) for m in SGA + CONSENSUS),
]
_ = run.save("pairs", gans.compare(here, WANTED))
PARTS = {
    "all pairs of rates": lambda t: t["rate_phi"] > 0,
    "one rate for both players": lambda t: t["rate_phi"] == t["rate_theta"],
    "unequal rates": lambda t: t["rate_phi"] != t["rate_theta"],
}
for name, keep in PARTS.items():
    compared = gans.compare(gans.restrict(shown, keep), WANTED)
    if len(compared):
        display(gans.style(compared).set_caption(f"{name} ({shown.label})"))  # noqa: F821


# %% tags=["hide-input", "remove-output"]
def named(groups):
    """Measured values of several comparisons in one record, each under its comparison's name."""
    return {f"{name}_{k}": v for name, found in groups.items() for k, v in found.items()}


methods = set(here.runs["method"])
if {"cancelled", "simultaneous"} <= methods:
    found = gans.judge(here, "cancelled", "simultaneous")
    asides = {"level": gans.judge(gans.level(here), "cancelled", "simultaneous")}
    if "alternating" in methods:
        asides["alternating"] = gans.judge(here, "alternating", "cancelled")
        asides["level_alternating"] = gans.judge(gans.level(here), "alternating", "cancelled")
        took = here.runs.groupby("method")["seconds"].median()
        found["times_as_long"] = float(took["cancelled"] / took["alternating"])
    measured = found | named(asides)
    claims.record("dd-fig7-cancelling", holds=gans.improves(found), measured=measured)
if {PLAIN_HALVES, CANCELLED_HALVES} <= methods:
    found = gans.judge(here, CANCELLED_HALVES, PLAIN_HALVES)
    against = gans.judge(here, CANCELLED_HALVES, "simultaneous")
    measured = {**found, **{f"against_whole_{k}": v for k, v in against.items()}}
    whole = {
        "whole": ("cancelled", CANCELLED_HALVES),
        "plain_whole": ("simultaneous", PLAIN_HALVES),
    }
    for name, two in whole.items():
        if two[0] in methods:
            both = gans.paired(here, *two, "frechet_distance")
            measured |= named({name: gans.tally(both)})
    claims.record(
        "ours-halves",
        holds=found["chance"] < 0.01 and found["every_seed"] and against["chance"] >= 0.01,
        measured=measured,
    )


if {"RK4", "cancelled"} <= methods:
    ours, theirs = (gans.top(gans.level(here), m, 0.25) for m in ("cancelled", "RK4"))
    both = gans.paired(gans.level(here), "cancelled", "RK4", "frechet_distance")
    ratio = gans.median_ratio(both)
    claims.record(
        "dd-fig7-recovers-rk4",
        holds=bool(
            ours["frechet_distance"] <= 1.1 * theirs["frechet_distance"]
            and ours["inception_score"] >= 0.95 * theirs["inception_score"]
            and ratio <= 1.1
        ),
        measured={"median_ratio": ratio} | named({"cancelled": ours, "rk4": theirs}),
    )
if {"Adam", "cancelled"} <= methods:
    ours, theirs = (
        {
            "inception": float(gans.best(here, m, "inception_score").max().mean()),
            "frechet": float(gans.best(here, m, "frechet_distance").min().mean()),
        }
        for m in ("cancelled", "Adam")
    )
    claims.record(
        "dd-fig7-matches-adam",
        holds=bool(
            ours["inception"] >= 0.95 * theirs["inception"]
            and ours["frechet"] <= 1.1 * theirs["frechet"]
        ),
        measured=named({"cancelled": ours, "adam": theirs}),
    )
if {"cancelled, joint clock", "cancelled"} <= methods:
    off = gans.restrict(here, PARTS["unequal rates"])
    found = gans.judge(off, "cancelled, joint clock", "cancelled")
    asides = {"published": gans.judge(off, "cancelled", "cancelled, joint clock")}
    both = gans.paired(off, "cancelled, joint clock", "cancelled", "frechet_distance")
    logs, above = gans.log_ratio(both), both["rate_phi"] > both["rate_theta"]
    sides = {"above": above, "below": ~above}
    if "simultaneous" in methods:
        asides["plain"] = gans.judge(off, "cancelled, joint clock", "simultaneous")
        asides["published_plain"] = gans.judge(off, "cancelled", "simultaneous")
    claims.record(
        "ours-joint-clock-trains-better",
        holds=gans.improves(found),
        measured=found
        | {f"factor_{side}": float(np.exp(logs[where].mean())) for side, where in sides.items()}
        | named(asides),
    )
if {gans.EXACT, "simultaneous"} <= methods:
    found = gans.judge(here, gans.EXACT, "simultaneous")
    claims.record(
        "ours-exact-cancelling",
        holds=gans.improves(found),
        measured=found,
    )
if {"cancelled, discriminator", "cancelled, generator", "simultaneous"} <= methods:
    against = {
        "generator": gans.judge(here, "cancelled, discriminator", "cancelled, generator"),
        "neither": gans.judge(here, "cancelled, discriminator", "simultaneous"),
    }
    asides = {"other_neither": gans.judge(here, "cancelled, generator", "simultaneous")}
    if "cancelled" in methods:
        asides["both"] = gans.judge(here, "cancelled", "cancelled, discriminator")
    claims.record(
        "ours-which-term",
        holds=all(found["chance"] < 0.01 and found["every_seed"] for found in against.values()),
        measured=named(against | asides),
    )
CLOCKS = {  # arms that differ in the clock: the published one, then the joint one
    "both": ("cancelled", "cancelled, joint clock"),
    "alone": ("cancelled, discriminator", "cancelled, discriminator, joint clock"),
}
if {m for arms in CLOCKS.values() for m in arms} <= methods:
    against = {}
    for name, arms in CLOCKS.items():
        both = gans.paired(here, *arms, "frechet_distance")
        both = both[both["rate_phi"] != both["rate_theta"]]
        published_is_larger = both["rate_phi"] > both["rate_theta"]
        gain = both["gain"].where(published_is_larger, -both["gain"])
        against[name] = gans.tally(both.assign(gain=gain))
    claims.record(
        "ours-stronger-penalty",
        holds=all(found["chance"] < 0.01 and found["every_seed"] for found in against.values()),
        measured=named(against),
    )
OTHERS = {"half": "½", "twice": "2"}
LABELS = {"once": "1", **OTHERS}
PLAYERS = ("discriminator", "generator")
if {m for player in PLAYERS for m in strengths(player).values()} <= methods:
    against = {}
    for player in PLAYERS:
        arms = strengths(player)
        for name, label in OTHERS.items():
            both = gans.paired(here, arms["1"], arms[label], "frechet_distance")
            against[f"{player}_{name}"] = gans.tally(both)
    ran = {f"{player}_{k}": strengths(player)[v] for player in PLAYERS for k, v in LABELS.items()}
    ended = gans.outcomes(gans.level(here), ["simultaneous", *ran.values()]).set_index("method")
    farther = {k: int(ended["farther"][m]) for k, m in {"neither": "simultaneous", **ran}.items()}
    claims.record(
        "ours-strength-that-cancels",
        holds=all(against[f"discriminator_{name}"]["chance"] < 0.05 for name in OTHERS),
        measured=named(against) | {f"{name}_farther": number for name, number in farther.items()},
    )
DRIFTS = "consensus, drift's strength"  # the paper compares it with cancelling by name
for id, swept in (("dd-fig8-sga", SGA), ("dd-fig8-consensus", CONSENSUS)):
    swept = [m for m in swept if m in methods]
    if len(swept) > 1 and "cancelled" in methods:
        together = gans.common(here, ["cancelled", *swept])
        values = {m: gans.top(together, m, 0.25)["frechet_distance"] for m in swept}
        cancelled = gans.top(together, "cancelled", 0.25)["frechet_distance"]
        good, bad = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        chance = gans.sign_test(gans.paired(together, good, bad, "frechet_distance")["gain"])
        aside = {}
        if DRIFTS in swept:
            both = gans.paired(together, "cancelled", DRIFTS, "frechet_distance")
            aside = named({"drifts": gans.tally(both)})
        claims.record(
            id,
            holds=bool(
                values[bad] > 1.25 * values[good] and chance < 0.05 and cancelled <= values[good]
            ),
            measured={
                "best": values[good],
                "worst": values[bad],
                "chance": chance,
                "cancelled": cancelled,
                "strengths": len(values),
                **aside,
            },
        )

# %% tags=["remove-input"]
run.card(*(table for sweep in sweeps for table in sweep.tables), run.load("table_1"))

# %% [markdown]
# ## What to vary
#
# - The strength: a tenth of the coefficient, or ten times. Where does it stop helping?
# - `align=True` in `gan.make_step`: symplectic gradient adjustment with alignment.
# - `unbiased=False` in `gan.make_step`: the norms then carry the variance of the minibatch.
