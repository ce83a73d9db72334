import asyncio
import functools
import json
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddlib import gan
from ddlib.checkpoints import restore, resume, save
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
