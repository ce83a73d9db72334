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
# # The ratio of learning rates
#
# Under alternating updates the generator's interaction term has the coefficient
# $-\tfrac{\lambda h}{4}\left(1 - \tfrac{2\alpha}{\lambda}\right)$ before $\|\nabla_\phi E\|^2$ (DD,
# Eq. 17). It changes sign where α/λ = ½: above, the generator makes the discriminator's gradient
# smaller, below, larger. Under simultaneous updates nothing of the kind happens. **Do alternating
# updates train better above one half, and simultaneous ones not?**

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
from ddbook import gans, page

run = page.open("learning_rate_ratios", profile)
claims = run.claims
sweeps = gans.open(run)
here, shown = sweeps[0], sweeps[-1]
run.uses(here.tables[0])
METHODS = {"simultaneous": "simultaneous, ratios", "alternating": "alternating, ratios"}

# %% [markdown]
# ## Where the sign changes
#
# The two coefficients, and what a single clock makes of them: there the generator's interaction
# coefficient under alternating updates is $+\tfrac{\alpha h}{4}$ at **every** ratio, and the
# discriminator's is $-\tfrac{\lambda h}{4}$ (see
# [backward error analysis](backward_error_analysis.py) and
# [two-player games](two_player_games.py) on clocks). The threshold at one half is one of the two
# clocks, not of the iterates.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Coefficients of the generator's interaction term against the ratio of rates. On two clocks the alternating one rises through zero at one half; on one clock it is constant and positive. The simultaneous ones are negative throughout."}, "figure": {"caption": "Coefficient of $\\|\\nabla_\\phi E\\|^2$ in the generator's loss, in units of $\\alpha h/4$, against the ratio of rates.", "name": "fig-ratio-coefficient"}}
ratio = np.geomspace(0.1, 5, 200)
fig, ax = plt.subplots(figsize=(6.4, 3.2))
ax.plot(
    ratio,
    -(1 / ratio - 2),
    color=gans.COLORS["alternating"],
    label="alternating, two clocks (published)",
)
ax.plot(
    ratio,
    np.ones_like(ratio),
    color=gans.COLORS["alternating"],
    ls="--",
    label="alternating, one clock",
)
ax.plot(
    ratio,
    -1 / ratio,
    color=gans.COLORS["simultaneous"],
    label="simultaneous, two clocks (published)",
)
ax.plot(
    ratio,
    -np.ones_like(ratio),
    color=gans.COLORS["simultaneous"],
    ls="--",
    label="simultaneous, one clock",
)
ax.axvline(0.5, color="k", lw=0.8)
ax.axhline(0, color="k", lw=0.8)
ax.set(xscale="log", ylim=(-6, 2.4), xlabel="ratio α/λ", ylabel="coefficient / (αh/4)")
ax.set_xticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
ax.legend(fontsize=9, loc="lower right")
plt.show()

# %% [markdown]
# ## A sweep over ratios


# %% tags=["hide-input"]
def by_ratio(sweep):
    """All runs of the sweep over ratios, with their ratio."""
    runs = sweep.runs[sweep.runs["group"] == "ratios"]
    return runs.assign(ratio=(runs.rate_phi / runs.rate_theta).round(6))


# %% tags=["hide-input"] mystnb={"image": {"alt": "Inception score and Fréchet distance against the ratio of learning rates for simultaneous and alternating updates."}, "figure": {"caption": "DD, Figure 6. Scores at the end against the ratio of rates; markers: runs (all discriminator rates and seeds), lines: their median.", "name": "fig-ratios"}}
frame = by_ratio(shown)
if frame.empty:
    print(f"this sweep ({shown.label}) has no runs over ratios")
