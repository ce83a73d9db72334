"""The Inception score, and what one scorer says of one set of images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ddlib._check import check_count
from ddlib.metrics.distances import Statistics, feature_statistics, frechet_distance
from ddlib.metrics.rows import matrix
from ddlib.metrics.scorers import Scorer


class InceptionScore(NamedTuple):
    """Mean over the splits, and their standard deviation (0 for one split)."""

    mean: float
    std: float


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
    p = matrix("probabilities", probabilities)
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


def image_statistics(scorer: Scorer, images: Float[np.ndarray, "n h w 3"]) -> Statistics:
    """Statistics of the scorer's features of images, with its name: what `score` compares with.

    Compute those of the real images once.

    Raises:
      ValueError: fewer than two images, or images that `score` refuses.

    >>> from ddlib.metrics import cifar_scorer
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

    >>> from ddlib.metrics import cifar_scorer
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


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
