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
# # Momentum: a flow with a longer drift
#
# A step with momentum depends on its past, and so has no modified field: or has it? **Which flow does
# gradient descent with momentum follow, and whom does momentum stabilise?** After a transient the past is
# a function of the present, and heavy ball follows a flow whose drift is $(1 + m)/(1 - m)$ times that of
# gradient descent of the same speed. The drift adds damping where one loss falls and takes it away
# where a game turns, so that momentum lets descent take longer steps, and a game only shorter ones.
#
# | | the literature | here |
# | --- | --- | --- |
# | optimisers | heavy ball, by derivation | heavy ball, Nesterov, RMSProp, Adam, Lion |
# | order of the drift | first | first and second, by machine |
# | judged | by derivation | by orders of convergence and exact multipliers, in double precision |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # there are no settings

# %% tags=["hide-input"]
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddlib.drift import memoryless, modified_terms
from ddlib.games import Players, gradient_field, linear_game
from ddlib.memory import optimizer_step
from ddlib.methods import RK4, runge_kutta

jax.config.update("jax_enable_x64", True)
run = page.open("momentum", profile, parameters)
claims, colors = run.claims, page.COLORS
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)

# %% [markdown]
# ## The past is a function of the present
#
# Heavy ball moves by $h\,s$, and its memory $s \leftarrow m\,s - \nabla E$ forgets like $m^n$. When the
# start is forgotten, $s = \sigma(\theta; h)$, and what is left is a step of $\theta$ alone that rests at
# $h = 0$. Such a step has a modified field to any order (see
# [backward error analysis](backward_error_analysis.py)). Any optimiser of optax will do, with the
# learning rate 1, for $h$ multiplies it:


# %%
def loss(y):
    bowl = jnp.cosh(y[0]) + y[1] ** 2 * (0.5 + 0.15 * y[0])
    return bowl + 0.1 * y[1] ** 4


field = gradient_field(loss)
start = jnp.array([0.7, -0.4])
optimiser = optax.sgd(1.0, momentum=0.5)
ball = memoryless(*optimizer_step(optimiser, field))
modified_terms(ball, order=1)(start)

# %% [markdown]
# By hand one finds for heavy ball
#
# $$
# \dot\theta = -\frac{\nabla E}{1 - m} - h\,\frac{1 + m}{2(1 - m)^3}\,\nabla^2E\,\nabla E + O(h^2),
# $$
#
# of which the machine knows nothing. The two agree to rounding: {claim}`ours-heavy-ball-drift`

# %% tags=["hide-input", "remove-output"]
gradient, hessian = jax.grad(loss)(start), jax.hessian(loss)(start)
by_hand = -1.5 / (2 * 0.5**3) * hessian @ gradient
found = modified_terms(ball, order=1)(start)[1]
apart = float(jnp.abs(found - by_hand).max() / jnp.abs(by_hand).max())
claims.record(
    "ours-heavy-ball-drift",
    holds=bool(apart <= 1e-12),
    measured={"relative_error": apart},
    data="none",
)

# %% [markdown]
# ## Five optimisers, three orders
#
# Each optimiser runs until its start is forgotten. Then one more step is held against the flows of the
# modified field, cut after the zeroth, the first and the second order of $h$. If the terms are right
# the distance falls as $h^2$, $h^3$ and $h^4$, as it does: {claim}`ours-memory-orders` Lion's sign is
# smoothed to a hyperbolic tangent, for a sign has no series.


# %% tags=["hide-input", "remove-output"]
def smooth_lion(b1, b2, width):
    def update(gradient, state, params=None):
        turned = -jnp.tanh((b1 * state + (1 - b1) * gradient) / width)
        return turned, b2 * state + (1 - b2) * gradient

    return optax.GradientTransformation(jnp.zeros_like, update)


def down(transformation):
    return optax.chain(transformation, optax.scale(-1.0))


optimisers = {
    "heavy ball": optax.sgd(1.0, momentum=0.3),
    "Nesterov": optax.sgd(1.0, momentum=0.3, nesterov=True),
    "RMSProp": down(optax.scale_by_rms(decay=0.4, eps=0.3)),
    "Adam": down(optax.scale_by_adam(b1=0.3, b2=0.4, eps=0.3)),
    "Lion, smooth": smooth_lion(0.3, 0.4, width=2.0),
}


