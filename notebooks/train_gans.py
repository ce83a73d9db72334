# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ddbook:
#   gpu: true
# ---

# %% [markdown]
# # Training the GANs
#
# This notebook trains every GAN on images that the chapters of this part show. **What can be trained
# within hours on two cores, and is it enough to tell methods apart?** Networks an eighth as wide as
# the paper's, on images of 16×16, for 2,000 steps. It is enough at high
# learning rates, and too short for anything that the paper sees late in training.
#
# | | the paper | here |
# | --- | --- | --- |
# | networks | SN-GAN {cite:p}`miyato2018spectral` | the same at an eighth of the width |
# | data | CIFAR-10, 32×32 | CIFAR-10 as JPEG, averaged to 16×16 |
# | steps, minibatch | 300,000 of 128 | 2,000 of 64 |
# | rates | 0.05, 0.01, 0.005, 0.001 | 0.1, 0.05, 0.03, 0.01 |
# | seeds | 5 | 3 |
# | scorer | Inception | a [classifier of our own](train_scorer.py) |
# | verdicts | none here: [the chapters](gan_update_schemes.py) read its tables | |
#
# The discriminator is spectrally normalised, the generator batch-normalised, as
# {cite:t}`rosca2021discretization` have them. φ is the discriminator, with rate α; θ is the
# generator, with rate λ. Updates are plain gradient descent but for one method, Adam.
#
# At most of the paper's rates two schemes have hardly parted after 2,000 steps: a first sweep over
# them could not tell simultaneous from alternating updates, and
# [the first chapter on them](gan_update_schemes.py) shows it. So the grid was moved up, and Adam's
# with it. Which rates, and that 2,000 steps would do, was decided after that sweep and after pilots
# with one seed or two, in which simultaneous, alternating and cancelled updates had parted at 0.05 and
# 0.1.

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import jax
from ddbook import page
from ddbook.sweeps import arms, batch, gans
from ddbook.sweeps.arms import adjusted
from ddlib.games import Players

run = page.open("train_gans", profile, parameters)
s = run.settings
if (
    profile == "quick"
):  # a few steps of each program: it takes longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)


# %% [markdown]
# ## What is trained
#
# A *run* is an arm, a pair of rates and a seed. An *arm* says everything else: the loss, how the
# players take turns, whose loss has terms of explicit regularisation and how strong they are, which
# optimiser moves the players. Its fields are columns of both tables, so that a chapter selects runs
# by what they are. Those that an arm below does not name have the values of plain simultaneous
# gradient descent on the saturating, zero-sum loss.
#
# The arms come in groups, each over a grid of rates. `square` takes all pairs of the sweep's rates.
# Runge–Kutta 4, one player's term at other strengths, and nudged starts run at one rate for both
# players only (`level`). The coefficients of the joint clock differ from the paper's at two different
# rates only, and run there (`uneven`).

# %% tags=["hide-input"]
PLAIN = [arms.SIMULTANEOUS, arms.ALTERNATING]
ONE_PLAYER = [arms.DISCRIMINATOR, arms.GENERATOR]


def each(some, **fields):
    """The same arms with other values of some fields."""
    return [arm._replace(**fields) for arm in some]


def strengths(arm):
    """The same arm at half and at twice the coefficient that cancels."""
    return [arm._replace(strength=strength) for strength in (0.5, 2.0)]


GROUPS = {  # name: (grid of rates, arms)
    "updates": ("square", PLAIN),
    "paper's rates": ("paper's", each(PLAIN, grid="paper's rates")),
    "RK4": ("level", [arms.RK4]),
    "cancelling": ("square", [arms.CANCELLED]),
    "halves": (
        "square",
        each([arms.SIMULTANEOUS, arms.CANCELLED], estimator="halves"),
    ),
    "clocks": ("uneven", [arms.JOINT]),
    "one player": ("square", ONE_PLAYER),
    "one player, joint clock": (
        "uneven",
        each([arms.DISCRIMINATOR], clock="joint"),
    ),
    "strengths": (
        "level",
        [*strengths(arms.DISCRIMINATOR), *strengths(arms.GENERATOR)],
    ),
    "nudged": (
        "level",
        [arm._replace(nudge=way) for arm in PLAIN for way in (1, -1)],
    ),
    "non-saturating": ("square", each(PLAIN, loss="non-saturating")),
    "alternating": ("square", [arms.BOTH_AFTER, arms.DISCRIMINATOR_AFTER]),
    "adam": ("Adam's", [arms.ADAM]),
    "adjustments": (
        "square",
        [
            *(adjusted("SGA", strength) for strength in (0.01, 0.1)),
            *(adjusted("consensus", strength) for strength in (0.001, 0.01)),
            adjusted("drift consensus", 1.0),
        ],
    ),
    "ratios": ("ratios", each(PLAIN, grid="ratios")),
    "updates (m, k)": (
        "variants",
        [
            arms.ALTERNATING._replace(updates_phi=2),
            arms.ALTERNATING._replace(updates_theta=2),
        ],
    ),
    "least squares": (
        "variants",
        each([*PLAIN, arms.CANCELLED], loss="least squares"),
    ),
}

# %% tags=["hide-input"]
PAPERS = (0.05, 0.01, 0.005, 0.001)  # the paper's rates


