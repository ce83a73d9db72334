# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   compiles: true
# ---

# %% [markdown]
# # The principal flow and the central flow
#
# Two flows claim to follow gradient descent at the edge of stability. **For how long does each, and
# what does it follow?** The principal flow follows the iterates, swings and all, for a few steps. The
# central flow follows their average, without the swings, for as long as one cares to look.
#
# | | the papers | here |
# | --- | --- | --- |
# | network | VGG (PF); ResNets, transformers (Cohen et al.) | three layers, 16 tanh units each |
# | data | CIFAR-10 | scikit-learn's digits, 200 images, squares |
# | seeds | not stated | 3 |
#
# Nobody has put them side by side.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_steps": 100}

# %% tags=["hide-input"]
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddlib import descent, edge
from ddlib.flows import (
    central,
    continued_alpha,
    distances,
    polynomial_field,
    spectral_field,
)
from ddlib.nets import functional, mean_squared_error, mlp

jax.config.update("jax_enable_x64", True)
run = page.open("principal_and_central_flow", profile, parameters)
s, claims, colors = run.settings, run.claims, page.COLORS
digits = run.data("digits", subset=s.num_images)
x = jnp.asarray(digits.images.reshape(s.num_images, -1), jnp.float64)
target = jax.nn.one_hot(jnp.asarray(digits.labels), 10)
H = s.rate


def start(seed):
    key = jax.random.key(seed)
    return functional(mlp(64, s.widths, 10, key=key, dtype=jnp.float64))


loss = mean_squared_error(start(0)[1], x, target)

# %% [markdown]
# ## The central flow
#
# While gradient descent swings along a sharp direction $u$ with variance $X$, the average gradient is
# $\nabla E + \tfrac12 X\,\nabla(u^\top H u)$: it feels its own sharpness ({cite:t}`cohen2024central`).
# The variance is the one, and the only one, that keeps the sharpness from passing $2/h$. That is a
# small problem at each step, with conditions that can be checked. It is followed by several short steps
# for each of gradient descent's: with one it would be gradient descent itself in all other directions.


# %%
begin, step = map(
    jax.jit, central(loss, H, s.num_critical, substeps=s.substeps)
)


def follow_centre(params, num_steps):
    """The central flow from an iterate: what it says at each step, and where it is."""
    track, path, seen = begin(params), [params], []
    for _ in range(num_steps):
        params, track, now = step(params, track)
        path.append(params)
        seen.append(jax.device_get(now))
    return jax.tree.map(lambda *p: jnp.stack(p), *path), seen


# %% tags=["hide-input"]
watch = edge.watched(loss, num=2)
FIELDS = {
    "NGF": polynomial_field(loss, jnp.array([1.0]), H),
    "IGR": polynomial_field(loss, jnp.array([1.0, 0.5]), H),
    "PF": spectral_field(loss, continued_alpha, H, s.num_matvecs),
}
SHORT = {
    name: jax.jit(
        partial(
            descent.follow, field, h=H, num_steps=s.num_short,
            rtol=1e-5, atol=1e-7, max_steps=400 * s.num_short,
        )
    )
    for name, field in FIELDS.items()
}  # fmt: skip
LONG = jax.jit(
    partial(
        descent.follow, FIELDS["NGF"], h=H, num_steps=s.num_steps,
        rtol=1e-5, atol=1e-7, max_steps=100 * s.num_steps,
    )
)  # fmt: skip
losses = jax.jit(jax.vmap(loss))
sharpnesses = jax.jit(
    lambda path: jax.lax.map(lambda p: descent.sharpness(loss, p).value, path)
)

# %% [markdown]
# ## From the edge on
#
# After a number of steps of gradient descent, where $h\lambda_0$ has come to two, all flows start from
# the same iterate.

