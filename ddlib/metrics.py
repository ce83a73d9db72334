"""Scores of generated images: the Inception score and the Fréchet distance, each with its scorer.

The formulas are functions of class probabilities and of features alone. These come from a `Scorer`:
a classifier with a name. A score means nothing without that name, so statistics and scores carry
it, and statistics of two scorers are refused. `cifar_scorer` is a small network that ships with
ddlib; `inception_scorer` is the usual Inception-v3.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.resources
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ddlib import _scorer
from ddlib._check import check_count
from ddlib.data import files, sources

# Which file is shipped: another one of the same name is refused.
_SHIPPED = "cifar10_jpeg.safetensors"
_SHIPPED_SHA256 = "5471c83f3172484888d18ff52887c1cc89b3e0d9f54eddaf4010099f51c74967"

# Keras's file for ImageNet, with the md5 that its source publishes.
_INCEPTION = files.File(
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    96_112_376,
    "md5:9a0d58056eeedaa3f26cb7ebd46da564",
)
_INCEPTION_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/",
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.5/",
)

Classify = Callable[[Any], tuple[np.ndarray, np.ndarray]]


class InceptionScore(NamedTuple):
    """Mean over the splits, and their standard deviation (0 for one split)."""

    mean: float
    std: float


class Statistics(NamedTuple):
    """Mean and covariance of features, of how many images, and by which scorer (None: unnamed)."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    num_images: int
    scorer: str | None = None


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


class Scores(NamedTuple):
    """What one scorer says of one set of images.

    The Fréchet distance of the same generator shrinks as either number of images grows: compare at
    equal numbers, and with one scorer.
    """

    scorer: str
    inception_score: float
    frechet_distance: float
    num_images: int
    num_reference: int


# --------------------------------------------------------------------------------------- formulas


