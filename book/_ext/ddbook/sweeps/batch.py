"""A batch of trainings: each run described once, trained once, and kept for good.

A run is a frozen description, and its key holds all that its numbers depend on: the compiled
program, the numbers that go into it, and the data. Finished runs lie in the notebook's store; a
published row with the same key stands for a run.

    done = batch.train(run, batch.part(runs, shard), key_of, train_one, judged=…, data=…)
    curves, rows = batch.tables(run, done, scores_of, data=…)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ddbook import page
from ddbook.sweeps.arms import Arm, name
from ddbook.sweeps.sweep import RUN, SCORES

if TYPE_CHECKING:
    import pandas as pd

ORIGIN = ("seconds", "commit", "dirty", "device")  # what a row says of how it was trained


class Run(NamedTuple):
    """One training: an arm, its two rates, and a seed; `group` is the part of a batch it is in."""

    group: str
    arm: Arm
    rate_phi: float
    rate_theta: float
    seed: int

    def columns(self) -> dict[str, Any]:
        """What every row about this run begins with."""
        return {
            "method": name(self.arm),
            "rate_phi": self.rate_phi,
            "rate_theta": self.rate_theta,
            "seed": self.seed,
            "group": self.group,
            **self.arm._asdict(),
        }


class Done(NamedTuple):
    """A run that needs no more training: its key, and how tables name that key."""

    run: Run
    key: dict[str, Any]
    digest: str
    published: tuple[dict[str, Any], pd.DataFrame] | None  # its row and its curve


def part(runs: Sequence[Run], shard: Sequence[int]) -> list[Run]:
    """Each n-th of the runs from the i-th on, for a shard [i, n].

    `ValueError` for a shard that is none or has no runs, and for a run that is described twice.

    >>> part([Run("all", Arm(), 0.1, 0.1, seed) for seed in range(5)], [1, 2])[1].seed
    3
    """
    if len(shard) != 2 or not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard must be [i, n] with 0 <= i < n, got {list(shard)}")
    names = [run[1:] for run in runs]
    if len(set(names)) < len(names):
        twice = next(run for run in runs if names.count(run[1:]) > 1)
        raise ValueError(
            f"runs must differ in more than their group, got twice {name(twice.arm)} at rates "
            f"{twice.rate_phi:g} and {twice.rate_theta:g}, seed {twice.seed}"
        )
    if not (mine := list(runs[shard[0] :: shard[1]])):
        raise ValueError(f"shard must have a run, got {list(shard)} of {len(runs)} runs")
    return mine


def train(
    run: page.Run,
    runs: Iterable[Run],
    key_of: Callable[[Run], dict[str, Any]],
    train_one: Callable[[Run, dict[str, Any]], dict[str, Any]],
    *,
    judged: Mapping[str, Any],
    data: Any,
    keep_published: bool = False,
) -> list[Done]:
    """Train those of the runs that are neither kept nor, with `keep_published`, published.

    Out of time (`page.Run.out_of_time`) no further run is started; those that are left are left
    out, and the page notes how many there are. `RuntimeError` where there is none.

    Args:
      run: the page; its store has the finished runs.
      runs: what to train, one after another.
      key_of: run -> all that its training depends on, the data excepted.
      train_one: (run, key) -> what is kept of it: mappings, lists, strings and numbers.
      judged: what scores depend on beside the training; a digest holds it, the store's key not, so
        that another judge needs no training again.
      data: what all runs rest on, as `page.Run.save` takes it; it is part of every key.
    """
    runs = list(runs)
    known = published(run) if keep_published else {}
    done = []
    for number, one in enumerate(runs):
        key = key_of(one)
        digest = run.digest({**key, **judged}, data=data)
        if digest not in known:
            if run.out_of_time() and not run.has(key, data=data):
                continue
            run.cached(key, partial(train_one, one, key), data=data)
        done.append(Done(one, key, digest, known.get(digest)))
        run.progress(number + 1, len(runs), name(one.arm))
    taken = sum(one.published is not None for one in done)
    print(f"{len(done)} runs: {taken} published ones, {len(done) - taken} trained here")
    if len(done) < len(runs):
        if not done:
            raise RuntimeError(f"none of {len(runs)} runs was finished in time; give it longer")
        run.unfinished(f"{len(done)} of {len(runs)} runs")
    return done


def tables(
    run: page.Run,
    done: Sequence[Done],
    scores_of: Callable[[Run, dict[str, Any]], tuple[list[dict[str, Any]], str | None]],
    *,
    data: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for each scoring of each run, and one for each run.

    `scores_of` is (run, what `train` kept of it) -> (rows of step and scores, a picture or None).
    A row of a run names its key, its commit and the processor that trained it.
    """
    import pandas as pd

    curves, rows = [], []
    for number, (one, key, digest, former) in enumerate(done):
        columns = one.columns()
        if former is not None:
            row, curve = former
        else:
            found = run.stored(key, data=data)
            scores, picture = scores_of(one, found)
            curve = pd.DataFrame(scores)
            row = {
                **columns,
                "key": digest,
                "diverged_at": found["diverged_at"],
                **{score: scores[-1][score] for score in SCORES},
                "picture": picture,
                **{field: found[field] for field in ORIGIN},
            }
        curves.append(curve.assign(**columns))
        rows.append({**row, **columns})
        run.progress(number + 1, len(done), "scored")
    return pd.concat(curves, ignore_index=True), pd.DataFrame(rows)


def few_pictures(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with two pictures an arm at most: of the run with the smallest Fréchet distance at
    the end, and of that among those with one rate for both players."""
    import pandas as pd

    ranked = rows.sort_values("frechet_distance", na_position="last", kind="stable")
    level = ranked[ranked["rate_phi"] == ranked["rate_theta"]]
    kept = pd.concat([part.drop_duplicates(list(Arm._fields)) for part in (ranked, level)]).index
    return rows.assign(picture=rows["picture"].where(rows.index.isin(kept), None))


def published(run: page.Run) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    """The published runs by the digest of their keys: (row of runs, its curve).

    The curve has the columns step and those of `SCORES`. Of the arms that share a run, the one
    with a picture of it counts. There are none where nothing is published, or no digests.
    """
    runs, curves = (run.published(table, run.name) for table in ("runs", "curves"))
    if runs is None or curves is None or "key" not in runs.frame:
        return {}
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]] = {}
    label = ["method", *RUN]
    by_run = {names: rows[["step", *SCORES]] for names, rows in curves.frame.groupby(label)}
    pictures_last = runs.frame.sort_values("picture", key=lambda x: x.notna(), kind="stable")
    for record in pictures_last.to_dict("records"):
        row = {str(column): value for column, value in record.items()}
        curve = by_run[tuple(row[column] for column in label)]
        found[row["key"]] = (row, curve.reset_index(drop=True))
    return found
