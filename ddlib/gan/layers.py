"""Layers of the SN-GAN networks: kernels, spectrally normalised or not, and batch norm."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from ddlib.frozen import hold

DECAY = 0.999  # of the generator's running statistics


class _SpectralVector(nnx.Variable):
    pass


class Start:
    """How the kernels of one network start."""

    def __init__(self, key: Array, scale: float):
        self.rngs, self.scale = nnx.Rngs(key), scale

    def kernel(self, shape: tuple[int, ...]) -> Array:
        """Truncated normal numbers, scale/√fan-in before they are cut."""
        std = self.scale * math.prod(shape[:-1]) ** -0.5
        return std * jax.random.truncated_normal(self.rngs.params(), -2, 2, shape)

    def vector(self, size: int) -> Array:
        """A direction."""
        return _unit(jax.random.normal(self.rngs.params(), (size,)))


class Kernel(nnx.Module):
    """A kernel, last axis the outputs; a bias; the power iteration's vector."""

    def __init__(
        self, shape: tuple[int, ...], start: Start, *, bias: bool = True, spectral: bool = False
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
        """x, the product with the kernel, and the bias."""
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


class BatchNorm(nnx.Module):
    """Batch norm whose running statistics weigh what has been, and nothing that has not."""

    def __init__(self, size: int):
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))
        self.mean = nnx.BatchStat(jnp.zeros(size))
        self.var = nnx.BatchStat(jnp.zeros(size))
        self.weight = nnx.BatchStat(jnp.zeros(()))  # of all batches so far: 1 − decayᵗ

    def __call__(self, x: Array, train: bool) -> Array:
        """x normalised: by its own statistics in training, else by the running ones."""
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
