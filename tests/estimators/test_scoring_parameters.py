"""What the estimators' parameters make of the engine's options, each against the engine itself."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    GLiClassTransformer,
    TruncationWarning,
)
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.estimators.parameters import PARAMETERS
from skgliclass.loading import loader
from skgliclass.prompts.architectures import SUPPORTED_ARCHITECTURES
from skgliclass.prompts.examples import PromptExample

TEXTS, Y = toy(6)
BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
NAMES = {"a": "music", "b": "sport", "c": "travel"}
PAIRS = [("the lazy dog", "b"), ("see the world", ["c", "a"])]
SHOWN = [
    PromptExample("the lazy dog", ["sport"]),
    PromptExample("see the world", ["travel", "music"]),
]

LONG = " ".join(f"{text} {i}" for i in range(12) for text in TEXTS)


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi")))


@pytest.fixture(scope="module")
def engine(uni):
    return Engine(loader.load_model(uni))


def logits_of(model, labels, **parameters):
    return GLiClassTransformer(model, labels, output="logits", **parameters)


# Examples.


@pytest.mark.parametrize("cls", [*BOTH, GLiClassTransformer])
@pytest.mark.parametrize("example_format", ["marker", "tags"])
def test_examples_are_shown_with_their_label_texts(uni, engine, cls, example_format):
    own = {"output": "logits"} if cls is GLiClassTransformer else {}
    estimator = cls(uni, NAMES, examples=PAIRS, example_format=example_format, **own)
    found = estimator.transform(TEXTS) if own else estimator.decision_function(TEXTS)
    expected = engine.logits(
        TEXTS, list(NAMES.values()), ScoringOptions(example_format=example_format), examples=SHOWN
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    without = engine.logits(TEXTS, list(NAMES.values()))
    assert np.abs(found - without).max() > 1e-3


@pytest.mark.parametrize(
    "examples",
    [
        [["the lazy dog", "b"], ["see the world", ["c", "a"]]],
        [
            {"text": "the lazy dog", "labels": ["b"]},
            {"text": "see the world", "labels": ("c", "a")},
        ],
        [("the lazy dog", np.str_("b")), ("see the world", np.array(["c", "a"]))],
    ],
)
def test_every_form_of_examples_is_the_same(uni, examples):
    expected = GLiClassClassifier(uni, NAMES, examples=PAIRS).decision_function(TEXTS)
    found = GLiClassClassifier(uni, NAMES, examples=examples).decision_function(TEXTS)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([("a dog", "b"), ("a dog", "sport")], r"examples\[1\] has the unknown class 'sport'"),
        ([("a dog", ["b", "z"])], r"examples\[0\] has the unknown class 'z'; the classes are 'a'"),
        ([(" ", "b")], r"examples\[0\].*text is empty"),
        ([(None, "b")], r"examples\[0\].*text is None"),
        ([{"labels": ["b"]}], r"examples\[0\] has no 'text'"),
        ([{"text": "a dog"}], r"examples\[0\] has no 'labels'"),
        (["a dog"], r"examples\[0\] is 'a dog' \(str\); an example is a \(text, class\)"),
        ([("a dog", "b", "c")], r"examples\[0\] is .*an example is a \(text, class\)"),
        ("a dog", "examples is the single string 'a dog'"),
        ({"a dog": "b"}, r"examples must be a list.*list\(examples.items\(\)\)"),
    ],
)
def test_bad_examples_are_named(uni, examples, message):
    clf = GLiClassClassifier(uni, NAMES, examples=examples, max_epochs=0)
    with pytest.raises((ValueError, TypeError), match=message):
        clf.predict(TEXTS)
    with pytest.raises((ValueError, TypeError), match=message):
        clf.fit(TEXTS, np.array(list("abcabc")))


def test_a_bi_encoder_takes_examples_as_a_part_of_the_text_only(bi):
    clf = GLiClassClassifier(bi, NAMES, examples=PAIRS[:1], max_length=128)
    with pytest.raises(ValueError, match=r'no place for them.*example_format="tags"'):
        clf.predict(TEXTS)
    plain = GLiClassClassifier(bi, NAMES, max_length=128).predict_proba(TEXTS)
    tagged = clf.set_params(example_format="tags").predict_proba(TEXTS)
    assert np.abs(tagged - plain).max() > 1e-4


def test_examples_are_plain_values_for_searches_and_stores(uni, tmp_path):
    clf = GLiClassClassifier(uni, LABELS, max_epochs=0)
    pairs = [("the lazy dog", "sport"), ("naïve café", np.str_("music"))]
    search = GridSearchCV(clf, {"examples": [None, pairs]}, cv=2).fit(TEXTS, Y)
    assert len(search.cv_results_["mean_test_score"]) == 2
    shown = clone(clf).set_params(examples=pairs)
    expected = shown.predict_proba(TEXTS)
    np.testing.assert_array_equal(clone(shown).predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shown)).predict_proba(TEXTS), expected)
    shown.save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.predict_proba(TEXTS), expected, atol=1e-6)


def test_examples_are_learnt_with_but_never_with_their_own_text(uni, monkeypatch):
    seen = record_training_sets(monkeypatch)
    examples = [(TEXTS[0], Y[0]), ("the lazy dog", "sport")]
    clf = GLiClassClassifier(
        uni, LABELS, examples=examples, trainable="head", max_epochs=1, random_state=0
    )
    clf.fit(TEXTS, Y)
    (shown,) = seen
    assert [e.text for e in shown[0]] == ["the lazy dog"]
    assert [e.text for e in shown[1]] == [TEXTS[0], "the lazy dog"]


def record_training_sets(monkeypatch):
    from skgliclass.training import data as training_data

    seen = []
    original = training_data.make_training_set

    def recording(*args, examples=None, **options):
        seen.append(examples)
        return original(*args, examples=examples, **options)

    monkeypatch.setattr(training_data, "make_training_set", recording)
    return seen


# Long texts, orders of the labels, shortlists.


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_chunks(uni, pooling):
    short = Engine(loader.load_model(uni), max_length=48)
    options = {"long_texts": "chunk", "chunk_overlap": 4, "chunk_pooling": pooling}
    found = logits_of(uni, LABELS, max_length=48, **options).transform([LONG])
    np.testing.assert_allclose(
        found, short.logits([LONG], LABELS, ScoringOptions(**options)), atol=1e-5
    )
    with pytest.warns(TruncationWarning, match='long_texts="chunk"'):
        cut = logits_of(uni, LABELS, max_length=48).transform([LONG])
    assert np.abs(found - cut).max() > 1e-4


def test_chunks_share_no_more_than_half(uni, engine):
    clf = GLiClassClassifier(uni, LABELS, max_length=48, long_texts="chunk", chunk_pooling="mean")
    composer = Engine(engine.loaded, max_length=48).composer
    half = composer.text_room(sum(map(len, composer.encode_labels(LABELS)))) // 2
    expected = clf.set_params(chunk_overlap=half).predict_proba([LONG])
    assert np.abs(clf.set_params(chunk_overlap=half // 2).predict_proba([LONG]) - expected).any()
    for more in (half + 1, 10_000):
        scores = clf.set_params(chunk_overlap=more).predict_proba([LONG])
        np.testing.assert_array_equal(scores, expected)


def test_orders_of_the_labels_are_averaged_and_the_same_in_every_call(uni, engine):
    found = logits_of(uni, LABELS, n_permutations=3).transform(TEXTS)
    np.testing.assert_allclose(
        found, engine.logits(TEXTS, LABELS, ScoringOptions(n_permutations=3)), atol=1e-5
    )
    again = logits_of(uni, LABELS, n_permutations=3).transform(TEXTS)
    np.testing.assert_array_equal(found, again)
    assert np.abs(found - engine.logits(TEXTS, LABELS)).max() > 1e-4


def test_a_shortlist_by_another_model(uni, bi, engine):
    embedder = Engine(loader.load_model(bi))
    for name, model in ((None, None), (bi, embedder)):
        found = logits_of(uni, LABELS, shortlist=2, shortlist_model=name).transform(TEXTS)
        expected = engine.logits(TEXTS, LABELS, ScoringOptions(shortlist=2), embedder=model)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    clf = GLiClassClassifier(uni, LABELS, shortlist=1, shortlist_model=bi)
    nearest = embedder.logits(TEXTS, LABELS).argmax(axis=1)
    assert clf.predict(TEXTS).tolist() == [LABELS[k] for k in nearest]


def test_errors_of_the_model_for_a_shortlist_name_it(uni, tmp_path):
    clf = GLiClassClassifier(uni, LABELS, shortlist=2)
    with pytest.raises(OSError, match=r"^shortlist_model='/no/such': there is no such folder"):
        clf.set_params(shortlist_model="/no/such").predict(TEXTS)
    with pytest.raises(ValueError, match=r"^shortlist_model='.*' has no config.json"):
        clf.set_params(shortlist_model=str(tmp_path)).predict(TEXTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("example_format", "xml"),
        ("long_texts", "cut"),
        ("chunk_overlap", -1),
        ("chunk_pooling", "sum"),
        ("n_permutations", 0),
        ("n_permutations", True),
        ("n_jobs", 0),
        ("n_jobs", True),
        ("max_length", np.True_),
        ("shortlist", 0),
        ("shortlist_model", 3),
        ("hierarchy", "sum"),
        ("architecture", "encoder"),
    ],
)
def test_bad_values_are_named(uni, name, value):
    for cls in [*BOTH, GLiClassTransformer]:
        with pytest.raises(ValueError, match=f"'{name}' parameter of {cls.__name__}"):
            cls(uni, LABELS, **{name: value}).fit(TEXTS, Y)


@pytest.mark.parametrize("name", ["n_retrieved", "max_epochs", "learning_rate", "threshold"])
def test_true_is_no_number(uni, name):
    clf = GLiClassMultiLabelClassifier(uni, LABELS, **{name: True})
    with pytest.raises(ValueError, match=f"'{name}' parameter .* Got True instead"):
        clf.fit(TEXTS, [[value] for value in Y])


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1, np.int64(1)])
def test_numbers_of_jobs(uni, n_jobs):
    assert GLiClassClassifier(uni, LABELS, n_jobs=n_jobs).predict(TEXTS).shape == (6,)


def test_every_architecture_is_a_value():
    (accepted,) = PARAMETERS["architecture"].constraints
    assert accepted.options == {"auto", *SUPPORTED_ARCHITECTURES}


def test_settings_are_saved(uni, tmp_path):
    settings = {"long_texts": "chunk", "chunk_overlap": 7, "n_permutations": 2, "shortlist": 2}
    GLiClassClassifier(uni, LABELS, **settings).save_pretrained(tmp_path)
    again = GLiClassClassifier.from_pretrained(tmp_path)
    assert {name: getattr(again, name) for name in settings} == settings


# Vectors of texts.


@pytest.mark.parametrize("cls", BOTH)
def test_embeddings_are_the_engines_and_do_not_depend_on_labels(uni, engine, cls):
    vectors = cls(uni, LABELS).embed(TEXTS)
    np.testing.assert_allclose(vectors, engine.text_vectors(TEXTS), atol=1e-5)
    np.testing.assert_array_equal(cls(uni, ["joy"]).embed(TEXTS), vectors)
    transformer = GLiClassTransformer(uni, output="embeddings")
    np.testing.assert_allclose(transformer.fit_transform(TEXTS), vectors, atol=1e-6)
    assert len(transformer.get_feature_names_out()) == vectors.shape[1]


def test_embeddings_of_a_fitted_classifier_are_its_own(uni):
    clf = GLiClassClassifier(
        uni, LABELS, trainable="head", max_epochs=2, learning_rate=0.01, random_state=0
    )
    before = clf.embed(TEXTS)
    assert np.abs(clf.fit(TEXTS, Y).embed(TEXTS) - before).max() > 1e-3
