"""Publishing, building the HTML, and make."""

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from books_for_tests import (
    ROOT,
    finish,
    make,
    stamps,
)
from ddbook import page
from ddbook.runner import (
    build,
    files,
    keys,
    lock,
    places,
    publish,
)
from ddbook.runner.job import describe


def test_only_a_current_small_run_on_real_data_is_published(book, monkeypatch):
    with pytest.raises(
        ValueError, match=r"no finished run; `make run NB=demo PROFILE=standard` first"
    ):
        publish.publish(describe(book, "standard", "demo"))
    made = finish(book, profile="standard")
    frame = pd.DataFrame({"x": [1]})
    small = page.open("demo", "quick")
    small.save("curve", frame, data=small.data("mnist"))
    shutil.copy(book / "runs" / "quick" / "demo" / "curve.parquet", made.folder)
    finish_again(book, made)
    with pytest.raises(ValueError, match=r"curve\.parquet rests on stand-in data"):
        publish.publish(describe(book, "standard", "demo"))
    opened = page.open("demo", "standard")
    opened.save("curve", frame, data=opened.data("digits"))
    finish_again(book, made)
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
