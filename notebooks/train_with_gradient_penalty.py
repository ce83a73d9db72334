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
# # Training with a gradient penalty
#
# This notebook trains and writes tables; [implicit regularisation](implicit_regularization.py) reads and
# plots them. A small network learns a few hundred images of MNIST by full-batch gradient descent: at
# several rates $h$, each for the same *physical time* (rate times number of steps), and at the smallest
# rate with an explicit penalty $\tfrac\mu4\|\nabla E\|^2$ on its loss.
#
# {cite:t}`barrett2021implicit` train wider networks on all of MNIST. Sizes, rates and lengths here are
# ours; the number of images is one at which the test error depends on the rate.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import descent
from ddlib.games import gradient_field
from ddlib.methods import euler
from ddlib.modified_losses import implicit_gradient_regularisation
from ddlib.nets import functional, mean_squared_error, mlp

run = page.open("train_with_gradient_penalty", profile, parameters)
s = run.settings
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)
train = run.data(s.dataset, subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_test)


def inputs(dataset):
    return jnp.asarray(dataset.images.reshape(len(dataset.labels), -1))


x, y = inputs(train), jax.nn.one_hot(train.labels, 10)
test_x, test_y = inputs(test), jnp.asarray(test.labels)
seeds = range(s.first_seed, s.first_seed + s.num_seeds)
models = [
    functional(
        mlp(
            x.shape[1],
            s.widths,
            10,
            key=jax.random.fold_in(jax.random.key(11), seed),
            activation="relu",
        )
    )
    for seed in seeds
]
apply = models[0][1]
loss = mean_squared_error(apply, x, y)
starts = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *(p for p, _ in models)
)

# %% [markdown]
# ## Two programs
#
# One without a penalty and one with, whatever the rate, the strength $\mu$ and the number of steps; all
# seeds at once.

# %%


@partial(jax.jit, static_argnames="penalised")
def advance(params, h, strength, num_steps, penalised):
    """That many steps of all seeds."""
    goal = loss
    if penalised:
        goal = implicit_gradient_regularisation(loss, strength)
    step = jax.vmap(euler(gradient_field(goal)), in_axes=(None, 0))
    return jax.lax.fori_loop(0, num_steps, lambda _, p: step(h, p), params)


@jax.jit
@jax.vmap
def look(params):
    """What is seen of a run."""
    value, slope = jax.value_and_grad(loss)(params)
    wrong = jnp.mean(apply(params, test_x).argmax(-1) != test_y)
    norm = optax.tree.norm(slope, squared=True)
    return {"loss": value, "gradient": norm, "error": wrong}


@jax.jit
@jax.vmap
def distance(a, b):
    return optax.tree.norm(optax.tree.sub(a, b))


@jax.jit
def sharpness(params):
    return descent.sharpness(loss, params).value


# %% [markdown]
# ## The runs
#
# A rate $h$ has the first-order modified loss $E + \tfrac h4\|\nabla E\|^2$. So the smallest rate $h_0$
# with $\mu = h - h_0$ is the penalty that theory gives for $h$; stronger ones go beyond it.

# %%
base = min(s.rates)
runs = [(h, 0.0) for h in sorted(s.rates)]
runs += [(base, mu) for mu in sorted(s.strengths)]
rows, ends, early = [], [], {}
for h, mu in runs:
    params = starts
    num_steps = round(s.interval / h)
    for i in range(s.num_looks + 1):
        if i:
            params = advance(params, h, mu, num_steps, bool(mu))
        seen = jax.device_get(look(params))
        rows.append(
            pd.DataFrame(
                {"rate": h, "strength": mu, "time": i * s.interval}
                | {"seed": list(seeds)}
                | seen
            )
        )
        if i == 1:
            early[h, mu] = params
    for j, seed in enumerate(seeds):
        own = jax.tree.map(lambda leaf, j=j: leaf[j], params)
        ends.append(
            {
                "rate": h,
                "strength": mu,
                "seed": seed,
                "value_0": float(sharpness(own)),
            }
        )
    run.progress(
        len(ends), len(runs) * s.num_seeds, f"rate {h:g}, penalty {mu:g}"
    )
curves = pd.concat(rows, ignore_index=True)
_ = run.save("curves", curves, data=train)
_ = run.save("ends", pd.DataFrame(ends), data=train)
last = curves[curves.time == curves.time.max()]
last.groupby(["rate", "strength"])[["loss", "gradient", "error"]].mean().round(
    5
)

# %% [markdown]
# ## Does the penalty lead where the rate does?
#
# At the first look: how far the run at rate $h$ is from the smallest rate's, and how far from that with
# the penalty that theory gives.

# %%
apart = []
for h in sorted(s.rates):
    mu = round(h - base, 12)
    if (base, mu) not in early or mu == 0:
        continue
    plain = np.asarray(distance(early[h, 0.0], early[base, 0.0]))
    penalised = np.asarray(distance(early[h, 0.0], early[base, mu]))
    apart.append(
        pd.DataFrame(
            {"rate": h, "seed": list(seeds), "plain": plain}
            | {"penalised": penalised}
        )
    )
apart = pd.concat(apart, ignore_index=True)
_ = run.save("apart", apart, data=train)
apart.assign(ratio=apart.penalised / apart.plain).groupby("rate").mean().round(
    4
)

# %% tags=["remove-input"]
run.card()
