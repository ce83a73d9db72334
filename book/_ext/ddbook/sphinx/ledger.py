"""The claims ledger on pages: roles for prose, directives for the ledger page.

What was claimed stands in `book/claims.yml`; what was measured in the `claims.json` that each
notebook leaves beside its tables, both in `runs/<profile>/` (this build) and in `results/`
(published). `ddbook.page.claims` judges; this module only shows, and warns when a verdict is not
the one on record or when no notebook measured a claim, so that `-W` fails the build.

In prose:

- ``{claim}`some-id` ``: the verdict with its numbers, linked to the ledger
- ``{measured}`some-id:key` ``: one measured number; ``{measured}`some-id:key:.2f` `` formats it,
  and the format `share` puts a share of cases in words: "all", "none", "89%"
- ``{when-judged} some-id``: a directive around prose on a claim, for one that only a larger profile
  may judge: until it has, the claim's statement and what it waits for stand there instead

On pages: `{claims-summary}` counts verdicts, `{claims-ledger} DD` lists the claims of one paper,
`{claims-here}` those that the page's own notebook measured.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakKeyDictionary

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.domains.std import StandardDomain
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from ddbook.page import claims as ddclaims
from ddbook.runner import files
from ddbook.runner.places import PROFILES
from ddbook.sphinx.pages import notebook_page

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

LOGGER = logging.getLogger(__name__)

PAPERS = {
    "DD": "Discretization Drift in Two-Player Games",
    "PF": "On a continuous time model of gradient descent dynamics",
    "ours": "Our own",
}
MAX_INLINE = 3  # numbers shown inside a sentence; the ledger shows all
METADATA_KEY = "ddbook-ledger"  # marks pages that show the ledger, so that they follow it


@dataclass(frozen=True)
class Finding:
    """One record of a claim and where it comes from: `build` or `published`."""

    record: ddclaims.Record
    origin: str


@dataclass(frozen=True)
class Ledger:
    """Claims, what was found about each, and the verdicts."""

    claims: dict[str, ddclaims.Claim]
    findings: dict[str, list[Finding]]
    unknown: list[tuple[str, Path]]  # records of claims that nobody stated
    fingerprint: str
    profile: str = "quick"  # of this build

    def judge(self, claim_id: str, origin: str | None = None) -> ddclaims.Verdict:
        """Return the verdict on a claim, from records of one origin or of all."""
        found = self.findings[claim_id]
        records = [item.record for item in found if origin in (None, item.origin)]
        return ddclaims.judge(self.claims[claim_id], records)

    def telling(self, claim_id: str) -> Finding | None:
        """Return the finding whose numbers speak for a claim.

        That is the record which the verdict rests on; where none may judge yet, this build's, or
        else any.
        """
        found = self.findings[claim_id]
        record = self.judge(claim_id).record
        judged = [item for item in found if item.record is record]
        return next(iter(judged or sorted(found, key=lambda item: item.origin)), None)

    def complaints(self) -> list[str]:
        """Return what is wrong, one sentence each: what a strict build fails on."""
        said = [
            f"claim {claim_id!r} is recorded in {path} but not stated in claims.yml"
            for claim_id, path in self.unknown
        ]
        scale = PROFILES.index
        for claim_id, claim in self.claims.items():
            # what only a larger profile may judge can wait for it: the ledger says so
            due = claim.verdict != "pending" and scale(claim.profile) <= scale(self.profile)
            if due and not self.findings[claim_id]:
                said.append(f"claim {claim_id!r} has no record: no notebook measured it")
            for origin, words in (("build", "this build"), ("published", "the published run")):
                verdict = self.judge(claim_id, origin)
                if verdict.record is not None and verdict.status != claim.verdict:
                    said.append(
                        f"claim {claim_id!r}: {words} says {verdict.status!r} "
                        f"({measured_text(verdict.record.measured)}), "
                        f"but claims.yml has {claim.verdict!r} on record"
                    )
        return said


def load_ledger(root: Path, profile: str, claims_file: str = "book/claims.yml") -> Ledger:
    """Read the claims and every record under `runs/<profile>/` and `results/`."""
    path = root / claims_file
    stated = ddclaims.load(path) if path.is_file() else {}
    findings: dict[str, list[Finding]] = {claim_id: [] for claim_id in stated}
    unknown: list[tuple[str, Path]] = []
    digest = hashlib.sha256(path.read_bytes() if path.is_file() else b"")
    for origin, folder in (("build", root / "runs" / profile), ("published", root / "results")):
        for file in sorted(folder.glob("*/claims.json")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
            for record in ddclaims.read_records(files.read_json(file), where=str(file)):
                if record.id in findings:
                    findings[record.id].append(Finding(record, origin))
                else:
                    unknown.append((record.id, file.relative_to(root)))
    return Ledger(stated, findings, unknown, digest.hexdigest(), profile)


# Words and numbers.


def show_number(value: object, spec: str = "") -> str:
    """Return a measured value as a reader wants it: four significant digits, real minus signs.

    `spec` is a Python format specification that overrides the digits, or `share`: the words that go
    before "of the cases". A share is 0 % or 100 % only where it is none or all.

    >>> show_number(0.0123456), show_number(-1.5), show_number(3.2e-9), show_number(True)
    ('0.01235', '−1.5', '3.2×10⁻⁹', 'yes')
    >>> show_number(1.0, "share"), show_number(0.894, "share"), show_number(0.9997, "share")
    ('all', '89%', '99.97%')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ("inf", "-inf", "nan"):  # JSON has no infinities: they lie there as text
        value = float(str(value))
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if spec == "share":
        if not 0 <= value <= 1:
            raise ValueError(f"a share must be between 0 and 1, got {value}")
        text = "none" if value == 0 else "all" if value == 1 else _percent(value, ".0%")
    elif spec.endswith("%"):
        text = _percent(value, spec)
    elif spec:
        text = format(value, spec)
    elif isinstance(value, int):
        text = (
            f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
            if abs(value) > 9999
            else f"{value}"
        )
    elif 1e4 <= abs(value) < 1e6:
        text = f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    elif 0 < abs(value) < 1e-3:
        text = f"{value:.3e}"
    else:
        text = f"{value:.4g}"
    mantissa, mark, exponent = text.partition("e")
    if mark and exponent.lstrip("+-").isdigit():
        mantissa = mantissa.rstrip("0").rstrip(".") if not spec and "." in mantissa else mantissa
        power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"{mantissa}×10{power}"
    return text.replace("-", "\N{MINUS SIGN}")


