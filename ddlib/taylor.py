"""Taylor series of any JAX function along a line in one real variable.

Backward error analysis differentiates a step several times in the scalar h. Nested forward mode is
right but doubles the program at every order. Here the program is evaluated once in the arithmetic
of truncated power series: linear primitives act on every coefficient, products convolve them, a
few functions have their recurrences (Griewank and Walther 2008, Chapter 13), loops and branches run
their bodies in this arithmetic, and whatever else occurs is expanded by nested forward mode *of
that primitive alone*.

Comparisons, and with them branches, kinks and the ends of loops, are taken at t = 0, as JAX takes
them. The steps of `scan_compose` are expanded for small positive t instead, since at t = 0 a step
does nothing and whatever it compares may tie. There series compare by their first coefficients
that differ; what depends on t alone is compared at a given t > 0; and a loop that ends at t = 0 but
would go on at that t runs until its series has settled (see `_while`).

`stop_gradient` is the identity here, and `custom_vjp` its plain function. They say what a loss's
gradient should be, and that has happened by the time the step exists; the step's value still
depends on h through them. A `custom_jvp` is expanded by its own rule.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from math import factorial
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ddlib._check import check_count

Series = list[Array]  # coefficients c_0, c_1, …, c_p of Σ c_k t^k

SMALL = 2.0**-10  # where comparisons of t alone are taken, unless the caller knows better
TURNS = 256  # that a loop has to settle


class _Clock(list):
    """The series of something that depends on t alone."""


class _Mode(NamedTuple):
    """How a program is expanded: to which power, and where comparisons are taken.

    `at` None: at t = 0. Else for t → 0⁺, and at t = `at` where only t is compared.
    """

    order: int
    at: Any = None


# Linear in all their arguments at once, and free of constants.
_LINEAR = {
    *("add", "add_any", "broadcast_in_dim", "complex", "concatenate", "conj"),
    *("convert_element_type", "copy", "copy_p", "cumsum", "expand_dims", "imag", "name", "neg"),
    *(
        "pad",
        "real",
        "reduce_sum",
        "reduce_window_sum",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
    ),
    *("stop_gradient", "sub", "transpose"),
}
# Linear in the arguments numbered here once the others (indices, predicates) are held.
_LINEAR_IN: dict[str, Callable[[int], Sequence[int]]] = {
    "dynamic_slice": lambda n: (0,),
    "dynamic_update_slice": lambda n: (0, 1),
    "gather": lambda n: (0,),
    "scatter-add": lambda n: (0, 2),
    "select_n": lambda n: range(1, n),
}
_BILINEAR = {"mul", "dot_general", "conv_general_dilated"}


def _convolve(a: Series, b: Series, k: int) -> Array:
    """Coefficient k of the product a·b."""
    return sum((a[j] * b[k - j] for j in range(k + 1)), jnp.zeros_like(a[0]))


def _weighted(a: Series, b: Series, k: int) -> Array:
    """(1/k) Σ_{j=1}^{k} j a_j b_{k−j}: coefficient k of the integral of a'·b."""
    return sum((j * a[j] * b[k - j] for j in range(1, k + 1)), jnp.zeros_like(a[0])) / k


def _exp(x: Series) -> Series:
    y = [jnp.exp(x[0])]
    for k in range(1, len(x)):
        y.append(_weighted(x, y, k))
    return y


def _log(x: Series) -> Series:
    y = [jnp.log(x[0])]
    for k in range(1, len(x)):
        inner = sum((j * y[j] * x[k - j] for j in range(1, k)), jnp.zeros_like(x[0])) / k
        y.append((x[k] - inner) / x[0])
    return y


def _riccati(first: Array, x: Series, slope: Callable[[Series], Array]) -> Series:
    """y with y' = s(y)·x', where `slope` gives s(y)'s newest coefficient from y's so far."""
    y, s = [first], []
    for k in range(1, len(x)):
        s.append(slope(y))
        y.append(_weighted(x, s, k))
    return y


def _tanh(x: Series) -> Series:
    def slope(y: Series) -> Array:  # 1 − y²
        k = len(y) - 1
        return (1.0 if k == 0 else 0.0) - _convolve(y, y, k)

    return _riccati(jnp.tanh(x[0]), x, slope)


def _logistic(x: Series) -> Series:
    def slope(y: Series) -> Array:  # y − y²
        k = len(y) - 1
        return y[k] - _convolve(y, y, k)

    return _riccati(jax.nn.sigmoid(x[0]), x, slope)


