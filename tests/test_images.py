"""Image datasets: archives honest and hostile, folders, what is drawn, normalisation."""

import gzip
import hashlib
import http.server
import io
import lzma
import os
import tarfile
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ddlib import data
from ddlib.data import archives, network, shapes
from ddlib.data import cifar as cifar10
from ddlib.data import files as kept
from ddlib.data import images as decoders

CIFAR, JPEG = "cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz"
FOLDER = Path(os.environ.get("DDLIB_DATA", "nowhere"))  # read before any fixture changes it


rng = np.random.default_rng(0)


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, payload in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return buffer.getvalue()


def encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, quality=75)
    return buffer.getvalue()


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A data folder of one's own, empty; an empty cache; no mirror."""
    monkeypatch.setattr(kept, "cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(cifar10, "MIRRORS", ())
    monkeypatch.setattr(network, "_failures", {})
    monkeypatch.setenv("DDLIB_DATA", str(tmp_path / "mine"))
    monkeypatch.delenv("DDLIB_OFFLINE", raising=False)
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def publish(monkeypatch, which: str, name: str, payload: bytes) -> bytes:
    """Let a payload be the published one."""
    md5 = f"md5:{hashlib.md5(payload).hexdigest()}"
    digest = md5 if which == "ORIGINAL" else hashlib.sha256(payload).hexdigest()
    file = kept.File(name, len(payload), digest)
    monkeypatch.setattr(cifar10, which, dict.fromkeys(("train", "test"), (file,)))
    return payload


# ------------------------------------------------------------------------- CIFAR-10, the original


class Cifar:
    """A small CIFAR-10: 7 images a batch."""

    def __init__(self) -> None:
        self.pixels = rng.integers(0, 256, (6, 7, 32, 32, 3), dtype=np.uint8)
        self.labels = rng.integers(0, 10, (6, 7), dtype=np.uint8)
        self.files = {"cifar-10-batches-bin/readme.html": b"<p>"}
        for name, pixels, labels in zip(self.names(), self.pixels, self.labels, strict=True):
            records = (
                bytes([k]) + p.transpose(2, 0, 1).tobytes()
                for p, k in zip(pixels, labels, strict=True)
            )
            self.files[name] = b"".join(records)

    def names(self) -> list[str]:
        batches = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
        return [f"cifar-10-batches-bin/{batch}" for batch in batches]

    def check(self, dataset: data.Dataset, split: str, source: str) -> None:
        batches = slice(5) if split == "train" else slice(5, 6)
        assert (dataset.name, dataset.stand_in) == ("cifar10", False) and source in dataset.source
        assert dataset.images.dtype == np.float32 and dataset.labels.dtype == np.int32
        assert dataset.images.flags.c_contiguous
        wanted = self.pixels[batches].reshape(-1, 32, 32, 3)
        np.testing.assert_array_equal(dataset.images, wanted / np.float32(255))
        np.testing.assert_array_equal(dataset.labels, self.labels[batches].ravel())


@pytest.fixture
def cifar() -> Cifar:
    return Cifar()


@pytest.mark.parametrize("layout", ["", "cifar10"])
def test_cifar10_is_read_from_the_data_folder(mine, monkeypatch, cifar, layout):
    # The archive's order is not that of the batches.
    archive = publish(
        monkeypatch, "ORIGINAL", CIFAR, tar(dict(reversed(cifar.files.items())), "w:gz")
    )
    assert data.fingerprint("cifar10") == "absent"
    (mine / layout).mkdir(exist_ok=True)
    (mine / layout / CIFAR).write_bytes(archive)
    for split in ("train", "test"):
        dataset = data.load("cifar10", split)
        cifar.check(dataset, split, "DDLIB_DATA")
        assert dataset.checksum == data.fingerprint("cifar10")
        assert dataset.checksum == f"md5:{hashlib.md5(archive).hexdigest()}"
    assert not kept.cache("cifar10").exists()


@pytest.mark.parametrize("fault", ["truncated", "one bit", "too long", "a web page"])
def test_a_bad_archive_is_named_in_the_users_folder_and_discarded_in_the_cache(
    mine, monkeypatch, cifar, fault
):
    archive = publish(monkeypatch, "ORIGINAL", CIFAR, tar(cifar.files, "w:gz"))
    bad = {
        "truncated": archive[:-1],
        "one bit": archive[:-9] + bytes([archive[-9] ^ 1]) + archive[-8:],
        "too long": archive + b"\0",
        "a web page": b"<html>Sign in to this network</html>",
    }[fault]
    kept.cache("cifar10").mkdir(parents=True)
    (kept.cache("cifar10") / CIFAR).write_bytes(bad)
    with pytest.raises(data.DatasetUnavailable, match=r"cache .* does not hold it"):
        data.load("cifar10")
    assert list(kept.cache("cifar10").iterdir()) == []
    (mine / CIFAR).write_bytes(bad)
    with pytest.raises(ValueError, match=rf"{CIFAR} is (truncated|corrupt: md5|too long)"):
        data.load("cifar10", stand_in=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_3.bin", None, "no cifar-10-batches-bin/data_batch_3.bin"),
        ("data_batch_3.bin", b"", "data_batch_3.bin has 0 bytes"),
        ("data_batch_3.bin", bytes(3072), "data_batch_3.bin has 3072 bytes: a multiple of 3073"),
        ("data_batch_3.bin", b"\x0a" * 3073, "data_batch_3.bin holds the label 10"),
        ("x", bytes(10_000 * 3073 + 1), "holds 'cifar-10-batches-bin/x' of 30730001 bytes"),
    ],
)
def test_what_is_wrong_inside_an_archive_is_said(cifar, name, content, message):
    files = cifar.files | {f"cifar-10-batches-bin/{name}": content}
    archive = tar({name: content for name, content in files.items() if content is not None})
    with pytest.raises(ValueError, match=message):
        cifar10.cifar_archive(archive, "c.tar", "train")


