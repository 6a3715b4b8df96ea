"""What is saved or pickled predicts the same wherever it is loaded, or is refused by name."""

import datetime as dt
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from enum import Enum
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from factorial import half_slow
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.utils._param_validation import (
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassModel, GLiClassMultiLabelClassifier
from skgliclass.estimators.parameters import PARAMETERS
from skgliclass.estimators.persistence import FILE, SavedClassifier, json_of
from skgliclass.estimators.saved_file import checked_content, parameters_of
from skgliclass.estimators.state import NO_LABELS
from skgliclass.estimators.values import as_json, from_json, same_value
from skgliclass.loading import carried, loader
from skgliclass.loading.cache import ModelCache
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS, Y = toy(12)
MATRIX = toy_indicator(12)[1]
QUICK = {
    "trainable": "all",
    "max_epochs": 1,
    "learning_rate": 0.01,
    "batch_size": 6,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", n_layers=1)
    return str(folder)


@pytest.fixture(scope="module")
def like_uni(tmp_path_factory):
    """A model of the same shapes with other weights."""
    folder = tmp_path_factory.mktemp("like_uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", n_layers=1, seed=1)
    return str(folder)


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi"), n_layers=1))


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A process that has loaded nothing yet, in another directory."""

    def go():
        for module in (loader, carried):
            monkeypatch.setattr(module, "MODELS", ModelCache())
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")

    return go


def fitted(cls, model, **parameters):
    y = Y if cls is GLiClassClassifier else MATRIX
    return cls(model, LABELS, **{**QUICK, **parameters}).fit(TEXTS, y)


# Values of parameters.


class Colour(Enum):
    RED = 1


VALUES = {
    "none": None,
    "true": True,
    "numpy bool": np.bool_(True),
    "int": 3,
    "numpy int": np.int64(3),
    "small numpy int": np.int8(3),
    "float": 0.3,
    "numpy float": np.float32(0.3),
    "nan": float("nan"),
    "str": "auto",
    "numpy str": np.str_("cpu"),
    "date": dt.date(2020, 2, 29),
    "datetime": dt.datetime(2020, 2, 29, 12, tzinfo=dt.UTC),
    "numpy date": np.datetime64("2020-02-29"),
    "timestamp": pd.Timestamp("2020-02-29"),
    "fraction": Fraction(1, 3),
    "bytes": b"\xff",
    "path": Path("folder"),
    "enum": Colour.RED,
    "object": object(),
    "list": [0.3, 0.6],
    "tuple": (0.3, 0.6),
    "pairs": [("a text", {"music", "sport"}), {"text": "another", "labels": ("sport",)}],
    "array": np.array([0.3, 0.6]),
    "float32 array": np.array([0.3, 0.6], dtype=np.float32),
    "object array": np.array(["a", 1], dtype=object),
    "date array": np.array(["2020-02-29"], dtype="M8[D]"),
    "series": pd.Series([0.3, 0.6], index=["a", "b"], name="thresholds"),
    "categories": pd.Series(["a", "b"], dtype="category"),
    "index": pd.Index(["a", "b"]),
    "dict of str": {"a": 0.3, "b": 0.6},
    "dict of int": {0: 0.3, 1: 0.6},
    "dict of bool": {False: 0.3, True: 0.6},
    "dict of numpy ints": {np.int64(0): 0.3, np.int64(1): np.float32(0.6)},
    "dict of dates": {dt.date(2020, 2, 29): 0.3},
    "dict of none": {None: 0.3},
    "dict of enums": {Colour.RED: 0.3},
    "tree": {"a": {"b": ["c", "d"]}, "e": ("f",)},
    "reserved": {"$type": "list"},
    "random state": np.random.RandomState(3),
}
# What is known to come back; of others it must be said that they do not.
REFUSED = {"enum", "object", "dict of enums"}


def accepted(cls, name, value):
    try:
        validate_parameter_constraints(
            {name: PARAMETERS[name].constraints}, {name: value}, cls.__name__
        )
    except (InvalidParameterError, TypeError):
        # scikit-learn asks of whatever is a number whether it is NaN.
        return False
    return True


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_accepted_value_comes_back_with_its_type_or_is_refused_by_name(name, tmp_path):
    cls = GLiClassMultiLabelClassifier
    n_kept = 0
    words = [c.options for c in PARAMETERS[name].constraints if isinstance(c, StrOptions)]
    candidates = {**VALUES, **{word: word for options in words for word in options}}
    for kind, value in candidates.items():
        if not accepted(cls, name, value):
            continue
        saved = SavedClassifier(cls.__name__, {name: value}, None, NO_LABELS)
        if kind in REFUSED and json_holds(name):
            with pytest.raises(TypeError, match=f"^{name}=.*cannot be saved"):
                json_of(saved)
            continue
        content = checked_content(json.loads(json_of(saved)), tmp_path)
        again = parameters_of(content, [name], tmp_path)
        if json_holds(name):
            assert same_value(again[name], value), (kind, again[name])
            n_kept += 1
    assert n_kept or not json_holds(name)


def json_holds(name):
    """Tell whether a parameter is saved: those of the place or the model are not."""
    saved = SavedClassifier("GLiClassClassifier", {name: "auto"}, None, NO_LABELS)
    return name in json.loads(json_of(saved))["parameters"]


@pytest.mark.parametrize("kind", sorted(VALUES.keys() - REFUSED))
def test_values_come_back(kind):
    written = json.loads(json.dumps(as_json(VALUES[kind], "it")))
    assert same_value(from_json(written), VALUES[kind])


@pytest.mark.parametrize(
    "written",
    [
        {"$type": "os.system", "value": "true"},
        {"$type": ["list"], "value": []},
        {"$type": "date", "value": "yesterday"},
        {"$type": "date"},
        {"$type": "tuple", "value": 3},
        {"$type": "numpy array", "value": ["U100000000", [1], ["a"]]},
        {"$type": "numpy array", "value": ["O", [10**12], [1]]},
        {"$type": "pandas series", "value": [[1], "no dtype", None, None]},
    ],
)
def test_what_stands_for_no_value_is_refused(written):
    with pytest.raises(ValueError, match=r"stands for no value|is no "):
        from_json(written)


def test_thresholds_by_class_come_back(uni, tmp_path):
    clf = GLiClassMultiLabelClassifier(uni, {0: "music", 1: "sport"}, threshold={0: 0.3, 1: 0.6})
    clf.save_pretrained(tmp_path / "ints")
    again = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "ints")
    np.testing.assert_array_equal(again.predict(TEXTS), clf.predict(TEXTS))
    assert again.threshold == {0: 0.3, 1: 0.6}
    clf.set_params(threshold={np.int64(0): 0.3, np.int64(1): 0.6}).save_pretrained(tmp_path / "np")
    again = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "np")
    np.testing.assert_allclose(again.thresholds_, [0.3, 0.6], rtol=1e-6)


def test_a_set_of_labels_in_an_example_comes_back(uni, tmp_path):
    examples = [("the fox and the café", {"sport", "music"})]
    clf = GLiClassClassifier(uni, LABELS, examples=examples)
    clf.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    assert again.examples == examples
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


@pytest.mark.parametrize(
    "classes",
    [
        [3, 1, 2],
        [1.5, 0.5],
        [False, True],
        ["b", "a"],
        np.array([3, 1], dtype=np.int8),
        [np.float32(0.5), np.float32(0.25)],
    ],
    ids=lambda classes: f"{type(classes).__name__} of {type(classes[0]).__name__}",
)
def test_classes_of_any_type_come_back(uni, tmp_path, classes):
    clf = GLiClassClassifier(uni, classes)
    clf.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    assert same_value(again.classes_, clf.classes_)
    assert same_value(again.labels, clf.labels)
    assert same_value(again.predict(TEXTS), clf.predict(TEXTS))


def test_what_cannot_be_saved_is_refused_before_anything_is_written(uni, tmp_path):
    clf = GLiClassMultiLabelClassifier(uni, LABELS)
    clf.save_pretrained(tmp_path / "saved")
    before = contents(tmp_path / "saved")
    with pytest.raises(TypeError, match=r"^class_weight=.*Colour.RED.*cannot be saved"):
        clf.set_params(class_weight={Colour.RED: 1}).save_pretrained(tmp_path / "saved")
    assert contents(tmp_path / "saved") == before


# The file of a classifier.


@pytest.fixture(scope="module")
def saved(uni, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    clf = fitted(GLiClassMultiLabelClassifier, uni, calibrate=True, threshold="auto", max_epochs=0)
    clf.save_pretrained(folder)
    return folder


def edited(saved, tmp_path, **fields):
    """Give a copy of a saved folder whose file has other fields; ``...`` leaves one out."""
    folder = tmp_path / "edited"
    shutil.copytree(saved, folder)
    content = {**json.loads((folder / FILE).read_text()), **fields}
    content = {name: value for name, value in content.items() if value is not ...}
    (folder / FILE).write_text(json.dumps(content))
    return folder


WRONG = {
    "format": [..., None, 0, -1, "2", True, 1.5, [], 10**30],
    "skgliclass_version": [..., None, 3, []],
    "estimator": [..., None, "Classifier", "x" * 100_000, 3, ["GLiClassClassifier"]],
    "classes": [
        ...,
        None,
        [],
        ["music", "sport"],
        ["music", "sport", "sport"],
        ["music", "sport", "art"],
        ["music", "sport", None],
        ["music", "sport", ["travel"]],
        ["music", "sport", 3],
        "music",
        {"music": 1},
        ["music"] * 100_000,
    ],
    "classes_dtype": [..., 3, "nonsense", "<i8", "<U2", "V1000000000000", "U1000000000"],
    "label_texts": [..., None, [], ["a", "a", "b"], ["", "a", "b"], ["a", "b"], [1, 2, 3], "abc"],
    "labels": [
        ...,
        "music",
        3,
        [],
        ["music"],
        {"topic": ["music", "sport"], "other": ["travel"]},
        {"$type": "os", "value": 1},
    ],
    "temperature": [..., None, 0, -1, float("nan"), float("inf"), 1e-300, "1", True, 10**400],
    "thresholds": [
        ...,
        0.5,
        [],
        [0.5],
        [0.5] * 4,
        [0.5, 0.5, 1.1],
        [0.5, 0.5, -0.1],
        [0.5, 0.5, float("nan")],
        [0.5, 0.5, None],
        ["0.5"] * 3,
    ],
    "min_probability": [..., 2, -1, "0.5", float("nan"), []],
    "keeps_examples": [..., None, 1, "yes"],
    "parameters": [
        ...,
        None,
        [],
        "x",
        {"threshold": 2},
        {"threshold": {"music": 0.5}},
        {"threshold": {"$type": "dict", "value": [[0, 0.5]]}},
        {"batch_size": "many"},
        {"max_epochs": {"$type": "numpy scalar", "value": 3}},
        {"examples": [["a text", "no class"]]},
        {"label_template": "nothing"},
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_a_file_with_a_wrong_field_is_refused_by_name(saved, tmp_path, name, value):
    folder = edited(saved, tmp_path, **{name: value})
    with pytest.raises(ValueError, match=r"skgliclass\.json: ") as caught:
        GLiClassMultiLabelClassifier.from_pretrained(folder)
    said = str(caught.value)
    aliases = {"classes_dtype": "classes", "labels": "labels", "parameters": "param"}
    assert aliases.get(name, name) in said or "label_texts" in said
    assert len(said) < 600


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{", '"x"', "\ufeff{}", "{}"])
def test_a_file_that_holds_no_classifier_is_refused(saved, tmp_path, text):
    folder = edited(saved, tmp_path)
    (folder / FILE).write_text(text)
    if text == "null":
        pytest.skip("as if there were no file")
    with pytest.raises(ValueError, match=r"skgliclass\.json"):
        GLiClassMultiLabelClassifier.from_pretrained(folder)


def test_thresholds_are_none_where_one_class_is_chosen(uni, tmp_path):
    GLiClassClassifier(uni, LABELS).save_pretrained(tmp_path / "one")
    folder = edited(tmp_path / "one", tmp_path, thresholds=[0.5] * 3)
    with pytest.raises(ValueError, match=r"thresholds is .*has to be null for a GLiClassClass"):
        GLiClassClassifier.from_pretrained(folder)
    shutil.rmtree(folder)
    folder = edited(tmp_path / "one", tmp_path, classes=["sport", "music", "travel"], labels=None)
    with pytest.raises(ValueError, match="they are not sorted"):
        GLiClassClassifier.from_pretrained(folder)


def test_a_later_version_is_told(saved, tmp_path):
    folder = edited(saved, tmp_path, format=99, skgliclass_version="9.0.0")
    with pytest.raises(ValueError, match=r"format is 99, which skgliclass '9.0.0' wrote.*Update"):
        GLiClassMultiLabelClassifier.from_pretrained(folder)


def test_what_a_later_version_knows_besides_is_left_out_with_a_warning(saved, tmp_path):
    content = json.loads((saved / FILE).read_text())
    folder = edited(
        saved, tmp_path, parameters={**content["parameters"], "warp_speed": 9}, mood="good"
    )
    with pytest.warns(UserWarning, match="is left out") as caught:
        clf = GLiClassMultiLabelClassifier.from_pretrained(folder)
    assert "has no parameter ['warp_speed']" in str(caught[-1].message)
    assert "knows nothing of ['mood']" in str(caught[0].message)
    expected = GLiClassMultiLabelClassifier.from_pretrained(saved)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected.predict_proba(TEXTS))


def test_a_file_of_the_first_format_is_read(saved, tmp_path):
    content = json.loads((saved / FILE).read_text())
    first = dict.fromkeys(["classes_dtype", "labels", "min_probability", "keeps_examples"], ...)
    folder = edited(saved, tmp_path, **first, format=1, hierarchy=None)
    clf = GLiClassMultiLabelClassifier.from_pretrained(folder)
    assert clf.temperature_ == content["temperature"]
    assert clf.classes_.tolist() == LABELS


# Models that move.


def moved(clf, elsewhere, *folders):
    """Give what comes out of a pickle where the folders are gone."""
    content = pickle.dumps(clf)
    for folder in folders:
        shutil.rmtree(folder)
    elsewhere()
    return pickle.loads(content)


@half_slow(cls=BOTH, kind=["uni", "bi"])
def test_what_was_loaded_travels_in_a_pickle(cls, kind, request, tmp_path, elsewhere):
    # A bi-encoder of a sentence encoder has no place for examples.
    n_retrieved = int(kind == "uni")
    clf = fitted(cls, request.getfixturevalue(kind), n_retrieved=n_retrieved)
    clf.save_pretrained(tmp_path / "saved")
    loaded = cls.from_pretrained(tmp_path / "saved")
    expected = clf.predict_proba(TEXTS)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
    again = moved(loaded, elsewhere, tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), expected)
    # And once more, before and after it was unpacked.
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(again)).predict(TEXTS), clf.predict(TEXTS)
    )
    again.partial_fit(TEXTS[:6], (Y if cls is GLiClassClassifier else MATRIX)[:6])
    with pytest.raises(OSError, match="no such folder"):
        clone(again).predict(TEXTS)


def test_a_checkpoint_without_a_classifier_travels_too(uni, tmp_path, elsewhere):
    shutil.copytree(uni, tmp_path / "copy")
    loaded = GLiClassClassifier.from_pretrained(tmp_path / "copy", labels=LABELS)
    again = moved(loaded, elsewhere, tmp_path / "copy")
    expected = GLiClassClassifier(uni, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), expected)


def test_a_pickle_names_the_embedded_model_and_does_not_hold_it():
    clf = GLiClassClassifier.from_pretrained("mini", labels=LABELS)
    content = pickle.dumps(clf)
    assert len(content) < 20_000
    expected = GLiClassClassifier(labels=LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(TEXTS), expected)


@pytest.mark.slow
def test_nor_does_that_of_one_that_was_saved(tmp_path, elsewhere):
    clf = GLiClassClassifier(labels=LABELS)
    clf.save_pretrained(tmp_path / "saved")
    loaded = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    assert len(pickle.dumps(loaded)) < 20_000
    again = moved(loaded, elsewhere, tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-6)


def test_a_pickle_of_another_embedded_model_says_so(monkeypatch):
    clf = GLiClassClassifier.from_pretrained("mini", labels=LABELS)
    state = clf._carried.__getstate__()
    state["packed"] = {**state["packed"], "embedded": "another"}
    clf._carried.__setstate__(state)
    with pytest.raises(ValueError, match="pickled with another version of the embedded model"):
        clf.predict(TEXTS)


@pytest.mark.slow
def test_a_process_elsewhere_gives_the_saved_predictions(uni, tmp_path):
    clf = fitted(GLiClassClassifier, uni, trainable="lora", lora_rank=2)
    clf.save_pretrained(tmp_path / "saved")
    loaded = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    (tmp_path / "clf.pickle").write_bytes(pickle.dumps(loaded))
    np.save(tmp_path / "expected.npy", loaded.predict_proba(TEXTS))
    shutil.rmtree(tmp_path / "saved")
    program = (
        "import pickle, sys, numpy as np\n"
        "folder, texts = sys.argv[1], sys.argv[2:]\n"
        "clf = pickle.load(open(folder + '/clf.pickle', 'rb'))\n"
        "found = clf.predict_proba(texts)\n"
        "np.testing.assert_array_equal(found, np.load(folder + '/expected.npy'))\n"
    )
    (tmp_path / "empty").mkdir()
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *TEXTS], cwd=tmp_path / "empty", check=True
    )


def test_what_was_loaded_needs_its_folder_no_more(uni, like_uni, tmp_path, monkeypatch):
    clf = fitted(GLiClassClassifier, uni)
    clf.save_pretrained(tmp_path / "tuned")
    monkeypatch.chdir(tmp_path)
    loaded = {
        name: GLiClassClassifier.from_pretrained("tuned") for name in ("moved", "other", "gone")
    }
    expected = clf.predict_proba(TEXTS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(loaded["moved"].predict_proba(TEXTS), expected)
    assert clone(loaded["moved"]).fit(TEXTS, Y).predict(TEXTS).shape == (12,)
    GLiClassClassifier(like_uni, LABELS).save_pretrained(tmp_path / "tuned")
    np.testing.assert_array_equal(loaded["other"].predict_proba(TEXTS), expected)
    shutil.rmtree(tmp_path / "tuned")
    np.testing.assert_array_equal(loaded["gone"].predict_proba(TEXTS), expected)


def test_another_precision_and_the_first_again(uni, tmp_path):
    GLiClassClassifier(uni, LABELS).save_pretrained(tmp_path)
    loaded = GLiClassClassifier.from_pretrained(tmp_path)
    before = loaded.predict_proba(TEXTS)
    coarse = loaded.set_params(dtype="bfloat16").predict_proba(TEXTS)
    assert 0 < np.abs(coarse - before).max() < 0.1
    np.testing.assert_array_equal(loaded.set_params(dtype="auto").predict_proba(TEXTS), before)


# What was tuned belongs to one model.


@pytest.mark.parametrize("trainable", ["all", "head", "lora"])
def test_tuned_weights_are_laid_on_no_other_model(uni, like_uni, trainable):
    clf = fitted(GLiClassClassifier, uni, trainable=trainable, lora_rank=2)
    clf.set_params(model=like_uni, warm_start=True)
    for use in (clf.predict, lambda X: clf.partial_fit(X, Y), lambda X: clf.fit(X, Y)):
        with pytest.raises(ValueError, match="belongs to another model than"):
            use(TEXTS)
    clf.set_params(warm_start=False).fit(TEXTS, Y).predict(TEXTS)


@pytest.mark.parametrize(
    "parameters", [{"calibrate": True}, {"threshold": "auto"}, {"n_retrieved": 1}], ids=str
)
def test_nor_is_what_was_tuned_besides(uni, like_uni, parameters):
    clf = fitted(GLiClassMultiLabelClassifier, uni, max_epochs=0, **parameters)
    with pytest.raises(ValueError, match="belongs to another model than"):
        clf.set_params(model=like_uni).predict(TEXTS)


def test_what_was_loaded_is_replaced_by_no_other_model(uni, like_uni, tmp_path):
    fitted(GLiClassClassifier, uni).save_pretrained(tmp_path / "saved")
    clf = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    expected = clf.predict_proba(TEXTS)
    with pytest.raises(ValueError, match="belongs to another model than"):
        clf.set_params(model=like_uni).predict(TEXTS)
    clf.set_params(model=str(tmp_path / "copy"))
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)


def test_the_same_model_elsewhere_and_in_another_precision_is_known(uni, tmp_path):
    clf = fitted(GLiClassClassifier, uni, trainable="head")
    expected = clf.predict_proba(TEXTS)
    shutil.copytree(uni, tmp_path / "copy")
    clf.set_params(model=str(tmp_path / "copy"))
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)
    for dtype in ("bfloat16", "float16"):
        coarse = clf.set_params(dtype=dtype).predict_proba(TEXTS)
        np.testing.assert_allclose(coarse, expected, atol=0.1)


def test_a_model_whose_files_were_replaced_is_another(uni, like_uni, tmp_path):
    shutil.copytree(uni, tmp_path / "base")
    clf = fitted(GLiClassClassifier, str(tmp_path / "base"), trainable="head")
    shutil.copy(Path(like_uni) / "model.safetensors", tmp_path / "base")
    with pytest.raises(ValueError, match=r"belongs to another model than .*files were replaced"):
        clf.predict(TEXTS)


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_saving_into_the_own_base_tunes_nothing_twice(uni, tmp_path, elsewhere, trainable):
    base = tmp_path / "base"
    shutil.copytree(uni, base)
    clf = fitted(GLiClassClassifier, str(base), trainable=trainable, lora_rank=2)
    before, content = clf.predict_proba(TEXTS), pickle.dumps(clf)
    clf.save_pretrained(base)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)
    np.testing.assert_array_equal(
        GLiClassClassifier.from_pretrained(base).predict_proba(TEXTS), before
    )
    after = pickle.dumps(clf)
    elsewhere()
    np.testing.assert_array_equal(pickle.loads(after).predict_proba(TEXTS), before)
    with pytest.raises(ValueError, match="belongs to another model than"):
        pickle.loads(content).predict(TEXTS)


# Folders.


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["", "file", "file/below"])
def test_impossible_folders_are_refused_before_any_work(uni, tmp_path, name, monkeypatch):
    (tmp_path / "file").write_text("mine")
    place = name and str(tmp_path / name)
    clf = GLiClassClassifier(uni, LABELS)
    monkeypatch.setattr(loader, "_load", None)
    monkeypatch.setattr(loader, "MODELS", ModelCache())
    with pytest.raises((ValueError, OSError), match=name or "give the name"):
        clf.save_pretrained(place)
    with pytest.raises((ValueError, OSError), match=name or "give the name"):
        GLiClassModel.around(load_network(uni)).save_pretrained(place)
    assert (tmp_path / "file").read_text() == "mine"


def load_network(model):
    return GLiClassModel.from_pretrained(model).model


def test_a_saved_folder_replaces_a_checkpoint_and_keeps_what_is_the_users(uni, tmp_path):
    fitted(GLiClassClassifier, uni, n_retrieved=1).save_pretrained(tmp_path)
    for name in ("special_tokens_map.json", "model-00001-of-00002.safetensors", "notes.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / ".git").mkdir()
    GLiClassClassifier(uni, LABELS).save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"notes.txt", ".git", FILE, "model.safetensors"} <= names
    assert not [n for n in names if n.startswith(("special", "model-", "retrieved", ".skgliclass"))]
    mode = (tmp_path / "notes.txt").stat().st_mode
    assert {(tmp_path / name).stat().st_mode for name in contents(tmp_path)} == {mode}


def test_the_page_beside_it_is_kept_once_it_was_changed(uni, tmp_path):
    page = tmp_path / "README.md"
    GLiClassClassifier(uni, {"a|b": "one\n# two", "c": "three"}).save_pretrained(tmp_path)
    text = page.read_text()
    assert '    "a|b": "one\\n# two"' in text
    assert "GLiClassClassifier.from_pretrained" in text
    GLiClassMultiLabelClassifier(uni, LABELS).save_pretrained(tmp_path)
    assert '"travel": "travel"' in page.read_text()
    page.write_text(page.read_text().replace("A text classifier", "Mine"))
    GLiClassClassifier(uni, ["x", "y"]).save_pretrained(tmp_path)
    assert "# Mine" in page.read_text()


class Both:
    """Two classifiers of one shape, to be saved over each other."""

    def __init__(self, uni, like_uni):
        self.clfs = [
            GLiClassClassifier(uni, ["music", "sport"]),
            GLiClassClassifier(like_uni, ["dreams", "travel"]),
        ]
        self.proba = [clf.predict_proba(TEXTS) for clf in self.clfs]

    def which(self, folder):
        """Tell which of the two a folder holds, and that it is nothing between."""
        loaded = GLiClassClassifier.from_pretrained(folder)
        i = [clf.classes_.tolist() for clf in self.clfs].index(loaded.classes_.tolist())
        np.testing.assert_array_equal(loaded.predict_proba(TEXTS), self.proba[i])
        return i


def in_child(work):
    """Do something in a process of its own; give its id."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_kills", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_saves_leave_the_old_or_the_new(uni, like_uni, tmp_path, n_kills):
    both, rng = Both(uni, like_uni), random.Random(0)
    folder = tmp_path / "saved"
    both.clfs[0].save_pretrained(folder)

    def save_in_turns():
        for i in range(1000):
            both.clfs[(i + 1) % 2].save_pretrained(folder)

    for _ in range(n_kills):
        process = in_child(save_in_turns)
        time.sleep(rng.uniform(0.01, 0.2))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        both.which(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["classifier", "model"])
def test_a_full_disk_leaves_the_old(uni, like_uni, tmp_path, what):
    import resource

    both = Both(uni, like_uni)
    folder = tmp_path / "saved"
    both.clfs[0].save_pretrained(folder)
    before = contents(folder)

    def save():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        new = both.clfs[1] if what == "classifier" else GLiClassModel.around(load_network(like_uni))
        try:
            new.save_pretrained(folder)
        except OSError as error:
            os.write(writer, str(error).encode())

    reader, writer = os.pipe()
    os.waitpid(in_child(save), 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert "saved' could not be written: " in said.read()
    assert contents(folder) == before
    assert not list(tmp_path.rglob(".skgliclass*"))
    assert both.which(folder) == 0


def test_a_reader_meets_no_mixture(uni, like_uni, tmp_path):
    """What a save replaces while it is read is read again."""
    both = Both(uni, like_uni)
    both.clfs[0].save_pretrained(tmp_path)
    process = in_child(lambda: [both.clfs[(i + 1) % 2].save_pretrained(tmp_path) for i in range(3)])
    seen = set()
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        seen.add(both.which(tmp_path))
    assert seen <= {0, 1}


# What earlier versions wrote.

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "saved").glob("*/*.pickle"))


@pytest.mark.parametrize("pickled", FIXTURES, ids=lambda path: f"{path.parent.name} {path.stem}")
@pytest.mark.parametrize("form", ["folder", "pickle"])
def test_what_earlier_versions_wrote_predicts_the_same(pickled, form):
    """The files are written by tests/fixtures/make_saved.py, once for each format."""
    texts = ["the fox and the dog", "a day at the café", "see the world", "a dog, a fox, a fox"]
    expected = json.loads((pickled.parent / "expected.json").read_text())[pickled.stem]
    folder = pickled.with_suffix("")
    if form == "pickle":
        clf = pickle.loads(pickled.read_bytes())
    else:
        kind = json.loads((folder / FILE).read_text())["estimator"]
        clf = next(cls for cls in BOTH if cls.__name__ == kind).from_pretrained(folder)
    np.testing.assert_allclose(clf.predict_proba(texts), expected["probabilities"], atol=1e-5)
    assert clf.predict(texts).tolist() == expected["predictions"]


# The reference package.


def reference_scores(folder, labels, texts):
    pytest.importorskip("gliclass")
    from gliclass import GLiClassModel as Reference
    from gliclass import ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    pipeline = ZeroShotClassificationPipeline(
        Reference.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
        classification_type="single-label",
        device="cpu",
        progress_bar=False,
    )
    with torch.no_grad():
        found = pipeline(texts, labels)
    return [(row[0]["label"], row[0]["score"]) for row in found]


def two_encoders(folder):
    """A bi-encoder whose labels have an encoder and a tokenizer of their own."""
    reference_checkpoint(folder, architecture_type="bi-encoder", n_layers=1)
    return str(folder)


@pytest.mark.parametrize("kind", ["uni", "bi", "two"])
def test_what_is_saved_runs_in_the_reference_pipeline(kind, request, tmp_path, monkeypatch):
    model = two_encoders(tmp_path / "two") if kind == "two" else request.getfixturevalue(kind)
    GLiClassClassifier(model, LABELS).save_pretrained(tmp_path / "saved")
    if kind == "two":
        shutil.rmtree(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ours = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    scores = reference_scores(str(tmp_path / "saved"), ours.classes_.tolist(), TEXTS)
    assert [label for label, _ in scores] == ours.predict(TEXTS).tolist()
    proba = ours.predict_proba(TEXTS).max(axis=1)
    np.testing.assert_allclose([score for _, score in scores], proba, atol=1e-4)


@pytest.mark.parametrize(("kind", "cls"), [("uni", BOTH[1]), ("bi", BOTH[0]), ("two", BOTH[0])])
def test_the_reference_runs_the_model_as_before_label_vectors_were_learnt(
    kind, cls, request, tmp_path
):
    model = two_encoders(tmp_path / "two") if kind == "two" else request.getfixturevalue(kind)
    labels = [LABELS[i % len(LABELS)] for i in range(len(TEXTS))]
    y = labels if cls is GLiClassClassifier else [[label] for label in labels]
    clf = cls(model, LABELS, trainable="labels", label_penalty=1e-3).fit(TEXTS, y)
    clf.save_pretrained(tmp_path / "saved")
    before = GLiClassClassifier(model, LABELS)
    assert not np.allclose(clf.decision_function(TEXTS), before.decision_function(TEXTS), atol=0.1)
    scores = reference_scores(str(tmp_path / "saved"), before.classes_.tolist(), TEXTS)
    assert [label for label, _ in scores] == before.predict(TEXTS).tolist()
    proba = before.predict_proba(TEXTS).max(axis=1)
    np.testing.assert_allclose([score for _, score in scores], proba, atol=1e-4)


def test_the_small_form_has_a_shared_encoder_once(bi, tmp_path):
    clf = GLiClassClassifier(bi, LABELS)
    clf.save_pretrained(tmp_path / "both")
    clf.save_pretrained(tmp_path / "small", gliclass_compatible=False)
    both, small = (load_file(tmp_path / name / "model.safetensors") for name in ("both", "small"))
    assert {n for n in both if n not in small} == {n for n in both if ".label_encoder." in n}
    assert str(tmp_path) not in (tmp_path / "small" / "config.json").read_text()
    again = GLiClassClassifier.from_pretrained(tmp_path / "small")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    GLiClassModel.from_pretrained(tmp_path / "both").save_pretrained(
        tmp_path / "model", gliclass_compatible=False
    )
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == small.keys()


def test_checkpoints_are_replaced_whole(uni, bi, tmp_path):
    save_checkpoint(tmp_path, load_model(bi))
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights, tmp_path / "model-00001-of-00001.safetensors")
    save_checkpoint(tmp_path, load_model(uni))
    assert not list(tmp_path.glob("model-*"))
    assert load_model(str(tmp_path)).digest == load_model(uni).digest