def _percent(value: float, spec: str) -> str:
    """Return a percentage, with as many more digits as keep it off 0 and 100 if it is neither."""
    text = format(value, spec)
    for digits in range(1, 17):
        if value in (0, 1) or float(text.rstrip("%").replace(",", "")) not in (0, 100):
            break
        text = format(value, f".{digits}%")
    return text


def measured_text(measured: Any, at_most: int | None = None) -> str:
    """Return `name value, name value`; with `at_most`, no more than so many."""
    items = list(measured.items())
    shown = [f"{key.replace('_', ' ')} {show_number(value)}" for key, value in items[:at_most]]
    return ", ".join([*shown, "…"] if len(shown) < len(items) else shown)


def verdict_class(status: str) -> str:
    """Return the CSS class of a verdict."""
    return f"ddbook-{status.split()[0]}"


def verdict_words(status: str) -> str:
    """Return a verdict with its sign, so that colour is never alone in telling it."""
    words = status.split()
    if words[0] == "needs":
        wanted = f"{words[-1]} data" if words[1] == "data" else f"the {words[-1]} profile"
        return f"… needs {wanted}"
    return {"reproduced": "✓ ", "deviates": "≠ "}.get(status, "") + status


def run_words(finding: Finding) -> str:
    """Return which run a finding is from."""
    where = "this build" if finding.origin == "build" else "published"
    return f"{finding.record.profile}, {where}"


def data_words(record: ddclaims.Record) -> str:
    """Return the dataset of a record; a stand-in says so."""
    if not record.dataset:
        return "none"
    stand_in = " (a stand-in: judges nothing)" if record.dataset["stand_in"] else ""
    return f"{record.dataset['name']}{stand_in}"


# Sphinx: one ledger per build.

_LEDGERS: WeakKeyDictionary[Sphinx, Ledger] = WeakKeyDictionary()