class Mirror:
    """A mirror on this machine that gives one file, in pieces and with pauses."""

    def __init__(self, name: str, body: bytes, pause: float = 0.0) -> None:
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                if self.path != f"/{name}":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for i in range(4):
                    self.wfile.write(body[i * len(body) // 4 : (i + 1) * len(body) // 4])
                    time.sleep(pause)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def mirror(mine, monkeypatch, cifar) -> Iterator[Mirror]:
    mirror = Mirror(CIFAR, publish(monkeypatch, "ORIGINAL", CIFAR, tar(cifar.files, "w:gz")), 0.2)
    monkeypatch.setattr(cifar10, "MIRRORS", (mirror.url,))
    yield mirror
    mirror.http.shutdown()
    mirror.http.server_close()


def test_a_download_may_take_longer_than_the_first_answer_and_fills_the_cache(
    mirror, monkeypatch, cifar
):
    monkeypatch.setattr(network, "PATIENCE", 0.5)  # the download takes 0.6 s or more
    cifar.check(data.load("cifar10"), "train", "mirror 127.0.0.1")
    cifar.check(data.load("cifar10", "test"), "test", "cache")
    assert mirror.requests == [f"/{CIFAR}"]
    assert data.fingerprint("cifar10") == data.load("cifar10").checksum


def test_a_download_that_does_not_end_is_given_up(mirror, monkeypatch):
    monkeypatch.setattr(network, "LONGEST", 0.1)
    with pytest.raises(data.DatasetUnavailable, match="not done within 0 s"):
        data.load("cifar10")


def test_offline_asks_no_one(mirror, monkeypatch):
    monkeypatch.setenv("DDLIB_OFFLINE", "1")
    with pytest.raises(data.DatasetUnavailable, match="DDLIB_OFFLINE forbids") as caught:
        data.load("cifar10")
    assert mirror.requests == []
    assert f"put {CIFAR} into a folder" in str(caught.value)
    assert "npm" not in str(caught.value)


# ------------------------------------------------------------------------- CIFAR-10, as JPEG


CLASSES = ("airplane", "automobile", "bird")


def jpegs(seed: int = 0) -> dict[str, bytes]:
    """Images of one colour, which JPEG hardly changes: the class in red, the image in green."""
    files = {}
    for split, size in (("train", 4), ("test", 2)):
        for label, name in enumerate(CLASSES):
            for i in range(size):
                colour = (50 * label, 60 * i, seed + 100 * (split == "test"))
                image = np.full((32, 32, 3), colour, np.uint8)
                files[f"{split}/{name}/{i:04}.jpg"] = encoded(image, "JPEG")
    return dict(reversed(files.items()))  # the order in the archive is not to matter


@pytest.fixture
def jpeg(mine, monkeypatch) -> bytes:
    archive = publish(monkeypatch, "JPEG", JPEG, tar(jpegs(), "w:xz"))
    (mine / JPEG).write_bytes(archive)
    return archive


def check_jpeg(dataset: data.Dataset, archive: bytes, split: str) -> None:
    size = 4 if split == "train" else 2
    assert (dataset.name, dataset.stand_in) == ("cifar10-jpeg", False)
    assert dataset.checksum == hashlib.sha256(archive).hexdigest()
    assert dataset.images.shape == (3 * size, 32, 32, 3) and dataset.images.dtype == np.float32
    assert dataset.labels.tolist() == np.repeat(range(3), size).tolist()
    red = 50 * dataset.labels
    green = 60 * np.tile(range(size), 3)
    np.testing.assert_allclose(dataset.images[:, 5, 7, 0] * 255, red, atol=3)
    np.testing.assert_allclose(dataset.images[:, 5, 7, 1] * 255, green, atol=3)


def test_the_jpegs_are_decoded_once(jpeg, monkeypatch):
    check_jpeg(data.load("cifar10-jpeg"), jpeg, "train")
    monkeypatch.setattr(decoders, "decode", None)
    for split in ("train", "test"):
        dataset = data.load("cifar10-jpeg", split)
        check_jpeg(dataset, jpeg, split)
        assert dataset.source == "DDLIB_DATA"
        assert data.fingerprint("cifar10-jpeg") == dataset.checksum


def test_what_was_decoded_is_no_substitute_for_the_archive(jpeg, mine):
    data.load("cifar10-jpeg")
    (mine / JPEG).unlink()
    with pytest.raises(data.DatasetUnavailable, match=f"has no {JPEG}.* no public address") as said:
        data.load("cifar10-jpeg")
    assert "mirror" not in str(said.value) and "stand_in=True" in str(said.value)
    assert data.fingerprint("cifar10-jpeg") == "absent"


SPOILED = {
    "empty": lambda whole, other: b"",
    "truncated": lambda whole, other: whole[: len(whole) // 2],
    "without its end": lambda whole, other: whole[:-1],
    "one bit": lambda whole, other: whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
    "another archive's": lambda whole, other: other,
    "a pickle": lambda whole, other: saved(archive=np.array([{}], object)),
    "encrypted, it says": lambda whole, other: flagged(whole, 8, 1),
    "of a later version": lambda whole, other: flagged(whole, 6, 173),
    "otherwise compressed": lambda whole, other: flagged(whole, 10, 99),
    "other arrays": lambda whole, other: saved(images=np.zeros(3)),
}


def saved(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def flagged(whole: bytes, at: int, value: int) -> bytes:
    """A zip with a byte of its directory's first entry set."""
    place = whole.index(b"PK\x01\x02") + at
    return whole[:place] + bytes([value]) + whole[place + 1 :]


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_cache_is_not_used_and_made_anew(jpeg, mine, monkeypatch, fault):
    check_jpeg(data.load("cifar10-jpeg"), jpeg, "train")
    [cached] = kept.cache("cifar10-jpeg").iterdir()
    whole = cached.read_bytes()
    other = publish(monkeypatch, "JPEG", JPEG, tar(jpegs(seed=99), "w:xz"))
    (mine / JPEG).write_bytes(other)
    data.load("cifar10-jpeg")
    [others] = set(kept.cache("cifar10-jpeg").iterdir()) - {cached}
    cached.write_bytes(SPOILED[fault](whole, others.read_bytes()))

    publish(monkeypatch, "JPEG", JPEG, jpeg)
    (mine / JPEG).write_bytes(jpeg)
    check_jpeg(data.load("cifar10-jpeg"), jpeg, "train")
    assert cached.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_only_a_warning(jpeg, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match="cache could not keep"):
        check_jpeg(data.load("cifar10-jpeg"), jpeg, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train/bird/0001.jpg": b"\xff\xd8 no image"}, "train/bird/0001.jpg is no readable"),
        ({"train/bird/0001.jpg": encoded(np.zeros((9, 8), np.uint8))}, "0001.jpg is 8×9, .* 32×32"),
        ({"valid/bird/0001.jpg": b""}, "holds 'valid/bird/0001.jpg': train/<class>/"),
        ({"train/0001.jpg": b""}, "holds 'train/0001.jpg': train/<class>/"),
    ],
)
def test_an_archive_of_something_else_is_refused(mine, monkeypatch, changes, message):
    archive = publish(monkeypatch, "JPEG", JPEG, tar(jpegs() | changes, "w:xz"))
    (mine / JPEG).write_bytes(archive)
    with pytest.raises(ValueError, match=message):
        data.load("cifar10-jpeg")
    assert not kept.cache("cifar10-jpeg").exists()


def test_an_archive_without_a_split_is_refused(tmp_path):
    archive = tar({name: p for name, p in jpegs().items() if name.startswith("train")})
    with pytest.raises(ValueError, match=r"a\.tar has no images under test/"):
        cifar10.class_archive(archive, "a.tar", "train", "0", tmp_path)


def test_a_corrupt_archive_is_named(jpeg, mine):
    (mine / JPEG).write_bytes(jpeg[:-20] + bytes(20))
    with pytest.raises(ValueError, match=f"{JPEG} is corrupt: sha256"):
        data.load("cifar10-jpeg", stand_in=True)


# ------------------------------------------------------------------------------- hostile archives


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def read(archive: bytes, where: str = "a.tar", largest: int = 2000, total: int = 20_000) -> dict:
    return dict(archives.members(archive, where, largest=largest, total=total))


HOSTILE = {
    "absolute": (member("/etc/passwd"), "'/etc/passwd': only paths inside"),
    "parent": (member("a/../../b"), r"'a/\.\./\.\./b': only paths inside"),
    "parent folder": (member("../b", tarfile.DIRTYPE), r"'\.\./b': only paths inside"),
    "backslashes": (member("a\\..\\..\\b"), "only paths inside"),
    "drive": (member("C:\\b"), "only paths inside"),
    "symbolic link": (member("s", tarfile.SYMTYPE, link="/etc"), "'s', which is no plain file"),
    "hard link": (member("h", tarfile.LNKTYPE, link="fine"), "'h', which is no plain file"),
    "device": (member("d", tarfile.CHRTYPE), "'d', which is no plain file"),
    "block device": (member("d", tarfile.BLKTYPE), "'d', which is no plain file"),
    "pipe": (member("p", tarfile.FIFOTYPE), "'p', which is no plain file"),
    "sparse": (member("s", tarfile.GNUTYPE_SPARSE), "'s', which is no plain file"),
    "large": (member("l", size=2001) + bytes(2048), "'l' of 2001 bytes: at most 2000"),
    "larger than it": (member("l", size=2**60), "'l' of 1152921504606846976 bytes"),
    "many": (
        b"".join(member(str(i), size=2000) + bytes(2048) for i in range(9)),
        "'7', with which it unpacks to more than 20000 bytes",
    ),
    "many empty": (
        b"".join(member(str(i)) for i in range(50)),
        "with which it unpacks to more than 20000 bytes",
    ),
    "a long name": (
        member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=10**9) + b"n" * 60_000,
        "unpacks to more than 20000 bytes",
    ),
    "names upon names": (
        member("././@LongLink", tarfile.GNUTYPE_LONGNAME) * 3000,
        "unpacks to more than 20000 bytes|not a whole archive",
    ),
    "cut short": (member("c", size=1000) + bytes(100), "a.tar is not a whole archive"),
    "no archive": (b"<html>" * 1000, "a.tar is not a whole archive"),
    "nothing": (b"", "a.tar is not a whole archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil, message = HOSTILE[case]
    start = tar({"fine": b"fine"})[:1024] if case not in ("no archive", "nothing") else b""
    with pytest.raises(ValueError, match=message):
        read(start + evil)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_of_headers_does_not_exhaust_the_stack():
    with pytest.raises(ValueError, match="not a whole archive"):
        read(member("././@LongLink", tarfile.GNUTYPE_LONGNAME) * 3000, total=10**7)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_bomb_is_not_unpacked(compress):
    name = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=1 << 26)
    bomb = compress(name + bytes(1 << 26))
    where = "a.tar.gz" if compress is gzip.compress else "a.tar.xz"
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to more than"):
        read(bomb, where)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20  # of 64; xz itself keeps a window of 8


@pytest.mark.parametrize(("where", "mode"), [("a.tar", "w"), ("a.gz", "w:gz"), ("a.xz", "w:xz")])
def test_an_honest_archive_is_read(where, mode):
    files = {"./a/b": b"1", "c" * 150: b"", "é": bytes(2000), "a..b/..c": b"2"}
    archive = tar(files, mode)
    assert read(archive, where) == files
    if where != "a.tar":
        with pytest.raises(ValueError, match=f"{where} is not a whole archive"):
            read(archive[: len(archive) // 2], where)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_archives_raise_nothing_but_valueerror(draw):
    archive = bytearray(tar({"a/b": bytes(700), "c" * 120: bytes(30)}))
    for _ in range(draw.draw(st.integers(1, 4))):
        archive[draw.draw(st.integers(0, 4095))] = draw.draw(st.integers(0, 255))
    for block in range(0, 4096, 512):  # let damaged headers pass their checksum
        if archive[block + 257 : block + 262] == b"ustar":
            total = (
                256 + sum(archive[block : block + 148]) + sum(archive[block + 156 : block + 512])
            )
            archive[block + 148 : block + 156] = b"%06o\0 " % total
    try:
        read(bytes(archive))
    except ValueError:
        pass


# ---------------------------------------------------------------------------------- image folders


def fill(root: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        form = "PNG" if name.lower().endswith("png") else "JPEG"
        (root / name).write_bytes(encoded(image, form))
    return root


def test_an_image_folder_is_read_in_order(tmp_path):
    images = rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    names = ["b/1.png", "a/2.PNG", "a/1.png", "c/x.png"]
    root = fill(tmp_path / "pets", dict(zip(names, images, strict=True)))
    fill(root, {"a/photo.jpeg": np.full((5, 6, 3), 120, np.uint8)})
    fill(root, {"a/.hidden.png": images[0], ".git/x.png": images[0], "stray.png": images[0]})
    (root / "a" / "notes.txt").write_text("nothing to see")
    (root / "a" / "folder.png").mkdir()
    dataset = data.image_folder(root)
    assert (dataset.name, dataset.stand_in, dataset.source) == ("pets", False, "image folder")
    assert dataset.images.dtype == np.float32 and dataset.labels.dtype == np.int32
    assert dataset.labels.tolist() == [0, 0, 0, 1, 2]
    np.testing.assert_array_equal(
        dataset.images[[0, 1, 3, 4]], images[[2, 1, 0, 3]] / np.float32(255)
    )
    np.testing.assert_allclose(dataset.images[2], 120 / 255, atol=0.01)


def test_the_checksum_of_an_image_folder_is_of_names_and_bytes_not_of_its_place(tmp_path):
    images = {f"{c}/{i}.png": np.full((2, 2), 9 * i, np.uint8) for c in "ab" for i in range(2)}

    def checksum(place: str, **changes: str) -> str:
        renamed = {changes.get(name[0], name[0]) + name[1:]: im for name, im in images.items()}
        return data.image_folder(fill(tmp_path / place, renamed)).checksum

    first = checksum("one")
    assert checksum("elsewhere") == first
    assert checksum("renamed", b="c") != first
    images["b/1.png"] = np.full((2, 2), 10, np.uint8)
    assert checksum("changed") != first


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "palette with transparency"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path, mode):
    colour = Image.new("RGB", (8, 8), (255, 0, 0))
    image = colour.convert("P" if mode.startswith("palette") else mode)
    extra = {"transparency": bytes([0] * 8)} if mode.startswith("palette") else {}
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / ("1.jpg" if mode == "CMYK" else "1.png"), **extra)
    pixel = data.image_folder(tmp_path).images[0, 3, 3]
    if mode in ("1", "L", "LA"):
        assert pixel[0] == pixel[1] == pixel[2]
    else:
        np.testing.assert_allclose(pixel, [1, 0, 0], atol=0.02)


def test_what_is_wrong_with_an_image_folder_is_said(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            data.image_folder(tmp_path / "set")

    refused("set'.* no such folder")
    (tmp_path / "set").mkdir()
    refused("set'.* one subfolder a class")
    (tmp_path / "set" / "a").mkdir()
    refused("a holds no PNG or JPEG")
    fill(tmp_path / "set", {"a/1.png": np.zeros((4, 6), np.uint8)})
    assert data.image_folder(tmp_path / "set").images.shape == (1, 4, 6, 3)
    fill(tmp_path / "set", {"b/1.png": np.zeros((6, 4), np.uint8)})
    refused(r"b.1\.png is 4×6, those before it 6×4: images of one size")
    fill(tmp_path / "set", {"b/1.png": np.zeros((4, 6), np.uint16)})
    refused(r"b.1\.png has pixels of type I;16: 8 bits")
    for payload in (b"", b"GIF89a", encoded(np.zeros((4, 6), np.uint8))[:-30]):
        (tmp_path / "set" / "b" / "1.png").write_bytes(payload)
        refused(r"b.1\.png is no readable PNG or JPEG")


# How a viewer turns what is stored: EXIF 2.32, tag 0x0112, in NumPy's words.
UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),  # a quarter turn clockwise
    7: lambda x: np.rot90(x.swapaxes(0, 1), 2),
    8: lambda x: np.rot90(x, 1),
    0: lambda x: x,  # no such orientation
    9: lambda x: x,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_images_are_turned_as_their_exif_says(tmp_path, mode, orientation):
    stored = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8) // 51 * 51  # the web's palette
    image = Image.fromarray(stored).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png", exif=exif)
    expected = UPRIGHT[orientation](np.asarray(image.convert("RGB")))
    found = data.image_folder(tmp_path).images[0]
    np.testing.assert_array_equal(found, expected / np.float32(255))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_photos_are_turned_too(tmp_path, mode):
    stored = np.zeros((16, 8, 3), np.uint8)
    stored[:8] = 200  # upper half bright
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    Image.fromarray(stored).convert(mode).save(tmp_path / "a" / "1.jpg", exif=exif, quality=95)
    found = data.image_folder(tmp_path).images[0]
    assert found.shape == (8, 16, 3)  # right half bright
    np.testing.assert_allclose(found[:, 8:].mean(), 200 / 255, atol=0.02)
    np.testing.assert_allclose(found[:, :8].mean(), 0, atol=0.02)


def png(depth: int, kind: int, rows: bytes, palette: bytes = b"") -> bytes:
    """A PNG of one row, written by hand: Pillow writes no 16-bit colours."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + crc

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = len(rows) * 8 // (depth * channels)
    header = width.to_bytes(4, "big") + bytes([0, 0, 0, 1, depth, kind, 0, 0, 0])
    colours = chunk(b"PLTE", palette) if palette else b""
    content = chunk(b"IDAT", zlib.compress(b"\0" + rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + content


@pytest.mark.parametrize(("name", "kind"), [("I;16", 0), ("RGB", 2), ("RGBA", 6)])
def test_more_than_eight_bits_are_refused_not_cut(name, kind):
    with pytest.raises(ValueError, match=rf"^x has pixels of type {name}.*: 8 bits a channel"):
        decoders.decode(png(16, kind, bytes(range(8)) * 3), "x")


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_fewer_than_eight_bits_are_spread_over_the_whole_range(depth):
    rows = bytes([0b00011011, 0xFF])
    bits = "".join(f"{byte:08b}" for byte in rows)
    values = [int(bits[i : i + depth], 2) for i in range(0, 16, depth)]
    expected = np.array(values) * 255 // (2**depth - 1)
    np.testing.assert_array_equal(decoders.decode(png(depth, 0, rows), "x")[0, :, 1], expected)


def test_colours_that_the_palette_lacks_are_refused():
    colours = bytes(range(6))
    decoded = decoders.decode(png(8, 3, bytes([1, 0]), colours), "x")
    assert decoded.tolist() == [[[3, 4, 5], [0, 1, 2]]]
    with pytest.raises(ValueError, match=r"^x has 2 colours that its palette lacks"):
        decoders.decode(png(8, 3, bytes([1, 2, 255]), colours), "x")


def test_what_moves_is_refused_and_of_a_cameras_pictures_the_first_is_taken():
    first, second = (Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (40, 200))

    def saved(form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        first.save(buffer, form, save_all=True, append_images=[second], **options)
        return buffer.getvalue()

    with pytest.raises(ValueError, match=r"^x is an animation of 2 pictures: a single one would"):
        decoders.decode(saved("PNG", duration=100), "x")
    np.testing.assert_allclose(decoders.decode(saved("MPO", quality=95), "x"), 40, atol=2)
    with pytest.raises(ValueError, match=r"^x is no readable PNG or JPEG"):
        decoders.decode(saved("GIF"), "x")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_no_truncated_photo_is_decoded(options):
    """Not one without the rows that are missing; nor one that was closed in the middle."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(
        buffer, "JPEG", **options
    )
    whole = buffer.getvalue()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"^x is no readable PNG or JPEG"):
            decoders.decode(whole[:length], "x")


def test_a_truncated_png_is_refused_or_whole():
    image = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    whole = encoded(image)
    for length in range(len(whole)):
        try:
            found = decoders.decode(whole[:length], "x")
        except ValueError:
            continue
        np.testing.assert_array_equal(found, image)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["PNG", "JPEG"]), st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_image_is_decoded_or_refused(form, place, value):
    damaged = bytearray(encoded(np.arange(108, dtype=np.uint8).reshape(6, 6, 3), form))
    damaged[place % len(damaged)] = value
    try:
        assert decoders.decode(bytes(damaged), "x").shape[2] == 3
    except ValueError:
        pass


