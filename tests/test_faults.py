"""What may befall a batch: nothing is lost, nothing is half-read, the reason stands in one line.

The table of `book/faults.md` names the test of each fault; many are elsewhere, beside what they
concern. Here are those of whole processes, on small books whose notebooks compute nothing.
"""

import contextlib
import doctest
import errno
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import snakemake_logger_plugin_ddbook as logger
from books_for_tests import ROOT, batch, finish, in_book, is_running, make_book, wait_for
from ddbook.runner import command, datasets, files, kernel, keys, lock, places, report, run, tables
from ddbook.runner.job import describe
from ddbook.runner.origin import Commit, collect_provenance

PLAIN = """\
# ---
# jupyter:
#   ddbook: {needs: []}
# ---

# %% tags=["parameters"]
profile = "quick"
parameters = {}

# %%
import os, signal, subprocess, sys, time
from pathlib import Path

here, root = Path(os.environ["DDBOOK_FOLDER"]), Path(os.environ["DDBOOK_ROOT"])
(here / "table.txt").write_text("new")
with (root / "count").open("a") as count:
    count.write(os.environ["DDBOOK_NAME"] + "\\n")

# %%
"""


def say(body: str) -> str:
    """Return a notebook's source that ends with a cell of its own."""
    return PLAIN + body + "\n"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Make a book whose folder has letters and signs, and say what became of a run in it."""
    root = tmp_path / "ü ナ b'q {x}" / "repo"
    monkeypatch.setenv("DDBOOK_ROOT", str(root))
    for name in ("DDBOOK_FOLDER", "DDBOOK_NAME", "DDBOOK_LOG_FD"):
        monkeypatch.delenv(name, raising=False)
    made = places.products(root, "quick", "demo")

    def book(body: str) -> None:
        make_book(root, say(body))

    def former() -> None:
        """Leave a finished run of another source."""
        source = root / "notebooks" / "demo.py"
        text = source.read_text()
        source.write_text(text + "old = True\n")
        finish(root)
        (made.folder / "table.txt").write_text("former")
        source.write_text(text)

    def is_former() -> bool:
        """Say whether the former run is there, whole, and nothing else that is read."""
        left = sorted(path.name for path in made.folder.iterdir())
        return (
            made.notebook.read_text() == "{}"
            and left == ["run.json", "table.txt"]
            and (made.folder / "table.txt").read_text() == "former"
            and keys.stale(describe(root, "quick", "demo")) == ["code changed"]
        )

    return SimpleNamespace(root=root, made=made, book=book, former=former, is_former=is_former)


SNAKEMAKE = [str(Path(sys.executable).with_name("snakemake")), "--logger", "ddbook"]


def snakemake(name: str) -> list[str]:
    return [*SNAKEMAKE, "--quiet", "rules", "progress", "host", "--", name]


def count(root: Path) -> list[str]:
    """Return which notebooks have run, in order."""
    path = root / "count"
    return path.read_text().split() if path.is_file() else []


def complaints(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("error: ", "warning: "))]


# ---------------------------------------------------------------- notebooks that do not finish


def test_a_notebook_that_raises_in_a_batch_leaves_the_former_run(world):
    """Snakemake deletes what it is to make; the runner has said what is wrong, and it adds none."""
    world.book('raise RuntimeError("what went wrong")')
    world.former()
    batch(world.root)
    done = in_book(world.root, *snakemake("reader"))
    assert done.returncode == 1 and world.is_former()
    assert "FAILED in cell [4], notebooks/demo.py" in done.stderr
    assert done.stderr.count("RuntimeError: what went wrong") == 1
    assert complaints(done.stderr) == [] and "snakemake.exceptions" not in done.stderr
    assert count(world.root) == ["demo"]  # what needs it did not run
    assert "what went wrong" in world.made.failed.read_text()


def test_a_job_that_is_killed_leaves_the_former_run_and_the_reason(world):
    world.book("os.kill(os.getppid(), 9)\ntime.sleep(20)")
    world.former()
    batch(world.root)
    done = in_book(world.root, *snakemake("demo"))
    assert done.returncode == 1 and world.is_former()
    said = complaints(done.stderr)
    assert len(said) == 1 and "ddbook.runner.command demo" in said[0]
    assert "exit status 137" in said[0] or "SIGKILL" in said[0]
    assert not world.made.failed.exists()
    (world.root / "notebooks" / "demo.py").write_text(say("pass"))
    assert command.main(["demo"]) == 0  # what the killed job left is in nobody's way
    assert (world.made.folder / "table.txt").read_text() == "new"
    assert not world.made.partial.exists()


def test_a_driver_that_is_killed_loses_nothing_and_the_next_goes_on(world):
    world.book("while not (root / 'go').exists(): time.sleep(0.05)")
    batch(world.root)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(snakemake("reader"), cwd=world.root, **quiet) as driver:
        wait_for(lambda: count(world.root) == ["demo"], 60)
        driver.kill()
    with subprocess.Popen(
        snakemake("reader"), cwd=world.root, stderr=subprocess.PIPE, text=True
    ) as second:
        assert second.stderr is not None
        line = next(line for line in second.stderr if "waits" in line)
        assert re.search(r"demo \(quick\): waits for the process \d+ that runs it", line)
        (world.root / "go").write_text("")
        said = second.stderr.read()
    assert second.returncode == 0, said
    assert "demo (quick): was done by another process" in said
    assert count(world.root) == ["demo", "reader"]
    assert keys.stale(describe(world.root, "quick", "reader")) == []


def test_two_drivers_at_once_share_the_work(world):
    world.book("time.sleep(2)")
    batch(world.root)
    drivers = [
        subprocess.Popen(snakemake("reader"), cwd=world.root, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [driver.communicate(timeout=120)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert [complaints(text) for text in said] == [[], []]
    # `reader` runs because `demo` is new, which the second may find once more; never at once
    assert sorted(set(count(world.root))) == ["demo", "reader"]
    assert count(world.root).count("demo") == 1
    for name in ("demo", "reader"):
        assert keys.stale(describe(world.root, "quick", name)) == []


def test_what_another_batch_has_made_since_the_plan_is_not_made_again(world, capfd):
    world.book("pass")
    made = finish(world.root)
    assert command.main(["demo", "--if-stale"]) == 0
    assert capfd.readouterr().err == "demo (quick): was done by another process\n"
    assert made.notebook.read_text() == "{}" and count(world.root) == []


def test_one_that_waited_for_a_run_that_failed_runs_itself(world, monkeypatch):
    """The former run stands by its key, since what it needs is no part of that."""
    world.book("pass")
    finish(world.root)
    monkeypatch.setattr(lock, "alone", lambda *_: contextlib.nullcontext(True))
    run.run(describe(world.root, "quick", "demo"))
    assert count(world.root) == ["demo"]


ENDLESS = """\
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(root / "pids").write_text(f"{os.getpid()} {child.pid}")
while True:
    pass"""


def test_a_notebook_that_never_ends_is_ended(world, capfd):
    world.book(ENDLESS)
    world.former()
    assert command.main(["demo", "--timeout", "4"]) == 1
    lines = capfd.readouterr().err.splitlines()
    number = say(ENDLESS).splitlines().index("signal.signal(signal.SIGINT, signal.SIG_IGN)") + 1
    assert lines[0].startswith(
        "demo (quick): FAILED, ended after 4 s, its time limit, in cell [4], "
        f"notebooks/demo.py:{number}: "
    )
    assert lines[1:] == ["  as far as it came: runs/quick/demo.failed.ipynb"]
    for pid in (world.root / "pids").read_text().split():
        wait_for(lambda pid=int(pid): not is_running(pid), 20)
    assert world.is_former()
    failed = nbformat.read(world.made.failed, as_version=4)
    errors = [o for c in failed.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert [(o.ename, o.evalue) for o in errors] == [
        ("TimeoutError", "ended after 4 s, its time limit")
    ]
    assert report.rows([describe(world.root, "quick", "demo")])[0][3].startswith("FAILED: ")


def test_a_notebook_within_its_limit_is_not_ended(world):
    world.book("time.sleep(1)")
    run.run(describe(world.root, "quick", "demo"), timeout=60)
    assert keys.stale(describe(world.root, "quick", "demo")) == []


def test_a_limit_that_passes_before_the_kernel_is_there_ends_it_at_once():
    with kernel.Limit(0.01) as limit:
        wait_for(lambda: limit.passed, 10)
        process = subprocess.Popen([sys.executable, "-c", "input()"], start_new_session=True)
        limit.watch(process.pid)
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "1:30", "soon", ""])
def test_a_limit_that_is_none_is_refused_before_anything_starts(value, world, capsys):
    world.book("pass")
    assert command.main(["demo", "--timeout", value]) == 2
    assert report.main(["--check", "--timeout", value]) == 2
    message = f"error: timeout must be a positive number of seconds, got {value!r}\n"
    assert capsys.readouterr().err == 2 * message
    assert not (world.root / "runs").exists()
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, got True"):
        run.run(describe(world.root, "quick", "demo"), timeout=True)


# --------------------------------------------------------------- full, cut and read-only disks


@contextlib.contextmanager
def mounted(folder: Path, *options: str):
    """Mount a file system of its own at `folder`, where that is permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", *options, "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


