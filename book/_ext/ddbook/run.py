"""Run one notebook: `python -m ddbook.run NAME --profile quick -p num_seeds 3`.

Everything that can be wrong with what was asked is found before a kernel starts. The kernel
writes to a folder of its own, which takes its place, with the executed notebook last, only when
the run is whole: a killed run leaves nothing that anything reads.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddbook import keys, places, profiles
from ddlib import results

if TYPE_CHECKING:
    from nbformat import NotebookNode

START_SECONDS = 300  # a busy machine imports slowly; a kernel that cannot start fails at once
TRACEBACK_LINES = 12


class Failed(Exception):
    """A run that did not finish; the message is for the reader of the log."""


def run(
    name: str,
    profile: str = "quick",
    overrides: Mapping[str, Any] | None = None,
    *,
    root: Path | None = None,
    log: IO[str] | None = None,
) -> Path:
    """Run notebook `name` and return the path of the executed notebook.

    Raises `ValueError` before anything starts when an argument will not do, and `Failed` when the
    notebook fails; then the notebook as far as it came lies at `<name>.failed.ipynb`.
    """
    root = places.root() if root is None else root.resolve()
    log = sys.stderr if log is None else log
    source, variation = check(name, profile, overrides, root)
    made = places.products(root, profile, name, variation)
    label = f"{name} ({', '.join([profile, *(f'{k}={v}' for k, v in variation.items())])})"
    with alone(made.partial.with_name(f"{made.partial.name}.lock"), label, log) as waited:
        if waited and not keys.stale(root, profile, name, overrides):
            print(f"{label}: was done by another process", file=log, flush=True)
            return made.notebook
        start = time.monotonic()
        key = keys.key(root, profile, name, overrides)
        scratch = made.partial.with_name(f"{made.partial.name}.scratch")
        _remove(made.partial, scratch)
        made.partial.mkdir(parents=True)
        scratch.mkdir()
        try:
            given = {k: v for k, v in (overrides or {}).items() if v is not None}
            parameters = {"profile": profile, **given}
            whole = _execute(root, source, made, scratch, parameters, profile, label, log)
            seconds = round(time.monotonic() - start, 1)
            # Data that was fetched on the way is what the run rests on.
            key["data"] = keys.data_fingerprint(key["settings"])
            record = {
                "notebook": name,
                "profile": profile,
                "settings": key["settings"],
                "seconds": seconds,
                "key": key,
                "finished": results.now(),
            }
            results.write_json(record, made.partial / "run.json")
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
    profiles.check_profile(profile)
    source = profiles.check_notebook(root, name)
    settings, variation = profiles.settings(name, profile, overrides, root)
    profiles.check_parameters(source, settings)
    profiles.header(source)
    keys.data_fingerprint(settings)  # an unknown dataset
    return source, variation


@contextlib.contextmanager
def alone(lock: Path, label: str, log: IO[str]) -> Iterator[bool]:
    """Hold a run's lock, and say whether another process (of a killed batch, say) had it first.

    The system drops the lock when the process ends, however it ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
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


def _grasp(file: IO[str]) -> bool:
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
) -> Path:
    """Execute the notebook and return the path of the result, or move it aside and raise."""
    import jupytext
    import nbformat
    import papermill

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    output, noise = scratch / "notebook.ipynb", scratch / "kernel.log"
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # we say it ourselves, once
    error: BaseException | None = None
    with _device(profiles.header(source).gpu and profile != "quick", label, log) as device:
        environment = {
            **device,
            "DDBOOK_ROOT": str(root),
            "DDBOOK_NAME": source.stem,
            "DDBOOK_FOLDER": str(made.partial),
            "PYTHONHASHSEED": "0",
            # Agg, as servers have it set, would leave the pages without figures
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            # a person's IPython settings and history are no part of a run
            "IPYTHONDIR": str(scratch / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        try:
            papermill.execute_notebook(
                notebook,
                str(output),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(root / "notebooks"),
                start_timeout=START_SECONDS,
                kernel_manager_class=_kernel_manager(environment, log, noise),
            )
        except papermill.PapermillExecutionError as exception:
            error = exception
        except RuntimeError as exception:  # nbclient's: the kernel died or never started
            error = exception
    executed = nbformat.read(output, as_version=4) if output.is_file() else notebook
    _tidy(executed, source, made, root)
    nbformat.write(executed, output)
    if error is None:
        return output
    made.failed.parent.mkdir(parents=True, exist_ok=True)
    output.replace(made.failed)
    spoken = noise.read_text(errors="replace").splitlines() if noise.is_file() else []
    said = [str(error), *(line for line in spoken if "WARNING" not in line)]
    raise Failed(_report(label, executed, source, said, made.failed, root)) from error


def _kernel_manager(environment: dict[str, str], log: IO[str], noise: Path) -> type:
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
            with lock.open("a") as file:
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
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"(?m)^GPU (\d+):", listed.stdout)


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
    made.notebook.unlink(missing_ok=True)  # from here on there is no finished run …
    if made.folder.exists():
        made.folder.rename(scratch / "former")
    made.partial.rename(made.folder)
    whole.replace(made.notebook)  # … until here
    made.failed.unlink(missing_ok=True)


def _report(
    label: str,
    notebook: NotebookNode,
    source: Path,
    said: list[str],
    failed: Path,
    root: Path,
) -> str:
    """Say which cell failed, with the last lines of its exception, and where the notebook is.

    `said` is what is known when no cell has an exception, since the kernel died.
    """
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    started = [c for c in code if (c.metadata.get("papermill") or {}).get("start_time")]
    where, lines = "its kernel, before the first cell", []
    if started:
        cell = started[-1]  # papermill stops at the first that fails
        text, first = source.read_text(encoding="utf-8"), cell.source.strip().partition("\n")[0]
        at = text.find(cell.source)
        line = f":{text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
        where = f"cell [{len(started)}], {_relative(source, root)}{line}: {first[:60]}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                lines = "\n".join(output.traceback).splitlines()
    if not lines:
        lines = [*said, "(a kernel dies when it is killed, or out of memory)"]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    return "\n".join(
        [
            f"{label}: FAILED in {where}",
            *(f"    {line}" for line in plain[-TRACEBACK_LINES:]),
            f"  as far as it came: {_relative(failed, root)}",
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
                overrides[key] = profiles.load_yaml(value)
            except ValueError as error:
                raise ValueError(f"parameter: {key}: {error}") from error
            if overrides[key] is None:  # it would stand for the profile's value
                raise ValueError(f"parameter: {key} has no value")
        if options.check:
            check(options.name, options.profile, overrides, places.root())
        else:
            run(options.name, options.profile, overrides)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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