# ---------------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(7, 5, 4, 3), (300, 64, 64, 1), (2, 900, 900, 2), (9, 2)])
def test_statistics_are_those_of_numpy_in_float64(shape, dtype):
    images = (rng.random(shape) * 200).astype(dtype)
    axes = tuple(range(len(shape) - 1))
    mean, std = data.channel_statistics(images)
    assert mean.dtype == std.dtype == np.float64 and mean.shape == std.shape == shape[-1:]
    np.testing.assert_allclose(mean, images.mean(axis=axes, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(std, images.std(axis=axes, dtype=np.float64), rtol=1e-12)


def test_statistics_copy_no_more_than_a_part():
    images = np.ones((1000, 64, 64, 3), np.float32)[:, ::2]  # 25 MB, not contiguous
    tracemalloc.start()
    data.channel_statistics(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25_000_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_statistics_of_what_is_not_finite_are_refused(bad):
    images = np.zeros((4, 2, 2, 3), np.float32)
    images[1, 0, 0, 2] = bad
    images[2, 0, 0, 2] = -bad
    with pytest.raises(ValueError, match="finite pixels would do"):
        data.channel_statistics(images)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (4, 4, 4, 0), (5,), ()])
def test_statistics_of_nothing_are_refused(shape):
    with pytest.raises(ValueError, match="images has shape"):
        data.channel_statistics(np.zeros(shape))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, (6, 3, 2, 2), elements=st.floats(-1, 1, width=16)))
