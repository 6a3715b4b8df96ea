"""Classifiers that show the model the nearest labelled texts."""

import json
import pickle
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.loading import loader
from skgliclass.prompts.examples import PromptExample
from skgliclass.training import data as training_data

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS, Y = toy(9)
MANY_TEXTS, MATRIX = toy_indicator(9)
NEW, _ = toy(4, seed=5)
NEW = [f"{text} quick" for text in NEW]
TRAIN = {"trainable": "head", "max_epochs": 1, "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


def data(cls):
    return (TEXTS, Y) if cls is GLiClassClassifier else (MANY_TEXTS, MATRIX)


def labels_of_row(cls, i):
    return [Y[i]] if cls is GLiClassClassifier else [LABELS[k] for k in np.flatnonzero(MATRIX[i])]


def neighbours(engine, cls, texts, k, kept=None):
    """Find them by hand."""
    kept = data(cls)[0] if kept is None else kept
    index = NearestNeighbors(n_neighbors=k, metric="cosine").fit(engine.text_vectors(kept))
    nearest = index.kneighbors(engine.text_vectors(texts), return_distance=False)
    return [[PromptExample(kept[i], labels_of_row(cls, i)) for i in row] for row in nearest]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("example_format", ["marker", "tags"])
def test_predictions_are_those_with_the_nearest_texts_in_the_prompt(uni, cls, example_format):
    clf = cls(uni, LABELS, n_retrieved=2, max_epochs=0, example_format=example_format)
    found = clf.fit(*data(cls)).decision_function(NEW)
    engine = Engine(loader.load_model(uni))
    shown = neighbours(engine, cls, NEW, 2)
    expected = engine.logits(
        NEW, LABELS, ScoringOptions(example_format=example_format), examples=shown
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - engine.logits(NEW, LABELS)).max() > 1e-3


def test_retrieved_texts_come_before_those_that_all_prompts_show(uni):
    clf = GLiClassClassifier(
        uni, LABELS, n_retrieved=1, max_epochs=0, examples=[("the lazy dog", "sport")]
    )
    found = clf.fit(TEXTS, Y).decision_function(NEW)
    engine = Engine(loader.load_model(uni))
    fixed = PromptExample("the lazy dog", ["sport"])
    shown = [[*own, fixed] for own in neighbours(engine, GLiClassClassifier, NEW, 1)]
    np.testing.assert_allclose(found, engine.logits(NEW, LABELS, examples=shown), atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
def test_no_training_text_is_ever_shown_its_own_answer(uni, cls, monkeypatch):
    seen = []
    original = training_data.make_training_set

    def recording(engine, texts, *args, examples, **options):
        seen.append((texts, examples))
        return original(engine, texts, *args, examples=examples, **options)

    monkeypatch.setattr(training_data, "make_training_set", recording)
    X, y = data(cls)
    X, y = [*X, X[0]], np.concatenate([y, y[1:2]])
    cls(uni, LABELS, n_retrieved=3, **TRAIN).fit(X, y)
    ((texts, examples),) = seen
    assert list(texts) == X
    for text, own in zip(texts, examples, strict=True):
        assert len(own) == 3
        assert text not in [example.text for example in own]


def test_vectors_are_those_of_the_tuned_weights(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, **{**TRAIN, "max_epochs": 3})
    found = clf.fit(TEXTS, Y).decision_function(NEW)
    tuned = clf._engine(clf._fit_state.weights)
    shown = neighbours(tuned, GLiClassClassifier, NEW, 2)
    np.testing.assert_allclose(found, tuned.logits(NEW, LABELS, examples=shown), atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_stored_classifiers_predict_the_same(uni, cls, max_epochs, tmp_path):
    clf = cls(uni, LABELS, n_retrieved=2, **{**TRAIN, "max_epochs": max_epochs}).fit(*data(cls))
    expected = clf.predict_proba(NEW)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(NEW), expected)
    clf.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-5)
    plain = cls.from_pretrained(tmp_path, n_retrieved=0)
    assert np.abs(plain.predict_proba(NEW) - expected).max() > 1e-4


def test_no_text_is_left_where_a_classifier_without_them_is_saved(uni, tmp_path):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, max_epochs=0).fit(TEXTS, Y)
    for folder in (tmp_path / "other", tmp_path / "same"):
        clf.save_pretrained(folder)
    GLiClassClassifier(uni, LABELS).save_pretrained(tmp_path / "other")
    clf.set_params(n_retrieved=0).save_pretrained(tmp_path / "same")
    for folder in (tmp_path / "other", tmp_path / "same"):
        assert not list(folder.glob("retrieved*"))
        assert len(GLiClassClassifier.from_pretrained(folder).predict(NEW)) == len(NEW)


