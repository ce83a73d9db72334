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
# # General games: when interaction hurts
#
# DD's modified losses are those of zero-sum and common-payoff games. **What are they when two losses
# are neither opposite nor equal, and when does the interaction term help?** One formula covers all
# games, once the partner's gradient is frozen where the step sets out. Near an equilibrium it hurts
# simultaneous play wherever the game turns, and wherever the players pull together to a stable point; it
# helps at saddles, and in contests whose players are damped so unequally that the game does not turn.
#
# | | the talk | here |
# | --- | --- | --- |
# | games | any two losses | random polynomials; all linear games of two numbers; Dirac-GAN |
# | rates | equal | equal and unequal |
# | judged | by derivation | by orders of convergence and eigenvalues, in double precision |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # settings in place of the profile's, such as {"resolution": 60}

# %% tags=["hide-input"]
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddlib.games import (
    Players,
    common_payoff,
    dirac_gan,
    game_field,
    zero_sum,
)
from ddlib.methods import (
    RK4,
    alternating_euler,
    iterate,
    runge_kutta,
    simultaneous_euler,
)
from ddlib.modified_losses import general_game, zero_sum_game
from ddlib.regularizers import (
    DriftTerms,
    cancel_interaction,
    regularized_field,
    regularized_losses,
)
from ddlib.stability import eigenvalues, jacobian

jax.config.update("jax_enable_x64", True)
run = page.open("general_games", profile, parameters)
s, claims, colors = run.settings, run.claims, page.COLORS
equal = Players(1.0, 1.0)
if profile == "quick":  # its programs take longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)

# %% [markdown]
# ## One formula
#
# The drift of simultaneous updates in $\phi$ is
# $-\tfrac h2(f\nabla_\phi f + g\nabla_\theta f)$. The first product is a gradient,
# $\tfrac12\nabla_\phi\|f\|^2$. The second, with $f = -\nabla_\phi E_\phi$ and
# $g = -\nabla_\theta E_\theta$, is a gradient in a zero-sum game, where the two factors are one and the
# same; in general it is none. {cite:t}`rosca2023implicit` freeze $g$ at the state
# $(\phi_{t-1}, \theta_{t-1})$ from which the step sets out:
#
# $$
# \tilde E_\phi = E_\phi + \frac h4\|\nabla_\phi E_\phi\|^2 + \frac h2\,
# \nabla_\theta E_\phi^\top \nabla_\theta E_\theta(\phi_{t-1}, \theta_{t-1}),
# $$
#
# and likewise for $\theta$. That is a loss, which one can write down, differentiate and train on. The
# second player's gradient is data: what the first does to it is no part of the first's drift.


# %% tags=["hide-input"]
def polynomial(seed):
    """A random quartic of two players' vectors."""
    rng = np.random.default_rng(seed)
    a, b, c = (jnp.asarray(rng.normal(size=(3, n))) / n for n in (3, 3, 3))

    def loss(y):
        x = jnp.concatenate([y.phi, y.theta])
        z = a @ x
        return z @ (b @ x) + jnp.sum(z * z * z) / 3 + jnp.sum((c @ x) ** 4)

    return loss


one, other = polynomial(0), polynomial(1)
games = {
    "zero-sum": zero_sum(one),
    "common payoff": common_payoff(one),
    "neither": Players(one, other),
}
start = Players(jnp.array([0.5, -0.3]), jnp.array([0.4]))


# %% [markdown]
# The partner's gradient at `start` goes in as data, and what comes out can be called and differentiated:

# %%
modified = general_game(games["neither"], equal, h=0.1, start=start)
velocity = game_field(modified)(start)  # f̃ = −∇φ L̃φ and g̃ = −∇θ L̃θ
{"losses": [float(loss(start)) for loss in modified], "velocity": velocity}


# %% tags=["hide-input"]
def one_step_error(losses, modified, h):
    """From simultaneous updates to the flow of the modified losses."""
    step = simultaneous_euler(game_field(losses), equal)(h, start)
    flow = runge_kutta(game_field(modified(losses, h)), RK4)
    path = iterate(flow, h / 8, start, 8)  # to rounding, nearly
    apart = jax.tree.map(lambda p, q: jnp.sum((p[-1] - q) ** 2), path, step)
    return jnp.sqrt(apart.phi + apart.theta)


