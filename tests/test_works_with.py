"""The recipes of docs/works_with.md run, each where its package is installed."""

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_documents import run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "works_with.md").read_text(encoding="utf-8")
(BEGINNING,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
RECIPES = re.findall(r"^```python needs ([\w ]+)\n(.*?)^```", PAGE, re.S | re.M)
# What a row of the table calls otherwise than the package index does.
PACKAGES = {
    "Hugging Face `datasets`": "datasets",
    "MLflow": "mlflow-skinny",
    "polars `LazyFrame`": "polars",
    "the Hugging Face hub": "huggingface_hub",
    "FastAPI": "fastapi",
    "torchrun": "torch",
    "Dask": "dask",
    "PySpark": "pyspark",
    "Ray": "ray",
}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=modules, marks=pytest.mark.needs(*modules.split()))
        for modules, code in RECIPES
    ],
)
# Of the other packages.
@pytest.mark.filterwarnings("ignore")
def test_a_recipe_gives_what_it_shows(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    names = {"__name__": "__main__"}
    run(BEGINNING, names, "works_with.md")
    run(code, names, "works_with.md")


def test_the_versions_on_the_page_are_those_that_are_tested():
    pins = [
        Requirement(line)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    tested = {pin.name: str(pin.specifier) for pin in pins}
    package = json.loads((ROOT / "examples" / "browser" / "package.json").read_text())
    tested |= {name: f"=={version}" for name, version in package["dependencies"].items()}
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \|", PAGE, re.M)
    assert len(rows) == 15
    for name, version in rows:
        package = PACKAGES.get(name, name)
        assert tested[package].startswith(f"=={version}."), package
