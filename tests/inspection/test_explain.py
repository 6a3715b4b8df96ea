"""Explanations find the words that decide, exactly as leaving them out says."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tiny import BACKBONES, reference_checkpoint

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, TruncationWarning
from skgliclass.estimators.calibration import as_log_odds
from skgliclass.inspection import explain
from skgliclass.inspection.words import in_groups, spans_of_words, without, without_words

LABELS = ["cooking", "sport", "travel"]
CUES = {"cooking": "recipe", "sport": "football", "travel": "airport"}
FILLER = ["yesterday", "we", "talked", "about", "the", "{}", "for", "a", "while"]


@pytest.fixture(scope="module")
def clf():
    return GLiClassClassifier(labels=LABELS)


def words_in(text, **options):
    return [text[a:b] for a, b in spans_of_words(text, **options)]


# What is found.


def test_planted_cues_are_found(clf):
    planted = [
        " ".join([*FILLER[:place], cue, *FILLER[place:]]).replace(" {}", "")
        for place in (0, 4, len(FILLER))
        for cue in CUES.values()
    ]
    frame = explain(clf, planted).to_frame()
    best = frame.loc[frame.groupby(["row", "class"])["effect"].idxmax()]
    for row, label in enumerate([*CUES] * 3):
        found = best[(best["row"] == row) & (best["class"] == label)]
        assert found["word"].tolist() == [CUES[label]]
        # What speaks for one class speaks against the others.
        others = frame[(frame["row"] == row) & (frame["class"] != label)]
        assert (others.loc[others["word"] == CUES[label], "effect"] < 0).all()


def test_effects_are_differences_of_log_odds(clf):
    text = "The airport, the football and the recipe."
    explanation = explain(clf, [text])
    expected = logit(clf.predict_proba([text]).astype(np.float64))
    np.testing.assert_allclose(explanation.log_odds, expected, atol=1e-4)
    for (start, end), effects in zip(explanation.spans[0], explanation.effects[0], strict=True):
        p = clf.predict_proba([without(text, start, end)]).astype(np.float64)
        np.testing.assert_allclose(effects, (expected - logit(p))[0], atol=2e-3)


def test_log_odds_do_not_saturate():
    logits = np.array([[100.0, 0.0, 0.0], [0.0, 60.0, 59.0]])
    np.testing.assert_allclose(as_log_odds(logits, False)[0, 0], 100 - np.log(2))
    np.testing.assert_allclose(as_log_odds(logits, False)[1, 1:], [1, -1])
    np.testing.assert_array_equal(as_log_odds(logits, True), logits)
    np.testing.assert_array_equal(as_log_odds(logits[:, :1], False), logits[:, :1])
    two = np.array([[3.0, 1.0]])
    np.testing.assert_allclose(as_log_odds(two, False), [[2, -2]])


@pytest.mark.parametrize(
    "options",
    [
        {"trainable": "labels", "label_penalty": 0.1},
        {"trainable": "labels", "n_retrieved": 2},
        {"trainable": "labels", "calibrate": True},
        {"long_texts": "chunk", "max_length": 16, "trainable": "labels"},
    ],
    ids=["vectors", "votes", "temperature", "chunks"],
)
def test_what_was_learnt_is_part_of_the_effects(options):
    texts = ["a football match", "the airport lounge", "an old recipe", "flight to the match"]
    y = ["sport", "travel", "cooking", "travel"]
    clf = GLiClassClassifier(labels=LABELS, verbose=0, random_state=0, **options)
    clf.fit(texts * 2, y * 2)
    text = "a football match and an airport lounge, both of them seen from the window of the bus"
    explanation = explain(clf, [text], classes=["travel"])
    start, end = explanation.spans[0][1]
    odds = [
        logit(clf.predict_proba([t])[0, 2], dtype=float) for t in (text, without(text, start, end))
    ]
    assert explanation.effects[0][1, 0] == pytest.approx(odds[0] - odds[1], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", BACKBONES)
def test_every_architecture_is_explained(tmp_path, architecture):
    reference_checkpoint(tmp_path, BACKBONES[architecture], architecture_type=architecture)
    examples = [] if architecture.startswith("bi") else [("One day", ["sport"])]
    clf = GLiClassMultiLabelClassifier(
        str(tmp_path), labels=["travel", "sport"], examples=examples or None
    )
    text = "very positive world news"
    explanation = explain(clf, [text])
    assert explanation.words(0) == text.split()
    expected = clf.decision_function([text]) - clf.decision_function(["very positive world"])
    np.testing.assert_allclose(explanation.effects[0][-1], expected[0], atol=1e-4)


def test_pipelines_of_words_are_explained(clf):
    texts = ["football and goals", "airport and flights", "recipe and spoon"] * 3
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100))
    words.fit(texts, ["sport", "travel", "cooking"] * 3)
    frame = explain(words, ["the football is here"], classes=["sport"]).to_frame()
    assert frame.loc[frame["effect"].idxmax(), "word"] == "football"
    # One of ours in a pipeline is the same as by itself.
    inside = explain(make_pipeline("passthrough", clf), ["the football is here"])
    alone = explain(clf, ["the football is here"])
    np.testing.assert_allclose(inside.effects[0], alone.effects[0], atol=2e-3)
    with pytest.raises(TypeError, match="has no predict_proba"):
        explain(object(), ["a"])


# Texts of all kinds.


def test_texts_with_few_words_or_none(clf):
    explanation = explain(clf, ["", "football", " \n", "?!"])
    assert [explanation.words(i) for i in range(4)] == [[], ["football"], [], ["?!"]]
    blank = explanation.log_odds[0]
    np.testing.assert_allclose(
        explanation.effects[1][0], explanation.log_odds[1] - blank, rtol=1e-5, atol=1e-5
    )
    frame = explanation.to_frame()
    assert frame["row"].unique().tolist() == [1, 3]
    assert list(frame) == ["row", "start", "end", "word", "class", "effect"]
    assert explain(clf, [""]).to_frame().empty


def test_long_texts_are_read_in_a_bounded_number_of_passes(clf, monkeypatch):
    asked = []
    scores = type(clf)._scores
    monkeypatch.setattr(
        type(clf), "_scores", lambda self, X, **k: asked.append(len(X)) or scores(self, X, **k)
    )
    text = "football " + "and so on " * 300
    with pytest.warns(TruncationWarning, match="1 of 1 texts") as warned:
        explanation = explain(clf, [text], max_evals=10)
    # Once, however many texts without a word were cut as well.
    assert len(warned) == 1
    assert sum(asked) == 11
    assert len(explanation.spans[0]) == 10
    assert explanation.effects[0][:, 1].argmax() == 0
    assert "".join(explanation.words(0)).replace(" ", "") == text.replace(" ", "")


def test_few_texts_without_a_word_are_in_memory_at_once(clf, monkeypatch):
    monkeypatch.setattr("skgliclass.inspection.occlusion.MOST_TEXTS", 3)
    monkeypatch.setattr("skgliclass.inspection.occlusion.MOST_CHARACTERS", 30)
    texts = ["a football match", "the airport", "a recipe with many spoons of salt"]
    parted = explain(clf, texts)
    monkeypatch.undo()
    for one, other in zip(parted.effects, explain(clf, texts).effects, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_marks_of_prompts_are_words(clf):
    assert "LABEL" in explain(clf, ["<<LABEL>> sport <<SEP>> [SEP]"]).words(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, it's 5 p.m.!", ["Don't", "stop", ",", "it's", "5", "p.m", ".!"]),
        ("naïve e-mail: (a/b)", ["naïve", "e-mail", ":", "(", "a/b", ")"]),
        ("हिन्दी में यात्रा", ["हिन्दी", "में", "यात्रा"]),
        ("سفر إلى العالم؟", ["سفر", "إلى", "العالم", "؟"]),
        ("great 👩‍👩‍👧 ❤️!", ["great", "👩‍👩‍👧", "❤️!"]),
        ("cafe\u0301 x", ["cafe\u0301", "x"]),
        ("我去Lisbon旅行。", ["我", "去", "Lisbon", "旅", "行", "。"]),
        ("ที่นี่ ok", ["ที่", "นี่", "ok"]),
        (" \t\n", []),
    ],
)
def test_words_of_any_script(text, words):
    assert words_in(text) == words


def test_scripts_without_spaces_are_cut_as_the_model_reads_them():
    cut = words_in("我去里斯本旅行", tokens=lambda run: [(0, 2), (2, 5), (5, 7)])
    assert cut == ["我去", "里斯本", "旅行"]
    # Bytes of one letter, gaps and overlaps make whole letters.
    assert words_in("我去", tokens=lambda run: [(0, 1), (0, 1), (1, 1), (1, 2)]) == ["我", "去"]
    assert words_in("我去", tokens=lambda run: []) == ["我去"]


def test_a_tokenizer_of_the_user_says_what_a_word_is(clf):
    def pairs(text):
        return re.findall(r"\S+ \S+|\S+", text)

    explanation = explain(clf, ["the football match today"], tokenizer=pairs)
    assert explanation.words(0) == ["the football", "match today"]
    with pytest.raises(ValueError, match="gives 'FOOTBALL' for text 7"):
        explain(clf, pd.Series(["football"], index=[7]), tokenizer=lambda text: [text.upper()])
    with pytest.raises(TypeError, match="must give strings"):
        explain(clf, ["football"], tokenizer=lambda text: [1])


def test_a_word_leaves_no_gap_behind():
    assert without("a bc d", 2, 4) == "a d"
    assert without("a bc", 2, 4) == "a"
    assert without("ab c", 0, 2) == "c"
    assert without("a, b", 1, 2) == "a b"
    assert without("(a)", 1, 2) == "()"
    assert without_words("a b c d", np.array([[0, 1], [4, 5]])) == "b d"
    assert in_groups([(0, 1), (2, 3), (4, 5)], 2) == [(0, 3), (4, 5)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["music"]}, ValueError, "classes has 'music'"),
        ({"classes": "sport"}, TypeError, r"Write classes=\['sport'\]"),
        ({"max_evals": 0}, ValueError, "max_evals=0"),
    ],
)
def test_what_cannot_be_explained_is_refused(clf, options, error, message):
    with pytest.raises(error, match=message):
        explain(clf, ["a"], **options)


def test_without_labels_there_is_nothing_to_explain(clf):
    with pytest.raises(NotFittedError):
        explain(GLiClassClassifier(), ["a"])
    with pytest.raises(TypeError, match="single string"):
        explain(clf, "a text")


# For eyes.


class Shown(HTMLParser):
    """Collects the tags and the text of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_html_shows_texts_as_they_are():
    text = "<script>alert('x')</script> & a \"football\"\n</div> &lt;"
    clf = GLiClassClassifier(labels={"<b>": "sport", "&": "travel"})
    html = explain(clf, [text])._repr_html_()
    shown = Shown(html)
    assert not {"script", "b"} & set(shown.tags)
    assert text in "".join(shown.texts)
    assert shown.tags.count("div") == html.count("</div>")
    assert "for" in re.findall(r'<mark class="(\w+)"', html)


