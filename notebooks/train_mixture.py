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
# # Training on sixteen Gaussians
#
# This notebook trains and writes tables; [the chapter](mixture_of_gaussians.py) reads and draws
# them. It trains the GAN of {cite:t}`qin2020training` on a mixture of sixteen Gaussians by seven
# methods, with and without their regulariser, and takes the eigenvalues of the game on the way.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_looks": 8}

# %% tags=["hide-input"]
import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import mixture
from ddlib import gan
from ddlib.games import Players
from ddlib.methods import RK4, runge_kutta
from ddlib.regularizers import DriftTerms
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

run = page.open("train_mixture", profile, parameters)
s = run.settings

# %% [markdown]
# ## The mixture
#
# Sixteen normal distributions of width 0.02 on the grid $\{\pm0.5, \pm1.5\}^2$. Networks, batch
# (512), step (0.1) and the regulariser's coefficient (0.07) are the released notebook's, the loss
# is the non-saturating one. The regulariser adds $0.07\,\|\nabla_\theta L_2\|^2$ to the
# discriminator's loss, on the minibatch of the first stage. Three choices are ours: the samples of
# a batch are drawn (the notebook's batch has each mode equally often), every stage takes a fresh
# minibatch, and the Runge–Kutta methods move both players jointly; "released RK4" integrates them
# as the notebook does.

# %%
SIGMA, COEFFICIENT, BATCH = 0.02, 0.07, 512
CENTRES = jnp.array([-1.5, -0.5, 0.5, 1.5])
MODES = jnp.stack(jnp.meshgrid(CENTRES, CENTRES), -1).reshape(-1, 2)


def draw(key, number):
    which, noise = jax.random.split(key)
    means = MODES[jax.random.randint(which, (number,), 0, len(MODES))]
    return means + SIGMA * jax.random.normal(noise, (number, 2))


data = draw(jax.random.key(0), 100_000)
held_out = draw(jax.random.key(1), 1024)
networks = gan.mlp_networks(2, (25, 25), latents=32, activation=jax.nn.relu)
LOSSES = {
    "non-saturating": gan.non_saturating(),
    "saturating": gan.saturating(),
    "least squares": gan.least_squares(),
    "Wasserstein": gan.wasserstein(gradient_penalty=1.0),
}


# %% [markdown]
# ## What is measured
#
# Of 5,120 samples: the share within four widths of a mode (*good* samples), the number of modes
# that get at least 20 of them (a sixteenth of their due), the energy distance to held-out samples
# of the mixture, and the norms of both players' gradients. A run has *failed* when its energy
# distance is above 0.5, half of what a generator has that puts everything on the centre, or not a
# number.


# %% tags=["hide-input"]
def mean_distance(x, y):
    return jnp.sqrt(jnp.sum((x[:, None] - y[None]) ** 2, -1) + 1e-12).mean()


def generate(state, number, key):
    z = jax.random.normal(key, (number, networks.theta.latents))
    return networks.theta.apply(
        state.players.theta, state.memory.statistics, z, True
    )[0]


def fixed_batch():
    z = jax.random.normal(
        jax.random.key(3), (len(held_out), networks.theta.latents)
    )
    return gan.Batch(held_out, z, jnp.full(len(held_out), 0.5))


def observe(game, state):
    x = generate(state, 5120, jax.random.key(2))
    squares = jnp.sum((x[:, None] - MODES[None]) ** 2, -1)
    good = squares.min(1) < (4 * SIGMA) ** 2
    counts = jnp.zeros(len(MODES)).at[squares.argmin(1)].add(good)
    some = x[: len(held_out)]
    slopes = gan.gradients(game, state.players, state.memory, fixed_batch())
    return {
        "modes": jnp.sum(counts >= 20),
        "good": good.mean(),
        "energy": 2 * mean_distance(some, held_out)
        - mean_distance(some, some)
        - mean_distance(held_out, held_out),
        "grad_phi": jnp.linalg.norm(ravel_pytree(slopes.phi)[0]),
        "grad_theta": jnp.linalg.norm(ravel_pytree(slopes.theta)[0]),
    }


# %% [markdown]
# ## One program for a method
#
# The library has the methods, for any game of two networks. The released one it has not: that
# integrates each player by RK4 while the other stands still, on one minibatch.


# %%
def released(game, regularised):
    """Each player's RK4 step with the other frozen, as the notebook's."""

    def step(state, batches):
        batch = jax.tree.map(lambda x: x[0], batches)
        y, memory = state.players, state.memory
        rate, terms = state.setting.rates.phi, state.setting.terms

        def field(players):
            slopes = gan.gradients(game, players, memory, batch)
            return jax.tree.map(lambda g: -rate * g, slopes)

        after = frozen_rk4(field)(1.0, y)
        if regularised:
            given = (game, y, memory, batch, terms)
            whole = gan.regularized_gradients(*given, unbiased=False)
            extra = jax.tree.map(lambda w, f: rate * w + f, whole, field(y))
            after = jax.tree.map(lambda x, e: x - e, after, extra)
        return state._replace(players=after, step=state.step + 1)

    return step


