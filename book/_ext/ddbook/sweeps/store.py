"""Finished runs of a long batch: what an interrupted batch resumes from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddbook.runner.files import finite, plain, read_json, write_json


class Store:
    """Finished runs of a long batch, one JSON file each: what an interrupted batch resumes from.

    A run is found again by all that it depends on. Several processes may share a store: a file is
    there whole or not at all.

    Args:
      folder: where; made when the first run is put.

    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> store.put({"rate": 0.1, "seed": 0}, {"loss": [1.0, 0.5]})
    >>> store.get({"seed": 0, "rate": 0.1})
    {'loss': [1.0, 0.5]}
    >>> store.get({"seed": 1, "rate": 0.1}) is None
    True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @staticmethod
    def name(key: Mapping[str, Any]) -> str:
        """Return the name that a run is kept under: a digest of its key.

        >>> Store.name({"rate": 0.1, "seed": 0}) == Store.name({"seed": 0, "rate": 0.1})
        True
        """
        return _digest(finite(plain(key)))[:24]

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{self.name(key)}.json"

    def scratch(self, key: Mapping[str, Any]) -> Path:
        """Return a folder for what a run under way keeps, such as checkpoints; `put` removes it."""
        return self._path(key).with_suffix(".partial")

    def get(self, key: Mapping[str, Any]) -> Any:
        """Return what was put under an equal key, or None; non-finite numbers as strings.

        `ValueError` names a file that is no finished run, is another one's, or was damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        kept = read_json(path)
        if not isinstance(kept, dict) or "value" not in kept:
            raise ValueError(f"{path} is not a finished run of ours; delete it and run again")
        if kept.get("key") != finite(plain(key)):
            raise ValueError(f"{path} is another run's, by its key; delete it and run again")
        if kept.get("sha256") not in (None, _digest(kept["value"])):  # older ones have none
            raise ValueError(f"{path} is damaged, its checksum differs; delete it and run again")
        return kept["value"]

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Keep `value` under `key`: mappings, lists, strings and numbers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = _digest(finite(plain(value)))
        write_json({"key": key, "value": value, "sha256": digest}, self._path(key))
        shutil.rmtree(self.scratch(key), ignore_errors=True)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
