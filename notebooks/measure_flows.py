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
# # The flows on small networks: the runs
#
# This notebook runs and writes tables; [the chapter](flows_on_networks.py) reads and draws them.
# Three networks are trained by full-batch gradient descent, and from its iterates five flows are
# followed: over many steps on a regression with random labels and on the breast cancer data, for
# one step on Iris.

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 3}

# %% tags=["hide-input"]
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ddbook import page
from ddlib import descent
from ddlib.curvature import hessian
from ddlib.flows import (
    continued_alpha,
    distances,
    nonprincipal_term,
    polynomial_field,
    spectral_field,
)
from ddlib.nets import cross_entropy, functional, mean_squared_error, mlp
from jax.flatten_util import ravel_pytree

jax.config.update("jax_enable_x64", True)
run = page.open("measure_flows", profile, parameters)
s = run.settings

# %% [markdown]
# ## The flows
#
# NGF, IGR and the third-order flow are polynomials in the Hessian and need no product with it, one
# and two: $-\sum_p c_p h^p H^p g$. The principal flow needs its logarithm, which a Krylov space of a
# few dozen products has to the digits that matter
# ([next chapter](principal_flow_at_scale.py)), also where the state, and with it the Hessian, is
# complex: networks with tanh and softmax are holomorphic, so that they may be evaluated there. The
# third-order flow, and PF with it, have the non-principal term $-\frac{h^2}{12}\nabla^3E[g, g]$.
#
# `on` says whether the term is added, and may be traced, as the coefficients, the step size and the
# data: one program follows the real flows of a loss, another the principal ones.

# %%
REAL = {  # the coefficients c, and whether the term is added
    "NGF": ((1.0, 0.0, 0.0), 0.0),
    "IGR": ((1.0, 1 / 2, 0.0), 0.0),
    "third order": ((1.0, 1 / 2, 1 / 3), 1.0),
}
PRINCIPAL = {"PF": 0.0, "PF + non-principal": 1.0}


def with_term(field, on, loss, h):
    extra = nonprincipal_term(loss, h)

    def both(y):
        return jax.tree.map(lambda a, b: a + on * b, field(y), extra(y))

    return both


@functools.partial(jax.jit, static_argnums=(0, 6))
def follow_real(loss, coefficients, on, h, params, batch, num_steps):
    def of_batch(p):
        return loss(p, batch)

    principal = polynomial_field(of_batch, coefficients, h)
    return descent.follow(
        with_term(principal, on, of_batch, h), params, h, num_steps,
        rtol=1e-6, atol=1e-8, max_steps=20 * (num_steps + 1),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 5))
def follow_principal(loss, on, h, params, batch, num_steps):
    def of_batch(p):
        return loss(p, batch)

    principal = spectral_field(of_batch, continued_alpha, h, s.num_matvecs)
    return descent.follow(
        with_term(principal, on, of_batch, h), params, h, num_steps,
        rtol=1e-6, atol=1e-8, max_steps=max(50, 10 * (num_steps + 1)),
    )  # fmt: skip


# %% tags=["hide-input"]
def follow(name, loss, h, params, batch, num_steps):
    """The path of a flow from real parameters; complex for the principal flows."""
    if name in REAL:
        coefficients, on = REAL[name]
        return follow_real(
            loss, jnp.array(coefficients), on, h, params, batch, num_steps
        )
    return follow_principal(loss, PRINCIPAL[name], h, params, batch, num_steps)


# %% [markdown]
# Gradient descent, and $h\lambda_0$ at every iterate, the largest eigenvalue by twenty products:


# %%
@functools.partial(jax.jit, static_argnums=(0, 4))
def descend(loss, h, params, batch, num_steps):
    """Iterates, leading axis num_steps + 1, and hλ₀ there."""

    def of_batch(p):
        return loss(p, batch)

    def observe(p):
        return p, h * descent.sharpness(of_batch, p).value

    done = descent.descend(of_batch, params, h, num_steps, observe=observe)
    return done.seen


@functools.partial(jax.jit, static_argnums=0)
def sharpness(loss, params, batch):
    return descent.sharpness(lambda p: loss(p, batch), params).value


