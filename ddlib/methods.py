"""Methods: vector fields to steps.

A step is a function `(h, y) -> y` with `step(0, y) == y`: one update of size h. Everything that is
said about a method elsewhere (its drift to any order, its stability) is computed from its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, PyTree

from ddlib._check import (
    at_least_single,
    check_count,
    check_field,
    check_inexact,
    check_players,
    check_rates,
    check_state,
    check_step,
    check_step_size,
    check_updates,
    like,
)
from ddlib._real import from_real, to_real
from ddlib.frozen import thaw
from ddlib.games import Field, Players

Step = Callable[[Any, Any], Any]


def _move(y: PyTree, direction: PyTree, h: Any) -> PyTree:
    """y + h·direction, in the dtype of y: a step never changes the type of its state."""
    check_inexact("y", y)
    check_state("direction", direction, y)
    return jax.tree.map(lambda x, d, v: x + v * d, y, like(direction, y), _sizes(h, y))


def _sizes(h: Any, y: PyTree) -> PyTree:
    """The step size in the precision of each leaf."""
    return jax.tree.map(lambda x: jnp.asarray(h).astype(jnp.finfo(jnp.result_type(x)).dtype), y)


def _scale(velocity: Players, rates: Players | None) -> Players:
    """The velocity of each player on the clock of h: (αf, λg)."""
    if rates is None:
        return velocity
    check_players("y", velocity)
    zero = jax.tree.map(jnp.zeros_like, velocity)
    return Players(
        _move(zero.phi, velocity.phi, rates.phi), _move(zero.theta, velocity.theta, rates.theta)
    )


def euler(field: Field) -> Step:
    """Euler's method, which is gradient descent when the field is −∇E: y + h·field(y).

    Raises:
      ValueError: a field that is none; when called: a y of integers, or a field's value that is not
        like y.

    >>> step = euler(lambda y: -y)
    >>> float(step(0.5, 1.0))
    0.5
    """
    check_field("field", field)

    def step(h: Any, y: PyTree) -> PyTree:
        return _move(y, field(y), h)

    return step


def simultaneous_euler(field: Field, rates: Players) -> Step:
    """Simultaneous updates: φ + αh·f(φ, θ) and θ + λh·g(φ, θ).

    DD, Eqs. 6–7.

    Args:
      field: (f, g) on `Players`.
      rates: `Players` of the learning-rate factors (α, λ): zero or positive, may be traced.

    Raises:
      ValueError: a field that is none; rates that are not `Players`, negative or not finite.

    >>> from ddlib.games import linear_game
    >>> step = simultaneous_euler(linear_game(0.0, 0.0), Players(1.0, 0.5))
    >>> phi, theta = step(0.5, Players(1.0, 1.0))
    >>> float(phi), float(theta)
    (1.5, 0.75)
    """
    check_field("field", field)
    check_rates(rates)
    return euler(lambda y: _scale(field(y), rates))


def alternating_euler(
    field: Field,
    rates: Players,
    num_updates: Players = Players(1, 1),
    first: Literal["phi", "theta"] = "phi",
) -> Step:
    """Alternating updates: one player moves m times, then the other k times, seeing the new state.

    DD, Eqs. 8–9: each of the m updates of φ moves by αh/m, each of the k updates of θ by λh/k.

    Args:
      field: (f, g) on `Players`.
      rates: `Players` of the learning-rate factors (α, λ).
      num_updates: `Players` (m, k) of the numbers of sub-updates, each at least 1.
      first: who moves first; "phi" in the paper.

    Raises:
      ValueError: rates or num_updates of the wrong structure or range, or an unknown `first`.

    >>> from ddlib.games import linear_game
    >>> step = alternating_euler(linear_game(0.0, 0.0), Players(1.0, 1.0))
    >>> phi, theta = step(0.5, Players(1.0, 1.0))  # theta sees phi = 1.5
    >>> float(phi), float(theta)
    (1.5, 0.25)
    """
    check_field("field", field)
    check_rates(rates)
    check_updates(num_updates)
    if first not in ("phi", "theta"):
        raise ValueError(f'first must be "phi" or "theta", got {first!r}')

    def updates(player: str) -> Step:
        """All sub-updates of one player."""
        repeats = getattr(num_updates, player)

        def step(h: Any, y: Players) -> Players:
            check_players("y", y)
            size = h * getattr(rates, player) / repeats
            for _ in range(repeats):
                moved = _move(getattr(y, player), getattr(field(y), player), size)
                y = y._replace(**{player: moved})
            return y

        return step

    order = ("phi", "theta") if first == "phi" else ("theta", "phi")
    return compose(*map(updates, order))


def compose(*steps: Step) -> Step:
    """Steps one after another, each of size h: alternation, a splitting, an epoch of minibatches.

    Of the flows of two fields f, g the composition is the flow of f + g + (h/2)(g'f − f'g) + O(h²),
    the first over h before the second: the Baker–Campbell–Hausdorff formula (Hairer, Lubich and
    Wanner 2006, Section III.4). `ddlib.drift` finds its modified field to any order.

    Args:
      steps: one-step maps, the first to be taken first; the same one may come more than once.

    Returns:
      A step, which rests at h = 0 if each of them does.

    Raises:
      ValueError: no step, or one that is none.

    >>> there, back = euler(lambda y: y), euler(lambda y: -y)
    >>> float(compose(there, back)(0.5, 1.0))  # (1 + h)(1 − h)
    0.75
    """
    if not steps:
        raise ValueError("steps must hold at least one step, got none")
    for i, one in enumerate(steps):
        check_step(f"steps[{i}]", one)

    def step(h: Any, y: PyTree) -> PyTree:
        for one in steps:
            y = one(h, y)
        return y

    return step


class Tableau(NamedTuple):
    """The coefficients (A, b) of an explicit Runge–Kutta method, rows of A below the diagonal.

    >>> HEUN.b
    (0.5, 0.5)
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


