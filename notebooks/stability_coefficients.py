# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [train_at_the_edge]
# ---

# %% [markdown]
# # Stability coefficients: when does the loss rise?
#
# A network may stand beyond $2/h$ for hundreds of steps while its loss falls. **What tells the step
# after which it rises?** Not the largest eigenvalue alone: it must be large *and* the gradient must
# have a share along its vector. Both are in the stability coefficient, and, with all directions
# counted, in the second-order change of the loss, which costs one product with the Hessian.
#
# | | the paper | here |
# | --- | --- | --- |
# | network | VGG, ResNet-18, a four-layer MLP | four layers, 50 tanh units each |
# | data | CIFAR-10, MNIST | MNIST, 500 images, full batch |
# | what is shown | curves | curves, and how well each quantity foretells a rise |
# | seeds | not stated | 5 |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # there are no settings: those of train_at_the_edge say what was run

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page
from ddbook.sweeps import effects
from ddlib.flows import principal_alpha
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

run = page.open("stability_coefficients", profile, parameters)
claims, colors = run.claims, page.COLORS
here = {name: run.load(name, "train_at_the_edge") for name in ("runs", "flows")}
published = {name: run.published(name, "train_at_the_edge") for name in here}
shown = {name: published[name] or here[name] for name in here}

# %% [markdown]
# ## Four quantities
#
# Along an eigenvector $u_i$ the principal flow moves with velocity
# $sc_i = \alpha_{PF}(h\lambda_i)\,\nabla E^\top u_i$ (PF, Definition 3.4), and its real part changes
# sign at $h\lambda_i = 2$. To second order a step changes the loss by
#
# $$
# \Delta E \approx \sum_i -h\left(1 - \tfrac{h\lambda_i}{2}\right)(\nabla E^\top u_i)^2
# = -h\|g\|^2\left(1 - \tfrac h2\, \hat g^\top H \hat g\right),
# $$
#
# so it rises, to that order, exactly when the curvature *along the gradient* exceeds $2/h$. That
# $\lambda_0$ does is necessary for it, and not sufficient.


# %%
def quantities(frame):
    """What may tell that the loss is about to rise, from the tracked numbers."""
    h, z = frame.rate, frame.rate * frame.value_0
    alpha = np.real(np.asarray(principal_alpha(z.to_numpy())))
    return frame.assign(
        sharp=z,
        coefficient=alpha * frame.slope_0,
        along=-h * frame.slope_0**2 * (1 - z / 2),
        directional=h * frame.curvature,
        change=-h * frame.norm**2 * (1 - h * frame.curvature / 2),
    )


# %% tags=["hide-input"]
def prepared(table):
    """Rows with what follows them: does the loss rise in the next step?"""
    keys = ["loss_kind", "rate", "seed"]
    frame = table.frame.sort_values([*keys, "step"])
    frame = quantities(frame[frame.diverged_at < 0])
    groups = frame.groupby(keys)
    following = {
        "next_loss": groups.loss.shift(-1),
        "next_slope": groups.slope_0.shift(-1),
    }
    frame = frame.assign(**following).dropna(subset=list(following))
    return frame.assign(rises=frame.next_loss > frame.loss)


mine, drawn = prepared(here["runs"]), prepared(shown["runs"])