def test_normalised_images_have_mean_zero_and_deviation_one(images):
    mean, std = data.channel_statistics(images)
    if (std < 1e-3).any():
        return
    before = images.copy()
    mean, std = data.channel_statistics(data.normalise(images, mean, std))
    np.testing.assert_allclose(mean, 0, atol=1e-11)
    np.testing.assert_allclose(std, 1, rtol=1e-11)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("dtype", "back"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.uint8, np.float32)],
)
def test_normalising_keeps_the_floating_type(dtype, back):
    images = np.full((2, 4, 4, 3), 3, dtype)
    done = data.normalise(images, [1, 2, 3], [2.0, 0.5, 1.0])
    assert done.dtype == back and done[1, 3, 3].tolist() == [1.0, 2.0, 0.0]
    assert data.normalise(images[0], [1, 2, 3], [2.0, 0.5, 1.0]).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0, 0], [1, 1, 1], r"mean has shape \(2,\), images \(2, 4, 4, 3\): one number for each"),
        ([0, 0, 0], [1], r"std has shape \(1,\)"),
        (0.5, [1, 1, 1], r"mean has shape \(\)"),
        ([0, 0, 0], [1, 0, 1], r"std is \[1\. 0\. 1\.\]: positive"),
        ([0, 0, 0], [1, -1, 1], "std is .*positive"),
        ([0, np.nan, 0], [1, 1, 1], "mean is .*finite"),
        ([0, 0, 0], [1, np.inf, 1], "std is .*finite"),
    ],
)
def test_statistics_that_will_not_do_are_named(mean, std, message):
    with pytest.raises(ValueError, match=message):
        data.normalise(np.zeros((2, 4, 4, 3), np.float32), mean, std)


