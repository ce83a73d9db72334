"""Go on with a long batch for some minutes, at the lowest priority, and publish what is done.

From the command line: `python -m ddbook.runner.queue NAME --minutes 60`. What is finished stays:
a batch that is killed, on this machine, goes on from its last finished run, and on another one
from the published rows.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence

from ddbook.runner import kernel, keys, places, publish, run, status
from ddbook.runner.job import describe


def go_on(name: str, profile: str, minutes: float) -> int:
    """Train for so many minutes, and until the run under way has ended; then publish.

    `ValueError` for minutes that are no number of them, and whatever `run.run` and
    `publish.publish` raise.
    """
    if not (math.isfinite(minutes) and minutes >= 0):
        raise ValueError(f"minutes must be a number, 0 to collect what there is, got {minutes:g}")
    job = describe(places.root(), profile, name)
    if keys.stale(job):
        os.environ |= {"DDBOOK_MINUTES": f"{minutes:g}", "DDBOOK_LAST": "1"}
        kernel.rank_last(os.getpid())
        run.run(job)
    target = publish.publish(job)
    left = keys.stale(job)
    print(f"{job.relative(target)}: {left[0] if left else 'all runs'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Go on from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ddbook.runner.queue", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--profile", default="standard")
    options = parser.parse_args(arguments)
    places.print_anything()
    try:
        return status.of(lambda: go_on(options.name, options.profile, options.minutes))
    except run.Failed as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
