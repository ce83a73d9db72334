"""What `make check` picks."""

from pathlib import Path

import pytest
from ddbook.runner import (
    check,
)


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
