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
# # Training with rates from drift
#
# This notebook trains and writes tables; [DAL](dal.py) and [drift and its
# measure](drift_and_its_measure.py) read and plot them. A network of four layers learns MNIST, by the
# full batch and by minibatches, with fixed learning rates and with rates that the step's own drift
# chooses.
#
# {cite:t}`rosca2023continuous` do not state the network's widths, the rates, the length or the seeds.
# Those here are ours.

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
from ddlib.dal import dal, scale_by_cdat, scale_by_secant
from ddlib.games import gradient_field
from ddlib.nets import cross_entropy, functional, mlp

run = page.open("train_by_drift", profile, parameters)
s = run.settings
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)
train = run.data(s.dataset, subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_test)


def inputs(dataset):
    return jnp.asarray(dataset.images.reshape(len(dataset.labels), -1))


x, y = inputs(train), jnp.asarray(train.labels)
test_x, test_y = inputs(test), jnp.asarray(test.labels)
EXAMPLE = functional(
    mlp(x.shape[1], s.widths, 10, key=jax.random.key(0), activation=jax.nn.relu)
)
loss_of, apply = cross_entropy(EXAMPLE[1]), EXAMPLE[1]

# %% [markdown]
# ## One program for many rules
#
# A fixed rate is DAL's rule with power 0, so that rates, powers and seeds are numbers in one compiled
# program. Rules of another kind have programs of their own.


# %%
class Rule(NamedTuple):
    """What chooses the rate: factor/‖Hĝ‖ᵖ up to a ceiling; `kind` names the program."""

    name: str
    kind: str = "dal"
    power: float = 1.0
    factor: float = 2.0


def optimizer(kind, power, factor):
    """The optax transformation of a rule."""
    if kind == "momentum":
        return dal(
            power, max_learning_rate=s.ceiling, momentum=0.9, factor=factor
        )
    if kind == "cdat":
        return scale_by_cdat(factor, max_learning_rate=s.ceiling)
    if kind == "secant":
        return scale_by_secant(
            factor, max_learning_rate=s.ceiling, initial=0.01
        )
    each = kind == "per parameter"
    return dal(
        power, max_learning_rate=s.ceiling, factor=factor, per_parameter=each
    )


FIXED = [Rule(f"fixed {rate:g}", power=0.0, factor=rate) for rate in s.rates]
POWERS = [Rule(f"DAL-{power:g}", power=power) for power in s.powers]
OTHERS = [
    Rule("DAL momentum ½", "momentum", factor=0.5),
    Rule("DAL per parameter", "per parameter"),
    Rule("CDAT", "cdat"),
    Rule("secant", "secant", factor=1.0),
    Rule("AdGD", "secant", factor=0.5),
]
RULES = [*FIXED, *POWERS, *[rule for rule in OTHERS if rule.name in s.others]]


# %%
def step(kind, batch_size, t, state):
    """One step of one run."""
    params, tx_state, power, factor, seed, _ = state
    if batch_size:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), t)
        chosen = jax.random.randint(key, (batch_size,), 0, len(y))
        batch = (x[chosen], y[chosen])
    else:
        batch = (x, y)
    value, grads = jax.value_and_grad(loss_of)(params, batch)
    tx = optimizer(kind, power, factor)
    updates, tx_state = tx.update(
        grads, tx_state, params, hvp_fn=hvp(loss_of, params, batch)
    )
    if kind in ("cdat", "secant"):  # these only scale
        updates = jax.tree.map(jnp.negative, updates)
    moved = optax.tree.norm(updates)
    seen = {"loss": value, "norm": optax.tree.norm(grads), "moved": moved}
    first = tx_state if kind in ("cdat", "secant") else tx_state[0]
    seen |= {"rate": first.rate, "turn": getattr(first, "turn", first.rate)}
    params = optax.apply_updates(params, updates)
    return params, tx_state, power, factor, seed, seen


# %% tags=["hide-input"]
def begin(kind, power, factor, seed):
    model = mlp(
        x.shape[1],
        s.widths,
        10,
        key=jax.random.fold_in(jax.random.key(7), seed),
        activation=jax.nn.relu,
    )
    params = functional(model)[0]
    zero = jnp.zeros((), jnp.float32)
    seen = dict.fromkeys(("loss", "norm", "moved", "rate", "turn"), zero)
    return (
        params,
        optimizer(kind, power, factor).init(params),
        jnp.asarray(power, jnp.float32),
        jnp.asarray(factor, jnp.float32),
        jnp.asarray(seed),
        seen,
    )


