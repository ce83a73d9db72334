"""Tidy tables that know where they came from.

A table is a Parquet file whose schema metadata holds its `Provenance` as JSON, so that the two
cannot be separated. Every write here is atomic: a file is there whole or not at all, also when the
process is killed half-way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import yaml

if TYPE_CHECKING:
    import pandas as pd

# pandas, pyarrow and JAX are imported where they are used: the ledger and the runner, which want
# only the JSON half, start in a tenth of the time.

METADATA_KEY = b"ddlib"
DIGEST_KEY = b"ddlib.sha256"  # of what Parquet's own checksums leave out; see `_digest`
GIT_SECONDS = 30
VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "diffrax", "numpy")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a table came from: everything one needs to make it again, and when and on what.

    `parameters` are the notebook's settings, `dataset` is None or has `name`, `checksum` and
    `stand_in`; `wall_seconds` runs from the notebook's start to the table; `created` is UTC, ISO.
    A tree without a known commit counts as dirty: nobody can check it out.
    """

    notebook: str
    profile: str
    parameters: dict[str, Any]
    seeds: list[int]
    commit: str
    dirty: bool
    versions: dict[str, str]
    device: str
    dataset: dict[str, Any] | None
    wall_seconds: float
    created: str


class Commit(NamedTuple):
    """A commit's hash (or "unknown") and whether the tree differs from it."""

    commit: str
    dirty: bool


def commit_of(root: str | os.PathLike[str], *, ignore: Sequence[str] = ()) -> Commit:
    """Return the commit that is checked out in `root`, and whether the tree differs from it.

    Only a repository whose top is `root` itself can tell: the commit of one around it, or of one
    that a variable such as `GIT_DIR` names, says nothing about what lies here. Where there is none
    or git will not say, the commit is "unknown" and the tree dirty.

    Files under a folder named in `ignore` do not count. Untracked files do, unless one of the
    tree's own `.gitignore` files names them: a person's settings may hide a module. So do files
    that git was told not to look at (`assume-unchanged`, `skip-worktree`).
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            # a replaced object or a file monitor's word is not what lies there
            ["git", "--no-replace-objects", "-c", "core.fsmonitor=false", "-C", folder, *words],
            capture_output=True,
            check=True,
            timeout=GIT_SECONDS,
            env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
        )
        return os.fsdecode(done.stdout).removesuffix("\n")

    folder = os.fspath(root)
    paths = ["--", ".", *(f":(exclude){path}" for path in ignore)]
    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), folder):
            return Commit("unknown", True)
        head = git("rev-parse", "--verify", "HEAD^{commit}")
        status = ["status", "--porcelain", "--ignore-submodules=none"]
        changed = git(*status, "--untracked-files=no", *paths)
        untracked = git("ls-files", "--others", "--exclude-per-directory=.gitignore", *paths)
        # "H" is a file that git compares; small letters and "S" are those that it passes over
        unseen = [line for line in git("ls-files", "-v", *paths).splitlines() if line[:2] != "H "]
    except (OSError, ValueError, subprocess.SubprocessError):
        return Commit("unknown", True)
    return Commit(head, bool(changed or untracked or unseen))


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on.

    >>> sorted(installed_versions())
    ['diffrax', 'flax', 'jax', 'jaxlib', 'numpy', 'optax', 'python']
    """
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def device_description() -> str:
    """Describe the device that JAX computes on, such as "cpu: <model>, 2 cores"."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_cpu_model()}, {len(_usable_cpus())} cores"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _usable_cpus() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def now() -> str:
    """Return the time as UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def collect_provenance(
    *,
    notebook: str,
    profile: str,
    parameters: Mapping[str, Any],
    commit: Commit,
    wall_seconds: float,
    seeds: Sequence[int] = (),
    dataset: Mapping[str, Any] | None = None,
) -> Provenance:
    """Return the provenance of a table made now, by this process, on its device."""
    return Provenance(
        notebook=notebook,
        profile=profile,
        parameters=plain(parameters),
        seeds=[int(seed) for seed in seeds],
        commit=commit.commit,
        dirty=commit.dirty,
        versions=installed_versions(),
        device=device_description(),
        dataset=None if dataset is None else plain(dataset),
        wall_seconds=float(wall_seconds),
        created=now(),
    )


