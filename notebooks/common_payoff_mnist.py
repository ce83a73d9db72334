# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   needs: [train_common_payoff]
# ---

# %% [markdown]
# # Common payoff: one network, two players
#
# Let two players share one loss: φ holds the layers of a network next to the input, θ those next to
# the output. Updating both at once is plain gradient descent. Updating them in turn is block
# coordinate descent, as in some distributed training. **Is taking turns worse?** At the largest rates
# it can be, with the higher gradients that drift foretells. But it hinges on the network and on where
# it is cut, and at moderate rates taking turns is no worse.
#
# | | the paper | here |
# | --- | --- | --- |
# | network | an MLP, its size not stated | three MLPs of two hidden layers |
# | data | MNIST | MNIST |
# | rates, seeds | one rate, not stated | several of each |
# | scorer | accuracy, squared norm of φ's gradient | the same |
# | verdicts | the pattern of Figure 4; higher gradient norms | {claim}`dd-fig4-pattern`, {claim}`dd-fig4-gradient-norm` |
# | | worse performance; less stable | {claim}`dd-fig4-worse`, {claim}`dd-fig4-less-stable` |

# %% tags=["parameters"]
profile = "quick"
parameters = {}  # there are no settings

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ddbook import page

run = page.open("common_payoff_mnist", profile, parameters)
claims, colors = run.claims, page.COLORS
here = run.load("curves", "train_common_payoff")
published = run.published("curves", "train_common_payoff")

# %% [markdown]
# ## What drift says
#
# {cite:t}`rosca2021discretization` substitute $f = -\nabla_\phi E$, $g = -\nabla_\theta E$ into
# their Theorem 3.2. With equal rates, alternating updates follow the flows of
#
# $$
# \tilde L_1 = E + \tfrac{\alpha h}{4}\left(\|\nabla_\phi E\|^2 + \|\nabla_\theta E\|^2\right),
# \qquad
# \tilde L_2 = E + \tfrac{\alpha h}{4}\left(-\|\nabla_\phi E\|^2 + \|\nabla_\theta E\|^2\right).
# $$
#
# Under simultaneous updates both signs are plus, and small gradients are favoured. Taking turns,
# θ *seeks* large gradients of φ. Hence the paper's prediction (its Figure 4): under alternating
# updates $\|\nabla_\phi E\|^2$ is higher, training is less stable and performance worse. That
# the modified losses themselves are right is measured in
# [the training notebook](train_common_payoff.py), {claim}`dd-corollary-5-1`; here is what they do.


