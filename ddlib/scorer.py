"""The small classifier behind `ddlib.metrics.cifar_scorer`: how it is trained, folded and kept.

A residual network for 32×32 images, narrow, with its first convolution at stride 2: 24 million
multiply-adds an image. It is trained with batch norm; what is kept has the norm folded into its
kernels and biases, so that inference is convolutions and an activation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddlib.files import replacing

SIZE = 32  # pixels a side
WIDTHS = (32, 96, 128)  # channels at 16×16, 8×8 and 4×4
CLASSES = 10
FORMAT = "ddlib scorer 1"
_DOWN = re.compile(r"down_\d+\.kernel")  # one for each stage
_EPSILON = 1e-5  # batch norm's
_MOMENTUM = 0.9  # of its running statistics

Weights = dict[str, Array]


class Layer(NamedTuple):
    """A convolution, followed by its norm or bias and the activation."""

    size: int  # of the kernel; the padding is (size − stride + 1) // 2 on each side
    stride: int
    inputs: int
    outputs: int


def layers(widths: tuple[int, ...] = WIDTHS) -> dict[str, Layer]:
    """The convolutions in the order in which data pass them.

    >>> sum(9 * x.inputs * x.outputs for x in layers().values() if x.size == 3)  # of 3×3
    617472
    """
    found = {}
    last = 3
    for i, width in enumerate(widths):
        found[f"down_{i}"] = Layer(4 if i == 0 else 3, 2, last, width)
        found[f"block_{i}.first"] = Layer(3, 1, width, width)
        found[f"block_{i}.second"] = Layer(3, 1, width, width)
        last = width
    return found


def start(key: Array, widths: tuple[int, ...] = WIDTHS) -> tuple[Weights, Weights]:
    """Draw the parameters, and the running statistics before any data.

    Kernels are normal with variance 2 / fan-in, batch norm's scales 1, the linear map zero.
    """
    params: Weights = {}
    state: Weights = {}
    sizes = [x.size**2 * x.inputs * x.outputs for x in layers(widths).values()]
    # one draw for all of them: a draw takes most of a second to compile
    drawn = np.split(
        np.asarray(jax.random.normal(key, (sum(sizes),), jnp.float32)), np.cumsum(sizes)
    )
    for (name, layer), draw in zip(layers(widths).items(), drawn[:-1], strict=True):
        kernel = draw.reshape(layer.size, layer.size, layer.inputs, layer.outputs)
        params[f"{name}.kernel"] = jnp.asarray(kernel * (2 / kernel[..., 0].size) ** 0.5)
        params[f"{name}.scale"] = jnp.ones(layer.outputs, jnp.float32)
        params[f"{name}.bias"] = jnp.zeros(layer.outputs, jnp.float32)
        state[f"{name}.mean"] = jnp.zeros(layer.outputs, jnp.float32)
        state[f"{name}.variance"] = jnp.ones(layer.outputs, jnp.float32)
    params["linear.kernel"] = jnp.zeros((widths[-1], CLASSES), jnp.float32)
    params["linear.bias"] = jnp.zeros(CLASSES, jnp.float32)
    return params, state


def train_logits(
    params: Weights, state: Weights, x: Float[Array, "n 32 32 3"]
) -> tuple[Float[Array, "n classes"], Weights]:
    """Logits with the batch's own statistics, and the running ones moved a tenth towards them."""
    moved = dict(state)

    def norm(name: str, x: Array) -> Array:
        mean = x.mean((0, 1, 2))
        variance = jnp.square(x - mean).mean((0, 1, 2))
        for kind, value in (("mean", mean), ("variance", variance)):
            running = state[f"{name}.{kind}"]
            moved[f"{name}.{kind}"] = _MOMENTUM * running + (1 - _MOMENTUM) * value
        factor = params[f"{name}.scale"] * jax.lax.rsqrt(variance + _EPSILON)
        return (x - mean) * factor + params[f"{name}.bias"]

    return _outputs(params, x, norm)[0], moved


