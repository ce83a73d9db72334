"""The ledger: what the papers claim, what we measured, and who may judge.

A claim is written down, with its predicate and its number, before anything is run. A notebook
records whether the predicate held and what it measured; `judge` turns claim and records into a
verdict of three words. Only a run of sufficient scale, on real data, may judge, and what it cannot
tell is not settled.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ddbook.runner import datasets
from ddbook.runner.files import now, plain
from ddbook.runner.places import PROFILES
from ddbook.runner.yaml_text import load_yaml

PAPERS = ("DD", "PF", "ours")
NOT_SETTLED = "not settled"
VERDICTS = {  # kind of claim: its verdict when the predicate holds, when not, when it is open
    "paper": ("reproduced", "deviates", NOT_SETTLED),
    "ours": ("holds", "does not hold", NOT_SETTLED),
    "erratum": ("confirmed", "not confirmed", NOT_SETTLED),
}

RECORDED: dict[str, tuple[type, ...]] = {  # the kinds of a record's fields
    "id": (str,),
    "holds": (bool, type(None)),  # None: the run cannot tell
    "measured": (dict,),
    "profile": (str,),
    "dataset": (str, dict, list, type(None)),  # `datasets.check` looks closer
    "notebook": (str,),
    "created": (str,),
}


class Earlier(NamedTuple):
    """A verdict that stood before, and the predicate that it stood by."""

    verdict: str
    predicate: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim that we judge.

    `paper` and `place` say where it stands, `statement` what it says, `predicate` what is measured
    and what would confirm it; `profile` is the smallest that may judge it, `dataset` the real data
    it needs (any one of the names); `verdict` is the recorded one, which a later run must meet.
    `scale` says at what size it is judged where that is not the statement's own; `settles` what
    would settle a claim that is not settled, which needs it. `judged_by` is the only notebook that
    may judge it; what others recorded was judged by an earlier predicate, which `earlier` keeps
    with its verdict.
    """

    id: str
    paper: str
    place: str
    statement: str
    predicate: str
    profile: str
    verdict: str
    dataset: str | list[str] | None = None
    scale: str | None = None
    settles: str | None = None
    judged_by: str | None = None
    earlier: Earlier | None = None
    note: str | None = None

    @property
    def kind(self) -> str:
        """What the claim is, a key of `VERDICTS`: a slip in a text has an id in `erratum-`."""
        if self.id.startswith("erratum-"):
            return "erratum"
        return "ours" if self.paper == "ours" else "paper"

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets any of which will do; empty when none is needed."""
        return [self.dataset] if isinstance(self.dataset, str) else list(self.dataset or ())


@dataclasses.dataclass(frozen=True)
class Record:
    """What one run found about one claim.

    `holds` is None where the run cannot tell; `measured` maps names to numbers, strings, booleans.
    """

    id: str
    holds: bool | None
    measured: dict[str, Any]
    profile: str
    dataset: datasets.Recorded
    notebook: str
    created: str = ""


class Verdict(NamedTuple):
    """One of the three words for the claim's kind, and the record that it rests on.

    Where no run may judge, the claim is not settled, there is no record, and `waits` says for what:
    "the standard profile", say, or "mnist data".
    """

    status: str
    record: Record | None
    waits: str = ""


def load(path: str | os.PathLike[str]) -> dict[str, Claim]:
    """Read the claims of a YAML file (a list of mappings), by id.

    `ValueError` names the entry and the field that is missing, unknown or of an unknown kind.
    """
    try:
        entries = load_yaml(Path(path).read_text(encoding="utf-8")) or []
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error
    return parse(entries, where=str(path))


def parse(entries: Any, where: str = "claims") -> dict[str, Claim]:
    """Return the claims in a list of mappings, by id; `where` names the list in errors.

    >>> claims = parse([{"id": "dd-3.1", "paper": "DD", "place": "Theorem 3.1", "statement": "…",
    ...     "predicate": "slope ≥ 2.9", "profile": "quick", "verdict": "reproduced"}])
    >>> claims["dd-3.1"].place
    'Theorem 3.1'
    """
    if not isinstance(entries, list):
        raise ValueError(f"{where}: a list of claims is wanted, not a {type(entries).__name__}")
    fields = {field.name: field for field in dataclasses.fields(Claim)}
    required = [n for n, field in fields.items() if field.default is dataclasses.MISSING]
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        at = f"{where}, claim {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{at}: a mapping is wanted, not {entry!r}")
        at += f" ({entry['id']})" if "id" in entry else ""
        if unknown := [str(key) for key in entry if key not in fields]:
            raise ValueError(f"{at}: unknown field{_suggest(unknown[0], fields)}")
        if missing := [name for name in required if entry.get(name) in (None, "")]:
            raise ValueError(f"{at}: lacks {', '.join(missing)}")
        for name, value in entry.items():
            lists = name == "dataset" and isinstance(value, list) and value
            if name == "earlier" and isinstance(value, dict):
                if set(value) != set(Earlier._fields):
                    raise ValueError(f"{at}: earlier must have verdict and predicate, got {value}")
                lists, value = True, list(value.values())
            if not all(isinstance(v, str) for v in (value if lists else [value])) and not (
                value is None and name not in required
            ):
                raise ValueError(f"{at}: {name} must be text, not {value!r}")
        for name, allowed in (("paper", PAPERS), ("profile", PROFILES)):
            if entry[name] not in allowed:
                raise ValueError(f"{at}: {name}{_suggest(entry[name], allowed)}")
        earlier = entry.get("earlier")
        if earlier is not None and not isinstance(earlier, dict):
            raise ValueError(f"{at}: earlier must have verdict and predicate, got {earlier!r}")
        claim = Claim(**{**entry, "earlier": Earlier(**earlier) if earlier else None})
        for verdict in (claim.verdict, *([claim.earlier.verdict] if claim.earlier else [])):
            if verdict not in (words := VERDICTS[claim.kind]):
                raise ValueError(f"{at}: verdict{_suggest(verdict, words)}")
        if (claim.verdict == NOT_SETTLED) != (claim.settles is not None):
            raise ValueError(
                f"{at}: settles must say what would settle the claim where it is not settled, and "
                f"only there, got {claim.settles!r} with the verdict {claim.verdict!r}"
            )
        if claim.id in claims:
            raise ValueError(f"{at}: the id stands twice")
        claims[claim.id] = claim
    return claims


def _suggest(given: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    close = difflib.get_close_matches(given, allowed, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f" {given!r}{meant}; one of {', '.join(allowed)} would do"


class Ledger:
    """Where a notebook records what it found; `on_record` is called with it after each record.

    A claim is recorded once, unless `replace` says that a later record takes the place of the
    former. `rests_on` makes the record of what `record` is given as `data`, for a claim that it is
    told too; without it `data` is such a record (`ddbook.runner.datasets`).

    >>> claims = parse([{"id": "dd-3.1", "paper": "DD", "place": "Theorem 3.1", "statement": "…",
    ...     "predicate": "slope ≥ 2.9", "profile": "quick", "verdict": "reproduced"}])
    >>> ledger = Ledger(claims, notebook="demo", profile="quick")
    >>> ledger.record("dd-3.1", holds=True, measured={"slope": 2.98}).measured
    {'slope': 2.98}
    >>> ledger.record("dd-31", holds=True, measured={"slope": 2.98})
    Traceback (most recent call last):
    ValueError: id: no claim 'dd-31' (did you mean 'dd-3.1'?); one of dd-3.1 would do
    """

    def __init__(
        self,
        claims: Mapping[str, Claim],
        *,
        notebook: str,
        profile: str,
        rests_on: Callable[[Any, str], datasets.Recorded] | None = None,
        on_record: Callable[[Ledger], None] | None = None,
        replace: bool = False,
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"profile{_suggest(profile, PROFILES)}")
        self.claims = claims
        self.notebook = notebook
        self.profile = profile
        self._rests_on = rests_on or _as_it_is
        self.records: list[Record] = []
        self._on_record = on_record
        self._replace = replace

    def record(
        self, id: str, holds: Any, measured: Mapping[str, Any], *, data: Any = None
    ) -> Record:
        """Record whether the predicate of claim `id` held, and the numbers that say so.

        `holds` is True, False, or None where these numbers cannot tell (see
        `ddbook.sweeps.effects`). `data` is what they rest on: a dataset of `run.data`, a table,
        "none" or a list of these.
        """
        if id not in self.claims:
            raise ValueError(f"id: no claim{_suggest(id, self.claims)}")
        others = [record for record in self.records if record.id != id]
        if len(others) < len(self.records) and not self._replace:
            raise ValueError(f"id: {id!r} is recorded already; a run records a claim once")
        holds = plain(holds)
        if not isinstance(holds, bool | None):
            raise ValueError(f"holds: True, False or None is wanted for {id!r}, not {holds!r}")
        if not isinstance(measured, Mapping) or not measured:
            raise ValueError(f"measured: {id!r} needs what was measured, {{name: value}}")
        values = plain(measured)
        for name, value in values.items():
            if not isinstance(value, (bool, int, float, str)):
                raise ValueError(
                    f"measured: {id!r} has {name} = {value!r}; a number, text or a boolean would do"
                )
        dataset = plain(self._rests_on(data, f"the claim {id}"))
        record = Record(id, holds, values, self.profile, dataset, self.notebook, now())
        self.records = [*others, record]
        if self._on_record is not None:
            self._on_record(self)
        return record

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger as plain Python, the content of a claims file."""
        return {
            "notebook": self.notebook,
            "profile": self.profile,
            "records": [dataclasses.asdict(record) for record in self.records],
        }


