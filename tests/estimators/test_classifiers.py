import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer
from toy import polars

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    TruncationWarning,
    UntrainedModelError,
)
from skgliclass.engine.engine import Engine
from skgliclass.loading import loader
from skgliclass.loading.cache import ModelCache

TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music"]
LABELS = ["travel", "dreams", "sport"]
BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(
        folder, n_layers=1, prompt_first=True, scorer_type="mlp", pooling_strategy="avg"
    )
    return str(folder)


@pytest.fixture(scope="module")
def logits(model):
    def score(labels, texts=TEXTS):
        return Engine(loader.load_model(model)).logits(texts, labels)

    return score


def test_single_label_road_from_logits_to_class(model, logits):
    clf = GLiClassClassifier(model, LABELS)
    assert clf.classes_.tolist() == ["dreams", "sport", "travel"]
    expected = logits(["dreams", "sport", "travel"])
    np.testing.assert_allclose(clf.decision_function(TEXTS), expected, atol=1e-5)
    exponentials = np.exp(expected - expected.max(axis=1, keepdims=True))
    proba = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(
        proba, exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-5
    )
    assert clf.predict(TEXTS).tolist() == [
        ["dreams", "sport", "travel"][i] for i in expected.argmax(axis=1)
    ]


def test_two_classes_have_one_column_of_decisions(model, logits):
    clf = GLiClassClassifier(model, ["a", "b"])
    decision = clf.decision_function(TEXTS)
    expected = logits(["a", "b"])
    np.testing.assert_allclose(decision, expected[:, 1] - expected[:, 0], atol=1e-5)
    np.testing.assert_array_equal(decision > 0, clf.predict(TEXTS) == "b")
    assert clf.predict_proba(TEXTS).shape == (3, 2)


def test_multi_label_road_from_logits_to_labels(model, logits):
    clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=0.4)
    assert clf.classes_.tolist() == LABELS
    expected = logits(LABELS)
    np.testing.assert_allclose(clf.decision_function(TEXTS), expected, atol=1e-5)
    proba = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(proba, 1 / (1 + np.exp(-expected)), atol=1e-5)
    chosen = clf.predict(TEXTS)
    np.testing.assert_array_equal(chosen, proba >= 0.4)
    assert chosen.dtype.kind == "i"
    assert clf.predict_labels(TEXTS) == [
        [name for name, one in zip(LABELS, row, strict=True) if one] for row in chosen
    ]


def test_thresholds_for_each_class(model):
    proba = GLiClassMultiLabelClassifier(model, LABELS).predict_proba(TEXTS)
    thresholds = proba[0] + [1e-3, -1e-3, 0]
    for threshold in (
        list(thresholds),
        dict(zip(LABELS, thresholds, strict=True)),
        pd.Series(thresholds),
        # By its names, whatever their order.
        pd.Series(thresholds, index=LABELS)[::-1],
    ):
        clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=threshold)
        np.testing.assert_array_equal(clf.predict(TEXTS), proba >= thresholds.astype(np.float32))


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, "threshold"),
        ([0.5, 0.5], "2 values, but there are 3 classes"),
        ([0.5, "0.5", 0.5], "class 'dreams' is '0.5'; a threshold is a probability"),
        ([0.5, None, 0.5], "class 'dreams' is None; a threshold is a probability"),
        (pd.Series([0.1, 0.2, 0.3], index=["x", "dreams", "sport"]), r"unknown: \['x'\]"),
        (pd.Series([0.1, 0.2], index=["sport", "sport"]), "several values for one class"),
        ([0.5, 0.5, 2], "class 'sport' is 2"),
        ({"travel": 0.5, "x": 0.1}, r"unknown: \['x'\]; missing: \['dreams', 'sport'\]"),
    ],
)
def test_bad_thresholds(model, threshold, message):
    with pytest.raises(ValueError, match=message):
        GLiClassMultiLabelClassifier(model, LABELS, threshold=threshold).predict(TEXTS)


def test_label_texts_are_read_and_classes_returned(model, logits):
    clf = GLiClassClassifier(model, {1: "sport", 0: "world news"})
    np.testing.assert_array_equal(clf.classes_, [0, 1])
    expected = logits(["world news", "sport"]).argmax(axis=1)
    np.testing.assert_array_equal(clf.predict(TEXTS), expected)
    assert clf.predict(TEXTS).dtype.kind == "i"