else:
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    for ax, score in zip(axes, gans.SCORES, strict=True):
        for shift, (label, method) in zip((0.96, 1.04), METHODS.items(), strict=True):
            mine = frame[frame["method"] == method]
            ax.plot(mine.ratio * shift, mine[score], ".", color=gans.COLORS[label], alpha=0.4)
            ax.plot(mine.groupby("ratio")[score].median(), color=gans.COLORS[label], label=label)
        ax.axvline(0.5, color="k", lw=0.8)
        ax.set(xscale="log", xlabel="ratio α/λ", ylabel=gans.SCORES[score][0])
        ax.set_xticks(ticks := sorted(frame.ratio.unique()), [f"{r:g}" for r in ticks])
        ax.minorticks_off()
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=9)
    axes[0].set_title(shown.label, fontsize=10.5)
    plt.show()

# %% [markdown]
# :::{when-judged} dd-fig6-alternating
# For each α and seed we compare the median distance at ratios up to one half with that above. Under
# alternating updates it is larger in {measured}`dd-fig6-alternating:better` of
# {measured}`dd-fig6-alternating:pairs` cases, by
# {measured}`dd-fig6-alternating:median_log10_gain:.2g` decades in the median:
# {claim}`dd-fig6-alternating`
# :::
#
# :::{when-judged} dd-fig6-simultaneous
# Under simultaneous ones it is larger in {measured}`dd-fig6-simultaneous:better`, by
# {measured}`dd-fig6-simultaneous:median_log10_gain:.2g` decades, and less so than under alternating
# ones in {measured}`dd-fig6-simultaneous:less_than_alternating`: {claim}`dd-fig6-simultaneous`
# :::
#
# The sweep takes a few values of α and sets λ = α divided by the ratio: a small ratio also
# means a *fast generator*. So the ratio is not all that varies, and the table gives every cell.

# %% tags=["hide-input"]
if not frame.empty:
    cells = frame.pivot_table(
        index=["method", "rate_phi"], columns="ratio", values="frechet_distance", aggfunc="median"
    )
    _ = run.save(
        "cells",
        by_ratio(here)
        .groupby(["method", "rate_phi", "ratio"], as_index=False)[list(gans.SCORES)]
        .median(),
    )
    display(cells.round(2))  # noqa: F821

# %% tags=["hide-input", "remove-output"]
mine = by_ratio(here).fillna({"frechet_distance": np.inf})
if mine.ratio.nunique() > 3:

    def contrast(method):
        """log10 of the distance at ratios up to one half over that above, α by α, seed by seed."""
        wide = mine[mine["method"] == method].assign(above=lambda t: t.ratio > 0.5)
        halves = wide.pivot_table(
            index=["rate_phi", "seed"], columns="above", values="frechet_distance", aggfunc="median"
        )
        return np.log10(halves[False] / halves[True])

    gains = {label: contrast(method) for label, method in METHODS.items()}
    chance = {label: gans.sign_test(gain) for label, gain in gains.items()}
    medians = {label: float(gain.median()) for label, gain in gains.items()}
    claims.record(
        "dd-fig6-alternating",
        holds=bool(chance["alternating"] < 0.05 and medians["alternating"] > 0),
        measured={
            "median_log10_gain": medians["alternating"],
            "better": int((gains["alternating"] > 0).sum()),
            "pairs": len(gains["alternating"]),
            "chance": chance["alternating"],
        },
    )
    more = gains["alternating"] - gains["simultaneous"]
    claims.record(
        "dd-fig6-simultaneous",
        holds=bool(medians["alternating"] > 0 and gans.sign_test(more) < 0.05),
        measured={
            "median_log10_gain": medians["simultaneous"],
            "better": int((gains["simultaneous"] > 0).sum()),
            "less_than_alternating": int((more > 0).sum()),
            "pairs": len(more),
            "chance": gans.sign_test(more),
        },
    )

# %% tags=["remove-input"]
run.card(*(table for sweep in sweeps for table in sweep.tables))

# %% [markdown]
# ## What to vary
#
# - Hold the generator's rate fixed instead of the discriminator's.
# - `num_updates`: m discriminator updates of α/m each have smaller self terms and the same
#   interaction.
