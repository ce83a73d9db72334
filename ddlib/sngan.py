"""The SN-GAN pair of networks for small colour images, in forms that XLA runs fast on a CPU.

Miyato et al. (2018), Table 3, as the experiments of DD have it: the discriminator is spectrally
normalised, the generator batch-normalised. `ddlib.gan` makes players of them.

The layers are the usual ones; some are computed in another way than the usual one, to the same
result. A transposed convolution of stride 2 is one convolution to four times the channels, put
together pixel by pixel (the gradient of a dilated one is an order of magnitude slower on XLA:CPU).
A convolution between few channels takes two neighbouring pixels at once. Between images of at most
4×4 pixels, where half the taps fall outside, it is one matrix product; so are both convolutions of
stride 2 where there are many channels, one for each quarter of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ddlib._check import as_real, check_count, check_precision, check_step_size
from ddlib.frozen import hold

DECAY = 0.999  # of the generator's running statistics
SLOPE = 0.1  # of the discriminator's leaky rectifiers


class Generator(NamedTuple):
    """A generator, functional: its start, and the function from latents to images.

    Attributes:
      init: key -> (theta, statistics), nested dicts of arrays; statistics are what batch norm
        remembers of the past, and no parameters.
      apply: (theta, statistics, z, train) -> (images, statistics). With train, batch norm uses the
        batch's own statistics and moves the running ones towards them; else the running ones,
        which then stay.
      latents: number of entries of z.
      shape: of one sample.
    """

    init: Callable[[Array], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[Array, PyTree]]
    latents: int
    shape: tuple[int, ...]


class Discriminator(NamedTuple):
    """A discriminator, functional: its start, its logits, and one step of its power iteration.

    Attributes:
      init: key -> (phi, vectors); vectors are what the power iteration remembers: an estimate of
        each layer's left singular vector.
      apply: (phi, vectors, x) -> logits of shape (n,). It takes one step of the power iteration
        from vectors, divides each kernel by the singular value found, and forgets the step.
      refresh: (phi, vectors) -> vectors, after that step.
      shape: of one sample.
    """

    init: Callable[[Array], tuple[PyTree, PyTree]]
    apply: Callable[[PyTree, PyTree, Array], Float[Array, " n"]]
    refresh: Callable[[PyTree, PyTree], PyTree]
    shape: tuple[int, ...]


def generator(
    *,
    size: int = 32,
    width: float = 1,
    latents: int = 128,
    channels: int = 3,
    initial_scale: float = 1,
) -> Generator:
    """The SN-GAN generator: a linear map, three doublings, a convolution, tanh.

    At size 32 and width 1: linear to 4×4×512; transposed convolutions (4×4, stride 2) to 256, 128
    and 64 channels, each with batch norm and ReLU; a 3×3 convolution to the image's channels.

    Args:
      size: pixels a side, a multiple of 8.
      width: factor on all numbers of channels but the image's.
      latents: entries of z.
      channels: of the image.
      initial_scale: factor on the kernels' start, which otherwise is the default of the library
        that the papers' released code used: truncated normal numbers of variance about 1/fan-in.
        What follows a kernel here, batch norm or spectral norm, does not see its scale, so that
        starting s times as large makes the first steps of gradient descent 1/s² times as large
        (but for the generator's last kernel, biases, and batch norm's own parameters).

    Raises:
      ValueError: sizes that are not positive integers or no multiple of 8, a width that leaves no
        channel. When applied: z of another shape than (n, latents), z that are integers or
        complex, theta of another type than float32 or float64, in which all is computed.

    >>> net = generator(size=16, width=0.125)
    >>> theta, statistics = net.init(jax.random.key(0))
    >>> images, statistics = net.apply(theta, statistics, jnp.ones((2, 128)), train=True)
    >>> images.shape
    (2, 16, 16, 3)
    """
    wide = _channels(size, width, channels, initial_scale)
    check_count("latents", latents)

    def make(key: Array) -> nnx.Module:
        return _Generator(size, wide, latents, channels, _Start(key, initial_scale))

    graph = _graph(make)

    def apply(theta: PyTree, statistics: PyTree, z: Array, train: bool) -> tuple[Array, PyTree]:
        if z.ndim != 2 or z.shape[1] != latents:
            raise ValueError(f"z must have shape (n, {latents}), got {z.shape}")
        z = as_real("z", z, check_precision("theta and statistics", (theta, statistics)))
        model = nnx.merge(graph, theta, statistics)
        images = model(z, train)
        return images, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    return Generator(_init(make), apply, latents, (size, size, channels))


def discriminator(
    *,
    size: int = 32,
    width: float = 1,
    channels: int = 3,
    spectral_norm: bool = True,
    initial_scale: float = 1,
) -> Discriminator:
    """The SN-GAN discriminator: seven convolutions with leaky ReLU, and a linear map.

    At width 1 the convolutions go to 64, 64, 128, 128, 256, 256 and 512 channels, 3×3 with stride 1
    and 4×4 with stride 2 in turn. Kernels, not biases, are spectrally normalised.

    Args:
      size, width, channels, initial_scale: as `generator`.
      spectral_norm: whether kernels are divided by their largest singular value, whatever their
        scale (from 1e-30 to 1e30 in float32). A kernel of zeros stays one.

    Raises:
      ValueError: as `generator`. When applied: images of another shape or, like phi, of a type
        that `generator` refuses.

    >>> net = discriminator(size=16, width=0.125)
    >>> phi, vectors = net.init(jax.random.key(0))
    >>> net.apply(phi, vectors, jnp.zeros((2, 16, 16, 3))).shape
    (2,)
    """
    wide = _channels(size, width, channels, initial_scale)
    shape = (size, size, channels)

    def make(key: Array) -> nnx.Module:
        return _Discriminator(size, wide, channels, spectral_norm, _Start(key, initial_scale))

    graph = _graph(make)

    def apply(phi: PyTree, vectors: PyTree, x: Array) -> Float[Array, " n"]:
        if x.shape[1:] != shape:
            raise ValueError(
                f"images must have shape (n, {', '.join(map(str, shape))}), got {x.shape}"
            )
        x = as_real("images", x, check_precision("phi and vectors", (phi, vectors)))
        return nnx.merge(graph, phi, vectors)(x)

    def refresh(phi: PyTree, vectors: PyTree) -> PyTree:
        check_precision("phi and vectors", (phi, vectors))
        model = nnx.merge(graph, phi, vectors)
        model.refresh()
        return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    return Discriminator(_init(make), apply, refresh, shape)


def _channels(size: int, width: float, channels: int, initial_scale: float) -> Callable[[int], int]:
    check_count("size", size, least=8)
    if size % 8:
        raise ValueError(f"size must be a multiple of 8, got {size}")
    check_count("channels", channels)
    check_step_size("width", width)
    check_step_size("initial_scale", initial_scale)
    if width * 64 < 1:
        raise ValueError(f"width must leave a channel of 64, got {width}")
    return lambda base: max(1, round(base * width))


def _graph(make: Callable[[Array], nnx.Module]) -> Any:
    return nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))))[0]


def _init(make: Callable[[Array], nnx.Module]) -> Callable[[Array], tuple[PyTree, PyTree]]:
    def init(key: Array) -> tuple[PyTree, PyTree]:
        _, *parts = nnx.split(make(key), nnx.Param, ...)
        params, rest = map(nnx.to_pure_dict, parts)
        return params, rest

    return init


class _SpectralVector(nnx.Variable):
    pass


class _Start:
    """How the kernels of one network start."""

    def __init__(self, key: Array, scale: float):
        self.rngs, self.scale = nnx.Rngs(key), scale

    def kernel(self, shape: tuple[int, ...]) -> Array:
        std = self.scale * math.prod(shape[:-1]) ** -0.5
        return std * jax.random.truncated_normal(self.rngs.params(), -2, 2, shape)

    def vector(self, size: int) -> Array:
        return _unit(jax.random.normal(self.rngs.params(), (size,)))


class _Kernel(nnx.Module):
    """A kernel, last axis the outputs; a bias; the power iteration's vector."""

    def __init__(
        self, shape: tuple[int, ...], start: _Start, *, bias: bool = True, spectral: bool = False
    ):
        self.kernel = nnx.Param(start.kernel(shape))
        self.bias = nnx.Param(jnp.zeros(shape[-1])) if bias else None
        if spectral:
            self.left = _SpectralVector(start.vector(shape[-1]))
        self.spectral = spectral

    def power_step(self) -> tuple[Array, Array, Array]:
        """The kernel as a matrix (inputs, outputs), and its singular vectors one step on."""
        matrix = self.kernel[...].reshape(-1, self.kernel.shape[-1])
        fixed = hold(matrix)
        product = fixed @ self.left[...]
        # From a vector that the kernel maps to zero no step leads on: begin at its largest row.
        largest = jax.nn.one_hot(jnp.abs(fixed).max(1).argmax(), len(fixed), dtype=fixed.dtype)
        right = jnp.where(jnp.any(product), _unit(product), largest)
        found = right @ fixed
        return matrix, right, jnp.where(jnp.any(found), _unit(found), self.left[...])

    def normalised(self) -> Array:
        """The kernel over the singular value that one step finds; zero stays as it is."""
        if not self.spectral:
            return self.kernel[...]
        matrix, right, left = self.power_step()
        value = right @ (matrix @ left)
        scale = _power_of_two(value)  # so that the quotient's slope squares no tiny number
        empty = jnp.abs(value) < jnp.finfo(value.dtype).tiny
        return self.kernel[...] / scale / jnp.where(empty, 1, value / scale)

    def __call__(self, x: Array) -> Array:
        return x if self.bias is None else x + self.bias[...]


