"""What the principal flow of a network costs: Hessian-vector products against the whole Hessian.

Three measurements, ratios within this one run, nothing asserted:

1. The principal field of a small trained network (64-32-32-32-10 on handwritten digits, 4,522
   parameters, float64): dense, by the eigendecomposition of its Hessian, against Krylov, by a few
   Hessian-vector products, at hλ₀ = 0.73 and 2.
2. A Hessian-vector product against a gradient: a perceptron and VGG-11.
3. One principal field of VGG-11 (9.2 million parameters, float32) on thousands of images held a
   chunk at a time: seconds, and peak memory of a process that does nothing else.

    python benchmarks/principal_flow.py [--parts 1 2 3] [--images 5000] [--products 3]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ddlib import data
from ddlib.curvature import gradient, hvp, top_eigenpairs
from ddlib.flows import principal_alpha, spectral_field
from ddlib.loop import run_steps
from ddlib.nets import count, cross_entropy, functional, mlp, vgg11

PRODUCTS = (3, 5, 8, 10, 15, 20)


def seconds(call):
    """Seconds that one call takes, all its results computed."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def dense_against_krylov(num_examples=500, num_steps=500):
    """Part 1: the table."""
    digits = data.load("digits", subset=num_examples)
    x = jnp.asarray(digits.images.reshape(num_examples, -1), jnp.float64)
    model = mlp(64, [32, 32, 32], 10, key=jax.random.key(0), dtype=jnp.float64)
    start, apply = functional(model)
    loss = cross_entropy(apply, x, digits.labels)
    descent = jax.grad(loss)
    params, losses = run_steps(
        lambda t, p: jax.tree.map(lambda p, g: p - 0.1 * g, p, descent(p)),
        start,
        num_steps,
        observe=loss,
        every=num_steps,
    )
    pairs, _ = top_eigenpairs(hvp(loss, params), descent(params), 1)
    largest = float(pairs.values[0])
    print(
        f"{count(params)} parameters, {num_examples} {digits.name}, float64; {num_steps} steps of "
        f"gradient descent, loss {losses[0]:.2f} to {losses[-1]:.2f}, λ₀ = {largest:.1f}\n"
    )

    def field(y, h, num_matvecs):
        return ravel_pytree(spectral_field(loss, principal_alpha, h, num_matvecs)(y))[0]

    def compiled(num_matvecs):
        return jax.jit(partial(field, num_matvecs=num_matvecs)).lower(params, 1.0).compile()

    dense, krylov = compiled(None), {k: compiled(k) for k in PRODUCTS}
    targets, times, exact = (0.73, 2.0), [], {}
    for target in targets * 2:
        start = time.perf_counter()
        exact[target] = jax.block_until_ready(dense(params, target / largest))
        times.append(time.perf_counter() - start)
    slow = min(times)
    print(
        f"dense: {slow:.1f} s, the fastest of {len(times)}; the slowest took {max(times):.1f} s\n"
    )
    print("| hλ₀ | products | Krylov, ms | dense / Krylov | relative error |")
    print("| --: | --: | --: | --: | --: |")
    for target in targets:
        for k, short in krylov.items():
            call = partial(short, params, target / largest)
            quick = statistics.median(seconds(call) for _ in range(11))
            error = jnp.linalg.norm(call() - exact[target]) / jnp.linalg.norm(exact[target])
            print(
                f"| {target} | {k} | {1e3 * quick:.1f} | ×{slow / quick:.0f} "
                f"| {float(error):.0e} |",
                flush=True,
            )


def product_against_gradient(repeats=9):
    """Part 2: the table; gradient and product take turns, so that both see the same load."""
    print("| network | parameters | batch | gradient, ms | product, ms | ratio |")
    print("| --- | --: | --: | --: | --: | --: |")
    key = jax.random.key(0)
    for name, model, shape in (
        ("MLP 784-500-500-10", mlp(784, [500, 500], 10, key=key), (500, 784)),
        ("VGG-11", vgg11(key=key), (50, 32, 32, 3)),
    ):
        params, apply = functional(model)
        batch = (jax.random.normal(key, shape), jax.random.randint(key, shape[:1], 0, 10))
        loss = cross_entropy(apply)
        slope = jax.jit(jax.grad(loss)).lower(params, batch).compile()
        product = jax.jit(lambda p, v, b, loss=loss: hvp(loss, p, b)(v))
        product = product.lower(params, params, batch).compile()
        v = slope(params, batch)
        jax.block_until_ready(product(params, v, batch))
        pairs = [
            (
                seconds(lambda: slope(params, batch)),  # noqa: B023
                seconds(lambda: product(params, v, batch)),  # noqa: B023
            )
            for _ in range(repeats)
        ]
        first, second = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(
            f"| {name} | {count(params)} | {shape[0]} | {first:.1f} | {second:.1f} "
            f"| ×{ratio:.2f} |",
            flush=True,
        )


def large_field(num_images, num_products, chunk):
    """Part 3, in a process of its own: (stage, seconds, peak memory so far in GB)."""
    params, apply = functional(vgg11(key=jax.random.key(0)))
    loss = cross_entropy(apply)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_images, 32, 32, 3), np.float32)
    batch = (jnp.asarray(x), jnp.asarray(rng.integers(0, 10, num_images)))
    h, num_chunks = 0.01, num_images // chunk
    stages = [("images and network", 0.0, peak())]

    def timed(name, call):
        start = time.perf_counter()
        value = jax.block_until_ready(call())
        stages.append((name, time.perf_counter() - start, peak()))
        return value

    g = timed(
        "gradient, with its compilation",
        lambda: gradient(loss, params, batch, num_chunks=num_chunks),
    )
    matvec = hvp(loss, params, batch, num_chunks=num_chunks)
    timed("one product, with its compilation", lambda: matvec(g))
    field = spectral_field(
        loss, principal_alpha, h, num_products, batch=batch, num_chunks=num_chunks, scan=False
    )
    timed(f"principal field by {num_products} products", lambda: field(params))
    return stages


def peak():
    """Peak resident memory of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--images", type=int, default=5000, help="of part 3")
    parser.add_argument("--products", type=int, default=3, help="of part 3")
    parser.add_argument("--chunk", type=int, default=100, help="images at a time, in part 3")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(large_field(options.images, options.products, options.chunk)))
        return
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform}, {os.cpu_count()} CPU cores\n")
    if 1 in options.parts:
        with jax.enable_x64():
            dense_against_krylov()
        print()
    if 2 in options.parts:
        product_against_gradient()
        print()
    if 3 in options.parts:
        sizes = [f"--{name}={getattr(options, name)}" for name in ("images", "products", "chunk")]
        command = [sys.executable, __file__, "--alone", *sizes]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(f"VGG-11, {options.images} random images, {options.chunk} at a time, float32\n")
        print("| stage | seconds | peak memory so far, GB |")
        print("| --- | --: | --: |")
        for name, spent, memory in json.loads(out):
            print(f"| {name} | {spent:.1f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
