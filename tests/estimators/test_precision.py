"""Less than single precision on a processor: rounding decides nothing, and fits are exact."""

import numpy as np
import pytest
from tiny import sentence_transformer
from toy import WORDS, toy

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.datasets import Example

LABELS = ["music", "sport", "travel", "politics", "science", "world news"]

# A probability that about half of the pairs of a text and a label reach.
HALF = 0.99994


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    words = [word for of_class in WORDS for word in of_class] + LABELS
    return [" ".join(rng.choice(words, size=4)) for _ in range(200)]


def both(cls, model, **parameters):
    """Give a classifier in single precision and one that rounds."""
    return [cls(model, LABELS, dtype=dtype, **parameters) for dtype in ("float32", "bfloat16")]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (GLiClassClassifier, {}),
        (GLiClassClassifier, {"other": "none", "min_probability": 0.2}),
        (GLiClassClassifier, {"label_template": "about {}", "n_permutations": 1}),
        (GLiClassMultiLabelClassifier, {"threshold": HALF}),
        (GLiClassMultiLabelClassifier, {"threshold": dict.fromkeys(LABELS, HALF)}),
    ],
    ids=str,
)
def test_rounding_decides_nothing(model, texts, cls, parameters, dtype):
    exact = cls(model, LABELS, dtype="float32", **parameters)
    rounded = cls(model, LABELS, dtype=dtype, **parameters)
    np.testing.assert_array_equal(rounded.predict(texts), exact.predict(texts))
    # Probabilities agree with what is chosen, also where they alone are asked for.
    found, expected = rounded.predict_frame(texts), exact.predict_frame(texts)
    if cls is GLiClassMultiLabelClassifier:
        chosen = (found >= rounded.thresholds_).to_numpy()
        np.testing.assert_array_equal(chosen, rounded.predict(texts))
    else:
        assert found.idxmax(axis=1).tolist() == expected.idxmax(axis=1).tolist()
    difference = np.abs(rounded.decision_function(texts) - exact.decision_function(texts))
    # It is rounded, and some texts were read again.
    assert 1e-3 < difference.max() < 0.2
    assert difference.max(axis=1).min() < 1e-4


def test_texts_alone_and_together_get_the_same(model, texts):
    _, rounded = both(GLiClassClassifier, model)
    together = rounded.predict(texts[:40])
    assert [rounded.predict([text])[0] for text in texts[:40]] == together.tolist()


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_rounding_decides_nothing_among_labels_of_each_text(model, texts, cls):
    multi_label = cls is GLiClassMultiLabelClassifier
    exact, rounded = both(cls, model, **({"threshold": HALF} if multi_label else {}))
    rng = np.random.default_rng(1)
    rows = [
        Example(
            text=text, all_labels=rng.choice(LABELS, size=3, replace=False).tolist(), true_labels=[]
        )
        for text in texts
    ]
    name = "predict_labels" if multi_label else "predict"
    found, expected = (list(getattr(clf, name)(rows)) for clf in (rounded, exact))
    assert found == expected
    scores = zip(rounded.decision_function(rows), exact.decision_function(rows), strict=True)
    apart = [np.abs(a - b).max() for a, b in scores]
    assert max(apart) > 1e-3
    assert min(apart) < 1e-4


@pytest.mark.parametrize(
    "parameters",
    [{"trainable": "labels"}, {"trainable": "head", "max_epochs": 1}, {"n_retrieved": 3}],
    ids=str,
)
def test_a_fit_is_exact_and_is_saved_as_it_is(model, texts, tmp_path, parameters):
    X, y = toy(18)
    exact, rounded = (
        GLiClassClassifier(model, dtype=dtype, random_state=0, **parameters).fit(X, y)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_array_equal(rounded.predict(texts), exact.predict(texts))
    rounded.save_pretrained(tmp_path)
    loaded = GLiClassClassifier.from_pretrained(tmp_path)
    expected = rounded.predict_proba(texts)
    np.testing.assert_allclose(loaded.predict_proba(texts), expected, atol=1e-6)
    expected = exact.predict_proba(texts)
    again = loaded.set_params(dtype="float32").predict_proba(texts)
    np.testing.assert_allclose(again, expected, atol=1e-6)