def inception_score(
    probabilities: Float[np.ndarray, "n classes"], num_splits: int = 1
) -> InceptionScore:
    """The exponential of the mean divergence KL(p(y|x) ‖ p(y)), with p(y) the mean over the images.

    Salimans et al. (2016), arXiv:1606.03498, Section 4. From 1 (all images alike to the classifier)
    to the number of classes (certain of each image, all classes equally frequent). With few images
    it is biased towards 1.

    Args:
      probabilities: one row an image; rows are normalised to sum to exactly 1.
      num_splits: into how many equal parts, in the given order, the images are cut; each has its
        own p(y). 10 in the paper.

    Raises:
      ValueError: another shape, no images, entries that are not finite or negative, rows whose sum
        is not 1 within 1e-3, a number of splits that does not divide n.

    >>> inception_score(np.eye(4)).mean  # four images, each certainly of its own class
    4.0...
    >>> inception_score(np.full((6, 4), 0.25), num_splits=2)
    InceptionScore(mean=1.0, std=0.0)
    """
    p = _matrix("probabilities", probabilities)
    n, classes = p.shape
    check_count("num_splits", num_splits)
    if num_splits > n or n % num_splits:
        raise ValueError(f"num_splits must divide the number of images, {n}, got {num_splits}")
    sums = p.sum(1)
    if (p < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        worst = np.argmax(np.where(p.min(1) < 0, np.inf, np.abs(sums - 1)))
        raise ValueError(
            "probabilities must be rows that are not negative and sum to 1, got row "
            f"{worst} with least entry {p[worst].min():.3g} and sum {sums[worst]:.6g}"
        )
    parts = (p / sums[:, np.newaxis]).reshape(num_splits, -1, classes)
    divergence = _entropy(parts.mean(1)) - _entropy(parts).mean(1)
    scores = np.exp(np.maximum(divergence, 0))  # below 0 by rounding alone
    return InceptionScore(float(scores.mean()), float(scores.std()))


def feature_statistics(features: Float[np.ndarray, "n d"], scorer: str | None = None) -> Statistics:
    """Mean and unbiased covariance of features, in float64.

    Args:
      features: one row an image. With n ≤ d the covariance is singular, and Fréchet distances to it
        say more about n than about the images.
      scorer: the name of the scorer that they come from.

    Raises:
      ValueError: another shape, fewer than two images, features that are not finite.

    >>> feature_statistics(np.array([[0.0, 0.0], [2.0, 0.0]])).covariance.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    x = _matrix("features", features)
    if len(x) < 2:
        raise ValueError("features must be of at least 2 images: one has no covariance")
    mean = x.mean(0)
    x = x - mean
    return Statistics(mean, x.T @ x / (len(x) - 1), len(x), scorer)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """The squared Fréchet distance of two Gaussians, ‖μ−ν‖² + tr(A + B − 2(A^½ B A^½)^½).

    Heusel et al. (2017), arXiv:1706.08500, Eq. 6, who call it FID where the features are those of
    Inception. It is computed as ‖μ−ν‖² + ‖A^½ − B^½U‖² with the orthogonal U that brings the two
    roots closest: a sum of squares, so it is never negative, and 0 for equal statistics to the
    square of rounding.

    Args:
      a, b: statistics of the same scorer.

    Raises:
      ValueError: statistics of different scorers (a name and none are different too), of different
        or wrong shapes, not finite, a covariance that is not symmetric or has negative eigenvalues.

    >>> a = Statistics(np.zeros(2), np.diag([1.0, 4.0]), 100)
    >>> b = Statistics(np.array([3.0, 0.0]), np.diag([4.0, 4.0]), 100)
    >>> frechet_distance(a, b)  # 3² + (1 − 2)² + (2 − 2)²
    10.0
    """
    if a.scorer != b.scorer:
        raise ValueError(
            f"a and b come from different scorers, {a.scorer!r} and {b.scorer!r}: their distance "
            "means nothing"
        )
    (mu, first), (nu, second) = _gaussian("a", a), _gaussian("b", b)
    if mu.shape != nu.shape:
        raise ValueError(f"a and b differ in their features: {len(mu)} and {len(nu)} of them")
    left, _, right = np.linalg.svd(second @ first)
    apart = first - second @ (left @ right)
    return float(((mu - nu) ** 2).sum() + (apart**2).sum())


def _matrix(name: str, values: Any) -> np.ndarray:
    x = np.asarray(values)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must be a matrix with one row for each image, got {x.shape}")
    if not _is_real(x):
        raise ValueError(f"{name} must be real numbers, got {x.dtype}")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x).all(1)).sum())
        raise ValueError(f"{name} must be finite; {bad} of {len(x)} rows are not")
    return x


def _is_real(x: np.ndarray) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.kind in "iu"  # bfloat16 is of kind V


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


def _gaussian(name: str, given: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the symmetric root of the covariance."""
    parts = np.asarray(given.mean), np.asarray(given.covariance)
    if not all(map(_is_real, parts)):
        types = " and ".join(str(x.dtype) for x in parts)
        raise ValueError(f"{name} must have a mean and a covariance of real numbers, got {types}")
    mean, covariance = (x.astype(np.float64) for x in parts)
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(
            f"{name} must have a mean of shape (d,) and a covariance of shape (d, d), got "
            f"{mean.shape} and {covariance.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{name} must be finite")
    scale = np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > 1e-6 * scale:
        raise ValueError(f"{name} has a covariance that is not symmetric")
    values, vectors = np.linalg.eigh(covariance)
    if (values < -1e-6 * scale).any():
        raise ValueError(f"{name} has a covariance with the negative eigenvalue {values[0]:.3g}")
    # What is 0 but for rounding is made 0: its root would be as large as the root of rounding.
    rounding = len(values) * np.finfo(float).eps * scale
    return mean, (vectors * np.sqrt(np.where(values > rounding, values, 0))) @ vectors.T


# ---------------------------------------------------------------------------------------- scoring


def image_statistics(scorer: Scorer, images: Float[np.ndarray, "n h w 3"]) -> Statistics:
    """Statistics of the scorer's features of images, with its name: what `score` compares with.

    Compute those of the real images once.

    Raises:
      ValueError: fewer than two images, or images that `score` refuses.

    >>> image_statistics(cifar_scorer(), np.full((2, 32, 32, 3), 0.5)).scorer
    'cifar10-jpeg-5471c83f'
    """
    return feature_statistics(scorer.classify(images)[1], scorer.name)


def score(
    scorer: Scorer,
    images: Float[np.ndarray, "n h w 3"],
    reference: Statistics,
    *,
    num_splits: int = 1,
) -> Scores:
    """Inception score of images, and their Fréchet distance from the reference.

    Args:
      scorer: `cifar_scorer()`, for one.
      images: with values in [0, 1].
      reference: `image_statistics` of real images, by the same scorer.
      num_splits: as `inception_score`.

    Raises:
      ValueError: statistics of another scorer, images that are not finite or outside [0, 1] (those
        of a generator that ends in tanh are (x + 1) / 2), or as the three formulas.

    >>> images = np.random.default_rng(0).uniform(size=(20, 16, 16, 3))
    >>> scorer = cifar_scorer()
    >>> scores = score(scorer, images[:10], image_statistics(scorer, images[10:]))
    >>> scores.scorer == scorer.name, scores.num_images, scores.num_reference
    (True, 10, 10)
    """
    if reference.scorer != scorer.name:
        raise ValueError(
            f"reference comes from the scorer {reference.scorer!r}, not from {scorer.name!r}: "
            "image_statistics(scorer, real_images) would do"
        )
    probabilities, features = scorer.classify(images)
    return Scores(
        scorer.name,
        inception_score(probabilities, num_splits).mean,
        frechet_distance(feature_statistics(features, scorer.name), reference),
        len(features),
        reference.num_images,
    )


# ---------------------------------------------------------------------------------------- scorers


@functools.cache
def cifar_scorer() -> Scorer:
    """The scorer that ships with ddlib: a small residual network trained on `cifar10-jpeg`.

    10 classes, 128 features, 24 million multiply-adds an image of 32×32; images of 16×16 are
    resized bilinearly, which it has seen in training. It is right on 86.3 % of the test images at
    32×32 and on 82.5 % at 16×16; `provenance` says so, and how it was made. Scores by it cannot be
    compared with any that a paper quotes: those are Inception's.

    Raises:
      ValueError: the shipped file is not the one that this version was released with.

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
    weights, provenance = _scorer.read(payload, Path(path).name)

    on_device = {name: jnp.asarray(value, jnp.float32) for name, value in weights.items()}
    return Scorer(
        name=f"{provenance['name']}-{digest[:8]}",
        checksum=digest,
        size=_scorer.SIZE,
        provenance=provenance,
        classify=_in_batches(functools.partial(_forward, on_device), batch_size),
    )


def inception_scorer(
    weights: str | os.PathLike[str] | None = None,
    *,
    checksum: str | None = None,
    batch_size: int = 32,
) -> Scorer:
    """Inception-v3 (Szegedy et al., 2016) trained on ImageNet, as Keras has it.

    1,000 classes, 2,048 features, 5.7 billion multiply-adds an image, 240 times `cifar_scorer`'s.
    It is not the network of 2015 that the papers' scores rest on: other weights, resized otherwise.
    Scores by it can be compared with each other, not with a published 7.5.

    It needs the extra `metrics` (Keras 3). Keras is imported here, on its JAX backend unless
    KERAS_BACKEND says otherwise or Keras is there already.

    Args:
      weights: a .h5 file of Keras's InceptionV3 with its top; None: the one of ImageNet, looked for
        in the folder that DDLIB_DATA names, then in this user's cache, then on the network.
      checksum: the sha256 that `weights` must have; None: any.
      batch_size: how many images are computed on at a time.

    Raises:
      ImportError: the extra is not installed.
      DatasetUnavailable: the weights are not at hand, and no mirror answers (a FileNotFoundError).
      ValueError: the file has another checksum, or holds another network's weights.
    """
    check_count("batch_size", batch_size)
    keras = _import_keras()
    if weights is None:
        payload, source = _imagenet_weights()
    else:
        payload, source = Path(weights).read_bytes(), "the caller's file"
    digest = hashlib.sha256(payload).hexdigest()
    if checksum is not None and digest != checksum:
        raise ValueError(f"{weights} is corrupt: sha256 {digest}, expected {checksum}")
    model = _blank_inception(keras)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "inception.h5")  # Keras reads files; this one holds what was checked
        file.write_bytes(payload)
        try:
            model.load_weights(file)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"weights are not those of Keras's InceptionV3: {error}") from error
    both = keras.Model(model.input, [model.output, model.get_layer("avg_pool").output])

    @jax.jit
    def prepared(x: Any) -> Any:
        return 2 * _resized(x, 299) - 1

    return Scorer(
        name=f"inception-v3-keras-{digest[:8]}",
        checksum=digest,
        size=299,
        provenance={"name": "inception-v3-keras", "keras": keras.__version__, "source": source},
        classify=_in_batches(lambda x: both.predict_on_batch(np.asarray(prepared(x))), batch_size),
    )


def _import_keras() -> Any:
    """Keras, on JAX where the choice is ours: it reads the variable when first imported."""
    ours = "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ
    if ours:
        os.environ["KERAS_BACKEND"] = "jax"
    try:
        return importlib.import_module("keras")
    except ModuleNotFoundError as error:
        raise ImportError(
            "inception_scorer needs Keras, the extra `metrics`: pip install 'ddlib[metrics]'"
        ) from error
    finally:
        if ours:
            del os.environ["KERAS_BACKEND"]


def _blank_inception(keras: Any) -> Any:
    """The network for images in [−1, 1], with kernels of zeros.

    A minute would go by while JAX compiles a random draw for each kernel's shape.
    """
    with keras.utils.custom_object_scope({"glorot_uniform": keras.initializers.Zeros}):
        return keras.applications.InceptionV3(weights=None)


def _imagenet_weights() -> tuple[bytes, str]:
    try:
        payloads, source = sources.obtain(
            "inception-v3",
            {"all": (_INCEPTION,)},
            "all",
            None,
            files.cache("inception-v3"),
            _INCEPTION_MIRRORS,
        )
    except sources.DatasetUnavailable as error:
        tried = str(error).partition(", or ask for a labelled stand-in")[0]  # there is none
        raise sources.DatasetUnavailable(
            f"{tried}, or give the file: inception_scorer(path). cifar_scorer() needs no network."
        ) from error
    return payloads[_INCEPTION.name], source


@jax.jit
def _forward(weights: dict[str, Any], x: Any) -> Any:
    """Of any scorer of ours: those of the same widths share what is compiled."""
    logits, features = _scorer.outputs(weights, _resized(x, _scorer.SIZE))
    return jax.nn.softmax(logits), features


def _resized(x: Any, size: int) -> Any:
    if x.shape[1:3] == (size, size):
        return x
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "bilinear")


def _in_batches(forward: Callable[[Any], Any], batch_size: int) -> Classify:
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
