"""Pages are notebooks: `notebooks/x.py` in the repository, shown as its finished run.

On Sphinx's source-read the executed `runs/<profile>/x.ipynb` takes the place of the py:percent
source, so that links to edit or see the source still point at a tracked file. Prose, captions and
alternative texts are the source's as it is now, outputs are the run's. A page whose run is missing,
failed or was made from other code draws a warning (which `-W` turns into a failed build) and a note
on the page, never a traceback.

After the build the tables of the runs are written beside the pages, as Parquet and as CSV, where
the provenance cards link to them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook
from sphinx.util import logging

from ddbook.runner import cells, places

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

LOGGER = logging.getLogger(__name__)

SETUP_PROMPT = "{} the set-up: parameters and imports"
CODE_PROMPT = "{} the code"
METADATA_KEY = "ddbook-run"  # marks pages that show a run, which their readers may download


class Unusable(Exception):
    """A run that a page cannot show; the message says why and what would help."""


def setup(app: Sphinx) -> None:
    """Register the page events and the configuration value `ddbook_profile`."""
    app.add_config_value("ddbook_profile", _profile_from_environment, "env", [str])
    app.connect("source-read", _swap_in_run)
    app.connect("html-page-context", _offer_notebook)
    app.connect("html-page-context", _say_profile_in_footer)
    app.connect("build-finished", _write_tables)
    app.connect("build-finished", _remove_pages_that_are_no_more)


def _profile_from_environment(_config: Any) -> str:
    return os.environ.get("DDLIB_PROFILE", "").strip() or "quick"


def _say_profile_in_footer(
    app: Sphinx, _pagename: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    words = f"<p>The notebooks ran with the <em>{app.config.ddbook_profile}</em> profile.</p>"
    context["theme_extra_footer"] = (context.get("theme_extra_footer") or "") + words


# Source-read: the run takes the place of the source.


def _swap_in_run(app: Sphinx, docname: str, content: list[str]) -> None:
    source = Path(app.env.doc2path(docname))
    if source.suffix != ".py":
        return
    profile = app.config.ddbook_profile
    products = run_of(app, docname)
    app.env.note_dependency(str(products.notebook))
    try:
        notebook = usable_run(products, content[0], source.stem, profile)
        app.env.metadata[docname][METADATA_KEY] = True
    except Unusable as reason:
        LOGGER.warning("%s", reason, location=docname, type="ddbook", subtype="run")
        notebook = _without_run(content[0], str(reason))
    content[0] = nbformat.writes(for_the_page(notebook))


def run_of(app: Sphinx, docname: str) -> places.Products:
    """Return where the run that `docname` shows should lie."""
    name = docname.rsplit("/", 1)[-1]
    return places.products(Path(app.srcdir), app.config.ddbook_profile, name)


def usable_run(products: places.Products, source: str, name: str, profile: str) -> NotebookNode:
    """Return the source's notebook with a run's outputs; raise `Unusable` unless they are its own.

    `source` is the text of the py:percent source: a run of any other code is not shown, since its
    figures need not be those of the code beside them.
    """
    remedy = f"`make run NB={name} PROFILE={profile}` makes it"
    run, failed = products.notebook, products.failed
    if failed.is_file() and not (
        run.is_file() and run.stat().st_mtime_ns > failed.stat().st_mtime_ns
    ):
        raise Unusable(f"the last {profile} run of {name} failed ({_error_in(failed)}); {remedy}")
    if not run.is_file():
        raise Unusable(f"{name} has no finished {profile} run; {remedy}")
    try:
        notebook = nbformat.read(run, as_version=4)
    except Exception as error:  # whatever nbformat meets in a broken file
        raise Unusable(f"the {profile} run of {name} cannot be read ({error}); {remedy}") from None
    if notebook.metadata.get("papermill", {}).get("exception") or first_error(notebook):
        said = first_error(notebook) or "papermill recorded an exception"
        raise Unusable(f"the {profile} run of {name} failed ({said}); {remedy}")
    page = _read_source(source)
    ours, theirs = _code(page), _code(notebook)
    if len(ours) != len(theirs) or not all(
        cells.PARAMETERS in _tags(one) or cells.same(one.source, other.source)
        for one, other in zip(ours, theirs, strict=True)
    ):
        raise Unusable(f"the {profile} run of {name} is not of the source as it is now; {remedy}")
    for cell, run_cell in zip(ours, theirs, strict=True):
        cell.outputs = run_cell.outputs
        cell.execution_count = run_cell.execution_count
    page.metadata = notebook.metadata
    return page


def first_error(notebook: NotebookNode) -> str | None:
    """Return `Name: message` of the first error output, or None."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}".splitlines()[0]
    return None


