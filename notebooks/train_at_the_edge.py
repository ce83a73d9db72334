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
# # Training at the edge
#
# This notebook trains and writes tables; [the edge of stability](edge_of_stability.py),
# [stability coefficients](stability_coefficients.py) and [predicting the
# gradient](predicting_the_gradient.py) read and plot them. A network of four layers learns MNIST by
# full-batch gradient descent, with squares and with cross-entropy, at several rates, from several
# seeds; and at every iteration the largest eigenpairs of the Hessian are tracked, with what the
# gradient has to do with them.
#
# {cite:t}`rosca2023continuous` do not state the network's widths, the number of images, the rates or
# the seeds. Those here are ours. The rates were found by a search that is part of the table: each
# next one is larger, from a rate that never comes to the edge to one that passes far beyond it.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ddbook import page
from ddlib import descent, edge
from ddlib.games import gradient_field
from ddlib.nets import cross_entropy, functional, mean_squared_error, mlp

run = page.open("train_at_the_edge", profile, parameters)
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)
s = run.settings
data = run.data(s.dataset, subset=s.num_images)
pixels = data.images.reshape(len(data.labels), -1)
pixels = (pixels - pixels.mean()) / pixels.std()
labels = jnp.asarray(data.labels)

# %% [markdown]
# ## One run
#
# `edge.watched` takes a loss and gives back gradient descent that looks at itself: before each step
# it takes the last eigenvectors on to the new parameters, by three products with the Hessian for
# each and one for the gradient, and notes how good they are.


# %%
SCALES = {"squares": s.scale_squares, "cross-entropy": s.scale_cross_entropy}


def start(seed):
    """The parameters that a seed starts from, and what applies them."""
    key = jax.random.key(seed)
    return functional(mlp(pixels.shape[1], s.widths, 10, key=key))


@cache
def problem(kind):
    """A loss, and gradient descent on it that looks at itself."""
    apply, x = start(0)[1], jnp.asarray(pixels * SCALES[kind], jnp.float32)
    if kind == "squares":
        loss = mean_squared_error(apply, x, jax.nn.one_hot(labels, 10))
    else:
        loss = cross_entropy(apply, x, labels)
    return loss, edge.watched(loss, num=s.num_pairs)


loss, watch = problem("squares")
state = watch.begin(start(s.first_seed)[0])
state, seen = watch.advance(state, 0.01, 3)
print("λ₀", seen.values[:, 0], "residuals", seen.residuals[:, 0])

# %% [markdown]
# ## All runs
#
# A run that diverges ends there, and its rows say so.


# %% tags=["hide-input"]
def rows_of(seen, **what):
    """A run as rows, an iteration each."""
    columns = {
        "step": seen.step,
        "loss": seen.loss,
        "norm": seen.norm,
        "curvature": seen.curvature,
        "turn": seen.turn,
        "cold": seen.cold,
    }
    for i in range(seen.values.shape[1]):
        columns[f"value_{i}"] = seen.values[:, i]
        columns[f"residual_{i}"] = seen.residuals[:, i]
        columns[f"slope_{i}"] = seen.slopes[:, i]
    frame = pd.DataFrame(columns).astype({"step": np.int32})
    floats = frame.select_dtypes("floating").columns
    return frame.astype(dict.fromkeys(floats, np.float32)).assign(
        **what, diverged_at=seen.diverged_at
    )


# %%
frames, looks = [], []
kinds = {"squares": s.rates_squares, "cross-entropy": s.rates_cross_entropy}
seeds = range(s.first_seed, s.first_seed + s.num_seeds)
total = len(seeds) * sum(len(rates) for rates in kinds.values())
for kind, rates in kinds.items():
    for seed in seeds:
        watch = problem(kind)[1]
        begun = watch.begin(start(seed)[0])
        for rate in rates:
            state, seen = watch.advance(begun, rate, s.num_steps)
            frames.append(rows_of(seen, loss_kind=kind, rate=rate, seed=seed))
            run.progress(len(frames), total, f"{kind}, rate {rate:g}")
runs = pd.concat(frames, ignore_index=True)
_ = run.save("runs", runs, data=data)
runs.groupby(["loss_kind", "rate"]).agg(
    runs=("seed", "nunique"),
    diverged=("diverged_at", lambda x: int((x >= 0).any())),
    last=("loss", "last"),
)

