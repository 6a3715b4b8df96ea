"""One call uses one label set, with the temperature, thresholds and weights that belong to it."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
from factorial import half_slow
from tiny import sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer
from skgliclass.engine.engine import Engine
from skgliclass.estimators.labels import LabelSet

TEXTS, Y = toy(18)
MANY_TEXTS, MATRIX = toy_indicator(18)
# Some labels are wrong, or no temperature would be too low.
NOISY_Y = np.where(np.arange(18) % 5 == 0, np.roll(Y, 1), Y)
NOISY_MATRIX = np.where(np.arange(54).reshape(18, 3) % 5 == 0, 1 - MATRIX, MATRIX)
TREE = {"art": ["music"], "life": ["sport", "travel"]}
QUICK = {"max_epochs": 1, "trainable": "head", "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture
def parses(monkeypatch):
    """Count how often a label set is read."""
    calls, original = [], LabelSet.from_labels.__func__

    def counting(cls, labels, **options):
        calls.append(labels)
        return original(cls, labels, **options)

    monkeypatch.setattr(LabelSet, "from_labels", classmethod(counting))
    return calls


def calibrated(cls, model, labels=LABELS):
    """Give a copy of a classifier whose temperature and thresholds are not those of every other."""
    return pickle.loads(_calibrated(cls, model, None if labels is None else tuple(labels)))


@cache
def _calibrated(cls, model, labels):
    return pickle.dumps(fit_calibrated(cls, model, labels))


def fit_calibrated(cls, model, labels):
    settings = {**QUICK, "labels": labels, "max_epochs": 20, "calibrate": True}
    if cls is GLiClassClassifier:
        return cls(model, **settings).fit(TEXTS, Y, X_val=TEXTS, y_val=NOISY_Y)
    y, y_val = (pd.DataFrame(matrix, columns=LABELS) for matrix in (MATRIX, NOISY_MATRIX))
    clf = cls(model, threshold="auto", **settings)
    return clf.fit(MANY_TEXTS, y, X_val=MANY_TEXTS, y_val=y_val)


# How often labels are read.


@pytest.mark.parametrize(
    ("cls", "method", "labels"),
    [
        (GLiClassClassifier, "predict", LABELS),
        (GLiClassClassifier, "predict_proba", LABELS),
        (GLiClassClassifier, "decision_function", LABELS),
        (GLiClassClassifier, "predict_frame", LABELS),
        (GLiClassClassifier, "predict_nested", TREE),
        (GLiClassClassifier, "predict_branches", TREE),
        (GLiClassMultiLabelClassifier, "predict", LABELS),
        (GLiClassMultiLabelClassifier, "predict_labels", LABELS),
        (GLiClassMultiLabelClassifier, "predict_frame", LABELS),
        (GLiClassTransformer, "transform", LABELS),
    ],
)
def test_a_prediction_reads_the_labels_once(model, parses, cls, method, labels):
    getattr(cls(model, labels), method)(TEXTS)
    assert len(parses) == 1


@pytest.mark.parametrize("labels", [LABELS, None])
def test_a_fit_reads_the_labels_once(model, parses, labels):
    clf = GLiClassClassifier(model, labels, early_stopping=True, **QUICK)
    clf.fit(TEXTS, Y, X_val=TEXTS, y_val=Y)
    assert len(parses) == 1
    parses.clear()
    clf.partial_fit(TEXTS, Y)
    assert len(parses) == (labels is not None)
    many = GLiClassMultiLabelClassifier(model, LABELS, threshold="auto", **QUICK)
    parses.clear()
    many.fit(MANY_TEXTS, MATRIX, X_val=MANY_TEXTS, y_val=NOISY_MATRIX)
    assert len(parses) == 1


# A refit meanwhile.


@half_slow(
    road=[
        (GLiClassClassifier, "predict"),
        (GLiClassClassifier, "predict_proba"),
        (GLiClassClassifier, "predict_frame"),
        (GLiClassClassifier, "decision_function"),
        (GLiClassClassifier, "score"),
        (GLiClassMultiLabelClassifier, "predict"),
        (GLiClassMultiLabelClassifier, "predict_labels"),
        (GLiClassMultiLabelClassifier, "score"),
    ],
    with_labels=[False, True],
)
def test_a_refit_during_a_call_does_not_mix_into_it(model, monkeypatch, road, with_labels):
    cls, method = road
    many = cls is GLiClassMultiLabelClassifier
    X = MANY_TEXTS if many else TEXTS
    clf = calibrated(cls, model, labels=LABELS if with_labels else None)
    arguments = (X, (MATRIX if many else Y)) if method == "score" else (X,)
    expected = getattr(clf, method)(*arguments)
    other = cls(model, ["anger", "joy"], max_epochs=0)
    other.fit(["joy", "anger"], [["joy"], ["anger"]] if many else ["joy", "anger"])
    score = Engine.logits

    def refit_meanwhile(engine, *args, **options):
        clf._fit_state = other._fit_state
        clf.labels = other.labels if with_labels else None
        return score(engine, *args, **options)

    monkeypatch.setattr(Engine, "logits", refit_meanwhile)
    result = getattr(clf, method)(*arguments)
    np.testing.assert_array_equal(np.asarray(result, object), np.asarray(expected, object))
    assert clf.classes_.tolist() == ["anger", "joy"]


@pytest.mark.parametrize("method", ["predict_nested", "predict_branches"])
def test_another_hierarchy_during_a_call_does_not_mix_into_it(model, monkeypatch, method):
    clf = GLiClassClassifier(model, TREE)
    expected = getattr(clf, method)(TEXTS)
    score = Engine.logits

    def change_meanwhile(engine, *args, **options):
        clf.labels = {"mood": ["anger", "joy"]}
        return score(engine, *args, **options)

    monkeypatch.setattr(Engine, "logits", change_meanwhile)
    result = getattr(clf, method)(TEXTS)
    if method == "predict_branches":
        pd.testing.assert_frame_equal(result, expected)
    else:
        assert result == expected


# What belongs to the labels that it was tuned on.


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_a_temperature_stays_with_its_labels(model, cls, tmp_path):
    clf = calibrated(cls, model)
    tuned, own = clf.temperature_, clf.predict_proba(TEXTS)
    assert tuned != 1
    clf.set_params(labels=["anger", "joy"])
    assert clf.temperature_ == 1
    fresh = GLiClassTransformer(
        str(save(clf, tmp_path)), ["anger", "joy"], multi_label=cls is GLiClassMultiLabelClassifier
    )
    np.testing.assert_allclose(clf.predict_proba(TEXTS), fresh.transform(TEXTS), atol=1e-6)
    clf.set_params(labels=LABELS)
    assert clf.temperature_ == tuned
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), own)


def save(clf, folder):
    clf.save_pretrained(folder)
    return folder


def test_thresholds_stay_with_their_labels(model, tmp_path):
    clf = calibrated(GLiClassMultiLabelClassifier, model)
    tuned = clf.thresholds_
    assert (tuned != 0.5).any()
    clf.set_params(labels=["anger", "joy"])
    assert clf.thresholds_.tolist() == [0.5, 0.5]
    again = GLiClassMultiLabelClassifier.from_pretrained(save(clf, tmp_path))
    assert again.thresholds_.tolist() == [0.5, 0.5]
    assert again.temperature_ == 1
    np.testing.assert_array_equal(clf.set_params(labels=LABELS).thresholds_, tuned)


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_partial_fit_keeps_what_was_tuned(model, cls):
    clf = calibrated(cls, model)
    temperature = clf.temperature_
    thresholds = getattr(clf, "thresholds_", None)
    many = cls is GLiClassMultiLabelClassifier
    clf.partial_fit(*((MANY_TEXTS, MATRIX) if many else (TEXTS, Y)))
    assert clf.temperature_ == temperature != 1
    if many:
        np.testing.assert_array_equal(clf.thresholds_, thresholds)
    clf.set_params(labels=["anger", "joy"])
    clf.partial_fit(TEXTS[:2], [["joy"], ["anger"]] if many else ["joy", "anger"])
    assert clf.temperature_ == 1


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_there_is_a_temperature_where_there_are_classes(model, cls, tmp_path):
    assert cls(model, LABELS).temperature_ == 1
    assert not hasattr(cls(model), "temperature_")
    clf = calibrated(cls, model)
    clf.save_pretrained(tmp_path)
    assert cls.from_pretrained(tmp_path).temperature_ == clf.temperature_
