"""Tidy tables that know where they came from.

A table is a Parquet file whose schema metadata holds its `Provenance` as JSON, so that the two
cannot be separated. Every write is atomic.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbook.runner.files import plain
from ddbook.runner.origin import Provenance
from ddlib.files import replacing

if TYPE_CHECKING:
    import pandas as pd

METADATA_KEY = b"ddlib"
DIGEST_KEY = b"ddlib.sha256"  # of what Parquet's own checksums leave out; see `_digest`


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], provenance: Provenance) -> None:
    """Write a tidy table and its provenance as one Parquet file, atomically.

    One row an observation, one column a variable: an index that says something (a named one, or
    one of other things than row numbers) is refused, since it would be lost.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    unnamed = [column for column in frame.columns if not isinstance(column, str)]
    if unnamed or not frame.columns.is_unique:
        raise ValueError(f"frame: columns need distinct names (strings), not {list(frame.columns)}")
    names = [name for name in frame.index.names if name is not None]
    if names or not pd.api.types.is_integer_dtype(frame.index):
        raise ValueError(f"frame: its index {names} would be lost; reset_index() makes it a column")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    record = json.dumps(
        plain(dataclasses.asdict(provenance)), ensure_ascii=False, allow_nan=False
    ).encode()
    own = {METADATA_KEY: record, DIGEST_KEY: _digest(record, table)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    # pyarrow gets files, not paths: it takes every path for UTF-8, whatever the system's encoding
    with replacing(path) as temporary, temporary.open("wb") as file:
        # compressed, as published tables are tracked; sums, as a disk may flip a bit of a number
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _digest(record: bytes, table: Any) -> bytes:
    """Digest what Parquet has no checksum for: our record, the columns, their types and length."""
    columns = [
        [name, str(kind)] for name, kind in zip(table.schema.names, table.schema.types, strict=True)
    ]
    shape = json.dumps([columns, table.num_rows]).encode()
    return hashlib.sha256(record + b"\0" + shape).hexdigest().encode()


def read_table(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, Provenance]:
    """Return the table at `path` and its provenance.

    >>> import tempfile
    >>> import pandas as pd
    >>> from ddbook.runner.origin import Commit, collect_provenance
    >>> origin = collect_provenance(notebook="demo", profile="quick", parameters={"h": 0.1},
    ...     seeds=[0], commit=Commit("unknown", True), wall_seconds=1.0)
    >>> path = Path(tempfile.mkdtemp()) / "squares.parquet"
    >>> write_table(pd.DataFrame({"n": [1, 2], "square": [1, 4]}), path, origin)
    >>> frame, provenance = read_table(path)
    >>> frame.square.tolist(), provenance == origin
    ([1, 4], True)

    Raises `FileNotFoundError` when it is missing and `ValueError` when it is no such table, or was
    damaged since it was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    with path.open("rb") as file:
        try:
            table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
            metadata = table.schema.metadata or {}
            record = metadata[METADATA_KEY]
            frame = table.to_pandas()
            # pandas has metadata of its own, names included; a table of old has no checksum
            named = list(frame.columns) == table.schema.names
            if not named or metadata.get(DIGEST_KEY) not in (None, _digest(record, table)):
                raise ValueError("its checksum differs")
            provenance = Provenance(**json.loads(record))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a table of ours, or damaged ({type(error).__name__}: {reason}); "
                "delete it and run its notebook again"
            ) from error
    return frame, provenance
