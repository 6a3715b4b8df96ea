"""What the documents show works, and gives what they say."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Those of tests/test_migrating.py need other packages, or models that it makes.
OTHERS = {"migrating.md"}
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.name not in OTHERS and "\n```python\n" in path.read_text(encoding="utf-8")
]
VALUE = re.compile(r"array\(|[\[({'\d]|True$|True: |False$|False: ")


def blocks(path):
    """Give the blocks of Python on a page, each with the number of lines before it."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in found]


def comments(code):
    """Give the comments of some code by their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def shown_value(comment):
    """Give the value that a comment begins with; None where it is prose alone."""
    if not VALUE.match(comment) or "..." in comment:
        return None
    for end in (len(comment), *(match.start() for match in re.finditer(r": ", comment))):
        try:
            ast.parse(comment[:end], mode="eval")
        except SyntaxError:
            continue
        return comment[:end]
    return None


def run(code, names, file, n_lines_before=0):
    """Run some code, and compare each expression with the value that is shown behind it."""
    said = comments(code)
    for node in ast.parse(code).body:
        module = ast.Module([node], type_ignores=[])
        shown = shown_value(said.get(node.end_lineno, "")) if isinstance(node, ast.Expr) else None
        place = f"{file}:{n_lines_before + node.lineno}"
        if shown is None:
            exec(compile(module, place, "exec"), names)
        else:
            value = eval(compile(ast.Expression(node.value), place, "eval"), names)
            assert re.sub(r"\s+", " ", repr(value)) == shown, place


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_code_runs_as_it_is_pasted(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for n_lines_before, code in blocks(path):
        run(code, names, path.name, n_lines_before)


@pytest.mark.slow
def test_commands_in_a_nutshell_run_as_they_are_pasted(tmp_path):
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    (section,) = [part for part in re.split(r"^## ", page, flags=re.M) if "nutshell" in part[:20]]
    commands = "".join(re.findall(r"^```console\n(.*?)^```", section, re.S | re.M))
    assert commands.count("skgliclass ") == 6
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "tickets.csv", tmp_path / "notebooks")
    # Wherever the package is installed, or only imported from.
    begin = f'set -euo pipefail; skgliclass() {{ "{sys.executable}" -m skgliclass "$@"; }}\n'
    made = subprocess.run(
        ["bash", "-c", begin + commands],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "A delight from start to end,good," in (tmp_path / "out.csv").read_text()
    assert "macro" in made.stdout