def setup(app: Sphinx) -> None:
    """Register roles, directives and the events that load and check the ledger."""
    app.add_config_value("ddbook_claims", "book/claims.yml", "env", [str])
    app.add_role("claim", ClaimRole())
    app.add_role("measured", MeasuredRole())
    app.add_directive("claims-summary", SummaryDirective)
    app.add_directive("claims-ledger", LedgerDirective)
    app.add_directive("claims-here", HereDirective)
    app.add_directive("when-judged", WhenJudgedDirective)
    app.connect("builder-inited", _load)
    app.connect("env-get-outdated", _pages_to_follow)


def _load(app: Sphinx) -> None:
    config = app.config
    try:
        ledger = load_ledger(Path(app.srcdir), config.ddbook_profile, config.ddbook_claims)
    except ValueError as error:
        raise ExtensionError(f"the claims ledger cannot be read: {error}") from error
    for sentence in ledger.complaints():
        LOGGER.warning("%s", sentence, type="ddbook", subtype="claim")
    _LEDGERS[app] = ledger


def _pages_to_follow(
    app: Sphinx, env: BuildEnvironment, _added: set[str], _changed: set[str], _removed: set[str]
) -> list[str]:
    """Return the pages that show the ledger when it is not what they were written from."""
    new = _LEDGERS[app].fingerprint
    old = getattr(env, "ddbook_fingerprint", None)
    env.ddbook_fingerprint = new  # type: ignore[attr-defined]
    if old == new:
        return []
    return [name for name in env.found_docs if METADATA_KEY in env.metadata.get(name, {})]


class ClaimRole(SphinxRole):
    """``{claim}`id` ``: verdict and numbers, linked to the ledger's entry."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return one link."""
        self.env.metadata[self.env.docname][METADATA_KEY] = True
        ledger, claim_id = _LEDGERS[self.env.app], self.text.strip()
        if claim_id not in ledger.claims:
            return _unknown(self, claim_id, ledger.claims, "claim")
        verdict = ledger.judge(claim_id)
        made: list[nodes.Node] = [_link_to_claim(self.env, claim_id, verdict.status)]
        if verdict.record is not None:
            made.append(nodes.Text(f" ({measured_text(verdict.record.measured, MAX_INLINE)})"))
        return made, []


class MeasuredRole(SphinxRole):
    """``{measured}`id:key` `` or ``{measured}`id:key:format` ``: one measured number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number, with the run that it comes from as its tooltip."""
        self.env.metadata[self.env.docname][METADATA_KEY] = True
        ledger = _LEDGERS[self.env.app]
        claim_id, _, rest = self.text.strip().partition(":")
        key, _, spec = rest.partition(":")
        if claim_id not in ledger.claims:
            return _unknown(self, claim_id, ledger.claims, "claim")
        finding = ledger.telling(claim_id)
        if finding is None:
            return [nodes.inline("", "not measured yet", classes=["ddbook-measured"])], []
        record = finding.record
        if key not in record.measured:
            return _unknown(self, key, record.measured, f"number measured for {claim_id}")
        try:
            number = show_number(record.measured[key], spec)
        except ValueError as error:
            return _complaint(self, f"{self.text!r}: {error}")
        if record.dataset and record.dataset["stand_in"]:
            number += " (stand-in data)"
        about = f"{record.notebook}, {run_words(finding)}"
        return [nodes.abbreviation("", number, explanation=about, classes=["ddbook-measured"])], []


