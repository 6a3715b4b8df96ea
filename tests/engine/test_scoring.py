"""What a request may ask for: every option, for every architecture."""

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from pipelines import EXAMPLES, PIPELINES, TASK
from tiny import BACKBONES, reference_checkpoint, sentence_transformer

from skgliclass import TruncationWarning
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.engine.shortlist import SHORTLIST_GAP
from skgliclass.loading.loader import load_model
from skgliclass.modeling.features import Scores
from skgliclass.prompts.examples import PromptExample

TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music", "naïve café " * 9]
LABELS = ["travel", "dreams", "sport", "it's"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Build a model of an architecture once; give the reference's, its tokenizer and ours."""
    built = {}

    def get(architecture):
        if architecture not in built:
            folder = tmp_path_factory.mktemp(architecture)
            model, tokenizer = reference_checkpoint(
                folder,
                BACKBONES[architecture],
                architecture_type=architecture,
                prompt_first=True,
                scorer_type="mlp",
            )
            built[architecture] = model, tokenizer, load_model(str(folder))
        return built[architecture]

    return get


@pytest.fixture
def engine(checkpoints, request):
    return Engine(checkpoints(request.param)[2], max_length=128)


every_architecture = pytest.mark.parametrize("engine", PIPELINES, indirect=True)
uni_encoder = pytest.mark.parametrize("engine", ["uni-encoder"], indirect=True)
bi_encoder = pytest.mark.parametrize("engine", ["bi-encoder"], indirect=True)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def examples_for(engine):
    return (
        None if engine.loaded.network.config.architecture_type == "bi-encoder" else list(EXAMPLES)
    )


# The reference, from strings to logits.


@pytest.mark.parametrize("architecture", PIPELINES)
@pytest.mark.parametrize("task", ["", TASK])
@pytest.mark.parametrize("with_examples", [True, False])
def test_logits_are_those_of_the_reference(checkpoints, architecture, task, with_examples):
    model, tokenizer, loaded = checkpoints(architecture)
    examples = EXAMPLES if with_examples and architecture != "bi-encoder" else ()
    pipeline = PIPELINES[architecture](model, tokenizer, device="cpu")
    shown = [{"text": e.text, "labels": list(e.labels)} for e in examples]
    # Its encoder-decoders always give this many columns.
    model.config.max_num_classes = len(LABELS)
    theirs = []
    for text in TEXTS:
        inputs = pipeline.prepare_inputs(
            [text], LABELS, same_labels=True, examples=shown or None, prompt=task
        )
        with torch.no_grad():
            theirs.append(model(**inputs).logits[0].numpy())
    ours = Engine(loaded, batch_tokens=256).logits(
        TEXTS, LABELS, ScoringOptions(task_description=task), examples=examples
    )
    assert_close(ours, np.stack(theirs))
    # A constant would agree with a constant: the texts and the labels have to matter.
    assert np.ptp(ours, axis=0).max() > 1e-3
    assert np.ptp(ours, axis=1).max() > 2e-5


# Rows of their own.


@every_architecture
@pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")
def test_label_sets_and_examples_of_single_rows(engine):
    label_sets = [LABELS, ["sport"], ["music", "travel"], ["sport", "dreams", "fox"]]
    examples = None
    if engine.loaded.network.config.architecture_type != "bi-encoder":
        examples = [[PromptExample("the fox", [own[0]])] * i for i, own in enumerate(label_sets)]
    together = engine.logits(TEXTS, label_sets, examples=examples)
    assert together.shape == (4, 4)
    for i, own in enumerate(label_sets):
        shown = examples[i] if examples else None
        assert_close(together[i, : len(own)], engine.logits([TEXTS[i]], own, examples=shown)[0])
        assert np.isneginf(together[i, len(own) :]).all()


def ask(engine, texts, labels, examples=None, **options):
    return engine.logits(texts, labels, ScoringOptions(**options), examples=examples)


@every_architecture
@pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")
def test_a_row_depends_on_itself_alone_under_all_options(engine):
    texts = [*TEXTS, "the world " * 150, "fox", "the fox is here " * 30]
    rng = np.random.default_rng(0)
    label_sets = [rng.choice([*LABELS, "fox", "world news"], 3, replace=False).tolist()] * 3
    label_sets += [["sport", "dreams"], LABELS, LABELS, ["fox"]]
    options = {
        "task_description": TASK,
        "long_texts": "chunk",
        "chunk_overlap": 4,
        "chunk_pooling": "mean",
        "n_permutations": 3,
    }
    if engine.loaded.network.config.architecture_type != "bi-encoder":
        options["examples"] = [[PromptExample("the fox", [own[0]])] for own in label_sets]
    alone = np.full((len(texts), 4), -np.inf, dtype=np.float32)
    for i, own in enumerate(label_sets):
        shown = {"examples": options["examples"][i]} if "examples" in options else {}
        alone[i, : len(own)] = ask(engine, [texts[i]], own, **{**options, **shown})[0]
    order = rng.permutation(len(texts))
    for batch_tokens, n_jobs in ((1, 1), (256, 2), (100_000, 1)):
        other = Engine(engine.loaded, max_length=128, batch_tokens=batch_tokens, n_jobs=n_jobs)
        own = {**options}
        if "examples" in own:
            own["examples"] = [own["examples"][i] for i in order]
        together = ask(other, [texts[i] for i in order], [label_sets[i] for i in order], **own)
        assert_close(together, alone[order])


@uni_encoder
def test_progress_counts_texts_whatever_their_items(engine):
    done = []
    engine.logits(
        [*TEXTS, "the world " * 300, "music"],
        [f"label number {i}" for i in range(60)],
        ScoringOptions(long_texts="chunk", n_permutations=2),
        on_progress=done.append,
    )
    assert sum(done) == pytest.approx(6)


# Orders of the labels.


@every_architecture
def test_averaging_over_all_orders_makes_the_order_given_irrelevant(engine):
    labels = LABELS[:3]
    first = engine.logits(TEXTS, labels, ScoringOptions(n_permutations=6))
    backwards = engine.logits(TEXTS, labels[::-1], ScoringOptions(n_permutations=6))
    assert_close(backwards[:, ::-1], first)
    orders = [list(order) for order in itertools.permutations(range(3))]
    single = [engine.logits(TEXTS, [labels[i] for i in o])[:, np.argsort(o)] for o in orders]
    assert_close(first, np.mean(single, axis=0))


@uni_encoder
def test_orders_are_seeded_and_begin_with_the_one_given(engine):
    labels = [*LABELS, "fox", "music"]
    plain = engine.logits(TEXTS, labels)
    averaged = engine.logits(TEXTS, labels, ScoringOptions(n_permutations=4, seed=1))
    np.testing.assert_array_equal(
        engine.logits(TEXTS, labels, ScoringOptions(n_permutations=1, seed=5)), plain
    )
    np.testing.assert_array_equal(
        engine.logits(TEXTS, labels, ScoringOptions(n_permutations=4, seed=1)), averaged
    )
    assert np.abs(averaged - plain).max() > 1e-3
    assert (
        np.abs(
            engine.logits(TEXTS, labels, ScoringOptions(n_permutations=4, seed=2)) - averaged
        ).max()
        > 1e-4
    )


@uni_encoder
def test_orders_and_passes_go_together(engine):
    words = ["travel", "dreams", "sport", "science", "politics", "music", "world", "news"]
    labels = [f"{first} {second} {first}" for first in words for second in words][:60]
    scores = engine.logits(["the world"], labels, ScoringOptions(n_permutations=3))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 60


# Long texts.


def single_token_words(engine):
    words = {word for text in TEXTS for word in text.split()} | {"fox", "world", "sport"}
    ids = engine.loaded.text_tokenizer.encode(sorted(words), after_marker=False)
    return [word for word, own in zip(sorted(words), ids, strict=True) if len(own) == 1]


@pytest.mark.parametrize("overlap", [0, 16])
@uni_encoder
def test_chunks_are_pooled_by_the_rule(engine, overlap):
    words = np.random.default_rng(0).choice(single_token_words(engine), 400)
    composer = engine.composer
    room = composer.text_room(sum(map(len, composer.encode_labels(LABELS))))
    starts = [*range(0, 400 - room, room - overlap), 400 - room]
    chunks = [" ".join(words[start : start + room]) for start in starts]
    logits = engine.logits(chunks, LABELS)
    added = [room, *np.diff(starts)]
    expected = {"max": logits.max(axis=0), "mean": np.average(logits, axis=0, weights=added)}
    for rule, values in expected.items():
        scores = engine.logits(
            [" ".join(words), "fox"],
            LABELS,
            ScoringOptions(long_texts="chunk", chunk_overlap=overlap, chunk_pooling=rule),
        )
        assert_close(scores[0], values)
        assert_close(scores[1], engine.logits(["fox"], LABELS)[0])
    assert np.abs(expected["mean"] - logits.mean(axis=0)).max() > 1e-4


@every_architecture
def test_chunks_show_what_truncation_does_not(engine):
    text = "the world " * 200 + "sport fox music" * 20
    options = {"long_texts": "chunk"}
    chunked = engine.logits([text], LABELS, ScoringOptions(**options))
    mean = engine.logits([text], LABELS, ScoringOptions(chunk_pooling="mean", **options))
    with pytest.warns(TruncationWarning, match="1 of 1 texts"):
        beginning = engine.logits([text], LABELS)
    assert (chunked >= beginning - 1e-5).all()
    assert (chunked >= mean).all()
    assert np.abs(mean - beginning).max() > 1e-4


@uni_encoder
def test_a_repeated_text_has_the_logits_of_its_chunks(engine):
    # Every chunk is the same, so whatever the rule, the result is that of one.
    text = "fox " * 5_000
    with pytest.warns(TruncationWarning):
        expected = engine.logits([text], LABELS)
    for rule in ("max", "mean"):
        got = engine.logits([text], LABELS, ScoringOptions(long_texts="chunk", chunk_pooling=rule))
        np.testing.assert_allclose(got, expected, atol=1e-4)


@bi_encoder
def test_a_text_of_a_hundred_thousand_words_needs_little_memory(engine, monkeypatch):
    def forward(input_ids, attention_mask, label_vectors):
        assert input_ids.numel() <= 2 * engine.batch_tokens
        return Scores(torch.zeros(len(input_ids), len(label_vectors)), None, None, None)

    monkeypatch.setattr(engine.loaded.network, "forward", forward)
    text = "the quick fox sees " * 25_000
    tracemalloc.start()
    scores = engine.logits([text], LABELS, ScoringOptions(long_texts="chunk"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(scores).all()
    assert peak < 20_000_000


# Many labels.


@pytest.mark.parametrize("scorer", ["simple", "mlp", "hopfield"])
def test_ten_thousand_labels_are_encoded_once(tmp_path, scorer, monkeypatch):
    reference_checkpoint(
        tmp_path, architecture_type="bi-encoder", pooling_strategy="avg", scorer_type=scorer
    )
    engine = Engine(load_model(str(tmp_path)), batch_tokens=8192)
    labels = [f"fox {i}" for i in range(10_000 if scorer == "simple" else 1_000)]
    few = [3, 500, 999]
    encoded = []
    encode = engine.loaded.network.encode_labels

    def count(input_ids, mask):
        assert input_ids.numel() <= 8192
        encoded.append(len(input_ids))
        return encode(input_ids, mask)

    monkeypatch.setattr(engine.loaded.network, "encode_labels", count)
    scores = engine.logits(TEXTS, labels)
    assert_close(engine.logits(TEXTS[::-1], labels)[::-1], scores)
    assert sum(encoded) == len(labels)
    if scorer != "hopfield":
        assert_close(scores[:, few], engine.logits(TEXTS, [labels[i] for i in few]))


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_a_shortlist_by_the_models_own_vectors_encodes_no_label_again(
    checkpoints, architecture, monkeypatch
):
    engine = Engine(checkpoints(architecture)[2])
    labels = [f"label {i} of this test, {architecture}" for i in range(20)]
    whole = engine.logits(TEXTS, labels)
    encoded = []
    encode = type(engine.border).encode_labels
    monkeypatch.setattr(
        type(engine.border), "encode_labels", lambda *a: encoded.append(1) or encode(*a)
    )
    scores = engine.logits(TEXTS, labels, ScoringOptions(shortlist=5))
    assert not encoded
    if architecture == "bi-encoder":
        read = scores > scores.min(axis=1, keepdims=True)
        assert (read.sum(axis=1) == 5).all()
        assert_close(scores[read], whole[read])


def test_repeated_labels_have_the_same_logits(checkpoints):
    engine = Engine(checkpoints("bi-encoder")[2])
    scores = engine.logits(TEXTS, ["travel", "sport", "travel"])
    assert_close(scores[:, 0], scores[:, 2])
    assert_close(scores[:, :2], engine.logits(TEXTS, ["travel", "sport"]))


@uni_encoder
def test_a_shortlist_reads_the_nearest_labels_only(engine, tmp_path):
    embedder = Engine(load_model(str(sentence_transformer(tmp_path / "embedder"))))
    labels = [f"{word} {i}" for i in range(10) for word in ("fox", "world", "sport", "day")]
    scores = engine.logits(TEXTS, labels, ScoringOptions(shortlist=5), embedder=embedder)
    similarity = embedder.logits(TEXTS, labels)
    for i, text in enumerate(TEXTS):
        chosen = np.sort(np.argsort(-similarity[i])[:5])
        read = engine.logits([text], [labels[k] for k in chosen])[0]
        assert_close(scores[i, chosen], read)
        others = np.delete(scores[i], chosen)
        np.testing.assert_allclose(others, min(0, read.min()) - SHORTLIST_GAP, rtol=1e-5)


@every_architecture
def test_a_model_can_choose_its_own_shortlist(engine):
    labels = [f"label number {i}" for i in range(30)]
    scores = engine.logits(TEXTS, labels, ScoringOptions(shortlist=4))
    ranked = np.sort(scores, axis=1)
    assert (ranked[:, -4] - ranked[:, -5] >= SHORTLIST_GAP - 1e-4).all()
    whole = engine.logits(TEXTS, LABELS, ScoringOptions(shortlist=len(LABELS)))
    assert_close(whole, engine.logits(TEXTS, LABELS))


# Vectors.


@every_architecture
def test_text_vectors(engine):
    vectors = engine.text_vectors([*TEXTS, TEXTS[0]])
    assert vectors.shape == (5, 32)
    np.testing.assert_array_equal(vectors[0], vectors[4])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    for i, text in enumerate(TEXTS):
        assert_close(vectors[i], engine.text_vectors([text])[0])
    if engine.loaded.network.config.architecture_type not in ("bi-encoder", "encoder-decoder"):
        assert np.abs(engine.text_vectors(TEXTS, label_texts=LABELS) - vectors[:4]).max() > 1e-4
    assert engine.text_vectors([]).shape == (0, 32)


@pytest.mark.parametrize("architecture", ["uni-encoder", "encoder-decoder"])
def test_text_vectors_are_those_of_the_reference(checkpoints, architecture):
    model, tokenizer, loaded = checkpoints(architecture)
    pipeline = PIPELINES[architecture](model, tokenizer, device="cpu")
    model.config.max_num_classes = len(LABELS)
    inputs = pipeline.prepare_inputs(TEXTS[:1], LABELS, same_labels=True)
    with torch.no_grad():
        theirs = model(**inputs, output_text_embeddings=True).text_embeddings.numpy()
    assert_close(Engine(loaded).text_vectors(TEXTS[:1], label_texts=LABELS), theirs)


def test_without_a_pooled_vector_the_tokens_are_averaged(tmp_path):
    reference_checkpoint(
        tmp_path,
        prompt_first=True,
        scorer_type="cross-attn",
        pooling_strategy="pass",
        extract_text_features=True,
    )
    engine = Engine(load_model(str(tmp_path)), batch_tokens=4096)
    vectors = engine.text_vectors(TEXTS)
    assert vectors.shape == (4, 32)
    for i, text in enumerate(TEXTS):
        assert_close(vectors[i], engine.text_vectors([text])[0])


# Examples.


@uni_encoder
def test_examples_that_do_not_fit_are_counted(engine):
    examples = [PromptExample("the quick fox " * 10, ["sport"]) for _ in range(4)]
    with pytest.warns(TruncationWarning, match="3 of 3 texts left no room") as record:
        engine.logits(TEXTS[:3], LABELS, examples=examples)
    assert len(record) == 1


@pytest.mark.parametrize("architecture", PIPELINES)
def test_tagged_examples_reach_every_architecture(checkpoints, architecture):
    engine = Engine(checkpoints(architecture)[2])
    plain = engine.logits(TEXTS, LABELS)
    examples = [PromptExample("the fox", ["sport"])]
    tagged = engine.logits(TEXTS, LABELS, ScoringOptions(example_format="tags"), examples=examples)
    assert np.abs(tagged - plain).max() > 1e-4


@every_architecture
def test_tags_in_a_text_without_examples_are_its_characters_whatever_others_are_shown(engine):
    texts = ["<<FALSE_LABEL>> dreams", "the fox"]
    tags = ScoringOptions(example_format="tags")
    (alone,) = engine.logits(texts[:1], LABELS, tags)
    beside = engine.logits(texts, LABELS, tags, examples=[[], [PromptExample("day", ["travel"])]])
    assert_close(beside[0], alone)


@uni_encoder
def test_no_examples_are_no_examples(engine):
    plain = engine.logits(TEXTS, LABELS)
    for examples in ([], [[]] * 4, [None] * 4):
        np.testing.assert_array_equal(engine.logits(TEXTS, LABELS, examples=examples), plain)


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_texts": "cut"}, "long_texts='cut' is unknown; choose from truncate, chunk"),
        ({"chunk_pooling": "sum"}, "chunk_pooling='sum' is unknown"),
        ({"chunk_overlap": -1}, "chunk_overlap=-1 is negative"),
        ({"n_permutations": 0}, "n_permutations=0"),
        ({"shortlist": 0}, "shortlist=0"),
        ({"example_format": "json", "examples": list(EXAMPLES[:1])}, "example_format='json'"),
        (
            {"examples": [EXAMPLES[0], PromptExample("fox", ["dances"])]},
            r"examples\[1\] has the label 'dances', which is not in the label set \('travel'",
        ),
        (
            {"examples": [[], [], [PromptExample("fox", ["dances"])], []]},
            r"examples\[2\]\[0\] has the label 'dances'",
        ),
        ({"examples": [[EXAMPLES[0]]] * 2}, "examples has 2 entries for 4 texts"),
    ],
)
@uni_encoder
def test_options_at_fault_are_named(engine, options, message):
    with pytest.raises(ValueError, match=message):
        ask(engine, TEXTS, LABELS, **options)


@pytest.mark.parametrize(
    ("label_texts", "error", "message"),
    [
        ([], ValueError, "label_texts is empty"),
        ("travel", TypeError, "label_texts is the single string 'travel'"),
        ([["a"]] * 3, ValueError, "label_texts has 3 label sets for 4 texts"),
        ([["a"], [], ["b"], ["c"]], ValueError, r"label_texts\[1\] is empty"),
        ([["a"], "bc", ["b"], ["c"]], TypeError, r"label_texts\[1\] is 'bc'"),
    ],
)
@uni_encoder
def test_label_sets_at_fault_are_named(engine, label_texts, error, message):
    with pytest.raises(error, match=message):
        engine.logits(TEXTS, label_texts)


@pytest.mark.parametrize("examples", [[[{"text": "fox"}]] * 4, [{"text": "fox"}] * 4])
@uni_encoder
def test_what_is_no_example_is_named(engine, examples):
    with pytest.raises(TypeError, match=r"examples\[0\]\[0\] is .*PromptExample\(text, labels\)"):
        engine.logits(TEXTS, LABELS, examples=examples)


@pytest.mark.parametrize("engine", ["bi-encoder", "bi-encoder-fused"], indirect=True)
def test_a_label_that_its_encoder_cannot_read_is_an_error(engine):
    with pytest.raises(ValueError, match=r"The text of label 1 \('fox fox.* at most 128"):
        engine.logits(TEXTS, ["sport", "fox " * 200])


@uni_encoder
def test_a_shortlist_needs_a_shared_label_set(engine):
    with pytest.raises(ValueError, match="shortlist chooses from one label set"):
        engine.logits(TEXTS, [LABELS] * 4, ScoringOptions(shortlist=2))


@bi_encoder
def test_a_bi_encoder_that_knows_markers_reads_examples_with_the_text(engine):
    examples = list(EXAMPLES[:1])
    plain, shown = engine.logits(TEXTS, LABELS), engine.logits(TEXTS, LABELS, examples=examples)
    assert (np.abs(shown - plain).max(axis=1) > 1e-4).all()
    # Labels are read alone, so that the same vectors serve whatever is shown.
    assert_close(engine.logits(TEXTS, LABELS[::-1], examples=examples)[:, ::-1], shown)


def test_examples_at_fault():
    with pytest.raises(ValueError, match="text is empty"):
        PromptExample("  ", ["sport"])
    with pytest.raises(ValueError, match="text is None"):
        PromptExample(None, ["sport"])
    with pytest.raises(ValueError, match="labels is 'sport'"):
        PromptExample("fox", "sport")
    with pytest.raises(ValueError, match=r"other_labels repeats the label 'a'"):
        PromptExample("fox", ["sport"], ["a", "a"])


@every_architecture
def test_an_empty_text_is_a_text(engine):
    scores = engine.logits(["", *TEXTS], LABELS)
    assert np.isfinite(scores).all()
    assert_close(scores[1:], engine.logits(TEXTS, LABELS))
    assert np.isfinite(engine.text_vectors([""])).all()


def test_nothing_to_score(checkpoints):
    engine = Engine(checkpoints("uni-encoder")[2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engine.logits([], LABELS).shape == (0, 4)