# %% [markdown]
# ## The loss and the coefficient
#
# One run at the edge (squares), some hundred steps of it.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Three curves against the iteration over a few hundred steps of one run: the loss with the steps that raise it shaded, h lambda zero around two, and the real part of the stability coefficient, whose peaks stand where the loss rises."}, "figure": {"caption": "PF, Figure 12. One run with squares at the edge. Shaded: steps that raise the loss. They come where the real part of $sc_0$ is large, and not wherever $h\\lambda_0 > 2$.", "name": "fig-stability-coefficients"}}
squares = drawn[drawn.loss_kind == "squares"]
rate, seed = squares.rate.max(), squares.seed.min()
one = squares[(squares.rate == rate) & (squares.seed == seed)]
begin = min(100, one.step.max() // 3)
one = one[(one.step >= begin) & (one.step < begin + 400)]
fig, axes = plt.subplots(3, 1, figsize=(7.2, 5.4), sharex=True)
for ax, (column, label) in zip(
    axes,
    {
        "loss": "loss",
        "sharp": r"$h\lambda_0$",
        "coefficient": r"Re $sc_0$",
    }.items(),
    strict=True,
):
    for step in one.step[one.rises]:
        ax.axvspan(
            step, step + 1, color=colors["alternating"], alpha=0.25, lw=0
        )
    ax.plot(one.step, one[column], color="k", lw=1.1)
    ax.set_ylabel(label)
axes[0].set_yscale("log")
axes[1].axhline(2, color="0.6", lw=0.8)
axes[2].axhline(0, color="0.6", lw=0.8)
axes[2].set_xlabel("iteration")
axes[0].set_title(f"{shown['runs'].label}, rate {rate:g}", fontsize=10)
plt.show()

# %% [markdown]
# ## Which quantity foretells a rise?
#
# We ask each quantity, out of the run, whether the next step raises the loss: the *area under the
# curve* (AUC) is the share of pairs of a rise and a fall that it puts in the right order, 1 for a
# perfect alarm and ½ for a coin. We look at runs with squares that hold at the edge, after the first
# hundred steps, once among iterates beyond $2/h$ only and once among all.


# %%
ALARMS = {
    "sharp": r"$h\lambda_0$",
    "directional": r"$h\,\hat g^\top H\hat g$",
    "coefficient": r"Re $sc_0$",
    "along": r"change along $u_0$",
    "change": "second-order change",
}


def areas(frame):
    """The AUC of each quantity in each run: rows with loss, rate, seed, where, alarm, value."""
    rows = []
    for (kind, rate, seed), one in frame.groupby(["loss_kind", "rate", "seed"]):
        for where, part in (("beyond 2/h", one[one.sharp > 2]), ("all", one)):
            if 0 < part.rises.sum() < len(part):
                rows += [
                    {
                        "loss_kind": kind,
                        "rate": rate,
                        "seed": seed,
                        "where": where,
                        "alarm": alarm,
                        "value": roc_auc_score(part.rises, part[alarm]),
                    }
                    for alarm in ALARMS
                ]
    columns = ["loss_kind", "rate", "seed", "where", "alarm", "value"]
    return pd.DataFrame(rows, columns=columns)


def at_the_edge(frame, judged):
    """Runs with squares at the edge; of a quick run, whatever there is."""
    found = frame[(frame.loss_kind == "squares") & (frame.step >= 100)]
    if judged:
        return found[found.rate.isin([0.06, 0.08])]
    return found if len(found) else frame[frame.loss_kind == "squares"]


edge = at_the_edge(mine, judged=True)
found = areas(edge)
_ = run.save("areas", found, data=here["runs"])

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "For each of five quantities the area under the curve with its interval over seeds, among iterates beyond two over h and among all iterates."}, "figure": {"caption": "How well each quantity foretells that the next step raises the loss: AUC, mean and 95 % interval over seeds.", "name": "fig-alarms"}}
table = areas(at_the_edge(drawn, judged=drawn.rate.isin([0.06, 0.08]).any()))
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), sharey=True)
for ax, where in zip(axes, ("beyond 2/h", "all"), strict=True):
    for y, alarm in enumerate(ALARMS):
        part = table[(table["where"] == where) & (table.alarm == alarm)]
        if part.empty:
            continue
        one = effects.effect(part[["seed", "value"]])
        low, high = (
            x if np.isfinite(x) else one.mean for x in (one.low, one.high)
        )
        ax.plot([low, min(high, 1)], [y, y], color=colors["simultaneous"], lw=2)
        ax.plot(one.mean, y, "o", color=colors["simultaneous"])
    ax.axvline(0.5, color="0.6", lw=0.8)
    ax.set(title=where, xlabel="AUC", xlim=(0.3, 1.02))
