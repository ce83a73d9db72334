"""Stability of equilibria: Jacobians by autodiff, eigenvalues, verdicts.

To ask whether a discrete method converges near an equilibrium, either ask the modified field (DD,
Section 4: `is_stable(modified_field(step, h, 1), y)`) or the step itself, whose multipliers are the
`eigenvalues` of the map y ↦ step(h, y) and must lie inside the unit circle.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float, PyTree

from ddlib._check import at_least_single, check_inexact
from ddlib.frozen import thaw
from ddlib.games import Field


def jacobian(field: Field, y: PyTree) -> Float[Array, "n n"]:
    """The dense Jacobian of a field (or of a step at fixed h) at y, column convention.

    Entry (i, j) is ∂field_i/∂y_j in the coordinates of `jax.flatten_util.ravel_pytree`, φ before
    θ. DD prints the transpose of the blocks (its vectors are rows); the spectrum is the same.

    What a field holds constant by `jax.lax.stop_gradient` is differentiated all the same: a field
    is a function of y, however it was made (see `ddlib.frozen`).

    Args:
      field: a function from a pytree to a pytree of the same structure and shapes.
      y: the point; any number of parameters n (n² numbers are formed). Complex numbers count as
        one coordinate each, in which the field must be holomorphic.

    Raises:
      ValueError: a field whose value has another number of entries than y; a y of integers.

    >>> from ddlib.games import Players, linear_game
    >>> jacobian(linear_game(0.5, 0.25), Players(jnp.array(0.0), jnp.array(0.0))).tolist()
    [[-0.5, 1.0], [-1.0, -0.25]]
    """
    check_inexact("y", y)
    field = thaw(field)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, y))

    def on_vectors(x: Array) -> Array:
        return ravel_pytree(field(unravel(x)))[0]

    out = jax.eval_shape(on_vectors, flat)
    if out.shape != flat.shape:
        raise ValueError(
            f"field must map y to as many entries: y has {flat.size}, field(y) has {out.size}"
        )
    holomorphic = bool(jnp.iscomplexobj(flat))
    return jax.jacfwd(on_vectors, holomorphic=holomorphic)(flat)


def eigenvalues(field: Field, y: PyTree) -> Complex[Array, " n"]:
    """The eigenvalues of the Jacobian of a field at y, rightmost first.

    >>> from ddlib.games import Players, linear_game
    >>> at = Players(jnp.array(0.0), jnp.array(0.0))
    >>> [complex(z) for z in eigenvalues(linear_game(0.5, 0.5), at)]
    [(-0.5+1j), (-0.5-1j)]
    """
    values = jnp.linalg.eigvals(at_least_single(jacobian(field, y)))
    return values[jnp.lexsort((-values.imag, -values.real))]


def is_stable(field: Field, y: PyTree) -> Bool[Array, ""]:
    """Whether every eigenvalue of the Jacobian at the equilibrium y has negative real part.

    Continuous time: then the flow converges to y from nearby. A centre is not stable here. It is
    for the caller to see that y is an equilibrium; drift of any order keeps those of the game.

    >>> from ddlib.games import Players, linear_game
    >>> at = Players(jnp.array(0.0), jnp.array(0.0))
    >>> bool(is_stable(linear_game(0.1, 0.1), at)), bool(is_stable(linear_game(0.0, 0.0), at))
    (True, False)
    """
    return jnp.all(eigenvalues(field, y).real < 0)
