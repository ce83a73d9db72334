"""Who may judge a claim, and what a ledger refuses."""

import dataclasses
import math
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from ddbook.page import claims

ROOT = Path(__file__).parents[1]
ENTRY = {
    "id": "dd-4",
    "paper": "DD",
    "place": "Figure 4",
    "statement": "…",
    "predicate": "…",
    "profile": "standard",
    "dataset": "mnist",
    "verdict": "reproduced",
}
MNIST = {"name": "mnist", "checksum": "00", "stand_in": False}
DIGITS = {"name": "digits", "checksum": "11", "stand_in": True}


def claim(**changes):
    return claims.parse([{**ENTRY, **changes}])["dd-4"]


def record(profile="standard", holds=True, dataset=MNIST, created="2026-01-01", id="dd-4"):
    return claims.Record(id, holds, {"x": 1.0}, profile, dataset, "demo", created)


def test_the_book_s_claims_are_valid():
    claims.load(ROOT / "book" / "claims.yml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"verdit": "reproduced"},
            r"claim 1 \(dd-4\): unknown field 'verdit' \(did you mean 'verdict",
        ),
        ({"profile": "standart"}, "profile 'standart' .did you mean 'standard'.*paper would do"),
        ({"paper": "XX"}, "DD, PF, ours would do"),
        ({"verdict": "yes"}, "reproduced, deviates, not settled would do"),
        ({"verdict": "holds"}, "reproduced, deviates, not settled would do"),
        ({"paper": "ours"}, "holds, does not hold, not settled would do"),
        ({"id": "erratum-4"}, "confirmed, not confirmed, not settled would do"),
        ({"verdict": "not settled"}, "settles must say what would settle .* got None"),
        ({"settles": "more"}, "only there, got 'more' with the verdict 'reproduced'"),
        ({"earlier": "deviates"}, "earlier must have verdict and predicate, got 'deviates'"),
        ({"earlier": {"verdict": "deviates"}}, "earlier must have verdict and predicate, got"),
        (
            {"earlier": {"verdict": "fails", "predicate": "p"}},
            "verdict 'fails'; one of reproduced, deviates, not settled would do",
        ),
        ({"statement": ""}, "lacks statement"),
        ({"statement": 3}, "statement must be text, not 3"),
        ({"dataset": []}, "dataset must be text"),
        ({"dataset": [1]}, "dataset must be text"),
    ],
)
def test_a_bad_entry_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        claims.parse([{**ENTRY, **changes}])


def test_a_missing_field_a_double_id_and_a_wrong_shape_are_named(tmp_path):
    without = {key: value for key, value in ENTRY.items() if key != "predicate"}
    with pytest.raises(ValueError, match="lacks predicate"):
        claims.parse([without])
    with pytest.raises(ValueError, match=r"claim 2 \(dd-4\): the id stands twice"):
        claims.parse([ENTRY, ENTRY])
    with pytest.raises(ValueError, match="a list of claims is wanted"):
        claims.parse({"dd-4": ENTRY})
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([ENTRY]) + "]")
    with pytest.raises(ValueError, match=r"claims\.yml is not YAML"):
        claims.load(path)


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([], "the standard profile"),
        ([record("quick")], "the standard profile"),
        ([record(id="another")], "the standard profile"),
        ([record(dataset=DIGITS)], "mnist data"),
        ([record(dataset=None)], "mnist data"),
        ([record(dataset={**MNIST, "stand_in": True})], "mnist data"),
        ([record(dataset={"name": "mnist"})], "mnist data"),
        ([record(dataset="none")], "mnist data"),
        ([record(dataset=[DIGITS, MNIST])], "mnist data"),
        ([record(holds=None)], "not settled"),
        ([record(dataset=[{**DIGITS, "stand_in": False}, MNIST])], "reproduced"),
        ([record()], "reproduced"),
        ([record(holds=False)], "deviates"),
        ([record("paper", holds=False)], "deviates"),
    ],
)
def test_only_a_large_enough_run_on_real_data_judges(records, status):
    verdict = claims.judge(claim(), records)
    if verdict.record is None:
        assert (verdict.status, verdict.waits) == ("not settled", status)
    else:
        assert (verdict.status, verdict.waits) == (status, "")


