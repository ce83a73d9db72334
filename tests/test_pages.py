"""What the pages' sources say: formulas are whole, commands work, shares read as what they are.

It needs no built book: see `test_book.py` for that.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest
import yaml
from ddbook.runner import command, profiles
from ddbook.runner.job import describe
from ddbook.runner.yaml_text import load_yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[a-z]*.py"))
PAGES = sorted(path.name for path in (ROOT / "book").glob("*.md"))
GUIDES = ["README.md", "book/how_to.md"]


@functools.cache
def prose(name: str) -> str:
    """The Markdown of a page, or of a notebook's text cells."""
    if name in NOTEBOOKS:
        notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py", fmt="py:percent")
        return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return (ROOT / "book" / name).read_text(encoding="utf-8")


# Formulas.


@functools.cache
def parser():
    configuration = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    extensions = configuration["parse"]["myst_enable_extensions"]
    return create_md_parser(MdParserConfig(enable_extensions=set(extensions)), RendererHTML)


def broken(text: str) -> list[str]:
    """The pieces of formulas that Markdown tore: text with a dollar sign that closes nothing."""
    found = []
    for token in parser().parse(text):
        if token.type in ("fence", "colon_fence") and token.info.strip().startswith("{"):
            found += broken(token.content)
        found += [c.content for c in token.children or [] if c.type == "text" and "$" in c.content]
    return found


@pytest.mark.parametrize("name", [*PAGES, *NOTEBOOKS])
def test_no_formula_is_torn(name):
    assert broken(prose(name)) == []


def test_no_formula_of_a_claim_is_torn():
    for claim in yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8")):
        for field in ("statement", "predicate", "note"):
            assert broken(claim.get(field) or "") == [], claim["id"]


@pytest.mark.parametrize(
    "starts", ["+ b$", "- b$", "* b$", "1. b$", "1) b$", "> b$", "# b$", "\n$"]
)
@pytest.mark.parametrize("before", ["A sum $a\n", "- in a list, $a\n  ", ":::{note}\nA sum $a\n"])
def test_a_torn_formula_is_seen(starts, before):
    """As where a line within a formula begins with what Markdown takes for a list."""
    closed = "\n:::\n" if before.startswith(":::") else "\n"
    assert broken(before + starts + closed)
    assert not broken(before + "{} + b$" + closed)


# Commands.


