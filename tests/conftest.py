"""Identities and convergence orders are tested in float64."""

import sys

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Hundreds of compiled programs kept alive exhaust a process's memory maps."""
    yield
    jax.clear_caches()
    if "matplotlib" in sys.modules:  # a page sets the book's style for its whole process
        sys.modules["matplotlib"].rcdefaults()


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of its own for one test; this process's `page.open` works in it, without MNIST."""
    from books_for_tests import make_book

    monkeypatch.setenv("DDBOOK_ROOT", str(tmp_path / "repo"))
    for name in ("DDBOOK_FOLDER", "DDBOOK_NAME", "DDBOOK_LOG_FD", "DDLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DDLIB_OFFLINE", "1")
    monkeypatch.setattr("ddlib.data.files.cache", lambda name: tmp_path / "cache" / name)
    return make_book(tmp_path / "repo")
