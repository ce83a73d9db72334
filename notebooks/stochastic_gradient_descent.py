# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SGD: what the order of minibatches does
#
# One step of SGD is one step of gradient descent on one batch. **What do several steps, on several
# batches, go down?** Not the full batch's modified loss, which is off by as much as no drift at all would
# be, to order; but a loss with one term more, the *alignment* of each batch's gradient with those before
# it, which follows them to the next order. Over a whole epoch late in training, the gradients of an
# epoch's batches point against one another.
#
# | | {cite:t}`rosca2023implicit` and the talk | here |
# | --- | --- | --- |
# | the loss | derived | derived, and its order measured |
# | training | "empirical work needed" | MNIST, 512 images, an MLP, 8 batches an epoch |
# | seeds | | 8 |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddbook.page.bands import bands
from ddbook.sweeps import effects
from ddlib.games import gradient_field
from ddlib.methods import RK4, euler, iterate, runge_kutta
from ddlib.modified_losses import (
    alignment,
    epoch_mean,
    implicit_gradient_regularisation,
    n_step_sgd,
)
from ddlib.nets import functional, mlp

jax.config.update("jax_enable_x64", True)
run = page.open("stochastic_gradient_descent", profile, parameters)
s, claims, colors = run.settings, run.claims, page.COLORS
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)

# %% [markdown]
# ## Three losses
#
# Take $n$ steps of size $h$ from $\theta_{t-1}$, on batches with losses $E_0, \dots, E_{n-1}$ and mean
# $\bar E$. Over the time $nh$ they follow the gradient flow of
#
# $$
# \tilde E = \bar E + \frac{nh}4\|\nabla\bar E\|^2 - \frac hn\sum_{\mu=1}^{n-1}
# \nabla E_\mu^\top \sum_{\tau<\mu}\nabla E_\tau(\theta_{t-1})
# $$
#
# {cite:p}`rosca2023implicit`. The middle term is that of one step of size $nh$ with the full batch. The
# last rewards a gradient for agreeing with those that came before it. It depends on the *order* of the
# batches, and its average over all orders turns the sum into $\frac h{4n}\sum_k\|\nabla E_k\|^2$, the
# *epoch mean* of {cite:t}`smith2021origin`.


# %%
def three_losses(loss, batches, h, start):
    """What n steps are said to go down, over the time nh."""
    count = len(jax.tree.leaves(batches)[0])

    def mean(params):
        return jax.vmap(loss, (None, 0))(params, batches).mean()

    return {
        "n-step": n_step_sgd(loss, batches, h, start),
        "full batch": implicit_gradient_regularisation(mean, count * h),
        "epoch mean": epoch_mean(loss, batches, h),
    }


def descend(loss, batches, h, start):
    """The n steps themselves."""
    return jax.lax.scan(
        lambda y, batch: (euler(gradient_field(partial(loss, batch=batch)))(h, y), None),
        start,
        batches,
    )[0]  # fmt: skip


def follow(loss, start, time, substeps):
    """The gradient flow of a loss."""
    step = runge_kutta(gradient_field(loss), RK4)
    return jax.tree.map(
        lambda x: x[-1], iterate(step, time / substeps, start, substeps)
    )


# %% [markdown]
# How well does each follow? Halve $h$ and see by how much the distance to the $n$ steps falls.


# %% tags=["hide-input"]
def toy_loss(y, batch):
    """A quartic of three parameters."""
    a, b = batch
    z = a @ y + b
    return z @ z / 2 + jnp.sum(z * z * z) / 9 + jnp.sum(y * y * y * y) / 10


rng = np.random.default_rng(0)
toy = (
    jnp.asarray(rng.normal(size=(6, 2, 3))),
    jnp.asarray(rng.normal(size=(6, 2))),
)
point = jnp.asarray([0.4, -0.3, 0.6])


@jax.jit
@jax.vmap
def errors(h):
    end = descend(toy_loss, toy, h, point)
    return {
        name: jnp.linalg.norm(follow(loss, point, 6 * h, 8) - end)
        for name, loss in three_losses(toy_loss, toy, h, point).items()
    }


orders = jnp.asarray(list(itertools.permutations(range(4))))


@jax.jit
@jax.vmap
def mean_errors(h):
    """The mean of the ends over all orders of four batches."""
    four = jax.tree.map(lambda x: x[:4], toy)
    ends = jax.vmap(
        lambda order: descend(
            toy_loss, jax.tree.map(lambda x: x[order], four), h, point
        )
    )(orders)
    losses = three_losses(toy_loss, four, h, point)
    return {
        f"{name}, mean of orders": jnp.linalg.norm(
            follow(losses[name], point, 4 * h, 8) - ends.mean(0)
        )
        for name in ("epoch mean", "full batch")
    }


