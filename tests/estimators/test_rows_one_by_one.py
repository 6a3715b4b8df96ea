"""One call after another ends where one fit of all rows ends."""

import numpy as np
import pytest
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

X, Y = toy(18)
MATRIX = toy_indicator(18)[1].astype(float)
FRESH, _ = toy(20, seed=3)
WEIGHTS = 0.5 + np.arange(18) % 3
QUICK = {"device": "cpu", "n_jobs": 1, "random_state": 0, "trainable": "labels"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


def one(model):
    return GLiClassClassifier(model, LABELS, **QUICK)


def many(model):
    return GLiClassMultiLabelClassifier(model, LABELS, **QUICK)


def soft(matrix):
    """Doubt targets, and leave a few out."""
    softened = 0.8 * matrix + 0.1
    softened[::5, 1] = np.nan
    return softened


CASES = {
    "classes": (one, X, Y, None),
    "weights": (one, X, Y, WEIGHTS),
    "copies": (one, [*X[:9], *X[:9]], np.r_[Y[:9], Y[:6], np.roll(Y[6:9], 1)], None),
    "label sets": (many, X, MATRIX, WEIGHTS),
    "soft targets": (many, X, soft(MATRIX), None),
}


@pytest.mark.parametrize(
    "case",
    [
        case if case in ("weights", "soft targets") else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_rows_one_by_one_are_one_fit(model, tmp_path, case):
    make, texts, y, weights = CASES[case]
    whole = make(model).fit(texts, y, sample_weight=weights)
    steps = make(model)
    for i in range(len(texts)):
        if i == 9:
            # Between two calls, too, what was learnt can be put away.
            steps.save_pretrained(tmp_path / "half")
            steps = type(steps).from_pretrained(tmp_path / "half", device="cpu")
        row = slice(i, i + 1)
        of_row = None if weights is None else weights[row]
        steps.partial_fit(texts[row], y[row], sample_weight=of_row)
    expected, found = (clf.decision_function(FRESH) for clf in (whole, steps))
    assert np.abs(expected - make(model).decision_function(FRESH)).max() > 0.05
    assert np.abs(found - expected).max() < 1e-5
    assert steps.temperature_ == pytest.approx(whole.temperature_, rel=1e-5)


@pytest.fixture(scope="module", params=["uni", pytest.param("fused", marks=pytest.mark.slow)])
def joint(request, tmp_path_factory):
    """Give models that read labels and text together."""
    folder = tmp_path_factory.mktemp(request.param)
    kind = "uni-encoder" if request.param == "uni" else "bi-encoder-fused"
    reference_checkpoint(folder, n_layers=1, architecture_type=kind)
    return str(folder)


@pytest.mark.parametrize("class_weight", [None, {"sport": 3.0, "music": 0.5}], ids=str)
def test_rows_that_come_class_by_class_are_one_fit(joint, class_weight):
    # Some texts come again, with another class.
    order = np.argsort(np.r_[Y[:9], np.roll(Y[:3], 1)], kind="stable")
    texts, y = (
        [values[i] for i in order] for values in ([*X[:9], *X[:3]], [*Y[:9], *Y[[2, 0, 1]]])
    )
    parameters = {**QUICK, "class_weight": class_weight}
    whole, steps = (GLiClassClassifier(joint, LABELS, **parameters) for _ in range(2))
    whole.fit(texts, y)
    for i in range(len(texts)):
        steps.partial_fit(texts[i : i + 1], y[i : i + 1])
    expected, found = (clf.decision_function(FRESH) for clf in (whole, steps))
    assert np.abs(expected - one(joint).decision_function(FRESH)).max() > 0.05
    assert np.abs(found - expected).max() < 1e-5
    assert steps.temperature_ == pytest.approx(whole.temperature_, rel=1e-5)


def test_texts_without_labels_before_the_rows_change_nothing_of_that(model):
    steps = one(model).fit([*X[:6], *FRESH], [*Y[:6], *[None] * len(FRESH)])
    for i in range(6, 18):
        steps.partial_fit(X[i : i + 1], Y[i : i + 1])
    in_two = one(model).fit([*X[:6], *FRESH], [*Y[:6], *[None] * len(FRESH)])
    in_two.partial_fit(X[6:], Y[6:])
    found, expected = steps.decision_function(FRESH), in_two.decision_function(FRESH)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("make", [one, many])
def test_copies_weigh_as_weights_to_the_last_digit(model, make):
    y = Y if make is one else MATRIX
    copies = np.arange(18) % 3
    order = np.random.default_rng(0).permutation(18)
    weighted = make(model).fit([X[i] for i in order], y[order], sample_weight=copies[order])
    copied = make(model).fit(np.repeat(X, copies), np.repeat(y, copies, axis=0))
    found, expected = (clf.predict_proba(FRESH) for clf in (weighted, copied))
    assert np.abs(found - expected).max() < 1e-6
