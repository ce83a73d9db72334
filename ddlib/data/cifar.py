"""CIFAR-10: the binary original, and the same images re-encoded as JPEG, sorted by class."""

import io
import zipfile
import zlib
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ddlib.data import files, sources
from ddlib.data.archives import members
from ddlib.data.dataset import Images, Labels, Raw
from ddlib.data.files import File, Folder
from ddlib.data.images import decode_all

# The unpacked folder would not do: no digests of the files inside are published.
ORIGINAL = dict.fromkeys(
    ("train", "test"),
    (File("cifar-10-binary.tar.gz", 170_052_171, "md5:c32a1d4ab5d03f1284b67883e8d87530"),),
)
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
JPEG = dict.fromkeys(
    ("train", "test"),
    (
        File(
            "cifar10-jpeg.tar.xz",
            18_546_972,
            "64e1bc0d3de2f6564a65e9ac41527fb4b4f2e8587c343f9fcd23fcb5ba930b86",
        ),
    ),
)


def read(split: str, data_dir: Folder, seed: int) -> Raw:
    """Return a split of the original, whatever the seed."""
    payloads, source = sources.obtain(
        "cifar10", ORIGINAL, split, data_dir, files.cache("cifar10"), MIRRORS
    )
    [(name, payload)] = payloads.items()
    images, labels = cifar_archive(payload, name, split)
    return Raw(images, labels, 255.0, sources.checksum(ORIGINAL), source)


def fingerprint(data_dir: Folder) -> str:
    """Return the checksum of the original, or "absent"; asks no network."""
    return sources.at_hand("cifar10", ORIGINAL, data_dir, files.cache("cifar10"))


def read_jpeg(split: str, data_dir: Folder, seed: int) -> Raw:
    """Return a split of the images that were re-encoded, whatever the seed."""
    cache = files.cache("cifar10-jpeg")
    payloads, source = sources.obtain("cifar10-jpeg", JPEG, split, data_dir, cache)
    [(name, payload)] = payloads.items()
    digest = sources.checksum(JPEG)
    images, labels = class_archive(payload, name, split, digest, cache)
    return Raw(images, labels, 255.0, digest, source)


def fingerprint_jpeg(data_dir: Folder) -> str:
    """Return the checksum of the images that were re-encoded, or "absent"."""
    return sources.at_hand("cifar10-jpeg", JPEG, data_dir, files.cache("cifar10-jpeg"))


def parse_cifar(payload: bytes, where: str) -> tuple[Images, Labels]:
    """Parse records of one label and 3×32×32 channel-first pixels, a byte each."""
    if not payload or len(payload) % 3073:
        raise ValueError(f"{where} has {len(payload)} bytes: a multiple of 3073 would do")
    records = np.frombuffer(payload, np.uint8).reshape(-1, 3073)
    labels, pixels = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    if labels.max() > 9:
        raise ValueError(f"{where} holds the label {labels.max()}: 0 to 9 would do")
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels


def cifar_archive(payload: bytes, where: str, split: str) -> tuple[Images, Labels]:
    """Read one split out of the archive of the binary original."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    wanted = [f"cifar-10-batches-bin/{name}" for name in names]
    parsed = {
        name: parse_cifar(content, name)
        for name, content in members(payload, where, largest=10_000 * 3073, total=200 << 20)
        if name in wanted
    }
    missing = [name for name in wanted if name not in parsed]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    images, labels = zip(*(parsed[name] for name in wanted), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def class_archive(
    payload: bytes, where: str, split: str, digest: str, cache: Path
) -> tuple[Images, Labels]:
    """Read one split out of an archive of ``<split>/<class>/<image>``, decoded once.

    Labels count the classes in alphabetical order, images come in that of their paths. What was
    decoded is kept in the cache with the archive's digest, for it takes ten seconds.
    """
    decoded = f"{digest[:16]}.npz"
    try:
        with (
            open(cache / decoded, "rb") as stream,  # np.load leaves what it can't read open
            np.load(stream, allow_pickle=False) as arrays,
        ):
            if str(arrays["archive"]) == digest:
                return arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        pass  # none yet, or not whole: the zip format's own checksums and flags tell
    fresh: dict[str, Any] = _decode_class_archive(payload, where)
    buffer = io.BytesIO()
    np.savez(buffer, archive=digest, **fresh)
    files.keep(cache, {decoded: buffer.getbuffer()})
    return fresh[f"{split}_images"], fresh[f"{split}_labels"]


def _decode_class_archive(payload: bytes, where: str) -> dict[str, np.ndarray]:
    listed = sorted(members(payload, where, largest=1 << 20, total=256 << 20), key=itemgetter(0))
    for name, _ in listed:
        if name.count("/") != 2 or not name.startswith(("train/", "test/")):
            raise ValueError(f"{where} holds {name!r}: train/<class>/ or test/<class>/ would do")
    classes = sorted({name.split("/")[1] for name, _ in listed})
    arrays = {}
    for split in ("train", "test"):
        part = [file for file in listed if file[0].startswith(f"{split}/")]
        if not part:
            raise ValueError(f"{where} has no images under {split}/")
        labels = [classes.index(name.split("/")[1]) for name, _ in part]
        arrays[f"{split}_images"] = decode_all(part)
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    return arrays
