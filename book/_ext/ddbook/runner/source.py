"""What a notebook's source says of itself: its header, and the parameters that it takes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

from ddbook.runner.choice import refusal
from ddbook.runner.yaml_text import load_yaml

TAKEN = {"profile", "parameters"}  # what a parameters cell assigns


def text(source: Path) -> str:
    """Return a source's text, without the byte-order mark that some editors write."""
    try:
        return source.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error


class Header(NamedTuple):
    """What a notebook's source says of itself: the notebooks whose tables it reads, its device."""

    needs: list[str]
    gpu: bool
    compiles: bool = False


def header(source: Path) -> Header:
    """Return the `ddbook` entry of a source's YAML header (between the first lines `# ---`).

        # ---
        # jupyter:
        #   ddbook: {needs: [train_common_payoff], gpu: true}
        # ---

    `needs` are the notebooks that run first; `gpu` asks for a GPU where there is one (without it
    the notebook runs on the CPU: on small games a GPU's launches cost more than they save).
    `compiles` says that a quick run of it takes longer to compile its programs than to run them:
    there XLA leaves most of its optimisations out.
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
    compiles = found.get("compiles", False)
    if unknown := set(found) - set(Header._fields):
        raise ValueError(
            f"{source.name}: ddbook: {refusal('its entry', Header._fields, unknown.pop())}"
        )
    names = isinstance(needs, list) and all(isinstance(name, str) for name in needs)
    if not names or not isinstance(gpu, bool) or not isinstance(compiles, bool):
        raise ValueError(
            f"{source.name}: ddbook wants needs: [names], gpu: true and compiles: true, not {found}"
        )
    siblings = {path.stem for path in source.parent.glob("*.py")}
    for name in needs:
        if name not in siblings:
            raise ValueError(f"{source.name}: {refusal('needs', sorted(siblings), name)}")
    return Header(needs, gpu, compiles)


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


def check_parameters(source: Path) -> None:
    """Raise `ValueError` unless the parameters cell is the two lines that every notebook has.

        profile = "quick"
        parameters = {}  # settings in place of the profile's

    The dict is empty there: the profile is the only place where scales live.
    """
    declared = parameters(source)
    if set(declared) != TAKEN or declared["parameters"] != {}:
        given = ", ".join(f"{name} = {value!r}" for name, value in declared.items())
        raise ValueError(
            f'{source.name}: the parameters cell must be profile = "quick" and parameters = {{}}, '
            f"got {given or 'nothing'}; profiles/*.yaml hold the settings"
        )