def _divide(a: Series, b: Series) -> Series:
    y: Series = []
    for k in range(len(a)):
        known = sum((b[j] * y[k - j] for j in range(1, k + 1)), jnp.zeros_like(a[0]))
        y.append((a[k] - known) / b[0])
    return y


def _log1p(x: Series) -> Series:
    return [jnp.log1p(x[0]), *_log([1 + x[0], *x[1:]])[1:]]


_ELEMENTWISE = {
    "exp": _exp,
    "log": _log,
    "log1p": _log1p,
    "logistic": _logistic,
    "tanh": _tanh,
}


_COMPARISONS = {"eq": lax.eq, "ne": lax.ne, "lt": lax.lt, "le": lax.le, "gt": lax.gt, "ge": lax.ge}


def _compare(name: str, a: Series, b: Series, mode: _Mode) -> Array:
    """Whether a < b, and so on: at t = 0; for t → 0⁺, by the first coefficients that differ."""
    compare = _COMPARISONS[name]
    if mode.at is None or a is b:  # x != x asks for NaN
        return compare(a[0], b[0])
    if isinstance(a, _Clock) and isinstance(b, _Clock):
        return compare(_value(a, mode.at), _value(b, mode.at))
    rest = jnp.zeros_like(a[0])
    for x, z in zip(a[:0:-1], b[:0:-1], strict=True):
        rest = jnp.where(x != z, x - z, rest)
    found = jnp.where(a[0] != b[0], compare(a[0], b[0]), compare(rest, jnp.zeros_like(rest)))
    # What is 0 at t = 0 is a move, and what it is held against a tolerance: ask at the t given.
    stays, rests = (functools.reduce(operator.and_, [c == 0 for c in x[1:]], True) for x in (a, b))
    move = ((a[0] == 0) & rests) | ((b[0] == 0) & stays)
    known = ([x[0], *(jnp.where(jnp.isnan(c), 0, c) for c in x[1:])] for x in (a, b))
    return jnp.where(move, compare(*(_value(x, mode.at) for x in known)), found)


def _extreme(bind: Callable, name: str, a: Series, b: Series, mode: _Mode) -> Series:
    """The larger or the smaller; where two tie at t = 0, JAX's slope there is the mean of both."""
    first = _compare("gt" if name == "max" else "lt", a, b, mode)
    tie = (a[0] == b[0]) & (mode.at is None)
    chosen = [
        jnp.where(first, x, jnp.where(tie, (x + z) / 2, z)) for x, z in zip(a, b, strict=True)
    ]
    if mode.at is None:
        return [*bind(a[0], b[0]), *chosen[1:]]  # which hands on a NaN of either
    return [jnp.where(jnp.isnan(a[0]), a[0], chosen[0]), *chosen[1:]]


def _sign(x: Series, mode: _Mode) -> Array:
    """Of real numbers, ±1 or 0."""
    zero = _full(jnp.zeros_like(x[0]), mode.order)
    up, down = (_compare(name, x, zero, mode).astype(x[0].dtype) for name in ("gt", "lt"))
    return up - down


def _sqrt(x: Series) -> Series:
    """√x for t → 0⁺: where x begins with t², as the square of a norm that is 0 at t = 0, t√(x/t²).

    There the two highest coefficients rest on ones that are not kept: they are NaN.
    """
    y = _sqrt_of_positive(x)
    if len(x) > 2:
        shifted = [*_sqrt_of_positive(x[2:]), *[jnp.full_like(x[0], jnp.nan)] * 2]
        begins = (x[0] == 0) & (x[1] == 0)
        nothing = functools.reduce(operator.and_, [c == 0 for c in x])
        inner = [jnp.zeros_like(x[0]), *shifted[: len(x) - 1]]
        y = [jnp.where(begins, z, w) for w, z in zip(y, inner, strict=True)]
        y = [jnp.where(nothing, 0, w) for w in y]
    return y


def _sqrt_of_positive(x: Series) -> Series:
    y = [jnp.sqrt(x[0])]
    for k in range(1, len(x)):
        known = sum((y[j] * y[k - j] for j in range(1, k)), jnp.zeros_like(x[0]))
        y.append((x[k] - known) / (2 * y[0]))
    return y


