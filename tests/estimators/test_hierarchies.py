"""Scores along a hierarchy, against computations by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from tiny import reference_checkpoint

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer
from skgliclass.engine.engine import Engine
from skgliclass.loading import loader

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music"]
TREE = {"topic": {"world": ["travel", "news"], "art": ["music"]}, "mood": ["joy", "anger"]}
NODES = ["topic", "topic.world", "topic.world.travel", "topic.world.news", "topic.art"]
NODES += ["topic.art.music", "mood", "mood.joy", "mood.anger"]
LEAVES = ["topic.world.travel", "topic.world.news", "topic.art.music", "mood.joy", "mood.anger"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.mark.parametrize("cls", BOTH)
def test_nested_scores_are_the_flat_ones_in_the_shape_of_the_input(model, cls):
    clf = cls(model, TREE)
    flat = clf.predict_frame(TEXTS)
    for i, scores in enumerate(clf.predict_nested(TEXTS)):
        assert list(scores) == ["topic", "mood"]
        assert list(scores["topic"]["world"]) == ["travel", "news"]
        assert scores == {
            "topic": {
                "world": {
                    "travel": flat["topic.world.travel"][i],
                    "news": flat["topic.world.news"][i],
                },
                "art": {"music": flat["topic.art.music"][i]},
            },
            "mood": {"joy": flat["mood.joy"][i], "anger": flat["mood.anger"][i]},
        }


@pytest.mark.parametrize("cls", BOTH)
def test_a_branch_has_the_sum_or_the_largest_of_its_classes(model, cls):
    clf = cls(model, TREE)
    X = pd.Series(TEXTS, index=[7, 8, 9])
    branches, flat = clf.predict_branches(X), clf.predict_frame(X)
    assert branches.index.tolist() == [7, 8, 9]
    assert branches.columns.tolist() == ["topic", "topic.world", "topic.art", "mood"]
    for name in branches:
        own = flat[[leaf for leaf in LEAVES if leaf.startswith(f"{name}.")]]
        by_hand = own.sum(axis=1) if cls is GLiClassClassifier else own.max(axis=1)
        np.testing.assert_allclose(branches[name], by_hand, atol=1e-6)
    if cls is GLiClassClassifier:
        np.testing.assert_allclose(branches[["topic", "mood"]].sum(axis=1), 1, atol=1e-6)


def test_the_product_along_the_path_for_one_class_a_text(model):
    clf = GLiClassClassifier(model, TREE, hierarchy="path")
    z = dict(zip(NODES, Engine(loader.load_model(model)).logits(TEXTS, NODES).T, strict=True))

    def among(name, *siblings):
        return softmax(np.stack([z[name], *(z[s] for s in siblings)]), axis=0)[0]

    topic, mood = among("topic", "mood"), among("mood", "topic")
    world, art = among("topic.world", "topic.art"), among("topic.art", "topic.world")
    expected = {
        "topic.world.travel": topic * world * among("topic.world.travel", "topic.world.news"),
        "topic.world.news": topic * world * among("topic.world.news", "topic.world.travel"),
        "topic.art.music": topic * art,
        "mood.joy": mood * among("mood.joy", "mood.anger"),
        "mood.anger": mood * among("mood.anger", "mood.joy"),
    }
    frame = clf.predict_frame(TEXTS)
    for name, by_hand in expected.items():
        np.testing.assert_allclose(frame[name], by_hand, atol=1e-5)
    np.testing.assert_allclose(clf.predict_branches(TEXTS)["topic.world"], topic * world, atol=1e-5)
    np.testing.assert_allclose(frame.sum(axis=1), 1, atol=1e-5)


def test_the_product_along_the_path_for_any_number_of_classes(model):
    clf = GLiClassMultiLabelClassifier(model, TREE, hierarchy="path")
    logits = Engine(loader.load_model(model)).logits(TEXTS, NODES)
    p = dict(zip(NODES, expit(logits).T, strict=True))
    frame = clf.predict_frame(TEXTS)
    for name in LEAVES:
        parts = name.split(".")
        way = [".".join(parts[: i + 1]) for i in range(len(parts))]
        np.testing.assert_allclose(frame[name], np.prod([p[n] for n in way], axis=0), atol=1e-5)
    transformer = GLiClassTransformer(model, TREE, hierarchy="path", multi_label=True)
    np.testing.assert_allclose(transformer.transform(TEXTS), frame, atol=1e-6)


DESCRIBED = {"topic": {"sport": "the lazy dog", "art": {"music": "world"}}, "mood": ["joy"]}
WORDINGS = {"topic.sport": "the lazy dog", "topic.art.music": "world", "mood.joy": "mood.joy"}


@pytest.mark.parametrize("cls", BOTH)
def test_the_model_reads_the_texts_that_leaves_stand_for(model, cls, tmp_path):
    clf, flat = cls(model, DESCRIBED), cls(model, WORDINGS)
    pd.testing.assert_frame_equal(clf.predict_frame(TEXTS), flat.predict_frame(TEXTS))
    frame = clf.predict_frame(TEXTS)
    nested = clf.predict_nested(TEXTS)[0]
    assert nested["topic"]["sport"] == frame["topic.sport"][0]
    assert nested["topic"]["art"]["music"] == frame["topic.art.music"][0]
    assert nested["mood"]["joy"] == frame["mood.joy"][0]
    assert clf.predict_branches(TEXTS).columns.tolist() == ["topic", "topic.art", "mood"]
    clf.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert again.labels == DESCRIBED
    pd.testing.assert_frame_equal(again.predict_frame(TEXTS), frame, atol=1e-5)


def test_along_the_path_branches_are_read_by_their_names_and_leaves_by_their_texts(model):
    read = ["topic", "the lazy dog", "topic.art", "world", "mood", "mood.joy"]
    logits = Engine(loader.load_model(model)).logits(TEXTS, read)
    p = dict(zip(read, expit(logits).T, strict=True))
    frame = GLiClassMultiLabelClassifier(model, DESCRIBED, hierarchy="path").predict_frame(TEXTS)
    np.testing.assert_allclose(frame["topic.sport"], p["topic"] * p["the lazy dog"], atol=1e-5)
    by_hand = p["topic"] * p["topic.art"] * p["world"]
    np.testing.assert_allclose(frame["topic.art.music"], by_hand, atol=1e-5)


def test_extreme_logits_stay_finite():
    from skgliclass.estimators.hierarchy import Hierarchy

    tree = Hierarchy.of({"a": ["b", "c"]}, ["a.b", "a.c"])
    logits = np.array([[90, 90, -90], [-500, 500, 0]], dtype=np.float32)
    for multi_label in (False, True):
        scores = tree.class_logits(logits, multi_label)
        assert np.isfinite(scores).all()
        assert scores.dtype == tree.node_probabilities(scores, multi_label).dtype == np.float32


@pytest.mark.parametrize("cls", BOTH)
def test_labels_that_are_flat_have_no_branches(model, cls):
    clf = cls(model, ["joy", "anger"])
    for method in (clf.predict_nested, clf.predict_branches):
        with pytest.raises(ValueError, match="labels is no hierarchy"):
            method(TEXTS)
    clf.set_params(hierarchy="path")
    with pytest.raises(ValueError, match=r'hierarchy="path" needs labels with branches.*"leaves"'):
        clf.predict_proba(TEXTS)
    y = ["joy", "anger", "joy"]
    with pytest.raises(ValueError, match='hierarchy="path" needs labels with branches'):
        clf.fit(TEXTS, y if cls is GLiClassClassifier else [[name] for name in y])


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("hierarchy", ["leaves", "path"])
def test_hierarchies_survive_fitting_and_storing(model, cls, hierarchy, tmp_path):
    clf = cls(model, TREE, hierarchy=hierarchy, trainable="head", max_epochs=1, random_state=0)
    y = ["mood.joy", "mood.anger", "topic.art.music"]
    clf.fit(TEXTS, y if cls is GLiClassClassifier else [[name] for name in y])
    expected = clf.predict_nested(TEXTS)
    clf.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    for found, own in zip(again.predict_nested(TEXTS), expected, strict=True):
        assert found["mood"] == pytest.approx(own["mood"], abs=1e-5)
        assert found["topic"]["world"] == pytest.approx(own["topic"]["world"], abs=1e-5)


def test_an_empty_branch_is_named(model):
    with pytest.raises(ValueError, match=r"the branch 'topic\.art' of the hierarchy is empty"):
        GLiClassClassifier(model, {"topic": {"art": []}}).predict_nested(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
def test_a_shortlist_leaves_no_scores_of_branches_and_is_refused(model, cls):
    with pytest.raises(ValueError, match='shortlist=2 does not go with hierarchy="path"'):
        cls(model, TREE, hierarchy="path", shortlist=2).predict_proba(TEXTS)
