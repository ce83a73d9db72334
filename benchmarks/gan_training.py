"""What a step of GAN training costs, and what the forms of `ddlib.gan.convolutions` save.

Per size of the nets and of the batch: seconds of a simultaneous, an alternating, a cancelled and a
fully regularised step, the floating-point operations that XLA counts in it and the share of this
device's matrix product that they reach, and the peak memory of a process that does nothing else.
The same steps with plain forms beside them: transposed convolutions as dilated ones, one pass for
each player. Ratios within this one run, nothing asserted.

    python benchmarks/gan_training.py [--size 32] [--width 1] [--batch 128 32] [--steps 3] [--plain]
    python benchmarks/gan_training.py --sweep 8   # as many runs at once by vmap, against one by one
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from ddlib import gan
from ddlib.games import Players
from ddlib.gan import convolutions, sngan
from ddlib.regularizers import DriftTerms, cancel_interaction, consensus

RATES = Players(0.01, 0.01)
CANCEL = Players(*(t._replace(self_norm=None) for t in cancel_interaction(RATES)))
CASES = {
    "simultaneous": (gan.SIMULTANEOUS, None),
    "alternating": (gan.Update("alternating"), None),
    "cancelled": (gan.SIMULTANEOUS, CANCEL),
    "all terms": (gan.SIMULTANEOUS, consensus(0.001)),
    "RK4": (gan.Update("rk4"), None),
}


def plain_forms():
    """Put the usual forms in place of the fast ones."""

    def convolve(x, kernel, stride=1):
        return convolutions.plain(x, kernel, (stride, stride))

    def double(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(2, 2)] * 2,
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    sngan.convolve, sngan.double = convolve, double


def ceiling(size=2048):
    """Floating-point operations a second of a float32 matrix product."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def measure(case, size, width, batch, steps, plain):
    """One case in this process."""
    if plain:
        plain_forms()
    update, terms = CASES[case]
    loss = gan.saturating()
    if plain:
        loss = loss._replace(zero_sum=False)  # one pass for each player
    game = gan.Game(gan.sngan_networks(size=size, width=width), loss)
    setting = gan.Setting(RATES, terms or Players(DriftTerms(), DriftTerms()))
    state = gan.init(game, jax.random.key(0), setting, update)
    images = np.random.default_rng(0).uniform(-1, 1, (2 * batch, size, size, 3))
    images = jnp.asarray(images, jnp.float32)
    step = gan.make_step(game, gan.Rule(update, terms=terms is not None))

    def one(state, images):
        latents = game.networks.theta.latents
        return step(state, gan.draw_batches(images, state, latents, batch, update.num_batches))

    start = time.perf_counter()
    compiled = jax.jit(one, donate_argnums=0).lower(state, images).compile()
    compile_seconds = time.perf_counter() - start
    state = jax.block_until_ready(compiled(state, images))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        state = jax.block_until_ready(compiled(state, images))
        times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times),
        "fastest": min(times),
        "compile": compile_seconds,
        "gflop": compiled.cost_analysis().get("flops", float("nan")) / 1e9,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "ceiling_gflops": ceiling() / 1e9,
    }


def sweep(number, size, width, batch, steps):
    """`number` runs as one vmapped program, against one after another; each one's seconds."""
    game = gan.Game(gan.sngan_networks(size=size, width=width), gan.saturating())
    images = np.random.default_rng(0).uniform(-1, 1, (1000, size, size, 3))
    images = jnp.asarray(images, jnp.float32)
    step = gan.make_step(game)

    def one(state):
        return step(state, gan.draw_batches(images, state, 128, batch, 1))

    states = [gan.init(game, jax.random.key(i), gan.Setting(RATES)) for i in range(number)]
    together = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    found = {}
    for name, function, start in (("one", one, states[0]), ("all", jax.vmap(one), together)):
        program = jax.jit(function)
        state = jax.block_until_ready(program(start))
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            state = jax.block_until_ready(program(state))
            times.append(time.perf_counter() - begin)
        found[name] = statistics.median(times)
    print(
        f"{number} runs: one after another {number * found['one']:.4f} s a step, "
        f"vmapped {found['all']:.4f} s, ratio {number * found['one'] / found['all']:.2f}"
    )


def main():
    """Measure what the command line asks for, a process for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 32])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--plain", action="store_true", help="the usual forms as well")
    parser.add_argument("--sweep", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sweep:
        return sweep(options.sweep, options.size, options.width, options.batch[0], options.steps)
    if options.one:
        given = json.loads(options.one)
        return print(json.dumps(measure(**given)))
    print("| batch | step | forms | s | GFLOP (XLA) | GFLOP/s | of matmul | peak GiB | compile s |")
    print("| --: | --- | --- | --: | --: | --: | --: | --: | --: |")
    for batch in options.batch:
        for case in options.cases:
            for plain in (False, True) if options.plain else (False,):
                given = {
                    "case": case,
                    "size": options.size,
                    "width": options.width,
                    "batch": batch,
                    "steps": options.steps,
                    "plain": plain,
                }
                command = [sys.executable, os.path.abspath(__file__), "--one", json.dumps(given)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                m = json.loads(done.stdout.splitlines()[-1])
                rate = m["gflop"] / m["seconds"]
                print(
                    f"| {batch} | {case} | {'plain' if plain else 'fast'} | {m['seconds']:.3f} | "
                    f"{m['gflop']:.0f} | {rate:.0f} | {rate / m['ceiling_gflops']:.2f} | "
                    f"{m['peak_gib']:.2f} | {m['compile']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
