"""Everything in scikit-learn that takes a classifier takes ours."""

import os
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    get_scorer,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.fixes import parse_version
from tiny import sentence_transformer
from toy import CONTAINERS, LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

TEXTS, Y = toy(18)
IS_SPORT = np.where(Y == "sport", "yes", "no")
FOLDS = StratifiedKFold(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture(params=CONTAINERS)
def any_X(request):
    """Every container; for what passes rows on as they are, and for what takes some of them."""
    return CONTAINERS[request.param](TEXTS)


# scikit-learn takes rows by position from the others as it does from one of these.
@pytest.fixture(params=["list", "column array", "pandas DataFrame", "polars Series"])
def each_X(request):
    return CONTAINERS[request.param](TEXTS)


# By one function, so that two containers are enough for most of what calls it.
@pytest.fixture(
    params=[
        "list",
        pytest.param("column array", marks=pytest.mark.slow),
        pytest.param("pandas DataFrame", marks=pytest.mark.slow),
        "polars Series",
    ]
)
def X(request):
    return CONTAINERS[request.param](TEXTS)


@pytest.fixture
def clf(model):
    return make_classifier(model)


def make_classifier(model, **parameters):
    quick = {"trainable": "head", "max_epochs": 1, "learning_rate": 0.01, "batch_size": 6}
    return GLiClassClassifier(model, **{"labels": LABELS, "random_state": 0, **quick, **parameters})


_FITTED = {}


def fit_by_hand(clf, rows=None, y=Y):
    """Fit with nothing but fit, on a list; once for all containers that are compared with it."""
    rows = np.arange(len(y)) if rows is None else rows
    key = repr((clf.get_params(), rows, y))
    if key not in _FITTED:
        _FITTED[key] = clone(clf).fit([TEXTS[i] for i in rows], y[rows])
    return _FITTED[key]


def scores_by_hand(clf):
    texts = np.array(TEXTS)
    return [
        accuracy_score(Y[test], fit_by_hand(clf, train).predict(texts[test]))
        for train, test in FOLDS.split(texts, Y)
    ]


def test_pipeline(clf, any_X):
    pipeline = Pipeline([("nothing", "passthrough"), ("clf", clf)]).fit(any_X, Y)
    alone = fit_by_hand(clf)
    np.testing.assert_array_equal(pipeline.predict_proba(any_X), alone.predict_proba(TEXTS))
    assert pipeline.score(any_X, Y) == alone.score(TEXTS, Y)
    assert pipeline.classes_.tolist() == LABELS


@pytest.mark.slow
def test_grid_search_over_wording_loss_and_epochs(clf, X):
    wording = {"music": "a concert", "sport": "a match", "travel": "a journey"}
    grid = [{"labels": [LABELS, wording]}, {"focal_gamma": [2.0]}, {"max_epochs": [0]}]
    search = GridSearchCV(clf, grid, cv=FOLDS).fit(X, Y)
    expected = [
        np.mean(scores_by_hand(clone(clf).set_params(**parameters)))
        for parameters in search.cv_results_["params"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    assert len(expected) == 4
    best = fit_by_hand(clone(clf).set_params(**search.best_params_))
    np.testing.assert_array_equal(search.predict(X), best.predict(TEXTS))


def test_halving_grid_search(clf, X):
    search = HalvingGridSearchCV(
        clf,
        {"learning_rate": [0.01, 1e-6]},
        resource="max_epochs",
        min_resources=1,
        max_resources=2,
        cv=FOLDS,
        factor=2,
    ).fit(X, Y)
    assert search.best_estimator_.n_iter_ == 2
    expected = np.mean(scores_by_hand(search.best_estimator_))
    assert search.best_score_ == pytest.approx(expected)


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_a_pickle_predicts_the_same(model, cls):
    clf = cls(model, LABELS)
    expected = clf.predict_proba(TEXTS[:3])
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS[:3]), expected)


# Processes that are forked have everything imported, and are handed the estimator as others are.
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")
def test_two_forked_processes(clf, model):
    # No accelerator that this process has begun to use can be used in a fork of it.
    with joblib.parallel_config(backend="multiprocessing"):
        check_cross_validation_in_two_processes(clf.set_params(device="cpu"), TEXTS)
        for cls in (GLiClassClassifier, GLiClassMultiLabelClassifier):
            check_worker_processes_predict_the_same(cls(model, LABELS, device="cpu"))


# All in one test: starting the two processes takes many times what they do here, and tests that
# follow each other may run in different processes of pytest-xdist, each with its own two.
@pytest.mark.slow
def test_two_processes(clf, model):
    for container in CONTAINERS.values():
        check_cross_validation_in_two_processes(clf, container(TEXTS))
    for cls in (GLiClassClassifier, GLiClassMultiLabelClassifier):
        check_worker_processes_predict_the_same(cls(model, LABELS))


def check_cross_validation_in_two_processes(clf, X):
    expected = scores_by_hand(clf)
    np.testing.assert_allclose(cross_val_score(clf, X, Y, cv=FOLDS, n_jobs=2), expected)
    results = cross_validate(
        clf, X, Y, cv=FOLDS, n_jobs=2, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"]
    )
    np.testing.assert_allclose(results["test_accuracy"], expected)
    proba = cross_val_predict(clf, X, Y, cv=FOLDS, n_jobs=2, method="predict_proba")
    for i, (train, test) in enumerate(FOLDS.split(TEXTS, Y)):
        by_hand = fit_by_hand(clf, train).predict_proba([TEXTS[j] for j in test])
        np.testing.assert_allclose(proba[test], by_hand, atol=1e-5)
        assert results["test_neg_log_loss"][i] == pytest.approx(
            -log_loss(Y[test], by_hand, labels=LABELS), abs=1e-4
        )


def check_worker_processes_predict_the_same(clf):
    texts = TEXTS[:3]
    expected = clf.predict_proba(texts)
    jobs = (joblib.delayed(clf.predict_proba)([text]) for text in texts)
    parts = joblib.Parallel(n_jobs=2)(jobs)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_calibration(clf, X):
    zero_shot = clone(clf).set_params(max_epochs=0)
    calibrated = CalibratedClassifierCV(FrozenEstimator(zero_shot), method="isotonic").fit(X, Y)
    logits = zero_shot.decision_function(TEXTS).T.astype(float)
    by_hand = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(z, name == Y).predict(z)
        for z, name in zip(logits, LABELS, strict=True)
    ]
    by_hand = np.column_stack(by_hand) / np.sum(by_hand, axis=0)[:, None]
    assert calibrated.classes_.tolist() == LABELS
    # Between two texts of nearly the same logit it is as steep as rounding of that logit shows.
    np.testing.assert_allclose(calibrated.predict_proba(X), by_hand, atol=1e-3)


