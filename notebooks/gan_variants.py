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
# # Variants
#
# What the paper's supplement shows beside its figures: another loss, several updates a turn, more
# than the best tenth, and how much the seed decides. **Does the picture hold?**

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from ddbook import page
from ddbook.sweeps import gans

run = page.open("gan_variants", profile)
claims = run.claims
sweeps = gans.open(run, ["simultaneous"])
here, shown = sweeps[0], sweeps[-1]
run.uses(here.tables[0])

# %% [markdown]
# ## Least squares
#
# The discriminator minimises $\mathbb E_x (D(x) - 1)^2 + \mathbb E_z D(G(z))^2$. In the usual form
# {cite:p}`mao2017least` the generator minimises $\mathbb E_z (D(G(z)) - 1)^2$; in the paper's
# released code it maximises $\mathbb E_z D(G(z))^2$, which makes the game zero-sum, and that is
# what runs here. (`gan.least_squares()` is the usual form.)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance with the least-squares loss for simultaneous, alternating and cancelled updates."}, "figure": {"caption": "The least-squares loss: simultaneous updates, alternating ones, and simultaneous ones with the interaction terms cancelled; the best quarter of the runs.", "name": "fig-least-squares"}}
LEAST_SQUARES = {
    "simultaneous": "least squares simultaneous",
    "alternating": "least squares alternating",
    "cancelled": "least squares cancelled",
}
together = gans.common(shown, LEAST_SQUARES.values())
gans.figure(together, LEAST_SQUARES, share=0.25)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run of each method with the least-squares loss."}, "figure": {"caption": "Samples of the best run of each method, by Fréchet distance at the end, with the least-squares loss.", "name": "fig-least-squares-samples"}}
gans.pictures(together, LEAST_SQUARES)
plt.show()

# %% [markdown]
# :::{when-judged} ours-least-squares
# The best quarter of the runs with the terms cancelled ends at a Fréchet distance of
# {measured}`ours-least-squares:frechet:.3g` and an Inception score of
# {measured}`ours-least-squares:inception:.3g`, with plain simultaneous updates at
# {measured}`ours-least-squares:frechet_other:.3g` and
# {measured}`ours-least-squares:inception_other:.3g`. Pair by pair the former end closer in
# {measured}`ours-least-squares:better_pairs` of {measured}`ours-least-squares:pairs` (a sign test
# gives {measured}`ours-least-squares:chance:.2g`): {claim}`ours-least-squares`
# :::
#
# ## Several updates a turn
#
# With m updates of φ, each by αh/m, and k of θ by λh/k, the self terms of drift are divided by m
# and k and the interaction terms stay (DD, Theorem 3.2). The paper finds (its Section 7.1) that this
# affects training for better or for worse, depending on the rates.

# %% tags=["hide-input"]
UPDATES = {
    "(1, 1)": "alternating",
    "(2, 1)": "alternating (2, 1)",
    "(1, 2)": "alternating (1, 2)",
}

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance for alternating updates with one update each, two of the discriminator, and two of the generator."}, "figure": {"caption": "Alternating updates with (m, k) updates a turn; a turn moves each player as far as one update would. The best quarter of the runs, at the rates that all have.", "name": "fig-multiple-updates"}}
together = gans.common(shown, UPDATES.values())
SHADES = ["#0072B2", "#E69F00", "#009E73"]
gans.figure(together, UPDATES, share=0.25, colors=SHADES)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Generated images of the best run with one update each, with two of the discriminator, and with two of the generator."}, "figure": {"caption": "Samples of the best of those runs, by Fréchet distance at the end.", "name": "fig-multiple-updates-samples"}}
gans.pictures(together, UPDATES)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Fréchet distance at the end against the rate of both players, a mark a seed, for one update each, two of the discriminator, and two of the generator."}, "figure": {"caption": "Fréchet distance at the end at each rate of both players: a mark a seed, the line at the median.", "name": "fig-multiple-updates-rates"}}
gans.along(together, UPDATES, colors=SHADES)
plt.show()

