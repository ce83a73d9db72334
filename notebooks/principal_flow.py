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
# # The principal flow
#
# Around a minimum the gradient flow can only slow down and stop. Gradient descent can jump over the
# minimum, oscillate about it, and leave it for good. **Is there any flow that does what gradient
# descent does when its step is too large?** There is, and {cite:t}`rosca2023continuous` found it: on a
# quadratic it passes through every iterate, and near a critical point it attracts and repels as gradient
# descent does. Its price is that between the iterates it leaves the real numbers.
#
# | | the paper | here |
# | --- | --- | --- |
# | losses | quadratics in one and two dimensions, the banana function | the same, and two saddles |
# | data | none | none |
# | how it is solved | the known solutions; an integrator | an integrator, held against the solutions |

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's, such as {"num_steps": 30}

# %% tags=["hide-input"]
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddlib.curvature import eigh
from ddlib.drift import modified_field
from ddlib.flows import (
    continued_alpha,
    critical_jacobian,
    igr_alpha,
    integrate,
    ngf_alpha,
    principal_alpha,
    series_alpha,
    spectral_field,
)
from ddlib.games import gradient_field
from ddlib.methods import RK4, euler, iterate, runge_kutta
from ddlib.stability import jacobian
from matplotlib.lines import Line2D

jax.config.update("jax_enable_x64", True)
run = page.open("principal_flow", profile, parameters)
s, claims, colors = run.settings, run.claims, page.FLOW_COLORS
ACCURATE = {"rtol": 1e-9, "atol": 1e-11, "max_steps": 20_000}
BOWL_START = (-0.35, -0.2)
PANELS = {
    0.999: "stable",
    1.8: "unstable at times",
    2.0: "never settles",
    2.1: "diverges",
}


def tidy(paths, times, **columns):
    """Paths in the plane or on the line as rows: time in steps, real and imaginary parts."""
    frames = []
    for (name, path), t in zip(paths.items(), times, strict=True):
        path = np.asarray(path, complex)
        path = np.where(
            np.isfinite(path), path, complex(np.nan, np.nan)
        )  # it ended before
        parts = {f"re{i}": path[:, i].real for i in range(path.shape[1])}
        parts |= {f"im{i}": path[:, i].imag for i in range(path.shape[1])}
        frames.append(
            pd.DataFrame({**columns, "flow": name, "time": t, **parts})
        )
    return pd.concat(frames, ignore_index=True)


def contours(ax, xs, ys, loss, levels):
    grid = jnp.stack(
        jnp.meshgrid(jnp.linspace(*xs, 160), jnp.linspace(*ys, 160)), -1
    )
    values = jax.vmap(jax.vmap(loss))(grid)
    ax.contour(
        grid[..., 0], grid[..., 1], values, levels, colors="0.8", linewidths=0.7
    )
    ax.set(xlim=xs, ylim=ys)
    ax.grid(False)


def line(frame, name):
    """The rows of one flow, in the order of time."""
    return frame[frame.flow == name].sort_values("time")


def bend(y):
    return 0.5 * (2.2 * y[0] ** 2 + 0.5 * y[1] ** 2 + 1.2 * y[0] * y[1] ** 2)


# %% [markdown]
# ## What flows cannot do
#
# All flows here have one form. With $g$ the gradient and $(\lambda_i, u_i)$ the eigenpairs of the
# Hessian,
#
# $$
# \dot\theta = \sum_i \alpha(h\lambda_i)\,(g^\top u_i)\,u_i ,
# $$
#
# and they differ in the function α alone (PF, Table 1):
#
# | flow | $\alpha(z)$, $z = h\lambda$ | what it is |
# | --- | --- | --- |
# | negative gradient flow, NGF | $-1$ | gradient descent as $h \to 0$ |
# | implicit gradient regularisation, IGR | $-(1 + z/2)$ | first-order backward error analysis ({cite:t}`barrett2021implicit`) |
# | principal flow, PF | $\log(1 - z)/z$ | all orders, of the terms in $H^p g$ |
#
# Backward error analysis of gradient descent gives the series
# $\alpha(z) = -\sum_p z^p/(p+1)$ and, from the second order on, further terms that hold third and
# higher derivatives, the *non-principal* ones. The series sums to $\log(1-z)/z$ where $|z| < 1$, and
# the principal flow is what its sum says everywhere else too.

# %%
ALPHAS = {
    "NGF": ngf_alpha,
    "IGR": igr_alpha,
    "third order": series_alpha(2),
    "PF": continued_alpha,  # log(1 - z)/z; its branch: the next chapter
}


