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
# # The principal flow at scale: the runs
#
# This notebook measures and writes tables; [the chapter](principal_flow_at_scale.py) reads and draws
# them. Its three parts: the error of the principal field by few products with the Hessian, what such
# a field costs, and how well its flow predicts gradient descent on a network whose dense Hessian
# nobody would form.

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's, such as {"num_seeds": 1}

# %% tags=["hide-input"]
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ddbook import page
from ddlib import descent
from ddlib.curvature import hessian, hvp, krylov
from ddlib.flows import (
    continued_alpha,
    distances,
    nonprincipal_term,
    polynomial_field,
    principal_alpha,
    spectral_field,
)
from ddlib.nets import count, cross_entropy, functional, mlp, resnet18, vgg11
from jax.flatten_util import ravel_pytree

jax.config.update("jax_enable_x64", True)
run = page.open("measure_flows_at_scale", profile, parameters)
s = run.settings


def network(inputs, widths, outputs, seed=0):
    """The parameters of a tanh network in double precision, and what applies it."""
    key = jax.random.key(seed)
    return functional(mlp(inputs, widths, outputs, key=key, dtype=jnp.float64))


# %% [markdown]
# ## The error of few products
#
# Small MLPs are trained on 300 handwritten digits for a while: once with their labels, 300 steps, and
# once with random ones, which take longer to learn, 3,000 steps, and whose Hessian has many more large
# eigenvalues. One run of Lanczos of sixty products, started at the gradient, gives all shorter ones:
# their tridiagonal matrices $T_k$ are its corners. Then
# $\|g\|\,Q_k\,\alpha(hT_k)\,e_1$ is held against $\sum_i \alpha(h\lambda_i)(g^\top u_i)u_i$, with all
# eigenpairs of the dense Hessian.

# %% tags=["hide-input"]
digits = run.data("digits", subset=300)
x = jnp.asarray(digits.images.reshape(300, -1), jnp.float64)
true_labels = jnp.asarray(digits.labels)
random_labels = jnp.asarray(np.random.default_rng(0).permutation(digits.labels))
small_params, small_net = network(64, s.hidden, 10)
TARGETS, MOST = (0.5, 0.9, 1.1, 1.5, 2.0, 3.0, 8.0), 60


def digits_loss(params, labels):
    return cross_entropy(small_net, x, labels)(params)


@jax.jit
def trained(labels, num_steps):
    """The parameters after so many steps of gradient descent, h = 0.1."""
    slope = jax.grad(digits_loss)

    def step(_, p):
        return jax.tree.map(lambda a, b: a - 0.1 * b, p, slope(p, labels))

    return jax.lax.fori_loop(0, num_steps, step, small_params)


@jax.jit
def decomposed(params, labels):
    """Eigenvalues and vectors of the dense Hessian, and the gradient's parts along them."""
    flat, unravel = ravel_pytree(params)
    g = ravel_pytree(jax.grad(digits_loss)(params, labels))[0]
    matrix = hessian(lambda v: digits_loss(unravel(v), labels), flat)
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors, vectors.T @ g


@jax.jit
def compressed(params, labels):
    """A basis of the Krylov space of the gradient, the Hessian in it, and the gradient's norm."""
    start = jax.grad(digits_loss)(params, labels)
    matvec = hvp(lambda p: digits_loss(p, labels), params)
    space, _ = krylov(matvec, start, MOST)
    return space.basis, (space.matrix + space.matrix.T) / 2, space.norm


# %%
def fields(basis, matrix, norm, h):
    """The principal field by 2, 3, … products."""
    for k in range(2, len(basis) + 1):
        values, vectors = np.linalg.eigh(matrix[:k, :k])
        weights = vectors @ (alpha(h * values) * vectors[0])
        yield k, norm * (weights @ basis[:k])


# %% tags=["hide-input"]
compiled_alpha = jax.jit(principal_alpha)


def alpha(z):
    """`principal_alpha`, padded to one shape, so that one program serves all."""
    return np.asarray(compiled_alpha(np.pad(z, (0, MOST - len(z)))))[: len(z)]