HEUN = Tableau(a=((), (1.0,)), b=(1 / 2, 1 / 2))
RK4 = Tableau(a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6))


def runge_kutta(field: Field, tableau: Tableau, rates: Players | None = None) -> Step:
    """An explicit Runge–Kutta step, all players moving jointly at every stage.

    With `rates`, each player's stages move by its own step, αh or λh, as in the paper's GAN runs;
    the method then follows (αf, λg) to its full order, not (f, g) read on two clocks.

    Args:
      field: any field; on `Players` if rates are given.
      tableau: `HEUN`, `RK4` or one's own.
      rates: `Players` of learning-rate factors, or None.

    Raises:
      ValueError: a tableau that is not strictly lower triangular, or bad rates.

    >>> step = runge_kutta(lambda y: -y, RK4)
    >>> round(float(step(0.1, 1.0)), 6)  # e^{-0.1}
    0.904838
    """
    check_field("field", field)
    stages = len(tableau.b)
    if [len(row) for row in tableau.a] != list(range(stages)):
        raise ValueError(
            f"tableau.a must have rows of length 0 to {stages - 1}, got "
            f"{[len(row) for row in tableau.a]}"
        )
    if rates is not None:
        check_rates(rates)

    def combine(y: PyTree, slopes: list[PyTree], weights: tuple[float, ...], h: Any) -> PyTree:
        for weight, slope in zip(weights, slopes, strict=True):
            if weight:
                y = _move(y, slope, h * weight)
        return y

    def step(h: Any, y: PyTree) -> PyTree:
        slopes: list[PyTree] = []
        for row in tableau.a:
            slopes.append(_scale(field(combine(y, slopes, row, h)), rates))
        return combine(y, slopes, tableau.b, h)

    return step


@dataclass(frozen=True)
class ImplicitStep:
    """A step that solves an equation z = sweep(h, y, z), with z = y at h = 0.

    Calling it solves to rounding. `sweeps(n)` is the explicit step of n fixed-point sweeps from
    z = y: each gains a power of h, so it meets the solution to O(h^{n+1}), which is all that
    backward error analysis of that order asks for, at the price of n fields and no solver.

    >>> step = implicit_midpoint(lambda y: -y)
    >>> round(float(step.sweeps(2)(0.1, 1.0)), 6)
    0.905
    """

    solve: Step
    sweep: Callable[[Any, Any, Any], Any]

    def __call__(self, h: Any, y: PyTree) -> PyTree:
        """One step of size h from y."""
        return self.solve(h, y)

    def sweeps(self, num_sweeps: int) -> Step:
        """The explicit step of `num_sweeps` fixed-point sweeps."""
        check_count("num_sweeps", num_sweeps)

        def step(h: Any, y: PyTree) -> PyTree:
            z = y
            for _ in range(num_sweeps):
                z = self.sweep(h, y, z)
            return z

        return step


