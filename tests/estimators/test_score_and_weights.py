"""`score` reads `y` as `fit` does; what nobody annotated and what weighs nothing stay out."""

from enum import Enum

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from tiny import sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.estimators.calibration import (
    best_temperature,
    best_thresholds,
    negative_log_likelihood,
    score_of,
)
from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.problem import SharedExamples, example_weights, split_off_validation
from skgliclass.estimators.scoring import ScoringPlan
from skgliclass.estimators.targets import Targets

NAN = np.nan
TEXTS, Y = toy(12)
MANY_TEXTS, MATRIX = toy_indicator(12)
RNG = np.random.default_rng(0)
HALF = MATRIX.astype(np.float32)
HALF[RNG.random(HALF.shape) < 0.4] = NAN
HALF[3] = NAN


class Topic(str, Enum):
    MUSIC = "music"
    SPORT = "sport"
    TRAVEL = "travel"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture(scope="module")
def one(model):
    return GLiClassClassifier(model, LABELS, trainable="all", max_epochs=0)


@pytest.fixture(scope="module")
def many(model):
    # With this threshold some labels of the tiny model are chosen, and others are not.
    clf = GLiClassMultiLabelClassifier(model, LABELS, max_epochs=0)
    threshold = float(np.median(clf.predict_proba(MANY_TEXTS)))
    return GLiClassMultiLabelClassifier(model, LABELS, max_epochs=0, threshold=threshold)


def as_sets(matrix):
    return [[LABELS[j] for j in np.flatnonzero(row)] for row in matrix]


@pytest.fixture(scope="module")
def truth(many):
    """Give targets of which some rows are what the classifier predicts."""
    truth = many.predict(MANY_TEXTS)
    truth[::3] = 1 - truth[::3]
    return truth


