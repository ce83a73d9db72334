import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from ddbook.sweeps.checkpoints import restore, resume, save

from ddlib import gan
from ddlib.games import Players

CONFIG = {"rates": {"phi": 0.1, "theta": 0.2}, "seeds": (0, 1), "data": "digits", "limit": None}


class Walk(NamedTuple):
    """A state whose next one depends on all of it."""

    position: Any
    nothing: Any
    step: Any


def begin():
    position = {
        "a": jnp.linspace(0, 1, 6).reshape(2, 3),
        "b": (jnp.float32(0.1), jnp.zeros((0, 2))),
    }
    return Walk(position, None, jnp.zeros((), jnp.int32))


def walk(state, observe, end=7, stop_at=None):
    """Observes before the first step and after each; `stop_at` is where the process is killed."""
    state = jax.tree.map(jnp.asarray, state)
    observe(state)
    while int(state.step) < end:
        if int(state.step) == stop_at:
            raise KeyboardInterrupt
        position = jax.tree.map(lambda x: jnp.sin(3 * x + 1), state.position)
        state = state._replace(position=position, step=state.step + 1)
        observe(state)
    return state, None


def look(state):
    return {"step": int(state.step), "sum": float(state.position["a"].sum()), "nan": np.nan}


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_seen_alike(one, two):
    assert json.dumps(one) == json.dumps(two)  # NaN is no number's equal


def test_what_is_saved_is_restored(tmp_path):
    state, _ = walk(begin(), look, end=3)
    seen = [{"loss": np.float32(0.1), "curve": jnp.arange(2.0)}, {"loss": -np.inf}, "text", None]
    save(tmp_path / "run", state, CONFIG, seen)
    found = restore(tmp_path / "run", begin(), CONFIG)
    assert_same(found.state, state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(found.state))
    assert found.history == [
        {"loss": float(np.float32(0.1)), "curve": [0.0, 1.0]},
        {"loss": -np.inf},
        "text",
        None,
    ]


def test_the_two_newest_are_kept(tmp_path):
    for step in (1, 4, 10, 30):
        save(tmp_path, begin()._replace(step=jnp.array(step, jnp.int32)), CONFIG)
    assert steps_in(tmp_path) == [10, 30]
    assert restore(tmp_path, begin(), CONFIG).state.step == 30


def test_nothing_is_restored_from_nothing(tmp_path):
    assert restore(tmp_path / "none", begin(), CONFIG) is None
    assert not (tmp_path / "none").exists()
    assert restore(tmp_path, begin(), CONFIG) is None


def altered(**changes):
    return {key: value for key, value in {**CONFIG, **changes}.items() if value != "missing"}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (altered(data="mnist"), r"config\.data \(digits, not mnist\)$"),
        (altered(rates={"phi": 0.1, "theta": 0.3}), r"config\.rates\.theta \(0\.2, not 0\.3\)$"),
        (altered(seeds=[1], limit=3), r"seeds \(\[0, 1\], not \[1\]\), config.limit \(None, not 3"),
        (altered(data="missing"), r"config\.data \(digits, not missing\)$"),
        (altered(more=1), r"config\.more \(missing, not 1\)$"),
        (altered(rates=0.1), r"config\.rates \(\{.*\}, not 0\.1\)$"),
    ],
)
def test_another_configuration_is_named(tmp_path, config, named):
    save(tmp_path, begin(), CONFIG)
    with pytest.raises(ValueError, match=named):
        restore(tmp_path, begin(), config)
    with pytest.raises(ValueError, match=named):
        save(tmp_path, begin()._replace(step=jnp.array(1, jnp.int32)), config)
    with pytest.raises(ValueError, match=named):
        resume(tmp_path, config, begin(), walk, look)
    assert restore(tmp_path, begin(), CONFIG) is not None


def test_equal_configurations_may_look_different(tmp_path):
    save(tmp_path, begin(), {"rates": (jnp.float64(0.1), np.nan), "n": np.int64(3)})
    assert restore(tmp_path, begin(), {"n": 3, "rates": [0.1, float("nan")]}) is not None


@pytest.mark.parametrize(
    ("position", "named"),
    [
        ({"a": jnp.zeros((3, 2)), "b": (jnp.float32(0), jnp.zeros((0, 2)))}, "position/a .*3, 2"),
        (
            {"a": jnp.zeros((2, 3), jnp.float32), "b": (jnp.float32(0), jnp.zeros((0, 2)))},
            "float32",
        ),
        ({"a": jnp.zeros((2, 3)), "b": (jnp.float32(0), None)}, "position/b/1 .*not missing"),
        ({"a": jnp.zeros((2, 3)), "c": jnp.float32(0)}, "position/c .*missing, not float32"),
    ],
)
def test_another_shape_of_state_is_named(tmp_path, position, named):
    """Nothing is cast or dropped in silence."""
    save(tmp_path, begin(), CONFIG)
    with pytest.raises(ValueError, match=named):
        restore(tmp_path, begin()._replace(position=position), CONFIG)


