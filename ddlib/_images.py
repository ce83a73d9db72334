"""Images out of bytes: tar archives, CIFAR's binary records, PNG and JPEG; and drawn ones.

Bytes that do not hold what they should raise ValueError, which names the file or the member.
"""

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps

from ddlib import _sources

Images = UInt8[np.ndarray, "n height width channels"]
Labels = UInt8[np.ndarray, " n"]


# ---------------------------------------------------------------------------------- tar archives


def members(payload: bytes, where: str, *, largest: int, total: int) -> Iterator[tuple[str, bytes]]:
    """Read the files of a tar archive in memory, in its order; no path of it is ever written to.

    Args:
        payload: the archive: tar, or tar.gz or tar.xz by the ending of ``where``.
        where: the archive's name.
        largest: how many bytes a member may have.
        total: how many bytes the whole may unpack to.

    Raises:
        ValueError: the archive is not whole; or it holds what no honest archive of data needs (a
            path that leads out of its folder, a link, a device, more bytes than announced here):
            the message names the member.
    """
    unpacked: Any = io.BytesIO(payload)
    if where.endswith(".gz"):
        unpacked = gzip.open(unpacked)
    elif where.endswith(".xz"):
        unpacked = lzma.open(unpacked)
    # tarfile reads some headers whole, however long they say they are: the stream is bounded too.
    stream: Any = _sources.Bounded(unpacked, total, where)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                path = PureWindowsPath(member.name)  # splits at both slashes, knows drives
                held = f"{where} holds {member.name!r}"
                if path.anchor or ".." in path.parts:
                    raise ValueError(f"{held}: only paths inside the archive would do")
                if member.isdir():
                    continue
                if not member.isfile() or member.issparse():
                    raise ValueError(f"{held}, which is no plain file")
                if member.size > largest:
                    raise ValueError(f"{held} of {member.size} bytes: at most {largest} would do")
                if member.offset_data + member.size > total:
                    raise ValueError(f"{held}, with which it unpacks to more than {total} bytes")
                content = tar.extractfile(member)
                assert content is not None  # it is a plain file
                yield member.name, content.read()
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        zlib.error,
        lzma.LZMAError,
        RecursionError,  # tarfile follows a chain of headers that way
    ) as error:
        raise ValueError(f"{where} is not a whole archive: {error}") from error


# ------------------------------------------------------------------------ CIFAR's binary records


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


