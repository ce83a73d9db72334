"""Curves over seeds: the median, and all of them as a band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def bands(
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    color: Any,
    label: str | None = None,
    *,
    scale: float = 1.0,
) -> None:
    """Draw a column against the column step, from a table with a row a seed and step."""
    wide = scale * frame.pivot(index="step", columns="seed", values=column)
    low, high = wide.min(axis=1), wide.max(axis=1)
    ax.fill_between(wide.index, low, high, color=color, alpha=0.15, lw=0)
    ax.plot(wide.median(axis=1), color=color, lw=1.2, label=label)
