"""Scores of generated samples: Inception score, Fréchet and energy distance; and their scorers.

The formulas are functions of class probabilities and of features alone. These come from a `Scorer`:
a classifier with a name. A score means nothing without that name, so statistics and scores carry
it, and statistics of two scorers are refused. `cifar_scorer` is a small network that ships with
ddlib; `inception_scorer` is the usual Inception-v3.
"""

from ddlib.metrics.distances import (
    Statistics,
    energy_distance,
    feature_statistics,
    frechet_distance,
)
from ddlib.metrics.inception import inception_scorer
from ddlib.metrics.scorers import Classify, Scorer, cifar_scorer, load_scorer
from ddlib.metrics.scores import InceptionScore, Scores, image_statistics, inception_score, score

__all__ = [
    "Classify",
    "InceptionScore",
    "Scorer",
    "Scores",
    "Statistics",
    "cifar_scorer",
    "energy_distance",
    "feature_statistics",
    "frechet_distance",
    "image_statistics",
    "inception_score",
    "inception_scorer",
    "load_scorer",
    "score",
]
