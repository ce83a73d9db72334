"""Profiles, keys, `page.open` and the runner, on a small book in a temporary folder.

A kernel's start takes seconds: the tests share one run that succeeds and one that is killed.
"""

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from books_for_tests import (
    ROOT,
    SECTION,
    SOURCE,
    finish,
    in_book,
    is_running,
    make,
    make_book,
    stamps,
    wait_for,
)
from ddbook import page
from ddbook.runner import (
    build,
    cells,
    check,
    command,
    datasets,
    files,
    kernel,
    keys,
    lock,
    places,
    profiles,
    publish,
    report,
    run,
    tables,
    yaml_text,
)
from ddbook.runner import source as sources
from ddbook.runner.job import describe
from ddbook.runner.origin import Commit, collect_provenance
from ddbook.runner.places import PROFILES


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of its own for one test; this process's `page.open` works in it."""
    monkeypatch.setenv("DDBOOK_ROOT", str(tmp_path / "repo"))
    for name in ("DDBOOK_FOLDER", "DDBOOK_NAME", "DDBOOK_LOG_FD"):
        monkeypatch.delenv(name, raising=False)
    return make_book(tmp_path / "repo")


# Profiles


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"num_seed": 2},
            "of demo, a name must be one of num_seeds, rates, mode, got 'num_seed'; did",
        ),
        ({"num_seeds": 0}, "num_seeds must be a positive number such as 3, got 0"),
        ({"num_seeds": 2.0}, "num_seeds must be an integer such as 3, got 2.0"),
        ({"num_seeds": True}, "num_seeds must be an integer such as 3, got True"),
        ({"num_seeds": "3"}, "num_seeds must be an integer such as 3, got '3'"),
        ({"rates": 0.1}, "rates must be a list such as [0.1, 0.2], got 0.1"),
        ({"rates": []}, "rates must be a list such as [0.1, 0.2], got []"),
        ({"rates": [0.1, -0.1]}, "rates[1] must be a positive number such as 0.1, got -0.1"),
        ({"rates": [0.1, float("nan")]}, "rates[1] must be a finite number such as 0.1, got nan"),
        ({"rates": [float("inf")]}, "rates[0] must be a finite number such as 0.1, got inf"),
        ({"rates": ["0.1"]}, "rates[0] must be a number such as 0.1, got '0.1'"),
        ({"mode": 3}, "mode must be text such as 'go', got 3"),
        ({"mode": None}, "mode must be such as 'go', got None"),
    ],
)
def test_a_bad_parameter_is_named_with_what_would_do(overrides, message, book):
    with pytest.raises(ValueError) as caught:
        profiles.settings("demo", "quick", overrides, book)
    assert str(caught.value).startswith(f"parameter: {message}")


def test_good_overrides_take_the_profile_s_kind(book):
    given = {"rates": (1, 0.5)}
    settings, variation = profiles.settings("demo", "quick", given, book)
    assert settings == {"num_seeds": 3, "rates": [1.0, 0.5], "mode": "go"}
    assert all(isinstance(rate, float) for rate in settings["rates"])
    assert variation == {"rates": [1.0, 0.5]}
    assert profiles.settings("demo", "quick", {"rates": [0.1, 0.2]}, book)[1] == {}


def test_a_value_that_is_not_positive_lets_others_be_so(book):
    content = {"demo": {**SECTION, "strength": 0.0, "signs": [-1.0, 1.0]}, "reader": SECTION}
    (book / "profiles" / "quick.yaml").write_text(json.dumps(content))
    given = {"strength": -2, "signs": [-3]}
    assert profiles.settings("demo", "quick", given, book)[1] == {"strength": -2.0, "signs": [-3.0]}