def pairs(grid):
    """The pairs of rates (α, λ) of a grid."""
    if grid == "variants":
        grid = {"equal": "level", "full": "square"}.get(
            s.variants_grid, s.variants_grid
        )
    square = [(a, b) for a in s.rates for b in s.rates]
    grids = {
        "square": square,
        "level": [(a, b) for a, b in square if a == b],
        "uneven": [(a, b) for a, b in square if a != b],
        "paper's": [(a, b) for a in PAPERS for b in PAPERS],
        "ratios": [(a, a / ratio) for ratio in s.ratios for a in s.ratio_rates],
        "Adam's": [(a, b) for a in s.adam_rates for b in s.adam_rates],
    }
    if grid not in grids:
        raise ValueError(
            f"variants_grid must be equal or full, got {s.variants_grid!r}"
        )
    return grids[grid]


if unknown := [group for group in s.groups if group not in GROUPS]:
    raise ValueError(
        f"groups must be some of {', '.join(GROUPS)}, got {unknown[0]!r}"
    )
runs = [
    batch.Run(group, arm, alpha, lam, seed)
    for group, (grid, members) in GROUPS.items()
    if group in s.groups
    for arm in members
    for seed in range(s.num_seeds)
    for alpha, lam in pairs(grid)
]
runs = batch.part(runs, s.shard)
print(f"{len(runs)} runs")


# %% [markdown]
# ## From an arm to a rule of training
#
# An arm's terms become numbers once the rates are known: with $h = 1$ the rates are the step sizes
# themselves. They are part of the state, with the rates, so that all runs of an arm share one
# compiled program. What changes the program is in the rule: the update, the optimisers, whether
# there are terms at all.
#
# Terms are estimated between the two halves of a minibatch, while the players' own gradients see all
# of it. Two arms, "two halves", take their own gradients as means over the halves as well, which is
# cheaper; batch norm then sees half as many images at a time.
#
# Two things are not as the paper's released code has them. Adam trains the same spectrally
# normalised discriminator as all others; the released configuration for Adam leaves the
# normalisation out. The power iteration takes one step for each step of training; the released code
# takes one for each update of the discriminator.

# %% tags=["hide-input"]
for arm in (arms.ALTERNATING, arms.CANCELLED):
    print(arms.name(arm), gans.rule_of(arm), sep="\n  ")
    print(" ", gans.terms_of(arm, rates=Players(0.1, 0.05)).phi)

# %% [markdown]
# ## Data and scores
#
# Images smaller than 32 pixels are averages over squares of pixels. Scores are those of the
# library's own small classifier ([its chapter](train_scorer.py)): they compare arms here, and
# compare with no score of another classifier. The reference of the Fréchet distance is the training
# images at the size that the GANs see. Samples are made with batch norm on the statistics of each
# batch of samples: the running ones lag by a thousand steps.

# %% tags=["hide-input"]
train = run.data(s.dataset, "train")
training = gans.Training(
    run,
    train,
    scales={
        "main": gans.Scale(
            s.size,
            s.width,
            s.initial_scale,
            s.batch_size,
            s.num_steps,
            s.evaluate_every,
        )
    },
    num_scored=s.num_scored,
    num_reference=s.num_reference,
    keep_samples=s.keep_samples,
    keep_checkpoints=s.keep_checkpoints,
)

# %% [markdown]
# ## Training
#
# A run is a start from its seed, a rule, and as many steps as the profile says, with a look at the
# generator's samples on the way. Some starts are nudged, each parameter made larger or smaller by
# one float32 rounding of itself, to see how far a rounding carries.
#
# A finished run is kept for good, under a key that holds the compiled program of a step and of the
# start, the numbers that go into it, and a number for the recipe of sampling and scoring, whatever
# the arm is called. So a batch that was cut goes on where it was; and a batch splits: with
# `shard = [i, n]` only each $n$-th run is trained, from the $i$-th on. With `keep_checkpoints` a run
# that was cut goes on from its last scoring.
#
# The table under `results/` has the digest of each run's key, and with `keep_published` its rows
# stand for the runs with the same keys, so that a sweep can be extended by anyone without the hours
# to train it all again. Each row names the commit and the processor that trained it. Another processor rounds
# otherwise, and {ref}`a rounding may be enough <how-gans-are-compared>` for a run to end elsewhere.
#
# Of each arm's runs two pictures at most go into the table: of the one with the smallest Fréchet
# distance at the end, and of that among those with one rate for both players.

# %%
done = batch.train(
    run,
    runs,
    training.key_of,
    training.train_one,
    judged=training.judge,
    data=train,
    keep_published=s.keep_published,
)
curves, rows = batch.tables(run, done, training.scores_of, data=train)
run.save("curves", curves, data=train)
run.save("runs", batch.few_pictures(rows), data=train)
rows.groupby("method", sort=False).agg(
    runs=("seed", "size"),
    diverged=("diverged_at", lambda x: (x >= 0).sum()),
    median=("frechet_distance", "median"),
    best=("frechet_distance", "min"),
    minutes=("seconds", lambda x: x.sum() / 60),
).round(2)

# %% tags=["remove-input"]
run.card()

# %% [markdown]
# ## What follows
#
# The chapters: [how the players take turns](gan_update_schemes.py),
# [the ratio of rates](learning_rate_ratios.py), [cancelling](cancelling_drift.py),
# [which clock](which_clock.py), [alternating updates](alternating_regularisation.py) and
# [variants](gan_variants.py). What they suggest is put to [fresh seeds](train_gans_again.py).
#
# To vary: `groups` chooses what is trained, and a group of your own is one line of `GROUPS`.
