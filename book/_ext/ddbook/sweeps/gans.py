"""GANs on images that a sweep trains: from a run's description to its scores.

    training = gans.Training(run, images, {"main": gans.Scale(16, 0.125, 1.0, 64, 2000, 500)}, …)
    done = batch.train(run, runs, training.key_of, training.train_one, …)
    curves, rows = batch.tables(run, done, training.scores_of, data=images)

What is kept of a run are samples on its way; scores are made of them afterwards, so that another
scorer needs no training again. At the paper's scale that would be terabytes: `keep_samples` off, a
run keeps its scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddbook import page
from ddbook.sweeps import batch, checkpoints, pictures
from ddbook.sweeps.arms import Arm
from ddbook.sweeps.sweep import SCORES
from ddlib import gan, metrics
from ddlib import regularizers as reg
from ddlib.data.dataset import Dataset
from ddlib.games import Players
from ddlib.regularizers import DriftTerms
from ddlib.sweep import program_fingerprint

ROUNDING = float(np.finfo(np.float32).eps)
SAMPLING = {"key": 1, "batch_size": 250, "recipe": 1}  # raise it when sampling changes
LOSSES = {
    "saturating": gan.saturating(),
    "non-saturating": gan.non_saturating(),
    "least squares": gan.least_squares(zero_sum=True),
}
ADAM = partial(optax.adam, b1=0.5)


class Scale(NamedTuple):
    """The size of images, networks and minibatches, and how long a run is."""

    size: int
    width: float
    initial_scale: float
    batch_size: int
    num_steps: int
    evaluate_every: int

    def check(self) -> Scale:
        """Return it; `ValueError` where runs could not be scored at their ends."""
        if self.size < 1 or 32 % self.size:
            raise ValueError(f"size must divide 32, got {self.size}")
        if self.evaluate_every < 1 or self.num_steps % self.evaluate_every:
            raise ValueError(
                f"evaluate_every must divide num_steps, got {self.evaluate_every} and "
                f"{self.num_steps} steps"
            )
        return self


def rule_of(arm: Arm) -> gan.Rule:
    """The static side of an arm's training: what its compiled program hangs on."""
    halved = arm.estimator == "halves"
    update: Any = arm.update  # a word of the table's; `Update` refuses another
    return gan.Rule(
        gan.Update(update, Players(arm.updates_phi, arm.updates_theta)),
        terms=halved or arm.terms != "none",
        estimator=gan.Estimator(halved=halved),
        optimizers=Players(ADAM, ADAM) if arm.optimizer == "Adam" else None,
    )


def terms_of(arm: Arm, rates: Players) -> Players:
    """The coefficients of both players' terms; None: not in the program."""
    if arm.terms == "consensus":
        return reg.consensus(arm.strength)
    if arm.terms == "drift consensus":
        return reg.drift_consensus(rates)
    if arm.terms == "SGA":
        terms = reg.sga(arm.strength)
    elif arm.terms == "cancel":
        method: Any = arm.update
        clock: Any = arm.clock
        terms = reg.cancel_interaction(rates, method=method, clock=clock)
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


