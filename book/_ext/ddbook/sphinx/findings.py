"""What was found about each claim, in this build and in what is published, and what it comes to.

What was claimed stands in `book/claims.yml`; what was measured in the `claims.json` that each
notebook leaves beside its tables, both in `runs/<profile>/` (this build) and in `results/`
(published). `ddbook.page.claims` judges.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ddbook.page import claims as ddclaims
from ddbook.runner import files
from ddbook.runner.places import PROFILES
from ddbook.sphinx.words import measured_text


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

    def earlier(self, claim_id: str) -> ddclaims.Verdict:
        """Return the verdict by the earlier predicate; without one there is no record to it."""
        claim = self.claims[claim_id]
        if claim.judged_by is None:
            return ddclaims.Verdict(ddclaims.NOT_SETTLED, None)
        return ddclaims.judge_earlier(claim, [f.record for f in self.findings[claim_id]])

    def telling_of(self, claim_id: str, key: str) -> Finding | None:
        """Return the finding that speaks for a claim about one number.

        That is the telling one, or, where it lacks the number, the one by the earlier predicate: a
        chapter on the first sweep goes on saying what that sweep found.
        """
        first = self.telling(claim_id)
        if first is None or key in first.record.measured:
            return first
        record = self.earlier(claim_id).record
        former = [item for item in self.findings[claim_id] if item.record is record]
        return next((item for item in former if key in item.record.measured), first)

    def telling(self, claim_id: str) -> Finding | None:
        """Return the finding whose numbers speak for a claim.

        That is the record which the verdict rests on, or the earlier one; where none may judge yet,
        this build's, or else any.
        """
        found = self.findings[claim_id]
        record = self.judge(claim_id).record or self.earlier(claim_id).record
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
            due = claim.verdict != ddclaims.NOT_SETTLED and scale(claim.profile) <= scale(
                self.profile
            )
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
            if claim.earlier and (former := self.earlier(claim_id)).record is not None:
                if former.status != claim.earlier.verdict:
                    said.append(
                        f"claim {claim_id!r}: by its earlier predicate runs say {former.status!r}, "
                        f"but claims.yml has {claim.earlier.verdict!r} on record"
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
