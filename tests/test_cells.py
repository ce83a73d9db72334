"""What makes a run stale is what computes; figures are drawn again from tables, words are free."""

import json

import nbformat
import pytest
from books_for_tests import SOURCE, finish, make_book
from ddbook.runner import cells, files, keys, places, run
from ddbook.runner.job import describe
from ddbook.sphinx import pages

HEAD = SOURCE[: SOURCE.index("# %%\nimport os")]
COMPUTES = """\
# %% [markdown]
# ## A curve
#
# It rises.

# %%
import matplotlib.pyplot as plt
import pandas as pd

# %%
slope = 2  # of the curve
run.save("curve", pd.DataFrame({"seed": range(s.num_seeds), "loss": slope}), data="none")
run.claims.record("demo-holds", True, {"loss": 1.0}, data="none")
print("computed")
"""
DRAWS = """\

# %% tags=["hide-input", "figure"] mystnb={"image": {"alt": "A curve."}}
curve = run.load("curve").frame
fig, ax = plt.subplots()
ax.plot(curve.loss)
ax.set_yticks([0, 1])
print("drawn with a tick at", 1)
plt.show()
"""


@pytest.fixture
def book(tmp_path):
    return make_book(tmp_path / "a book", HEAD + COMPUTES + DRAWS)


def rewrite(book, *changes):
    source = book / "notebooks" / "demo.py"
    text = source.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    source.write_text(text)
    return source


WORDS = {
    "prose": ("# It rises.", "# It rises, and one sees why."),
    "a heading": ("# ## A curve", "# ## The curve"),
    "a comment": ("slope = 2  # of the curve", "slope = 2  # of the whole curve"),
    "layout": ("slope = 2  # of the curve", "slope = (\n    2\n)"),
    "alternative text": ('"alt": "A curve."', '"alt": "A curve that rises."'),
    "a folded cell": ('tags=["hide-input", "figure"]', 'tags=["figure"]'),
}
FIGURES = {
    "a tick": ("ax.set_yticks([0, 1])", "ax.set_yticks([0, 1, 2])"),
    "a legend": ("ax.plot(curve.loss)", 'ax.plot(curve.loss, label="loss")'),
}
COMPUTING = {
    "a constant": ("slope = 2", "slope = 3"),
    "a column": ('"loss": slope}', '"loss": slope, "more": 1}'),
    "a record": ('"demo-holds", True', '"demo-holds", slope > 1'),
}


@pytest.mark.parametrize("profile", ["quick", "standard"])
@pytest.mark.parametrize("name", WORDS)
def test_words_make_nothing_stale(name, profile, book):
    made = finish(book, profile=profile)
    rewrite(book, WORDS[name])
    assert keys.stale(describe(book, profile, "demo")) == []
    # one that is asked for all the same runs as a whole
    recorded = files.read_json(made.record)["key"]
    assert not keys.only_figures(recorded, describe(book, profile, "demo").key)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_makes_a_run_be_drawn_again_and_nothing_published_stale(name, book):
    finish(book, profile="standard")
    publish_record(book)
    rewrite(book, FIGURES[name])
    assert keys.stale(describe(book, "standard", "demo")) == ["figures: cells"]
    recorded = files.read_json(places.products(book, "standard", "demo").record)["key"]
    assert keys.only_figures(recorded, describe(book, "standard", "demo").key)
    assert keys.changed_since(describe(book, "standard", "demo")) == []


@pytest.mark.parametrize("name", COMPUTING)
def test_what_computes_makes_a_run_stale_and_what_is_published_too(name, book):
    finish(book, profile="standard")
    publish_record(book)
    rewrite(book, COMPUTING[name])
    assert keys.stale(describe(book, "standard", "demo")) == ["code changed"]
    recorded = files.read_json(places.products(book, "standard", "demo").record)["key"]
    assert not keys.only_figures(recorded, describe(book, "standard", "demo").key)
    assert keys.changed_since(describe(book, "standard", "demo")) == ["code changed"]


def publish_record(book):
    record = places.products(book, "standard", "demo").record
    (book / "results" / "demo").mkdir(parents=True)
    (book / "results" / "demo" / "run.json").write_bytes(record.read_bytes())


