"""Small books in a temporary folder, for the tests of what runs them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ddbook.runner import files, places
from ddbook.runner.job import describe
from ddbook.runner.places import PROFILES

ROOT = Path(__file__).parents[1]

SOURCE = """\
# ---
# jupyter:
#   ddbook: {needs: []}
# ---

# %% [markdown]
# # A demonstration

# %% tags=["parameters"]
profile = "quick"
parameters = {}

# %% tags=["hide-input"]
from ddbook import page

run = page.open("demo", profile, parameters)
s = run.settings

# %%
import os, sys, time
import matplotlib.pyplot as plt
import pandas as pd

run.save("curve", pd.DataFrame({"seed": range(s.num_seeds), "loss": 1.0}), data="none")
run.claims.record("demo-holds", True, {"loss": 1.0}, data="none")
run.progress(3, 3, "done")
plt.plot([1, 2])
print(sys.executable, os.environ["PYTHONHASHSEED"], os.environ.get("JAX_PLATFORMS"), os.getcwd())

# %%
if s.mode == "fail":
    raise RuntimeError("what went wrong")
if s.mode == "die":
    os.kill(os.getpid(), 9)
if s.mode == "wait":
    print(os.getpid(), flush=True)
    open(os.environ["DDBOOK_FOLDER"] + "/pid", "w").write(str(os.getpid()))
    time.sleep(60)
"""
SECTION = {"num_seeds": 3, "rates": [0.1, 0.2], "mode": "go"}
CLAIM = """
- {id: demo-holds, paper: ours, place: here, statement: s, predicate: p, profile: quick,
   verdict: holds}
- {id: demo-large, paper: ours, place: here, statement: s, predicate: p, profile: standard,
   verdict: holds}
"""


def make_book(root: Path, source: str = SOURCE) -> Path:
    """Write the least that the runner needs: notebooks, profiles, claims, style."""
    for folder in ("notebooks", "profiles", "book", "ddlib"):
        (root / folder).mkdir(parents=True)
    (root / "notebooks" / "demo.py").write_text(source)
    reader = source.replace('"demo"', '"reader"').replace("needs: []", "needs: [demo]")
    (root / "notebooks" / "reader.py").write_text(reader.replace("demo-holds", "demo-large"))
    for profile in PROFILES:
        content = json.dumps({"demo": SECTION, "reader": SECTION})
        (root / "profiles" / f"{profile}.yaml").write_text(content)
    (root / "book" / "claims.yml").write_text(CLAIM)
    shutil.copy(ROOT / "book" / "figures.mplstyle", root / "book")
    return root


def finish(root: Path, name: str = "demo", profile: str = "quick") -> places.Products:
    """Leave what a finished run leaves, without a kernel."""
    made = places.products(root, profile, name)
    made.folder.mkdir(parents=True)
    key = describe(root, profile, name).key
    record = {"notebook": name, "profile": profile, "settings": key["settings"]}
    files.write_json({**record, "seconds": 1.25, "key": key, "finished": "now"}, made.record)
    made.notebook.write_text("{}")
    return made


def in_book(root: Path, *command: str, **options) -> subprocess.CompletedProcess[str]:
    """Run a command in the book's folder."""
    environment = {**os.environ, "DDBOOK_ROOT": str(root)}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, **options
    )


def wait_for(happened, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a process that nobody waited for yet has ended all the same
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() not in ("", "Z")


def make(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return in_book(root, "make", "--no-print-directory", *words)


def stamps(book: Path) -> list[str]:
    """Name the environment's stamp file, as make computes it."""
    printed = make(book, "-pn", "help").stdout
    return [
        line.split(":= ", 1)[1] for line in printed.splitlines() if line.startswith("STAMP := ")
    ]


def batch(root: Path) -> Callable[..., list[str]]:
    """Add what a batch needs to a book; return what gives the command for `make` and its words."""
    for name in ("Makefile", "Snakefile"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "profiles" / "default", root / "profiles" / "default")
    (root / "requirements.lock").write_text("")
    (root / ".venv").symlink_to(sys.prefix)
    stamp = stamps(root)[0]  # old: the environment is there
    return lambda *words: ["make", "--no-print-directory", "-o", stamp, *words]
