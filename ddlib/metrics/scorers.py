"""Scorers: classifiers with a name, whose probabilities and features scores are made of."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddlib import scorer
from ddlib._check import check_count

# Which file is shipped: another one of the same name is refused.
_SHIPPED = "cifar10_jpeg.safetensors"
_SHIPPED_SHA256 = "5471c83f3172484888d18ff52887c1cc89b3e0d9f54eddaf4010099f51c74967"

Classify = Callable[[Any], tuple[np.ndarray, np.ndarray]]


class Scorer(NamedTuple):
    """A classifier that images are scored with.

    `name` ends in the first digits of the checksum of its weights: two scorers of one name are the
    same. `size` is the number of pixels a side that it computes on. `classify` maps images of shape
    (n, height, width, 3) with values in [0, 1] to class probabilities (n, classes) and features
    (n, d), both NumPy arrays of float32; images of another size are resized bilinearly, and memory
    is bounded whatever n.
    """

    name: str
    checksum: str  # sha256 of the weights' file
    size: int
    provenance: dict[str, Any]
    classify: Classify


@functools.cache
def cifar_scorer() -> Scorer:
    """The scorer that ships with ddlib: a small residual network trained on `cifar10-jpeg`.

    10 classes, 128 features, 24 million multiply-adds an image of 32×32; images of 16×16 are
    resized bilinearly, which it has seen in training. It is right on 86.3 % of the test images at
    32×32 and on 82.5 % at 16×16; `provenance` says so, and how it was made. Scores by it cannot be
    compared with any that a paper quotes: those are Inception's.

    Raises:
      ValueError: the shipped file is not the one that this version was released with.

    >>> from ddlib.metrics import inception_score
    >>> grey = np.full((4, 16, 16, 3), 0.5)  # all alike, so the score is the least there is
    >>> probabilities, features = cifar_scorer().classify(grey)
    >>> features.shape, round(inception_score(probabilities).mean, 4)
    ((4, 128), 1.0)
    """
    shipped = importlib.resources.files("ddlib") / "scorers" / _SHIPPED
    with importlib.resources.as_file(shipped) as path:
        return load_scorer(path, checksum=_SHIPPED_SHA256)


def load_scorer(
    path: str | os.PathLike[str], *, checksum: str | None = None, batch_size: int = 100
) -> Scorer:
    """Load a scorer that `notebooks/train_scorer.py` wrote, for one of one's own data.

    Args:
      path: a safetensors file.
      checksum: the sha256 that it must have; None: any.
      batch_size: how many images are computed on at a time.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has another checksum, is no such file, or its weights are not finite.
    """
    check_count("batch_size", batch_size)
    payload = Path(path).read_bytes()
    digest = hashlib.sha256(payload).hexdigest()
    if checksum is not None and digest != checksum:
        raise ValueError(f"{Path(path).name} is corrupt: sha256 {digest}, expected {checksum}")
    weights, provenance = scorer.read(payload, Path(path).name)

    on_device = {name: jnp.asarray(value, jnp.float32) for name, value in weights.items()}
    return Scorer(
        name=f"{provenance['name']}-{digest[:8]}",
        checksum=digest,
        size=scorer.SIZE,
        provenance=provenance,
        classify=in_batches(functools.partial(_forward, on_device), batch_size),
    )


@jax.jit
def _forward(weights: dict[str, Any], x: Any) -> Any:
    """Of any scorer of ours: those of the same widths share what is compiled."""
    logits, features = scorer.outputs(weights, resized(x, scorer.SIZE))
    return jax.nn.softmax(logits), features


def resized(x: Any, size: int) -> Any:
    """Images as squares of a size, bilinearly."""
    if x.shape[1:3] == (size, size):
        return x
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "bilinear")


def in_batches(forward: Callable[[Any], Any], batch_size: int) -> Classify:
    """Classify any number of images by batches of one size: one compilation, bounded memory.

    A Python loop, since XLA:CPU takes 14 times as long for convolutions inside `lax.map`.
    """

    def classify(images: Any) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"images must be floating-point numbers in [0, 1], got {images.dtype}: of bytes, "
                "images / 255"
            )
        images = images.astype(np.float32)
        if images.ndim != 4 or 0 in images.shape or images.shape[-1] != 3:
            raise ValueError(f"images must have shape (n, height, width, 3), got {images.shape}")
        low, high = float(images.min()), float(images.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("images must be finite: this generator has diverged, perhaps")
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(f"images must have values in [0, 1], got {low:.3g} to {high:.3g}")
        found = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            rest = batch_size - len(part)  # the last batch is filled up
            full = np.concatenate([part, np.zeros((rest, *part.shape[1:]), part.dtype)])
            found.append([np.asarray(x)[: len(part)] for x in forward(full if rest else part)])
        probabilities, features = (np.concatenate(x) for x in zip(*found, strict=True))
        return probabilities, features

    return classify