def test_a_finished_run_is_drawn_again_from_its_tables(book, capfd):
    """With kernels: the computing cell's output stays, the figure is new, tables are untouched."""
    made = places.products(book, "quick", "demo")
    run.run(describe(book, "quick", "demo"))
    table, before = made.folder / "curve.parquet", files.read_json(made.record)
    when, bytes_before = table.stat().st_mtime_ns, table.read_bytes()
    rewrite(book, ('print("drawn with a tick at", 1)', 'print("drawn with a tick at", 2)'))
    run.run(describe(book, "quick", "demo"))
    assert "figures drawn again" in capfd.readouterr().err
    assert (table.stat().st_mtime_ns, table.read_bytes()) == (when, bytes_before)
    after = files.read_json(made.record)
    assert after["finished"] == before["finished"]
    assert keys.stale(describe(book, "quick", "demo")) == []
    text = (book / "notebooks" / "demo.py").read_text()
    page = pages.usable_run(made, text, "demo", "quick")
    said = [
        output.text for cell in page.cells for output in cell.get("outputs", []) if "text" in output
    ]
    assert said == ["computed\n", "drawn with a tick at 2\n"]
    images = [
        o for c in page.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(images) == 1

    # prose and captions are the source's, whatever the run's were
    rewrite(book, WORDS["prose"], WORDS["alternative text"])
    text = (book / "notebooks" / "demo.py").read_text()
    page = pages.usable_run(made, text, "demo", "quick")
    assert any("one sees why" in cell.source for cell in page.cells)
    assert page.cells[-1].metadata.mystnb.image.alt == "A curve that rises."

    # a figure that says it needs tables and saves one all the same is found when it draws
    rewrite(book, ("fig, ax = plt.subplots()", 'getattr(run, "save")("curve", curve, data="none")'))
    rewrite(book, ("ax.plot(curve.loss)", ""), ("ax.set_yticks([0, 1])", ""))
    run.run(describe(book, "quick", "demo"))
    assert "could not be drawn from its tables; it runs as a whole" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("curve = ", 'run.save("more", curve)\ncurve = ', "must only draw, got a call of run.save"),
        ("plt.show()", "run.claims.record('a', True)", "got a call of run.claims.record"),
        (
            '"figure"]',
            '"figures"]',
            "a tag must be one of .*, got 'figures'; did you mean",
        ),
        ('"hide-input", "figure"]', '"hide-input", figure]', "tags must be a list of texts"),
        ("ax.plot(curve.loss)", "%matplotlib inline", "must be plain Python"),
    ],
)
def test_a_figure_cell_that_does_more_is_refused_before_anything_runs(old, new, message, book):
    source = rewrite(book, (old, new))
    with pytest.raises(ValueError, match=message) as caught:
        cells.check(source)
    assert str(caught.value).startswith("demo.py:")
    with pytest.raises(ValueError, match=message):
        describe(book, "quick", "demo")


def test_what_a_figure_leaves_behind_must_not_be_computed_with(book):
    source = book / "notebooks" / "demo.py"
    text = source.read_text()
    source.write_text(text + "\n# %%\nrun.save('more', curve)\n")
    with pytest.raises(ValueError, match="must leave nothing that is computed with, got 'curve'"):
        cells.check(source)
    source.write_text(text + "\n# %%\nfor curve in range(3):\n    print(curve)\n")  # its own
    cells.check(source)
    source.write_text(text + '\n# %% tags=["figure"]\nax.plot(curve)\n')  # another figure may
    cells.check(source)


def test_a_figure_that_uses_what_is_computed_takes_the_whole_notebook(book):
    source = rewrite(book, ("ax.plot(curve.loss)", "ax.plot([slope])"))
    assert cells.to_draw(cells.read(source)) is None
    source = rewrite(book, ("ax.plot([slope])", "ax.plot([x for x in curve.loss])"))
    assert cells.to_draw(cells.read(source)) == [True, True, True, False, True]


def test_the_sources_keep_these_rules():
    tagged = 0
    for source in places.sources(places.root()).values():
        cells.check(source)
        tagged += sum(cells.FIGURE in cell.tags for cell in cells.read(source))
    assert tagged > 50


@pytest.mark.parametrize(
    "line",
    [
        "from ddlib import data; data.load('iris')",
        "from ddlib.data import load",
        "import ddlib.data",
        "from sklearn.datasets import load_iris",
        "from sklearn import datasets",
        "import sklearn.datasets as toys",
        "import ddlib; ddlib.data.load('iris')",
    ],
)
def test_data_comes_from_the_run_alone(book, line):
    """Whatever else gives data leaves no note of what a table rests on."""
    source = book / "notebooks" / "demo.py"
    source.write_text(f"{source.read_text()}\n# %%\n{line}\n")
    with pytest.raises(ValueError, match=r"demo\.py:\d+: data must come from run\.data, got "):
        describe(book, "quick", "demo")


def test_cells_are_read_as_jupytext_reads_them():
    import jupytext

    for source in places.sources(places.root()).values():
        ours = [cell for cell in cells.read(source) if cell.text.strip()]
        theirs = [c for c in jupytext.read(source).cells if c.cell_type != "raw" and c.source]
        assert [cell.code for cell in ours] == [c.cell_type == "code" for c in theirs]
        for one, other in zip(ours, theirs, strict=True):
            if one.code:
                assert cells.same(one.text, other.source)
                assert list(one.tags) == list(other.metadata.get("tags", []))


def test_a_page_of_other_code_is_not_shown(book):
    made = finish(book)
    text = (book / "notebooks" / "demo.py").read_text()
    nbformat.write(pages._read_source(text), made.notebook)
    assert pages.usable_run(made, text, "demo", "quick").cells
    for old, new in [COMPUTING["a constant"], FIGURES["a tick"]]:
        with pytest.raises(pages.Unusable, match="not of the source as it is now"):
            pages.usable_run(made, text.replace(old, new), "demo", "quick")
    assert json.loads(made.record.read_text())["key"]["code"]