def _reduce_extreme(bind: Callable, name: str, x: Series, axes: Sequence[int]) -> Series:
    """The largest or smallest entry for t → 0⁺: those that tie go by the next coefficient."""
    left, others = jnp.ones(x[0].shape, bool), -jnp.inf if name == "reduce_max" else jnp.inf
    out = []
    for c in x:
        found = bind(jnp.where(left, c, others))[0]
        left = left & (c == jnp.expand_dims(found, axes))
        out.append(found)
    return out


def _value(x: Any, t: Any) -> Any:
    """A series' polynomial at t; what is no series as it is."""
    if not isinstance(x, list):
        return x
    total = x[-1]
    for c in x[-2::-1]:
        total = c + jnp.asarray(t).astype(jnp.finfo(c.dtype).dtype) * total
    return total


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _full(x: Any, order: int) -> Any:
    """A constant as a series; integers and Booleans stay as they are, constants always."""
    if isinstance(x, list) or not _is_inexact(x):
        return x
    return _Clock([jnp.asarray(x), *(jnp.zeros_like(x) for _ in range(order))])


def _constant(x: Any) -> Any:
    return x[0] if isinstance(x, list) else x


def _power(x: Series, exponent: int) -> Series:
    y = x
    for _ in range(exponent - 1):
        y = [_convolve(x, y, k) for k in range(len(x))]
    return y


def _nested(bind: Callable, arguments: list[Any], order: int) -> list[Any]:
    """The series of one primitive by nested forward mode: always right, never cheap."""
    varying = [x for x in arguments if isinstance(x, list)]
    real = jnp.finfo(jnp.result_type(*(x[0] for x in varying))).dtype

    def along(t: Array) -> tuple[list[Array], ...]:
        return (bind(*(_value(x, t) for x in arguments)),)

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
        [d / factorial(k) for k, d in enumerate(column)] if _is_inexact(column[0]) else column[0]
        for column in zip(*derivatives, strict=True)
    ]


def _plain(carry: list[Any]) -> list[Any]:
    """As JAX's loops take them: series as lists and no subclass of it."""
    return [list(x) if isinstance(x, list) else x for x in carry]


def _marked(carry: list[Any], clocks: list[bool]) -> list[Any]:
    return [_Clock(x) if is_clock else x for x, is_clock in zip(carry, clocks, strict=True)]


def _clocks(turn: Callable[[list[Any]], list[Any]], start: list[Any], mode: _Mode) -> list[bool]:
    """Which entries of a loop's carry depend on t alone, turn after turn."""
    clocks = [mode.at is not None and isinstance(x, _Clock) for x in start]
    while any(clocks):
        stay: list[bool] = []

        def trace(carry: list[Any], clocks: list[bool] = clocks, stay: list = stay) -> list[Any]:
            out = turn(_marked(carry, clocks))
            stay.extend(isinstance(x, _Clock) for x in out)
            return _plain(out)

        jax.eval_shape(trace, _plain(start))
        after = [a and b for a, b in zip(clocks, stay, strict=True)]
        if after == clocks:
            break
        clocks = after
    return clocks


