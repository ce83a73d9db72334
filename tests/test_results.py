"""Tables keep their values and their provenance; what is written is whole or not there."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddlib import results
from ddlib.results import Commit, collect_provenance

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
    results.write_table(FRAME, path, written)
    frame, read = results.read_table(path)
    pd.testing.assert_frame_equal(frame, FRAME)
    assert read == written
    assert read.parameters == {"rates": [0.1, 1]} and read.seeds == [0, 1, 2]
    assert read.versions["jax"] and read.device.startswith("cpu: ")


def test_row_numbers_are_no_index_worth_keeping(tmp_path):
    path = tmp_path / "table.parquet"
    results.write_table(FRAME[FRAME.seed != 1], path, origin())
    assert results.read_table(path)[0].index.tolist() == [0, 1]


def test_provenance_is_in_the_file_itself(tmp_path):
    path = tmp_path / "table.parquet"
    results.write_table(FRAME, path, origin())
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
        results.write_table(frame, tmp_path / "table.parquet", origin())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_a_foreign_and_a_cut_table_are_told_apart(tmp_path):
    path = tmp_path / "table.parquet"
    with pytest.raises(FileNotFoundError, match=r"table\.parquet"):
        results.read_table(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(ValueError, match=r"not a table of ours.*run its notebook again"):
        results.read_table(path)
    results.write_table(FRAME, path, origin())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a table of ours"):
        results.read_table(path)


def test_json_has_no_infinities_and_floats_read_them(tmp_path):
    path = tmp_path / "x.json"
    results.write_json({"a": [math.inf, -math.inf, math.nan, 0.5]}, path)
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert [float(x) for x in read["a"]] == pytest.approx(
        [math.inf, -math.inf, math.nan, 0.5], nan_ok=True
    )


def test_cut_json_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        results.read_json(path)


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
    plain = results.plain(value)
    assert plain == expected and type(plain) is type(expected)


@pytest.mark.parametrize("value", [object(), 1j, {"a": {1, 2}}])
def test_what_cannot_be_recorded_is_refused(value):
    with pytest.raises(ValueError, match="cannot be recorded"):
        results.plain(value)


def test_a_write_that_fails_leaves_the_former_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("former")
    with pytest.raises(RuntimeError), results.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"] and path.read_text() == "former"


def _write_slowly(path):
    with results.replacing(path) as temporary:
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


def test_the_commit_and_whether_the_tree_differs(tmp_path):
    assert results.commit_of(tmp_path) == Commit("unknown", True)
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert results.commit_of(tmp_path) == Commit(head, False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new").write_text("2")
    assert results.commit_of(tmp_path, ignore=["results"]) == Commit(head, False)
    assert results.commit_of(tmp_path) == Commit(head, True)


def test_a_store_finds_a_run_by_all_that_it_depends_on(tmp_path):
    store = results.Store(tmp_path / "new")
    key = {"rates": (0.1, np.float64(0.2)), "seed": jnp.array(3), "method": "Heun’s"}
    assert store.get(key) is None
    store.put(key, {"loss": [1.0, math.inf], "last": np.float32(0.5), "name": None})
    # another process, another order, plain numbers
    found = results.Store(tmp_path / "new").get(
        {"method": "Heun’s", "seed": 3, "rates": [0.1, 0.2]}
    )
    assert found == {"loss": [1.0, "inf"], "last": 0.5, "name": None}
    for other in ({**key, "seed": 4}, {**key, "more": 1}, {k: key[k] for k in ("seed", "rates")}):
        assert store.get(other) is None
    store.put(key, {"loss": []})
    assert store.get(key) == {"loss": []}
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_finished_run_leaves_no_scratch(tmp_path):
    store = results.Store(tmp_path)
    for seed in (0, 1):
        store.scratch({"seed": seed}).mkdir(parents=True)
        (store.scratch({"seed": seed}) / "checkpoint").write_text("1")
    store.put({"seed": 0}, {})
    assert not store.scratch({"seed": 0}).exists()
    assert (store.scratch({"seed": 1}) / "checkpoint").read_text() == "1"


def test_a_half_written_run_is_none(tmp_path):
    store = results.Store(tmp_path)
    with pytest.raises(ValueError, match="object cannot be recorded"):
        store.put({"seed": 0}, {"loss": object()})
    assert store.get({"seed": 0}) is None
    assert list(tmp_path.glob("[!.]*")) == []
