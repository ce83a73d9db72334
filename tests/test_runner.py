"""The runner, on a small book in a temporary folder.

A kernel's start takes seconds: the tests share one run that succeeds and one that is killed.
"""

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from books_for_tests import (
    ROOT,
    SECTION,
    SOURCE,
    finish,
    in_book,
    is_running,
    make_book,
    wait_for,
)
from ddbook.runner import (
    command,
    files,
    kernel,
    keys,
    lock,
    places,
    report,
    run,
    tables,
)
from ddbook.runner.job import describe

# The runner: what is refused before a kernel starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demp"], "error: notebook must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            ["demo", "--profile", "quik"],
            "error: profile must be one of quick, standard, paper, got 'quik'",
        ),
        (
            ["demo", "-p", "rates", "[-1e-3]"],
            "error: parameter: rates[0] must be a positive number such as 0.1, got -0.001",
        ),
        (
            ["demo", "-p", "num_seeds", "-1"],
            "error: parameter: num_seeds must be a positive number such as 3, got -1",
        ),
        (
            ["demo", "-p", "num_seeds", ".nan"],
            "error: parameter: num_seeds must be an integer such as 3, got nan",
        ),
        (["demo", "-p", "num_seeds"], "error: -p wants a name and a value"),
        (
            ["demo", "-p", "mode", "a", "-p", "mode", "b"],
            "error: parameter: mode must be given once, got it twice",
        ),
        (["demo", "-p", "mode", "{"], "error: parameter: mode: not YAML"),
        (["demo", "-p", "mode", "~"], "error: parameter: mode must have a value, got none"),
        (["demo", "-p", "mode", ""], "error: parameter: mode must have a value, got none"),
        (["demo", "-pmode"], "error: parameter: mode must have a value, got none"),
        (
            ["demo", "-p", "num_seeds", "1:30"],
            "error: parameter: num_seeds must be an integer such as 3, got '1:30'",
        ),
        (
            ["demo", "-p", "num_seeds", "0x1"],
            "error: parameter: num_seeds must be an integer such as 3, got '0x1'",
        ),
        (
            ["demo", "-p", "rates", "[1e999]"],
            "error: parameter: rates[0] must be a finite number such as 0.1, got inf",
        ),
        (
            ["demo", "-p", "mode", "yes", "-p", "num_seeds", "on"],
            "error: parameter: num_seeds must be an integer such as 3, got 'on'",
        ),
    ],
)
def test_the_command_line_refuses_before_anything_starts(arguments, message, book, capsys):
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (book / "runs").exists()


