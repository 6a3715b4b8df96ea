"""The examples of docstrings give what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import skgliclass

PACKAGE = Path(skgliclass.__file__).parent
# Only these are imported: other modules may need what is not installed.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if "    >>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    results = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
