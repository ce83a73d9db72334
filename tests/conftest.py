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