FORMS = {
    "array": np.asarray,
    "bool": lambda m: m.astype(bool),
    "frame": lambda m: pd.DataFrame(m, columns=LABELS),
    "nullable": lambda m: pd.DataFrame(m, columns=LABELS).astype("boolean"),
    "sparse": sparse.csr_array,
    "sets": as_sets,
    "column of lists": lambda m: pd.Series(as_sets(m)),
    "scores": lambda m: [dict(zip(LABELS, row.tolist(), strict=True)) for row in m],
    "soft": lambda m: 0.2 + 0.6 * m,
    "lists": lambda m: m.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_score_reads_every_form_that_fit_reads(many, truth, form):
    y = FORMS[form](truth)
    expected = accuracy_score(truth, many.predict(MANY_TEXTS))
    assert 0 < expected < 1
    assert many.score(MANY_TEXTS, y) == pytest.approx(expected)
    assert many.fit(MANY_TEXTS, y).score(MANY_TEXTS, y) == pytest.approx(expected)


def test_columns_in_another_order_are_refused_before_scorers_misread_them(many, truth):
    frame = pd.DataFrame(truth, columns=LABELS)
    for call in (many.fit, many.score):
        with pytest.raises(ValueError, match=r"another order.*y\[list\(labels\)\]"):
            call(MANY_TEXTS, frame[LABELS[::-1]])
    wordings = {"labels": [{name: f"about {name}" for name in LABELS}, LABELS]}
    search = GridSearchCV(many, wordings, cv=2, scoring="f1_micro", error_score="raise")
    with pytest.raises(ValueError, match="another order"):
        search.fit(MANY_TEXTS, frame[LABELS[::-1]])
    found = search.fit(MANY_TEXTS, frame).cv_results_["mean_test_score"]
    halves = [slice(0, 6), slice(6, 12)]
    predicted = many.predict(MANY_TEXTS)
    expected = [f1_score(truth[half], predicted[half], average="micro") for half in halves]
    assert found[1] == pytest.approx(np.mean(expected))


def test_score_of_one_class_a_text(one):
    predicted = one.predict(TEXTS)
    y = np.where(np.arange(12) < 4, np.roll(predicted, 1), predicted)
    expected = (y == predicted).mean()
    members = np.array([Topic(value) for value in y], dtype=object)
    for form in (y, y.tolist(), pd.Series(y, dtype="category"), members):
        assert one.score(TEXTS, form) == pytest.approx(expected)
        assert one.fit(TEXTS, form).classes_.tolist() == LABELS
    weights = np.arange(12)
    weighted = np.average(y == predicted, weights=weights)
    assert one.score(TEXTS, y, sample_weight=weights) == pytest.approx(weighted)


def test_integers_in_place_of_classes_are_scored_by_position(one):
    y = np.where(np.arange(12) < 4, np.roll(Y, 1), Y)
    encoded = [LABELS.index(value) for value in y]
    assert one.score(TEXTS, encoded) == one.score(TEXTS, y)
    fitted = GLiClassClassifier(one.model, LABELS, max_epochs=0).fit(TEXTS, encoded)
    assert fitted.score(TEXTS, encoded) == one.score(TEXTS, y)


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        (["music", "sport"], None, "2 labels"),
        ([*Y[:-1], "chess"], None, r"y\[11\] has the unknown class 'chess'"),
        ([*Y[:-1], None], None, r"y\[11\] is missing"),
        (Y, [-1.0] * 12, r"sample_weight\[0\]"),
        (Y, [0.0] * 12, "zero"),
        (None, None, "None"),
    ],
)
def test_score_refuses_what_fit_refuses(one, y, weight, message):
    for call in (one.fit, one.score):
        with pytest.raises(ValueError, match=message):
            call(TEXTS, y, weight)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_class_that_only_the_held_out_fold_has_is_a_mistake_of_the_prediction(model):
    y = np.where(np.arange(12) < 11, Y, "chess")
    clf = GLiClassClassifier(model, max_epochs=0)
    scores = cross_val_score(clf, TEXTS, y, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    fitted = clf.fit(TEXTS[:6], y[:6])
    expected = (fitted.predict(TEXTS) == y).mean()
    assert fitted.score(TEXTS, y) == pytest.approx(expected)


def test_label_sets_with_an_unseen_class_are_mistakes(model):
    sets = as_sets(MATRIX)
    clf = GLiClassMultiLabelClassifier(model, max_epochs=0, threshold=1.0)
    clf.fit(MANY_TEXTS, sets)
    assert clf.score(MANY_TEXTS, [[], ["chess"], *sets[2:]]) == pytest.approx(1 / 12)


def test_partial_fit_reads_classes_as_y(model):
    clf = GLiClassClassifier(model)
    members = list(Topic)
    clf.partial_fit(TEXTS[:3], np.array(members, dtype=object), classes=members)
    clf.partial_fit(TEXTS[:3], LABELS, classes=np.array([*LABELS, "sport"]))
    assert clf.classes_.tolist() == LABELS
    with pytest.raises(ValueError, match="is not the same as on the last call"):
        clf.partial_fit(TEXTS[:3], LABELS, classes=["music", "sport"])
    with pytest.raises(TypeError, match="classes mixes classes of different types"):
        GLiClassClassifier(model).partial_fit(TEXTS[:2], [1, 2], classes=[1, "1"])


def test_cross_validation_with_rows_that_nobody_annotated(many, truth):
    y = np.where(np.isnan(HALF), NAN, truth)
    folds = [(np.arange(6), np.arange(6, 12)), (np.arange(6, 12), np.arange(6))]
    scores = cross_val_score(many, MANY_TEXTS, y, cv=folds, error_score="raise")
    expected = [many.score(MANY_TEXTS[6:], y[6:]), many.score(MANY_TEXTS[:6], y[:6])]
    np.testing.assert_allclose(scores, expected)


# What nobody annotated.


def test_score_leaves_out_what_nobody_annotated(many, truth):
    y = np.where(np.isnan(HALF), NAN, truth)
    known = ~np.isnan(HALF)
    right = ((many.predict(MANY_TEXTS) == truth) | ~known).all(axis=1)
    counted = known.any(axis=1)
    assert not counted.all()
    assert many.score(MANY_TEXTS, y) == pytest.approx(right[counted].mean())
    frame = pd.DataFrame(y, columns=LABELS).astype("Int64")
    assert many.score(MANY_TEXTS, frame) == pytest.approx(right[counted].mean())
    with pytest.raises(ValueError, match="annotated"):
        many.score(MANY_TEXTS, y, sample_weight=~counted)


def test_figures_are_those_of_the_annotated_pairs():
    logits = (MATRIX - 0.5 + np.random.default_rng(1).normal(size=HALF.shape)).astype(np.float32)
    known = ~np.isnan(HALF)
    z, y = logits[known].astype(np.float64), HALF[known]
    assert score_of(logits, HALF, True) == pytest.approx(f1_score(y, z > 0))
    loss = -(y * np.log(expit(z)) + (1 - y) * np.log(1 - expit(z))).mean()
    assert negative_log_likelihood(logits, HALF, True) == pytest.approx(loss)
    found = best_temperature(logits, HALF, True)
    assert found == pytest.approx(best_temperature(z[:, None], y[:, None], True), rel=1e-4)
    for j, threshold in enumerate(best_thresholds(logits, HALF)):
        rows = known[:, j]
        (expected,) = best_thresholds(logits[rows, j : j + 1], HALF[rows, j : j + 1])
        assert threshold == expected


def test_a_class_without_an_annotation_keeps_one_half():
    matrix = np.array([[1, NAN], [0, NAN]], dtype=np.float32)
    assert best_thresholds(np.array([[1, 2], [-1, 2.0]]), matrix)[1] == 0.5


def test_f1_of_one_class_is_no_accuracy():
    matrix = np.array([[1], [0], [0]], dtype=np.float32)
    assert score_of(np.full((3, 1), -1.0), matrix, True) == 0


@pytest.mark.filterwarnings("ignore:calibrate=True")
def test_fit_judges_by_what_is_annotated(many, model):
    clf = GLiClassMultiLabelClassifier(
        model,
        LABELS,
        trainable="all",
        max_epochs=1,
        random_state=0,
        calibrate=True,
        threshold="auto",
    )
    clf.fit(MANY_TEXTS, HALF, X_val=MANY_TEXTS, y_val=HALF)
    logits = many.decision_function(MANY_TEXTS)
    known = ~np.isnan(HALF)
    expected = f1_score(HALF[known], logits[known] > 0, zero_division=0)
    assert clf.validation_scores_[0] == pytest.approx(expected)
    assert np.isfinite(clf.loss_curve_).all()
    assert np.isfinite([clf.temperature_, *clf.thresholds_]).all()


def test_cells_that_nobody_annotated_do_not_change_what_is_learnt(model):
    clf = GLiClassMultiLabelClassifier(model, LABELS, trainable="all", max_epochs=2, random_state=0)
    curves = [
        clf.fit(MANY_TEXTS, y).loss_curve_
        for y in (HALF, pd.DataFrame(HALF, columns=LABELS).astype("Int64"), HALF.tolist())
    ]
    assert curves[0] == curves[1] == curves[2]
    assert curves[0] != clf.fit(MANY_TEXTS, np.nan_to_num(HALF)).loss_curve_


def test_texts_that_nobody_annotated_are_not_set_aside():
    matrix = np.full((20, 2), NAN, dtype=np.float32)
    matrix[:4] = [1, 0]
    examples = SharedExamples([str(i) for i in range(20)], matrix)
    training, validation = split_off_validation(examples, 0.5, True, 0)
    assert len(validation) == 2
    assert not np.isnan(validation.matrix).any()
    assert [int(text) for text in training.texts] == sorted(map(int, training.texts))
    assert len(training) == 18
    with pytest.raises(ValueError, match="cannot be set aside from 1 example"):
        split_off_validation(SharedExamples(["a", "b"], matrix[3:5]), 0.5, True, 0)


def test_prompts_show_no_text_whose_labels_nobody_knows():
    plan = ScoringPlan(LabelSet.from_labels(["a", "b"], sort=False), True, None)
    matrix = np.array([[1, NAN], [0, NAN], [NAN, NAN], [0, 0]], dtype=np.float32)
    shown = SharedExamples(["yes", "maybe", "unknown", "none"], matrix).worth_showing(plan)
    assert [(example.text, example.labels) for example in shown] == [("yes", ("a",)), ("none", ())]


# Weights.


def targets_of(matrix, multi_label=True):
    return Targets(LabelSet.from_labels(["a", "b", "c"], sort=False), np.float32(matrix))


ONE_EACH = targets_of(np.eye(3)[[0, 0, 1]])


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"a": -1}, r"class_weight\['a'\] is -1 .*; a weight is 0 or a finite"),
        ({"b": NAN}, r"class_weight\['b'\] is nan"),
        ({"b": np.inf}, r"class_weight\['b'\] is inf"),
        ({"b": 1e40}, r"class_weight\['b'\] is 1e\+40"),
        ({"b": 10**400}, r"class_weight\['b'\] is 10000"),
        ({"b": "2"}, r"class_weight\['b'\] is '2' \(str\)"),
        ({"b": None}, r"class_weight\['b'\] is None"),
        ({"b": [1, 2]}, r"class_weight\['b'\] is \[1, 2\]"),
        ({"x": 1}, r"unknown classes: \['x'\]; the classes are 'a', 'b', 'c'"),
        ({"a": 0, "b": 0, "c": 0}, "class_weight is zero for all classes that occur"),
    ],
)
def test_class_weights_that_are_none(class_weight, message, multi_label):
    with pytest.raises(ValueError, match=message):
        example_weights(ONE_EACH, None, class_weight, multi_label)


