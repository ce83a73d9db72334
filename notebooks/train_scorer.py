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
# # A scorer of our own
#
# **How good are a GAN's images, when no network that others trained can be had?** The
# [Inception score](https://arxiv.org/abs/1606.03498) (Salimans et al., 2016) and the
# [Fréchet distance](https://arxiv.org/abs/1706.08500) (Heusel et al., 2017) answer through the eyes of
# a classifier, and a small one, trained here, does: its distance grows with every way to spoil images
# that we try. But its scores can be compared with each other only, and with no number of any paper.
#
# | | the papers | here |
# | --- | --- | --- |
# | classifier | Inception | a residual network of three stages |
# | trained on | ImageNet | CIFAR-10 as JPEG |
# | cost of an image | five billion multiply-adds | 24 million, at 32×32 |
# | images scored | 32×32 | 32×32, and 16×16 resized |
# | verdicts | | none: it is a tool |
#
# With class probabilities $p(y|x)$ and features $f(x)$ of images $x$, the two scores are
#
# $$
# \mathrm{IS} = \exp \mathbb{E}_x\, \mathrm{KL}\big(p(y|x)\,\|\,\mathbb{E}_{x'}\, p(y|x')\big),
# \qquad
# d^2 = \|\mu-\nu\|^2 + \operatorname{tr}\big(A + B - 2(A^{1/2} B A^{1/2})^{1/2}\big),
# $$
#
# where $\mu, A$ and $\nu, B$ are mean and covariance of the features of generated and of real
# images. Inception is a hundred megabytes from the network, and our GANs make thousands of images for
# each of thousands of scores, on a laptop that may be offline. So this book has a scorer that ships
# with `ddlib` (`ddlib.metrics.cifar_scorer`). Every score names its scorer, and `ddlib.metrics`
# refuses to compare two.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"seed": 1}

# %% tags=["hide-input"]
import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import metrics
from ddlib import scorer as network

run = page.open("train_scorer", profile, parameters)
s = run.settings
colors = {32: "#0072B2", 16: "#D55E00"}  # pixels a side

# %% tags=["hide-input"]
train = run.data(s.dataset, "train", subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_scored)
print(
    f"{train.name}{' (stand-in)' if train.stand_in else ''}: "
    f"{len(train.labels)} images to train on, {len(test.labels)} to test with"
)

# %% [markdown]
# ## The network and its training
#
# A residual network (`ddlib/scorer.py`) of three stages with 32, 96 and 128 channels: a
# convolution that halves the image, 4×4 in the first stage and 3×3 in the others, and two of 3×3.
# That makes 24 million multiply-adds for an image of 32×32. The features are the 128 channels of
# the last stage, averaged over its 4×4 pixels.
#
# The scorer shall also judge images of 16×16, resized to 32×32. A classifier that has seen only
# sharp images takes blur for a sign of a class. So a third of the training images are averaged down
# to 16×16 and resized back.


