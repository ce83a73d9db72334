"""The book whole without a network: MathJax from an installed package, our style sheet.

`sphinx-mathjax-offline` ships MathJax 3 as a 24 MB tree. Pages load one file of it, the component
that holds every TeX extension and draws SVG: no fonts to fetch, so mathematics also renders in
browsers that refuse fonts to pages opened from disk.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MATHJAX = "mathjax/tex-svg-full.js"
ASSETS = Path(__file__).parents[1] / "assets"


def setup(app: Sphinx) -> None:
    """Point Sphinx at the local MathJax and add the book's style sheet."""
    # Jupyter Book sets this one for sphinx-comments, which the book does not load.
    app.add_config_value("comments_config", {}, "", [dict])
    app.connect("config-inited", _use_local_mathjax)
    app.connect("builder-inited", _add_assets)


def mathjax_file() -> Path:
    """Return the MathJax component inside the installed package; raise if it is not there."""
    # The package's folder is called sphinx-mathjax-offline, hyphens and all.
    spec = find_spec("sphinx-mathjax-offline")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "static" / MATHJAX if folders else None
    if path is None or not path.is_file():
        raise ExtensionError(
            f"MathJax ({MATHJAX}) not found: install the package sphinx-mathjax-offline, "
            "which ddlib[book] names"
        )
    return path


def _use_local_mathjax(_app: Sphinx, config: Any) -> None:
    config.mathjax_path = MATHJAX


def _add_assets(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    app.config.html_static_path.append(str(ASSETS))
    app.add_css_file("ddbook.css", priority=900)
    source, target = mathjax_file(), Path(app.outdir) / "_static" / MATHJAX
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
