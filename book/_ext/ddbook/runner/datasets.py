"""The datasets of a run: those that its source names, and those that its tables rest on.

A notebook gets its data by `run.data(name, split, …)`. The name is that of a setting (`dataset`,
`image_dataset`, a list of names) or a text in the call itself, so that all of them are known, and
in the run's key, before anything runs.

A table's or a claim's record has `"none"` where no data is needed, `{name, checksum, stand_in}` for
one dataset, a list of these, ordered, for several. None is what records of old have, which did not
say.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbook.runner import files

if TYPE_CHECKING:
    from ddbook.runner.cells import Cell

Recorded = str | dict[str, Any] | list[dict[str, Any]] | None

NONE = "none"
NOTED = "data.json"  # in a run's folder: what was asked for, and what was given
FIELDS = ("name", "checksum", "stand_in")


def recorded(found: Iterable[Mapping[str, Any]]) -> Recorded:
    """Return the record of these datasets, in an order and a form that are theirs alone.

    >>> digits = {"name": "digits", "checksum": "00", "stand_in": False}
    >>> recorded([]), recorded([digits, digits]) == digits
    ('none', True)
    """
    distinct = {tuple(one[field] for field in FIELDS): one for one in found}
    ordered = [{field: distinct[at][field] for field in FIELDS} for at in sorted(distinct)]
    return NONE if not ordered else ordered[0] if len(ordered) == 1 else ordered


def listed(record: Recorded) -> list[dict[str, Any]]:
    """Return the datasets of a record; none where none is needed, or where it does not say."""
    if record is None or record == NONE:
        return []
    return [record] if isinstance(record, dict) else list(record)  # type: ignore[arg-type]


def has_stand_in(record: Recorded) -> bool:
    """Say whether something stands in for the data of a record."""
    return any(one["stand_in"] for one in listed(record))


def check(record: Any, what: str) -> None:
    """Raise `ValueError` unless `record` is one of datasets; `what` names it."""
    if record is None or record == NONE:
        return
    every = [record] if isinstance(record, dict) else record
    if not isinstance(every, list) or not every or not all(isinstance(one, dict) for one in every):
        raise ValueError(
            f'{what} must be "none", a dict of {", ".join(FIELDS)} or a list of these, '
            f"got {record!r}"
        )


# ---------------------------------------------------------------------------- what a source names


def of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of the datasets that the settings name, by the settings' own names.

    They are the settings called `dataset` or `…_dataset`; None is none, a list is several.

    >>> of_settings({"dataset": "mnist", "image_dataset": ["cifar10", "shapes"], "num_seeds": 2})
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


def calls(cells: Sequence[Cell]) -> list[tuple[int, ast.Call]]:
    """Return the calls of `run.data` in the cells' code, each with its line of the source."""
    found = []
    for cell in cells:
        try:
            tree = ast.parse(cell.text if cell.code else "")
        except SyntaxError:  # an IPython magic
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "run.data":
                found.append((cell.line + node.lineno, node))
    return found


def of_cells(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the names of the datasets that stand as text in calls of `run.data`, by the calls.

    >>> from ddbook.runner.cells import Cell
    >>> of_cells([Cell(True, (), 'iris = run.data("iris", "all")\\nrun.data(s.dataset)', 10)])
    {"line 11: run.data('iris', …)": 'iris'}
    """
    found = {}
    for line, call in calls(cells):
        named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
        first = next(iter([*call.args, *named]), None)
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            found[f"line {line}: run.data({first.value!r}, …)"] = first.value
    return found


def reaches(cells: Sequence[Cell]) -> str:
    """Return the code that the cells' calls of `run.data` stand for, which a key has to hold."""
    return "\nfrom ddlib import data as _data\n_data.load\n" if calls(cells) else ""


def fingerprints(settings: Mapping[str, Any], cells: Sequence[Cell] = ()) -> dict[str, str]:
    """Return the checksum, or "absent", of each dataset that settings and cells name, by its name.

    `ValueError` says where a dataset is named that there is not.
    """
    from ddlib import data

    named = {f"parameter: {key} = {value!r}": value for key, value in of_settings(settings).items()}
    found = {}
    for where, name in {**named, **of_cells(cells)}.items():
        try:
            found[name] = data.fingerprint(name)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}; {error}") from error
    return found


# ----------------------------------------------------------------------------- what a run was given


def noted(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a run, whose folder this is, was given by `run.data`: by the names asked for."""
    path = folder / NOTED
    return files.read_json(path) if path.is_file() else {}


def note(folder: Path, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down what a run has been given so far, for `noted`."""
    files.write_json(given, folder / NOTED)


def settled(before: Mapping[str, str], given: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the part of a key that says which data a run rests on, now that it has run.

    `before` is that part as it was when the run began, `given` what the run was given. Data that
    was fetched on the way counts; that which came when a stand-in had been taken for it does not.

    >>> stand_in = {"name": "digits", "checksum": "00", "stand_in": True}
    >>> settled({"mnist": "11", "iris": "22"}, {"mnist": stand_in})
    {'mnist': 'absent', 'iris': '22'}
    """
    after = dict(before)
    for name in before:
        if name in given:
            after[name] = "absent" if given[name]["stand_in"] else given[name]["checksum"]
    return after