def _power_of_two(x: Array) -> Array:
    """The power of two below the largest entry, by which division is exact; of zero, 1."""
    largest = jnp.abs(hold(x)).max()
    largest = jnp.where(largest < jnp.finfo(x.dtype).tiny, 1, largest)
    mantissa, _ = jnp.frexp(largest)
    return largest / (2 * mantissa)


def _unit(x: Array) -> Array:
    x = x / _power_of_two(x)  # no square vanishes or overflows
    square = jnp.sum(x**2)
    return x * jax.lax.rsqrt(jnp.where(square == 0, 1, square))


class _BatchNorm(nnx.Module):
    """Batch norm whose running statistics weigh what has been, and nothing that has not."""

    def __init__(self, size: int):
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))
        self.mean = nnx.BatchStat(jnp.zeros(size))
        self.var = nnx.BatchStat(jnp.zeros(size))
        self.weight = nnx.BatchStat(jnp.zeros(()))  # of all batches so far: 1 − decayᵗ

    def __call__(self, x: Array, train: bool) -> Array:
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            for kept, new in (
                (self.mean, mean),
                (self.var, var),
                (self.weight, jnp.ones((), x.dtype)),
            ):
                kept[...] = DECAY * kept[...] + (1 - DECAY) * hold(new)
        else:
            mean, var = self.mean[...] / self.weight[...], self.var[...] / self.weight[...]
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * self.scale[...]) + self.bias[...]


