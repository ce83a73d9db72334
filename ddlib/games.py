"""Games: losses of two players, and the vector fields that they follow.

A game is a `Players` of two loss functions, or directly a vector field on `Players`; it needs no
class. The first player holds `phi` and minimises L₁, the second holds `theta` and minimises L₂.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ddlib._check import check_inexact, check_players, check_scalar, like
from ddlib.frozen import thaw

Loss = Callable[[Any], Array]
Field = Callable[[Any], Any]


class Players(NamedTuple):
    """One thing for each player: parameters, losses, learning rates, numbers of updates.

    `phi` belongs to the first player (a GAN's discriminator), `theta` to the second (its
    generator). DD, Section 3.

    >>> Players(phi=1.0, theta=2.0).theta
    2.0
    """

    phi: Any
    theta: Any


def gradient_field(loss: Loss) -> Field:
    """The gradient flow of one loss: the field y ↦ −∇loss(y), steepest descent.

    Of complex parameters the loss is a function of two real ones each: the field is then
    −(∂/∂Re y + i ∂/∂Im y) loss, down which the loss falls.

    Args:
      loss: function from a pytree of float or complex arrays to a real scalar. What it holds
        constant (`jax.lax.stop_gradient`) is constant in this gradient, and not in the field's
        derivatives.

    Returns:
      A field: it maps a pytree to one of the same structure, shapes and dtypes.

    Raises:
      ValueError: when called: a loss that is no real scalar, a y of integers or without arrays.

    >>> field = gradient_field(lambda y: 0.5 * y**2)
    >>> float(field(3.0))
    -3.0
    """

    def field(y: PyTree) -> PyTree:
        check_inexact("y", y)
        check_scalar("loss", loss, y)
        return like(jax.tree.map(_descent, jax.grad(loss)(y)), y)

    return thaw(field)


def _descent(gradient: Array) -> Array:
    """Steepest descent: JAX's gradient with respect to complex numbers is the conjugate's."""
    return -jnp.conj(gradient)


def game_field(losses: Players) -> Field:
    """The field (f, g) = (−∇φ L₁, −∇θ L₂) of a two-player game.

    DD, Section 3. Each player differentiates its own loss with respect to its own parameters.

    Args:
      losses: `Players` of functions from `Players` to a real scalar. What they hold constant is
        constant in these gradients, and not in the field's derivatives (see `ddlib.frozen`).

    Returns:
      A field on `Players`.

    Raises:
      ValueError: `losses` is not a `Players`; when called, losses that are no real scalars, a y of
        integers or without arrays.

    >>> field = game_field(zero_sum(lambda y: y.phi * y.theta))
    >>> [float(x) for x in field(Players(1.0, 2.0))]
    [2.0, -1.0]
    """
    check_players("losses", losses)

    def field(y: Players) -> Players:
        check_players("y", y)
        check_inexact("y", y)
        check_scalar("losses.phi", losses.phi, y)
        check_scalar("losses.theta", losses.theta, y)
        f = jax.grad(lambda phi: losses.phi(y._replace(phi=phi)))(y.phi)
        g = jax.grad(lambda theta: losses.theta(y._replace(theta=theta)))(y.theta)
        return like(jax.tree.map(_descent, Players(f, g)), y)

    return thaw(field)


def zero_sum(value: Loss) -> Players:
    """The zero-sum game of E: L₁ = −E for the first player, L₂ = E for the second.

    DD, Section 6: the first player climbs E, the second descends it.

    >>> losses = zero_sum(lambda y: y.phi * y.theta)
    >>> losses.phi(Players(2.0, 3.0)), losses.theta(Players(2.0, 3.0))
    (-6.0, 6.0)
    """
    return Players(phi=lambda y: -value(y), theta=value)


def common_payoff(loss: Loss) -> Players:
    """The common-payoff game of E: both players minimise the same loss.

    DD, Section 5: one network whose parameters are shared out between two players.

    >>> losses = common_payoff(lambda y: y.phi * y.theta)
    >>> losses.phi(Players(2.0, 3.0)) == losses.theta(Players(2.0, 3.0))
    True
    """
    return Players(phi=loss, theta=loss)


def linear_game(eps1: float | Array, eps2: float | Array) -> Field:
    """The field φ̇ = −ε₁φ + θ, θ̇ = −ε₂θ − φ, on `Players` of arrays of one shape.

    DD, Eq. 10, with −ε₂: as printed in the text at hand the sign is +ε₂, which at ε₁ = ε₂ makes
    the origin a centre and contradicts the convergence that the paper states for the flow.

    Raises:
      ValueError: when called: a y that is no `Players` of floating-point or complex arrays.

    >>> [x.item() for x in linear_game(0.5, 0.25)(Players(1.0, 2.0))]
    [1.5, -1.5]
    """

    def field(y: Players) -> Players:
        check_players("y", y)
        check_inexact("y", y)
        return like(Players(phi=-eps1 * y.phi + y.theta, theta=-eps2 * y.theta - y.phi), y)

    return field


def dirac_gan(link: Callable[[Array], Array] = jax.nn.log_sigmoid) -> Players:
    """The Dirac-GAN: the zero-sum game of E(φ, θ) = l(θφ) + l(0).

    Mescheder et al. (2018); DD, Eq. 18. The generator is a point mass at θ, the discriminator the
    linear function x ↦ φx, and the only equilibrium is the origin.

    Args:
      link: the scalar function l. The default is the paper's l(z) = −log(1 + e^{−z}).

    Returns:
      The losses (−E, E) of scalar players.

    >>> field = game_field(dirac_gan())
    >>> f, g = field(Players(0.0, 1.0))  # l'(0) = 1/2
    >>> float(f), float(g)
    (0.5, -0.0)
    """
    return zero_sum(lambda y: link(y.theta * y.phi) + link(jnp.zeros_like(y.phi)))
