"""Tables keep their values and their provenance; what is written is whole or not there."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ddbook.runner import files, tables
from ddbook.runner.origin import Commit, collect_provenance, commit_of
from ddbook.sweeps.store import Store

from ddlib.files import replacing

FRAME = pd.DataFrame(
    {
        "seed": [0, 1, 2],
        "loss": [0.1, math.inf, math.nan],
        "method": ["Euler", "Heun’s", ""],
        "stable": [True, False, True],
    }
)


def origin(**changes):
    given = {
        "notebook": "demo",
        "profile": "quick",
        "parameters": {"rates": (np.float64(0.1), 1)},
        "seeds": np.arange(3),
        "commit": Commit("abc", False),
        "wall_seconds": np.float32(1.5),
        "dataset": {"name": "digits", "checksum": "00", "stand_in": True},
    }
    return collect_provenance(**{**given, **changes})


def test_a_table_and_its_provenance_come_back(tmp_path):
    path = tmp_path / "deep" / "table.parquet"
    written = origin()
    tables.write_table(FRAME, path, written)
    frame, read = tables.read_table(path)
    pd.testing.assert_frame_equal(frame, FRAME)
    assert read == written
    assert read.parameters == {"rates": [0.1, 1]} and read.seeds == [0, 1, 2]
    assert read.versions["jax"] and read.device.startswith("cpu: ")


def test_row_numbers_are_no_index_worth_keeping(tmp_path):
    path = tmp_path / "table.parquet"
    tables.write_table(FRAME[FRAME.seed != 1], path, origin())
    assert tables.read_table(path)[0].index.tolist() == [0, 1]


def test_provenance_is_in_the_file_itself(tmp_path):
    path = tmp_path / "table.parquet"
    tables.write_table(FRAME, path, origin())
    assert json.loads(pq.read_schema(path).metadata[b"ddlib"])["notebook"] == "demo"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.set_index("method"), r"index \['method'\] would be lost"),
        (FRAME.set_index(pd.Index(["a", "b", "c"])), "would be lost"),
        (FRAME.rename(columns={"seed": 1}), "need distinct names"),
        (FRAME.rename(columns={"seed": "loss"}), "need distinct names"),
    ],
)
def test_a_frame_that_would_lose_something_is_refused(frame, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tables.write_table(frame, tmp_path / "table.parquet", origin())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_a_foreign_and_a_cut_table_are_told_apart(tmp_path):
    path = tmp_path / "table.parquet"
    with pytest.raises(FileNotFoundError, match=r"table\.parquet"):
        tables.read_table(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(ValueError, match=r"not a table of ours.*run its notebook again"):
        tables.read_table(path)
    tables.write_table(FRAME, path, origin())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a table of ours"):
        tables.read_table(path)


def test_a_flipped_bit_anywhere_in_a_table_is_found(tmp_path):
    """In a number, a name or what it says of itself: refused, or it made no difference."""
    path = tmp_path / "table.parquet"
    written = origin()
    tables.write_table(FRAME, path, written)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 31):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        try:
            frame, read = tables.read_table(path)
        except ValueError as error:
            assert "run its notebook again" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            pd.testing.assert_frame_equal(frame, FRAME)
            assert read == written
    assert refused > 50  # of some 130: the rest are sizes and statistics that nobody reads


def test_a_table_of_old_has_no_checksum_and_is_read(tmp_path):
    path = tmp_path / "table.parquet"
    tables.write_table(FRAME, path, origin())
    table = pq.read_table(path)
    old = {key: value for key, value in table.schema.metadata.items() if key != b"ddlib.sha256"}
    pq.write_table(table.replace_schema_metadata(old), path)
    pd.testing.assert_frame_equal(tables.read_table(path)[0], FRAME)


LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"LC_ALL": "en_US.ISO-8859-1"},
}


@pytest.fixture(scope="module")
def latin1(tmp_path_factory):
    """The folder of a Latin-1 locale, made here since few systems have one any more."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("localedef makes no Latin-1 locale here")
    return folder


