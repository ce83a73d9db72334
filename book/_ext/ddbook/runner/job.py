"""A run as it is asked for: which notebook, with which settings, from what, and to where.

`describe` is the one place that makes a `Job`, and it refuses what will not do: who holds a job
needs no second look at names, settings, source or data.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddbook.runner import cells, datasets, keys, places, profiles
from ddbook.runner.source import Header, check_parameters, header, text


@dataclasses.dataclass(frozen=True)
class Job:
    """A run as it is asked for.

    `settings` are all of them, `variation` those that differ from the profile's; `data` maps the
    datasets that settings and source name to their checksums, or "absent".
    """

    root: Path
    profile: str
    name: str
    source: Path
    text: str
    header: Header
    cells: tuple[cells.Cell, ...]
    settings: dict[str, Any]
    variation: dict[str, Any]
    data: dict[str, str]
    products: places.Products

    @functools.cached_property
    def key(self) -> dict[str, Any]:
        """What the run rests on, as it is when this is first asked."""
        return keys.key(self)

    @property
    def inputs(self) -> dict[str, Any]:
        """What papermill assigns in the notebook."""
        return {"profile": self.profile, "parameters": self.variation}

    @property
    def label(self) -> str:
        """What the log calls the run."""
        return f"{self.name} ({', '.join([self.profile, *self._changes])})"

    @property
    def _changes(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.variation.items()]

    def relative(self, path: Path) -> str:
        """Return where a file is in the repository."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name


def describe(root: Path, profile: str, name: str, changes: Mapping[str, Any] | None = None) -> Job:
    """Return the run of notebook `name` with `changes` in place of the profile's settings.

    `ValueError` says what is wrong with the root, the profile, the name, a parameter, the source
    or a dataset's name.
    """
    root = root.resolve()
    places.check_text(root)
    profiles.check_profile(profile)
    path = profiles.check_notebook(root, name)
    settings, variation = profiles.settings(name, profile, changes, root)
    check_parameters(path)
    found = tuple(cells.read(path))
    cells.check(path)
    return Job(
        root=root,
        profile=profile,
        name=name,
        source=path,
        text=text(path),
        header=header(path),
        cells=found,
        settings=settings,
        variation=variation,
        data=datasets.fingerprints(settings, found),
        products=places.products(root, profile, name, variation),
    )
