"""Samples of the runs of a sweep: base64 PNGs, in a table's column or on a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ddbook.sweeps.arms import Arm
from ddbook.sweeps.figures import nothing
from ddbook.sweeps.sweep import Sweep, available

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8  # of a grid of samples
ROWS = 4


def png(image: np.ndarray) -> str:
    """Return an image with values in [0, 1] as a base64 PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(text: str) -> np.ndarray:
    """Return the image in a base64 PNG, its values in [0, 255]."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def pack(samples: np.ndarray) -> str:
    """Return square images (n, size, size, channels) in [0, 1] as one PNG, one below another."""
    return png(samples.reshape(-1, *samples.shape[2:]))


def unpack(text: str) -> np.ndarray:
    """Return what `pack` packed, to within its 256 levels.

    >>> samples = np.zeros((3, 4, 4, 3))
    >>> unpack(pack(samples)).shape
    (3, 4, 4, 3)
    """
    column = pixels(text)
    size = column.shape[1]
    return column.reshape(-1, size, size, 3).astype(np.float32) / 255


def grid(samples: np.ndarray) -> str:
    """Return the first samples as one PNG of `ROWS` rows of `COLUMNS`."""
    few = samples[: ROWS * COLUMNS].reshape(ROWS, COLUMNS, *samples.shape[1:])
    rows = few.transpose(0, 2, 1, 3, 4)
    return png(rows.reshape(ROWS * samples.shape[1], -1, 3))


def pictures(sweep: Sweep, arms: Mapping[str, Arm]) -> Figure:
    """Samples of each arm's best run: that of the smallest Fréchet distance at the end.

    The table has a picture of the best run of all, and of the best at one rate for both players;
    of the runs of another part of the sweep there may be none.
    """
    import matplotlib.pyplot as plt

    there = available(sweep, arms)
    if not there:
        return nothing(sweep)
    columns = min(len(there), 3)
    rows = -(-len(there) // columns)
    size = (7.4, 0.3 + rows * (0.4 + 3.7 / columns))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (label, arm) in zip(axes.flat, there.items(), strict=False):
        runs = arm.of(sweep.runs)
        ended, runs = runs["frechet_distance"].notna().any(), runs[runs["picture"].notna()]
        if runs.empty:
            ax.set_title(f"{label}: {'no picture' if ended else 'none that ended'}", fontsize=9)
            continue
        row = runs.sort_values("frechet_distance").iloc[0]
        ax.set_axis_on()  # a frame: samples may be as white as the page
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7", linewidth=0.6)
        ax.imshow(pixels(row["picture"]), interpolation="nearest")
        ax.set_title(
            f"{label}\nα = {row['rate_phi']:g}, λ = {row['rate_theta']:g}, "
            f"distance {row['frechet_distance']:.3g}",
            fontsize=9,
        )
    fig.suptitle(sweep.label, fontsize=10.5)
    return fig
