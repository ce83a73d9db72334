"""The ledger in a sentence.

- ``{claim}`some-id` ``: the verdict, linked to the ledger, where its numbers are
- ``{measured}`some-id:key` ``: one measured number; ``{measured}`some-id:key:.2f` `` formats it,
  and the format `share` puts a share of cases in words: "all", "none", "89%"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from ddbook.runner import datasets
from ddbook.sphinx.build import of_page
from ddbook.sphinx.words import (
    run_words,
    show_number,
    verdict_class,
    verdict_words,
)

if TYPE_CHECKING:
    from sphinx.environment import BuildEnvironment

LOGGER = logging.getLogger(__name__)


class ClaimRole(SphinxRole):
    """``{claim}`id` ``: the verdict, linked to the ledger's entry."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return one link."""
        ledger, claim_id = of_page(self.env), self.text.strip()
        if claim_id not in ledger.claims:
            return _unknown(self, claim_id, ledger.claims, "claim")
        return [link_to_claim(self.env, claim_id, ledger.judge(claim_id).status)], []


class MeasuredRole(SphinxRole):
    """``{measured}`id:key` `` or ``{measured}`id:key:format` ``: one measured number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number, with the run that it comes from as its tooltip."""
        ledger = of_page(self.env)
        claim_id, _, rest = self.text.strip().partition(":")
        key, _, spec = rest.partition(":")
        if claim_id not in ledger.claims:
            return _unknown(self, claim_id, ledger.claims, "claim")
        finding = ledger.telling_of(claim_id, key)
        if finding is None:
            return [nodes.inline("", "not measured yet", classes=["ddbook-measured"])], []
        record = finding.record
        if key not in record.measured:
            return _unknown(self, key, record.measured, f"number measured for {claim_id}")
        try:
            number = show_number(record.measured[key], spec)
        except ValueError as error:
            return _complaint(self, f"{self.text!r}: {error}")
        if datasets.has_stand_in(record.dataset):
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


def badge(status: str, *inner: nodes.Node) -> nodes.Node:
    """Return words in the colour of a verdict."""
    return nodes.inline("", "", *inner, classes=["ddbook-verdict", verdict_class(status)])


def link_to_claim(env: BuildEnvironment, claim_id: str, status: str) -> nodes.Node:
    """Return a verdict, linked to its entry on the ledger page."""
    # The badge is outside: resolving a reference keeps the words of its content, not the classes.
    words = nodes.inline("", verdict_words(status))
    return badge(status, reference(env, "ref", anchor(claim_id), words))


def reference(env: BuildEnvironment, kind: str, target: str, words: nodes.Node) -> nodes.Node:
    """Return a reference that Sphinx resolves once all pages are read."""
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