def test_html_of_many_texts_says_how_many(clf):
    explanation = explain(clf, ["football"] * 25)
    assert "20 of 25 texts" in explanation._repr_html_()
    assert explanation.to_html().count('class="text"') == 25
    assert explanation.to_html(n_classes=2).count('class="text"') == 50
    assert len(explanation) == 25
    assert repr(explanation) == "<Explanation of 25 texts for 3 classes>"
    one = explain(clf, ["football"], classes=clf.classes_[:1])
    assert repr(one) == "<Explanation of 1 text for 1 class>"


def test_frames_go_by_the_index_of_the_texts(clf):
    texts = pd.Series(["football", "an airport"], index=["x", "y"])
    frame = explain(clf, texts, classes=["sport", "travel"]).to_frame()
    assert frame["row"].tolist() == ["x"] * 2 + ["y"] * 4
    assert frame["class"].tolist() == ["sport", "travel"] * 3
    assert frame[["start", "end"]].to_numpy()[-1].tolist() == [3, 10]


def test_the_strongest_words_are_drawn(clf):
    explanation = explain(clf, ["an old $x$ recipe with_ football 😀", ""]).plot(0, "sport")
    explanation.figure_.canvas.draw()
    names = [tick.get_text() for tick in explanation.ax_.get_yticklabels()]
    assert names[:5] == ["an", "old", "$", "x", "$"]
    assert len(explanation.bars_) == len(explanation.words(0))
    assert explanation.plot(0, n_words=2, color="red").bars_[0].get_facecolor() == (1, 0, 0, 1)
    explanation.plot(1).figure_.canvas.draw()
    with pytest.raises(ValueError, match="target='music' was not explained"):
        explanation.plot(0, "music")


# Others.


@pytest.mark.slow
@pytest.mark.needs("shap")
@pytest.mark.filterwarnings("default")
def test_shap_explains_as_its_own_recipe_says(clf):
    import shap

    explainer = shap.Explainer(
        clf.predict_proba, shap.maskers.Text(), output_names=clf.classes_.tolist()
    )
    values = explainer(["yesterday we talked about football for a while"])
    words = [word.strip() for word in values.data[0]]
    assert words[values.values[0][:, 1].argmax()] == "football"
