# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [measure_flows_at_scale]
# ---

# %% [markdown]
# # The principal flow at scale
#
# The principal flow needs $\log(1 - hH)$ of the Hessian, and {cite:t}`rosca2023continuous` stop at small
# networks, because "finding all eigenvalues" is out of reach for large ones. But nobody needs all
# eigenvalues. What is wanted is one vector, $f(H)g$, and for that a few products $Hv$ are enough.
# **How few, when can the result be trusted, and what does the flow say about a network that no
# eigendecomposition can reach?**

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # a chapter that only reads tables has none

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page

run = page.open("principal_flow_at_scale", profile, parameters)
claims, colors = run.claims, page.FLOW_COLORS
TABLES = ("lanczos", "costs", "prediction")
TARGETS = (0.5, 0.9, 1.1, 1.5, 2.0, 3.0, 8.0)
PHASES = ("stable", "complex, stable", "unstable")
here = {name: run.load(name, "measure_flows_at_scale") for name in TABLES}
shown = {
    name: run.published(name, "measure_flows_at_scale") or here[name]
    for name in TABLES
}

# %% [markdown]
# ## Lanczos from the gradient
#
# The Krylov space of $k$ products is spanned by $g, Hg, \dots, H^{k-1}g$. In an orthonormal basis $Q$ of
# it that starts with $g$, the Hessian is a small tridiagonal matrix $T$, and
#
# $$
# \alpha(hH)\,g \;\approx\; \|g\|\, Q\, \alpha(hT)\, e_1 .
# $$
#
# It is exact for polynomials of degree below $k$: NGF, IGR and the third-order flow by one, two and
# three products. For the logarithm the error falls geometrically where all $h\lambda_i < 1$. Beyond, the
# function has a singularity *inside* the spectrum, at $h\lambda = 1$, and each eigenvalue above it has to
# be found by the Krylov space first. So it is not the number of parameters that costs, but the number
# of eigenvalues above $1/h$.
#
# The whole algorithm, for a symmetric matrix that is known by its products alone:


# %%
def lanczos(matvec, g, k):
    """An orthonormal basis Q (rows) of k products, and T = QHQᵀ."""
    Q, T, q = np.zeros((k, len(g))), np.zeros((k, k)), g / np.linalg.norm(g)
    for i in range(k):
        Q[i] = q
        w = matvec(q)
        T[: i + 1, i] = Q[: i + 1] @ w
        for _ in range(2):  # orthogonal to rounding
            w = w - (Q[: i + 1] @ w) @ Q[: i + 1]
        T[i + 1 : i + 2, i] = np.linalg.norm(w)
        q = w / np.linalg.norm(w)
    return Q, (T + T.T) / 2


def principal_field(matvec, g, h, k):
    """‖g‖ Qᵀ α(hT) e₁ with α(z) = log(1 − z)/z."""
    Q, T = lanczos(matvec, g, k)
    values, vectors = np.linalg.eigh(T)
    alpha = np.log(1 - h * values + 0j) / (h * values)
    return np.linalg.norm(g) * (vectors @ (alpha * vectors[0])) @ Q


# %% [markdown]
# Try it where the answer is known: ten thousand parameters, eigenvalues $1, \tfrac12, \tfrac13, \dots$,
# a step size that puts two of them above $1/h$, and the relative error by the number of products.

# %%
spectrum = 1 / np.arange(1, 10_001)
g, h = np.random.default_rng(0).normal(size=10_000), 2.2
exact = np.log(1 - h * spectrum + 0j) / (h * spectrum) * g
errors = {}
for k in (2, 5, 10, 20, 30):
    found = principal_field(lambda v: spectrum * v, g, h, k)
    errors[k] = np.linalg.norm(found - exact) / np.linalg.norm(exact)
pd.Series(errors, name="relative error").rename_axis("products").to_frame().T

