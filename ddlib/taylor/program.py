"""A program evaluated in the arithmetic of power series, equation by equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex

from ddlib._check import is_concrete
from ddlib.taylor.control import CONTROL, needed
from ddlib.taylor.rules import expand
from ddlib.taylor.series import Clock, Mode, depends_on_t_alone

CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    "custom_vjp_call",  # it has no forward mode, and no gradient is left to take
}

OF_T = {"add", "broadcast_in_dim", "convert_element_type", "copy", "div", "mul", "neg", "sub"}


def _apply(eqn: Any, arguments: list[Any], mode: Mode) -> list[Any]:
    """One equation of the program: each argument an array (constant) or a series (a list).

    What is known of t alone is computed now, even inside a trace: rules ask what is zero in it.
    """
    known = any(isinstance(x, Clock) for x in arguments) and is_concrete(arguments)
    if known and eqn.primitive.name in OF_T:
        with jax.ensure_compile_time_eval():
            return _expanded(eqn, arguments, mode)
    return _expanded(eqn, arguments, mode)


def _expanded(eqn: Any, arguments: list[Any], mode: Mode) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if not any(isinstance(x, list) for x in arguments):
        out = eqn.primitive.bind(*arguments, **eqn.primitive.get_bind_params(params))
        return list(out) if eqn.primitive.multiple_results else [out]
    if name in CALLS:
        out = run(params["jaxpr" if "jaxpr" in params else "call_jaxpr"], arguments, mode)
    elif name in CONTROL:
        out = CONTROL[name](run, params, arguments, mode)
    elif name == "custom_jvp_call" and mode.at is not None and _is_kink(params["call_jaxpr"]):
        out = run(params["call_jaxpr"], arguments, mode)
    else:
        out = expand(eqn, arguments, mode)
    clock = depends_on_t_alone(arguments)
    return [Clock(x) if clock and isinstance(x, list) else x for x in out]


def _is_kink(closed: Any) -> bool:
    """Whether a program is a maximum or a minimum and no more, as `jax.nn.relu` is."""
    return all(
        eqn.primitive.name in ("max", "min")
        or (eqn.primitive.name in CALLS and _is_kink(eqn.params["jaxpr"]))
        for eqn in closed.jaxpr.eqns
    )


def evaluate(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], mode: Mode) -> list:
    """The outputs of a program whose inputs are arrays (constants) or series (lists)."""
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, jex.Literal) else values[v]

    for eqn in needed(jaxpr):
        out = _apply(eqn, [read(v) for v in eqn.invars], mode)
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def run(closed: Any, arguments: Sequence[Any], mode: Mode) -> list:
    """A program within the program, with its constants or, in some primitives, without any."""
    jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "jaxpr") else (closed, ())
    return evaluate(jaxpr, consts, arguments, mode)