@pytest.mark.slow
def test_calibration_of_a_trained_classifier(clf):
    clf.set_params(max_epochs=20)
    calibrated = CalibratedClassifierCV(clf, cv=FOLDS, ensemble=False).fit(TEXTS, Y)
    assert calibrated.score(TEXTS, Y) > 0.8


def test_tuned_threshold(model, X):
    clf = make_classifier(model, labels=["no", "yes"])
    tuned = TunedThresholdClassifierCV(FrozenEstimator(clf), cv="prefit", refit=False)
    tuned.fit(X, IS_SPORT)
    before, after = (balanced_accuracy_score(IS_SPORT, one.predict(X)) for one in (clf, tuned))
    assert after == pytest.approx(tuned.best_score_)
    assert after >= before
    by_hand = clf.predict_proba(TEXTS)[:, 1] >= tuned.best_threshold_
    np.testing.assert_array_equal(tuned.predict(X) == "yes", by_hand)


def test_fixed_threshold(model, X):
    clf = make_classifier(model, labels=["no", "yes"])
    proba = clf.predict_proba(TEXTS)[:, 0]
    threshold = float(np.median(proba))
    fixed = FixedThresholdClassifier(clf, threshold=threshold, pos_label="no")
    fixed.set_params(response_method="predict_proba").fit(X, IS_SPORT)
    trained = fit_by_hand(clf, y=IS_SPORT).predict_proba(TEXTS)[:, 0]
    np.testing.assert_array_equal(fixed.predict(X) == "no", trained >= threshold)


