# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [train_across_batches]
# ---

# %% [markdown]
# # DAL across batch sizes, and where it ends
#
# **Do the trends of DAL-$p$ depend on the batch size, and does it end in a flatter place than a fixed
# rate that is as accurate?** It does end in a flatter place, by a factor of three to five along random
# directions, at each of three batch sizes. But that a smaller power tests better is true of large
# batches only.
#
# | | the paper | here |
# | --- | --- | --- |
# | network | VGG, ResNet-18 | four layers, 100 ReLU units each |
# | data | CIFAR-10, ImageNet | MNIST, 5,000 images |
# | seeds | not stated | 5 |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # there are no settings: those of train_across_batches say what was run

# %% tags=["hide-input"]
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import effects
from ddlib.landscape import filter_direction, line
from scipy.stats import spearmanr

run = page.open("dal_landscapes", profile, parameters)
claims, colors = run.claims, page.COLORS
NAMES = ("curves", "ends", "slices")
here = {n: run.load(n, "train_across_batches") for n in NAMES}
published = {n: run.published(n, "train_across_batches") for n in NAMES}
shown = {n: published[n] or here[n] for n in NAMES}


def effect(series):
    return effects.effect(
        series.astype(float).rename("value").rename_axis("seed").reset_index()
    )


def interval(found):
    """Its two ends; of one seed there is none."""
    ends = found.low, found.high
    return [v if np.isfinite(v) else found.mean for v in ends]


# %% [markdown]
# ## Why filters
#
# A network of ReLU units computes the same function when the weights into a unit are doubled and those
# out of it are halved. Along a random direction of fixed length the two networks look different, the
# smaller weights being the sharper; along a direction whose filters are as long as the network's they
# do not.


# %%
def net(params, x):
    return jnp.maximum(x @ params["in"], 0) @ params["out"]


keys = jax.random.split(jax.random.key(0), 4)
x, y = jax.random.normal(keys[0], (50, 5)), jax.random.normal(keys[1], (50, 2))
one = {
    "in": jax.random.normal(keys[2], (5, 20)),
    "out": jax.random.normal(keys[3], (20, 2)),
}
same = {"in": one["in"] * 8, "out": one["out"] / 8}


def loss(params):
    return jnp.mean((net(params, x) - y) ** 2)


@partial(jax.jit, static_argnums=1)
def mean_rise(params, scaled):
    """By how much the loss rises a tenth of the way along a direction, on average."""

    def rise(key):
        way = filter_direction(key, params)
        if not scaled:
            way = jax.tree.map(lambda w: jax.random.normal(key, w.shape), way)
        both = line(loss, params, way, jnp.array([-0.1, 0.1]))
        return jnp.mean(both) - loss(params)

    return jnp.mean(jax.vmap(rise)(jax.random.split(jax.random.key(1), 200)))


rises = {
    name: [float(mean_rise(p, scaled)) for p in (one, same)]
    for name, scaled in (("fixed length", False), ("its filters", True))
}
rises

# %% tags=["hide-input", "remove-output"]
apart = {k: abs(np.log(b / a)) for k, (a, b) in rises.items()}
claims.record(
    "ours-filters-compare",
    holds=bool(
        apart["its filters"] < np.log(1.05)
        and apart["fixed length"] > np.log(2)
    ),
    measured={
        "factor_scaled": float(np.exp(apart["its filters"])),
        "factor_fixed": float(np.exp(apart["fixed length"])),
    },
    data="none",
)

# %% [markdown]
# The two networks are one function. Their rises differ by a factor of
# {measured}`ours-filters-compare:factor_fixed:.2g` along directions of fixed length, and not along those
# of their filters: {claim}`ours-filters-compare`
#
# ## Across batch sizes

# %% tags=["hide-input"]
ALL = ["batch", "rule", "seed"]


def accuracies(curves):
    """The last accuracy by batch, rule and seed."""
    rows = curves.sort_values("step")
    return rows.groupby(ALL).accuracy.last()


def jumps(curves):
    """The logarithm of the worst jump; a lost run counts as a factor of ten, which is the most."""
    rows = curves[curves.step > 0].sort_values("step")
    least = rows.groupby(ALL).train_loss.cummin()
    jump = np.log(rows.train_loss / least).fillna(effects.FAR)
    return jump.clip(upper=effects.FAR).groupby([rows[k] for k in ALL]).max()