# %% [markdown]
# The talk's slides print $\tfrac h2$ before *both* terms. Which is it? Halve $h$, and see by how much
# the error of one step falls: by four where the drift is wrong, by eight where it is right.


# %% tags=["hide-input"]
def scaled(losses, h, drift, more):
    """`drift` times both terms, and (h/4)‖∇E‖² `more` times again."""
    modified = general_game(losses, equal, drift * h, start=start)
    own = DriftTerms(self_norm=more * h / 4)
    extra = regularized_losses(losses, Players(own, own))

    def of(me):
        a, b, c = (getattr(x, me) for x in (modified, extra, losses))
        return lambda y: a(y) + b(y) - c(y)

    return Players(of("phi"), of("theta"))


VARIANTS = {
    "no drift": (0.0, 0.0),
    "self h/4": (1.0, 0.0),
    "self h/2": (1.0, 1.0),
}


def not_frozen(losses, h):
    """The partner's gradient left free to be differentiated."""

    def of(me, other):
        mine, theirs = getattr(losses, me), getattr(losses, other)

        def loss(y):
            own = getattr(jax.grad(mine)(y), me)
            via = getattr(jax.grad(mine)(y), other)
            far = getattr(jax.grad(theirs)(y), other)
            return mine(y) + h / 4 * own @ own + h / 2 * via @ far

        return loss

    return Players(of("phi", "theta"), of("theta", "phi"))


sizes = 0.04 * 2.0 ** -np.arange(5)
rows = []


def add(game, variant, errors):
    for h, error in zip(sizes, errors, strict=True):
        row = {"game": game, "variant": variant, "h": h}
        rows.append(row | {"error": float(error)})


for name, losses in games.items():

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    def errors(h, drift, more, losses=losses):
        modified = partial(scaled, drift=drift, more=more)
        return one_step_error(losses, modified, h)

    for variant, weights in VARIANTS.items():
        add(name, variant, errors(sizes, *weights))
free = jax.vmap(partial(one_step_error, games["neither"], not_frozen))
add("neither", "not frozen", jax.jit(free)(sizes))
orders = pd.DataFrame(rows)
_ = run.save("orders", orders, data="none")
errors = orders.pivot(index="h", columns=["game", "variant"], values="error")
slopes = np.log2(errors.iloc[1] / errors.iloc[0])
slopes.unstack("variant").round(3)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "One-step error against step size on logarithmic axes for a game that is neither zero-sum nor common-payoff. Without drift, with half of h before the self term, and without freezing, the errors fall as the square of h; with a quarter of h and the partner frozen as the cube."}, "figure": {"caption": "A game of two unrelated losses: the distance of one simultaneous update from the flows of four pairs of losses. Only $h/4$ before the self term, with the partner's gradient frozen, is of the next order.", "name": "fig-general-orders"}}
fig, ax = plt.subplots(figsize=(5.6, 3.6))
looks = {
    "no drift": (colors["flow"], "no drift terms"),
    "self h/2": (colors["published"], "slides: self $h/2$"),
    "not frozen": (colors["rk4"], "nothing frozen"),
    "self h/4": (colors["modified"], "self $h/4$, partner frozen"),
}
ends = []
for variant, (color, label) in looks.items():
    line = errors["neither", variant]
    ax.loglog(line.index, line, "o-", color=color, ms=4)
    ends.append([np.log(line.iloc[-1]), line.index[-1], label, color])
ends.sort(key=lambda end: end[0])
for i in range(1, len(ends)):  # labels apart
    ends[i][0] = max(ends[i][0], ends[i - 1][0] + 0.75)
for height, x, label, color in ends:
    ax.text(x * 1.08, np.exp(height), label, color=color, va="center")
ax.set(xlabel="step size $h$", ylabel="error of one step")
ax.set_xlim(sizes[-1] * 0.9, sizes[0] * 3.4)
plt.show()

