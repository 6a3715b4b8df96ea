"""The pictures show what they are given, in scikit-learn's manner, and no label breaks them."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from tiny import BACKBONES, reference_checkpoint

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    GLiClassTransformer,
    inspection,
)
from skgliclass.inspection import (
    LabelSimilarityDisplay,
    ReliabilityDisplay,
    ScoresDisplay,
    ThresholdDisplay,
    TrainingDisplay,
)

LABELS = ["cooking", "sport", "travel"]
TEXTS = ["The match went to extra time.", "Simmer the tomatoes.", "A week in Lisbon.", "Lisbon!"]
Y = ["sport", "cooking", "travel", "travel"]
AWKWARD = [
    "a label whose name is longer than any picture has room for, and then some more of it",
    "$x_1$ and $5, \\frac{",
    "_hidden",
    "سفر إلى العالم",
    "שלום",
    "旅行 ภาษาไทย हिन्दी",
    "👩‍👩‍👧 \U0001f600 \ufe0f",
    "tab\tnew\nline\x00\u2028",
    " ",
    "%s {} <b>&amp;",
]


@pytest.fixture(scope="module")
def clf():
    return GLiClassClassifier(labels=LABELS)


@pytest.fixture(scope="module")
def several():
    thresholds = {"cooking": 0.3, "sport": 0.4, "travel": 0.5}
    return GLiClassMultiLabelClassifier(labels=LABELS, threshold=thresholds)


def probabilities(n, k, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.3), n)


def drawn(display):
    """Draw the picture, whose warnings are errors, and give it as PNG."""
    content = io.BytesIO()
    display.figure_.savefig(content, dpi=40)
    return content.getvalue()


def everything(names, n=8):
    """Give each Display of n texts and labels with these names, some of which no text has."""
    k = len(names)
    p, rng = probabilities(n, k), np.random.default_rng(1)
    y = rng.integers(0, max(k - 1, 1), n)
    indicator = (rng.random((n, k)) < p).astype(float)
    indicator[:, -1] = 0
    yield ScoresDisplay.from_predictions(p, texts=["a text"] * n, labels=names)
    for kind in ("top-label", "classwise"):
        yield ReliabilityDisplay.from_predictions(
            y, p, kind=kind, labels=range(k), display_labels=names
        )
    yield ReliabilityDisplay.from_predictions(indicator, p)
    yield ThresholdDisplay.from_predictions(indicator, p, thresholds=0.4, display_labels=names)
    yield LabelSimilarityDisplay.from_vectors(rng.normal(size=(k, 4)), display_labels=names)


@pytest.mark.parametrize(
    "names",
    [["one"], AWKWARD, pytest.param([f"label {i}" for i in range(150)], marks=pytest.mark.slow)],
    ids=["one", "awkward", "many"],
)
def test_no_number_or_name_of_labels_breaks_a_picture(names):
    for display in everything(names):
        assert drawn(display).startswith(b"\x89PNG")


def test_many_texts_and_labels_are_shown_in_part_and_say_so():
    p = probabilities(40, 150)
    display = ScoresDisplay.from_predictions(p, texts=AWKWARD * 4, y_true=[149] * 40)
    assert display.im_.get_array().shape == (30, 20)
    assert display.ax_.get_xlabel() == "30 of 40 texts, 20 of 150 labels"
    # What is true is shown, however low its score.
    assert display.ax_.get_xticklabels()[-1].get_text() == "149"
    assert display.scores.shape == (40, 150)


def test_names_are_shown_as_they_are():
    display = ScoresDisplay.from_predictions(
        [[0.2, 0.5, 0.3]], texts=["costs $5 or $6"], labels=["_a", "$x$", "a_b^c"]
    )
    drawn(display)
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["_a", "$x$", "a_b^c"]
    ticks = [*display.ax_.get_xticklabels(), *display.ax_.get_yticklabels()]
    assert not any(tick.get_parse_math() for tick in ticks)
    reliability = ReliabilityDisplay.from_predictions(
        ["_a", "b"], [[0.9, 0.1], [0.3, 0.7]], kind="classwise"
    )
    shown = [text.get_text() for text in reliability.ax_.get_legend().get_texts()]
    assert any(name.startswith("_a ") for name in shown)


# Scores.


def test_scores_are_those_of_the_estimator(clf, several):
    display = ScoresDisplay.from_estimator(clf, TEXTS, Y)
    np.testing.assert_array_equal(display.scores, clf.predict_proba(TEXTS))
    np.testing.assert_array_equal(display.predicted.argmax(axis=1), display.scores.argmax(axis=1))
    assert display.text_[0, 1].get_text() == f"{display.scores[0, 1]:.2f}"
    display = ScoresDisplay.from_estimator(several, TEXTS, response_method="decision_function")
    np.testing.assert_array_equal(display.scores, several.decision_function(TEXTS))
    np.testing.assert_array_equal(display.predicted, several.predict(TEXTS))


def test_a_transformer_has_scores_but_no_predictions():
    scores = GLiClassTransformer(labels=LABELS, multi_label=True)
    display = ScoresDisplay.from_estimator(scores, TEXTS)
    np.testing.assert_array_equal(display.scores, scores.transform(TEXTS))
    assert display.predicted is None


def test_logits_of_two_classes_have_a_column_each():
    clf = GLiClassClassifier(labels=LABELS[:2])
    display = ScoresDisplay.from_estimator(clf, TEXTS, response_method="decision_function")
    difference = display.scores[:, 1] - display.scores[:, 0]
    np.testing.assert_allclose(difference, clf.decision_function(TEXTS), atol=1e-5)


def test_wrong_predictions_look_different(clf):
    from matplotlib.colors import to_hex

    def colours(y):
        frames = ScoresDisplay.from_estimator(clf, TEXTS, y).ax_.patches
        return {to_hex(frame.get_edgecolor()) for frame in frames}

    assert len(colours(Y)) == 1
    assert len(colours(["sport", "travel", "travel", "sport"])) == 2


def test_any_classifier_of_texts_will_do():
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, Y)
    display = ScoresDisplay.from_estimator(words, TEXTS, Y)
    assert list(display.display_labels) == LABELS
    indicator = pd.get_dummies(pd.Series(Y)).to_numpy(dtype=int)
    each = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
    assert ThresholdDisplay.from_estimator(each.fit(TEXTS, indicator), TEXTS, indicator)
    two = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, [0, 0, 1, 1])
    display = ScoresDisplay.from_estimator(two, TEXTS, response_method="decision_function")
    assert display.display_labels == [1]
    with pytest.raises(TypeError, match="has no decision_function"):
        ScoresDisplay.from_estimator(
            DummyClassifier().fit(TEXTS, Y), TEXTS, response_method="decision_function"
        )


# Reliability.


def test_calibration_error_is_that_of_its_definition():
    said = np.array([0.95, 0.9, 0.55, 0.6])
    p = np.column_stack([1 - said, said])
    display = ReliabilityDisplay.from_predictions([1, 0, 1, 1], p, n_bins=2, labels=[0, 1])
    assert display.ece == pytest.approx(abs(said.mean() - 0.75))
    display = ReliabilityDisplay.from_predictions([1, 0, 1, 1], said, n_bins=10)
    # 0.95 and 0.9 fall into the last bin, the others into two of their own.
    expected = (2 * abs(0.925 - 0.5) + abs(0.55 - 1) + abs(0.6 - 1)) / 4
    assert display.ece == pytest.approx(expected)


def test_classwise_error_is_the_mean_over_classes():
    p = probabilities(50, 3)
    y = np.arange(50) % 3
    display = ReliabilityDisplay.from_predictions(y, p, kind="classwise", n_bins=5)
    of_each = [
        ReliabilityDisplay.from_predictions((y == k).astype(int)[:, None], p[:, [k]], n_bins=5).ece
        for k in range(3)
    ]
    np.testing.assert_allclose(display.ece_of_curves, of_each)
    assert display.ece == pytest.approx(np.mean(of_each))


def test_what_nobody_knows_does_not_count():
    p, y = probabilities(20, 3), np.zeros((20, 3))
    y[:, 0] = 1
    left_out = y.copy()
    left_out[:10] = np.nan
    some = ReliabilityDisplay.from_predictions(left_out, p)
    assert some.ece == pytest.approx(ReliabilityDisplay.from_predictions(y[10:], p[10:]).ece)
    some = ThresholdDisplay.from_predictions(left_out, p)
    assert some.support.tolist() == [10, 0, 0]


def test_a_class_that_is_not_among_the_columns_is_never_right():
    p = np.array([[0.9, 0.1], [0.9, 0.1]])
    display = ReliabilityDisplay.from_predictions(["a", "new"], p, labels=["a", "b"], n_bins=1)
    assert display.prob_true[0].tolist() == [0.5]


def test_quantile_bins_hold_equally_many():
    p = probabilities(100, 4)
    display = ReliabilityDisplay.from_predictions(
        np.arange(100) % 4, p, n_bins=5, strategy="quantile"
    )
    assert display.counts[0].tolist() == [20] * 5


def test_a_frame_brings_its_classes(clf):
    display = ReliabilityDisplay.from_predictions(Y, clf.predict_frame(TEXTS))
    again = ReliabilityDisplay.from_estimator(clf, TEXTS, Y)
    assert display.ece == pytest.approx(again.ece)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a", "b"], [[0.5, 0.5]]), {}, "y_true has 2 rows, but y_prob has 1"),
        ((["a"], [[0.5, 0.3, 0.2]]), {}, "3 columns, but there are 1 classes"),
        ((["a", "b"], [[0.5, 0.5], [3.0, -2.0]]), {}, r"y_prob\[1\] is \[3.0, -2.0\]"),
        ((["a", "b"], [[0.5, 0.5], [np.nan, 1]]), {}, r"y_prob\[1\] has NaN"),
        ((["a", "b"], [[0.5, 0.5]] * 2), {"kind": "micro"}, "kind='micro' is unknown"),
        ((["a", "b"], [[0.5, 0.5]] * 2), {"n_bins": 0}, "n_bins=0"),
        ((["a", "b"], [[0.5, 0.5]] * 2), {"strategy": "x"}, "strategy='x'"),
        (([["a"], ["b"]], [[0.5, 0.5]] * 2), {"kind": "top-label", "labels": ["a", "b"]}, "pooled"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ReliabilityDisplay.from_predictions(*arguments, **options)


# Thresholds.


def test_precision_recall_and_f1_hold_at_each_threshold():
    said = np.array([0.9, 0.8, 0.8, 0.3])
    truth = np.array([1, 0, 1, 1])
    display = ThresholdDisplay.from_predictions(truth[:, None], said[:, None])
    assert display.thresholds[0].tolist() == [0.3, 0.8, 0.9]
    np.testing.assert_allclose(display.precision[0], [3 / 4, 2 / 3, 1])
    np.testing.assert_allclose(display.recall[0], [1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(display.f1[0], [6 / 7, 2 / 3, 1 / 2])
    assert display.best_thresholds.tolist() == [0.3]


def test_thresholds_in_use_are_marked(several):
    labels = [["sport"], ["cooking"], ["travel"], ["travel", "sport"]]
    display = ThresholdDisplay.from_estimator(several, TEXTS, labels)
    np.testing.assert_array_equal(display.chosen, several.thresholds_)
    for ax, threshold in zip(display.axes_, several.thresholds_, strict=True):
        (line,) = (line for line in ax.lines if line.get_label() == "in use")
        assert line.get_xdata()[0] == pytest.approx(threshold)


def test_of_many_labels_those_are_shown_whose_threshold_costs_most():
    p = np.tile(np.linspace(0.1, 0.9, 9)[:, None], (1, 4))
    truth = (p > 0.45).astype(int)
    truth[:, 2] = p[:, 2] > 0.75
    display = ThresholdDisplay.from_predictions(truth, p, thresholds=0.45, labels="abcd")
    assert len(display.axes_) == 4
    display.plot(n_labels=1)
    assert [ax.get_title(loc="left") for ax in display.axes_] == ["c"]
    assert "1 of 4 labels" in display.ax_.get_xlabel()


def test_axes_of_the_user_are_drawn_on():
    from matplotlib import pyplot as plt

    p, truth = probabilities(9, 2), np.eye(2, dtype=int)[np.arange(9) % 2]
    figure, axes = plt.subplots(1, 2)
    display = ThresholdDisplay.from_predictions(truth, p, ax=axes)
    assert display.axes_.tolist() == axes.tolist()
    assert display.figure_ is figure
    display.plot(ax=plt.subplots()[1])
    assert len(display.figure_.axes) == 3
    with pytest.raises(ValueError, match="ax holds 2 axes, but there are 1 labels"):
        display.plot(ax=axes, n_labels=1)
    ax = plt.subplots()[1]
    display = ReliabilityDisplay.from_predictions(
        [0, 1], [[0.5, 0.5]] * 2, ax=ax, color="red", lw=3
    )
    assert display.ax_ is ax
    assert display.lines_[0].get_color() == "red"
    assert display.lines_[0].get_linewidth() == 3
    # One of matplotlib's spellings is as good as another, but not both.
    with pytest.raises(TypeError, match="aliases"):
        display.plot(lw=1, linewidth=2)


# Training.


def test_training_is_shown_as_it_went():
    display = TrainingDisplay([0.9, 0.5, 0.4], [0.6, 0.7, 0.8, 0.75]).plot()
    assert display.lines_[1].get_xdata().tolist() == [0, 1, 2, 3]
    assert display.best_step == 2
    # scikit-learn's own networks have no score from before training.
    display = TrainingDisplay([0.9, 0.5, 0.4], [0.7, 0.8, 0.75]).plot()
    assert display.lines_[1].get_xdata().tolist() == [1, 2, 3]
    assert drawn(TrainingDisplay([], [0.5]).plot())
    assert TrainingDisplay([0.5], []).plot().score_ax_ is None


def test_a_fit_is_shown_through_a_pipeline():
    clf = GLiClassClassifier(trainable="labels", label_penalty=1.0, verbose=0)
    display = TrainingDisplay.from_estimator(make_pipeline(clf).fit(TEXTS, Y))
    assert display.loss_curve == clf.loss_curve_
    assert display.ax_.get_xlabel() == "step"
    with pytest.raises(NotFittedError, match="has no loss_curve_"):
        TrainingDisplay.from_estimator(GLiClassClassifier(labels=LABELS))


# Similarity.


def test_labels_that_mean_the_same_are_most_alike():
    clf = GLiClassClassifier(labels=["weather", "refund", "soccer", "money back", "football"])
    pairs = LabelSimilarityDisplay.from_estimator(clf).most_similar()
    assert len(pairs) == 10
    assert set(pairs.loc[0, ["label", "other"]]) == {"football", "soccer"}
    assert set(pairs.loc[1, ["label", "other"]]) == {"money back", "refund"}
    shown = LabelSimilarityDisplay.from_estimator(clf).ax_.get_yticklabels()
    names = [tick.get_text() for tick in shown]
    assert abs(names.index("football") - names.index("soccer")) == 1


def test_what_was_learnt_for_labels_counts():
    clf = GLiClassClassifier(trainable="labels", label_penalty=1e-3, verbose=0)
    before = LabelSimilarityDisplay.from_estimator(GLiClassClassifier(labels=LABELS))
    after = LabelSimilarityDisplay.from_estimator(clf.fit(TEXTS, Y))
    assert not np.allclose(before.similarity, after.similarity, atol=1e-3)


@pytest.mark.parametrize(
    "architecture",
    [
        name if name == "uni-encoder" else pytest.param(name, marks=pytest.mark.slow)
        for name in BACKBONES
    ],
)
def test_every_architecture_has_vectors_of_labels(tmp_path, architecture):
    folder = tmp_path / architecture
    reference_checkpoint(folder, BACKBONES[architecture], architecture_type=architecture)
    clf = GLiClassClassifier(str(folder), labels=["travel", "sport", "world news", "music"])
    display = LabelSimilarityDisplay.from_estimator(clf)
    assert display.similarity.shape == (4, 4)
    np.testing.assert_allclose(np.diag(display.similarity), 1, atol=1e-5)
    assert np.unique(np.round(display.similarity, 5)).size > 4
    # Divided over several prompts, and averaged over orders, every label still has one.
    clf.set_params(max_length=24, n_permutations=2)
    again = LabelSimilarityDisplay.from_estimator(clf)
    np.testing.assert_allclose(np.diag(again.similarity), 1, atol=1e-5)


def test_other_classifiers_have_no_label_vectors():
    with pytest.raises(TypeError, match="LogisticRegression has no label vectors"):
        LabelSimilarityDisplay.from_estimator(LogisticRegression())
    with pytest.raises(ValueError, match="2 names for 3 labels"):
        LabelSimilarityDisplay.from_vectors(np.eye(3), display_labels=["a", "b"])


# The guide.


def test_every_display_is_in_the_table():
    guide = Path(__file__).parents[2] / "docs" / "inspection.md"
    shown = re.findall(r"^\| `(\w+)` \|", guide.read_text(encoding="utf-8"), re.M)
    assert sorted(shown) == sorted(n for n in inspection.__all__ if n.endswith("Display"))


# Without matplotlib.


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"ScoresDisplay.from_predictions needs .*\[inspection\]"):
        ScoresDisplay.from_predictions([[0.5]], texts=["a"])
    with pytest.raises(ImportError, match=r"TrainingDisplay.plot needs .*\[inspection\]"):
        TrainingDisplay([0.5]).plot()
