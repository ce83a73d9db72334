"""Stability of equilibria: Jacobians by autodiff, eigenvalues, verdicts.

To ask whether a discrete method converges near an equilibrium, either ask the modified field (DD,
Section 4: `is_stable(modified_field(step, h, 1), y)`) or the step itself, whose multipliers are the
`eigenvalues` of the map y ↦ step(h, y) and must lie inside the unit circle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float, PyTree
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from ddlib._check import (
    at_least_single,
    check_count,
    check_field,
    check_inexact,
    check_step_size,
    is_concrete,
)
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
    check_field("field", field)
    check_inexact("y", y)
    field = thaw(field)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, y))

    def on_vectors(x: Array) -> Array:
        return ravel_pytree(field(unravel(x)))[0]

    out = jax.eval_shape(on_vectors, flat)
    if out.shape != flat.shape:
        raise ValueError(
            f"field must map y to as many entries, got {out.size} of a y of {flat.size}"
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


class Eigenvalues(NamedTuple):
    """Some eigenvalues of a large matrix, and the norms |Av − μv| of their unit eigenvectors.

    >>> Eigenvalues(np.array([-1.0 + 0j]), np.array([0.0])).values.tolist()
    [(-1+0j)]
    """

    values: Complex[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]


ARPACK = {"magnitude": "LM", "real": "LR", "imaginary": "LI"}


def largest_eigenvalues(
    matvec: Callable[[PyTree], PyTree],
    start: PyTree,
    num: int,
    *,
    largest: Literal["magnitude", "real", "imaginary"] = "magnitude",
    rtol: float = 1e-3,
    max_restarts: int = 40,
) -> Eigenvalues:
    """The outermost eigenvalues of a real matrix by products with it alone: ARPACK's Arnoldi.

    Of a field's Jacobian at y, `jacobian_product(field, y)` is the matrix. A method of step size h
    is stable there if h times each of them lies in its region of absolute stability; those largest
    in magnitude and imaginary part say which h would do, those largest in real part whether the
    flow itself is stable.

    Args:
      matvec: product with a real square matrix, of no symmetry, on pytrees like `start`; compiled,
        it costs little else.
      start: a real vector with a share in what is wanted; random will do.
      num: how many; a complex pair counts as two.
      largest: in magnitude, in real part or in the size of the imaginary part.
      rtol: accuracy of an eigenvalue, relative to itself.
      max_restarts: after which what has converged is returned.

    Returns:
      `Eigenvalues`, the largest first. At most `num`: those that did not converge are left out.

    Raises:
      ValueError: a start that is traced, zero, complex or not finite; more eigenvalues than
        entries; an unknown `largest`; a bad tolerance.

    >>> turn = lambda v: jnp.array([2 * v[1], -2 * v[0], v[2], 0.5 * v[3]])
    >>> found = largest_eigenvalues(turn, jnp.array([1.0, 0.5, 0.3, 0.2]), 2)
    >>> [round(float(z.imag), 4) for z in found.values]
    [2.0, -2.0]
    """
    check_count("num", num)
    check_count("max_restarts", max_restarts)
    check_step_size("rtol", rtol, zero=True)
    check_inexact("start", start, real=True)
    if largest not in ARPACK:
        raise ValueError(f"largest must be one of {', '.join(ARPACK)}, got {largest!r}")
    if not is_concrete(start):
        raise ValueError("start must hold numbers, got a traced array: ARPACK runs on the host")
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, start))
    first = np.asarray(at_least_single(flat))
    if num > first.size:
        raise ValueError(f"num must be at most {first.size} entries, got {num}")
    if not np.all(np.isfinite(first)) or not np.any(first):
        raise ValueError("start must be finite and not zero, got a vector that is not")

    def product(v: Any) -> np.ndarray:
        moved = matvec(unravel(jnp.asarray(v.reshape(-1), flat.dtype)))
        return np.asarray(ravel_pytree(moved)[0], first.dtype)

    if num + 2 >= first.size:  # a matrix so small that a Krylov space is all of it
        matrix = np.stack([product(e) for e in np.eye(first.size, dtype=first.dtype)], axis=1)
        values, vectors = np.linalg.eig(matrix)
    else:
        operator = LinearOperator((first.size,) * 2, product, dtype=first.dtype)
        try:
            values, vectors = eigs(
                operator, num, which=ARPACK[largest], v0=first, tol=rtol, maxiter=max_restarts
            )
        except ArpackNoConvergence as stopped:
            values, vectors = stopped.eigenvalues, stopped.eigenvectors
    sizes = {"magnitude": np.abs(values), "real": values.real, "imaginary": np.abs(values.imag)}
    order = np.lexsort((-values.imag, -sizes[largest]))[:num]
    values, vectors = values[order].astype(complex), vectors[:, order].astype(complex)
    residuals = [
        np.linalg.norm(product(v.real) + 1j * product(v.imag) - z * v)
        for z, v in zip(values, vectors.T, strict=True)
    ]
    return Eigenvalues(values, np.asarray(residuals, float))


def jacobian_product(field: Field, y: PyTree) -> Callable[[PyTree], PyTree]:
    """The function v ↦ J·v, J the Jacobian of a field at y: one forward derivative, no matrix.

    What the field holds constant is differentiated all the same, as in `jacobian`.

    Raises:
      ValueError: a field that is none; a y of integers.

    >>> product = jacobian_product(lambda y: y**2, jnp.array([1.0, 3.0]))
    >>> product(jnp.array([1.0, 1.0])).tolist()
    [2.0, 6.0]
    """
    check_field("field", field)
    check_inexact("y", y)
    y, field = jax.tree.map(jnp.asarray, y), thaw(field)
    return lambda v: jax.jvp(field, (y,), (v,))[1]
