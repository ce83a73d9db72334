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
# # Training the two halves of a network
#
# An MLP on MNIST is cut in two: φ, the layers next to the input, and θ, the layers next to the
# output. Both minimise the same cross-entropy, with one learning rate. **Do they follow the losses
# that the paper gives, when they take turns?** They do: against the modified losses the error of a
# step is of third order, against the plain loss of second. What this does to training
# [the chapter](common_payoff_mnist.py) shows, which reads the tables made here.
#
# | | the paper (Figure 4) | here |
# | --- | --- | --- |
# | networks | an MLP, its size not stated | three MLPs, cut in the middle or low |
# | data | MNIST | MNIST |
# | rates, seeds, minibatch | not stated | several rates and seeds, ours |
# | scorer | accuracy, squared norm of φ's gradient | the same |
# | verdict | Corollary 5.1 | {claim}`dd-corollary-5-1` |

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
from ddlib.flows import integrate
from ddlib.games import Players, common_payoff, game_field
from ddlib.loop import run_steps
from ddlib.methods import alternating_euler
from ddlib.sweep import first_nonfinite

run = page.open("train_common_payoff", profile, parameters)
s, claims = run.settings, run.claims

# %% [markdown]
# ## One update, two ways
#
# Two numbers share a loss, and a step is taken at once or in turn. When they take turns, θ already
# sees what φ has just done.


# %% tags=["figure"]
from ddlib.methods import simultaneous_euler


def product(y):
    """A common loss of two numbers, least where their product is one."""
    return (y.phi * y.theta - 1) ** 2 / 2


start, rates = Players(jnp.array(2.0), jnp.array(1.0)), Players(1.0, 1.0)
for update in (simultaneous_euler, alternating_euler):
    end = update(game_field(common_payoff(product)), rates)(0.1, start)
    print(f"{update.__name__}: loss {product(end):.5f}")

# %% tags=["hide-input"]
train = run.data(s.dataset, "train")
test = run.data(s.dataset, "test")
images, labels = (
    jnp.asarray(train.images.reshape(len(train.labels), -1)),
    jnp.asarray(train.labels),
)
print(
    f"{train.name}{' (stand-in)' if train.stand_in else ''}: "
    f"{len(labels)} images"
)

# %% [markdown]
# ## The networks
#
# Each is a list of widths, an activation, and where the cut lies.

# %% tags=["hide-input"]
NETWORKS = {  # hidden widths, activation, number of layers that belong to φ
    "tanh 100-100": ([100, 100], jnp.tanh, 2),
    "relu 100-100": ([100, 100], jax.nn.relu, 2),
    "tanh 200, cut low": ([200, 50], jnp.tanh, 1),
}


def init(key, widths):
    sizes = [images.shape[1], *widths, 10]
    keys = jax.random.split(key, len(sizes))
    return [
        (jax.random.normal(k, (m, n)) / jnp.sqrt(m), jnp.zeros(n))
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]


def make_loss(activation):
    def logits(players, x):
        *hidden, (last, bias) = players.phi + players.theta
        for w, b in hidden:
            x = activation(x @ w + b)
        return x @ last + bias

    def loss(players, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(players, x), y
        ).mean()

    return logits, loss


# %% [markdown]
# ## One program for the whole sweep
#
# `seen` says how much of φ's move θ sees: 0 is a simultaneous update, 1 an alternating one (φ
# first, one update each). It is a traced number like the rate and the seed, so that all runs of a
# network are one `vmap` and compile once. Runs that differ only in `seen` or the rate share initial
# weights and minibatches.


# %% tags=["hide-input"]
def step_of(loss, t, players, rate, seen, seed):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), t)
    batch = jax.random.randint(key, (s.batch_size,), 0, len(labels))
    x, y = images[batch], labels[batch]
    g_phi = jax.grad(lambda phi: loss(players._replace(phi=phi), x, y))(
        players.phi
    )
    phi = jax.tree.map(lambda p, g: p - rate * g, players.phi, g_phi)
    middle = jax.tree.map(
        lambda old, new: old + seen * (new - old), players.phi, phi
    )
    g_theta = jax.grad(lambda theta: loss(Players(middle, theta), x, y))(
        players.theta
    )
    theta = jax.tree.map(lambda p, g: p - rate * g, players.theta, g_theta)
    return Players(phi, theta)


def observe(logits, loss, players):
    x, y = images[: s.num_observed], labels[: s.num_observed]
    value, gradient = jax.value_and_grad(loss)(players, x, y)
    squared = [optax.tree.norm(g, squared=True) for g in gradient]
    guess = logits(players, test_images).argmax(-1)
    return {
        "loss": value,
        "accuracy": jnp.mean(guess == test_labels),
        "grad_phi": squared[0],
        "grad_theta": squared[1],
    }


test_images = jnp.asarray(test.images.reshape(len(test.labels), -1))[
    : s.num_observed
]
test_labels = jnp.asarray(test.labels)[: s.num_observed]
grid = pd.MultiIndex.from_product(
    [["simultaneous", "alternating"], s.rates, range(s.num_seeds)],
    names=["update", "rate", "seed"],
).to_frame(index=False)
seen = jnp.asarray(grid["update"] == "alternating", float)
rate, seed = jnp.asarray(grid["rate"], float), jnp.asarray(grid["seed"], int)