sizes = 0.01 * 2.0 ** -np.arange(5)
table = {"h": sizes} | errors(sizes) | mean_errors(sizes)
table = pd.DataFrame({k: np.asarray(v) for k, v in table.items()}).set_index(
    "h"
)
_ = run.save("orders", table.reset_index(), data="none")
slopes = np.log2(table.iloc[-2] / table.iloc[-1])
slopes.round(3)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Distance of six SGD steps from the flows of three losses against the step size: with the full batch's loss and the epoch mean it falls as the square, with the n-step loss as the cube."}, "figure": {"caption": "Six SGD steps on a quartic of three parameters: their distance from the gradient flows of three losses. Dotted: the mean of the ends over all orders of four batches, from the flow of the epoch mean.", "name": "fig-sgd-orders"}}
fig, ax = plt.subplots(figsize=(5.8, 3.6))
looks = {
    "full batch": (colors["flow"], "o-", "full batch"),
    "epoch mean": (colors["published"], "o-", "epoch mean, one order"),
    "epoch mean, mean of orders": (
        colors["published"],
        "o:",
        "epoch mean, all orders",
    ),
    "n-step": (colors["modified"], "o-", "n-step, with alignment"),
}
ends = []
for name, (color, style, label) in looks.items():
    ax.loglog(table.index, table[name], style, color=color, ms=4)
    ends.append([np.log(table[name].iloc[0]), label, color])
ends.sort(key=lambda end: end[0])
for i in range(1, len(ends)):
    ends[i][0] = max(ends[i][0], ends[i - 1][0] + 0.8)
for height, label, color in ends:
    ax.text(sizes[0] * 1.1, np.exp(height), label, color=color, va="center")
ax.set(xlabel="rate $h$", ylabel="distance after six steps")
ax.set_xlim(sizes[-1] * 0.9, sizes[0] * 5)
plt.show()  # fmt: skip

# %% tags=["hide-input", "remove-output"]
claims.record(
    "ours-sgd-n-step-order",
    holds=bool(
        abs(slopes["n-step"] - 3) <= 0.1
        and abs(slopes["full batch"] - 2) <= 0.1
    ),
    measured={
        "n_step": slopes["n-step"],
        "full_batch": slopes["full batch"],
        "epoch_mean": slopes["epoch mean"],
    },
    data="none",
)
claims.record(
    "ours-sgd-epoch-mean-order",
    holds=bool(
        abs(slopes["epoch mean, mean of orders"] - 3) <= 0.1
        and abs(slopes["epoch mean"] - 2) <= 0.1
        and abs(slopes["full batch, mean of orders"] - 2) <= 0.1
    ),
    measured={
        "of_mean": slopes["epoch mean, mean of orders"],
        "of_one_order": slopes["epoch mean"],
    },
    data="none",
)

# %% [markdown]
# The $n$-step loss is followed with slope {measured}`ours-sgd-n-step-order:n_step:.3f`, the full batch's
# with {measured}`ours-sgd-n-step-order:full_batch:.3f`: {claim}`ours-sgd-n-step-order` The epoch mean is
# no better for any one order, and of the next order for their mean: {claim}`ours-sgd-epoch-mean-order`
#
# ## Along a real training
#
# A network learns 512 images in epochs of eight minibatches, shuffled anew each time. Every few epochs
# we stop and ask, of the epoch to come: how far will its eight steps end from each flow? and do the
# batches' gradients agree?

# %% tags=["hide-input"]
train = run.data(s.dataset, subset=s.num_images)
x = jnp.asarray(train.images.reshape(len(train.labels), -1), jnp.float64)
labels = jnp.asarray(train.labels)
apply = functional(
    mlp(x.shape[1], s.widths, 10, key=jax.random.key(0), dtype=jnp.float64)
)[1]


def loss_of(params, batch):
    """Mean cross-entropy of a batch."""
    images, targets = batch
    found = optax.softmax_cross_entropy_with_integer_labels(
        apply(params, images), targets
    )
    return found.mean()


def shuffled(key, size):
    """An epoch's batches."""
    chosen = jax.random.permutation(key, len(labels)).reshape(-1, size)
    return x[chosen], labels[chosen]


def key_of(seed, epoch):
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.key(5), seed), epoch
    )


