"""The channels of images: their means and deviations, and images centred and scaled by them."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float64, Real


def channel_statistics(
    images: Real[np.ndarray, "*n channels"],
) -> tuple[Float64[np.ndarray, " channels"], Float64[np.ndarray, " channels"]]:
    """Return each channel's mean and standard deviation over all images and pixels.

    Computed in float64, a few images at a time; the deviation is that of the population (ddof 0).

    >>> images = np.zeros((2, 4, 4, 3), np.float32)
    >>> images[0] = [1.0, 2.0, 0.0]
    >>> mean, std = channel_statistics(images)
    >>> mean.tolist(), std.tolist()
    ([0.5, 1.0, 0.0], [0.5, 1.0, 0.0])
    """
    images = _real("images", images)
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"images has shape {images.shape}: (n, height, width, channels) would do")
    channels = images.shape[-1]
    pixels = images.size // channels
    step = max(1, len(images) * 2**20 // images.size)  # about a million numbers at a time

    def average(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        total = np.zeros(images[0].size)
        for start in range(0, len(images), step):
            part = images[start : start + step]
            total += of(part.reshape(len(part), -1).astype(np.float64)).sum(axis=0)
        return total.reshape(-1, channels).sum(axis=0) / pixels

    with np.errstate(invalid="ignore"):  # said below
        mean = average(lambda rows: rows)
    if not np.isfinite(mean).all():
        raise ValueError(f"images has channels of mean {mean}: finite pixels would do")
    middle = np.tile(mean, pixels // len(images))
    return mean, np.sqrt(average(lambda rows: (rows - middle) ** 2))


def normalise(
    images: Real[np.ndarray, "*n channels"],
    mean: Float[np.ndarray, " channels"] | Sequence[float],
    std: Float[np.ndarray, " channels"] | Sequence[float],
) -> Float[np.ndarray, "*n channels"]:
    """Return ``(images - mean) / std``, channel by channel, in the images' own floating type.

    Take the statistics of the training images for the test images too. Integers become float32.

    Raises:
        ValueError: images or statistics that are not real numbers, statistics of another number of
            channels, not finite, or a deviation that is not positive.

    >>> from ddlib.data import load
    >>> images = load("shapes", "test", subset=100).images
    >>> mean, std = channel_statistics(normalise(images, *channel_statistics(images)))
    >>> bool(np.allclose(mean, 0, atol=1e-5)), bool(np.allclose(std, 1, atol=1e-5))
    (True, True)
    """
    images = _real("images", images)
    dtype = images.dtype if images.dtype.kind == "f" else np.dtype(np.float32)
    mean = _real("mean", mean).astype(dtype)
    std = _real("std", std).astype(dtype)
    for name, given in (("mean", mean), ("std", std)):
        if given.shape != images.shape[-1:]:
            raise ValueError(
                f"{name} has shape {given.shape}, images {images.shape}: one number for each "
                "channel, the last axis, would do"
            )
        if not np.isfinite(given).all():
            raise ValueError(f"{name} is {given}: finite numbers would do")
    if not (std > 0).all():
        raise ValueError(f"std is {std}: positive numbers would do, so no channel may be constant")
    normalised = images.astype(dtype)
    normalised -= mean
    normalised /= std
    return normalised


def _real(name: str, values: object) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of type {array.dtype}: real numbers of NumPy's would do")
    return array
