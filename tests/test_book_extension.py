"""The Sphinx extension, on books of a page or two: what it shows and what it warns of."""

import io
import json
from pathlib import Path

import ddbook
import jupytext
import nbformat
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from ddbook.runner import files, tables
from ddbook.runner.origin import Provenance
from ddbook.sphinx.findings import load_ledger
from ddbook.sphinx.pages import for_the_page
from ddbook.sphinx.words import show_number
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

SOURCE = """# %% [markdown]
# # Two players

# %% tags=["parameters"]
profile = "quick"

# %% tags=["hide-input"]
seen = 6 * 7

# %%
seen
"""

CLAIM = {
    "id": "dd-overlay",
    "paper": "DD",
    "place": "Figure 2",
    "statement": "The flow $\\dot\\phi$ lies on the iterates.",
    "predicate": "distance under 0.1",
    "profile": "quick",
    "verdict": "reproduced",
}

RECORD = {
    "id": "dd-overlay",
    "holds": True,
    "measured": {"slope": 2.98123, "largest_distance": 3.2e-9, "stable": True},
    "profile": "quick",
    "dataset": None,
    "notebook": "games",
    "created": "2026-01-01T00:00:00+00:00",
}


class Book:
    """A small book in a folder: its parts are written, then it is built."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("book/index.md", "# Start\n\n```{toctree}\n/notebooks/games\nclaims\n```\n")
        self.write("book/claims.md", "# Ledger\n\n```{claims-ledger} DD\n```\n")
        self.write("notebooks/games.py", SOURCE)
        self.claims([CLAIM])
        self.records([RECORD])
        self.run()

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def claims(self, claims: list[dict]) -> None:
        self.write("book/claims.yml", yaml.safe_dump(claims))

    def records(self, records: list[dict], folder: str = "runs/quick/games") -> None:
        content = {"notebook": "games", "profile": "quick", "records": records}
        self.write(f"{folder}/claims.json", json.dumps(content))

    def run(self, source: str = SOURCE, error: str | None = None, name: str = "games") -> None:
        """Write what papermill would have left."""
        notebook = jupytext.reads(source, fmt="py:percent")
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        notebook.metadata["papermill"] = {"exception": error is not None, "input_path": "/secret"}
        injected = nbformat.v4.new_code_cell('profile = "injected"')
        injected.metadata["tags"] = ["injected-parameters"]
        notebook.cells.insert(2, injected)
        output = nbformat.v4.new_output("execute_result", {"text/plain": "42"}, execution_count=1)
        if error:
            output = nbformat.v4.new_output("error", ename=error, evalue="no", traceback=["SECRET"])
        notebook.cells[-1].outputs = [output]
        self.write(f"runs/quick/{name}.ipynb", nbformat.writes(notebook))

    def build(self, **config: object) -> str:
        """Build, and return the warnings."""
        warnings = io.StringIO()
        settings = {
            "extensions": ["myst_nb", "ddbook"],
            "master_doc": "book/index",
            "exclude_patterns": ["_build", "runs", "results"],
            "html_theme": "basic",
            "nb_custom_formats": {".py": ["ddbook.read", {}]},
            "nb_execution_mode": "off",
            "myst_enable_extensions": ["dollarmath"],
            "nitpicky": True,
            **config,
        }
        with patch_docutils(None), docutils_namespace():
            app = Sphinx(
                srcdir=str(self.root),
                confdir=None,
                outdir=str(self.root / "_build/html"),
                doctreedir=str(self.root / "_build/doctrees"),
                buildername="html",
                confoverrides=settings,
                status=None,
                warning=warnings,
            )
            app.build()
        return warnings.getvalue()

    def page(self, name: str) -> BeautifulSoup:
        html = (self.root / "_build/html" / f"{name}.html").read_text("utf-8")
        return BeautifulSoup(html, "html.parser")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


# Pages are runs.


def test_page_shows_the_run_of_its_source(book):
    assert book.build() == ""
    page = book.page("notebooks/games")
    assert page.find("h1").text.startswith("Two players")
    assert "42" in page.select_one(".cell_output").text
    assert "injected" not in page.text
    folds = [fold.text for fold in page.select("details summary p.collapsed")]
    assert folds == ["Show the set-up: parameters and imports"]
    assert "seen = 6 * 7" in page.select_one("details").text  # folded with the parameters


def test_missing_run_warns_and_says_what_to_do(book):
    (book.root / "runs/quick/games.ipynb").unlink()
    said = book.build()
    assert "games has no finished quick run" in said
    assert "make run NB=games PROFILE=quick" in said
    assert "nothing to show" in book.page("notebooks/games").text


@pytest.mark.parametrize("where", ["in the run", "beside it", "beside an older run"])
def test_failed_run_warns_and_shows_no_traceback(book, where):
    if where == "in the run":
        book.run(error="ValueError")
    else:
        book.run(error="ValueError", name="games.failed")
        if where == "beside it":
            (book.root / "runs/quick/games.ipynb").unlink()
    assert "run of games failed (ValueError: no)" in book.build()
    assert "SECRET" not in book.page("notebooks/games").text


def test_run_of_another_source_warns(book):
    book.run(SOURCE.replace("6 * 7", "6 * 8"))
    assert "not of the source as it is now" in book.build()


def test_half_written_run_warns(book):
    book.write("runs/quick/games.ipynb", '{"cells": [')
    assert "cannot be read" in book.build()
    assert not list(book.root.glob("_build/html/_sources/**/*.ipynb"))


def test_profile_comes_from_the_environment(book, monkeypatch):
    monkeypatch.setenv("DDLIB_PROFILE", "standard")
    assert "games has no finished standard run" in book.build()


def test_page_follows_a_new_run(book):
    book.build()
    later = book.root / "runs/quick/games.ipynb"
    later.write_text(later.read_text().replace('"42"', '"43"'))
    assert book.build() == ""
    assert "43" in book.page("notebooks/games").select_one(".cell_output").text


def test_a_missing_run_is_missed_again_by_the_next_build(book):
    (book.root / "runs/quick/games.ipynb").unlink()
    assert "no finished quick run" in book.build()
    assert "no finished quick run" in book.build()


def test_read_takes_sources_and_runs_alike():
    from_source = ddbook.read(SOURCE)
    from_run = ddbook.read(nbformat.writes(from_source))
    assert [cell.source for cell in from_source.cells] == [cell.source for cell in from_run.cells]


def test_hide_tags_of_the_author_stay():
    notebook = jupytext.reads('# %% tags=["hide-cell"]\n1\n\n# %% tags=["remove-input"]\n2\n')
    shown = for_the_page(notebook)
    assert [list(cell.metadata.tags) for cell in shown.cells] == [["hide-cell"], ["remove-input"]]


# Downloads.


def test_downloads_lie_beside_the_pages(book):
    origin = Provenance("games", "quick", {}, [0], "abc", False, {}, "cpu", None, 1.0, files.now())
    frame = pd.DataFrame({"h": [0.1, 0.2], "error": [1e-3, 8e-3]})
    tables.write_table(frame, book.root / "runs/quick/games/errors.parquet", origin)
    tables.write_table(frame, book.root / "results/games/errors.parquet", origin)
    book.build()
    out = book.root / "_build/html"
    for label in ("quick", "published"):
        copy, provenance = tables.read_table(out / f"tables/{label}/games/errors.parquet")
        assert provenance == origin
        pd.testing.assert_frame_equal(copy, frame)
        pd.testing.assert_frame_equal(pd.read_csv(out / f"tables/{label}/games/errors.csv"), frame)
    notebook = (out / "_sources/notebooks/games.ipynb").read_text()
    assert "42" in notebook and "/secret" not in notebook

    (book.root / "results/games/errors.parquet").unlink()
    book.build()
    assert not list(out.glob("tables/published/**/*.*"))


def test_pages_of_sources_that_are_no_more_go(book):
    book.build()
    (book.root / "notebooks/games.py").unlink()
    book.write("book/index.md", "# Start\n\n```{toctree}\nclaims\n```\n")
    assert book.build() == ""
    pages = (book.root / "_build/html").rglob("*.html")
    assert {page.stem for page in pages} >= {"index", "claims"}
    assert not (book.root / "_build/html/notebooks/games.html").exists()


# The ledger.


def test_roles_render_verdict_and_numbers(book):
    text = (
        "# Start\n\n```{toctree}\n/notebooks/games\nclaims\n```\n\n"
        "We saw {claim}`dd-overlay`: {measured}`dd-overlay:slope`, "
        "{measured}`dd-overlay:slope:.2f`, {measured}`dd-overlay:largest_distance`, "
        "{measured}`dd-overlay:stable`.\n"
    )
    book.write("book/index.md", text)
    assert book.build() == ""
    page = book.page("book/index")
    badge = page.select_one(".ddbook-verdict")
    assert badge.text == "✓ reproduced"
    target, _, anchor = badge.find("a")["href"].partition("#")
    assert target == "claims.html"
    assert book.page("book/claims").find(id=anchor) is not None
    numbers = page.select("abbr.ddbook-measured")
    assert [number.text for number in numbers] == ["2.981", "2.98", "3.2×10⁻⁹", "yes"]
    assert numbers[0]["title"] == "games, quick, this build"


def test_ledger_shows_all_there_is_to_know(book):
    digits = {"name": "digits", "checksum": "0", "stand_in": True}
    book.claims([CLAIM, CLAIM | {"id": "dd-data", "dataset": "mnist", "note": "Mind the *step*."}])
    book.records([RECORD, RECORD | {"id": "dd-data", "dataset": digits}])
    assert book.build() == ""
    page = book.page("book/claims")
    first, second = page.select(".ddbook-claim")
    assert first.select_one(".math") is not None
    assert "distance under 0.1" in first.text and "slope 2.981" in first.text
    assert first.select_one("table a")["href"] == "../notebooks/games.html"
    assert second.select_one(".ddbook-verdict").text == "? not settled"
    assert "Waits for" in second.text and "mnist data" in second.text
    assert "digits (a stand-in: judges nothing)" in second.text
    assert second.find("em").text == "step"


def test_summary_counts(book):
    book.claims([CLAIM, CLAIM | {"id": "b"}, CLAIM | {"id": "c", "profile": "paper"}])
    book.records([RECORD, RECORD | {"id": "b"}, RECORD | {"id": "c"}])
    book.write("book/claims.md", "# L\n\n```{claims-summary}\n```\n\n```{claims-ledger} DD\n```\n")
    assert book.build() == ""
    said = book.page("book/claims").select_one(".ddbook-summary").text
    assert said.split(":")[0].startswith("DD, ") and ": 3 claims" in said
    assert "✓ 2 reproduced" in said and "? 1 not settled" in said


def test_a_number_of_the_first_sweep_is_shown_beside_the_new_verdict(book):
    """Of a claim that another notebook judges afresh the chapter keeps its old numbers."""
    again = {
        "judged_by": "fresh",
        "verdict": "reproduced",
        "earlier": {"verdict": "deviates", "predicate": "a sign test"},
    }
    book.claims([CLAIM | again])
    old = RECORD | {"holds": False, "measured": {"pairs": 33, "seeds": 3}}
    new = RECORD | {"notebook": "fresh", "measured": {"factor": 0.8, "seeds": 8}}
    book.records([old, new])
    text = "{claim}`dd-overlay` {measured}`dd-overlay:pairs` {measured}`dd-overlay:factor`"
    text += " {measured}`dd-overlay:seeds`"
    book.write("book/index.md", f"# S\n\n```{{toctree}}\n/notebooks/games\nclaims\n```\n\n{text}\n")
    assert book.build() == ""
    page = book.page("book/index")
    assert [number.text for number in page.select("abbr.ddbook-measured")] == ["33", "0.8", "8"]
    assert page.select_one(".ddbook-verdict").text == "✓ reproduced"
    entry = book.page("book/claims").select_one(".ddbook-claim").text
    assert "deviates, by another predicate: a sign test" in entry
    assert "by the earlier predicate" in entry


def test_claims_here_lists_the_claims_of_the_page(book):
    source = SOURCE + "\n# %% [markdown]\n# ```{claims-here}\n# ```\n"
    book.write("notebooks/games.py", source)
    book.run(source)
    assert book.build() == ""
    assert "slope 2.981" in book.page("notebooks/games").select_one("table.ddbook-runs").text


@pytest.mark.parametrize(("profile", "shown"), [("quick", True), ("standard", False)])
def test_prose_on_a_claim_waits_until_it_is_judged(book, profile, shown):
    """Numbers of a run that may not judge do not stand in a sentence that says what was found."""
    book.claims([CLAIM | {"profile": profile, "statement": "They *overlay*."}])
    text = "```{when-judged} dd-overlay\nWe saw {measured}`dd-overlay:slope`.\n```\n"
    if not shown:  # a smaller run need not have measured all that a larger one will
        text = text.replace("slope", "area")
    book.write("book/index.md", f"# S\n\n```{{toctree}}\n/notebooks/games\nclaims\n```\n\n{text}")
    assert book.build() == ""
    page = book.page("book/index")
    assert ("We saw 2.981." in page.text) == shown
    assert ("To be measured: They overlay." in page.text) != shown
    badge = page.select_one(".ddbook-verdict")
    assert badge is None if shown else badge.text == "? not settled"
    assert shown or "(waits for the standard profile)" in page.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{claim}`dd-overly`", "no claim is called 'dd-overly'; known: dd-overlay"),
        ("{measured}`dd-overly:slope`", "no claim is called 'dd-overly'"),
        ("{measured}`dd-overlay:slop`", "no number measured for dd-overlay is called 'slop'"),
        ("{measured}`dd-overlay:slope:.q`", "'dd-overlay:slope:.q'"),
        ("```{when-judged} dd-overly\nSo.\n```", "no claim is called 'dd-overly'"),
    ],
)
def test_roles_complain_about_what_is_not_there(book, text, complaint):
    book.write("book/claims.md", f"# Ledger\n\n{text}\n\n```{{claims-ledger}} DD\n```\n")
    assert complaint in book.build()


def test_changed_verdict_warns_on_every_build(book):
    book.records([RECORD | {"holds": False}])
    for _ in range(2):
        said = book.build()
        assert "'dd-overlay': this build says 'deviates'" in said
        assert "claims.yml has 'reproduced' on record" in said


def test_a_published_run_does_not_hide_what_this_build_found(book):
    book.records([RECORD | {"profile": "standard"}], folder="results/games")
    assert book.build() == ""
    book.records([RECORD | {"holds": False}])
    assert "this build says 'deviates'" in book.build()


def test_claim_without_record_warns(book):
    book.records([])
    assert "claim 'dd-overlay' has no record" in book.build()


def test_a_pending_claim_may_wait_until_a_run_judges_it(book):
    book.claims([CLAIM | {"verdict": "not settled", "settles": "a run"}])
    book.records([])
    assert book.build() == ""
    book.records([RECORD])
    assert "this build says 'reproduced'" in (said := book.build())
    assert "claims.yml has 'not settled' on record" in said


def test_a_claim_for_a_larger_profile_may_wait_for_it(book):
    book.records([])
    book.claims([CLAIM | {"profile": "standard"}])
    assert "no record" not in book.build()
    book.claims([CLAIM])
    assert "claim 'dd-overlay' has no record" in book.build()


def test_record_without_claim_warns(book):
    book.records([RECORD, RECORD | {"id": "dd-other"}])
    assert "claim 'dd-other' is recorded in runs/quick/games/claims.json but not" in book.build()


def test_too_small_a_run_neither_judges_nor_warns(book):
    book.claims([CLAIM | {"profile": "standard"}])
    book.records([RECORD | {"holds": False}])
    assert book.build() == ""
    assert "Waits for" in (said := book.page("book/claims").text) and "the standard profile" in said


def test_pages_follow_the_ledger(book):
    book.build()
    book.records([RECORD | {"measured": {"slope": 3.0}}])
    assert book.build() == ""
    assert "slope 3" in book.page("book/claims").text


def test_larger_run_speaks_for_a_claim(book):
    published = RECORD | {"profile": "standard", "measured": {"slope": 2.999}}
    book.records([published], folder="results/games")
    finding = load_ledger(book.root, "quick").telling("dd-overlay")
    assert (finding.origin, finding.record.measured) == ("published", {"slope": 2.999})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0123456, "0.01235"),
        (-1.5, "−1.5"),
        (0.0, "0"),
        (3.2e-9, "3.2×10⁻⁹"),
        (1.23456e8, "1.235×10⁸"),
        (12345.6, "12\N{NARROW NO-BREAK SPACE}346"),
        (999, "999"),
        (60000, "60\N{NARROW NO-BREAK SPACE}000"),
        (True, "yes"),
        (False, "no"),
        ("inf", "∞"),
        (float("-inf"), "−∞"),
        ("nan", "not a number"),
        ("simultaneous", "simultaneous"),
    ],
)
def test_numbers_read_well(value, shown):
    assert show_number(value) == shown


def test_number_with_a_format():
    assert show_number(0.98061, ".3f") == "0.981"
    assert show_number(1.5e-7, ".1e") == "1.5×10⁻⁷"
    assert show_number(0.5, ".0%") == "50%"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "all"),
        (1, "all"),
        (0.0, "none"),
        (312 / 312, "all"),
        (279 / 312, "89%"),
        (3408 / 3409, "99.97%"),
        (1 / 3409, "0.03%"),
        (1 - 2.0**-53, "99.99999999999999%"),
    ],
)
def test_a_share_says_all_only_where_it_is_all(value, shown):
    assert show_number(value, "share") == shown
    percent = {"all": "100%", "none": "0%"}.get(shown, shown)
    assert show_number(value, ".0%") == percent


@pytest.mark.parametrize("value", [1.5, -0.1, 12])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ValueError, match="a share must be between 0 and 1, got"):
        show_number(value, "share")
