"""Games played by networks: GAN losses, explicit regularisation on minibatches, updates, training.

A game is a pair of networks and a loss. φ is the discriminator, θ the generator, as in DD.

>>> from ddlib.regularizers import cancel_interaction
>>> game = Game(mlp_networks(), saturating())  # sngan_networks(size=16, width=0.125) for images
>>> update, rates = Update("alternating"), Players(0.01, 0.01)
>>> setting = Setting(rates, cancel_interaction(rates, method="alternating"))
>>> state = init(game, jax.random.key(0), setting, update)
>>> data = jax.random.normal(jax.random.key(1), (100, 2))
>>> state, seen = train(game, state, data, 4, update=update, terms=True, batch_size=16, every=2,
...                     observe=lambda state: sample(game, state, jax.random.key(2), 5))
>>> len(seen)
3

Rates, coefficients and keys are numbers in the state: a sweep over them compiles once. What changes
the program (the loss, the update, the size of the networks) is given where the step is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ddlib import nets, sngan
from ddlib._check import as_real, check_count, check_players, check_precision, check_step_size
from ddlib.frozen import hold
from ddlib.games import Players
from ddlib.regularizers import DriftTerms, _check_terms, _inner, consensus
from ddlib.sngan import Discriminator, Generator

Method = Literal["simultaneous", "alternating", "heun", "rk4", "midpoint", "adams-bashforth"]
METHODS = ("simultaneous", "alternating", "heun", "rk4", "midpoint", "adams-bashforth")
ALIGNMENT = 0.1  # ε of symplectic gradient adjustment with alignment
SWEEPS = 4  # of the fixed-point iteration of the implicit midpoint rule


class Networks(NamedTuple):
    """The two players' networks: phi's a `Discriminator`, theta's a `Generator`."""

    phi: Discriminator
    theta: Generator


def sngan_networks(
    *,
    size: int = 32,
    width: float = 1,
    latents: int = 128,
    channels: int = 3,
    spectral_norm: bool = True,
    initial_scale: float = 1,
) -> Networks:
    """The SN-GAN pair of `ddlib.sngan`; arguments and errors are its.

    >>> sngan_networks(size=16, width=0.125).theta.shape
    (16, 16, 3)
    """
    return Networks(
        sngan.discriminator(
            size=size,
            width=width,
            channels=channels,
            spectral_norm=spectral_norm,
            initial_scale=initial_scale,
        ),
        sngan.generator(
            size=size, width=width, latents=latents, channels=channels, initial_scale=initial_scale
        ),
    )


def mlp_networks(
    dimension: int = 2,
    widths: Sequence[int] = (25, 25),
    *,
    latents: int = 32,
    activation: nets.Activation = "relu",
) -> Networks:
    """Two multilayer perceptrons for data of a few dimensions, without normalisation.

    Args:
      dimension: of a sample.
      widths: of the hidden layers of both.
      latents: entries of z.
      activation: as `ddlib.nets.mlp`.

    Raises:
      ValueError: as `ddlib.nets.mlp`.

    >>> mlp_networks().phi.shape
    (2,)
    """

    def init(inputs: int, outputs: int, key: Array) -> tuple[PyTree, PyTree]:
        return make(inputs, outputs, key)[0], {}

    def make(inputs: int, outputs: int, key: Array) -> tuple[PyTree, nets.Apply]:
        dtype = jnp.result_type(float)  # that of rates and latents
        return nets.functional(
            nets.mlp(inputs, widths, outputs, activation=activation, key=key, dtype=dtype)
        )

    _, judge = make(dimension, 1, key := jax.random.key(0))
    _, draw = make(latents, dimension, key)
    return Networks(
        Discriminator(
            partial(init, dimension, 1),
            lambda phi, vectors, x: judge(phi, x)[:, 0],
            lambda phi, vectors: vectors,
            (dimension,),
        ),
        Generator(
            partial(init, latents, dimension),
            lambda theta, statistics, z, train: (draw(theta, z), statistics),
            latents,
            (dimension,),
        ),
    )


class Loss(NamedTuple):
    """The two players' losses as functions of logits.

    Attributes:
      phi: (logits of real, logits of generated samples) -> the discriminator's loss.
      theta: (logits of generated samples) -> the generator's loss.
      zero_sum: the generator's loss is minus the discriminator's, up to what θ does not enter;
        then minus the discriminator's is what both are taken from, and one pass serves both.
      gradient_penalty: factor on the mean of (‖∇ₓD‖ − 1)², at points between real and generated
        samples, in the discriminator's loss alone (Gulrajani et al., 2017).
      name: what tables call it.
    """

    phi: Callable[[Array, Array], Array]
    theta: Callable[[Array], Array]
    zero_sum: bool
    gradient_penalty: float
    name: str


def _saturating_phi(real: Array, fake: Array) -> Array:
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def _saturating_theta(fake: Array) -> Array:
    return -jnp.mean(jax.nn.softplus(fake))


def _non_saturating_theta(fake: Array) -> Array:
    return jnp.mean(jax.nn.softplus(-fake))


def _square_phi(real: Array, fake: Array) -> Array:
    return jnp.mean((real - 1) ** 2) + jnp.mean(fake**2)


