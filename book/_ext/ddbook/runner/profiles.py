"""Profiles: the scales at which a notebook runs, and the check of what one may change.

`profiles/<profile>.yaml` maps each notebook to its settings. The value there is also the type:
an override must be of the same kind, finite, and positive where the profile's value is. Two kinds
of settings are known by their names: datasets (`dataset`, `image_dataset`) and seeds (`seed`,
`seeds`, `first_seed`, but not `num_seeds`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddbook.runner import places
from ddbook.runner.choice import refusal
from ddbook.runner.files import plain
from ddbook.runner.places import PROFILES
from ddbook.runner.yaml_text import load_yaml

RESERVED = ("profile", "parameters", "name")  # no settings


def check_profile(profile: str) -> None:
    """Raise `ValueError` unless `profile` is one of ours."""
    if profile not in PROFILES:
        raise ValueError(refusal("profile", PROFILES, profile))


def check_notebook(root: Path, name: str) -> Path:
    """Return the source of notebook `name`; `ValueError` names the closest when there is none."""
    sources = places.sources(root)
    if name not in sources:
        raise ValueError(refusal("notebook", sources, name))
    return sources[name]


def read(root: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Return a profile: the settings of each notebook, by the notebook's name."""
    check_profile(profile)
    path = root / "profiles" / f"{profile}.yaml"
    try:
        content = load_yaml(path.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise ValueError(f"a profile must be notebooks and their settings, got {content!r}")
        for name, section in content.items():
            if not isinstance(section, dict):
                raise ValueError(f"{name} must be settings (possibly {{}}), got {section!r}")
            for key, value in section.items():
                if not (isinstance(key, str) and key.isidentifier()) or key in (
                    "profile",
                    "parameters",
                    "name",
                ):
                    raise ValueError(f"{name}: {key!r} cannot name a setting")
                _check_kind(f"{name}: {key}", value)
                if _is_seed(key):
                    _check_seeds(f"{name}: {key}", value)
    except OSError as error:
        raise ValueError(f"profile: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def settings(
    name: str, profile: str, overrides: Mapping[str, Any] | None = None, root: Path | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a run and, of these, the ones that differ from the profile's.

    `ValueError` names a setting that is unknown, of the wrong type, not finite or not positive,
    and says what would do.
    """
    root = places.root() if root is None else root
    content = read(root, profile)
    check_notebook(root, name)
    if name not in content:
        raise ValueError(
            f"profiles/{profile}.yaml has no section for {name}; {name}: {{}} would do"
        )
    section = content[name]
    result = dict(section)
    for key, given in (overrides or {}).items():
        if key not in section:
            raise ValueError(refusal(f"parameter: of {name}, a name", section, key))
        if given is None and section[key] is not None:
            raise ValueError(f"parameter: {key} must be such as {section[key]!r}, got None")
        result[key] = _like(key, _plain(key, given), section[key], signed=_is_seed(key))
        if _is_seed(key):
            _check_seeds(f"parameter: {key}", result[key])
    return result, {key: value for key, value in result.items() if value != section[key]}


def _plain(key: str, given: Any) -> Any:
    try:
        return plain(given)
    except ValueError as error:
        raise ValueError(f"parameter: {key}: {error}") from error


def _check_kind(at: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_kind(at, item)
    elif isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        raise ValueError(f"{at} must be true, false or another word, got {value}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at} must be a finite number, got {value}")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{at} must be a number, boolean, text or a list of these, got {value!r}")


def _is_seed(key: str) -> bool:
    return re.fullmatch(r"(.*_)?seeds?", key) is not None and not key.startswith("num_")


def _check_seeds(at: str, given: Any) -> None:
    """Raise `ValueError` unless each seed is one that all generators know, and they are distinct.

    JAX drops what is above 32 bits: 0 and 2**32 would be the same run.
    """
    items = given if isinstance(given, list) else [given]
    seeds = [item for item in items if isinstance(item, int)]  # other kinds are not ours to judge
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"{at} must be seeds from 0 to 2**32 - 1, got {seed}")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{at} must be distinct seeds, got {given!r}")


def _like(key: str, given: Any, model: Any, signed: bool = False) -> Any:
    """Return `given` as the kind of thing that `model`, the profile's value, is."""

    def wrong(wanted: str) -> ValueError:
        shown = f"{given!r}" if len(f"{given!r}") < 60 else f"{given!r:.57}..."
        return ValueError(f"parameter: {key} must be {wanted} such as {model!r}, got {shown}")

    if isinstance(model, bool):
        if not isinstance(given, bool):
            raise wrong("true or false,")
        return given
    if isinstance(model, (int, float)):
        integer = isinstance(model, int)
        if isinstance(given, bool) or not isinstance(given, int if integer else (int, float)):
            raise wrong("an integer" if integer else "a number")
        if isinstance(given, int) and abs(given) >= 2**63:
            raise wrong("an integer of at most 64 bits")
        if not math.isfinite(given):
            raise wrong("a finite number")
        if model > 0 and given <= 0 and not signed:
            raise wrong("a positive number")
        return given if integer else float(given)
    if isinstance(model, str):
        if not isinstance(given, str) or not given:
            raise wrong("text")
        return given
    if isinstance(model, list):
        if not isinstance(given, list) or not given:
            raise wrong("a list")
        if not model:
            _check_kind(f"parameter: {key}", given)
            return given
        like = _strictest(model)
        return [_like(f"{key}[{i}]", item, like, signed) for i, item in enumerate(given)]
    _check_kind(f"parameter: {key}", given)
    return given


def _strictest(items: list[Any]) -> Any:
    """Return what stands for a list: a float if one is there, not positive if one is not."""
    numbers = [x for x in items if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if len(numbers) < len(items):
        return items[0]
    smallest = min(numbers)
    return float(smallest) if any(isinstance(x, float) for x in numbers) else smallest