# %% tags=["hide-input", "remove-output"]
frozen = [slopes[g, "self h/4"] for g in games]
printed = [slopes[g, "self h/2"] for g in games]
claims.record(
    "ours-general-sum-loss",
    holds=bool(
        max(abs(slope - 3) for slope in frozen) <= 0.1
        and max(abs(slopes[g, "no drift"] - 2) for g in games) <= 0.1
    ),
    measured={f"slope_{g}": slopes[g, "self h/4"] for g in games},
    data="none",
)
claims.record(
    "erratum-slides-self-term",
    holds=bool(
        max(abs(slope - 2) for slope in printed) <= 0.1
        and max(abs(slope - 3) for slope in frozen) <= 0.1
    ),
    measured={
        "slope_h_over_2": slopes["neither", "self h/2"],
        "slope_h_over_4": slopes["neither", "self h/4"],
    },
    data="none",
)
claims.record(
    "ours-partner-must-be-frozen",
    holds=bool(abs(slopes["neither", "not frozen"] - 2) <= 0.1),
    measured={"slope_neither": slopes["neither", "not frozen"]},
    data="none",
)

# %% [markdown]
# With $h/4$ the slope is {measured}`ours-general-sum-loss:slope_neither:.3f` in the game that is
# neither, and as much in the other two: {claim}`ours-general-sum-loss`. With $h/2$ before the self term
# it is {measured}`erratum-slides-self-term:slope_h_over_2:.3f`, as if there were no drift terms at
# all: {claim}`erratum-slides-self-term` The slides' own later formula for common losses has $h/4$.
# Freezing matters as much. Where the partner's gradient is left to be differentiated, the slope is
# {measured}`ours-partner-must-be-frozen:slope_neither:.3f`: {claim}`ours-partner-must-be-frozen`
#
# ## What stays: the zero sum, and equilibria
#
# Is the modified game of a zero-sum game one too? DD remarks that it is none under alternating updates
# or unequal rates. And at equal rates, simultaneously, it is: the sum of the two losses is
# $\tfrac{(\alpha-\lambda)h}4(\|\nabla_\phi E\|^2 - \|\nabla_\theta E\|^2)$. What stays in every case is
# the equilibria, since every product in the drift has a factor that vanishes there (DD, Section 3.2).

# %%
h = 0.2
settings = {
    "simultaneous, equal rates": (equal, "simultaneous"),
    "simultaneous, rates 1 and 0.5": (Players(1.0, 0.5), "simultaneous"),
    "alternating, equal rates": (equal, "alternating"),
}
sums = {
    name: sum(
        float(loss(start))
        for loss in zero_sum_game(one, rates, h, method=method)
    )
    for name, (rates, method) in settings.items()
}
pd.Series(sums, name="L̃₁ + L̃₂ of a zero-sum game")


# %% tags=["hide-input", "remove-output"]
def resting(losses):
    """The game with linear terms that make `start` an equilibrium."""
    f = game_field(losses)(start)

    def loss(me):
        slope = getattr(f, me)
        return lambda y: getattr(losses, me)(y) + slope @ getattr(y, me)

    return Players(loss("phi"), loss("theta"))


moved = []
for losses in games.values():
    for rates, method in settings.values():
        drifting = general_game(resting(losses), rates, h, method=method)
        found = game_field(drifting)(start)
        moved.append(max(float(jnp.abs(x).max()) for x in found))
here = {m: getattr(jax.grad(one)(start), m) for m in ("phi", "theta")}
squares = here["phi"] @ here["phi"], here["theta"] @ here["theta"]
said = {
    "simultaneous, equal rates": 0.0,
    "simultaneous, rates 1 and 0.5": 0.5 * h / 4 * (squares[0] - squares[1]),
    "alternating, equal rates": h / 2 * squares[0],
}
claims.record(
    "dd-modified-games-sum",
    holds=bool(
        max(abs(sums[k] - said[k]) for k in said) <= 1e-12
        and min(abs(said[k]) for k in list(said)[1:]) >= 1e-6
    ),
    measured={
        "equal": abs(sums["simultaneous, equal rates"]),
        "unequal": sums["simultaneous, rates 1 and 0.5"],
        "alternating": sums["alternating, equal rates"],
    },
    data="none",
)
claims.record(
    "dd-equilibria-stay",
    holds=bool(max(moved) <= 1e-12),
    measured={"modified": max(moved)},
    data="none",
)

