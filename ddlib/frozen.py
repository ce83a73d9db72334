"""Frozen factors: what a loss holds constant, its field does not.

A player's loss may hold a factor constant while the player differentiates, as drift's interaction
term ⟨∇θL₁, [∇θL₂]⟩ does; `jax.lax.stop_gradient` says so. That is a statement about one gradient.
Once it is taken, the field that results is an ordinary function of the state, and its Jacobian, its
drift and the Newton steps of implicit methods are those of that function. But `stop_gradient` stays
in the program and hides the factor from every later derivative too. `thaw` takes it out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import jax
import jax.extend.core as jex

Function = TypeVar("Function", bound=Callable)


def thaw(fn: Function) -> Function:
    """The same function, which derivatives of any order see through `stop_gradient`.

    The fields of `ddlib.games` and `ddlib.regularizers` are thawed already; what differentiates a
    field (`ddlib.stability`, `ddlib.drift`, implicit steps) thaws those that are given to it.

    Args:
      fn: function of pytrees of arrays to a pytree of arrays. Rules of one's own
        (`jax.custom_jvp`, `jax.custom_vjp`) are kept.

    >>> stopped = lambda x: jax.lax.stop_gradient(x) * x
    >>> jax.grad(stopped)(3.0).item(), jax.grad(thaw(stopped))(3.0).item()
    (3.0, 6.0)
    """

    def thawed(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*arguments)
        leaves = jax.core.eval_jaxpr(
            _without_stops(closed.jaxpr), closed.consts, *jax.tree.leaves(arguments)
        )
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return thawed  # type: ignore[return-value]


@lru_cache(maxsize=512)  # an unchanged program within the program stays one: it is compiled once
def _without_stops(jaxpr: jex.Jaxpr) -> jex.Jaxpr:
    """The program with every `stop_gradient`, at any depth, in the place of its argument."""
    renamed: dict[jex.Var, Any] = {}

    def read(v: Any) -> Any:
        return v if isinstance(v, jex.Literal) else renamed.get(v, v)

    equations = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "stop_gradient":
            renamed[eqn.outvars[0]] = read(eqn.invars[0])
            continue
        params = {name: _within(value) for name, value in eqn.params.items()}
        if all(params[name] is value for name, value in eqn.params.items()):
            params = eqn.params
        inputs = [read(v) for v in eqn.invars]
        if params is eqn.params and all(a is b for a, b in zip(inputs, eqn.invars, strict=True)):
            equations.append(eqn)
        else:
            equations.append(eqn.replace(invars=inputs, params=params))
    outputs = [read(v) for v in jaxpr.outvars]
    if all(a is b for a, b in zip(equations, jaxpr.eqns, strict=False)) and not renamed:
        return jaxpr
    return jaxpr.replace(eqns=equations, outvars=outputs)


def _within(value: Any) -> Any:
    """A parameter of an equation; the programs in it without their stops."""
    if isinstance(value, jex.ClosedJaxpr):
        inner = _without_stops(value.jaxpr)
        return value if inner is value.jaxpr else _closed(inner, value)
    if isinstance(value, jex.Jaxpr):
        return _without_stops(value)
    if isinstance(value, tuple):
        parts = tuple(map(_within, value))
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    return value


@lru_cache(maxsize=512)
def _closed(jaxpr: jex.Jaxpr, like: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    return like.replace(jaxpr=jaxpr)