def one_step_errors(optimiser):
    """The distance of a step from the flows of order 0, 1 and 2, as a function of h."""
    step, init = optimizer_step(optimiser, field)
    terms = modified_terms(memoryless(step, init), 2)

    def errors(h, num_steps):
        def again(_, state):
            return step(h, *state)

        y, s = jax.lax.fori_loop(0, num_steps, again, (start, init(start)))
        new, _ = step(h, y, s)

        def follow(kept):
            def cut(y):
                return (kept * h ** jnp.arange(3.0)) @ jnp.stack(terms(y))

            flow = runge_kutta(cut, RK4)
            return jax.lax.fori_loop(0, 8, lambda _, z: flow(h / 8, z), y)

        flows = jax.lax.map(follow, jnp.tril(jnp.ones((3, 3))))
        return jnp.linalg.norm(new - flows, axis=1)

    return jax.jit(errors)


sizes = {0.02: 40, 0.01: 80, 0.005: 160}  # and the steps that reach one place
rows = []
for name, optimiser in optimisers.items():
    errors = one_step_errors(optimiser)
    for h, num_steps in sizes.items():
        for order, error in enumerate(errors(h, num_steps)):
            rows.append((name, order, h, float(error)))
orders = pd.DataFrame(rows, columns=["optimiser", "order", "h", "error"])
_ = run.save("orders", orders, data="none")
slopes = {
    key: float(np.polyfit(np.log(part.h), np.log(part.error), 1)[0])
    for key, part in orders.groupby(["optimiser", "order"])
}
claims.record(
    "ours-memory-orders",
    holds=bool(max(abs(v - 2 - key[1]) for key, v in slopes.items()) <= 0.2),
    measured={
        f"slope_{name.split(',')[0].replace(' ', '_')}_{order}": value
        for (name, order), value in slopes.items()
    },
    data="none",
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "One-step error against step size on logarithmic axes, one panel for each of five optimisers. In each the errors of the flows of order zero, one and two fall as the second, third and fourth power of the step size."}, "figure": {"caption": "One step after the transient, and its distance from the flow of the modified field cut at order 0 (black), 1 (orange) and 2 (green). Grey lines: the powers 2, 3 and 4 of $h$.", "name": "fig-memory-orders"}}
looks = [colors["flow"], colors["published"], colors["modified"]]
fig, axes = plt.subplots(
    2, 3, figsize=(6.4, 4.4), sharex=True, sharey=True, layout="constrained"
)
for ax, name in zip(axes.flat, optimisers, strict=False):
    for order, color in enumerate(looks):
        part = orders[(orders.optimiser == name) & (orders.order == order)]
        ideal = part.error.iloc[0] * (part.h / part.h.iloc[0]) ** (order + 2)
        ax.loglog(part.h, ideal, color="0.8", lw=4)
        ax.loglog(part.h, part.error, "o-", color=color, ms=4)
    ax.set_title(name, fontsize="medium")
    ax.set_xticks([0.005, 0.01, 0.02], ["0.005", "0.01", "0.02"])
    ax.minorticks_off()
axes[1, 2].axis("off")
for order, color in enumerate(looks):
    axes[1, 2].text(
        0.2,
        0.7 - 0.2 * order,
        f"order {order}",
        color=color,
        transform=axes[1, 2].transAxes,
    )
axes[0, 2].tick_params(labelbottom=True)
fig.supylabel("error of one step")
fig.supxlabel("step size $h$")
plt.show()

# %% [markdown]
# ## Whom momentum stabilises
#
# Compare steps of one speed, $H = h/(1 - m)$, which is how far a gradient carries in the end. At speed
# $H$ the drift of heavy ball near an equilibrium with Jacobian $J$ is
# $-\tfrac H2\,\tfrac{1+m}{1-m}\,J^2y$: that of gradient descent, made longer. A minimum has
# $J = -\lambda$, whose square is positive: more damping. A game that turns has $J = \pm i\omega$, whose
# square is negative: less.
#
# Heavy ball is linear there, so that the exact limit is at hand: the largest $H$ at which both roots of
# $\rho^2 - (1 + m + hJ)\rho + m$ stay within the unit circle. For one loss it is known to be
# $h\lambda = 2(1 + m)$.