@dataclass(frozen=True, eq=False)
class Training:
    """How the runs of a sweep are trained and scored.

    Attributes:
      run: the page; its store keeps what is found.
      images: the training images, 32×32 with three channels.
      scales: an arm's grid → its scale; "main" serves those that are not named.
      num_scored: how many samples a score takes.
      num_reference: how many images the Fréchet distance is to.
      keep_samples: keep packed samples rather than scores.
      keep_checkpoints: go on from the last scoring where a run was cut.
    """

    run: page.Run
    images: Dataset
    scales: Mapping[str, Scale]
    num_scored: int
    num_reference: int
    keep_samples: bool = True
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        """Refuse what will not do before anything is trained."""
        if self.images.images.shape[1:] != (32, 32, 3):
            raise ValueError(
                f"images must be 32×32 with three channels, got {self.images.images.shape[1:]}"
            )
        for scale in self.scales.values():
            scale.check()

    def scale_of(self, arm: Arm) -> Scale:
        """The scale of an arm."""
        return self.scales.get(arm.grid, self.scales["main"])

    def game_of(self, arm: Arm) -> gan.Game:
        """The networks and the loss of an arm."""
        return gan.Game(self._networks(self.scale_of(arm)), LOSSES[arm.loss])

    @cached_property
    def _networks(self) -> Callable[[Scale], Any]:
        return lru_cache(maxsize=1)(
            lambda scale: gan.sngan_networks(
                size=scale.size, width=scale.width, initial_scale=scale.initial_scale
            )
        )

    @cached_property
    def pixels(self) -> Callable[[int], np.ndarray]:
        """All images in [0, 1] at a size: averages over squares of pixels."""
        return lru_cache(maxsize=1)(partial(_thinned, self.images.images))

    @cached_property
    def _on_device(self) -> Callable[[int], jax.Array]:
        return lru_cache(maxsize=1)(lambda size: jnp.asarray(2 * self.pixels(size) - 1))

    def begin(self, arm: Arm, alpha: float, lam: float, seed: int) -> Any:
        """The state of a run before its first step."""
        rule, rates = rule_of(arm), Players(alpha, lam)
        terms = {"terms": terms_of(arm, rates)} if rule.terms else {}
        setting = gan.Setting(rates, **terms)
        state = gan.init(self.game_of(arm), jax.random.key(seed), setting, rule)
        if arm.nudge:  # every parameter larger by so many roundings of itself
            factor = 1 + arm.nudge * ROUNDING
            state = state._replace(players=jax.tree.map(lambda x: x * factor, state.players))
        return state

    def train_one(self, one: batch.Run, key: dict[str, Any]) -> dict[str, Any]:
        """What a run's samples show on its way, and when it diverged (−1: never)."""
        arm, scale = one.arm, self.scale_of(one.arm)
        game = self.game_of(arm)

        def train(state: Any, observe: Callable[[Any], Any]) -> Any:
            return gan.train(
                game,
                state,
                self._on_device(scale.size),
                scale.num_steps,
                rule=rule_of(arm),
                batch_size=scale.batch_size,
                every=scale.evaluate_every,
                observe=observe,
            )

        start = self.begin(arm, one.rate_phi, one.rate_theta, one.seed)
        look = partial(self._observe, game)
        if self.keep_checkpoints:
            scratch = self.run.scratch(key, data=self.images)
            state, seen = checkpoints.resume(scratch, key, start, train, look)
        else:
            state, seen = train(start, look)
        return {"seen": seen, "diverged_at": int(state.diverged_at)}

    def _observe(self, game: gan.Game, state: Any) -> dict[str, Any]:
        if int(state.diverged_at) >= 0:
            return {"step": int(state.step), "samples": None}
        key = jax.random.key(SAMPLING["key"])
        samples = gan.sample(game, state, key, self.num_scored, batch_size=SAMPLING["batch_size"])
        packed = pictures.pack((samples + 1) / 2)
        if self.keep_samples:
            return {"step": int(state.step), "samples": packed}
        grid = pictures.grid(pictures.unpack(packed))
        return {"step": int(state.step), **self._score(packed), "picture": grid}

    @cached_property
    def _scorer(self) -> Any:
        return metrics.cifar_scorer()

    @cached_property
    def _reference(self) -> Callable[[int], Any]:
        chosen = np.random.default_rng(0).permutation(len(self.images.images))
        chosen = chosen[: self.num_reference]
        return lru_cache(maxsize=None)(
            lambda size: metrics.image_statistics(self._scorer, self.pixels(size)[chosen])
        )

    def _score(self, packed: str | None) -> dict[str, float]:
        if packed is None:
            return {"inception_score": np.nan, "frechet_distance": np.nan}
        samples = pictures.unpack(packed)
        found = metrics.score(self._scorer, samples, self._reference(samples.shape[1]))
        return {
            "inception_score": found.inception_score,
            "frechet_distance": found.frechet_distance,
        }

    @property
    def judge(self) -> dict[str, Any]:
        """What scores depend on beside the samples; raise the recipe when scoring changes."""
        return {
            "scorer": self._scorer.checksum,
            "references": self.num_reference,
            "recipe": 1,
        }

    @cached_property
    def _program(self) -> Callable[[Arm], str]:
        return lru_cache(maxsize=None)(self._fingerprint)  # a sweep comes back to an arm

    def _fingerprint(self, arm: Arm) -> str:
        game, rule, scale = self.game_of(arm), rule_of(arm), self.scale_of(arm)
        step = gan.make_step(game, rule)

        def start_and_step(state: Any, images: Any) -> Any:
            size = (scale.batch_size, rule.update.num_batches)
            batches = gan.draw_batches(images, state, game.networks.theta.latents, *size)
            return gan.start(game, jax.random.key(0)), step(state, batches)

        return program_fingerprint(
            start_and_step, self.begin(arm, 0.1, 0.1, 0), self._on_device(scale.size)
        )

    def key_of(self, one: batch.Run) -> dict[str, Any]:
        """All that a run's samples depend on; the data is added where they are kept."""
        arm, scale = one.arm, self.scale_of(one.arm)
        key = {field: getattr(one, field) for field in ("rate_phi", "rate_theta", "seed")}
        key |= {k: getattr(scale, k) for k in ("batch_size", "num_steps", "evaluate_every")}
        key |= {"num_scored": self.num_scored, "sampling": SAMPLING}
        if not self.keep_samples:
            key |= self.judge
        terms = None
        if rule_of(arm).terms:
            found = terms_of(arm, Players(one.rate_phi, one.rate_theta))
            terms = {player: list(term) for player, term in found._asdict().items()}
        key |= {"terms": terms, "program": self._program(arm)}
        if arm.nudge:
            key["nudge"] = arm.nudge * ROUNDING
        return key

    def scores_of(
        self, one: batch.Run, found: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A run's scores on its way, and a picture of its last samples."""
        scores = []
        for row in found["seen"]:
            given = row
            if "samples" in row:
                digest = hashlib.sha256(str(row["samples"]).encode()).hexdigest()
                wanted = {"samples": digest, **self.judge, "size": self.scale_of(one.arm).size}
                given = self.run.cached(
                    wanted, partial(self._score, row["samples"]), data=self.images
                )
            scores.append({"step": row["step"], **{k: float(given[k]) for k in SCORES}})
        last = found["seen"][-1]
        if last.get("samples") is None:
            return scores, last.get("picture")
        return scores, pictures.grid(pictures.unpack(last["samples"]))


def _thinned(images: np.ndarray, size: int) -> np.ndarray:
    factor = images.shape[1] // size
    parts = np.split(images, range(1000, len(images), 1000))
    return np.concatenate(
        [x.reshape(len(x), size, factor, size, factor, 3).mean((2, 4)) for x in parts]
    )
