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
# # Training across batch sizes, and where it ends
#
# This notebook trains and writes tables; [flat landscapes](dal_landscapes.py) reads and plots them. A
# network learns MNIST with DAL-$p$ and at fixed rates, by minibatches of several sizes, each for the
# same number of images. Around its last parameters the loss is sliced along random directions, each
# filter of which is as long as the network's own (Li et al., 2018).
#
# {cite:t}`rosca2023continuous` leave widths, rates, length and seeds unstated. Those here are ours.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import descent, loop
from ddlib.curvature import hvp
from ddlib.dal import dal
from ddlib.landscape import filter_direction, line
from ddlib.nets import cross_entropy, functional, mlp

run = page.open("train_across_batches", profile, parameters)
s = run.settings
train = run.data(s.dataset, subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_test)


def inputs(dataset):
    return jnp.asarray(dataset.images.reshape(len(dataset.labels), -1))


x, y = inputs(train), jnp.asarray(train.labels)
test_x, test_y = inputs(test), jnp.asarray(test.labels)
some = (x[: s.num_seen], y[: s.num_seen])  # what losses are measured on


def network(seed):
    """The parameters of a seed, and what applies them."""
    key = jax.random.fold_in(jax.random.key(7), seed)
    return functional(
        mlp(x.shape[1], s.widths, 10, key=key, activation=jax.nn.relu)
    )


apply = network(0)[1]
loss_of = cross_entropy(apply)


# %% [markdown]
# ## One program for all rules
#
# A fixed rate is DAL's rule with the power 0 and the rate for its factor.


# %%
class Rule(NamedTuple):
    """factor/‖Hĝ‖ᵖ, up to the ceiling."""

    name: str
    power: float
    factor: float


RULES = [
    *[Rule(f"fixed {rate:g}", 0.0, rate) for rate in s.rates],
    *[Rule(f"DAL-{power:g}", power, 2.0) for power in s.powers],
]


def step(batch_size, t, state):
    """One step of one run."""
    params, tx_state, power, factor, seed, drift = state
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), t)
    chosen = jax.random.randint(key, (batch_size,), 0, len(y))
    batch = (x[chosen], y[chosen])
    tx = dal(power, max_learning_rate=s.ceiling, factor=factor)
    grads = jax.grad(loss_of)(params, batch)
    updates, tx_state = tx.update(
        grads, tx_state, params, hvp_fn=hvp(loss_of, params, batch)
    )
    seen = tx_state[0]  # the step's drift is h²‖g‖‖Hĝ‖/2
    drift += seen.rate**2 * optax.tree.norm(grads) * seen.turn / 2
    params = optax.apply_updates(params, updates)
    return params, tx_state, power, factor, seed, drift


# %% tags=["hide-input"]
def begin(rule, seed):
    params = network(seed)[0]
    tx_state = dal(max_learning_rate=s.ceiling).init(params)
    numbers = jnp.float32(rule.power), jnp.float32(rule.factor)
    return params, tx_state, *numbers, jnp.asarray(seed), jnp.float32(0)


def look(state):
    guess = apply(state[0], test_x).argmax(-1)
    return {
        "train_loss": loss_of(state[0], some),
        "accuracy": jnp.mean(guess == test_y),
        "rate": state[1][0].rate,
        "turn": state[1][0].turn,
        "drift": state[-1],  # the sum of all steps so far
    }


# %% [markdown]
# ## Slices
#
# The loss along some random directions: the same random numbers for each rule of a seed, at the scale
# of the filters of its own network.

# %%
at = jnp.linspace(-s.reach, s.reach, s.num_points)


@jax.jit
def slices(params, key):
    """The losses along one direction of each key."""
    direction = filter_direction(key, params)
    return line(lambda p: loss_of(p, some), params, direction, at)


@jax.jit
def sharpness(params):
    return descent.sharpness(lambda p: loss_of(p, some), params).value


# %% [markdown]
# ## The runs

# %%
seeds = range(s.first_seed, s.first_seed + s.num_seeds)
pairs = [(rule, seed) for rule in RULES for seed in seeds]
frames, ends, cuts = [], [], []
for batch_size in s.batch_sizes:
    starts = [begin(rule, seed) for rule, seed in pairs]
    every = s.images // batch_size // s.looks
    last, seen = loop.run_steps(
        jax.vmap(partial(step, batch_size), in_axes=(None, 0)),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts),
        every * s.looks,
        observe=jax.vmap(look),
        every=every,
        report=lambda t, b=batch_size: run.progress(t, t, f"batches of {b}"),
    )
    for i, (rule, seed) in enumerate(pairs):
        names = {"rule": rule.name, "seed": seed, "batch": batch_size}
        frames.append(
            pd.DataFrame({k: v[:, i] for k, v in seen.items()}).assign(
                step=every * np.arange(s.looks + 1), **names
            )
        )
        params = jax.tree.map(lambda leaf, i=i: leaf[i], last[0])
        ends.append({**names, "value_0": float(sharpness(params))})
        for d in range(s.num_directions):
            key = jax.random.fold_in(jax.random.key(13), 1000 * seed + d)
            values = np.asarray(slices(params, key))
            cuts.append(
                pd.DataFrame({"t": at, "loss": values}).assign(
                    direction=d, **names
                )
            )
    run.progress(1, 1, f"slices, batches of {batch_size}")


def whole(frames):
    frame = pd.concat(frames, ignore_index=True)
    floats = frame.select_dtypes("floating").columns
    return frame.astype(dict.fromkeys(floats, np.float32))


curves = whole(frames)
_ = run.save("curves", curves, data=train)
_ = run.save("ends", pd.DataFrame(ends), data=train)
_ = run.save("slices", whole(cuts), data=train)
curves.groupby(["batch", "rule"], sort=False).agg(
    loss=("train_loss", "last"), accuracy=("accuracy", "last")
).round(4)

# %% tags=["remove-input"]
run.card()
