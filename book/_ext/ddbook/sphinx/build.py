"""One ledger a build: loaded when it begins, followed by the pages that show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sphinx.errors import ExtensionError
from sphinx.util import logging

from ddbook.sphinx.findings import Ledger, load_ledger

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

LOGGER = logging.getLogger(__name__)

METADATA_KEY = "ddbook-ledger"  # marks pages that show the ledger, so that they follow it
_LEDGERS: WeakKeyDictionary[Sphinx, Ledger] = WeakKeyDictionary()


def setup(app: Sphinx) -> None:
    """Register the events that load and check the ledger."""
    app.add_config_value("ddbook_claims", "book/claims.yml", "env", [str])
    app.connect("builder-inited", _load)
    app.connect("env-get-outdated", _pages_to_follow)


def of_page(env: BuildEnvironment) -> Ledger:
    """Return this build's ledger, and mark the page that is read as one that follows it."""
    env.metadata[env.docname][METADATA_KEY] = True
    return _LEDGERS[env.app]


def _load(app: Sphinx) -> None:
    config = app.config
    try:
        ledger = load_ledger(Path(app.srcdir), config.ddbook_profile, config.ddbook_claims)
    except ValueError as error:
        raise ExtensionError(f"the claims ledger cannot be read: {error}") from error
    for sentence in ledger.complaints():
        LOGGER.warning("%s", sentence, type="ddbook", subtype="claim")
    _LEDGERS[app] = ledger


def _pages_to_follow(
    app: Sphinx, env: BuildEnvironment, _added: set[str], _changed: set[str], _removed: set[str]
) -> list[str]:
    """Return the pages that show the ledger when it is not what they were written from."""
    new = _LEDGERS[app].fingerprint
    old = getattr(env, "ddbook_fingerprint", None)
    env.ddbook_fingerprint = new  # type: ignore[attr-defined]
    if old == new:
        return []
    return [name for name in env.found_docs if METADATA_KEY in env.metadata.get(name, {})]