# %%
short, long = [], []
seeds = range(s.first_seed, s.first_seed + s.num_seeds)
for seed in seeds:
    state, _ = watch.advance(watch.begin(start(seed)[0]), H, s.num_before)
    begun, iterates = state.params, [state.params]
    rows = []
    for _ in range(s.num_steps):
        state, seen = watch.advance(state, H, 1)
        iterates.append(state.params)
        rows.append((float(state.track.loss), float(state.track.values[0])))
    truth = jax.tree.map(lambda *p: jnp.stack(p), *iterates)
    centre, said = follow_centre(begun, s.num_steps)
    flow = LONG(begun)
    for name, path in {"central": centre, "NGF": flow}.items():
        gap = np.asarray(distances(path, truth))
        sharp = H * np.asarray(sharpnesses(path))
        value = np.asarray(losses(path))
        for t in range(s.num_steps + 1):
            long.append(
                (seed, name, t, gap[t], value[t], sharp[t], np.nan, np.nan)
            )
    for t, now in enumerate(said):
        condition = (float(now.feasibility), float(now.complementarity))
        long.append(
            (seed, "central, said", t, np.nan, float(now.smoothed),
             H * float(now.values[0]), *condition)
        )  # fmt: skip
    for t, (value, sharp) in enumerate(rows):
        long.append(
            (seed, "descent", t + 1, 0.0, value, H * sharp, np.nan, np.nan)
        )
    few = jax.tree.map(lambda p: p[: s.num_short + 1], truth)
    for name, follow in SHORT.items():
        gap = np.asarray(distances(follow(begun), few))
        short += [
            (seed, name, t, float(gap[t])) for t in range(s.num_short + 1)
        ]
    few_centre = jax.tree.map(lambda p: p[: s.num_short + 1], centre)
    gap = np.asarray(distances(few_centre, few))
    short += [
        (seed, "central", t, float(gap[t])) for t in range(s.num_short + 1)
    ]
    run.progress(seed - s.first_seed + 1, s.num_seeds, "followed")
near = pd.DataFrame(short, columns=["seed", "flow", "step", "distance"])
far = pd.DataFrame(
    long,
    columns=[
        "seed", "flow", "step", "distance", "loss", "sharp", "feasibility",
        "complementarity",
    ],
)  # fmt: skip
_ = run.save("near", near, data=digits)
_ = run.save("far", far, data=digits)

# %% tags=["hide-input"]
shown_near, shown_far = (
    run.published(name) or run.load(name) for name in ("near", "far")
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Distance from the iterates against the step over the first steps, for the principal flow, IGR, the gradient flow and the central flow. The principal flow is closest at first."}, "figure": {"caption": "The first steps from the edge: distance of each flow from gradient descent's iterates; median over seeds, range as a band.", "name": "fig-near"}}
LOOKS = {
    "NGF": "flow",
    "IGR": "modified",
    "PF": "regularized",
    "central": "alternating",
}
fig, ax = plt.subplots(figsize=(6.4, 3.4))
frame = shown_near.frame[shown_near.frame.step > 0]
for name, color in LOOKS.items():
    wide = frame[frame.flow == name].pivot(
        index="step", columns="seed", values="distance"
    )
    ax.fill_between(
        wide.index,
        wide.min(axis=1),
        wide.max(axis=1),
        color=colors[color],
        alpha=0.15,
        lw=0,
    )
    ax.plot(wide.median(axis=1), color=colors[color], label=name)
ax.set(
    yscale="log",
    xlabel="steps from the edge",
    ylabel="distance from the iterates",
)
ax.legend()
ax.set_title(shown_near.label, fontsize=10)
plt.show()

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Two panels against the step: the loss and h lambda zero, for gradient descent, the gradient flow and the central flow. The central flow's sharpness stays at two, the gradient flow's grows far beyond, gradient descent's swings about two."}, "figure": {"caption": "Hundreds of steps from the edge, one seed: gradient descent, the gradient flow, the central flow and the average loss that it predicts.", "name": "fig-far"}}
frame = shown_far.frame
frame = frame[frame.seed == frame.seed.min()]
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.3))
for name, color, label in (
    ("descent", "simultaneous", "gradient descent"),
    ("NGF", "flow", "gradient flow"),
    ("central", "alternating", "central flow"),
):
    mine = frame[frame.flow == name]
    axes[0].plot(mine.step, mine.loss, color=colors[color], lw=1.2, label=label)
    axes[1].plot(mine.step, mine.sharp, color=colors[color], lw=1.2)
