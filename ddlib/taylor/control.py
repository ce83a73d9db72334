"""Loops and branches on power series: their bodies run in the arithmetic of series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ddlib.taylor.series import Clock, Mode, constant, full_series, marked, plain, value_at

Run = Callable[[Any, Sequence[Any], Mode], list]  # of a program on series


TURNS = 256  # that a loop has to settle


def _clocks(turn: Callable[[list[Any]], list[Any]], start: list[Any], mode: Mode) -> list[bool]:
    """Which entries of a loop's carry depend on t alone, turn after turn."""
    clocks = [mode.at is not None and isinstance(x, Clock) for x in start]
    while any(clocks):
        stay: list[bool] = []

        def trace(carry: list[Any], clocks: list[bool] = clocks, stay: list = stay) -> list[Any]:
            out = turn(marked(carry, clocks))
            stay.extend(isinstance(x, Clock) for x in out)
            return plain(out)

        jax.eval_shape(trace, plain(start))
        after = [a and b for a, b in zip(clocks, stay, strict=True)]
        if after == clocks:
            break
        clocks = after
    return clocks


def _scan(run: Run, params: dict[str, Any], arguments: list[Any], mode: Mode) -> list[Any]:
    if "ft_in" in params:  # JAX 0.12
        parts = params["ft_in"].update(range(len(arguments))).unpack()
        num_consts, num_carry, _ = (len(list(part)) for part in parts)
    else:
        num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, rest = arguments[:num_consts], arguments[num_consts:]
    start = [full_series(x, mode.order) for x in rest[:num_carry]]
    columns = plain(rest[num_carry:])

    def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        out = run(params["jaxpr"], [*consts, *carry, *xs], mode)
        return [full_series(x, mode.order) for x in out[:num_carry]], out[num_carry:]

    first = jax.tree.map(lambda x: x[0], columns) if params["length"] else None
    clocks = [False] * num_carry
    if first is not None:
        clocks = _clocks(lambda carry: turn(carry, first)[0], start, mode)

    def body(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        carry, ys = turn(marked(carry, clocks), xs)
        return plain(carry), plain(ys)

    carry, ys = lax.scan(
        body,
        plain(start),
        columns,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*marked(carry, clocks), *ys]


def _while(run: Run, params: dict[str, Any], arguments: list[Any], mode: Mode) -> list[Any]:
    """A loop, whose condition is asked as comparisons are.

    A loop that turns until something is small (a fixed point, Newton's method) ends early at t = 0,
    where the start solves already. The series of what it would find at t > 0 is a fixed point of
    the turn. So more turns are taken, up to `TURNS`: if all coefficients come to stay, and those at
    t = 0 are what they were, that is the result. Else the loop is of another kind and its end
    stands, unless it would go on at t = `at`: then it has no series here, and the result is NaN.
    """
    first, second = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = arguments[:first], arguments[first : first + second]
    start = [full_series(x, mode.order) for x in arguments[first + second :]]

    def turn(carry: list[Any]) -> list[Any]:
        out = run(params["body_jaxpr"], [*of_body, *carry], mode)
        return [full_series(x, mode.order) for x in out]

    clocks = _clocks(turn, start, mode)

    def body(carry: list[Any]) -> list[Any]:
        return plain(turn(marked(carry, clocks)))

    def holds(carry: list[Any]) -> Array:
        given = [*of_cond, *marked(carry, clocks)]
        if mode.at is None:
            given = [*map(constant, given)]
        return run(params["cond_jaxpr"], given, mode)[0]

    def where(condition: Array, new: list[Any], old: list[Any]) -> list[Any]:
        def choose(x: Array, z: Array) -> Array:
            over = jnp.expand_dims(condition, tuple(range(condition.ndim, jnp.ndim(x))))
            return jnp.where(over, x, z)

        return jax.tree.map(choose, new, old)

    if params["cond_jaxpr"].out_avals[0].shape:  # a vmapped loop: each goes on while its own holds
        end = lax.while_loop(
            lambda carry: jnp.any(holds(carry)),
            lambda carry: where(holds(carry), body(carry), carry),
            plain(start),
        )
    else:
        end = lax.while_loop(holds, body, plain(start))
    given = [*of_cond, *marked(end, clocks)]
    if mode.at is None or not _weighs_numbers(params["cond_jaxpr"].jaxpr, given):
        return marked(end, clocks)

    def goes_on(t: Any) -> Array:
        given = [value_at(x, t) for x in [*of_cond, *marked(end, clocks)]]
        return run(params["cond_jaxpr"], given, mode)[0]

    ended_early = goes_on(mode.at)

    def largest(x: Array) -> Array:
        return jnp.max(jnp.abs(jnp.nan_to_num(x)), initial=0)

    def apart(new: list[Any], old: list[Any], count: int) -> Array:
        """The largest change of a coefficient, against rounding."""
        pairs = [(x, z) for x, z in zip(new, old, strict=True) if isinstance(x, list)]
        sizes = jnp.stack([largest(c) for x, _ in pairs for c in x])
        steps = [largest(a - b) for x, z in pairs for a, b in zip(x[:count], z, strict=False)]
        return jnp.stack(steps).max() > 64 * jnp.finfo(sizes.dtype).eps * sizes.max()

    def settle(state: tuple[list[Any], Array, Array]) -> tuple[list[Any], Array, Array]:
        carry, _, count = state
        new = body(carry)
        return new, apart(new, carry, mode.order + 1), count + 1

    settled, moves, _ = lax.while_loop(
        lambda state: state[1] & (state[2] < TURNS), settle, (end, jnp.array(True), jnp.array(0))
    )
    # A fixed point is one at t = 0 too, where the loop had found it.
    wrong = moves | apart(settled, end, 1)
    lost = [[jnp.full_like(c, jnp.nan) for c in x] if isinstance(x, list) else x for x in end]
    kept = where(ended_early, lost, end)
    return marked(jax.tree.map(lambda x, z: jnp.where(wrong, x, z), kept, settled), clocks)


def _weighs_numbers(condition: Any, given: list[Any]) -> bool:
    """Whether a loop's end depends on more than counting and time."""
    used = {v for eqn in needed(condition) for v in eqn.invars if isinstance(v, jex.Var)}
    used |= {v for v in condition.outvars if isinstance(v, jex.Var)}
    return any(
        (isinstance(x, list) and not isinstance(x, Clock)) or v.aval.dtype == bool
        for v, x in zip(condition.invars, given, strict=True)
        if v in used
    )


def _cond(run: Run, params: dict[str, Any], arguments: list[Any], mode: Mode) -> list[Any]:
    def branch(jaxpr: Any) -> Callable[[], list[Any]]:
        return lambda: plain([full_series(x, mode.order) for x in run(jaxpr, arguments[1:], mode)])

    return lax.switch(arguments[0], [*map(branch, params["branches"])])


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


def needed(jaxpr: Any) -> list[Any]:
    """The equations that the outputs depend on: a gradient leaves its loss's value behind."""
    wanted = {v for v in jaxpr.outvars if not isinstance(v, jex.Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or wanted.intersection(eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if not isinstance(v, jex.Literal))
    return kept[::-1]
