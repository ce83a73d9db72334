"""The files of a dataset: what their payloads must be, and where they lie on this disk.

A file is known by its name and by the size and digest of its payload; no other payload is ever
returned.
"""

import contextlib
import gzip
import hashlib
import os
import tempfile
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ddlib.data.extras import needing

Folder = str | os.PathLike[str] | None
Payloads = dict[str, bytes]


def cache(name: str) -> Path:
    """Return the folder where a dataset that was fetched is kept."""
    with needing("data"):
        import pooch
    return Path(pooch.os_cache("ddlib")) / name


class File(NamedTuple):
    """One file of a dataset: what its payload must be, and its mirrors' gzip of it, if any."""

    name: str
    size: int  # of the payload, in bytes, before any such gzip
    digest: str  # of the same, in pooch's form: a bare sha256, or "md5:" and an md5
    gzip_md5: str | None = None  # of the public mirrors' .gz; None: they give the file as it is

    @property
    def published(self) -> str:
        """The name under which the mirrors give it."""
        return f"{self.name}.gz" if self.gzip_md5 else self.name


Splits = Mapping[str, tuple[File, ...]]


def verify(payload: bytes, file: File, where: str) -> bytes:
    """Return the payload if it is the published one to the bit; ValueError says where it is not."""
    if len(payload) < file.size:
        raise ValueError(f"{where} is truncated: {len(payload)} bytes, expected {file.size}")
    if len(payload) > file.size:
        raise ValueError(f"{where} is too long: more than the expected {file.size} bytes")
    algorithm, _, expected = file.digest.rpartition(":")
    algorithm = algorithm or "sha256"
    digest = hashlib.new(algorithm, payload, usedforsecurity=False).hexdigest()
    if digest != expected:
        raise ValueError(f"{where} is corrupt: {algorithm} {digest}, expected {expected}")
    return payload


def find(folder: Path, file: File, layouts: Sequence[str] = ("",)) -> Path | None:
    """Look for a file, gzipped as published or not, in a folder or the layouts below it."""
    for layout in layouts:
        for name in (file.published, file.name):
            if (folder / layout / name).is_file():
                return folder / layout / name
    return None


def read(path: Path, file: File) -> bytes:
    """Read a verified payload, gzipped or not; ValueError names the path."""
    try:
        with path.open("rb") if path.name == file.name else gzip.open(path) as stream:
            payload = stream.read(file.size + 1)  # one byte too many is as telling as a million
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    return verify(payload, file, str(path))


def read_cached(cache: Path, file: File) -> bytes | None:
    """Read a verified payload from the cache, None where there is none; a bad one is discarded."""
    path = find(cache, file)
    if path is None:
        return None
    try:
        return read(path, file)
    except OSError:
        return None
    except ValueError:
        # Our own copy went bad: nobody misses it, and the next source may give a good one.
        with contextlib.suppress(OSError):
            path.unlink()
        return None


def keep(cache: Path, payloads: Mapping[str, bytes | memoryview]) -> None:
    """Put payloads into the cache, each whole or not at all; warns where it can't."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for name, payload in payloads.items():
            handle, partial = tempfile.mkstemp(prefix=f".{name}.", dir=cache)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(payload)
                os.replace(partial, cache / name)
            except BaseException:
                os.unlink(partial)
                raise
    except OSError as error:
        warnings.warn(f"the cache could not keep a dataset: {error}", stacklevel=2)
