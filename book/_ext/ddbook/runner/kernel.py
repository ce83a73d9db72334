"""The kernel that executes a notebook: this Python, on one device, within a time limit."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddbook.runner.lock import grasp

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from ddbook.runner.job import Job

START_SECONDS = 300  # a busy machine imports slowly; a kernel that cannot start fails at once


def notebook_of(job: Job) -> NotebookNode:
    """Return the notebook that a job's source stands for, to be executed by this Python."""
    import jupytext

    notebook = jupytext.reads(job.text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return notebook


def execute(
    job: Job,
    notebook: NotebookNode,
    output: Path,
    *,
    folder: Path,
    device: Mapping[str, str],
    log: IO[str],
    limit: Limit,
) -> Exception | None:
    """Execute a notebook to `output`, its tables to `folder`; return what stopped it, if any did.

    What the kernel says of itself goes to `kernel.log` beside the output.
    """
    import papermill

    scratch = output.parent
    environment = {
        **device,
        "DDBOOK_ROOT": str(job.root),
        "DDBOOK_NAME": job.name,
        "DDBOOK_FOLDER": str(folder),
        "PYTHONHASHSEED": "0",
        # Agg, as servers have it set, would leave the pages without figures
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # a person's IPython settings and history are no part of a run
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # we say it ourselves, once
    try:
        papermill.execute_notebook(
            notebook,
            re.sub("[{}]", r"\g<0>\g<0>", str(output)),  # papermill fills in what is in braces
            job.inputs,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(job.root / "notebooks"),
            start_timeout=START_SECONDS,
            kernel_manager_class=_manager(environment, log, scratch / "kernel.log", limit),
        )
    except (papermill.PapermillExecutionError, RuntimeError, OSError) as error:
        # RuntimeError is nbclient's: the kernel died or never started; OSError: no room
        return error
    return None


class Limit:
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

    def __enter__(self) -> Limit:
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


def _manager(environment: dict[str, str], log: IO[str], noise: Path, limit: Limit) -> type:
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
                kernel = getattr(self.provisioner, "pid", None)
                limit.watch(kernel)
                if os.environ.get("DDBOOK_LAST") == "1":
                    rank_last(kernel)

    return ThisPython


def rank_last(process: int | None) -> None:
    """Give a process what others leave, as far as this system lets us.

    A kernel is a session of its own. Where Linux shares the processor out by sessions
    (`autogroup`), a process's nice value counts among those of its session only.
    """
    if process is None:
        return
    with contextlib.suppress(OSError, AttributeError):  # gone, not ours, or no such system
        os.setpriority(os.PRIO_PROCESS, process, 19)
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text("19", encoding="ascii")


@contextlib.contextmanager
def on_device(gpu: bool, label: str, log: IO[str]) -> Iterator[dict[str, str]]:
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
                if not grasp(file):
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