# ----------------------------------------------------------------------------- shapes, the stand-in


def test_shapes_are_balanced_drawn_alike_everywhere_and_no_stand_in_by_themselves():
    train, test = data.load("shapes"), data.load("shapes", "test")
    for dataset, size in ((train, 1000), (test, 200)):
        assert (dataset.name, dataset.stand_in, dataset.source) == ("shapes", False, "drawn")
        assert dataset.images.shape == (10 * size, 32, 32, 3)
        assert dataset.images.dtype == np.float32 and dataset.labels.dtype == np.int32
        assert dataset.images.min() == 0 and dataset.images.max() == 1
        assert np.bincount(dataset.labels).tolist() == [size] * 10
        assert dataset.checksum == data.fingerprint("shapes")
    train.images[:] = 0  # what one caller does to them is not the next one's
    assert data.load("shapes").images.max() == 1


def test_shapes_follow_their_seed():
    one, again, other = (shapes.draw_shapes(seed, 3) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])


def test_shapes_are_not_told_apart_by_colour_or_place():
    """No linear reading of the pixels does: the classes differ in form."""
    train, test = data.load("shapes"), data.load("shapes", "test")
    for label in range(10):
        mean, _ = data.channel_statistics(train.images[train.labels == label])
        np.testing.assert_allclose(mean, 0.5, atol=0.04)

    def features(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(images), -1)
        return np.hstack([flat, np.ones((len(flat), 1))])

    weights, *_ = np.linalg.lstsq(features(train.images), np.eye(10)[train.labels])
    right = (features(test.images) @ weights).argmax(1) == test.labels
    assert right.mean() < 0.25


