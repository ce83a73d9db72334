"""What only some datasets need, and a reader's project may lack."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Around an import: say which extra of ddlib brings what is missing.

    >>> with needing("data"):
    ...     import not_there
    Traceback (most recent call last):
    ModuleNotFoundError: not_there must be installed to read this dataset, got no such module; ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} must be installed to read this dataset, got no such module; "
            f'pip install "ddlib[{extra}]" brings it',
            name=error.name,
        ) from error
