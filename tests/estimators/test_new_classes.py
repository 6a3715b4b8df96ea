"""Classes that come with a later call of partial_fit."""

import numpy as np
import pytest
from tiny import reference_checkpoint
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
X, Y = toy(12)
OLD = Y != "music"
X_OLD = [text for text, is_old in zip(X, OLD, strict=True) if is_old]
TRAIN = {"trainable": "head", "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


def as_y(cls, classes):
    return classes if cls is GLiClassClassifier else [[name] for name in classes]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("by_labels", [True, False])
def test_new_classes_start_from_what_was_learnt(model, cls, by_labels):
    clf = cls(model, ["sport", "travel"] if by_labels else None, n_retrieved=2, **TRAIN)
    clf.partial_fit(X_OLD, as_y(cls, Y[OLD]), classes=["sport", "travel"])
    learnt = clf.predict_proba(X)
    if by_labels:
        clf.set_params(labels=["travel", "music", "sport"])
        clf.partial_fit(X, as_y(cls, Y))
    else:
        clf.partial_fit(X, as_y(cls, Y), classes=["travel", "music", "sport"])
    in_order = ["music", "sport", "travel"]
    assert clf.classes_.tolist() == (
        in_order if cls is GLiClassClassifier else ["travel", "music", "sport"]
    )
    # Texts of the first call are shown still; one that came again is there once.
    assert len(clf._fit_state.store) == len(set(zip(X, Y, strict=True)))
    assert clf.predict_proba(X).shape == (12, 3)
    assert clf._fit_state.weights is not None
    # As if the weights of the first call had been those of the model.
    anew = cls(model, clf.classes_.tolist(), n_retrieved=2, **TRAIN)
    anew.partial_fit(X, as_y(cls, Y))
    assert np.abs(anew.predict_proba(X) - clf.predict_proba(X)).max() > 1e-5
    assert learnt.shape == (12, 2)


def test_columns_of_an_indicator_follow_the_order_in_which_classes_are_named(model):
    _, matrix = toy_indicator(12)
    clf = GLiClassMultiLabelClassifier(model, **TRAIN)
    clf.partial_fit(X, matrix[:, 1:], classes=LABELS[1:])
    clf.partial_fit(X, matrix, classes=LABELS)
    assert clf.classes_.tolist() == LABELS
    assert clf.temperature_ == 1
    # The same classes in another order, too.
    clf.partial_fit(X, matrix[:, ::-1], classes=LABELS[::-1])
    assert clf.classes_.tolist() == LABELS[::-1]
    named = GLiClassMultiLabelClassifier(model, LABELS, **TRAIN)
    with pytest.raises(ValueError, match="in another order than labels"):
        named.partial_fit(X, matrix[:, ::-1], classes=LABELS[::-1])


def test_numbers_as_classes_are_told(model):
    clf = GLiClassClassifier(model, **TRAIN)
    with pytest.warns(UserWarning, match="classes are numbers, so the model reads .* '0' and '1'"):
        clf.partial_fit(X, np.arange(12) % 2, classes=[1, 0])


@pytest.mark.parametrize("cls", BOTH)
def test_a_class_without_a_word_is_named(model, cls):
    with pytest.raises(ValueError, match=r"classes\[3\] has an empty label text"):
        cls(model, **TRAIN).partial_fit(X, as_y(cls, Y), classes=[*LABELS, " "])


def test_what_was_tuned_for_fewer_classes_goes_with_them(model):
    clf = GLiClassClassifier(model, other="none", **TRAIN, max_epochs=1)
    clf.fit([*X_OLD, "café"], [*Y[OLD], "none"])
    assert clf.min_probability_ != 0.5
    clf.partial_fit(X, Y, classes=LABELS)
    assert clf.min_probability_ == 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": Y}, ValueError, r"unknown class 'music'.*named in labels=, or in classes= of par"),
        ({"y": Y, "classes": LABELS[:2]}, ValueError, "'travel' is missing"),
        ({"y": Y, "classes": [*LABELS, " "]}, ValueError, "' '"),
        ({"y": Y, "classes": [1, 2, 3]}, ValueError, "is missing"),
    ],
)
def test_classes_that_do_not_go_on_from_the_last_ones_are_refused(model, arguments, error, message):
    clf = GLiClassClassifier(model, **TRAIN)
    clf.partial_fit(X_OLD, Y[OLD], classes=["sport", "travel"])
    with pytest.raises(error, match=message):
        clf.partial_fit(X, **arguments)
    assert clf.classes_.tolist() == ["sport", "travel"]
