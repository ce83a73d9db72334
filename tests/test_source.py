"""What a source says of itself: its header, and the parameters that it takes."""

import pytest
from books_for_tests import (
    SOURCE,
)
from ddbook import page
from ddbook.runner import (
    cells,
)
from ddbook.runner import source as sources
from ddbook.runner.job import describe


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
        ("parameters = {}", "num_seeds = None\nmode = None", "num_seeds = None, mode = None; "),
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
    assert sources.header(book / "notebooks" / "reader.py")[:2] == (["demo"], False)
    source = book / "notebooks" / "demo.py"
    for header, message in (
        ("{needs: [demp]}", "needs must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            "{need: []}",
            "ddbook: its entry must be one of needs, gpu, compiles, got 'need'; did you mean",
        ),
        ("{needs: demo}", "needs: [names]"),
    ):
        source.write_text(SOURCE.replace("{needs: []}", header))
        with pytest.raises(ValueError) as caught:
            sources.header(source)
        assert message in str(caught.value)
    source.write_text(SOURCE.replace("{needs: []}", "{gpu: true}"))
    assert sources.header(source)[:2] == ([], True)


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
    assert sources.header(source)[:2] == (["reader"], True)
    assert list(sources.parameters(source)) == ["profile", "parameters"]
    assert len(cells.read(source)) == len(cells.read(book / "notebooks" / "reader.py"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("# ---\n# ddbook: {gpu: true}\n", "its header has no last line"),
        ("# ---\n# ddbook:\n# gpu: true\n# ---\n", "one entry such as ddbook: {gpu: true}"),
        ("# ---\n# ddbook: {}\n# jupyter: {ddbook: {}}\n# ---\n", "one entry such as ddbook"),
        ("# ---\n# ddbook: {gpu: true, gpu: false}\n# ---\n", "its header is not YAML: 'gpu' st"),
        ("# ---\n# ddbook: {gpu: yes}\n# ---\n", "compiles: true, not {'gpu': 'yes'}"),
        ("# ---\n# ddbook: {compiles: 1}\n# ---\n", "compiles: true, not {'compiles': 1}"),
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
    assert sources.header(source)[:2] == ([], True)
    source.write_text(BODY)
    assert sources.header(source)[:2] == ([], False)


def test_parameters_are_one_dict_for_papermill_too(book):
    changes = {"num_seeds": 4}
    assert describe(book, "quick", "demo", changes).inputs == {
        "profile": "quick",
        "parameters": changes,
    }
    assert page.open("demo", "quick", changes).settings.num_seeds == 4
