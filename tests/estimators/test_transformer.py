import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from tiny import WIDTH, sentence_transformer
from toy import CONTAINERS, LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer

TEXTS, Y = toy(18)
UNSORTED = ["travel", "music", "sport"]
# What TfidfVectorizer reads rows from.
VECTORS = [name for name in CONTAINERS if name not in ("column array", "pandas DataFrame")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model")))


@pytest.fixture(params=CONTAINERS)
def X(request):
    return CONTAINERS[request.param](TEXTS)


def test_probabilities_are_those_of_the_classifiers(model, X):
    one = GLiClassTransformer(model, UNSORTED)
    expected = GLiClassClassifier(model, UNSORTED).predict_proba(TEXTS)
    np.testing.assert_array_equal(one.fit_transform(X), expected)
    assert one.get_feature_names_out().tolist() == LABELS
    many = GLiClassTransformer(model, UNSORTED, multi_label=True)
    expected = GLiClassMultiLabelClassifier(model, UNSORTED).predict_proba(TEXTS)
    np.testing.assert_array_equal(many.fit_transform(X), expected)
    assert many.get_feature_names_out().tolist() == UNSORTED


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits(model, multi_label):
    transformer = GLiClassTransformer(model, LABELS, multi_label=multi_label, output="logits")
    logits = transformer.transform(TEXTS)
    probabilities = clone(transformer).set_params(output="probabilities").transform(TEXTS)
    by_hand = expit(logits) if multi_label else softmax(logits, axis=1)
    np.testing.assert_allclose(by_hand, probabilities, atol=1e-6)


def test_embeddings_need_no_labels(model, X):
    transformer = GLiClassTransformer(model, output="embeddings")
    vectors = transformer.fit_transform(X)
    assert vectors.shape == (18, WIDTH)
    assert transformer.get_feature_names_out().tolist() == [f"embedding{i}" for i in range(WIDTH)]
    # A bi-encoder's logits are similarities of these vectors, so they carry the classes too.
    score = LogisticRegression(C=100).fit(vectors, Y).score(vectors, Y)
    assert score > 0.9
    described = clone(transformer).set_params(task_description="music: ")
    assert np.abs(described.transform(TEXTS) - vectors).max() > 1e-3


def test_classes_come_from_y_without_labels(model):
    transformer = GLiClassTransformer(model)
    with pytest.raises(NotFittedError, match="labels="):
        transformer.transform(TEXTS)
    with pytest.raises(ValueError, match=r"give labels=.*, or pass y to fit"):
        transformer.fit(TEXTS)
    assert transformer.fit(TEXTS, Y).classes_.tolist() == LABELS
    matrix = pd.DataFrame(toy_indicator(18)[1], columns=UNSORTED)
    transformer = GLiClassTransformer(model, multi_label=True).fit(TEXTS, matrix)
    assert transformer.get_feature_names_out().tolist() == UNSORTED


def test_a_fine_tuned_model(model, tmp_path):
    clf = GLiClassClassifier(model, LABELS, trainable="head", max_epochs=2, random_state=0)
    clf.fit(TEXTS, Y).save_pretrained(tmp_path)
    features = GLiClassTransformer(str(tmp_path), LABELS).transform(TEXTS)
    np.testing.assert_allclose(features, clf.predict_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize("container", VECTORS)
def test_beside_word_counts_in_a_feature_union(model, container):
    X = CONTAINERS[container](TEXTS)
    labels = GLiClassTransformer(model, LABELS)
    union = FeatureUnion([("words", TfidfVectorizer()), ("labels", labels)])
    both = union.fit_transform(X).toarray()
    np.testing.assert_allclose(both[:, -3:], labels.transform(TEXTS))
    names = union.get_feature_names_out()
    assert names[-3:].tolist() == ["labels__music", "labels__sport", "labels__travel"]
    assert both.shape == (18, len(names))
    pipeline = make_pipeline(union, LogisticRegression())
    assert cross_val_score(pipeline, X, Y, cv=2).mean() > 0.9


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize("columns", ["review", ["review"]])
def test_in_a_column_transformer(model, kind, columns):
    frame = pytest.importorskip(kind).DataFrame
    data = frame({"stars": np.arange(18), "review": TEXTS})
    mixed = ColumnTransformer(
        [("text", GLiClassTransformer(model, LABELS), columns), ("rest", "passthrough", ["stars"])]
    )
    out = mixed.set_output(transform=kind).fit_transform(data)
    assert isinstance(out, frame)
    assert list(out.columns) == ["text__music", "text__sport", "text__travel", "rest__stars"]
    expected = GLiClassTransformer(model, LABELS).transform(TEXTS)
    np.testing.assert_allclose(out.to_numpy()[:, :3], expected, rtol=1e-6)
    np.testing.assert_array_equal(out["rest__stars"], np.arange(18))


def test_frames_keep_the_callers_index(model):
    transformer = GLiClassTransformer(model, LABELS).set_output(transform="pandas")
    out = transformer.fit_transform(pd.Series(TEXTS, index=range(50, 68)))
    assert out.index.tolist() == list(range(50, 68))
    assert out.columns.tolist() == LABELS
    assert transformer.transform(TEXTS).index.tolist() == list(range(18))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "scores"}, "'output' parameter"),
        ({"multi_label": "yes"}, "'multi_label' parameter"),
        ({"labels": []}, "labels is empty"),
        ({"labels": "sport"}, r"labels is the single string 'sport'.*labels=\['sport', ...\]"),
    ],
)
def test_bad_parameters(model, parameters, message):
    transformer = GLiClassTransformer(model, **{"labels": LABELS, **parameters})
    with pytest.raises((ValueError, TypeError), match=message):
        transformer.fit(TEXTS)
    with pytest.raises((ValueError, TypeError), match=message):
        transformer.transform(TEXTS)


def test_pickles_are_small_and_transform_the_same(model):
    transformer = GLiClassTransformer(model).fit(TEXTS, Y)
    expected = transformer.transform(TEXTS)
    content = pickle.dumps(transformer)
    assert len(content) < 3000
    np.testing.assert_array_equal(pickle.loads(content).transform(TEXTS), expected)


def test_embeddings_warn_of_texts_that_were_cut(tmp_path):
    from tiny import sentence_transformer

    from skgliclass import TruncationWarning

    transformer = GLiClassTransformer(str(sentence_transformer(tmp_path)), output="embeddings")
    with pytest.warns(TruncationWarning, match="1 of 2 texts did not fit"):
        transformer.fit_transform(["the dog", "the dog " * 200])
