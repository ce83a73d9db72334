"""The book's own code: what notebooks import (`ddbook.page`) and the Sphinx extension.

Nothing heavy is imported here: a notebook that does `from ddbook import page` must not pay for
Sphinx, and Sphinx must not pay for JAX. The rooms, each resting on those before it:

- `runner`: where things lie, what a run is and rests on, how it is made, listed, published, built
- `page`: what a notebook opens with: settings, data, tables, cards, colours, claims
- `sweeps`: many runs of one training, kept one by one, and the ways to look at them
- `sphinx`: the extension

The extension's parts:

- `sphinx.pages`: a page is `notebooks/x.py`, shown as its finished run `runs/<profile>/x.ipynb`;
  downloads of the notebook and of its tables
- `sphinx.ledger`: the ledger page (`findings`: what it shows; `roles`: `{claim}` and `{measured}`;
  `words`: numbers and verdicts in words; `build`: one ledger a build)
- `sphinx.figures`: a figure of a run on another page
- `sphinx.offline`: MathJax beside the pages, nothing fetched from another host
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx


def read(text: str) -> NotebookNode:
    """Return the notebook that a page's text stands for (the reader that MyST-NB calls).

    With the extension loaded, `text` is the JSON that its source-read step swapped in. Anything
    else is a py:percent source, which is read as a notebook without outputs.
    """
    if text.lstrip().startswith("{"):
        import nbformat

        return nbformat.reads(text, as_version=4)
    import jupytext

    return jupytext.reads(text, fmt="py:percent")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    from ddbook.sphinx import figures, ledger, offline, pages

    pages.setup(app)
    ledger.setup(app)
    figures.setup(app)
    offline.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
