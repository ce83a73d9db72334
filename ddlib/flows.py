"""Flows: solutions of fields in continuous time, and the flows of gradient descent's papers.

Every flow of one loss here is ẏ = Σᵢ α(hλᵢ)(gᵀuᵢ)uᵢ, with g the gradient and (λᵢ, uᵢ) the Hessian's
eigenpairs: a function α of z = hλ and `spectral_field` make it (PF, Table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PyTree

from ddlib._check import (
    at_least_single,
    check_count,
    check_inexact,
    check_scalar,
    check_step_size,
    is_concrete,
    like,
)
from ddlib._real import from_real, to_real
from ddlib.central import Central, central
from ddlib.curvature import (
    eig_scaled,
    gradient,
    hessian,
    hvp,
    matrix_function,
    spectral_sum,
    symmetric,
    unravel_like,
)
from ddlib.frozen import thaw
from ddlib.games import Field

__all__ = [
    "Central",
    "central",
    "continued_alpha",
    "critical_jacobian",
    "distances",
    "igr_alpha",
    "integrate",
    "integrate_with_error",
    "ngf_alpha",
    "nonprincipal_term",
    "polynomial_field",
    "positive_alpha",
    "principal_alpha",
    "series_alpha",
    "spectral_field",
    "stability_coefficients",
]


def integrate(
    field: Field,
    y0: PyTree,
    ts: Float[Array, " t"],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
) -> PyTree:
    """The solution of ẏ = field(y), y(ts[0]) = y0, at the times ts.

    Dormand and Prince's 8(7) pair with step-size control (diffrax). Steps end at the times asked
    for: nothing is interpolated.

    Args:
      field: autonomous field on pytrees of real or complex arrays.
      y0: the state at ts[0].
      ts: increasing times, at least two. Only their distances from the first matter, which are
        taken in the precision of y0.
      rtol, atol: tolerances of the controller; by default 1e-11 and 1e-13 in float64, 1e-6 and
        1e-8 in float32. Half precision is integrated in single and given back in half.
      max_steps: steps after which the integration gives up.

    Returns:
      A pytree like y0, leaf by leaf in its dtype, with a leading axis len(ts). Times that were not
      reached, because the solution blew up or max_steps ran out, hold non-finite numbers:
      divergence is data.

    Raises:
      ValueError: times that are not increasing and finite, or meet in the precision of y0; negative
        tolerances; an integer y0; a field with complex values on a real one.

    >>> ys = integrate(lambda y: -y, jnp.array(1.0), jnp.array([0.0, 1.0]))
    >>> round(float(ys[-1]), 4)
    0.3679
    """
    _check_integration(y0, ts, rtol, atol, max_steps)
    return _solve(diffrax.Dopri8(), field, y0, ts, rtol, atol, max_steps)


def integrate_with_error(
    field: Field,
    y0: PyTree,
    ts: Float[Array, " t"],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
) -> tuple[PyTree, Float[Array, " t"]]:
    """`integrate`, and at each time an estimate of the error that the step-size control left.

    The estimate is the distance (Euclidean, over all leaves) from a second integration at the same
    tolerances by a method of lower order, Dormand and Prince's 5(4): nearly all of it is that
    one's error, so it is on the safe side for this one's.

    Raises:
      ValueError: as `integrate`.

    >>> ys, errors = integrate_with_error(lambda y: -y, jnp.array(1.0), jnp.array([0.0, 1.0]))
    >>> bool(abs(ys[-1] - jnp.exp(-1.0)) <= errors[-1] + 1e-7)
    True
    """
    _check_integration(y0, ts, rtol, atol, max_steps)
    ys = _solve(diffrax.Dopri8(), field, y0, ts, rtol, atol, max_steps)
    other = _solve(diffrax.Dopri5(), field, y0, ts, rtol, atol, max_steps)
    return ys, distances(ys, other)


def distances(path: PyTree, other: PyTree) -> Float[Array, " t"]:
    """The Euclidean distance, over all leaves, of two paths at each time, the leading axis.

    >>> distances({"a": jnp.array([0.0, 3.0])}, {"a": jnp.array([0.0, 0.0])}).tolist()
    [0.0, 3.0]
    """
    squares = jax.tree.map(
        lambda a, b: jnp.sum(jnp.abs(a - b).reshape(len(a), -1) ** 2, axis=1), path, other
    )
    return jnp.sqrt(sum(jax.tree.leaves(squares)))


def _check_integration(
    y0: PyTree, ts: Any, rtol: float | None, atol: float | None, max_steps: int
) -> None:
    check_inexact("y0", y0)
    check_count("max_steps", max_steps)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance is not None:
            check_step_size(name, tolerance, zero=True)
    if not is_concrete(ts):
        return
    times = np.asarray(ts, dtype=float)
    if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) > 0):
        raise ValueError(f"ts must hold at least two increasing times, got {ts!r}")
    if not np.all(np.isfinite(times)):
        raise ValueError(f"ts must be finite, got {ts!r}")
    precision = _working(y0)
    passed = np.asarray(_passed(ts), precision)
    if not np.all(np.diff(passed) > 0) or not np.all(np.isfinite(passed)):
        raise ValueError(
            f"ts must increase in the precision of y0 ({precision}), in which some of these meet "
            f"or leave its range: got {ts!r}; give y0 in double precision, or integrate in parts"
        )


def _working(y0: PyTree) -> Any:
    """The real dtype in which the solver works: that of y0, single precision at least."""
    dtype = jnp.result_type(*(jnp.result_type(x) for x in jax.tree.leaves(y0)), jnp.float32)
    return jnp.finfo(dtype).dtype


def _passed(ts: Any) -> Any:
    """The times from the first on: differences keep what large times would round away."""
    if is_concrete(ts):
        ts = np.asarray(ts, dtype=float)
    return ts - ts[0]


def _solve(
    solver: Any,
    field: Field,
    y0: PyTree,
    ts: Any,
    rtol: float | None,
    atol: float | None,
    max_steps: int,
) -> PyTree:
    y0 = jax.tree.map(jnp.asarray, y0)
    precision = _working(y0)
    wide = jax.tree.map(lambda x: x.astype(jnp.result_type(x.dtype, precision)), y0)
    double = jnp.finfo(precision).bits == 64
    ts = jnp.asarray(_passed(ts), precision)
    controller = diffrax.ClipStepSizeController(  # interpolating would cost two digits
        diffrax.PIDController(
            rtol=rtol if rtol is not None else (1e-11 if double else 1e-6),
            atol=atol if atol is not None else (1e-13 if double else 1e-8),
        ),
        step_ts=ts,
    )

    def slope(t: Any, parts: PyTree, args: Any) -> PyTree:
        return to_real("field", field(from_real(parts, wide)), wide)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        solver,
        t0=ts[0],
        t1=ts[-1],
        dt0=None,
        y0=to_real("y0", wide, wide),
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=controller,
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ys is not None
    found = jax.vmap(lambda parts: from_real(parts, wide))(solution.ys)
    return jax.tree.map(lambda x, given: x.astype(given.dtype), found, y0)


Alpha = Callable[[Array], Array]


def _number(z: Any) -> Array:
    """An array that can hold fractions: of integers, the same numbers in floating point."""
    z = jnp.asarray(z)
    return z if jnp.issubdtype(z.dtype, jnp.inexact) else z.astype(float)


def ngf_alpha(z: Array) -> Array:
    """The negative gradient flow's coefficient, −1 at every z = hλ. PF, Table 1.

    >>> ngf_alpha(jnp.array([0.5, 3.0])).tolist()
    [-1.0, -1.0]
    """
    return -jnp.ones_like(_number(z))


def igr_alpha(z: Array) -> Array:
    """The implicit-gradient-regularisation flow's coefficient −(1 + z/2), z = hλ. PF, Table 1.

    >>> igr_alpha(jnp.array(1.0)).item()
    -1.5
    """
    return -(1 + _number(z) / 2)


def positive_alpha(z: Array) -> Array:
    """The positive gradient flow's coefficient, +1: gradient ascent. PF, Section 5.

    >>> positive_alpha(jnp.array([0.5, 3.0])).tolist()
    [1.0, 1.0]
    """
    return jnp.ones_like(_number(z))


def series_alpha(order: int) -> Alpha:
    """The coefficient of the series −Σ_{p ≤ order} z^p/(p + 1), PF Eq. 9, cut after z^order.

    Order 0 is NGF, 1 is IGR; as the order grows it tends to `principal_alpha` for |z| < 1 and
    to no limit beyond.

    Raises:
      ValueError: a negative order.

    >>> series_alpha(2)(jnp.array(3.0)).item()  # -(1 + 3/2 + 9/3)
    -5.5
    """
    check_count("order", order, least=0)

    def alpha(z: Array) -> Array:
        z = _number(z)
        total = -jnp.ones_like(z) / (order + 1)
        for p in range(order - 1, -1, -1):
            total = total * z - 1 / (p + 1)
        return total

    return alpha


def principal_alpha(z: Array) -> Array:
    """The principal flow's coefficient log(1 − z)/z, z = hλ: always complex. PF, Eq. 12.

    The principal branch: real for z < 1; −∞ at z = 1, where one step of gradient descent lands in
    that direction's minimum; with imaginary part π/z beyond; purely imaginary at z = 2, where its
    real part changes sign. Near 0 it is a series, so that value and derivative (−1 and −½ at 0) are
    exact to rounding there too.

    The branch's cut is the real axis beyond 1, where the eigenvalues of every real state with
    hλ > 1 lie: as soon as the state is complex this coefficient jumps. Outside quadratics, flows
    longer than an instant want `continued_alpha`.

    Args:
      z: real or complex array.

    Returns:
      complex array of the same shape.

    >>> [complex(principal_alpha(jnp.array(z))) for z in (0.0, 0.5)]
    [(-1+0j), (-1.38629...+0j)]
    >>> complex(principal_alpha(jnp.array(2.0))).imag  # iπ/2
    1.5707...
    """
    return _log_alpha(z, jnp.log)


def continued_alpha(z: Array) -> Array:
    """The principal flow's coefficient, continued across the real axis beyond z = 1.

    Equal to `principal_alpha` at every real z and wherever Re z < 1 or Im z ≤ 0, but smooth about
    the real axis: the logarithm's cut runs from 1 upwards, {1 + is}. The Hessian's eigenvalues turn
    complex with the state, to either side of the axis; with the principal branch the field jumps
    by 2πi/z there and its flow cannot be continued, with this one it can. (Ours, not in PF.)

    Args:
      z: real or complex array.

    Returns:
      complex array of the same shape.

    >>> above, below = jnp.array(1.5 + 1e-9j), jnp.array(1.5 - 1e-9j)
    >>> [round(complex(continued_alpha(z)).imag, 4) for z in (above, below)]
    [2.0944, 2.0944]
    >>> [round(complex(principal_alpha(z)).imag, 4) for z in (above, below)]
    [-2.0944, 2.0944]
    """
    # arg(1 − z) in (−π/2, 3π/2]: turn by −π/2, take the principal branch, turn back.
    return _log_alpha(z, lambda w: jnp.log(-1j * w) + 0.5j * jnp.pi)


def _log_alpha(z: Array, log: Callable[[Array], Array]) -> Array:
    """log(1 − z)/z with a branch of the logarithm that is real on (0, ∞)."""
    z = _number(z)
    z = z.astype(jnp.result_type(z.dtype, jnp.complex64))
    precision = jnp.finfo(z.dtype).eps
    # Below this the series to z⁷ is exact to rounding, above it the logarithm is.
    near = jnp.abs(z) < precision ** (1 / 8) / 4
    at_one = z == 1
    safe = jnp.where(near | at_one, 0.5, z)
    series = series_alpha(7)(jnp.where(near, z, 0))
    found = jnp.where(near, series, log(1 - safe) / safe)
    return jnp.where(at_one, jnp.asarray(-jnp.inf, z.dtype), found)


def spectral_field(
    loss: Callable[..., Array],
    alpha: Alpha,
    h: float | Array,
    num_matvecs: int | None = None,
    *,
    batch: PyTree = None,
    num_chunks: int = 1,
    scan: bool = True,
) -> Field:
    """The field y ↦ Σᵢ α(hλᵢ)(gᵀuᵢ)uᵢ of a loss: NGF, IGR, the principal flow, or one's own.

    PF, Table 1 and Eq. 12. On a complex state (the principal flow leaves the real space once
    hλ₀ > 1) the loss must be holomorphic; its Hessian is complex symmetric, not Hermitian, and the
    field is V α(hΛ) V⁻¹ g.

    Args:
      loss: function from a pytree of one dtype to a scalar, or of that and a batch.
      alpha: elementwise function of z = hλ, largest real part first, so that a function of the
        position picks eigendirections: `lambda z: jnp.where(jnp.arange(z.size) == 0, 1.0, -1.0)`.
      h: step size of the gradient descent that is modelled.
      num_matvecs: None for the full eigendecomposition; else so many Hessian-vector products
        (Lanczos from the gradient), which is accurate while few eigenvalues exceed 1/h.
      batch, num_chunks: as `ddlib.curvature.hvp`: a loss's batch, and into how many chunks it is
        cut so that only one is in memory; chunks want `num_matvecs`, and `scan` False.
      scan: as `ddlib.curvature.krylov`; False for convolutional networks on a CPU.

    Returns:
      A field on pytrees like the parameters, complex where alpha is. A zero gradient gives zero.

    Raises:
      ValueError: a bad step size, a loss that is not scalar, params of mixed or integer dtype, more
        products than parameters.

    >>> def loss(y):
    ...     return y[0] ** 2 + 0.5 * y[1] ** 2
    >>> spectral_field(loss, igr_alpha, h=0.5)(jnp.array([1.0, 1.0])).tolist()
    [-3.0, -1.25]
    """
    check_step_size("h", h)
    if num_matvecs is not None:
        check_count("num_matvecs", num_matvecs)
    if num_chunks != 1 and (num_matvecs is None or scan):
        raise ValueError(f"num_chunks={num_chunks} wants num_matvecs, and scan=False")
    whole = loss if batch is None else lambda y: loss(y, batch)

    def weigh(values: Array) -> Array:
        """α(hλ), by eigenvalues sorted as α is promised them."""
        order = jnp.argsort(-values.real)
        return alpha(like(h, values.real) * values[order])[jnp.argsort(order)]

    def field(y: PyTree) -> PyTree:
        y = jax.tree.map(jnp.asarray, y)
        slope = gradient(loss, y, batch, num_chunks=num_chunks)  # checks the loss and y
        if num_matvecs is not None:
            product = hvp(loss, y, batch, num_chunks=num_chunks)
            return matrix_function(product, slope, weigh, num_matvecs, scan=scan)
        g, _ = ravel_pytree(slope)
        g, matrix = at_least_single(g), hessian(whole, y)
        if jnp.iscomplexobj(g):
            values, vectors = eig_scaled(matrix)
            parts = jnp.linalg.solve(vectors, g)
        else:
            values, vectors = jnp.linalg.eigh(symmetric("the Hessian", matrix))
            parts = vectors.T @ g
        velocity = spectral_sum(lambda c: vectors @ c, weigh(values), parts)
        return like(unravel_like(y, velocity), y)

    return field


def polynomial_field(
    loss: Callable[[PyTree], Array], coefficients: Float[Array, " k"], h: float | Array
) -> Field:
    """The field y ↦ −Σ_p c_p h^p H^p g by k − 1 Hessian-vector products. PF, Eq. 9.

    NGF is (1,), IGR (1, ½), the principal part of the third-order flow (1, ½, ⅓). What
    `spectral_field` gives for α(z) = −Σ c_p z^p, without a Krylov space, and with coefficients that
    may be traced: one program serves all flows of a length.

    Raises:
      ValueError: no coefficient, a bad step size.

    >>> field = polynomial_field(lambda y: y[0] ** 2, jnp.array([1.0, 0.5]), h=0.5)
    >>> field(jnp.array([1.0])).tolist()  # −(2 + ½·½·2·2)
    [-3.0]
    """
    check_step_size("h", h)
    coefficients = _number(coefficients)
    check_inexact("coefficients", coefficients, real=True)
    if coefficients.ndim != 1 or not len(coefficients):
        raise ValueError(f"coefficients must be a vector, got shape {coefficients.shape}")

    def field(y: PyTree) -> PyTree:
        g, matvec = gradient(loss, y), hvp(loss, y)
        total = jax.tree.map(lambda x: -coefficients[-1] * x, g)
        for c in coefficients[-2::-1]:  # Horner
            total = jax.tree.map(lambda x, hx, c=c: -c * x + h * hx, g, matvec(total))
        return like(total, g)

    return field


def critical_jacobian(
    loss: Callable[[PyTree], Array], alpha: Alpha, y: PyTree, h: float | Array
) -> Float[Array, "n n"] | Complex[Array, "n n"]:
    """The Jacobian α(hH)H of a spectral flow at a critical point y. PF, Eq. 16.

    Its eigenvalues are α(hλᵢ)λᵢ: −λ for NGF, −λ − hλ²/2 for IGR (the text at hand prints h²), and
    log(1 − hλ)/h for the principal flow, which gradient descent shares: the point repels where
    hλ > 2. In the coordinates of `ravel_pytree`; y is taken to be critical, which is not checked.

    Raises:
      ValueError: a bad step size, a loss that is not scalar.

    >>> def loss(y):
    ...     return 1.5 * y[0] ** 2 + 0.5 * y[1] ** 2
    >>> critical_jacobian(loss, igr_alpha, jnp.zeros(2), h=0.5).tolist()
    [[-5.25, 0.0], [0.0, -1.25]]
    """
    check_step_size("h", h)
    check_inexact("y", y, real=True)
    matrix = hessian(loss, y)
    values, vectors = jnp.linalg.eigh(symmetric("the Hessian", matrix))
    weights = alpha(like(h, values) * values)
    weights = jnp.where(jnp.isinf(weights.real), jnp.sign(values) * weights.real, weights * values)
    return like(spectral_sum(lambda c: vectors @ c, weights, vectors.T), matrix)


def nonprincipal_term(loss: Callable[[PyTree], Array], h: float | Array) -> Field:
    """The third-order flow's non-principal term y ↦ −(h²/12)·∇³E[g, g]. PF, Eq. 14.

    Added to the principal field it gives the flow that PF uses for the banana function. Works on
    real and on complex states.

    >>> nonprincipal_term(lambda y: y**3, h=1.0)(jnp.array(1.0)).item()  # −(1/12)·6·3²
    -4.5
    """
    check_step_size("h", h)

    def term(y: PyTree) -> PyTree:
        check_inexact("y", y)
        y = jax.tree.map(jnp.asarray, y)
        holomorphic = bool(jnp.iscomplexobj(jax.tree.leaves(y)[0]))
        check_scalar("loss", loss, y, holomorphic=holomorphic)
        slope = thaw(jax.grad(loss, holomorphic=holomorphic))
        g = slope(y)
        third = jax.jvp(lambda p: jax.jvp(slope, (p,), (g,))[1], (y,), (g,))[1]
        return like(jax.tree.map(lambda x: -(h**2) / 12 * x, third), y)

    return term


def stability_coefficients(
    loss: Callable[[PyTree], Array], y: PyTree, h: float | Array
) -> tuple[Float[Array, " n"], Complex[Array, " n"]]:
    """The eigenvalues, largest first, and scᵢ = α_PF(hλᵢ)·gᵀuᵢ. PF, Definition 3.4.

    An eigenvector's sign is free; here it is such that gᵀuᵢ ≥ 0, as the paper has it, so that the
    sign of Re scᵢ is that of Re α.

    >>> values, sc = stability_coefficients(lambda y: y @ y, jnp.array([1.0, 0.0]), h=0.25)
    >>> values.tolist(), round(sc[jnp.abs(sc).argmax()].real.item(), 4)  # log(0.5)/0.5 · 2
    ([2.0, 2.0], -2.7726)
    """
    check_step_size("h", h)
    check_inexact("y", y, real=True)
    values, vectors = jnp.linalg.eigh(symmetric("the Hessian", hessian(loss, y)))
    parts = jnp.abs(vectors.T @ at_least_single(ravel_pytree(gradient(loss, y))[0]))
    weights = principal_alpha(like(h, values) * values)
    coefficients = jax.lax.complex(
        jnp.where(parts == 0, 0, weights.real * parts), weights.imag * parts
    )
    return values[::-1], coefficients[::-1]
