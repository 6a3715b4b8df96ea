"""What label vectors learnt goes where a classifier goes: processes, pipelines, searches."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
MORE, _ = toy(7, seed=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    reference_checkpoint(
        folder / "uni", n_layers=1, prompt_first=True, pooling_strategy="avg", scorer_type="mlp"
    )
    sentence_transformer(folder / "bi", n_layers=1)
    return {kind: str(folder / kind) for kind in ("uni", "bi")}


def learner(cls, model, **parameters):
    return cls(model, **{"labels": LABELS, "trainable": "labels", "n_jobs": 1, **parameters})


def data(cls):
    return (toy if cls is GLiClassClassifier else toy_indicator)(18)


def upper(texts):
    return [text.upper() for text in texts]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_joblib_and_a_folder_give_the_same(models, tmp_path, cls, kind):
    clf = learner(cls, models[kind]).fit(*data(cls))
    expected = clf.decision_function(MORE)
    joblib.dump(clf, tmp_path / "clf.joblib")
    assert np.array_equal(joblib.load(tmp_path / "clf.joblib").decision_function(MORE), expected)
    clf.save_pretrained(tmp_path / "saved")
    loaded = cls.from_pretrained(tmp_path / "saved", n_jobs=1)
    np.testing.assert_allclose(loaded.decision_function(MORE), expected, atol=1e-5)
    bare = learner(cls, models[kind]).decision_function(MORE)
    assert np.abs(expected - bare).max() > 0.01
    assert np.array_equal(clone(clf).decision_function(MORE), bare)


def test_a_folder_without_the_rows_predicts_and_does_not_learn_on(models, tmp_path):
    X, y = data(GLiClassClassifier)
    clf = learner(GLiClassClassifier, models["bi"]).fit(X, y)
    clf.save_pretrained(tmp_path, keep_rows=False)
    assert not (tmp_path / "learnt_rows.safetensors").exists()
    loaded = GLiClassClassifier.from_pretrained(tmp_path, n_jobs=1)
    expected = clf.decision_function(MORE)
    np.testing.assert_allclose(loaded.decision_function(MORE), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"keep_rows=False.*call fit with"):
        loaded.partial_fit(X, y)
    assert np.array_equal(loaded.predict(MORE), clf.predict(MORE))
    clf.save_pretrained(tmp_path)
    assert "learnt_rows.safetensors" in (tmp_path / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_another_process_gives_the_same(models, tmp_path):
    clf = learner(GLiClassClassifier, models["bi"]).fit(*data(GLiClassClassifier))
    joblib.dump(clf, tmp_path / "clf.joblib")
    clf.save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "expected.npy", clf.predict_proba(MORE))
    program = (
        "import joblib, sys, numpy as np\n"
        "from skgliclass import GLiClassClassifier\n"
        "folder, texts = sys.argv[1], sys.argv[2:]\n"
        "loaded = GLiClassClassifier.from_pretrained(folder + '/saved')\n"
        "for clf in (joblib.load(folder + '/clf.joblib'), loaded):\n"
        "    found = clf.predict_proba(texts)\n"
        "    np.testing.assert_allclose(found, np.load(folder + '/expected.npy'), atol=1e-6)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), *MORE], check=True)


@pytest.mark.parametrize("cls", BOTH)
def test_more_labels_start_from_their_own_vectors(models, tmp_path, cls):
    clf = learner(cls, models["bi"]).fit(*data(cls))
    expected = clf.decision_function(MORE)
    clf.save_pretrained(tmp_path)
    labels = [*LABELS, "world"]
    own = learner(cls, models["bi"], labels=labels).decision_function(MORE)[:, 3]
    for changed in (clf, cls.from_pretrained(tmp_path)):
        found = changed.set_params(labels=labels).decision_function(MORE)
        np.testing.assert_allclose(found[:, :3], expected, atol=1e-4)
        np.testing.assert_allclose(found[:, 3], own, atol=1e-4)
    # Fewer are some of them.
    fewer = clf.set_params(labels=LABELS[1:]).decision_function(MORE)
    two = expected[:, 1:] if cls is BOTH[1] else expected[:, 2] - expected[:, 1]
    np.testing.assert_allclose(fewer, two, atol=1e-4)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_rows_of_labels_that_stay_are_learnt_from_when_another_goes(models, tmp_path, cls, kind):
    X, y = (rows[:16] for rows in data(cls))
    clf = learner(cls, models[kind]).fit(X[:15], y[:15]).set_params(labels=LABELS[:2])
    clf.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path, n_jobs=1)
    if cls is GLiClassClassifier:
        stay = [i for i in range(16) if y[i] in LABELS[:2]]
        last, of_rest = y[15:], [y[i] for i in stay]
    else:
        # Independent labels learn of every row.
        stay, last, of_rest = list(range(16)), y[15:, :2], y[:, :2]
    expected = learner(cls, models[kind], labels=LABELS[:2]).fit([X[i] for i in stay], of_rest)
    for one in (clf, loaded):
        one.partial_fit(X[15:], last)
        found = one.decision_function(MORE)
        if kind == "bi":
            np.testing.assert_allclose(found, expected.decision_function(MORE), atol=1e-4)
    np.testing.assert_allclose(found, clf.decision_function(MORE), atol=1e-4)
    alone = learner(cls, models[kind], labels=LABELS[:2]).fit(X[15:], last)
    assert np.abs(found - alone.decision_function(MORE)).max() > 0.01


@pytest.mark.parametrize("cls", BOTH)
def test_a_folder_learns_on_after_a_label_was_added(models, tmp_path, cls):
    X, y = data(cls)
    clf = learner(cls, models["bi"]).fit(X, y).set_params(labels=[*LABELS, "weather"])
    clf.save_pretrained(tmp_path)
    more = (
        ["rain and wind", "snow"],
        (["weather"] * 2 if cls is GLiClassClassifier else [["weather"]] * 2),
    )
    expected = clf.partial_fit(*more).decision_function(MORE)
    loaded = cls.from_pretrained(tmp_path, n_jobs=1).partial_fit(*more)
    np.testing.assert_allclose(loaded.decision_function(MORE), expected, atol=1e-4)


def test_a_pipeline_learns_as_its_last_step_alone(models):
    X, y = data(GLiClassClassifier)
    clf = learner(GLiClassClassifier, models["bi"])
    pipeline = Pipeline([("upper", FunctionTransformer(upper)), ("clf", clone(clf))]).fit(X, y)
    expected = clf.fit(upper(X), y).predict_proba(upper(MORE))
    assert np.array_equal(pipeline.predict_proba(MORE), expected)


def test_a_pipeline_transforms_texts_without_labels_and_hands_them_on(models):
    X, y = data(GLiClassClassifier)
    clf = learner(GLiClassClassifier, models["bi"])
    with sklearn.config_context(enable_metadata_routing=True):
        steps = [
            ("upper", FunctionTransformer(upper)),
            ("clf", clone(clf).set_fit_request(unlabelled=True)),
        ]
        pipeline = Pipeline(steps, transform_input=["unlabelled"]).fit(X, y, unlabelled=MORE)
        found = pipeline.predict_proba(MORE)
    expected = clf.fit(upper(X), y, unlabelled=upper(MORE)).predict_proba(upper(MORE))
    assert np.array_equal(found, expected)


def test_cross_validation_hands_all_texts_without_labels_to_every_fit(models, monkeypatch):
    X, y = data(GLiClassClassifier)
    seen, fit = [], GLiClassClassifier.fit

    def spy(self, X, y=None, **others):
        seen.append((len(X), others["unlabelled"]))
        return fit(self, X, y, **others)

    monkeypatch.setattr(GLiClassClassifier, "fit", spy)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = learner(GLiClassClassifier, models["bi"]).set_fit_request(unlabelled=True)
        scores = cross_val_score(clf, X, y, cv=3, params={"unlabelled": MORE})
    assert seen == [(12, MORE)] * 3
    assert np.isfinite(scores).all()


def test_a_search_chooses_the_penalty(models):
    X, y = data(GLiClassClassifier)
    search = GridSearchCV(
        learner(GLiClassClassifier, models["bi"]),
        {"label_penalty": [1e6, 0.03]},
        scoring="neg_log_loss",
        cv=2,
    ).fit(X, y)
    assert search.best_params_ == {"label_penalty": 0.03}
    best = learner(GLiClassClassifier, models["bi"], label_penalty=0.03).fit(X, y)
    assert np.array_equal(search.predict_proba(MORE), best.predict_proba(MORE))
