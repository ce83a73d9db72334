"""Profiles: the scales at which a notebook runs, and the check of what one may change.

`profiles/<profile>.yaml` maps each notebook to its settings. The value there is also the type:
an override must be of the same kind, finite, and positive where the profile's value is. Two kinds
of settings are known by their names: datasets (`dataset`, `image_dataset`) and seeds (`seed`,
`seeds`, `first_seed`, but not `num_seeds`).
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ddbook.runner import places
from ddbook.runner.files import plain
from ddbook.runner.places import PROFILES
from ddbook.runner.yaml_text import load_yaml


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
        raise ValueError(f"{at} is {value}; true, false or another word would do")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at} is {value}; a finite number would do")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{at} is {value!r}; a number, boolean, text or a list of these would do")


def datasets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of the datasets that the settings name, by the settings' own names.

    They are the settings called `dataset` or `…_dataset`; None is none, a list is several.

    >>> datasets({"dataset": "mnist", "image_dataset": ["cifar10", "shapes"], "num_seeds": 2})
    {'dataset': 'mnist', 'image_dataset[0]': 'cifar10', 'image_dataset[1]': 'shapes'}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if not re.fullmatch(r"(.*_)?datasets?", key):
            continue
        if isinstance(value, list):
            found |= {f"{key}[{i}]": item for i, item in enumerate(value)}
        elif value is not None:
            found[key] = value
    return found


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
            raise ValueError(f"{at} has {seed}; a seed from 0 to 2**32 - 1 would do")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{at} = {given!r}; seeds that are distinct would do")


def _like(key: str, given: Any, model: Any, signed: bool = False) -> Any:
    """Return `given` as the kind of thing that `model`, the profile's value, is."""

    def wrong(wanted: str) -> ValueError:
        shown = f"{given!r}" if len(f"{given!r}") < 60 else f"{given!r:.57}..."
        return ValueError(f"parameter: {key} = {shown}; {wanted} such as {model!r} would do")

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


class Header(NamedTuple):
    """What a notebook's source says of itself: the notebooks whose tables it reads, its device."""

    needs: list[str]
    gpu: bool


def header(source: Path) -> Header:
    """Return the `ddbook` entry of a source's YAML header (between the first lines `# ---`).

        # ---
        # jupyter:
        #   ddbook: {needs: [train_common_payoff], gpu: true}
        # ---

    `needs` are the notebooks that run first; `gpu` asks for a GPU where there is one (without it
    the notebook runs on the CPU: on small games a GPU's launches cost more than they save).
    """
    content = _header(source)
    parts = (content, content.get("jupyter"))
    held = [part["ddbook"] for part in parts if isinstance(part, dict) and "ddbook" in part]
    found = held[0] if held else {}
    if not held and re.search(r"(?m)^#[ \t]*ddbook[ \t]*:", text(source)):
        raise ValueError(
            f"{source.name}: ddbook: must stand in the header, the comment between two lines # --- "
            "before any cell or code, by itself or right under jupyter:"
        )
    if len(held) > 1 or not isinstance(found, dict):
        raise ValueError(
            f"{source.name}: one entry such as ddbook: {{gpu: true}} is wanted, not {held}"
        )
    needs, gpu = found.get("needs", []), found.get("gpu", False)
    if unknown := set(found) - {"needs", "gpu"}:
        raise ValueError(
            f"{source.name}: ddbook has no {suggestion(str(unknown.pop()), Header._fields)}"
        )
    names = isinstance(needs, list) and all(isinstance(name, str) for name in needs)
    if not names or not isinstance(gpu, bool):
        raise ValueError(f"{source.name}: ddbook wants needs: [names] and gpu: true, not {found}")
    siblings = {path.stem for path in source.parent.glob("*.py")}
    for name in needs:
        if name not in siblings:
            raise ValueError(f"{source.name}: needs no {suggestion(name, sorted(siblings))}")
    return Header(needs, gpu)


def _header(source: Path) -> dict[Any, Any]:
    """Return what the comment between the first two lines `# ---` says, before any cell or code.

    A byte-order mark, `#!`, an encoding, blank lines and other comments may stand before it.
    """
    lines: list[str] = []
    for line in text(source).splitlines():
        if line.startswith("# %%") or not (line.startswith("#") or not line.strip()):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    marks = [i for i, line in enumerate(lines) if line == "---"]
    if not marks:
        return {}
    if len(marks) == 1:
        raise ValueError(f"{source.name}: its header has no last line, # ---")
    try:
        content = load_yaml("\n".join(lines[marks[0] + 1 : marks[1]]))
    except ValueError as error:
        raise ValueError(f"{source.name}: its header is {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source.name}: its header wants names and values, not {content!r}")
    return content


def text(source: Path) -> str:
    """Return a source's text, without the byte-order mark that some editors write."""
    try:
        return source.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error


def parameters(source: Path) -> dict[str, Any]:
    """Return the names and defaults that a source's parameters cell assigns, in order."""
    cells = re.split(r"(?m)^# %%", text(source))[1:]
    tagged = [c for c in cells if re.match(r'[^\n]*tags=\[[^\n\]]*"parameters"', c)]
    if len(tagged) != 1:
        raise ValueError(
            f'{source.name}: one cell `# %% tags=["parameters"]` is wanted, not {len(tagged)}'
        )
    found: dict[str, Any] = {}
    try:
        statements = ast.parse(tagged[0].partition("\n")[2]).body
    except SyntaxError as error:
        raise ValueError(f"{source.name}: the parameters cell is no Python ({error})") from error
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if [type(target) for target in targets] != [ast.Name]:
            raise ValueError(f"{source.name}: the parameters cell may only assign, `name = value`")
        assert isinstance(statement, ast.Assign) and isinstance(targets[0], ast.Name)
        name = targets[0].id
        if name in found:
            raise ValueError(f"{source.name}: the parameters cell assigns {name} twice")
        try:
            found[name] = ast.literal_eval(statement.value)
        except ValueError as error:
            raise ValueError(f"{source.name}: its parameter {name} must be a literal") from error
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