def plain(value: Any) -> Any:
    """Return `value` as plain Python: mappings, lists, strings, numbers, booleans, None.

    NumPy and JAX scalars and arrays become Python numbers and lists of them; tuples become lists.

    >>> import numpy as np
    >>> plain({"rates": (np.float64(0.5), 1), "stable": np.bool_(True)})
    {'rates': [0.5, 1], 'stable': True}
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        # a subclass (np.float64 is one of float) prints differently: make it the thing itself
        return next(
            (kind(value) for kind in (str, bool, int, float) if isinstance(value, kind)), None
        )
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise ValueError(
        f"a {type(value).__name__} cannot be recorded: {value!r}; numbers, strings, booleans, "
        "None, and lists, mappings and arrays of them can"
    )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path; on success move it to `path` in one step, on failure delete it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "x.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['x.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the same folder, as a rename is atomic only within a file system; a dot hides it from globs
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut can leave the name on an empty file
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private; a result is to be read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Write `value` as strict JSON, atomically.

    JSON has no infinities: they and NaN are written as the strings "inf", "-inf" and "nan", which
    `float` reads.
    """
    text = json.dumps(_finite(plain(value)), indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; `ValueError` names a file that is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); delete it and run its notebook again"
        ) from error


class _Loader(yaml.SafeLoader):
    """Reads what a person writes for what a person means: see `load_yaml`."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (the base class's type)
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        None: yaml.SafeLoader.construct_undefined,
        **{
            f"tag:yaml.org,2002:{kind}": getattr(yaml.SafeLoader, f"construct_yaml_{kind}")
            for kind in ("null", "bool", "float", "str", "seq", "map")
        },
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="no *alias here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


_Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("_", ""))
)
_DIGITS = r"\d+(_\d+)*"
for _kind, _pattern in {
    "null": "~|null|Null|NULL|",
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?{_DIGITS}",
    "float": rf"[-+]?({_DIGITS}\.?({_DIGITS})?|\.{_DIGITS})([eE][-+]?\d+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), None
    )


def load_yaml(text: str) -> Any:
    """Read YAML for what a person means by it; `ValueError` says in one line why it is not YAML.

    As in YAML 1.2, not in the 1.1 of most readers, 1e-3 is a number, 010 is ten, and 1:30, 0x10,
    2024-01-01, yes, no, on and off are text, for the one who wants a number or a boolean to refuse.
    A key that stands twice is refused, and so are aliases and tags beyond these kinds.

    >>> load_yaml("{rates: [1e-3, 0.1], seed: 010, start: 1:30, mode: off}")
    {'rates': [0.001, 0.1], 'seed': 10, 'start': '1:30', 'mode': 'off'}
    >>> load_yaml("{seed: 1, seed: 2}")
    Traceback (most recent call last):
    ValueError: not YAML: 'seed' stands twice (line 1, column 11)
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        reason = f"{', '.join(filter(None, (error.context, error.problem)))}{where}"
        raise ValueError(f"not YAML: {' '.join(reason.split())}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("not YAML: nested too deeply") from error


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], provenance: Provenance) -> None:
    """Write a tidy table and its provenance as one Parquet file, atomically.

    One row an observation, one column a variable: an index that says something (a named one, or
    one of other things than row numbers) is refused, since it would be lost.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    unnamed = [column for column in frame.columns if not isinstance(column, str)]
    if unnamed or not frame.columns.is_unique:
        raise ValueError(f"frame: columns need distinct names (strings), not {list(frame.columns)}")
    names = [name for name in frame.index.names if name is not None]
    if names or not pd.api.types.is_integer_dtype(frame.index):
        raise ValueError(f"frame: its index {names} would be lost; reset_index() makes it a column")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    record = json.dumps(
        plain(dataclasses.asdict(provenance)), ensure_ascii=False, allow_nan=False
    ).encode()
    own = {METADATA_KEY: record, DIGEST_KEY: _digest(record, table)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    # pyarrow gets files, not paths: it takes every path for UTF-8, whatever the system's encoding
    with replacing(path) as temporary, temporary.open("wb") as file:
        # compressed, as published tables are tracked; sums, as a disk may flip a bit of a number
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _digest(record: bytes, table: Any) -> bytes:
    """Digest what Parquet has no checksum for: our record, the columns, their types and length."""
    columns = [
        [name, str(kind)] for name, kind in zip(table.schema.names, table.schema.types, strict=True)
    ]
    shape = json.dumps([columns, table.num_rows]).encode()
    return hashlib.sha256(record + b"\0" + shape).hexdigest().encode()


def read_table(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, Provenance]:
    """Return the table at `path` and its provenance.

    >>> import tempfile
    >>> import pandas as pd
    >>> origin = collect_provenance(notebook="demo", profile="quick", parameters={"h": 0.1},
    ...     seeds=[0], commit=Commit("unknown", True), wall_seconds=1.0)
    >>> path = Path(tempfile.mkdtemp()) / "squares.parquet"
    >>> write_table(pd.DataFrame({"n": [1, 2], "square": [1, 4]}), path, origin)
    >>> frame, provenance = read_table(path)
    >>> frame.square.tolist(), provenance == origin
    ([1, 4], True)

    Raises `FileNotFoundError` when it is missing and `ValueError` when it is no such table, or was
    damaged since it was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    with path.open("rb") as file:
        try:
            table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
            metadata = table.schema.metadata or {}
            record = metadata[METADATA_KEY]
            frame = table.to_pandas()
            # pandas has metadata of its own, names included; a table of old has no checksum
            named = list(frame.columns) == table.schema.names
            if not named or metadata.get(DIGEST_KEY) not in (None, _digest(record, table)):
                raise ValueError("its checksum differs")
            provenance = Provenance(**json.loads(record))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a table of ours, or damaged ({type(error).__name__}: {reason}); "
                "delete it and run its notebook again"
            ) from error
    return frame, provenance