# %% [markdown]
# {claim}`dd-modified-games-sum` Equilibria stay where they are, in all three games, under all three
# ways to play ({claim}`dd-equilibria-stay`). Whether they stay *stable* is told by the Jacobian there,
# $\tilde J = J - \tfrac h2K$ (DD, Eq. 11). With $A, B, C, D$ the blocks of $J$ and $s = 1$ for
# simultaneous updates, $s = 1 - 2\alpha/\lambda$ for alternating ones,


# %%
def modified_jacobian(field, rates, method, h):
    """DD, Eq. 11, at an equilibrium."""
    J, n = jacobian(field, start), start.phi.size
    A, B, C, D = J[:n, :n], J[:n, n:], J[n:, :n], J[n:, n:]
    seen = 1.0 if method == "simultaneous" else 1 - 2 * rates.phi / rates.theta
    K = jnp.block(
        [
            [rates.phi * (A @ A + B @ C), rates.phi * (A @ B + B @ D)],
            [
                rates.theta * (seen * C @ A + D @ C),
                rates.theta * (seen * C @ B + D @ D),
            ],
        ]
    )
    return J - h / 2 * K


# %% tags=["hide-input", "remove-output"]
apart = []
for losses in map(resting, games.values()):
    for rates, method in settings.values():
        modified = general_game(losses, rates, h, method=method)
        found = jacobian(game_field(modified), start)
        said = modified_jacobian(game_field(losses), rates, method, h)
        apart.append(float(jnp.abs(found - said).max()))
claims.record(
    "dd-eq-11",
    holds=max(apart) <= 1e-12,
    measured={"largest": max(apart), "cases": len(apart)},
    data="none",
)

# %% [markdown]
# It is the Jacobian of the modified losses' field in all nine cases: {claim}`dd-eq-11`
#
# ## When interaction helps
#
# Near an equilibrium every game of two numbers is linear:
# $E_\phi = \tfrac p2\phi^2 + c\,\phi\theta$, $E_\theta = \tfrac q2\theta^2 + d\,\phi\theta$. Stretching
# $\theta$ changes $c$ and $d$ and leaves their product. So with time measured such that $p + q = 2$, two
# numbers say all: the **coupling** $cd$, negative in a contest ($c = -d$: zero-sum), positive where the
# players pull together ($c = d$: common payoff), and the **imbalance** $p - q$ of their self-damping.
#
# We ask of every such game: how fast does an exact step grow or shrink, with its interaction terms and
# with them cancelled?


# %%
def growth(coupling, imbalance, method, cancelled, h):
    """Growth of a linear game per unit of time, and whether it turns."""
    p, q = 1 + imbalance / 2, 1 - imbalance / 2

    def field(y):
        return Players(-p * y.phi - coupling * y.theta, -q * y.theta - y.phi)

    if cancelled:
        terms = cancel_interaction(equal, h, method=method)
        field = regularized_field(field, terms)
    play = {
        "simultaneous": simultaneous_euler,
        "alternating": alternating_euler,
    }[method]
    step = play(field, equal)
    origin = Players(jnp.zeros(()), jnp.zeros(()))
    multipliers = eigenvalues(lambda y: step(h, y), origin)
    turns = jnp.abs(multipliers.imag).max() > 1e-9
    return jnp.log(jnp.abs(multipliers).max()) / h, turns


# %% tags=["hide-input"]
couplings = np.linspace(-4, 4, s.resolution)
imbalances = np.linspace(-4, 4, s.resolution)
size = 0.1
maps = []
for method in ("simultaneous", "alternating"):
    over = jax.jit(
        lambda c, i, method=method: [
            growth(c, i, method, cancelled, size) for cancelled in (False, True)
        ]
    )
    grid = np.meshgrid(couplings, imbalances)
    (plain, turns), (cancelled, still) = jax.vmap(over)(
        *(jnp.asarray(g.ravel()) for g in grid)
    )
    maps.append(
        pd.DataFrame(
            {
                "coupling": grid[0].ravel(),
                "imbalance": grid[1].ravel(),
                "with": np.asarray(plain),
                "without": np.asarray(cancelled),
                "turns": np.asarray(turns),
                "still_turns": np.asarray(still),
            }
        ).assign(method=method)
    )