# %% tags=["hide-input"]
def halve(x):
    """Average 2×2 pixels."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def augment(key, x):
    """Flip half of the images, move each by up to 3 pixels, and make some of them coarse."""
    flips, moves, coarse = jax.random.split(key, 3)
    each = (len(x), 1, 1, 1)
    x = jnp.where(jax.random.bernoulli(flips, 0.5, each), x[:, :, ::-1], x)
    padded = jnp.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), "reflect")
    corners = jax.random.randint(moves, (len(x), 2), 0, 7)
    x = jax.vmap(
        lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), x.shape[1:])
    )(padded, corners)
    blurred = jax.image.resize(halve(x), x.shape, "bilinear")
    return jnp.where(
        jax.random.bernoulli(coarse, s.coarse_share, each), blurred, x
    )


images, labels = (
    jnp.asarray(np.uint8(np.round(255 * train.images))),
    jnp.asarray(train.labels),
)
steps_per_epoch = len(labels) // s.batch_size
num_steps = s.num_epochs * steps_per_epoch
rate = optax.cosine_onecycle_schedule(
    num_steps, s.peak_rate, pct_start=0.25, div_factor=10, final_div_factor=1000
)
optimiser = optax.chain(
    optax.add_decayed_weights(5e-4),
    optax.sgd(rate, momentum=0.9, nesterov=True),
)


def loss(params, state, x, y):
    logits, state = network.train_logits(params, state, x)
    value = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return value, (state, jnp.stack([value, (logits.argmax(-1) == y).mean()]))


@partial(jax.jit, donate_argnums=0)
def step(carry, t, batch):
    params, state, moments, seen = carry
    key = jax.random.fold_in(jax.random.key(s.seed), t)
    x = augment(key, images[batch].astype(jnp.float32) / 255)
    gradient, (state, now) = jax.grad(loss, has_aux=True)(
        params, state, x, labels[batch]
    )
    moves, moments = optimiser.update(gradient, moments, params)
    return optax.apply_updates(params, moves), state, moments, seen + now


# %% [markdown]
# Stochastic gradient descent with Nesterov's momentum, its rate rising for a quarter of the steps
# and falling to zero by a cosine. Batch norm serves the training; what is tested and shipped has it
# folded into kernels and biases, rounded to half precision.

# %% tags=["hide-input"]
probability = jax.jit(
    lambda weights, x: jax.nn.softmax(network.outputs(weights, x)[0])
)


def accuracies(params, state):
    """On the first test images, as they are and averaged down to 16×16."""
    folded = {k: jnp.float32(v) for k, v in network.fold(params, state).items()}
    x, y = test.images[: s.num_watched], test.labels[: s.num_watched]
    coarse = np.asarray(jax.image.resize(halve(x), x.shape, "bilinear"))
    right = []
    for start in range(0, len(y) - 99, 100):
        part = slice(start, start + 100)
        right.append(
            [
                probability(folded, z[part]).argmax(-1) == y[part]
                for z in (x, coarse)
            ]
        )
    return np.mean(right, axis=(0, 2))


params, state = network.start(jax.random.key(s.seed))
carry = params, state, optimiser.init(params), jnp.zeros(2)
order = np.random.default_rng(s.seed)
rows = []
t = 0
for epoch in range(1, s.num_epochs + 1):
    batches = order.permutation(len(labels))[: steps_per_epoch * s.batch_size]
    for batch in batches.reshape(steps_per_epoch, s.batch_size):
        carry = step(carry, t, batch)
        t += 1
        if t % 50 == 0:
            jax.block_until_ready(
                carry
            )  # else progress tells what was queued, not what was done
            run.progress(t, num_steps)
    *carry, seen = carry
    mean_loss, mean_accuracy = np.asarray(seen) / steps_per_epoch
    carry = *carry, jnp.zeros(2)
    sharp, coarse = accuracies(*carry[:2])
    rows.append(
        {
            "epoch": epoch,
            "train_loss": mean_loss,
            "train_accuracy": mean_accuracy,
            "test_accuracy_32": sharp,
            "test_accuracy_16": coarse,
        }
    )
epochs = run.save(
    "epochs", pd.DataFrame(rows, dtype=float).astype({"epoch": int}), data=train
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Cross-entropy on augmented training batches, and accuracies on training batches and on test images at 32 and at 16 pixels, against epochs. The loss falls and all accuracies rise, fast at first and once more when the learning rate goes to zero; accuracy at 16 pixels ends three or four points below that at 32."}, "figure": {"caption": "Training. Left: mean cross-entropy over an epoch's augmented batches. Right: accuracy on these batches (grey), and on test images as they are (32 pixels) and averaged down to 16 pixels.", "name": "fig-scorer-training"}}
tables = [
    table for table in (epochs, run.published("epochs")) if table is not None
]
fig, axes = plt.subplots(
    len(tables), 2, figsize=(7.2, 3.1 * len(tables)), squeeze=False
)
for (left, right), table in zip(axes, tables, strict=True):
    frame = table.frame
    left.plot(frame.epoch, frame.train_loss, "o-", ms=3, color="#7F7F7F")
    left.set(
        title=table.label,
        xlabel="epoch",
        ylabel="cross-entropy",
        ylim=(0, None),
    )
    right.plot(
        frame.epoch,
        frame.train_accuracy,
        color="#7F7F7F",
        label="training batches",
    )
    for pixels, color in colors.items():
        right.plot(
            frame.epoch, frame[f"test_accuracy_{pixels}"], "o-", ms=3, color=color,
            label=f"test, {pixels} pixels",
        )  # fmt: skip
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
plt.show()

# %% [markdown]
# The rate's fall brings the last points of accuracy. The run whose table lies under `results/` is the one whose network
# ships. It is a small network, trained on one core of a CPU: what that buys is far from what can be
# had.
#
# From here on the network is what a user gets: a file with its provenance, read by
# `metrics.load_scorer`. It takes images of any size, with values in $[0, 1]$. Here it is tried on
# all test images, at both sizes, and then told in its own file how often it was right.

# %%
file = run.folder / "scorer.safetensors"  # beside the tables
weights = network.fold(*carry[:2])
provenance = {"name": train.name, **dataclasses.asdict(epochs.provenance)}
network.write(file, weights, provenance)
scorer = metrics.load_scorer(file)

real = {32: test.images, 16: halve(test.images)}
seen = {pixels: scorer.classify(x) for pixels, x in real.items()}
accuracy = {
    pixels: float(np.mean(probabilities.argmax(-1) == test.labels))
    for pixels, (probabilities, _) in seen.items()
}
network.write(file, weights, {**provenance, "test_accuracy": accuracy})
scorer = metrics.load_scorer(file)
print(
    f"{scorer.name}: accuracy {accuracy[32]:.4f} at 32 pixels, "
    f"{accuracy[16]:.4f} at 16"
)

# %% [markdown]
# ## What it confuses

# %% tags=["hide-input"]
confusion = run.save(
    "confusion",
    pd.concat(
        [
            pd.DataFrame(
                {"actual": test.labels, "predicted": probabilities.argmax(-1)}
            )
            .value_counts()
            .rename("images")
            .reset_index()
            .assign(pixels=pixels)
            for pixels, (probabilities, _) in seen.items()
        ],
        ignore_index=True,
    ),
    data=train,
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Two confusion matrices, at 32 and at 16 pixels. The diagonals dominate. Cats and dogs are confused most, then birds, deer and frogs among each other, and automobiles with trucks; at 16 pixels all of this a little more."}, "figure": {"caption": "Which class (rows) is taken for which (columns), in per cent of the class's test images.", "name": "fig-scorer-confusion"}}
CLASSES = "plane car bird cat deer dog frog horse ship truck".split()
table = run.published("confusion") or confusion
names = (
    CLASSES
    if table.provenance.dataset["name"] != "shapes"
    else [str(i) for i in range(10)]
)
fig, axes = plt.subplots(1, 2, figsize=(7.4, 4.1), sharey=True)
for ax, (pixels, frame) in zip(
    axes, table.frame.groupby("pixels", sort=False), strict=True
):
    counts = frame.pivot_table(
        index="actual", columns="predicted", values="images", aggfunc="sum"
    )
    counts = counts.reindex(index=range(10), columns=range(10)).fillna(0)
    share = 100 * counts.div(counts.sum(axis=1), axis=0).to_numpy()
    ax.imshow(share, vmin=0, vmax=100, cmap="Blues")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            ax.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                color="w" if value > 55 else "k",
            )  # fmt: skip
    ax.set_xticks(
        range(10),
        names,
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=9,
    )
    ax.set_yticks(range(10), names, fontsize=9)
    right = 100 * counts.to_numpy().trace() / counts.to_numpy().sum()
    ax.set_title(f"{pixels} pixels: {right:.1f} % right", fontsize=10.5)
    ax.grid(False)
axes[0].set_ylabel("actual")
fig.supxlabel("predicted", fontsize=11)
fig.suptitle(table.label, fontsize=10.5)
plt.show()

# %% [markdown]
# Cats and dogs, cars and trucks, planes and ships: it errs where one would. At 16 pixels it errs
# more, and in the same places.
#
# ## What real images score
#
# The best that a generator can be is as good as real images that the scorer has not seen. We score
# $n$ test images against the statistics of training images, for several $n$ and draws. The Fréchet
# distance of equal distributions is zero only in the limit: the covariance of few images is far
# from that of many, and the distance is biased upwards by about $1/n$. So **distances are compared
# at equal $n$ only**.

# %% tags=["hide-input"]
reference = {
    pixels: metrics.image_statistics(scorer, x[: s.num_scored])
    for pixels, x in ((32, train.images), (16, halve(train.images)))
}
draws = np.random.default_rng(s.seed)
rows = []
for n in s.sizes:
    for draw in range(min(5, len(test.labels) // n)):  # disjoint ones
        if draw == 0:
            order = draws.permutation(len(test.labels))
        chosen = order[draw * n : (draw + 1) * n]
        for pixels, (probabilities, features) in seen.items():
            statistics = metrics.feature_statistics(
                features[chosen], scorer.name
            )
            rows.append(
                {
                    "pixels": pixels,
                    "n": n,
                    "draw": draw,
                    "inception_score": metrics.inception_score(
                        probabilities[chosen]
                    ).mean,
                    "frechet_distance": metrics.frechet_distance(
                        statistics, reference[pixels]
                    ),
                    "num_reference": reference[pixels].num_images,
                    "scorer": scorer.name,
                }
            )
ceiling = run.save("real_images", pd.DataFrame(rows), data=train)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Left: the Inception score of real test images against their number rises slightly and levels off. Right: the Frechet distance between test and training images against the number of test images falls like one over n, on logarithmic axes, and flattens."}, "figure": {"caption": "Scores of real test images against their number; dots are disjoint draws. Left: the Inception score, the ceiling for a generator. Right: the Fréchet distance from training images, the floor; grey: slope $-1$.", "name": "fig-scorer-real"}}
table = run.published("real_images") or ceiling
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.5))
for pixels, group in table.frame.groupby("pixels", sort=False):
    for ax, key in ((left, "inception_score"), (right, "frechet_distance")):
        ax.plot(
            group.n, group[key], "o", mfc="none", ms=4, color=colors[pixels]
        )
        ax.plot(
            group.groupby("n")[key].mean(),
            color=colors[pixels],
            label=f"{pixels} pixels",
        )
first = table.frame.groupby("n").frechet_distance.mean()
right.plot(
    first.index,
    first.iloc[0] * first.index[0] / first.index,
    color="#7F7F7F",
    lw=1,
)
right.set(yscale="log", ylabel="Fréchet distance")
left.set(ylabel="Inception score")
for ax in (left, right):
    ax.set(xscale="log", xlabel="test images $n$")
    ax.set_xticks(first.index, [f"{n}" for n in first.index], rotation=45)
    ax.set_xticks([], minor=True)
left.legend(loc="lower right")
fig.suptitle(
    f"{table.label}, {table.frame.num_reference.iloc[0]} training images",
    fontsize=10.5,
)
plt.show()

# %% [markdown]
# The Inception score of real images depends little on $n$. (It stays below 10 since the classifier
# is not certain of every image, and less so of coarse ones.) The distance depends on it
# strongly, though all of these images are of the same kind. A generator's distance means something only
# against the floor at its $n$.
#
# ## Does a worse image score worse?
#
# Real test images are spoilt in three ways, each more and more: Gaussian noise is added, they are
# blurred, or classes are left out, as by a generator whose modes have collapsed. They are spoilt at
# their own size, 32 or 16 pixels. Noise is in units of the pixels' range, blur in pixels.


# %% tags=["hide-input"]
def noisy(level, x, y):
    noise = np.random.default_rng(s.seed).normal(size=x.shape)
    return np.clip(x + level * noise, 0, 1)


def blurred(level, x, y):
    if level == 0:
        return x
    at = np.arange(x.shape[1])
    kernel = np.exp(-((at[:, None] - at) ** 2) / (2 * level**2))
    kernel /= kernel.sum(1, keepdims=True)
    return np.einsum("ih,jw,nhwc->nijc", kernel, kernel, x, optimize=True)


def collapsed(level, x, y):
    kept = np.flatnonzero(y < 10 - level)
    return x[np.resize(kept, len(x))]


SPOIL = {
    "noise": (noisy, [0, 0.02, 0.05, 0.1, 0.2, 0.4]),
    "blur": (blurred, [0, 0.5, 0.75, 1, 1.5, 2]),
    "classes left out": (collapsed, [0, 1, 3, 5, 7, 9]),
}
rows = []
y = test.labels[: s.num_distorted]
for kind, (spoil, levels) in SPOIL.items():
    for level in levels:
        for pixels in real:
            x = np.float32(spoil(level, real[pixels][: s.num_distorted], y))
            result = metrics.score(scorer, x, reference[pixels])
            rows.append(
                {
                    "kind": kind,
                    "level": level,
                    "pixels": pixels,
                    **result._asdict(),
                }
            )
spoilt = run.save("distortions", pd.DataFrame(rows), data=train)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Six panels: Frechet distance above, Inception score below, against the level of noise, of blur and of classes left out, for 32 and 16 pixels. The Frechet distance grows with every level; the Inception score falls."}, "figure": {"caption": "Scores of real test images that are spoilt more and more.", "name": "fig-scorer-spoilt"}}
table = run.published("distortions") or spoilt
fig, axes = plt.subplots(2, 3, figsize=(7.4, 4.8), sharex="col", sharey="row")
for column, (kind, frame) in zip(
    axes.T, table.frame.groupby("kind", sort=False), strict=True
):
    for ax, key in zip(
        column, ("frechet_distance", "inception_score"), strict=True
    ):
        for pixels, group in frame.groupby("pixels", sort=False):
            ax.plot(
                group.level,
                group[key],
                "o-",
                ms=4,
                color=colors[pixels],
                label=f"{pixels} pixels",
            )
    column[1].set_xlabel(kind)
axes[0, 0].set(ylabel="Fréchet distance", yscale="log")
axes[1, 0].set(ylabel="Inception score", ylim=(1, None))
axes[0, 0].legend(loc="lower right")
fig.suptitle(
    f"{table.label}, {table.frame.num_images.iloc[0]} test images",
    fontsize=10.5,
)
plt.show()

# %% [markdown]
# The distance grows with every step of every kind. The Inception score falls with them too, but it
# never looks at real images: a collapse onto few, clear classes is its business only as far as
# their number goes. Left with one class it is not 1, as the classifier takes some of its images for
# others.
#
# ## What follows
#
# A generator is good to the extent that its distance comes near to what real images have, at the same
# number of samples. With this scorer the [GANs of this part](train_gans.py) are compared.
#
# To vary:
#
# - `-p coarse_share 0.01`: what becomes of the accuracy, and of the scores, at 16 pixels?
# - `-p seed 1`: another scorer, equally good. Its file has another name, and `ddlib.metrics.score`
#   refuses statistics of the first: how far apart are the numbers of the two?
# - `-p num_epochs 60` (the paper profile): a better classifier. Do its scores order the spoilt images
#   otherwise?
# - With the extra `metrics`, `ddlib.metrics.inception_scorer()` is the usual network; score the test
#   images with it.

# %% tags=["remove-input"]
run.card()