FILL = """\
def fill():
    with (here / "large").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
"""


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_full_disk_fails_the_run_and_loses_nothing(swallowed, world, capfd):
    """Met by the notebook itself, or, where that says nothing, by what saves the run."""
    last = (
        "try: fill()\nexcept OSError: print(1000 * 'much to be saved')" if swallowed else "fill()"
    )
    world.book(FILL + last)
    with mounted(world.root / "runs", "-o", "size=512k"):
        world.former()
        assert command.main(["demo"]) == 1
        said = capfd.readouterr().err
        assert "demo (quick): FAILED" in said and "No space left on device" in said
        assert "Traceback" not in said or not swallowed
        assert world.is_former()
        assert not world.made.partial.exists()  # its room is free again
        (world.root / "notebooks" / "demo.py").write_text(say("pass"))
        assert command.main(["demo"]) == 0
        assert (world.made.folder / "table.txt").read_text() == "new"


def test_a_disk_that_is_full_from_the_start_is_said_before_anything_runs(world, capfd):
    world.book("pass")
    with mounted(world.root / "runs", "-o", "size=64k"):
        (world.root / "runs" / "quick").mkdir()
        with contextlib.suppress(OSError), (world.root / "runs" / "x").open("wb") as file:
            file.write(bytes(1 << 20))
        assert report.main(["--check"]) == 1
        assert capfd.readouterr().err == "error: No space left on device\n"
        assert command.main(["demo"]) == 1
        assert re.fullmatch(r"error: .*No space left on device\n", capfd.readouterr().err)
    assert count(world.root) == []


