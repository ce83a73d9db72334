"""Tar archives, read in memory within bounds: no path of them is ever written to.

Bytes that do not hold what they should raise ValueError, which names the archive or the member.
"""

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from ddlib.data.files import File, Payloads, verify

SLACK = 64 << 20  # bytes that a package may unpack to beside the files asked for


class Bounded:
    """A stream that soon stops after so many bytes."""

    def __init__(self, stream: Any, total: int, where: str) -> None:
        self.stream, self.total, self.where = stream, total, where
        self.given = 0

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; ValueError when there have been too many."""
        chunk = self.stream.read(size)
        self.given += len(chunk)
        # tarfile reads ahead by a record: let it get as far as the name of the member to refuse.
        if self.given > self.total + 2 * tarfile.RECORDSIZE:
            raise ValueError(f"{self.where} unpacks to more than {self.total} bytes")
        return chunk


def members(payload: bytes, where: str, *, largest: int, total: int) -> Iterator[tuple[str, bytes]]:
    """Read the files of a tar archive in memory, in its order; no path of it is ever written to.

    Args:
        payload: the archive: tar, or tar.gz or tar.xz by the ending of ``where``.
        where: the archive's name.
        largest: how many bytes a member may have.
        total: how many bytes the whole may unpack to.

    Raises:
        ValueError: the archive is not whole; or it holds what no honest archive of data needs (a
            path that leads out of its folder, a link, a device, more bytes than announced here):
            the message names the member.
    """
    unpacked: Any = io.BytesIO(payload)
    if where.endswith(".gz"):
        unpacked = gzip.open(unpacked)
    elif where.endswith(".xz"):
        unpacked = lzma.open(unpacked)
    # tarfile reads some headers whole, however long they say they are: the stream is bounded too.
    stream: Any = Bounded(unpacked, total, where)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                path = PureWindowsPath(member.name)  # splits at both slashes, knows drives
                held = f"{where} holds {member.name!r}"
                if path.anchor or ".." in path.parts:
                    raise ValueError(f"{held}: only paths inside the archive would do")
                if member.isdir():
                    continue
                if not member.isfile() or member.issparse():
                    raise ValueError(f"{held}, which is no plain file")
                if member.size > largest:
                    raise ValueError(f"{held} of {member.size} bytes: at most {largest} would do")
                if member.offset_data + member.size > total:
                    raise ValueError(f"{held}, with which it unpacks to more than {total} bytes")
                content = tar.extractfile(member)
                assert content is not None  # it is a plain file
                yield member.name, content.read()
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        zlib.error,
        lzma.LZMAError,
        RecursionError,  # tarfile follows a chain of headers that way
    ) as error:
        raise ValueError(f"{where} is not a whole archive: {error}") from error


def from_tarball(path: Path, inside: str, files: Sequence[File]) -> Payloads:
    """Read files in memory by their exact names: no path of the tarball is ever written to."""
    wanted = {f"{inside}/{file.name}": file for file in files}
    payloads: Payloads = {}
    total = sum(file.size for file in files) + SLACK
    try:
        with gzip.open(path) as unpacked:
            bounded: Any = Bounded(unpacked, total, path.name)  # all that tarfile reads by
            tar = tarfile.open(fileobj=bounded, mode="r|")
            for member in tar:
                file = wanted.get(member.name)
                stream = tar.extractfile(member) if file and member.isfile() else None
                if file and stream:
                    payload = stream.read(file.size + 1)
                    payloads[file.name] = verify(payload, file, member.name)
                if len(payloads) == len(wanted):
                    return payloads
    except (
        tarfile.TarError,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        RecursionError,  # tarfile follows a chain of headers that way
    ) as error:
        raise ValueError(f"{path.name} is not a whole tarball: {error}") from error
    missing = sorted(file.name for file in files if file.name not in payloads)
    raise ValueError(f"{path.name} has no {', '.join(missing)} under {inside}/")