# %% [markdown]
# ## Over many steps
#
# Step sizes are set by the curvature at the start: $h\lambda_0(\theta_0)$ is 0.5, 1.5 and 2.2. All
# flows start at $\theta_0$ and run for as long as gradient descent does; nothing is corrected on the
# way. One variant is: *PF, made real* drops its imaginary part after every step.

# %% tags=["hide-input"]
PRODUCTS = (0.5, 1.5, 2.2)


def compare(loss, params, batch, product, make_real):
    """A row for each flow and step: the distance from gradient descent."""
    h = product / sharpness(loss, params, batch)
    steps, sharp = descend(loss, h, params, batch, s.num_steps)
    found = {}
    for name in (*REAL, *PRINCIPAL):
        path = follow(name, loss, h, params, batch, s.num_steps)
        found[name] = np.asarray(distances(path, steps))
        if name == "PF":
            real = jax.tree.map(lambda x: x.real, path)
            found["PF, imaginary part"] = np.asarray(distances(path, real))
    if make_real:
        made_real = [params]
        for _ in range(s.num_steps):
            path = follow("PF", loss, h, made_real[-1], batch, 1)
            made_real.append(jax.tree.map(lambda x: x[-1].real, path))
        made_real = jax.tree.map(lambda *x: jnp.stack(x), *made_real)
        found["PF, made real"] = np.asarray(distances(made_real, steps))
    return [
        {
            "flow": flow,
            "step": n,
            "distance": d if np.isfinite(d) else np.nan,
            "along": float(z),
        }
        for flow, per_step in found.items()
        for n, (d, z) in enumerate(zip(per_step, sharp, strict=True))
    ]


