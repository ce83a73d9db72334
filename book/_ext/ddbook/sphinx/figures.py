"""A figure of a finished run, on another page: `{run-figure} backward_error_analysis fig-drift`.

The picture, its alternative text and its caption come from the notebook's cell, so that no page
shows a picture that no run made.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from ddbook.runner import places

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> None:
    """Register the directive `run-figure`."""
    app.add_directive("run-figure", RunFigure)


def picture_of(notebook: Path, name: str) -> tuple[bytes, dict[str, Any]]:
    """Return the PNG and the MyST-NB metadata of the cell whose figure is called `name`.

    `ValueError` when no cell is, or when it holds no picture.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    found = {cell.metadata.get("mystnb", {}).get("figure", {}).get("name"): cell for cell in cells}
    if name not in found:
        names = ", ".join(sorted(filter(None, found)))
        raise ValueError(f"{notebook.stem} has no figure {name!r}; there are: {names}")
    for output in found[name].get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            return base64.b64decode(png), found[name].metadata["mystnb"]
    raise ValueError(f"{notebook.stem}: the cell of {name!r} shows no picture")


class RunFigure(SphinxDirective):
    """`{run-figure} NOTEBOOK NAME`, with the text of the caption as content (or the notebook's)."""

    required_arguments = 2
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Put the picture into the page."""
        stem, name = self.arguments
        app = self.env.app
        source = Path(app.srcdir)
        notebook = places.products(source, app.config.ddbook_profile, stem).notebook
        self.env.note_dependency(str(notebook))
        try:
            png, metadata = picture_of(notebook, name)
        except (OSError, ValueError) as reason:
            LOGGER.warning("%s", reason, location=self.get_location(), type="ddbook")
            return []
        kept = source / "runs" / ".figures" / app.config.ddbook_profile / f"{stem}-{name}.png"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(png)
        self.env.note_dependency(str(kept))
        relative, _ = self.env.relfn2path(f"/{kept.relative_to(source).as_posix()}")
        image = nodes.image(uri=f"/{relative}", alt=metadata["image"]["alt"], width="560px")
        figure = nodes.figure("", image, align="center")
        content = self.content or StringList([metadata["figure"]["caption"]], notebook.name)
        text, messages = self.state.inline_text(" ".join(content), self.lineno)
        figure += nodes.caption("", "", *text)
        return [figure, *messages]