@pytest.mark.parametrize("reverse", [False, True])
def test_the_largest_profile_decides_then_the_newest_run(reverse):
    old, new = record(created="2026-01-01"), record(created="2026-02-01", holds=False)
    paper = record("paper", created="2025-01-01")
    for records, decides in (([old, new], new), ([old, new, paper], paper)):
        ordered = records[::-1] if reverse else records
        assert claims.judge(claim(), ordered).record is decides


def test_each_kind_of_claim_has_its_words():
    words = {
        "dd-4": ("reproduced", "deviates"),
        "ours-4": ("holds", "does not hold"),
        "erratum-4": ("confirmed", "not confirmed"),
    }
    for name, two in words.items():
        paper = "ours" if name == "ours-4" else "DD"
        [one] = claims.parse([{**ENTRY, "id": name, "paper": paper, "verdict": two[0]}]).values()
        for holds, word in zip((True, False, None), (*two, "not settled"), strict=True):
            assert claims.judge(one, [record(holds=holds, id=name)]).status == word


def test_runs_that_were_looked_at_judge_by_the_earlier_predicate_alone():
    again = claim(
        judged_by="fresh",
        verdict="not settled",
        settles="eight seeds",
        earlier={"verdict": "deviates", "predicate": "a sign test"},
    )
    old = record(holds=False, created="2026-03-01")
    assert claims.judge(again, [old]) == ("not settled", None, "the standard profile")
    assert claims.judge_earlier(again, [old]).status == "deviates"
    new = dataclasses.replace(record(), notebook="fresh")
    assert claims.judge(again, [old, new]).record is new
    assert claims.judge_earlier(again, [old, new]).record is old


def test_any_of_several_datasets_will_do():
    either = claim(dataset=["cifar10", "mnist"])
    assert claims.judge(either, [record()]).status == "reproduced"
    assert claims.judge(either, [record(dataset=DIGITS)]).waits == "cifar10 or mnist data"


def test_a_claim_without_data_may_be_judged_on_any():
    assert claims.judge(claim(dataset=None), [record(dataset=DIGITS)]).status == "reproduced"


def ledger(**options):
    return claims.Ledger({"dd-4": claim()}, notebook="demo", profile="quick", **options)


def test_what_is_measured_becomes_plain():
    measured = {"slope": jnp.float32(2.5), "n": np.int64(3), "stable": np.bool_(True), "at": "end"}
    book = ledger()
    found = book.record("dd-4", jnp.asarray(True), {**measured, "worst": math.inf})
    assert found.holds is True
    assert found.measured == {"slope": 2.5, "n": 3, "stable": True, "at": "end", "worst": math.inf}
    assert [type(value) for value in found.measured.values()] == [float, int, bool, str, float]
    assert claims.read_records(book.as_dict()) == [found]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dd-5", True, {"x": 1}), "no claim 'dd-5' .did you mean 'dd-4'"),
        (("dd-4", 1, {"x": 1}), "True, False or None is wanted"),
        (("dd-4", True, {}), "needs what was measured"),
        (("dd-4", True, 3.0), "needs what was measured"),
        (("dd-4", True, {"x": [1, 2]}), r"has x = \[1, 2\]"),
        (("dd-4", True, {"x": None}), "has x = None"),
    ],
)
def test_a_bad_record_is_refused_and_leaves_no_trace(arguments, message):
    book = ledger()
    with pytest.raises(ValueError, match=message):
        book.record(*arguments)
    assert book.records == []


def test_a_claim_is_recorded_once_unless_by_hand():
    book = ledger()
    book.record("dd-4", True, {"x": 1})
    with pytest.raises(ValueError, match="recorded already"):
        book.record("dd-4", False, {"x": 2})
    again = ledger(replace=True)
    again.record("dd-4", True, {"x": 1})
    again.record("dd-4", False, {"x": 2})
    assert [found.measured for found in again.records] == [{"x": 2}]