def frozen_rk4(field):
    def step(h, y):
        phi = runge_kutta(lambda phi: field(y._replace(phi=phi)).phi, RK4)
        theta = runge_kutta(lambda x: field(y._replace(theta=x)).theta, RK4)
        return Players(phi(h, y.phi), theta(h, y.theta))

    return step


# %% [markdown]
# The rate, the coefficient and the seed are traced numbers: one program carries all seeds of a run
# and all its step sizes.


# %%
@cache
def programs(method, loss, regularised):
    """(game, start, advance, look): of one method, on all seeds at once."""
    game = gan.Game(networks, LOSSES[loss])
    if method == "released":
        update, step = gan.Update(), released(game, regularised)
    else:
        update = gan.Update(method)
        step = gan.make_step(game, update, terms=regularised, unbiased=False)
    none = DriftTerms(None, None, None)  # None: the program is without it
    phi = DriftTerms(None, None, COEFFICIENT) if regularised else none

    def start(seed, rate):
        setting = gan.Setting(Players(rate, rate), Players(phi, none))
        return gan.init(game, jax.random.key(seed), setting, update)

    def one(state):
        latents = networks.theta.latents
        return step(
            state,
            gan.draw_batches(data, state, latents, BATCH, update.num_batches),
        )

    @partial(jax.jit, donate_argnums=0)
    def advance(states, num_steps):
        all_of_them = jax.vmap(one)
        return jax.lax.fori_loop(
            0, num_steps, lambda _, y: all_of_them(y), states
        )

    return game, start, advance, jax.jit(jax.vmap(partial(observe, game)))


# %% [markdown]
# ## All runs
#
# Every method runs at the released notebook's step 0.1, with and without the regulariser, to the
# same number of gradient evaluations (the regulariser's Hessian-vector product counts as one);
# Euler and RK4 with the regulariser go on to the notebook's 30,000 steps in the larger profiles.
# Two more share RK4's cost: Euler at a quarter of the step, which takes four steps for RK4's one,
# and RK4 at four times the step, which covers in one step what Euler covers in four. Short runs at
# larger steps show where each method breaks, and runs with other losses whether any of it depends
# on the loss.
#
# A comparison cuts the longer of two runs where the shorter ends, after equally many steps or
# evaluations, and takes the mean over the last quarter of what is left. So each run is observed at
# its end, on the way there, and in the last quarter before each such cut.


# %% tags=["hide-input"]
def begin_all(start, rate):
    states = [start(seed, rate) for seed in s.seeds]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *states)


def train(arm, at):
    """All seeds of one run: the curves, and the states at the steps `at`, the first of them 0."""
    _, start, advance, look = programs(arm.method, arm.loss, arm.regularised)
    states = jax.block_until_ready(
        advance(begin_all(start, arm.rate), 0)
    )  # compiles
    kept, frames, spent, done, lost = [], [], 0.0, 0, False
    for t in at:
        if t > done and not lost:
            before = time.process_time()
            states = jax.block_until_ready(advance(states, t - done))
            spent += time.process_time() - before
            done = t
        kept.append(jax.tree.map(np.asarray, states))
        seen = jax.device_get(look(states))
        frames.append(pd.DataFrame({"seed": s.seeds, "step": t, **seen}))
        lost = not np.isfinite(seen["energy"]).any()
    curves = pd.concat(frames, ignore_index=True).astype({"modes": int})
    failed = ~(curves.energy < 0.5)
    curves = curves.assign(
        method=mixture.METHODS[arm.method][0],
        loss=arm.loss,
        regularised=arm.regularised,
        rate=arm.rate,
        failed=failed,
        evaluations=curves.step * mixture.cost(arm.method, arm.regularised),
        cpu_ms=1e3 * spent / max(done, 1) / len(s.seeds),
    )
    return curves, kept


def lost_after(method, loss):
    """The number of steps by which more than half of the seeds have gone off to infinity."""
    _, start, advance, look = programs(method, loss, False)
    states, steps = begin_all(start, mixture.RATE), 0
    while np.isfinite(jax.device_get(look(states))["energy"]).mean() >= 0.5:
        states, steps = advance(states, 1), steps + 1
    return steps


# %% tags=["hide-input"]
if unknown := set(s.losses) - set(LOSSES):
    raise ValueError(
        f"losses: there are {sorted(LOSSES)}, not {sorted(unknown)}"
    )