# %% [markdown]
# `ddlib.curvature.krylov` is this on pytrees, compiled, and also for the complex symmetric Hessian of a
# complex state; `spectral_field(loss, alpha, h, num_matvecs=20)` is the field.
#
# ## On a network
#
# Small MLPs are trained on handwritten digits for a while, once with their labels and once with random
# ones, whose Hessian has many more large eigenvalues, and the Krylov field is held against the full
# eigendecomposition ([the runs](measure_flows_at_scale.py)).

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Two panels, true and random labels, of relative error of the Krylov field against the number of products, a line for each h lambda from 0.5 to 8; lines fall geometrically to rounding, the faster the smaller h lambda; dotted lines for float32 stop between 1e-6 and 1e-4."}, "figure": {"caption": "Relative error of the principal field by $k$ Hessian-vector products, against the full eigendecomposition; in brackets the number of eigenvalues above $1/h$. Solid: float64; dotted: all in float32.", "name": "fig-lanczos"}}
frame = shown["lanczos"].frame
fig, axes = plt.subplots(1, 2, figsize=(7.4, 4.2), sharey=True)
shades = dict(
    zip(
        TARGETS, plt.cm.cividis(np.linspace(0, 0.93, len(TARGETS))), strict=True
    )
)
for ax, (kind, group) in zip(
    axes, frame.groupby("data", sort=False), strict=True
):
    for (target, dtype), one in group.groupby(["h lambda", "dtype"]):
        style = "-" if dtype == "float64" else ":"
        label = (
            f"{target:g} ({one.above.iloc[0]})" if dtype == "float64" else None
        )
        ax.semilogy(
            one.products,
            one.error,
            style,
            color=shades[target],
            lw=1.4,
            label=label,
        )
    ax.set(title=kind, xlabel="products", ylim=(1e-16, 2))
    ax.legend(
        title=r"$h\lambda_0$ (above)",
        fontsize=8,
        title_fontsize=9,
        ncols=2,
        loc="upper right",
    )
axes[0].set_ylabel("relative error")
plt.show()

# %% tags=["hide-input", "remove-output"]
krylov = here["lanczos"].frame
double = krylov[krylov.dtype == "float64"]
single = krylov[krylov.dtype == "float32"]


def needed(frame, kind, target, tolerance):
    """The least number of products from which on the error stays below the tolerance."""
    one = frame[
        (frame.data == kind) & (frame["h lambda"] == target)
    ].sort_values("products")
    bad = one.products[one.error > tolerance]
    return int(bad.max()) + 1 if len(bad) else int(one.products.min())


counts = {t: needed(double, "digits", t, 1e-6) for t in TARGETS}
random_counts = {t: needed(double, "random labels", t, 1e-6) for t in TARGETS}
claims.record(
    "ours-krylov-products",
    holds=max(counts[t] for t in (0.5, 0.9, 1.1, 1.5, 2.0)) <= 30,
    measured={
        "parameters": int(krylov.parameters.iloc[0]),
        **{f"products_at_{t:g}": n for t, n in counts.items()},
        **{f"random_products_at_{t:g}": n for t, n in random_counts.items()},
        "random_above_at_8": int(
            double[
                (double.data == "random labels") & (double["h lambda"] == 8)
            ].above.iloc[0]
        ),
    },
    data=here["lanczos"],
)
honest = double[(double.products >= 6) & (double.error > 1e-12)]
ratio = honest.error / honest.change
claims.record(
    "ours-krylov-estimate",
    holds=float((ratio <= 10).mean()) >= 0.9,
    measured={
        "share": float((ratio <= 10).mean()),
        "cases": len(ratio),
        "worst": ratio.max(),
    },
    data=here["lanczos"],
)
floors = single[single.products >= krylov.products.max() - 5].groupby(
    ["data", "h lambda"]
)
floor = floors.error.median()
claims.record(
    "ours-krylov-float32",
    holds=bool((floor.drop(8.0, level=1) <= 1e-3).all()),
    measured={"best": floor.min(), "worst": floor.drop(8.0, level=1).max()},
    data=here["lanczos"],
)

