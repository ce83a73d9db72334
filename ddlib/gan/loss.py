"""The two players' losses of a GAN, as functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ddlib._check import check_step_size


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
