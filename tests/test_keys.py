"""Keys: what a run rests on, and what makes it stale."""

import json
import os
from types import SimpleNamespace

import pandas as pd
import pytest
from books_for_tests import (
    SECTION,
    SOURCE,
    finish,
)
from ddbook.runner import (
    datasets,
    keys,
    run,
    tables,
)
from ddbook.runner.job import describe
from ddbook.runner.origin import Commit, collect_provenance


def test_comments_docstrings_and_layout_of_the_library_are_no_change(book):
    path = book / "ddlib" / "x.py"
    (book / "notebooks" / "demo.py").write_text(SOURCE + "\nfrom ddlib import x\nx.f(1)\n")
    before, after = (
        'def f(x):\n    """A."""\n    return 2*x\n',
        "def f(x):  # B\n    return (2 * x)\n",
    )
    digests = []
    for at, text in enumerate((before, before.replace("A.", "Another."), after.replace("2", "3"))):
        path.write_text(text)
        os.utime(path, (at, at))
        digests.append(describe(book, "quick", "demo").key["library"]["ddlib.x.f"])
    assert digests[0] == digests[1] != digests[2]


def test_a_run_depends_on_the_definitions_that_it_reaches_and_on_no_other(book):
    library = {
        "__init__": "",
        "a": "from ddlib import b\n\ndef g():\n    return b.f()\n\ndef unused():\n    return 1",
        "b": "from ddlib.c import x\n\ndef f():\n    return x",
        "c": "x = 1",
        "other": "x = 1",
    }
    for name, text in library.items():
        (book / "ddlib" / f"{name}.py").write_text(text)
    source = book / "notebooks" / "demo.py"
    source.write_text(SOURCE + "\nfrom ddlib.a import g\ng()\n")
    reached = describe(book, "quick", "demo").key["library"]
    assert list(reached) == ["ddlib.a.g", "ddlib.b.f", "ddlib.c.x"]
    source.write_text(SOURCE + "\n%matplotlib inline\n")  # cannot be parsed: all of them
    assert "ddlib.other.x" in describe(book, "quick", "demo").key["library"]


def test_a_quick_page_runs_again_when_published_tables_change(book):
    """Its own and those that it needs: it may show them. What makes them does not run again."""
    source = book / "notebooks" / "demo.py"
    source.write_text(SOURCE)
    before = describe(book, "quick", "demo").key
    assert before["published"] == {}
    (book / "results" / "demo").mkdir(parents=True)
    (book / "results" / "demo" / "run.json").write_text("{}")
    after = describe(book, "quick", "demo").key
    assert keys.reasons(before, after) == ["published: demo"]
    assert describe(book, "standard", "demo").key["published"] == {}


def test_a_key_holds_the_book_s_code_that_the_notebook_reaches(book):
    source = book / "notebooks" / "demo.py"
    source.write_text(SOURCE + "\nfrom ddbook.sweeps.store import Store\nStore\n")
    assert "ddbook.sweeps.store.Store" in describe(book, "quick", "demo").key["book"]
    source.write_text(SOURCE)
    key = describe(book, "quick", "demo").key
    assert key["book"] == {}, "what saves and records computes nothing"
    assert {"cells", "ddbook.page.run.open", "figures.mplstyle"} <= set(key["figures"])


def test_what_changed_is_named(book, monkeypatch):
    assert keys.stale(describe(book, "quick", "demo")) == ["no finished run"]
    finish(book)
    assert keys.stale(describe(book, "quick", "demo")) == []
    (book / "book" / "figures.mplstyle").write_text("")
    (book / "requirements.lock").write_text("jax==9")
    (book / "ddlib" / "a.py").write_text("x = 1")
    (book / "notebooks" / "demo.py").write_text(SOURCE + "\nfrom ddlib.a import x\nx\n")
    content = {"demo": {**SECTION, "num_seeds": 9}, "reader": SECTION}
    (book / "profiles" / "quick.yaml").write_text(json.dumps(content))
    assert keys.stale(describe(book, "quick", "demo")) == [
        "code changed",
        "settings: num_seeds was 3, is 9",
        "library: ddlib.a.x",
        "figures: figures.mplstyle",
        "environment: requirements.lock",
    ]


@pytest.mark.parametrize(
    ("was", "now", "stale"),
    [
        ("00", "00", 0),
        ("00", "absent", 0),
        ("absent", "00", 1),
        ("00", "11", 1),
        ("absent", "absent", 0),
    ],
)
def test_a_run_on_real_data_stands_where_the_data_has_gone(was, now, stale):
    assert len(keys.reasons({"data": was}, {"data": now})) == stale


