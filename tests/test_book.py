"""The built book at `_build/html`: links, images, downloads, and pages in a browser, offline.

`make book` builds it. Where it is missing these tests are skipped, unless `DDLIB_REQUIRE_BOOK=1`
makes that a failure; likewise `DDLIB_REQUIRE_BROWSER=1` for the browser.
"""

import functools
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from ddbook.page import claims
from ddbook.runner import files, tables

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[a-z]*.py"))
BUILT = (HTML / "index.html").is_file()
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in (HTML.rglob("*.html") if BUILT else [])
    if path.relative_to(HTML).parts[0] != "_static"  # templates of the theme lie there
)
REDIRECT = "index.html"  # leads to the first page, and is gone before one could look at it
REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)


def missing(what: str, variable: str) -> None:
    if os.environ.get(variable) == "1":
        pytest.fail(f"{what}, and {variable}=1 asks for it")
    pytest.skip(f"{what}; {variable}=1 makes this a failure")


@pytest.fixture(scope="module", autouse=True)
def _book():
    if not BUILT:
        missing("no book at _build/html: `make book` builds it", "DDLIB_REQUIRE_BOOK")


@functools.cache
def soup(page: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / page).read_text("utf-8"), "html.parser")


@functools.cache
def anchors(page: str) -> frozenset[str]:
    tags = soup(page).find_all(True)
    return frozenset(tag.get(name) for tag in tags for name in ("id", "name") if tag.get(name))


def every_page(test):
    # Without a book there is one page that is never read: the fixture above skips or fails first.
    return pytest.mark.parametrize("page", PAGES or [REDIRECT])(test)


def every_page_to_look_at(test):
    pages = [page for page in PAGES if page != REDIRECT]
    return pytest.mark.parametrize("page", pages or [REDIRECT])(test)


def test_every_notebook_is_a_page():
    assert {f"notebooks/{name}.html" for name in NOTEBOOKS} == {
        page for page in PAGES if page.startswith("notebooks/")
    }


@every_page
def test_internal_links_lead_somewhere(page):
    broken = []
    for tag in soup(page).find_all(True):
        for attribute in ("href", "src"):
            url = tag.get(attribute)
            if url is None or REMOTE.match(url) or urlsplit(url).scheme:
                continue
            path, fragment = unquote(urlsplit(url).path), unquote(urlsplit(url).fragment)
            target = (HTML / page).parent / path if path else HTML / page
            if not target.exists() or HTML not in [target.resolve(), *target.resolve().parents]:
                broken.append(url)
            elif fragment and target.suffix == ".html":
                found = target.resolve().relative_to(HTML).as_posix()
                if fragment not in anchors(found):
                    broken.append(url)
    assert not broken


@every_page
def test_nothing_is_fetched_from_another_host(page):
    fetched = []
    for tag in soup(page).find_all(
        ["script", "img", "iframe", "source", "video", "audio", "embed"]
    ):
        fetched += [tag.get("src") or "", *(tag.get("srcset") or "").split(",")]
    links = soup(page).find_all("link")
    fetched += [tag.get("href") or "" for tag in links if _is_fetched(tag.get("rel") or [])]
    styles = [tag.get("style") or "" for tag in soup(page).find_all(style=True)]
    styles += [tag.text for tag in soup(page).find_all("style")]
    fetched += [url for style in styles for url in _urls(style)]
    assert not [url for url in fetched if REMOTE.match(url)]


def _is_fetched(rel: list[str]) -> bool:
    return bool({"stylesheet", "preload", "prefetch", "modulepreload", "icon", "manifest"} & {*rel})


def _urls(css: str) -> list[str]:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    imports = re.findall(r"""@import\s+["']([^"']+)""", css)
    return imports + re.findall(r"""url\(\s*["']?([^"')]+)""", css)


def test_style_sheets_fetch_nothing_from_another_host():
    for sheet in HTML.rglob("*.css"):
        remote = [url for url in _urls(sheet.read_text("utf-8")) if REMOTE.match(url)]
        assert not remote, sheet.name


@every_page
def test_images_are_there_and_described(page):
    for image in soup(page).find_all("img"):
        if not image["src"].startswith("data:"):
            assert ((HTML / page).parent / unquote(urlsplit(image["src"]).path)).is_file()
        alt = (image.get("alt") or "").strip()
        assert alt, f"{image['src']} has no alt text"
        assert not re.search(r"[/\\]|\.(png|svg|jpe?g|gif)$", alt), f"a path as alt text: {alt}"


@every_page
def test_no_error_output(page):
    assert not soup(page).select(".output.traceback, .output.stderr, .system-message")
    text = soup(page).text
    assert "Traceback (most recent call last)" not in text
    assert "This page has nothing to show" not in text