def _unknown(
    role: SphinxRole, given: str, known: Iterable[str], what: str
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    return _complaint(role, f"no {what} is called {given!r}; known: {', '.join(known) or 'none'}")


def _complaint(role: SphinxRole, text: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    location = (role.env.docname, role.lineno)
    LOGGER.warning("%s", text, location=location, type="ddbook", subtype="claim")
    return [nodes.inline("", f"[{role.text}]", classes=["ddbook-measured"])], []


def _badge(status: str, *inner: nodes.Node) -> nodes.Node:
    return nodes.inline("", "", *inner, classes=["ddbook-verdict", verdict_class(status)])


def _link_to_claim(env: BuildEnvironment, claim_id: str, status: str) -> nodes.Node:
    # The badge is outside: resolving a reference keeps the words of its content, not the classes.
    words = nodes.inline("", verdict_words(status))
    return _badge(status, _reference(env, "ref", anchor(claim_id), words))


def _reference(env: BuildEnvironment, kind: str, target: str, words: nodes.Node) -> nodes.Node:
    return addnodes.pending_xref(
        "",
        words,
        refdomain="std",
        reftype=kind,
        reftarget=target,
        refexplicit=True,
        refwarn=True,
        refdoc=env.docname,
    )


def anchor(claim_id: str) -> str:
    """Return the HTML id of a claim's entry on the ledger page."""
    return nodes.make_id(f"claim-{claim_id}")


# Directives.


class _LedgerBlock(SphinxDirective):
    """What the directives share: the ledger, MyST in claims, tables."""

    def ledger(self) -> Ledger:
        """Return this build's ledger and mark the page as one that follows it."""
        self.env.metadata[self.env.docname][METADATA_KEY] = True
        return _LEDGERS[self.env.app]

    def parsed(self, text: str) -> list[nodes.Node]:
        """Return `text`, MyST with mathematics, as nodes."""
        box = nodes.container()
        lines = StringList(text.strip().splitlines(), source="claims.yml")
        self.state.nested_parse(lines, 0, box)
        return box.children

    def page_link(self, notebook: str, words: str) -> nodes.Node:
        """Return a link to a notebook's page, or its words where the book has no such page."""
        page = notebook_page(self.env, notebook)
        text = nodes.inline("", words)
        return text if page is None else _reference(self.env, "doc", f"/{page}", text)


class SummaryDirective(_LedgerBlock):
    """`{claims-summary}`: how many claims have which verdict, linked to the ledger."""

    def run(self) -> list[nodes.Node]:
        """Return one paragraph."""
        ledger = self.ledger()
        statuses = Counter(ledger.judge(claim_id).status for claim_id in ledger.claims)
        order = {"reproduced": 0, "deviates": 1}
        line = nodes.paragraph(classes=["ddbook-summary"])
        total = len(ledger.claims)
        if not total:
            line += nodes.Text("No claim is on the ledger yet.")
        else:
            line += nodes.Text(f"{total} claim{'' if total == 1 else 's'}: ")
        for status in sorted(statuses, key=lambda item: (order.get(item, 2), item)):
            sign, _, words = verdict_words(status).partition(" ")
            count = statuses[status]
            if count > 1:  # the verb follows its number: 1 deviates, 2 deviate
                first, space, rest = words.partition(" ")
                words = {"deviates": "deviate", "needs": "need"}.get(first, first) + space + rest
            line += _badge(status, nodes.Text(f"{sign} {count} {words}"))
            line += nodes.Text(" ")
        return [line]


class LedgerDirective(_LedgerBlock):
    """`{claims-ledger} DD`: every claim of one paper, in the order of `claims.yml`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return an entry for each claim, under a heading for each place."""
        paper = self.arguments[0]
        if paper not in PAPERS:
            raise self.error(f"no paper {paper!r}; known: {', '.join(PAPERS)}")
        ledger = self.ledger()
        mine = [claim for claim in ledger.claims.values() if claim.paper == paper]
        if not mine:
            return [nodes.paragraph("", "No claim from here has been judged yet.")]
        made: list[nodes.Node] = []
        places = list(dict.fromkeys(claim.place for claim in mine))
        for place in places:
            made.append(nodes.rubric("", place, classes=["ddbook-place"]))
            made += [self.entry(ledger, claim) for claim in mine if claim.place == place]
        return made

    def entry(self, ledger: Ledger, claim: ddclaims.Claim) -> nodes.Node:
        """Return all there is to say about one claim."""
        name = anchor(claim.id)
        status = ledger.judge(claim.id).status
        box = nodes.container(ids=[name], classes=["ddbook-claim", verdict_class(status)])
        domain = cast(StandardDomain, self.env.get_domain("std"))
        domain.note_hyperlink_target(name, self.env.docname, name, claim.id)
        head = nodes.paragraph(classes=["ddbook-claim-head"])
        badge = _badge(status, nodes.Text(verdict_words(status)))
        permalink = nodes.reference("", claim.id, refid=name, classes=["ddbook-claim-id"])
        head += [badge, nodes.Text(" "), permalink]
        box += head
        box += self.parsed(claim.statement)
        needs = f"the {claim.profile} profile or a larger one"
        if claim.datasets:
            needs += f", on {' or '.join(claim.datasets)}"
        rows: list[tuple[str, list[nodes.Node]]] = [
            ("Predicate", self.parsed(claim.predicate)),
            ("Judged by", [nodes.paragraph("", needs)]),
        ]
        if claim.note:
            rows.append(("Note", self.parsed(claim.note)))
        box += _fields(rows)
        if ledger.findings[claim.id]:
            box += self.runs(ledger, claim.id)
        else:
            box += nodes.paragraph("", "No notebook has measured it yet.")
        return box

    def runs(self, ledger: Ledger, claim_id: str) -> nodes.Node:
        """Return the table of what each run measured."""
        judged = ledger.judge(claim_id).record
        on_data = any(finding.record.dataset for finding in ledger.findings[claim_id])
        rows: list[list[nodes.Node]] = []
        for finding in ledger.findings[claim_id]:
            record = finding.record
            holds = "holds" if record.holds else "does not hold"
            if record is judged:
                holds += ", decides"
            rows.append(
                [
                    self.page_link(record.notebook, run_words(finding)),
                    nodes.Text(holds),
                    nodes.Text(measured_text(record.measured)),
                    *([nodes.Text(data_words(record))] if on_data else []),
                ]
            )
        return _table(["Run", "Predicate", "Measured", *(["Data"] if on_data else [])], rows)


class HereDirective(_LedgerBlock):
    """`{claims-here}`: what the page's own notebook measured, in short."""

    option_spec: ClassVar[dict[str, Any]] = {"notebook": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return a table of verdicts."""
        ledger = self.ledger()
        name = self.options.get("notebook") or self.env.docname.rsplit("/", 1)[-1]
        rows: list[list[nodes.Node]] = []
        for claim_id, claim in ledger.claims.items():
            if not any(found.record.notebook == name for found in ledger.findings[claim_id]):
                continue
            verdict, telling = ledger.judge(claim_id), ledger.telling(claim_id)
            link = _link_to_claim(self.env, claim_id, verdict.status)
            statement = self.parsed(f"{claim.statement.strip()} ({claim.paper}, {claim.place})")
            numbers = measured_text(telling.record.measured) if telling else ""
            run = f" [{run_words(telling)}]" if telling else ""
            rows.append([link, *statement[:1], nodes.Text(numbers + run)])
        if not rows:
            return [nodes.paragraph("", "This notebook has measured no claim.")]
        return [_table(["Verdict", "Claim", "Measured"], rows)]


class WhenJudgedDirective(_LedgerBlock):
    """`{when-judged} some-id`: its content once a run has judged the claim, else the statement."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the content parsed, or one paragraph."""
        ledger, claim_id = self.ledger(), self.arguments[0].strip()
        if claim_id not in ledger.claims:
            known = ", ".join(ledger.claims) or "none"
            raise self.error(f"no claim is called {claim_id!r}; known: {known}")
        verdict = ledger.judge(claim_id)
        if verdict.record is not None:
            return self.parse_content_to_nodes()
        [said, *_] = self.parsed(ledger.claims[claim_id].statement)
        link = _link_to_claim(self.env, claim_id, verdict.status)
        return [
            nodes.paragraph(
                "",
                "",
                nodes.emphasis("", "To be measured: "),
                *said.children,
                nodes.Text(" "),
                link,
            )
        ]


def _fields(rows: Sequence[tuple[str, list[nodes.Node]]]) -> nodes.Node:
    box = nodes.definition_list(classes=["ddbook-fields"])
    for name, body in rows:
        box += nodes.definition_list_item("", nodes.term("", name), nodes.definition("", *body))
    return box


def _table(head: Sequence[str], rows: Sequence[Sequence[nodes.Node]]) -> nodes.Node:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _row([nodes.Text(word) for word in head]))
    group += nodes.tbody("", *[_row(row) for row in rows])
    return nodes.table("", group, classes=["ddbook-runs"])


def _row(cells: Sequence[nodes.Node]) -> nodes.row:
    def paragraph(cell: nodes.Node) -> nodes.Node:
        return cell if isinstance(cell, nodes.paragraph) else nodes.paragraph("", "", cell)

    return nodes.row("", *[nodes.entry("", paragraph(cell)) for cell in cells])