# ---------------------------------------------------------------------------------- PNG and JPEG


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode(payload: bytes, where: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a PNG or JPEG the right way up, as its EXIF has it.

    Grey becomes three equal channels, CMYK is converted, transparency is dropped and colour
    profiles are not looked at. Of a JPEG with more pictures (a camera's previews) it is the first.

    Raises:
        ValueError: the bytes are no whole image, it has more than 8 bits a channel, it moves, or
            has colours that its palette lacks.
    """
    depth = 8
    if payload.startswith(_SIGNATURE) and len(payload) > 24:
        depth = payload[24]  # Pillow drops half of 16 bits in silence, but for grey
    unknown = frames = 0
    try:
        with Image.open(io.BytesIO(payload), formats=("PNG", "JPEG")) as image:
            mode = image.mode
            if image.format == "PNG":
                frames = getattr(image, "n_frames", 1)
            if image.mode == "P" and image.palette is not None:
                used = np.unique(np.asarray(image))
                unknown = int(np.count_nonzero(used >= len(image.palette.palette) // 3))
            upright = ImageOps.exif_transpose(image)
            # The detour spares a palette with transparency a warning about what is lost.
            opaque = upright.convert("RGBA") if upright.has_transparency_data else upright
            pixels = np.asarray(opaque.convert("RGB"))
    except Exception as error:  # on damaged bytes the decoders fail in every way there is
        raise ValueError(f"{where} is no readable PNG or JPEG ({type(error).__name__})") from error
    if mode[0] in "IF" or depth > 8:
        what = mode if mode[0] in "IF" else f"{mode} with {depth} bits"
        raise ValueError(f"{where} has pixels of type {what}: 8 bits a channel would do")
    if frames > 1:
        raise ValueError(f"{where} is an animation of {frames} pictures: a single one would do")
    if unknown:
        raise ValueError(f"{where} has {unknown} colours that its palette lacks")
    return pixels


def decode_all(files: Iterable[tuple[str, bytes]]) -> Images:
    """Decode named PNGs and JPEGs, which must be of one size."""
    images: list[np.ndarray] = []
    for where, payload in files:
        pixels = decode(payload, where)
        if images and pixels.shape != images[0].shape:
            (height, width), (others_height, others_width) = pixels.shape[:2], images[0].shape[:2]
            raise ValueError(
                f"{where} is {width}×{height}, those before it {others_width}×{others_height}: "
                "images of one size would do"
            )
        images.append(pixels)
    return np.stack(images)


def class_folders(root: Path) -> list[tuple[Path, int]]:
    """List the images of a folder that has one subfolder for each class, with their labels."""
    if not root.is_dir():
        raise ValueError(f"path is {str(root)!r}: there is no such folder")
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir() and _visible(entry))
    if not classes:
        raise ValueError(f"path is {str(root)!r}: a folder with one subfolder a class would do")
    files = []
    for label, folder in enumerate(classes):
        images = sorted(
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in (".png", ".jpg", ".jpeg")
            and entry.is_file()
            and _visible(entry)
        )
        if not images:
            raise ValueError(f"{folder} holds no PNG or JPEG: each subfolder of path is a class")
        files += [(image, label) for image in images]
    return files


def _visible(entry: Path) -> bool:
    return not entry.name.startswith(".")


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
    _sources.keep(cache, {decoded: buffer.getbuffer()})
    return fresh[f"{split}_images"], fresh[f"{split}_labels"]


def _decode_class_archive(payload: bytes, where: str) -> dict[str, np.ndarray]:
    files = sorted(members(payload, where, largest=1 << 20, total=256 << 20), key=itemgetter(0))
    for name, _ in files:
        if name.count("/") != 2 or not name.startswith(("train/", "test/")):
            raise ValueError(f"{where} holds {name!r}: train/<class>/ or test/<class>/ would do")
    classes = sorted({name.split("/")[1] for name, _ in files})
    arrays = {}
    for split in ("train", "test"):
        part = [file for file in files if file[0].startswith(f"{split}/")]
        if not part:
            raise ValueError(f"{where} has no images under {split}/")
        labels = [classes.index(name.split("/")[1]) for name, _ in part]
        arrays[f"{split}_images"] = decode_all(part)
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    return arrays


# ---------------------------------------------------------------------------------- drawn images

SHAPES = (
    "disc", "ring", "square", "triangle", "cross", "dome", "pair", "stripes", "checks", "target",
)  # fmt: skip


def draw_shapes(seed: int, per_class: int) -> tuple[Images, Labels]:
    """Draw 32×32 images of ten classes that differ in form, not in colour, place, size or angle.

    By arithmetic and square roots only, which IEEE 754 rounds alike everywhere: the same seed gives
    the same bits on every machine.
    """
    rng = np.random.default_rng(seed)
    images = np.concatenate([_draw(rng, name, per_class) for name in SHAPES])
    labels = np.repeat(np.arange(len(SHAPES), dtype=np.uint8), per_class)
    order = rng.permutation(len(labels))
    return images[order], labels[order]


def _draw(rng: np.random.Generator, name: str, n: int) -> Images:
    def uniform(low: float, high: float, *shape: int) -> Float32[np.ndarray, "n ..."]:
        return (low + (high - low) * rng.random((n, *shape))).astype(np.float32)

    # Coordinates in units of the radius, in a frame that is moved and turned.
    radius = uniform(6, 11, 1, 1)
    pixel = np.arange(32, dtype=np.float32)
    x, y = pixel - uniform(10, 21, 1, 1), pixel[:, np.newaxis] - uniform(10, 21, 1, 1)
    across, along = uniform(-1, 1, 1, 1), uniform(-1, 1, 1, 1)
    length = np.sqrt(across * across + along * along) * radius
    u, v = (x * across + y * along) / length, (y * across - x * along) / length
    inside = np.clip(_depth(name, u, v) * radius + 0.5, 0, 1)[..., np.newaxis]  # smooth edges

    ground = uniform(0, 1, 1, 1, 3)
    figure = (ground + uniform(0.25, 0.75, 1, 1, 3)) % 1  # a contrast in every channel
    noise = uniform(-0.2, 0.2, 32, 32, 3)
    pixels = ground + (figure - ground) * inside + noise
    return (np.clip(pixels, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def _depth(
    name: str, u: Float32[np.ndarray, "n 32 32"], v: Float32[np.ndarray, "n 32 32"]
) -> Float32[np.ndarray, "n 32 32"]:
    """Tell how deep inside the figure a point lies, about the distance to its edge."""
    distance = np.sqrt(u * u + v * v)

    def wave(t: np.ndarray) -> np.ndarray:  # period 0.8, slope ±1, in [-0.2, 0.2]
        return np.abs(t - np.float32(0.8) * np.floor(t / np.float32(0.8)) - np.float32(0.4)) - 0.2

    match name:
        case "disc":
            return 0.9 - distance
        case "ring":
            return 0.2 - np.abs(distance - 0.75)
        case "square":
            return 0.8 - np.maximum(np.abs(u), np.abs(v))
        case "triangle":
            return 0.55 - np.maximum(v, 0.866 * np.abs(u) - 0.5 * v)
        case "cross":
            u, v = np.abs(u), np.abs(v)
            return np.minimum(0.25 - np.minimum(u, v), 0.95 - np.maximum(u, v))
        case "dome":
            return np.minimum(1 - distance, v + 0.2)
        case "pair":
            u = np.abs(u) - 0.6
            return 0.4 - np.sqrt(u * u + v * v)
        case "stripes":
            return wave(u)
        case "checks":
            return 5 * wave(u) * wave(v)
        case _:  # target
            return wave(distance)
