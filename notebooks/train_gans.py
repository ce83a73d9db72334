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
# generator, with rate λ. Updates are plain gradient descent but for one method, Adam.
#
# A run is a method, a pair of rates and a seed. A finished one is kept for good, under a key that
# holds the compiled program of a step and of the start, the numbers that go into it, and a number
# for the recipe of sampling and scoring, so that a batch that was cut goes on where it was; and a
# batch splits: `shard = [i, n]` trains only each $n$-th run, from the $i$-th on. With
# `keep_checkpoints` a run that was cut goes on from its last scoring. The published table has the
# digest of each run's key, and with `keep_published` its rows stand for the runs with the same
# keys, so that a sweep can be extended by anyone without the hours to train it all again. Each
# row names the commit and the processor that trained it. Another processor rounds otherwise, and
# {ref}`a rounding may be enough <how-gans-are-compared>` for a run to end elsewhere.
#
# A standard run is short: 2,000 steps, where the paper takes 300,000, on images of 16×16 pixels and
# with networks an eighth as wide. At most of the paper's rates (0.05, 0.01, 0.005 and 0.001) two
# schemes have hardly parted by then: a first sweep over them could not tell simultaneous from
# alternating updates, and [the first chapter on them](gan_update_schemes.py) shows it. So the grid was moved up, to 0.1, 0.05, 0.03 and 0.01,
# and Adam's with it. Which rates, and that 2,000 steps would do, was decided after that sweep and
# after pilots with one seed or two, in which simultaneous, alternating and cancelled updates had
# parted at 0.05 and 0.1. Some methods run at one rate for both players only: Runge–Kutta 4, one
# player's term at other strengths, nudged starts, and in a standard run least squares and several
# updates a turn.
#
# Two things are not as the paper's released code has them. Adam trains the same spectrally
# normalised discriminator as all others; the released configuration for Adam leaves the
# normalisation out. The power iteration takes one step for each step of training; the released code
# takes one for each update of the discriminator.
#
# Terms of explicit regularisation are estimated between the two halves of a minibatch, while the
# players' own gradients see all of it. Two methods, "two halves", take their own gradients as means
# over the halves as well, which is cheaper; batch norm then sees half as many images at a time.

# %% tags=["parameters"]
profile = "quick"  # quick, standard or paper: see profiles/
dataset = None  # None here and below: what the profile says
size = None
width = None
initial_scale = None
batch_size = None
num_steps = None
evaluate_every = None
num_scored = None
num_reference = None
groups = None
rates = None
adam_rates = None
ratios = None
ratio_rates = None
full_size_rates = None
full_size_batch = None
full_size_steps = None
variants_grid = None
num_seeds = None
keep_checkpoints = None
keep_samples = None
keep_published = None
shard = None

# %% tags=["hide-input"]
import base64
import hashlib
import io
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from ddbook import page
from ddbook.sweeps import checkpoints, gans
from PIL import Image

from ddlib import data, gan, metrics
from ddlib import regularizers as reg
from ddlib.games import Players
from ddlib.regularizers import DriftTerms
from ddlib.sweep import program_fingerprint

run = page.open(
    "train_gans",
    profile,
    dataset=dataset,
    size=size,
    width=width,
    initial_scale=initial_scale,
    batch_size=batch_size,
    num_steps=num_steps,
    evaluate_every=evaluate_every,
    num_scored=num_scored,
    num_reference=num_reference,
    groups=groups,
    rates=rates,
    adam_rates=adam_rates,
    ratios=ratios,
    ratio_rates=ratio_rates,
    full_size_rates=full_size_rates,
    full_size_batch=full_size_batch,
    full_size_steps=full_size_steps,
    variants_grid=variants_grid,
    num_seeds=num_seeds,
    keep_checkpoints=keep_checkpoints,
    keep_samples=keep_samples,
    keep_published=keep_published,
    shard=shard,
)
s, claims = run.settings, run.claims
if len(s.shard) != 2 or not 0 <= s.shard[0] < s.shard[1]:
    raise ValueError(f"shard: [i, n] with 0 <= i < n would do, not {s.shard}")

