"""Texts of none of the classes: what predict returns for them, and how fit learns when."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV
from tiny import reference_checkpoint
from toy import LABELS, toy

from skgliclass import GLiClassClassifier
from skgliclass.estimators.calibration import best_min_probability, trust_of_others

X, Y = toy(18)
NONE = ["the lazy fox sees the world", "café dog", "degrees of jumps"]
WITH_NONE = [*X, *NONE], [*Y, *["other"] * 3]
TRAIN = {"trainable": "head", "max_epochs": 3, "learning_rate": 0.02, "random_state": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture(scope="module")
def fitted(model):
    return GLiClassClassifier(model, LABELS, other="other", **TRAIN).fit(*WITH_NONE)


def test_a_text_without_a_probable_class_gets_what_stands_for_none(model):
    plain = GLiClassClassifier(model, LABELS)
    probabilities = plain.predict_proba(X)
    limit = float(np.median(probabilities.max(axis=1)))
    clf = GLiClassClassifier(model, LABELS, other="none of these", min_probability=limit)
    expected = np.where(
        probabilities.max(axis=1) < np.float32(limit), "none of these", plain.predict(X)
    )
    assert 0 < (expected == "none of these").sum() < len(X)
    assert clf.predict(X).tolist() == expected.tolist()
    np.testing.assert_array_equal(clf.predict_proba(X), probabilities)
    assert clf.classes_.tolist() == LABELS
    top = clf.predict_top(X, k=None)
    assert (top.predicted.groupby(level=0).sum() == (expected != "none of these")).all()
    assert clf.score(X, expected) == 1
    wrong = np.where(expected == "none of these", "music", "none of these")
    assert clf.score(X, wrong) == 0
    assert clf.min_probability_ == pytest.approx(limit)


def test_off_by_default(model):
    clf = GLiClassClassifier(model, LABELS)
    assert not hasattr(clf, "min_probability_")
    assert set(clf.predict(X)) <= set(LABELS)


def test_texts_of_no_class_tune_and_are_not_learnt_from(model, fitted):
    clf = GLiClassClassifier(model, LABELS, other="other", **TRAIN)
    clf.fit(X, Y, X_val=[*X[:6], *NONE], y_val=[*Y[:6], *["other"] * 3])
    plain = GLiClassClassifier(model, LABELS, **TRAIN).fit(X, Y, X_val=X[:6], y_val=Y[:6])
    assert clf.loss_curve_ == plain.loss_curve_
    assert clf.validation_scores_ == plain.validation_scores_
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))
    right = plain.predict_proba(X[:6]).max(axis=1)[plain.predict(X[:6]) == Y[:6]]
    others = plain.predict_proba(NONE).max(axis=1)

    def quality(limit):
        return (right >= limit).sum() / 6 + (others < limit).mean()

    best = max(quality(limit) for limit in np.linspace(0, 1, 2001))
    assert quality(clf.min_probability_) >= best - 1e-9
    # Texts of no class in y count, too, beside a part of the others that is set aside.
    assert fitted.classes_.tolist() == LABELS
    others = (
        GLiClassClassifier(model, LABELS, other="other", **{**TRAIN, "random_state": seed})
        for seed in range(1, 6)
    )
    # In which rows are set aside, and what tells them apart, seeds and processors differ.
    assert any(clf.fit(*WITH_NONE).min_probability_ != 0.5 for clf in others)
    assert len(fitted.validation_scores_) == 4


def test_the_classes_come_from_y_without_it(model):
    clf = GLiClassClassifier(model, other="other", max_epochs=0).fit(*WITH_NONE)
    assert clf.classes_.tolist() == LABELS


def test_tuned_on_probabilities_that_were_calibrated(model):
    held_out = {"X_val": [*X, *NONE], "y_val": WITH_NONE[1]}
    clf = GLiClassClassifier(model, LABELS, other="other", calibrate=True, **TRAIN)
    clf.fit(X, Y, **held_out)
    assert clf.temperature_ != 1
    logits = np.asarray(clf.decision_function([*X, *NONE])) / clf.temperature_
    matrix = np.asarray([[name == label for label in LABELS] for name in Y], dtype=np.float32)
    expected = best_min_probability(logits[:18], matrix, logits[18:])
    assert clf.min_probability_ == pytest.approx(expected, abs=1e-5)


def logits_of(*p):
    """Give those of two classes, of which the first is so probable for each text."""
    return np.log([[x, 1 - x] for x in p])


def test_the_best_limit_counts_both_kinds_alike():
    first = np.array([[1, 0]] * 4)
    # Right with .9, .8 and .7, wrong with .95; 100 times .75 and one time .6 of none.
    of_classes, others = logits_of(0.9, 0.8, 0.7, 0.05), logits_of(*[0.75] * 100, 0.6)
    assert best_min_probability(of_classes, first, others) == pytest.approx(0.775)
    assert best_min_probability(of_classes, first, logits_of(0.99)) == pytest.approx(0.995)
    assert best_min_probability(logits_of(0.9), first[:1], logits_of(0.51)) == pytest.approx(0.705)


def test_one_text_of_no_class_does_not_outweigh_rows(model):
    right = np.array([[1, 0]] * 4)
    assert best_min_probability(logits_of(0.9, 0.8, 0.7, 0.6), right, logits_of(0.85)) > 0.85
    found = best_min_probability(
        logits_of(0.9, 0.8, 0.7, 0.6), right, logits_of(0.85), trust=trust_of_others(1)
    )
    assert found < 0.6
    # Out of fold: one text that looks like a class costs no row.
    clf = GLiClassClassifier(model, LABELS, other="other", trainable="labels")
    clf.fit([*X, X[0]], [*Y, "other"])
    plain = GLiClassClassifier(model, LABELS, trainable="labels").fit(X, Y)
    assert clf.score(X[1:], Y[1:]) == plain.score(X[1:], Y[1:])


def test_weights_and_fractions_are_those_of_the_texts_of_classes(model):
    weights = [*np.linspace(1, 2, 18), 5, 5, 5]
    clf = GLiClassClassifier(
        model, LABELS, other="other", min_probability=0.4, class_weight="balanced", **TRAIN
    )
    clf.fit(*WITH_NONE, sample_weight=weights)
    plain = GLiClassClassifier(model, LABELS, class_weight="balanced", **TRAIN)
    assert clf.loss_curve_ == plain.fit(X, Y, sample_weight=weights[:18]).loss_curve_
    assert clf.min_probability_ == pytest.approx(0.4)
    with pytest.raises(ValueError, match="sample_weight has shape"):
        clf.fit(*WITH_NONE, sample_weight=weights[:18])


def test_saved_pickled_and_cloned(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    for other in (again, pickle.loads(pickle.dumps(fitted))):
        assert other.min_probability_ == fitted.min_probability_
        assert other.predict([*X, *NONE]).tolist() == fitted.predict([*X, *NONE]).tolist()
    assert clone(fitted).min_probability_ == 0.5
    # What was tuned for some labels says nothing of others.
    assert again.set_params(labels=["a", "b"]).min_probability_ == 0.5
    content = json.loads((tmp_path / "skgliclass.json").read_text())
    del content["min_probability"], content["parameters"]["min_probability"]
    del content["parameters"]["other"]
    content["format"] = 1
    (tmp_path / "skgliclass.json").write_text(json.dumps(content))
    assert GLiClassClassifier.from_pretrained(tmp_path).other is None


def test_a_search_over_the_limit(model):
    clf = GLiClassClassifier(model, LABELS, other="other", max_epochs=0)
    search = GridSearchCV(clf, {"min_probability": [0.0, 0.99]}, cv=3).fit(*WITH_NONE)
    # Without a limit the texts of no class are all wrong, with one of .99 they alone are right.
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(3 / 21)
    assert search.best_params_ == {"min_probability": 0.0} or search.best_score_ > 3 / 21


def test_with_hierarchies_numbers_and_labels_of_texts(model):
    tree = {"a": {"b": "music", "c": ["sport"][0]}, "d": ["travel"]}
    clf = GLiClassClassifier(model, tree, hierarchy="path", other="?", min_probability=1)
    assert set(clf.predict(X)) == {"?"}
    assert set(clf.set_params(min_probability=0).predict(X)) <= {"a.b", "a.c", "d.travel"}
    numbers = GLiClassClassifier(model, {0: "music", 1: "sport"}, other=-1, min_probability=1)
    predicted = numbers.predict(X)
    assert predicted.dtype.kind == "i"
    assert set(predicted) == {-1}
    assert numbers.predict(X[:2], labels=[[0, 2], [1, 3]]).tolist() == [-1, -1]
    with pytest.raises(ValueError, match="other=-1 is one of the classes"):
        numbers.predict(X[:2], labels=[[0, -1], [1, 3]])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"other": "sport"}, ValueError, "other='sport' is one of the classes"),
        ({"other": 3}, TypeError, "other=3 is .*, but the classes are of another type"),
        ({"other": float("nan")}, ValueError, "missing value"),
        ({"min_probability": 0.5}, ValueError, r"min_probability=0.5 needs other=\.\.\."),
        ({"min_probability": 1.5, "other": "x"}, ValueError, "min_probability"),
        ({"min_probability": "best", "other": "x"}, ValueError, "min_probability"),
    ],
)
def test_what_cannot_stand_for_none_is_named(model, parameters, error, message):
    clf = GLiClassClassifier(model, LABELS, max_epochs=0, **parameters)
    with pytest.raises(error, match=message):
        clf.predict(X)
    with pytest.raises(error, match=message):
        clf.fit(X, Y)
    with pytest.raises(error, match=message):
        clf.fit(X)


@pytest.mark.parametrize("labels", [LABELS, None])
def test_integers_that_a_meta_estimator_made_of_it_are_refused(model, labels):
    clf = GLiClassClassifier(model, labels, other="other", max_epochs=0)
    with pytest.raises(ValueError, match=r"meta-estimators hand.*other='other'.*Set other=None"):
        VotingClassifier([("one", clf)]).fit(*WITH_NONE)


def test_texts_of_no_class_alone_teach_nothing(model, fitted):
    clf = clone(fitted)
    for labels in (LABELS, None):
        with pytest.raises(ValueError, match=r"y is other=.* for all texts"):
            clf.set_params(labels=labels).fit(NONE, ["other"] * 3)
    with pytest.raises(ValueError, match=r"y_val is other=.* for all texts"):
        clf.fit(X, Y, X_val=NONE, y_val=["other"] * 3)
    with pytest.raises(ValueError, match=r"other='other' for 3 texts.*partial_fit holds none"):
        clf.set_params(labels=LABELS).partial_fit(*WITH_NONE)
    fitted = pickle.loads(pickle.dumps(fitted))
    limit = fitted.min_probability_
    assert fitted.partial_fit(X, Y).min_probability_ == limit
    assert fitted.score(pd.Series(NONE), pd.Series(["other"] * 3)) in (0, 1 / 3, 2 / 3, 1)
