"""A classifier that notes what happens to it in the processes of an engine, and tables for it."""

import os
import signal
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from toy import LABELS, toy

from skgliclass import GLiClassClassifier

N_ROWS = 3_000
FOLDERS = [Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2]]


class Watched(GLiClassClassifier):
    """Notes by files which process loads it and predicts, and may kill the first one that does."""

    notes = None
    deadly_text = None

    def __setstate__(self, state):
        super().__setstate__(state)
        self.note("loaded")

    def predict(self, X, labels=None):
        import torch

        self.note(f"computed on {torch.get_num_threads()}")
        if self.deadly_text in X:
            with suppress(FileExistsError):
                (Path(self.notes) / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X, labels)

    def note(self, what):
        if self.notes is not None:
            (Path(self.notes) / f"{what} by {os.getpid()}, {uuid4().hex}").touch()

    @classmethod
    def taking_notes(cls, model, notes, **attributes):
        clf = cls(model=model, labels=LABELS)
        clf.notes = str(notes)
        vars(clf).update(attributes)
        return clf


def in_workers(monkeypatch):
    """Let the workers that are started next import this, with a count of threads of their own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, FOLDERS)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def rows(n=N_ROWS):
    """Give a table whose index and whole numbers tell the rows."""
    frame = pd.DataFrame({"id": np.arange(n), "text": toy(n)[0]}, index=np.arange(n) + 7)
    frame["text"] += " " + frame["id"].astype(str)
    return frame


def loads_by_process(notes):
    """Count how often each process unpickled a classifier."""
    names = [path.name for path in Path(notes).glob("loaded by *")]
    return Counter(name.partition(",")[0] for name in names)


def thread_counts(notes):
    """Give the counts of threads that torch computed with."""
    return {path.name.split()[2] for path in Path(notes).glob("computed on *")}


def check_a_killed_worker_loses_nothing(classify, model, notes):
    """Kill a worker in the middle of a few thousand rows, and look at what comes of them.

    Parameters
    ----------
    classify : callable
        Classifies a frame with a classifier, and gives the rows as a frame of pandas.
    """
    frame = rows()
    clf = Watched.taking_notes(model, notes, deadly_text=frame["text"].iloc[len(frame) // 2])
    found = classify(clf, frame).sort_values("id", ignore_index=True)
    assert (Path(notes) / "killed").exists()
    assert found["id"].tolist() == frame["id"].tolist()
    assert found["text"].tolist() == frame["text"].tolist()
    plain = GLiClassClassifier(model=model, labels=LABELS)
    proba = np.sort(plain.predict_proba(frame["text"]), axis=1)
    is_clear = proba[:, -1] - proba[:, -2] > 1e-5
    np.testing.assert_array_equal(
        found["predicted"].to_numpy(object)[is_clear],
        plain.predict(frame["text"]).astype(object)[is_clear],
    )
    assert is_clear.mean() > 0.99
    # The process that was killed, and each of the others, however many parts the table has.
    assert set(loads_by_process(notes).values()) == {1}
    assert len(loads_by_process(notes)) <= 4
    assert thread_counts(notes) == {"1"}


def check_a_search_runs_in_workers(backend, model, notes):
    """Search through a backend of joblib, and compare with a search in this process."""
    clf, (texts, y) = GLiClassClassifier(model=model, labels=LABELS), toy()
    parameters = {"label_penalty": [0.01, 0.1, 1.0]}
    with parallel_config(backend=backend, n_jobs=2):
        there = GridSearchCV(clf, parameters, scoring=partial(_noted_score, notes), cv=2)
        found = there.fit(texts, y).cv_results_["mean_test_score"]
    here = GridSearchCV(clf, parameters, cv=2).fit(texts, y)
    np.testing.assert_allclose(found, here.cv_results_["mean_test_score"])
    names = [path.name for path in Path(notes).iterdir()]
    assert len(names) == 6
    assert not any(name.startswith(f"{os.getpid()},") for name in names)


def _noted_score(notes, clf, X, y):
    (Path(notes) / f"{os.getpid()}, {uuid4().hex}").touch()
    return clf.score(X, y)