# %% [markdown]
# With true labels an error of $10^{-6}$ takes {measured}`ours-krylov-products:products_at_0.5` products at
# $h\lambda_0 = 0.5$, {measured}`ours-krylov-products:products_at_2` at 2 and
# {measured}`ours-krylov-products:products_at_8` at 8 ({claim}`ours-krylov-products`); with random labels
# {measured}`ours-krylov-products:random_products_at_0.5`,
# {measured}`ours-krylov-products:random_products_at_2` and
# {measured}`ours-krylov-products:random_products_at_8`, the last with
# {measured}`ours-krylov-products:random_above_at_8` eigenvalues above $1/h$. The network has
# {measured}`ours-krylov-products:parameters` parameters, which is what the eigendecomposition pays for.
#
# **When to trust it.** Without an eigendecomposition the error is not known, but the change from $k - 2$
# to $k$ products is. It is an honest estimate: the true error is at most ten times as large in
# {measured}`ours-krylov-estimate:share:share` of {measured}`ours-krylov-estimate:cases` cases
# ({claim}`ours-krylov-estimate`). In float32 the floor is between
# {measured}`ours-krylov-float32:best:.0e` and {measured}`ours-krylov-float32:worst:.0e`
# ({claim}`ours-krylov-float32`); an eigenvalue close to $1/h$ can make it worse, since the logarithm
# turns an error δ in $h\lambda$ into $\delta / |1 - h\lambda|$. So:
#
# - raise the number of products until the field changes by less than you need;
# - if it does not settle, look at the eigenvalues of $T$ above $1/h$. If there are dozens, no Krylov
#   space of this size will do; a smaller $h$ will;
# - near $z = 1$, and where a flow is followed for many steps, work in float64. The basis is
#   reorthogonalised fully, twice, so that clusters do no harm but for the products they cost.
#
# ## What it costs
#
# One principal field by ten products, against one gradient, for networks from a thousand to ten million
# parameters, in float32. The image networks read CIFAR-10 (re-encoded as JPEG where the tables say
# `cifar10-jpeg`).

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Left: seconds against parameters on log axes: gradient and field for MLP, VGG-11 and ResNet-18 rise about linearly for large networks; the dense eigendecomposition rises with the cube and is extrapolated to years. Right: memory of the Krylov basis, linear, and of a dense Hessian, quadratic, crossing the memory of a laptop near fifty thousand parameters."}, "figure": {"caption": "One principal field by ten products (filled) and one gradient (hollow) against the number of parameters, and the full eigendecomposition (grey, dashed where extrapolated by its cube). Right: memory, float32.", "name": "fig-cost"}}
frame = shown["costs"].frame
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.9))
looks = {
    "MLP": ("o", "#0072B2"),
    "VGG-11": ("s", "#D55E00"),
    "ResNet-18": ("^", "#009E73"),
}
for name, (marker, color) in looks.items():
    one = frame[frame.network == name].sort_values("parameters")
    left.loglog(
        one.parameters, one.field, marker + "-", color=color, label=name
    )
    left.loglog(
        one.parameters, one.gradient, marker + ":", color=color, mfc="white"
    )
dense = frame[frame.network == "dense"].sort_values("parameters").tail(1)
left.loglog(
    dense.parameters, dense.field, "D", color="0.45", label="eigendecomposition"
)
reach = np.array([dense.parameters.iloc[-1], 1e7])
left.loglog(
    reach, dense.field.iloc[-1] * (reach / reach[0]) ** 3, "--", color="0.6"
)
left.axhline(3600 * 24 * 365, color="0.8", lw=0.8)
left.text(1.2e3, 4.5e7, "a year", fontsize=9, color="0.4")
left.set(xlabel="parameters", ylabel="seconds", ylim=(1e-5, 1e12))
fig.legend(
    *left.get_legend_handles_labels(),
    loc="outside lower center",
    ncols=4,
    fontsize=9.5,
)
sizes = np.geomspace(1e3, 2e7, 50)
right.loglog(
    sizes,
    10 * 4 * sizes / 2**30,
    color="#0072B2",
    label="Krylov basis, 10 products",
)
right.loglog(
    sizes, 4 * sizes**2 / 2**30, "--", color="0.45", label="dense Hessian"
)
right.axhline(16, color="0.8", lw=0.8)
right.text(1.2e3, 20, "16 GiB", fontsize=9, color="0.4")
right.set(xlabel="parameters", ylabel="GiB", ylim=(1e-5, 1e7))
right.legend(fontsize=9)
plt.show()

# %% tags=["hide-input", "remove-output"]
costs = here["costs"].frame
big = costs[(costs.network != "dense") & (costs.parameters >= 1e5)]
in_gradients = big.field / big.gradient
claims.record(
    "ours-krylov-cost",
    holds=bool(in_gradients.max() <= 60 and costs.parameters.max() >= 1e7),
    measured={
        "most_gradients": in_gradients.max(),
        "median_gradients": in_gradients.median(),
        "largest_network": int(costs.parameters.max()),
        "product_in_gradients": (big["product"] / big.gradient).median(),
    },
    data=here["costs"],
)

