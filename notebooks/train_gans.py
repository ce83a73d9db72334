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
# This notebook trains every GAN on images that the chapters of this part show, and writes two tables:
# one row for a run, one for each time that a run was scored. The chapters read them and plot; none
# of them trains.
#
# The networks are those of SN-GAN {cite:p}`miyato2018spectral` at a fraction of their width, the
# discriminator spectrally normalised, the generator batch-normalised, as
# {cite:t}`rosca2021discretization` have them. φ is the discriminator, with rate α; θ is the
# generator, with rate λ. Updates are plain gradient descent but for one arm, Adam.
#
# A standard run is short: 2,000 steps, where the paper takes 300,000, on images of 16×16 pixels and
# with networks an eighth as wide. At most of the paper's rates (0.05, 0.01, 0.005 and 0.001) two
# schemes have hardly parted by then: a first sweep over them could not tell simultaneous from
# alternating updates, and [the first chapter on them](gan_update_schemes.py) shows it. So the grid
# was moved up, to 0.1, 0.05, 0.03 and 0.01, and Adam's with it. Which rates, and that 2,000 steps
# would do, was decided after that sweep and after pilots with one seed or two, in which
# simultaneous, alternating and cancelled updates had parted at 0.05 and 0.1.

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
parameters = {}  # settings in place of the profile's

# %% tags=["hide-input"]
import hashlib
from functools import cache, lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ddbook import page
from ddbook.sweeps import arms, batch, checkpoints, pictures
from ddbook.sweeps.arms import adjusted
from ddlib import gan, metrics
from ddlib import regularizers as reg
from ddlib.games import Players
from ddlib.regularizers import DriftTerms
from ddlib.sweep import program_fingerprint

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
# players only (`level`); terms of the joint clock differ from the published ones at two different
# rates only (`uneven`). One group has the full size of the networks, for one pair of rates and one
# seed: what holds for small networks might be theirs alone.

# %%
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
    "full size": ("one", each([*PLAIN, arms.CANCELLED], grid="full size")),
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
        "one": [tuple(s.full_size_rates)],
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
    for seed in range(1 if grid == "one" else s.num_seeds)
    for alpha, lam in pairs(grid)
]
runs = batch.part(runs, s.shard)
print(f"{len(runs)} runs")


class Scale(NamedTuple):
    size: int
    width: float
    initial_scale: float
    batch_size: int
    num_steps: int
    evaluate_every: int


SWEEP = Scale(
    s.size,
    s.width,
    s.initial_scale,
    s.batch_size,
    s.num_steps,
    s.evaluate_every,
)
FULL = Scale(
    32, 1.0, 1.0, s.full_size_batch, s.full_size_steps, s.full_size_steps // 4
)
for scale in (SWEEP, FULL):
    if scale.evaluate_every < 1 or scale.num_steps % scale.evaluate_every:
        raise ValueError(
            f"evaluate_every must divide num_steps, and 4 full_size_steps, got {scale.num_steps} "
            f"steps and {scale.evaluate_every}"
        )


def scale_of(arm):
    return FULL if arm.grid == "full size" else SWEEP


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

# %%
LOSSES = {
    "saturating": gan.saturating(),
    "non-saturating": gan.non_saturating(),
    "least squares": gan.least_squares(zero_sum=True),
}
ADAM = partial(optax.adam, b1=0.5)


def rule_of(arm):
    """The static side of an arm's training."""
    updates = Players(arm.updates_phi, arm.updates_theta)
    halved = arm.estimator == "halves"
    return gan.Rule(
        gan.Update(arm.update, updates),
        terms=halved or arm.terms != "none",
        estimator=gan.Estimator(halved=halved),
        optimizers=Players(ADAM, ADAM) if arm.optimizer == "Adam" else None,
    )


def terms_of(arm, rates):
    """The coefficients of both players' terms; None: not in the program."""
    if arm.terms == "consensus":
        return reg.consensus(arm.strength)
    if arm.terms == "drift consensus":
        return reg.drift_consensus(rates)
    if arm.terms == "SGA":
        terms = reg.sga(arm.strength)
    elif arm.terms == "cancel":
        scheme, clock = arm.update, arm.clock
        terms = reg.cancel_interaction(rates, method=scheme, clock=clock)
        terms = jax.tree.map(lambda c: arm.strength * c, terms)
    else:
        terms = Players(DriftTerms(), DriftTerms())
    return Players(
        *(
            term._replace(self_norm=None)
            if arm.players in ("both", player)
            else DriftTerms(None, None, None)
            for player, term in terms._asdict().items()
        )
    )