@pytest.mark.parametrize(
    ("matrix", "sample_weight", "class_weight", "multi_label"),
    [
        (np.eye(3)[[0, 0, 1]], None, {"a": 0, "b": 0}, False),
        (np.eye(3)[[0, 0, 1]], [1, 1, 0], {"a": 0}, False),
        ([[1, NAN, NAN], [0, NAN, NAN]], None, {"a": 0}, True),
        ([[1, NAN, NAN], [NAN, 0, NAN]], [1, 0], {"a": 0}, True),
    ],
)
def test_weights_whose_product_is_zero(matrix, sample_weight, class_weight, multi_label):
    with pytest.raises(ValueError, match="class_weight is zero for all classes that occur"):
        example_weights(targets_of(matrix), sample_weight, class_weight, multi_label)


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        ([1, NAN, 1], r"sample_weight\[1\] is nan"),
        ([1, None, 1], r"sample_weight\[1\] is None"),
        (np.ma.array([1, 5, 1], mask=[0, 1, 0]), r"sample_weight\[1\] is None"),
        (["x", 1, 1], r"sample_weight\[0\] is 'x' .*it must be a number"),
        (["1", "2", "3"], r"sample_weight\[0\] is '1'"),
        (np.array([b"1", b"2", b"3"]), r"sample_weight\[0\] is b'1'"),
        (np.array([1, 2, 3], dtype="m8[s]"), r"sample_weight\[0\] is"),
        (pd.Series(pd.date_range("2020", periods=3)), r"sample_weight\[0\] is"),
        (np.ones((3, 2)), "sample_weight has shape"),
        (pd.Series([1, None, 2], dtype="Int64"), "sample_weight"),
        ([1, 2], "sample_weight has shape"),
        ([1, 1e300, 1], r"sample_weight\[1\] is 1e\+300; .* to 3.4e\+38"),
        ([1, 1, 10**400], r"sample_weight\[2\] is inf"),
        (np.array([1, 1, 1e300]), r"sample_weight\[2\] is 1e\+300"),
        ([1, 1e-300, 1], r"sample_weight\[1\] is 1e-300; .* from 1.2e-38"),
        ([1, -1e-300, 1], r"sample_weight\[1\] is -1e-300"),
    ],
)
def test_sample_weights_that_are_none(sample_weight, message):
    with pytest.raises(ValueError, match=message):
        example_weights(ONE_EACH, sample_weight, None, True)


