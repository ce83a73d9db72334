"""A run rests on what its code reaches, and on nothing else that stands in the same files."""

import textwrap
from pathlib import Path

import pytest
from ddbook.runner.reach import Packages

ROOT = Path(__file__).parents[1]

ROOMS = {
    "__init__": '"""A package."""',
    "_check": """
        LIMIT = 3
        def check(x):
            return x < LIMIT
        """,
    "rules": """
        import jax
        from demo._check import check

        TABLE = {}

        def rule(name):
            def keep(f):
                TABLE[name] = f
                return f
            return keep

        @rule("sin")
        def _sin(x: float) -> float:
            '''What it does.'''
            return check(x)

        @jax.jit
        def pure(x):
            return x

        def apply(name, x):
            return TABLE[name](x)
        """,
    "shapes/__init__": "from demo.shapes.round import circle as circle",
    "shapes/round": """
        from .. import _check
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from demo.rules import pure

        class Base:
            def area(self):
                return _check.LIMIT

        class Circle(Base):
            pass

        def circle():
            return Circle()

        def square(r: "pure"):
            from demo.rules import pure
            return pure(r)
        """,
    "stars": "from demo._check import *\ndef idle():\n    return 1",
}


@pytest.fixture
def demo(tmp_path):
    for name, text in ROOMS.items():
        path = tmp_path / "demo" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).strip() + "\n")
    return tmp_path / "demo"


def reached(folder, code, *without):
    return Packages({"demo": folder}, without).reached(code)


RULES = "demo.rules"
ENTERED = {  # what comes with the module: the rule that its decorator enters, and what that needs
    *(f"{RULES}.(on import)", f"{RULES}.rule", f"{RULES}.TABLE"),
    *("demo._check.check", "demo._check.LIMIT"),
}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from demo import _check\n_check.LIMIT", {"demo._check.LIMIT"}),
        ("import demo._check as c\nc.check(2)", {"demo._check.check", "demo._check.LIMIT"}),
        ("import demo._check\ndemo._check.LIMIT", {"demo._check.LIMIT"}),
        ("from demo.rules import pure\npure(1)", {f"{RULES}.pure", *ENTERED}),
        ("from demo.rules import apply\nlambda: apply", {f"{RULES}.apply", *ENTERED}),
        (
            "from demo import shapes\nshapes.circle().area()",
            {"circle", "Circle", "Base"},
        ),
        ("from demo.shapes.round import square\nsquare(1)", {f"{RULES}.pure", *ENTERED, "square"}),
        ("from demo import stars\nstars.check(1)", {"demo._check.check", "demo._check.LIMIT"}),
        ("import demo.stars as stars\nuse(stars)", {"demo.stars.idle"}),
        ("import numpy as np\nnp.zeros(3)", set()),
        ("from demo import _check\n'_check.LIMIT'", set()),
    ],
)
def test_what_is_named_is_reached_and_no_more(code, names, demo):
    wanted = {n if "." in n else f"demo.shapes.round.{n}" for n in names}
    if {"circle"} & names:
        wanted |= {"demo._check.LIMIT"}
    assert set(reached(demo, code)) == wanted


def test_a_module_left_out_is_not_followed(demo):
    code = "from demo import rules, _check\nrules.apply('sin', 1)\n_check.LIMIT"
    assert set(reached(demo, code, "demo.rules")) == {"demo._check.LIMIT"}


def test_what_is_no_python_may_reach_anything(demo):
    found = reached(demo, "%timeit f(1)")
    assert {"demo.rules.pure", "demo.stars.idle", "demo.shapes.round.Circle"} <= set(found)


@pytest.mark.parametrize(
    ("room", "old", "new", "changes"),
    [
        ("_check", "LIMIT = 3", "LIMIT = 4", True),
        ("_check", "x < LIMIT", "x <= LIMIT", True),
        ("rules", "return check(x)", "return not check(x)", True),  # in the table, named nowhere
        ("rules", "return x\n", "return 2 * x\n", False),
        ("rules", "'''What it does.'''", "'''What it does, said better.'''", False),
        ("rules", "_sin(x: float) -> float", "_sin(x: int) -> int", False),
        ("rules", "TABLE = {}", "TABLE = {}  # by name", False),
        ("rules", "def apply", "def more(x):\n    return x\n\ndef apply", False),
        ("rules", "def apply", "TABLE['cos'] = pure\n\ndef apply", True),
        ("stars", "return 1", "return 2", False),
    ],
)
def test_what_computes_changes_a_digest_and_words_do_not(room, old, new, changes, demo):
    code = "from demo.rules import apply\napply('sin', 1)"
    before = reached(demo, code)
    path = demo / f"{room}.py"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    assert (reached(demo, code) != before) == changes


def test_a_taylor_rule_is_reached_from_a_notebook_that_expands_a_step():
    """Rules are entered in tables: no text names them."""
    packages = Packages({"ddlib": ROOT / "ddlib"})
    found = packages.reached("from ddlib import drift\ndrift.modified_terms")
    names = {name.rpartition(".")[2] for name in found}
    assert {"modified_terms", "coefficients", "_tanh", "_scan"} <= names
    assert not {"follow", "top_eigenpairs", "train"} & names