def _square_theta(fake: Array) -> Array:
    return jnp.mean((fake - 1) ** 2)


def _sigmoid_square_phi(real: Array, fake: Array) -> Array:
    return _square_phi(jax.nn.sigmoid(real), jax.nn.sigmoid(fake))


def _sigmoid_square_theta(fake: Array) -> Array:
    return _square_theta(jax.nn.sigmoid(fake))


def _square_zero(fake: Array) -> Array:
    return -jnp.mean(fake**2)


def _sigmoid_square_zero(fake: Array) -> Array:
    return _square_zero(jax.nn.sigmoid(fake))


def _wasserstein_phi(real: Array, fake: Array) -> Array:
    return jnp.mean(fake) - jnp.mean(real)


def _wasserstein_theta(fake: Array) -> Array:
    return -jnp.mean(fake)


def saturating() -> Loss:
    """The zero-sum loss of Goodfellow et al. (2014): E[log σ(D)] + E[log(1 − σ(D∘G))].

    >>> saturating().zero_sum
    True
    """
    return Loss(_saturating_phi, _saturating_theta, True, 0.0, "saturating")


def non_saturating() -> Loss:
    """The same discriminator; the generator minimises −E[log σ(D∘G)]: no zero-sum game.

    >>> non_saturating().theta(jnp.zeros(3)).item()
    0.6931...
    """
    return Loss(_saturating_phi, _non_saturating_theta, False, 0.0, "non-saturating")


def least_squares(*, sigmoid: bool = False, zero_sum: bool = False) -> Loss:
    """Least squares (Mao et al., 2017): E[(D − 1)²] + E[(D∘G)²] against E[(D∘G − 1)²].

    Args:
      sigmoid: of σ(D) in place of D.
      zero_sum: the generator maximises the discriminator's loss instead, as in DD's released code.

    >>> least_squares(sigmoid=True).theta(jnp.zeros(3)).item()
    0.25
    >>> least_squares(zero_sum=True).theta(jnp.ones(3)).item()
    -1.0
    """
    first = _sigmoid_square_phi if sigmoid else _square_phi
    if zero_sum:
        second = _sigmoid_square_zero if sigmoid else _square_zero
    else:
        second = _sigmoid_square_theta if sigmoid else _square_theta
    words = ["zero-sum"] * zero_sum + ["sigmoid"] * sigmoid + ["least squares"]
    return Loss(first, second, zero_sum, 0.0, " ".join(words))


def wasserstein(gradient_penalty: float = 10.0) -> Loss:
    """Wasserstein (Arjovsky et al., 2017) with a gradient penalty (Gulrajani et al., 2017).

    Without the penalty it is a zero-sum game.

    >>> wasserstein().zero_sum, wasserstein(0).zero_sum
    (False, True)
    """
    check_step_size("gradient_penalty", gradient_penalty, zero=True)
    return Loss(
        _wasserstein_phi,
        _wasserstein_theta,
        gradient_penalty == 0,
        float(gradient_penalty),
        "wasserstein" if gradient_penalty == 0 else f"wasserstein, penalty {gradient_penalty:g}",
    )


class Game(NamedTuple):
    """Networks and their loss.

    >>> Game(mlp_networks(), saturating()).loss.name
    'saturating'
    """

    networks: Networks
    loss: Loss


class Memory(NamedTuple):
    """What the networks remember and no player's gradient moves.

    `vectors` of the discriminator's power iteration; `statistics` of the generator's batch norm.
    """

    vectors: PyTree
    statistics: PyTree


class Batch(NamedTuple):
    """A minibatch: real samples (n, …) and latents (n, latents); `mix` (n,) in [0, 1] places the
    points of a gradient penalty."""

    real: Array
    z: Array
    mix: Array


class Gradients(NamedTuple):
    """All four gradients of a game: `own` (∇φL₁, ∇θL₂), `cross` (∇φL₂, ∇θL₁), and `memory`."""

    own: Players
    cross: Players
    memory: Memory


