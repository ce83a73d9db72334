"""The page that a notebook opens: settings, tables, cards, what is kept."""

import os
import shutil
import sys

import pandas as pd
import pytest
from books_for_tests import (
    SECTION,
    finish,
    in_book,
)
from ddbook import page
from ddbook.runner import (
    files,
    keys,
    places,
)
from ddbook.runner.job import describe


def test_a_page_opened_by_hand_writes_in_place_and_is_no_finished_run(book):
    made = finish(book)
    opened = page.open("demo", "quick")
    assert keys.stale(describe(book, "quick", "demo")) == ["no finished run"]
    frame = pd.DataFrame({"seed": [4, 2, 4], "loss": [1.0, 2.0, 3.0]})
    saved = opened.save("curve", frame, data="none")
    assert saved.provenance.seeds == [2, 4] and saved.provenance.parameters == SECTION
    assert (made.folder / "curve.parquet").is_file()
    for _ in range(2):  # a cell is run again
        opened.claims.record("demo-holds", True, {"loss": 1.0}, data="none")
    assert len(files.read_json(made.claims)["records"]) == 1
    pd.testing.assert_frame_equal(page.open("reader", "quick").load("curve", "demo").frame, frame)


def test_other_settings_have_a_place_of_their_own(book):
    made = finish(book)
    page.open("demo", "quick", {"num_seeds": 5}).save(
        "curve", pd.DataFrame({"x": [1]}), data="none"
    )
    assert keys.stale(describe(book, "quick", "demo")) == [] and not list(
        made.folder.glob("*.parquet")
    )
    assert len(list((book / "runs" / "variations" / "quick").glob("demo-*/curve.parquet"))) == 1


def test_a_missing_table_says_which_there_are_and_how_to_make_it(book):
    opened = page.open("demo", "standard")
    opened.save("curve", pd.DataFrame({"x": [1]}), data="none")
    with pytest.raises(
        FileNotFoundError, match=r"table must be one of curve, got 'curv'; did you mean 'curve'\?"
    ):
        opened.load("curv")
    with pytest.raises(FileNotFoundError, match="`make run NB=reader PROFILE=standard` makes it"):
        opened.load("curve", "reader")
    with pytest.raises(ValueError, match="notebook must be one of demo, reader, got 'readr'"):
        opened.load("curve", "readr")
    with pytest.raises(ValueError, match="is no name"):
        opened.save("../curve", pd.DataFrame(), data="none")
    assert opened.published("curve") is None


def test_a_card_tells_data_labels_and_links_and_escapes_them(book):
    opened = page.open("demo", "quick", {"mode": "<b>"})
    opened.save("curve", pd.DataFrame({"x": [1, 2]}), data=opened.data("mnist"))
    shown = opened.card()._repr_html_()
    assert "stand-in data: digits" in shown and "curve, 2 rows" in shown
    assert 'href="../tables/quick/demo/curve.parquet"' in shown
    assert 'href="../tables/quick/demo/curve.csv"' in shown
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    assert opened.card("curve")._repr_html_() == shown
    assert opened.card(None, "curve")._repr_html_() == shown


def test_a_training_that_finished_is_not_done_again(book):
    """`cached` computes once, whoever asks, and the data belong to the key."""
    opened = page.open("demo", "quick")
    calls = []

    def train():
        calls.append(1)
        assert opened.scratch({"seed": 1}, data="none").name.endswith(".partial")
        return {"loss": [1.0, float("nan")]}

    with pytest.raises(KeyError):
        opened.stored({"seed": 1}, data="none")
    first = opened.cached({"seed": 1}, train, data="none")
    assert first["loss"] == [1.0, "nan"]  # as it will be read
    assert {"seconds", "commit", "dirty", "device"} <= set(first)
    again = page.open("demo", "standard")  # another profile, the same training
    assert (
        again.digest({"seed": 1}, data="none")
        == opened.digest({"seed": 1}, data="none")
        != opened.digest({"seed": 2}, data="none")
    )
    assert again.cached({"seed": 1}, train, data="none")["seconds"] == first["seconds"]
    assert again.stored({"seed": 1}, data="none")["loss"] == [1.0, "nan"]
    assert len(calls) == 1
    digits = again.data("digits")
    assert again.digest({"seed": 1}, data=digits) != opened.digest({"seed": 1}, data="none")
    again.cached({"seed": 1}, lambda: {"loss": []}, data=digits)
    assert again.stored({"seed": 1}, data=digits)["loss"] == []
    assert opened.stored({"seed": 1}, data="none")["loss"] == [1.0, "nan"]


def test_a_published_table_is_labelled_and_linked_as_such(book):
    page.open("demo", "standard").save("curve", pd.DataFrame({"x": [1]}), data="none")
    (book / "results" / "demo").mkdir(parents=True)
    folder = places.products(book, "standard", "demo").folder
    shutil.copy(folder / "curve.parquet", book / "results" / "demo")
    opened = page.open("demo", "quick")
    table = opened.published("curve")
    assert table is not None and table.label == "standard profile, published"
    assert "../tables/published/demo/curve.csv" in opened.card(table)._repr_html_()


def test_progress_says_a_line_now_and_then_and_always_the_last(book, monkeypatch):
    read, write = os.pipe()
    monkeypatch.setenv("DDBOOK_LOG_FD", str(write))
    opened = page.open("demo", "quick")
    for step in range(1, 1001):
        opened.progress(step, 1000, f"loss {step}")
    os.close(write)
    with os.fdopen(read) as log:
        lines = log.read().splitlines()
    assert len(lines) == 1 and lines[0].startswith("  demo (quick): 1000/1000, ")
    assert lines[0].endswith("loss 1000")
    opened.progress(1000, 1000)  # the log has been closed: no reason to stop


def test_a_page_does_not_import_jax(book):
    code = "import sys; from ddbook import page; page.open('demo', 'quick')"
    code += "; print('jax' in sys.modules)"
    assert in_book(book, sys.executable, "-c", code).stdout == "False\n"


def test_a_notebook_cannot_open_another_s_page(book, monkeypatch):
    monkeypatch.setenv("DDBOOK_NAME", "reader")
    with pytest.raises(ValueError, match="name must be 'reader' in this notebook, got 'demo'"):
        page.open("demo", "quick")


def test_every_method_has_a_colour_of_its_own():
    aliases = {"euler": "simultaneous"}  # one player: the same method
    own = [color for name, color in page.COLORS.items() if name not in aliases]
    assert len(set(own)) == len(own)
    assert len(set(page.FLOW_COLORS.values())) == len(page.FLOW_COLORS)