rows, spectra = [], []
for kind, labels, num_steps in (
    ("digits", true_labels, 300),
    ("random labels", random_labels, 3000),
):
    params = trained(labels, num_steps)
    values, vectors, parts = decomposed(params, labels)
    weighed = [
        np.asarray(principal_alpha(t / float(values[-1]) * values) * parts)
        for t in TARGETS
    ]
    eigenvectors = np.asarray(vectors)
    stacked = np.stack([part for w in weighed for part in (w.real, w.imag)], 1)
    both = eigenvectors @ stacked
    exact = {
        t: both[:, 2 * i] + 1j * both[:, 2 * i + 1]
        for i, t in enumerate(TARGETS)
    }
    for dtype in (jnp.float64, jnp.float32):
        cast = jax.tree.map(lambda p, d=dtype: p.astype(d), params)
        basis, matrix, norm = map(np.asarray, compressed(cast, labels))
        for target in TARGETS:
            h, found = target / float(values[-1]), {}
            for k, field in fields(basis, matrix, float(norm), h):
                found[k] = field
                change = np.linalg.norm(
                    field - found.get(k - 2, 0)
                ) / np.linalg.norm(field)
                rows.append(
                    {
                        "data": kind,
                        "dtype": jnp.dtype(dtype).name,
                        "h lambda": target,
                        "products": k,
                        "error": np.linalg.norm(field - exact[target])
                        / np.linalg.norm(exact[target]),
                        "change": change if k > 3 else np.nan,
                        "above": int((h * values > 1).sum()),
                        "parameters": len(values),
                    }
                )
    run.progress(1 + (kind == "random labels"), 2, kind)
_ = run.save("lanczos", pd.DataFrame(rows), data=digits)

# %% [markdown]
# ## What a field costs
#
# Seconds of a gradient, of a product with the Hessian and of a field of ten products, after
# compilation, in float32. The image networks read CIFAR-10 (re-encoded as JPEG where the tables say
# `cifar10-jpeg`), the MLPs its images thinned to $8 \times 8$. Convolutions are slow inside a scan on
# a CPU, so that their networks are driven product by product; without them one program is best. For
# comparison, the eigendecomposition of the dense Hessian of the smallest.

# %% tags=["hide-input"]
images = run.data(s.image_dataset, subset=s.num_images)
pixels = jnp.asarray(images.images.astype(np.float32))
small = jnp.asarray(pixels[:, ::4, ::4].reshape(len(pixels), -1))


def seconds(call, most=4, limit=10.0):
    """The least time of a few calls."""
    times = []
    while len(times) < most and sum(times) < limit:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return min(times)


def cost_row(name, model, x):
    params, apply = functional(model)
    loss, batch = cross_entropy(apply), (x, jnp.asarray(images.labels))
    compiled = jax.jit(lambda p, b: jax.grad(loss)(p, b))
    product = jax.jit(lambda p, v, b: hvp(loss, p, b)(v))
    v = compiled(params, batch)
    jax.block_until_ready(product(params, v, batch))  # compiled, both

    def field(params, v, batch, scan):
        space, _ = krylov(lambda z: product(params, z, batch), v, 10, scan=scan)
        values, vectors = jnp.linalg.eigh((space.matrix + space.matrix.T) / 2)
        weights = vectors @ (principal_alpha(0.1 * values) * vectors[0])
        return jnp.stack([weights.real, weights.imag]) @ space.basis

    convolutional = x.ndim == 4
    whole = field if convolutional else jax.jit(field, static_argnums=3)
    return {
        "network": name,
        "parameters": count(params),
        "gradient": seconds(lambda: compiled(params, batch)),
        "product": seconds(lambda: product(params, v, batch)),
        "field": seconds(lambda: whole(params, v, batch, not convolutional)),
        "basis_bytes": 10 * 4 * count(params),
        "images": len(pixels),
    }


key, rows = jax.random.key(0), []
total = len(s.mlp_widths) + 2 * len(s.image_widths)
for width in s.mlp_widths:
    rows.append(
        cost_row("MLP", mlp(small.shape[1], [width, width], 10, key=key), small)
    )
    run.progress(len(rows), total, "cost")
for width in s.image_widths:
    rows.append(cost_row("VGG-11", vgg11(width=width, key=key), pixels))
    rows.append(cost_row("ResNet-18", resnet18(width=width, key=key), pixels))
    run.progress(len(rows), total, "cost")
for width in s.mlp_widths:
    params, apply = functional(mlp(small.shape[1], [width, width], 10, key=key))
    if count(params) > 3000:
        break
    flat, unravel = ravel_pytree(params)
    loss = cross_entropy(apply, small, images.labels)
    dense = jax.jit(
        lambda v, u=unravel, f=loss: jnp.linalg.eigh(
            hessian(lambda w: f(u(w)), v)
        )
    )
    jax.block_until_ready(dense(flat))
    took = seconds(lambda d=dense, v=flat: d(v), most=3, limit=float("inf"))
    rows.append(
        {"network": "dense", "parameters": count(params), "field": took}
    )