def test_stacking(clf, X):
    stack = StackingClassifier([("ours", clf)], LogisticRegression(), cv=FOLDS).fit(X, Y)
    # The columns that the final estimator sees are those of a fit on the class names.
    np.testing.assert_allclose(stack.transform(X), fit_by_hand(clf).predict_proba(TEXTS), atol=1e-6)
    assert stack.classes_.tolist() == LABELS
    assert set(stack.predict(X)) <= set(LABELS)


def test_voting(clf, X):
    other = clone(clf).set_params(focal_gamma=2.0, random_state=1)
    voting = VotingClassifier([("a", clf), ("b", other)], voting="soft").fit(X, Y)
    by_hand = [fit_by_hand(c).predict_proba(TEXTS) for c in (clf, other)]
    np.testing.assert_allclose(voting.predict_proba(X), np.mean(by_hand, axis=0), atol=1e-6)
    assert voting.classes_.tolist() == LABELS
    assert set(voting.predict(X)) <= set(LABELS)


def test_one_vs_rest(model, X):
    clf = make_classifier(model, labels={0: "anything else", 1: "about this"})
    rest = OneVsRestClassifier(clf).fit(X, Y)
    assert rest.classes_.tolist() == LABELS
    by_hand = np.column_stack(
        [fit_by_hand(clf, y=(name == Y).astype(int)).predict_proba(TEXTS)[:, 1] for name in LABELS]
    )
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rest.predict_proba(X), by_hand, atol=1e-6)


def test_one_vs_rest_beside_class_names_warns(clf):
    with pytest.warns(UserWarning, match="one class against the rest"):
        OneVsRestClassifier(clf).fit(TEXTS, Y)


def test_multi_output(model, X):
    clf = make_classifier(model, labels=None)
    both = np.column_stack([Y, IS_SPORT])
    outputs = MultiOutputClassifier(clf).fit(X, both)
    for column, wanted in zip(outputs.predict(X).T, both.T, strict=True):
        np.testing.assert_array_equal(column, fit_by_hand(clf, y=wanted).predict(TEXTS))
    assert [classes.tolist() for classes in outputs.classes_] == [LABELS, ["no", "yes"]]


def test_learning_curve(clf, each_X):
    sizes, train_scores, test_scores = learning_curve(
        clf, each_X, Y, cv=FOLDS, train_sizes=[0.5, 1.0]
    )
    assert sizes.tolist() == [4, 9]
    np.testing.assert_allclose(test_scores[1], scores_by_hand(clf))
    assert train_scores.shape == (2, 2)


def test_learning_curve_display(clf):
    pytest.importorskip("matplotlib").use("agg")
    display = LearningCurveDisplay.from_estimator(
        clf, np.array(TEXTS), Y, cv=FOLDS, train_sizes=[0.5, 1.0], score_type="test"
    )
    assert display.lines_[0].get_ydata()[1] == pytest.approx(np.mean(scores_by_hand(clf)))


@pytest.mark.parametrize("container", ["column array", "pandas DataFrame"])
def test_permutation_importance(clf, container):
    X = CONTAINERS[container](TEXTS)
    clf.set_params(max_epochs=10).fit(X, Y)
    importance = permutation_importance(clf, X, Y, n_repeats=2, random_state=0)
    assert clf.score(X, Y) > 0.9
    assert importance.importances_mean.shape == (1,)
    assert importance.importances_mean[0] > 0.3


