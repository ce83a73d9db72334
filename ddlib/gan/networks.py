"""The two networks of a GAN as functions of parameters, and a pair of perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ddlib import nets


class Generator(NamedTuple):
    """A generator, functional: its start, and the function from latents to images.

    Attributes:
      init: key -> (theta, statistics), nested dicts of arrays; statistics are what batch norm
        remembers of the past, and no parameters.
      apply: (theta, statistics, z, train) -> (images, statistics). With train, batch norm uses the
        batch's own statistics and moves the running ones towards them; else the running ones,
        which then stay.
      latents: number of entries of z.
      shape: of one sample.
    """

    init: Callable[[Array], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[Array, PyTree]]
    latents: int
    shape: tuple[int, ...]


class Discriminator(NamedTuple):
    """A discriminator, functional: its start, its logits, and one step of its power iteration.

    Attributes:
      init: key -> (phi, vectors); vectors are what the power iteration remembers: an estimate of
        each layer's left singular vector.
      apply: (phi, vectors, x) -> logits of shape (n,). It takes one step of the power iteration
        from vectors, divides each kernel by the singular value found, and forgets the step.
      refresh: (phi, vectors) -> vectors, after that step.
      shape: of one sample.
    """

    init: Callable[[Array], tuple[PyTree, PyTree]]
    apply: Callable[[PyTree, PyTree, Array], Float[Array, " n"]]
    refresh: Callable[[PyTree, PyTree], PyTree]
    shape: tuple[int, ...]


class Networks(NamedTuple):
    """The two players' networks: phi's a `Discriminator`, theta's a `Generator`."""

    phi: Discriminator
    theta: Generator


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
