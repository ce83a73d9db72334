"""Where things lie in this repository; the only module that knows.

notebooks/<name>.py                sources
runs/<profile>/<name>.ipynb        executed notebook: there only if the run succeeded
runs/<profile>/<name>/             its tables, claims.json, run.json
runs/variations/<profile>/…        the same for runs with other settings than the profile's
runs/.partial/<profile>/<name>/    a run under way (or killed): never read
runs/.store/<name>/                single training runs, each finished one for good (see `page`)
runs/.stamps/<profile>/<name>      why it has to run, for Snakemake (see `keys.stamp`)
results/<name>/                    published tables, claims.json, run.json
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


def root() -> Path:
    """Return the repository's root: where this file lies, unless the runner says another."""
    return Path(os.environ.get("DDBOOK_ROOT") or Path(__file__).resolve().parents[3])


def sources(root: Path) -> dict[str, Path]:
    """Return the notebooks' sources by name."""
    return {path.stem: path for path in sorted((root / "notebooks").glob("[a-z]*.py"))}


class Products(NamedTuple):
    """The paths of one run."""

    notebook: Path
    failed: Path
    folder: Path
    partial: Path
    stamp: Path

    @property
    def record(self) -> Path:
        """What was run, when, and with which inputs."""
        return self.folder / "run.json"

    @property
    def claims(self) -> Path:
        """What the run found about the claims."""
        return self.folder / "claims.json"


def products(root: Path, profile: str, name: str, variation: Mapping[str, Any] = {}) -> Products:
    """Return where a run writes; `variation` is what differs from the profile's settings.

    A variation has a place of its own: trying a number must not replace what the book shows, and
    hundreds of them may run at once.
    """
    base = root / "runs" / profile
    stem = name
    if variation:
        canonical = json.dumps(variation, sort_keys=True)
        base = root / "runs" / "variations" / profile
        stem = f"{name}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"
    return Products(
        notebook=base / f"{stem}.ipynb",
        failed=base / f"{stem}.failed.ipynb",
        folder=base / stem,
        partial=root / "runs" / ".partial" / base.relative_to(root / "runs") / stem,
        stamp=root / "runs" / ".stamps" / base.relative_to(root / "runs") / stem,
    )


def store(root: Path, name: str) -> Path:
    """Return where a notebook keeps its single finished training runs, for all profiles."""
    return root / "runs" / ".store" / name