def test_hierarchy_has_dotted_classes(model, logits):
    tree = {"topic": ["travel", "sport"], "mood": {"good": ["joy"], "bad": ["anger"]}}
    clf = GLiClassMultiLabelClassifier(model, tree)
    names = ["topic.travel", "topic.sport", "mood.good.joy", "mood.bad.anger"]
    assert clf.classes_.tolist() == names
    np.testing.assert_allclose(clf.decision_function(TEXTS), logits(names), atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "make",
    [
        tuple,
        np.array,
        lambda t: np.array(t, dtype=object).reshape(-1, 1),
        pd.Series,
        lambda t: pd.DataFrame({"text": t}),
        lambda t: polars().Series(t),
        lambda t: polars().DataFrame({"text": t}),
    ],
)
def test_every_container_gives_the_same(model, cls, make):
    clf = cls(model, LABELS)
    np.testing.assert_array_equal(clf.predict(make(TEXTS)), clf.predict(TEXTS))


@pytest.mark.parametrize("cls", BOTH)
def test_frame_of_scores_has_the_callers_index(model, cls):
    clf = cls(model, LABELS)
    frame = clf.predict_frame(pd.Series(TEXTS, index=["x", "y", "z"]))
    assert frame.index.tolist() == ["x", "y", "z"]
    assert frame.columns.tolist() == clf.classes_.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), clf.predict_proba(TEXTS))
    assert clf.predict_frame(TEXTS).index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("cls", BOTH)
def test_without_labels_and_fit(model, cls):
    clf = cls(model)
    assert not hasattr(clf, "classes_")
    with pytest.raises(NotFittedError, match="labels="):
        clf.predict(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a text", TypeError, "single string"),
        (["a", None], ValueError, r"X\[1\]"),
        (["a", "\ud800"], ValueError, r"X\[1\] is not valid Unicode"),
        ([], ValueError, "0 sample"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "2 columns"),
    ],
)
def test_bad_input(model, cls, X, error, message):
    with pytest.raises(error, match=message):
        cls(model, LABELS).predict(X)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"labels": []}, ValueError, "labels is empty"),
        ({"labels": ["a", "a"]}, ValueError, r"labels\[1\] repeats labels\[0\]"),
        ({"labels": LABELS, "dtype": "int4"}, ValueError, "'dtype' parameter"),
        ({"labels": LABELS, "device": "nowhere"}, ValueError, "device='nowhere'"),
        ({"labels": LABELS, "task_description": "\ud800"}, ValueError, "^task_description is not"),
        ({"labels": LABELS, "max_length": 2}, ValueError, "'max_length' parameter"),
        ({"labels": LABELS, "architecture": "bi-encoder"}, ValueError, "is a uni-encoder"),
    ],
)
def test_bad_parameters(model, cls, parameters, error, message):
    with pytest.raises(error, match=message):
        cls(model, **parameters).predict(TEXTS)


def test_untrained_heads_are_refused(tmp_path):
    folder = str(encoder_checkpoint(tmp_path))
    for architecture in ("auto", "bi-encoder"):
        clf = GLiClassClassifier(folder, LABELS, architecture=architecture)
        with pytest.raises(UntrainedModelError, match=r"without trained .* fit"):
            clf.predict(TEXTS)


