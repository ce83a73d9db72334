"""Run one notebook: `python -m ddbook.runner.run NAME --profile quick -p num_seeds 3`.

Everything that can be wrong with what was asked is found before a kernel starts. The kernel
writes to a folder of its own, which takes its place, with the executed notebook last, only when
the run is whole: a killed run leaves nothing that anything reads, and the former run stays.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddbook.runner import cells, files, keys, places, profiles, tables, yaml_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

START_SECONDS = 300  # a busy machine imports slowly; a kernel that cannot start fails at once
TRACEBACK_LINES = 12
FORMER = "former.ipynb"


class Failed(Exception):
    """A run that did not finish; the message is for the reader of the log."""


def run(
    name: str,
    profile: str = "quick",
    overrides: Mapping[str, Any] | None = None,
    *,
    root: Path | None = None,
    log: IO[str] | None = None,
    timeout: float | None = None,
    if_stale: bool = False,
) -> Path:
    """Run notebook `name` and return the path of the executed notebook.

    One that takes longer than `timeout` seconds, waits for other runs not counted, is ended and
    has failed. With `if_stale`, a finished run that still stands is taken for this one: what a
    batch planned may have been done by another since.

    Raises `ValueError` before anything starts when an argument will not do, `Failed` when the
    notebook fails (then the notebook as far as it came lies at `<name>.failed.ipynb`), and
    `OSError` when there is no room for the run, or no leave to write it. The former run stays.
    """
    root = places.root() if root is None else root.resolve()
    log = sys.stderr if log is None else log
    timeout = check_timeout(timeout)
    source, variation = check(name, profile, overrides, root)
    made = places.products(root, profile, name, variation)
    label = f"{name} ({', '.join([profile, *(f'{k}={v}' for k, v in variation.items())])})"
    before = _when(made)
    with alone(made.partial.with_name(f"{made.partial.name}.lock"), label, log) as waited:
        scratch = made.partial.with_name(f"{made.partial.name}.scratch")
        _undo_half_a_move(made, scratch)
        done = if_stale or (waited and _when(made) != before)
        if done and not keys.stale(root, profile, name, overrides):
            print(f"{label}: was done by another process", file=log, flush=True)
            return made.notebook
        start = time.monotonic()
        key = keys.key(root, profile, name, overrides)
        _remove(made.partial, scratch)
        made.notebook.parent.mkdir(parents=True, exist_ok=True)  # or it would fail at its end
        scratch.mkdir(parents=True)
        try:
            given = {k: v for k, v in (overrides or {}).items() if v is not None}
            parameters = {"profile": profile, **given}
            if _draw_again(root, source, made, scratch, parameters, key, label, log, timeout):
                return made.notebook
            made.partial.mkdir(parents=True)
            whole = _execute(root, source, made, scratch, parameters, profile, label, log, timeout)
            seconds = round(time.monotonic() - start, 1)
            key["data"] = _data_of(key, made.partial)
            record = {
                "notebook": name,
                "profile": profile,
                "settings": key["settings"],
                "seconds": seconds,
                "key": key,
                "finished": files.now(),
            }
            files.write_json(record, made.partial / "run.json")
            _put_in_place(whole, made, scratch)
        finally:
            _remove(made.partial, scratch)
    print(
        f"{label}: done in {seconds:.1f} s, {_relative(made.notebook, root)}", file=log, flush=True
    )
    return made.notebook


def check(
    name: str, profile: str, overrides: Mapping[str, Any] | None, root: Path
) -> tuple[Path, dict[str, Any]]:
    """Return a notebook's source and how its settings would differ from the profile's.

    `ValueError` says what is wrong with the name, the profile, a parameter or the source itself.
    """
    places.check_text(root)
    profiles.check_profile(profile)
    source = profiles.check_notebook(root, name)
    settings, variation = profiles.settings(name, profile, overrides, root)
    profiles.check_parameters(source, settings)
    profiles.header(source)
    cells.check(source)
    keys.data_fingerprint(settings)  # an unknown dataset
    return source, variation


def check_timeout(timeout: Any) -> float | None:
    """Return a time limit in seconds, or None for None; `ValueError` for what is none.

    >>> check_timeout("90")
    90.0
    """
    if timeout is None:
        return None
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(timeout, bool) or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
    return seconds


def _when(made: places.Products) -> int | None:
    """Return when a run was finished, to tell it from a later one; None if there is none."""
    try:
        return made.notebook.stat().st_mtime_ns
    except OSError:
        return None


def _data_of(key: Mapping[str, Any], folder: Path) -> str | dict[str, str] | None:
    """Return the part of a key that says which data a run rests on, now that it has run.

    Data that was fetched on the way counts; that which came when a stand-in had been taken for it
    does not. Of several datasets, those count that a table names.
    """
    before, now = key["data"], keys.data_fingerprint(key["settings"])
    noted = (tables.read_table(path)[1].dataset for path in folder.glob("[!.]*.parquet"))
    named = {dataset["name"]: dataset["stand_in"] for dataset in noted if dataset is not None}
    if isinstance(now, dict):
        real = {name for name, stand_in in named.items() if not stand_in}
        return {name: now[name] if name in real else before[name] for name in now}
    return before if any(named.values()) else now


@contextlib.contextmanager
def alone(lock: Path, label: str, log: IO[str]) -> Iterator[bool]:
    """Hold a run's lock, and say whether another process (of a killed batch, say) had it first.

    The system drops the lock when the process ends, however it ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        waited = not _grasp(file)
        if waited:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            print(f"{label}: waits for the process {holder} that runs it", file=log, flush=True)
            while not _grasp(file):
                time.sleep(1)
        file.truncate(0)
        file.write(f"{os.getpid()}")
        file.flush()
        yield waited


