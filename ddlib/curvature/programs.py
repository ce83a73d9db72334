"""Programs compiled once for what they compute, be it made anew for each point."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax

from ddlib._check import is_concrete


def compiled(fn: Callable, *arguments: Any) -> Callable:
    """fn, compiled for arguments of these shapes; as it is, where it is being traced.

    Compiled once for a program, not once for each params, since a flow evaluates its field at
    many. What tells programs apart is their text, which holds the constants: a loss that is an
    object may hold arrays, and may change, so that neither its hash nor its identity would do.
    """
    if not is_concrete(arguments):
        return fn
    lowered = jax.jit(fn).lower(*arguments)
    return compiled_text(_Text(lowered.as_text(), lowered))


class _Text(NamedTuple):
    """A lowered program that is known by its text."""

    text: str
    lowered: Any

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.text == other.text


@lru_cache(maxsize=64)
def compiled_text(program: _Text) -> Callable:
    """The program, compiled; kept while it is among the last 64."""
    return program.lowered.compile()
