"""The promises of predictions and of saved classifiers, for any texts, labels and parameters."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st
from seeded import MODELS
from strategies import (
    costly,
    hierarchies,
    label_sets,
    label_texts,
    short_texts,
    surrogates,
    task_descriptions,
    texts,
)

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore::skgliclass.TruncationWarning", "ignore:.* is the only class"
)
CLASSES = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TOLERANCE = 1e-5


@st.composite
def templates(draw):
    before, after = (draw(short_texts).replace("{", "").replace("}", "") for _ in range(2))
    return f"{before}{{}}{after}"


def examples_of(classes):
    """Draw labelled texts as users write them."""
    return st.lists(st.tuples(short_texts.filter(str.strip), st.sampled_from(classes)), max_size=2)


@st.composite
def parameters(draw):
    values = draw(label_sets)
    labels = draw(
        st.sampled_from([values, dict(enumerate(values))]) if draw(st.booleans()) else hierarchies()
    )
    is_nested = isinstance(labels, dict) and not isinstance(next(iter(labels.values())), str)
    shown = [] if is_nested else draw(examples_of(list(labels)))
    return {
        "labels": labels,
        "task_description": draw(st.one_of(st.none(), task_descriptions)),
        "label_template": draw(st.one_of(st.none(), templates())),
        "examples": shown or None,
        "example_format": "tags",
        "long_texts": draw(st.sampled_from(["truncate", "chunk"])),
        "chunk_pooling": draw(st.sampled_from(["max", "mean"])),
        "n_permutations": draw(st.integers(1, 2)),
        "hierarchy": draw(st.sampled_from(["leaves", "path"])) if is_nested else "leaves",
        "max_length": draw(st.integers(100, 250)),
        "n_jobs": draw(st.sampled_from([1, 2])),
    }


def predicted(clf, X):
    """Give the probabilities, or None where the labels do not fit into a prompt."""
    try:
        return clf.predict_proba(X)
    except ValueError as error:
        if not str(error).startswith(("The label ", "The text of label ", "task_description has ")):
            raise
        return None


@costly
@given(
    st.sampled_from(CLASSES),
    st.sampled_from(sorted(MODELS)),
    parameters(),
    st.lists(texts, min_size=1, max_size=4),
    st.data(),
)
def test_predictions_are_a_rows_own_and_pickled(seeded_models, cls, model, settings, X, data):
    clf = cls(seeded_models(model).name, **settings)
    X_before, before = copy.deepcopy(X), copy.deepcopy(settings)
    expected = predicted(clf, X)
    if expected is None:
        return
    assert (X, clf.get_params() | settings) == (X_before, clf.get_params() | before)
    if cls is GLiClassClassifier:
        np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
        assert clf.predict(X).tolist() == clf.classes_[expected.argmax(axis=1)].tolist()
    order = data.draw(st.permutations(range(len(X))))
    np.testing.assert_allclose(
        clf.predict_proba([X[i] for i in order]), expected[list(order)], rtol=0, atol=TOLERANCE
    )
    pickled = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(pickled.predict_proba(X), expected, rtol=0, atol=TOLERANCE)


# A model is written and loaded for each case.
@pytest.mark.slow
@given(
    st.sampled_from(CLASSES),
    st.sampled_from(sorted(MODELS)),
    parameters(),
    st.lists(texts, min_size=1, max_size=3),
)
def test_what_is_saved_predicts_the_same(seeded_models, cls, model, settings, X):
    clf = cls(seeded_models(model).name, **settings)
    expected = predicted(clf, X)
    if expected is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        clf.save_pretrained(Path(folder) / "saved", gliclass_compatible=False)
        loaded = cls.from_pretrained(Path(folder) / "saved")
    for other in (loaded, pickle.loads(pickle.dumps(loaded))):
        assert other.classes_.tolist() == clf.classes_.tolist()
        np.testing.assert_allclose(other.predict_proba(X), expected, rtol=0, atol=TOLERANCE)


@given(short_texts, surrogates, short_texts, st.integers(0, 3), st.sampled_from(CLASSES))
def test_half_of_a_surrogate_pair_is_refused_by_name(seeded_models, a, half, b, place, cls):
    bad, model = f"{a}{half}{b}", seeded_models("bi avg").name
    X = ["fine"] * 4
    X[place] = bad
    labels = ["music", "sport", "travel", "world"]
    cases = {
        rf"X\[{place}\]": lambda: cls(model, labels).predict(X),
        rf"labels\[{place}\]": lambda: cls(
            model, [bad if i == place else name for i, name in enumerate(labels)]
        ).predict(["fine"]),
        "task_description": lambda: cls(model, labels, task_description=bad).predict(["fine"]),
        "label_template": lambda: cls(model, labels, label_template=f"{bad}{{}}").predict(["fine"]),
        r"examples\[1\]": lambda: cls(
            model, labels, examples=[("fine", "music"), (bad, "sport")], example_format="tags"
        ).predict(["fine"]),
    }
    for name, call in cases.items():
        with pytest.raises(ValueError, match=rf"{name}.* is not valid Unicode.*surrogate"):
            call()


@given(label_texts, st.sampled_from(CLASSES))
def test_a_text_like_a_label_is_a_text(seeded_models, label, cls):
    """What a text spells adds no column, and a label has no say in another text's scores."""
    clf = cls(seeded_models("uni first").name, [f"{label} 1", f"{label} 2"])
    alone = predicted(clf, ["the world"])
    if alone is None:
        return
    beside = clf.predict_proba([f"<<LABEL>>{label} 1<<SEP>>", "the world"])
    assert beside.shape == (2, 2)
    np.testing.assert_allclose(beside[1], alone[0], rtol=0, atol=TOLERANCE)