@pytest.fixture
def two_datasets(book, monkeypatch):
    """The book, its `demo` with two datasets; and what is at hand of each, to be changed."""
    section = {**SECTION, "dataset": "mnist", "image_dataset": "cifar10"}
    content = json.dumps({"demo": section, "reader": SECTION})
    (book / "profiles" / "quick.yaml").write_text(content)
    there = {"mnist": "00", "cifar10": "absent"}
    monkeypatch.setattr("ddlib.data.fingerprint", lambda name: there[name])
    return SimpleNamespace(root=book, there=there)


def test_a_key_holds_every_dataset(two_datasets):
    root, there = two_datasets.root, two_datasets.there
    before = describe(root, "quick", "demo").key
    assert before["data"] == {"mnist": "00", "cifar10": "absent"}
    there["cifar10"] = "11"
    after = describe(root, "quick", "demo").key
    assert keys.reasons(before, after) == ["data: cifar10"]
    there["mnist"] = "absent"
    assert (
        keys.reasons(after, describe(root, "quick", "demo").key) == []
    )  # it was real, and is gone
    there["cifar10"] = "22"
    assert keys.reasons(after, describe(root, "quick", "demo").key) == ["data: cifar10"]
    assert datasets.fingerprints({"dataset": "mnist"}) == {"mnist": "absent"}
    both = {"dataset": "cifar10", "image_dataset": "cifar10"}
    assert datasets.fingerprints(both) == {"cifar10": "22"}
    assert datasets.fingerprints({"dataset": None, "num_seeds": 1}) == {}
    assert keys.reasons({**after, "data": "00"}, after) == ["data changed"]


@pytest.mark.parametrize("setting", ["dataset", "image_dataset", "datasets", "eval_datasets"])
def test_every_unknown_dataset_is_named_before_anything_starts(setting, book):
    for given in ("cifar-10", ["mnist", "cifar-10"], ["mnist", 3]):
        with pytest.raises(
            ValueError, match=rf"parameter: {setting}(\[1\])? = .*one of .*cifar10, "
        ):
            datasets.fingerprints({setting: given})


def test_many_changes_are_counted_and_the_longest_run_goes_first(book):
    was, now = {"settings": dict.fromkeys("abcde", 1)}, {"settings": dict.fromkeys("abcde", 2)}
    assert keys.reasons(was, now) == ["settings: a, b, c and 2 more"]
    assert keys.expected_seconds(describe(book, "quick", "demo")) == 0
    finish(book)
    assert keys.expected_seconds(describe(book, "quick", "demo")) == 1.25


def test_a_damaged_record_is_no_finished_run(book):
    made = finish(book)
    made.record.write_text('{"key": ')
    assert keys.stale(describe(book, "quick", "demo")) == ["no finished run"]


def test_a_stamp_is_newer_than_what_must_be_made_again(tmp_path):
    stamp, product = tmp_path / "deep" / "stamp", tmp_path / "product"
    product.write_text("")
    os.utime(product, ns=(10**18, 10**18))

    def newer() -> bool:
        return stamp.stat().st_mtime_ns > product.stat().st_mtime_ns

    keys.stamp(stamp, [], product)
    assert not newer()
    keys.stamp(stamp, ["source changed"], product)
    assert newer() and "source changed" in stamp.read_text()
    before = stamp.read_text()
    keys.stamp(stamp, ["source changed"], product)
    assert stamp.read_text() == before  # it says so already
    keys.stamp(stamp, [], product)
    assert not newer()
    keys.stamp(stamp, ["source changed"], product)
    assert stamp.read_text() != before  # or Snakemake would know the content, and not run


def test_a_page_s_text_changes_the_html_and_a_date_does_not(book):
    (book / "book" / "index.md").write_text("# A")
    before = keys.page_key(book, "quick")
    os.utime(book / "book" / "index.md", ns=(1, 1))
    assert keys.page_key(book, "quick") == before
    assert keys.page_key(book, "standard") != before
    (book / "book" / "index.md").write_text("# B")
    assert keys.reasons(before, keys.page_key(book, "quick")) == ["pages: book/index.md"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("mnist", False), ("cifar10", True)], {"mnist": "11", "cifar10": "absent"}),
        ([("mnist", False), ("cifar10", False)], {"mnist": "11", "cifar10": "11"}),
        ([("digits", True)], {"mnist": "absent", "cifar10": "absent"}),
    ],
)
def test_of_two_datasets_each_counts_for_itself(given, expected, tmp_path):
    """One may have been fetched on the way, and the other been stood in for."""
    for number, (name, stand_in) in enumerate(given):
        origin = collect_provenance(
            notebook="demo",
            profile="quick",
            parameters={},
            commit=Commit("unknown", True),
            wall_seconds=1.0,
            dataset={"name": name, "checksum": "11", "stand_in": stand_in},
        )
        frame = pd.DataFrame({"x": [1.0]})
        tables.write_table(frame, tmp_path / f"table_{number}.parquet", origin)
    key = {"settings": {}, "data": {"mnist": "absent", "cifar10": "absent"}}
    assert run._data_of(key, tmp_path) == expected