def test_no_step_is_written_twice(tmp_path):
    save(tmp_path, begin()._replace(step=jnp.array(5, jnp.int32)), CONFIG)
    for step in (5, 4):
        with pytest.raises(ValueError, match=f"holds step 5 already, so step {step} cannot"):
            save(tmp_path, begin()._replace(step=jnp.array(step, jnp.int32)), CONFIG)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stop_at", [0, 4, 6])
def test_an_interrupted_run_ends_where_it_would_have_ended(tmp_path, stop_at, every):
    whole = resume(tmp_path / "whole", CONFIG, begin(), walk, look, every=every)
    part = functools.partial(walk, stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "part", CONFIG, begin(), part, look, every=every)
    looked = []

    def count(state):
        looked.append(int(state.step))
        return look(state)

    again = resume(tmp_path / "part", CONFIG, begin(), walk, count, every=every)
    assert_same(again.state, whole.state)
    assert_seen_alike(again.history, whole.history)
    assert [row["step"] for row in whole.history] == list(range(8))
    kept = (stop_at + 1) // every * every  # observations on disk when it stopped
    assert looked == list(range(kept, 8))
    looked.clear()
    finished = resume(tmp_path / "part", CONFIG, begin(), walk, count, every=every)
    assert_same(finished.state, whole.state)
    assert_seen_alike(finished.history, whole.history)
    assert looked == []