arms = mixture.plan(s)
frames, kept, samples, lost = [], {}, [], []
for number, arm in enumerate(arms):
    one, states = train(arm, mixture.observed(arm, arms, s))
    frames.append(one.assign(run=number))
    run.progress(number + 1, len(arms), f"{arm}")
    name = mixture.METHODS[arm.method][0]
    if arm.rate == mixture.RATE and arm.loss == mixture.MAIN:
        kept[name, arm.regularised] = one.step.unique(), states
        first = jax.tree.map(lambda x: x[0], states[-1])
        x = np.asarray(generate(first, 1000, jax.random.key(5)))
        points = {"x": x[:, 0], "y": x[:, 1]}
        samples.append(
            pd.DataFrame(
                {"method": name, "regularised": arm.regularised, **points}
            )
        )
    at_end = one.energy[one.step == one.step.max()]
    if (
        arm.loss != mixture.MAIN
        and not arm.regularised
        and np.isfinite(at_end).mean() < 0.5
    ):
        steps = lost_after(arm.method, arm.loss)
        lost.append({"method": name, "loss": arm.loss, "steps": steps})
curves = run.save("curves", pd.concat(frames, ignore_index=True), data="none")
_ = run.save("samples", pd.concat(samples, ignore_index=True), data="none")
lost = pd.DataFrame(lost, columns=["method", "loss", "steps"])
_ = run.save(
    "lost", lost.astype({"method": str, "loss": str, "steps": int}), data="none"
)


# %% [markdown]
# ## Where the game's eigenvalues lie
#
# Absolute stability asks one thing of the game: its eigenvalues, times $h$. We take the largest of
# the Jacobian of the field (with the regulariser, where it is on) on a fixed batch along the
# runs of Euler and RK4, by Arnoldi's method with Jacobian-vector products.


# %%
@cache
def product(loss, regularised):
    """(state, v) to Jv, J the Jacobian of the field on a fixed batch."""
    game, *_ = programs("simultaneous", loss, regularised)

    def field(players, memory, terms):
        given = (game, players, memory, fixed_batch())
        if regularised:
            return gan.regularized_gradients(*given, terms, unbiased=False)
        return gan.gradients(*given)

    @jax.jit
    def along(state, vector):
        _, unravel = ravel_pytree(state.players)

        def slope(y):
            return field(y, state.memory, state.setting.terms)

        moved = jax.jvp(slope, (state.players,), (unravel(vector),))[1]
        return -ravel_pytree(moved)[0]

    return along


# %% tags=["hide-input"]
ACCURACY = 1e-3  # of an eigenvalue, relative


def largest_eigenvalues(state, regularised, number=16):
    along = product("non-saturating", regularised)
    size = ravel_pytree(state.players)[0].size
    matrix = LinearOperator(
        (size, size),
        lambda v: np.asarray(along(state, v.astype(np.float32))),
        dtype=np.float32,
    )
    start = np.random.default_rng(0).normal(size=size).astype(np.float32)
    found = []
    for which in (
        "LM",
        "LI",
        "LR",
    ):  # largest in size, imaginary part, real part
        try:
            values = eigs(matrix, number, which=which, v0=start, tol=ACCURACY, maxiter=40,
                          return_eigenvectors=False)  # fmt: skip
        except ArpackNoConvergence as stopped:
            values = stopped.eigenvalues
        found.append(
            pd.DataFrame(
                {"which": which, "real": values.real, "imaginary": values.imag}
            )
        )
    return pd.concat(found)


rows = []
for (method, regularised), (steps, states) in kept.items():
    if method not in ("Euler", "RK4"):
        continue
    for wanted in s.spectra_at:
        index = np.abs(steps - wanted).argmin()
        for i, seed in enumerate(s.seeds[:3]):
            state = jax.tree.map(lambda x, i=i: x[i], states[index])
            if not all(
                np.isfinite(x).all() for x in jax.tree.leaves(state.players)
            ):
                continue
            rows.append(
                largest_eigenvalues(state, regularised).assign(
                    method=method,
                    regularised=regularised,
                    step=steps[index],
                    seed=seed,
                    accuracy=ACCURACY,
                )
            )
_ = run.save("spectra", pd.concat(rows, ignore_index=True), data="none")

# %% [markdown]
# What these runs say is in [the chapter](mixture_of_gaussians.py). Below, the last observation of
# each run at the notebook's step and loss: the median over the seeds.

# %% tags=["hide-input"]
last = curves.frame[
    curves.frame.step == curves.frame.groupby("run").step.transform("max")
]
last = last[(last.rate == mixture.RATE) & (last.loss == mixture.MAIN)]
by = ["regularised", "method", "step"]
last.groupby(by, sort=False)[["modes", "good", "energy"]].median().round(3)

# %% tags=["remove-input"]
run.card()

# %% [markdown]
# ## What to vary
#
# - `-p num_evaluations 8000 -p methods "[simultaneous, alternating, rk4]"`: an hour's question in
#   minutes.
# - `COEFFICIENT`: the regulariser alone decides most here; how small may it be?
# - `unbiased=True` in `programs`: the two-half estimator of the regulariser.
# - `SIGMA`: how does the width of the modes change the eigenvalues?
