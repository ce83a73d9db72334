"""Images of ten kinds of figures, drawn on the spot: the stand-in for CIFAR-10."""

import functools
import hashlib

import numpy as np
from jaxtyping import Float32

from ddlib.data.dataset import Images, Labels, Raw
from ddlib.data.files import Folder

# Published here so that nothing need be drawn to know it; a test holds it to what is drawn.
CHECKSUM = "27c64aa3f13c6386ef6ed2f158de5eaf5ea28797bf88cb23bb034e5f38646bf4"

FIGURES = (
    "disc", "ring", "square", "triangle", "cross", "dome", "pair", "stripes", "checks", "target",
)  # fmt: skip


def draw_shapes(seed: int, per_class: int) -> tuple[Images, Labels]:
    """Draw 32×32 images of ten classes that differ in form, not in colour, place, size or angle.

    By arithmetic and square roots only, which IEEE 754 rounds alike everywhere: the same seed gives
    the same bits on every machine.
    """
    rng = np.random.default_rng(seed)
    images = np.concatenate([_draw(rng, name, per_class) for name in FIGURES])
    labels = np.repeat(np.arange(len(FIGURES), dtype=np.uint8), per_class)
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


def read(split: str, data_dir: Folder, seed: int) -> Raw:
    """Return a split: 1,000 or 200 images of each kind, whatever the seed."""
    drawn, checksum = _all()
    images, labels = drawn[split]
    return Raw(images, labels, 255.0, checksum, "drawn")


@functools.cache  # both splits are asked for in turn
def _all() -> tuple[dict[str, tuple[Images, Labels]], str]:
    drawn = {"train": draw_shapes(0, 1000), "test": draw_shapes(1, 200)}
    checksum = hashlib.sha256()
    for images, labels in drawn.values():
        checksum.update(images.tobytes() + labels.tobytes())
    return drawn, checksum.hexdigest()


def fingerprint(data_dir: Folder) -> str:
    """Return the checksum: they are always at hand."""
    return CHECKSUM