def test_a_half_written_checkpoint_is_ignored(tmp_path, monkeypatch):
    """The process dies between the arrays and the name."""
    save(tmp_path, begin()._replace(step=jnp.array(1, jnp.int32)), CONFIG)

    def die(*arguments, **options):
        raise KeyboardInterrupt

    two = begin()._replace(step=jnp.array(2, jnp.int32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.rename", die)
        patch.setattr("pathlib.Path.rename", die)
        save(tmp_path, two, CONFIG)
    assert len([*tmp_path.iterdir()]) == 2  # the half is there
    assert restore(tmp_path, begin(), CONFIG).state.step == 1
    save(tmp_path, two, CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def damage(folder):
    """Cut every file of arrays in half."""
    for path in (folder / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    whole = resume(tmp_path / "whole", CONFIG, begin(), walk, look)
    resume(tmp_path / "hurt", CONFIG, begin(), walk, look)
    damage(tmp_path / "hurt" / "7")
    with pytest.warns(UserWarning, match="step 7 cannot be read .*, step 6 can"):
        again = resume(tmp_path / "hurt", CONFIG, begin(), walk, look)
    assert_same(again.state, whole.state)
    assert_seen_alike(again.history, whole.history)
    assert steps_in(tmp_path / "hurt") == [6, 7]
    assert_same(restore(tmp_path / "hurt", begin(), CONFIG).state, whole.state)
    for step in ("6", "7"):
        damage(tmp_path / "hurt" / step)
    with pytest.raises(ValueError, match=r"step 7 cannot .* step 6 cannot"):
        resume(tmp_path / "hurt", CONFIG, begin(), walk, look)


def test_a_checkpoint_holds_nothing_that_runs(tmp_path):
    """Arrays in tensorstore's format, JSON, and a line of text: no pickle, no msgpack."""
    state = begin()._replace(position={"a": jnp.zeros(1000), "b": (jnp.float32(0),)})
    save(tmp_path, state, CONFIG, [{"x": 1.0}])
    for path in (tmp_path / "0").rglob("*"):
        if not path.is_file():
            continue
        if path.name in ("_CHECKPOINT_METADATA", "_METADATA", "metadata", "process_0", "_sharding"):
            json.loads(path.read_text())
        elif path.name == "commit_success.txt":
            path.read_text()
        else:
            assert path.name == "manifest.ocdbt" or path.parent.name == "d"
            start = path.read_bytes()[:4]  # magic numbers of ocdbt's manifest, node and data files
            assert start[:1] == b"\x0c", (path, start)


def test_it_is_quiet(tmp_path, capfd, caplog):
    with caplog.at_level("WARNING"):
        resume(tmp_path, CONFIG, begin(), walk, look)
        restore(tmp_path, begin(), CONFIG)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_it_works_where_an_event_loop_runs(tmp_path):
    """A notebook's kernel runs one."""

    async def cell():
        await asyncio.sleep(0)
        resume(tmp_path, CONFIG, begin(), walk, look)
        return restore(tmp_path, begin(), CONFIG)

    assert asyncio.run(cell()).state.step == 7


def test_it_works_in_a_thread(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(resume(tmp_path, CONFIG, begin(), walk, look))
    )
    thread.start()
    thread.join()
    assert found[0].state.step == 7


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("run", begin(), CONFIG)
    assert restore("run", begin(), CONFIG) is not None
    assert steps_in(tmp_path / "run") == [0]


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="every must be an integer of at least 1, got 0"):
        resume(tmp_path, CONFIG, begin(), walk, look, every=0)
    with pytest.raises(ValueError, match="cannot be recorded"):
        save(tmp_path, begin(), {"function": len})
    assert [*tmp_path.iterdir()] == []


class Bare(NamedTuple):
    x: Any
    step: Any


def again(folder, x, like=None):
    """What comes back of a state that holds x."""
    save(folder, Bare(x, jnp.array(1)), {})
    found = restore(folder, Bare(x if like is None else like, jnp.array(1)), {})
    return found.state.x


COLLIDING = {
    "a separator": {"a/b": 0.0, "a": {"b": 1.0}},
    "a separator at the end": {"a/": 0.0, "a": {"": 1.0}},
    "what a separator becomes": {"a%2Fb": 0.0, "a/b": 1.0, "a": {"b": 2.0}, "a%252Fb": 3.0},
    "backslashes": {"a\\/b": 0.0, "a\\": {"b": 1.0}, "a": {"\\b": 2.0}},
    "numbers": {"a": (0.0, 1.0), "a/0": 2.0, "a/1": 3.0},
    "nothing": {"": {"": 0.0}, "/": 1.0},
    "dots": {".": 0.0, "..": 1.0, "a.b": 2.0, "a": {"b": 3.0}},
}


@pytest.mark.parametrize("case", COLLIDING)
def test_no_two_leaves_share_a_name(tmp_path, case):
    state = jax.tree.map(jnp.array, COLLIDING[case])
    blank = jax.tree.map(jnp.zeros_like, state)
    assert_same(again(tmp_path, state, blank), state)


def test_leaves_that_cannot_be_told_apart_are_refused(tmp_path):
    @jax.tree_util.register_pytree_with_keys_class
    class Twins(list):
        def tree_flatten_with_keys(self):
            return [(jax.tree_util.GetAttrKey("twin"), x) for x in self], None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(children)

    with pytest.raises(ValueError, match=r"state must have leaves .* two of the name x/twin"):
        again(tmp_path, Twins([jnp.zeros(2), jnp.ones(2)]))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_are_kept(tmp_path, impl):
    keys = {"one": jax.random.key(7, impl=impl), "many": jax.random.split(jax.random.key(1), 3)}
    blank = {"one": jax.random.key(0, impl=impl), "many": jax.random.split(jax.random.key(0), 3)}
    found = again(tmp_path, keys, blank)
    assert jax.random.key_impl(found["one"]) == jax.random.key_impl(keys["one"])
    np.testing.assert_array_equal(
        jax.random.normal(found["one"], (4,)), jax.random.normal(keys["one"], (4,))
    )
    np.testing.assert_array_equal(*(jax.random.key_data(x["many"]) for x in (found, keys)))


def test_a_key_of_another_kind_is_named(tmp_path):
    save(tmp_path, Bare(jax.random.key(0), jnp.array(1)), {})
    for other in (jax.random.key(0, impl="rbg"), jnp.zeros(2, jnp.uint32)):
        with pytest.raises(ValueError, match=r"state\.x \(key<threefry2x32>\[\], not "):
            restore(tmp_path, Bare(other, jnp.array(1)), {})


LEAVES = {
    "bfloat16": jnp.array([0.1, 3], jnp.bfloat16),
    "float16": jnp.array([0.1], jnp.float16),
    "complex": jnp.array([1 + 2j]),
    "booleans": jnp.array([True, False]),
    "nothing": jnp.zeros((0, 3), jnp.int8),
    "a number": 0.1,
    "an integer": 2**40 + 1,
    "a truth": True,
    "a complex number": 1 + 2j,
    "NumPy's": np.array([0.1, 0.2]),
    "NumPy's number": np.float64(0.1),
    "NumPy's nothing": np.zeros((2, 0)),
}


@pytest.mark.parametrize("case", LEAVES)
def test_leaves_come_back_as_what_they_were(tmp_path, case):
    kept = LEAVES[case]
    if isinstance(kept, jax.Array):
        blank = jnp.zeros_like(kept)
    else:
        blank = np.zeros_like(kept) if isinstance(kept, np.ndarray) else type(kept)(0)
    found = again(tmp_path, kept, blank)
    assert type(found) is type(kept)
    assert getattr(found, "dtype", None) == getattr(kept, "dtype", None)
    np.testing.assert_array_equal(found, kept)


def test_double_precision_of_numpy_is_kept_where_jax_has_none(tmp_path):
    """Restored as JAX's, it would be float32 there."""
    with jax.enable_x64(False):
        assert again(tmp_path, np.array([0.1])).tolist() == [0.1]


@pytest.mark.parametrize("bad", ["text", np.array(["a"]), 2**70, np.array([None])])
def test_what_is_no_number_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"state must hold numbers, got .* in its leaf x/part"):
        again(tmp_path, {"part": bad})
    assert [*tmp_path.iterdir()] == []


def test_a_checkpoint_that_lacks_an_array_is_no_checkpoint(tmp_path, monkeypatch):
    """The start's own numbers must not stand in for it."""
    monkeypatch.setattr(
        "ddbook.sweeps.checkpoints.ocp.args.StandardSave",
        lambda arrays, real=ocp.args.StandardSave: real({"step": arrays["step"]}),
    )
    save(tmp_path, Bare(jnp.ones(2), jnp.array(1)), {})
    with pytest.raises(ValueError, match=r"step 1 cannot be read \(it lacks x\)"):
        restore(tmp_path, Bare(jnp.zeros(2), jnp.array(1)), {})


def test_ordinary_names_are_as_they_were(tmp_path):
    """Checkpoints of earlier versions stay readable."""
    save(tmp_path, begin(), CONFIG)
    record = next((tmp_path / "0" / "record").glob("*"))
    assert sorted(json.loads(record.read_text(encoding="utf-8"))["about"]["state"]) == [
        "position/a",
        "position/b/0",
        "position/b/1",
        "step",
    ]


IN_LATIN_1 = """
import sys
from pathlib import Path
from typing import Any, NamedTuple
import numpy as np
from ddbook.sweeps.checkpoints import resume
class State(NamedTuple):
    x: Any
    step: Any
def train(state, observe):
    while state.step < 3:
        observe(state)
        state = State(state.x + 1, state.step + 1)
    observe(state)
    return state, None
assert sys.getfilesystemencoding() == "iso8859-1", sys.getfilesystemencoding()
folder, start = Path(sys.argv[1], "a run"), State(np.zeros(2), 0)
whole = resume(folder, {}, start, train, lambda state: state.step)
assert whole.state.x.tolist() == [3, 3], whole
again = resume(folder, {}, start, lambda state, observe: (state, None), None)
assert again.state.x.tolist() == [3, 3] and again.history == [0, 1, 2, 3], again
"""


@pytest.mark.skipif(shutil.which("localedef") is None, reason="it makes the locale")
def test_another_locale_and_letters_of_any_alphabet(tmp_path):
    """Nothing is written beside the folder, under a name that another encoding makes of its own."""
    subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "en_US.ISO-8859-1"],
        capture_output=True,
    )
    (tmp_path / "ü φ").mkdir()
    environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1"}
    environment.pop("PYTHONUTF8", None)
    done = subprocess.run(
        [sys.executable, "-c", IN_LATIN_1, tmp_path / "ü φ"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if "AssertionError: utf-8" in done.stderr:
        pytest.skip("this system has no source of that locale")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["en_US.ISO-8859-1", "ü φ"]
    assert sorted(os.listdir(tmp_path / "ü φ" / "a run")) == ["2", "3"]


ADAM = Players(functools.partial(optax.adam, b1=0.5), optax.sgd)


@pytest.mark.parametrize("kind", ["alternating with Adam", "Adams–Bashforth"])
def test_training_of_a_gan_resumes_to_the_bit(tmp_path, kind):
    """With an optimiser's state, and with a velocity; what is None stays None."""
    game = gan.Game(gan.mlp_networks(widths=(3,), latents=2), gan.saturating())
    update, optimizers = gan.Update("alternating"), ADAM
    if kind == "Adams–Bashforth":
        update, optimizers = gan.Update("adams-bashforth"), None
    setting = gan.Setting(Players(0.1, 0.05))
    start = gan.init(game, jax.random.key(0), setting, update, optimizers)
    data = np.random.default_rng(0).normal(size=(10, 2))

    def run(state, observe, until=8):
        return gan.train(
            game,
            state,
            data,
            until,
            update=update,
            optimizers=optimizers,
            batch_size=4,
            every=2,
            observe=observe,
        )

    def see(state):
        return float(state.players.phi["layer_0"]["kernel"].sum())

    state, seen = run(start, see)
    resume(tmp_path, {}, start, functools.partial(run, until=4), see)
    again = resume(tmp_path, {}, start, run, see)
    assert_same(again.state, state)
    assert again.history == seen
    assert (again.state.velocity is None) == (kind != "Adams–Bashforth")
    assert (again.state.optimizers is None) == (kind == "Adams–Bashforth")
