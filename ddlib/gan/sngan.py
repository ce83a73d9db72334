"""The SN-GAN pair of networks for small colour images.

Miyato et al. (2018), Table 3, as the experiments of DD have it: the discriminator is spectrally
normalised, the generator batch-normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ddlib._check import as_real, check_count, check_precision, check_step_size
from ddlib.gan.convolutions import convolve, double
from ddlib.gan.layers import BatchNorm, Kernel, Start
from ddlib.gan.networks import Discriminator, Generator, Networks

SLOPE = 0.1  # of the discriminator's leaky rectifiers


def sngan_networks(
    *,
    size: int = 32,
    width: float = 1,
    latents: int = 128,
    channels: int = 3,
    spectral_norm: bool = True,
    initial_scale: float = 1,
) -> Networks:
    """Both networks; arguments and errors are those of `generator` and `discriminator`.

    >>> sngan_networks(size=16, width=0.125).theta.shape
    (16, 16, 3)
    """
    return Networks(
        discriminator(
            size=size,
            width=width,
            channels=channels,
            spectral_norm=spectral_norm,
            initial_scale=initial_scale,
        ),
        generator(
            size=size, width=width, latents=latents, channels=channels, initial_scale=initial_scale
        ),
    )


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
        return _Generator(size, wide, latents, channels, Start(key, initial_scale))

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
        return _Discriminator(size, wide, channels, spectral_norm, Start(key, initial_scale))

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


class _Generator(nnx.Module):
    def __init__(
        self,
        size: int,
        wide: Callable[[int], int],
        latents: int,
        channels: int,
        start: Start,
    ):
        self.base, self.top = size // 8, wide(512)
        self.layer_0 = Kernel((latents, self.base**2 * self.top), start)
        widths = [self.top, wide(256), wide(128), wide(64)]
        for i in range(3):
            kernel = Kernel((4, 4, widths[i], widths[i + 1]), start, bias=False)
            setattr(self, f"layer_{i + 1}", kernel)
            setattr(self, f"norm_{i + 1}", BatchNorm(widths[i + 1]))
        self.layer_4 = Kernel((3, 3, widths[-1], channels), start)

    def __call__(self, z: Array, train: bool) -> Array:
        x = self.layer_0(z @ self.layer_0.kernel[...])
        x = x.reshape(-1, self.base, self.base, self.top)
        for i in (1, 2, 3):
            x = double(x, getattr(self, f"layer_{i}").kernel[...])
            x = jax.nn.relu(getattr(self, f"norm_{i}")(x, train))
        return jnp.tanh(self.layer_4(convolve(x, self.layer_4.kernel[...])))


class _Discriminator(nnx.Module):
    def __init__(
        self,
        size: int,
        wide: Callable[[int], int],
        channels: int,
        spectral: bool,
        start: Start,
    ):
        last = channels
        for i, base in enumerate((64, 64, 128, 128, 256, 256, 512)):
            shape = (3 + i % 2, 3 + i % 2, last, wide(base))
            setattr(self, f"layer_{i}", Kernel(shape, start, spectral=spectral))
            last = wide(base)
        self.layer_7 = Kernel(((size // 8) ** 2 * last, 1), start, spectral=spectral)

    def __call__(self, x: Array) -> Array:
        for i in range(7):
            layer = getattr(self, f"layer_{i}")
            x = layer(convolve(x, layer.normalised(), stride=1 + i % 2))
            x = jnp.where(x > 0, x, SLOPE * x)
        x = x.reshape(x.shape[0], -1)
        return self.layer_7(x @ self.layer_7.normalised())[:, 0]

    def refresh(self) -> None:
        for i in range(8):
            layer = getattr(self, f"layer_{i}")
            if layer.spectral:
                layer.left[...] = layer.power_step()[2]
