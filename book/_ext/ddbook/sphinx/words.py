"""Numbers and verdicts in words, as a reader wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ddbook.page import claims as ddclaims
from ddbook.runner import datasets

if TYPE_CHECKING:
    from ddbook.sphinx.findings import Finding


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


SIGNS = dict(
    word for words in ddclaims.VERDICTS.values() for word in zip(words, "✓≠?", strict=True)
)


def verdict_class(status: str) -> str:
    """Return the CSS class of a verdict, one for each of the three signs.

    >>> verdict_class("confirmed"), verdict_class("does not hold"), verdict_class("not settled")
    ('ddbook-yes', 'ddbook-no', 'ddbook-open')
    """
    return {"✓": "ddbook-yes", "≠": "ddbook-no", "?": "ddbook-open"}[SIGNS[status]]


def verdict_words(status: str) -> str:
    """Return a verdict with its sign, so that colour is never alone in telling it."""
    return f"{SIGNS[status]} {status}"


def counted(status: str, count: int) -> str:
    """Return how many claims have a verdict, the verb after its number.

    >>> counted("deviates", 2), counted("does not hold", 1), counted("holds", 3)
    ('≠ 2 deviate', '≠ 1 does not hold', '✓ 3 hold')
    """
    plural = {"deviates": "deviate", "holds": "hold", "does not hold": "do not hold"}
    return f"{SIGNS[status]} {count} {plural.get(status, status) if count > 1 else status}"


def run_words(finding: Finding) -> str:
    """Return which run a finding is from."""
    where = "this build" if finding.origin == "build" else "published"
    return f"{finding.record.profile}, {where}"


def data_words(record: ddclaims.Record) -> str:
    """Return the datasets of a record; a stand-in says so."""
    marks = {False: "", True: " (a stand-in: judges nothing)"}
    found = datasets.listed(record.dataset)
    return ", ".join(f"{one['name']}{marks[one['stand_in']]}" for one in found) or "none"
