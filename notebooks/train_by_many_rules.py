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
# # Training by many rules
#
# This notebook trains and writes tables; [choosing a rate](choosing_a_rate.py) reads and plots them.
# One network learns MNIST under every rule at hand that chooses a learning rate by itself, and under
# sweeps of those that do not. The paper has no such comparison; all scales are ours.
#
# A rule that takes a product with the Hessian gets fewer steps for the same money. So each run is
# counted in *gradient-equivalents*: a gradient costs one, a product with the Hessian two (forward
# differentiation of a gradient), a product by finite differences one.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import loop
from ddlib.curvature import hvp
from ddlib.dal import (
    dal,
    finite_difference,
    scale_by_cdat,
    scale_by_secant,
)
from ddlib.nets import cross_entropy, functional, mlp
from optax import contrib

run = page.open("train_by_many_rules", profile, parameters)
s = run.settings
train = run.data(s.dataset, subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_test)


def inputs(dataset):
    return jnp.asarray(dataset.images.reshape(len(dataset.labels), -1))


x, y = inputs(train), jnp.asarray(train.labels)
test_x, test_y = inputs(test), jnp.asarray(test.labels)
all_of = (x[: s.num_full], y[: s.num_full])  # the full batch


def network(seed):
    """The parameters of a seed, and what applies them."""
    key = jax.random.fold_in(jax.random.key(7), seed)
    return functional(
        mlp(x.shape[1], s.widths, 10, key=key, activation=jax.nn.relu)
    )


apply = network(0)[1]
loss_of = cross_entropy(apply)

# %% [markdown]
# ## The rules
#
# Each is an optax transformation with at most one number: a rate, a power, or a factor. Those that
# need no rate are taken as their authors give them.

# %%
RULES = {
    "SGD": optax.sgd,
    "Adam": optax.adam,
    "schedule-free": contrib.schedule_free_sgd,
    "Polyak": optax.polyak_sgd,
    "Prodigy": contrib.prodigy,
    "DoWG": contrib.dowg,
    "DAL": lambda p: dal(p, max_learning_rate=s.ceiling),
    "DAL by differences": lambda p: dal(p, max_learning_rate=s.ceiling),
    "CDAT": lambda c: optax.chain(
        scale_by_cdat(c, max_learning_rate=s.ceiling), optax.scale(-1.0)
    ),
    "secant": lambda c: optax.chain(
        scale_by_secant(c, max_learning_rate=s.ceiling, initial=0.01),
        optax.scale(-1.0),
    ),
}
COST = {"DAL": 3, "CDAT": 3, "DAL by differences": 2}  # all others: 1


# %% tags=["hide-input"]
class Rule(NamedTuple):
    """Its name, its kind, which names the program, and its number."""

    name: str
    kind: str
    number: float


OTHERS = [
    Rule("DAL-0.5 by differences", "DAL by differences", 0.5),
    Rule("CDAT", "CDAT", 2.0),
    Rule("secant", "secant", 1.0),
    Rule("AdGD", "secant", 0.5),
    Rule("Polyak", "Polyak", 1.0),
    Rule("Prodigy", "Prodigy", 1.0),
    Rule("DoWG", "DoWG", 1.0),
]
CHOSEN = [
    *[Rule(f"SGD {r:g}", "SGD", r) for r in s.rates],
    *[Rule(f"Adam {r:g}", "Adam", r) for r in s.adam_rates],
    *[Rule(f"schedule-free {r:g}", "schedule-free", r) for r in s.free_rates],
    *[Rule(f"DAL-{p:g}", "DAL", p) for p in s.powers],
    *[rule for rule in OTHERS if rule.name in s.others],
]


# %% [markdown]
# ## One step of one run


# %%
def step(kind, batch_size, t, state):
    """One step; all that depends on the rule is what `update` is given."""
    params, tx_state, number, seed = state
    batch = all_of
    if batch_size:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), t)
        chosen = jax.random.randint(key, (batch_size,), 0, len(y))
        batch = (x[chosen], y[chosen])
    value, grads = jax.value_and_grad(loss_of)(params, batch)
    extra = {}
    if kind in ("DAL", "CDAT"):
        extra = {"hvp_fn": hvp(loss_of, params, batch)}
    elif kind == "DAL by differences":
        near = partial(jax.grad(loss_of), batch=batch)
        extra = {"hvp_fn": finite_difference(near, params, grads)}
    elif kind == "Polyak":
        extra = {"value": value}
    tx = optax.with_extra_args_support(RULES[kind](number))
    updates, tx_state = tx.update(grads, tx_state, params, **extra)
    params = optax.apply_updates(params, updates)
    return params, tx_state, number, seed