@pytest.mark.parametrize(
    "container",
    [
        list,
        dict.fromkeys,
        lambda values: dict(enumerate(values)).values(),
        lambda values: pd.DataFrame({"weight": values}),
        lambda values: pd.Series(values, dtype="Float64"),
        lambda values: np.ma.array(values),
    ],
    ids=["list", "dict", "values", "frame", "nullable", "masked"],
)
def test_containers_of_sample_weights(container):
    weights = container([1.0, 2.0, 0.5])
    if isinstance(weights, dict):
        weights = weights.keys()
    assert example_weights(ONE_EACH, weights, None, True)[0].tolist() == [1.0, 2.0, 0.5]


def test_weights_only_where_nothing_is_annotated():
    with pytest.raises(ValueError, match="zero for all samples that are annotated"):
        example_weights(targets_of([[NAN] * 3, [1, 0, NAN]]), [1, 0], None, True)


def test_balanced_weights_count_what_is_annotated():
    matrix = [[1, NAN, 0], [1, 1, NAN], [NAN, 0, 0], [1, NAN, NAN]]
    _, weights = example_weights(targets_of(matrix), None, "balanced", True)
    # Three and one true pairs, two on average; the third class has none.
    np.testing.assert_allclose(weights, [2 / 3, 2, 1])
    weights, _ = example_weights(ONE_EACH, None, "balanced", False)
    np.testing.assert_allclose(weights, [3 / 4, 3 / 4, 3 / 2])


@pytest.mark.parametrize("multi_label", [False, True])
def test_balanced_weights_count_a_text_as_often_as_it_weighs(multi_label):
    labels = np.eye(3)[[0, 0, 1, 1, 2]]
    sample_weight = np.array([2, 1, 0, 1, 3])

    def of_cells(matrix, weights):
        found = example_weights(targets_of(matrix), weights, "balanced", multi_label)
        rows, columns = (1.0 if some is None else some for some in found)
        return (matrix.T * rows).T * columns

    copies = of_cells(labels.repeat(sample_weight, axis=0), None)
    of_each = of_cells(labels, sample_weight)
    np.testing.assert_allclose(of_each.sum(axis=0), copies.sum(axis=0), rtol=1e-6)


def test_class_weights_of_members_are_those_of_their_values():
    targets = Targets(LabelSet.from_labels(LABELS, sort=False), np.eye(3, dtype=np.float32))
    weights, _ = example_weights(targets, [1, 1, 2], {Topic.SPORT: 3, Topic.TRAVEL: 0.5}, False)
    assert weights.tolist() == [1, 3, 1]


def test_products_of_weights_are_weights():
    with pytest.raises(
        ValueError, match=r"sample_weight\[1\] times the class_weight .* 1.0.*e\+60"
    ):
        example_weights(ONE_EACH, [1, 1e30, 1], {"a": 1e30}, False)