def _scan(params: dict[str, Any], arguments: list[Any], mode: _Mode) -> list[Any]:
    if "ft_in" in params:  # JAX 0.12
        parts = params["ft_in"].update(range(len(arguments))).unpack()
        num_consts, num_carry, _ = (len(list(part)) for part in parts)
    else:
        num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, rest = arguments[:num_consts], arguments[num_consts:]
    start = [_full(x, mode.order) for x in rest[:num_carry]]
    columns = _plain(rest[num_carry:])

    def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        out = _run(params["jaxpr"], [*consts, *carry, *xs], mode)
        return [_full(x, mode.order) for x in out[:num_carry]], out[num_carry:]

    first = jax.tree.map(lambda x: x[0], columns) if params["length"] else None
    clocks = [False] * num_carry
    if first is not None:
        clocks = _clocks(lambda carry: turn(carry, first)[0], start, mode)

    def body(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
        carry, ys = turn(_marked(carry, clocks), xs)
        return _plain(carry), _plain(ys)

    carry, ys = lax.scan(
        body,
        _plain(start),
        columns,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*_marked(carry, clocks), *ys]


def _while(params: dict[str, Any], arguments: list[Any], mode: _Mode) -> list[Any]:
    """A loop, whose condition is asked as comparisons are.

    A loop that turns until something is small (a fixed point, Newton's method) ends early at t = 0,
    where the start solves already. The series of what it would find at t > 0 is a fixed point of
    the turn. So more turns are taken, up to `TURNS`: if all coefficients come to stay, and those at
    t = 0 are what they were, that is the result. Else the loop is of another kind and its end
    stands, unless it would go on at t = `at`: then it has no series here, and the result is NaN.
    """
    first, second = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = arguments[:first], arguments[first : first + second]
    start = [_full(x, mode.order) for x in arguments[first + second :]]

    def turn(carry: list[Any]) -> list[Any]:
        out = _run(params["body_jaxpr"], [*of_body, *carry], mode)
        return [_full(x, mode.order) for x in out]

    clocks = _clocks(turn, start, mode)

    def body(carry: list[Any]) -> list[Any]:
        return _plain(turn(_marked(carry, clocks)))

    def holds(carry: list[Any]) -> Array:
        given = [*of_cond, *_marked(carry, clocks)]
        if mode.at is None:
            given = [*map(_constant, given)]
        return _run(params["cond_jaxpr"], given, mode)[0]

    def where(condition: Array, new: list[Any], old: list[Any]) -> list[Any]:
        def choose(x: Array, z: Array) -> Array:
            over = jnp.expand_dims(condition, tuple(range(condition.ndim, jnp.ndim(x))))
            return jnp.where(over, x, z)

        return jax.tree.map(choose, new, old)

    if params["cond_jaxpr"].out_avals[0].shape:  # a vmapped loop: each goes on while its own holds
        end = lax.while_loop(
            lambda carry: jnp.any(holds(carry)),
            lambda carry: where(holds(carry), body(carry), carry),
            _plain(start),
        )
    else:
        end = lax.while_loop(holds, body, _plain(start))
    given = [*of_cond, *_marked(end, clocks)]
    if mode.at is None or not _weighs_numbers(params["cond_jaxpr"].jaxpr, given):
        return _marked(end, clocks)

    def goes_on(t: Any) -> Array:
        given = [_value(x, t) for x in [*of_cond, *_marked(end, clocks)]]
        return _run(params["cond_jaxpr"], given, mode)[0]

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
    return _marked(jax.tree.map(lambda x, z: jnp.where(wrong, x, z), kept, settled), clocks)


def _weighs_numbers(condition: Any, given: list[Any]) -> bool:
    """Whether a loop's end depends on more than counting and time."""
    used = {v for eqn in _needed(condition) for v in eqn.invars if isinstance(v, jex.Var)}
    used |= {v for v in condition.outvars if isinstance(v, jex.Var)}
    return any(
        (isinstance(x, list) and not isinstance(x, _Clock)) or v.aval.dtype == bool
        for v, x in zip(condition.invars, given, strict=True)
        if v in used
    )


def _cond(params: dict[str, Any], arguments: list[Any], mode: _Mode) -> list[Any]:
    def branch(jaxpr: Any) -> Callable[[], list[Any]]:
        return lambda: _plain([_full(x, mode.order) for x in _run(jaxpr, arguments[1:], mode)])

    return lax.switch(arguments[0], [*map(branch, params["branches"])])


_STAIRS = {"ceil", "floor", "round"}
_CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"),
    "custom_vjp_call",  # it has no forward mode, and no gradient is left to take
}


def _apply(eqn: Any, arguments: list[Any], mode: _Mode) -> list[Any]:
    """One equation of the program: each argument an array (constant) or a series (a list)."""
    clock = all(isinstance(x, _Clock) for x in arguments if isinstance(x, list))
    out = _expand(eqn, arguments, mode, clock)
    return [_Clock(x) if clock and isinstance(x, list) else x for x in out]


