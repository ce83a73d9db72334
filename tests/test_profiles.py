"""Profiles: settings, what one may change of them, and the YAML that they are written in."""

import json

import pytest
from books_for_tests import (
    ROOT,
    SECTION,
)
from ddbook.runner import (
    places,
    profiles,
    yaml_text,
)
from ddbook.runner.job import describe
from ddbook.runner.places import PROFILES


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"num_seed": 2},
            "of demo, a name must be one of num_seeds, rates, mode, got 'num_seed'; did",
        ),
        ({"num_seeds": 0}, "num_seeds must be a positive number such as 3, got 0"),
        ({"num_seeds": 2.0}, "num_seeds must be an integer such as 3, got 2.0"),
        ({"num_seeds": True}, "num_seeds must be an integer such as 3, got True"),
        ({"num_seeds": "3"}, "num_seeds must be an integer such as 3, got '3'"),
        ({"rates": 0.1}, "rates must be a list such as [0.1, 0.2], got 0.1"),
        ({"rates": []}, "rates must be a list such as [0.1, 0.2], got []"),
        ({"rates": [0.1, -0.1]}, "rates[1] must be a positive number such as 0.1, got -0.1"),
        ({"rates": [0.1, float("nan")]}, "rates[1] must be a finite number such as 0.1, got nan"),
        ({"rates": [float("inf")]}, "rates[0] must be a finite number such as 0.1, got inf"),
        ({"rates": ["0.1"]}, "rates[0] must be a number such as 0.1, got '0.1'"),
        ({"mode": 3}, "mode must be text such as 'go', got 3"),
        ({"mode": None}, "mode must be such as 'go', got None"),
    ],
)
def test_a_bad_parameter_is_named_with_what_would_do(overrides, message, book):
    with pytest.raises(ValueError) as caught:
        profiles.settings("demo", "quick", overrides, book)
    assert str(caught.value).startswith(f"parameter: {message}")


def test_good_overrides_take_the_profile_s_kind(book):
    given = {"rates": (1, 0.5)}
    settings, variation = profiles.settings("demo", "quick", given, book)
    assert settings == {"num_seeds": 3, "rates": [1.0, 0.5], "mode": "go"}
    assert all(isinstance(rate, float) for rate in settings["rates"])
    assert variation == {"rates": [1.0, 0.5]}
    assert profiles.settings("demo", "quick", {"rates": [0.1, 0.2]}, book)[1] == {}


def test_a_value_that_is_not_positive_lets_others_be_so(book):
    content = {"demo": {**SECTION, "strength": 0.0, "signs": [-1.0, 1.0]}, "reader": SECTION}
    (book / "profiles" / "quick.yaml").write_text(json.dumps(content))
    given = {"strength": -2, "signs": [-3]}
    assert profiles.settings("demo", "quick", given, book)[1] == {"strength": -2.0, "signs": [-3.0]}