@every_page
def test_no_path_of_this_machine(page):
    assert str(ROOT) not in (HTML / page).read_text("utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_pages_offer_what_was_run(name):
    page = f"notebooks/{name}.html"
    hrefs = [tag["href"] for tag in soup(page).find_all("a", href=True)]
    for suffix in ("ipynb", "py"):
        assert f"../_sources/notebooks/{name}.{suffix}" in hrefs
    notebook = nbformat.read(HTML / f"_sources/notebooks/{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert (HTML / f"_sources/notebooks/{name}.py").read_bytes() == (
        ROOT / f"notebooks/{name}.py"
    ).read_bytes()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_pages_show_where_their_numbers_come_from(name):
    cards = soup(f"notebooks/{name}.html").select(".ddbook-card")
    assert cards
    links = [a["href"] for card in cards for a in card.select("a[href$='.parquet']")]
    assert links
    for href in links:
        path = (HTML / "notebooks" / href).resolve()
        frame, provenance = tables.read_table(path)
        assert provenance.commit
        assert len(pd.read_csv(path.with_suffix(".csv"))) == len(frame)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_edit_links_lead_to_the_tracked_source(name):
    hrefs = [tag["href"] for tag in soup(f"notebooks/{name}.html").find_all("a", href=True)]
    assert any(href.endswith(f"/edit/main/notebooks/{name}.py") for href in hrefs)


def test_every_claim_is_on_the_ledger():
    stated = claims.load(ROOT / "book" / "claims.yml")
    shown = [tag.text for tag in soup("book/claims.html").select(".ddbook-claim-id")]
    assert sorted(shown) == sorted(stated)


def test_a_verdict_is_on_record_once_a_published_run_has_judged_the_claim():
    """And not before: what only the quick profile judges is judged by each build."""
    stated = claims.load(ROOT / "book" / "claims.yml")
    published = sorted((ROOT / "results").glob("*/claims.json"))
    records = [r for path in published for r in claims.read_records(files.read_json(path))]
    for claim in stated.values():
        verdict = claims.judge(claim, records)
        if claim.profile != "quick" or verdict.record is not None:
            assert claim.verdict == verdict.status, claim.id
        if claim.earlier is not None:
            assert claims.judge_earlier(claim, records).status == claim.earlier.verdict, claim.id


def test_mathjax_is_one_file():
    files = [path.name for path in (HTML / "_static" / "mathjax").rglob("*") if path.is_file()]
    assert files == ["tex-svg-full.js"]


# In a browser, from disk, with the network cut.

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, NARROW = 1280, 400
# Boxes that hold the page: what is wider than its box there scrolls the page sideways.
OVERFLOW = """() => ["html", "body", "main", "article"].filter(name => {
  const box = document.querySelector(name);
  return box && box.scrollWidth > Math.max(box.clientWidth, 1) + 1;
})"""
READY = """() => window.MathJax && MathJax.startup
  ? MathJax.startup.promise.then(() => true) : true"""

# Of each element: its class, its colour, and the colour of the first ground that is not clear.
COLOURS = """selector => [...document.querySelectorAll(selector)].map(element => {
  const style = box => getComputedStyle(box);
  let ground = element;
  while (style(ground).backgroundColor === "rgba(0, 0, 0, 0)" && ground.parentElement)
    ground = ground.parentElement;
  return [element.className, style(element).color, style(ground).backgroundColor];
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        missing("no Chromium on this machine", "DDLIB_REQUIRE_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=executable,
            headless=True,
            args=FLAGS,
        )
        yield context
        context.close()


@pytest.fixture
def visit(browser):
    """Open a page of the book; its requests to other hosts, and its errors, are on record."""
    tab = browser.new_page()
    tab.asked, tab.errors = [], []

    def refuse(route):
        tab.asked.append(route.request.url)
        route.abort()

    tab.route(re.compile(r"^(?!file:|data:|blob:)"), refuse)
    tab.on("console", lambda message: message.type == "error" and tab.errors.append(message.text))
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))

    def open_page(page, width=WIDE, scheme="light"):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        tab.goto((HTML / page).as_uri(), wait_until="load")
        tab.evaluate(READY)
        return tab

    yield open_page
    tab.close()


@every_page_to_look_at
def test_page_is_whole_offline(page, visit):
    tab = visit(page)
    assert tab.asked == []
    assert tab.errors == []
    images = tab.evaluate("[...document.images].filter(i => i.naturalWidth === 0).map(i => i.src)")
    assert images == []
    written = len(soup(page).select("span.math, div.math"))
    drawn = tab.evaluate("document.querySelectorAll('mjx-container svg').length")
    assert drawn >= written
    faults = "document.querySelectorAll('mjx-merror, [data-mml-node=merror]').length"
    assert tab.evaluate(faults) == 0


@every_page_to_look_at
def test_page_fits_a_narrow_window(page, visit):
    assert visit(page, width=NARROW).evaluate(OVERFLOW) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme, visit):
    """The colours of the ledger meet WCAG's contrast for text (4.5) in both schemes."""
    tab = visit("book/claims.html", scheme=scheme)
    pairs = tab.evaluate(COLOURS, ".ddbook-verdict, .ddbook-claim p, .ddbook-claim dt")
    assert pairs
    for name, text, ground in pairs:
        lighter, darker = sorted((_luminance(text), _luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, text, ground)


def _luminance(colour: str) -> float:
    channels = [float(number) / 255 for number in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_front_door_leads_to_the_first_page(visit):
    tab = visit("book/index.html")
    tab.goto((HTML / REDIRECT).as_uri())
    tab.wait_for_url("**/book/index.html")


def test_search_works_from_disk(visit):
    tab = visit("search.html")
    tab.goto((HTML / "search.html").as_uri() + "?q=drift", wait_until="load")
    tab.wait_for_selector("#search-results li", timeout=10_000)
    assert tab.asked == []