@pytest.fixture
def seeded(book):
    """The book, its `demo` with seeds and a list that the profile leaves empty."""
    section = {**SECTION, "seed": 3, "seeds": [2, 3], "first_seed": 1, "extra": []}
    content = json.dumps({"demo": section, "reader": SECTION})
    (book / "profiles" / "quick.yaml").write_text(content)
    return book


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 0},
        {"seeds": [0, 1]},
        {"first_seed": 0},
        {"seeds": [2**32 - 1]},
        {"extra": [0, "a"]},
    ],
)
def test_a_seed_may_be_zero(given, seeded):
    assert profiles.settings("demo", "quick", given, seeded)[1] == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed must be seeds from 0 to 2**32 - 1, got -1"),
        ({"seeds": [0, -1]}, "seeds must be seeds from 0 to 2**32 - 1, got -1"),
        ({"first_seed": 2**32}, "first_seed must be seeds from 0 to 2**32 - 1, got 4294967296"),
        ({"seeds": [1, 2, 1]}, "seeds must be distinct seeds, got [1, 2, 1]"),
        ({"seeds": [0.0]}, "seeds[0] must be an integer such as 2, got 0.0"),
        ({"num_seeds": 0}, "num_seeds must be a positive number"),  # a number of seeds is no seed
        ({"seed": 10**400}, "seed must be an integer of at most 64 bits such as 3, got 1000"),
        (
            {"rates": [10**400]},
            "rates[0] must be an integer of at most 64 bits such as 0.1, got 1000",
        ),
        ({"extra": [float("nan")]}, "extra must be a finite number, got nan"),
        ({"extra": [{}]}, "extra must be a number, boolean, text or a list of these, got {}"),
        ({"mode": object}, "mode: a type cannot be recorded"),
    ],
)
def test_a_seed_is_none_that_a_generator_would_change(given, message, seeded):
    """JAX takes 2**32 for 0: the same run twice, counted as two."""
    with pytest.raises(ValueError) as caught:
        profiles.settings("demo", "quick", given, seeded)
    assert str(caught.value).startswith(f"parameter: {message}")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "profile", "message"),
    [
        ("demp", "quick", "notebook must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            "demo",
            "quik",
            "profile must be one of quick, standard, paper, got 'quik'; did you mean 'quick'?",
        ),
        ("../demo", "quick", "notebook must be one of demo, reader, got '../demo'"),
    ],
)
def test_an_unknown_notebook_or_profile_is_named(name, profile, message, book):
    with pytest.raises(ValueError) as caught:
        profiles.settings(name, profile, {}, book)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("demo: [1]", "demo must be settings (possibly {}), got [1]"),
        ("demo: {h: .inf}", "demo: h must be a finite number, got inf"),
        ("demo: {profile: quick}", "'profile' cannot name a setting"),
        (
            "demo: {h: {a: 1}}",
            "demo: h must be a number, boolean, text or a list of these, got {'a': 1}",
        ),
        ("demo: {h: ", "not YAML"),
        ("demo: {h: 1, h: 2}", "'h' stands twice"),
        ("demo: {h: 1}\ndemo: {h: 2}", "'demo' stands twice"),
        ("demo: {h: no}", "demo: h must be true, false or another word, got no"),
        ("demo: {h: [On]}", "demo: h must be true, false or another word, got On"),
        ("demo: {seeds: [2, 2]}", "demo: seeds must be distinct seeds, got [2, 2]"),
        ("demo: {seed: -1}", "demo: seed must be seeds from 0 to 2**32 - 1, got -1"),
    ],
)
def test_a_bad_profile_is_named(content, message, book):
    (book / "profiles" / "quick.yaml").write_text(content)
    with pytest.raises(ValueError) as caught:
        profiles.read(book, "quick")
    assert "quick.yaml: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.1e-2", ".1e-2", "1.e-3"])
def test_exponents_are_numbers(text):
    assert yaml_text.load_yaml(f"h: {text}") == {"h": 0.001}


