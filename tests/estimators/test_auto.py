"""What ``trainable="auto"``, the default, chooses, and where it starts from."""

import inspect

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.datasets import Example
from skgliclass.estimators import choice

FEW = toy(12)
MANY = toy(24, seed=1)
QUICK = {"max_epochs": 1, "batch_size": 24, "random_state": 0, "device": "cpu", "n_jobs": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Give a bi-encoder, a GLiClass checkpoint and an encoder without heads."""
    folder = tmp_path_factory.mktemp("models")
    sentence_transformer(folder / "bi", n_layers=1)
    reference_checkpoint(folder / "uni", n_layers=1)
    encoder_checkpoint(folder / "fresh", n_layers=1)
    return folder


@pytest.fixture
def border(monkeypatch):
    """Let six rows a class be many."""
    monkeypatch.setattr(choice, "FEW_ROWS_A_CLASS", 6)


def auto(models, name="bi", **parameters):
    parameters = {"labels": LABELS, **QUICK, **parameters}
    return GLiClassClassifier(str(models / name), **parameters)


def many_labels(models, name="bi", **parameters):
    return GLiClassMultiLabelClassifier(str(models / name), LABELS, **{**QUICK, **parameters})


def test_it_is_the_default_and_not_shown():
    for cls in (GLiClassClassifier, GLiClassMultiLabelClassifier):
        assert inspect.signature(cls).parameters["trainable"].default == "auto"
        assert "trainable" not in repr(cls(trainable="auto"))


@pytest.mark.parametrize(
    ("name", "data", "chosen"),
    [
        ("bi", FEW, "labels"),
        ("bi", MANY, "all"),
        ("uni", FEW, "labels"),
        ("uni", MANY, "all"),
        ("fresh", FEW, "all"),
    ],
)
def test_rows_and_model_decide(models, border, name, data, chosen):
    clf = auto(models, name).fit(*data)
    assert clf.trainable_ == chosen
    assert clf.trainable == "auto"
    assert clf.predict_proba(FEW[0]).shape == (12, 3)


def test_rows_are_counted_by_class(models, border):
    # A row with two classes is one of each.
    assert many_labels(models).fit(*toy_indicator(12)).trainable_ == "labels"
    assert many_labels(models).fit(*toy_indicator(18)).trainable_ == "all"
    one_class = auto(models).fit(MANY[0], [LABELS[0]] * 12 + [LABELS[1]] * 12)
    assert one_class.trainable_ == "all"
    few_count = auto(models).fit(*MANY, sample_weight=np.arange(len(MANY[0])) < len(FEW[0]))
    assert few_count.trainable_ == "labels"


def test_texts_without_labels_are_learnt_from(models, border):
    assert auto(models).fit(MANY[0]).trainable_ == "labels"
    assert auto(models).fit(*FEW, unlabelled=MANY[0]).trainable_ == "labels"
    assert auto(models).fit(*MANY, unlabelled=FEW[0]).trainable_ == "all"
    with pytest.raises(ValueError, match="without trained classification heads"):
        auto(models, "fresh").fit(*FEW, unlabelled=MANY[0])


def test_what_would_take_hours_is_not_trained(models, border, monkeypatch):
    monkeypatch.setattr(choice, "MOST_OPERATIONS", {"cpu": 1e6})
    assert auto(models).fit(*MANY).trainable_ == "labels"


def test_rows_with_labels_of_their_own_train_the_model(models):
    rows = [Example(text, [name, "weather"], [name]) for text, name in zip(*FEW, strict=True)]
    clf = auto(models, labels=None)
    clf._fit_rows(rows, None)
    assert clf.trainable_ == "all"


def test_no_epochs_train_nothing(models, border):
    bare = auto(models).predict_proba(FEW[0])
    for data in (FEW, MANY):
        clf = auto(models, max_epochs=0).fit(*data)
        assert np.array_equal(clf.predict_proba(FEW[0]), bare)
        assert clf.n_iter_ == 0


def test_it_says_what_it_chose(models, border, capsys):
    auto(models, verbose=1).fit(*FEW, unlabelled=MANY[0])
    said = capsys.readouterr().err
    expected = '"auto" is "labels" here, with 12 labelled rows, 24 texts without labels and 3 class'
    assert expected in said
    auto(models, verbose=0).fit(*FEW)
    auto(models, verbose=1, trainable="labels").fit(*FEW)
    assert '"auto"' not in capsys.readouterr().err


# Where training starts.


def still(models, name="bi", **parameters):
    """Give a classifier whose training hardly moves a weight."""
    return auto(models, name, learning_rate=1e-12, **parameters)


@pytest.mark.parametrize("name", ["bi", "uni"])
def test_training_starts_on_the_way_to_what_the_labels_alone_learn(models, border, name):
    tuned = still(models, name).fit(*MANY)
    assert tuned.trainable_ == "all"
    bare = auto(models, name).predict_log_proba(FEW[0])
    labels = auto(models, name, trainable="labels", calibrate=False).fit(*MANY)
    learnt = labels.predict_log_proba(FEW[0])
    assert np.abs(learnt - bare).max() > 0.1
    found = tuned.predict_proba(FEW[0])
    share = 1 - len(MANY[0]) / len(LABELS) / 256
    expected = softmax(bare + share * (learnt - bare), axis=1)
    assert np.allclose(found, expected, atol=1e-3)


def test_many_rows_need_no_start(models, border, monkeypatch):
    monkeypatch.setattr("skgliclass.estimators.fit._STARTING_ROWS", 1.0)
    expected = auto(models, trainable="all").fit(*MANY).decision_function(FEW[0])
    clf = auto(models).fit(*MANY)
    assert clf.trainable_ == "all"
    assert np.array_equal(clf.decision_function(FEW[0]), expected)


def test_the_start_may_be_the_best(models, border):
    swapped = np.roll(MANY[1], 1)
    clf = auto(models, learning_rate=0.1, max_epochs=2)
    clf.fit(MANY[0], swapped, X_val=FEW[0], y_val=np.roll(FEW[1], 1))
    labels = auto(models, trainable="labels")
    labels.fit(MANY[0], swapped, X_val=FEW[0], y_val=np.roll(FEW[1], 1))
    start = max(labels.validation_scores_)
    assert clf.validation_scores_[0] == pytest.approx(start)
    assert clf.score(FEW[0], np.roll(FEW[1], 1)) == pytest.approx(max(clf.validation_scores_))
    assert max(clf.validation_scores_) >= start


def test_what_was_learnt_belongs_to_the_tuned_model(models, border, tmp_path):
    clf = auto(models, learning_rate=0.01).fit(*MANY)
    expected = clf.decision_function(FEW[0])
    clf.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path, device="cpu")
    assert np.allclose(again.decision_function(FEW[0]), expected, atol=1e-4)
    more = clf.set_params(labels=[*LABELS, "weather"]).decision_function(FEW[0])
    assert np.allclose(more[:, :3], expected, atol=1e-4)
    assert clone(clf).set_params(labels=LABELS).fit(*FEW).trainable_ == "labels"


# One call after another.


def test_rows_one_by_one_are_labels_alone_until_the_model_was_tuned(models, border, tmp_path):
    clf = auto(models).partial_fit(*FEW)
    assert clf.trainable_ == "labels"
    assert clf.partial_fit(*MANY).trainable_ == "labels"
    whole = auto(models, trainable="labels").fit(np.r_[FEW[0], MANY[0]], np.r_[FEW[1], MANY[1]])
    expected = whole.decision_function(FEW[0])
    assert np.allclose(clf.decision_function(FEW[0]), expected, atol=1e-3)
    tuned = auto(models, learning_rate=0.01).fit(*MANY)
    before = tuned.decision_function(FEW[0])
    tuned.save_pretrained(tmp_path)
    assert tuned.set_params(learning_rate=1e-12).partial_fit(*FEW).trainable_ == "all"
    assert np.allclose(tuned.decision_function(FEW[0]), before, atol=1e-3)
    again = GLiClassClassifier.from_pretrained(tmp_path, device="cpu")
    assert again.partial_fit(*FEW).trainable_ == "all"


def test_a_tuned_model_learns_labels_beside_what_it_was_tuned_with(models, border):
    clf = auto(models, learning_rate=0.01, warm_start=True).fit(*MANY)
    before = clf.decision_function(FEW[0])
    clf.set_params(label_penalty=1e6).fit(*FEW)
    assert clf.trainable_ == "labels"
    # Biases alone are another.
    assert np.ptp(clf.decision_function(FEW[0]) - before, axis=0).max() < 1e-2


# Beside scikit-learn.


def test_a_search_compares_it_with_others(models, border):
    pipeline = make_pipeline("passthrough", auto(models, "bi"))
    name = "gliclassclassifier__trainable"
    search = GridSearchCV(pipeline, {name: ["auto", "labels", "head"]}, cv=2).fit(*MANY)
    assert search.cv_results_["mean_test_score"].shape == (3,)


def test_texts_without_labels_are_routed(models):
    with config_context(enable_metadata_routing=True):
        clf = auto(models).set_fit_request(unlabelled=True)
        alone = clone(clf).fit(*FEW, unlabelled=MANY[0]).decision_function(FEW[0])
        bare = clone(clf).fit(*FEW).decision_function(FEW[0])
        assert not np.allclose(alone, bare, atol=1e-4)
        pipeline = make_pipeline("passthrough", clf).fit(*FEW, unlabelled=MANY[0])
        assert np.array_equal(pipeline.decision_function(FEW[0]), alone)
        # They are no rows of X, of which a split takes a part.
        found = cross_validate(
            clf, *FEW, cv=2, params={"unlabelled": np.array(MANY[0], dtype=object)[:12]}
        )
    assert found["test_score"].shape == (2,)


# What the parameters of the loss mean where label vectors alone are learnt.


def test_soft_targets_are_between_hard_ones(models):
    hard = np.eye(3)[np.arange(12) % 3]
    soft = 0.6 * hard + 0.4 / 3

    def middle(y):
        clf = many_labels(models, label_penalty=1e-3).fit(FEW[0], y)
        return clf.decision_function(FEW[0])

    spread = [np.ptp(middle(y), axis=1).mean() for y in (hard, soft)]
    assert spread[1] < spread[0]


@pytest.mark.parametrize("parameter", ["focal_gamma", "label_smoothing"])
def test_the_loss_is_that_of_the_other_ways_of_training(models, parameter):
    value = {"focal_gamma": 2.0, "label_smoothing": 0.3}[parameter]
    plain, other = (auto(models, label_penalty=0.01, **p) for p in ({}, {parameter: value}))
    logits = [clf.fit(*FEW).decision_function(FEW[0]) for clf in (plain, other)]
    spread = [np.ptp(values, axis=1).mean() for values in logits]
    # Both leave less to gain from being more certain.
    assert spread[1] < spread[0]