# %% [markdown]
# ## From a run's iterates
#
# At the edge the same parameters are the start of other paths. From every few iterates of one run of
# each seed we follow, for the time $h$ of one step, the negative gradient flow, the *positive* one,
# which climbs, and the negative one that climbs along $u_0$ alone, and note the loss and $\lambda_0$
# at the end (PF, Figures 11, 13 and 14).


# %%
def ends_of(loss, h):
    """params, u₀ -> the loss and λ₀ after time h of three flows."""
    down = gradient_field(loss)

    def up(y):
        return jax.tree.map(jnp.negative, down(y))

    @jax.jit
    def ends(params, vectors):
        first = jax.tree.map(lambda v: v[:1], vectors)
        turned = edge.turned_field(loss, first, jnp.ones(1))
        found = {}
        for name, field in (
            ("NGF", down),
            ("positive", up),
            ("turned", turned),
        ):
            path = descent.follow(
                field, params, h, rtol=1e-4, atol=1e-6, max_steps=200
            )
            end = jax.tree.map(lambda x: x[-1], path)
            last = jax.tree.map(lambda v: v[0], vectors)
            sharp = descent.sharpness(loss, end, start=last, num_matvecs=6)
            found[name] = {"loss": loss(end), "value_0": sharp.value}
        return found

    return ends


for kind, rate in (
    ("squares", s.look_squares),
    ("cross-entropy", s.look_cross_entropy),
):
    loss, watch = problem(kind)
    ends = ends_of(loss, rate)
    for seed in seeds:
        state = watch.begin(start(seed)[0])
        for _ in range(s.num_looks):
            found = jax.device_get(ends(state.params, state.track.vectors))
            for name, values in found.items():
                looks.append(
                    {
                        "loss_kind": kind,
                        "rate": rate,
                        "seed": seed,
                        "step": state.step,
                        "flow": name,
                        **{k: float(v) for k, v in values.items()},
                    }
                )
            state, seen = watch.advance(state, rate, s.look_every)
            if seen.diverged_at >= 0:
                break
        run.progress(seed - s.first_seed + 1, s.num_seeds, f"flows, {kind}")
_ = run.save("flows", pd.DataFrame(looks), data=data)

# %% [markdown]
# ## Lower the rate, start from a sharp place
#
# Two interventions. In the middle of a run at the edge the rate is halved (PF, Figure 35). And a run
# goes on from the end of one at a low rate, a sharper place, at a rate that is too large for it (PF,
# Figure 33).

# %%
frames = []
watch, half = problem("squares")[1], s.num_steps // 2
for seed in seeds:
    begun = watch.begin(start(seed)[0])
    middle, first = watch.advance(begun, s.look_squares, half)
    _, second = watch.advance(middle, s.look_squares / 2, half)
    for part, seen in (("before", first), ("after", second)):
        frames.append(rows_of(seen, seed=seed, what="rate halved", part=part))
    low, first = watch.advance(begun, s.look_squares / 2, s.num_steps)
    _, second = watch.advance(low, 1.25 * s.look_squares, half)
    for part, seen in (("before", first), ("after", second)):
        frames.append(
            rows_of(seen, seed=seed, what="from a sharp place", part=part)
        )
    run.progress(seed - s.first_seed + 1, s.num_seeds, "interventions")
_ = run.save("interventions", pd.concat(frames, ignore_index=True), data=data)

# %% [markdown]
# ## The flow alone
#
# Does sharpness rise because of the finite step, or without it? The negative gradient flow from the
# same starts, over the time that so many steps take (PF, Figure 55).

# %%
rows = []
for kind, rate in (
    ("squares", s.look_squares),
    ("cross-entropy", s.look_cross_entropy),
):
    loss = problem(kind)[0]

    @jax.jit
    def onward(params, loss=loss, rate=rate):
        path = descent.follow(
            gradient_field(loss),
            params,
            rate * s.look_every,
            rtol=1e-4,
            atol=1e-6,
            max_steps=4000,
        )
        end = jax.tree.map(lambda x: x[-1], path)
        return end, loss(end), descent.sharpness(loss, end).value

    for seed in seeds:
        params = start(seed)[0]
        for look in range(s.num_looks):
            params, value, sharp = onward(params)
            rows.append(
                {
                    "loss_kind": kind,
                    "rate": rate,
                    "seed": seed,
                    "step": (look + 1) * s.look_every,
                    "loss": float(value),
                    "value_0": float(sharp),
                }
            )
        run.progress(seed - s.first_seed + 1, s.num_seeds, f"the flow, {kind}")
_ = run.save("gradient_flow", pd.DataFrame(rows), data=data)

# %% tags=["remove-input"]
run.card()
