"""Drawing again: the figure cells of a finished run, executed from its tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ddbook.runner import cells, files, kernel, keys

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from ddbook.runner.job import Job


def draw_again(job: Job, scratch: Path, log: IO[str], timeout: float | None) -> bool:
    """Execute the figure cells of a finished run from its tables, where nothing else has changed.

    False where that is not all, where a figure uses what a cell computes, or where drawing fails:
    then the notebook runs as a whole.
    """
    import nbformat

    needed = cells.to_draw(job.cells)
    try:
        record = files.read_json(job.products.record)
        former = nbformat.read(job.products.notebook, as_version=4)
    except Exception:  # no finished run, or whatever nbformat meets in a broken file
        return False
    if needed is None or not keys.only_figures(record.get("key"), job.key):
        return False
    start = time.monotonic()
    whole, drawing = kernel.notebook_of(job), kernel.notebook_of(job)
    code = [cell for cell in drawing.cells if cell.cell_type == "code" and cell.source.strip()]
    drawing.cells = [cell for cell, wanted in zip(code, needed, strict=True) if wanted]
    output = scratch / "figures.ipynb"
    with kernel.Limit(timeout) as limit:
        device = {"JAX_PLATFORMS": "cpu", "DDBOOK_DRAWS": "1"}
        error = kernel.execute(
            job, drawing, output, folder=job.products.folder, device=device, log=log, limit=limit
        )
    if error is not None:
        print(f"{job.label}: could not be drawn from its tables; it runs as a whole", file=log)
        return False
    drawn = _outputs(nbformat.read(output, as_version=4), figures=True)
    computed = _outputs(former, figures=False)
    for cell in whole.cells:
        if cell.cell_type == "code" and cell.source.strip():
            cell.outputs = (drawn if _is_figure(cell) else computed).pop(0)
    tidy(job, whole)
    nbformat.write(whole, output)
    output.replace(job.products.notebook)
    record["key"][keys.FIGURES] = job.key[keys.FIGURES]
    files.write_json(record, job.products.record)
    seconds = time.monotonic() - start
    print(f"{job.label}: figures drawn again in {seconds:.1f} s", file=log, flush=True)
    return True


def _is_figure(cell: NotebookNode) -> bool:
    return cells.FIGURE in cell.metadata.get("tags", [])


def _outputs(notebook: NotebookNode, *, figures: bool) -> list[list[NotebookNode]]:
    """The outputs of a notebook's code cells that are figures, or of those that are not."""
    return [
        cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "injected-parameters" not in cell.metadata.get("tags", [])
        and _is_figure(cell) == figures
    ]


def tidy(job: Job, notebook: NotebookNode) -> None:
    """Hide what papermill injected from the page, and drop this machine's paths."""
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
    record = notebook.metadata.get("papermill", {})
    for path, value in (("input_path", job.source), ("output_path", job.products.notebook)):
        if path in record:
            record[path] = job.relative(value)
