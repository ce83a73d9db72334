"""pyproject.toml, requirements.lock and environment.yml agree; so do the files that quote them."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import ddlib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

# Where the lock must serve: what pyproject allows, on the systems that JAX has wheels for.
MACHINES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": system,
        "platform_system": platform,
        "platform_machine": machine,
        "os_name": "nt" if system == "win32" else "posix",
    }
    for python in ("3.11", "3.12", "3.13")
    for system, platform, machine in (
        ("linux", "Linux", "x86_64"),
        ("linux", "Linux", "aarch64"),
        ("darwin", "Darwin", "arm64"),
        ("win32", "Windows", "AMD64"),
    )
]


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each entry of the lock with its hashes."""
    entries = re.split(r"\n(?=\S)", LOCK.replace("\\\n", " ").strip())
    found = []
    for entry in entries:
        if not entry.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
            found.append((Requirement(requirement), hashes))
    return found


def pins(machine: dict[str, str] | None = None) -> dict[str, Version]:
    """What the lock installs on a machine, by default this one."""
    found = {}
    for requirement, _ in locked():
        if requirement.marker is None or requirement.marker.evaluate(machine):
            (specifier,) = requirement.specifier
            assert requirement.name not in found, f"{requirement.name} is pinned twice"
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def asked(machine: dict[str, str] | None = None) -> list[Requirement]:
    """What pyproject asks for, with every extra that the lock covers."""
    extras = PROJECT["optional-dependencies"]
    lines = [line for name in extras if name != "gpu" for line in extras[name]]
    requirements = [Requirement(line) for line in PROJECT["dependencies"] + lines]
    return [
        requirement
        for requirement in requirements
        if canonicalize_name(requirement.name) != "ddlib"
        and (requirement.marker is None or requirement.marker.evaluate(machine))
    ]


# ------------------------------------------------------------------------------------- the lock


def test_the_lock_pins_every_package_with_hashes():
    assert len(locked()) > 50
    for requirement, hashes in locked():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert requirement.url is None and not requirement.extras
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h.strip()) for h in hashes)


def test_the_lock_names_no_index():
    """It serves whoever installs from a mirror of their own."""
    assert not re.search(r"://|--(index-url|extra-index-url|find-links|trusted-host)| @ ", LOCK)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: "-".join(list(m.values())[::2]))
def test_the_lock_satisfies_pyproject_wherever_it_must_serve(machine):
    installed = pins(machine)
    for requirement in asked(machine):
        version = installed.get(canonicalize_name(requirement.name))
        assert version is not None, f"the lock has no {requirement.name} for {machine}"
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_dev_holds_book():
    """One lock for users and developers: what builds the book is what is tested."""
    extras = PROJECT["optional-dependencies"]
    assert {"ddlib[book]", "ddlib[metrics]"} <= set(extras["dev"])
    assert "ddlib[data]" in extras["book"]


def test_the_gpu_extra_asks_for_the_jax_that_is_locked():
    for line in PROJECT["optional-dependencies"]["gpu"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_this_environment_is_the_locked_one():
    found = {}
    for name, version in pins().items():
        try:
            found[name] = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
        if found[name] == version:
            del found[name]
    assert not found, f"installed, but not as requirements.lock says (make it anew): {found}"


def test_the_lock_holds_what_pyproject_needs_and_nothing_else():
    """Follows the installed packages' own requirements, so a removed dependency leaves the lock."""
    here: dict[str, Any] = dict(default_environment())
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in asked()]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate(here | {"extra": extra}) for extra in {"", *extras}
            )
            if wanted:
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    assert {name for name, _ in seen} == set(pins())


# ---------------------------------------------------------------------------------- the library

MATHEMATICS = [
    *("games", "methods", "taylor", "drift", "frozen", "regularizers", "stability", "curvature"),
    *("flows", "descent", "nets", "gan", "loop", "modified_losses"),
]
OTHERS = [  # of data, scores and the book: modules, with what pyproject calls them
    *("pandas", "pyarrow", "sklearn", "PIL", "pooch", "requests", "safetensors", "keras", "h5py"),
    *("matplotlib", "jupytext", "papermill", "nbformat", "snakemake", "ddbook"),
]
WITHOUT = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others!r}:
            raise ModuleNotFoundError(f"no module named {{name!r}}", name=name)

import flax.nnx  # which brings what it likes (orbax and yaml are its own)
assert not {others!r} & set(sys.modules), {others!r} & set(sys.modules)
brought = set(sys.modules)
sys.meta_path.insert(0, Absent())
for room in {rooms!r}:
    importlib.import_module("ddlib." + room)
