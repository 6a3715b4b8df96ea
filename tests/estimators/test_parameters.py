"""Parameters as people write them: what is read, and what is said of others."""

import copy
import pickle
import warnings
from enum import Enum
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from tiny import reference_checkpoint, sentence_transformer
from toy import polars, toy

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    GLiClassTransformer,
)

TEXTS, Y = toy(12)
NAMES = ["music", "sport", "travel"]
ESTIMATORS = (GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer)


class Topic(str, Enum):
    MUSIC = "music"
    SPORT = "sport"
    TRAVEL = "travel"


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return folder


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi")))


@pytest.fixture(scope="module")
def expected(uni):
    return GLiClassClassifier(str(uni), NAMES).predict_proba(TEXTS)


def messages(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(entry.filename == __file__ for entry in caught)
    return [str(entry.message) for entry in caught]


# model and device


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (["a", "b"], r"labels=\['a', 'b'\]"),
        (("a", "b"), r"labels=\['a', 'b'\]"),
        (np.array(["a", "b"]), r"labels=\['a', 'b'\]"),
        (pd.Series(["a", "b"]), r"labels=\['a', 'b'\]"),
        ({"a": "news"}, r"labels=\{'a': 'news'\}"),
        (Topic, "labels=Topic"),
    ],
)
def test_labels_in_place_of_the_model_are_told_where_they_go(kind, model, labels):
    with pytest.raises((TypeError, ValueError), match=rf"write {kind.__name__}\({labels}\)"):
        kind(model).fit(TEXTS)


@pytest.mark.parametrize("model", [None, "", " ", 3, b"mini", torch.nn.Linear(1, 1)])
def test_what_is_no_name_of_a_model_is_named(model):
    with pytest.raises((TypeError, ValueError), match="is no model: it must be the name of one"):
        GLiClassClassifier(model, NAMES).predict(TEXTS)