# %% [markdown]
# Two things are not as the paper's released code has them. Adam trains the same spectrally
# normalised discriminator as all others; the released configuration for Adam leaves the
# normalisation out. The power iteration takes one step for each step of training; the released code
# takes one for each update of the discriminator.
#
# One run, then: a start from the seed, a rule, and as many steps as the profile says, with a look at
# the generator's samples on the way. Some starts are nudged, each parameter made larger or smaller
# by one float32 rounding of itself, to see how far a rounding carries.

# %%
ROUNDING = float(np.finfo(np.float32).eps)


def begin(arm, game, alpha, lam, seed):
    """The state of a run before its first step."""
    rule, rates = rule_of(arm), Players(alpha, lam)
    terms = {"terms": terms_of(arm, rates)} if rule.terms else {}
    setting = gan.Setting(rates, **terms)
    state = gan.init(game, jax.random.key(seed), setting, rule)
    if arm.nudge:
        factor = 1 + arm.nudge * ROUNDING
        nudged = jax.tree.map(lambda x: x * factor, state.players)
        state = state._replace(players=nudged)
    return state


def train_one(run, key):
    """Samples of one run on its way, and when it diverged (−1: never)."""
    arm, scale = run.arm, scale_of(run.arm)
    game = game_of(arm)

    def train(state, observe):
        return gan.train(
            game,
            state,
            images(scale.size),
            scale.num_steps,
            rule=rule_of(arm),
            batch_size=scale.batch_size,
            every=scale.evaluate_every,
            observe=observe,
        )

    start = begin(arm, game, run.rate_phi, run.rate_theta, run.seed)
    look = partial(observe, game)
    if s.keep_checkpoints:
        state, seen = checkpoints.resume(scratch(key), key, start, train, look)
    else:
        state, seen = train(start, look)
    return {"seen": seen, "diverged_at": int(state.diverged_at)}


# %% [markdown]
# ## Data and scores
#
# Images smaller than 32 pixels are averages over squares of pixels. Scores are those of the
# library's own small classifier ([its chapter](train_scorer.py)): they compare arms here, and
# compare with no score of another classifier. The reference of the Fréchet distance is the training
# images at the size that the GANs see. Samples are made with batch norm on the statistics of each
# batch of samples: the running ones lag by a thousand steps.
#
# What is kept of a run are samples on its way. Scores are made of them afterwards: another scorer
# needs no training again. At the paper's scale that would be terabytes; there `keep_samples` is
# off, and a run keeps its scores.

# %% tags=["hide-input"]
train = run.data(s.dataset, "train")
if train.images.shape[1:] != (32, 32, 3) or s.size < 1 or 32 % s.size:
    raise ValueError(
        f"images must be of 32×32 pixels and three channels, and size must divide 32, got "
        f"{train.images.shape[1:]} and size {s.size}"
    )
scorer = metrics.cifar_scorer()
SAMPLING = {
    "key": 1,
    "batch_size": 250,
    "recipe": 1,
}  # raise it when sampling changes
JUDGE = {
    "scorer": scorer.checksum,
    "references": s.num_reference,
    "recipe": 1,
}  # raise likewise
chosen = np.random.default_rng(0).permutation(len(train.images))[
    : s.num_reference
]


@lru_cache(maxsize=1)
def pixels(size):
    """All images in [0, 1] at a size."""
    factor = train.images.shape[1] // size
    parts = np.split(train.images, range(1000, len(train.images), 1000))
    return np.concatenate(
        [
            x.reshape(len(x), size, factor, size, factor, 3).mean((2, 4))
            for x in parts
        ]
    )


@lru_cache(maxsize=1)
def images(size):
    return jnp.asarray(2 * pixels(size) - 1)


@lru_cache(maxsize=1)
def networks(scale):
    return gan.sngan_networks(
        size=scale.size, width=scale.width, initial_scale=scale.initial_scale
    )


@cache
def reference(size):
    return metrics.image_statistics(scorer, pixels(size)[chosen])


def game_of(arm):
    return gan.Game(networks(scale_of(arm)), LOSSES[arm.loss])


