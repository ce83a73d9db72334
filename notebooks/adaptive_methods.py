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
# # Adam: what its finite step does
#
# Adam divides a running mean of gradients by the root of a running mean of their squares. **What does
# its finite step do that its flow does not, and does that flatten the loss, as gradient descent's drift
# does?** To first order it adds a multiple of the gradient of $\|\nabla E\|_1$, whose sign depends on
# $\beta_1$, $\beta_2$ and $\epsilon$: with the usual $\beta_2 > \beta_1$ Adam is *driven towards* larger
# gradients until they are as small as $\sqrt\epsilon$, and away from them after that.
#
# | | the literature | here |
# | --- | --- | --- |
# | the correction | Cattaneo, Klusowski and Shigida 2024, by hand | by machine, to any order |
# | network | ResNets, vision transformers | one hidden layer of tanh |
# | data | CIFAR-10 | digits |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"num_steps": 2000}

# %% tags=["hide-input"]
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib.drift import estimate_modified_field, memoryless, modified_terms
from ddlib.games import gradient_field
from ddlib.memory import optimizer_step
from ddlib.nets import functional, mean_squared_error, mlp

jax.config.update("jax_enable_x64", True)
run = page.open("adaptive_methods", profile, parameters)
s, claims, colors = run.settings, run.claims, page.COLORS
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)
train = run.data(s.dataset, subset=s.num_images)

# %% [markdown]
# ## The correction, by machine
#
# With $\epsilon$ within the root, and the bias corrections of the start gone, Adam follows
#
# $$
# \dot\theta_j = -\frac{1}{\sqrt{(\partial_jE)^2 + \epsilon}}\Bigl(\partial_jE + \frac h2
# \Bigl[\frac{1+\beta_1}{1-\beta_1} - \frac{1+\beta_2}{1-\beta_2}
# + \frac{1+\beta_2}{1-\beta_2}\,\frac{\epsilon}{(\partial_jE)^2 + \epsilon}\Bigr]
# \partial_j\|\nabla E\|_{1,\epsilon}\Bigr) + O(h^2),
# $$
#
# where $\|v\|_{1,\epsilon} = \sum_j\sqrt{v_j^2 + \epsilon}$ (Cattaneo, Klusowski and Shigida 2024). The
# general mechanism finds it from optax's own Adam ({claim}`ours-adam-correction`). Nothing about Adam is
# told to it:


# %%
def adam(b1, b2, eps):
    """Optax's Adam, its ε within the root, without a learning rate."""
    moments = optax.scale_by_adam(b1, b2, eps=0.0, eps_root=eps)
    return optax.chain(moments, optax.scale(-1.0))


def terms_of_adam(loss, b1, b2, eps, order=1):
    step = optimizer_step(adam(b1, b2, eps), gradient_field(loss))
    return modified_terms(memoryless(*step), order)


# %% tags=["hide-input", "remove-output"]
def bent(y):
    return jnp.cosh(y[0]) + 0.5 * y[1] ** 2 * (1 + 0.3 * y[0]) + 0.2 * y[0]


def correction(gradient, b1, b2, eps):
    """What multiplies (h/2)∂ⱼ‖∇E‖."""
    first, second = (1 + b1) / (1 - b1), (1 + b2) / (1 - b2)
    return first - second + second * eps / (gradient**2 + eps)


