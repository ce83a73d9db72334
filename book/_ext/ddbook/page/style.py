"""The style of the book's figures, `book/figures.mplstyle`."""

from __future__ import annotations

import sys
from pathlib import Path


def use(root: Path) -> None:
    """Set the style for this process; under IPython, with figures fit for dense screens."""
    import matplotlib.style

    matplotlib.style.use(root / "book" / "figures.mplstyle")
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.config import InlineBackend

        shell = sys.modules["IPython"].get_ipython()
        InlineBackend.instance(parent=shell).figure_formats = {"retina"}
