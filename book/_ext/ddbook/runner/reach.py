"""Which definitions of our packages a piece of code reaches, and what each of them says.

A run rests on the functions that it calls, on what they call, and so on: not on all that happens to
stand in the same files. So a room may grow, and what was computed before stands. A definition is a
top-level function, class or assignment; it reaches what its text names. What cannot be told from
the text counts as reached: a module that is passed on whole, statements that act when a module is
imported (a rule entered in a table, a decorator of ours), everything where the text is no Python.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ddbook.runner import source

ACTS = "(on import)"  # what stands for a module's statements that act when it is imported


class Module(NamedTuple):
    """A module's top level: definitions by name, imports by alias, and what acts on import."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str | None]]  # alias: (module, name in it or None for itself)
    stars: tuple[str, ...]
    acts: list[ast.stmt]


class Packages:
    """The modules of some packages: `{"ddlib": folder}`.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "demo"
    >>> folder.mkdir()
    >>> _ = (folder / "__init__.py").write_text("")
    >>> _ = (folder / "room.py").write_text("def f(x): return g(x)\\ndef g(x): return x\\nh = 1")
    >>> sorted(Packages({"demo": folder}).reached("from demo import room\\nroom.f(2)"))
    ['demo.room.f', 'demo.room.g']
    """

    def __init__(self, folders: Mapping[str, Path], without: Iterable[str] = ()) -> None:
        self._without = tuple(without)
        self._paths: dict[str, Path] = {}
        for name, folder in folders.items():
            for path in sorted(folder.rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                parts = parts[:-1] if parts[-1:] == ("__init__",) else parts
                self._paths[".".join((name, *parts))] = path

    def reached(self, code: str) -> dict[str, str]:
        """Return digests of what `code` reaches, by full name; of everything if it will not parse.

        Nothing is followed into the modules named `without`, nor into those within them.
        """
        try:
            tree = ast.parse(code)
        except SyntaxError:  # an IPython magic, say: then anything may be reached
            return self._digests((m, d) for m in self._paths for d in self._all(m))
        main = _module(tree, "", package=False)
        found: set[tuple[str, str]] = set()
        new = set(self._named(tree.body, main, ""))
        while new:
            found |= new
            new = {more for one in new for more in self._from(*one)} - found
        return self._digests(found)

    def _digests(self, found: Iterable[tuple[str, str]]) -> dict[str, str]:
        named = {f"{module}.{name}": self._digest(module, name) for module, name in found}
        return {name: digest for name, digest in sorted(named.items()) if digest}

    def _digest(self, module: str, name: str) -> str:
        path = self._paths[module]
        return _digest_of(path, module, path.stat().st_mtime_ns, name)

    def _read(self, module: str) -> Module:
        path = self._paths[module]
        return _cached(path, module, path.stat().st_mtime_ns)

    def _all(self, module: str) -> list[str]:
        return [*self._read(module).definitions, ACTS]

    def _follows(self, module: str) -> bool:
        left_out = any(module == name or module.startswith(f"{name}.") for name in self._without)
        return module in self._paths and not left_out

    def _from(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """What a definition names, and what acts when its module is imported."""
        held = self._read(module)
        yield module, ACTS
        yield from self._named(held.acts if name == ACTS else held.definitions[name], held, module)

    def _named(
        self, nodes: Iterable[ast.stmt], held: Module, module: str
    ) -> Iterator[tuple[str, str]]:
        """What the names and dotted names in a piece of a module stand for in our packages."""
        for node in nodes:
            inner = dict(held.imports)  # and what it imports itself
            for part in ast.walk(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    inner.update(_imports(part, module, module in self._packages))
            for chain in _chains(node):
                yield from self._resolve(chain, held, module, inner)

    @functools.cached_property
    def _packages(self) -> set[str]:
        return {name for name, path in self._paths.items() if path.name == "__init__.py"}

    def _resolve(
        self,
        chain: tuple[str, ...],
        held: Module,
        module: str,
        imports: Mapping[str, tuple[str, str | None]],
    ) -> Iterator[tuple[str, str]]:
        first, *rest = chain
        if first in imports:
            target, name = imports[first]
            yield from self._at(target, [*([name] if name else []), *rest])
        elif module and first in held.definitions:
            yield module, first
        else:
            for star in held.stars:
                if self._follows(star) and self._has(star, first):
                    yield from self._at(star, [first, *rest])

    def _has(self, module: str, name: str) -> bool:
        held = self._read(module)
        return name in held.definitions or name in held.imports

    def _at(self, module: str, names: list[str]) -> Iterator[tuple[str, str]]:
        """What the dotted `names` stand for, from a module on."""
        while names and f"{module}.{names[0]}" in self._paths:
            if self._follows(module):
                yield module, ACTS
            module, names = f"{module}.{names[0]}", names[1:]
        if not self._follows(module):
            return
        held = self._read(module)
        if not names:  # the module itself: anything in it may be used
            for name in self._all(module):
                yield module, name
        elif names[0] in held.definitions:
            yield module, names[0]
        elif names[0] in held.imports:
            yield module, ACTS
            yield from self._resolve(tuple(names), held, module, held.imports)
        else:
            yield from self._resolve(tuple(names), held, module, {})


@functools.lru_cache(maxsize=1024)
def _cached(path: Path, module: str, changed: int) -> Module:
    try:
        tree = ast.parse(source.text(path))
    except SyntaxError:  # the notebook that imports it will say so
        tree = ast.Module(body=[ast.Expr(ast.Constant(source.text(path)))], type_ignores=[])
        return Module({}, {}, (), tree.body)
    return _module(tree, module, package=path.name == "__init__.py")


def _module(tree: ast.Module, module: str, package: bool) -> Module:
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, tuple[str, str | None]] = {}
    stars: list[str] = []
    acts: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = _imports(node, module, package)
            if "*" in found:
                stars.append(found.pop("*")[0])
            imports |= found
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            definitions.setdefault(node.name, []).append(node)
        elif names := _assigned(node):
            for name in names:
                definitions.setdefault(name, []).append(node)
        elif not (_is_text(node) or _is_typing(node)):
            acts.append(node)
    for name, nodes in definitions.items():  # a decorator of ours may keep what it decorates
        for node in nodes:
            for mark in getattr(node, "decorator_list", []):
                root = next(iter(_chains(mark)), ("",))[0]
                own = imports.get(root, ("", None))[0].split(".")[0] == module.split(".")[0]
                if root != name and (root in definitions or own):
                    acts.append(node)
                    break
    return Module(definitions, imports, tuple(stars), acts)


def _imports(
    node: ast.Import | ast.ImportFrom, module: str, package: bool
) -> dict[str, tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                alias.name if alias.asname else alias.name.partition(".")[0],
                None,
            )
            for alias in node.names
        }
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + (1 if package else 0)]
        base = ".".join([*parts, *([base] if base else [])])
    return {alias.asname or alias.name: (base, alias.name) for alias in node.names}


def _assigned(node: ast.stmt) -> list[str]:
    """The names that a statement assigns, if that is all that it does."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return []
    flat = [t for target in targets for t in getattr(target, "elts", [target])]
    return [t.id for t in flat if isinstance(t, ast.Name)] if all(map(_is_name, flat)) else []


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """The names in a piece of code with the attributes that follow them, annotations apart."""
    if isinstance(node, ast.Attribute):
        names = [node.attr]
        base = node.value
        while isinstance(base, ast.Attribute):
            names.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            yield (base.id, *reversed(names))
        else:
            yield from _chains(base)
        return
    if isinstance(node, ast.Name):
        yield (node.id,)
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _chains(child)


@functools.lru_cache(maxsize=8192)
def _digest_of(path: Path, module: str, changed: int, name: str) -> str:
    """Digest what a definition does, apart from comments, docstrings, annotations and layout."""
    held = _cached(path, module, changed)
    nodes = held.acts if name == ACTS else held.definitions[name]
    text = "\0".join(ast.dump(_Bare().visit(copy.deepcopy(node))) for node in nodes)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if nodes else ""


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations off."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        return node
