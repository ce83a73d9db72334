"""The card under a figure: where its numbers came from, and the tables for download."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ddbook.page.tables import Table
from ddbook.runner import datasets


class Card:
    """Shows where the numbers of a figure came from, and offers them for download."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.tables = list(tables)

    def __repr__(self) -> str:
        return "\n".join(f"{table.name}: {table.label}" for table in self.tables)

    def _repr_html_(self) -> str:
        groups: dict[tuple[str, str, bool], list[Table]] = {}
        for table in self.tables:
            origin = table.provenance
            groups.setdefault((origin.notebook, origin.profile, table.published), []).append(table)
        return f'<aside class="ddbook-card">{"".join(map(_group, groups.values()))}</aside>'


def _group(tables: list[Table]) -> str:
    newest = max(tables, key=lambda table: table.provenance.created)
    origin = newest.provenance
    facts = [
        f"<strong>{_text(newest.label)}</strong>",
        _text(origin.notebook),
        data_words([table.provenance.dataset for table in tables]),
        f"commit <code>{_text(origin.commit[:10])}</code>{' with local changes' * origin.dirty}",
        _text(origin.device),
        f"{origin.wall_seconds:.3g} s",
        _text(origin.created[:10]),
    ]
    where = "published" if newest.published else origin.profile
    if newest.since:
        facts.append(f"computed by former code: {_text('; '.join(newest.since))}")
    links = []
    for table in tables:
        path = f"../tables/{where}/{origin.notebook}/{table.name}"
        links.append(
            f"<li>{_text(table.name)}, {len(table.frame)} rows: "
            f'<a href="{_text(path)}.parquet" download>Parquet</a>, '
            f'<a href="{_text(path)}.csv" download>CSV</a></li>'
        )
    more = {**origin.parameters, "seeds": origin.seeds, **origin.versions}
    for one in _datasets([table.provenance.dataset for table in tables]):
        more[f"checksum of {one['name']}"] = one["checksum"]
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in more.items())
    return (
        f"<p>{' · '.join(fact for fact in facts if fact)}</p><ul>{''.join(links)}</ul>"
        f"<details><summary>Settings and versions</summary><dl>{rows}</dl></details>"
    )


def _datasets(records: Sequence[datasets.Recorded]) -> list[dict[str, Any]]:
    every = [one for record in records for one in datasets.listed(record)]
    return datasets.listed(datasets.recorded(every))


def data_words(records: Sequence[datasets.Recorded]) -> str:
    """Say in HTML which data the tables with these records rest on; nothing where none says it.

    >>> data_words(["none"]), data_words([None])
    ('data: none needed', '')
    """
    found = _datasets(records)
    names = {
        stands: ", ".join(_text(one["name"]) for one in found if one["stand_in"] is stands)
        for stands in (False, True)
    }
    said = [f"data: {names[False]}"] if names[False] else []
    if names[True]:
        marked = f'<strong class="ddbook-stand-in">stand-in data: {names[True]}</strong>'
        said.append(f"{marked}, no claim judged")
    if not found and datasets.NONE in records:
        said = ["data: none needed"]
    return " · ".join(said)


def _text(value: Any) -> str:
    return html.escape(str(value))
