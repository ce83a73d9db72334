"""Where a table came from: commit, versions, device, settings and data.

JAX is imported where it is used: the ledger and the runner, which want only the rest, start in a
tenth of the time.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddbook.runner import datasets
from ddbook.runner.files import now, plain

GIT_SECONDS = 30
VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a table came from: everything one needs to make it again, and when and on what.

    `parameters` are the notebook's settings, `dataset` is what `ddbook.runner.datasets` says of a
    record; `wall_seconds` runs from the notebook's start to the table; `created` is UTC, ISO.
    A tree without a known commit counts as dirty: nobody can check it out.
    """

    notebook: str
    profile: str
    parameters: dict[str, Any]
    seeds: list[int]
    commit: str
    dirty: bool
    versions: dict[str, str]
    device: str
    dataset: datasets.Recorded
    wall_seconds: float
    created: str


class Commit(NamedTuple):
    """A commit's hash (or "unknown") and whether the tree differs from it."""

    commit: str
    dirty: bool


def commit_of(root: str | os.PathLike[str], *, ignore: Sequence[str] = ()) -> Commit:
    """Return the commit that is checked out in `root`, and whether the tree differs from it.

    Only a repository whose top is `root` itself can tell: the commit of one around it, or of one
    that a variable such as `GIT_DIR` names, says nothing about what lies here. Where there is none
    or git will not say, the commit is "unknown" and the tree dirty.

    Files under a folder named in `ignore` do not count. Untracked files do, unless one of the
    tree's own `.gitignore` files names them: a person's settings may hide a module. So do files
    that git was told not to look at (`assume-unchanged`, `skip-worktree`).
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            # a replaced object or a file monitor's word is not what lies there
            ["git", "--no-replace-objects", "-c", "core.fsmonitor=false", "-C", folder, *words],
            capture_output=True,
            check=True,
            timeout=GIT_SECONDS,
            env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
        )
        return os.fsdecode(done.stdout).removesuffix("\n")

    folder = os.fspath(root)
    paths = ["--", ".", *(f":(exclude){path}" for path in ignore)]
    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), folder):
            return Commit("unknown", True)
        head = git("rev-parse", "--verify", "HEAD^{commit}")
        status = ["status", "--porcelain", "--ignore-submodules=none"]
        changed = git(*status, "--untracked-files=no", *paths)
        untracked = git("ls-files", "--others", "--exclude-per-directory=.gitignore", *paths)
        # "H" is a file that git compares; small letters and "S" are those that it passes over
        unseen = [line for line in git("ls-files", "-v", *paths).splitlines() if line[:2] != "H "]
    except (OSError, ValueError, subprocess.SubprocessError):
        return Commit("unknown", True)
    return Commit(head, bool(changed or untracked or unseen))


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on.

    >>> sorted(installed_versions())
    ['diffrax', 'flax', 'jax', 'jaxlib', 'numpy', 'optax', 'python']
    """
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def device_description() -> str:
    """Describe the device that JAX computes on, such as "cpu: <model>, 2 cores"."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_cpu_model()}, {len(_usable_cpus())} cores"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _usable_cpus() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def collect_provenance(
    *,
    notebook: str,
    profile: str,
    parameters: Mapping[str, Any],
    commit: Commit,
    wall_seconds: float,
    seeds: Sequence[int] = (),
    dataset: datasets.Recorded = None,
) -> Provenance:
    """Return the provenance of a table made now, by this process, on its device."""
    return Provenance(
        notebook=notebook,
        profile=profile,
        parameters=plain(parameters),
        seeds=[int(seed) for seed in seeds],
        commit=commit.commit,
        dirty=commit.dirty,
        versions=installed_versions(),
        device=device_description(),
        dataset=None if dataset is None else plain(dataset),
        wall_seconds=float(wall_seconds),
        created=now(),
    )
