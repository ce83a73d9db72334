"""Argument checks shared by the rooms: static mistakes are named before anything is computed."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(value: Any) -> bool:
    """Whether `value` can be looked at now, that is, whether no leaf is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def check_step_size(name: str, value: Any, *, zero: bool = False) -> None:
    """Raise unless `value` is finite and positive (or, with `zero`, not negative).

    Traced values pass: they cannot be looked at, and a sweep over step sizes must compile.
    """
    if not is_concrete(value):
        return
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number, got {value!r}") from error
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if np.any(numbers < 0) or (not zero and np.any(numbers == 0)):
        wanted = "zero or positive" if zero else "positive"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_inexact(name: str, tree: Any, *, real: bool = False) -> None:
    """Raise unless there are leaves and every one holds floating-point (or complex) numbers.

    An integer cannot move by a fraction: cast to its type, every step size below 1 would be 0.
    """
    wanted = "floating-point numbers" if real else "floating-point or complex numbers"
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got none")
    for leaf in leaves:
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            raise ValueError(f"{name} must hold {wanted}, got {leaf!r}") from error
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(f"{name} must hold {wanted}, got {dtype}: write 1.0 for 1")
        if real and jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{name} must hold real {wanted}, got {dtype}")


def check_scalar(name: str, fn: Any, *arguments: Any, holomorphic: bool = False) -> None:
    """Raise unless fn(*arguments) is one real number or, with `holomorphic`, a complex one."""
    found = jax.eval_shape(fn, *arguments)
    if not hasattr(found, "shape") or found.shape != ():
        raise ValueError(f"{name} must return a scalar, got {found}")
    if holomorphic and not jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name} must be holomorphic on complex parameters, got a real one ({found.dtype}): "
            "take the real and imaginary parts as parameters"
        )
    if not holomorphic and not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{name} must return a real number, got {found.dtype}")


def check_players(name: str, value: Any) -> None:
    """Raise unless `value` has the two entries phi and theta."""
    if getattr(value, "_fields", None) != ("phi", "theta"):
        raise ValueError(
            f"{name} must be ddlib.games.Players(phi=…, theta=…), got {type(value).__name__}"
        )


def check_state(name: str, new: Any, y: Any) -> None:
    """Raise unless `new` is a state like y: of its structure and shapes, and real where it is."""
    found: Any = jax.tree.structure(new)
    if found != jax.tree.structure(y):
        raise ValueError(
            f"{name} must have the structure of y, got {found} for {jax.tree.structure(y)}"
        )
    for x, to in zip(jax.tree.leaves(new), jax.tree.leaves(y), strict=True):
        if jnp.shape(x) != jnp.shape(to):
            raise ValueError(f"{name} must have the shapes of y, got {jnp.shape(x)}")
        if jnp.iscomplexobj(x) and not jnp.iscomplexobj(to):
            raise ValueError(
                f"{name} must be real where y is, got {jnp.result_type(x)} for a y of "
                f"{jnp.result_type(to)}: give y a complex dtype"
            )


def check_field(name: str, value: Any) -> None:
    """Raise unless `value` can be called as a field is, with y alone."""
    advice = "losses become a field by ddlib.games.game_field or gradient_field"
    _check_callable(name, value, "a field, a function of y alone", 1, advice)


def check_step(name: str, value: Any) -> None:
    """Raise unless `value` can be called as a step is, with h and y."""
    advice = "a field becomes a step by a method of ddlib.methods, such as euler(field)"
    _check_callable(name, value, "a step, a function of h and y", 2, advice)


def check_memory_step(name: str, value: Any) -> None:
    """Raise unless `value` can be called as a step with memory is, with h, y and s."""
    advice = "an optax optimiser becomes one by ddlib.memory.optimizer_step(optimizer, field)"
    _check_callable(name, value, "a step with memory, a function of h, y and s", 3, advice)