def nearest(accuracy, batch):
    """The fixed rate whose mean accuracy is nearest to DAL-½'s."""
    means = accuracy[batch].groupby(level="rule").mean()
    fixed = means[[r for r in means.index if r.startswith("fixed")]]
    return (fixed - means["DAL-0.5"]).abs().idxmin()


def rises_of(slices):
    """The loss above that at the centre, mean over directions."""
    keys = [*ALL, "direction"]
    centre = slices[slices.t.abs() < 1e-6].set_index(keys).loss
    rows = slices.join(centre.rename("centre"), on=keys)
    rows = rows.assign(rise=rows.loss - rows.centre)
    return rows.groupby([*ALL, "t"]).rise.mean()


def flatness(slope):
    """The mean rise within half of the reach."""
    rows = slope.reset_index()
    return rows[rows.t.abs() <= rows.t.max() / 2].groupby(ALL).rise.mean()


def drifts(curves):
    """The mean drift of a step, by batch, rule and seed."""
    end = curves.sort_values("step").groupby(ALL).last()
    return end.drift / end.step


def safe(curves):
    """By batch, the rules of which every run ends below its start."""
    runs = curves.sort_values("step").groupby(ALL).train_loss
    down = (runs.last() < runs.first()).groupby(level=["batch", "rule"]).all()
    return {
        b: [rule for rule in down[b].index if down[b, rule]]
        for b in down.index.unique("batch")
    }


def ranks(one, other, rules):
    """Spearman's correlation over rules, by seed."""
    found = {}
    for seed in one.index.unique("seed"):
        both = [values.xs(seed, level="seed")[rules] for values in (one, other)]
        pair = pd.concat(both, axis=1).dropna()  # a dead network has no λ₀
        found[seed] = spearmanr(*pair.to_numpy().T).statistic
    return pd.Series(found).rename_axis("seed")


# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Final test accuracy against the batch size, a dot for each power of DAL in colour and each fixed rate in grey, with intervals over seeds."}, "figure": {"caption": "PF, Figure 41. Left: final test accuracy of DAL-$p$ (colour) and of fixed rates (grey), by batch size. Right: the largest factor by which the training loss at a look exceeds the smallest before. Mean and 95 % interval over seeds; below the left frame: a rule with lost runs.", "name": "fig-batch-sizes"}}
curves = shown["curves"].frame
order = list(dict.fromkeys(curves.rule))
sizes = sorted(curves.batch.unique())


def colour_of(order):
    powers = [r for r in order if r.startswith("DAL")]
    fixed = [r for r in order if r not in powers]
    bright = plt.cm.viridis(np.linspace(0, 0.85, len(powers)))
    greys = plt.cm.Greys(np.linspace(0.35, 0.8, len(fixed)))
    return dict(zip(powers, bright, strict=True)) | dict(
        zip(fixed, greys, strict=True)
    )


looks = colour_of(order)
fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.0))
panels = (accuracies(curves), np.exp(jumps(curves)))
for ax, series in zip(axes, panels, strict=True):
    for i, rule in enumerate(order):
        found = [effect(series[b, rule]) for b in sizes]
        shift = np.arange(len(sizes)) + 0.07 * (i - len(order) / 2)
        means = [e.mean for e in found]
        ax.plot(shift, means, "o", ms=5, color=looks[rule], label=rule)
        for at, e in zip(shift, found, strict=True):
            ax.plot([at, at], interval(e), color=looks[rule], lw=1)
    ax.set_xticks(range(len(sizes)), sizes)
    ax.set_xlabel("batch size")