def _expand(eqn: Any, arguments: list[Any], mode: _Mode, clock: bool) -> list[Any]:
    name, params, order = eqn.primitive.name, eqn.params, mode.order
    bind_params: Any = eqn.primitive.get_bind_params(params)

    def bind(*values: Array, **changed: Any) -> list[Array]:
        out = eqn.primitive.bind(*values, **{**bind_params, **changed})
        return list(out) if eqn.primitive.multiple_results else [out]

    def full(x: Any) -> Series:
        return _full(x, order)

    discrete = not any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars)
    varying = [isinstance(x, list) for x in arguments]
    if not any(varying):
        return bind(*arguments)
    if name in _CALLS:
        return _run(params["jaxpr" if "jaxpr" in params else "call_jaxpr"], arguments, mode)
    if name in _CONTROL:
        return _CONTROL[name](params, arguments, mode)
    if name in _COMPARISONS:
        return [_compare(name, full(arguments[0]), full(arguments[1]), mode)]
    at_some_t = mode.at is not None and clock  # what jumps does so at times, not at states
    if discrete or (name in _STAIRS and at_some_t):
        given = [_value(x, mode.at) if at_some_t else _constant(x) for x in arguments]
        return [full(x) for x in bind(*given)]
    if name == "stop_gradient":
        return arguments
    if name in _LINEAR:
        columns = [full(x) for x in arguments]
        rows = [bind(*(c[k] for c in columns)) for k in range(order + 1)]
        return [list(series) for series in zip(*rows, strict=True)]
    if name in _LINEAR_IN:
        slots = set(_LINEAR_IN[name](len(arguments)))
        if not any(v for i, v in enumerate(varying) if i not in slots):
            rows = [full(x) if i in slots else [x] * (order + 1) for i, x in enumerate(arguments)]
            # what a gather puts where it reads nothing is a constant
            filled: dict[str, Any] = {"fill_value": 0} if name == "gather" else {}
            value = bind(*(r[0] for r in rows))
            rest = [bind(*(r[k] for r in rows), **filled) for k in range(1, order + 1)]
            return [list(series) for series in zip(value, *rest, strict=True)]
    if name in _BILINEAR:
        a, b = arguments
        if not all(varying):
            return [
                [bind(a[k] if varying[0] else a, b[k] if varying[1] else b)[0]
                 for k in range(order + 1)]
            ]  # fmt: skip
        products = [[bind(a[j], b[k - j])[0] for j in range(k + 1)] for k in range(order + 1)]
        return [[sum(terms[1:], terms[0]) for terms in products]]
    if name == "div":
        a, b = arguments
        return [_divide(full(a), full(b)) if varying[1] else [c / b for c in a]]
    if name in ("max", "min"):
        return [_extreme(bind, name, full(arguments[0]), full(arguments[1]), mode)]
    if name == "clamp" and mode.at is not None:
        low, x, high = map(full, arguments)
        return [_extreme(lax.min, "min", _extreme(lax.max, "max", x, low, mode), high, mode)]
    if name in ("reduce_max", "reduce_min") and mode.at is not None:
        return [_reduce_extreme(bind, name, arguments[0], params["axes"])]
    if name == "sqrt" and mode.at is not None and not jnp.iscomplexobj(arguments[0][0]):
        return [_sqrt(arguments[0])]
    if name == "custom_jvp_call" and mode.at is not None and _is_kink(params["call_jaxpr"]):
        return _run(params["call_jaxpr"], arguments, mode)
    if name in ("abs", "sign") and not jnp.iscomplexobj(arguments[0][0]):
        sign = _sign(arguments[0], mode)
        if name == "sign":
            return [full(jnp.where(jnp.isnan(arguments[0][0]), jnp.nan, sign))]
        up = sign >= 0  # JAX's convention at 0
        return [[*bind(arguments[0][0]), *(jnp.where(up, c, -c) for c in arguments[0][1:])]]
    if name == "integer_pow" and 1 <= params["y"] <= 4:
        return [_power(arguments[0], params["y"])]
    if name == "square":
        return [_power(arguments[0], 2)]
    if name in _ELEMENTWISE:
        return [_ELEMENTWISE[name](arguments[0])]
    return _nested(bind, arguments, order)


def _is_kink(closed: Any) -> bool:
    """Whether a program is a maximum or a minimum and no more, as `jax.nn.relu` is."""
    return all(
        eqn.primitive.name in ("max", "min")
        or (eqn.primitive.name in _CALLS and _is_kink(eqn.params["jaxpr"]))
        for eqn in closed.jaxpr.eqns
    )


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that the outputs depend on: a gradient leaves its loss's value behind."""
    wanted = {v for v in jaxpr.outvars if not isinstance(v, jex.Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or wanted.intersection(eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if not isinstance(v, jex.Literal))
    return kept[::-1]


def _evaluate(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], mode: _Mode) -> list:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, jex.Literal) else values[v]

    for eqn in _needed(jaxpr):
        out = _apply(eqn, [read(v) for v in eqn.invars], mode)
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _run(closed: Any, arguments: Sequence[Any], mode: _Mode) -> list:
    """A program within the program, with its constants or, in some primitives, without any."""
    jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "jaxpr") else (closed, ())
    return _evaluate(jaxpr, consts, arguments, mode)