def _error_in(path: Path) -> str:
    try:
        return first_error(nbformat.read(path, as_version=4)) or "no error output"
    except Exception:  # a half-written notebook of a killed run
        return "unreadable"


def _read_source(source: str) -> NotebookNode:
    import jupytext

    return jupytext.reads(source, fmt="py:percent")


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and "injected-parameters" not in _tags(cell)
        and cell.source.strip()
    ]


def _without_run(source: str, reason: str) -> NotebookNode:
    """Return a page with the source's title and a note in place of the run."""
    title = "# (without a title)"
    for cell in _read_source(source).cells:
        lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
        headings = [line for line in lines if line.startswith("# ")]
        if headings:
            title = headings[0]
            break
    note = f":::{{warning}}\nThis page has nothing to show: {reason}.\n:::"
    return new_notebook(cells=[new_markdown_cell(title), new_markdown_cell(note)])


def for_the_page(notebook: NotebookNode) -> NotebookNode:
    """Return `notebook` less what is plumbing on a page.

    The parameters that papermill injected go; the parameters cell folds away, together with the
    hidden cell that opens the page if that comes next; prompts say what they unfold; metadata
    keeps only what the renderer uses.
    """
    shown: list[NotebookNode] = []
    for cell in notebook.cells:
        tags = _tags(cell)
        if "injected-parameters" in tags:
            continue
        if cell.cell_type == "code":
            previous = shown[-1] if shown else None
            if (
                previous is not None
                and "parameters" in _tags(previous)
                and not previous.get("outputs")
                and "hide-input" in tags
            ):
                shown.pop()
                cell.source = f"{previous.source}\n\n{cell.source}"
                _fold(cell, SETUP_PROMPT)
            elif "parameters" in tags:
                cell.metadata["tags"] = [*tags, "hide-input"]
                _fold(cell, SETUP_PROMPT)
            elif any(tag.startswith("hide-") for tag in tags):
                _fold(cell, CODE_PROMPT)
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        shown.append(cell)
    notebook.cells = shown
    kept = ("kernelspec", "language_info", "mystnb", "myst")
    notebook.metadata = nbformat.from_dict(
        {key: value for key, value in notebook.metadata.items() if key in kept}
    )
    return notebook


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _fold(cell: NotebookNode, prompt: str) -> None:
    config = cell.metadata.setdefault("mystnb", nbformat.from_dict({}))
    config.setdefault("code_prompt_show", prompt.format("Show"))
    config.setdefault("code_prompt_hide", prompt.format("Hide"))


# Downloads: the executed notebook, and the tables as Parquet and CSV.


def _offer_notebook(
    app: Sphinx, pagename: str, _template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Write the executed notebook beside the page's source and tell the theme's button."""
    if doctree is None or METADATA_KEY not in app.env.metadata[pagename]:
        return
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(run_of(app, pagename).notebook, as_version=4)
    for key in ("input_path", "output_path"):  # where things lie on this machine is no reader's
        notebook.metadata.get("papermill", {}).pop(key, None)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def _write_tables(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    root, profile = Path(app.srcdir), app.config.ddbook_profile
    out = Path(app.outdir) / "tables"
    wanted: set[Path] = set()
    for label, folder in ((profile, root / "runs" / profile), ("published", root / "results")):
        for table in sorted(folder.glob("*/*.parquet")):
            target = out / label / table.parent.name / table.name
            wanted |= {target, target.with_suffix(".csv")}
            if not _as_new(target, table):
                _write_table(table, target)
    for stale in [path for path in out.rglob("*") if path.is_file() and path not in wanted]:
        stale.unlink()


def _as_new(target: Path, table: Path) -> bool:
    copies = (target, target.with_suffix(".csv"))
    made = table.stat().st_mtime_ns
    return all(copy.is_file() and copy.stat().st_mtime_ns >= made for copy in copies)


def _write_table(table: Path, target: Path) -> None:
    import pandas as pd

    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(table, target)
    with table.open("rb") as file:  # pyarrow takes a path in the locale's letters
        pd.read_parquet(file).to_csv(target.with_suffix(".csv"), index=False, encoding="utf-8")


def notebook_page(env: BuildEnvironment, name: str) -> str | None:
    """Return the docname of notebook `name`, or None when the book has no such page."""
    docname = f"notebooks/{name}"
    return docname if docname in env.found_docs else None


def _remove_pages_that_are_no_more(app: Sphinx, exception: Exception | None) -> None:
    """Delete what Sphinx leaves: pages of sources that were renamed or left the contents."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    for page in out.rglob("*.html"):
        docname = page.relative_to(out).with_suffix("").as_posix()
        # In the root lie the search page and the like; Sphinx's own folders begin with _.
        ours = "/" in docname and not docname.startswith("_")
        if ours and docname not in app.env.found_docs:
            page.unlink()