def test_each_record_rests_on_the_data_that_it_names_and_is_handed_on():
    seen = []
    book = claims.Ledger(
        {name: dataclasses.replace(claim(), id=name) for name in "abc"},
        notebook="demo",
        profile="quick",
        on_record=lambda own: seen.append(len(own.records)),
        rests_on=lambda data, what: {"mnist": MNIST, "both": [DIGITS, MNIST]}.get(data, "none"),
    )
    for id, data in (("a", "mnist"), ("b", "toy"), ("c", "both")):
        book.record(id, True, {"x": 1}, data=data)
    assert [found.dataset for found in book.records] == [MNIST, "none", [DIGITS, MNIST]]
    assert claims.read_records(book.as_dict()) == book.records
    assert seen == [1, 2, 3]


def test_a_claim_whose_data_will_not_do_leaves_no_trace():
    book = ledger()
    with pytest.raises(ValueError, match=r"data of the claim dd-4 must be .none., .*got 'mnist'"):
        book.record("dd-4", True, {"x": 1}, data="mnist")
    assert book.records == []
    again = ledger(replace=True)
    again.record("dd-4", True, {"x": 1})
    with pytest.raises(ValueError, match="True, False or None is wanted"):
        again.record("dd-4", "yes", {"x": 2})
    assert [found.measured for found in again.records] == [{"x": 1}]


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match=r"profile 'quik' .did you mean 'quick'"):
        claims.Ledger({}, notebook="demo", profile="quik")


def test_a_field_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([ENTRY]) + "  verdict: deviates\n")
    assert path.read_text().count("verdict:") == 2
    with pytest.raises(ValueError, match=r"claims\.yml is not YAML: 'verdict' stands twice \(line"):
        claims.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holds": "no"}, "holds of 'dd-4' must be a bool, got 'no'"),
        ({"holds": 1}, "holds of 'dd-4' must be a bool, got 1"),
        ({"measured": []}, r"measured of 'dd-4' must be a dict, got \[\]"),
        ({"dataset": "mnist"}, "dataset of 'dd-4' must be .none., .*got 'mnist'"),
        ({"dataset": []}, r"dataset of 'dd-4' must be .none., .*got \[\]"),
        ({"dataset": 3}, "dataset of 'dd-4' must be a str, got 3"),
        ({"created": None}, "created of 'dd-4' must be a str, got None"),
        ({"held": True}, "unexpected keyword argument 'held'"),
    ],
)
def test_a_damaged_record_judges_nothing(change, message):
    ledger = claims.Ledger(claims.parse([ENTRY]), notebook="demo", profile="quick")
    ledger.record("dd-4", True, {"x": 1.0})
    content = ledger.as_dict()
    assert claims.read_records(content) == ledger.records
    content["records"][0] |= change
    with pytest.raises(ValueError, match=f"not a claims file of ours: .*{message}"):
        claims.read_records(content)


@pytest.mark.parametrize("content", [None, [], {}, {"records": 3}, {"records": ["x"]}])
def test_what_is_no_claims_file_is_named(content):
    with pytest.raises(ValueError, match=r"x\.json is not a claims file of ours"):
        claims.read_records(content, "x.json")


def test_the_readme_counts_the_verdicts_on_record():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (DD|PF|this book).*?\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text)
    said = {name: tuple(map(int, counts)) for name, *counts in rows}
    stated = claims.load(ROOT / "book" / "claims.yml").values()
    for name, paper in (("DD", "DD"), ("PF", "PF"), ("this book", "ours")):
        verdicts = [c.verdict for c in stated if c.paper == paper]
        counted = (
            sum(v in ("reproduced", "holds") for v in verdicts),
            sum(v in ("deviates", "does not hold", "not confirmed") for v in verdicts),
            verdicts.count("not settled"),
            verdicts.count("confirmed"),
        )
        assert said[name] == counted, f"{name}: {counted}"