class _Generator(nnx.Module):
    def __init__(
        self,
        size: int,
        wide: Callable[[int], int],
        latents: int,
        channels: int,
        start: _Start,
    ):
        self.base, self.top = size // 8, wide(512)
        self.layer_0 = _Kernel((latents, self.base**2 * self.top), start)
        widths = [self.top, wide(256), wide(128), wide(64)]
        for i in range(3):
            kernel = _Kernel((4, 4, widths[i], widths[i + 1]), start, bias=False)
            setattr(self, f"layer_{i + 1}", kernel)
            setattr(self, f"norm_{i + 1}", _BatchNorm(widths[i + 1]))
        self.layer_4 = _Kernel((3, 3, widths[-1], channels), start)

    def __call__(self, z: Array, train: bool) -> Array:
        x = self.layer_0(z @ self.layer_0.kernel[...])
        x = x.reshape(-1, self.base, self.base, self.top)
        for i in (1, 2, 3):
            x = _double(x, getattr(self, f"layer_{i}").kernel[...])
            x = jax.nn.relu(getattr(self, f"norm_{i}")(x, train))
        return jnp.tanh(self.layer_4(_convolve(x, self.layer_4.kernel[...])))


class _Discriminator(nnx.Module):
    def __init__(
        self,
        size: int,
        wide: Callable[[int], int],
        channels: int,
        spectral: bool,
        start: _Start,
    ):
        last = channels
        for i, base in enumerate((64, 64, 128, 128, 256, 256, 512)):
            shape = (3 + i % 2, 3 + i % 2, last, wide(base))
            setattr(self, f"layer_{i}", _Kernel(shape, start, spectral=spectral))
            last = wide(base)
        self.layer_7 = _Kernel(((size // 8) ** 2 * last, 1), start, spectral=spectral)

    def __call__(self, x: Array) -> Array:
        for i in range(7):
            layer = getattr(self, f"layer_{i}")
            x = layer(_convolve(x, layer.normalised(), stride=1 + i % 2))
            x = jnp.where(x > 0, x, SLOPE * x)
        x = x.reshape(x.shape[0], -1)
        return self.layer_7(x @ self.layer_7.normalised())[:, 0]

    def refresh(self) -> None:
        for i in range(8):
            layer = getattr(self, f"layer_{i}")
            if layer.spectral:
                layer.left[...] = layer.power_step()[2]


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
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
        return _lax(x, pairs, (1, 2)).reshape(-1, size, size, outputs)
    return _lax(x, kernel, (stride, stride))


def _double(x: Array, kernel: Array) -> Array:
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
    x = _lax(x, quads.reshape(3, 3, inputs, 4 * outputs), (1, 1))
    x = x.reshape(-1, size, size, 2, 2, outputs).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, 2 * size, 2 * size, outputs)


def _is_wide(kernel: Array) -> bool:
    """Whether a layer is bound by its products, not by moving its images (measured on CPU)."""
    return kernel.shape[2] * kernel.shape[3] >= 64 * 128


def _halve(x: Array, kernel: Array) -> Array:
    """`_convolve` with stride 2: of blocks of 2×2 pixels, a product for each of four neighbours."""
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
    """`_double`, the transpose of `_halve`: four products, each added to its neighbour's block."""
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


def _lax(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
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
