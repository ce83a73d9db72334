"""Publish a finished run: copy its tables to `results/<name>/`.

From the command line: `python -m ddbook.runner.publish NAME`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ddbook.runner import datasets, files, keys, places, status, tables
from ddbook.runner.job import Job, describe

MAX_BYTES = 5_000_000  # published tables are tracked; raw trajectories belong elsewhere


def publish(job: Job) -> Path:
    """Copy tables, claims and record of a run to `results/<name>/` and return that folder.

    Of a batch that was out of time the runs that there are are published, and the record says so.
    `ValueError` when the run is not finished or not of what is here now, when it rests on
    stand-in data, or when its tables are too large to track.
    """
    root, name, made = job.root, job.name, job.products
    so_far = keys.so_far(files.read_json(made.record)) if made.record.is_file() else []
    if why := [reason for reason in keys.stale(job) if reason not in so_far]:
        first = f"`make run NB={name} PROFILE={job.profile}` first"
        raise ValueError(f"{job.label}: {'; '.join(why)}; {first}")
    made_tables = sorted(made.folder.glob("[!.]*.parquet"))
    for table in made_tables:
        if datasets.has_stand_in(tables.read_table(table)[1].dataset):
            raise ValueError(f"{name}: {table.name} rests on stand-in data; not to be published")
    published = [*made_tables, *(path for path in (made.claims, made.record) if path.is_file())]
    size = sum(path.stat().st_size for path in published)
    if size > MAX_BYTES:
        raise ValueError(f"{name}: {size:,} bytes of tables; {MAX_BYTES:,} are the most to track")
    target = root / "results" / name
    fresh = target.with_name(f".{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path in published:
        shutil.copyfile(path, fresh / path.name)
    former = target.with_name(f".{name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if target.exists():
        target.rename(former)
    fresh.rename(target)
    shutil.rmtree(former, ignore_errors=True)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ddbook.runner.publish", description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--profile", default="standard")
    options = parser.parse_args(arguments)
    places.print_anything()
    return status.of(lambda: _publish_all(places.root(), options.profile, options.names))


def _publish_all(root: Path, profile: str, names: Sequence[str]) -> int:
    for name in names:
        target = publish(describe(root, profile, name))
        for table in sorted(target.glob("*.parquet")):
            frame, origin = tables.read_table(table)
            dirty = " (made with local changes: commit and run again?)" * origin.dirty
            print(f"{table.relative_to(root)}: {len(frame)} rows, {origin.commit[:10]}{dirty}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