@pytest.mark.parametrize("step", ["former", "folder", "notebook"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_cut_on_the_way_to_its_place_leaves_the_former(step, killed, world, monkeypatch):
    """By a full disk, or by a kill, which the next run's start makes good."""
    world.book("raise RuntimeError")
    world.former()
    scratch = world.made.partial.with_name("demo.scratch")
    for folder in (world.made.partial, scratch):
        folder.mkdir(parents=True)
    (world.made.partial / "table.txt").write_text("new")
    (scratch / "notebook.ipynb").write_text('{"new": true}')
    target = {
        "former": scratch / "former",
        "folder": world.made.folder,
        "notebook": world.made.notebook,
    }[step]
    rename, replace = Path.rename, Path.replace

    def cut(path, to, how):
        if to == target and path.is_relative_to(world.made.partial.parent) == (step != "former"):
            monkeypatch.undo()
            monkeypatch.setenv("DDBOOK_ROOT", str(world.root))
            if killed:  # nothing that would clean up runs either
                monkeypatch.setattr(run, "_undo_half_a_move", lambda *_: None)
            raise OSError(errno.ENOSPC, "No space left on device", str(to))
        return how(path, to)

    monkeypatch.setattr(Path, "rename", lambda path, to: cut(path, to, rename))
    monkeypatch.setattr(Path, "replace", lambda path, to: cut(path, to, replace))
    with pytest.raises(OSError, match="No space left"):
        run._put_in_place(scratch / "notebook.ipynb", world.made, scratch)
    monkeypatch.undo()
    monkeypatch.setenv("DDBOOK_ROOT", str(world.root))
    if killed:
        assert keys.stale(describe(world.root, "quick", "demo")) == [
            "no finished run"
        ]  # not half of each
        with pytest.raises(run.Failed):
            run.run(describe(world.root, "quick", "demo"))
    assert world.is_former()


def test_a_file_in_a_folder_s_place_is_one_line(world):
    world.book("pass")
    make = batch(world.root)
    (world.root / "runs").write_text("")
    for words in (
        ["run", "NB=demo"],
        ["book"],
        ["plan"],
        ["run", "NB=demo", "ARGS=-p num_seeds 2"],
    ):
        done = in_book(world.root, *make(*words))
        assert done.returncode != 0
        said = complaints(done.stderr)
        assert len(said) == 1 and "Not a directory" in said[0] and "runs/" in said[0], said
        assert "Traceback" not in done.stderr
    assert count(world.root) == []


def test_a_read_only_checkout_is_one_line(world, capfd):
    world.book("pass")
    with mounted(world.root / "runs"):
        remount = ["mount", "-o", "remount,ro", str(world.root / "runs")]
        subprocess.run(remount, check=True)
        assert command.main(["demo"]) == 1
        assert command.main(["demo", "--check"]) == 1
        assert report.main(["--check"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch("error: runs/.*: Read-only file system", line) for line in lines)
    assert count(world.root) == []


def test_a_refusal_of_the_system_names_the_file(world, monkeypatch, capsys):
    world.book("pass")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(world.root / "runs" / "x"))

    monkeypatch.setattr(run, "run", refuse)
    assert command.main(["demo"]) == 1
    assert capsys.readouterr().err == "error: runs/x: Permission denied\n"


@pytest.mark.parametrize("content", ["", '{"key"', "[]", "{}", '{"seconds": "x", "key": 1}', "\0"])
def test_a_damaged_record_or_claims_file_stops_no_report(content, world):
    world.book("pass")
    made = finish(world.root)
    made.record.write_text(content)
    assert keys.seconds(made.record) == 0
    row = report.rows([describe(world.root, "quick", "demo")])[0]
    assert row[1:] == ("", "", "not run") or row[3].startswith("out of date")
    made.record.unlink()
    made.notebook.unlink()
    made.folder.rmdir()
    finish(world.root)
    made.claims.write_text(content)
    assert report.rows([describe(world.root, "quick", "demo")])[0][2:] == ("unreadable", "done")


def test_a_run_on_a_stand_in_is_not_taken_for_one_on_data_that_came_meanwhile(world, monkeypatch):
    import pandas as pd

    world.book("pass")
    origin = collect_provenance(
        notebook="demo",
        profile="quick",
        parameters={},
        commit=Commit("unknown", True),
        wall_seconds=1.0,
        dataset={"name": "digits", "checksum": "00", "stand_in": True},
    )
    there = {"mnist": "absent"}
    monkeypatch.setattr(datasets, "fingerprints", lambda *_: dict(there))

    def execute(job, scratch, *_):
        tables.write_table(pd.DataFrame({"x": [1]}), job.products.partial / "t.parquet", origin)
        datasets.note(job.products.partial, {"mnist": origin.dataset})
        there["mnist"] = "11"
        (scratch / "notebook.ipynb").write_text("{}")
        return scratch / "notebook.ipynb"

    monkeypatch.setattr(run, "_execute", execute)
    run.run(describe(world.root, "quick", "demo"))
    assert files.read_json(world.made.record)["key"]["data"] == {"mnist": "absent"}
    assert keys.stale(describe(world.root, "quick", "demo")) == ["data: mnist"]


# ------------------------------------------------------------------ what Snakemake itself finds


def test_snakemake_s_own_errors_are_shown_in_a_line(world):
    world.book("pass")
    make = batch(world.root)
    source = world.root / "notebooks" / "demo.py"
    source.write_text(source.read_text().replace("needs: []", "needs: [demo]"))
    for words in (["run", "NB=demo"], ["plan"]):
        done = in_book(world.root, *make(*words))
        assert done.returncode != 0
        (said,) = complaints(done.stderr)
        assert "Cyclic dependency on rule demo" in said
        assert "Traceback" not in done.stderr
    assert count(world.root) == []


def test_a_reason_with_braces_is_no_wildcard(world):
    world.book("pass")
    batch(world.root)
    made = finish(world.root)
    record = files.read_json(made.record)
    record["key"]["settings"]["mode"] = "{x}"
    files.write_json(record, made.record)
    done = in_book(world.root, *SNAKEMAKE, "--dry-run", "demo")
    assert done.returncode == 0, done.stderr
    assert "Job " in done.stderr  # the plan is shown as Snakemake has it
    assert "settings: mode was {x}, is go" in done.stdout + done.stderr


# ------------------------------------------------------------------ places, locales, no git


def test_a_batch_in_another_locale_without_git_below_strange_letters(world, tmp_path):
    """Latin-1, in a folder with spaces, quotes, braces and letters that it has not."""
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "en_US.ISO-8859-1")]
    try:
        subprocess.run(command, check=True, capture_output=True)
        locale = {"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1"}
    except (OSError, subprocess.CalledProcessError):
        locale = {"LC_ALL": "C"}
    world.book(
        """
import pandas as pd
from ddbook import page
run = page.open(os.environ["DDBOOK_NAME"], profile, parameters)
run.save("curve", pd.DataFrame({"η": [1.0], "seed": [0]}), data="none")
run.progress(1, 1, "η")
print("η")"""
    )
    make = batch(world.root)
    tools = tmp_path / "tools"  # everything but git
    tools.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for tool in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if not tool.name.startswith("git") and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    environment = {**os.environ, **locale, "PATH": str(tools)}
    command = make("run", "NB=demo", "TIMEOUT=100")
    done = subprocess.run(command, cwd=world.root, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"demo (quick): done in " in done.stderr and b"done\n" in done.stdout
    frame, origin = tables.read_table(world.made.folder / "curve.parquet")
    assert list(frame) == ["η", "seed"] and (origin.commit, origin.dirty) == ("unknown", True)
    assert keys.stale(describe(world.root, "quick", "demo")) == []


def test_a_path_that_is_no_text_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    """A folder that a Latin-1 system named ü, met in a UTF-8 locale."""
    root = tmp_path / os.fsdecode(b"\xfc") / "repo"
    try:
        make_book(root, say("pass"))
    except OSError:
        pytest.skip("the file system takes no such name")
    monkeypatch.setenv("DDBOOK_ROOT", str(root))
    assert command.main(["demo"]) == 2
    assert report.main(["--check"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0] == said[1]
    assert said[0].startswith("error: the checkout's path must be text in this locale, got b'/")
    assert "\\xfc/repo'" in said[0]


# ------------------------------------------------------------------------------- the table


def test_every_fault_of_the_table_has_a_test_that_there_is():
    page = (ROOT / "book" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`tests/" in line]
    assert len(rows) >= 17
    for row in rows:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", row)
        assert named and row.count("`tests/") == len(named), row
        for path, name in named:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in text, f"{path} has no {name}"


def test_the_logger_is_where_snakemake_looks_for_it():
    """A package on the path of the checkout, which the wheel has not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "book/_ext" in project["tool"]["hatch"]["build"]["dev-mode-dirs"]
    assert Path(logger.__file__).parents[1] == ROOT / "book" / "_ext"
    assert Path(logger.__file__).name == "__init__.py"  # a module would not be found
    tried = doctest.testmod(logger)
    assert tried.attempted >= 3 and tried.failed == 0
