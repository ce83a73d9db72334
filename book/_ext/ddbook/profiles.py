"""Profiles: the scales at which a notebook runs, and the check of what one may change.

`profiles/<profile>.yaml` maps each notebook to its settings. The value there is also the type:
an override must be of the same kind, finite, and positive where the profile's value is.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ddbook import places
from ddlib.claims import PROFILES
from ddlib.results import plain


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text; here it is the number that everybody means."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_yaml(text: str) -> Any:
    """Read YAML with 1e-3 as a number; `ValueError` when it is not YAML.

    >>> load_yaml("rates: [1e-3, 0.1]")
    {'rates': [0.001, 0.1]}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Say what would do in place of `given`, the closest first.

    >>> suggestion("quik", ["quick", "standard"])
    "'quik' (did you mean 'quick'?); there are: quick, standard"
    """
    allowed = list(allowed)
    close = difflib.get_close_matches(given, allowed, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{given!r}{meant}; there are: {', '.join(allowed) or 'none'}"


def check_profile(profile: str) -> None:
    """Raise `ValueError` unless `profile` is one of ours."""
    if profile not in PROFILES:
        raise ValueError(f"profile: no {suggestion(str(profile), PROFILES)}")


def check_notebook(root: Path, name: str) -> Path:
    """Return the source of notebook `name`; `ValueError` names the closest when there is none."""
    sources = places.sources(root)
    if name not in sources:
        raise ValueError(f"notebook: no {suggestion(str(name), sources)}")
    return sources[name]


def read(root: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Return a profile: the settings of each notebook, by the notebook's name."""
    check_profile(profile)
    path = root / "profiles" / f"{profile}.yaml"
    try:
        content = load_yaml(path.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise ValueError(f"notebooks and their settings are wanted, not {content!r}")
        for name, section in content.items():
            if not isinstance(section, dict):
                raise ValueError(f"{name}: settings (possibly {{}}) are wanted, not {section!r}")
            for key, value in section.items():
                if not (isinstance(key, str) and key.isidentifier()) or key in ("profile", "name"):
                    raise ValueError(f"{name}: {key!r} cannot name a setting")
                _check_kind(f"{name}: {key}", value)
    except OSError as error:
        raise ValueError(f"profile: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def settings(
    name: str, profile: str, overrides: Mapping[str, Any] | None = None, root: Path | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a run and, of these, the ones that differ from the profile's.

    Overrides that are None stand for the profile's value. `ValueError` names a setting that is
    unknown, of the wrong type, not finite or not positive, and says what would do.
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
            raise ValueError(f"parameter: {name} has no {suggestion(key, section)}")
        if given is not None:
            result[key] = _like(key, plain(given), section[key])
    return result, {key: value for key, value in result.items() if value != section[key]}


def _check_kind(at: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_kind(at, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at} is {value}; a finite number would do")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{at} is {value!r}; a number, boolean, text or a list of these would do")


def _like(key: str, given: Any, model: Any) -> Any:
    """Return `given` as the kind of thing that `model`, the profile's value, is."""

    def wrong(wanted: str) -> ValueError:
        return ValueError(f"parameter: {key} = {given!r}; {wanted} such as {model!r} would do")

    if isinstance(model, bool):
        if not isinstance(given, bool):
            raise wrong("true or false,")
        return given
    if isinstance(model, (int, float)):
        integer = isinstance(model, int)
        if isinstance(given, bool) or not isinstance(given, int if integer else (int, float)):
            raise wrong("an integer" if integer else "a number")
        if not math.isfinite(given):
            raise wrong("a finite number")
        if model > 0 and given <= 0:
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
            return given
        return [_like(f"{key}[{i}]", item, _strictest(model)) for i, item in enumerate(given)]
    _check_kind(f"parameter: {key}", given)
    return given


def _strictest(items: list[Any]) -> Any:
    """Return what stands for a list: a float if one is there, not positive if one is not."""
    numbers = [x for x in items if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if len(numbers) < len(items):
        return items[0]
    smallest = min(numbers)
    return float(smallest) if any(isinstance(x, float) for x in numbers) else smallest


class Header(NamedTuple):
    """What a notebook's source says of itself: the notebooks whose tables it reads, its device."""

    needs: list[str]
    gpu: bool


def header(source: Path) -> Header:
    """Return the `ddbook` entry of a source's YAML header (first lines, between `# ---`).

        # ---
        # jupyter:
        #   ddbook: {needs: [train_common_payoff], gpu: true}
        # ---

    `needs` are the notebooks that run first; `gpu` asks for a GPU where there is one (without it
    the notebook runs on the CPU: on small games a GPU's launches cost more than they save).
    """
    lines = source.read_text(encoding="utf-8").splitlines()
    found: Any = {}
    if lines and lines[0].strip() == "# ---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "# ---"), 0)
        content = load_yaml("\n".join(line.removeprefix("#")[1:] for line in lines[1:end])) or {}
        found = content.get("jupyter", {}).get("ddbook", content.get("ddbook", {}))
    needs, gpu = found.get("needs", []), found.get("gpu", False)
    if unknown := set(found) - {"needs", "gpu"}:
        raise ValueError(
            f"{source.name}: ddbook has no {suggestion(unknown.pop(), Header._fields)}"
        )
    if not isinstance(needs, list) or not isinstance(gpu, bool):
        raise ValueError(f"{source.name}: ddbook wants needs: [names] and gpu: true, not {found}")
    siblings = {path.stem for path in source.parent.glob("*.py")}
    for name in needs:
        if name not in siblings:
            raise ValueError(f"{source.name}: needs no {suggestion(str(name), sorted(siblings))}")
    return Header(needs, gpu)


def parameters(source: Path) -> dict[str, Any]:
    """Return the names and defaults that a source's parameters cell assigns, in order."""
    text = source.read_text(encoding="utf-8")
    cells = re.split(r"(?m)^# %%", text)[1:]
    tagged = [c for c in cells if re.match(r'[^\n]*tags=\[[^\n\]]*"parameters"', c)]
    if len(tagged) != 1:
        raise ValueError(
            f'{source.name}: one cell `# %% tags=["parameters"]` is wanted, not {len(tagged)}'
        )
    found: dict[str, Any] = {}
    for statement in ast.parse(tagged[0].split("\n", 1)[1]).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Name) or not isinstance(statement, ast.Assign):
            raise ValueError(f"{source.name}: the parameters cell may only assign, `name = value`")
        found[target.id] = ast.literal_eval(statement.value)
    return found


def check_parameters(source: Path, section: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the parameters cell declares `profile` and the section's keys.

    All but `profile` must be None there: the profile is the only place where scales live.
    """
    declared = parameters(source)
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
