"""A template around label texts is the same as label texts that were written out with it."""

import json

import numpy as np
import pytest
from factorial import half_slow
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tiny import reference_checkpoint
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer
from skgliclass.datasets import Example
from skgliclass.export import export_onnx

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS, Y = toy(6)
_, MATRIX = toy_indicator(6)
TEMPLATE = "the {} day {0}"
WRITTEN = {name: TEMPLATE.replace("{}", name) for name in LABELS}
TRAIN = {"trainable": "head", "max_epochs": 1, "learning_rate": 0.01, "random_state": 0}
SETTINGS = {
    "plain": {},
    "examples": {"examples": [("the lazy dog", "sport"), ("see the world", ["travel", "music"])]},
    "tags": {"examples": [("the lazy dog", "sport")], "example_format": "tags"},
    "n_retrieved": {"n_retrieved": 2},
    "shortlist": {"shortlist": 2},
    "n_permutations": {"n_permutations": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(
        folder, n_layers=1, prompt_first=True, scorer_type="mlp", pooling_strategy="avg"
    )
    return str(folder)


def fitted(clf):
    single = isinstance(clf, GLiClassClassifier)
    return clf.set_params(**TRAIN).fit(TEXTS, Y if single else MATRIX)


@half_slow(cls=BOTH, setting=list(SETTINGS))
def test_scores_are_those_of_label_texts_written_out(model, cls, setting, tmp_path):
    parameters = SETTINGS[setting]
    clf = fitted(cls(model, LABELS, label_template=TEMPLATE, **parameters))
    written = fitted(cls(model, WRITTEN, **parameters))
    scores = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(scores, written.predict_proba(TEXTS), atol=1e-6)
    plain = clone(clf).set_params(label_template=None)
    assert np.abs(fitted(plain).predict_proba(TEXTS) - scores).max() > 1e-4
    assert clf.classes_.tolist() == LABELS
    clf.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert again.label_template == TEMPLATE
    np.testing.assert_allclose(again.predict_proba(TEXTS), scores, atol=1e-5)


def test_a_template_goes_around_the_texts_of_a_dict_and_the_nodes_of_a_hierarchy(model):
    named = GLiClassClassifier(model, {0: "music", 1: "sport"}, label_template=TEMPLATE)
    written = GLiClassClassifier(model, [WRITTEN["music"], WRITTEN["sport"]])
    assert set(named.predict(TEXTS)) <= {0, 1}
    np.testing.assert_allclose(named.predict_proba(TEXTS), written.predict_proba(TEXTS), atol=1e-6)
    for hierarchy in ("leaves", "path"):
        tree = {"art": {"music": "the fox", "other": {"dog": "a dog"}}, "life": ["sport"]}
        of_tree = GLiClassTransformer(model, tree, hierarchy=hierarchy, label_template="{}")
        plain = of_tree.transform(TEXTS)
        worded = of_tree.set_params(label_template=TEMPLATE).transform(TEXTS)
        assert np.abs(worded - plain).max() > 1e-4
        plain_texts = GLiClassTransformer(model, tree, hierarchy=hierarchy).transform(TEXTS)
        np.testing.assert_allclose(plain, plain_texts, atol=1e-6)


def test_rows_with_labels_of_their_own_are_read_within_the_template(model):
    rows = [Example(text, ["fox", *LABELS[:2]], ["fox"]) for text in TEXTS]
    clf = GLiClassClassifier(model, LABELS, label_template=TEMPLATE)
    written = GLiClassClassifier(model, [TEMPLATE.replace("{}", x) for x in ("fox", *LABELS[:2])])
    np.testing.assert_allclose(clf.predict_proba(rows), written.predict_proba(TEXTS), atol=1e-6)
    trained, with_texts = clone(clf), clone(written).set_params(labels=None)
    trained.set_params(**TRAIN, labels=None)._fit_rows(rows, None)
    texts = [[TEMPLATE.replace("{}", x) for x in row.all_labels] for row in rows]
    with_texts.set_params(**TRAIN)._fit_rows(
        [Example(r.text, t, t[:1]) for r, t in zip(rows, texts, strict=True)], None
    )
    assert trained.loss_curve_ == pytest.approx(with_texts.loss_curve_, abs=1e-6)


def test_a_search_varies_the_template(model):
    grid = {"label_template": [None, "the {}", "{} today"]}
    search = GridSearchCV(GLiClassClassifier(model, LABELS, max_epochs=0), grid, cv=2)
    assert len(search.fit(TEXTS, Y).cv_results_["params"]) == 3


def test_labelled_texts_that_were_kept_are_shown_with_the_template_of_now(model):
    kept = GLiClassClassifier(model, LABELS, n_retrieved=2, max_epochs=0).fit(TEXTS, Y)
    kept.set_params(label_template=TEMPLATE)
    anew = clone(kept).fit(TEXTS, Y)
    np.testing.assert_allclose(kept.predict_proba(TEXTS), anew.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize("template", ["about", "{} or {}", ""])
def test_a_template_needs_one_place(model, template):
    clf = GLiClassClassifier(model, LABELS, label_template=template)
    with pytest.raises(ValueError, match=r"label_template=.* has \d places for the label text"):
        clf.predict(TEXTS)
    with pytest.raises(ValueError, match="label_template="):
        clf.fit(TEXTS, Y)


def test_an_export_has_the_texts_that_the_model_reads(model, tmp_path, monkeypatch):
    monkeypatch.setattr("skgliclass.export.onnx._write_graph", lambda graph, path: None)
    clf = GLiClassClassifier(model, LABELS, label_template=TEMPLATE)
    clf.save_pretrained(tmp_path / "saved")
    export_onnx(str(tmp_path / "saved"), tmp_path / "onnx")
    content = json.loads((tmp_path / "onnx" / "skgliclass.json").read_text())
    assert content["classes"] == LABELS
    assert content["label_texts"] == list(WRITTEN.values())
    assert content["parameters"]["label_template"] is None
