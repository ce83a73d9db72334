"""How one says that a name is none of those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def refusal(what: str, allowed: Iterable[str], given: object) -> str:
    """Say that `what` must be one of `allowed`, what was given, and which is closest.

    >>> refusal("profile", ["quick", "standard"], "quik")
    "profile must be one of quick, standard, got 'quik'; did you mean 'quick'?"
    >>> refusal("profile", [], "quik")
    "profile must be left out, got 'quik'; there are none"
    """
    allowed = list(allowed)
    if not allowed:
        return f"{what} must be left out, got {given!r}; there are none"
    close = difflib.get_close_matches(str(given), allowed, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{what} must be one of {', '.join(allowed)}, got {given!r}{meant}"