maps = pd.concat(maps, ignore_index=True)
maps["cost"] = maps["with"] - maps["without"]
_ = run.save("map", maps, data="none")

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Two maps over coupling and imbalance. Simultaneous: interaction hurts, in red, where the game turns, left of a parabola; in a band along that parabola, and at saddles on the right, it helps, in blue. Alternating: nearly white throughout."}, "figure": {"caption": "What the interaction term costs: growth per unit of time with it minus growth without it, for every linear game of two numbers at $h = 0.1$. Red: it hurts. Blue: it helps. Left of the black line the equilibrium is stable under the flow; left of the dotted one the players compete.", "name": "fig-interaction-map"}}
fig, axes = plt.subplots(
    1, 2, figsize=(7.4, 3.7), sharey=True, layout="constrained"
)
for ax, (method, part) in zip(
    axes, maps.groupby("method", sort=False), strict=True
):
    wide = part.pivot(index="imbalance", columns="coupling", values="cost")
    shown = ax.pcolormesh(
        wide.columns,
        wide.index,
        wide,
        cmap="RdBu_r",
        vmin=-0.25,
        vmax=0.25,
        rasterized=True,
    )
    ax.plot(1 - imbalances**2 / 4, imbalances, "k", lw=1.2)
    ax.axvline(0, color="k", lw=0.6, ls=":")
    ax.set(title=method, xlabel="coupling $cd$", xlim=(-4, 4), ylim=(-4, 4))
    ax.text(-0.2, -3.7, "contest", fontsize=9, ha="right")
    ax.text(0.2, -3.7, "together", fontsize=9)
axes[0].set_ylabel("imbalance $p - q$")
fig.colorbar(
    shown, ax=axes, label="cost of interaction", extend="both", shrink=0.9
)
plt.show()  # fmt: skip

# %% tags=["hide-input", "remove-output"]
stable = maps.coupling < 1 - maps.imbalance**2 / 4 - 1e-9
stable &= maps.coupling.abs() > 1e-9
contest, sim = maps.coupling < 0, maps.method == "simultaneous"
both = maps.turns & maps.still_turns
hurts, helps = maps.cost > 0, maps.cost < 0
turning, together = sim & both, sim & stable & ~contest
helped = sim & stable & contest & helps
share = float(helps[sim & stable & contest].mean())
typical = {
    name: float(maps.cost[where & both].abs().median())
    for name, where in (("simultaneous", sim), ("alternating", ~sim))
}
claims.record(
    "ours-interaction-hurts-rotation",
    holds=bool(hurts[turning].all()),
    measured={
        "share": float(hurts[turning].mean()),
        "games": int(turning.sum()),
    },
    data="none",
)
claims.record(
    "ours-interaction-hurts-together",
    holds=bool(hurts[together].all()),
    measured={
        "share": float(hurts[together].mean()),
        "games": int(together.sum()),
    },
    data="none",
)
claims.record(
    "ours-interaction-helps-unturning",
    holds=bool((~maps.still_turns)[helped].all() and share > 0),
    measured={"share": share, "games": int(helped.sum())},
    data="none",
)
claims.record(
    "ours-alternating-interaction-is-neutral",
    holds=bool(typical["alternating"] <= typical["simultaneous"] / 5),
    measured=typical,
    data="none",
)