@functools.partial(jax.jit, static_argnums=0)
def flow_paths(loss, h, y0, ts):
    """The paths of all flows from y0 at the times ts, complex arrays."""

    def path(which):  # traced: one program serves all flows
        def alpha(z):
            values = [a(z).astype(complex) for a in ALPHAS.values()]
            return jnp.select([which == k for k in range(len(values))], values)

        field = spectral_field(loss, alpha, h)
        return integrate(field, y0.astype(complex), ts, **ACCURATE)

    return jax.lax.map(path, jnp.arange(len(ALPHAS)))


# %% [markdown]
# The paper's example is $E = \theta^\top A\,\theta$ with $A = \mathrm{diag}(1, 0.01)$ from
# $(-0.35, -0.2)$; there is no ½, so that $\lambda_0 = 2$. First $h\lambda_0 = 1.8$, for many steps.


# %%
def quadratic(y):
    return y[0] ** 2 + 0.01 * y[1] ** 2


# %% tags=["hide-input"]
POINTS = 193  # of a path: one number, so that one program serves all


def followed(h, num_steps):
    """Gradient descent, and the flows at `POINTS` times in as many steps."""
    start = jnp.array(BOWL_START)
    steps = iterate(euler(gradient_field(quadratic)), h, start, num_steps)
    times = jnp.linspace(0, h * num_steps, POINTS)
    return np.asarray(steps), dict(
        zip(ALPHAS, flow_paths(quadratic, h, start, times), strict=True)
    )


def rows_of(steps, flows, **columns):
    num_steps = len(steps) - 1
    times = [
        np.arange(num_steps + 1),
        *[np.linspace(0, num_steps, POINTS)] * len(flows),
    ]
    return tidy({"gradient descent": steps, **flows}, times, **columns)


valley_steps, valley = followed(0.9, s.num_steps)
_ = run.save("valley", rows_of(valley_steps, valley), data="none")

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Two panels over the contours of an elongated quadratic. Left: one step of gradient descent leaves the curve of the gradient flow that starts at the same point. Right: gradient descent jumps from side to side of the valley while the two flows go straight to its floor and creep along it."}, "figure": {"caption": "What there is to explain. Left: a step of gradient descent (orange) and the flow that it set out to follow: the gap is discretisation drift. Right: with $h\\lambda_0 = 1.8$ gradient descent oscillates across the valley; NGF and IGR reach its floor and never cross it. (PF, Figure 1.)", "name": "fig-flows-stop"}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3))
near, size = jnp.array([-0.9, 1.3]), 0.3
one = iterate(euler(gradient_field(bend)), size, near, 1)
curve = iterate(runge_kutta(gradient_field(bend), RK4), size / 49, near, 49)
contours(left, (-1.15, 0.25), (1.0, 1.75), bend, 18)
left.plot(
    curve[:, 0], curve[:, 1], color=colors["NGF"], label="NGF for a time $h$"
)
left.plot(
    one[:, 0],
    one[:, 1],
    "o--",
    color=colors["gradient descent"],
    label="gradient descent",
)
left.annotate(
    "", curve[-1], one[-1], arrowprops={"arrowstyle": "<->", "color": "0.35"}
)
left.annotate(
    "drift",
    0.5 * (curve[-1] + one[-1]),
    (6, 6),
    textcoords="offset points",
    color="0.35",
)
left.legend(loc="lower left", fontsize=9.5)
left.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$")
frame = run.load("valley").frame
contours(right, (-0.4, 0.4), (-0.21, -0.055), quadratic, 22)
steps = line(frame, "gradient descent")
right.plot(
    steps.re0, steps.re1, "o-", lw=0.7, ms=3.5, color=colors["gradient descent"]
)
for name, width in (("NGF", 1.7), ("IGR", 3.5)):
    path = line(frame, name)
    right.plot(
        path.re0, path.re1, color=colors[name], lw=width, zorder=3 - width / 10
    )
right.plot(*BOWL_START, "k*", ms=9)
handles = [
    Line2D([], [], color=colors[n], label=n, lw=2)
    for n in ("gradient descent", "NGF", "IGR")
]
right.legend(handles=handles, loc="upper left", fontsize=9.5)
right.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$")
plt.show()