means = panels[0].groupby(level=[0, 1]).mean()
low = means[means > 0.8].min() if means.max() > 0.8 else means.min()
axes[0].set(ylabel="test accuracy", ylim=(low - 0.01, means.max() + 0.01))
axes[1].set(ylabel="worst jump of the loss", yscale="log", ylim=(0.95, 11))
axes[1].set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
axes[1].minorticks_off()
fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center", ncols=4, fontsize=9,
)  # fmt: skip
count = curves.seed.nunique()
fig.suptitle(f"{shown['curves'].label}, {count} seeds", fontsize=10)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Mean drift of a step against the final test accuracy, upper row, and against the largest eigenvalue at the end, lower row; one point a run, coloured by rule; one column for each batch size."}, "figure": {"caption": "PF, Figure 53. The mean drift of a step against test accuracy (above) and λ₀ at the end (below), by minibatches. A point is a run; grey: fixed rates, colour: DAL-$p$. Runs far below the best are left out.", "name": "fig-drift-ends"}}
drift = drifts(curves)
final = accuracies(curves)
top = shown["ends"].frame.set_index(ALL).value_0.sort_index()
fig, axes = plt.subplots(
    2, len(sizes), figsize=(7.6, 5.4), sharey="row", sharex=True
)
for column, batch in zip(axes.T, sizes, strict=True):
    for rule in order:
        good = final[batch, rule] > 0.85 * final[batch].max()
        for ax, what in zip(column, (final, top), strict=True):
            pair = drift[batch, rule][good], what[batch, rule][good]
            ax.plot(*pair, "o", ms=4, color=looks[rule], label=rule)
    column[0].set(title=f"batches of {batch}", xscale="log")
    column[1].set(yscale="log", xlabel="mean drift of a step")
axes[0, 0].set_ylabel("test accuracy")
axes[1, 0].set_ylabel("λ₀ at the end")
fig.legend(
    *axes[0, 0].get_legend_handles_labels(),
    loc="outside lower center", ncols=4, fontsize=9,
)  # fmt: skip
plt.show()

# %% [markdown]
# With batches of 512 more drift goes with a smaller λ₀, in a line over all rules, and with 32 it does not:
# {claim}`pf-fig53-sharpness` Accuracy rises with drift up to a point and then falls:
# {claim}`pf-fig53-test`
#
# ## Slices

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The rise of the training loss along filter-normalised random directions against the distance, for DAL with power one half and one, and the fixed rate of nearest accuracy: one panel for each batch size."}, "figure": {"caption": "PF, Figures 46, 48 and 50. The rise of the training loss along directions scaled to the network's filters: DAL-1, DAL-½, and the fixed rate whose test accuracy is nearest to DAL-½'s. Mean over directions; line and band: median and range over seeds.", "name": "fig-slices"}}


accuracy = accuracies(curves)
slope = rises_of(shown["slices"].frame)
fig, axes = plt.subplots(1, len(sizes), figsize=(7.6, 3.5), sharey=True)
for ax, batch in zip(axes, sizes, strict=True):
    rate = nearest(accuracy, batch)
    for rule, color in (
        (rate, "0.4"),
        ("DAL-1", colors["alternating"]),
        ("DAL-0.5", colors["simultaneous"]),
    ):
        wide = slope[batch, rule].unstack("t")
        ax.fill_between(
            wide.columns, wide.min(), wide.max(), color=color, alpha=0.2, lw=0
        )
        ax.plot(wide.columns, wide.median(), color=color, label=rule)
    ax.set(title=f"batches of {batch}", xlabel="distance")
    ax.legend(fontsize=9, loc="upper center")
axes[0].set_ylabel("rise of the loss")
fig.suptitle(f"{shown['slices'].label}, {count} seeds", fontsize=10)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Largest eigenvalue of the Hessian at the end against the mean rise of the loss along slices, one point a run, coloured by rule; one panel for each batch size."}, "figure": {"caption": "Two measures of flatness: the mean rise along the slices within half of their reach, and λ₀ at the end. A point is a run; grey: fixed rates, colour: DAL-$p$. Runs far below the best are left out.", "name": "fig-flatness"}}


flat = flatness(slope).sort_index()
sharp = shown["ends"].frame.set_index(ALL).value_0.sort_index()
fig, axes = plt.subplots(
    1, len(sizes), figsize=(7.6, 3.6), sharex=True, sharey=True
)
for ax, batch in zip(axes, sizes, strict=True):
    for rule in order:
        good = accuracy[batch, rule] > 0.85 * accuracy[batch].max()
        pair = flat[batch, rule][good], sharp[batch, rule][good]
        ax.plot(*pair, "o", ms=4, color=looks[rule], label=rule)
    ax.set(
        xscale="log",
        yscale="log",
        title=f"batches of {batch}",
        xlabel="mean rise",
    )
axes[0].xaxis.set_minor_formatter("")
axes[0].set_ylabel("λ₀ at the end")
fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center", ncols=4, fontsize=9,
)  # fmt: skip
plt.show()

