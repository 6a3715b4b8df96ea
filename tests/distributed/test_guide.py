"""What docs/engines.md shows of each engine gives what it says."""

import re
import shutil
from pathlib import Path

import pytest
from test_documents import blocks, run
from watched import in_workers

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
RECIPES = re.findall(
    r"^```python needs ([\w ]+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M
)


def stop(names):
    """End what a recipe leaves running."""
    if "spark" in names:
        names["spark"].stop()
    if "ray" in names:
        names["ray"].shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=modules, marks=pytest.mark.needs(*modules.split()))
        for modules, code in RECIPES
    ],
)
def test_a_recipe_gives_what_it_shows(code, home, monkeypatch):
    if "pyspark" in code and shutil.which("java") is None:
        pytest.skip("needs Java")
    in_workers(monkeypatch)
    monkeypatch.setenv("PYSPARK_PYTHON", "")
    names = {"__name__": "__main__"}
    run(blocks(PAGE)[0][1], names, PAGE.name)
    try:
        run(code, names, PAGE.name)
    finally:
        stop(names)
