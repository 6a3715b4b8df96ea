"""What is published: the source distribution, the wheel made of it, and links between documents."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ["skgliclass", "tests", "docs", "examples", "notebooks", "benchmarks", "pretraining"]
FILES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile"]
FILES += ["CITATION.cff", "SECURITY.md", "constraints.txt"]
# What other commands write there.
MADE = {"__pycache__", "generated", "node_modules"}
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))]
    if not MADE & set(path.parts)
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document):
    """They are relative, so that they lead there in a clone, wherever it comes from."""
    text = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", document.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    places = [link.partition("#")[0] for link in links if "://" not in link]
    assert [place for place in places if place and not (document.parent / place).exists()] == []


def test_commands_of_the_page_on_trust_name_tests():
    commands = re.findall(r"`[^`]*pytest ([^`]*)`", (ROOT / "docs" / "trust.md").read_text())
    names = [name for command in commands for name in re.findall(r"tests/[\w/.]*", command)]
    assert len(names) > 15
    assert [name for name in names if not (ROOT / name).exists()] == []
    for command in commands:
        words = re.search(r"tests/.*-k (?:\"([^\"]*)\"|(\w+))", command)
        for word in re.split(r" or ", "".join(filter(None, words.groups()))) if words else []:
            files = [ROOT / name for name in re.findall(r"tests/[\w/.]*\.py", command)]
            assert not files or any(word in file.read_text() for file in files), word


def files_below(root):
    return {
        str(path.relative_to(root))
        for name in FOLDERS
        for path in (root / name).rglob("*")
        if path.is_file() and not MADE & set(path.parts) and not path.name.startswith(".")
    }


def run(*command, folder, **environment):
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a source distribution, and a wheel of what is unpacked from it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    # setuptools writes into the folder that it builds from.
    source.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in [*FILES, "MANIFEST.in", "pyproject.toml"]:
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools import build_meta as b; b.build_{}('..')"
    run(sys.executable, "-c", build.format("sdist"), folder=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-c", build.format("wheel"), folder=unpacked)
    (wheel,) = folder.glob("*.whl")
    return unpacked, archive, wheel


@pytest.mark.slow
def test_the_source_distribution_holds_what_tests_and_documents_need(built):
    unpacked, _, _ = built
    assert files_below(ROOT) - files_below(unpacked) == set()
    assert [name for name in FILES if not (unpacked / name).is_file()] == []


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built[2]) as file:
        names = set(file.namelist())
    package = {name for name in files_below(ROOT) if name.startswith(f"skgliclass{os.sep}")}
    assert package - names == set()
    assert "skgliclass/py.typed" in names
    others = {name for name in names - package if ".dist-info/" not in name}
    assert others == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.needs("uv")
def test_the_source_distribution_installs(built, tmp_path):
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps"]
    options = ["--no-build-isolation", "--python", sys.executable, "--target", "there"]
    run(*install, *options, str(built[1]), folder=tmp_path)
    code = (
        "import skgliclass; assert 'there' in skgliclass.__file__, skgliclass.__file__; "
        "skgliclass.GLiClassClassifier(labels=['a', 'b'])"
    )
    run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path / "there"))