axes[0].set_yticks(range(len(ALARMS)), list(ALARMS.values()))
axes[0].invert_yaxis()
plt.show()


# %% tags=["hide-input", "remove-output"]
def of(alarm, where):
    part = found[(found.alarm == alarm) & (found["where"] == where)]
    return part.set_index(["rate", "seed"]).value


if found.seed.nunique() > 1:
    both = (
        of("coefficient", "beyond 2/h") - of("sharp", "beyond 2/h")
    ).reset_index()
    gain = effects.mean_of(both)
    own = effects.mean_of(of("coefficient", "beyond 2/h").reset_index())
    claims.record(
        "pf-fig12-coefficient",
        holds=effects.all_of([effects.above(gain, 0), effects.above(own, 0.8)]),
        measured={
            "auc": own.mean,
            "auc_low": own.low,
            "auc_high": own.high,
            "auc_of_lambda": own.mean - gain.mean,
            "gain_low": gain.low,
            "gain_high": gain.high,
            "seeds": own.seeds,
        },
        data=here["runs"],
    )
    alarm = effects.mean_of(of("change", "all").reset_index())
    claims.record(
        "ours-second-order-alarm",
        holds=effects.above(alarm, 0.9),
        measured={
            "auc": alarm.mean,
            "low": alarm.low,
            "high": alarm.high,
            "seeds": alarm.seeds,
        },
        data=here["runs"],
    )
    recall = effects.mean_of(edge[edge.rises].assign(value=edge.sharp > 2))
    precision = effects.mean_of(edge[edge.sharp > 2].assign(value=edge.rises))
    claims.record(
        "ours-lambda-alarm",
        holds=effects.all_of(
            [effects.above(recall, 0.8), effects.below(precision, 0.5)]
        ),
        measured={
            "recall": recall.mean,
            "recall_low": recall.low,
            "precision": precision.mean,
            "precision_high": precision.high,
            "seeds": recall.seeds,
        },
        data=here["runs"],
    )

# %% [markdown]
# Of the rises, {measured}`ours-lambda-alarm:recall:.0%` begin beyond $2/h$; but of the iterates
# beyond it only {measured}`ours-lambda-alarm:precision:.0%` are followed by one:
# {claim}`ours-lambda-alarm` Among those the coefficient tells rises from falls with an AUC of
# {measured}`pf-fig12-coefficient:auc:.2f`, $\lambda_0$ with
# {measured}`pf-fig12-coefficient:auc_of_lambda:.2f`: {claim}`pf-fig12-coefficient` Over all iterates
# the second-order change has {measured}`ours-second-order-alarm:auc:.2f`, with an interval that reaches
# below the 0.9 that we asked for: {claim}`ours-second-order-alarm` By the figure the stability
# coefficient and the change along $u_0$ do better still: what happens along the other directions is the
# ordinary fall of the loss, and only blurs the alarm.
#
# ## Flows from the iterates
#
# If beyond $2/h$ gradient descent resembles the *positive* gradient flow along $u_0$, then its loss
# should rise where that flow's does. From iterates of each run we follow both flows, and the negative
# one turned around along $u_0$ alone, for the time of one step.

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Change of the loss over the time of one step against the iteration for three flows from the iterates of runs with squares: the negative gradient flow falls always, the positive rises always, and the flow turned along the first eigenvector rises where the gradient has a share along it."}, "figure": {"caption": "PF, Figures 11 and 14. Change of the loss under three flows from the same iterates, over the time of a step; median over seeds, band over all. Squares.", "name": "fig-flows-from-iterates"}}
flows = shown["flows"].frame
flows = flows[flows.loss_kind == "squares"]
starts = shown["runs"].frame[["loss_kind", "rate", "seed", "step", "loss"]]
flows = flows.merge(
    starts, on=["loss_kind", "rate", "seed", "step"], suffixes=("", "_start")
)
flows = flows.assign(change=(flows.loss - flows.loss_start) / flows.loss_start)
LOOKS = {
    "NGF": (colors["flow"], "negative"),
    "positive": (colors["simultaneous"], "positive"),
    "turned": (colors["alternating"], "turned along $u_0$"),
}
fig, ax = plt.subplots(figsize=(7.0, 3.4))
for name, (color, label) in LOOKS.items():
    wide = flows[flows.flow == name].pivot(
        index="step", columns="seed", values="change"
    )
    ax.fill_between(
        wide.index,
        wide.min(axis=1),
        wide.max(axis=1),
        color=color,
        alpha=0.15,
        lw=0,
    )
    ax.plot(wide.median(axis=1), color=color, label=label)