@pytest.mark.parametrize("locale", LOCALES)
def test_tables_are_written_and_read_in_any_locale_below_any_letter(locale, latin1, tmp_path):
    folder = tmp_path / "ü ナ"
    folder.mkdir()
    code = """
import sys, pandas as pd
from ddbook.runner import files, tables
from ddbook.runner.origin import collect_provenance, commit_of
o = collect_provenance(notebook="\\u03b7", profile="quick", parameters={},
    commit=commit_of(sys.argv[1]), wall_seconds=1.0)
files.write_json({"\\u03b7": 1}, sys.argv[1] + "/x.json")
tables.write_table(pd.DataFrame({"\\u03b7": [1]}), sys.argv[1] + "/x.parquet", o)
frame, read = tables.read_table(sys.argv[1] + "/x.parquet")
assert read == o and list(frame) == ["\\u03b7"]
assert files.read_json(sys.argv[1] + "/x.json") == {"\\u03b7": 1}
"""
    environment = {**os.environ, "LOCPATH": str(latin1), **LOCALES[locale]}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert sorted(path.name for path in folder.iterdir()) == ["x.json", "x.parquet"]


def test_json_has_no_infinities_and_floats_read_them(tmp_path):
    path = tmp_path / "x.json"
    files.write_json({"a": [math.inf, -math.inf, math.nan, 0.5]}, path)
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert [float(x) for x in read["a"]] == pytest.approx(
        [math.inf, -math.inf, math.nan, 0.5], nan_ok=True
    )


def test_cut_json_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (jnp.asarray(2), 2),
        (jnp.asarray([True, False]), [True, False]),
        (np.str_("x"), "x"),
        ({"a": (1, None)}, {"a": [1, None]}),
    ],
)
def test_scalars_of_arrays_become_plain(value, expected):
    plain = files.plain(value)
    assert plain == expected and type(plain) is type(expected)


@pytest.mark.parametrize("value", [object(), 1j, {"a": {1, 2}}])
def test_what_cannot_be_recorded_is_refused(value):
    with pytest.raises(ValueError, match="cannot be recorded"):
        files.plain(value)


def test_a_write_that_fails_leaves_the_former_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("former")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"] and path.read_text() == "former"


def _write_slowly(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        time.sleep(60)


def test_a_killed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("former")
    child = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(path,))
    child.start()
    deadline = time.monotonic() + 30
    while not any(p.read_text() == "half" for p in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert path.read_text() == "former"
    assert list(tmp_path.glob("[!.]*")) == [path]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, `a` and an empty `.gitignore`, alone with this git."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "mine"
    root.mkdir()
    git(root, "init")
    (root / "a").write_text("1")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "a")
    return root