def test_a_run_under_way_is_waited_for_and_not_run_twice(book, capsys, monkeypatch):
    file = places.products(book, "quick", "demo").partial.with_name("demo.lock")
    file.parent.mkdir(parents=True)
    file.write_text("4321")
    held = file.open("a")
    fcntl.flock(held, fcntl.LOCK_EX)

    def other_process(_seconds: float) -> None:
        finish(book)
        held.close()

    monkeypatch.setattr(lock.time, "sleep", other_process)
    assert command.main(["demo"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "demo (quick): waits for the process 4321 that runs it",
        "demo (quick): was done by another process",
    ]


def test_each_gpu_has_one_run_and_scheduler_choices_stand(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(
        kernel.importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin"
    )
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    log = io.StringIO()
    with kernel.on_device(True, "a", log) as first, kernel.on_device(True, "b", log) as second:
        assert [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]] == ["2", "5"]
        assert float(first["XLA_PYTHON_CLIENT_MEM_FRACTION"]) > 0.75

        def release(_seconds: float) -> None:
            raise TimeoutError

        monkeypatch.setattr(kernel.time, "sleep", release)
        with pytest.raises(TimeoutError), kernel.on_device(True, "c", log):
            pass
    assert log.getvalue() == "c: waits for a GPU\n"
    with kernel.on_device(True, "d", log) as third:
        assert third["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with kernel.on_device(True, "e", log) as fourth:
        assert fourth == {}


def test_a_notebook_that_asks_for_no_gpu_keeps_off_it(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with kernel.on_device(False, "a", io.StringIO()) as environment:
        assert environment == {"JAX_PLATFORMS": "cpu"}
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with kernel.on_device(False, "a", io.StringIO()) as environment:
        assert environment == {}


# The runner: kernels


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A book in which `demo` has run, after a failed run that left things behind; and its log."""
    root = make_book(tmp_path_factory.mktemp("done") / "repo")
    made = places.products(root, "quick", "demo")
    for path in (made.failed, made.folder / "stale.parquet", made.partial / "half.parquet"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of a former run")
    with (root / "log").open("w+") as log:
        returned = run.run(describe(root, "quick", "demo"), log=log)
        log.seek(0)
        said = log.read()
    assert returned == made.notebook
    return SimpleNamespace(root=root, made=made, log=said)


def test_a_finished_run_is_in_place_and_nothing_else_is(done):
    made = done.made
    assert keys.stale(describe(done.root, "quick", "demo")) == []
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "claims.json",
        "curve.parquet",
        "run.json",
    ]
    assert not made.failed.exists() and not made.partial.exists()
    left = [p for p in (done.root / "runs" / ".partial").rglob("*") if p.is_file()]
    assert [path.name for path in left] == ["demo.lock"]
    frame, provenance = tables.read_table(made.folder / "curve.parquet")
    assert len(frame) == 3 and provenance.seeds == [0, 1, 2] and provenance.profile == "quick"
    record = files.read_json(made.record)
    assert record["settings"] == SECTION and record["seconds"] > 0


def test_the_log_of_a_run_is_its_progress_and_one_line(done):
    lines = done.log.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  demo (quick): 3/3, ") and lines[0].endswith(" done")
    assert lines[1].startswith("demo (quick): done in ")
    assert lines[1].endswith(", runs/quick/demo.ipynb")


def test_the_executed_notebook_ran_in_this_python_and_hides_the_plumbing(done):
    notebook = nbformat.read(done.made.notebook, as_version=4)
    injected = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert [cell.source.splitlines()[1:] for cell in injected] == [
        ['profile = "quick"', "parameters = {}"]
    ]
    assert "remove-cell" in injected[0].metadata.tags
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = next(output.text for output in outputs if output.output_type == "stream")
    folder = done.root / "notebooks"
    assert printed.split() == [
        sys.executable,
        "0",
        os.environ.get("JAX_PLATFORMS", "cpu"),
        str(folder),
    ]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert str(done.root) not in json.dumps(notebook.metadata)


def test_the_table_after_a_batch_says_what_is_judged(done, capsys, monkeypatch):
    monkeypatch.setenv("DDBOOK_ROOT", str(done.root))
    assert report.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["notebook", "seconds", "claims", "judged", "status", "(quick)"]
    assert lines[2].startswith("demo ") and lines[2].endswith("  1 holds        done")
    assert lines[3].split() == ["reader", "not", "run"]
    assert lines[-1] == "The HTML is not built."


def test_snakemake_runs_what_changed_and_not_what_was_touched(done, tmp_path):
    root = tmp_path / "repo"
    shutil.copytree(done.root, root)  # dates are kept, as they are not in a checkout: touch all
    shutil.copy(ROOT / "Snakefile", root)
    shutil.copytree(ROOT / "profiles" / "default", root / "profiles" / "default")
    for path in (root / "notebooks").iterdir():
        path.touch()
    snakemake = [str(Path(sys.executable).with_name("snakemake")), "--dry-run"]
    plan = in_book(root, *snakemake, "runs/quick/demo.ipynb")
    assert plan.returncode == 0 and "Nothing to be done" in plan.stdout + plan.stderr
    source = root / "notebooks" / "demo.py"
    source.write_text(SOURCE + "more = 1\n")
    plan = in_book(root, *snakemake, "runs/quick/reader.ipynb")
    assert plan.returncode == 0
    assert "demo (quick) runs: code changed" in plan.stdout
    assert "reader (quick) runs: no finished run" in plan.stdout
    assert plan.stdout.index(": demo (quick)") < plan.stdout.index(": reader (quick)")
    source.write_text(SOURCE)
    plan = in_book(root, *snakemake, "runs/quick/demo.ipynb")
    assert "Nothing to be done" in plan.stdout + plan.stderr


def test_a_failing_notebook_says_where_and_leaves_the_former_run(book, capfd):
    made = finish(book)
    broken = SOURCE.replace('if s.mode == "fail"', 'if s.mode == "go"')
    (book / "notebooks" / "demo.py").write_text(broken)
    assert command.main(["demo"]) == 1
    said = capfd.readouterr().err
    line = broken[: broken.index('if s.mode == "go"')].count("\n") + 1
    assert f'FAILED in cell [5], notebooks/demo.py:{line}: if s.mode == "go":' in said
    assert "    RuntimeError: what went wrong\n" in said
    assert said.endswith("  as far as it came: runs/quick/demo.failed.ipynb\n")
    assert "what went wrong" in made.failed.read_text()
    assert made.notebook.read_text() == "{}" and not made.partial.exists()
    assert (
        report.rows([describe(book, "quick", "demo")])[0][3]
        == "FAILED: runs/quick/demo.failed.ipynb"
    )


def test_a_kernel_that_dies_is_a_failed_run(book, capfd):
    assert command.main(["demo", "-p", "mode", "die"]) == 1
    said = capfd.readouterr().err
    assert "demo (quick, mode=die): FAILED in cell [5], notebooks/demo.py:" in said
    assert "Kernel died" in said and "out of memory" in said
    variations = book / "runs" / "variations" / "quick"
    assert [path.name.split(".", 1)[1] for path in variations.iterdir()] == ["failed.ipynb"]


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_a_run_that_is_ended_leaves_nothing_that_is_read(ending, book):
    made = places.products(book, "quick", "demo", {"mode": "wait"})
    drawing = SOURCE.index("import matplotlib"), SOURCE.index("import pandas")
    light = SOURCE[: drawing[0]] + SOURCE[drawing[1] :]  # nothing is drawn before it waits
    (book / "notebooks" / "demo.py").write_text(light.replace("plt.plot([1, 2])\n", ""))
    # whoever runs the tests may ignore interrupts, and children inherit that
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from ddbook.runner import command; sys.exit(command.main())"
    command = [sys.executable, "-c", code, "demo", "-p", "mode", "wait"]
    with subprocess.Popen(
        command, env={**os.environ, "DDBOOK_ROOT": str(book)}, stderr=subprocess.PIPE, text=True
    ) as runner:
        pid = made.partial / "pid"
        wait_for(lambda: pid.is_file() and pid.read_text().strip(), 60)
        kernel = int(pid.read_text())
        runner.send_signal(getattr(signal, ending))
        said = runner.communicate(timeout=30)[1]
    assert runner.returncode == {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[ending], said
    wait_for(lambda: not is_running(kernel), 20)
    assert not made.notebook.exists() and not made.folder.exists()
    read = [
        *book.glob("runs/*/*.ipynb"),
        *book.glob("runs/*/*.parquet"),
        *book.glob("runs/[!.]*/*/*"),
    ]
    assert read == []
    if ending == "SIGKILL":
        assert (made.partial / "curve.parquet").is_file()  # it was half-way
    else:
        assert not made.partial.exists()