@pytest.fixture
def seeded(book):
    """The book, its `demo` with seeds and a list that the profile leaves empty."""
    section = {**SECTION, "seed": 3, "seeds": [2, 3], "first_seed": 1, "extra": []}
    content = json.dumps({"demo": section, "reader": SECTION})
    (book / "profiles" / "quick.yaml").write_text(content)
    return book


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 0},
        {"seeds": [0, 1]},
        {"first_seed": 0},
        {"seeds": [2**32 - 1]},
        {"extra": [0, "a"]},
    ],
)
def test_a_seed_may_be_zero(given, seeded):
    assert profiles.settings("demo", "quick", given, seeded)[1] == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed must be seeds from 0 to 2**32 - 1, got -1"),
        ({"seeds": [0, -1]}, "seeds must be seeds from 0 to 2**32 - 1, got -1"),
        ({"first_seed": 2**32}, "first_seed must be seeds from 0 to 2**32 - 1, got 4294967296"),
        ({"seeds": [1, 2, 1]}, "seeds must be distinct seeds, got [1, 2, 1]"),
        ({"seeds": [0.0]}, "seeds[0] must be an integer such as 2, got 0.0"),
        ({"num_seeds": 0}, "num_seeds must be a positive number"),  # a number of seeds is no seed
        ({"seed": 10**400}, "seed must be an integer of at most 64 bits such as 3, got 1000"),
        (
            {"rates": [10**400]},
            "rates[0] must be an integer of at most 64 bits such as 0.1, got 1000",
        ),
        ({"extra": [float("nan")]}, "extra must be a finite number, got nan"),
        ({"extra": [{}]}, "extra must be a number, boolean, text or a list of these, got {}"),
        ({"mode": object}, "mode: a type cannot be recorded"),
    ],
)
def test_a_seed_is_none_that_a_generator_would_change(given, message, seeded):
    """JAX takes 2**32 for 0: the same run twice, counted as two."""
    with pytest.raises(ValueError) as caught:
        profiles.settings("demo", "quick", given, seeded)
    assert str(caught.value).startswith(f"parameter: {message}")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "profile", "message"),
    [
        ("demp", "quick", "notebook must be one of demo, reader, got 'demp'; did you mean 'demo'?"),
        (
            "demo",
            "quik",
            "profile must be one of quick, standard, paper, got 'quik'; did you mean 'quick'?",
        ),
        ("../demo", "quick", "notebook must be one of demo, reader, got '../demo'"),
    ],
)
def test_an_unknown_notebook_or_profile_is_named(name, profile, message, book):
    with pytest.raises(ValueError) as caught:
        profiles.settings(name, profile, {}, book)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("demo: [1]", "demo must be settings (possibly {}), got [1]"),
        ("demo: {h: .inf}", "demo: h must be a finite number, got inf"),
        ("demo: {profile: quick}", "'profile' cannot name a setting"),
        (
            "demo: {h: {a: 1}}",
            "demo: h must be a number, boolean, text or a list of these, got {'a': 1}",
        ),
        ("demo: {h: ", "not YAML"),
        ("demo: {h: 1, h: 2}", "'h' stands twice"),
        ("demo: {h: 1}\ndemo: {h: 2}", "'demo' stands twice"),
        ("demo: {h: no}", "demo: h must be true, false or another word, got no"),
        ("demo: {h: [On]}", "demo: h must be true, false or another word, got On"),
        ("demo: {seeds: [2, 2]}", "demo: seeds must be distinct seeds, got [2, 2]"),
        ("demo: {seed: -1}", "demo: seed must be seeds from 0 to 2**32 - 1, got -1"),
    ],
)
def test_a_bad_profile_is_named(content, message, book):
    (book / "profiles" / "quick.yaml").write_text(content)
    with pytest.raises(ValueError) as caught:
        profiles.read(book, "quick")
    assert "quick.yaml: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.1e-2", ".1e-2", "1.e-3"])
def test_exponents_are_numbers(text):
    assert yaml_text.load_yaml(f"h: {text}") == {"h": 0.001}


@pytest.mark.parametrize(
    "text",
    "1e-3x e3 v1e 1:30 190:20:30.5 0x10 0o17 0b11 2024-01-01 1__0 _1 1_ yes no On OFF 1,000 1.2.3"
    " << = inf nan".split(),
)
def test_what_means_no_number_and_no_boolean_to_everybody_is_text(text):
    assert yaml_text.load_yaml(f"h: {text}") == {"h": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("007", 7),
        ("010", 10),
        ("-012", -12),
        ("018", 18),
        ("0", 0),
        ("1_000", 1000),
        ("00.5", 0.5),
        ("1.", 1.0),
        ("true", True),
        ("False", False),
        ("~", None),
    ],
)
def test_numbers_are_decimal_whatever_yaml_s_versions_say(text, value):
    read = yaml_text.load_yaml(f"[{text}]")[0]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: 1, b: 2, a: 3}", "'a' stands twice (line 1, column 14)"),
        ("a: {b: 1, b: 1}", "'b' stands twice"),
        ("[&a 1, *a]", "no *alias here"),
        ("&a [*a]", "no *alias here"),
        ("!!python/name:os.system x", "could not determine a constructor"),
        ("!!timestamp x", "could not determine a constructor"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("[" * 5000, ""),
        ("9" * 5000, "4300"),
    ],
)
def test_yaml_that_would_be_misread_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError) as caught:
        yaml_text.load_yaml(text)
    said = str(caught.value)
    assert said.startswith("not YAML: ") and message in said and "\n" not in said


NOTEBOOKS = sorted(places.sources(ROOT))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_stands_in_every_profile_with_the_same_settings(name):
    sections = {profile: profiles.read(ROOT, profile)[name] for profile in PROFILES}
    quick = sections["quick"]
    for profile, section in sections.items():
        assert list(section) == list(quick), profile
        describe(ROOT, profile, name, section)
        # each profile's values would do as overrides of quick: the kinds agree
        profiles.settings(name, "quick", section, ROOT)
