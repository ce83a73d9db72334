"""Frozen factors: what a loss holds constant, its field does not.

A player's loss may hold a factor constant while the player differentiates, as drift's interaction
term ⟨∇θL₁, [∇θL₂]⟩ does; `jax.lax.stop_gradient` says so. That is a statement about one gradient.
Once it is taken, the field that results is an ordinary function of the state, and its Jacobian, its
drift and the Newton steps of implicit methods are those of that function. But `stop_gradient` stays
in the program and hides the factor from every later derivative too. `thaw` takes it out. What is
no function of the state at all, but belongs to the step (the vectors that a power iteration
remembers), is held constant for good by `hold`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import jax
import jax.extend.core as jex
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree

HELD = "held constant in every derivative"
FACTOR = "a factor that one gradient holds constant"

Function = TypeVar("Function", bound=Callable)


def thaw(fn: Function, *, only_factors: bool = False) -> Function:
    """The same function, which derivatives of any order see through `stop_gradient`.

    The fields of `ddlib.games` and `ddlib.regularizers` are thawed already; what differentiates a
    field (`ddlib.stability`, `ddlib.drift`, implicit steps) thaws those that are given to it.

    Args:
      fn: function of pytrees of arrays to a pytree of arrays. Rules of one's own
        (`jax.custom_jvp`, `jax.custom_vjp`, `jax.lax.custom_root`) are kept with what they stop.
      only_factors: of what `freeze` holds constant alone.

    >>> stopped = lambda x: jax.lax.stop_gradient(x) * x
    >>> jax.grad(stopped)(3.0).item(), jax.grad(thaw(stopped))(3.0).item()
    (3.0, 6.0)
    """

    @wraps(fn, updated=())
    def thawed(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*arguments)
        leaves = jax.core.eval_jaxpr(
            _without_stops(closed.jaxpr, only_factors),
            closed.consts,
            *jax.tree.leaves(arguments),
        )
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return thawed  # type: ignore[return-value]


def hold(x: PyTree) -> PyTree:
    """x, constant in every derivative, that of a field too: a `stop_gradient` which `thaw` leaves.

    >>> held = lambda x: hold(x) * x
    >>> jax.grad(held)(3.0).item(), jax.grad(thaw(held))(3.0).item()
    (3.0, 3.0)
    """
    return _named(HELD, x)


def freeze(x: PyTree) -> PyTree:
    """x, constant in the gradient that is taken next: a `stop_gradient` that says what it is for.

    >>> frozen = lambda x: freeze(x) * x
    >>> jax.grad(frozen)(3.0).item(), jax.grad(thaw(frozen, only_factors=True))(3.0).item()
    (3.0, 6.0)
    """
    return _named(FACTOR, x)


def _named(name: str, x: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: checkpoint_name(jax.lax.stop_gradient(leaf), name), x)


@lru_cache(maxsize=512)  # an unchanged program within the program stays one: it is compiled once
def _without_stops(jaxpr: jex.Jaxpr, only_factors: bool) -> jex.Jaxpr:
    """The program with every `stop_gradient`, at any depth, in the place of its argument."""
    renamed: dict[jex.Var, Any] = {}
    names = {
        eqn.invars[0]: eqn.params["name"]
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "name" and isinstance(eqn.invars[0], jex.Var)
    }

    def goes(name: str | None) -> bool:
        return name == FACTOR if only_factors else name != HELD

    def read(v: Any) -> Any:
        return v if isinstance(v, jex.Literal) else renamed.get(v, v)

    equations = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "stop_gradient" and goes(names.get(eqn.outvars[0])):
            renamed[eqn.outvars[0]] = read(eqn.invars[0])
            continue
        params = {name: _within(value, only_factors) for name, value in eqn.params.items()}
        inputs = [read(v) for v in eqn.invars]
        same = all(params[name] is value for name, value in eqn.params.items())
        if not same or any(a is not b for a, b in zip(inputs, eqn.invars, strict=True)):
            eqn = eqn.replace(invars=inputs, params=params)
        equations.append(eqn)
    if not renamed and all(a is b for a, b in zip(equations, jaxpr.eqns, strict=True)):
        return jaxpr
    return jaxpr.replace(eqns=equations, outvars=[read(v) for v in jaxpr.outvars])


def _within(value: Any, only_factors: bool) -> Any:
    """A parameter of an equation; the programs in it without their stops."""
    if isinstance(value, jex.ClosedJaxpr):
        inner = _without_stops(value.jaxpr, only_factors)
        return value if inner is value.jaxpr else _closed(inner, value)
    if isinstance(value, jex.Jaxpr):
        return _without_stops(value, only_factors)
    if isinstance(value, tuple):
        parts = tuple(_within(part, only_factors) for part in value)
        if all(a is b for a, b in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else parts
    return value


@lru_cache(maxsize=512)
def _closed(jaxpr: jex.Jaxpr, like: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    return like.replace(jaxpr=jaxpr)