@jax.jit
def onward(params, seed, first, last):
    """Epochs of SGD."""
    return jax.lax.fori_loop(
        first,
        last,
        lambda epoch, p: descend(
            loss_of, shuffled(key_of(seed, epoch), s.batch_size), s.rate, p
        ),
        params,
    )


@jax.jit
def measured(params, seed, epoch):
    """What the coming epoch will do, and how its gradients lie."""
    batches = shuffled(key_of(seed, epoch), s.batch_size)
    count = len(batches[1])
    end = descend(loss_of, batches, s.rate, params)
    seen = {
        name: optax.tree.norm(
            optax.tree.sub(
                follow(goal, params, count * s.rate, s.substeps), end
            )
        )
        for name, goal in three_losses(loss_of, batches, s.rate, params).items()
    }
    slopes = jax.vmap(jax.grad(loss_of), (None, 0))(params, batches)
    mean = jax.tree.map(lambda g: g.mean(0), slopes)
    squares = jax.vmap(partial(optax.tree.norm, squared=True))(slopes)
    lengths = jnp.sqrt(squares)
    pairs = (lengths.sum() ** 2 - squares.sum()) / 2
    return seen | {
        "loss": loss_of(params, (x, labels)),
        "alignment": alignment(loss_of, batches, params)(params) / pairs,
        "of_batches": squares.mean(),
        "of_mean": optax.tree.norm(mean, squared=True),
    }


rows, lasts = [], []
seeds = range(s.first_seed, s.first_seed + s.num_seeds)
for seed in seeds:
    params = functional(
        mlp(
            x.shape[1],
            s.widths,
            10,
            key=jax.random.fold_in(jax.random.key(3), seed),
            dtype=jnp.float64,
        )
    )[0]
    for epoch in range(0, s.num_epochs + 1, s.every):
        seen = measured(params, seed, epoch)
        rows.append(
            {"seed": seed, "step": epoch}
            | {k: float(v) for k, v in seen.items()}
        )
        if epoch < s.num_epochs:
            params = onward(params, seed, epoch, epoch + s.every)
    lasts.append(params)
    run.progress(len(lasts), len(seeds), f"seed {seed}")
along = pd.DataFrame(rows)
_ = run.save("along", along, data=train)

# %% [markdown]
# ## Batch size
#
# The penalty of the epoch mean exceeds the full batch's by the variance of the batches' gradients.
# Drawn without replacement from $N$ images, batches of $B$ have the variance
# $S^2\tfrac{N-B}{B(N-1)}$, $S^2$ that of single images' gradients: halve the batch, and what SGD adds
# doubles. We measure it at the ends of the trainings.

# %% tags=["hide-input"]


@partial(jax.jit, static_argnames="size")
def spread(params, key, size):
    """(1/n) Σ‖∇E_k‖² less ‖∇Ē‖² of an epoch of batches of a size."""
    slopes = jax.vmap(jax.grad(loss_of), (None, 0))(params, shuffled(key, size))
    mean = jax.tree.map(lambda g: g.mean(0), slopes)
    squares = jax.vmap(partial(optax.tree.norm, squared=True))(slopes).mean()
    return squares - optax.tree.norm(mean, squared=True), squares


rows = []
single = [float(spread(params, jax.random.key(0), 1)[0]) for params in lasts]
for seed, params, one in zip(seeds, lasts, single, strict=True):
    for size in s.batch_sizes:
        found = [
            spread(params, key_of(seed, 10_000 + i), size)
            for i in range(s.num_shuffles)
        ]
        share = (len(labels) - size) / size / (len(labels) - 1)
        rows.append(
            {
                "seed": seed,
                "batch_size": size,
                "variance": float(np.mean([f[0] for f in found])),
                "penalty": float(np.mean([f[1] for f in found])),
                "formula": one * share,
            }
        )
batch_sizes = pd.DataFrame(rows)
_ = run.save("batch_sizes", batch_sizes, data=train)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Three panels over epochs and batch sizes: distances of an epoch from three flows; alignment of an epoch's gradients, falling from positive to negative; variance of batch gradients against batch size, on the formula's line."}, "figure": {"caption": "Along SGD training, median and range over seeds. Left: the distance of an epoch's eight steps from the flows of three losses. Middle: the alignment of an epoch's gradients over the sum of their lengths' products; 1 if all point one way. Right: the variance of batches' gradients at the end against the batch size, and the formula (line).", "name": "fig-sgd-along"}}
there = {name: run.published(name) for name in ("along", "batch_sizes")}
curves = there["along"].frame if there["along"] else along
sized = there["batch_sizes"].frame if there["batch_sizes"] else batch_sizes
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(8.6, 3.3))
for name, color, label in (
    ("full batch", colors["flow"], "full batch"),
    ("epoch mean", colors["published"], "epoch mean"),
    ("n-step", colors["modified"], "n-step"),
):
    bands(left, curves, name, color, label)