def fold(params: Weights, state: Weights) -> dict[str, np.ndarray]:
    """The network at rest, batch norm in its kernels and biases, as float16 for the file."""
    held = {name: np.asarray(value) for name, value in {**params, **state}.items()}
    folded = {name: held[name] for name in ("linear.kernel", "linear.bias")}
    for name in (name.removesuffix(".scale") for name in params if name.endswith(".scale")):
        factor = held[f"{name}.scale"] / np.sqrt(held[f"{name}.variance"] + _EPSILON)
        folded[f"{name}.kernel"] = held[f"{name}.kernel"] * factor
        folded[f"{name}.bias"] = held[f"{name}.bias"] - held[f"{name}.mean"] * factor
    return {name: value.astype(np.float16) for name, value in sorted(folded.items())}


def outputs(
    weights: Weights, x: Float[Array, "n 32 32 3"]
) -> tuple[Float[Array, "n classes"], Float[Array, "n features"]]:
    """Logits and features of a folded network."""
    return _outputs(weights, x, lambda name, x: x + weights[f"{name}.bias"])


def _outputs(
    weights: Weights, x: Array, finish: Callable[[str, Array], Array]
) -> tuple[Array, Array]:
    def convolve(name: str, x: Array, stride: int = 1) -> Array:
        kernel = weights[f"{name}.kernel"]
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return jax.nn.gelu(finish(name, x))

    x = 4 * x - 2  # [0, 1] to a mean near 0 and a deviation near 1
    for i in range(sum(_DOWN.fullmatch(name) is not None for name in weights)):
        x = convolve(f"down_{i}", x, 2)
        x = x + convolve(f"block_{i}.second", convolve(f"block_{i}.first", x))
    features = x.mean((1, 2))
    return features @ weights["linear.kernel"] + weights["linear.bias"], features


def write(
    path: str | os.PathLike[str], weights: Mapping[str, np.ndarray], provenance: Mapping[str, Any]
) -> None:
    """Write a folded network and where it came from as one safetensors file, atomically.

    `provenance` has at least `name`, the scorer's. The same content gives the same bytes.
    """
    import safetensors.numpy

    record = json.dumps({"format": FORMAT, **provenance}, sort_keys=True, allow_nan=False)
    payload = safetensors.numpy.save(dict(sorted(weights.items())), {"ddlib": record})
    with replacing(path) as temporary:
        temporary.write_bytes(payload)


def read(payload: bytes, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the weights and the provenance of a file that `write` wrote; else ValueError."""
    import safetensors.numpy

    try:
        weights = safetensors.numpy.load(payload)
        length = int.from_bytes(payload[:8], "little")
        provenance = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["ddlib"])
        if provenance.pop("format") != FORMAT or not isinstance(provenance["name"], str):
            raise ValueError("it has another format")
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} is no scorer's file: {error}") from error
    found = {name: value.shape for name, value in weights.items()}
    widths = tuple(
        found[name][-1] for name in sorted(found) if _DOWN.fullmatch(name) and found[name]
    )
    wanted = _shapes(widths)
    if not widths or found != wanted:
        names = sorted({name for name, _ in wanted.items() ^ found.items()})
        raise ValueError(f"{where} does not hold the scorer's network: {', '.join(names[:3])}")
    if bad := [name for name, value in weights.items() if not np.isfinite(value).all()]:
        raise ValueError(f"{where} has weights that are not finite: {', '.join(bad)}")
    return weights, provenance


def _shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """What a folded network holds."""
    found: dict[str, tuple[int, ...]] = {"linear.bias": (CLASSES,)}
    for name, layer in layers(widths).items():
        found[f"{name}.kernel"] = (layer.size, layer.size, layer.inputs, layer.outputs)
        found[f"{name}.bias"] = (layer.outputs,)
        found["linear.kernel"] = (layer.outputs, CLASSES)
    return found
