"""Games played by networks: GAN losses, explicit regularisation on minibatches, updates, training.

A game is a pair of networks and a loss. φ is the discriminator, θ the generator, as in DD.

>>> import jax
>>> from ddlib.games import Players
>>> from ddlib.regularizers import cancel_interaction
>>> game = Game(mlp_networks(), saturating())  # sngan_networks(size=16, width=0.125) for images
>>> rule, rates = Rule(Update("alternating"), terms=True), Players(0.01, 0.01)
>>> setting = Setting(rates, cancel_interaction(rates, method="alternating"))
>>> state = init(game, jax.random.key(0), setting, rule)
>>> data = jax.random.normal(jax.random.key(1), (100, 2))
>>> state, seen = train(game, state, data, 4, rule=rule, batch_size=16, every=2,
...                     observe=lambda state: sample(game, state, jax.random.key(2), 5))
>>> len(seen)
3

Rates, coefficients and keys are numbers in the state: a sweep over them compiles once. What changes
the program (the loss, the networks, the rule) is static. Where a rule is asked for, an `Update` and
parts of the rule by name will do: `train(…, update=Update("alternating"), terms=True)`.
"""

from ddlib.gan.game import Batch, Game, Memory, check_game, gradients, losses, start
from ddlib.gan.layers import DECAY
from ddlib.gan.loss import Loss, least_squares, non_saturating, saturating, wasserstein
from ddlib.gan.networks import Discriminator, Generator, Networks, mlp_networks
from ddlib.gan.rules import (
    METHODS,
    SIMULTANEOUS,
    Method,
    Optimizers,
    Rule,
    Update,
    as_rule,
    check_update,
)
from ddlib.gan.slopes import ALIGNMENT, Estimator, regularized_gradients
from ddlib.gan.sngan import SLOPE, discriminator, generator, sngan_networks
from ddlib.gan.state import Setting, State, init
from ddlib.gan.steps import SWEEPS, make_step
from ddlib.gan.training import draw_batches, sample, train

__all__ = [
    "ALIGNMENT",
    "DECAY",
    "METHODS",
    "SIMULTANEOUS",
    "SLOPE",
    "SWEEPS",
    "Batch",
    "Discriminator",
    "Estimator",
    "Game",
    "Generator",
    "Loss",
    "Memory",
    "Method",
    "Networks",
    "Optimizers",
    "Rule",
    "Setting",
    "State",
    "Update",
    "as_rule",
    "check_game",
    "check_update",
    "discriminator",
    "draw_batches",
    "generator",
    "gradients",
    "init",
    "least_squares",
    "losses",
    "make_step",
    "mlp_networks",
    "non_saturating",
    "regularized_gradients",
    "sample",
    "saturating",
    "sngan_networks",
    "start",
    "train",
    "wasserstein",
]