# %% tags=["hide-input"]
def draw(table, settings):
    """Accuracy and gradient norm against iteration, a column a setting, a band over the seeds."""
    fig, axes = plt.subplots(
        2,
        len(settings),
        figsize=(7.4, 4.6),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (network, rate) in zip(axes.T, settings, strict=True):
        frame = table.frame[
            (table.frame.network == network) & (table.frame.rate == rate)
        ]
        for update in ("simultaneous", "alternating"):
            group = frame[frame["update"] == update]
            for ax, key in zip(column, ("accuracy", "grad_phi"), strict=True):
                bands = group.groupby("iteration")[key]
                low, middle, high = bands.min(), bands.median(), bands.max()
                ax.fill_between(
                    low.index, low, high, color=colors[update], alpha=0.2, lw=0
                )
                ax.plot(middle, color=colors[update], lw=1.4, label=update)
        column[0].set_title(f"{network},\nrate {rate:g}", fontsize=10.5)
        column[1].set(yscale="log", xlabel="iteration", ylim=(1e-3, 1e2))
    axes[0, 0].set_ylabel("test accuracy")
    axes[1, 0].set_ylabel(r"$\|\nabla_\phi E\|^2$")
    fig.suptitle(
        f"{table.label}, {table.frame.seed.nunique()} seeds", fontsize=10.5
    )
    axes[0, 0].legend(loc="lower right", fontsize=9)


# %% tags=["hide-input"]
table = published or here

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Test accuracy and squared gradient norm of the input-side player against iteration for three settings. At rate 0.3 the two kinds of updates nearly coincide, the alternating gradient norm a little higher. At rate 1 a network cut in the middle is unstable under simultaneous updates; a network cut low has higher gradient norms and lower accuracy under alternating updates."}, "figure": {"caption": "DD, Figure 4, in three settings. Lines: median over seeds; bands: all seeds. The right column shows the paper's pattern, the middle one its opposite.", "name": "fig-common-payoff"}}
wanted = [
    ("tanh 100-100", 0.3),
    ("tanh 100-100", 1.0),
    ("tanh 200, cut low", 1.0),
]
there = set(table.frame.groupby(["network", "rate"]).groups)
draw(
    table,
    [setting for setting in wanted if setting in there] or sorted(there)[:3],
)
plt.show()

# %% [markdown]
# ## Run by run
#
# Pairs of runs share initial weights, minibatches and learning rate, and differ only in whether θ
# sees φ's move. For each pair: by how much is $\log_{10}\|\nabla_\phi E\|^2$, averaged from
# iteration 100 on, higher when alternating? And the accuracy at the end? (A network that has collapsed
# to a constant has no gradient; its norm counts as 1e-8.)


# %% tags=["hide-input"]
def paired(frame):
    """Alternating minus simultaneous for every (network, rate, seed)."""
    keys = ["network", "rate", "seed", "update"]
    late = frame[frame.iteration >= 100]
    summary = pd.DataFrame(
        {
            "log_norm": late.assign(x=np.log10(late.grad_phi.clip(lower=1e-8)))
            .groupby(keys)
            .x.mean(),
            "accuracy": late[late.iteration >= late.iteration.max() - 100]
            .groupby(keys)
            .accuracy.mean(),
            "worst_loss": late.groupby(keys).loss.max(),
        }
    ).unstack("update")
    difference = pd.DataFrame(
        {
            "log_norm": summary.log_norm.alternating
            - summary.log_norm.simultaneous,
            "accuracy": summary.accuracy.alternating
            - summary.accuracy.simultaneous,
            "worst_loss_ratio": summary.worst_loss.alternating
            / summary.worst_loss.simultaneous,
        }
    )
    return difference.reset_index()


pairs = paired(here.frame)
_ = run.save("pairs", pairs, data=here)
shown = paired(table.frame)

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "Paired differences between alternating and simultaneous runs against the learning rate, one marker for each seed. Left: the logarithm of the gradient norm; mostly positive and growing with the rate, with large differences of either sign at the largest. Right: final accuracy; slightly positive up to rate 0.3, of either sign beyond, depending on the network."}, "figure": {"caption": "Alternating minus simultaneous, one marker for each pair of runs. Left: mean $\\log_{10}\\|\\nabla_\\phi E\\|^2$ from iteration 100 on. Right: mean test accuracy over the last 100 iterations.", "name": "fig-common-payoff-pairs"}}
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.5))
markers = dict(zip(shown.network.unique(), "os^", strict=False))
shades = dict(
    zip(shown.network.unique(), ("#0072B2", "#E69F00", "#009E73"), strict=False)
)
for ax, key in zip(axes, ("log_norm", "accuracy"), strict=True):
    for shift, (network, group) in enumerate(
        shown.groupby("network", sort=False)
    ):
        ax.plot(
            group.rate * 1.05 ** (shift - 1), group[key], markers[network],
            color=shades[network], mfc="none", label=network,
        )  # fmt: skip
    ax.axhline(0, color="k", lw=0.8)
    ax.set(xscale="log", xlabel="learning rate")
axes[0].set_ylabel(r"difference of $\log_{10}\|\nabla_\phi E\|^2$")
axes[1].set_ylabel("difference of accuracy")
axes[0].set_yscale("symlog", linthresh=0.1)
axes[1].set_yscale("symlog", linthresh=0.01)
axes[0].legend(fontsize=9)
plt.show()

# %%
summary = shown.groupby(["network", "rate"]).agg(
    pairs=("seed", "size"),
    log_norm=("log_norm", "mean"),
    pairs_with_higher_norm=("log_norm", lambda x: int((x > 0).sum())),
    accuracy=("accuracy", "mean"),
    pairs_less_accurate=("accuracy", lambda x: int((x < 0).sum())),
)
summary.round(4)

