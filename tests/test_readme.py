"""What the README and the first page of the documents name is there."""

import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


def test_there_is_a_block_for_each_classifier():
    code = "".join(BLOCKS)
    assert "GLiClassClassifier(" in code
    assert "GLiClassMultiLabelClassifier(" in code


def test_every_extra_is_in_the_table():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    page = README.parent / "docs" / "getting_started.md"
    shown = re.findall(r"^\| `([a-z]+)` \|", page.read_text(encoding="utf-8"), re.M)
    assert sorted(shown) == sorted(project["project"]["optional-dependencies"])


def test_the_picture_shows_what_the_model_says():
    """Where it does not: python docs/heat_map.py."""
    script = runpy.run_path(str(README.parent / "docs" / "heat_map.py"))
    said = script["probabilities"]().to_numpy().ravel()
    shown = re.findall(r">(\d\.\d\d)<", script["PICTURE"].read_text(encoding="utf-8"))
    assert [float(number) for number in shown] == pytest.approx(said, abs=0.02)


def test_the_version_to_cite_is_this_one():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    cited = (README.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", cited, re.M).group(1) == project["project"]["version"]


@pytest.mark.parametrize("name", ["", "datasets", "distributed", "export", "inspection"])
def test_every_public_name_is_in_the_reference(name):
    page = (README.parent / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w.]+)$", page, re.M)
    module = import_module(f"skgliclass.{name}".rstrip("."))
    assert set(module.__all__) - {"__version__"} - set(listed) == set()
