import json
import subprocess
import sys

import pytest

import skgliclass

CODE = """
import contextlib, io, json, sys

def heavy(*names):
    names += ("torch", "transformers", "tokenizers", "pydantic", "matplotlib")
    return [name for name in names if name in sys.modules]

import skgliclass
loaded = {"import": heavy("sklearn.cluster", "sklearn.metrics", "sklearn.model_selection")}

from sklearn.base import clone
from skgliclass import GLiClassClassifier
clf = clone(GLiClassClassifier(labels=["a", "b"]))
repr(clf), dir(clf), clf._repr_html_(), clf.classes_
loaded["description"] = heavy()

import skgliclass.inspection
loaded["inspection"] = heavy()

import skgliclass.distributed
loaded["distributed"] = heavy("dask", "pyspark", "ray")

from skgliclass.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as help_text, contextlib.suppress(SystemExit):
    main(["train", "--help"])
loaded["help"] = heavy()
print(json.dumps({"loaded": loaded, "help text": help_text.getvalue()}))
"""


@pytest.fixture(scope="module")
def light():
    """What a fresh interpreter has loaded after each of some light things."""
    command = [sys.executable, "-c", CODE]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_import_is_light(light):
    assert light["loaded"]["import"] == []


def test_describing_an_estimator_is_light(light):
    assert light["loaded"]["description"] == []


def test_importing_pictures_is_light(light):
    assert light["loaded"]["inspection"] == []


def test_importing_what_runs_in_engines_imports_none_of_them(light):
    assert light["loaded"]["distributed"] == []


def test_help_is_light(light):
    assert light["loaded"]["help"] == []
    assert "decoder-kv" in light["help text"]


def test_public_names_exist_and_are_listed():
    for name in skgliclass.__all__:
        assert getattr(skgliclass, name) is not None
        assert name in dir(skgliclass)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        skgliclass.nothing  # noqa: B018
