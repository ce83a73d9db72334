"""Rules for single primitives on series: linear, bilinear, elementwise; for the rest, nesting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ddlib.taylor.arithmetic import (
    ELEMENTWISE,
    divide,
    divide_near,
    general_power,
    power,
    real_power,
    sqrt,
    sqrt_near,
)
from ddlib.taylor.order import COMPARISONS, compare, extreme, reduce_extreme, sign
from ddlib.taylor.series import (
    Mode,
    Series,
    absent,
    constant,
    depends_on_t_alone,
    full_series,
    is_inexact,
    value_at,
)

# Linear in all their arguments at once, and free of constants.
LINEAR = {
    *("add", "add_any", "broadcast_in_dim", "complex", "concatenate", "conj"),
    *("convert_element_type", "copy", "copy_p", "cumsum", "expand_dims", "imag", "name", "neg"),
    *("pad", "real", "reduce_precision", "reduce_sum", "reduce_window_sum", "reshape", "rev"),
    *("slice", "split", "squeeze", "stack", "stop_gradient", "sub", "tile", "transpose", "unstack"),
}

# Linear in the arguments numbered here once the others (indices, predicates) are held.
LINEAR_IN: dict[str, Callable[[int], Sequence[int]]] = {
    "dynamic_slice": lambda n: (0,),
    "dynamic_update_slice": lambda n: (0, 1),
    "gather": lambda n: (0,),
    "scatter-add": lambda n: (0, 2),
    "select_n": lambda n: range(1, n),
}

BILINEAR = {"mul", "dot_general", "conv_general_dilated"}

STAIRS = {"ceil", "floor", "round"}


def _nested(bind: Callable, arguments: list[Any], order: int) -> list[Any]:
    """The series of one primitive by nested forward mode: always right, never cheap."""
    varying = [x for x in arguments if isinstance(x, list)]
    real = jnp.finfo(jnp.result_type(*(x[0] for x in varying))).dtype

    def along(t: Array) -> tuple[list[Array], ...]:
        return (bind(*(value_at(x, t) for x in arguments)),)

    def extend(lower: Callable) -> Callable:
        def higher(t: Array) -> tuple[list[Array], ...]:
            values, slopes = jax.jvp(lower, (t,), (jnp.ones_like(t),))
            return (*values, slopes[-1])

        return higher

    fn: Callable = along
    for _ in range(order):
        fn = extend(fn)
    derivatives = fn(jnp.zeros((), real))
    return [
        [d / factorial(k) for k, d in enumerate(column)] if is_inexact(column[0]) else column[0]
        for column in zip(*derivatives, strict=True)
    ]


def _power(x: Series, exponent: Any) -> Series:
    """x to a power that does not vary: by products where it is a small positive integer."""
    if isinstance(exponent, jax.core.Tracer) or jnp.ndim(exponent):
        return real_power(x, exponent)
    if float(exponent).is_integer() and 1 <= exponent <= 32:
        return power(x, int(exponent))
    return real_power(x, exponent)


def expand(eqn: Any, arguments: list[Any], mode: Mode) -> list[Any]:
    """One primitive: each argument an array (constant) or a series, of which there is one."""
    name, params, order = eqn.primitive.name, eqn.params, mode.order
    bind_params: Any = eqn.primitive.get_bind_params(params)

    def bind(*values: Array, **changed: Any) -> list[Array]:
        out = eqn.primitive.bind(*values, **{**bind_params, **changed})
        return list(out) if eqn.primitive.multiple_results else [out]

    def full(x: Any) -> Series:
        return full_series(x, order)

    discrete = not any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars)
    varying = [isinstance(x, list) for x in arguments]
    if name in COMPARISONS:
        return [compare(name, full(arguments[0]), full(arguments[1]), mode)]
    # what jumps does so at times, not at states
    at_some_t = mode.at is not None and depends_on_t_alone(arguments)
    if discrete or (name in STAIRS and at_some_t):
        given = [value_at(x, mode.at) if at_some_t else constant(x) for x in arguments]
        return [full(x) for x in bind(*given)]
    if name == "stop_gradient":
        return arguments
    if name in LINEAR:
        columns = [full(x) for x in arguments]
        rows = [bind(*(c[k] for c in columns)) for k in range(order + 1)]
        return [list(series) for series in zip(*rows, strict=True)]
    if name in LINEAR_IN:
        slots = set(LINEAR_IN[name](len(arguments)))
        if not any(v for i, v in enumerate(varying) if i not in slots):
            rows = [full(x) if i in slots else [x] * (order + 1) for i, x in enumerate(arguments)]
            # what a gather puts where it reads nothing is a constant
            filled: dict[str, Any] = {"fill_value": 0} if name == "gather" else {}
            value = bind(*(r[0] for r in rows))
            rest = [bind(*(r[k] for r in rows), **filled) for k in range(1, order + 1)]
            return [list(series) for series in zip(value, *rest, strict=True)]
    if name in BILINEAR:
        a, b = arguments
        if not all(varying):
            return [
                [bind(a[k] if varying[0] else a, b[k] if varying[1] else b)[0]
                 for k in range(order + 1)]
            ]  # fmt: skip
        out = []
        for k in range(order + 1):
            kept = [j for j in range(k + 1) if not (absent(a, j) or absent(b, k - j))]
            terms = [bind(a[j], b[k - j])[0] for j in kept]
            blank = jnp.zeros(eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype)
            out.append(sum(terms[1:], terms[0]) if terms else blank)
        return [out]
    if name == "div":
        a, b = arguments
        quotient = divide if mode.at is None else divide_near
        return [quotient(full(a), full(b)) if varying[1] else [c / b for c in a]]
    if name in ("max", "min"):
        return [extreme(bind, name, full(arguments[0]), full(arguments[1]), mode)]
    if name == "clamp" and mode.at is not None:
        low, x, high = map(full, arguments)
        return [extreme(lax.min, "min", extreme(lax.max, "max", x, low, mode), high, mode)]
    if name in ("reduce_max", "reduce_min") and mode.at is not None:
        return [reduce_extreme(bind, name, arguments[0], params["axes"])]
    if name == "sqrt":
        near = mode.at is not None and not jnp.iscomplexobj(arguments[0][0])
        return [(sqrt_near if near else sqrt)(arguments[0])]
    if name in ("abs", "sign") and not jnp.iscomplexobj(arguments[0][0]):
        signs = sign(arguments[0], mode)
        if name == "sign":
            return [full(jnp.where(jnp.isnan(arguments[0][0]), jnp.nan, signs))]
        up = signs >= 0  # JAX's convention at 0
        return [[*bind(arguments[0][0]), *(jnp.where(up, c, -c) for c in arguments[0][1:])]]
    if name == "integer_pow":
        return [_power(arguments[0], params["y"])]
    if name == "pow":
        if not varying[1]:
            return [_power(*arguments)]
        return [general_power(full(arguments[0]), full(arguments[1]))]
    if name == "square":
        return [power(arguments[0], 2)]
    if name in ELEMENTWISE:
        return [ELEMENTWISE[name](arguments[0])]
    return _nested(bind, arguments, order)