def compose(fn: Callable[..., PyTree], order: int) -> Callable[..., tuple[PyTree, ...]]:
    """Series in, series out: the Taylor coefficients of fn along polynomial arguments.

    Args:
      fn: function from pytrees of float arrays to a pytree of float arrays.
      order: the highest power kept, zero or more.

    Returns:
      A function that takes, for every argument of fn, a tuple of order + 1 pytrees (the
      coefficients of t⁰ … t^order) and returns such a tuple for fn's value. Integer and Boolean
      arguments and values are taken at t = 0.

    Raises:
      ValueError: a bad order, or arguments that are not tuples of order + 1 coefficients.

    >>> t, zero = jnp.array(1.0), jnp.array(0.0)
    >>> [round(float(c), 4) for c in compose(jnp.exp, 3)((zero, t, zero, zero))]
    [1.0, 1.0, 0.5, 0.1667]
    """
    check_count("order", order, least=0)
    return _compose(fn, _Mode(order))


def _compose(fn: Callable[..., PyTree], mode: _Mode) -> Callable[..., tuple[PyTree, ...]]:
    order = mode.order

    def series(*arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        if any(len(coefficients) != order + 1 for coefficients in arguments):
            raise ValueError(
                f"every argument must be a tuple of {order + 1} coefficients, got lengths "
                f"{[len(coefficients) for coefficients in arguments]}"
            )
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*(c[0] for c in arguments))
        kinds = [list if mode.at is None else _Clock] + [list] * len(arguments)  # t comes first
        inputs: list[Any] = [
            kind(map(jnp.asarray, column)) if _is_inexact(column[0]) else column[0]
            for kind, coefficients in zip(kinds, arguments, strict=False)
            for column in zip(*map(jax.tree.leaves, coefficients), strict=True)
        ]
        outputs = _evaluate(closed.jaxpr, closed.consts, inputs, mode)
        tree = jax.tree.structure(shape)
        full = [
            x if isinstance(x, list) else [jnp.asarray(x)] + [jnp.zeros_like(x)] * order
            for x in outputs
        ]
        return tuple(jax.tree.unflatten(tree, [x[k] for x in full]) for k in range(order + 1))

    return series


def coefficients(fn: Callable[[Array], PyTree], at: float | Array, order: int) -> tuple:
    """The Taylor coefficients of a function of one scalar: fn(at), fn'(at), …, fn^{(p)}(at)/p!.

    >>> [round(float(c), 4) for c in coefficients(jnp.tanh, 0.0, 3)]
    [0.0, 1.0, 0.0, -0.3333]
    """
    check_count("order", order, least=0)
    at = jnp.asarray(at, jnp.result_type(at, float))
    rest = [jnp.zeros_like(at)] * max(order - 1, 0)
    line = (at, jnp.ones_like(at), *rest)[: order + 1]
    return compose(fn, order)(line)


def scan_compose(
    fn: Callable[[Any, PyTree], PyTree],
    y: PyTree,
    num_steps: int,
    order: int,
    at: float | Array = SMALL,
) -> tuple[PyTree, ...]:
    """The series of y, fn(t, y), fn(t, fn(t, y)), … for small positive t: `num_steps` compositions.

    Args:
      fn: function of t and a pytree like y to a pytree like y.
      y: pytree of floating-point or complex arrays.
      num_steps: how many compositions.
      order: the highest power kept.
      at: the t > 0 at which comparisons of t alone are taken (`t == 0`, `t > 1e-8`, the number of
        turns in `ceil(t / 0.01)`).

    Returns:
      A tuple of order + 1 pytrees like y with a leading axis num_steps + 1.

    >>> ys = scan_compose(lambda t, y: y + t * y, jnp.array(1.0), 2, order=2)
    >>> [[float(c) for c in coefficient] for coefficient in ys]
    [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    """
    y = jax.tree.map(jnp.asarray, y)
    real = jnp.finfo(jnp.result_type(*jax.tree.leaves(y))).dtype
    zero, one = jnp.zeros((), real), jnp.ones((), real)
    clock = (zero, one, *[zero] * max(order - 1, 0))[: order + 1]
    step = _compose(fn, _Mode(order, at))
    still = jax.tree.map(jnp.zeros_like, y)
    start = (y, *[still] * order)

    def body(state: tuple[PyTree, ...], _: None) -> tuple[tuple[PyTree, ...], Any]:
        new = step(clock, state)
        return new, new

    _, later = lax.scan(body, start, None, length=num_steps)
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), start, later)