def look(state):
    """What is seen every few steps beside the step's own numbers."""
    params = state[0]
    guess = apply(params, test_x).argmax(-1)
    return {
        **state[-1],
        "train_loss": loss_of(params, (x, y)),
        "accuracy": jnp.mean(guess == test_y),
    }


def trained(kind, batch_size, rules, num_steps, every):
    """All runs of the rules of a kind, as rows; and their last parameters."""
    seeds = range(s.first_seed, s.first_seed + s.num_seeds)
    pairs = [(rule, seed) for rule in rules for seed in seeds]
    starts = [begin(kind, r.power, r.factor, seed) for r, seed in pairs]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    one = jax.vmap(partial(step, kind, batch_size), in_axes=(None, 0))
    last, seen = loop.run_steps(
        one,
        states,
        num_steps,
        observe=jax.vmap(look),
        every=every,
        report=lambda t: run.progress(
            t, num_steps, f"{kind}, {batch_size or 'all'}"
        ),
    )
    steps = np.arange(0, num_steps + 1, every)
    frames = [
        pd.DataFrame(
            {
                "step": steps,
                **{name: values[:, i] for name, values in seen.items()},
            }
        ).assign(
            rule=rule.name, kind=kind, power=rule.power, factor=rule.factor,
            seed=seed, batch=batch_size,
        )
        for i, (rule, seed) in enumerate(pairs)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True), last[0], pairs


# %% [markdown]
# ## The runs
#
# At the end of each full-batch run the largest eigenvalue of the Hessian is measured.

# %%
frames, ends = [], []
for batch_size, num_steps, every in (
    (0, s.num_steps, s.every),
    (s.batch_size, s.num_batch_steps, s.batch_every),
):
    for kind in dict.fromkeys(rule.kind for rule in RULES):
        rules = [rule for rule in RULES if rule.kind == kind]
        rows, params, pairs = trained(kind, batch_size, rules, num_steps, every)
        frames.append(rows)

        @jax.jit
        def sharpness(params):
            return descent.sharpness(lambda p: loss_of(p, (x, y)), params).value

        for i, (rule, seed) in enumerate(pairs):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], params)
            ends.append(
                {
                    "rule": rule.name,
                    "seed": seed,
                    "batch": batch_size,
                    "value_0": float(sharpness(own)),
                }
            )
curves = pd.concat(frames, ignore_index=True)
floats = curves.select_dtypes("floating").columns
curves = curves.astype(dict.fromkeys(floats, np.float32))
_ = run.save("curves", curves, data=train)
_ = run.save("ends", pd.DataFrame(ends), data=train)
curves.groupby(["batch", "rule"], sort=False).agg(
    loss=("train_loss", "last"), accuracy=("accuracy", "last")
).round(4)

# %% [markdown]
# ## Drift, measured
#
# How far is a step from the negative gradient flow, followed for the time $h$ from the same
# parameters? Along full-batch runs at fixed rates, with what is held against it.

# %%
rows = []


@jax.jit
def measured(params, h):
    """The drift of a step, and the quantities that may foretell it."""
    loss = partial(loss_of, batch=(x, y))
    g = jax.grad(loss)(params)
    product = hvp(loss, params)(g)
    path = descent.follow(
        gradient_field(loss), params, h, rtol=1e-5, atol=1e-7, max_steps=500
    )
    step = jax.tree.map(lambda p, d: p - h * d, params, g)
    apart = jax.tree.map(lambda p, q: p[-1] - q, path, step)
    norm, turned = optax.tree.norm(g), optax.tree.norm(product)
    return {
        "drift": optax.tree.norm(apart),
        "norm": norm,
        "product": turned,
        "turn": turned / norm,
    }


@jax.jit
def onward(params, h):
    """As many steps as lie between two looks."""
    down = gradient_field(partial(loss_of, batch=(x, y)))
    return jax.lax.fori_loop(
        0,
        s.drift_every,
        lambda _, p: jax.tree.map(lambda a, v: a + h * v, p, down(p)),
        params,
    )


for rate in s.drift_rates:
    for seed in range(s.first_seed, s.first_seed + s.num_seeds):
        params = begin("dal", 0.0, rate, seed)[0]
        for t in range(0, s.drift_steps, s.drift_every):
            rows.append(
                {
                    "rate": rate,
                    "seed": seed,
                    "step": t,
                    **{k: float(v) for k, v in measured(params, rate).items()},
                }
            )
            params = onward(params, rate)
    run.progress(len(rows), len(rows), f"drift at {rate:g}")
_ = run.save("drift", pd.DataFrame(rows), data=train)

# %% tags=["remove-input"]
run.card()