@pytest.mark.parametrize("name", ["retrieved_examples.json", "retrieved_examples.safetensors"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_kept_texts_that_cannot_be_read_can_be_done_without(uni, tmp_path, name, damage):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, max_epochs=0).fit(TEXTS, Y)
    clf.save_pretrained(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: what .* pass n_retrieved=0 to do"):
        GLiClassClassifier.from_pretrained(tmp_path)
    plain = GLiClassClassifier.from_pretrained(tmp_path, n_retrieved=0)
    np.testing.assert_allclose(
        plain.predict_proba(NEW), clf.set_params(n_retrieved=0).predict_proba(NEW), atol=1e-5
    )


def test_early_stopping_calibration_and_thresholds_see_what_prediction_sees(uni):
    clf = GLiClassMultiLabelClassifier(
        uni,
        LABELS,
        threshold="auto",
        n_retrieved=2,
        early_stopping=True,
        calibrate=True,
        **TRAIN,
    )
    clf.fit(MANY_TEXTS, MATRIX, X_val=NEW, y_val=MATRIX[:4])
    from skgliclass.estimators.calibration import best_temperature

    logits = clf.decision_function(NEW)
    assert clf.temperature_ == pytest.approx(
        best_temperature(logits, MATRIX[:4].astype("f4"), True), rel=1e-3
    )


def test_partial_fit_keeps_what_it_was_given_before(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=3, **TRAIN)
    clf.partial_fit(TEXTS[:5], Y[:5]).partial_fit(TEXTS[5:], Y[5:])
    assert {example.text for example in clf._fit_state.store.examples} == set(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
def test_partial_fit_shows_as_many_as_there_are_so_far(uni, cls):
    texts, y = data(cls)
    clf = cls(uni, LABELS, n_retrieved=6, **TRAIN)
    for stop in (1, 3, 9):
        clf.partial_fit(texts[:stop], y[:stop])
        found = clf.decision_function(NEW)
        engine = clf._engine(clf._fit_state.weights)
        shown = neighbours(engine, cls, NEW, min(6, stop), kept=texts[:stop])
        expected = engine.logits(NEW, LABELS, examples=shown)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    wanted = clf.set_params(n_retrieved=9).decision_function(NEW)
    np.testing.assert_array_equal(clf.set_params(n_retrieved=10).decision_function(NEW), wanted)


def test_partial_fit_forgets_texts_with_other_labels(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, **TRAIN).partial_fit(TEXTS, Y)
    clf.set_params(labels=["anger", "joy"]).partial_fit(NEW, ["joy", "anger", "joy", "joy"])
    assert {example.text for example in clf._fit_state.store.examples} == set(NEW)


def test_texts_without_weight_or_words_are_not_kept(uni):
    weights = np.ones(9)
    weights[0] = 0
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=8, max_epochs=0)
    with pytest.raises(ValueError, match="n_retrieved=8 is more than the 7 distinct"):
        clf.fit([*TEXTS[:8], " "], Y, sample_weight=weights)


def test_more_than_there_are_is_named_before_any_training(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=10, max_epochs=0)
    with pytest.raises(ValueError, match="n_retrieved=10 is more than the 9 distinct"):
        clf.fit(TEXTS, Y)
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=9, **TRAIN)
    with pytest.raises(ValueError, match=r"n_retrieved=9 is more than the 8 .* besides the text"):
        clf.fit(TEXTS, Y)
    clf.set_params(n_retrieved=7, early_stopping=True, validation_fraction=0.2)
    message = r"than the 6 distinct .* 2 texts were set aside for validation .*X_val and y_val"
    with pytest.raises(ValueError, match=message):
        clf.fit(TEXTS, Y)
    with pytest.raises(ValueError, match=r"than the 6 distinct .* more texts.$"):
        clf.set_params(n_retrieved=9).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="'n_retrieved' parameter"):
        clf.set_params(n_retrieved=-1).fit(TEXTS, Y)


