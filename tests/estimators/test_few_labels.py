"""Learning label vectors and biases alone, from few labels, many, or none."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags
from tiny import reference_checkpoint

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

TEXTS = [
    "a goal in the last minute of the final",
    "we took the night train to Rome",
    "the match went to penalties",
    "our flight to Lisbon was late",
    "share prices fell on Monday",
    "the bank raised its rates",
]
CLASSES = ["sport", "travel", "sport", "travel", "money", "money"]
NAMES = ["money", "sport", "travel"]
MORE = ["the striker scored twice", "a hotel by the sea", "the central bank met", "a cup tie"]


def labels_alone(**parameters):
    return GLiClassClassifier(device="cpu", n_jobs=1, trainable="labels", **parameters)


@pytest.fixture(scope="module")
def fitted():
    return labels_alone(labels=NAMES).fit(TEXTS, CLASSES)


@pytest.fixture(scope="module")
def zero_shot():
    return labels_alone(labels=NAMES)


def test_it_learns_labels_that_zero_shot_does_not_know(zero_shot):
    swapped = [NAMES[(NAMES.index(name) + 1) % 3] for name in CLASSES]
    clf = labels_alone(labels=NAMES, label_penalty=1e-3).fit(TEXTS, swapped)
    assert zero_shot.score(TEXTS, swapped) < 0.5
    assert clf.score(TEXTS, swapped) == 1


def test_it_says_how_it_went(fitted):
    assert fitted.trainable_ == "labels"
    assert fitted.n_iter_ == len(fitted.loss_curve_) > 1
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    assert fitted.validation_scores_ is None


def test_no_epochs_stay_zero_shot(zero_shot):
    clf = labels_alone(labels=NAMES, max_epochs=0).fit(TEXTS, CLASSES)
    assert np.array_equal(clf.predict_proba(TEXTS), zero_shot.predict_proba(TEXTS))
    assert clf.n_iter_ == 0


def test_a_large_penalty_is_zero_shot(zero_shot):
    # Of one class alone: biases would move as well.
    clf = labels_alone(labels=NAMES, label_penalty=1e6, calibrate=False).fit(
        TEXTS[:2], NAMES[:1] * 2
    )
    change = clf.decision_function(MORE) - zero_shot.decision_function(MORE)
    assert np.abs(change).max() < 1e-3


def test_neither_order_nor_seed_nor_batches_matter(fitted):
    order = [4, 0, 3, 1, 5, 2]
    other = labels_alone(labels=NAMES, random_state=3, batch_size=2, learning_rate=1.0)
    other.fit([TEXTS[i] for i in order], [CLASSES[i] for i in order])
    assert np.allclose(other.decision_function(MORE), fitted.decision_function(MORE), atol=1e-3)


def test_weights_are_as_copies():
    weighted = labels_alone(labels=NAMES).fit(TEXTS, CLASSES, sample_weight=[3, 1, 1, 1, 1, 0])
    copied = labels_alone(labels=NAMES).fit(
        [TEXTS[0]] * 2 + TEXTS[:5], [CLASSES[0]] * 2 + CLASSES[:5]
    )
    expected = copied.decision_function(MORE)
    assert np.allclose(weighted.decision_function(MORE), expected, atol=1e-6)


def test_class_weight_counts(fitted):
    clf = labels_alone(labels=NAMES, class_weight={"sport": 50.0}).fit(TEXTS, CLASSES)
    assert clf.predict_proba(MORE)[:, 1].sum() > fitted.predict_proba(MORE)[:, 1].sum()


def test_held_out_texts_decide_against_what_is_none_the_better(zero_shot):
    swapped = [NAMES[(NAMES.index(name) + 1) % 3] for name in CLASSES]
    clf = labels_alone(labels=NAMES).fit(TEXTS, swapped, X_val=TEXTS, y_val=CLASSES)
    assert len(clf.validation_scores_) == 2
    assert clf.validation_scores_[0] > clf.validation_scores_[1]
    found, expected = clf.decision_function(MORE), zero_shot.decision_function(MORE)
    assert np.array_equal(found, expected)


def test_a_warm_start_ends_at_the_same_solution_sooner(fitted):
    clf = labels_alone(labels=NAMES, warm_start=True).fit(TEXTS, CLASSES)
    n_iter, before = clf.n_iter_, clf.decision_function(MORE)
    clf.fit(TEXTS, CLASSES)
    assert clf.n_iter_ < n_iter
    assert np.allclose(clf.decision_function(MORE), before, atol=1e-3)


# Texts without labels.


def test_texts_alone_teach(zero_shot):
    clf = labels_alone(labels=NAMES).fit(TEXTS)
    assert not np.allclose(clf.predict_proba(MORE), zero_shot.predict_proba(MORE), atol=1e-3)
    assert clf.score(TEXTS, CLASSES) == 1


@pytest.mark.parametrize("blank", ["", " \n", "\u2003"], ids=["empty", "white space", "em space"])
def test_blank_texts_without_labels_teach_nothing(blank):
    expected = labels_alone(labels=NAMES).fit(TEXTS).decision_function(MORE)
    with_blank = [*TEXTS[:2], *[blank] * 30, *TEXTS[2:]]
    alone = labels_alone(labels=NAMES).fit(with_blank)
    beside = labels_alone(labels=NAMES).fit([blank], [None], unlabelled=[*TEXTS, blank])
    for clf in (alone, beside):
        assert np.allclose(clf.decision_function(MORE), expected, atol=1e-4)
    clf = labels_alone(labels=NAMES).fit([blank] * 3)
    assert np.array_equal(
        clf.decision_function(MORE), labels_alone(labels=NAMES).decision_function(MORE)
    )


@pytest.mark.parametrize("none", [[], np.array([], dtype=str), pd.Series([], dtype=object)])
def test_there_may_be_no_texts_left_without_labels(fitted, none):
    clf = labels_alone(labels=NAMES).fit(TEXTS, CLASSES, unlabelled=none)
    assert np.array_equal(clf.decision_function(MORE), fitted.decision_function(MORE))
    with pytest.raises(TypeError, match="single string"):
        clf.fit(TEXTS, CLASSES, unlabelled="")


@pytest.mark.parametrize("mark", [None, float("nan"), -1], ids=["none", "nan", "minus one"])
def test_rows_without_labels_are_texts_without_labels(mark):
    y = [name if i != 3 else mark for i, name in enumerate(CLASSES)]
    marked = labels_alone(labels=NAMES).fit(TEXTS, y)
    apart = labels_alone(labels=NAMES).fit(
        TEXTS[:3] + TEXTS[4:], CLASSES[:3] + CLASSES[4:], unlabelled=[TEXTS[3]]
    )
    found, expected = marked.decision_function(MORE), apart.decision_function(MORE)
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("y", "arguments", "message"),
    [
        ([None, "sport", None, "rugby", "money", "money"], {}, r"^y\[3\] has the unknown class"),
        ([None, "sport", None, "", 3, "money"], {}, r"y\[1\] is 'sport' .str., y\[4\] is 3"),
        ([None, 1, -1, 7, 0, 0], {}, r"^y\[3\] is 7"),
        ([None, 0.0, None, 1.25, 1.0, 0.0], {}, r"continuous\. y\[3\] is 1\.25"),
        (["sport", None], {}, "6 texts, but 2 labels"),
        ([None, *CLASSES], {}, "6 texts, but 7 labels"),
        (
            [None, *CLASSES[1:]],
            {"sample_weight": [1, 1, 1, -1, 1, 1]},
            r"^sample_weight\[3\] is -1",
        ),
        ([None, *CLASSES[1:]], {"sample_weight": [1, 1]}, r"sample_weight has shape \(2,\)"),
        (None, {"sample_weight": [1, 1]}, r"sample_weight has shape \(2,\)"),
        (
            [None, *CLASSES[1:]],
            {"sample_weight": [np.nan, 1, 1, 1, np.nan, 1]},
            r"^sample_weight\[4\] is nan",
        ),
        (
            [None, *CLASSES[1:]],
            {"sample_weight": [None, 1, 1, 1, None, 1]},
            r"^sample_weight\[4\] is None",
        ),
        (None, {"sample_weight": [1, 1, 1, 1, -1, 1]}, r"^sample_weight\[4\] is -1"),
    ],
)
def test_a_mistake_among_rows_without_labels_is_named_by_its_row(y, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        labels_alone(labels=NAMES).fit(TEXTS, y, **arguments)


@pytest.mark.parametrize(
    "form", [np.asarray, pd.DataFrame, np.ndarray.tolist], ids=["array", "frame", "lists"]
)
def test_a_table_is_no_column_of_classes_whatever_is_missing(form):
    y = np.asarray([[np.nan, np.nan], *[[0.0, 1.0]] * 5])
    with pytest.raises(ValueError, match=r"got an array of shape \(6, 2\)"):
        labels_alone(labels=NAMES).fit(TEXTS, form(y))
    with pytest.raises(ValueError, match=r"got an array of shape \(6, 2\)"):
        labels_alone(labels=NAMES).suggest_rows(TEXTS, 2, form(y))


def test_several_classes_of_a_text_are_named_by_its_row():
    y = [None, ["money"], *[["sport", "money"]] * 4]
    with pytest.raises(ValueError, match=r"^y\[2\] is \['sport', 'money'\]"):
        labels_alone(labels=NAMES).fit(TEXTS, y)


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.asarray,
        pd.Series,
        lambda w: pd.Series(w, dtype="Float64"),
        lambda w: [None, *w[1:]],
    ],
    ids=["list", "array", "series", "nullable series", "list with None"],
)
def test_the_weight_of_a_text_without_a_label_may_be_missing(form):
    y = [None, *CLASSES[1:]]
    found = labels_alone(labels=NAMES).fit(TEXTS, y, form([np.nan, 1, 2, 1, 1, 3]))
    expected = labels_alone(labels=NAMES).fit(TEXTS, y, [7, 1, 2, 1, 1, 3])
    assert np.array_equal(found.decision_function(MORE), expected.decision_function(MORE))
    alone = labels_alone(labels=NAMES).fit(TEXTS, sample_weight=[np.nan] * 6)
    expected = labels_alone(labels=NAMES).fit(TEXTS)
    assert np.array_equal(alone.decision_function(MORE), expected.decision_function(MORE))


def test_a_product_of_weights_is_named_by_its_row():
    y = [None, *CLASSES[1:5], "none of these"]
    clf = labels_alone(labels=NAMES, class_weight={"money": 1e30}, other="none of these")
    with pytest.raises(ValueError, match=r"^sample_weight\[4\] times the class_weight"):
        clf.fit(TEXTS, y, sample_weight=[1, 1, 1, 1, 1e30, 1])
    y = ["none of these", None, *CLASSES[2:]]
    with pytest.raises(ValueError, match=r"^sample_weight\[4\] times the class_weight"):
        clf.fit(TEXTS, y, sample_weight=[1, 1, 1, 1, 1e30, 1])


def test_a_mistake_after_texts_of_no_class_is_named_by_its_row():
    clf = labels_alone(labels=NAMES, other="none of these")
    for first in (["none of these"] * 2, [None, "none of these"]):
        with pytest.raises(ValueError, match=r"^y\[3\] has the unknown class 'rugby'"):
            clf.fit(TEXTS, [*first, "sport", "rugby", *CLASSES[4:]])
    with pytest.raises(ValueError, match=r"^y\[2\]"):
        labels_alone(other="none of these").fit(TEXTS[:3], ["none of these", "sport", " "])


def any_number(**parameters):
    return GLiClassMultiLabelClassifier(device="cpu", n_jobs=1, **parameters)


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        lambda y: np.asarray(y, dtype=np.float32),
        lambda y: np.asarray(y, dtype=object),
        lambda y: y,
        lambda y: [*map(np.asarray, y)],
        lambda y: pd.DataFrame(y, columns=NAMES),
        lambda y: pd.DataFrame(y, columns=NAMES).astype("Int8"),
        lambda y: scipy.sparse.csr_array(np.asarray(y)),
    ],
    ids=["integers", "floats", "objects", "lists", "arrays", "frame", "nullable frame", "sparse"],
)
def test_rows_of_minus_one_are_texts_without_labels(form):
    y = [[0, 1, 0], [0, 0, 1], [-1, -1, -1], [0, 1, 1]]
    marked = any_number(labels=NAMES).fit(TEXTS[:4], form(y))
    apart = any_number(labels=NAMES).fit(
        [TEXTS[i] for i in (0, 1, 3)], np.asarray(y)[[0, 1, 3]], unlabelled=[TEXTS[2]]
    )
    found, expected = marked.decision_function(MORE), apart.decision_function(MORE)
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("beside", [0, 1, np.nan])
def test_minus_one_beside_other_values_is_a_mistake(beside):
    y = np.asarray([[0, 1, 0], [-1, -1, -1], [-1, beside, -1]])
    for form in (y, y.tolist(), pd.DataFrame(y, columns=NAMES)):
        with pytest.raises(ValueError, match=r"^y\[2\] has -1.* for class 'money'"):
            any_number(labels=NAMES).fit(TEXTS[:3], form)


def test_rows_of_minus_one_need_labels_to_learn_from():
    y = np.asarray([[0, 1, 0], [-1, -1, -1], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"^y\[1\] is -1 for all classes.*with labels="):
        any_number().fit(TEXTS[:3], pd.DataFrame(y, columns=NAMES))
    with pytest.raises(ValueError, match=r"^y\[1\] is -1 for all classes.*trainable="):
        any_number(labels=NAMES, trainable="all").fit(TEXTS[:3], y)


@pytest.mark.parametrize("mark", [np.nan, -1], ids=["nan", "minus one"])
@pytest.mark.parametrize("named", [True, False], ids=["labels", "no labels"])
def test_partial_fit_refuses_rows_without_labels(mark, named):
    y = np.asarray([[0, 1, 0], [mark] * 3, [0, 0, 1], [np.nan, 0, 1]])
    clf = any_number(labels=NAMES if named else None, max_epochs=0)
    clf.fit(TEXTS[:3], pd.DataFrame([[0, 1, 0], [0, 0, 1], [1, 0, 0]], columns=NAMES))
    for form in (y, y.tolist(), pd.DataFrame(y, columns=NAMES)):
        for one in (clf, any_number(labels=NAMES)):
            with pytest.raises(ValueError, match=r"^y\[1\] is (NaN|-1) for all classes"):
                one.partial_fit(TEXTS[:4], form)
    # A row of which a part is annotated counts with that part.
    clf.partial_fit([TEXTS[i] for i in (0, 2, 3)], np.delete(y, 1, axis=0))


def test_score_leaves_out_rows_of_nan_and_refuses_other_marks():
    y = np.asarray([[0, 1, 0], [np.nan] * 3, [0, 0, 1]])
    clf = any_number(labels=NAMES)
    assert clf.score(TEXTS[:3], y) == clf.score([TEXTS[0], TEXTS[2]], y[[0, 2]])
    with pytest.raises(ValueError, match=r"^y\[1\] is -1 for all classes"):
        clf.score(TEXTS[:3], np.nan_to_num(y, nan=-1))
    with pytest.raises(ValueError, match=r"^y\[1\] is None"):
        clf.score(TEXTS[:3], [["sport"], None, ["travel"]])


def test_minus_one_may_be_a_class():
    classes = {-1: "money", 0: "sport", 1: "travel"}
    clf = any_number(labels=classes, max_epochs=0).fit(TEXTS[:3], [[-1], [0, 1], [-1, 1]])
    assert clf.trainable_ == "labels"
    assert clf.score(TEXTS[:3], [[-1], [0, 1], [-1, 1]]) >= 0
    with pytest.raises(ValueError, match=r"^y\[0\] is -1 for all classes"):
        clf.fit(TEXTS[:2], np.asarray([[-1, -1, -1], [0, 1, 0]]))


def test_a_mistake_among_label_sets_is_named_by_its_row():
    for y in ([None, ["rugby"]], [np.nan, {"rugby": 1}], [[np.nan], ["rugby"]]):
        with pytest.raises(ValueError, match=r"^y\[1\] has the unknown class 'rugby'"):
            GLiClassMultiLabelClassifier(labels=NAMES).fit(TEXTS[:2], y)
    rows = np.asarray([[np.nan] * 3, [0, 1, 7]])
    with pytest.raises(ValueError, match=r"^y\[1\] has 7"):
        GLiClassMultiLabelClassifier(labels=NAMES).fit(TEXTS[:2], rows)


def test_thresholds_of_other_classes_are_refused_before_anything_is_learnt():
    for threshold in ([0.4, 0.5], {"rugby": 0.4}):
        clf = GLiClassMultiLabelClassifier(labels=NAMES, threshold=threshold)
        for arguments in ((TEXTS,), (TEXTS, [[name] for name in CLASSES])):
            with pytest.raises(ValueError, match="threshold"):
                clf.fit(*arguments)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_positions_of_classes_may_have_missing_ones_among_them(dtype):
    y = np.asarray([1, 2, np.nan, -1, 0, 0], dtype=dtype)
    clf = labels_alone(labels=NAMES).fit(TEXTS, y)
    assert clf.predict(TEXTS[:2]).tolist() == [1, 2]


def test_minus_one_is_a_class_where_it_is_one():
    clf = labels_alone(labels={-1: "sport", 1: "travel"}).fit(TEXTS[:4], [-1, 1, -1, 1])
    assert clf.predict(TEXTS[:2]).tolist() == [-1, 1]
    with pytest.warns(UserWarning, match="numbers"):
        clf = labels_alone().fit(TEXTS[:4], [-1, 1, -1, 1])
    assert clf.classes_.tolist() == [-1, 1]


@pytest.mark.parametrize("trainable", ["all", "head", "lora"])
def test_other_ways_of_training_refuse_texts_without_labels(trainable):
    clf = GLiClassClassifier(labels=NAMES, trainable=trainable)
    for arguments in [(TEXTS,), (TEXTS, [*CLASSES[:-1], None])]:
        with pytest.raises(ValueError, match=r'trainable="(auto" or ")?labels"'):
            clf.fit(*arguments)
    with pytest.raises(ValueError, match=r'trainable="(auto" or ")?labels"'):
        clf.fit(TEXTS, CLASSES, unlabelled=MORE)


def test_texts_without_labels_need_classes():
    with pytest.raises(ValueError, match="labels="):
        labels_alone().fit(TEXTS, CLASSES, unlabelled=MORE)
    with pytest.raises(ValueError, match="y"):
        labels_alone().fit(TEXTS)


def test_a_model_that_texts_teach_nothing_says_so(tmp_path):
    reference_checkpoint(tmp_path, n_layers=1)
    clf = labels_alone(model=str(tmp_path), labels=NAMES)
    with pytest.raises(ValueError, match=r"teach nothing to this model.*Give y"):
        clf.fit(TEXTS)
    with pytest.warns(UserWarning, match=r"teach nothing to this model.*left out"):
        clf.fit(TEXTS, CLASSES, unlabelled=MORE)
    labelled_alone = clone(clf).fit(TEXTS, CLASSES)
    assert np.array_equal(clf.decision_function(MORE), labelled_alone.decision_function(MORE))


def test_the_tag_says_when_y_is_needed():
    assert get_tags(labels_alone()).target_tags.required
    assert not get_tags(labels_alone(labels=NAMES)).target_tags.required


def test_score_refuses_missing_labels(fitted):
    for y in (None, [*CLASSES[:-1], None], [*CLASSES[:-1], -1]):
        with pytest.raises((ValueError, TypeError)):
            fitted.score(TEXTS, y)


# Afterwards.


def test_a_prediction_depends_on_its_row_alone(fitted):
    together = fitted.decision_function(TEXTS + MORE)
    alone = np.concatenate([fitted.decision_function([text]) for text in TEXTS + MORE])
    assert np.allclose(together, alone, atol=1e-4)


def test_it_is_saved_and_pickled(fitted, tmp_path):
    expected = fitted.decision_function(MORE)
    fitted.save_pretrained(tmp_path)
    loaded = GLiClassClassifier.from_pretrained(tmp_path, device="cpu")
    assert np.allclose(loaded.decision_function(MORE), expected, atol=1e-5)
    pickled = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(pickled.decision_function(MORE), expected)
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "learnt_labels.safetensors" in page
    assert "learnt_rows.safetensors" in page
    # The checkpoint is the model as it was.
    bare = GLiClassClassifier(model=str(tmp_path), labels=NAMES, device="cpu")
    zero = GLiClassClassifier(labels=NAMES, device="cpu")
    assert np.allclose(bare.decision_function(MORE), zero.decision_function(MORE), atol=1e-4)
    file = tmp_path / "learnt_labels.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="learnt_labels"):
        GLiClassClassifier.from_pretrained(tmp_path, device="cpu")


def test_saving_again_what_learnt_nothing_leaves_nothing(fitted, zero_shot, tmp_path):
    fitted.save_pretrained(tmp_path)
    zero_shot.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("learnt_*"))
    assert json.loads((tmp_path / "skgliclass.json").read_text("utf-8"))["keeps_change"] is False


def test_a_clone_forgets(fitted, zero_shot):
    found = clone(fitted).predict_proba(MORE)
    assert np.array_equal(found, zero_shot.predict_proba(MORE))


def test_new_labels_start_from_their_own_vectors(fitted, zero_shot):
    clf = pickle.loads(pickle.dumps(fitted)).set_params(labels=[*NAMES, "weather"])
    new = clf.decision_function(MORE)
    assert np.allclose(new[:, :3], fitted.decision_function(MORE), atol=1e-4)
    bare = clone(zero_shot).set_params(labels=[*NAMES, "weather"])
    assert np.allclose(new[:, 3], bare.decision_function(MORE)[:, 3], atol=1e-4)


def test_labels_of_single_rows_keep_what_was_learnt_for_them(fitted):
    rows = fitted.decision_function(MORE[:1], labels=[["travel", "sport"]])
    assert np.allclose(rows[0], fitted.decision_function(MORE[:1])[0, [2, 1]], atol=1e-4)


def test_a_shortlist_adds_to_what_is_read(fitted):
    clf = pickle.loads(pickle.dumps(fitted)).set_params(shortlist=2)
    whole, short = fitted.decision_function(MORE), clf.decision_function(MORE)
    is_read = np.isclose(whole, short, atol=1e-4)
    assert (is_read.sum(axis=1) == 2).all()
    assert (short[~is_read] < short.max(axis=1) - 5).all()


def test_cross_validation_works():
    clf = labels_alone(labels=NAMES)
    assert cross_val_score(clf, TEXTS * 2, CLASSES * 2, cv=2).tolist() == [1, 1]


# One call after another.


def test_row_by_row_is_one_fit(fitted):
    clf = labels_alone(labels=NAMES).fit(TEXTS[:3], CLASSES[:3])
    for text, name in zip(TEXTS[3:], CLASSES[3:], strict=True):
        clf.partial_fit([text], [name])
    expected = fitted.decision_function(MORE)
    assert np.allclose(clf.decision_function(MORE), expected, atol=1e-4)


def test_a_saved_classifier_learns_on(fitted, tmp_path):
    labels_alone(labels=NAMES).fit(TEXTS[:4], CLASSES[:4]).save_pretrained(tmp_path)
    clf = GLiClassClassifier.from_pretrained(tmp_path, device="cpu")
    clf.partial_fit(TEXTS[4:], CLASSES[4:])
    expected = fitted.decision_function(MORE)
    assert np.allclose(clf.decision_function(MORE), expected, atol=1e-3)


def test_later_calls_add_classes():
    clf = labels_alone().partial_fit(TEXTS[:4], CLASSES[:4], classes=["sport", "travel"])
    clf.partial_fit(TEXTS[4:], CLASSES[4:], classes=NAMES)
    assert clf.score(TEXTS, CLASSES) == 1


def test_balanced_weights_are_refused_in_parts():
    with pytest.raises(ValueError, match="class_weight"):
        labels_alone(labels=NAMES, class_weight="balanced").partial_fit(TEXTS, CLASSES)


# Any number of classes.


def many(**parameters):
    parameters = {"labels": NAMES, "trainable": "labels", **parameters}
    return GLiClassMultiLabelClassifier(device="cpu", n_jobs=1, **parameters)


def test_label_sets_are_learnt():
    y = [[name, "money"] if name == "sport" else [name] for name in CLASSES]
    clf = many(label_penalty=1e-3).fit(TEXTS, y)
    assert clf.score(TEXTS, [sorted(set(row), key=NAMES.index) for row in y]) == 1


def test_what_is_not_annotated_stays_out():
    y = np.asarray([[NAMES[k] == name for k in range(3)] for name in CLASSES], dtype=float)
    unknown = y.copy()
    unknown[:, 2] = np.nan
    zero, clf = many().decision_function(MORE), many().fit(TEXTS, unknown).decision_function(MORE)
    assert np.allclose(clf[:, 2], zero[:, 2], atol=1e-4)
    assert not np.allclose(clf[:, 1], zero[:, 1], atol=1e-2)


def test_a_row_without_a_label_set_is_a_text_without_labels():
    y = [[name] for name in CLASSES]
    y[3] = None
    clf = many().fit(TEXTS, y)
    assert clf.decision_function(MORE).shape == (4, 3)


# Which texts to label.


def test_rows_to_label_are_those_without_a_label_and_repeat(fitted):
    clf = labels_alone(labels=NAMES, random_state=0)
    y = [None, "travel", -1, float("nan"), None, "money", None, None, None, None]
    chosen = clf.suggest_rows(TEXTS + MORE, 4, y)
    assert len(set(chosen.tolist())) == 4
    assert chosen.dtype.kind == "i"
    assert not {1, 5} & set(chosen.tolist())
    assert np.array_equal(chosen, clf.suggest_rows(TEXTS + MORE, 4, y))
    assert len(fitted.suggest_rows(TEXTS, 50)) == len(TEXTS)


def test_neither_blanks_nor_copies_are_to_be_labelled_while_others_are_left(fitted):
    # What has no label yet stands from 4 to 8 alone.
    texts = ["", "  ", "\n", TEXTS[0], *MORE, TEXTS[3], MORE[0], TEXTS[0], TEXTS[5]]
    y = [None] * 10 + ["sport", "money"]
    assert fitted.suggest_rows(texts, 5, y).tolist() == [4, 5, 6, 7, 8]
    assert {4, 5, 6, 7, 8} < set(fitted.suggest_rows(texts, 7, y).tolist())
    assert fitted.suggest_rows(texts, 20, y).tolist() == list(range(10))


@pytest.mark.parametrize("n_rows", [0, -1, 1.5, True, None])
def test_how_many_to_label_is_a_number(n_rows, zero_shot):
    with pytest.raises(ValueError, match="n_rows"):
        zero_shot.suggest_rows(TEXTS, n_rows)


def test_labels_so_far_go_with_the_texts(zero_shot):
    with pytest.raises(ValueError, match="6 texts, but 2 labels"):
        zero_shot.suggest_rows(TEXTS, 1, ["sport", None])
    with pytest.raises(ValueError, match="6 texts, but 2 labels"):
        zero_shot.suggest_rows(TEXTS, 1, ["sport", "travel"])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([None, "sport", None, "rugby", None, None], r"^y\[3\] has the unknown class 'rugby'"),
        ([""] * 6, r"^y\[0\] has the unknown class ''"),
        ([None, "sport", None, 3, None, None], r"y\[1\] is 'sport' .str., y\[3\] is 3"),
        ([None, *[["sport", "money"]] * 5], "GLiClassMultiLabelClassifier"),
    ],
)
def test_labels_so_far_are_read_as_fit_reads_them(y, message):
    without_labels = GLiClassClassifier(device="cpu", n_jobs=1, max_epochs=0).fit(TEXTS, CLASSES)
    for clf in (labels_alone(labels=NAMES), without_labels):
        with pytest.raises((ValueError, TypeError), match=message):
            clf.suggest_rows(TEXTS, 2, y)
    with pytest.raises((ValueError, TypeError), match=message):
        labels_alone(labels=NAMES).fit(TEXTS, y)


def test_label_sets_so_far_are_read_as_fit_reads_them():
    clf = GLiClassMultiLabelClassifier(device="cpu", n_jobs=1, labels=NAMES)
    with pytest.raises(ValueError, match=r"^y\[1\] has the unknown class 'rugby'"):
        clf.suggest_rows(TEXTS, 2, [None, ["rugby"], *[None] * 4])
    rows = np.full((6, 3), np.nan)
    rows[2:] = [[0, 1, 0], [0, 0, 0], [1, np.nan, 0], [0.5, 0, 0]]
    assert clf.suggest_rows(TEXTS, 2, rows).tolist() == [0, 1]
    assert clf.suggest_rows(TEXTS, 2, [None, None, ["sport"], [], {"money"}, []]).tolist() == [0, 1]
    rows[5] = 7
    with pytest.raises(ValueError, match=r"^y\[5\] has 7"):
        clf.suggest_rows(TEXTS, 2, rows)


def test_texts_of_no_class_have_a_label():
    clf = labels_alone(labels=NAMES, other="none of these")
    y = [None, None, *["none of these"] * 4]
    assert clf.suggest_rows(TEXTS, 6, y).tolist() == [0, 1]