# %% [markdown]
# Where the game turns, its two multipliers are a complex pair, and the interaction term adds
# $-\tfrac h2cd > 0$ to the real part of both. It hurts in every game of the map that turns with it and
# without it ({claim}`ours-interaction-hurts-rotation`), whether the losses sum to zero or not: what
# counts is the sign of $cd$. It hurts as well wherever players pull together to a stable point
# ({claim}`ours-interaction-hurts-together`): it slows the slow direction there.
#
# It helps in {measured}`ours-interaction-helps-unturning:share:.0%` of the stable contests on this map.
# All of them have players of unequal damping; cancelled, the game no longer turns, and of its two
# directions one is slower than the spiral was: {claim}`ours-interaction-helps-unturning` And it slows the
# escape from saddles, to the right of the line, where one may call that help or harm.
#
# Under alternating updates, the second player sees all of the first's move, and its term changes sign.
# The two cancel in the trace. In games that turn, the term's typical effect falls from
# {measured}`ours-alternating-interaction-is-neutral:simultaneous:.2g` to
# {measured}`ours-alternating-interaction-is-neutral:alternating:.2g` per unit of time:
# {claim}`ours-alternating-interaction-is-neutral`
#
# ## Unequal rates: cancelling, or damping?
#
# At unequal rates two pairs of coefficients are said to cancel interaction: DD's, $c_1 = \alpha h/4$ and
# $c_2 = \lambda h/4$, and those of the *joint clock*, on which the iterates live, with $\alpha$ and $\lambda$
# exchanged ([whose clock](which_clock.py)). On images DD's train better. Because they cancel better, or
# because they *damp* more? At the equilibrium of the Dirac-GAN that can be computed. A step of the game
# with $c_1\|\nabla_\theta E\|^2$ and $c_2\|\nabla_\phi E\|^2$ added has multipliers of modulus
#
# $$
# |\mu|^2 = (1 - 2\alpha h c_1 l^2)(1 - 2\lambda h c_2 l^2) + \alpha\lambda h^2 l^2
# \approx 1 + hl^2\,\bigl(\alpha\lambda h - 2(\alpha c_1 + \lambda c_2)\bigr),
# $$
#
# with $l = l'(0)$. Only the **damping** $\alpha c_1 + \lambda c_2$ enters. The joint clock's coefficients
# give $\alpha\lambda h/2$, which cancels exactly; DD's give $(\alpha^2 + \lambda^2)h/4$, which is never
# less.

# %%
losses = dirac_gan()
origin = Players(jnp.zeros(()), jnp.zeros(()))


def regularised(rates, c1, c2):
    terms = Players(DriftTerms(other_norm=c1), DriftTerms(other_norm=c2))
    field = game_field(regularized_losses(losses, terms))
    return simultaneous_euler(field, rates)


@jax.jit
def long_run(rates, h, c1, c2):
    """The radius at the end of a run, and the growth at the equilibrium."""
    step = regularised(rates, c1, c2)
    path = iterate(step, h, Players(1.0, 1.0), s.num_steps)
    multipliers = eigenvalues(lambda y: step(h, y), origin)
    growth = jnp.log(jnp.abs(multipliers).max()) / h
    return jnp.hypot(path.phi, path.theta)[-100:].mean(), growth


def coefficients(rates, h):
    """Pairs (c1, c2), each with what it is."""
    alpha, lam = rates
    more = (alpha**2 + lam**2) / (2 * alpha * lam)  # DD's damping, elsewhere
    return {
        "DD": (alpha * h / 4, lam * h / 4),
        "joint clock": (lam * h / 4, alpha * h / 4),
        "joint clock, DD's damping": (more * lam * h / 4, more * alpha * h / 4),
        "φ alone, DD's damping": (more * lam * h / 2, 0.0),
        "θ alone, DD's damping": (0.0, more * alpha * h / 2),
    }


# %% tags=["hide-input"]
rows = []
for ratio in (1.0, 2.0, 5.0):
    rates, step_size = Players(ratio, 1.0), 0.1
    for name, (c1, c2) in coefficients(rates, step_size).items():
        at_end, grows = long_run(rates, step_size, c1, c2)
        rows.append(
            {
                "ratio": ratio,
                "coefficients": name,
                "damping": (rates.phi * c1 + rates.theta * c2) / step_size,
                "growth": float(grows),
                "at_end": float(at_end),
            }
        )