@pytest.mark.parametrize(
    "text",
    "1e-3x e3 v1e 1:30 190:20:30.5 0x10 0o17 0b11 2024-01-01 1__0 _1 1_ yes no On OFF 1,000 1.2.3"
    " << = inf nan".split(),
)
def test_what_means_no_number_and_no_boolean_to_everybody_is_text(text):
    assert yaml_text.load_yaml(f"h: {text}") == {"h": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("007", 7),
        ("010", 10),
        ("-012", -12),
        ("018", 18),
        ("0", 0),
        ("1_000", 1000),
        ("00.5", 0.5),
        ("1.", 1.0),
        ("true", True),
        ("False", False),
        ("~", None),
    ],
)
def test_numbers_are_decimal_whatever_yaml_s_versions_say(text, value):
    read = yaml_text.load_yaml(f"[{text}]")[0]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: 1, b: 2, a: 3}", "'a' stands twice (line 1, column 14)"),
        ("a: {b: 1, b: 1}", "'b' stands twice"),
        ("[&a 1, *a]", "no *alias here"),
        ("&a [*a]", "no *alias here"),
        ("!!python/name:os.system x", "could not determine a constructor"),
        ("!!timestamp x", "could not determine a constructor"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("[" * 5000, ""),
        ("9" * 5000, "4300"),
    ],
)
def test_yaml_that_would_be_misread_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError) as caught:
        yaml_text.load_yaml(text)
    said = str(caught.value)
    assert said.startswith("not YAML: ") and message in said and "\n" not in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "parameters = {}",
            "parameters = {}\nextra = None",
            'must be profile = "quick" and parameters = {}, got',
        ),
        (
            "parameters = {}",
            'parameters = {"num_seeds": 5}',
            "got profile = 'quick', parameters = {'num_seeds': 5}",
        ),
        ("parameters = {}", "parameters = None", "profiles/*.yaml hold the settings"),
        ("parameters = {}", "num_seeds = None\nrates = None", "lacks mode"),
        ("parameters = {}", "num_seeds = 5\nrates = None\nmode = None", "num_seeds must be None"),
        ("parameters = {}", "x = num_seeds = None", "may only assign"),
        ('tags=["parameters"]', "", 'one cell `# %% tags=["parameters"]` is wanted, not 0'),
        ("parameters = {}", "print()", "may only assign"),
        ("parameters = {}", "parameters = ", "the parameters cell is no Python"),
        ("parameters = {}", "parameters = dict()", "its parameter parameters must be a literal"),
        ("parameters = {}", "parameters = {}\nparameters = {}", "assigns parameters twice"),
    ],
)
def test_a_parameters_cell_that_differs_from_the_profile_is_refused(old, new, message, book):
    source = book / "notebooks" / "demo.py"
    source.write_text(SOURCE.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:
        describe(book, "quick", "demo")
    assert message in str(caught.value)
    assert not (book / "runs").exists()


def test_a_header_says_what_a_notebook_needs(book):
    assert sources.header(book / "notebooks" / "reader.py") == (["demo"], False)
    source = book / "notebooks" / "demo.py"
    for header, message in (
        ("{needs: [demp]}", "needs must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            "{need: []}",
            "ddbook: its entry must be one of needs, gpu, got 'need'; did you mean 'needs'?",
        ),
        ("{needs: demo}", "needs: [names]"),
    ):
        source.write_text(SOURCE.replace("{needs: []}", header))
        with pytest.raises(ValueError) as caught:
            sources.header(source)
        assert message in str(caught.value)
    source.write_text(SOURCE.replace("{needs: []}", "{gpu: true}"))
    assert sources.header(source) == ([], True)


HEADER, BODY = SOURCE[: SOURCE.index("\n\n")], SOURCE[SOURCE.index("\n\n") :]
assert HEADER.endswith("# ---")


@pytest.mark.parametrize(
    "header",
    [
        "\ufeff{}",
        "#!/usr/bin/env python3\n{}",
        "# -*- coding: utf-8 -*-\n{}",
        "\n{}",
        "\n \n\n{}",
        "# Copyright of whoever\n#\n{}",
        "\ufeff#!/usr/bin/python\n# coding: utf-8\n\n{}",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_header_is_not_lost_behind_what_editors_put_before_it(header, ends, book):
    source = book / "notebooks" / "demo.py"
    wanted = HEADER.replace("{needs: []}", "{needs: [reader], gpu: true}")
    content = header.format(wanted).replace("\n", ends) + BODY
    source.write_bytes(content.encode())
    assert sources.header(source) == (["reader"], True)
    assert list(sources.parameters(source)) == ["profile", "parameters"]
    assert len(cells.read(source)) == len(cells.read(book / "notebooks" / "reader.py"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("# ---\n# ddbook: {gpu: true}\n", "its header has no last line"),
        ("# ---\n# ddbook:\n# gpu: true\n# ---\n", "one entry such as ddbook: {gpu: true}"),
        ("# ---\n# ddbook: {}\n# jupyter: {ddbook: {}}\n# ---\n", "one entry such as ddbook"),
        ("# ---\n# ddbook: {gpu: true, gpu: false}\n# ---\n", "its header is not YAML: 'gpu' st"),
        ("# ---\n# ddbook: {gpu: yes}\n# ---\n", "gpu: true, not {'gpu': 'yes'}"),
        ("# ---\n# [ddbook]\n# ---\n", "names and values, not ['ddbook']"),
        ("# ---\n# ddbook: {needs: [[demo]]}\n# ---\n", "ddbook wants needs: [names]"),
        ('"""Doc."""\n\n# ---\n# ddbook: {gpu: true}\n# ---\n', "must stand in the header"),
        ("# ---\n# jupyter:\n#   jupytext:\n#     ddbook: {}\n# ---\n", "must stand in the header"),
        ("# ddbook: {gpu: true}\n", "must stand in the header"),
    ],
)
def test_a_header_that_says_nothing_is_named(header, message, book):
    source = book / "notebooks" / "demo.py"
    source.write_text(header + BODY)
    with pytest.raises(ValueError) as caught:
        sources.header(source)
    assert str(caught.value).startswith("demo.py: ") and message in str(caught.value)


def test_a_header_without_a_blank_after_the_sign_is_read(book):
    source = book / "notebooks" / "demo.py"
    source.write_text("#---\n#ddbook:\n#  gpu: true\n#---\n" + BODY)
    assert sources.header(source) == ([], True)
    source.write_text(BODY)
    assert sources.header(source) == ([], False)


NOTEBOOKS = sorted(places.sources(ROOT))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_stands_in_every_profile_with_the_same_settings(name):
    sections = {profile: profiles.read(ROOT, profile)[name] for profile in PROFILES}
    quick = sections["quick"]
    for profile, section in sections.items():
        assert list(section) == list(quick), profile
        describe(ROOT, profile, name, section)
        # each profile's values would do as overrides of quick: the kinds agree
        profiles.settings(name, "quick", section, ROOT)


# Keys


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


# The page that a notebook opens


def dataset(stand_in: bool) -> SimpleNamespace:
    return SimpleNamespace(name="digits", checksum="0123", stand_in=stand_in)


def test_a_page_opened_by_hand_writes_in_place_and_is_no_finished_run(book):
    made = finish(book)
    opened = page.open("demo", "quick")
    assert keys.stale(describe(book, "quick", "demo")) == ["no finished run"]
    frame = pd.DataFrame({"seed": [4, 2, 4], "loss": [1.0, 2.0, 3.0]})
    saved = opened.save("curve", frame)
    assert saved.provenance.seeds == [2, 4] and saved.provenance.parameters == SECTION
    assert (made.folder / "curve.parquet").is_file()
    for _ in range(2):  # a cell is run again
        opened.claims.record("demo-holds", True, {"loss": 1.0})
    assert len(files.read_json(made.claims)["records"]) == 1
    pd.testing.assert_frame_equal(page.open("reader", "quick").load("curve", "demo").frame, frame)


def test_other_settings_have_a_place_of_their_own(book):
    made = finish(book)
    page.open("demo", "quick", {"num_seeds": 5}).save("curve", pd.DataFrame({"x": [1]}))
    assert keys.stale(describe(book, "quick", "demo")) == [] and not list(
        made.folder.glob("*.parquet")
    )
    assert len(list((book / "runs" / "variations" / "quick").glob("demo-*/curve.parquet"))) == 1


def test_a_missing_table_says_which_there_are_and_how_to_make_it(book):
    opened = page.open("demo", "standard")
    opened.save("curve", pd.DataFrame({"x": [1]}))
    with pytest.raises(
        FileNotFoundError, match=r"table must be one of curve, got 'curv'; did you mean 'curve'\?"
    ):
        opened.load("curv")
    with pytest.raises(FileNotFoundError, match="`make run NB=reader PROFILE=standard` makes it"):
        opened.load("curve", "reader")
    with pytest.raises(ValueError, match="notebook must be one of demo, reader, got 'readr'"):
        opened.load("curve", "readr")
    with pytest.raises(ValueError, match="is no name"):
        opened.save("../curve", pd.DataFrame())
    assert opened.published("curve") is None


def test_data_marks_what_is_saved_and_recorded_after_it(book):
    opened = page.open("demo", "quick")
    before = opened.save("before", pd.DataFrame({"x": [1]}))
    opened.uses(dataset(stand_in=True))
    after = opened.save("after", pd.DataFrame({"x": [1]}))
    assert before.provenance.dataset is None and after.provenance.dataset["stand_in"] is True
    assert after.label == "quick profile, stand-in data"
    assert opened.claims.record("demo-holds", True, {"x": 1}).dataset["stand_in"] is True
    other = page.open("reader", "quick")
    other.uses(opened.load("after"))
    assert other.claims.record("demo-holds", True, {"x": 1}).dataset["checksum"] == "0123"


def test_a_card_tells_data_labels_and_links_and_escapes_them(book):
    opened = page.open("demo", "quick", {"mode": "<b>"})
    opened.uses(dataset(stand_in=True))
    opened.save("curve", pd.DataFrame({"x": [1, 2]}))
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
        assert opened.scratch({"seed": 1}).name.endswith(".partial")
        return {"loss": [1.0, float("nan")]}

    with pytest.raises(KeyError):
        opened.stored({"seed": 1})
    first = opened.cached({"seed": 1}, train)
    assert first["loss"] == [1.0, "nan"]  # as it will be read
    assert {"seconds", "commit", "dirty", "device"} <= set(first)
    again = page.open("demo", "standard")  # another profile, the same training
    assert again.digest({"seed": 1}) == opened.digest({"seed": 1}) != opened.digest({"seed": 2})
    assert again.cached({"seed": 1}, train)["seconds"] == first["seconds"]
    assert again.stored({"seed": 1})["loss"] == [1.0, "nan"]
    assert len(calls) == 1
    again.uses(dataset(stand_in=False))
    assert again.digest({"seed": 1}) != opened.digest({"seed": 1})
    again.cached({"seed": 1}, lambda: {"loss": []})
    assert again.stored({"seed": 1})["loss"] == []
    assert opened.stored({"seed": 1})["loss"] == [1.0, "nan"]


def test_a_published_table_is_labelled_and_linked_as_such(book):
    page.open("demo", "standard").save("curve", pd.DataFrame({"x": [1]}))
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


# The runner: what is refused before a kernel starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demp"], "error: notebook must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            ["demo", "--profile", "quik"],
            "error: profile must be one of quick, standard, paper, got 'quik'",
        ),
        (
            ["demo", "-p", "rates", "[-1e-3]"],
            "error: parameter: rates[0] must be a positive number such as 0.1, got -0.001",
        ),
        (
            ["demo", "-p", "num_seeds", "-1"],
            "error: parameter: num_seeds must be a positive number such as 3, got -1",
        ),
        (
            ["demo", "-p", "num_seeds", ".nan"],
            "error: parameter: num_seeds must be an integer such as 3, got nan",
        ),
        (["demo", "-p", "num_seeds"], "error: -p wants a name and a value"),
        (
            ["demo", "-p", "mode", "a", "-p", "mode", "b"],
            "error: parameter: mode must be given once, got it twice",
        ),
        (["demo", "-p", "mode", "{"], "error: parameter: mode: not YAML"),
        (["demo", "-p", "mode", "~"], "error: parameter: mode must have a value, got none"),
        (["demo", "-p", "mode", ""], "error: parameter: mode must have a value, got none"),
        (["demo", "-pmode"], "error: parameter: mode must have a value, got none"),
        (
            ["demo", "-p", "num_seeds", "1:30"],
            "error: parameter: num_seeds must be an integer such as 3, got '1:30'",
        ),
        (
            ["demo", "-p", "num_seeds", "0x1"],
            "error: parameter: num_seeds must be an integer such as 3, got '0x1'",
        ),
        (
            ["demo", "-p", "rates", "[1e999]"],
            "error: parameter: rates[0] must be a finite number such as 0.1, got inf",
        ),
        (
            ["demo", "-p", "mode", "yes", "-p", "num_seeds", "on"],
            "error: parameter: num_seeds must be an integer such as 3, got 'on'",
        ),
    ],
)
def test_the_command_line_refuses_before_anything_starts(arguments, message, book, capsys):
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (book / "runs").exists()


