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
# # Why did my training blow up?
#
# A how-to. Your loss went up, or to infinity. **Was the step size too large for where you were, along
# which directions, and what would have been safe?** `ddlib.diagnose` answers for a loss, parameters
# and a rate; and an observer watches as you train.

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib import diagnose
from ddlib.diagnosis import watch
from ddlib.nets import cross_entropy, functional, mlp

run = page.open("why_did_it_blow_up", profile, parameters)
s, claims, colors = run.settings, run.claims, page.COLORS
digits = run.data("digits", subset=s.num_images)
x = jnp.asarray(digits.images.reshape(len(digits.labels), -1))
labels = jnp.asarray(digits.labels)

# %% [markdown]
# ## A training that blows up
#
# A small network on handwritten digits, by the full batch. The rate was found on another problem.

# %%
params, apply = functional(mlp(64, s.widths, 10, key=jax.random.key(0)))
loss = cross_entropy(apply, 4 * x, labels)


@jax.jit
def step(params, h):
    return jax.tree.map(lambda p, g: p - h * g, params, jax.grad(loss)(params))


def descend(params, h, num_steps):
    path = [params]
    for _ in range(num_steps):
        path.append(step(path[-1], h))
    return path, np.array([float(loss(p)) for p in path])


path, losses = descend(params, s.rate, s.num_steps)
worst = int(np.argmax(losses[1:] - losses[:-1]))  # the step that raised it most
losses[: worst + 3].round(2)

# %% [markdown]
# Ask at the iterate before that step:

# %%
found = diagnose(loss, path[worst], s.rate)
print(found)

# %% [markdown]
# Read it from the top. The largest eigenvalues say which directions grow; the stability coefficients,
# whether the gradient has a share along them *now*; the second-order change, what the loss will do; and
# the last lines, which rate would have been safe.
#
# ## At a safe rate

# %%
safe = 0.9 * found.safe
calm, calm_losses = descend(path[worst], safe, s.num_steps)
print(diagnose(loss, calm[-1], safe))

# %% tags=["hide-input", "remove-output"]
records = pd.concat(
    [
        pd.DataFrame(
            {"step": np.arange(len(losses)), "loss": losses, "what": "rate"}
        ),
        pd.DataFrame(
            {
                "step": worst + np.arange(len(calm_losses)),
                "loss": calm_losses,
                "what": "safe",
            }
        ),
    ]
)
_ = run.save("losses", records, data=digits)
claims.record(
    "ours-diagnose-warns",
    holds=bool(
        found.unstable > 0
        and found.predicted > 0
        and found.observed > 0
        and (np.diff(calm_losses[:6]) < 0).all()
    ),
    measured={
        "unstable_directions": found.unstable,
        "h_lambda": float(s.rate * found.values[0]),
        "predicted": found.predicted,
        "observed": found.observed,
        "safe_rate": found.safe,
    },
    data=digits,
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The loss against the step: at the first rate it jumps; from the iterate before the worst jump a run at the safe rate falls."}, "figure": {"caption": "The loss at the rate in question, and from the iterate before its largest jump at nine tenths of the safe one.", "name": "fig-blow-up"}}
table = run.load("losses").frame
fig, ax = plt.subplots(figsize=(6.4, 3.0))
for what, color, label in (
    ("rate", colors["simultaneous"], "the rate in question"),
    ("safe", colors["modified"], "nine tenths of the safe one"),
):
    mine = table[table.what == what]
    ax.plot(mine.step, mine.loss, "o-", ms=3, color=color, label=label)
ax.set(yscale="log", xlabel="step", ylabel="loss")
ax.legend()
plt.show()

# %% [markdown]
# The prediction agrees with the step that was taken, and the safe rate trains:
# {claim}`ours-diagnose-warns`
#
# ## Watching as you train
#
# The same numbers in your own loop, at a few gradients an iteration: chain the observer before the
# optimiser and read its state. It changes no update.

# %%
tx = optax.chain(watch(loss, every=5), optax.sgd(safe))
params, state = path[0], None
state = tx.init(params)


@jax.jit
def watched_step(params, state):
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


sharpness = []
for _ in range(20):
    params, state = watched_step(params, state)
    sharpness.append(float(state[0].sharpness))
print("hλ₀ along the run:", (safe * np.array(sharpness[::5])).round(2))

# %% [markdown]
# ## When it is not the step size
#
# - *Stable, and the loss rises all the same*: by minibatches, the noise does it; ask with the batch.
# - *The second order is far from what was observed*: the step is too long for any local answer. Ask
#   along it, at a tenth of the rate.
# - *The numbers are not finite*: ask at an earlier iterate.
# - *Residuals are large*: more products (`num_matvecs`), or too few digits: try double precision.

# %% tags=["remove-input"]
run.card()