def _as_it_is(data: Any, what: str) -> datasets.Recorded:
    datasets.check(data, f"data of {what}")
    return data


def read_records(content: Any, where: str = "claims file") -> list[Record]:
    """Return the records in the content of a claims file (what `Ledger.as_dict` gave).

    `ValueError` when it is something else, or damaged: "no" is not False, and would be true.
    """
    try:
        records = [Record(**record) for record in content["records"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} is not a claims file of ours: {error}") from error
    for record in records:
        for name, kinds in RECORDED.items():
            if not isinstance(value := getattr(record, name), kinds):
                raise ValueError(
                    f"{where} is not a claims file of ours: {name} of {record.id!r} must be a "
                    f"{kinds[0].__name__}, got {value!r}"
                )
        datasets.check(
            record.dataset, f"{where} is not a claims file of ours: dataset of {record.id!r}"
        )
    return records


def judge(claim: Claim, records: Iterable[Record]) -> Verdict:
    """Judge a claim by the records of several runs.

    Only a run of the claim's profile or a larger one may judge, by the one notebook that may where
    the claim names one, and where it needs data, only one on that data (and others, perhaps), not
    on a stand-in. Of several the largest profile decides, then the newest run.
    """
    yes, no, open_ = VERDICTS[claim.kind]
    own = [r for r in records if r.id == claim.id and claim.judged_by in (None, r.notebook)]
    scale = {name: rank for rank, name in enumerate(PROFILES)}
    large = [r for r in own if scale.get(r.profile, -1) >= scale[claim.profile]]
    if not large:
        return Verdict(open_, None, f"the {claim.profile} profile")
    on_data = [r for r in large if not claim.datasets or _is_real(r.dataset, claim.datasets)]
    if not on_data:
        return Verdict(open_, None, f"{' or '.join(claim.datasets)} data")
    best = max(on_data, key=lambda r: (scale[r.profile], r.created))
    return Verdict({True: yes, False: no, None: open_}[best.holds], best)


def judge_earlier(claim: Claim, records: Iterable[Record]) -> Verdict:
    """Judge by what notebooks other than the claim's own judge recorded: the earlier predicate."""
    others = [record for record in records if record.notebook != claim.judged_by]
    return judge(dataclasses.replace(claim, judged_by=None), others)


def _is_real(dataset: datasets.Recorded, names: list[str]) -> bool:
    # a record that does not say whether its data is a stand-in is not trusted to be real; what
    # rests on a stand-in in part is no measurement on data
    found = datasets.listed(dataset)
    real = all(one.get("stand_in") is False for one in found)
    return real and any(one.get("name") in names for one in found)