# %% tags=["hide-input"]
def begin(kind, number, seed):
    params = network(seed)[0]
    number = jnp.asarray(number, jnp.float32)
    return params, RULES[kind](number).init(params), number, jnp.asarray(seed)


def look(kind, state):
    """The loss and the accuracy of the parameters that a rule would hand over."""
    params = state[0]
    if kind == "schedule-free":
        params = contrib.schedule_free_eval_params(state[1], params)
    guess = apply(params, test_x).argmax(-1)
    return {
        "train_loss": loss_of(params, all_of),
        "accuracy": jnp.mean(guess == test_y),
    }


def trained(kind, batch_size, budget, every):
    """All runs of the rules of a kind, in one program, as rows.

    A rule whose step costs more than a gradient goes on for half the budget more: its steps may
    take less time than their count.
    """
    seeds = range(s.first_seed, s.first_seed + s.num_seeds)
    rules = [rule for rule in CHOSEN if rule.kind == kind]
    pairs = [(rule, seed) for rule in rules for seed in seeds]
    starts = [begin(kind, rule.number, seed) for rule, seed in pairs]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    cost = COST.get(kind, 1)
    looks = budget // every * (3 if cost > 1 else 2) // 2
    _, seen = loop.run_steps(
        jax.vmap(partial(step, kind, batch_size), in_axes=(None, 0)),
        states,
        looks * every // cost,
        observe=jax.vmap(partial(look, kind)),
        every=every // cost,
    )
    run.progress(looks, looks, f"{kind}, {batch_size or 'all'}")
    frames = [
        pd.DataFrame({"gradients": every * np.arange(looks + 1)}).assign(
            steps=lambda f: f.gradients // cost,
            **{name: values[:, i] for name, values in seen.items()},
            rule=rule.name, kind=kind, number=rule.number, seed=seed,
            batch=batch_size,
        )
        for i, (rule, seed) in enumerate(pairs)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


# %% [markdown]
# ## What a step takes
#
# Milliseconds a step of one run alone, in a program of its own: the smallest of some rounds in which
# the rules take turns, so that all see the same machine.

# %% tags=["hide-input"]
kinds = list(dict.fromkeys(rule.kind for rule in CHOSEN))
numbers = {rule.kind: rule.number for rule in reversed(CHOSEN)}


def timed(batch_size, rounds=12):
    """Milliseconds a step of each kind."""
    steps = 4 if batch_size == 0 else 20
    cases = {}
    for kind in kinds:
        advance = loop.compiled(partial(step, kind, batch_size))
        cases[kind] = (advance, begin(kind, numbers[kind], s.first_seed))
        state = cases[kind][1]
        jax.block_until_ready(advance(0, 1, jax.tree.map(jnp.copy, state)))
    took = {kind: np.inf for kind in kinds}
    for _ in range(rounds):
        for kind, (advance, state) in cases.items():
            own = jax.block_until_ready(jax.tree.map(jnp.copy, state))
            since = time.perf_counter()
            jax.block_until_ready(advance(0, steps, own))
            each = 1e3 * (time.perf_counter() - since) / steps
            took[kind] = min(took[kind], each)
    return took


# %% [markdown]
# ## The runs

# %%
frames, costs = [], []
for batch_size, budget, every in (
    (0, s.budget, s.every),
    (s.batch_size, s.batch_budget, s.batch_every),
):
    frames += [trained(kind, batch_size, budget, every) for kind in kinds]
    costs += [
        {"kind": kind, "batch": batch_size, "milliseconds": took,
         "gradients": COST.get(kind, 1), "budget": budget}
        for kind, took in timed(batch_size).items()
    ]  # fmt: skip
curves = pd.concat(frames, ignore_index=True)
floats = curves.select_dtypes("floating").columns
curves = curves.astype(dict.fromkeys(floats, np.float32))
_ = run.save("curves", curves, data=train)
_ = run.save("costs", pd.DataFrame(costs), data=train)
curves.groupby(["batch", "rule"], sort=False).agg(
    loss=("train_loss", "last"), accuracy=("accuracy", "last")
).round(4)

# %% tags=["remove-input"]
run.card()
