"""What it costs to watch the edge of stability, and to take rates from drift: ratios in one run.

1. Tracking λ₀ and u₀ at every iteration of gradient descent on an MLP (784-50-50-50-10, tanh, 500
   images, squares): milliseconds an iteration over those of a gradient, and the error of λ₀ against
   a converged Lanczos; beside it a cold Lanczos run of as many products as reach the same error.
2. A step of the central flow, in gradients, with one to three critical directions.
3. A step of DAL (exact product and finite differences), CDAT and the secant, over one of SGD, on an
   MLP and on VGG-11 at an eighth of its width.

    python benchmarks/edge_and_dal.py [--parts 1 2 3]
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddlib.central import central
from ddlib.curvature import hvp, top_eigenpairs, tracker
from ddlib.dal import finite_difference, scale_by_cdat, scale_by_dal, scale_by_secant
from ddlib.nets import cross_entropy, functional, mean_squared_error, mlp, vgg11


def milliseconds(call, most=30):
    """The median of some calls, the first left out."""
    jax.block_until_ready(call())
    times = []
    for _ in range(most):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def problem(num=500, widths=(50, 50, 50)):
    """Clusters of random images, so that nothing has to be at hand, and a network for them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, num)
    x = rng.normal(size=(10, 784))[labels] + rng.normal(size=(num, 784))
    params, apply = functional(mlp(784, list(widths), 10, key=jax.random.key(0)))
    x = jnp.asarray(x / x.std(), jnp.float32)
    return mean_squared_error(apply, x, jax.nn.one_hot(labels, 10)), params


def tracking(h=0.03, steps=300):
    """Part 1."""
    loss, params = problem()
    begin, follow = tracker(loss, 1)
    slope = jax.jit(jax.grad(loss))

    @jax.jit
    def step(params, track):
        params = jax.tree.map(lambda p, g: p - h * g, params, track.gradient)
        return params, follow(track, params)

    state, errors, cold_errors, kept = (params, jax.jit(begin)(params)), [], {}, []
    cold = {
        n: jax.jit(lambda p, n=n: top_eigenpairs(hvp(loss, p), _start(p), 1, num_matvecs=n)[0])
        for n in (4, 6, 8, 12, 16, 24, 60)
    }
    for t in range(steps):
        state = step(*state)
        if t % 20 == 19:
            exact = float(cold[60](state[0]).values[0])
            errors.append(abs(float(state[1].values[0]) / exact - 1))
            for n in cold:
                found = float(cold[n](state[0]).values[0])
                cold_errors.setdefault(n, []).append(abs(found / exact - 1))
            kept.append(exact * h)
    unit = milliseconds(lambda: slope(state[0]))
    tracked = milliseconds(lambda: step(*state))
    error = statistics.median(errors)
    print(f"hλ₀ from {min(kept):.2f} to {max(kept):.2f}; a gradient takes {unit:.2f} ms")
    print(f"tracked step: {tracked / unit:.1f} gradients, median relative error {error:.1e}")
    for n in cold:
        if statistics.median(cold_errors[n]) <= error or n == 24:
            took = milliseconds(lambda n=n: cold[n](state[0]))
            print(
                f"cold Lanczos, {n} products: {took / unit:.1f} gradients, median relative error "
                f"{statistics.median(cold_errors[n]):.1e}, {took / tracked:.1f} × tracking"
            )
            break


def _start(params):
    return jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size) + 1.0).reshape(p.shape), params)


def central_flow(h=0.22):
    """Part 2."""
    loss, params = problem()
    slope = jax.jit(jax.grad(loss))
    unit = milliseconds(lambda: slope(params))
    for num in (1, 2, 3):
        begin, step = central(loss, h, num)
        track, step, y = jax.jit(begin)(params), jax.jit(step), params
        for _ in range(100):  # from the start the first steps search anew
            y, track, seen = step(y, track)
        took = milliseconds(lambda step=step, track=track, y=y: step(y, track))
        top, anew = h * float(seen.values[0]), bool(step(y, track)[1].cold)
        print(
            f"central flow, k = {num}: {took / unit:.1f} gradients a step at hλ₀ = {top:.2f}"
            + " (searched anew)" * anew
        )


def rates():
    """Part 3."""
    loss, params = problem()
    vgg, apply = functional(vgg11(width=0.125, key=jax.random.key(0)))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(64, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, 64))
    cases = {"MLP": (loss, params), "VGG-11 × 1/8": (cross_entropy(apply, images, labels), vgg)}
    for name, (f, p) in cases.items():
        made = {
            "SGD": (optax.sgd(0.01), None),
            "DAL": (scale_by_dal(max_learning_rate=1.0), "exact"),
            "DAL, finite differences": (scale_by_dal(max_learning_rate=1.0), "differences"),
            "CDAT": (scale_by_cdat(max_learning_rate=1.0), "exact"),
            "secant": (scale_by_secant(max_learning_rate=1.0), None),
        }
        took = {}
        for rule, (tx, product) in made.items():

            @jax.jit
            def step(p, state, tx=tx, product=product, f=f):
                grads, more = jax.grad(f)(p), {}
                if product == "exact":
                    more = {"hvp_fn": hvp(f, p)}
                elif product == "differences":
                    more = {"hvp_fn": finite_difference(jax.grad(f), p, grads)}
                return tx.update(grads, state, p, **more)

            state = tx.init(p)
            took[rule] = milliseconds(lambda step=step, state=state, p=p: step(p, state))
        for rule, one in took.items():
            print(f"{name}, {rule}: {one:.2f} ms, {one / took['SGD']:.2f} × SGD")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", type=int, default=[1, 2, 3])
    for part in parser.parse_args().parts:
        {1: tracking, 2: central_flow, 3: rates}[part]()
