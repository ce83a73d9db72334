"""JSON files that are there whole or not at all, also when the process is killed half-way."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddlib.files import replacing


def plain(value: Any) -> Any:
    """Return `value` as plain Python: mappings, lists, strings, numbers, booleans, None.

    NumPy and JAX scalars and arrays become Python numbers and lists of them; tuples become lists.

    >>> import numpy as np
    >>> plain({"rates": (np.float64(0.5), 1), "stable": np.bool_(True)})
    {'rates': [0.5, 1], 'stable': True}
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        # a subclass (np.float64 is one of float) prints differently: make it the thing itself
        return next(
            (kind(value) for kind in (str, bool, int, float) if isinstance(value, kind)), None
        )
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise ValueError(
        f"a {type(value).__name__} cannot be recorded: {value!r}; numbers, strings, booleans, "
        "None, and lists, mappings and arrays of them can"
    )


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Write `value` as strict JSON, atomically.

    JSON has no infinities: they and NaN are written as the strings "inf", "-inf" and "nan", which
    `float` reads.
    """
    text = json.dumps(finite(plain(value)), indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Return plain `value` with what JSON cannot say, infinities and NaN, as strings."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; `ValueError` names a file that is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); delete it and run its notebook again"
        ) from error


def taken(path: Path) -> Any:
    """Return what a JSON file holds and remove it; None where there is none."""
    if not path.is_file():
        return None
    value = read_json(path)
    path.unlink()
    return value


def now() -> str:
    """Return the time as UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