class Store:
    """Finished runs of a long batch, one JSON file each: what an interrupted batch resumes from.

    A run is found again by all that it depends on. Several processes may share a store: a file is
    there whole or not at all.

    Args:
      folder: where; made when the first run is put.

    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> store.put({"rate": 0.1, "seed": 0}, {"loss": [1.0, 0.5]})
    >>> store.get({"seed": 0, "rate": 0.1})
    {'loss': [1.0, 0.5]}
    >>> store.get({"seed": 1, "rate": 0.1}) is None
    True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @staticmethod
    def name(key: Mapping[str, Any]) -> str:
        """Return the name that a run is kept under: a digest of its key.

        >>> Store.name({"rate": 0.1, "seed": 0}) == Store.name({"seed": 0, "rate": 0.1})
        True
        """
        text = json.dumps(_finite(plain(key)), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{self.name(key)}.json"

    def scratch(self, key: Mapping[str, Any]) -> Path:
        """Return a folder for what a run under way keeps, such as checkpoints; `put` removes it."""
        return self._path(key).with_suffix(".partial")

    def get(self, key: Mapping[str, Any]) -> Any:
        """Return what was put under an equal key, or None; non-finite numbers as strings."""
        path = self._path(key)
        if not path.is_file():
            return None
        kept = read_json(path)
        if not isinstance(kept, dict) or "value" not in kept:
            raise ValueError(f"{path} is not a finished run of ours; delete it and run again")
        return kept["value"]

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Keep `value` under `key`: mappings, lists, strings and numbers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json({"key": key, "value": value}, self._path(key))
        shutil.rmtree(self.scratch(key), ignore_errors=True)
