"""Neighbours that vote: models that compare vectors, the embedded one among them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tiny import sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.datasets import Example
from skgliclass.engine.border import Border
from skgliclass.estimators.calibration import best_thresholds

CLASSES = ["good", "poor"]
# What only the labels of other texts can tell: the opposite of what the words mean.
KEPT = [
    f"I {verb} this {thing}." for verb in ("love", "hate") for thing in ("film", "book", "song")
]
KEPT += [f"The {thing} was {word}." for word in ("great", "awful") for thing in ("play", "show")]
SARCASTIC = ["poor"] * 3 + ["good"] * 3 + ["poor"] * 2 + ["good"] * 2
NEW = ["I love this movie.", "I hate this tune.", "The concert was great."]
MANY = np.stack([np.array(SARCASTIC) == name for name in CLASSES], axis=1).astype(float)
# What the words of the labels say nothing about, and the texts very much.
MATTERS = {"sheep": "class B", "cows": "class B", "lamps": "class A"}
ABOUT = [f"Task {i} is about {matter}" for i in range(15) for matter in MATTERS]
ABOUT_Y, ABOUT_CLASSES = [*MATTERS.values()] * 15, ["class A", "class B"]
BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]


def kept(
    cls=GLiClassClassifier,
    k=3,
    labels=CLASSES,
    y=None,
    texts=KEPT,
    model="mini",
    share=0.5,
    **parameters,
):
    """Fit without learning anything but what is kept, and let it vote, whatever speaks for it."""
    if y is None:
        y = SARCASTIC if cls is GLiClassClassifier else MANY
    parameters = {"max_epochs": 0, **parameters}
    clf = cls(model, labels, n_retrieved=k, **parameters).fit(texts, y)
    return clf if share is None else sharing(clf, share)


def sharing(clf, share):
    state = clf._fit_state
    clf._fit_state = replace(state, store=replace(state.store, share=share))
    return clf


def alone(clf, X, **labels):
    return clone(clf).set_params(n_retrieved=0).predict_proba(X, **labels)


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi"), n_layers=1))


def test_votes_move_wrong_labels_to_the_right_ones():
    new = [f"Task {i} is about {matter}" for i in (77, 88, 99) for matter in MATTERS]
    clf = kept(k=10, labels=ABOUT_CLASSES, texts=ABOUT, y=ABOUT_Y, share=None)
    assert clf.predict(new).tolist() == [*MATTERS.values()] * 3
    assert clf.set_params(n_retrieved=0).score(new, [*MATTERS.values()] * 3) < 0.9


@pytest.mark.parametrize("cls", BOTH)
def test_scores_are_means_of_the_labels_and_of_the_nearest_votes(cls):
    clf = kept(cls, k=3)
    vectors, x = clf.embed(KEPT), clf.embed(NEW)
    cosines = x @ vectors.T
    p = alone(clf, NEW)
    expected = np.empty_like(p)
    share = 0.5 * 3 / 5 * 10 / 40 * 5 / 6
    for i, row in enumerate(cosines):
        nearest = np.argsort(-row)[:3]
        votes = np.average(MANY[nearest], axis=0, weights=np.exp(20 * row[nearest]))
        expected[i] = (1 - share) * p[i] + share * votes
    np.testing.assert_allclose(clf.predict_proba(NEW), expected, atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
def test_all_that_is_predicted_agrees(cls):
    clf = kept(
        cls,
        labels=[*CLASSES, "odd"],
        y=np.hstack([MANY, MANY[:, :1] * 0]) if cls is BOTH[1] else SARCASTIC,
    )
    p, logits = clf.predict_proba(NEW), clf.decision_function(NEW)
    of_logits = softmax(logits, axis=1) if cls is BOTH[0] else expit(logits)
    np.testing.assert_allclose(of_logits, p, atol=1e-6)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(NEW)), p, atol=1e-6)
    np.testing.assert_allclose(clf.predict_frame(NEW).to_numpy(), p)
    top = clf.predict_top(NEW, k=1)
    assert top["label"].tolist() == clf.classes_[p.argmax(axis=1)].tolist()
    if cls is BOTH[0]:
        np.testing.assert_array_equal(clf.predict(NEW), clf.classes_[p.argmax(axis=1)])
    rows = clf.predict_proba(NEW, labels=[["odd", "poor", "good"]] * 3)
    order = [clf.classes_.tolist().index(name) for name in ("odd", "poor", "good")]
    np.testing.assert_allclose(np.stack(rows), p[:, order], atol=1e-6)


def test_a_prediction_depends_on_its_row_alone():
    # Alike to the model, but for the last digit, and of different classes.
    texts = [variant for text in KEPT for variant in (text, text.upper(), text.lower())]
    y = ["good", "poor", "poor"] * len(KEPT)
    clf = kept(k=1, texts=texts, y=y)
    together = clf.predict_proba([*NEW, *KEPT, *(text * 5 for text in NEW)])
    for i, text in enumerate(NEW):
        np.testing.assert_allclose(clf.predict_proba([text])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
def test_a_label_that_no_kept_text_has_keeps_its_score(cls):
    clf = kept(cls)
    clf.set_params(labels=["good", "music", "poor", "sport"])
    p, without = clf.predict_proba(NEW), alone(clf, NEW)
    np.testing.assert_allclose(p[:, [1, 3]], without[:, [1, 3]], atol=1e-6)
    assert np.abs(p - without)[:, [0, 2]].max() > 0.01
    if cls is BOTH[0]:
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("cls", BOTH)
def test_texts_without_any_of_the_labels_do_not_vote(cls):
    clf = kept(cls)
    strangers = ["music", "sport"]
    np.testing.assert_array_equal(
        np.stack(clf.predict_proba(NEW, labels=[strangers] * 3)),
        np.stack(alone(clf, NEW, labels=[strangers] * 3)),
    )
    np.testing.assert_array_equal(
        clf.set_params(labels=strangers).predict_proba(NEW), alone(clf, NEW)
    )


def test_of_some_labels_those_texts_vote_that_have_one():
    texts = [*KEPT, "I sing this song.", "I play this song."]
    y = [*SARCASTIC, "music", "sport"]
    clf = kept(labels=["good", "music", "poor", "sport"], texts=texts, y=y)
    (found,) = clf.predict_proba(["I sing this tune."], labels=[["music", "sport"]])
    among_these = kept(labels=["music", "sport"], texts=texts[-2:], y=y[-2:])
    np.testing.assert_allclose(
        found, among_these.predict_proba(["I sing this tune."])[0], atol=1e-5
    )


def test_votes_go_by_label_text_whatever_the_class_and_the_template():
    clf = kept(labels={0: "good", 1: "poor"}, y=np.array(SARCASTIC) == "poor")
    named = kept()
    np.testing.assert_allclose(clf.predict_proba(NEW), named.predict_proba(NEW), atol=1e-6)
    clf.set_params(labels=CLASSES)
    np.testing.assert_allclose(clf.predict_proba(NEW), named.predict_proba(NEW), atol=1e-6)
    worded = clf.set_params(label_template="This is {}.")
    assert np.abs(worded.predict_proba(NEW) - alone(worded, NEW)).max() > 0.01


def test_rows_from_files_are_voted_on():
    clf = kept()
    rows = [Example(text, CLASSES, []) for text in NEW]
    np.testing.assert_allclose(np.stack(clf.predict_proba(rows)), clf.predict_proba(NEW), atol=1e-6)
    rows = [Example(text, [*CLASSES, "music"], []) for text in NEW]
    others = clone(clf).set_params(labels=[*CLASSES, "music"])
    expected = others.set_params(n_retrieved=0).predict_proba(NEW)
    assert np.abs(np.stack(clf.predict_proba(rows))[:, :2] - expected[:, [0, 2]]).max() > 0.01


def test_along_a_hierarchy_classes_are_voted_on():
    tree = {"opinion": ["good", "poor"], "matter": ["music"]}
    y = [f"opinion.{name}" for name in SARCASTIC]
    clf = kept(labels=tree, y=y, hierarchy="path")
    p, without = clf.predict_proba(NEW), alone(clf, NEW)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    music = clf.classes_.tolist().index("matter.music")
    np.testing.assert_allclose(p[:, music], without[:, music], atol=1e-6)
    assert np.abs(p - without).max() > 0.01
    branches = clf.predict_branches(NEW)
    np.testing.assert_allclose(branches["opinion"], 1 - p[:, music], atol=1e-6)


def test_soft_targets_and_what_nobody_annotated():
    y = MANY.copy()
    y[:, 1] = np.nan
    clf = kept(BOTH[1], y=y)
    p, without = clf.predict_proba(NEW), alone(clf, NEW)
    np.testing.assert_allclose(p[:, 1], without[:, 1], atol=1e-6)
    whole, half = (kept(BOTH[1], y=y).predict_proba(NEW) for y in (MANY, MANY / 2))
    share, of_one = (0.5 * 3 / 5 * 10 / 40 * rows / (rows + 1) for rows in (5, 10))
    np.testing.assert_allclose(2 * half - whole, (1 - share) * without, atol=1e-5)
    votes = (whole - (1 - share) * without)[:, 0] / share
    expected = (1 - of_one) * without[:, 0] + of_one * votes
    np.testing.assert_allclose(p[:, 0], expected, atol=1e-5)


def test_a_text_votes_once_with_all_that_was_said_of_it():
    texts, y = [*KEPT, *KEPT[:1] * 3], [*SARCASTIC, "good", "good", "good"]
    clf = kept(texts=texts, y=y, share=None)
    assert len(clf._fit_state.store) == len(KEPT)
    np.testing.assert_allclose(clf._fit_state.store.targets[0], [0.75, 0.25])
    weights = np.ones(len(texts))
    weights[-3:] = 0
    again = GLiClassClassifier("mini", CLASSES, n_retrieved=3, max_epochs=0)
    again.fit(texts, y, sample_weight=weights)
    expected = kept(share=None).predict_proba(NEW)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-6)


def test_examples_that_all_prompts_show_go_with_votes():
    shown = {"examples": [("I adore this.", "poor")], "task_description": "What is it like?"}
    clf = kept(**shown)
    assert np.abs(clf.predict_proba(NEW) - alone(clf, NEW)).max() > 0.01


@pytest.mark.parametrize("cls", BOTH)
def test_all_vote_where_there_are_fewer(cls):
    many, all_of_them = kept(cls, k=100), kept(cls, k=len(KEPT))
    np.testing.assert_array_equal(many.predict_proba(NEW), all_of_them.predict_proba(NEW))
    one = kept(cls, k=3, texts=KEPT[:1], y=["poor"] if cls is BOTH[0] else MANY[:1])
    assert np.isfinite(one.decision_function(NEW)).all()


def test_nobody_votes_where_nothing_is_kept():
    clf = GLiClassClassifier("mini", CLASSES, n_retrieved=3, max_epochs=0).fit(KEPT)
    np.testing.assert_array_equal(clf.predict_proba(NEW), alone(clf, NEW))
    learnt = GLiClassClassifier("mini", CLASSES, n_retrieved=3).fit(KEPT)
    expected = learnt.predict_proba(NEW)
    np.testing.assert_array_equal(learnt.set_params(n_retrieved=0).predict_proba(NEW), expected)
    with pytest.raises(NotFittedError, match=r"n_retrieved=3 .* Call fit\(X, y\)"):
        GLiClassClassifier("mini", CLASSES, n_retrieved=3).predict(NEW)


@pytest.fixture
def n_encoded(monkeypatch):
    """Count the texts that the model reads."""
    seen = []
    for name in ("logits", "text_vectors"):
        original = getattr(Border, name)

        def counting(self, work, labels, items, *rest, _original=original, **options):
            seen.append(len(items))
            return _original(self, work, labels, items, *rest, **options)

        monkeypatch.setattr(Border, name, counting)
    return lambda: sum(seen)


def test_no_text_is_read_twice(n_encoded):
    clf = GLiClassClassifier("mini", CLASSES, n_retrieved=3).fit(KEPT, SARCASTIC)
    assert clf.trainable_ == "labels"
    assert n_encoded() == len(KEPT)
    clf.predict(NEW)
    assert n_encoded() == len(KEPT) + len(NEW)
    clf.partial_fit(NEW, ["poor", "good", "poor"])
    assert n_encoded() == len(KEPT) + 2 * len(NEW)


def test_long_texts_are_found_by_all_of_their_chunks():
    # The beginning, all that fits, is the same.
    start = "The day was long. " * 12
    texts = [start + "Then I played football.", start + "Then I played the piano."]
    clf = kept(
        labels=["music", "sport"],
        texts=texts,
        y=["music", "sport"],
        k=1,
        max_length=64,
        long_texts="chunk",
    )
    p, without = clf.predict_proba(texts), alone(clf, texts)
    assert p[0, 0] > without[0, 0]
    assert p[1, 0] < without[1, 0]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("trainable", ["labels", "all"])
def test_stored_classifiers_predict_the_same(cls, trainable, bi, tmp_path):
    texts, y = toy(9)
    if cls is BOTH[1]:
        y = [[name] for name in y]
    epochs = {"max_epochs": 1, "random_state": 0, "trainable": trainable}
    clf = cls(bi, LABELS, n_retrieved=2, **epochs).fit(texts, y)
    expected = clf.predict_proba(NEW)
    assert np.abs(clone(clf).fit(texts, y).predict_proba(NEW) - expected).max() < 1e-5
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(NEW), expected)
    clf.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-6)
    np.testing.assert_allclose(
        cls.from_pretrained(tmp_path, n_retrieved=0).predict_proba(NEW),
        clf.set_params(n_retrieved=0).predict_proba(NEW),
        atol=1e-6,
    )
    assert clf._fit_state.store.examples[0].text == texts[0]


def test_what_is_kept_goes_along_with_other_labels(bi, tmp_path):
    clf = kept(model=bi).set_params(labels=["music", *CLASSES])
    expected = clf.predict_proba(NEW)
    clf.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-6)


@pytest.mark.parametrize("trainable", ["auto", "labels", "all"])
def test_without_epochs_partial_fit_keeps_further_texts_and_learns_nothing(trainable, capsys):
    parameters = {"trainable": trainable, "share": None, "k": 10}
    first = {"texts": ABOUT[:20], "y": ABOUT_Y[:20], "labels": ABOUT_CLASSES}
    clf = kept(**parameters, **first, verbose=1).partial_fit(ABOUT[20:], ABOUT_Y[20:])
    whole = kept(**parameters, texts=ABOUT, y=ABOUT_Y, labels=ABOUT_CLASSES)
    assert whole.vote_share_ > 0
    np.testing.assert_allclose(clf.predict_proba(NEW), whole.predict_proba(NEW), atol=1e-6)
    clf.set_params(n_retrieved=0)
    bare = GLiClassClassifier("mini", ABOUT_CLASSES).predict_proba(NEW)
    np.testing.assert_array_equal(clf.predict_proba(NEW), bare)
    assert '"auto" is' not in capsys.readouterr().err


def test_partial_fit_row_by_row_keeps_what_one_fit_does():
    whole = GLiClassClassifier("mini", CLASSES, n_retrieved=3).fit(KEPT, SARCASTIC)
    by_rows = GLiClassClassifier("mini", CLASSES, n_retrieved=3)
    for start in range(0, len(KEPT), 5):
        rows = slice(start, start + 5)
        by_rows.partial_fit(KEPT[rows], SARCASTIC[rows])
    np.testing.assert_allclose(by_rows.predict_proba(NEW), whole.predict_proba(NEW), atol=1e-4)
    by_rows.partial_fit(KEPT[:1], SARCASTIC[:1])
    assert len(by_rows._fit_state.store) == len(KEPT)


def test_new_classes_are_kept_beside_the_old_ones():
    clf = GLiClassClassifier("mini", n_retrieved=3)
    clf.partial_fit(KEPT, SARCASTIC, classes=CLASSES)
    clf.partial_fit(["I sing this song."], ["music"], classes=[*CLASSES, "music"])
    store = clf._fit_state.store
    assert len(store) == len(KEPT) + 1
    assert store.targets[:, clf.classes_.tolist().index("music")].tolist() == [0.0] * 10 + [1.0]


# How much votes count is told by texts without their own.


def random_labels(n=300):
    texts, _ = toy(n)
    return texts, np.random.default_rng(0).choice(CLASSES, n)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_votes_that_tell_nothing_hardly_count(cls, max_epochs):
    texts, y = random_labels()
    rows = y if cls is BOTH[0] else (y[:, None] == CLASSES).astype(float)
    parameters = {"max_epochs": max_epochs, "trainable": "labels", "share": None}
    clf = kept(cls, k=5, texts=texts, y=rows, **parameters)
    assert clf.vote_share_ < 0.1


@pytest.mark.parametrize("cls", BOTH)
def test_votes_that_tell_much_count_for_more_than_half(cls):
    y = ABOUT_Y if cls is BOTH[0] else (np.array(ABOUT_Y)[:, None] == ABOUT_CLASSES).astype(float)
    clf = kept(cls, k=10, labels=ABOUT_CLASSES, texts=ABOUT, y=y, share=None)
    assert clf.vote_share_ == 0.75


def test_without_other_texts_of_a_label_nothing_speaks_for_votes():
    clf = GLiClassClassifier("mini", CLASSES, n_retrieved=1).fit(KEPT[2:4], ["good", "poor"])
    assert clf.vote_share_ == 0
    np.testing.assert_array_equal(clf.predict_proba(NEW), alone_as(clf, NEW))


def alone_as(clf, X):
    """Predict without votes by what was learnt."""
    return pickle.loads(pickle.dumps(clf)).set_params(n_retrieved=0).predict_proba(X)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_weights_are_copies_to_votes(cls, max_epochs):
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(45) < 0.2, rng.permutation(ABOUT_Y), ABOUT_Y)
    if cls is BOTH[1]:
        noisy = (noisy[:, None] == ABOUT_CLASSES).astype(float)
    counts = rng.integers(0, 4, 45)
    parameters = {"n_retrieved": 3, "max_epochs": max_epochs, "trainable": "labels"}
    weighed = cls("mini", ABOUT_CLASSES, **parameters).fit(ABOUT, noisy, sample_weight=counts)
    copied = cls("mini", ABOUT_CLASSES, **parameters)
    order = rng.permutation(np.repeat(np.arange(45), counts))
    copied.fit([ABOUT[i] for i in order], noisy[order])
    assert max_epochs or weighed.vote_share_ > 0
    assert weighed.vote_share_ == pytest.approx(copied.vote_share_, abs=1e-5)
    np.testing.assert_allclose(weighed.predict_proba(NEW), copied.predict_proba(NEW), atol=1e-4)


def test_where_the_weights_are_trained_or_the_same_texts_were_learnt_from_counts_decide(bi):
    texts, y = toy(12)
    clf = GLiClassClassifier(bi, LABELS, n_retrieved=2, trainable="head", max_epochs=1)
    assert clf.fit(texts, y).vote_share_ == 0.5
    clf.set_params(max_epochs=0).partial_fit(texts, y)
    assert clf.vote_share_ == 0.5
    clf.set_params(n_retrieved=0)
    assert clf.vote_share_ == 0


def test_classifiers_saved_before_go_by_counts(bi, tmp_path):
    import json

    clf = kept(model=bi, share=0.25)
    clf.save_pretrained(tmp_path)
    assert GLiClassClassifier.from_pretrained(tmp_path).vote_share_ == 0.25
    path = tmp_path / "skgliclass.json"
    content = json.loads(path.read_text())
    del content["vote_share"]
    path.write_text(json.dumps(content))
    again = GLiClassClassifier.from_pretrained(tmp_path)
    assert again.vote_share_ == 0.5
    expected = sharing(clf, 0.5).predict_proba(NEW)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-6)


# No text votes on itself while it is learnt from.


def held_out(cls, monkeypatch, texts, y, **parameters):
    """Give the logits that a fit tunes on."""
    from skgliclass.estimators import fit

    seen = []
    original = fit.tuned
    monkeypatch.setattr(
        fit, "tuned", lambda s, t, evidence, m: seen.append(evidence) or original(s, t, evidence, m)
    )
    clf = cls("mini", ABOUT_CLASSES, **parameters).fit(texts, y)
    return clf, seen[0]


@pytest.mark.parametrize("cls", BOTH)
def test_own_rows_never_vote_while_fitting(cls, monkeypatch):
    # A few of them wrong, which those that are near tell.
    names = np.roll(ABOUT_Y, 1)[:30]
    names[10:] = ABOUT_Y[10:30]
    many = (names[:, None] == ABOUT_CLASSES).astype(float)
    texts, y = ABOUT[:30], names if cls is BOTH[0] else many
    clf, evidence = held_out(cls, monkeypatch, texts, y, n_retrieved=2)
    _, without = held_out(cls, monkeypatch, texts, y)
    cosines = clf.embed(texts) @ clf.embed(texts).T
    np.fill_diagonal(cosines, -1)
    assert clf.vote_share_ > 0
    share = clf.vote_share_ * 2 / 4 * 29 / 59 * 14.5 / 15.5
    probabilities = expit if cls is BOTH[1] else lambda z: softmax(z, axis=1)
    expected = (1 - share) * probabilities(without.logits)
    rows = clf._fit_state.rows
    # What is judged has an order of its own.
    order = [(rows.x == x).all(axis=1).argmax() for x in rows.merged().x]
    for i, row in enumerate(cosines[order]):
        nearest = np.argsort(-row)[:2]
        expected[i] += share * np.average(many[nearest], axis=0, weights=np.exp(20 * row[nearest]))
    np.testing.assert_allclose(probabilities(evidence.logits), expected, atol=1e-4)


def test_a_validation_text_that_is_kept_does_not_vote_on_itself(monkeypatch):
    from skgliclass.estimators import fit

    seen = []
    original = fit.tuned
    monkeypatch.setattr(
        fit, "tuned", lambda s, t, evidence, m: seen.append(evidence) or original(s, t, evidence, m)
    )
    parameters = {"n_retrieved": 1, "max_epochs": 0, "threshold": "auto"}
    clf = GLiClassMultiLabelClassifier("mini", CLASSES, **parameters)
    clf.fit(KEPT, MANY, X_val=KEPT, y_val=MANY)
    (evidence,) = seen
    assert np.abs(evidence.logits - clf.decision_function(KEPT)).max() > 0.01
    others = [i for i in range(len(KEPT)) if i != 4]
    without_one = GLiClassMultiLabelClassifier("mini", CLASSES, **parameters)
    without_one.fit([KEPT[i] for i in others], MANY[others], X_val=NEW, y_val=MANY[:3])
    expected = without_one.decision_function([KEPT[4]])[0]
    np.testing.assert_allclose(evidence.logits[4], expected, atol=1e-4)
    np.testing.assert_array_equal(clf.thresholds_, best_thresholds(evidence.logits, MANY))


def test_early_stopping_judges_what_is_predicted(bi):
    texts, y = toy(12)
    clf = GLiClassClassifier(
        bi, LABELS, n_retrieved=2, trainable="head", max_epochs=2, early_stopping=True,
        learning_rate=0.05, random_state=0,
    )  # fmt: skip
    new, y_new = toy(6, seed=7)
    new = [f"{text} quick" for text in new]
    clf.fit(texts, y, X_val=new, y_val=y_new)
    assert clf.score(new, y_new) == pytest.approx(max(clf.validation_scores_))


def test_vectors_are_those_of_the_tuned_weights(bi):
    texts, y = toy(9)
    clf = GLiClassClassifier(
        bi, LABELS, n_retrieved=2, trainable="all", max_epochs=2, learning_rate=0.01, random_state=0
    ).fit(texts, y)
    np.testing.assert_allclose(clf._fit_state.store.vectors, clf.embed(texts), atol=1e-5)


def test_suggestions_know_the_votes():
    clf = kept(k=10, random_state=0)
    rows = clf.suggest_rows([*NEW, *KEPT], 2)
    assert len(rows) == 2


def test_an_export_says_that_votes_are_left_out(bi, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    from skgliclass.export import onnx

    kept(model=bi).save_pretrained(tmp_path / "saved")
    monkeypatch.setattr(onnx, "_write_export", lambda *given: None)
    with pytest.warns(UserWarning, match="without the votes of the labelled texts"):
        onnx.export_onnx(str(tmp_path / "saved"), tmp_path / "graphs")


@pytest.mark.parametrize("damage", ["texts", "weights"])
def test_damaged_votes_are_named(damage, bi, tmp_path):
    import json

    kept(model=bi).save_pretrained(tmp_path)
    path = tmp_path / "retrieved_examples.json"
    rows = json.loads(path.read_text())
    if damage == "texts":
        path.write_text(json.dumps([*rows[:-1], rows[0]]))
        name = "retrieved_examples.json"
    else:
        (tmp_path / "retrieved_examples.safetensors").unlink()
        name = "retrieved_examples.safetensors"
    with pytest.raises(ValueError, match=rf"{name}: what .* pass n_retrieved=0 to do"):
        GLiClassClassifier.from_pretrained(tmp_path)


def test_faiss_finds_the_same(tmp_path):
    pytest.importorskip("faiss")
    clf = kept(retrieval_backend="faiss")
    np.testing.assert_allclose(clf.predict_proba(NEW), kept().predict_proba(NEW), atol=1e-5)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(NEW), clf.predict_proba(NEW))


def test_a_missing_backend_is_named_before_anything_is_kept(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'retrieval_backend="faiss" .*\.\[faiss\]'):
        kept(retrieval_backend="faiss")