# %% tags=["hide-input", "remove-output"]
curves = here["curves"].frame
if curves.seed.nunique() > 1:
    accuracy, worst = accuracies(curves), jumps(curves)
    flat = flatness(rises_of(here["slices"].frame))
    sharp = here["ends"].frame.set_index(ALL).value_0
    sizes = sorted(curves.batch.unique())
    gains = {
        b: effect(accuracy[b, "DAL-0.5"] - accuracy[b, "DAL-1"]) for b in sizes
    }
    claims.record(
        "pf-fig41-test",
        holds=effects.all_of([effects.above(e, 0.0) for e in gains.values()]),
        measured={
            f"{key}_{b}": value
            for b, e in gains.items()
            for key, value in (
                ("gain", e.mean),
                ("low", e.low),
                ("high", e.high),
            )
        },
        data=here["curves"],
    )
    more = {b: effect(worst[b, "DAL-0.25"] - worst[b, "DAL-1"]) for b in sizes}
    claims.record(
        "pf-fig41-stability",
        holds=effects.all_of([effects.above(e, 0.0) for e in more.values()]),
        measured={
            f"{key}_{b}": float(np.exp(value))
            for b, e in more.items()
            for key, value in (
                ("factor", e.mean),
                ("low", e.low),
                ("high", e.high),
            )
        },
        data=here["curves"],
    )
    drift, kept = drifts(curves), safe(curves)
    for name, what, judge in (
        ("pf-fig53-test", accuracy, lambda e: effects.above(e, 0.5)),
        ("pf-fig53-sharpness", sharp, lambda e: effects.below(e, -0.5)),
    ):
        found = {b: effect(ranks(drift[b], what[b], kept[b])) for b in sizes}
        claims.record(
            name,
            holds=effects.all_of([judge(e) for e in found.values()]),
            measured={
                f"{key}_{b}": value
                for b, e in found.items()
                for key, value in (
                    ("correlation", e.mean),
                    ("low", e.low),
                    ("high", e.high),
                    ("rules", len(kept[b])),
                )
            },
            data=here["curves"],
        )
    for name, what in (
        ("pf-fig46-flatter", flat),
        ("pf-fig46-eigenvalue", sharp),
    ):
        found = {}
        for b in sizes:
            rate = nearest(accuracy, b)
            some = what.clip(lower=1e-6)  # a slice may fall; a lost run is FAR
            ratio = np.log(some[b, "DAL-0.5"] / some[b, rate])
            ratio = ratio.fillna(effects.FAR).clip(-effects.FAR, effects.FAR)
            found[b] = effect(ratio), rate
        claims.record(
            name,
            holds=effects.all_of(
                [effects.below(e, -effects.MARGIN) for e, _ in found.values()]
            ),
            measured={
                f"{key}_{b}": value
                for b, (e, rate) in found.items()
                for key, value in (
                    ("factor", float(np.exp(e.mean))),
                    ("low", float(np.exp(e.low))),
                    ("high", float(np.exp(e.high))),
                    ("against", rate),
                )
            },
            data=here["slices"],
        )

# %% [markdown]
# With batches of 512 DAL-½ gains {measured}`pf-fig41-test:gain_512:.3f` in test accuracy on DAL, with
# batches of 32 its gain is {measured}`pf-fig41-test:gain_32:.3f`, a loss: {claim}`pf-fig41-test` Our
# measure of stability, the worst jump, does not see a run that dies at its start, as those of DAL-¼ do:
# {claim}`pf-fig41-stability`
#
# Against the fixed rate of nearest accuracy, DAL-½ rises {measured}`pf-fig46-flatter:factor_512:.2f` times
# as much along the slices with batches of 512, and {measured}`pf-fig46-flatter:factor_32:.2f` times with
# batches of 32: {claim}`pf-fig46-flatter` By the largest eigenvalue, a measure of the one sharpest
# direction, small batches leave it open: {claim}`pf-fig46-eigenvalue`
#
# ## What follows
#
# DAL-½ finds flat places, and flat places are not always accurate ones: with small batches DAL itself is
# more accurate, and as flat near by. Take the power 1 for small batches, where
# noise does what a smaller power is for, and ¾ or ½ for large ones.

# %% tags=["remove-input"]
run.card(*shown.values())

# %% [markdown]
# ## What to vary
#
# - The number of directions in the [training notebook](train_across_batches.py): how much do slices
#   differ?
# - `same`: with the factor 8 replaced by 100.
