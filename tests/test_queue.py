"""A long batch goes on for some minutes, is published as far as it came, and loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from books_for_tests import SOURCE, make_book
from ddbook import page
from ddbook.runner import files, kernel, keys, publish, queue, tables
from ddbook.runner.job import describe
from ddbook.sweeps import batch
from ddbook.sweeps.arms import SIMULTANEOUS

HEAD = SOURCE[: SOURCE.index("# %%\nimport os")]
TRAINS = """\
# %%
import pandas as pd
from ddbook.sweeps import batch
from ddbook.sweeps.arms import SIMULTANEOUS

runs = [batch.Run("all", SIMULTANEOUS, 0.1, 0.1, seed) for seed in range(3)]


def train_one(one, key):
    with open(run._root / "trained.txt", "a") as log:
        log.write(f"{one.seed}\\n")
    return {"loss": one.seed}


done = batch.train(
    run, runs, lambda one: {"seed": one.seed}, train_one, judged={}, data="none"
)
frame = pd.DataFrame({"seed": [one.run.seed for one in done]})
run.save("curve", frame, data="none")
"""


@pytest.fixture
def book(tmp_path, monkeypatch) -> Path:
    root = make_book(tmp_path / "a book", HEAD + TRAINS)
    monkeypatch.setenv("DDBOOK_ROOT", str(root))
    for name in ("DDBOOK_FOLDER", "DDBOOK_NAME", "DDBOOK_LOG_FD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DDBOOK_MINUTES", "DDBOOK_LAST"):  # `go_on` sets them; here for this test only
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(kernel, "rank_last", lambda process: None)
    return root


def published(book: Path) -> tuple[list[int], object]:
    folder = book / "results" / "demo"
    frame, _ = tables.read_table(folder / "curve.parquet")
    return frame.seed.tolist(), files.read_json(folder / "run.json").get("unfinished")


def test_a_batch_out_of_time_is_published_so_far_and_goes_on(book, monkeypatch, capsys):
    opened = page.open("demo", "standard")
    opened.cached({"seed": 1}, lambda: {"loss": 1}, data="none")  # of an earlier day
    queue.go_on("demo", "standard", 0)
    assert published(book) == ([1], "1 of 3 runs")
    assert "results/demo: 1 of 3 runs so far" in capsys.readouterr().out
    assert keys.stale(describe(book, "standard", "demo")) == ["1 of 3 runs so far"]
    assert page.open("demo", "quick").published("curve").label == (
        "standard profile, published, 1 of 3 runs so far"
    )
    queue.go_on("demo", "standard", 10)
    assert published(book) == ([0, 1, 2], None)
    assert "results/demo: all runs" in capsys.readouterr().out
    assert (book / "trained.txt").read_text().split() == ["0", "2"]  # nothing twice
    assert keys.stale(describe(book, "standard", "demo")) == []
    queue.go_on("demo", "standard", 10)
    assert (book / "trained.txt").read_text().split() == ["0", "2"]


def test_no_time_and_no_run_leave_what_there_was(book):
    with pytest.raises(Exception, match="none of 3 runs was finished in time"):
        queue.go_on("demo", "standard", 0)
    assert not (book / "results").exists()


def test_a_changed_batch_is_not_published_as_unfinished(book):
    opened = page.open("demo", "standard")
    opened.cached({"seed": 1}, lambda: {"loss": 1}, data="none")
    queue.go_on("demo", "standard", 0)
    source = book / "notebooks" / "demo.py"
    source.write_text(source.read_text().replace("range(3)", "range(4)"))
    with pytest.raises(ValueError, match="code changed; `make run"):
        publish.publish(describe(book, "standard", "demo"))


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_minutes_that_are_none_are_refused(book, minutes):
    with pytest.raises(ValueError, match="minutes must be a number, 0 to collect"):
        queue.go_on("demo", "standard", minutes)


def test_a_damaged_finished_run_is_named_and_nothing_is_trained(book):
    opened = page.open("demo", "standard")
    opened.cached({"seed": 1}, lambda: {"loss": 1}, data="none")
    [path] = (book / "runs" / ".store" / "demo").glob("*.json")
    path.write_text(path.read_text().replace('"loss": 1', '"loss": 2'))
    runs = [batch.Run("all", SIMULTANEOUS, 0.1, 0.1, seed) for seed in (1, 2)]
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        batch.train(
            opened,
            runs,
            lambda one: {"seed": one.seed},
            lambda one, key: pytest.fail("trained"),
            judged={},
            data="none",
        )


def test_a_process_ranks_itself_last():
    code = "import os; from ddbook.runner import kernel; kernel.rank_last(os.getpid());"
    code += "print(os.nice(0), open('/proc/self/autogroup').read() if os.path.exists("
    code += "'/proc/self/autogroup') else 'nice 19')"
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True,
        env=os.environ,
    )  # fmt: skip
    assert made.stdout.split()[0] == "19" and made.stdout.rstrip().endswith("nice 19"), made.stderr
