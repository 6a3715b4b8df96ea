import subprocess
import sys

import pytest

import skgliclass


def heavy_modules_after(code):
    """Run code in a fresh interpreter and tell which of the slow imports it caused."""
    code += "\nimport sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    assert heavy_modules_after("import skgliclass") == "[]"


def test_describing_an_estimator_is_light():
    code = """
from sklearn.base import clone
from skgliclass import GLiClassClassifier
clf = clone(GLiClassClassifier(labels=["a", "b"]))
repr(clf), dir(clf), clf._repr_html_(), clf.classes_
"""
    assert heavy_modules_after(code) == "[]"


def test_help_is_light():
    code = """
from contextlib import suppress
from skgliclass.__main__ import main
with suppress(SystemExit):
    main(["train", "--help"])
"""
    printed = heavy_modules_after(code)
    assert printed.endswith("\n[]")
    assert "decoder-kv" in printed


def test_public_names_exist_and_are_listed():
    for name in skgliclass.__all__:
        assert getattr(skgliclass, name) is not None
        assert name in dir(skgliclass)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        skgliclass.nothing  # noqa: B018
