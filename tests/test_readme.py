"""What the README shows works."""

import re
from pathlib import Path

import pytest
import tomllib

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs_and_gives_what_it_says(code):
    names = {}
    exec(code, names)
    for expression, shown in re.findall(r"^(clf\.\w+\(.*?\)) +# ([\[a].*)$", code, re.M):
        shown = re.sub(r"(\)): .*$", r"\1", shown)
        if shown.startswith(("array", "[")):
            assert repr(eval(expression, names)) == shown


def test_there_is_a_block_for_each_classifier():
    code = "".join(BLOCKS)
    assert "GLiClassClassifier(" in code
    assert "GLiClassMultiLabelClassifier(" in code


def test_every_extra_is_in_the_table():
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    shown = re.findall(r"^\| `([a-z]+)` \|", README.read_text(encoding="utf-8"), re.M)
    assert sorted(shown) == sorted(project["project"]["optional-dependencies"])
