"""A lock file: one process at a time, whoever holds it named in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def alone(lock: Path, label: str, log: IO[str]) -> Iterator[bool]:
    """Hold a run's lock, and say whether another process (of a killed batch, say) had it first.

    The system drops the lock when the process ends, however it ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        waited = not grasp(file)
        if waited:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            print(f"{label}: waits for the process {holder} that runs it", file=log, flush=True)
            while not grasp(file):
                time.sleep(1)
        file.truncate(0)
        file.write(f"{os.getpid()}")
        file.flush()
        yield waited


def grasp(file: IO[Any]) -> bool:
    """Take the lock of an open file, if nobody has it; say whether it was taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