# %% [markdown]
# For networks from $10^5$ to {measured}`ours-krylov-cost:largest_network` parameters a field of ten products
# costs {measured}`ours-krylov-cost:median_gradients:.2g` gradients in the median. At most it is
# {measured}`ours-krylov-cost:most_gradients:.3g`, for MLPs on so small a batch that a gradient is cheaper than the
# arithmetic on ten vectors of parameters: {claim}`ours-krylov-cost`. Memory is that of a Hessian-vector
# product, and the ten vectors; a large batch is cut into chunks (`num_chunks`), one in memory at a time.
#
# ## Predicting gradient descent
#
# Now a network whose dense Hessian nobody would form, 26,506 parameters on MNIST. After fifty steps of
# training with $h = 0.1$ we let gradient descent go on with a step size that makes $h\lambda_0$ 0.8, 1.5 or
# 2.2, and follow the flows from the same point. tanh and softmax are holomorphic, so the principal flow
# may leave the real space; networks with ReLU or pooling by maximum have no principal flow beyond the
# instant, since their losses have no meaning at complex parameters.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Three panels, one for each phase, of the relative distance of each flow to gradient descent against the number of steps on MNIST: PF and PF with the non-principal term lie lowest; in the unstable phase the real flows miss by as much as gradient descent moves."}, "figure": {"caption": "MLP with 26,506 parameters on MNIST, after fifty steps of training: distance of each flow from gradient descent after $n$ steps, in units of how far gradient descent has moved, median over seeds.", "name": "fig-prediction"}}
frame = shown["prediction"].frame
fig, axes = plt.subplots(1, 3, figsize=(7.6, 3.8), sharey=True)
for ax, phase in zip(axes, PHASES, strict=True):
    group = frame[frame.phase == phase]
    for name, one in group.groupby("flow", sort=False):
        relative = (one.distance / one.moved).groupby(one.step).median()
        ax.semilogy(
            relative.index, relative, "o-", ms=3, color=colors[name], label=name
        )
    low, high = group["h lambda"].min(), group["h lambda"].max()
    ax.set_title(
        f"{phase}\n" + rf"$h\lambda_0$: {low:.2g} to {high:.2g}", fontsize=10.5
    )
    ax.set_xlabel("step $n$")
axes[0].set_ylabel("relative distance")
fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=5,
    fontsize=9.5,
)
plt.show()

# %% tags=["hide-input", "remove-output"]
prediction = here["prediction"].frame
wide = prediction.pivot(
    index=["phase", "seed", "step"], columns="flow", values="distance"
)
first_step = wide[wide.index.get_level_values("step") == 1]
share = (
    (first_step["PF"] < first_step[["NGF", "IGR"]].min(axis=1))
    .groupby("phase")
    .mean()
)
gain = (first_step["IGR"] / first_step["PF"]).groupby("phase").median()
term_gain = (
    (first_step["IGR"] / first_step["PF + non-principal"])
    .groupby("phase")
    .median()
)
third = (
    (first_step["IGR"] / first_step["third order"]).groupby("phase").median()
)
late = wide[wide.index.get_level_values("step") == prediction.step.max()]
claims.record(
    "ours-pf-predicts-mnist",
    holds=bool(share.min() == 1),
    measured={
        "least_share": share.min(),
        **{f"igr_over_pf_{p.split(',')[0]}": gain[p] for p in PHASES},
        **{
            f"igr_over_pf_with_term_{p.split(',')[0]}": term_gain[p]
            for p in PHASES
        },
        **{f"igr_over_third_order_{p.split(',')[0]}": third[p] for p in PHASES},
        "pf_exists_at_end_unstable": float(
            late.loc["unstable", "PF"].notna().mean()
        ),
    },
    data=here["prediction"],
)

# %% [markdown]
# After one step PF is closer than NGF and IGR in every run of every phase: {claim}`ours-pf-predicts-mnist`.
# IGR's distance is {measured}`ours-pf-predicts-mnist:igr_over_pf_stable:.2g` times PF's in the stable phase,
# {measured}`ours-pf-predicts-mnist:igr_over_pf_complex:.2g` times in the complex stable one and
# {measured}`ours-pf-predicts-mnist:igr_over_pf_unstable:.2g` times in the unstable one; with the
# non-principal term {measured}`ours-pf-predicts-mnist:igr_over_pf_with_term_stable:.2g`,
# {measured}`ours-pf-predicts-mnist:igr_over_pf_with_term_complex:.2g` and
# {measured}`ours-pf-predicts-mnist:igr_over_pf_with_term_unstable:.2g` times. What is left is mostly the change
# of the curvature, as on the [breast cancer data](flows_on_networks.py): the third-order flow, which sees
# it, gains factors of {measured}`ours-pf-predicts-mnist:igr_over_third_order_stable:.2g`,
# {measured}`ours-pf-predicts-mnist:igr_over_third_order_complex:.2g` and
# {measured}`ours-pf-predicts-mnist:igr_over_third_order_unstable:.2g`. It is where the gradient has a large part
# along eigenvectors with $h\lambda > 1$, in oscillations and jumps, that PF's higher orders matter.

# %% tags=["remove-input"]
run.card(*(shown[name] for name in TABLES), *(here[name] for name in TABLES))

# %% [markdown]
# ## What to vary
#
# - `spectrum`: $k^{-1/2}$ has more eigenvalues above $1/h$. What happens exactly at $h\lambda_i = 1$?
# - In [the notebook of the runs](measure_flows_at_scale.py): `hidden` and `num_examples` (fewer examples
#   than parameters leave most eigenvalues at zero), or the activation: "softplus" is holomorphic too.