_ = run.save("costs", pd.DataFrame(rows), data=images)

# %% [markdown]
# ## Predicting gradient descent
#
# An MLP of 26,506 parameters on MNIST. After fifty steps of training with $h = 0.1$ gradient descent
# goes on with a step size that makes $h\lambda_0$ 0.8, 1.5 or 2.2, and the flows are followed from the
# same point; NGF, IGR and the third-order flow as polynomials in the Hessian, the principal ones by
# twenty products.

# %% tags=["hide-input"]
mnist = run.data(s.dataset, subset=s.num_examples)
inputs = jnp.asarray(mnist.images.reshape(len(mnist.labels), -1), jnp.float64)
loss = cross_entropy(
    network(inputs.shape[1], [32, 32], 10)[1], inputs, mnist.labels
)
# −Σ c_p h^p H^p g, and whether the non-principal term −(h²/12) ∇³E[g, g] is added
REAL = {
    "NGF": ((1, 0, 0), 0),
    "IGR": ((1, 1 / 2, 0), 0),
    "third order": ((1, 1 / 2, 1 / 3), 1),
}
PRINCIPAL = {"PF": 0.0, "PF + non-principal": 1.0}
PHASES = {"stable": 0.8, "complex, stable": 1.5, "unstable": 2.2}


def with_term(field, on, h):
    extra = nonprincipal_term(loss, h)
    return lambda y: jax.tree.map(lambda a, b: a + on * b, field(y), extra(y))


# %%
@jax.jit
def follow_real(coefficients, on, h, params):
    field = with_term(polynomial_field(loss, coefficients, h), on, h)
    most = 20 * (s.num_steps + 1)
    return descent.follow(
        field, params, h, s.num_steps, rtol=1e-5, atol=1e-7, max_steps=most
    )  # fmt: skip


@jax.jit
def follow_principal(on, h, params):
    field = with_term(spectral_field(loss, continued_alpha, h, 20), on, h)
    most = max(100, 10 * (s.num_steps + 1))
    return descent.follow(
        field, params, h, s.num_steps, rtol=1e-5, atol=1e-7, max_steps=most
    )  # fmt: skip


# %% tags=["hide-input"]
@functools.partial(jax.jit, static_argnums=2)
def descend(h, params, num_steps):
    return descent.descend(loss, params, h, num_steps).seen


@jax.jit
def sharpness(params):
    return descent.sharpness(loss, params).value


def predict(begin, product):
    """A row for each flow and step: how far it is from gradient descent."""
    h = product / float(sharpness(begin))
    steps = descend(h, begin, s.num_steps)
    moved = distances(steps, jax.tree.map(lambda x: x[:1], steps))
    sharp = [
        h * float(sharpness(jax.tree.map(lambda x, n=n: x[n], steps)))
        for n in range(s.num_steps + 1)
    ]
    paths = {
        name: follow_real(jnp.array(c), on, h, begin)
        for name, (c, on) in REAL.items()
    }
    paths |= {
        name: follow_principal(on, h, begin) for name, on in PRINCIPAL.items()
    }
    gaps = {
        name: np.asarray(distances(path, steps)) for name, path in paths.items()
    }
    return [
        {
            "h": h,
            "flow": name,
            "step": n,
            "distance": gap[n] if np.isfinite(gap[n]) else np.nan,
            "moved": float(moved[n]),
            "h lambda": sharp[n],
        }
        for name, gap in gaps.items()
        for n in range(1, s.num_steps + 1)
    ]


rows = []
for seed in range(s.num_seeds):
    first, _ = network(inputs.shape[1], [32, 32], 10, seed)
    begin = jax.tree.map(lambda x: x[-1], descend(0.1, first, 50))
    for phase, product in PHASES.items():
        rows += [
            {"seed": seed, "phase": phase, **row}
            for row in predict(begin, product)
        ]
        run.progress(
            len(rows), s.num_seeds * 15 * s.num_steps, f"MNIST, {phase}"
        )
_ = run.save("prediction", pd.DataFrame(rows), data=mnist)

# %% tags=["remove-input"]
run.card()

# %% [markdown]
# ## What to vary
#
# - `TARGETS`: what happens exactly at $h\lambda_i = 1$ for some $i$?
# - `hidden` and `num_examples`: fewer examples than parameters leave most eigenvalues at zero.
# - `mlp(..., activation="softplus")`, or a norm-free `resnet18(activation="softplus")`, which is
#   holomorphic too (on a GPU).
