"""Run one notebook: `python -m ddbook.runner.command NAME --profile quick -p num_seeds 3`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

from ddbook.runner import places, run, status, yaml_text
from ddbook.runner.job import describe


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    # argparse would take the value -1e-3 for an option: pair each -p with its two words first
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in ("-p", "--parameter"):
            key, value = next(rest, None), next(rest, None)
            if key is None or value is None:
                raise ValueError(f"{word} wants a name and a value, such as -p num_seeds 3")
            word = f"--parameter={key}={value}"
        words.append(word)
    parser = argparse.ArgumentParser(
        prog="python -m ddbook.runner.command",
        description="Run one notebook with a profile's settings.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="a notebook: notebooks/<name>.py")
    parser.add_argument("--profile", default="quick", help="quick, standard or paper")
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME VALUE",
        help="a setting in place of the profile's; the value is YAML, such as 1e-3 or [1, 2]",
    )
    parser.add_argument("--check", action="store_true", help="check the arguments, run nothing")
    parser.add_argument(
        "--timeout", metavar="SECONDS", help="end a run that takes longer than this"
    )
    parser.add_argument(
        "--if-stale", action="store_true", help="run nothing if a finished run still stands"
    )
    return parser.parse_args(words)


def _parameters(words: Sequence[str]) -> dict[str, Any]:
    """Return what `-p NAME VALUE` gave; the words are NAME=VALUE."""
    found: dict[str, Any] = {}
    for name, _, value in (word.partition("=") for word in words):
        if name in found:
            raise ValueError(f"parameter: {name} must be given once, got it twice")
        try:
            found[name] = yaml_text.load_yaml(value)
        except ValueError as error:
            raise ValueError(f"parameter: {name}: {error}") from error
        if found[name] is None:
            raise ValueError(f"parameter: {name} must have a value, got none")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a notebook from the command line; return the exit status."""
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the kernel goes too
    try:
        return status.of(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    except run.Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was whole stays, the rest will run again", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, former)


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    parameters = _parameters(options.parameter)
    timeout = run.check_timeout(options.timeout)
    job = describe(places.root(), options.profile, options.name, parameters)
    if options.check:
        places.check_writable(job.root, job.profile)
    else:
        run.run(job, timeout=timeout, if_stale=options.if_stale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
