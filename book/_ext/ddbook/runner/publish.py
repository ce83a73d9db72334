"""Publish a finished run: `python -m ddbook.publish NAME` copies its tables to results/<name>/."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ddbook.runner import keys, places, profiles, tables

MAX_BYTES = 2_000_000  # published tables are tracked; raw trajectories belong elsewhere


def publish(root: Path, name: str, profile: str = "standard") -> Path:
    """Copy tables, claims and record of a run to `results/<name>/` and return that folder.

    `ValueError` when the run is not finished or not of what is here now, when it rests on
    stand-in data, or when its tables are too large to track.
    """
    profiles.check_profile(profile)
    profiles.check_notebook(root, name)
    made = places.products(root, profile, name)
    if why := keys.stale(root, profile, name):
        raise ValueError(
            f"{name} ({profile}): {'; '.join(why)}; `make run NB={name} PROFILE={profile}` first"
        )
    made_tables = sorted(made.folder.glob("[!.]*.parquet"))
    for table in made_tables:
        dataset = tables.read_table(table)[1].dataset
        if dataset is not None and dataset["stand_in"]:
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
    parser = argparse.ArgumentParser(prog="python -m ddbook.publish", description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--profile", default="standard")
    options = parser.parse_args(arguments)
    places.print_anything()
    root = places.root()
    try:
        for name in options.names:
            target = publish(root, name, options.profile)
            for table in sorted(target.glob("*.parquet")):
                frame, origin = tables.read_table(table)
                dirty = " (made with local changes: commit and run again?)" * origin.dirty
                print(f"{table.relative_to(root)}: {len(frame)} rows, {origin.commit[:10]}{dirty}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {places.explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