def _grasp(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _execute(
    root: Path,
    source: Path,
    made: places.Products,
    scratch: Path,
    parameters: dict[str, Any],
    profile: str,
    label: str,
    log: IO[str],
    timeout: float | None,
) -> Path:
    """Execute the notebook and return the path of the result, or move it aside and raise."""
    import nbformat

    notebook = _notebook_of(source)
    output, noise = scratch / "notebook.ipynb", scratch / "kernel.log"
    with (
        _device(profiles.header(source).gpu and profile != "quick", label, log) as device,
        _Limit(timeout) as limit,
    ):
        environment = {**device, **_environment(root, source, made.partial, scratch)}
        kernel = _kernel_manager(environment, log, noise, limit)
        error = _papermill(notebook, output, parameters, root, kernel)
    try:
        executed = nbformat.read(output, as_version=4)
    except (OSError, ValueError):  # it did not come to that, or was cut when the disk was full
        executed = notebook
    _tidy(executed, source, made, root)
    if error is None:
        nbformat.write(executed, output)
        return output
    spoken = noise.read_text("utf-8", "replace").splitlines() if noise.is_file() else []
    said = [str(error), *(line for line in spoken if "WARNING" not in line)]
    if limit.passed:
        said = [f"ended after {timeout:g} s, its time limit"]
        _note(executed, "TimeoutError", said[0])
    elif isinstance(error, OSError):
        said = [f"OSError: {places.explain(error, root)}"]
    _remove(made.partial)  # which may make room for what can be kept
    try:
        nbformat.write(executed, output)
        made.failed.parent.mkdir(parents=True, exist_ok=True)
        output.replace(made.failed)
        kept = f"as far as it came: {_relative(made.failed, root)}"
    except OSError as exception:
        kept = f"nothing of it could be kept: {places.explain(exception, root)}"
    brief = limit.passed or isinstance(error, OSError)
    raise Failed(_report(label, executed, source, said, kept, root, brief)) from error


def _notebook_of(source: Path) -> NotebookNode:
    import jupytext

    notebook = jupytext.reads(profiles.text(source), fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return notebook


def _environment(root: Path, source: Path, folder: Path, scratch: Path) -> dict[str, str]:
    """What a kernel is told: whose it is, where its tables lie, and to be like any other."""
    return {
        "DDBOOK_ROOT": str(root),
        "DDBOOK_NAME": source.stem,
        "DDBOOK_FOLDER": str(folder),
        "PYTHONHASHSEED": "0",
        # Agg, as servers have it set, would leave the pages without figures
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # a person's IPython settings and history are no part of a run
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _papermill(
    notebook: NotebookNode, output: Path, parameters: dict[str, Any], root: Path, kernel: type
) -> Exception | None:
    """Execute a notebook to `output` and return what stopped it, if anything did."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # we say it ourselves, once
    try:
        papermill.execute_notebook(
            notebook,
            re.sub("[{}]", r"\g<0>\g<0>", str(output)),  # papermill fills in what is in braces
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(root / "notebooks"),
            start_timeout=START_SECONDS,
            kernel_manager_class=kernel,
        )
    except (papermill.PapermillExecutionError, RuntimeError, OSError) as error:
        # RuntimeError is nbclient's: the kernel died or never started; OSError: no room
        return error
    return None


def _draw_again(
    root: Path,
    source: Path,
    made: places.Products,
    scratch: Path,
    parameters: dict[str, Any],
    key: dict[str, Any],
    label: str,
    log: IO[str],
    timeout: float | None,
) -> bool:
    """Execute the figure cells of a finished run from its tables, where nothing else has changed.

    False where that is not all, where a figure uses what a cell computes, or where drawing fails:
    then the notebook runs as a whole.
    """
    import nbformat

    needed = cells.to_draw(cells.read(source))
    try:
        record = files.read_json(made.record)
        former = nbformat.read(made.notebook, as_version=4)
    except Exception:  # no finished run, or whatever nbformat meets in a broken file
        return False
    if needed is None or not keys.only_figures(record.get("key"), key):
        return False
    start = time.monotonic()
    whole, drawing = _notebook_of(source), _notebook_of(source)
    code = [cell for cell in drawing.cells if cell.cell_type == "code" and cell.source.strip()]
    drawing.cells = [cell for cell, wanted in zip(code, needed, strict=True) if wanted]
    output = scratch / "figures.ipynb"
    with _Limit(timeout) as limit:
        environment = {
            "JAX_PLATFORMS": "cpu",
            **_environment(root, source, made.folder, scratch),
            "DDBOOK_DRAWS": "1",
        }
        kernel = _kernel_manager(environment, log, scratch / "kernel.log", limit)
        error = _papermill(drawing, output, parameters, root, kernel)
    if error is not None:
        print(f"{label}: could not be drawn from its tables; it runs as a whole", file=log)
        return False
    drawn = _outputs(nbformat.read(output, as_version=4), figures=True)
    computed = _outputs(former, figures=False)
    for cell in whole.cells:
        if cell.cell_type == "code" and cell.source.strip():
            cell.outputs = (drawn if _is_figure(cell) else computed).pop(0)
    _tidy(whole, source, made, root)
    nbformat.write(whole, output)
    output.replace(made.notebook)
    record["key"][keys.FIGURES] = key[keys.FIGURES]
    files.write_json(record, made.record)
    seconds = time.monotonic() - start
    print(f"{label}: figures drawn again in {seconds:.1f} s", file=log, flush=True)
    return True


def _is_figure(cell: NotebookNode) -> bool:
    return cells.FIGURE in cell.metadata.get("tags", [])


def _outputs(notebook: NotebookNode, *, figures: bool) -> list[list[NotebookNode]]:
    """The outputs of a notebook's code cells that are figures, or of those that are not."""
    return [
        cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and "injected-parameters" not in cell.metadata.get("tags", [])
        and _is_figure(cell) == figures
    ]


class _Limit:
    """A time limit: kills the kernel that `watch` named when the seconds have passed.

    A kill cannot be put off, by a loop in compiled code or by a handler, and takes with it what
    the notebook started.
    """

    def __init__(self, seconds: float | None) -> None:
        self.passed = False
        self._kernel: int | None = None
        self._lock = threading.Lock()
        longest = threading.TIMEOUT_MAX
        self._timer = None if seconds is None else threading.Timer(min(seconds, longest), self._end)

    def __enter__(self) -> _Limit:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, kernel: int | None) -> None:
        """Say which process is to be killed: the leader of a group of its own."""
        with self._lock:
            self._kernel = kernel
            if self.passed:
                self._kill()

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            self._kill()

    def _kill(self) -> None:
        if self._kernel is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._kernel, signal.SIGKILL)


def _kernel_manager(environment: dict[str, str], log: IO[str], noise: Path, limit: _Limit) -> type:
    """Return a kernel manager whose kernels are this Python, whatever kernels are installed.

    The kernel gets a copy of the log's file descriptor, to which `page.Run.progress` writes: what
    it prints in the usual way would be on the page. What it says of itself goes to `noise`.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = KernelSpec(argv=argv, display_name="Python 3", language="python")

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            inherited = {**os.environ, **environment}
            inherited.pop("PYTHONSTARTUP", None)
            with contextlib.ExitStack() as files:
                own = files.enter_context(noise.open("ab"))
                options.update(env=inherited, stdout=own, stderr=own)
                with contextlib.suppress(OSError, ValueError):  # a log in memory
                    descriptor = os.dup(log.fileno())
                    files.callback(os.close, descriptor)
                    inherited["DDBOOK_LOG_FD"] = str(descriptor)
                    options.update(pass_fds=(descriptor,))
                await super().start_kernel(**options)
                limit.watch(getattr(self.provisioner, "pid", None))

    return ThisPython


@contextlib.contextmanager
def _device(gpu: bool, label: str, log: IO[str]) -> Iterator[dict[str, str]]:
    """Give the environment that binds a kernel to its device; hold a GPU's lock for it.

    JAX takes most of a GPU's memory when it starts, so a device has one run at a time.
    """
    candidates = visible_gpus() if gpu else []
    if not candidates:
        # On small games a GPU's launches cost more than they save; JAX_PLATFORMS says otherwise.
        yield {} if "JAX_PLATFORMS" in os.environ or gpu else {"JAX_PLATFORMS": "cpu"}
        return
    waiting = False
    while True:
        for device in candidates:
            lock = Path(tempfile.gettempdir()) / f"ddbook-gpu-{os.getuid()}-{device}.lock"
            with lock.open("ab") as file:
                if not _grasp(file):
                    continue
                fraction = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
                yield {
                    "CUDA_VISIBLE_DEVICES": device,
                    "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction,  # it has the device to itself
                }
                return
        if not waiting:
            print(f"{label}: waits for a GPU", file=log, flush=True)
            waiting = True
        time.sleep(1)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if platforms == "cpu" or not any(importlib.util.find_spec(plugin) for plugin in plugins):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # a scheduler's, or the user's, choice
        return [device.strip() for device in visible.split(",") if device.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"(?m)^GPU (\d+):", listed.decode("utf-8", "replace"))


def _tidy(notebook: NotebookNode, source: Path, made: places.Products, root: Path) -> None:
    """Hide what papermill injected from the page, and drop this machine's paths."""
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
    record = notebook.metadata.get("papermill", {})
    for path, value in (("input_path", source), ("output_path", made.notebook)):
        if path in record:
            record[path] = _relative(value, root)


def _put_in_place(whole: Path, made: places.Products, scratch: Path) -> None:
    """Let the finished run take its place, so that at no moment an old part meets a new one."""
    made.notebook.parent.mkdir(parents=True, exist_ok=True)
    try:
        if made.notebook.exists():
            made.notebook.rename(scratch / FORMER)  # from here on there is no finished run …
        if made.folder.exists():
            made.folder.rename(scratch / "former")
        made.partial.rename(made.folder)
        whole.replace(made.notebook)  # … until here
    except BaseException:
        _undo_half_a_move(made, scratch)
        raise
    made.failed.unlink(missing_ok=True)


def _undo_half_a_move(made: places.Products, scratch: Path) -> None:
    """Put the former run back if the new one was cut off on its way to its place."""
    if made.notebook.exists() or not (scratch / FORMER).is_file():
        return
    if (scratch / "former").is_dir():
        _remove(made.folder)
        (scratch / "former").rename(made.folder)
    (scratch / FORMER).rename(made.notebook)


def _note(notebook: NotebookNode, name: str, message: str) -> None:
    """Give the cell that was running an error, as an exception would have."""
    import nbformat.v4

    if started := _started(notebook):
        text = f"{name}: {message}"
        started[-1].outputs.append(
            nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[text])
        )