def test_there_is_nothing_to_retrieve_from_without_a_fit(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2)
    with pytest.raises(NotFittedError, match=r"n_retrieved=2 .* Call fit\(X, y\)"):
        clf.predict(NEW)
    fitted = GLiClassClassifier(uni, LABELS, max_epochs=0).fit(TEXTS, Y)
    with pytest.raises(NotFittedError, match="none are kept"):
        fitted.set_params(n_retrieved=2).predict(NEW)


def test_other_labels_after_fitting_are_refused(uni):
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, max_epochs=0).fit(TEXTS, Y)
    clf.set_params(labels=["joy", "anger"])
    with pytest.raises(ValueError, match=r"n_retrieved=2 .*labels was changed"):
        clf.predict(NEW)


def test_a_bi_encoder_that_compares_no_vectors_shows_tags_and_says_so(tmp_path):
    encoder = sentence_transformer(tmp_path / "encoder", n_layers=1)
    bi = tmp_path / "bi"
    GLiClassClassifier(str(encoder), LABELS).save_pretrained(bi)
    (bi / "skgliclass.json").unlink()
    config = json.loads((bi / "config.json").read_text())
    (bi / "config.json").write_text(json.dumps({**config, "normalize_features": False}))
    clf = GLiClassClassifier(str(bi), LABELS, n_retrieved=1, max_epochs=0)
    with pytest.raises(ValueError, match=r'n_retrieved=.*no place for them.*example_format="tags"'):
        clf.fit(TEXTS, Y)
    clf.set_params(example_format="tags", max_length=256).fit(TEXTS, Y)
    expected = clf.predict_proba(NEW)
    assert np.abs(clf.set_params(n_retrieved=0).predict_proba(NEW) - expected).max() > 1e-6


def test_callbacks_predict_as_the_classifier_would(uni):
    pytest.importorskip("sklearn.callback")

    class Predicting:
        def setup(self, estimator, context):
            self.seen = []

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                self.seen.append(fitted_estimator.predict_proba(NEW))
            return False

    callback = Predicting()
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, **{**TRAIN, "max_epochs": 2})
    clf.set_callbacks(callback).fit(TEXTS, Y)
    np.testing.assert_allclose(callback.seen[-1], clf.predict_proba(NEW), atol=1e-5)


def test_in_a_search(uni):
    clf = GLiClassClassifier(uni, LABELS, max_epochs=0)
    search = GridSearchCV(clf, {"n_retrieved": [0, 1]}, cv=3).fit(TEXTS, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(NEW).shape == (4,)


def test_the_backend_is_chosen(uni, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=1, max_epochs=0, retrieval_backend="faiss")
    with pytest.raises(ImportError, match=r'retrieval_backend="faiss" .*\.\[faiss\]'):
        clf.fit(TEXTS, Y)
    with pytest.raises(ValueError, match="'retrieval_backend' parameter"):
        clf.set_params(retrieval_backend="annoy").fit(TEXTS, Y)
