"""The table after a batch: `python -m ddbook.runner.report --profile quick`."""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence
from pathlib import Path

from ddbook.page import claims
from ddbook.runner import build, files, keys, places, profiles, run, status
from ddbook.runner.job import Job, describe


def rows(jobs: Sequence[Job]) -> list[tuple[str, str, str, str]]:
    """Return for each run its notebook, seconds, claims judged, and status."""
    ledger = claims.load(jobs[0].root / "book" / "claims.yml") if jobs else {}
    found = []
    for job in jobs:
        made = job.products
        why = keys.stale(job)
        seconds, judged = "", ""
        if why != ["no finished run"]:
            seconds = f"{keys.seconds(made.record):.1f}"
            judged = _judged(made.claims, ledger)
        if made.failed.is_file():
            state = f"FAILED: {job.relative(made.failed)}"
        elif why == ["no finished run"]:
            state = "not run"
        elif why:
            state = f"out of date ({'; '.join(why)})"
        else:
            state = "done"
        found.append((job.name, seconds, judged, state))
    return found


def _judged(path: Path, ledger: dict[str, claims.Claim]) -> str:
    if not path.is_file():
        return "none"
    try:
        records = claims.read_records(files.read_json(path), str(path))
    except ValueError:
        return "unreadable"
    known = [ledger[record.id] for record in records if record.id in ledger]
    count = collections.Counter(claims.judge(claim, records).status for claim in known)
    words = dict.fromkeys(word for three in claims.VERDICTS.values() for word in three)
    return ", ".join(f"{count[word]} {word}" for word in words if count[word]) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and where the book is if it is built."""
    parser = argparse.ArgumentParser(prog="python -m ddbook.runner.report", description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks; default: all, and the book")
    parser.add_argument("--profile", default="quick")
    parser.add_argument(
        "--check", action="store_true", help="check sources and settings, say what is to run"
    )
    parser.add_argument("--timeout", help="the batch's limit for each notebook, to be checked")
    options = parser.parse_args(arguments)
    places.print_anything()
    return status.of(lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    root = places.root()
    run.check_timeout(options.timeout)
    profiles.check_profile(options.profile)
    names = options.names or list(places.sources(root))
    jobs = [describe(root, options.profile, name) for name in names]
    if options.check:
        places.check_writable(root, options.profile)
        for job in jobs:
            if why := keys.stale(job):
                print(f"{job.label} will run: {'; '.join(why)}", flush=True)
        return 0
    table = rows(jobs)
    former = {name: keys.changed_since(describe(root, "standard", name)) for name in names}
    head = ("notebook", "seconds", "claims judged", f"status ({options.profile})")
    widths = [max(len(row[column]) for row in [head, *table]) for column in range(3)]
    print()
    for name, seconds, judged, state in [head, *table]:
        print(f"{name:<{widths[0]}}  {seconds:>{widths[1]}}  {judged:<{widths[2]}}  {state}")
    for name, since in former.items():
        if since:
            print(f"published by former code: {name} ({'; '.join(since)})")
    if not options.names:
        built = build.record(root).is_file()
        print(f"\n{build.index(root)}" if built else "\nThe HTML is not built.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
