"""What a command of the runner says, and its exit status, when it cannot do what was asked."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ddbook.runner import places


def of(work: Callable[[], int]) -> int:
    """Return the status of `work`: 2, with a line, for what is refused, 1 for what fails.

    >>> of(lambda: 0)
    0
    """
    try:
        return work()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {places.explain(error)}", file=sys.stderr)
        return 1
