# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   gpu: true
#   compiles: true
# ---

# %% [markdown]
# # Training image networks with rates from drift
#
# This notebook trains and writes a table; [DAL](dal.py) reads and plots it. Narrow VGG-11 and
# ResNet-18 learn a part of CIFAR-10 by minibatches, with DAL and at fixed rates.
#
# {cite:t}`rosca2023continuous` train these networks at an unstated scale. Width, images, length and
# rates are ours.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import loop
from ddlib.curvature import hvp
from ddlib.dal import dal
from ddlib.nets import cross_entropy, functional, resnet18, vgg11

run = page.open("train_cifar_by_drift", profile, parameters)
s = run.settings
train = run.data(s.dataset, subset=s.num_images)
test = run.data(s.dataset, "test", subset=s.num_test)
x, y = jnp.asarray(train.images), jnp.asarray(train.labels)
test_x, test_y = jnp.asarray(test.images), jnp.asarray(test.labels)
NETS = {"VGG-11": vgg11, "ResNet-18": resnet18}


def network(name, seed):
    """The parameters of a seed, and what applies them."""
    key = jax.random.fold_in(jax.random.key(7), seed)
    return functional(NETS[name](width=s.width, norm=s.norm, key=key))


# %% [markdown]
# ## One step
#
# A fixed rate is DAL with the power 0, and needs no product: two programs a network. With batch norm
# the loss is that of the batch; so is its Hessian.


# %%
def make_step(name, adapts):
    """One step of a network; the state carries the rule's numbers."""
    loss = cross_entropy(network(name, 0)[1])

    def step(t, state, x, y):
        params, tx_state, power, factor, seed, _ = state
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), t)
        chosen = jax.random.randint(key, (s.batch_size,), 0, len(y))
        batch = (x[chosen], y[chosen])
        value, grads = jax.value_and_grad(loss)(params, batch)
        if adapts:
            product = hvp(loss, params, batch)
            tx = dal(power, max_learning_rate=s.ceiling, factor=factor)
            updates, tx_state = tx.update(
                grads, tx_state, params, hvp_fn=product
            )
            rate = tx_state[0].rate
        else:
            updates, rate = jax.tree.map(lambda g: -factor * g, grads), factor
        moved = optax.tree.norm(updates)
        seen = {"loss": value, "rate": rate, "moved": moved}
        params = optax.apply_updates(params, updates)
        return params, tx_state, power, factor, seed, seen

    return step


# %% tags=["hide-input"]
def measured(name):
    """The loss on images seen and the accuracy on others, piece by piece."""
    apply = network(name, 0)[1]
    loss = cross_entropy(apply)

    @jax.jit
    def piece(params, images, labels):
        guess = apply(params, images).argmax(-1)
        return loss(params, (images, labels)), jnp.mean(guess == labels)

    def pieces(images, labels, size=250):
        for i in range(0, len(labels), size):
            yield images[i : i + size], labels[i : i + size]

    def look(state):
        losses = [piece(state[0], *p)[0] for p in pieces(x[:500], y[:500])]
        right = [piece(state[0], *p)[1] for p in pieces(test_x, test_y)]
        seen = {k: float(v) for k, v in state[-1].items()}
        return seen | {
            "train_loss": float(np.mean(losses)),
            "accuracy": float(np.mean(right)),
        }

    return look


# %% [markdown]
# ## The runs
#
# One after another: on a CPU convolutions with a kernel for each run are slow, and so are those inside
# a compiled loop, so that steps are driven from Python there.

# %%
rules = [(f"fixed {r:g}", 0.0, r) for r in s.rates]
rules += [(f"DAL-{p:g}", p, 2.0) for p in s.powers]
frames = []
for name, length in zip(s.networks, s.lengths, strict=True):
    look = measured(name)
    advances = {
        adapts: loop.compiled(make_step(name, adapts), convolutional=True)
        for adapts in (False, True)
    }
    for rule, power, factor in rules:
        for seed in range(s.first_seed, s.first_seed + s.num_seeds):
            params = network(name, seed)[0]
            zero = jnp.zeros(())
            state = (
                params,
                dal(max_learning_rate=s.ceiling).init(params),
                jnp.float32(power),
                jnp.float32(factor),
                jnp.asarray(seed),
                dict.fromkeys(("loss", "rate", "moved"), zero),
            )
            advance = advances[power > 0]
            times = range(0, length + 1, length // s.looks)
            _, seen = loop.watch(
                lambda a, b, state, go=advance: go(a, b, state, x, y),
                state,
                times,
                observe=look,
                report=lambda t, length=length, words=f"{name}, {rule}, {seed}": (
                    run.progress(t, length, words)
                ),
            )
            frames.append(
                pd.DataFrame(seen).assign(
                    step=list(times), network=name, rule=rule, seed=seed
                )
            )
curves = pd.concat(frames, ignore_index=True)
floats = curves.select_dtypes("floating").columns
curves = curves.astype(dict.fromkeys(floats, np.float32))
_ = run.save("curves", curves, data=train)
curves.groupby(["network", "rule"], sort=False).agg(
    loss=("train_loss", "last"), accuracy=("accuracy", "last")
).round(4)

# %% tags=["remove-input"]
run.card()