damped = pd.DataFrame(rows)
_ = run.save("damping", damped, data="none")
damped.set_index(["ratio", "coefficients"]).round(5)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Growth rate at the equilibrium of the Dirac-GAN against damping, for rates in the ratios 1, 2 and 5. In each ratio the points with the damping of DD coincide, below zero; those of the joint clock are at zero."}, "figure": {"caption": "Growth at the equilibrium of the Dirac-GAN against the damping $\\alpha c_1 + \\lambda c_2$, in units of $h$, for five pairs of coefficients at each ratio of the rates. Pairs of one damping lie on one another, however it is split. Lines: the formula's first order.", "name": "fig-dirac-damping"}}
fig, ax = plt.subplots(figsize=(5.8, 3.6))
marks = dict(zip(damped.coefficients.unique(), "os^<>", strict=True))
shades = {
    1.0: colors["flow"],
    2.0: colors["alternating"],
    5.0: colors["simultaneous"],
}
for (ratio, name), row in damped.set_index(
    ["ratio", "coefficients"]
).iterrows():
    ax.plot(
        row.damping,
        row.growth,
        marks[name],
        color=shades[ratio],
        ms=8,
        mfc="none",
        label=name if ratio == 5 else None,
    )
for ratio, shade in shades.items():
    x = np.linspace(0.4, damped[damped.ratio == ratio].damping.max(), 2)
    ax.plot(x, 0.1 * 0.25 * (ratio - 2 * x) / 2, color=shade, lw=0.8)
    ax.text(
        x[-1] + 0.15,
        0.1 * 0.25 * (ratio - 2 * x[-1]) / 2,
        f"ratio {ratio:g}",
        color=shade,
        va="bottom" if ratio == 1 else "center",
    )
ax.axhline(0, color="k", lw=0.6)
ax.set(xlabel="damping / h", ylabel="growth per unit of time", xlim=(0.3, 8.4))
ax.legend(fontsize=8, loc="lower left")
plt.show()  # fmt: skip

# %% tags=["hide-input", "remove-output"]
table = damped.set_index(["ratio", "coefficients"])
five = table.loc[5.0]
same = [name for name in five.index if name != "joint clock"]
spread = float(five.growth[same].max() / five.growth[same].min() - 1)
claims.record(
    "ours-dirac-damping-not-cancelling",
    holds=bool(
        abs(spread) <= 0.05
        and five.growth["DD"] < 0
        and abs(five.growth["joint clock"]) <= 0.05 * abs(five.growth["DD"])
        and np.log(five.at_end["joint clock"]) > np.log(five.at_end["DD"]) + 1
        and abs(
            np.log(five.at_end["joint clock, DD's damping"] / five.at_end["DD"])
        )
        <= 0.1 * abs(np.log(five.at_end["DD"] / np.sqrt(2)))
    ),
    measured={
        "growth_dd": float(five.growth["DD"]),
        "growth_one_clock": float(five.growth["joint clock"]),
        "spread_at_one_damping": abs(spread),
        "radius_dd": float(five.at_end["DD"]),
        "radius_one_clock": float(five.at_end["joint clock"]),
        "radius_one_clock_matched": float(
            five.at_end["joint clock, DD's damping"]
        ),
    },
    data="none",
)

# %% [markdown]
# At rates in the ratio five, DD's coefficients shrink the radius at the rate
# {measured}`ours-dirac-damping-not-cancelling:growth_dd:.3f`, the joint clock's at
# {measured}`ours-dirac-damping-not-cancelling:growth_one_clock:.1g`: they cancel, and no more. Give
# those DD's damping, or put all of it on one player, and the rates agree to
# {measured}`ours-dirac-damping-not-cancelling:spread_at_one_damping:.1%`. From $(1, 1)$ the nonlinear game
# ends at radius {measured}`ours-dirac-damping-not-cancelling:radius_dd:.2g` with DD's pair, at
# {measured}`ours-dirac-damping-not-cancelling:radius_one_clock:.2g` with the joint clock's, and at
# {measured}`ours-dirac-damping-not-cancelling:radius_one_clock_matched:.2g` with its damping matched.
# {claim}`ours-dirac-damping-not-cancelling` So on this game what DD's coefficients do better, they do as
# damping. Whether that is why they do so on images, this game cannot say: there, match
# $\alpha c_1 + \lambda c_2$ and train.
#
# ## What follows
#
# - A contest is a matter of $cd < 0$, not of a zero sum: cancel interaction there in any game.
# - `general_game(…, start=None)` freezes at the state itself, as a flow over many steps needs.
# - Vary `size` in the map: from $h = 0.5$ on, fast directions overshoot, and cancelling helps those too.
# - Vary `equal` in the map: does the sign of $cd$ still decide at unequal rates?

# %% tags=["remove-input"]
run.card()
