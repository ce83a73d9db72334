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
# # Training the GANs again: fresh seeds, longer runs
#
# A [first sweep](train_gans.py) of three seeds showed what might hold. Its runs were looked at before
# the rule of [how claims are judged](../book/how_claims_are_judged.md) was written, so that it settles
# nothing. **What do seeds say that nobody had looked at, and what do ten times as many steps?** This
# notebook trains them, the most telling first, and its table grows as they finish. What they say
# stands in [the verdicts](gan_verdicts.py).
#
# | | the paper | here |
# | --- | --- | --- |
# | networks | SN-GAN | SN-GAN at an eighth of its width |
# | data | CIFAR-10, 32×32 | CIFAR-10 as JPEG, averaged to 16×16 |
# | steps | 300,000 | 2,000, and 20,000 at one rate |
# | rates | two, swept | one for both players: 0.1, 0.05, 0.03, 0.01 |
# | seeds | 5 | 8 fresh ones, as far as they have come |
# | scorer | Inception | a [classifier of our own](train_scorer.py) |
# | verdicts | on [their page](gan_verdicts.py) | |

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import jax
from ddbook import page
from ddbook.sweeps import arms, batch, gans
from ddbook.sweeps.arms import adjusted

run = page.open("train_gans_again", profile, parameters)
s = run.settings
if (
    profile == "quick"
):  # a few steps of each program: it takes longer to compile than to run
    jax.config.update("jax_disable_most_optimizations", True)


# %% [markdown]
# ## What is trained, and in which order
#
# First the longer runs at one rate, a seed at a time. In a pilot with another seed, simultaneous
# updates at 0.03 wandered and collapsed for 14,000 steps while alternating ones went on falling, and
# after 2,000 steps nobody could have told. Then the methods of DD's Figures 5, 7, 9 and 10 and the
# rows of its Table 1, at four rates and eight seeds.


# %% tags=["hide-input"]
def each(some, **fields):
    """The same arms with other values of some fields."""
    return [arm._replace(**fields) for arm in some]


FIGURE_5 = [arms.SIMULTANEOUS, arms.ALTERNATING, arms.RK4]
FIGURE_7 = [arms.CANCELLED, arms.DISCRIMINATOR, arms.ADAM]
GROUPS = {
    "long": each([*FIGURE_5, *FIGURE_7], grid="long"),
    "Figure 5": FIGURE_5,
    "Figure 7": [*FIGURE_7, arms.GENERATOR],
    "Figure 10": each(FIGURE_5[:2], loss="non-saturating"),
    "Figure 9": [arms.BOTH_AFTER, arms.DISCRIMINATOR_AFTER],
    "strengths": [
        arms.DISCRIMINATOR._replace(strength=strength) for strength in (0.5, 2)
    ],
    "SGA": [adjusted("SGA", strength) for strength in (0.001, 0.01, 0.1, 1.0)],
    "consensus": [
        adjusted("drift consensus", 1.0),
        *(adjusted("consensus", strength) for strength in (0.001, 0.01, 0.1)),
    ],
    "least squares": each(
        [arms.SIMULTANEOUS, arms.CANCELLED], loss="least squares"
    ),
    "halves": each([arms.SIMULTANEOUS, arms.CANCELLED], estimator="halves"),
    "updates (m, k)": [
        arms.ALTERNATING._replace(updates_phi=2),
        arms.ALTERNATING._replace(updates_theta=2),
    ],
}

# %% tags=["hide-input"]
if unknown := [group for group in s.groups if group not in GROUPS]:
    raise ValueError(
        f"groups must be some of {', '.join(GROUPS)}, got {unknown[0]!r}"
    )


def rates_of(arm):
    if arm.optimizer == "Adam":
        return s.long_adam_rates if arm.grid == "long" else s.adam_rates
    return s.long_rates if arm.grid == "long" else s.rates


runs = batch.part(
    [
        batch.Run(group, arm, rate, rate, seed)
        for group in s.groups
        for seed in range(s.first_seed, s.first_seed + s.num_seeds)
        for arm in GROUPS[group]
        for rate in rates_of(arm)
    ],
    s.shard,
)
train = run.data(s.dataset, "train")
images = (s.size, s.width, s.initial_scale, s.batch_size)
training = gans.Training(
    run,
    train,
    scales={
        "main": gans.Scale(*images, s.num_steps, s.evaluate_every),
        "long": gans.Scale(*images, s.long_steps, s.long_every),
    },
    num_scored=s.num_scored,
    num_reference=s.num_reference,
)
print(f"{len(runs)} runs")

# %% [markdown]
# ## Training
#
# A run whose row is in the table under `results/` is not trained again, where its key is the same: the
# compiled program of its step and start, the numbers that go into it, the images, the scorer. So a
# batch can be cut at any time and goes on where it was.

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
rows.groupby(["group", "method"], sort=False).agg(
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
# [The verdicts](gan_verdicts.py), by one rule for all methods. To vary: `first_seed` trains seeds of
# your own, which nobody has looked at either.