mine = frame[frame.flow == "central, said"]
axes[0].plot(
    mine.step,
    mine.loss,
    "--",
    color=colors["alternating"],
    label="its average loss",
)
axes[0].set(yscale="log", xlabel="steps from the edge", ylabel="loss")
axes[1].axhline(2, color="k", lw=0.7)
axes[1].set(xlabel="steps from the edge", ylabel=r"$h\lambda_0$")
axes[0].legend(fontsize=8.5)
plt.show()

# %% tags=["hide-input", "remove-output"]
first = near[near.step == 1].pivot(
    index="seed", columns="flow", values="distance"
)
claims.record(
    "ours-pf-first-step",
    holds=bool(
        (first["PF"] < first[["NGF", "IGR", "central"]].min(axis=1)).all()
    ),
    measured={name: float(first[name].median()) for name in first}
    | {"seeds": len(first)},
    data=digits,
)
said = far[far.flow == "central, said"]
held = said[said.step >= 20]
claims.record(
    "ours-central-conditions",
    holds=bool(
        (said.complementarity.max() < 1e-3)
        and (said.feasibility.min() > -1e-3)
        and (held.sharp - 2).max() < 0.02
    ),
    measured={
        "largest_h_lambda": float(held.sharp.max()),
        "complementarity": float(said.complementarity.max()),
        "feasibility": float(said.feasibility.min()),
    },
    data=digits,
)


def late(name, column):
    """The mean over the last half of each seed."""
    part = far[(far.flow == name) & (far.step > s.num_steps / 2)]
    return part.groupby("seed")[column].mean()


smooth = late("descent", "loss")
error = (late("central, said", "loss") / smooth - 1).abs()
bare = (late("NGF", "loss") / smooth - 1).abs()
claims.record(
    "ours-central-loss",
    holds=bool((error < 0.1).all() and (error < bare / 2).all()),
    measured={
        "largest_error": float(error.max()),
        "least_error_of_the_flow": float(bare.min()),
        "seeds": len(error),
    },
    data=digits,
)
end = far[far.step == s.num_steps].pivot(
    index="seed", columns="flow", values="distance"
)
claims.record(
    "ours-central-stays-near",
    holds=bool((end["central"] < end["NGF"] / 2).all()),
    measured={
        "central": float(end["central"].median()),
        "NGF": float(end["NGF"].median()),
        "seeds": len(end),
    },
    data=digits,
)

# %% [markdown]
# One step on, the principal flow is the closest of the four: {claim}`ours-pf-first-step` The central
# flow holds $h\lambda_0$ at two and meets its conditions ({claim}`ours-central-conditions`); the
# average loss that it predicts is within {measured}`ours-central-loss:largest_error:.0%` of gradient
# descent's over the last half, where the gradient flow is off by
# {measured}`ours-central-loss:least_error_of_the_flow:.0%` or more: {claim}`ours-central-loss` And it
# ends nearer to the iterates than the gradient flow: {claim}`ours-central-stays-near`
#
# ## What follows
#
# They answer different questions. What will the *next* step do? The principal flow, or the second
# order of the loss. Where will training be in a hundred steps? The central flow: no size of a drift
# along a gradient can say it, since it is the swings that steer.

# %% tags=["remove-input"]
run.card(shown_near, shown_far)

# %% [markdown]
# ## What to vary
#
# - `num_critical`: with one direction where two are at the edge, what breaks?
# - `num_before`: start before the edge. When does the central flow begin to differ from the gradient
#   flow?