def test_partial_fit_in_a_loop(clf, X):
    clf.set_params(learning_rate=0.001)
    losses = [log_loss(Y, clf.predict_proba(TEXTS))]
    for _ in range(4):
        clf.partial_fit(X, Y)
        losses.append(log_loss(Y, clf.predict_proba(X)))
    assert clf.n_iter_ == 1
    assert losses[-1] < losses[1] < losses[0]


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_partial_fit_wants_a_label_text_for_every_class(model, cls):
    clf = cls(model, LABELS, trainable="head")
    y = Y if cls is GLiClassClassifier else [[value] for value in Y]
    message = r"^classes\[3\] has the unknown class 'cooking'; the labels are 'music'"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(TEXTS, y, classes=[*LABELS, "cooking"])
        clf.partial_fit(TEXTS, y, classes=LABELS[:2] if cls is GLiClassClassifier else LABELS)


def test_partial_fit_learns_of_classes_to_come(model):
    clf = make_classifier(model, labels=None)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        clf.partial_fit(TEXTS, Y)
    for name in LABELS * 2:
        rows = [i for i in range(len(Y)) if Y[i] == name]
        clf.partial_fit([TEXTS[i] for i in rows], Y[rows], classes=LABELS)
        assert clf.classes_.tolist() == LABELS
    with pytest.raises(ValueError, match="not the same as on the last call"):
        clf.partial_fit(TEXTS, Y, classes=["music", "sport"])
    assert clf.classes_.tolist() == LABELS