def losses(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(L₁, L₂) on a minibatch. With a zero-sum loss L₂ = −L₁.

    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> [x.item() for x in losses(game, players, memory, batch)]
    [1.386..., -1.386...]
    """
    return _losses(game, players, memory, batch)[0]


def _losses(game: Game, players: Players, memory: Memory, batch: Batch) -> tuple[Players, PyTree]:
    """Both losses, and the generator's statistics after its pass in training mode."""
    networks, loss = game
    dtype = check_precision("players and memory", (players, memory))
    batch = Batch(*(as_real(f"batch.{k}", x, dtype) for k, x in batch._asdict().items()))
    fake, statistics = networks.theta.apply(players.theta, memory.statistics, batch.z, True)
    judge = partial(networks.phi.apply, players.phi, memory.vectors)
    first = loss.phi(judge(batch.real), on_fake := judge(fake))
    if loss.gradient_penalty:
        mix = batch.mix.reshape(-1, *(1,) * (fake.ndim - 1))
        between = hold(batch.real + mix * (fake - batch.real))
        slopes = jax.grad(lambda x: judge(x).sum())(between)  # D takes each sample by itself
        norms = jnp.sqrt(jnp.sum(slopes.reshape(len(slopes), -1) ** 2, 1) + 1e-12)
        first += loss.gradient_penalty * jnp.mean((norms - 1) ** 2)
    second = -first if loss.zero_sum else loss.theta(on_fake)
    return Players(first, second), statistics


def gradients(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(∇φL₁, ∇θL₂) on a minibatch; one forward and one backward pass if the game is zero-sum.

    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> gradients(game, players, memory, batch).theta["layer_2"]["bias"].shape
    (2,)
    """
    return _own(game, players, memory, batch)[0]


def _own(game: Game, players: Players, memory: Memory, batch: Batch) -> tuple[Players, PyTree]:
    check_precision("players and memory", (players, memory))
    if game.loss.zero_sum:
        whole, statistics = jax.grad(
            lambda y: _first(*_losses(game, y, memory, batch)), has_aux=True
        )(players)
        return Players(whole.phi, _scale(-1, whole.theta)), statistics
    # XLA finds that the two share their forward pass.
    phi = jax.grad(lambda p: losses(game, players._replace(phi=p), memory, batch).phi)(players.phi)
    theta, statistics = jax.grad(
        lambda p: _second(*_losses(game, players._replace(theta=p), memory, batch)), has_aux=True
    )(players.theta)
    return Players(phi, theta), statistics


def _first(both: Players, statistics: PyTree) -> tuple[Array, PyTree]:
    return both.phi, statistics


def _second(both: Players, statistics: PyTree) -> tuple[Array, PyTree]:
    return both.theta, statistics


def _cross(game: Game, players: Players, memory: Memory, batch: Batch) -> Players:
    """(∇φL₂, ∇θL₁), of a game that is not zero-sum."""
    return Players(
        jax.grad(lambda p: losses(game, players._replace(phi=p), memory, batch).theta)(players.phi),
        jax.grad(lambda p: losses(game, players._replace(theta=p), memory, batch).phi)(
            players.theta
        ),
    )


def regularized_gradients(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    terms: Players,
    *,
    unbiased: bool = True,
    halved: bool = False,
    align: bool = False,
) -> Players:
    """(∇φL₁, ∇θL₂) with the terms of `ddlib.regularizers` added, on a minibatch.

    Unbiased: of each product of two gradients one is taken on the first half of the batch and held
    constant, the other on the second half and differentiated, as the papers' released code does.
    (`minibatch_regularized_losses` differentiates both ways round, for twice the work.) The
    players' own slopes are those of the whole batch; with `halved`, the means over the two halves,
    which saves a pass. With batch norm that is another game, whose batches are half as large.
    Biased: everything on the whole batch.

    Args:
      game, players, memory: the game and its state.
      batch: of even size, if unbiased.
      terms: `Players` of `DriftTerms`. A coefficient that is None costs nothing: its term is not
        in the program. Numbers, zero included, are traced.
      unbiased, halved: which estimator.
      align: for the terms of `regularizers.sga`, strength·Aᵀξ: give them the sign of
        ⟨ξ, ∇H⟩⟨Aᵀξ, ∇H⟩/d + 0.1, with H = ‖ξ‖²/2 and d the number of parameters (Balduzzi et al.,
        2018, Algorithm 1). It takes one more product with the Hessian.

    Raises:
      ValueError: terms of the wrong structure, an odd batch, halves without `unbiased`,
        alignment of terms that are not those of `sga`.

    >>> from ddlib.regularizers import consensus
    >>> game = Game(mlp_networks(), saturating())
    >>> players, memory = start(game, jax.random.key(0))
    >>> batch = Batch(jnp.zeros((4, 2)), jnp.zeros((4, 32)), jnp.zeros(4))
    >>> found = regularized_gradients(game, players, memory, batch, consensus(0.0))
    >>> plain = gradients(game, players, memory, batch)
    >>> [bool(jnp.allclose(a, b)) for a, b in zip(*map(jax.tree.leaves, (found, plain)))][:3]
    [True, True, True]
    """
    estimator = Estimator(unbiased, halved, align)
    slopes, extra, _ = _parts(game, players, memory, batch, terms, estimator)
    return _with_terms(slopes, extra)


class Estimator(NamedTuple):
    """How terms are made of a minibatch: the options of `regularized_gradients`."""

    unbiased: bool = True
    halved: bool = False
    align: bool = False


def _check_estimator(estimator: Estimator) -> None:
    if estimator.halved and not estimator.unbiased:
        raise ValueError("halved says how slopes go with the two-half estimator of terms")


def _parts(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    terms: Players,
    estimator: Estimator,
) -> tuple[Players, Players, PyTree]:
    """The game's own gradients, those of the terms (None for a player without), the statistics."""
    _check_terms(terms)
    _check_estimator(estimator)
    if estimator.unbiased:
        size = batch.real.shape[0]
        if size % 2:
            raise ValueError(f"the two-half estimator needs an even batch, got {size} samples")
        held = jax.tree.map(lambda x: x[: size // 2], batch)
        moved = jax.tree.map(lambda x: x[size // 2 :], batch)
        fixed, first = _own(game, players, memory, held)
        if estimator.halved:
            value, second = _own(game, players, memory, moved)
            slopes = jax.tree.map(lambda a, b: (a + b) / 2, fixed, value)
            statistics = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        else:
            slopes, statistics = _own(game, players, memory, batch)
    else:
        moved = batch
        slopes, statistics = _own(game, players, memory, batch)
        fixed = slopes

    def gradients_of(terms: Players) -> Players:
        given = (game, players, memory, moved, fixed)
        return Players(
            _extra(*given, terms.phi, "phi", "theta"), _extra(*given, terms.theta, "theta", "phi")
        )

    extra = gradients_of(terms)
    if estimator.align:
        if None in extra or terms.phi.other_norm is None:
            raise ValueError("alignment needs terms of both players, as regularizers.sga has them")
        uphill = gradients_of(consensus(0.5))  # ∇H
        size = sum(x.size for x in jax.tree.leaves(players))
        strength = 4 * terms.phi.other_norm
        both = _inner(slopes, uphill) * _inner(extra, uphill) / size  # times the strength
        extra = _scale(jnp.where(both + strength * ALIGNMENT >= 0, 1.0, -1.0), extra)
    return slopes, extra, statistics


def _with_terms(slopes: Players, extra: Players) -> Players:
    """Slopes and terms together; a player without terms has None for them."""
    return Players(
        *(
            slope if more is None else jax.tree.map(jnp.add, slope, more)
            for slope, more in zip(slopes, extra, strict=True)
        )
    )


def _extra(
    game: Game,
    players: Players,
    memory: Memory,
    batch: Batch,
    fixed: Players,
    weights: DriftTerms,
    me: str,
    other: str,
) -> PyTree | None:
    """The gradient of one player's terms: products of Hessians with what is held constant.

    ∇φ of self_norm·‖∇φL₁‖² + interaction·⟨∇θL₁, [∇θL₂]⟩ is the derivative of ∇φL₁ along
    (2 self_norm·∇φL₁, interaction·∇θL₂), and that of other_norm·‖∇θL₂‖² the derivative of ∇φL₂
    along (0, 2 other_norm·∇θL₂).
    """
    own, interaction, norm = weights

    def along(gradient: Callable[..., Players], mine: Any, theirs: Any) -> PyTree:
        direction = {
            name: _scale(factor, getattr(fixed, name))
            for name, factor in ((me, mine), (other, theirs))
            if factor is not None
        }

        def at(moving: dict[str, PyTree]) -> PyTree:
            return getattr(gradient(game, players._replace(**moving), memory, batch), me)

        start = {name: getattr(players, name) for name in direction}
        return jax.jvp(at, (start,), (direction,))[1]

    mine = None if own is None else 2 * own
    parts = []
    if game.loss.zero_sum:  # ∇φL₂ = −∇φL₁
        theirs = None
        if interaction is not None or norm is not None:
            theirs = 0.0 if interaction is None else interaction
            theirs = theirs if norm is None else theirs - 2 * norm
        if mine is not None or theirs is not None:
            parts.append(along(gradients, mine, theirs))
    else:
        if mine is not None or interaction is not None:
            parts.append(along(gradients, mine, interaction))
        if norm is not None:
            parts.append(along(_cross, None, 2 * norm))
    return jax.tree.map(lambda *xs: sum(xs), *parts) if parts else None


def _scale(factor: Any, tree: PyTree) -> PyTree:
    """A factor times a tree, in the tree's precision."""
    return jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, tree)


def _moved(players: Players, rates: Players, slopes: Players) -> Players:
    """Each player, moved by its rate down its own slope."""
    return Players(
        jax.tree.map(jnp.subtract, players.phi, _scale(rates.phi, slopes.phi)),
        jax.tree.map(jnp.subtract, players.theta, _scale(rates.theta, slopes.theta)),
    )


class Update(NamedTuple):
    """How the players move in one step of training.

    Attributes:
      method: "simultaneous"; "alternating", a player seeing the other's move; or, both jointly,
        "heun", "rk4" (a fresh minibatch a stage), "midpoint" (implicit, by fixed-point sweeps on
        one minibatch), "adams-bashforth" (of order 2; the first step is Euler's).
      num_updates: `Players` (m, k) of an alternating step, each on a fresh minibatch. Each moves
        by the whole rate divided by m or k, so that a step moves as far as one update would (DD,
        Eqs. 8–9).
      first: the player that moves first in an alternating step.

    >>> Update("alternating", Players(2, 1)).num_batches
    3
    """

    method: Method = "simultaneous"
    num_updates: Players = Players(1, 1)
    first: Literal["phi", "theta"] = "phi"

    @property
    def num_batches(self) -> int:
        """Minibatches that one step takes."""
        stages = {"heun": 2, "rk4": 4, "alternating": sum(self.num_updates)}
        return stages.get(self.method, 1)


SIMULTANEOUS = Update()


def check_update(update: Update) -> None:
    """Raise `ValueError` unless `update` makes sense.

    >>> check_update(Update("simultaneous", Players(2, 1)))
    Traceback (most recent call last):
    ...
    ValueError: update.num_updates must be Players(1, 1) if simultaneous, got ...
    """
    if not isinstance(update, Update):
        raise ValueError(f"update must be an Update, got {update!r}")
    if update.method not in METHODS:
        raise ValueError(
            f"update.method must be one of {', '.join(METHODS)}, got {update.method!r}"
        )
    check_players("update.num_updates", update.num_updates)
    check_count("update.num_updates.phi", update.num_updates.phi)
    check_count("update.num_updates.theta", update.num_updates.theta)
    if update.method != "alternating" and tuple(update.num_updates) != (1, 1):
        raise ValueError(
            f"update.num_updates must be Players(1, 1) if {update.method}, got {update.num_updates}"
        )
    if update.first not in ("phi", "theta"):
        raise ValueError(f'update.first must be "phi" or "theta", got {update.first!r}')


class Setting(NamedTuple):
    """What a sweep varies: `Players` of rates and of `DriftTerms`; numbers or traced arrays.

    >>> Setting(Players(0.01, 0.02)).terms.phi.interaction
    0.0
    """

    rates: Players
    terms: Players = Players(DriftTerms(), DriftTerms())


class State(NamedTuple):
    """All that training carries: a pytree of arrays, whole in a checkpoint."""

    players: Players
    memory: Memory
    optimizers: Players | None  # optax states, or None for plain gradient descent
    velocity: Players | None  # the last slopes, of Adams and Bashforth's method; else None
    setting: Setting
    key: Array  # as raw data: of the minibatches and latents
    step: Array
    diverged_at: Array  # the first step after which a parameter was not finite, or −1


Optimizers = Players
"""`Players` of functions from a rate to an optax transformation, such as `optax.sgd`."""


def check_game(game: Game) -> None:
    """Raise `ValueError` unless `game` is two networks and a loss.

    >>> check_game(Game(mlp_networks(), "hinge"))
    Traceback (most recent call last):
    ...
    ValueError: game.loss must be a Loss, such as saturating(), got 'hinge'
    """
    if not isinstance(game, Game):
        raise ValueError(f"game must be a Game, got {game!r}")
    if not isinstance(game.networks, Networks):
        raise ValueError(f"game.networks must be Networks, got {game.networks!r}")
    if not isinstance(game.loss, Loss):
        raise ValueError(f"game.loss must be a Loss, such as saturating(), got {game.loss!r}")


def _check_optimizers(optimizers: Optimizers) -> None:
    check_players("optimizers", optimizers)
    for name, make in optimizers._asdict().items():
        if not callable(make):
            raise ValueError(
                f"optimizers.{name} must be a function from a rate to an optax transformation, "
                f"such as optax.sgd, got {type(make).__name__}"
            )


def _check_state(
    game: Game, state: State, update: Update, terms: bool, optimizers: Optimizers | None
) -> None:
    """Raise `ValueError` for a state that was made for another game or way of training."""
    if not isinstance(state, State):
        raise ValueError(f"state must be a State, from init, got {type(state).__name__}")
    if not terms and any(np.any(np.asarray(x)) for x in jax.tree.leaves(state.setting.terms)):
        raise ValueError("the state's setting has terms, and without terms=True they do nothing")
    if (optimizers is None) != (state.optimizers is None):
        have = "none" if state.optimizers is None else "some"
        raise ValueError(f"init and training must get the same optimizers; the state has {have}")
    if (update.method == "adams-bashforth") != (state.velocity is not None):
        raise ValueError(f"the state was made for another update than {update.method}")

    def shapes(tree: PyTree) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}

    make = partial(init, game, setting=state.setting, update=update, optimizers=optimizers)
    wanted, found = shapes(jax.eval_shape(make, jax.random.key(0))), shapes(state)
    for path in wanted | found:
        if wanted.get(path) != found.get(path):
            raise ValueError(
                f"the state was made for another game or other optimizers: its {path} has shape "
                f"{found.get(path)}, here it is {wanted.get(path)}"
            )


def start(game: Game, key: Array) -> tuple[Players, Memory]:
    """The two networks at their start.

    >>> players, memory = start(Game(mlp_networks(), saturating()), jax.random.key(0))
    >>> sorted(players.phi)
    ['layer_0', 'layer_1', 'layer_2']
    """
    one, two = jax.random.split(key)
    phi, vectors = game.networks.phi.init(one)
    theta, statistics = game.networks.theta.init(two)
    return Players(phi, theta), Memory(vectors, statistics)


def init(
    game: Game,
    key: Array,
    setting: Setting,
    update: Update = SIMULTANEOUS,
    optimizers: Optimizers | None = None,
) -> State:
    """The state of training at its start.

    Args:
      game: networks and loss.
      key: PRNG key; networks, minibatches and latents all follow from it.
      setting: rates and terms.
      update, optimizers: as given to `make_step`.

    Raises:
      ValueError: no game, rates that are no `Players` of positive numbers, terms of the wrong
        structure or not finite, an update that makes no sense, optimizers that are no functions.

    >>> game = Game(mlp_networks(), saturating())
    >>> init(game, jax.random.key(0), Setting(Players(0.1, 0.1))).step.item()
    0
    """
    check_game(game)
    check_update(update)
    if not isinstance(setting, Setting):
        raise ValueError(f"setting must be a Setting, got {setting!r}")
    check_players("setting.rates", setting.rates)
    check_step_size("setting.rates.phi", setting.rates.phi)
    check_step_size("setting.rates.theta", setting.rates.theta)
    for name, rate in setting.rates._asdict().items():
        if np.ndim(rate):
            raise ValueError(
                f"setting.rates.{name} must be one number, got shape {np.shape(rate)}; for many at "
                "once, jax.vmap"
            )
    _check_terms(setting.terms)
    setting = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), setting)
    networks_key, data_key = jax.random.split(key)
    players, memory = start(game, networks_key)
    states = None
    if optimizers is not None:
        _check_optimizers(optimizers)
        states = Players(
            optimizers.phi(setting.rates.phi).init(players.phi),
            optimizers.theta(setting.rates.theta).init(players.theta),
        )
    velocity = None
    if update.method == "adams-bashforth":
        velocity = jax.tree.map(jnp.zeros_like, players)
    return State(
        players,
        memory,
        states,
        velocity,
        setting,
        jax.random.key_data(data_key),
        jnp.zeros((), jnp.int32),
        jnp.full((), -1, jnp.int32),
    )


def make_step(
    game: Game,
    update: Update = SIMULTANEOUS,
    *,
    terms: bool = False,
    unbiased: bool = True,
    halved: bool = False,
    align: bool = False,
    optimizers: Optimizers | None = None,
) -> Callable[[State, Batch], State]:
    """One step of training: a function (state, batches) -> state, to be jitted by the caller.

    The power iteration of the discriminator takes one step a step, on the parameters it starts
    with; the generator's passes use it and leave it. The generator's statistics move with the
    generator's own passes alone.

    Args:
      game: networks and loss.
      update: how the players move.
      terms: whether the setting's terms are in the program. In a "heun" or "rk4" step they enter
        once, as an Euler step on the first stage's minibatch (ODE-GAN, Algorithm 1); in a
        "midpoint" step they are part of the slope at the middle, in an "adams-bashforth" step of
        the slope that is taken and remembered.
      unbiased, halved, align: as `regularized_gradients`.
      optimizers: `Players` of functions from a rate to an optax transformation, for simultaneous
        and alternating updates; None is gradient descent.

    Returns:
      step(state, batches): batches is a `Batch` whose arrays have a leading axis of
      `update.num_batches`. The function is cached: equal arguments give the same one.

    Raises:
      ValueError: no game, an update that makes no sense, optimizers for a method that is no
        descent, alignment or halves without terms.

    >>> game = Game(mlp_networks(), saturating())
    >>> step = make_step(game, Update("alternating"))
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> batches = Batch(jnp.ones((2, 4, 2)), jnp.ones((2, 4, 32)), jnp.ones((2, 4)))
    >>> step(state, batches).step.item()
    1
    """
    check_game(game)
    check_update(update)
    if align and not terms:
        raise ValueError("align gives terms their sign: it goes with terms=True")
    if halved and not terms:
        raise ValueError("halved is about slopes beside terms: it goes with terms=True")
    estimator = Estimator(unbiased, halved, align)
    _check_estimator(estimator)
    if optimizers is not None:
        _check_optimizers(optimizers)
        if update.method not in ("simultaneous", "alternating"):
            raise ValueError(f"optimizers go with descent, not with {update.method}")
    return _make_step(game, update, terms, estimator, optimizers)


@lru_cache(maxsize=64)
def _make_step(
    game: Game,
    update: Update,
    terms: bool,
    estimator: Estimator,
    optimizers: Optimizers | None,
) -> Callable[[State, Batch], State]:
    def slopes(
        players: Players, memory: Memory, batch: Batch, with_terms: Players | None
    ) -> tuple[Players, PyTree]:
        if with_terms is None:
            return _own(game, players, memory, batch)
        own, extra, statistics = _parts(game, players, memory, batch, with_terms, estimator)
        return _with_terms(own, extra), statistics

    def descend(state: State, player: str, slope: PyTree, parts: int = 1) -> State:
        """One player's update by its own slope."""
        mine = getattr(state.players, player)
        rate = jnp.asarray(getattr(state.setting.rates, player), check_precision(player, mine))
        rate = rate / parts
        states = state.optimizers
        if optimizers is None:
            moved = jax.tree.map(jnp.subtract, mine, _scale(rate, slope))
        else:
            change, kept = getattr(optimizers, player)(rate).update(
                slope, getattr(states, player), mine
            )
            moved = optax.apply_updates(mine, change)
            states = states._replace(**{player: kept})  # type: ignore[union-attr]
        return state._replace(players=state.players._replace(**{player: moved}), optimizers=states)

    def simultaneous(state: State, batches: Batch, given: Players | None) -> State:
        slope, statistics = slopes(state.players, state.memory, _at(batches, 0), given)
        state = descend(descend(state, "phi", slope.phi), "theta", slope.theta)
        return _with_statistics(state, statistics)

    def alternating(state: State, batches: Batch, given: Players | None) -> State:
        order = ("phi", "theta") if update.first == "phi" else ("theta", "phi")
        number = 0
        for player in order:
            parts = getattr(update.num_updates, player)
            for _ in range(parts):
                # The other player's half of the pass is not in the program: nothing uses it.
                slope, statistics = slopes(state.players, state.memory, _at(batches, number), given)
                state = descend(state, player, getattr(slope, player), parts)
                if player == "theta":
                    state = _with_statistics(state, statistics)
                number += 1
        return state

    def joint(state: State, batches: Batch, given: Players | None) -> State:
        rates, players, memory = state.setting.rates, state.players, state.memory
        velocity = state.velocity
        first, statistics = slopes(players, memory, _at(batches, 0), None)
        if update.method == "adams-bashforth":
            if given is not None:
                first, statistics = slopes(players, memory, _at(batches, 0), given)
            start = state.step == 0
            slope = jax.tree.map(
                lambda new, old: jnp.where(start, new, 1.5 * new - 0.5 * old), first, velocity
            )
            velocity = first
        elif update.method == "midpoint":
            slope = first
            for _ in range(SWEEPS):
                half = jax.tree.map(lambda r: r / 2, rates)
                slope, statistics = slopes(
                    _moved(players, half, slope), memory, _at(batches, 0), given
                )
        else:
            stages = [first]
            weights = (0.5, 0.5) if update.method == "heun" else (1 / 6, 1 / 3, 1 / 3, 1 / 6)
            for i, node in enumerate((1.0,) if update.method == "heun" else (0.5, 0.5, 1.0)):
                reach = jax.tree.map(lambda r, node=node: r * node, rates)
                stage, seen = slopes(
                    _moved(players, reach, stages[-1]), memory, _at(batches, i + 1), None
                )
                stages.append(stage)
                statistics = jax.tree.map(lambda a, b: a + b, statistics, seen)
            statistics = jax.tree.map(lambda x: x / len(stages), statistics)
            slope = jax.tree.map(
                lambda *xs: sum(w * x for w, x in zip(weights, xs, strict=True)), *stages
            )
            if given is not None:
                batch = _at(batches, 0)
                _, extra, _ = _parts(game, players, memory, batch, given, estimator)
                slope = _with_terms(slope, extra)
        state = state._replace(players=_moved(players, rates, slope), velocity=velocity)
        return _with_statistics(state, statistics)

    rule = {"simultaneous": simultaneous, "alternating": alternating}.get(update.method, joint)

    def step(state: State, batches: Batch) -> State:
        if batches.real.shape[:1] != (update.num_batches,):
            raise ValueError(
                f"batches must have a leading axis of {update.num_batches} for {update}, got "
                f"shape {batches.real.shape}"
            )
        check_precision("players and memory", (state.players, state.memory))
        vectors = game.networks.phi.refresh(state.players.phi, state.memory.vectors)
        after = rule(state, batches, state.setting.terms if terms else None)
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(after.players)]).all()
        return after._replace(
            memory=after.memory._replace(vectors=vectors),
            step=state.step + 1,
            diverged_at=jnp.where(
                finite | (state.diverged_at >= 0), state.diverged_at, state.step + 1
            ),
        )

    return step


