"""Run one notebook.

Everything that can be wrong with what was asked is found before a kernel starts. The kernel
writes to a folder of its own, which takes its place, with the executed notebook last, only when
the run is whole: a killed run leaves nothing that anything reads, and the former run stays.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ddbook.runner import datasets, draw, failure, files, kernel, keys, lock, places, tables
from ddbook.runner.failure import Failed
from ddbook.runner.job import Job

__all__ = ["Failed", "check_timeout", "run"]

FORMER = "former.ipynb"
UNFINISHED = keys.UNFINISHED  # what a batch out of time leaves beside its tables


def run(
    job: Job,
    *,
    log: IO[str] | None = None,
    timeout: float | None = None,
    if_stale: bool = False,
) -> Path:
    """Run a notebook and return the path of the executed notebook.

    One that takes longer than `timeout` seconds, waits for other runs not counted, is ended and
    has failed. With `if_stale`, a finished run that still stands is taken for this one: what a
    batch planned may have been done by another since.

    Raises `ValueError` before anything starts for a timeout that will not do, `Failed` when the
    notebook fails (then the notebook as far as it came lies at `<name>.failed.ipynb`), and
    `OSError` when there is no room for the run, or no leave to write it. The former run stays.
    """
    log = sys.stderr if log is None else log
    timeout = check_timeout(timeout)
    made = job.products
    before = _when(made)
    with lock.alone(made.partial.with_name(f"{made.partial.name}.lock"), job.label, log) as waited:
        scratch = made.partial.with_name(f"{made.partial.name}.scratch")
        _undo_half_a_move(made, scratch)
        done = if_stale or (waited and _when(made) != before)
        if done and not keys.stale(job):
            print(f"{job.label}: was done by another process", file=log, flush=True)
            return made.notebook
        start = time.monotonic()
        key = {**job.key}  # of the code that the kernel is about to import
        _remove(made.partial, scratch)
        made.notebook.parent.mkdir(parents=True, exist_ok=True)  # or it would fail at its end
        scratch.mkdir(parents=True)
        try:
            if draw.draw_again(job, scratch, log, timeout):
                return made.notebook
            made.partial.mkdir(parents=True)
            whole = _execute(job, scratch, log, timeout)
            seconds = round(time.monotonic() - start, 1)
            key["data"] = _data_of(key, made.partial)
            record = {
                "notebook": job.name,
                "profile": job.profile,
                "settings": job.settings,
                "seconds": seconds,
                "key": key,
                "finished": files.now(),
            }
            if (words := files.taken(made.partial / UNFINISHED)) is not None:
                record["unfinished"] = words
            files.write_json(record, made.partial / "run.json")
            _put_in_place(whole, made, scratch)
        finally:
            _remove(made.partial, scratch)
    where = job.relative(made.notebook)
    print(f"{job.label}: done in {seconds:.1f} s, {where}", file=log, flush=True)
    return made.notebook


def check_timeout(timeout: Any) -> float | None:
    """Return a time limit in seconds, or None for None; `ValueError` for what is none.

    >>> check_timeout("90")
    90.0
    """
    if timeout is None:
        return None
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(timeout, bool) or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
    return seconds


def _when(made: places.Products) -> int | None:
    """Return when a run was finished, to tell it from a later one; None if there is none."""
    try:
        return made.notebook.stat().st_mtime_ns
    except OSError:
        return None


def _data_of(key: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the part of a key that says which data a run rests on, now that it has run."""
    given = datasets.noted(folder)
    for path in folder.glob("[!.]*.parquet"):  # of a notebook that did not ask `run.data`
        for one in datasets.listed(tables.read_table(path)[1].dataset):
            if not one["stand_in"]:
                given.setdefault(one["name"], one)
    return datasets.settled(key["data"], given)


def _execute(job: Job, scratch: Path, log: IO[str], timeout: float | None) -> Path:
    """Execute the notebook and return the path of the result, or move it aside and raise."""
    import nbformat

    made, notebook = job.products, kernel.notebook_of(job)
    output, noise = scratch / "notebook.ipynb", scratch / "kernel.log"
    gpu = job.header.gpu and job.profile != "quick"
    with (
        kernel.on_device(gpu, job.label, log) as device,
        kernel.Limit(timeout) as limit,
    ):
        if job.header.compiles and job.profile == "quick":
            device = {**device, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        error = kernel.execute(
            job, notebook, output, folder=made.partial, device=device, log=log, limit=limit
        )
    try:
        executed = nbformat.read(output, as_version=4)
    except (OSError, ValueError):  # it did not come to that, or was cut when the disk was full
        executed = notebook
    draw.tidy(job, executed)
    if error is None:
        nbformat.write(executed, output)
        return output
    spoken = noise.read_text("utf-8", "replace").splitlines() if noise.is_file() else []
    said = [str(error), *(line for line in spoken if "WARNING" not in line)]
    if limit.passed:
        said = [f"ended after {timeout:g} s, its time limit"]
        failure.note(executed, "TimeoutError", said[0])
    elif isinstance(error, OSError):
        said = [f"OSError: {places.explain(error, job.root)}"]
    _remove(made.partial)  # which may make room for what can be kept
    try:
        nbformat.write(executed, output)
        made.failed.parent.mkdir(parents=True, exist_ok=True)
        output.replace(made.failed)
        kept = f"as far as it came: {job.relative(made.failed)}"
    except OSError as exception:
        kept = f"nothing of it could be kept: {places.explain(exception, job.root)}"
    brief = limit.passed or isinstance(error, OSError)
    raise Failed(failure.report(job, executed, said, kept, brief)) from error


def _put_in_place(whole: Path, made: places.Products, scratch: Path) -> None:
    """Let the finished run take its place, so that at no moment an old part meets a new one."""
    made.notebook.parent.mkdir(parents=True, exist_ok=True)
    try:
        if made.notebook.exists():
            made.notebook.rename(scratch / FORMER)  # from here on there is no finished run …
        if made.folder.exists():
            made.folder.rename(scratch / "former")
        made.partial.rename(made.folder)
        whole.replace(made.notebook)  # … until here
    except BaseException:
        _undo_half_a_move(made, scratch)
        raise
    made.failed.unlink(missing_ok=True)


def _undo_half_a_move(made: places.Products, scratch: Path) -> None:
    """Put the former run back if the new one was cut off on its way to its place."""
    if made.notebook.exists() or not (scratch / FORMER).is_file():
        return
    if (scratch / "former").is_dir():
        _remove(made.folder)
        (scratch / "former").rename(made.folder)
    (scratch / FORMER).rename(made.notebook)


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
