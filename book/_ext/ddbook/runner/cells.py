"""What the cells of a notebook's source are for: to compute, to draw, or to say something.

A cell tagged `figure` only draws: it saves nothing, records nothing, and leaves no name that a cell
which computes goes on to use. So its text is no part of what a run's tables rest on, nor are
Markdown, captions and alternative texts; and when only such cells have changed, a finished run is
drawn again instead of computed again.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
import symtable
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ddbook.runner.choice import refusal
from ddbook.runner.source import text as text_of

FIGURE, PARAMETERS = "figure", "parameters"
TAGS = (
    *(PARAMETERS, FIGURE, "hide-input", "hide-output", "hide-cell"),
    *("remove-input", "remove-output", "remove-cell", "scroll-output"),
)
KEEPS = ("save", "record", "cached", "data")  # what a figure cell must not call
OPENS = ("page.open", "sweep.open", "jax.config.update", "run.card", "run.load", "run.published")
_MARK = re.compile(r"(?m)^# %%(.*)$")
_TAGS = re.compile(r"\btags=(\[[^\]]*\])")


class Cell(NamedTuple):
    """One cell: whether it is code, its tags, its text, and the line of the source it begins at."""

    code: bool
    tags: tuple[str, ...]
    text: str
    line: int


def read(source: Path) -> list[Cell]:
    """Return the cells of a py:percent source; `ValueError` for tags that there are not."""
    text = text_of(source).replace("\r\n", "\n")
    marks = list(_MARK.finditer(text))
    found = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        head = mark.group(1)
        body = text[mark.end() : following.start() if following else len(text)].strip("\n")
        line = text.count("\n", 0, mark.start()) + 1
        listed = _TAGS.search(head)
        try:
            tags = ast.literal_eval(listed.group(1)) if listed else []
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{source.name}:{line}: tags must be a list of texts") from error
        for tag in tags:
            if tag not in TAGS:
                raise ValueError(f"{source.name}:{line}: {refusal('a tag', TAGS, tag)}")
        found.append(Cell("[markdown]" not in head, tuple(tags), body, line))
    return found


def check(source: Path) -> None:
    """Raise `ValueError` for a cell tagged `figure` that does more than draw, and for other data.

    Data come from `run.data`, which notes them; a cell that loads some itself is refused.
    """
    cells = [cell for cell in read(source) if cell.code]
    for at, cell in enumerate(cells):
        if other := _loads(cell.text):
            raise ValueError(
                f"{source.name}:{cell.line}: data must come from run.data, got {other}; "
                "run.data notes what tables and claims rest on"
            )
        if FIGURE not in cell.tags:
            continue
        where = f"{source.name}:{cell.line}: a cell tagged figure"
        tree = _parsed(cell.text)
        if tree is None:
            raise ValueError(f"{where} must be plain Python")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in KEEPS:
                    raise ValueError(
                        f"{where} must only draw, got a call of {ast.unparse(node.func)}: save and "
                        "record in a cell of their own"
                    )
        bound = _bound(tree)
        for later in cells[at + 1 :]:
            if FIGURE in later.tags or _parsed(later.text) is None:
                continue
            if used := bound & _free(later.text):
                raise ValueError(
                    f"{where} must leave nothing that is computed with, got {sorted(used)[0]!r}, "
                    f"used in line {later.line}"
                )


def _loads(text: str) -> str | None:
    """Return what gives a cell data by another way than `run.data`; None where nothing does."""
    for node in ast.walk(_parsed(text) or ast.Module([], [])):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            if name.startswith(("ddlib.data", "sklearn.datasets")):
                return name
    return None


def computing(cells: Sequence[Cell]) -> str:
    """Return a digest of what the cells compute: comments and layout are no part of it.

    Nor is the parameters cell, whose values are the settings.
    """
    none = {FIGURE, PARAMETERS}
    return _digest([cell for cell in cells if cell.code and not none & set(cell.tags)])


def figures(cells: Sequence[Cell]) -> str:
    """Return a digest of what the cells draw."""
    return _digest([cell for cell in cells if cell.code and FIGURE in cell.tags])


def text(cells: Sequence[Cell], *, figures: bool = True) -> str:
    """Return the code of the cells as one text, with those that only draw or without them."""
    return "\n".join(c.text for c in cells if c.code and (figures or FIGURE not in c.tags))


def same(one: str, other: str) -> bool:
    """Say whether two cells' code does the same.

    >>> same("x = 1  # one", "x = 1"), same("x = 1", "x = 2")
    (True, False)
    >>> same("run = page.open('a', profile, h=h)", "run = page.open('a', profile, parameters)")
    True
    """
    return _dump(one) == _dump(other)


def to_draw(cells: Sequence[Cell]) -> list[bool] | None:
    """Say which of the code cells are needed to draw all figures from tables that there are.

    The parameters, the cell that opens the page, those that only import and define, and the
    figures themselves. None when a figure uses what some other cell computes: then it takes the
    whole notebook.
    """
    code = [cell for cell in cells if cell.code]
    needed = [
        bool({FIGURE, PARAMETERS} & set(cell.tags)) or only_defines(cell.text) for cell in code
    ]
    known = set(dir(builtins))
    for cell, wanted in zip(code, needed, strict=True):
        tree = _parsed(cell.text) if wanted else None
        if wanted and tree is None:
            return None
        if tree is not None:
            if FIGURE in cell.tags and _free(cell.text) - _bound(tree) - known:
                return None
            known |= _bound(tree)
    return needed


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:  # an IPython magic
        return None


def _dump(text: str) -> str:
    tree = _parsed(text)
    return text if tree is None else ast.dump(_Opened().visit(tree))


class _Opened(ast.NodeTransformer):
    """Leaves of `page.open(name, …)` the name: what else it is given are the settings."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if ast.unparse(node.func) == "page.open":
            node.args, node.keywords = node.args[:1], []
        return node


def _digest(cells: Sequence[Cell]) -> str:
    texts = [_dump(cell.text) for cell in cells if cell.text.strip()]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _bound(tree: ast.AST) -> set[str]:
    """The names that a cell binds outside its functions."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(child.name)
                continue
            if isinstance(child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp):
                continue
            if isinstance(child, ast.GeneratorExp):
                continue
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store | ast.Del):
                found.add(child.id)
            if isinstance(child, ast.Import | ast.ImportFrom):
                found.update((name.asname or name.name).partition(".")[0] for name in child.names)
            if isinstance(child, ast.ExceptHandler) and child.name:
                found.add(child.name)
            visit(child)

    visit(tree)
    return found


def _free(text: str) -> set[str]:
    """The names that a cell uses and leaves to other cells to bind, its functions' bodies too."""
    top = symtable.symtable(text, "a cell", "exec")
    own = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()}
    own |= {symbol.get_name() for symbol in top.get_symbols() if symbol.is_imported()}
    found: set[str] = set()

    def visit(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                found.add(symbol.get_name())
        for child in table.get_children():
            visit(child)

    visit(top)
    return found - own


def only_defines(text: str) -> bool:
    """Whether a cell imports, defines, sets plain constants or opens the page, and no more."""
    tree = _parsed(text)
    if tree is None:
        return False
    return all(map(_is_definition, tree.body))


def _is_definition(node: ast.stmt) -> bool:
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if isinstance(node, kinds) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ):
        return True
    calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    return all(call in OPENS or call.endswith("._replace") for call in calls)
