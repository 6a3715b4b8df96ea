import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from skgliclass.datasets import PromptExample
from skgliclass.engine.retrieval import ExampleStore

TEXTS = ["goal", "match", "goal", "flight", "hotel", "goal"]
LABELS = [["sport"], ["sport"], ["sport"], ["travel"], ["travel", "work"], ["work"]]
ANGLES = {"goal": 0.0, "match": 0.3, "flight": 1.2, "hotel": 1.5, "game": 0.1, "plane": 1.3}


def vectors_of(texts):
    angles = np.array([ANGLES[text] for text in texts])
    lengths = 1 + np.arange(len(texts))
    return (np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]).astype("f4")


class FlatIndex:
    """What is used of faiss.IndexFlatIP."""

    def __init__(self, width):
        self.kept = np.empty((0, width), dtype=np.float32)

    def add(self, vectors):
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        self.kept = np.concatenate([self.kept, vectors])

    def search(self, vectors, n):
        similarity = vectors @ self.kept.T
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(similarity, nearest, axis=1), nearest


@pytest.fixture(params=["numpy", "faiss"])
def store(request, monkeypatch):
    if request.param == "faiss":
        monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(IndexFlatIP=FlatIndex))
    return ExampleStore(TEXTS, vectors_of(TEXTS), LABELS, backend=request.param)


def test_the_nearest_come_first_whatever_the_vectors_lengths(store):
    found = store.query(["game", "plane"], vectors_of(["game", "plane"]), 3)
    assert [example.text for example in found[0]] == ["goal", "goal", "match"]
    assert [example.text for example in found[1]] == ["flight", "hotel", "match"]
    assert found[1][1] == PromptExample("hotel", ["travel", "work"])


def test_the_same_text_with_the_same_labels_is_kept_once(store):
    assert len(store) == 5
    found = store.query(["game"], vectors_of(["game"]), 2)[0]
    assert {example.labels for example in found} == {("sport",), ("work",)}


def test_the_order_of_texts_does_not_matter(store):
    texts, labels = [*TEXTS, "match"], [*LABELS, ["work"]]
    texts[0], last_digits = "Goal", np.float32([1, 1 + 1e-6])
    vectors = vectors_of([*TEXTS, "match"])
    vectors[2:4] *= last_digits
    queries = vectors_of(["game", "plane", "match"])
    expected = ExampleStore(texts, vectors, labels, backend=store.backend)
    other = ExampleStore(texts[::-1], vectors[::-1], labels[::-1], backend=store.backend)
    for k in (1, 2, 3, 5):
        found = expected.query(["game", "plane", "match"], queries, k)
        assert other.query(["game", "plane", "match"], queries, k) == found


def test_a_text_is_never_shown_its_own_answer(store):
    found = store.query(TEXTS, vectors_of(TEXTS), 3, exclude_self=True)
    for text, own in zip(TEXTS, found, strict=True):
        assert len(own) == 3
        assert text not in [example.text for example in own]
    assert [example.text for example in found[0]] == ["match", "flight", "hotel"]


def test_rows_do_not_depend_on_each_other(store):
    texts = ["plane", "goal", "hotel"]
    vectors = vectors_of(texts)
    together = store.query(texts, vectors, 2, exclude_self=True)
    for i, text in enumerate(texts):
        assert store.query([text], vectors[i : i + 1], 2, exclude_self=True) == [together[i]]


def test_more_than_the_store_is_an_error(store):
    one = ["game"], vectors_of(["game"])
    assert len(store.query(*one, 5)[0]) == 5
    with pytest.raises(ValueError, match="n_retrieved=6 is more than the 5 distinct"):
        store.query(*one, 6)
    with pytest.raises(ValueError, match=r"n_retrieved=5 is more than the 4 .* besides the text"):
        store.query(*one, 5, exclude_self=True)
    with pytest.raises(ValueError, match="n_retrieved=0"):
        store.query(*one, 0)


def test_a_store_survives_pickling(store):
    again = pickle.loads(pickle.dumps(store))
    one = ["game"], vectors_of(["game"])
    assert again.query(*one, 3) == store.query(*one, 3)


def test_the_extra_is_named_where_faiss_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install faiss-cpu .*"\.\[faiss\]"'):
        ExampleStore(TEXTS, vectors_of(TEXTS), LABELS, backend="faiss")


@pytest.mark.parametrize(
    ("texts", "vectors", "labels", "message"),
    [
        (["goal", " "], np.ones((2, 2)), [["a"], ["b"]], "Text 1 .*text is empty"),
        (["goal"], np.ones((2, 2)), [["a"]], r"vectors has shape \(2, 2\); expected \(1, width\)"),
        (["goal", "b"], np.ones((2, 2)), [["a"]], "^labels has 1 entries for 2 texts"),
        (["goal"], np.full((1, 2), np.nan), [["a"]], r"vectors\[0\] is not finite"),
        ([], np.ones((0, 2)), [], "at least one labelled text"),
    ],
)
def test_what_cannot_be_kept_is_named(texts, vectors, labels, message):
    with pytest.raises(ValueError, match=message):
        ExampleStore(texts, vectors, labels)


def test_query_vectors_must_be_of_the_same_width(store):
    with pytest.raises(ValueError, match=r"^vectors has shape \(1, 3\); expected \(1, 2\)"):
        store.query(["game"], np.ones((1, 3), dtype=np.float32), 1)


def test_an_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match="backend='annoy' is unknown"):
        ExampleStore(TEXTS, vectors_of(TEXTS), LABELS, backend="annoy")