def _with_statistics(state: State, statistics: PyTree) -> State:
    return state._replace(memory=state.memory._replace(statistics=statistics))


def _at(batches: Batch, number: int) -> Batch:
    return jax.tree.map(lambda x: x[number], batches)


def draw_batches(
    data: Array, state: State, latents: int, batch_size: int, num_batches: int
) -> Batch:
    """Minibatches of one step, all from the state's key and step.

    Args:
      data: real samples, scaled as the generator's are; drawn with replacement.
      state: whose key and step say which.
      latents, batch_size, num_batches: sizes.

    Returns:
      A `Batch` of arrays with leading axes (num_batches, batch_size); latents are normal numbers.

    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> draw_batches(jnp.zeros((10, 2)), state, 32, 4, 1).z.shape
    (1, 4, 32)
    """
    dtype = check_precision("state.players", state.players)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    which, noise, mix = jax.random.split(key, 3)
    shape = (num_batches, batch_size)
    return Batch(
        as_real("data", data, dtype)[jax.random.randint(which, shape, 0, len(data))],
        jax.random.normal(noise, (*shape, latents), dtype),
        jax.random.uniform(mix, shape, dtype),
    )


@lru_cache(maxsize=64)
def _advance(
    step: Callable[[State, Batch], State],
    latents: int,
    batch_size: int,
    num_batches: int,
    num_steps: int,
) -> Callable[[State, Array], State]:
    """(state, data) -> state after num_steps steps, compiled; the state's buffers are reused."""

    def one(state: State, data: Array) -> State:
        return step(state, draw_batches(data, state, latents, batch_size, num_batches))

    def many(state: State, data: Array) -> State:
        return jax.lax.fori_loop(0, num_steps, lambda _, y: one(y, data), state)

    return jax.jit(one if num_steps == 1 else many, donate_argnums=0)


