"""PNG and JPEG: decoded the right way up, and folders of one's own with a subfolder a class.

Bytes that do not hold what they should raise ValueError, which names the file or the member.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ddlib.data.dataset import Dataset, Images, scaled
from ddlib.data.extras import needing

_TURNS = {"exif", "xmp"}  # where a JPEG may say which way up it is
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode(payload: bytes, where: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a PNG or JPEG the right way up, as its EXIF has it.

    Grey becomes three equal channels, CMYK is converted, transparency is dropped and colour
    profiles are not looked at. Of a JPEG with more pictures (a camera's previews) it is the first.

    Raises:
        ValueError: the bytes are no whole image, it has more than 8 bits a channel, it moves, or
            has colours that its palette lacks.
    """
    with needing("data"):
        from PIL import Image, ImageOps
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
            if (image.format, mode) == ("JPEG", "RGB") and not _TURNS & image.info.keys():
                pixels = np.asarray(image)  # most of a dataset: nothing to be turned or converted
            else:
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
    listed = class_folders(root)
    checksum = hashlib.sha256()

    def payloads() -> Iterator[tuple[str, bytes]]:
        for file, _ in listed:
            payload = file.read_bytes()
            checksum.update(os.fsencode(file.relative_to(root).as_posix()))
            checksum.update(b"\0%d\0" % len(payload) + payload)
            yield str(file), payload

    images = scaled(decode_all(payloads()), 255.0)
    labels = np.array([label for _, label in listed], np.int32)
    name = root.resolve().name
    return Dataset(name, images, labels, checksum.hexdigest(), False, "image folder")
