"""Checkpoints of long runs: the state, what it belongs to and what was seen so far, in a folder.

    def train(state, observe):
        return gan.train(game, state, data, 10_000, every=100, observe=observe)

    state, history = resume(folder, config, gan.init(game, key, setting), train, observe)

A checkpoint is arrays (tensorstore) and JSON, written by Orbax; nothing in it can run. It is there
whole or not at all, also when the process is killed, and the two newest are kept.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from ddbook.runner.files import plain
from ddlib._check import check_count

KEPT = 2  # checkpoints in a folder: the older one is there should the newer be damaged


class Checkpoint(NamedTuple):
    """What `restore` gives back: the state, and what was seen up to it."""

    state: Any
    history: list[Any]


def save(
    folder: str | os.PathLike[str],
    state: Any,
    config: Mapping[str, Any],
    history: Sequence[Any] = (),
) -> None:
    """Write a checkpoint and return when it is on disk.

    Args:
      folder: of this run alone; made if missing.
      state: pytree with an attribute `step`, such as `ddlib.gan.State`. Its leaves are arrays of
        JAX or NumPy, PRNG keys, or numbers, and come back as such.
      config: what the run depends on; numbers, strings, lists and mappings.
      history: what was seen so far; likewise. Arrays in both are written as lists.

    Raises:
      ValueError: a folder with a run of another configuration, or with a checkpoint of this step
        or a later one; a leaf that holds no numbers, or two leaves of one name.

    >>> import tempfile
    >>> class State(NamedTuple):
    ...     x: Any
    ...     step: Any
    >>> folder, state = tempfile.mkdtemp(), State(jnp.ones(3), jnp.array(7))
    >>> save(folder, state, {"rate": 0.1}, [0.5, 0.25])
    >>> again = restore(folder, state, {"rate": 0.1})
    >>> again.state.step.item(), again.history
    (7, [0.5, 0.25])
    >>> restore(folder, state, {"rate": 0.2})
    Traceback (most recent call last):
    ...
    ValueError: ... holds a run of another configuration; these differ: config.rate (0.1, not 0.2)
    """
    leaves, step = _leaves(state), int(state.step)
    arrays = {name: _on_host(name, x) for name, x in leaves.items()}
    about = _about(leaves, config)
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    with _manager(folder, options=options) as manager:
        if (last := manager.latest_step()) is not None:
            if last >= step:
                raise ValueError(
                    f"{folder} holds step {last} already, so step {step} cannot be kept: restore "
                    "it, or choose another folder"
                )
            _check_same(folder, _record(manager, last)["about"], about)
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave({name: x for name, x in arrays.items() if x.size}),
                record=ocp.args.JsonSave({"about": about, "history": plain(list(history))}),
            ),
        )


def restore(
    folder: str | os.PathLike[str], like: Any, config: Mapping[str, Any]
) -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none.

    A damaged one is passed over with a warning.

    Args:
      folder: as given to `save`, or one that does not exist.
      like: a state of the same structure, such as the run's start; its numbers do not matter.
      config: what the run depends on.

    Raises:
      ValueError: a checkpoint of another configuration, or of a state of other shapes: it says what
        differs; or none that can be read.

    >>> restore("no such folder", {}, {}) is None
    True
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        return None
    leaves = _leaves(like)
    blank = {name: x for name, leaf in leaves.items() if not (x := _on_host(name, leaf)).size}
    both = ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
    unreadable: list[str] = []
    with _manager(folder) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                found = manager.restore(step, args=both)
            except Exception as error:  # whatever a damaged file makes Orbax raise
                unreadable.append(f"step {step} cannot be read ({error})")
                continue
            _check_same(folder, found["record"]["about"], _about(leaves, config))
            arrays = {**found["state"], **blank}
            if missing := sorted(leaves.keys() - arrays):
                unreadable.append(f"step {step} cannot be read (it lacks {', '.join(missing)})")
                continue
            if unreadable:
                warnings.warn(f"{folder}: {unreadable[0]}, step {step} can", stacklevel=2)
            restored = [_as(x, np.asarray(arrays[name])) for name, x in leaves.items()]
            state = jax.tree.unflatten(jax.tree.structure(like), restored)
            return Checkpoint(state, found["record"]["history"])
    if unreadable:
        raise ValueError(f"{folder}: {', '.join(unreadable)}")
    return None


def resume(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    state: Any,
    train: Callable[[Any, Callable[[Any], Any]], tuple[Any, Any]],
    observe: Callable[[Any], Any],
    *,
    every: int = 1,
) -> Checkpoint:
    """Train with checkpoints: from the newest in `folder` if there is one, else from `state`.

    Interrupted at any moment and called again, it ends where it would have ended, to the bit, with
    the same observations.

    Args:
      folder, config: as `save`.
      state: the start.
      train: (state, observe) -> (state, anything): trains up to the end and calls observe with the
        state before the first step and at moments that do not depend on where it began.
      observe: state -> what is kept of it.
      every: observations between checkpoints. The last is always kept.

    Returns:
      The last state, and all observations.

    Raises:
      ValueError: as `save` and `restore`.

    >>> import tempfile
    >>> class State(NamedTuple):
    ...     x: Any
    ...     step: Any
    >>> def train(state, observe, end=4):
    ...     observe(state)
    ...     while state.step < end:
    ...         state = State(state.x / 2, state.step + 1)
    ...         observe(state)
    ...     return state, None
    >>> folder, start = tempfile.mkdtemp(), State(jnp.ones(()), jnp.array(0))
    >>> resume(folder, {}, start, train, lambda state: float(state.x)).history
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    >>> sorted(path.name for path in Path(folder).iterdir())
    ['3', '4']
    """
    check_count("every", every)
    history: list[Any] = []
    written = -1  # the last step that is on disk
    if (found := restore(folder, state, config)) is not None:
        state, history = found
        written = int(state.step)
        with _manager(Path(folder).resolve()) as manager:
            for step in manager.all_steps():
                if step > written:  # a damaged one, in the way of what will be written
                    manager.delete(step)

    def keep(state: Any) -> None:
        nonlocal written
        save(folder, state, config, history)
        written = int(state.step)

    def seen(state: Any) -> Any:
        if int(state.step) == written:  # where the last run ended, and was seen
            return history[-1]
        history.append(plain(observe(state)))
        if len(history) % every == 0:
            keep(state)
        return history[-1]

    state, _ = train(state, seen)
    if int(state.step) != written:
        keep(state)
    return Checkpoint(state, history)


@contextlib.contextmanager
def _manager(folder: Path, **options: Any) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager. Its half in C++ takes every path for UTF-8 and writes elsewhere where the
    locale has another opinion of a letter: there it gets a link of plain letters."""
    with contextlib.ExitStack() as stack:
        if os.fsencode(folder) != str(folder).encode("utf-8", "surrogateescape"):
            plain_folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (plain_folder / "run").symlink_to(folder, target_is_directory=True)
            folder = plain_folder / "run"
        yield stack.enter_context(ocp.CheckpointManager(folder, **options))


