"""Every warning points at the user's line, which here is one of this file."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    GLiClassTransformer,
    TruncationWarning,
)
from skgliclass.datasets import Example, PromptExample, from_arrays

TEXTS, Y = toy(12)
MANY_TEXTS, MATRIX = toy_indicator(12)
LONG = [f"{text} " * 40 for text in TEXTS]
QUICK = {"max_epochs": 1, "trainable": "head", "random_state": 0}
SHORT = {"max_length": 32}


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi")))


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


def one(model, labels=LABELS, **parameters):
    return GLiClassClassifier(model, labels, **{**QUICK, **parameters})


def many(model, labels=LABELS, **parameters):
    return GLiClassMultiLabelClassifier(model, labels, **{**QUICK, **parameters})


def search(estimator, X, y):
    return GridSearchCV(estimator, {"max_epochs": [0]}, cv=2, error_score="raise").fit(X, y)


CUT, CUT_TRAINING = "texts did not fit", "texts to learn from did not fit"
NUMBERS, COLUMNS = "The classes are numbers", "The columns of y have no names"
LEFT_OUT = "examples"
DIGITS = np.arange(12) % 3

CALLS = {
    "predict": (CUT, lambda m: one(m, **SHORT).predict(LONG)),
    "predict_proba": (CUT, lambda m: one(m, **SHORT).predict_proba(LONG)),
    "decision_function": (CUT, lambda m: one(m, **SHORT).decision_function(LONG)),
    "predict_frame": (CUT, lambda m: one(m, **SHORT).predict_frame(LONG)),
    "predict_labels": (CUT, lambda m: many(m, **SHORT).predict_labels(LONG)),
    "score": (CUT, lambda m: one(m, **SHORT).score(LONG, Y)),
    "embed": (CUT, lambda m: one(m, **SHORT).embed(LONG)),
    "examples left out": (
        LEFT_OUT,
        lambda m: one(m, **SHORT, examples=[(LONG[0], LABELS[0])]).predict(TEXTS),
    ),
    "transform": (CUT, lambda m: GLiClassTransformer(m, LABELS, **SHORT).transform(LONG)),
    "fit_transform": (
        CUT,
        lambda m: GLiClassTransformer(m, output="embeddings", **SHORT).fit_transform(LONG),
    ),
    "transform to a frame": (
        CUT,
        lambda m: (
            GLiClassTransformer(m, LABELS, **SHORT).set_output(transform="pandas").transform(LONG)
        ),
    ),
    "transformer, classes from y": (NUMBERS, lambda m: GLiClassTransformer(m).fit(TEXTS, DIGITS)),
    "fit": (CUT_TRAINING, lambda m: one(m, **SHORT).fit(LONG, Y)),
    "partial_fit": (CUT_TRAINING, lambda m: one(m, **SHORT).partial_fit(LONG, Y)),
    "fit, numbers": (NUMBERS, lambda m: one(m, None, max_epochs=0).fit(TEXTS, DIGITS)),
    "partial_fit, positions": (
        "not all of them occur",
        lambda m: one(m).partial_fit(TEXTS[:2], [0, 1]),
    ),
    "fit, positions": (
        "not all of them occur",
        lambda m: one(m, max_epochs=0).fit(TEXTS, DIGITS % 2),
    ),
    "fit, a column": ("A column-vector y", lambda m: one(m).fit(TEXTS, Y.reshape(-1, 1))),
    "fit, a matrix": (COLUMNS, lambda m: many(m, None, max_epochs=0).fit(MANY_TEXTS, MATRIX)),
    "fit, calibration": (
        "do not tell how certain",
        lambda m: one(m, ["x", "y"], calibrate=True, max_epochs=0).fit(
            ["a"], ["x"], X_val=TEXTS, y_val=one(m, ["x", "y"]).predict(TEXTS)
        ),
    ),
    "a pipeline predicts": (
        CUT,
        lambda m: make_pipeline("passthrough", one(m, **SHORT)).predict(LONG),
    ),
    "a pipeline fits": (
        CUT_TRAINING,
        lambda m: Pipeline([("nothing", "passthrough"), ("clf", one(m, **SHORT))]).fit(LONG, Y),
    ),
    "a pipeline transforms": (
        CUT,
        lambda m: make_pipeline(GLiClassTransformer(m, LABELS, **SHORT)).fit_transform(LONG),
    ),
    "a search": (CUT, lambda m: search(one(m, **SHORT), LONG, Y)),
    "cross-validation": (
        CUT_TRAINING,
        lambda m: cross_val_score(one(m, **SHORT), LONG, Y, cv=2, error_score="raise"),
    ),
    "from_arrays": (NUMBERS, lambda m: from_arrays(TEXTS, DIGITS)),
}


@pytest.mark.parametrize("architecture", ["uni", "bi"])
@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_users_line(request, architecture, name):
    message, call = CALLS[name]
    if architecture == "bi" and "examples" in name:
        pytest.skip("its prompts have no place for examples")
    model = request.getfixturevalue(architecture)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(model)
    ours = [warning for warning in caught if message in str(warning.message)]
    assert ours
    assert {warning.filename for warning in caught} == {__file__}


def test_a_column_is_a_conversion_as_scikit_learn_calls_it(bi):
    with pytest.warns(DataConversionWarning, match="ravel"):
        one(bi, max_epochs=0).fit(TEXTS, Y.reshape(-1, 1))


def test_cut_texts_can_be_silenced_by_kind(bi):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        one(bi, **SHORT).fit(LONG, Y).predict(LONG)


def messages_of(call):
    """Give what a call says of texts that were cut."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if issubclass(w.category, TruncationWarning)]


@pytest.mark.parametrize("trainable", ["labels", "head"])
def test_a_fit_counts_all_texts_that_were_cut_at_once(bi, trainable):
    held_out = {"X_val": LONG[:5], "y_val": Y[:5]}
    clf = one(bi, **{**SHORT, "trainable": trainable, "calibrate": True})
    (said,) = messages_of(lambda: clf.fit(LONG, [*Y[:9], *[Y[0]] * 3], **held_out))
    assert said.startswith("17 of 17 texts" if trainable == "labels" else "12 of 12 texts to learn")
    if trainable == "labels":
        some = [*Y[:9], *[None] * 3]
        (said,) = messages_of(lambda: clf.fit(LONG, some, unlabelled=[*LONG[:2], "fox"]))
        assert said.startswith("14 of 15 texts")
    (said,) = messages_of(lambda: clf.fit(TEXTS, Y, **held_out, unlabelled=None))
    assert said.startswith("5 of 17 texts")


def test_rows_with_prompts_of_their_own_are_counted_at_once(uni):
    rows = [Example(text, LABELS, [], prompt=f"Task {i % 3}:") for i, text in enumerate(LONG)]
    (said,) = messages_of(lambda: one(uni, **SHORT).predict(rows))
    assert said.startswith("12 of 12 texts")


def test_rows_with_examples_that_are_not_used_are_counted(bi):
    shown = [PromptExample("the fox", ["sport"])]
    rows = [Example(text, LABELS, [], examples=shown) for text in TEXTS]
    with pytest.warns(UserWarning, match="12 of 12 rows have in-context examples") as caught:
        one(bi).predict(rows)
    assert {warning.filename for warning in caught} == {__file__}
