"""Signals and exceptions of the user's own, in the middle of what an estimator does."""

import gc
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from tiny import sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier, GLiClassTransformer

TEXTS, Y = toy(12)
MANY = [f"{text} {i}" for i in range(20) for text in TEXTS]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture(scope="module")
def learnt(model):
    return GLiClassClassifier(model, LABELS, trainable="labels", n_jobs=2).fit(TEXTS, Y)


def state_of(estimator):
    return pickle.dumps(estimator)


def interrupted(work, seconds):
    """Do something, to which a real SIGINT comes after so long; tell whether it came in time."""

    def send():
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    came = False
    sender.start()
    try:
        try:
            work()
        finally:
            sender.join()
            time.sleep(0.001)
    except KeyboardInterrupt:
        came = True
    return came


def shortest(work):
    """Tell how many seconds something takes when nothing else delays it."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def until_interrupted(work, lasts, rng):
    """Do something until a signal came in the middle of it; work that was quicker is done again."""
    for _ in range(50):
        if interrupted(work, rng.uniform(0, lasts)):
            return
    pytest.fail("No signal came while the work lasted.")


@pytest.mark.skipif(os.name == "nt", reason="needs signals of its own")
def test_an_interrupted_prediction_leaves_the_estimator_as_it_was(learnt):
    expected = learnt.predict_proba(MANY)
    lasts = shortest(lambda: learnt.predict_proba(MANY))
    before, n_threads, rng = state_of(learnt), threading.active_count(), random.Random(0)
    for _ in range(8):
        until_interrupted(lambda: learnt.predict_proba(MANY), lasts, rng)
        np.testing.assert_array_equal(learnt.predict_proba(MANY), expected)
    assert state_of(learnt) == before
    assert threading.active_count() <= n_threads


@pytest.mark.skipif(os.name == "nt", reason="needs signals of its own")
# Where the signal comes while Python itself opens a file or lists a folder, before anybody holds
# what it gives, that is closed by the collection.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_save_leaves_the_old_or_the_new(model, learnt, tmp_path):
    classifiers = [learnt, GLiClassClassifier(model, ["a", "b"])]
    expected = [clf.predict_proba(TEXTS) for clf in classifiers]
    learnt.save_pretrained(tmp_path)
    lasts, rng = shortest(lambda: learnt.save_pretrained(tmp_path)), random.Random(1)
    for i in range(8):
        clf = classifiers[(i + 1) % 2]
        until_interrupted(lambda clf=clf: clf.save_pretrained(tmp_path), lasts, rng)
        found = GLiClassClassifier.from_pretrained(tmp_path)
        n_classes = len(found.classes_)
        which = [len(c.classes_) for c in classifiers].index(n_classes)
        np.testing.assert_allclose(found.predict_proba(TEXTS), expected[which], atol=1e-5)
    learnt.save_pretrained(tmp_path)
    assert not list(tmp_path.glob(".skgliclass*"))
    gc.collect()


class MineError(Exception):
    pass


class MineBase(BaseException):
    pass


class Container(Sequence):
    """A column of texts of which one way to look at it fails."""

    def __init__(self, way, error):
        self.way, self.error = way, error

    def _fail_as(self, way):
        if self.way == way:
            raise self.error

    def __len__(self):
        self._fail_as("len")
        return len(TEXTS)

    def __getitem__(self, i):
        return TEXTS[i]

    def __iter__(self):
        self._fail_as("iter")
        return iter(TEXTS)


class Columnar(Container):
    dtype = np.dtype(object)
    shape = (len(TEXTS),)

    def __array__(self, *_, **__):
        self._fail_as("array")
        return np.array(TEXTS, dtype=object)


def texts_that_fail(way, error):
    return (Columnar if way == "array" else Container)(way, error)


ERRORS = [MineError("mine"), MineBase("mine"), ValueError("mine"), MemoryError("mine")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", ["len", "iter", "array"])
def test_errors_of_containers_come_through_and_change_nothing(model, learnt, way, error):
    fresh = GLiClassClassifier(model, LABELS, trainable="head", max_epochs=0)
    shaped = GLiClassTransformer(model, LABELS)
    n_threads, n_raised = threading.active_count(), 0
    for estimator, work in [
        (learnt, lambda X: learnt.predict(X)),
        (learnt, lambda X: learnt.score(X, Y)),
        (learnt, lambda X: learnt.partial_fit(X, Y)),
        (fresh, lambda X: fresh.fit(X, Y)),
        (fresh, lambda X: fresh.fit(TEXTS, X)),
        (shaped, lambda X: shaped.transform(X)),
    ]:
        before = state_of(estimator)
        raised = None
        try:
            work(texts_that_fail(way, error))
        except BaseException as caught:
            raised = caught
        # A container may also be refused for what it is, or not be looked at in this way.
        assert raised is error or raised is None or isinstance(raised, (TypeError, ValueError))
        assert raised is None or state_of(estimator) == before
        n_raised += raised is error
    assert n_raised
    assert threading.active_count() <= n_threads


class Callback:
    def __init__(self, where, error):
        self.where, self.error = where, error

    def _fail_at(self, where):
        if self.where == where:
            raise self.error

    def setup(self, estimator, context):
        self._fail_at("setup")

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, *_, **__):
        self._fail_at("begin")

    def on_fit_task_end(self, *_, **__):
        self._fail_at("end")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["setup", "begin", "end"])
def test_errors_of_callbacks_come_through_and_change_nothing(model, where, error):
    pytest.importorskip("sklearn.callback")
    clf = GLiClassClassifier(model, LABELS, trainable="head", max_epochs=1, random_state=0)
    expected = clf.predict_proba(TEXTS)
    clf.set_callbacks(Callback(where, error))
    for method in ("fit", "partial_fit"):
        with pytest.raises(type(error)) as raised:
            getattr(clf, method)(TEXTS, Y)
        assert raised.value is error
        assert not hasattr(clf, "n_iter_")
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)