def _leaves(state: PyTree) -> dict[str, Any]:
    """The leaves of a state by name: the path to each, its parts apart whatever they hold."""
    named = [("/".join(map(_part, path)), x) for path, x in jax.tree.leaves_with_path(state)]
    leaves = dict(named)
    if len(leaves) < len(named):
        names = [name for name, _ in named]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"state must have leaves of different names, got two of the name {twice}")
    return leaves


def _part(key: Any) -> str:
    name = jax.tree_util.keystr((key,), simple=True)
    return name.replace("%", "%25").replace("/", "%2F")


_NUMBERS = (bool, int, float, complex)


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _on_host(name: str, x: Any) -> np.ndarray:
    """A leaf as an array on the host: a checkpoint knows of no device."""
    array = np.asarray(jax.random.key_data(x) if _is_key(x) else x)
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, np.number)):
        raise ValueError(f"state must hold numbers, got {array.dtype} in its leaf {name}")
    return array


def _as(like: Any, array: np.ndarray) -> Any:
    """An array as a leaf of the kind of `like`."""
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    if type(like) in _NUMBERS:
        return array.item()
    if isinstance(like, np.generic):
        return array[()]
    return array if isinstance(like, np.ndarray) else jnp.asarray(array)


def _about(leaves: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What two states of one run have in common."""

    def kind(name: str, x: Any) -> str:
        if _is_key(x):
            return f"key<{jax.random.key_impl(x)}>{list(x.shape)}"
        array = _on_host(name, x)
        return type(x).__name__ if type(x) in _NUMBERS else f"{array.dtype}{list(array.shape)}"

    return {"config": plain(config), "state": {name: kind(name, x) for name, x in leaves.items()}}


def _record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    return manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]


def _check_same(folder: Path, kept: Any, given: Any) -> None:
    if differing := [f"{name} ({a}, not {b})" for name, a, b in _differences(kept, given)]:
        raise ValueError(
            f"{folder} holds a run of another configuration; these differ: {', '.join(differing)}"
        )


def _differences(kept: Any, given: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(kept, dict) and isinstance(given, dict):
        for key in [*kept, *(key for key in given if key not in kept)]:
            inside = f"{name}.{key}" if name else key
            yield from _differences(kept.get(key, "missing"), given.get(key, "missing"), inside)
    elif kept != given and str(kept) != str(given):  # NaN is like itself here
        yield name, kept, given