def check_loss(name: str, value: Any, *, batch: bool = False) -> None:
    """Raise unless `value` can be called as a loss is: with parameters, and a batch if it has."""
    wanted, count = ("params and batch", 2) if batch else ("params alone", 1)
    advice = "hold what else it takes by functools.partial"
    _check_callable(name, value, f"a loss, a function of {wanted}", count, advice)


def _check_callable(name: str, value: Any, wanted: str, count: int, advice: str) -> None:
    if not callable(value):
        raise ValueError(f"{name} must be {wanted}, got {type(value).__name__}; {advice}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some functions of C tell none
        return
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        raise ValueError(
            f"{name} must be {wanted}, got a function of {signature}; {advice}"
        ) from error


def check_updates(num_updates: Any) -> None:
    """Raise unless `num_updates` are two numbers of updates, each at least 1."""
    check_players("num_updates", num_updates)
    check_count("num_updates.phi", num_updates.phi)
    check_count("num_updates.theta", num_updates.theta)


def check_play(method: Any, num_updates: Any) -> None:
    """Raise unless `method` is simultaneous or alternating, and several updates alternate."""
    check_updates(num_updates)
    if method not in ("simultaneous", "alternating"):
        raise ValueError(f'method must be "simultaneous" or "alternating", got {method!r}')
    if method == "simultaneous" and tuple(num_updates) != (1, 1):
        raise ValueError(
            f"num_updates must be Players(1, 1) for simultaneous updates, got {num_updates}; "
            'several updates need method="alternating"'
        )


def check_rates(rates: Any, *, zero: bool = True) -> None:
    """Raise unless `rates` are two finite learning-rate factors, zero or positive."""
    check_players("rates", rates)
    check_step_size("rates.phi", rates.phi, zero=zero)
    check_step_size("rates.theta", rates.theta, zero=zero)


def check_terms(terms: Any) -> None:
    """Raise unless `terms` are two `ddlib.regularizers.DriftTerms` of finite coefficients."""
    check_players("terms", terms)
    for name, value in terms._asdict().items():
        if getattr(value, "_fields", None) != ("self_norm", "interaction", "other_norm"):
            raise ValueError(f"terms.{name} must be a DriftTerms, got {type(value).__name__}")
        for field, number in value._asdict().items():
            if number is not None and is_concrete(number) and not np.all(np.isfinite(number)):
                raise ValueError(f"terms.{name}.{field} must be finite, got {number!r}")


def like(tree: Any, template: Any) -> Any:
    """The tree with every leaf in the precision of the template's; complex where it is complex.

    The one policy for dtypes: a function of a state gives back the state's. A rate or a coefficient
    in double precision must not turn a state of single precision into one of double.
    """

    def leaf(x: Any, to: Any) -> Any:
        dtype, x = jnp.result_type(to), jnp.asarray(x)
        if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
            dtype = jnp.result_type(dtype, jnp.complex64)
        return x if x.dtype == dtype else x.astype(dtype)

    return jax.tree.map(leaf, tree, template)


def at_least_single(x: Any) -> Any:
    """An array of half precision in single, others as they are: LAPACK knows no halves."""
    x = jnp.asarray(x)
    return x.astype(jnp.result_type(x.dtype, jnp.float32))


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    integral = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integral or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_precision(name: str, tree: Any) -> Any:
    """The dtype of a tree's leaves; raise unless it is float32 or float64, and that of all."""
    found = sorted({str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)})
    if found not in (["float32"], ["float64"]):
        raise ValueError(
            f"{name} must hold float32 or float64 numbers, all of one type, got "
            f"{', '.join(found) or 'none'}"
        )
    return jnp.dtype(found[0])


def as_real(name: str, value: Any, dtype: Any) -> jax.Array:
    """`value` as `dtype`; raise unless it holds real floating-point numbers."""
    given = jnp.result_type(value)
    if not jnp.issubdtype(given, jnp.floating):
        raise ValueError(f"{name} must hold real floating-point numbers, got {given}")
    return jnp.asarray(value, dtype)