# %% tags=["hide-input", "remove-output"]
crossings = int((np.diff(np.sign(valley_steps[:, 0])) != 0).sum())
real_crossings = {
    n: int((np.asarray(valley[n]).real[:, 0] > 1e-9).sum())
    for n in ("NGF", "IGR", "third order")
}
claims.record(
    "pf-fig1-real-flows-stop",
    holds=crossings == s.num_steps and max(real_crossings.values()) == 0,
    measured={"crossings_of_gradient_descent": crossings, **real_crossings},
    data="none",
)
# %% [markdown]
# A real flow passes the floor of the valley only by standing still on it, because the gradient is
# zero there. An iterate on the other side cannot be on its path.
#
# ## The coefficients
#
# Where the eigenvalue times the step size is below one the flows differ in speed. At $z = 1$ one
# step of gradient descent lands in the minimum of that direction; past it $\log(1 - z)$ is complex,
# $\log(z - 1) + i\pi$. At $z = 2$ its real part changes sign, and the principal flow *climbs* in that
# direction where every other flow goes on descending.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Left: coefficients of the flows against h lambda from 0 to 3. NGF is constant at minus one, IGR a falling line, the real part of PF falls to minus infinity at 1, comes back and crosses zero at 2; its imaginary part is zero below 1 and pi over z above. Right: growth per step of each flow near a minimum, with gradient descent's as dots lying on PF."}, "figure": {"caption": "Left: the coefficients α of the flows. Right: how fast a displacement in an eigendirection of a minimum grows in one step, the real part of the eigenvalue $\\alpha(z)z$ of the flow's Jacobian (PF, Eq. 16), and gradient descent's own, $\\log|1 - z|$. Only PF has the sign right past $z = 2$. (PF, Figure 3.)", "name": "fig-coefficients"}}
z = jnp.concatenate(
    [jnp.linspace(0, 0.9999, 400), jnp.linspace(1.0001, 3.2, 600)]
)
alpha = principal_alpha(z)
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4))
for name, values in (
    ("NGF", ngf_alpha(z)),
    ("IGR", igr_alpha(z)),
    ("third order", series_alpha(2)(z)),
):
    left.plot(z, values, color=colors[name], label=name)
    right.plot(z, values * z, color=colors[name], label=name)
left.plot(z, alpha.real, color=colors["PF"], label="PF, real part")
left.plot(z, alpha.imag, ":", color=colors["PF"], label="PF, imaginary part")
right.plot(z, (alpha * z).real, color=colors["PF"], label="PF")
dots = jnp.array([0.3, 0.6, 0.9, 1.1, 1.4, 1.7, 2.0, 2.3, 2.6, 2.9])
right.plot(
    dots,
    jnp.log(jnp.abs(1 - dots)),
    "o",
    color=colors["gradient descent"],
    label="gradient descent",
)
for ax in (left, right):
    ax.axhline(0, color="0.4", lw=0.8)
    for x in (1, 2):
        ax.axvline(x, color="0.6", lw=0.8, ls=(0, (2, 2)))
    ax.set_xlabel(r"$z = h\lambda$")
left.set(ylabel=r"$\alpha(z)$", ylim=(-5, 3.4))
right.set(ylabel=r"$\mathrm{Re}\;\alpha(z)\,z$", ylim=(-4.2, 1.2))
left.legend(fontsize=9, loc="lower right", labelspacing=0.25)
right.legend(fontsize=9, loc="lower right", labelspacing=0.25)
plt.show()