class _Newton(optimistix.Newton):
    """Newton's method that ends when its step is short, whatever is left of the residual.

    Its error squares at each step, so that one no longer than √eps of the state leaves rounding.
    The residual says less: its rounding grows with hλ, and no bound on it can be met by all fields.
    Where the steps themselves are rounding (a stiff and ill-conditioned equation), they stop
    shrinking while they are short, and that is the end too.
    """

    def terminate(
        self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any
    ) -> tuple[Array, Any]:
        failed = state.result != optimistix.RESULTS.successful
        short = state.diffsize < 1e-2 / self.rtol
        stalled = (state.step >= 3) & short & (state.diffsize >= state.diffsize_prev / 2)
        return failed | (state.diffsize < 1) | stalled, state.result


def implicit_midpoint(
    field: Field,
    rates: Players | None = None,
    solver: optimistix.AbstractRootFinder | None = None,
) -> ImplicitStep:
    """The implicit midpoint rule: the z that solves z = y + h·field((y + z)/2).

    Second order, symmetric, symplectic: on a purely rotational game it keeps the radius.

    Args:
      field: any field; on `Players` if rates are given.
      rates: `Players` of learning-rate factors, or None.
      solver: an optimistix root finder; by default Newton's method, converged to rounding, which
        forms a dense Jacobian and suits small states.

    Raises:
      ValueError: bad rates. A root that is not found raises at run time.

    >>> step = implicit_midpoint(lambda y: -y)
    >>> round(float(step(0.1, 1.0)), 6)  # (1 - h/2) / (1 + h/2)
    0.904762
    """
    check_field("field", field)
    if rates is not None:
        check_rates(rates)
    field = thaw(field)

    def sweep(h: Any, y: PyTree, z: PyTree) -> PyTree:
        middle = jax.tree.map(lambda a, b: (a + b) / 2, y, z)
        return _move(y, _scale(field(middle), rates), h)

    def solve(h: Any, y: PyTree) -> PyTree:
        check_inexact("y", y)
        wide = jax.tree.map(at_least_single, y)

        def residual(z: PyTree, args: tuple[Any, PyTree]) -> PyTree:
            return jax.tree.map(jnp.subtract, z, swept(z, *args))

        def swept(z: PyTree, h: Any, y: PyTree) -> PyTree:
            return to_real("field", sweep(h, from_real(y, wide), from_real(z, wide)), wide)

        start = to_real("y", wide, wide)
        precision = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(wide))
        # entries far below the state's size, or that of its move, need no digits of their own
        reach = jax.tree.leaves((start, swept(start, h, start)))
        size = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in reach]))
        shortest: Any = 8 * precision * size
        finder = solver or _Newton(rtol=precision**0.5, atol=shortest)
        found = optimistix.root_find(residual, finder, start, args=(h, start), max_steps=64).value
        return like(from_real(found, wide), y)

    return ImplicitStep(solve, sweep)


def iterate(step: Step, h: float | Array, y: PyTree, num_steps: int) -> PyTree:
    """The trajectory y, step(h, y), step(h, step(h, y)), …

    Args:
      step: a step.
      h: step size, positive and finite; may be traced.
      y: initial state, a pytree of arrays.
      num_steps: how many steps to take, zero or more.

    Returns:
      A pytree like `y` with a leading axis of length num_steps + 1; its first entry is `y`.

    Raises:
      ValueError: a step that is none (a field, say), a step size that is not positive and finite, a
        bad number of steps, a y of integers, a step that makes a real state complex.

    >>> iterate(euler(lambda y: -y), 0.5, jnp.array(1.0), 3).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    check_step("step", step)
    check_step_size("h", h)
    check_count("num_steps", num_steps, least=0)
    check_inexact("y", y)
    y = jax.tree.map(jnp.asarray, y)

    def body(state: PyTree, _: None) -> tuple[PyTree, PyTree]:
        new = step(h, state)
        check_state("step(h, y)", new, y)
        new = like(new, y)
        return new, new

    _, rest = jax.lax.scan(body, y, None, length=num_steps)
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), y, rest)
