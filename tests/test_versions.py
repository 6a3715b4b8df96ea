"""What pyproject.toml and constraints.txt say of versions: no more than what is tested."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
# What those install who develop the package has no floor: it comes through constraints.txt.
FOR_DEVELOPMENT = {"benchmarks", "dev", "docs", "notebooks"}
# What targets of the Makefile install beside an extra.
NEIGHBOURS = ["cleanlab", "imbalanced-learn", "mlflow-skinny", "optuna", "skops"]
OF_THE_MAKEFILE = ["build", "mutmut", "twine", *NEIGHBOURS]
EXTRAS = PROJECT["optional-dependencies"]
OF_USERS = [
    Requirement(line)
    for lines in (
        PROJECT["dependencies"],
        *(EXTRAS[name] for name in sorted(EXTRAS.keys() - FOR_DEVELOPMENT)),
    )
    for line in lines
]
ALL = OF_USERS + [
    Requirement(line)
    for name in sorted(FOR_DEVELOPMENT)
    for line in EXTRAS[name]
    if not line.startswith("skgliclass[")
]


def pins(python):
    """Give what constraints.txt pins for a version of Python, as pairs of name and version."""
    environment = {**default_environment(), "python_version": python}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [
        (canonicalize_name(pin.name), str(pin.specifier).removeprefix("=="))
        for pin in requirements
        if pin.marker is None or pin.marker.evaluate(environment)
    ]


def resolve(*arguments):
    uv = [sys.executable, "-m", "uv", "pip", "compile"]
    command = [*uv, "--quiet", "--no-header", "--no-annotate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Skip where there is no package index to ask."""
    asked = tmp_path_factory.mktemp("index") / "requirements.in"
    asked.write_text("safetensors\n")
    if resolve(str(asked)).returncode != 0:
        pytest.skip("needs a package index, and none can be reached")


def test_the_versions_of_python_claimed_are_those_tested():
    claimed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert claimed == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize("requirement", OF_USERS, ids=lambda requirement: requirement.name)
def test_what_users_install_has_a_floor(requirement):
    assert [specifier.operator for specifier in requirement.specifier] == [">="]


@pytest.mark.parametrize("python", PYTHONS)
def test_each_requirement_is_pinned_once_to_a_version_that_it_allows(python):
    pinned = pins(python)
    environment = {**default_environment(), "python_version": python}
    asked = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in ALL
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    assert len(pinned) == len(dict(pinned))
    assert asked.keys() - dict(pinned).keys() == set()
    allowed = {name: asked.get(name, SpecifierSet()).contains(v) for name, v in pinned}
    assert [name for name, is_allowed in allowed.items() if not is_allowed] == []


@pytest.mark.slow
@pytest.mark.needs("uv")
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("python", PYTHONS)
def test_the_constraints_resolve(python, tmp_path):
    tools = tmp_path / "tools.in"
    tools.write_text("\n".join(OF_THE_MAKEFILE))
    made = resolve(
        "pyproject.toml",
        str(tools),
        "--all-extras",
        "--constraint=constraints.txt",
        f"--python-version={python}",
    )
    assert made.returncode == 0, made.stderr
    assert {f"{name}=={version}" for name, version in pins(python)} <= set(made.stdout.split())


@pytest.mark.slow
@pytest.mark.needs("uv")
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("python", PYTHONS)
def test_the_oldest_versions_resolve(python):
    extras = [f"--extra={name}" for name in sorted(EXTRAS.keys() - FOR_DEVELOPMENT)]
    made = resolve(
        "pyproject.toml", *extras, "--resolution=lowest-direct", f"--python-version={python}"
    )
    assert made.returncode == 0, made.stderr