@pytest.mark.parametrize("name", ["cifar10", "cifar10-jpeg"])
def test_shapes_stand_in_for_cifar10_and_say_so(mine, name):
    assert data.fingerprint(name) == "absent"
    with pytest.raises(data.DatasetUnavailable, match=f"{name} is not at hand"):
        data.load(name)
    dataset = data.load(name, "test", stand_in=True, subset=50)
    assert (dataset.name, dataset.stand_in) == ("shapes", True)
    assert dataset.images.shape == (50, 32, 32, 3)
    assert len(data.load(name, "test", stand_in=True, subset=5000).labels) == 2000


def test_the_jpegs_are_no_stand_in_for_the_original(jpeg):
    assert data.load("cifar10", "test", stand_in=True).name == "shapes"


# ------------------------------------------------------------------------------- the real CIFAR-10


@pytest.mark.skipif(not (FOLDER / JPEG).is_file(), reason=f"DDLIB_DATA has no {JPEG}")
def test_the_real_jpegs(mine):
    train = data.load("cifar10-jpeg", data_dir=FOLDER)
    test = data.load("cifar10-jpeg", "test", data_dir=FOLDER)
    assert train.images.shape == (50_000, 32, 32, 3) and test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    mean, std = data.channel_statistics(train.images)
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=1e-3)  # the original's
    np.testing.assert_allclose(std, [0.2470, 0.2435, 0.2616], atol=2e-3)  # JPEG smooths
    assert train.checksum == test.checksum == data.fingerprint("cifar10-jpeg", data_dir=FOLDER)


@pytest.mark.skipif(not (FOLDER / CIFAR).is_file(), reason=f"DDLIB_DATA has no {CIFAR}")
def test_the_real_original(mine):
    train = data.load("cifar10", data_dir=FOLDER)
    test = data.load("cifar10", "test", data_dir=FOLDER)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    mean, std = data.channel_statistics(train.images)
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(std, [0.2470, 0.2435, 0.2616], atol=5e-5)
