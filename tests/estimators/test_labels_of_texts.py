"""Texts with label sets of their own, and the k best labels of texts."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import reference_checkpoint
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer
from skgliclass.datasets import Example, PromptExample, to_arrays

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music", "quick fox"]
# A reordered list of the classes, others, a mixture with numbers of their own, and texts.
OWN = [["travel", "music", "sport"], ["fox", "dog"], ["sport", "day", "café"], {"b": "x", "a": "y"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


def alone(clf, i, method):
    """Give what a classifier with the labels of one text says of it, by label."""
    # All the classes of the classifier are read in its own order.
    own = clone(clf).set_params(labels=LABELS if i == 0 else OWN[i])
    return dict(zip(own.classes_, getattr(own, method)([TEXTS[i]])[0], strict=True))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("shortlist", [None, 2])
def test_scores_are_those_of_a_classifier_with_the_labels_of_the_text(model, cls, shortlist):
    clf = cls(model, LABELS, task_description="Topic: ", shortlist=shortlist)
    for method in ("predict_proba", "predict_log_proba"):
        for i, values in enumerate(getattr(clf, method)(TEXTS, labels=OWN)):
            expected = alone(clf, i, method)
            by_label = dict(zip(OWN[i], values, strict=True))
            assert by_label == pytest.approx(expected, abs=1e-5)
    frame = clf.predict_frame(pd.Series(TEXTS, index=list("abcd")), labels=OWN)
    assert frame.index.tolist() == list("abcd")
    assert frame.columns.tolist() == [
        "travel",
        "music",
        "sport",
        "fox",
        "dog",
        "day",
        "café",
        *"ba",
    ]
    for i, proba in enumerate(clf.predict_proba(TEXTS, labels=OWN)):
        row = frame.iloc[i].dropna()
        assert row.index.tolist() == list(OWN[i])
        np.testing.assert_array_equal(row.to_numpy(), proba)


def test_one_class_a_text(model):
    clf = GLiClassClassifier(model, LABELS)
    probabilities = clf.predict_proba(TEXTS, labels=OWN)
    expected = [list(of)[p.argmax()] for of, p in zip(OWN, probabilities, strict=True)]
    assert clf.predict(TEXTS, labels=OWN).tolist() == expected
    logits = clf.decision_function(TEXTS, labels=OWN)
    assert [len(row) for row in logits] == [3, 2, 3, 2]
    numbers = clf.predict(TEXTS[:2], labels=[[10, 2], np.array([2, 3])])
    assert numbers.dtype.kind == "i"
    # Of one name, but of another order and type.
    own = [[10, 2], ["10", "2"]]
    same = clf.predict_frame([TEXTS[0]] * 2, labels=own)
    for i, labels in enumerate(own):
        expected = GLiClassClassifier(model, labels).predict_frame(TEXTS[:1])
        found = same.iloc[[i]][labels].to_numpy()
        np.testing.assert_allclose(found, expected[labels].to_numpy(), atol=1e-6)


def test_any_number_of_classes(model):
    clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=0.48)
    probabilities = clf.predict_proba(TEXTS, labels=OWN)
    chosen = clf.predict(TEXTS, labels=OWN)
    for row, p in zip(chosen, probabilities, strict=True):
        np.testing.assert_array_equal(row, p >= np.float32(0.48))
    expected = [
        [n for n, c in zip(of, row, strict=True) if c] for of, row in zip(OWN, chosen, strict=True)
    ]
    assert clf.predict_labels(TEXTS, labels=OWN) == expected
    ranked = clf.predict_top(TEXTS, k=None, labels=OWN)
    for i, of_text in ranked.groupby(level=0):
        assert sorted(of_text.label[of_text.predicted]) == sorted(expected[i])
    with pytest.raises(ValueError, match="threshold"):
        clf.set_params(threshold=[0.1, 0.2, 0.3]).predict(TEXTS, labels=OWN)


@pytest.mark.parametrize("cls", BOTH)
def test_what_was_tuned_serves_texts_with_all_classes(model, cls):
    X, y = toy(18) if cls is GLiClassClassifier else toy_indicator(18)
    clf = cls(model, LABELS, trainable="head", max_epochs=2, calibrate=True, random_state=0)
    if cls is GLiClassMultiLabelClassifier:
        clf.set_params(threshold="auto")
    clf.fit(X, y, X_val=X, y_val=y)
    assert clf.temperature_ != 1
    shuffled = ["travel", "music", "sport"]
    own = clf.predict_top(X, k=None, labels=[shuffled] * len(X))
    plain = clf.predict_top(X, k=None)
    pd.testing.assert_frame_equal(own, plain, atol=1e-6)
    # Labels with other texts are others.
    other = clf.predict_proba(X, labels=[{name: f"the {name}" for name in LABELS}] * len(X))
    unlike = clone(clf).set_params(labels=None)
    unlike._fit_state = clf._fit_state
    unlike.set_params(labels={name: f"the {name}" for name in LABELS})
    np.testing.assert_allclose(other, unlike.predict_proba(X), atol=1e-5)


def test_classes_keep_their_label_texts_and_need_not_be_there(model):
    named = GLiClassClassifier(model, {"m": "music", "s": "sport"})
    (own,) = named.predict_proba(TEXTS[:1], labels=[["s", "day", "m"]])
    plain = GLiClassClassifier(model, {"day": "day", "m": "music", "s": "sport"})
    expected = plain.predict_frame(TEXTS[:1])[["s", "day", "m"]].to_numpy()[0]
    np.testing.assert_allclose(own, expected, atol=1e-6)
    bare = GLiClassClassifier(model)
    assert bare.predict(TEXTS, labels=OWN).shape == (4,)


@pytest.mark.parametrize("cls", BOTH)
def test_examples_are_predicted_with_all_that_they_bring(model, cls):
    shown = (PromptExample("the dog", ["fox"]),)
    rows = [Example("quick fox", ["fox", "day"], ["fox"], prompt="Topic: ", examples=shown)]
    clf = cls(model, LABELS)
    own = cls(model, ["day", "fox"], task_description="Topic: ", examples=[("the dog", "fox")])
    expected = own.predict_frame(["quick fox"])[["fox", "day"]].to_numpy()
    np.testing.assert_allclose(clf.predict_proba(rows), expected, atol=1e-5)
    with pytest.raises(TypeError, match=r"X\[1\] is 'text'.*but X\[0\] is an Example"):
        clf.predict([*rows, "text"])
    with pytest.raises(TypeError, match=r"X\[0\] is Example"):
        GLiClassTransformer(model, LABELS).transform(rows)


@pytest.mark.parametrize(
    "container",
    [tuple, pd.Series, lambda own: pd.DataFrame({"own": own}), lambda own: np.array(own)],
    ids=["tuple", "Series", "frame", "array"],
)
def test_containers_of_label_sets(model, container):
    own = [["fox", "dog"], ["day", "café"], ["b", "a"], ["music", "day"]]
    clf = GLiClassClassifier(model, LABELS)
    expected = clf.predict(TEXTS, labels=own).tolist()
    assert clf.predict(TEXTS, labels=container(own)).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (iter([["a"]] * 4), TypeError, r"list\("),
        (pd.DataFrame({"a": [1], "b": [2]}), ValueError, "frame with 2 columns"),
        ("abcd", TypeError, r"a list with a label set for each text.*set_params\(labels"),
        ({"a": "b"}, TypeError, "a list with a label set for each text"),
        (["a", "b", "c", "d"], TypeError, r"labels\[0\] is the string 'a'.*set_params\(labels"),
        ([["a", "b"]], ValueError, "labels has 1 label sets, but X has 4 texts"),
        ([["a"], ["b", "b"], ["c"], ["d"]], ValueError, r"labels\[1\], those of X\[1\].*'b'"),
        ([["a"], None, ["c"], ["d"]], TypeError, r"labels\[1\], those of X\[1\]"),
        ([["a"], [], ["c"], ["d"]], ValueError, r"labels\[1\], those of X\[1\].*empty"),
    ],
)
def test_what_is_no_label_set_is_named(model, labels, error, message):
    with pytest.raises(error, match=message):
        GLiClassClassifier(model, LABELS).predict(TEXTS, labels=labels)


def test_a_pipeline_routes_the_labels(model):
    clf = GLiClassClassifier(model, LABELS)
    with sklearn.config_context(enable_metadata_routing=True):
        requested = clone(clf).set_predict_request(labels=True)
        pipeline = make_pipeline(FunctionTransformer(list), requested)
        assert (pipeline.predict(TEXTS, labels=OWN) == clf.predict(TEXTS, labels=OWN)).all()


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_top"])
def test_a_text_with_one_label_is_told(model, method):
    own = [["fox"], ["fox", "dog"], ["day"], ["a", "b"]]
    message = "2 of 4 rows offer one label alone.*GLiClassMultiLabelClassifier"
    with pytest.warns(UserWarning, match=message) as caught:
        getattr(GLiClassClassifier(model, LABELS), method)(TEXTS, labels=own)
    assert len(caught) == 1
    # Here it says something.
    GLiClassMultiLabelClassifier(model, LABELS).predict(TEXTS, labels=own)


# Scores of predictions among them.


def test_score_of_one_class_a_text_among_its_own(model):
    clf = GLiClassClassifier(model, LABELS)
    predicted = clf.predict(TEXTS, labels=OWN).tolist()
    wrong = next(name for name in OWN[0] if name != predicted[0])
    y = [wrong, *predicted[1:]]
    for form in (y, np.array(y), pd.Series(y)):
        assert clf.score(TEXTS, form, labels=OWN) == 0.75
    assert clf.score(TEXTS, y, sample_weight=[0, 1, 1, 1], labels=OWN) == 1
    assert GLiClassClassifier(model).score(TEXTS, predicted, labels=OWN) >= 0
    numbers = [[10, 2], [3, 2]]
    expected = clf.predict(TEXTS[:2], labels=numbers)
    assert clf.score(TEXTS[:2], expected, labels=numbers) == 1
    unsure = clf.set_params(other="none", min_probability=1.0)
    assert unsure.score(TEXTS, ["none", *predicted[1:]], labels=OWN) == 0.25


@pytest.mark.parametrize(
    "form",
    [
        lambda sets, chosen: sets,
        lambda sets, chosen: [set(names) for names in sets],
        lambda sets, chosen: [dict.fromkeys(names, 0.7) for names in sets],
        lambda sets, chosen: chosen,
        lambda sets, chosen: [row.tolist() for row in chosen],
        lambda sets, chosen: [row.astype(float) for row in chosen],
    ],
    ids=["lists", "sets", "scores", "arrays", "numbers", "floats"],
)
def test_score_of_any_number_of_classes_reads_what_predict_gives(model, form):
    clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=0.48)
    chosen = clf.predict(TEXTS, labels=OWN)
    chosen[1] = 1 - chosen[1]
    sets = [
        [n for n, c in zip(of, row, strict=True) if c] for of, row in zip(OWN, chosen, strict=True)
    ]
    assert clf.score(TEXTS, form(sets, chosen), labels=OWN) == 0.75


def test_score_of_what_nobody_annotated_among_the_labels_of_a_text(model):
    clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=0.48)
    own = [list(labels) for labels in OWN]
    chosen = [row.astype(float) for row in clf.predict(TEXTS, labels=own)]
    rows = [
        Example(text, labels, dict(zip(labels, values, strict=True)))
        for text, labels, values in zip(TEXTS, own, chosen, strict=True)
    ]
    # A column for each label that any text has, in the order in which they come.
    X, matrix, labels, _ = to_arrays(rows, multi_label=True)
    assert np.isnan(matrix).any()
    assert clf.score(X, matrix, labels=own) == 1
    assert clf.score(X, pd.DataFrame(matrix, columns=labels), labels=own) == 1
    assert clf.score(rows, clf.predict(rows)) == 1
    chosen[1] = 1 - chosen[1]
    assert clf.score(TEXTS, chosen, labels=own) == 0.75
    chosen[1][:] = np.nan
    assert clf.score(TEXTS, chosen, labels=own) == 1


@pytest.mark.parametrize("cls", BOTH)
def test_score_is_that_of_a_classifier_with_the_labels_of_the_text(model, cls):
    X, y = (toy if cls is GLiClassClassifier else toy_indicator)(12)
    clf = cls(model, LABELS)
    assert clf.score(X, y, labels=[LABELS] * 12) == clf.score(X, y)
    other = {name: f"the {name}" for name in LABELS}
    expected = clone(clf).set_params(labels=other).score(X, y)
    assert clf.score(X, y, labels=[other] * 12) == expected


@pytest.mark.parametrize(
    ("cls", "y", "message"),
    [
        (BOTH[0], ["travel", "music", "day", "a"], r"y\[1\] has the class 'music'.* X\[1\]: 'fox'"),
        (BOTH[0], ["travel", "fox", "day", "nowhere"], r"y\[3\] has the class 'nowhere'"),
        (BOTH[0], ["travel", "fox", "day"], "4 texts, but 3 labels"),
        (
            BOTH[1],
            [["travel"], ["day"], [], []],
            r"y\[1\] has the class 'day'.*X\[1\]: 'fox', 'dog'",
        ),
        (BOTH[1], [["travel"], ["fox"], []], "4 texts, but 3 labels"),
        (BOTH[1], [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0]], "holds rows of 2 to 3 numbers"),
        (BOTH[1], np.zeros((4, 3)), "has 3 columns, but there are 9 labels"),
    ],
)
def test_score_names_what_is_none_of_the_labels_of_a_text(model, cls, y, message):
    with pytest.raises(ValueError, match=message):
        cls(model, LABELS).score(TEXTS, y, labels=OWN)


@pytest.mark.parametrize("cls", BOTH)
def test_score_reads_texts_once(model, cls):
    read = []

    class Column(list):
        def __iter__(self):
            read.append(1)
            return super().__iter__()

    X, y = (toy if cls is GLiClassClassifier else toy_indicator)(6)
    cls(model, LABELS).predict(Column(X))
    n_once = len(read)
    cls(model, LABELS).score(Column(X), y)
    assert len(read) == 2 * n_once


def test_a_pipeline_and_a_split_route_the_labels_of_score(model):
    y = ["travel", "fox", "day", "a"]
    with sklearn.config_context(enable_metadata_routing=True):
        clf = GLiClassClassifier(model, LABELS).set_score_request(labels=True)
        expected = clf.score(TEXTS, y, labels=OWN)
        assert make_pipeline(FunctionTransformer(list), clf).score(TEXTS, y, labels=OWN) == expected
        fitted = clf.set_params(labels=None, max_epochs=0)
        scores = cross_validate(fitted, TEXTS, y, cv=KFold(2), params={"labels": OWN})
        assert scores["test_score"].mean() == expected


# The k best.


@pytest.mark.parametrize("cls", BOTH)
def test_the_best_labels_are_a_frame_with_the_index_of_the_texts(model, cls):
    X = pd.Series(TEXTS, index=[4, 5, 6, 7], name="text")
    clf = cls(model, LABELS)
    top, frame = clf.predict_top(X, 2), clf.predict_frame(X)
    assert top.columns.tolist() == ["rank", "label", "probability", "predicted"]
    assert top.index.tolist() == [4, 4, 5, 5, 6, 6, 7, 7]
    assert top["rank"].tolist() == [1, 2] * 4
    for i, of_text in top.groupby(level=0):
        best = frame.loc[i].sort_values(ascending=False)[:2]
        assert of_text.label.tolist() == best.index.tolist()
        np.testing.assert_array_equal(of_text.probability, best.to_numpy())
    if cls is GLiClassClassifier:
        assert top[top.predicted].label.tolist() == clf.predict(X).tolist()
        assert top.predicted.tolist() == [True, False] * 4
    joined = X.to_frame().join(clf.predict_top(X, k=1))
    assert joined.label.tolist() == frame.idxmax(axis=1).tolist()
    assert len(clf.predict_top(TEXTS, k=9)) == len(clf.predict_top(TEXTS, None)) == 12
    assert clf.predict_top(TEXTS).index.tolist() == [i for i in range(4) for _ in range(3)]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2"])
def test_k_is_a_count(model, k):
    with pytest.raises(ValueError, match="k="):
        GLiClassClassifier(model, LABELS).predict_top(TEXTS, k)


# Logarithms.


@pytest.mark.parametrize("cls", BOTH)
def test_logarithms_are_those_of_the_probabilities_and_finite(model, cls):
    clf = cls(model, LABELS)
    logs = clf.predict_log_proba(TEXTS)
    np.testing.assert_allclose(logs, np.log(clf.predict_proba(TEXTS)), atol=1e-5)
    assert logs.dtype == np.float32
    sharp = cls(model, LABELS, max_epochs=0).fit(
        TEXTS[:3], LABELS if cls is GLiClassClassifier else np.eye(3)
    )
    object.__setattr__(sharp._fit_state, "temperature", 1e-4)
    assert (sharp.predict_proba(TEXTS) == 0).any()
    assert np.isfinite(sharp.predict_log_proba(TEXTS)).all()


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_missing_unlabelled_text_is_named_as_it_is(model, missing):
    clf = GLiClassClassifier(model, LABELS)
    with pytest.raises(ValueError, match=rf"unlabelled\[1\] is missing \({missing!r}\);"):
        clf.fit(*toy(6), unlabelled=["a", missing])
