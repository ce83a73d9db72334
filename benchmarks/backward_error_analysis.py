"""How long backward error analysis takes: `ddlib.drift.modified_terms` against nested forward mode.

A GAN on the plane, each player a multilayer perceptron of about a hundred parameters. For each
method and order: seconds to trace and compile the terms f₀ … f_order, milliseconds to evaluate
them, and the same for the obvious alternative, the scalar h differentiated order + 1 times by
nested `jax.jvp`, as ratios within this one run. Nothing is asserted.

    python benchmarks/backward_error_analysis.py [--orders 1 2 3 4] [--patience 60]
"""

import argparse
import os
import statistics
import time
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddlib.drift import logarithm_weights, modified_terms
from ddlib.games import Players, game_field
from ddlib.methods import HEUN, RK4, alternating_euler, runge_kutta, simultaneous_euler

RATES = Players(1.0, 0.5)
METHODS = {
    "simultaneous": lambda field: simultaneous_euler(field, RATES),
    "alternating (2, 3)": lambda field: alternating_euler(field, RATES, Players(2, 3)),
    "Heun": lambda field: runge_kutta(field, HEUN, RATES),
    "RK4": lambda field: runge_kutta(field, RK4, RATES),
}


def perceptron(sizes, key):
    """Weights and biases of a multilayer perceptron."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n)) / m**0.5, jnp.zeros(n))
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(layers, x):
    """The network's value on a batch."""
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = layers[-1]
    return x @ w + b


def gan(batch=32):
    """The zero-sum GAN's field and a point: discriminator 2-8-8-1, generator 2-8-7-2."""
    keys = jax.random.split(jax.random.key(0), 4)
    y = Players(perceptron((2, 8, 8, 1), keys[0]), perceptron((2, 8, 7, 2), keys[1]))
    real, noise = jax.random.normal(keys[2], (batch, 2)) + 1, jax.random.normal(keys[3], (batch, 2))

    def value(y):
        fake = apply(y.theta, noise)
        judged = jax.nn.log_sigmoid(apply(y.phi, real)) + jax.nn.log_sigmoid(-apply(y.phi, fake))
        return jnp.mean(judged)

    return game_field(Players(lambda y: -value(y), value)), y


def nested_terms(step, order):
    """The same terms, the iterates differentiated in h by nested forward mode."""
    weights = logarithm_weights(order + 1)

    def terms(y):
        def combined(h):
            def body(state, _):
                new = step(h, state)
                return new, new

            _, ys = jax.lax.scan(body, y, None, length=order + 1)
            return jax.tree.map(
                lambda x, xs: jnp.tensordot(jnp.asarray(weights[1:], x.dtype), xs - x, 1), y, ys
            )

        def derivative(fn):
            return lambda h: jax.jvp(fn, (h,), (jnp.ones_like(h),))[1]

        out, fn = [], combined
        for k in range(1, order + 2):
            fn = derivative(fn)
            out.append(jax.tree.map(lambda x, k=k: x / factorial(k), fn(jnp.zeros(()))))
        return tuple(out)

    return terms


def measure(fn, y, repeats=20):
    """Seconds to trace and compile, median milliseconds to run, and the value."""
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(fn).lower(y).compile()
    built = time.perf_counter() - start
    value = jax.block_until_ready(compiled(y))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(y))
        times.append(time.perf_counter() - start)
    return built, 1e3 * statistics.median(times), value


def difference(one, two):
    """The largest difference of two values, relative to the largest entry of each term."""
    return max(
        max(float(jnp.abs(x - z).max()) for x, z in zip(*map(jax.tree.leaves, pair), strict=True))
        / max(float(jnp.abs(x).max()) for x in jax.tree.leaves(pair[0]))
        for pair in zip(one, two, strict=True)
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        help="skip nested forward mode from the order that would take longer than this to compile",
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    field, y = gan()
    sizes = [optax.tree.size(player) for player in y]
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform}, {os.cpu_count()} CPU cores, float64")
    print(f"players of {sizes[0]} and {sizes[1]} parameters, batch 32\n")
    print("| method | order | compile, s | run, ms | nested: compile | nested: run | difference |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name, make in METHODS.items():
        step, spent, growth = make(field), 0.0, 1.0
        for order in options.orders:
            built, run, value = measure(modified_terms(step, order), y)
            row = f"| {name} | {order} | {built:.2f} | {run:.2f} |"
            if spent * growth > options.patience:
                print(f"{row} – | – | – |", flush=True)
                continue
            nested_built, nested_run, nested_value = measure(nested_terms(step, order), y)
            growth, spent = (nested_built / spent if spent else 3.0), nested_built
            print(
                f"{row} ×{nested_built / built:.1f} | ×{nested_run / run:.1f} "
                f"| {difference(value, nested_value):.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    main()