def compare_all(loss, start, label, make_real=False):
    """`compare` for all seeds and products; `start(seed)` gives parameters and batch."""
    rows, total = [], len(PRODUCTS) * s.num_seeds
    for seed in range(s.num_seeds):
        params, batch = start(seed)
        for product in PRODUCTS:
            found = compare(loss, params, batch, product, make_real)
            rows += [
                {"seed": seed, "h lambda": product, **row} for row in found
            ]
            run.progress(len(rows) // len(found), total, label)
    return pd.DataFrame(rows)


# %% [markdown]
# The regression: two inputs, two hidden layers of ten tanh units, twenty examples with random inputs
# and labels, mean squared error. {cite:t}`rosca2023continuous` give no sizes for theirs (Figure 7).


# %%
def network(inputs, widths, outputs, key):
    """The parameters of a tanh network, and what applies it."""
    return functional(mlp(inputs, widths, outputs, key=key, dtype=jnp.float64))


def random_regression(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    params, _ = network(2, [10, 10], 1, keys[0])
    inputs = jax.random.normal(keys[1], (20, 2))
    labels = jax.random.normal(keys[2], (20, 1))
    return params, (inputs, labels)


_, regressor = network(2, [10, 10], 1, jax.random.key(0))
squares = mean_squared_error(regressor)
regression = compare_all(squares, random_regression, "regression", True)
_ = run.save("regression", regression, data="none")

# %% [markdown]
# The breast cancer data of {cite:t}`wolberg1995breast`, 30 features, standardised; two hidden layers
# of 32 tanh units, cross-entropy. At random parameters the curvature collapses within a step, which
# no local model survives; so the network is first trained with small steps, 300 of
# $h\lambda_0(\theta_0) = 0.5$, and compared from there on.


# %%
def standardised(data, chosen):
    features = data.features
    features = (features - features.mean(0)) / features.std(0)
    return jnp.asarray(features[chosen]), jnp.asarray(data.labels[chosen])


cancer_data = run.data("breast-cancer", "all")
every = np.random.default_rng(0).permutation(len(cancer_data.labels))
cancer = standardised(cancer_data, every[: s.num_examples])
_, classifier = network(30, [32, 32], 2, jax.random.key(0))
classification = cross_entropy(classifier)


def cancer_start(seed):
    start, _ = network(30, [32, 32], 2, jax.random.key(100 + seed))
    h = 0.5 / sharpness(classification, start, cancer)
    path, _ = descend(classification, h, start, cancer, 300)
    return jax.tree.map(lambda x: x[-1], path), cancer


bigger = compare_all(classification, cancer_start, "breast cancer")
_ = run.save("breast_cancer", bigger, data=cancer_data)

# %% [markdown]
# ## One step at the edge of stability: Iris
#
# {cite:t}`fisher1936use`'s Iris, an MLP of five layers with ten units each, cross-entropy, $h = 0.1$.
# From one iterate in every few, and from some of those at which the loss is about to rise, each flow
# is followed for one step and compared with the next iterate, in the parameters and in the loss.

# %%
iris_data = run.data("iris", "all")
iris = standardised(iris_data, slice(None))
_, iris_net = network(4, [10] * 4, 3, jax.random.key(0))
iris_loss, h = cross_entropy(iris_net), 0.1


def train(seed):
    start, _ = network(4, [10] * 4, 3, jax.random.key(200 + seed))
    return descend(iris_loss, h, start, iris, s.training_steps)


def observed(losses):
    """Where to look: every few iterates, and some before the loss rises."""
    rising = np.flatnonzero(np.diff(losses) > 0)
    some = np.linspace(0, max(len(rising) - 1, 0), s.num_rises).astype(int)
    regular = range(0, s.training_steps, s.observe_every)
    return sorted({*regular, *map(int, rising[some[: len(rising)]])})


# %% tags=["hide-input"]
loss_of = jax.jit(lambda p: iris_loss(p, iris))
losses_of = jax.jit(jax.vmap(lambda p: iris_loss(p, iris)))


def one_step(path, t, losses, sharp):
    """A row for each flow: where it is after one step from iterate t, and its loss there."""
    here, there = (jax.tree.map(lambda x, i=i: x[i], path) for i in (t, t + 1))
    rows = []
    for name in (*REAL, *PRINCIPAL):
        end = follow(name, iris_loss, h, here, iris, 1)
        end = jax.tree.map(lambda x: x[1:], end)
        gap = float(distances(end, jax.tree.map(lambda x: x[None], there))[0])
        real = jax.tree.map(lambda x: x[0].real, end)
        rows.append(
            {
                "step": t,
                "flow": name,
                "h lambda": float(sharp[t]),
                "distance": gap if np.isfinite(gap) else np.nan,
                "loss_before": losses[t],
                "loss_after": losses[t + 1],
                "loss_of_flow": float(loss_of(real))
                if np.isfinite(gap)
                else np.nan,
            }
        )
    return rows


@jax.jit
def spectrum(params):
    flat, unravel = ravel_pytree(params)
    return jnp.linalg.eigvalsh(
        hessian(lambda v: iris_loss(unravel(v), iris), flat)
    )[::-1]


curves, rows, spectra = [], [], []
for seed in range(s.num_seeds):
    path, sharp = train(seed)
    losses, sharp = np.asarray(losses_of(path)), np.asarray(sharp)
    curves += [
        {"seed": seed, "step": t, "loss": v, "h lambda": z}
        for t, (v, z) in enumerate(zip(losses, sharp, strict=True))
    ]
    for t in observed(losses):
        rows += [
            {"seed": seed, **row} for row in one_step(path, t, losses, sharp)
        ]
    middle = s.training_steps // 2
    t = middle + int(np.argmin(np.abs(sharp[middle:] - 2)))
    values = np.asarray(spectrum(jax.tree.map(lambda x, t=t: x[t], path)))
    spectra += [
        {"seed": seed, "step": t, "index": i, "eigenvalue": v}
        for i, v in enumerate(values)
    ]
    run.progress(seed + 1, s.num_seeds, "Iris")
for name, found in (("curves", curves), ("steps", rows), ("spectra", spectra)):
    _ = run.save(f"iris_{name}", pd.DataFrame(found), data=iris_data)

# %% tags=["remove-input"]
run.card()

# %% [markdown]
# ## What to vary
#
# - The activation: "softplus" and "sigmoid" are holomorphic too.
# - `num_matvecs`: how few products will do? See [the next chapter](principal_flow_at_scale.py).
# - $h$ for Iris: does a larger one reach the edge sooner, and where does PF end then?