left.set(yscale="log", xlabel="epoch", ylabel="distance from the flow")
left.legend(fontsize=8)
bands(middle, curves, "alignment", colors["modified"])
middle.axhline(0, color="k", lw=0.7)
middle.set(xlabel="epoch", ylabel="alignment")
means = sized.groupby("batch_size")[["variance", "formula"]].mean()
right.loglog(sized.batch_size, sized.variance, ".", color=colors["alternating"])
right.loglog(means.index, means.formula, color="k", lw=0.9)
right.set(xlabel="batch size", ylabel="variance of gradients")
right.set_xticks(means.index, [str(size) for size in means.index])
right.minorticks_off()
title = there["along"].label if there["along"] else f"{profile} profile"
fig.suptitle(f"{title}, {curves.seed.nunique()} seeds", fontsize=10)
plt.show()

# %% tags=["hide-input", "remove-output"]
enough = along.seed.nunique() >= effects.SEEDS
ratio = along.assign(value=np.log(along["n-step"] / along["full batch"]))
follows = effects.mean_of(ratio)
first = effects.mean_of(along[along.step == 0], "alignment")
last = effects.mean_of(along[along.step == along.step.max()], "alignment")
claims.record(
    "ours-sgd-n-step-follows",
    holds=effects.below(follows, np.log(0.5)) if enough else None,
    measured={
        "ratio": np.exp(follows.mean),
        "low": np.exp(follows.low),
        "high": np.exp(follows.high),
        "seeds": follows.seeds,
    },
    data=train,
)
claims.record(
    "ours-sgd-alignment-starts-positive",
    holds=effects.above(first, 0.0) if enough else None,
    measured={"mean": first.mean, "low": first.low, "high": first.high},
    data=train,
)
claims.record(
    "ours-sgd-alignment-ends-negative",
    holds=effects.below(last, 0.0) if enough else None,
    measured={"mean": last.mean, "low": last.low, "high": last.high},
    data=train,
)
off = batch_sizes.groupby("batch_size")[["variance", "formula"]].mean()
worst = float((off.variance / off.formula - 1).abs().max())
ends = along[along.step == along.step.max()]
claims.record(
    "ours-sgd-batch-size",
    holds=bool(worst <= 0.1) if enough else None,
    measured={
        "worst": worst,
        "share_of_variance": float(1 - (ends.of_mean / ends.of_batches).mean()),
    },
    data=train,
)

# %% [markdown]
# Over all epochs looked at, the eight steps end
# {measured}`ours-sgd-n-step-follows:ratio:.2g` times as far from the $n$-step loss's flow as from the
# full batch's: {claim}`ours-sgd-n-step-follows` (In the first epoch, where an epoch is long for the
# curvature, the epoch mean is nearer than either, by no theory.) The gradients of an epoch agree at the start, with an
# alignment of {measured}`ours-sgd-alignment-starts-positive:mean:.2f`
# ({claim}`ours-sgd-alignment-starts-positive`), and end at
# {measured}`ours-sgd-alignment-ends-negative:mean:.3f`: {claim}`ours-sgd-alignment-ends-negative` It could
# not be otherwise. Over a whole epoch the gradients sum to $n\nabla\bar E$, so on average over orders the
# sum is $\tfrac12(n^2\|\nabla\bar E\|^2 - \sum_k\|\nabla E_k\|^2)$; where the full gradient has
# vanished and those of batches have not, that is negative. The *pressure* of the term is towards
# agreement; what it acts on, at the end, is disagreement.
#
# At the end, {measured}`ours-sgd-batch-size:share_of_variance:.0%` of the epoch mean's penalty is
# variance, which the full batch's does not have. It depends on the batch size as it should, to
# {measured}`ours-sgd-batch-size:worst:.1%` at worst: {claim}`ours-sgd-batch-size`

# %% tags=["remove-input"]
run.card()

# %% [markdown]
# ## What follows
#
# - [General games](general_games.py) freeze a partner's gradient as this loss freezes earlier ones.
# - Vary `rate`: the expansion is in $nh$. How long an epoch may be, at a given rate, before all three fail?
# - Vary the shuffle: what if each epoch takes its batches in the same order?
