"""Digits, Iris and breast cancer: small real datasets, from files that scikit-learn ships.

They have no splits of their own: ``"all"`` is everything in the file's order, and a seed draws a
fifth of it for ``"test"``.
"""

import functools
import hashlib
import importlib.util

import numpy as np

from ddlib.data.dataset import Labels, Raw
from ddlib.data.extras import needing
from ddlib.data.files import Folder

# Of the arrays, labels as bytes; published here so that scikit-learn, which takes a second to
# import, need not be asked.
CHECKSUMS = {
    "digits": "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826",
    "iris": "b6ae2f075937fb96b4d06f56b6b12a23dcf0db8d27f41824f0fa7ca6e8559b4c",
    "breast-cancer": "3a54a12ffd3db348fbe319a9056329cde28da5b2e5ecc26ff7fb9f54aa7cc9f4",
}
_TEST = {"digits": 360, "iris": 30, "breast-cancer": 114}


def read(name: str, split: str, data_dir: Folder, seed: int) -> Raw:
    """Return a split of one of them; ValueError where scikit-learn ships another."""
    inputs, labels = _whole(name)
    checksum = hashlib.sha256(inputs.tobytes() + labels.tobytes()).hexdigest()
    if checksum != CHECKSUMS[name]:
        raise ValueError(
            f"{name} must have the checksum {CHECKSUMS[name]}, got {checksum} from scikit-learn; "
            "another version of it ships other numbers"
        )
    if split != "all":
        order = np.random.default_rng(seed).permutation(len(labels))
        chosen = order[: _TEST[name]] if split == "test" else order[_TEST[name] :]
        inputs, labels = inputs[chosen], labels[chosen]
    return Raw(inputs, labels, 16.0 if name == "digits" else None, checksum, "scikit-learn")


def fingerprint(name: str, data_dir: Folder) -> str:
    """Return the checksum, or "absent" where there is no scikit-learn."""
    return CHECKSUMS[name] if importlib.util.find_spec("sklearn") else "absent"


@functools.cache  # splits are asked for in turn
def _whole(name: str) -> tuple[np.ndarray, Labels]:
    with needing("data"):
        from sklearn import datasets
    if name == "digits":
        bunch = datasets.load_digits()
        inputs = bunch.images.astype(np.uint8)[..., np.newaxis]
    else:
        bunch = datasets.load_iris() if name == "iris" else datasets.load_breast_cancer()
        inputs = bunch.data.astype("<f8")
    return inputs, bunch.target.astype(np.uint8)
