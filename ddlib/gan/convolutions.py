"""Convolutions of small images, in forms that XLA runs fast on a CPU, to the usual results.

A transposed convolution of stride 2 is one convolution to four times the channels, put together
pixel by pixel (the gradient of a dilated one is an order of magnitude slower on XLA:CPU). A
convolution between few channels takes two neighbouring pixels at once. Between images of at most
4×4 pixels, where half the taps fall outside, it is one matrix product; so are both convolutions of
stride 2 where there are many channels, one for each quarter of the kernel.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """The convolution with padding 1: a 3×3 kernel keeps the size, a 4×4 one with stride 2 halves.

    Args:
      x: (n, s, s, inputs).
      kernel: (3, 3, inputs, outputs), or (4, 4, inputs, outputs) with stride 2.
    """
    size, inputs, outputs = x.shape[1], *kernel.shape[2:]
    if size // stride <= 2:
        return _as_matrix(x, kernel, _taps(kernel.shape[0], size, size // stride, stride))
    if stride == 2 and _is_wide(kernel):
        return _halve(x, kernel)
    if stride == 1 and inputs <= 16 and outputs <= 16 and size % 2 == 0:
        spread = np.zeros((3, 4, 2), np.float32)  # tap, tap of the pair, pixel of the pair
        for pixel in range(2):
            spread[:, pixel : pixel + 3, pixel] = np.eye(3)
        spread = spread.astype(kernel.dtype)
        pairs = jnp.einsum("ijco,jbq->ibcqo", kernel, spread).reshape(3, 4, inputs, 2 * outputs)
        return plain(x, pairs, (1, 2)).reshape(-1, size, size, outputs)
    return plain(x, kernel, (stride, stride))


def double(x: Array, kernel: Array) -> Array:
    """The transposed convolution with a 4×4 kernel and stride 2, to twice the size.

    Pixel y of the result gets x[i] through tap y − 2i + 1.

    Args:
      x: (n, s, s, inputs).
      kernel: (4, 4, inputs, outputs).
    """
    size, inputs, outputs = x.shape[1], *kernel.shape[2:]
    if size <= 2:
        taps = _taps(4, 2 * size, size, 2).transpose(0, 2, 1)  # it is the other's transpose
        return _as_matrix(x, kernel, taps)
    if _is_wide(kernel):
        return _double_wide(x, kernel)
    spread = np.zeros((4, 3, 2), np.float32)  # tap, tap of the small image, parity of the pixel
    for parity in range(2):
        for tap in range(3):
            if 0 <= (at := parity - 2 * (tap - 1) + 1) < 4:
                spread[at, tap, parity] = 1
    spread = spread.astype(kernel.dtype)
    quads = jnp.einsum("ijco,iap,jbq->abcpqo", kernel, spread, spread)
    x = plain(x, quads.reshape(3, 3, inputs, 4 * outputs), (1, 1))
    x = x.reshape(-1, size, size, 2, 2, outputs).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, 2 * size, 2 * size, outputs)


def _is_wide(kernel: Array) -> bool:
    """Whether a layer is bound by its products, not by moving its images (measured on CPU)."""
    return kernel.shape[2] * kernel.shape[3] >= 64 * 128


def _halve(x: Array, kernel: Array) -> Array:
    """`convolve` with stride 2: of blocks of 2×2 pixels, a product for each of four neighbours."""
    n, size, _, inputs = x.shape
    half = size // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(n, half + 1, 2, half + 1, 2, inputs).swapaxes(2, 3)
    x = x.reshape(n, half + 1, half + 1, 4 * inputs)
    total = jnp.zeros((), x.dtype)
    for i, j, quarter in _quarters(kernel):
        part = x[:, i : i + half, j : j + half].reshape(-1, 4 * inputs)
        total = total + part @ quarter.reshape(4 * inputs, -1)
    return total.reshape(n, half, half, -1)


def _double_wide(x: Array, kernel: Array) -> Array:
    """`double`, the transpose of `_halve`: four products, each added to its neighbour's block."""
    n, size, _, inputs = x.shape
    outputs = kernel.shape[3]
    total = jnp.zeros((), x.dtype)
    for i, j, quarter in _quarters(kernel):
        part = x.reshape(-1, inputs) @ quarter.transpose(2, 0, 1, 3).reshape(inputs, -1)
        part = part.reshape(n, size, size, 4 * outputs)
        total = total + jnp.pad(part, ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0)))
    total = total.reshape(n, size + 1, size + 1, 2, 2, outputs).swapaxes(2, 3)
    return total.reshape(n, 2 * size + 2, 2 * size + 2, outputs)[:, 1:-1, 1:-1]


def _quarters(kernel: Array) -> list[tuple[int, int, Array]]:
    """A 4×4 kernel's four quarters of 2×2 taps, each with its row and column."""
    return [
        (i, j, kernel[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]) for i in range(2) for j in range(2)
    ]


def plain(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    """The usual form, with padding 1."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@lru_cache
def _taps(taps: int, size: int, out: int, stride: int) -> Float[np.ndarray, "t o i"]:
    """Whether pixel i of an image reaches pixel o of its convolution through tap t: one axis."""
    one = np.zeros((taps, out, size), np.float32)
    for o in range(out):
        for t in range(taps):
            if 0 <= (i := stride * o + t - 1) < size:
                one[t, o, i] = 1
    return one


def _as_matrix(x: Array, kernel: Array, taps: Float[np.ndarray, "t o i"]) -> Array:
    """A linear map of small images, given by its taps along one axis, as one matrix product."""
    n, size, _, inputs = x.shape
    out, outputs = taps.shape[1], kernel.shape[-1]
    taps = taps.astype(kernel.dtype)
    matrix = jnp.einsum("tsco,tai,sbj->ijcabo", kernel, taps, taps)
    x = x.reshape(n, -1) @ matrix.reshape(size * size * inputs, -1)
    return x.reshape(n, out, out, outputs)