frames = []
for number, name in enumerate(s.networks):
    widths, activation, cut = NETWORKS[name]
    logits, loss = make_loss(activation)
    layers = jax.vmap(
        lambda i, widths=widths: init(
            jax.random.fold_in(jax.random.key(0), i), widths
        )
    )(seed)
    players = Players(layers[:cut], layers[cut:])
    step = jax.vmap(partial(step_of, loss), in_axes=(None, 0, 0, 0, 0))
    _, seen_by = run_steps(
        lambda t, state, step=step: step(t, state, rate, seen, seed),
        players,
        s.num_steps,
        observe=jax.vmap(partial(observe, logits, loss)),
        every=s.observe_every,
        report=lambda t, name=name, number=number: run.progress(
            number * s.num_steps + t, len(s.networks) * s.num_steps, name
        ),
    )
    iterations = np.arange(0, s.num_steps + 1, s.observe_every)
    diverged = first_nonfinite(seen_by, iterations)
    for i, row in grid.iterrows():
        frames.append(
            pd.DataFrame(
                {
                    "network": name,
                    **row,
                    "iteration": iterations,
                    **{key: values[:, i] for key, values in seen_by.items()},
                    "diverged_at": diverged[i],
                }
            )
        )
curves = pd.concat(frames, ignore_index=True)
saved = run.save("curves", curves, data=train)

# %% [markdown]
# ## Corollary 5.1 on a real network
#
# Alternating updates of a common-payoff game follow the gradient flows of
#
# $$
# \tilde L_1 = E + \tfrac{\alpha h}{4}\left(\|\nabla_\phi E\|^2 + \|\nabla_\theta E\|^2\right),
# \qquad
# \tilde L_2 = E + \tfrac{\lambda h}{4}\left(\left(1 - \tfrac{2\alpha}{\lambda}\right)
# \|\nabla_\phi E\|^2 + \|\nabla_\theta E\|^2\right)
# $$
#
# (DD, Eqs. 12–13). At equal rates θ is pushed *towards* larger gradients of φ. We take one
# alternating step of a small tanh network on 256 images, in double precision, and measure its
# distance from the flow of $E$ and from the flow of $(\tilde L_1, \tilde L_2)$.


# %% tags=["hide-input"]
def local_errors(loss, players, sizes):
    """Distance of an alternating step from the original and from the modified losses' flow."""

    def norms(y):
        return Players(
            *(optax.tree.norm(g, squared=True) for g in jax.grad(loss)(y))
        )

    def modified(h):  # at α = λ = 1
        def first(y):
            n = norms(y)
            return loss(y) + h / 4 * (n.phi + n.theta)

        def second(y):
            n = norms(y)
            return loss(y) + h / 4 * (-n.phi + n.theta)

        return game_field(Players(first, second))

    original = game_field(common_payoff(loss))
    step = alternating_euler(original, Players(1.0, 1.0))

    def error(h):
        landed = step(h, players)

        def gap(field):
            path = integrate(
                field,
                players,
                jnp.array([0.0, 1.0]) * h,
                rtol=1e-10,
                atol=1e-12,
            )
            ends = jax.tree.map(
                lambda x, z: jnp.sum((x[-1] - z) ** 2), path, landed
            )
            return jnp.sqrt(sum(jax.tree.leaves(ends)))

        return gap(original), gap(modified(h))

    return jax.lax.map(error, sizes)


with jax.enable_x64():
    logits, loss = make_loss(jnp.tanh)
    x = jnp.asarray(train.images[:256].reshape(256, -1), jnp.float64)
    y = jnp.asarray(train.labels[:256])
    layers = jax.tree.map(
        lambda p: p.astype(jnp.float64), init(jax.random.key(7), [16])
    )
    players = Players(layers[:1], layers[1:])
    sizes = 0.4 * 2.0 ** -jnp.arange(5, dtype=jnp.float64)
    errors = jax.jit(partial(local_errors, lambda p: loss(p, x, y)))(
        players, sizes
    )
    corollary = pd.DataFrame(
        {"h": sizes, "original flow": errors[0], "modified losses": errors[1]},
        dtype=float,
    )
_ = run.save("corollary", corollary, data=train)
corollary

# %% tags=["hide-input", "remove-output"]
slopes = {
    name: np.diff(np.log(corollary[name]))[-1]
    / np.diff(np.log(corollary.h))[-1]
    for name in ("original flow", "modified losses")
}
claims.record(
    "dd-corollary-5-1",
    holds=abs(slopes["original flow"] - 2) <= 0.2
    and abs(slopes["modified losses"] - 3) <= 0.2,
    measured={
        "slope_original": slopes["original flow"],
        "slope_modified": slopes["modified losses"],
    },
    data=train,
)

# %% [markdown]
# As $h$ halves, the distance from the flow of $E$ falls with the power
# {measured}`dd-corollary-5-1:slope_original:.3g` of $h$. The distance from the flow of the modified
# losses falls with the power {measured}`dd-corollary-5-1:slope_modified:.3g`:
# {claim}`dd-corollary-5-1`
#
# ## What follows
#
# When the two halves take turns, the one next to the output seeks large gradients of the other. Does
# that make training worse? [The chapter](common_payoff_mnist.py) compares run by run.
#
# To vary: `networks`, `rates` and `num_seeds` in the profile; the cut of a network in `NETWORKS`.

# %% tags=["remove-input"]
run.card()
