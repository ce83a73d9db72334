"""The claims ledger on pages, as directives.

- `{claims-summary}` counts the verdicts of each paper and of our own claims,
  `{claims-ledger} DD` lists the claims of one paper, `{claims-here}` those that the page's own
  notebook measured
- ``{when-judged} some-id``: a directive around prose on a claim, for one that only a larger profile
  may judge: until it has, the claim's statement and what it waits for stand there instead

This room only shows, and warns when a verdict is not the one on record or when no notebook measured
a claim (`findings.Ledger.complaints`), so that `-W` fails the build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.domains.std import StandardDomain
from sphinx.util.docutils import SphinxDirective

from ddbook.page import claims as ddclaims
from ddbook.runner import datasets
from ddbook.sphinx import build
from ddbook.sphinx.findings import Ledger
from ddbook.sphinx.pages import notebook_page
from ddbook.sphinx.roles import ClaimRole, MeasuredRole, anchor, badge, link_to_claim, reference
from ddbook.sphinx.words import (
    SIGNS,
    counted,
    data_words,
    measured_text,
    run_words,
    verdict_class,
    verdict_words,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAPERS = {
    "DD": "Discretization Drift in Two-Player Games",
    "PF": "On a continuous time model of gradient descent dynamics",
    "ours": "Our own",
}


def setup(app: Sphinx) -> None:
    """Register roles and directives, and load the ledger."""
    build.setup(app)
    app.add_role("claim", ClaimRole())
    app.add_role("measured", MeasuredRole())
    app.add_directive("claims-summary", SummaryDirective)
    app.add_directive("claims-ledger", LedgerDirective)
    app.add_directive("claims-here", HereDirective)
    app.add_directive("when-judged", WhenJudgedDirective)


class _LedgerBlock(SphinxDirective):
    """What the directives share: the ledger, MyST in claims, tables."""

    def ledger(self) -> Ledger:
        """Return this build's ledger and mark the page as one that follows it."""
        return build.of_page(self.env)

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
        return text if page is None else reference(self.env, "doc", f"/{page}", text)


class SummaryDirective(_LedgerBlock):
    """`{claims-summary}`: how many claims of each paper have which verdict."""

    def run(self) -> list[nodes.Node]:
        """Return one paragraph for each paper that has claims, or one that says there are none."""
        ledger = self.ledger()
        made: list[nodes.Node] = []
        for paper, title in PAPERS.items():
            mine = [claim for claim in ledger.claims.values() if claim.paper == paper]
            if not mine:
                continue
            line = nodes.paragraph(classes=["ddbook-summary"])
            name = title if paper == "ours" else f"{paper}, {title}"
            line += nodes.Text(f"{name}: {len(mine)} claim{'' if len(mine) == 1 else 's'} ")
            counts = Counter(ledger.judge(claim.id).status for claim in mine)
            for status in sorted(counts, key=list(SIGNS).index):
                line += badge(status, nodes.Text(counted(status, counts[status])))
                line += nodes.Text(" ")
            made.append(line)
        return made or [nodes.paragraph("", "No claim is on the ledger yet.")]


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
        verdict = ledger.judge(claim.id)
        status = verdict.status
        box = nodes.container(ids=[name], classes=["ddbook-claim", verdict_class(status)])
        domain = cast(StandardDomain, self.env.get_domain("std"))
        domain.note_hyperlink_target(name, self.env.docname, name, claim.id)
        head = nodes.paragraph(classes=["ddbook-claim-head"])
        mark = badge(status, nodes.Text(verdict_words(status)))
        permalink = nodes.reference("", claim.id, refid=name, classes=["ddbook-claim-id"])
        head += [mark, nodes.Text(" "), permalink]
        box += head
        box += self.parsed(claim.statement)
        needs = f"the {claim.profile} profile or a larger one"
        if claim.datasets:
            needs += f", on {' or '.join(claim.datasets)}"
        rows: list[tuple[str, list[nodes.Node]]] = [
            ("Predicate", self.parsed(claim.predicate)),
            ("Judged by", [nodes.paragraph("", needs)]),
        ]
        if claim.scale:
            rows.append(("Scale", self.parsed(claim.scale)))
        if verdict.waits:
            rows.append(("Waits for", [nodes.paragraph("", verdict.waits)]))
        if claim.settles:
            rows.append(("What would settle it", self.parsed(claim.settles)))
        if claim.earlier:
            said = f"*{claim.earlier.verdict}*, by another predicate: {claim.earlier.predicate}"
            rows.append(("Earlier verdict", self.parsed(said)))
        if claim.note:
            rows.append(("Note", self.parsed(claim.note)))
        box += _fields(rows)
        if ledger.findings[claim.id]:
            box += self.runs(ledger, claim)
        else:
            box += nodes.paragraph("", "No notebook has measured it yet.")
        return box

    def runs(self, ledger: Ledger, claim: ddclaims.Claim) -> nodes.Node:
        """Return the table of what each run measured."""
        claim_id = claim.id
        judged = ledger.judge(claim_id).record
        on_data = any(
            datasets.listed(finding.record.dataset) for finding in ledger.findings[claim_id]
        )
        rows: list[list[nodes.Node]] = []
        for finding in ledger.findings[claim_id]:
            record = finding.record
            holds = {True: "holds", False: "does not hold", None: "cannot be told"}[record.holds]
            if record is judged:
                holds += ", decides"
            elif claim.judged_by not in (None, record.notebook):
                holds += ", by the earlier predicate"
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
            link = link_to_claim(self.env, claim_id, verdict.status)
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
        if verdict.record is not None or ledger.earlier(claim_id).record is not None:
            return self.parse_content_to_nodes()
        [said, *_] = self.parsed(ledger.claims[claim_id].statement)
        link = link_to_claim(self.env, claim_id, verdict.status)
        waits = nodes.Text(f" (waits for {verdict.waits})")
        return [
            nodes.paragraph(
                "",
                "",
                nodes.emphasis("", "To be measured: "),
                *said.children,
                nodes.Text(" "),
                link,
                waits,
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
