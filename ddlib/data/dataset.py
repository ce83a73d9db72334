"""A split of a dataset as it is read, and as it is given to whoever asked."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32, Shaped, UInt8

Images = UInt8[np.ndarray, "n height width channels"]
Labels = UInt8[np.ndarray, " n"]


class Dataset(NamedTuple):
    """One split of a dataset, and what a table made from it must say about it.

    ``inputs`` are ``images`` (float32, in [0, 1]) or ``features`` (float64, in the units in which
    they were measured). ``checksum`` identifies the whole dataset (all splits, before any subset is
    drawn); ``source`` says how it was found and holds no path. ``stand_in`` is true where another
    dataset than the one that was asked for was given: no claim may be judged on it.
    """

    name: str
    inputs: Float[np.ndarray, " n *shape"]
    labels: Int32[np.ndarray, " n"]
    checksum: str
    stand_in: bool
    source: str

    @property
    def images(self) -> Float32[np.ndarray, "n height width channels"]:
        """The inputs, where they are images; ``ValueError`` where they are not."""
        if self.inputs.ndim != 4:
            raise ValueError(f"images must be asked of a dataset of images, got {self.name}")
        return self.inputs

    @property
    def features(self) -> Float[np.ndarray, "n d"]:
        """The inputs, where they are rows of numbers; ``ValueError`` where they are not."""
        if self.inputs.ndim != 2:
            raise ValueError(f"features must be asked of a dataset of rows, got {self.name}")
        return self.inputs


class Raw(NamedTuple):
    """A split as its files have it; ``white`` is the pixel that becomes 1, None for no images."""

    inputs: Shaped[np.ndarray, " n *shape"]
    labels: Labels
    white: float | None
    checksum: str
    source: str


def scaled(inputs: Shaped[np.ndarray, " n *shape"], white: float | None) -> np.ndarray:
    """Return images as float32 in [0, 1]; what is no image as it is."""
    if white is None:
        return inputs.copy()
    images = inputs.astype(np.float32)
    images /= white
    return images
