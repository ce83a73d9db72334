"""Complex states in real coordinates, for solvers that know real numbers only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def to_real(name: str, y: PyTree, template: PyTree) -> PyTree:
    """Complex leaves as (real, imaginary) pairs, all in the precision of the template.

    Raises:
      ValueError: a complex leaf where the template's is real; `name` says whose values they are.
    """

    def leaf(x: Array, to: Array) -> Array:
        if jnp.iscomplexobj(to):
            return jnp.stack([jnp.real(x), jnp.imag(x)]).astype(jnp.finfo(to.dtype).dtype)
        if jnp.iscomplexobj(x):
            raise ValueError(
                f"{name} has complex values on a real state: give the state a complex dtype, such "
                "as jax.tree.map(lambda x: x.astype(complex), y)"
            )
        return jnp.asarray(x).astype(to.dtype)

    return jax.tree.map(leaf, y, template)


def from_real(parts: PyTree, template: PyTree) -> PyTree:
    """What `to_real` took apart."""
    return jax.tree.map(
        lambda x, to: jax.lax.complex(x[0], x[1]) if jnp.iscomplexobj(to) else x,
        parts,
        template,
    )