# %% tags=["hide-input", "remove-output"]
# Table 1, from the other side: what one step of gradient descent, and the modified field of its
# first order, do along each eigendirection of a rotated bowl, per unit of its gradient there.
def measured_alphas(products, angle=0.4):
    turn = jnp.array(
        [[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]
    )
    hessian = turn @ jnp.diag(jnp.asarray(products)) @ turn.T
    at = turn @ jnp.array([0.7, -0.4])

    def bowl(y):
        return 0.5 * y @ hessian @ y

    def parts(vector):
        return (turn.T @ vector) / (turn.T @ jax.grad(bowl)(at))

    step = euler(gradient_field(bowl))
    multipliers = (turn.T @ step(1.0, at)) / (turn.T @ at)
    independent = {
        "NGF": parts(gradient_field(bowl)(at)),
        "IGR": parts(modified_field(step, 1.0, order=1)(at)),
        "PF": jnp.log(multipliers.astype(complex)) / jnp.asarray(products),
    }
    return {
        name: (
            np.asarray(parts(spectral_field(bowl, ALPHAS[name], 1.0)(at))),
            np.asarray(value),
        )
        for name, value in independent.items()
    }


rows = []
for pair in ((0.3, 0.8), (0.6, 1.5), (1.2, 1.9), (0.9, 2.1), (1.7, 3.0)):
    for name, (ours, independent) in measured_alphas(pair).items():
        rows += [
            {"flow": name, "gap": abs(a / b - 1)}
            for a, b in zip(ours, independent, strict=True)
        ]
gap = pd.DataFrame(rows).groupby("flow").gap.max()
claims.record(
    "pf-table-1",
    holds=bool(gap.max() <= 1e-9),
    measured={name.lower(): gap[name] for name in gap.index},
    data="none",
)
fine = jnp.arange(1, 640) / 200 + 1 / 400  # never exactly 1 or 2
a = np.asarray(principal_alpha(fine).astype(complex))
turns = np.flatnonzero(np.diff(np.sign(a.real)) != 0)
leaves = np.flatnonzero(np.diff(a.imag != 0))
claims.record(
    "pf-fig3-switches",
    holds=bool(
        len(turns) == len(leaves) == 1
        and fine[turns[0]] < 2 < fine[turns[0] + 1]
        and fine[leaves[0]] < 1 < fine[leaves[0] + 1]
        and (a.real[: turns[0] + 1] < 0).all()
        and (np.diff(a.imag[leaves[0] + 1 :]) < 0).all()
        and (ngf_alpha(fine) < 0).all()
        and (igr_alpha(fine) < 0).all()
    ),
    measured={
        "real_until": fine[leaves[0]],
        "complex_from": fine[leaves[0] + 1],
        "negative_until": fine[turns[0]],
        "positive_from": fine[turns[0] + 1],
    },
    data="none",
)

# %% [markdown]
# The switches are where the paper has them ({claim}`pf-fig3-switches`), and one step of gradient descent
# gives the same coefficients as the table ({claim}`pf-table-1`).
#
# What does the sign decide? Along such a flow the loss changes by
# $\dot E = \sum_i\alpha(h\lambda_i)(g^\top u_i)^2$ (PF, Eq. 15). So its real part falls as long as every
# $h\lambda_i$ is below two, and past two that depends on the gradient: on how much of it lies along the
# sharpest direction. We differentiate the banana function along the principal field, at random points.


# %% tags=["hide-input", "remove-output"]
def valley_of_bananas(y):
    return (1 - y[0]) ** 2 + 100 * (y[1] - y[0] ** 2) ** 2


@jax.jit
def along(y, product):
    """Re dE/dt by differentiating E along PF, Eq. 15's sum, and α of the largest eigenvalue."""
    values, vectors = jnp.linalg.eigh(jax.hessian(valley_of_bananas)(y))
    size = product / values[-1]
    slope = jax.grad(valley_of_bananas)(y)
    velocity = spectral_field(valley_of_bananas, continued_alpha, size)(y)
    total = (
        principal_alpha(size * values).real * (vectors.T @ slope) ** 2
    ).sum()
    rate = jax.jvp(valley_of_bananas, (y,), (velocity.real,))[1]
    return rate, total, principal_alpha(size * values)[-1].real


points = jax.random.uniform(
    jax.random.key(0), (400, 2), minval=-1.5, maxval=1.5
)
rates = pd.concat(
    pd.DataFrame(
        dict(
            zip(
                ("rate", "sum", "alpha"),
                map(
                    np.asarray,
                    jax.vmap(lambda y, p=product: along(y, p))(points),
                ),
                strict=True,
            )
        )
    ).assign(product=product)
    for product in (0.5, 1.5, 3.0)
)
falls = (rates.rate < 0).groupby(rates["product"]).mean()
signs = np.sign(rates.alpha).groupby(rates["product"]).agg(["min", "max"])
claims.record(
    "pf-eq15-signs",
    holds=bool(
        np.abs(rates.rate / rates["sum"] - 1).max() <= 1e-6
        and falls[0.5] == falls[1.5] == 1
        and 0 < falls[3.0] < 1
        and (signs.loc[[0.5, 1.5]] == -1).all(axis=None)
        and (signs.loc[3.0] == 1).all()
    ),
    measured={
        "points": len(points),
        "falls_at_0.5": falls[0.5],
        "falls_at_1.5": falls[1.5],
        "falls_at_3": falls[3.0],
        "gap": np.abs(rates.rate / rates["sum"] - 1).max(),
    },
    data="none",
)

# %% [markdown]
# With the largest $h\lambda$ at 0.5 or 1.5 the real part of the loss falls at every point; at 3 it still
# falls at {measured}`pf-eq15-signs:falls_at_3:share` of them: {claim}`pf-eq15-signs`.
#
# The right panel is PF's stability analysis (Section 3.2): at a critical point the Jacobian of such
# a flow is $\alpha(hH)H$. We check it by differentiating the fields themselves, through the
# eigendecomposition, at the minimum of the banana function
# $E = (1 - \theta_0)^2 + 100(\theta_1 - \theta_0^2)^2$, whose largest eigenvalue is 1001.6, and against
# what gradient descent does there.


# %%
def banana(y):
    return (1 - y[0]) ** 2 + 100 * (y[1] - y[0] ** 2) ** 2


@functools.partial(jax.jit, static_argnums=0)
def jacobians(name, h):
    """By differentiating the field, and α(hH)H."""
    field = spectral_field(banana, ALPHAS[name], h)
    formula = critical_jacobian(banana, ALPHAS[name], jnp.ones(2), h)
    return jacobian(field, jnp.ones(2)), formula


# %% tags=["hide-input"]
bottom = jnp.ones(2)
lambdas = eigh(banana, bottom).values
rows = []
for product in (0.5, 1.5, 1.9, 2.1, 3.0):
    h = product / float(lambdas[0])
    for name in ("NGF", "IGR", "PF"):
        direct, formula = map(np.linalg.eigvals, jacobians(name, h))
        order = np.argsort(np.abs(direct)), np.argsort(np.abs(formula))
        gap = (
            np.abs(direct[order[0]] - formula[order[1]]).max()
            / np.abs(formula).max()
        )
        rows.append(
            {
                "h lambda": product,
                "flow": name,
                "attracts": bool((formula.real < 0).all()),
                "gap": gap,
                "top": formula[order[1][-1]],
            }
        )
    away = bottom + 1e-6 * jnp.array([2.0, -1.0]) / 5**0.5
    end = iterate(euler(gradient_field(banana)), h, away, 40)[-1]
    grew = bool(jnp.linalg.norm(end - bottom) > 1e-6)
    rows.append(
        {"h lambda": product, "flow": "gradient descent", "attracts": not grew}
    )
verdicts = pd.DataFrame(rows)
verdicts.pivot(index="h lambda", columns="flow", values="attracts")

# %% tags=["hide-input", "remove-output"]
attracts = verdicts.pivot(
    index="h lambda", columns="flow", values="attracts"
).astype(bool)
claims.record(
    "pf-section-3-2-stability",
    holds=bool(
        verdicts.gap.max() <= 1e-6
        and (attracts["PF"] == attracts["gradient descent"]).all()
        and attracts["NGF"].all()
        and attracts["IGR"].all()
        and not attracts["gradient descent"].all()
    ),
    measured={
        "largest_relative_gap": verdicts.gap.max(),
        "step_sizes": len(attracts),
        "agreeing": int((attracts["PF"] == attracts["gradient descent"]).sum()),
    },
    data="none",
)
igr = verdicts[verdicts.flow == "IGR"]
hs = igr["h lambda"] / float(lambdas[0])
right_value = -float(lambdas[0]) - hs * float(lambdas[0]) ** 2 / 2
printed = -float(lambdas[0]) - hs**2 * float(lambdas[0]) ** 2 / 2
found = np.real(igr.top.to_numpy())
claims.record(
    "erratum-pf-igr-eigenvalue",
    holds=bool(
        np.abs(found / right_value - 1).max() <= 1e-6
        and np.abs(found / printed - 1).min() > 0.1
    ),
    measured={
        "gap_to_h": np.abs(found / right_value - 1).max(),
        "gap_to_h_squared": np.abs(found / printed - 1).min(),
    },
    data="none",
)

# %% [markdown]
# Over {measured}`pf-section-3-2-stability:step_sizes` step sizes PF and gradient descent agree in
# {measured}`pf-section-3-2-stability:agreeing` verdicts; NGF and IGR attract always:
# {claim}`pf-section-3-2-stability`. For IGR the eigenvalue is $-\lambda - h\lambda^2/2$
# ({claim}`erratum-pf-igr-eigenvalue`; the text at hand prints $h^2$).
#
# ### Saddles
#
# A saddle repels every flow along its negative directions. The principal flow is repelled along sharp
# *positive* ones too, $h\lambda > 2$, which could be why networks do not end in saddles that have no
# negative direction at all. Two functions whose critical point is the origin: one strict saddle, and one
# that falls along a direction of zero curvature, as $-y^3$ does.

# %%
SADDLES = {
    "strict": lambda y: 0.5 * y[0] ** 2 - 0.15 * y[1] ** 2 + y[0] * y[1] ** 2,
    "not strict": lambda y: 0.5 * y[0] ** 2 - y[1] ** 3 + y[0] * y[1] ** 2,
}

# %% tags=["hide-input"]
rows = []
for kind, loss in SADDLES.items():
    rest = jnp.zeros(2)
    values, vectors = jnp.linalg.eigh(jax.hessian(loss)(rest))
    for h in (0.5, 1.5, 3.0):
        multipliers = 1 - h * np.asarray(values)  # of gradient descent
        for name in ("NGF", "IGR", "PF"):
            turned = (
                vectors.T
                @ critical_jacobian(loss, ALPHAS[name], rest, h)
                @ vectors
            )
            growth = np.diag(np.asarray(turned)).real
            for i in range(2):
                rows.append(
                    {
                        "saddle": kind,
                        "h": h,
                        "flow": name,
                        "h lambda": h * float(values[i]),
                        "growth": growth[i],
                        "descent": np.log(abs(multipliers[i])) / h,
                    }
                )
saddles = pd.DataFrame(rows).assign(
    repels=lambda d: d.growth > 1e-9, descent_repels=lambda d: d.descent > 1e-9
)
saddles.pivot_table(
    index=["saddle", "h lambda"], columns="flow", values="repels", aggfunc="max"
)

# %% tags=["hide-input", "remove-output"]
down = saddles[saddles["h lambda"] < -1e-9]
sharp = saddles[saddles["h lambda"] > 2]
pf = saddles[saddles.flow == "PF"]
claims.record(
    "pf-saddles-repel",
    holds=bool(
        down[down.flow.isin(["NGF", "PF"])].repels.all()
        and sharp[sharp.flow == "PF"].repels.all()
        and not sharp[sharp.flow != "PF"].repels.any()
        and (pf.repels == pf.descent_repels).all()
        and set(sharp.saddle) == set(SADDLES)
    ),
    measured={
        "directions": len(pf),
        "agreeing_with_descent": int((pf.repels == pf.descent_repels).sum()),
        "sharp_directions": len(sharp[sharp.flow == "PF"]),
    },
    data="none",
)

# %% [markdown]
# The principal flow repels where gradient descent does in all
# {measured}`pf-saddles-repel:directions` cases, the flat saddle's sharp direction among them, to which
# NGF and IGR are attracted: {claim}`pf-saddles-repel`
#
# ## One dimension, exactly
#
# On $E = \tfrac12 z^2$ the principal flow is $z(t) = (1-h)^{t/h}z(0)$. It passes through $(1-h)^n z(0)$
# at every $t = nh$; in between, once $h > 1$, it turns through the complex plane by half a circle a
# step.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Three rows for h = 0.8, 1.5 and 2.1. Left column: real and imaginary part of the flow against time with gradient descent's iterates on the real part. Right column: the same in the complex plane: a straight line to the origin, an inward spiral, an outward spiral."}, "figure": {"caption": "PF on $\\frac12 z^2$ in its three regimes. Left: real part (solid) and imaginary part (dotted) against time, with gradient descent's iterates. Right: in the complex plane. (PF, Figure 4.)", "name": "fig-one-dimension"}}
fig, axes = plt.subplots(3, 2, figsize=(7.2, 6.4), width_ratios=[2.1, 1])
for (left, right), h, title in zip(
    axes,
    (0.8, 1.5, 2.1),
    (
        "real, stable: $h\\lambda_0 = 0.8$",
        "complex, stable: $1.5$",
        "complex, unstable: $2.1$",
    ),
    strict=True,
):
    n = np.arange(9)
    t = np.linspace(0, 8, 801)
    path = np.exp(t * np.log(complex(1 - h)))
    left.plot(t, path.real, color=colors["PF"])
    left.plot(t, path.imag, ":", color=colors["PF"])
    left.plot(t, np.exp(-h * t), color=colors["NGF"], lw=1)
    left.plot(n, (1 - h) ** n, "o", color=colors["gradient descent"])
    left.set_title(title)
    right.plot(path.real, path.imag, color=colors["PF"])
    right.plot((1 - h) ** n, 0 * n, "o", color=colors["gradient descent"])
    reach = 1.1 * max(1, np.abs(path).max())
    right.set(
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="equal",
        ylabel=r"$\mathrm{Im}\,z$",
    )
axes[0, 0].text(1.3, 0.36, "NGF", color=colors["NGF"])
axes[0, 0].text(
    3.2, 0.06, "PF and gradient descent", color=colors["PF"], va="bottom"
)
axes[-1, 0].set_xlabel("$t/h$")
axes[-1, 1].set_xlabel(r"$\mathrm{Re}\,z$")
plt.show()


# %% tags=["hide-input", "remove-output"]
# The flow itself is integrated, and held against its known solution, eight points to a step.
@jax.jit
def on_the_line(h, ts):
    field = spectral_field(lambda y: 0.5 * y[0] ** 2, continued_alpha, h)
    return integrate(field, jnp.ones(1, complex), ts * h, **ACCURATE)[:, 0]


rows, ts = [], jnp.linspace(0, 8, 65)
for h in (0.8, 1.5, 2.1):
    path = on_the_line(h, ts)
    known = np.exp(np.asarray(ts) * np.log(complex(1 - h)))
    size, half = (
        np.abs(path),
        np.asarray(path)[4::8],
    )  # half-way between iterates
    rows.append(
        {
            "h": h,
            "gap": np.abs(np.asarray(path) - known).max(),
            "shrinks": bool((np.diff(size) < 0).all()),
            "grows": bool((np.diff(size) > 0).all()),
            "imaginary": float((np.abs(half.imag) / np.abs(half)).min()),
        }
    )
line_flow = pd.DataFrame(rows).set_index("h")
claims.record(
    "pf-fig4-regimes",
    holds=bool(
        line_flow.gap.max() <= 1e-7
        and line_flow.shrinks[[0.8, 1.5]].all()
        and line_flow.grows[2.1]
        and line_flow.imaginary[0.8] == 0
        and line_flow.imaginary[[1.5, 2.1]].min() >= 1 - 1e-6
    ),
    measured={
        "largest_gap": line_flow.gap.max(),
        "imaginary_share_at_1.5": line_flow.imaginary[1.5],
    },
    data="none",
)

# %% [markdown]
# Integrated, the flow is the known solution in all three regimes: {claim}`pf-fig4-regimes` Half-way
# between two iterates it has no real part at all, and its whole distance from the minimum is imaginary.
#
# ## Quadratics in two dimensions
#
# The released notebook takes four learning rates, $h\lambda_0 = 1, 1.8, 2$ and $2.1$. We integrate the
# principal flow numerically, field and all, rather than draw its known solution: what is tested is
# the flow. At exactly $h\lambda_0 = 1$ its field is infinite (gradient descent lands in the minimum in
# one step), so that panel shows $h\lambda_0 = 0.999$, where gradient descent is the same to the eye.

# %%
found = {product: followed(product / 2, 12) for product in PANELS}

# %% tags=["hide-input", "remove-output"]
_ = run.save(
    "paths",
    pd.concat(
        rows_of(*paths, **{"h lambda": product})
        for product, paths in found.items()
    ),
    data="none",
)
rows = []
for product, (steps, flows) in found.items():
    for name, path in flows.items():
        gap = np.linalg.norm(np.asarray(path[::16]) - steps, axis=1)
        rows.append(
            {"h lambda": product, "flow": name, "largest_distance": gap.max()}
        )
distances = pd.DataFrame(rows)
_ = run.save("quadratics", distances, data="none")

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Four panels of the first coordinate against time, for h lambda of 0.999, 1.8, 2.0 and 2.1. The real part of PF passes through every iterate of gradient descent; NGF and IGR decay to zero in all panels."}, "figure": {"caption": "The first coordinate of $E = \\theta^\\top A\\theta$ against time. The real part of PF passes through every iterate of gradient descent in all regimes; NGF and IGR know only one. (PF, Figure 5.)", "name": "fig-quadratics"}}
fig, axes = plt.subplots(2, 2, figsize=(7.2, 5.0), sharex=True)
frame = run.load("paths").frame
for ax, (product, title) in zip(axes.flat, PANELS.items(), strict=True):
    part = frame[frame["h lambda"] == product]
    for name, width in (("NGF", 1.2), ("IGR", 1.2), ("PF", 1.7)):
        one = line(part, name)
        ax.plot(one.time, one.re0, color=colors[name], lw=width)
    one = line(part, "gradient descent")
    ax.plot(one.time, one.re0, "o", ms=4, color=colors["gradient descent"])
    ax.set_title(rf"$h\lambda_0 = {product:g}$: {title}")
    ax.set_ylabel(r"$\mathrm{Re}\,\theta_0$")
for ax in axes[-1]:
    ax.set_xlabel("$t/h$")
handles = [
    Line2D([], [], color=colors[n], marker="o" if n == "gradient descent" else None,
           lw=0 if n == "gradient descent" else 2, label=n)
    for n in ("gradient descent", "NGF", "IGR", "PF")
]  # fmt: skip
fig.legend(handles=handles, loc="outside lower center", ncols=4)
plt.show()

# %% tags=["hide-input", "remove-output"]
gaps = distances.pivot(
    index="flow", columns="h lambda", values="largest_distance"
)
claims.record(
    "pf-fig5-exact",
    holds=bool(
        gaps.loc["PF"].max() <= 1e-7
        and gaps.loc[["NGF", "IGR"], 1.8:].min().min() >= 0.1
    ),
    measured={
        "pf": gaps.loc["PF"].max(),
        "ngf": gaps.loc["NGF", 1.8:].min(),
        "igr": gaps.loc["IGR", 1.8:].min(),
    },
    data="none",
)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Left: the plane of the two real coordinates, gradient descent jumping across the valley, and the real part of PF following it. Right: a three-dimensional curve of the first coordinate, real part, imaginary part and time: a helix that shrinks and passes through the iterates on the real plane."}, "figure": {"caption": "How to pass a minimum without standing still in it: around it. $h\\lambda_0 = 1.8$. Left: in the real plane the flows stop at the floor; PF's real part does not. Right: the first coordinate's real and imaginary part against time, a helix through gradient descent's iterates, which lie in the real plane (grey). (PF, Figure 2.)", "name": "fig-helix"}}
frame = run.load("paths").frame
frame = frame[frame["h lambda"] == 1.8]
steps, pf = line(frame, "gradient descent"), line(frame, "PF")
fig = plt.figure(figsize=(7.2, 3.6))
left = fig.add_subplot(1, 2, 1)
contours(left, (-0.4, 0.4), (-0.21, -0.12), quadratic, 22)
left.plot(pf.re0, pf.re1, color=colors["PF"], lw=1.2, label="PF, real part")
for name in ("NGF", "IGR"):
    one = line(frame, name)
    left.plot(one.re0, one.re1, color=colors[name], label=name)
left.plot(
    steps.re0,
    steps.re1,
    "o",
    color=colors["gradient descent"],
    label="gradient descent",
)
left.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$")
left.legend(fontsize=8.5, loc="upper right", framealpha=0.9, frameon=True)
right = fig.add_subplot(1, 2, 2, projection="3d")
right.plot(pf.time, pf.im0, pf.re0, color=colors["PF"])
right.plot(
    steps.time,
    steps.im0,
    steps.re0,
    "o",
    ms=4,
    color=colors["gradient descent"],
)
plane = np.meshgrid([0, 12], [-0.4, 0.4])
right.plot_surface(plane[0], 0 * plane[0], plane[1], color="0.6", alpha=0.18)
right.set(ylim=(-0.35, 0.35), zlim=(-0.4, 0.4))
right.set_xlabel("$t/h$", labelpad=-4)
right.set_ylabel(r"$\mathrm{Im}\,\theta_0$", labelpad=-2)
right.set_zlabel(r"$\mathrm{Re}\,\theta_0$", labelpad=-4)
right.tick_params(labelsize=8, pad=-1)
right.set_yticks([-0.3, 0, 0.3])
right.set_zticks([-0.4, -0.2, 0, 0.2, 0.4])
right.view_init(22, -60)
right.set_box_aspect((1.5, 1, 1), zoom=0.8)
plt.show()

# %% tags=["hide-input", "remove-output"]
# Remark 3.1 with b ≠ 0: A = diag(1, 0.3), b = (0.5, -0.4), h = 0.6, against gradient descent.
values, b, h = np.array([1.0, 0.3]), np.array([0.5, -0.4]), 0.6
start, n = np.array([0.7, -0.2]), 5
descent = iterate(
    euler(gradient_field(lambda y: 0.5 * y @ (values * y) + b @ y)),
    h,
    jnp.asarray(start),
    n,
)[-1]
power = (1 - h * values) ** n
as_printed = power * start + n * h * np.log(1 - h * values) / (h * values) * b
corrected = power * (start + b / values) - b / values
claims.record(
    "erratum-pf-remark-3-1",
    holds=bool(
        np.abs(corrected - descent).max() <= 1e-12
        and np.abs(as_printed - descent).max() > 0.1
    ),
    measured={
        "printed": np.abs(as_printed - descent).max(),
        "corrected": np.abs(corrected - descent).max(),
    },
    data="none",
)

# %% [markdown]
# The largest distance between PF and an iterate is {measured}`pf-fig5-exact:pf:.1g`, the integrator's
# error; NGF and IGR are off by at least {measured}`pf-fig5-exact:ngf:.2g` and
# {measured}`pf-fig5-exact:igr:.2g` from $h\lambda_0 = 1.8$ on: {claim}`pf-fig5-exact`. Real flows never
# cross the floor ({claim}`pf-fig1-real-flows-stop`). The paper's closed form of the solution for a
# linear term $b \ne 0$ (Remark 3.1) needs a correction, {claim}`erratum-pf-remark-3-1`; see the
# [errata](../book/errata.md).
#
# ## What follows
#
# Where $h\lambda$ is below one the flows differ in speed, and any of them will do. Where it is above one,
# only a complex flow can describe a step; above two only its sign is right. On a loss that is not
# quadratic the Hessian changes on the way, and the logarithm has a branch to choose:
# [the next chapter](beyond_quadratics.py).

# %% tags=["remove-input"]
run.card("quadratics", "paths", "valley")

# %% [markdown]
# ## What to vary
#
# - `ALPHAS`: any function of $z = h\lambda$ is a flow. `ddlib.flows.positive_alpha` climbs.
# - `series_alpha(2)`: does a longer series get past the floor?
# - `BOWL_START` on the valley's floor: where does the oscillation come from then?
