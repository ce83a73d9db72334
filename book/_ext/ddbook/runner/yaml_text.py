"""YAML, read for what a person means by it."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml


class _Loader(yaml.SafeLoader):
    """Reads what a person writes for what a person means: see `load_yaml`."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (the base class's type)
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        None: yaml.SafeLoader.construct_undefined,
        **{
            f"tag:yaml.org,2002:{kind}": getattr(yaml.SafeLoader, f"construct_yaml_{kind}")
            for kind in ("null", "bool", "float", "str", "seq", "map")
        },
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="no *alias here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


_Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("_", ""))
)
_DIGITS = r"\d+(_\d+)*"
for _kind, _pattern in {
    "null": "~|null|Null|NULL|",
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?{_DIGITS}",
    "float": rf"[-+]?({_DIGITS}\.?({_DIGITS})?|\.{_DIGITS})([eE][-+]?\d+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), None
    )


def load_yaml(text: str) -> Any:
    """Read YAML for what a person means by it; `ValueError` says in one line why it is not YAML.

    As in YAML 1.2, not in the 1.1 of most readers, 1e-3 is a number, 010 is ten, and 1:30, 0x10,
    2024-01-01, yes, no, on and off are text, for the one who wants a number or a boolean to refuse.
    A key that stands twice is refused, and so are aliases and tags beyond these kinds.

    >>> load_yaml("{rates: [1e-3, 0.1], seed: 010, start: 1:30, mode: off}")
    {'rates': [0.001, 0.1], 'seed': 10, 'start': '1:30', 'mode': 'off'}
    >>> load_yaml("{seed: 1, seed: 2}")
    Traceback (most recent call last):
    ValueError: not YAML: 'seed' stands twice (line 1, column 11)
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        reason = f"{', '.join(filter(None, (error.context, error.problem)))}{where}"
        raise ValueError(f"not YAML: {' '.join(reason.split())}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("not YAML: nested too deeply") from error