def train(
    game: Game,
    state: State,
    data: Array,
    num_steps: int,
    *,
    update: Update = SIMULTANEOUS,
    terms: bool = False,
    unbiased: bool = True,
    halved: bool = False,
    align: bool = False,
    optimizers: Optimizers | None = None,
    batch_size: int = 128,
    every: int = 1,
    observe: Callable[[State], PyTree] = lambda state: {},
    report: Callable[[int], None] | None = None,
) -> tuple[State, list[PyTree]]:
    """Train from `state` up to step `num_steps`.

    Args:
      game: networks and loss.
      state: from `init`, or from an earlier call: then only the steps that are left are taken, and
        the trajectory is the same to the bit.
      data: real samples, leading axis the sample, scaled as the generator's: images in [−1, 1].
      num_steps: the step to end at; with the state's own step a multiple of `every` apart.
      update, terms, unbiased, halved, align, optimizers: as `make_step`.
      batch_size: of each minibatch.
      every: steps between observations.
      observe: what is kept, from the state before the first and after each `every` steps; it may
        do anything on the host.
      report: called with the step after each observation.

    Returns:
      The state and the observations. A run that diverges ends at the next observation, which is
      its last; `state.diverged_at` says at which step it did.

    Raises:
      ValueError: data of another shape than the generator's samples, a batch size that will not do,
        steps that do not divide, a state that was made for something else (terms that the program
        would leave out, another update or other optimizers); before anything is compiled.

    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> state, seen = train(game, state, jnp.zeros((10, 2)), 4, batch_size=6, every=2,
    ...                     observe=lambda state: state.step.item())
    >>> seen
    [0, 2, 4]
    """
    step = make_step(
        game,
        update,
        terms=terms,
        unbiased=unbiased,
        halved=halved,
        align=align,
        optimizers=optimizers,
    )
    _check_state(game, state, update, terms, optimizers)
    shape = game.networks.theta.shape
    if jnp.shape(data)[1:] != shape or game.networks.phi.shape != shape:
        raise ValueError(
            f"data must have shape (n, {', '.join(map(str, shape))}) and fit both networks, got "
            f"{jnp.shape(data)} and a discriminator of {game.networks.phi.shape}"
        )
    data = as_real("data", data, check_precision("state.players", state.players))
    if not len(data):
        raise ValueError("data must have samples, got none")
    check_count("batch_size", batch_size)
    if terms and unbiased and batch_size % 2:
        raise ValueError(f"batch_size must be even for the two-half estimator, got {batch_size}")
    check_count("every", every)
    check_count("num_steps", num_steps, least=0)
    first = int(state.step)
    if first > num_steps or (num_steps - first) % every:
        raise ValueError(
            f"num_steps must lie a multiple of every={every} beyond step {first}, got {num_steps}"
        )
    # XLA:CPU runs convolutions inside a loop far slower than one by one
    images = len(shape) == 3
    at_once = 1 if images and jax.default_backend() == "cpu" else every
    advance = _advance(step, game.networks.theta.latents, batch_size, update.num_batches, at_once)
    state = jax.tree.map(jnp.copy, state)
    seen = [observe(jax.tree.map(jnp.copy, state))]  # a step takes over the arrays of its state
    for begin in range(first, num_steps, every):
        if int(state.diverged_at) >= 0:
            break
        for _ in range(every // at_once):
            state = advance(state, data)
        seen.append(observe(jax.tree.map(jnp.copy, state)))
        if report is not None:
            report(begin + every)
    return state, seen


@lru_cache(maxsize=64)
def _sampler(game: Game, num_samples: int, running: bool) -> Callable[..., Array]:
    def draw(theta: PyTree, statistics: PyTree, key: Array) -> Array:
        dtype = check_precision("state.players.theta", theta)
        z = jax.random.normal(key, (num_samples, game.networks.theta.latents), dtype)
        return game.networks.theta.apply(theta, statistics, z, not running)[0]

    return jax.jit(draw)


def sample(
    game: Game,
    state: State,
    key: Array,
    num_samples: int,
    *,
    running: bool = False,
    batch_size: int = 250,
) -> Float[np.ndarray, "n ..."]:
    """Samples of the generator, in its own scale: images in [−1, 1].

    Args:
      game, state: what is trained.
      key: PRNG key of the latents.
      num_samples: how many.
      running: whether batch norm uses its running statistics, which lag by a thousand steps; else
        it uses those of each batch of samples.
      batch_size: samples made at once.

    Raises:
      ValueError: numbers that are not positive integers; running statistics before the first step,
        when there are none.

    >>> game = Game(mlp_networks(), saturating())
    >>> state = init(game, jax.random.key(0), Setting(Players(0.1, 0.1)))
    >>> sample(game, state, jax.random.key(1), 5).shape
    (5, 2)
    """
    check_count("num_samples", num_samples)
    check_count("batch_size", batch_size)
    if running and not int(state.step):
        raise ValueError("there are no running statistics before the first step of training")
    draw = _sampler(game, min(batch_size, num_samples), running)
    made = [
        np.asarray(draw(state.players.theta, state.memory.statistics, jax.random.fold_in(key, i)))
        for i in range(-(-num_samples // batch_size))
    ]
    return np.concatenate(made)[:num_samples]