more = {{name.partition(".")[0] for name in set(sys.modules) - brought}}
assert not more & {{"orbax", "yaml"}}, more
"""


def test_the_hard_dependencies_are_those_of_the_mathematics():
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names == {"jax", "flax", "optax", "diffrax", "optimistix", "jaxtyping", "numpy"}


def test_mathematical_rooms_need_nothing_of_data_scores_and_book():
    script = WITHOUT.format(others=set(OTHERS), rooms=MATHEMATICS)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not done.returncode, done.stderr


def imported() -> list[tuple[Path, str, list[str]]]:
    """Every import of the library: file, module, names."""
    found = []
    for path in sorted((ROOT / "ddlib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(path, alias.name, []) for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                found.append((path, node.module or "", [alias.name for alias in node.names]))
    return found


def test_the_library_imports_nothing_of_the_book():
    found = imported()
    assert len(found) > 100
    assert not [(path, name) for path, name, _ in found if name.partition(".")[0] == "ddbook"]


def test_no_private_name_crosses_a_room():
    crossing = [
        (str(path.relative_to(ROOT)), module, name)
        for path, module, names in imported()
        for name in names
        if module.startswith("ddlib.") and name.startswith("_")
    ]
    assert not crossing


def test_a_wheel_serves_who_has_no_checkout(tmp_path):
    """README's lines, in an empty folder, with the library from a wheel."""
    wheels, site, empty = (tmp_path / name for name in ("wheels", "site", "empty"))
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        wheels,
        ROOT,
    ]
    subprocess.run([*pip, *build], check=True, cwd=empty)
    (wheel,) = wheels.glob("ddlib-*.whl")
    install = ["install", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run([*pip, *install], check=True, cwd=empty)
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {
        "ddlib"
    }
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(
        r"## The library in five lines\n+```python\n(.*?)```", readme, re.DOTALL
    )
    assert len([line for line in example.splitlines() if line.strip()]) <= 5
    script = f"""
import sys

checkout = {[str(ROOT), str(ROOT / "book" / "_ext")]!r}
sys.path[:] = [{str(site)!r}, *(path for path in sys.path if path not in checkout)]
{example}
import ddlib

assert ddlib.__file__.startswith({str(site)!r}), ddlib.__file__
one = games.Players(1.0, 0.5)
phi = 1.0 + 0.2 * (0.5 - 0.09)
moved = phi, 0.5 + 0.2 * (-0.09 * 0.5 - phi)  # DD, Eqs. 8-10, in single precision
assert all(abs(m - w) < 1e-6 for m, w in zip(step(0.2, one), moved)), step(0.2, one)
apart = [abs(v - f) for v, f in zip(flow(one), field(one))]
assert all(0 < gap < 0.2 for gap in apart), apart  # a drift of order h, the field's slopes being 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=empty)
    assert not done.returncode, done.stderr


# ------------------------------------------------------------------------------------- conda


def test_conda_installs_the_lock_and_nothing_beside_it():
    (nested,) = [entry for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert nested == {"pip": ["-r requirements.lock"]}
    names = {re.split("[=<>]", entry)[0] for entry in CONDA["dependencies"] if entry is not nested}
    assert names == {"python", "pip", "make"}, "a package from conda would shadow the lock's"
    assert CONDA["name"] == PROJECT["name"]


def test_conda_takes_a_python_that_pyproject_allows_and_ci_tests():
    (line,) = [entry for entry in CONDA["dependencies"] if str(entry).startswith("python=")]
    python = line.removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    assert python in {machine["python_version"] for machine in MACHINES}
    checks = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())
    steps = [step for job in checks["jobs"].values() for step in job.get("steps", [])]
    tested = [s["with"]["python-version"] for s in steps if "setup-python" in s.get("uses", "")]
    assert tested and set(tested) == {python}


def test_conda_says_how_the_checkout_is_installed():
    """A lock with hashes admits no editable line, so the step stands in the file's own words."""
    text = (ROOT / "environment.yml").read_text()
    assert "python -m pip install --no-deps --no-build-isolation -e ." in text
    assert {"hatchling", "editables"} <= set(pins()), "what that step needs must be in the lock"


# ----------------------------------------------------------------------- citation and licence


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == ddlib.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert [author["name"] for author in PROJECT["authors"]] == [
        author["name"] for author in citation["authors"]
    ]


def test_the_citation_names_both_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    papers = {
        reference["identifiers"][0]["value"]: (
            reference["year"],
            [author["family-names"] for author in reference["authors"]],
        )
        for reference in citation["references"]
    }
    assert papers == {
        "arXiv:2105.13922": (2021, ["Rosca", "Wu", "Dherin", "Barrett"]),
        "arXiv:2302.01952": (2023, ["Rosca", "Wu", "Qin", "Dherin"]),
    }


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert text.rstrip().endswith("limitations under the License.")
    assert PROJECT["license-files"] == ["LICENSE"]


# ------------------------------------------------------------------------- workflows and make


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][\w-]*)\s*:(?!=)", makefile, flags=re.MULTILINE))


def scripts(path: Path) -> list[str]:
    """Every `run:` of a workflow."""
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]


def commands() -> dict[str, str]:
    """Every text in which this repository tells someone, or something, to run make."""
    texts = {path.name: "\n".join(scripts(path)) for path in WORKFLOWS}
    texts[".ci/run"] = (ROOT / ".ci" / "run").read_text()
    fences = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return texts | {"README.md": "\n".join(fences)}


@pytest.mark.parametrize("where", commands())
def test_every_make_target_that_is_called_exists(where):
    text = re.sub(r'"[^"\n]*"', "quoted", commands()[where])
    calls = re.findall(r"(?<![\w-])make((?:[ \t]+[\w./=<>-]+)+)", text)
    words = {word for call in calls for word in call.split() if re.fullmatch(r"[a-z][\w-]*", word)}
    assert words <= make_targets(), f"{where} calls {sorted(words - make_targets())}"
    if where != "README.md" and where != "pages.yml":
        assert words, f"{where} calls no target that this test can see"


def test_there_are_three_workflows():
    assert [path.stem for path in WORKFLOWS] == ["checks", "gpu", "pages"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_take_no_more_than_they_need(path):
    text, workflow = path.read_text(), yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "permissions" in job
        assert "uses" in job or job["timeout-minutes"] <= 360
    assert "secrets" not in text and "pull_request_target" not in text
    for line in re.findall(r"uses: (.*)", text):
        local = line.startswith("./.github/workflows/")
        assert local or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    for run in scripts(path):
        assert "${{" not in run, "an expression in a script is code from elsewhere: use env"


def test_no_notebook_is_tracked():
    listing = subprocess.run(["git", "ls-files", "*.ipynb"], cwd=ROOT, capture_output=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert not listing.stdout