def commands(text: str) -> list[str]:
    """The lines of a text's shell blocks, without comments."""
    blocks = re.findall(r"(?ms)^```(?:sh|bash)\n(.*?)^```", text)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def snippets(text: str) -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```", text)


def of(guide: str) -> str:
    return (ROOT / guide).read_text(encoding="utf-8")


class Refused(Exception):
    """A command that would not do; the message says why."""


def check_make(words: list[str]) -> None:
    """Refuse what make has no target for, variables that it does not read, and settings that
    the notebook has not."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    if unknown := {name for name in variables if f"$({name})" not in text}:
        raise Refused(f"make does not read {unknown}")
    dry = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    if dry.returncode:
        raise Refused(dry.stderr)
    if "NB" in variables:
        profile = ["--profile", variables.get("PROFILE", "quick")]
        check_run([variables["NB"], *profile, *shlex.split(variables.get("ARGS", ""))])


def check_run(words: list[str]) -> None:
    """Refuse what the runner refuses before anything starts."""
    if command.main([*words, "--check"]):
        raise Refused(f"the runner refuses {words}")


def check_snakemake(words: list[str], root: Path) -> None:
    """Refuse what Snakemake cannot plan; its executor is a plugin of the reader's."""
    if "--executor" in words:
        at = words.index("--executor")
        words = words[:at] + words[at + 2 :]
    for path in (
        "Snakefile",
        "requirements.lock",
        "notebooks",
        "profiles",
        "book/figures.mplstyle",
    ):
        source, target = ROOT / path, root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    dry = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), "--dry-run", "--quiet", *words],
        cwd=root, env={**os.environ, "DDBOOK_ROOT": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    if dry.returncode:
        raise Refused(dry.stdout + dry.stderr)


def check(command: str, root: Path) -> None:
    """Raise `Refused` where a reader who types the command would be refused."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = [*words[1:], words[0]] if words[0].startswith("PROFILE=") else words[1:]
    program, rest = Path(words[0]).name, words[1:]
    if program == "make":
        check_make(rest)
    elif program == "snakemake":
        check_snakemake([w for w in rest if not w.startswith("PROFILE=")], root)
    elif program == "python" and rest[:2] == ["-m", "ddbook.runner.command"]:
        check_run(rest[2:])
    elif program == "jupytext":
        describe(ROOT, "quick", Path(words[-1]).stem)
    elif program == "papermill":
        given = load_yaml(rest[rest.index("-y") + 1])
        assert set(given) <= {"profile", "parameters"}
        describe(ROOT, given.get("profile", "quick"), Path(rest[0]).stem, given["parameters"])
    elif program not in ("export", "python", "jupyter") or (
        program == "python" and rest[:3] != ["-m", "pip", "install"]
    ):  # a setting of the shell, and what fetches or serves: nothing of ours to check
        raise Refused(f"nothing here knows how to check {command!r}")


SHOWN = [(guide, command) for guide in GUIDES for command in commands(of(guide))]


@pytest.mark.parametrize(("guide", "command"), SHOWN)
def test_a_command_that_is_shown_is_one_that_works(guide, command, tmp_path, capfd):
    check(command, tmp_path)


def inline_code(text: str) -> list[str]:
    found = []
    for token in parser().parse(text):
        if token.type in ("fence", "colon_fence") and token.info.strip().startswith("{"):
            found += inline_code(token.content)
        found += [c.content for c in token.children or [] if c.type == "code_inline"]
    return found


def inline() -> Iterator[tuple[str, str]]:
    """Commands and settings in the running text: (where, command)."""
    for name in [*PAGES, *NOTEBOOKS]:
        for code in inline_code(prose(name)):
            if code.startswith("-p ") and name in NOTEBOOKS:
                yield name, f"python -m ddbook.runner.command {name} {code}"
            elif code.startswith("make ") and "<" not in code:
                yield name, code
    for guide in GUIDES:
        for code in inline_code(of(guide)):
            if code.startswith("make ") and "<" not in code:
                yield guide, code


@pytest.mark.parametrize(("where", "command"), sorted(set(inline())))
def test_a_command_in_the_text_is_one_that_works(where, command, tmp_path):
    check(command, tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        'make run NB=two_player_games ARGS="-p num_seeds 10"',  # it has no such setting
        "make run NB=two_player_game",
        "make run NB=dirac_gan PROFILE=huge",
        "make run NB=dirac_gan PROFIL=standard",
        "make boook",
        "PROFILE=standard make boook",
        "python -m ddbook.runner.command dirac_gan -p num_steps many",
        "snakemake --config profile=paper -- notebook",
        "pip install ddlib",
    ],
)
def test_a_command_that_fails_is_found(command, tmp_path, capfd):
    with pytest.raises(Refused):
        check(command, tmp_path)


@pytest.mark.parametrize("guide", [*GUIDES, "book/index.md"])
def test_python_that_is_shown_runs(guide):
    for snippet in snippets(of(guide)):
        exec(compile(textwrap.dedent(snippet), guide, "exec"), {})


def test_guides_name_settings_that_there_are():
    """`name: value` of a profile, and the profiles themselves."""
    named = re.findall(r"`(\w+): \w+` in `profiles/(\w+)\.yaml`", prose("how_to.md"))
    assert named
    for setting, profile in named:
        assert any(setting in section for section in profiles.read(ROOT, profile).values())


# Numbers.

SHARE = re.compile(r"share|agreement|exists")


def shares_as_numbers(text: str) -> list[str]:
    """Measured shares that would read as "1 of the 3409 points" where all are meant."""
    roles = re.finditer(r"(\bshare\s+(?:of\s+)?)?\{measured\}`[^`:]+:([^`:]+):?([^`]*)`", text)
    return [
        role.group()
        for role in roles
        if (role[1] or SHARE.search(role[2])) and role[3] != "share" and not role[3].endswith("%")
    ]


@pytest.mark.parametrize("name", [*PAGES, *NOTEBOOKS])
def test_a_share_is_shown_as_one(name):
    assert shares_as_numbers(prose(name)) == []


def test_a_share_shown_as_a_number_is_found():
    assert shares_as_numbers("at {measured}`a:agreement:.4g` of the points")
    assert shares_as_numbers("in a share of\n{measured}`a:pf:.2f` of them")
    assert shares_as_numbers("{measured}`a:share_of_pairs`")
    assert not shares_as_numbers("in {measured}`a:share:share` of {measured}`a:cases` cases")
    assert not shares_as_numbers("{measured}`a:share:.0%`")