def test_sample_weights_are_routed(clf, X):
    weights = np.linspace(0, 2, len(Y))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = (
            clone(clf).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        # Until 1.8 scikit-learn's own pipelines could not be asked to score with weights.
        is_old = parse_version(sklearn.__version__) < parse_version("1.8")
        scored = routed if is_old else Pipeline([("clf", routed)])
        params = {"sample_weight": weights}
        results = cross_validate(scored, X, Y, cv=FOLDS, params=params, return_estimator=True)
    for i, (train, test) in enumerate(FOLDS.split(TEXTS, Y)):
        by_hand = clone(clf).fit([TEXTS[j] for j in train], Y[train], weights[train])
        fitted = results["estimator"][i]
        held_out = [TEXTS[j] for j in test]
        np.testing.assert_array_equal(
            fitted.predict_proba(held_out), by_hand.predict_proba(held_out)
        )
        assert results["test_score"][i] == pytest.approx(
            by_hand.score(held_out, Y[test], weights[test])
        )


def test_rows_of_weight_zero_do_not_count(clf):
    wrong = Y.copy()
    wrong[:6] = np.roll(wrong[:6], 1)
    weights = np.r_[np.zeros(6), np.ones(12)]
    clf.set_params(batch_size=18)
    a, b = (clone(clf).fit(TEXTS, y, sample_weight=weights) for y in (Y, wrong))
    np.testing.assert_allclose(a.predict_proba(TEXTS), b.predict_proba(TEXTS), atol=1e-6)


# Integers that stand for classes.


def test_encoded_classes_are_told_by_their_label_texts(clf):
    """Ensembles replace the classes by 0..n-1; the model must still read the label texts."""
    encoded = np.searchsorted(LABELS, Y)
    a, b = clone(clf).fit(TEXTS, Y), clone(clf).fit(TEXTS, encoded)
    np.testing.assert_array_equal(a.predict_proba(TEXTS), b.predict_proba(TEXTS))
    np.testing.assert_array_equal(a.predict(TEXTS), np.array(LABELS)[b.predict(TEXTS)])
    assert b.classes_.tolist() == [0, 1, 2]


def test_encoded_classes_beside_unsorted_labels_are_refused(clf):
    clf.set_params(labels=LABELS[::-1])
    with pytest.raises(ValueError, match=r"sort labels .*\n?.*dict"):
        VotingClassifier([("a", clf)], voting="soft").fit(TEXTS, Y)
    # Remedies: sorted labels, as in the tests above, or naming the integers.
    clf.set_params(labels=dict(enumerate(LABELS)))
    assert set(VotingClassifier([("a", clf)]).fit(TEXTS, Y).predict(TEXTS)) <= set(LABELS)


def test_encoded_classes_without_labels_warn_once(model):
    clf = make_classifier(model, labels=None)
    with pytest.warns(UserWarning, match="say nothing about the texts") as caught:
        VotingClassifier([("a", clf)]).fit(TEXTS, Y)
    assert len(caught) == 1


# The multi-label classifier, and problems with two labels.


def test_multi_label_cross_validation(model, each_X):
    _, matrix = toy_indicator(18)
    clf = GLiClassMultiLabelClassifier(model, LABELS, max_epochs=0)
    scores = cross_validate(
        clf, each_X, matrix, cv=2, scoring=["f1_micro", "roc_auc", "average_precision"]
    )
    assert {len(v) for k, v in scores.items() if k.startswith("test_")} == {2}
    proba = cross_val_predict(clf, each_X, matrix, cv=2, method="predict_proba")
    np.testing.assert_allclose(proba, clf.predict_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize("numbers", [False, True])
def test_two_classes_with_the_scorers(model, numbers):
    labels, y = (
        ({0: "no", 1: "yes"}, (IS_SPORT == "yes").astype(int))
        if numbers
        else (["no", "yes"], IS_SPORT)
    )
    clf = make_classifier(model, labels=labels, max_epochs=10).fit(TEXTS, y)
    backwards = clone(clf).fit(TEXTS, np.where(y == clf.classes_[1], *clf.classes_))
    scorings = ["roc_auc", "neg_log_loss", "balanced_accuracy"]
    # These take 1 for the positive class, and no other class.
    scorings += ["average_precision", "neg_brier_score", "f1"] if numbers else []
    for scoring in scorings:
        scorer = get_scorer(scoring)
        assert scorer(clf, TEXTS, y) > scorer(backwards, TEXTS, y), scoring
    assert get_scorer("roc_auc")(clf, TEXTS, y) > 0.9


def test_two_labels_with_the_scorers(model):
    matrix = np.column_stack([Y == "sport", Y == "music"]).astype(int)
    clf = GLiClassMultiLabelClassifier(
        model,
        ["sport", "music"],
        trainable="head",
        learning_rate=0.01,
        batch_size=6,
        max_epochs=20,
        random_state=0,
    )
    clf.fit(TEXTS, matrix)
    for scoring in ("roc_auc", "f1_macro", "accuracy", "jaccard_macro"):
        assert get_scorer(scoring)(clf, TEXTS, matrix) > 0.6, scoring
    by_columns = average_precision_score(matrix, clf.decision_function(TEXTS))
    assert by_columns > 0.9
    assert roc_auc_score(matrix, clf.predict_proba(TEXTS)) == get_scorer("roc_auc")(
        clf, TEXTS, matrix
    )
    # With two classes_ scikit-learn takes the problem for a binary one and wants a class 1.
    with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
        get_scorer("average_precision")(clf, TEXTS, matrix)
    renamed = clone(clf).set_params(labels={0: "sport", 1: "music"}).fit(TEXTS, matrix)
    assert get_scorer("average_precision")(renamed, TEXTS, matrix) == pytest.approx(by_columns)


# What scikit-learn cannot do with texts; docs/scikit_learn.md gives the reasons.


@pytest.mark.parametrize(
    "make",
    [
        OneVsOneClassifier,
        SelfTrainingClassifier,
        lambda clf: StackingClassifier([("a", clf)], cv=FOLDS, passthrough=True),
    ],
)
def test_impossible_with_texts(clf, make):
    with pytest.raises(ValueError, match="could not convert string to float"):
        make(clf).fit(np.array(TEXTS, dtype=object).reshape(-1, 1), Y)


def test_a_chain_is_impossible_with_texts(clf):
    _, matrix = toy_indicator(18)
    with pytest.raises(ValueError, match="could not convert string to float"):
        ClassifierChain(clf.set_params(labels=None)).fit(pd.DataFrame({"text": TEXTS}), matrix)
