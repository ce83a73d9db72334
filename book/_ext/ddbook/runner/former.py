"""Notebooks that list their parameters by name, each None: until all take one dict.

To be deleted with its three uses, in `source`, `job` and `page.run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_form(declared: Mapping[str, Any]) -> bool:
    """Say whether a parameters cell that assigns these is of this form."""
    return "profile" in declared and "parameters" not in declared


def check(source: Path, declared: Mapping[str, Any], section: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the cell assigns the profile and each of its settings, as None."""
    wanted = {"profile", *section}
    if missing := sorted(wanted - set(declared)):
        raise ValueError(f"{source.name}: its parameters cell lacks {', '.join(missing)}")
    if extra := sorted(set(declared) - wanted):
        raise ValueError(
            f"{source.name}: its parameters {', '.join(extra)} are in no profile; "
            f"profiles/*.yaml name {', '.join(section) or 'none'}"
        )
    if fixed := [name for name in section if declared[name] is not None]:
        raise ValueError(f"{source.name}: {fixed[0]} must be None in the parameters cell")


def inputs(profile: str, changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what papermill assigns in such a notebook."""
    return {"profile": profile, **changed}


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the named parameters that are given: None stands for the profile's value."""
    return {name: value for name, value in parameters.items() if value is not None}
