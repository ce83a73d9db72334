"""How `make` shows what Snakemake says: what is wrong, a line each (`snakemake --logger ddbook`).

The runner says how each notebook went; what Snakemake adds to that is left out. Its own complaints
(a circle of needs, a file that is missing or must not be written) are shown without their
tracebacks. Its plan (`--dry-run`) is shown as it is.

Snakemake finds this package by its name, so it cannot be a module of `ddbook`.
"""

from __future__ import annotations

import logging
import re
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# The runner's own statuses: failed, refused, interrupted, ended. It has said why.
_TOLD = re.compile(r"returned non-zero exit status (1|2|130|143)\.")
_MORE = ("Exiting because a job execution failed", "At least one job did not complete")
_JOBS = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


def line(said: str) -> str:
    """Return what matters of a complaint in one line: nothing if the runner has said it.

    >>> line('ValueError in file "Snakefile", line 3:\\nno such thing\\n  File "x", line 1, in f')
    'ValueError in file "Snakefile", line 3: no such thing'
    >>> line("Traceback (most recent call last):\\n  File x\\n    f()\\nOSError: no space")
    'OSError: no space'
    >>> line("CalledProcessError:\\nCommand 'x' returned non-zero exit status 1.")
    ''
    """
    if _TOLD.search(said) or any(more in said for more in _MORE):
        return ""
    lines = [part for part in said.splitlines() if part.strip()]
    if "Traceback (most recent call last):" in lines:
        lines = [part for part in lines if not part.startswith(" ")][-1:]
    return " ".join(part.strip() for part in lines if not re.match(r'\s*File ".*", line \d+', part))


class LogHandler(LogHandlerBase):
    """Writes to standard error; what it leaves out of a run is in Snakemake's own log file."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if it is worth a line."""
        plan = self.common_settings.dryrun
        if record.levelno >= logging.WARNING and getattr(record, "event", None) not in _JOBS:
            kind = "error" if record.levelno >= logging.ERROR else "warning"
            told = line(self.format(record))
            text = f"{kind}: {told}" if told else ""
        else:
            text = self.format(record) if plan else ""
        if text and text != "None":
            print(text, file=sys.stderr, flush=True)