def test_an_architecture_that_a_sentence_encoder_is_not_made_for_is_named(tmp_path):
    clf = GLiClassClassifier(str(sentence_transformer(tmp_path)), LABELS)
    clf.set_params(architecture="uni-encoder")
    message = r"architecture='uni-encoder' is an encoder without trained .*architecture=\"auto\""
    with pytest.raises(UntrainedModelError, match=message):
        clf.predict(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
def test_fitting_without_y_says_what_to_do(model, cls):
    learns = cls(model, LABELS, trainable="all")
    for fit in (learns.fit, learns.partial_fit, cls(model, LABELS).partial_fit):
        with pytest.raises(ValueError, match=r"requires y.*labels=\[...\] and call predict"):
            fit(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
def test_nothing_is_loaded_before_a_prediction(cls, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(loader, "load_model", fail)
    clf = cls("no/such/model", LABELS)
    repr(clf)
    dir(clf)
    clone(clf).get_params()
    clf._repr_html_()
    assert len(pickle.dumps(clf)) < 3000
    assert clf.classes_ is not None


@pytest.mark.parametrize("cls", BOTH)
def test_predicting_leaves_no_trace(model, cls):
    clf = cls(model, LABELS)
    before = dict(vars(clf))
    texts = list(TEXTS)
    clf.predict(texts)
    assert vars(clf) == before
    assert texts == TEXTS


@pytest.mark.parametrize("cls", BOTH)
def test_clones_share_one_loaded_model(model, cls, monkeypatch):
    loads = []
    load = loader._load
    monkeypatch.setattr(loader, "_load", lambda *a: loads.append(1) or load(*a))
    monkeypatch.setattr(loader, "MODELS", ModelCache())
    clf = cls(model, LABELS)
    expected = clf.predict_proba(TEXTS)
    for _ in range(10):
        np.testing.assert_array_equal(clone(clf).predict_proba(TEXTS), expected)
    assert len(loads) == 1


@pytest.mark.parametrize("cls", BOTH)
def test_set_params_takes_effect(model, cls):
    clf = cls(model, LABELS)
    clf.predict(TEXTS)
    clf.set_params(labels=["music", "politics"])
    assert clf.predict_proba(TEXTS).shape == (3, 2)
    clf.set_params(max_length=8)
    with pytest.warns(TruncationWarning):
        clf.predict(["the world " * 50])


def test_in_a_pipeline_without_fitting(model):
    strip = FunctionTransformer(lambda texts: [text.strip() for text in texts])
    clf = GLiClassClassifier(model, LABELS)
    pipeline = make_pipeline(strip, clf)
    padded = [f"  {text}  " for text in TEXTS]
    np.testing.assert_array_equal(pipeline.predict(padded), clf.predict(TEXTS))
    assert pipeline.classes_.tolist() == sorted(LABELS)


def test_a_progress_bar_on_request(model, capsys):
    GLiClassClassifier(model, LABELS, verbose=1).predict(TEXTS)
    assert "3/3" in capsys.readouterr().err
    GLiClassClassifier(model, LABELS).predict(TEXTS)
    assert capsys.readouterr().err == ""


MANY_TEXTS = TEXTS * 167


def test_a_progress_bar_where_somebody_watches(model, monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    GLiClassClassifier(model, LABELS).predict(MANY_TEXTS)
    assert "501/501" in capsys.readouterr().err
    GLiClassClassifier(model, LABELS, verbose=0).predict(MANY_TEXTS)
    # Nor of what is done before one could look at it, unless it was asked for.
    GLiClassClassifier(model, LABELS).predict(TEXTS)
    assert capsys.readouterr().err == ""
    GLiClassClassifier(model, LABELS, verbose=1).predict(TEXTS)
    assert "3/3" in capsys.readouterr().err


def test_a_progress_bar_in_a_notebook(model, monkeypatch, capsys):
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    GLiClassClassifier(model, LABELS).predict(MANY_TEXTS)
    assert "501/501" in capsys.readouterr().err


def test_no_progress_bar_inside_a_search(model, monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    clf = GLiClassClassifier(model, LABELS, max_epochs=1, trainable="head")
    search = GridSearchCV(clf, {"task_description": ["", "Choose: "]}, cv=2)
    search.fit(TEXTS * 2, [*LABELS, *LABELS])
    assert capsys.readouterr().err == ""


def test_the_embedded_model_gives_sensible_classes():
    texts = [
        "The striker scored twice in the second half.",
        "Simmer the tomatoes for an hour before you add the basil.",
        "The central bank raised its interest rate.",
    ]
    clf = GLiClassClassifier(labels=["sport", "cooking", "economy"])
    assert clf.predict(texts).tolist() == ["sport", "cooking", "economy"]
    many = GLiClassMultiLabelClassifier(labels=["sport", "cooking", "economy"])
    texts = ["Football is my favourite sport.", "Cooking dinner is fun.", "It rained on Monday."]
    assert many.predict_labels(texts) == [["sport"], ["cooking"], []]