def _started(notebook: NotebookNode) -> list[NotebookNode]:
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    return [c for c in code if (c.metadata.get("papermill") or {}).get("start_time")]


def _report(
    label: str,
    notebook: NotebookNode,
    source: Path,
    said: list[str],
    kept: str,
    root: Path,
    brief: bool,
) -> str:
    """Say which cell failed, with the last lines of its exception, and where the notebook is.

    `said` is what is known when no cell has an exception, since the kernel died; `brief` if it is
    the whole reason.
    """
    started = _started(notebook)
    where, lines = "its kernel, before the first cell", []
    if started:
        cell = started[-1]  # papermill stops at the first that fails
        text, first = profiles.text(source), cell.source.strip().partition("\n")[0]
        at = text.find(cell.source)
        line = f":{text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
        where = f"cell [{len(started)}], {_relative(source, root)}{line}: {first[:60]}"
        for output in cell.get("outputs", []):
            if output.output_type == "error" and not brief:
                lines = "\n".join(output.traceback).splitlines()
    if brief:
        return f"{label}: FAILED, {said[0]}, in {where}\n  {kept}"
    if not lines:
        lines = [*said, "(a kernel dies when it is killed, or out of memory)"]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    return "\n".join(
        [
            f"{label}: FAILED in {where}",
            *(f"    {line}" for line in plain[-TRACEBACK_LINES:]),
            f"  {kept}",
        ]
    )


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    # argparse would take the value -1e-3 for an option: pair each -p with its two words first
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in ("-p", "--parameter"):
            key, value = next(rest, None), next(rest, None)
            if key is None or value is None:
                raise ValueError(f"{word} wants a name and a value, such as -p num_seeds 3")
            word = f"--parameter={key}={value}"
        words.append(word)
    parser = argparse.ArgumentParser(
        prog="python -m ddbook.run",
        description="Run one notebook with a profile's settings.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="a notebook: notebooks/<name>.py")
    parser.add_argument("--profile", default="quick", help="quick, standard or paper")
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME VALUE",
        help="a setting in place of the profile's; the value is YAML, such as 1e-3 or [1, 2]",
    )
    parser.add_argument("--check", action="store_true", help="check the arguments, run nothing")
    parser.add_argument(
        "--timeout", metavar="SECONDS", help="end a run that takes longer than this"
    )
    parser.add_argument(
        "--if-stale", action="store_true", help="run nothing if a finished run still stands"
    )
    return parser.parse_args(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a notebook from the command line; return the exit status."""
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the kernel goes too
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        pairs = (parameter.partition("=") for parameter in options.parameter)
        overrides: dict[str, Any] = {}
        for key, _, value in pairs:
            if key in overrides:
                raise ValueError(f"parameter: {key} is given twice")
            try:
                overrides[key] = yaml_text.load_yaml(value)
            except ValueError as error:
                raise ValueError(f"parameter: {key}: {error}") from error
            if overrides[key] is None:  # it would stand for the profile's value
                raise ValueError(f"parameter: {key} has no value")
        timeout = check_timeout(options.timeout)
        if options.check:
            check(options.name, options.profile, overrides, places.root())
            places.check_writable(places.root(), options.profile)
        else:
            run(
                options.name,
                options.profile,
                overrides,
                timeout=timeout,
                if_stale=options.if_stale,
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {places.explain(error)}", file=sys.stderr)
        return 1
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was whole stays, the rest will run again", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, former)
    return 0


if __name__ == "__main__":
    sys.exit(main())