# %% tags=["hide-input", "remove-output"]
def largest_speed(values, momentum):
    """The largest H at which every eigenvalue's recursion decays, by bisection."""

    def stable(speed):
        h = speed * (1 - momentum)
        roots = [
            np.roots([1, -(1 + momentum + h * value), momentum])
            for value in values
        ]
        return max(np.abs(np.concatenate(roots))) < 1

    low, high = 1e-6, 1e4
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


momenta = np.round(np.linspace(-0.5, 0.9, 29), 3)
linear = linear_game(0.1, 0.1)  # DD's Eq. 10, damped a little
columns = [linear(Players(*map(jnp.asarray, e))) for e in np.eye(2)]
turning = np.linalg.eigvals(np.array(columns).T)
limits = pd.DataFrame(
    {
        "momentum": momenta,
        "descent": [largest_speed([-1.0], m) for m in momenta],
        "game": [largest_speed(turning, m) for m in momenta],
    }
)
_ = run.save("limits", limits, data="none")
known = 2 * (1 + momenta) / (1 - momenta)
claims.record(
    "ours-momentum-minimisation",
    holds=bool(
        (np.abs(limits.descent / known - 1) < 1e-6).all()
        and (np.diff(limits.descent) > 0).all()
    ),
    measured={
        "limit_at_0": float(np.interp(0, momenta, limits.descent)),
        "limit_at_0.9": float(limits.descent.iloc[-1]),
    },
    data="none",
)
claims.record(
    "ours-momentum-games",
    holds=bool((np.diff(limits.game) < 0).all()),
    measured={
        "limit_at_minus_half": float(limits.game.iloc[0]),
        "limit_at_0": float(np.interp(0, momenta, limits.game)),
        "limit_at_0.9": float(limits.game.iloc[-1]),
    },
    data="none",
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "The largest stable speed on a logarithmic axis against momentum from minus one half to nine tenths. For descent on a parabola it rises from below one to 38; for a game that turns it falls throughout. The first-order modified flow of the game, dashed, lies on the exact curve."}, "figure": {"caption": "The largest stable speed $H = h/(1 - m)$ of heavy ball: on a parabola with $\\lambda = 1$, and in DD's linear game with $\\epsilon_1 = \\epsilon_2 = 0.1$. Dashed: where the game's first-order modified flow loses stability.", "name": "fig-momentum-limits"}}
fig, ax = plt.subplots(figsize=(5.6, 3.6))
ax.semilogy(momenta, limits.descent, color=colors["euler"])
ax.semilogy(momenta, limits.game, color=colors["alternating"])
value = turning[0]
first = 2 * value.real / np.real(value**2) * (1 - momenta) / (1 + momenta)
ax.semilogy(momenta, first, "--", color=colors["modified"])
ax.text(0.35, 7, "one loss", color=colors["euler"])
ax.text(0.45, 0.11, "a game that turns", color=colors["alternating"])
ax.set_xlabel("momentum $m$")
ax.set_ylabel("largest stable speed $H$")
plt.show()

# %% [markdown]
# More momentum, longer steps: so it is where a loss falls ({claim}`ours-momentum-minimisation`). In the
# game it is the other way round, and the longest steps are those of *negative* momentum:
# {claim}`ours-momentum-games` The first-order flow says where the game's limit
# lies, for the limit is a small step; the parabola's limit is a large one, where no truncated flow says
# anything.
#
# ## What follows
#
# - `memoryless` takes any step $(h, y, s) \mapsto (y, s)$ whose memory forgets; with $m \ge 1$ it
#   refuses, for nothing is forgotten.
# - [Adaptive methods](adaptive_methods.py) asks the same of Adam on a network.
# - The series in $h$ converges to $(1 - \sqrt m)^2/\lambda$ at most: at $m = 0.9$ that is
#   a four-hundredth of $1/\lambda$. Vary `momentum=0.3` and `sizes` together.

# %% tags=["remove-input"]
run.card()