# %% tags=["hide-input", "remove-output"]
moderate = pairs[pairs.rate <= 0.3]
by_rate = moderate.groupby(["network", "rate"]).log_norm.mean()
claims.record(
    "dd-fig4-gradient-norm",
    holds=bool((by_rate > 0).all() and (moderate.log_norm > 0).mean() >= 0.9),
    measured={
        "share_of_pairs_higher": float((moderate.log_norm > 0).mean()),
        "mean_log10_difference_at_0.3": float(
            pairs[pairs.rate == 0.3].log_norm.mean()
        ),
        "lowest_mean_log10_difference": float(by_rate.min()),
        "pairs": len(moderate),
    },
    data=here,
)
fast = pairs[pairs.rate == pairs.rate.max()]
by_rate = pairs.groupby("rate").accuracy.mean()
claims.record(
    "dd-fig4-worse",
    holds=bool((by_rate < 0).mean() > 0.5),
    measured={
        "share_of_rates_less_accurate": float((by_rate < 0).mean()),
        "share_of_pairs_less_accurate": float((pairs.accuracy < 0).mean()),
        "mean_accuracy_difference_at_largest_rate": float(fast.accuracy.mean()),
    },
    data=here,
)
claims.record(
    "dd-fig4-less-stable",
    holds=bool(fast.worst_loss_ratio.median() > 1),
    measured={
        "median_ratio_of_worst_loss_at_largest_rate": float(
            fast.worst_loss_ratio.median()
        ),
        "share_of_pairs_with_higher_worst_loss": float(
            (fast.worst_loss_ratio > 1).mean()
        ),
    },
    data=here,
)
pattern = pairs.assign(
    all_three=(pairs.log_norm > 0)
    & (pairs.accuracy < 0)
    & (pairs.worst_loss_ratio > 1)
).groupby(["network", "rate"])
whole = pattern.all_three.all()
claims.record(
    "dd-fig4-pattern",
    holds=bool(whole.any()),
    measured={
        "settings_with_the_pattern_in_every_seed": int(whole.sum()),
        "settings": len(whole),
        "where": "; ".join(f"{n}, rate {r:g}" for n, r in whole[whole].index)
        or "nowhere",
    },
    data=here,
)

# %% [markdown]
# ## What holds
#
# **The pattern of Figure 4 exists.** A higher gradient norm, a lower accuracy and a higher worst loss,
# all three in every seed, are found in
# {measured}`dd-fig4-pattern:settings_with_the_pattern_in_every_seed` of
# {measured}`dd-fig4-pattern:settings` settings ({measured}`dd-fig4-pattern:where`):
# {claim}`dd-fig4-pattern` It **hinges on the network and the rate**.
#
# - *Gradient norms.* At moderate rates they are higher in
#   {measured}`dd-fig4-gradient-norm:share_of_pairs_higher:share` of the pairs, always so for the tanh
#   networks, and by more the larger the rate, as a term with coefficient $\alpha h/4$ would have it.
#   For the relu network at its two smallest rates they are lower, by a hundredth of a decade. As a
#   statement about all settings: {claim}`dd-fig4-gradient-norm`
# - *Performance.* Averaged over networks and seeds, accuracy is lower at
#   {measured}`dd-fig4-worse:share_of_rates_less_accurate:share` of the rates, the largest; at the
#   others it is slightly *higher*: {claim}`dd-fig4-worse`
# - *Stability.* At the largest rate the worst loss is higher under alternating updates by a factor
#   of {measured}`dd-fig4-less-stable:median_ratio_of_worst_loss_at_largest_rate:.2g` in the median:
#   {claim}`dd-fig4-less-stable` But for one of the three networks it is the simultaneous runs that
#   become unstable first.
#
# The last point has a classical side. On a quadratic, alternating updates are a block Gauss–Seidel
# iteration, stable while $h$ times the largest eigenvalue of each *diagonal block* of the Hessian is
# below two; simultaneous updates need the same of the *whole* Hessian, which is more. On a
# quadratic, then, taking turns is never less stable. Where it is on a network, something that a
# quadratic leaves out must be at work. That θ seeks large gradients of φ, and that curvature grows with
# them, would be one such thing; we have not measured whether it is.

# %% tags=["remove-input"]
run.card(here, published, run.load("pairs"))

# %% [markdown]
# ## What follows
#
# The interaction term that alternating updates have in a contest with opposite losses is the harmless
# one; with a common loss it is the one to watch, near the largest rate that still trains.
#
# To vary:
#
# - In the [training notebook](train_common_payoff.py): where the network is cut, its width, the
#   batch size, the order of the players.
# - Rates just below the first at which runs blow up: there the two kinds of updates differ most.