# %% [markdown]
# ## The methods
#
# A method is a loss, a way of updating, and the coefficients of explicit regularisation as a
# function of the two rates. With $h = 1$ the rates are the step sizes themselves. One group of
# methods runs at full size, for one pair of rates and one seed: what holds for small networks might
# be theirs alone.

# %%
NOTHING = DriftTerms(None, None, None)


class Scale(NamedTuple):
    size: int
    width: float
    initial_scale: float
    batch_size: int
    num_steps: int
    evaluate_every: int


SWEEP = Scale(s.size, s.width, s.initial_scale, s.batch_size, s.num_steps, s.evaluate_every)
FULL = Scale(32, 1.0, 1.0, s.full_size_batch, s.full_size_steps, s.full_size_steps // 4)
for scale in (SWEEP, FULL):
    if scale.evaluate_every < 1 or scale.num_steps % scale.evaluate_every:
        raise ValueError(
            f"evaluate_every must divide num_steps, and 4 full_size_steps: {scale.num_steps} steps "
            f"are not a multiple of {scale.evaluate_every}"
        )


class Method(NamedTuple):
    group: str
    update: gan.Update = gan.SIMULTANEOUS
    terms: Any = None  # rates -> Players of DriftTerms
    loss: gan.Loss = gan.saturating()
    grid: str = "full"
    optimizers: Players | None = None
    halved: bool = False
    scale: Scale = SWEEP
    nudge: float = 0.0  # relative change of every parameter at the start


ALTERNATING = gan.Update("alternating")
SQUARES = gan.least_squares(zero_sum=True)
PAPERS = (0.05, 0.01, 0.005, 0.001)  # its rates
ROUNDING = float(np.finfo(np.float32).eps)


def crossing(terms):
    """Terms without self terms: those are then not in the program at all."""
    return Players(*(one._replace(self_norm=None) for one in terms))


def cancel(rates, players=("phi", "theta"), strength=1.0, **options):
    terms = jax.tree.map(lambda c: strength * c, reg.cancel_interaction(rates, **options))
    found = crossing(terms)._asdict()
    return Players(*(t if name in players else NOTHING for name, t in found.items()))


def nothing(rates):
    return Players(NOTHING, NOTHING)


def sga(strength, rates):
    return crossing(reg.sga(strength))


def consensus(strength, rates):
    return reg.consensus(strength)


def descent(make, **options):
    return Players(partial(make, **options), partial(make, **options))


METHODS = {
    "simultaneous": Method("updates"),
    "alternating": Method("updates", ALTERNATING),
    "simultaneous, paper's rates": Method("paper's rates", grid="paper"),
    "alternating, paper's rates": Method("paper's rates", ALTERNATING, grid="paper"),
    "RK4": Method("RK4", gan.Update("rk4"), grid="equal"),
    "cancelled": Method("cancelling", terms=cancel),
    "simultaneous, two halves": Method("halves", terms=nothing, halved=True),
    "cancelled, two halves": Method("halves", terms=cancel, halved=True),
    "cancelled, joint clock": Method(
        "clocks", terms=partial(cancel, clock="joint"), grid="unequal"
    ),
    "cancelled, discriminator": Method("one player", terms=partial(cancel, players=("phi",))),
    "cancelled, generator": Method("one player", terms=partial(cancel, players=("theta",))),
    "cancelled, discriminator, joint clock": Method(
        "one player, joint clock",
        terms=partial(cancel, players=("phi",), clock="joint"),
        grid="unequal",
    ),
    **{
        f"cancelled, {name} × {strength:g}": Method(
            "strengths", terms=partial(cancel, players=(player,), strength=strength), grid="equal"
        )
        for name, player in (("discriminator", "phi"), ("generator", "theta"))
        for strength in (0.5, 2.0)
    },
    **{
        f"{name}, nudged {way}": Method("nudged", update, grid="equal", nudge=sign * ROUNDING)
        for name, update in (("simultaneous", gan.SIMULTANEOUS), ("alternating", ALTERNATING))
        for way, sign in (("up", 1), ("down", -1))
    },
    "non-saturating simultaneous": Method("non-saturating", loss=gan.non_saturating()),
    "non-saturating alternating": Method("non-saturating", ALTERNATING, loss=gan.non_saturating()),
    "alternating, both cancelled": Method(
        "alternating", ALTERNATING, partial(cancel, method="alternating")
    ),
    "alternating, discriminator cancelled": Method(
        "alternating", ALTERNATING, partial(cancel, method="alternating", players=("phi",))
    ),
    "Adam": Method("adam", ALTERNATING, grid="adam", optimizers=descent(optax.adam, b1=0.5)),
    "SGA 0.01": Method("adjustments", terms=partial(sga, 0.01)),
    "SGA 0.1": Method("adjustments", terms=partial(sga, 0.1)),
    "consensus 0.001": Method("adjustments", terms=partial(consensus, 0.001)),
    "consensus 0.01": Method("adjustments", terms=partial(consensus, 0.01)),
    "consensus, drift's strength": Method("adjustments", terms=reg.drift_consensus),
    "simultaneous, ratios": Method("ratios", grid="ratios"),
    "alternating, ratios": Method("ratios", ALTERNATING, grid="ratios"),
    "alternating (2, 1)": Method(
        "updates (m, k)", gan.Update("alternating", Players(2, 1)), grid="variants"
    ),
    "alternating (1, 2)": Method(
        "updates (m, k)", gan.Update("alternating", Players(1, 2)), grid="variants"
    ),
    "least squares simultaneous": Method("least squares", loss=SQUARES, grid="variants"),
    "least squares alternating": Method(
        "least squares", ALTERNATING, loss=SQUARES, grid="variants"
    ),
    "least squares cancelled": Method("least squares", terms=cancel, loss=SQUARES, grid="variants"),
    "full size simultaneous": Method("full size", grid="one", scale=FULL),
    "full size alternating": Method("full size", ALTERNATING, grid="one", scale=FULL),
    "full size cancelled": Method("full size", terms=cancel, grid="one", scale=FULL),
}


def pairs(grid):
    """The pairs of rates (α, λ) of a method's grid."""
    if grid == "variants":
        grid = s.variants_grid
    square = [(a, b) for a in s.rates for b in s.rates]
    grids = {
        "full": square,
        "equal": [(a, b) for a, b in square if a == b],
        "unequal": [(a, b) for a, b in square if a != b],
        "paper": [(a, b) for a in PAPERS for b in PAPERS],
        "ratios": [(a, a / ratio) for ratio in s.ratios for a in s.ratio_rates],
        "adam": [(a, b) for a in s.adam_rates for b in s.adam_rates],
        "one": [tuple(s.full_size_rates)],
    }
    if grid not in grids:
        raise ValueError(f"variants_grid: one of {', '.join(grids)} would do, not {grid!r}")
    return grids[grid]


known = {method.group for method in METHODS.values()}
if unknown := set(s.groups) - known:
    raise ValueError(f"groups: there are {sorted(known)}, not {sorted(unknown)}")
runs = [
    (name, alpha, lam, seed)
    for name, method in METHODS.items()
    if method.group in s.groups
    for seed in range(1 if method.scale is FULL else s.num_seeds)
    for alpha, lam in pairs(method.grid)
]
print(f"{len(runs)} runs")
if not runs[s.shard[0] :]:
    raise ValueError(f"shard: {s.shard} of {len(runs)} runs is none")

# %% [markdown]
# ## Data and scores
#
# Images smaller than 32 pixels are averages over squares of pixels. Scores are those of the
# library's own small classifier ([its chapter](train_scorer.py)): they compare methods here, and
# compare with no score of another classifier. The reference of the Fréchet distance is the training
# images at the size that the GANs see. Samples are made with batch norm on the statistics of each
# batch of samples: the running ones lag by a thousand steps.

# %%
train = data.load(s.dataset, "train", stand_in=profile == "quick")
run.uses(train)
if train.images.shape[1:] != (32, 32, 3) or s.size < 1 or 32 % s.size:
    raise ValueError(
        f"images of 32×32 pixels and three channels, to be shrunk to a divisor of 32, would do, "
        f"not {train.images.shape[1:]} and size {s.size}"
    )
scorer = metrics.cifar_scorer()


SAMPLING = {"key": 1, "batch_size": 250, "recipe": 1}  # raise it when sampling changes
COLUMNS = ["inception_score", "frechet_distance"]
chosen = np.random.default_rng(0).permutation(len(train.images))[: s.num_reference]


@lru_cache(maxsize=1)
def pixels(size):
    """All images in [0, 1] at a size."""
    factor = train.images.shape[1] // size
    parts = np.split(train.images, range(1000, len(train.images), 1000))
    return np.concatenate(
        [x.reshape(len(x), size, factor, size, factor, 3).mean((2, 4)) for x in parts]
    )


@lru_cache(maxsize=1)
def images(size):
    return jnp.asarray(2 * pixels(size) - 1)


@lru_cache(maxsize=1)
def networks(scale):
    return gan.sngan_networks(size=scale.size, width=scale.width, initial_scale=scale.initial_scale)


@cache
def reference(size):
    return metrics.image_statistics(scorer, pixels(size)[chosen])


# %% tags=["hide-input"]
def observe(game, state):
    """Samples of a state, packed, or else their scores and a picture; none of a diverged one."""
    if int(state.diverged_at) >= 0:
        return {"step": int(state.step), "samples": None}
    key = jax.random.key(SAMPLING["key"])
    samples = gan.sample(game, state, key, s.num_scored, batch_size=SAMPLING["batch_size"])
    packed = pack((samples + 1) / 2)
    if s.keep_samples:
        return {"step": int(state.step), "samples": packed}
    return {"step": int(state.step), **score(packed), "picture": grid(unpack(packed))}


def pack(samples):
    """Images in [0, 1] as one base64 PNG, one below another."""
    return png(samples.reshape(-1, *samples.shape[2:]))


def png(image):
    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def unpack(text):
    column = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    size = column.shape[1]
    return column.reshape(-1, size, size, 3).astype(np.float32) / 255


def grid(samples):
    """The first 32 as 4 rows of 8."""
    rows = samples[:32].reshape(4, 8, *samples.shape[1:]).transpose(0, 2, 1, 3, 4)
    return png(rows.reshape(4 * samples.shape[1], -1, 3))


def score(text):
    """Scores of packed samples."""
    if text is None:
        return {"inception_score": np.nan, "frechet_distance": np.nan}
    samples = unpack(text)
    scores = metrics.score(scorer, samples, reference(samples.shape[1]))
    return {
        "inception_score": scores.inception_score,
        "frechet_distance": scores.frechet_distance,
    }


@lru_cache(maxsize=1)
def prepared(name):
    """A method's game, its options of `gan.train`, and the fingerprint of its program."""
    method = METHODS[name]
    game = gan.Game(networks(method.scale), method.loss)
    options = {
        "update": method.update,
        "terms": method.terms is not None,
        "optimizers": method.optimizers,
        "halved": method.halved,
    }
    step = gan.make_step(game, **options)

    def program(state, images):
        batch = (method.scale.batch_size, method.update.num_batches)
        batches = gan.draw_batches(images, state, game.networks.theta.latents, *batch)
        return gan.start(game, jax.random.key(0)), step(state, batches)

    start = begin(name, game, 0.1, 0.1, 0)
    return game, options, program_fingerprint(program, start, images(method.scale.size))


def begin(name, game, alpha, lam, seed):
    method = METHODS[name]
    rates = Players(alpha, lam)
    setting = gan.Setting(rates)
    if method.terms is not None:
        setting = gan.Setting(rates, method.terms(rates))
    state = gan.init(game, jax.random.key(seed), setting, method.update, method.optimizers)
    if method.nudge:
        return state._replace(players=jax.tree.map(lambda x: x * (1 + method.nudge), state.players))
    return state


def train_one(key, name, alpha, lam, seed):
    """Samples of one run on its way, and the step at which it diverged (−1: never)."""
    game, options, _ = prepared(name)
    scale = METHODS[name].scale

    def train(state, observe):
        return gan.train(
            game,
            state,
            images(scale.size),
            scale.num_steps,
            batch_size=scale.batch_size,
            every=scale.evaluate_every,
            observe=observe,
            **options,
        )

    start, look = begin(name, game, alpha, lam, seed), partial(observe, game)
    if s.keep_checkpoints:
        state, seen = checkpoints.resume(run.scratch(key), key, start, train, look)
    else:
        state, seen = train(start, look)
    return {"seen": seen, "diverged_at": int(state.diverged_at)}


# %% [markdown]
# ## Training
#
# What is kept of a run are samples on its way. Scores are made of them afterwards: another scorer
# needs no training again. At the paper's scale that would be terabytes; there `keep_samples` is
# off, and a run keeps its scores.

# %% tags=["hide-input"]
judge = {"scorer": scorer.checksum, "references": s.num_reference, "recipe": 1}  # raise likewise


def shared(scale):
    named = {k: getattr(scale, k) for k in ("batch_size", "num_steps", "evaluate_every")}
    scoring = {} if s.keep_samples else judge
    return {**named, "num_scored": s.num_scored, "sampling": SAMPLING, **scoring}


def coefficients(name, alpha, lam):
    """A method's terms as numbers, None where it has none: they are no part of its program."""
    terms = METHODS[name].terms
    if terms is None:
        return None
    found = terms(Players(alpha, lam))
    return {player: list(getattr(found, player)) for player in ("phi", "theta")}


mine = runs[s.shard[0] :: s.shard[1]]
published = gans.published(run) if s.keep_published else {}
trained = []
for number, (name, alpha, lam, seed) in enumerate(mine):
    what = {"rate_phi": alpha, "rate_theta": lam, "seed": seed}
    numbers = {"terms": coefficients(name, alpha, lam), "program": prepared(name)[2]}
    if METHODS[name].nudge:
        numbers["nudge"] = METHODS[name].nudge
    key = {**what, **shared(METHODS[name].scale), **numbers}  # whatever the method is called
    label = {"method": name, **what, "group": METHODS[name].group}
    scored = run.digest({**key, **judge})
    if scored not in published:
        run.cached(key, partial(train_one, key, name, alpha, lam, seed))
    trained.append((label, key, scored))
    run.progress(number + 1, len(mine), name)
taken = sum(scored in published for *_, scored in trained)
print(f"{len(mine)} runs: {taken} published ones, {len(mine) - taken} trained here")

# %% tags=["hide-input"]
curves, summary = [], []
for number, (label, key, scored) in enumerate(trained):
    if scored in published:
        row, curve = published[scored]
        curves.append(curve.assign(**label))
        summary.append({**row, **label})
        continue
    found, size = run.stored(key), METHODS[label["method"]].scale.size
    scores = []
    for row in found["seen"]:
        given = row
        if "samples" in row:
            digest = hashlib.sha256(str(row["samples"]).encode()).hexdigest()
            wanted = {"samples": digest, **judge, "size": size}
            given = run.cached(wanted, partial(score, row["samples"]))
        scores.append({"step": row["step"], **{k: float(given[k]) for k in COLUMNS}})
    curves.append(pd.DataFrame(scores).assign(**label))
    last = found["seen"][-1]
    picture = last.get("picture")
    if last.get("samples") is not None:
        picture = grid(unpack(last["samples"]))
    summary.append(
        {
            **label,
            "key": scored,
            "diverged_at": found["diverged_at"],
            **{k: scores[-1][k] for k in COLUMNS},
            "picture": picture,
            **{field: found[field] for field in ("seconds", "commit", "dirty", "device")},
        }
    )
    run.progress(number + 1, len(trained), "scored")
curves = pd.concat(curves, ignore_index=True)
summary = pd.DataFrame(summary)

# %% [markdown]
# Of each method's runs two pictures at most go into the table: of the one with the smallest Fréchet
# distance at the end, and of that among those with one rate for both players.

# %% tags=["hide-input"]
ranked = summary.sort_values("frechet_distance", na_position="last", kind="stable")
level = ranked[ranked["rate_phi"] == ranked["rate_theta"]]
kept = pd.concat([rows.drop_duplicates("method") for rows in (ranked, level)]).index
summary.loc[~summary.index.isin(kept), "picture"] = None
run.save("curves", curves)
run.save("runs", summary)
summary.groupby("method", sort=False).agg(
    runs=("seed", "size"),
    diverged=("diverged_at", lambda x: (x >= 0).sum()),
    median=("frechet_distance", "median"),
    best=("frechet_distance", "min"),
    minutes=("seconds", lambda x: x.sum() / 60),
).round(2)

# %% tags=["remove-input"]
run.card()
