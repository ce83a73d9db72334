"""The data of a run: what is noted, what tables and claims say they rest on, what keys hold."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from books_for_tests import SECTION, SOURCE, finish
from ddbook import page
from ddbook.runner import cells, datasets, files, keys, publish, run, tables
from ddbook.runner.job import describe

from ddlib import data

FRAME = pd.DataFrame({"x": [1.0]})
IRIS = {"name": "iris", "checksum": data.fingerprint("iris"), "stand_in": False}
DIGITS = {"name": "digits", "checksum": data.fingerprint("digits"), "stand_in": False}


def write(book: Path, cell: str, **settings: object) -> None:
    """Give the notebook a further computing cell and further settings."""
    (book / "notebooks" / "demo.py").write_text(f"{SOURCE}\n# %%\n{cell}\n")
    for profile in ("quick", "standard", "paper"):
        content = json.dumps({"demo": SECTION | settings, "reader": SECTION})
        (book / "profiles" / f"{profile}.yaml").write_text(content)


def on_disk(book: Path, name: str = "curve"):
    return tables.read_table(book / "runs" / "quick" / "demo" / f"{name}.parquet")[1].dataset


# --------------------------------------------------------------------------- what names its data


def test_a_table_and_a_claim_carry_what_they_name(book):
    opened = page.open("demo", "quick")
    iris, digits = opened.data("iris", "all"), opened.data("digits", "test", subset=10)
    expected = {
        "one": (iris, IRIS),
        "both": ([iris, digits], [DIGITS, IRIS]),
        "turned": ((digits, iris, digits), [DIGITS, IRIS]),  # no matter which came first
        "toy": ("none", "none"),
    }
    for name, (given, record) in expected.items():
        saved = opened.save(name, FRAME, data=given)
        assert saved.provenance.dataset == record == on_disk(book, name)
    found = opened.claims.record("demo-holds", True, {"x": 1}, data=[iris, digits])
    assert found.dataset == [DIGITS, IRIS]
    other = page.open("reader", "quick")
    one, toy = (opened.load(name) for name in ("one", "toy"))
    assert other.save("seen", FRAME, data=one).provenance.dataset == IRIS
    assert other.save("seen", FRAME, data=[toy, one]).provenance.dataset == IRIS
    assert other.save("seen", FRAME, data=toy).provenance.dataset == "none"


def test_the_order_of_cells_changes_no_provenance(book):
    found = []
    for names in (("iris", "digits"), ("digits", "iris")):
        opened = page.open("demo", "quick")
        given = {name: opened.data(name, "train") for name in names}
        made = {name: opened.save(name, FRAME, data=given[name]) for name in names}
        found.append({name: table.provenance.dataset for name, table in made.items()})
    assert found[0] == found[1] == {"iris": IRIS, "digits": DIGITS}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "got nothing; name what the table curve rests on"),
        ([], "got nothing"),
        ((), "got nothing"),
        ("iris", "got 'iris'"),
        (3, "got 3"),
        (["none", None], "got None"),
        (np.zeros((9, 9, 9)), "got ndarray"),
    ],
)
def test_a_table_without_data_is_refused_and_nothing_is_written(book, given, message):
    opened = page.open("demo", "quick")
    with pytest.raises(ValueError, match=f"^data must be a dataset of run.data, .*{message}"):
        opened.save("curve", FRAME, data=given)
    assert not list(opened.folder.glob("*")) if opened.folder.exists() else True
    with pytest.raises(ValueError, match=r"^data must be a dataset of run\.data"):
        opened.claims.record("demo-holds", True, {"x": 1}, data=given)
    assert opened.claims.records == []
    for ask in (opened.digest, opened.scratch, opened.stored):
        with pytest.raises(ValueError, match=r"^data must be a dataset of run\.data"):
            ask({"seed": 1}, data=given)
    with pytest.raises(ValueError, match=r"^data must be a dataset of run\.data"):
        opened.cached({"seed": 1}, lambda: pytest.fail("computed"), data=given)


def test_data_that_came_by_another_way_is_refused(book):
    opened = page.open("demo", "quick")
    iris = data.load("iris", "all")
    with pytest.raises(ValueError, match=r"must come from run\.data, got the dataset iris by"):
        opened.save("curve", FRAME, data=iris)
    opened.data("iris", "test")
    assert opened.save("curve", FRAME, data=iris).provenance.dataset == IRIS  # the same data


def test_a_table_of_old_is_read_and_shown_and_nothing_new_rests_on_it(book):
    opened = page.open("demo", "quick")
    new = opened.save("curve", FRAME, data="none")
    path = book / "runs" / "quick" / "demo" / "curve.parquet"
    tables.write_table(FRAME, path, dataclasses.replace(new.provenance, dataset=None))
    old = opened.load("curve")
    assert on_disk(book) is None
    assert "data:" not in opened.card(opened.load("curve"))._repr_html_()
    with pytest.raises(
        ValueError, match=r"got the table curve, which does not say .*run demo again"
    ):
        opened.save("later", FRAME, data=old)


def test_a_card_names_all_data(book):
    opened = page.open("demo", "quick")
    iris, digits = opened.data("iris"), opened.data("digits")
    stand_in = opened.data("mnist", "test")

    def shown(given: object) -> str:
        return opened.card(opened.save("curve", FRAME, data=given))._repr_html_()

    assert "data: none needed" in shown("none")
    assert "data: digits, iris" in shown([iris, digits]) and IRIS["checksum"] in shown(iris)
    mixed = shown([iris, stand_in])
    assert "data: iris" in mixed and "stand-in data: digits</strong>, no claim judged" in mixed
    assert opened.load("curve").label == "quick profile, stand-in data"


def test_what_is_kept_is_known_by_its_key_and_its_data(book):
    opened = page.open("demo", "quick")
    iris = opened.data("iris")
    # published rows carry such names: they must never change
    text = json.dumps({"dataset": IRIS, "rate": 0.1}, sort_keys=True)
    assert opened.digest({"rate": 0.1}, data=iris) == hashlib.sha256(text.encode()).hexdigest()[:24]
    opened.cached({"rate": 0.1}, lambda: {"loss": 1.0}, data=iris)
    assert opened.stored({"rate": 0.1}, data=iris)["loss"] == 1.0
    with pytest.raises(KeyError):
        opened.stored({"rate": 0.1}, data="none")
    assert opened.scratch({"rate": 0.1}, data=iris) != opened.scratch({"rate": 0.1}, data="none")


# ------------------------------------------------------------------------------------- stand-ins


def test_quick_takes_a_stand_in_and_the_others_stop(book):
    opened = page.open("demo", "quick")
    found = opened.data("mnist", "test", subset=5000)
    assert (found.name, found.stand_in, len(found.labels)) == ("digits", True, 360)
    record = opened.save("curve", FRAME, data=found).provenance.dataset
    assert record == {**DIGITS, "stand_in": True}
    for profile in ("standard", "paper"):
        with pytest.raises(data.DatasetUnavailable, match="mnist is not at hand"):
            page.open("demo", profile).data("mnist")
    named = page.open("demo", "standard").data("digits")  # by its own name it is no stand-in
    assert not named.stand_in


def test_what_rests_on_a_stand_in_among_others_is_not_published(book, monkeypatch):
    write(book, 'run.data("iris")')
    monkeypatch.setattr(publish.keys, "stale", lambda job: [])
    finish(book, profile="standard")
    opened = page.open("demo", "standard")
    monkeypatch.setattr("ddbook.page.data.STANDS_IN", "standard")
    both = [opened.data("iris"), opened.data("mnist")]
    opened.save("curve", FRAME, data=both)
    with pytest.raises(ValueError, match=r"curve\.parquet rests on stand-in data"):
        publish.publish(describe(book, "standard", "demo"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("irs",), "name must be one of .*iris, .*got 'irs'"),
        ((3,), "name must be one of .*got 3"),
        (("iris", "valid"), "split must be one of train, test, all of iris, got 'valid'"),
        (("mnist", "all"), "split must be one of train, test of mnist, got 'all'"),
    ],
)
def test_what_will_not_do_is_named_and_not_noted(book, arguments, message):
    opened = page.open("demo", "quick")
    with pytest.raises(ValueError, match=message):
        opened.data(*arguments)
    assert datasets.noted(opened.folder) == {}


# ------------------------------------------------------------------------------------------ keys


def test_every_dataset_that_a_run_may_ask_for_is_in_its_key(book, monkeypatch):
    there = {"mnist": "00", "cifar10": "11", "digits": "22", "iris": "33"}
    monkeypatch.setattr("ddlib.data.fingerprint", lambda name: there[name])
    write(
        book,
        'def load():\n    return run.data("digits", subset=300), run.data(name="iris")\n'
        "run.data(s.dataset)\nrun.data(s.image_dataset)",
        dataset="mnist",
        image_dataset="cifar10",
    )
    before = describe(book, "quick", "demo").key
    assert before["data"] == there
    for name in list(there):
        was, there[name] = there[name], "99"
        assert keys.reasons(before, describe(book, "quick", "demo").key) == [f"data: {name}"]
        there[name] = was


def test_an_unknown_dataset_in_a_cell_is_found_before_anything_starts(book):
    write(book, 'x = 1\niris = run.data("irs", "all")')
    line = (book / "notebooks" / "demo.py").read_text().splitlines().index("x = 1") + 2
    message = rf"line {line}: run\.data\('irs', …\); name must be one of .*got 'irs'"
    with pytest.raises(ValueError, match=message):
        describe(book, "quick", "demo")


def test_under_the_runner_only_what_the_key_holds_is_given(book, monkeypatch, tmp_path):
    write(book, 'run.data("iris")')
    monkeypatch.setenv("DDBOOK_FOLDER", str(tmp_path / "folder"))
    (tmp_path / "folder").mkdir()
    opened = page.open("demo", "quick")
    assert len(opened.data("iris", "all").labels) == 150
    with pytest.raises(ValueError, match=r"name must be a setting called dataset .*got 'digits'"):
        opened.data("digits")
    assert datasets.noted(tmp_path / "folder") == {"iris": IRIS}


def test_code_that_asks_for_data_reaches_the_library_that_loads_it(book):
    write(book, 'run.data("iris")')
    asks = cells.read(book / "notebooks" / "demo.py")
    write(book, "x = 1")
    asks_not = cells.read(book / "notebooks" / "demo.py")
    assert "ddlib" in datasets.reaches(asks) and datasets.reaches(asks_not) == ""


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ({"mnist": {**DIGITS, "stand_in": True}}, {"mnist": "absent", "iris": "33"}),
        ({"mnist": {"name": "mnist", "checksum": "00", "stand_in": False}}, {"mnist": "00"}),
        ({"iris": {**IRIS, "checksum": "44"}}, {"iris": "44"}),
        ({}, {}),
    ],
)
def test_a_finished_run_rests_on_what_it_was_given(tmp_path, given, after):
    """Fetched on the way counts; a stand-in does not, though the data have come meanwhile."""
    before = {"mnist": "11", "iris": "33"}
    datasets.note(tmp_path, given)
    assert datasets.settled(before, datasets.noted(tmp_path)) == before | after


def test_a_whole_run_notes_its_data(book):
    write(book, 'run.save("flowers", pd.DataFrame({"x": [1.0]}), data=run.data("iris", "all"))')
    run.run(describe(book, "quick", "demo"))
    record = files.read_json(describe(book, "quick", "demo").products.record)
    assert record["key"]["data"] == {"iris": IRIS["checksum"]}
    assert on_disk(book, "flowers") == IRIS
    assert keys.stale(describe(book, "quick", "demo")) == []
