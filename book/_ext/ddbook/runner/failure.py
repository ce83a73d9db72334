"""What is said of a run that failed: which cell, why, and where the notebook lies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from ddbook.runner.job import Job

TRACEBACK_LINES = 12


class Failed(Exception):
    """A run that did not finish; the message is for the reader of the log."""


def note(notebook: NotebookNode, name: str, message: str) -> None:
    """Give the cell that was running an error, as an exception would have."""
    import nbformat.v4

    if started := _started(notebook):
        text = f"{name}: {message}"
        started[-1].outputs.append(
            nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[text])
        )


def _started(notebook: NotebookNode) -> list[NotebookNode]:
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    return [c for c in code if (c.metadata.get("papermill") or {}).get("start_time")]


def report(job: Job, notebook: NotebookNode, said: list[str], kept: str, brief: bool) -> str:
    """Say which cell failed, with the last lines of its exception, and where the notebook is.

    `said` is what is known when no cell has an exception, since the kernel died; `brief` if it is
    the whole reason.
    """
    started = _started(notebook)
    where, lines = "its kernel, before the first cell", []
    if started:
        cell = started[-1]  # papermill stops at the first that fails
        text, first = job.text, cell.source.strip().partition("\n")[0]
        at = text.find(cell.source)
        line = f":{text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
        where = f"cell [{len(started)}], {job.relative(job.source)}{line}: {first[:60]}"
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not brief:
                lines = "\n".join(output.traceback).splitlines()
    if brief:
        return f"{job.label}: FAILED, {said[0]}, in {where}\n  {kept}"
    if not lines:
        lines = [*said, "(a kernel dies when it is killed, or out of memory)"]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    return "\n".join(
        [
            f"{job.label}: FAILED in {where}",
            *(f"    {line}" for line in plain[-TRACEBACK_LINES:]),
            f"  {kept}",
        ]
    )