def observe(game, state):
    """Samples of a state, packed, or else their scores and a picture; none of a diverged one."""
    if int(state.diverged_at) >= 0:
        return {"step": int(state.step), "samples": None}
    key = jax.random.key(SAMPLING["key"])
    samples = gan.sample(
        game, state, key, s.num_scored, batch_size=SAMPLING["batch_size"]
    )
    packed = pictures.pack((samples + 1) / 2)
    if s.keep_samples:
        return {"step": int(state.step), "samples": packed}
    grid = pictures.grid(pictures.unpack(packed))
    return {"step": int(state.step), **score(packed), "picture": grid}


def score(packed):
    """Scores of packed samples."""
    if packed is None:
        return {"inception_score": np.nan, "frechet_distance": np.nan}
    samples = pictures.unpack(packed)
    found = metrics.score(scorer, samples, reference(samples.shape[1]))
    return {
        "inception_score": found.inception_score,
        "frechet_distance": found.frechet_distance,
    }


# %% [markdown]
# ## A run's key
#
# A finished run is kept for good, under a key that holds the compiled program of a step and of the
# start, the numbers that go into it, and a number for the recipe of sampling and scoring, whatever
# the arm is called. So a batch that was cut goes on where it was; and a batch splits: with
# `shard = [i, n]` only each $n$-th run is trained, from the $i$-th on. With `keep_checkpoints` a run
# that was cut goes on from its last scoring.
#
# The published table has the digest of each run's key, and with `keep_published` its rows stand for
# the runs with the same keys, so that a sweep can be extended by anyone without the hours to train
# it all again. Each row names the commit and the processor that trained it. Another processor rounds
# otherwise, and {ref}`a rounding may be enough <how-gans-are-compared>` for a run to end elsewhere.


# %% tags=["hide-input"]
@lru_cache(maxsize=1)
def program(arm):
    """The fingerprint of an arm's compiled program."""
    game, rule, scale = game_of(arm), rule_of(arm), scale_of(arm)
    step = gan.make_step(game, rule)

    def start_and_step(state, images):
        size = (scale.batch_size, rule.update.num_batches)
        batches = gan.draw_batches(
            images, state, game.networks.theta.latents, *size
        )
        return gan.start(game, jax.random.key(0)), step(state, batches)

    return program_fingerprint(
        start_and_step, begin(arm, game, 0.1, 0.1, 0), images(scale.size)
    )


def key_of(run):
    """All that a run's samples depend on; the data is added where they are kept."""
    arm, scale = run.arm, scale_of(run.arm)
    key = {
        field: getattr(run, field)
        for field in ("rate_phi", "rate_theta", "seed")
    }
    key |= {
        k: getattr(scale, k)
        for k in ("batch_size", "num_steps", "evaluate_every")
    }
    key |= {"num_scored": s.num_scored, "sampling": SAMPLING}
    if not s.keep_samples:
        key |= JUDGE
    terms = None
    if rule_of(arm).terms:
        found = terms_of(arm, Players(run.rate_phi, run.rate_theta))
        terms = {player: list(term) for player, term in found._asdict().items()}
    key |= {"terms": terms, "program": program(arm)}
    if arm.nudge:
        key["nudge"] = arm.nudge * ROUNDING
    return key


def scratch(key):
    return run.scratch(key, data=train)


def scores_of(one, found):
    """A run's scores on its way, and a picture of its last samples."""
    scores = []
    for row in found["seen"]:
        given = row
        if "samples" in row:
            digest = hashlib.sha256(str(row["samples"]).encode()).hexdigest()
            wanted = {
                "samples": digest,
                **JUDGE,
                "size": scale_of(one.arm).size,
            }
            given = run.cached(
                wanted, partial(score, row["samples"]), data=train
            )
        scores.append(
            {"step": row["step"], **{k: float(given[k]) for k in batch.SCORES}}
        )
    last = found["seen"][-1]
    if last.get("samples") is None:
        return scores, last.get("picture")
    return scores, pictures.grid(pictures.unpack(last["samples"]))


# %% [markdown]
# ## Training
#
# Of each arm's runs two pictures at most go into the table: of the one with the smallest Fréchet
# distance at the end, and of that among those with one rate for both players.

# %%
done = batch.train(
    run,
    runs,
    key_of,
    train_one,
    judged=JUDGE,
    data=train,
    keep_published=s.keep_published,
)
curves, rows = batch.tables(run, done, scores_of, data=train)
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