def test_a_path_is_a_folder(uni, expected, tmp_path, monkeypatch):
    np.testing.assert_array_equal(
        GLiClassClassifier(Path(uni), NAMES).predict_proba(TEXTS), expected
    )
    GLiClassClassifier(str(uni), NAMES).save_pretrained(tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    # Which as a string would be the embedded model.
    read = GLiClassClassifier.from_pretrained(Path("mini"))
    np.testing.assert_array_equal(read.predict_proba(TEXTS), expected)
    by_path = GLiClassClassifier(Path("mini"), NAMES, shortlist=2, shortlist_model=Path("mini"))
    assert by_path.predict_proba(TEXTS).shape == (12, 3)
    with pytest.raises(FileNotFoundError, match="'nowhere': there is no such folder"):
        GLiClassClassifier(Path("nowhere"), NAMES).predict(TEXTS)


@pytest.mark.parametrize("device", ["cpu", np.str_("cpu"), "cpu:0", torch.device("cpu")])
def test_a_device_has_a_name_or_is_one_of_torchs(uni, expected, device):
    clf = GLiClassClassifier(str(uni), NAMES, device=device)
    np.testing.assert_array_equal(clone(clf).predict_proba(TEXTS), expected)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a device")
@pytest.mark.parametrize(
    ("device", "shown"),
    [
        (0, "0"),
        ("0", "0"),
        (np.int64(1), "1"),
        ("cuda:0", "'cuda:0'"),
        (torch.device("cuda", 1), "'cuda:1'"),
    ],
)
def test_a_device_that_is_not_there_is_named(uni, device, shown):
    with pytest.raises(ValueError, match=rf"device={shown} is not available here .*Use device="):
        GLiClassClassifier(str(uni), NAMES, device=device).predict(TEXTS)


@pytest.mark.parametrize("device", [-1, True, 1.0, None, ["cpu"], b"cpu"])
def test_what_is_no_device_is_named(uni, device):
    with pytest.raises((TypeError, ValueError), match="is no device: it must be a name"):
        GLiClassClassifier(str(uni), NAMES, device=device).predict(TEXTS)


# Numbers


def test_numbers_of_numpy_are_as_good_as_pythons(uni):
    values = {"max_length": 100, "n_permutations": 2, "n_jobs": 1, "shortlist": 2}
    own = GLiClassClassifier(str(uni), NAMES, **values)
    of_numpy = {name: np.int8(value) for name, value in values.items()}
    small = GLiClassClassifier(str(uni), NAMES, **of_numpy)
    np.testing.assert_array_equal(small.predict_proba(TEXTS), own.predict_proba(TEXTS))


@pytest.mark.parametrize("value", [512.0, np.float32(512), True, "512"])
def test_what_is_no_whole_number_is_refused_as_scikit_learn_does(uni, value):
    with pytest.raises(ValueError, match=r"'max_length' parameter .* must be an int"):
        GLiClassClassifier(str(uni), NAMES, max_length=value).predict(TEXTS)


# Labels and examples stay what was passed.

CONTAINERS = {
    "view": dict.fromkeys(NAMES).keys(),
    "values": dict(enumerate(NAMES)).values(),
    "array": np.array(NAMES),
    "enumeration": Topic,
    "frame": pd.DataFrame({"name": NAMES}),
}


def test_parameters_that_were_valid_are_checked_again_where_they_changed(uni):
    clf = GLiClassMultiLabelClassifier(uni, NAMES, threshold=[0.5, 0.4, 0.3])
    for _ in range(2):
        clf.predict(TEXTS[:1])
    before = dict(vars(clf))
    for name, wrong in [("n_jobs", True), ("n_permutations", 0), ("class_weight", [1])]:
        clf.set_params(**{name: wrong})
        with pytest.raises(ValueError, match=f"The '{name}' parameter of GLiClassMulti"):
            clf.predict(TEXTS[:1])
        vars(clf).update(before)
    clf.predict(TEXTS[:1])
    assert vars(clf) == before


def test_parameters_that_were_valid_cost_a_prediction_next_to_nothing(uni, monkeypatch):
    clf = GLiClassClassifier(uni, NAMES, class_weight={"sport": 2.0})
    clf.predict(TEXTS[:1])
    monkeypatch.setattr(BaseEstimator, "get_params", None)
    clf.predict(TEXTS[:1])


@pytest.mark.parametrize("labels", CONTAINERS.values(), ids=CONTAINERS)
def test_parameters_stay_what_was_passed_and_can_be_copied(uni, expected, labels):
    clf = GLiClassClassifier(uni, labels, examples={"a text": "sport"}.items())
    assert clf.get_params()["labels"] is labels
    for other in (clone(clf), copy.deepcopy(clf), pickle.loads(pickle.dumps(clf))):
        assert other.classes_.tolist() == NAMES
        other.set_params(examples=None)
        np.testing.assert_array_equal(other.predict_proba(TEXTS), expected)
    assert clf.get_params()["labels"] is labels


def test_a_hierarchy_holds_any_container(uni):
    labels = {"topic": dict.fromkeys(["music", "sport"]).keys(), "mood": np.array(["joy"])}
    clf = pickle.loads(pickle.dumps(GLiClassClassifier(uni, labels, hierarchy="path")))
    (nested,) = clf.predict_nested(TEXTS[:1])
    assert {name: list(leaves) for name, leaves in nested.items()} == {
        "topic": ["music", "sport"],
        "mood": ["joy"],
    }
    assert clf.predict_branches(TEXTS).columns.tolist() == ["topic", "mood"]


def test_a_search_goes_over_containers_of_labels(uni):
    labels = [Topic, np.array(NAMES), tuple(NAMES), polars().Series(NAMES)]
    clf = GLiClassClassifier(uni, max_epochs=0)
    search = GridSearchCV(clf, {"labels": labels}, cv=2, error_score="raise").fit(TEXTS, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 1


def test_members_of_an_enumeration_are_their_values_everywhere(uni):
    y = np.array([Topic(name) for name in Y], dtype=object)
    clf = GLiClassClassifier(uni, Topic, max_epochs=0, class_weight={Topic.SPORT: 2.0})
    clf.fit(TEXTS, y)
    assert clf.classes_.tolist() == NAMES
    assert {type(value) for value in clf.predict(TEXTS).tolist()} == {str}
    thresholds = {Topic.MUSIC: 0.1, Topic.SPORT: 0.2, Topic.TRAVEL: 0.3}
    many = GLiClassMultiLabelClassifier(uni, Topic, threshold=thresholds)
    np.testing.assert_array_equal(many.thresholds_, np.float32([0.1, 0.2, 0.3]))


def test_a_saved_classifier_shows_each_label_once(uni, tmp_path):
    GLiClassClassifier(str(uni), NAMES).save_pretrained(tmp_path / "saved")
    read = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    assert f"labels={NAMES!r}" in " ".join(repr(read).split())
    assert repr(GLiClassClassifier()) == "GLiClassClassifier()"


# Labels that are the same to the model


@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_labels_of_the_same_tokens_are_named_once(request, kind):
    model = str(request.getfixturevalue(kind))
    labels = ["world", f"Day {kind}", f"day {kind} ", f"day {kind}"]
    clf = GLiClassClassifier(model, labels)
    (message,) = messages(lambda: clf.predict(TEXTS))
    assert f"'Day {kind}', 'day {kind}', 'day {kind} '" in message
    assert "'world'" not in message
    assert "labels={class: label text}" in message
    assert not messages(lambda: clf.predict(TEXTS[:1]))
    assert not messages(lambda: GLiClassClassifier(model, [labels[0], labels[1]]).predict(TEXTS))


@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_labels_of_unknown_characters_alone_are_named_in_fit(request, kind):
    labels = {"uni": ["🎵", "🏈", "世"], "bi": ["🎺", "🏉", "界"]}[kind]
    y = [labels[i % 3] for i in range(12)]
    clf = GLiClassClassifier(
        str(request.getfixturevalue(kind)), max_epochs=1, trainable="head", random_state=0
    )
    (message,) = messages(lambda: clf.fit(TEXTS, y))
    assert all(repr(label) in message for label in labels)
    assert not messages(lambda: clf.predict(TEXTS))


def test_labels_of_several_texts_are_compared_within_a_text(uni):
    clf = GLiClassClassifier(str(uni))
    assert not messages(lambda: clf.predict(TEXTS[:2], labels=[["fox", "dog"], ["FOX", "day"]]))
    (message,) = messages(lambda: clf.predict(TEXTS[:2], labels=[["fox", "FOX"], ["fox", "day"]]))
    assert "'fox', 'FOX'" in message or "'FOX', 'fox'" in message


# One class


def test_a_single_class_is_told_that_it_always_wins(uni):
    model = str(uni)
    one = GLiClassClassifier(model, ["sport"])
    (message,) = messages(lambda: one.predict(TEXTS))
    assert "'sport' is the only class" in message
    assert "GLiClassMultiLabelClassifier" in message
    assert (one.set_params(labels=["sport", "x"]).predict_proba(TEXTS) < 1).all()
    (message,) = messages(lambda: GLiClassTransformer(model, ["sport"]).fit(TEXTS))
    assert "multi_label=True" in message
    assert not messages(lambda: GLiClassMultiLabelClassifier(model, ["sport"]).predict(TEXTS))


def test_a_single_class_in_y_is_told_in_fit_alone(uni):
    clf = GLiClassClassifier(str(uni), max_epochs=0)
    (message,) = messages(lambda: clf.fit(TEXTS, ["sport"] * 12))
    assert "'sport' is the only class" in message
    assert not messages(lambda: clf.predict(TEXTS))