ax.axhline(0, color="0.6", lw=0.8)
ax.set(
    xlabel="iteration",
    ylabel="relative change of the loss",
)
ax.set_yscale("symlog", linthresh=0.01)
ax.legend(fontsize=9)
ax.set_title(shown["flows"].label, fontsize=10)
plt.show()

# %% tags=["hide-input", "remove-output"]
keys = ["loss_kind", "rate", "seed", "step"]
looks = here["flows"].frame.merge(
    mine[[*keys, "loss", "sharp", "next_loss"]],
    on=keys,
    suffixes=("", "_start"),
)
looks = looks[(looks.loss_kind == "squares") & (looks.sharp > 2)]
if len(looks) and looks.seed.nunique() > 1:
    wide = looks.assign(
        change=looks.loss - looks.loss_start,
        own=looks.next_loss - looks.loss_start,
    )
    positive = wide[wide.flow == "positive"]
    correlations = positive.groupby("seed").apply(
        lambda x: spearmanr(x.own, x.change).statistic, include_groups=False
    )
    correlations = correlations.dropna()  # a seed with one look has none
    one = effects.mean_of(correlations.rename("value").reset_index())
    claims.record(
        "pf-fig11-positive-flow",
        holds=effects.above(one, 0.5),
        measured={
            "correlation": one.mean,
            "low": one.low,
            "high": one.high,
            "iterates": len(positive),
            "seeds": one.seeds,
        },
        data=here["flows"],
    )
    up = {
        name: wide[wide.flow == name]
        .groupby("seed")
        .change.apply(lambda x: float((x > 0).mean()))
        for name in ("turned", "NGF")
    }
    claims.record(
        "pf-fig14-one-direction",
        holds=bool((up["turned"] > 0.5).all() and (up["NGF"] == 0).all()),
        measured={
            "least_share_turned": float(up["turned"].min()),
            "mean_share_turned": float(up["turned"].mean()),
            "largest_share_ngf": float(up["NGF"].max()),
            "seeds": len(up["turned"]),
        },
        data=here["flows"],
    )

# %% [markdown]
# Beyond the edge the change of the loss in a step and its change under the positive flow have a rank
# correlation of {measured}`pf-fig11-positive-flow:correlation:.2f` in the mean, over few looks:
# {claim}`pf-fig11-positive-flow` Turned along $u_0$ alone, the flow raises the loss in
# {measured}`pf-fig14-one-direction:mean_share_turned:.0%` of the looks beyond the edge, in one seed in
# fewer than half ({claim}`pf-fig14-one-direction`): it does so once the swings have begun, as the figure
# shows, and before that it has nothing to climb along.
#
# ## What follows
#
# $h\lambda_0 > 2$ is a state, not an event. Who wants an alarm watches the stability coefficient of the
# sharpest direction; who has no eigenvector watches the curvature along the gradient, $h\,\hat g^\top
# H\hat g$ against two, which costs one product with the Hessian and does nearly as well.
# `ddlib.diagnose` gives both for a loss and parameters of your own.

# %% tags=["remove-input"]
run.card(*shown.values(), "areas")

# %% [markdown]
# ## What to vary
#
# - `at_the_edge`: the first hundred steps, where training is thrown about (a *catapult*). Which
#   quantity leads there?
# - Cross-entropy in place of squares.