point, settings = jnp.array([0.7, -0.4]), (0.9, 0.5, 0.3)
eps = settings[-1]
gradient = jax.grad(bent)(point)
norm = jax.grad(lambda y: jnp.sum(jnp.sqrt(jax.grad(bent)(y) ** 2 + eps)))
root = jnp.sqrt(gradient**2 + eps)
by_hand = -correction(gradient, *settings) * norm(point) / root / 2
found = terms_of_adam(bent, *settings)(point)[1]
apart = float(jnp.abs(found - by_hand).max() / jnp.abs(by_hand).max())
claims.record(
    "ours-adam-correction",
    holds=bool(apart <= 1e-11),
    measured={"relative_error": apart},
    data="none",
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Adam's factor against the size of the gradient over root epsilon, for three pairs of decays. With equal decays it is positive throughout and falls to zero; with the second decay larger it starts positive and turns negative; with the first larger it stays positive."}, "figure": {"caption": "The factor before $(h/2)\\,\\partial_j\\|\\nabla E\\|_{1,\\epsilon}$, divided by $(1+\\beta_2)/(1-\\beta_2)$, against the gradient's size. Above zero Adam's drift lowers the norm of the gradient, as that of gradient descent does; below zero it raises it.", "name": "fig-adam-factor"}}
fig, ax = plt.subplots(figsize=(5.8, 3.6))
sizes = np.logspace(-2, 2, 200)
pairs = {
    (0.9, 0.999): (colors["euler"], -0.86),
    (0.9, 0.9): (colors["published"], 0.1),
    (0.95, 0.9): (colors["alternating"], 1.12),
}
for (b1, b2), (color, height) in pairs.items():
    unit = (1 + b2) / (1 - b2)
    ax.semilogx(sizes, correction(sizes, b1, b2, 1.0) / unit, color=color)
    words = rf"$\beta_1 = {b1}$, $\beta_2 = {b2}$"
    ax.text(100, height, words, color=color, ha="right", fontsize="small")
ax.axhline(0, color="0.5", lw=1)
ax.set_xlabel(r"$|\partial_jE|/\sqrt{\epsilon}$")
ax.set_ylabel("factor, scaled")
plt.show()

# %% [markdown]
# Gradients far above $\sqrt\epsilon$ are the rule in training, for $\epsilon$ is small. There, with
# $\beta_2 > \beta_1$, the drift works *against* flatness. That is the opposite of gradient descent, whose
# drift always lowers $\|\nabla E\|^2$.
#
# ## On a real training
#
# A network learns digits by full-batch Adam. From five iterates in a row
# [the modified field can be estimated](backward_error_analysis.py) without a derivative; that is what Adam
# does. How far from it are Adam's flow, $f_0$, and the flow with its first drift, $f_0 + hf_1$?

# %% tags=["hide-input", "remove-output"]
x = jnp.asarray(train.images.reshape(len(train.labels), -1), float)
x = (x - x.mean()) / x.std()
y = jax.nn.one_hot(train.labels, 10)
rows = []
for seed in range(s.first_seed, s.first_seed + s.num_seeds):
    model = mlp(x.shape[1], [s.width], 10, key=jax.random.key(seed))
    params, apply = functional(model)
    params = jax.tree.map(lambda p: p.astype(float), params)
    loss = mean_squared_error(apply, x, y)
    step, init = optimizer_step(adam(s.b1, s.b2, s.eps), gradient_field(loss))
    terms = jax.jit(terms_of_adam(loss, s.b1, s.b2, s.eps))
    ahead = jax.jit(lambda *state, step=step: step(s.rate, *state))
    state, path = (params, init(params)), []
    for n in range(s.num_steps + 5):
        if n % s.observe_every < 5 and n >= s.observe_every:
            path.append(state[0])
        if len(path) == 5:
            seen = jax.tree.map(lambda *p: jnp.stack(p), *path)
            truth = estimate_modified_field(seen, s.rate)
            f0, f1 = terms(path[0])
            with_drift = jax.tree.map(lambda a, b: a + s.rate * b, f0, f1)

            def far(f, truth=truth):
                apart = jax.tree.map(jnp.subtract, f, truth)
                return float(optax.tree.norm(apart) / optax.tree.norm(truth))

            value = float(loss(path[0]))
            rows.append((seed, n - 4, value, far(f0), far(with_drift)))
            path = []
        state = ahead(*state)
columns = ["seed", "step", "loss", "flow", "with_drift"]
along = pd.DataFrame(rows, columns=columns)
_ = run.save("along", along, data=train)
closer = float((along.with_drift < along.flow).mean())
ratio = np.log(along.with_drift / along.flow).groupby(along.seed).mean()
claims.record(
    "ours-adam-drift-is-seen",
    holds=bool(closer >= 0.9 and float(np.exp(ratio.max())) <= 0.5),
    measured={
        "share_closer": closer,
        "largest_mean_ratio": float(np.exp(ratio.max())),
        "seeds": int(along.seed.nunique()),
    },
    data=train,
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Relative distance of two fields from what Adam does, against training step, on a logarithmic axis. The field with first-order drift lies below the plain one at nearly all steps, for every seed."}, "figure": {"caption": "Digits: the relative distance of Adam's flow (black), and of the flow with its first drift (green), from the field estimated from Adam's own iterates. A line for each seed.", "name": "fig-adam-along"}}
fig, ax = plt.subplots(figsize=(5.8, 3.6))
for _, part in along.groupby("seed"):
    ax.semilogy(part.step, part.flow, color=colors["flow"], alpha=0.8)
    ax.semilogy(part.step, part.with_drift, color=colors["modified"], alpha=0.8)
last = along[along.seed == s.first_seed].iloc[-1]
for column, words, color in (
    ("flow", "$f_0$", colors["flow"]),
    ("with_drift", "$f_0 + hf_1$", colors["modified"]),
):
    ax.annotate(
        words,
        (last.step, last[column]),
        xytext=(5, 0),
        textcoords="offset points",
        color=color,
        annotation_clip=False,
    )
ax.set_xlabel("training step")
ax.set_ylabel("relative distance")
plt.show()

# %% [markdown]
# The first drift accounts for nearly all of what Adam does beyond its flow:
# {claim}`ours-adam-drift-is-seen`
#
# ## What follows
#
# - `memoryless` and `modified_terms` take any optax transformation, so that a new optimiser's drift is a
#   line of code, to any order.
# - A larger $\epsilon$ moves Adam towards gradient descent, in its drift too. Vary `eps`.
# - The series in $h$ needs steps over which a gradient changes by less than $\sqrt\epsilon$, and which are
#   short against the memory. At `eps: 1e-6` and `rate: 0.0005` the first term already makes it worse.

# %% tags=["remove-input"]
run.card()
