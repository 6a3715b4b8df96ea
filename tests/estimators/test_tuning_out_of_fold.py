"""What is tuned where label vectors alone are learnt: on rows that each was learnt without."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score
from tiny import sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.engine.engine import Engine
from skgliclass.estimators.state import FitState
from skgliclass.estimators.tuning import Evidence, Tunes, tuned

X, Y = toy(30)
FRESH, ANSWERS = toy(60, seed=3)
# A fourth of the labels are wrong, so that certainty would be, too.
NOISY = np.where(np.arange(30) % 4 == 0, np.roll(Y, 1), Y)
QUICK = {"device": "cpu", "n_jobs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


def one(model, **parameters):
    return GLiClassClassifier(model, LABELS, **QUICK, **parameters)


def many(model, **parameters):
    return GLiClassMultiLabelClassifier(model, LABELS, **QUICK, **parameters)


@pytest.fixture(scope="module")
def fitted(model):
    return one(model).fit(X, NOISY)


def test_a_temperature_is_fitted_without_holding_rows_out(model, fitted):
    plain = one(model, calibrate=False).fit(X, NOISY)
    assert fitted.calibrate == "auto"
    assert fitted.temperature_ != 1
    assert plain.temperature_ == 1
    # All rows were learnt from, whether a temperature was fitted or not.
    assert np.array_equal(fitted.decision_function(X), plain.decision_function(X))
    asked = one(model, calibrate=True).fit(X, NOISY)
    assert asked.temperature_ == fitted.temperature_
    assert np.array_equal(asked.decision_function(X), plain.decision_function(X))


def test_logits_are_divided_by_it(fitted):
    expected = softmax(fitted.decision_function(FRESH) / fitted.temperature_, axis=1)
    assert np.allclose(fitted.predict_proba(FRESH), expected, atol=1e-5)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_by_default_no_other_fit_has_one(model, trainable):
    clf = one(model, trainable=trainable, max_epochs=1).fit(X, NOISY, X_val=X, y_val=Y)
    assert clf.temperature_ == 1
    assert one(model, max_epochs=0).fit(X, NOISY).temperature_ == 1


def test_a_class_with_one_row_tells_nothing(model):
    clf = one(model, calibrate=True).fit(X[:3], Y[:3])
    assert clf.temperature_ == 1
    sets = many(model, threshold="auto").fit(X[:3], [[name] for name in Y[:3]])
    assert sets.thresholds_.tolist() == [0.5] * 3
    assert sets.temperature_ == 1


def test_few_rows_that_are_all_right_do_not_make_certain(model):
    clf = one(model, label_penalty=1e-3, calibrate=True).fit(X[:12], Y[:12])
    assert 0.3 < clf.temperature_ < 2


@pytest.mark.parametrize(
    ("parameters", "is_held_out", "advice"),
    [
        ({"label_penalty": 1e5}, False, "labelled texts, held out in turn, .* more labelled texts"),
        ({"max_epochs": 0}, False, "validation texts .* or a larger validation_fraction"),
        ({"max_epochs": 0}, True, r"validation texts .* Give more of them\.$"),
    ],
    ids=["in turn", "set aside", "passed"],
)
def test_where_texts_tell_no_temperature_the_advice_fits(model, parameters, is_held_out, advice):
    # All are right already, the more certain the better.
    y = many(model).predict(X)
    held_out = {"X_val": X, "y_val": y} if is_held_out else {}
    with pytest.warns(UserWarning, match=advice):
        many(model, calibrate=True, **parameters).fit(X, y, **held_out)


def test_row_by_row_tunes_as_one_fit(model, fitted):
    clf = one(model)
    for i in range(0, 30, 6):
        clf.partial_fit(X[i : i + 6], NOISY[i : i + 6])
    assert clf.temperature_ == pytest.approx(fitted.temperature_, rel=1e-2)
    expected = fitted.predict_proba(FRESH)
    assert np.allclose(clf.predict_proba(FRESH), expected, atol=1e-3)


def test_rows_without_weight_are_no_evidence(model):
    weights = np.r_[np.ones(24), np.zeros(6)]
    weighted = one(model).fit(X, NOISY, sample_weight=weights)
    fewer = one(model).fit(X[:24], NOISY[:24])
    assert weighted.temperature_ == pytest.approx(fewer.temperature_, rel=0.05)


def test_classes_that_come_later_leave_it_finite(model):
    clf = GLiClassClassifier(model, **QUICK)
    clf.partial_fit(X[:20], Y[:20], classes=LABELS)
    clf.partial_fit(["a b"] * 2, ["chess"] * 2, classes=[*LABELS, "chess"])
    assert np.isfinite(clf.temperature_)
    assert np.isfinite(clf.predict_proba(FRESH)).all()


def test_thresholds_are_tuned_on_all_rows_and_do_no_harm(model):
    texts, matrix = toy_indicator(30)
    tuned_many = many(model, threshold="auto").fit(texts, matrix)
    plain = many(model).fit(texts, matrix)
    assert np.array_equal(tuned_many.decision_function(texts), plain.decision_function(texts))
    assert (np.abs(tuned_many.thresholds_ - 0.5) < 0.5 * 20 / 50 + 1e-6).all()
    fresh, truth = toy_indicator(60, seed=4)
    f1 = [f1_score(truth, clf.predict(fresh), average="micro") for clf in (tuned_many, plain)]
    assert f1[0] > f1[1] - 0.01


def test_texts_of_no_class_tune_the_limit_on_all_rows(model):
    y = [*Y, *["none"] * 4]
    clf = one(model, other="none").fit([*X, "zzz", "qqq", "www", "xxx"], y)
    assert 0 < clf.min_probability_ < 1
    plain = one(model).fit(X, Y)
    assert np.array_equal(clf.decision_function(FRESH), plain.decision_function(FRESH))


def test_held_out_texts_are_scored_once(model, monkeypatch):
    scored, logits = [], Engine.logits

    def count(self, texts, *args, **kwargs):
        scored.extend(texts)
        return logits(self, texts, *args, **kwargs)

    clf = one(model, calibrate=True)
    monkeypatch.setattr(Engine, "logits", count)
    clf.fit(X, NOISY, X_val=FRESH, y_val=ANSWERS)
    assert len(scored) == len(X) + len(FRESH)
    assert len(clf.validation_scores_) == 2
    assert clf.temperature_ != 1


def test_early_stopping_holds_rows_out_to_judge(model):
    clf = one(model, early_stopping=True, validation_fraction=0.2).fit(X, Y)
    assert len(clf.validation_scores_) == 2
    expected = one(model, calibrate=False).fit(X, Y).decision_function(FRESH)
    assert not np.allclose(clf.decision_function(FRESH), expected, atol=1e-4)


def test_a_limit_needs_both_kinds_of_rows():
    evidence = Evidence(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32))
    state = tuned(FitState(None), Tunes(min_probability=True), evidence, multi_label=False)
    assert state.min_probability is None