def test_the_commit_and_whether_the_tree_differs(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert commit_of(repository) == Commit(head, False)
    (repository / "x.log").write_text("2")
    assert commit_of(repository) == Commit(head, False)
    (repository / "results").mkdir()
    (repository / "results" / "new").write_text("2")
    assert commit_of(repository, ignore=["results"]) == Commit(head, False)
    assert commit_of(repository) == Commit(head, True)
    (repository / "a").write_text("2")
    assert commit_of(repository, ignore=["results"]) == Commit(head, True)


def test_a_repository_around_a_folder_is_not_its_own(repository):
    """A zip unpacked in some other checkout, ignored there or tracked."""
    (repository / ".gitignore").write_text("unpacked/\n")
    git(repository, "commit", "-am", "ignore")
    for name in ("unpacked", "plain"):
        (repository / name).mkdir()
        (repository / name / "b").write_text("1")
    git(repository, "add", "plain")
    git(repository, "commit", "-m", "b")
    for name in ("unpacked", "plain"):
        assert commit_of(repository / name) == Commit("unknown", True), name


@pytest.mark.parametrize("how", ["no repository", "no commit", "bare", "not a folder", "nothing"])
def test_where_git_cannot_tell_the_commit_is_unknown(how, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    root = tmp_path / "x"
    if how == "not a folder":
        root.write_text("")
    elif how != "nothing":
        root.mkdir()
    if how == "no commit":
        git(root, "init")
    if how == "bare":
        git(root, "init", "--bare")
    assert commit_of(root) == Commit("unknown", True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder away")
def test_a_repository_that_git_does_not_trust_is_unknown(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # without a safe.directory of this machine
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    assert commit_of(repository) == Commit("unknown", True)


def test_without_git_the_commit_is_unknown(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert commit_of(repository) == Commit("unknown", True)


def test_variables_of_git_name_no_other_repository(repository, tmp_path, monkeypatch):
    """They are set where a hook of another repository runs us."""
    head = git(repository, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    (other / "b").write_text("1")
    git(other, "add", "b")
    git(other, "commit", "-m", "b")
    assert git(other, "rev-parse", "HEAD") != head
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert commit_of(repository) == Commit(head, False)
    (repository / "a").write_text("2")
    assert commit_of(repository) == Commit(head, True)


@pytest.mark.parametrize("how", ["status", "exclude", "excludesFile", "assume", "skip"])
def test_settings_of_git_hide_no_change(how, repository, tmp_path):
    assert not commit_of(repository).dirty
    changed = repository / ("a" if how in ("assume", "skip") else "module.py")
    if how == "status":
        git(repository, "config", "status.showUntrackedFiles", "no")
    elif how == "exclude":
        (repository / ".git" / "info").mkdir(exist_ok=True)
        (repository / ".git" / "info" / "exclude").write_text("module.py\n")
    elif how == "excludesFile":
        (tmp_path / "mine.ignore").write_text("module.py\n")
        git(repository, "config", "core.excludesFile", str(tmp_path / "mine.ignore"))
    elif how == "assume":
        git(repository, "update-index", "--assume-unchanged", "a")
    else:
        git(repository, "update-index", "--skip-worktree", "a")
    changed.write_text("x = 1")
    assert git(repository, "status", "--porcelain") == ""  # hidden, for whoever asks plainly
    assert commit_of(repository).dirty


def test_a_linked_worktree_and_a_link_to_a_checkout_are_checkouts(repository, tmp_path):
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "worktree", "add", str(tmp_path / "linked"))
    (tmp_path / "link").symlink_to(repository)
    for place in ("linked", "link"):
        assert commit_of(tmp_path / place) == Commit(head, False), place


def test_a_store_finds_a_run_by_all_that_it_depends_on(tmp_path):
    store = Store(tmp_path / "new")
    key = {"rates": (0.1, np.float64(0.2)), "seed": jnp.array(3), "method": "Heun’s"}
    assert store.get(key) is None
    store.put(key, {"loss": [1.0, math.inf], "last": np.float32(0.5), "name": None})
    # another process, another order, plain numbers
    found = Store(tmp_path / "new").get({"method": "Heun’s", "seed": 3, "rates": [0.1, 0.2]})
    assert found == {"loss": [1.0, "inf"], "last": 0.5, "name": None}
    for other in ({**key, "seed": 4}, {**key, "more": 1}, {k: key[k] for k in ("seed", "rates")}):
        assert store.get(other) is None
    store.put(key, {"loss": []})
    assert store.get(key) == {"loss": []}
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_finished_run_leaves_no_scratch(tmp_path):
    store = Store(tmp_path)
    for seed in (0, 1):
        store.scratch({"seed": seed}).mkdir(parents=True)
        (store.scratch({"seed": seed}) / "checkpoint").write_text("1")
    store.put({"seed": 0}, {})
    assert not store.scratch({"seed": 0}).exists()
    assert (store.scratch({"seed": 1}) / "checkpoint").read_text() == "1"


def test_a_half_written_run_is_none(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="object cannot be recorded"):
        store.put({"seed": 0}, {"loss": object()})
    assert store.get({"seed": 0}) is None
    assert list(tmp_path.glob("[!.]*")) == []


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"value": '])
def test_a_damaged_run_of_a_store_is_named(content, tmp_path):
    store = Store(tmp_path)
    store.put({"seed": 0}, {"loss": 1.0})
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=r"is not .*; delete it and run"):
        store.get({"seed": 0})
