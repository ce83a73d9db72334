"""Flows: solutions of fields in continuous time, far more precise than the drift they show."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ddlib._check import check_count, check_inexact, check_step_size, is_concrete
from ddlib.games import Field


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
      field: autonomous field on pytrees of float arrays.
      y0: the state at ts[0].
      ts: increasing times, at least two; taken in the precision of y0.
      rtol, atol: tolerances of the controller; by default 1e-11 and 1e-13 in float64, 1e-6 and
        1e-8 in float32.
      max_steps: steps after which the integration gives up.

    Returns:
      A pytree like y0 with a leading axis len(ts). Times that were not reached, because the
      solution blew up (its steps shrank to rounding) or max_steps ran out, hold non-finite
      numbers: divergence is data.

    Raises:
      ValueError: times that are not increasing and finite, negative tolerances, an integer y0.

    >>> ys = integrate(lambda y: -y, jnp.array(1.0), jnp.array([0.0, 1.0]))
    >>> round(float(ys[-1]), 4)
    0.3679
    """
    if is_concrete(ts):
        times = np.asarray(ts, dtype=float)
        if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) > 0):
            raise ValueError(f"ts must hold at least two increasing times, got {ts!r}")
        if not np.all(np.isfinite(times)):
            raise ValueError(f"ts must be finite, got {ts!r}")
    check_inexact("y0", y0)
    check_count("max_steps", max_steps)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance is not None:
            check_step_size(name, tolerance, zero=True)
    y0 = jax.tree.map(jnp.asarray, y0)
    precision = jnp.finfo(jnp.result_type(*jax.tree.leaves(y0)))
    double = precision.bits == 64
    ts = jnp.asarray(ts, precision.dtype)
    controller = diffrax.ClipStepSizeController(  # interpolating would cost two digits
        diffrax.PIDController(
            rtol=rtol if rtol is not None else (1e-11 if double else 1e-6),
            atol=atol if atol is not None else (1e-13 if double else 1e-8),
            dtmin=16 * precision.eps * jnp.abs(ts).max(),  # a blow-up ends here, not at max_steps
            force_dtmin=False,
        ),
        step_ts=ts,
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(y)),
        diffrax.Dopri8(),
        t0=ts[0],
        t1=ts[-1],
        dt0=None,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=controller,
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ys is not None
    return solution.ys