def test_a_run_under_way_is_waited_for_and_not_run_twice(book, capsys, monkeypatch):
    file = places.products(book, "quick", "demo").partial.with_name("demo.lock")
    file.parent.mkdir(parents=True)
    file.write_text("4321")
    held = file.open("a")
    fcntl.flock(held, fcntl.LOCK_EX)

    def other_process(_seconds: float) -> None:
        finish(book)
        held.close()

    monkeypatch.setattr(lock.time, "sleep", other_process)
    assert command.main(["demo"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "demo (quick): waits for the process 4321 that runs it",
        "demo (quick): was done by another process",
    ]


def test_each_gpu_has_one_run_and_scheduler_choices_stand(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(
        kernel.importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin"
    )
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    log = io.StringIO()
    with kernel.on_device(True, "a", log) as first, kernel.on_device(True, "b", log) as second:
        assert [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]] == ["2", "5"]
        assert float(first["XLA_PYTHON_CLIENT_MEM_FRACTION"]) > 0.75

        def release(_seconds: float) -> None:
            raise TimeoutError

        monkeypatch.setattr(kernel.time, "sleep", release)
        with pytest.raises(TimeoutError), kernel.on_device(True, "c", log):
            pass
    assert log.getvalue() == "c: waits for a GPU\n"
    with kernel.on_device(True, "d", log) as third:
        assert third["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with kernel.on_device(True, "e", log) as fourth:
        assert fourth == {}


def test_a_notebook_that_asks_for_no_gpu_keeps_off_it(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with kernel.on_device(False, "a", io.StringIO()) as environment:
        assert environment == {"JAX_PLATFORMS": "cpu"}
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with kernel.on_device(False, "a", io.StringIO()) as environment:
        assert environment == {}


# The runner: kernels


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A book in which `demo` has run, after a failed run that left things behind; and its log."""
    root = make_book(tmp_path_factory.mktemp("done") / "repo")
    made = places.products(root, "quick", "demo")
    for path in (made.failed, made.folder / "stale.parquet", made.partial / "half.parquet"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of a former run")
    with (root / "log").open("w+") as log:
        returned = run.run(describe(root, "quick", "demo"), log=log)
        log.seek(0)
        said = log.read()
    assert returned == made.notebook
    return SimpleNamespace(root=root, made=made, log=said)


def test_a_finished_run_is_in_place_and_nothing_else_is(done):
    made = done.made
    assert keys.stale(describe(done.root, "quick", "demo")) == []
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "claims.json",
        "curve.parquet",
        "run.json",
    ]
    assert not made.failed.exists() and not made.partial.exists()
    left = [p for p in (done.root / "runs" / ".partial").rglob("*") if p.is_file()]
    assert [path.name for path in left] == ["demo.lock"]
    frame, provenance = tables.read_table(made.folder / "curve.parquet")
    assert len(frame) == 3 and provenance.seeds == [0, 1, 2] and provenance.profile == "quick"
    record = files.read_json(made.record)
    assert record["settings"] == SECTION and record["seconds"] > 0


def test_the_log_of_a_run_is_its_progress_and_one_line(done):
    lines = done.log.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  demo (quick): 3/3, ") and lines[0].endswith(" done")
    assert lines[1].startswith("demo (quick): done in ")
    assert lines[1].endswith(", runs/quick/demo.ipynb")


def test_the_executed_notebook_ran_in_this_python_and_hides_the_plumbing(done):
    notebook = nbformat.read(done.made.notebook, as_version=4)
    injected = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert [cell.source.splitlines()[1:] for cell in injected] == [
        ['profile = "quick"', "parameters = {}"]
    ]
    assert "remove-cell" in injected[0].metadata.tags
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = next(output.text for output in outputs if output.output_type == "stream")
    folder = done.root / "notebooks"
    assert printed.split() == [
        sys.executable,
        "0",
        os.environ.get("JAX_PLATFORMS", "cpu"),
        str(folder),
    ]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert str(done.root) not in json.dumps(notebook.metadata)


def test_the_table_after_a_batch_says_what_is_judged(done, capsys, monkeypatch):
    monkeypatch.setenv("DDBOOK_ROOT", str(done.root))
    assert report.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["notebook", "seconds", "claims", "judged", "status", "(quick)"]
    assert lines[2].startswith("demo ") and lines[2].endswith("  1 reproduced   done")
    assert lines[3].split() == ["reader", "not", "run"]
    assert lines[-1] == "The HTML is not built."


def test_snakemake_runs_what_changed_and_not_what_was_touched(done, tmp_path):
    root = tmp_path / "repo"
    shutil.copytree(done.root, root)  # dates are kept, as they are not in a checkout: touch all
    shutil.copy(ROOT / "Snakefile", root)
    shutil.copytree(ROOT / "profiles" / "default", root / "profiles" / "default")
    for path in (root / "notebooks").iterdir():
        path.touch()
    snakemake = [str(Path(sys.executable).with_name("snakemake")), "--dry-run"]
    plan = in_book(root, *snakemake, "runs/quick/demo.ipynb")
    assert plan.returncode == 0 and "Nothing to be done" in plan.stdout + plan.stderr
    source = root / "notebooks" / "demo.py"
    source.write_text(SOURCE + "more = 1\n")
    plan = in_book(root, *snakemake, "runs/quick/reader.ipynb")
    assert plan.returncode == 0
    assert "demo (quick) runs: code changed" in plan.stdout
    assert "reader (quick) runs: no finished run" in plan.stdout
    assert plan.stdout.index(": demo (quick)") < plan.stdout.index(": reader (quick)")
    source.write_text(SOURCE)
    plan = in_book(root, *snakemake, "runs/quick/demo.ipynb")
    assert "Nothing to be done" in plan.stdout + plan.stderr


def test_a_failing_notebook_says_where_and_leaves_the_former_run(book, capfd):
    made = finish(book)
    broken = SOURCE.replace('if s.mode == "fail"', 'if s.mode == "go"')
    (book / "notebooks" / "demo.py").write_text(broken)
    assert command.main(["demo"]) == 1
    said = capfd.readouterr().err
    line = broken[: broken.index('if s.mode == "go"')].count("\n") + 1
    assert f'FAILED in cell [5], notebooks/demo.py:{line}: if s.mode == "go":' in said
    assert "    RuntimeError: what went wrong\n" in said
    assert said.endswith("  as far as it came: runs/quick/demo.failed.ipynb\n")
    assert "what went wrong" in made.failed.read_text()
    assert made.notebook.read_text() == "{}" and not made.partial.exists()
    assert (
        report.rows([describe(book, "quick", "demo")])[0][3]
        == "FAILED: runs/quick/demo.failed.ipynb"
    )


def test_a_kernel_that_dies_is_a_failed_run(book, capfd):
    assert command.main(["demo", "-p", "mode", "die"]) == 1
    said = capfd.readouterr().err
    assert "demo (quick, mode=die): FAILED in cell [5], notebooks/demo.py:" in said
    assert "Kernel died" in said and "out of memory" in said
    variations = book / "runs" / "variations" / "quick"
    assert [path.name.split(".", 1)[1] for path in variations.iterdir()] == ["failed.ipynb"]


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_a_run_that_is_ended_leaves_nothing_that_is_read(ending, book):
    made = places.products(book, "quick", "demo", {"mode": "wait"})
    # whoever runs the tests may ignore interrupts, and children inherit that
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from ddbook.runner import command; sys.exit(command.main())"
    command = [sys.executable, "-c", code, "demo", "-p", "mode", "wait"]
    with subprocess.Popen(
        command, env={**os.environ, "DDBOOK_ROOT": str(book)}, stderr=subprocess.PIPE, text=True
    ) as runner:
        pid = made.partial / "pid"
        wait_for(lambda: pid.is_file() and pid.read_text().strip(), 60)
        kernel = int(pid.read_text())
        runner.send_signal(getattr(signal, ending))
        said = runner.communicate(timeout=30)[1]
    assert runner.returncode == {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[ending], said
    wait_for(lambda: not is_running(kernel), 20)
    assert not made.notebook.exists() and not made.folder.exists()
    read = [
        *book.glob("runs/*/*.ipynb"),
        *book.glob("runs/*/*.parquet"),
        *book.glob("runs/[!.]*/*/*"),
    ]
    assert read == []
    if ending == "SIGKILL":
        assert (made.partial / "curve.parquet").is_file()  # it was half-way
    else:
        assert not made.partial.exists()


# Publishing, building, make


def test_only_a_current_small_run_on_real_data_is_published(book, monkeypatch):
    with pytest.raises(
        ValueError, match=r"no finished run; `make run NB=demo PROFILE=standard` first"
    ):
        publish.publish(describe(book, "standard", "demo"))
    made = finish(book, profile="standard")
    opened = page.open("demo", "standard")
    opened.uses(dataset(stand_in=True))
    opened.save("curve", pd.DataFrame({"x": [1]}))
    finish_again(book, made)
    with pytest.raises(ValueError, match=r"curve\.parquet rests on stand-in data"):
        publish.publish(describe(book, "standard", "demo"))
    opened.uses(dataset(stand_in=False))
    opened.save("curve", pd.DataFrame({"x": [1]}))
    former = book / "results" / "demo" / "former.parquet"
    former.parent.mkdir(parents=True)
    former.write_text("")
    target = publish.publish(describe(book, "standard", "demo"))
    assert sorted(path.name for path in target.iterdir()) == ["curve.parquet", "run.json"]
    assert [path.name for path in (book / "results").iterdir()] == ["demo"]
    monkeypatch.setattr(publish, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="100 are the most to track"):
        publish.publish(describe(book, "standard", "demo"))


def finish_again(book: Path, made: places.Products) -> None:
    """Write the record anew, which `page.open` by hand took away."""
    key = describe(book, "standard", "demo").key
    files.write_json({"key": key, "seconds": 1.0}, made.record)


def test_a_html_build_that_failed_is_made_from_nothing(book, monkeypatch, capsys):
    calls = []

    def jupyter_book(command, cwd, env, stdout, stderr):
        calls.append((sorted(p.name for p in (book / "_build").glob("*")), env["DDLIB_PROFILE"]))
        build.index(book).parent.mkdir(parents=True, exist_ok=True)
        build.index(book).write_text("")
        stdout.write("reading sources\n\x1b[31m/a/index.md:3: WARNING: no such page\x1b[0m\n")
        return SimpleNamespace(returncode=len(calls) == 1)

    monkeypatch.setattr(build.subprocess, "run", jupyter_book)
    assert build.build(book, "quick") == 1 and not build.record(book).exists()
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "  /a/index.md:3: WARNING: no such page",
        "  all that was said: _build/html.log",
    ]
    assert build.build(book, "standard") == 0 and build.record(book).exists()
    assert build.build(book, "standard") == 0
    log = "html.log"
    assert calls == [([log], "quick"), ([log], "standard"), (["html", log], "standard")]
    assert keys.reasons(files.read_json(build.record(book)), keys.page_key(book, "standard")) == []


def test_the_html_is_built_once_when_two_ask_at_once(book, monkeypatch, capsys):
    calls = []

    def jupyter_book(*_, **__):
        calls.append(1)
        build.index(book).parent.mkdir(parents=True, exist_ok=True)
        build.index(book).write_text("")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(build.subprocess, "run", jupyter_book)
    assert build.build(book, "quick") == 0 and len(calls) == 1
    monkeypatch.setattr(lock, "alone", lambda *_: contextlib.nullcontext(True))
    assert build.build(book, "quick") == 0 and len(calls) == 1
    assert capsys.readouterr().err == "the HTML: was built by another process\n"
    made = finish(book)  # a run since then
    later = build.record(book).stat().st_mtime_ns + 10**9
    os.utime(made.notebook, ns=(later, later))
    assert build.build(book, "quick") == 0 and len(calls) == 2
    assert build.build(book, "standard") == 0 and len(calls) == 3  # other pages


def test_a_mark_has_the_date_of_the_earliest_and_goes_with_any(tmp_path):
    done, products = tmp_path / "deep" / "done", [tmp_path / name for name in "ab"]
    for date, path in enumerate(products, start=10):
        path.write_text("")
        os.utime(path, ns=(date * 10**9, date * 10**9))
    assert keys.mark(done, *products).stat().st_mtime_ns == 10 * 10**9
    products[1].unlink()
    assert not keys.mark(done, *products).exists()
    assert not keys.mark(done, *products).exists()


def test_make_says_when_python_is_too_old(book):
    shutil.copy(ROOT / "Makefile", book)
    (book / "requirements.lock").write_text("")
    old = book / "oldpython"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.8.1\nexit 1\n')
    old.chmod(0o755)
    made = make(book, "test", f"PYTHON={old}")
    assert made.returncode != 0 and not (book / ".venv").exists()
    assert "Python 3.11 or newer is needed" in made.stderr and "is Python 3.8.1" in made.stderr


def test_make_lists_its_targets_and_wants_a_notebook(book):
    shutil.copy(ROOT / "Makefile", book)
    shown = make(book)
    assert shown.returncode == 0 and "notebooks: demo reader" in shown.stdout
    targets = {line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert {"book", "run", "check", "test", "lint", "publish", "clean", "plan"} <= targets
    asked = make(book, "-o", next(iter(stamps(book))), "run")
    assert (
        asked.returncode != 0 and "NB=<notebook> is missing; there are: demo reader" in asked.stderr
    )


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


def test_parameters_are_one_dict_for_papermill_too(book):
    """And a notebook that lists them by name gets them by name."""
    changes = {"num_seeds": 4}
    assert describe(book, "quick", "demo", changes).inputs == {
        "profile": "quick",
        "parameters": changes,
    }
    named = "num_seeds = None\nrates = None\nmode = None"
    source = book / "notebooks" / "demo.py"
    source.write_text(SOURCE.replace("parameters = {}", named))
    assert describe(book, "quick", "demo", changes).inputs == {"profile": "quick", **changes}
    opened = page.open("demo", "quick", num_seeds=4, rates=None)
    assert opened.settings.num_seeds == 4 and opened.settings.rates == SECTION["rates"]


def test_a_check_of_a_room_takes_the_tests_named_after_it_or_those_that_import_it(tmp_path):
    files = {
        "ddlib/__init__.py": "",
        "ddlib/methods.py": "",
        "ddlib/loop.py": "",
        "ddlib/gan/__init__.py": "",
        "ddlib/gan/rules.py": "",
        "book/_ext/ddbook/runner/__init__.py": "",
        "book/_ext/ddbook/runner/keys.py": "",
        "tests/test_methods.py": "from ddlib import methods",
        "tests/test_other.py": "from ddlib import loop, methods\nfrom ddlib.gan.rules import Rule",
        "tests/test_more.py": "import ddbook.runner.keys",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def picked(room: str) -> list[str]:
        return [Path(word).name for word in check.of_room(tmp_path, room).tests]

    assert picked("methods") == ["methods.py", "test_methods.py"]
    assert picked("loop") == ["loop.py", "test_other.py"]
    assert picked("gan") == ["gan", "test_other.py"]
    assert picked("gan/rules") == ["rules.py", "test_other.py"]
    assert picked("runner/keys") == ["keys.py", "test_more.py"]
    with pytest.raises(ValueError, match=r"room must be one of .*; did you mean 'methods'"):
        check.of_room(tmp_path, "method")


def test_a_check_of_a_notebook_takes_the_cases_that_name_it(book):
    (book / "tests").mkdir()
    texts = {
        "test_all.py": "NOTEBOOKS = sorted(places.sources(ROOT))",
        "test_demo.py": "def test_demo(): ...",
        "test_reader.py": "def test_reader(): ...",
    }
    for name, text in texts.items():
        (book / "tests" / name).write_text(text)
    chosen = check.of_notebook(book, "demo")
    assert [path.name for path in chosen.sources] == ["demo.py"]
    assert [Path(word).name for word in chosen.tests] == [
        "test_all.py",
        "test_demo.py",
        "-k",
        "demo",
    ]
    with pytest.raises(ValueError, match="did you mean 'demo'"):
        check.of_notebook(book, "demos")