# %% [markdown]
# :::{when-judged} dd-multiple-updates
# Two updates of the discriminator end closer than one in every seed at
# {measured}`dd-multiple-updates:phi_better_rates` of {measured}`dd-multiple-updates:phi_rates`
# rates and farther in every seed at {measured}`dd-multiple-updates:phi_worse_rates`. Shuffling the
# runs over the rates parts the rates' means as far in
# {measured}`dd-multiple-updates:phi_rates_chance:.0%` of cases. With two updates of the generator it
# is {measured}`dd-multiple-updates:theta_better_rates` rates and
# {measured}`dd-multiple-updates:theta_worse_rates`, and
# {measured}`dd-multiple-updates:theta_rates_chance:.0%`: {claim}`dd-multiple-updates`
# :::
#
# ## The best 10, 20 and 30 per cent

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Inception score and Fréchet distance against training step of the best 10, 20 and 30 per cent of runs for simultaneous, alternating and cancelled updates."}, "figure": {"caption": "Mean and range of the best 10, 20 and 30 per cent of the sweep.", "name": "fig-shares"}}
MAIN = gans.available(
    shown,
    {"simultaneous": "simultaneous", "alternating": "alternating", "cancelled": "cancelled"},
)
fig, axes = plt.subplots(2, 3, figsize=(7.4, 4.8), sharex=True, sharey="row")
for row, score in zip(axes, gans.SCORES, strict=True):
    for ax, share in zip(row, (0.1, 0.2, 0.3), strict=True):
        gans.curves(ax, shown, MAIN, score, share)
        ax.set_title(f"best {share:.0%}", fontsize=10.5)
        ax.label_outer()
axes[0, 0].legend(fontsize=8)
fig.suptitle(shown.label, fontsize=10.5)
plt.show()

# %% [markdown]
# ## The seed
#
# For each pair of rates, the spread over seeds of the logarithm of the Fréchet distance at the end
# (its range, since seeds are few).

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Box plots of the range over seeds of the logarithm of the Fréchet distance for each method."}, "figure": {"caption": "How much the seed decides: range over seeds of $\\log_{10}$ of the Fréchet distance at the end, a value for each pair of rates.", "name": "fig-seeds"}}
names = gans.available(
    shown,
    {
        "simultaneous": "simultaneous",
        "alternating": "alternating",
        "cancelled": "cancelled",
        "alternating, discr. cancelled": "alternating, discriminator cancelled",
        "Adam": "Adam",
    },
)
fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(names)))
drawn = ax.boxplot(
    [gans.seed_ranges(shown, m) for m in names.values()],
    orientation="horizontal", whis=(0, 100), widths=0.6, patch_artist=True,
)  # fmt: skip
for patch, median, method in zip(drawn["boxes"], drawn["medians"], names.values(), strict=True):
    patch.set(facecolor=gans.color_of(method), alpha=0.35, edgecolor=gans.color_of(method))
    median.set(color=gans.color_of(method), linewidth=2)
ax.set_yticks(range(1, len(names) + 1), list(names))
ax.invert_yaxis()
ax.set(xlabel="range over seeds of log₁₀ of the Fréchet distance")
ax.set_title(shown.label, fontsize=10.5)
plt.show()

# %% [markdown]
# :::{when-judged} dd-seed-variance
# The median range is {measured}`dd-seed-variance:median_range_simultaneous:.2g` decades for
# simultaneous updates and {measured}`dd-seed-variance:median_range_cancelled:.2g` with the terms
# cancelled, where it is the larger one at {measured}`dd-seed-variance:larger` of
# {measured}`dd-seed-variance:pairs` pairs of rates: {claim}`dd-seed-variance`
# :::

# %% tags=["hide-input", "remove-output"]
methods = set(here.runs["method"])
if {"simultaneous", "cancelled"} <= methods and here.runs["seed"].nunique() > 2:
    plain, cancelled = (gans.seed_ranges(here, m) for m in ("simultaneous", "cancelled"))
    plain, cancelled = plain.align(cancelled, join="inner")  # pairs of rates without divergence
    chance = gans.sign_test(cancelled - plain)
    claims.record(
        "dd-seed-variance",
        holds=bool(cancelled.median() > plain.median() and chance < 0.05),
        measured={
            "median_range_simultaneous": float(plain.median()),
            "median_range_cancelled": float(cancelled.median()),
            "larger": int((cancelled > plain).sum()),
            "pairs": len(plain),
            "chance": chance,
        },
    )
if {"least squares cancelled", "least squares simultaneous"} <= methods:
    found = gans.judge(here, "least squares cancelled", "least squares simultaneous", share=0.25)
    claims.record(
        "ours-least-squares",
        holds=gans.improves(found),
        measured=found,
    )
if set(UPDATES.values()) <= methods and here.runs["seed"].nunique() > 1:
    against = {
        player: gans.paired(here, UPDATES[turn], "alternating", "frechet_distance")
        for player, turn in (("phi", "(2, 1)"), ("theta", "(1, 2)"))
    }
    found = {player: gans.tally(both) | gans.by_rates(both) for player, both in against.items()}
    claims.record(
        "dd-multiple-updates",
        holds=any(
            f["better_rates"] > 0 and f["worse_rates"] > 0 and f["rates_chance"] < 0.025
            for f in found.values()
        ),
        measured={f"{player}_{k}": v for player, f in found.items() for k, v in f.items()},
    )

# %% tags=["remove-input"]
run.card(*(table for sweep in sweeps for table in sweep.tables))
