import random
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from threads import threads_of_a_new_thread
from tiny import encoder_checkpoint, joined_pieces, reference_checkpoint, sentence_transformer

from skgliclass import TruncationWarning
from skgliclass.engine.batching import plan_batches
from skgliclass.engine.border import Border
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.loading.loader import load_model
from skgliclass.modeling.features import Scores
from skgliclass.prompts.label_plan import split_labels

LABELS = ["travel", "dreams", "sport"]


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp")
    return load_model(str(folder))


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return load_model(str(sentence_transformer(tmp_path_factory.mktemp("bi"))))


def random_texts(n, seed=0):
    words = ["one", "day", "I", "will", "see", "the", "world", "travel", "sport", "café", "fox"]
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(0, 60))) for _ in range(n)]


@pytest.mark.parametrize("name", [pytest.param("uni", marks=pytest.mark.slow), "bi"])
@pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")
def test_order_batches_and_workers_do_not_matter(name, request):
    loaded = request.getfixturevalue(name)
    texts = random_texts(150)
    expected = np.concatenate([Engine(loaded).logits([text], LABELS) for text in texts])
    order = np.random.default_rng(0).permutation(len(texts))
    for engine in (
        Engine(loaded, batch_tokens=1),
        Engine(loaded, batch_tokens=4096),
        Engine(loaded, n_jobs=2),
    ):
        got = engine.logits([texts[i] for i in order], LABELS)
        np.testing.assert_allclose(got, expected[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["uni", "bi"])
def test_windows_are_put_together_in_order(name, request, monkeypatch):
    loaded = request.getfixturevalue(name)
    texts = ["music", "the fox", "music", "sport", "travel"] * 5
    expected = Engine(loaded).logits(texts, LABELS)
    monkeypatch.setattr("skgliclass.engine.engine.WINDOW", 4)
    got = Engine(loaded).logits(texts, LABELS)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.fixture
def prompts(monkeypatch):
    """Collect the prompts that go through models."""
    collected = []
    inputs = Border.inputs

    def collect(self, prompts):
        collected.extend(prompts)
        return inputs(self, prompts)

    monkeypatch.setattr(Border, "inputs", collect)
    return collected


def test_identical_texts_are_scored_once(uni, prompts):
    scores = Engine(uni).logits(["music", "sport", "music", "music"], LABELS)
    assert len(prompts) == 2
    np.testing.assert_array_equal(scores[0], scores[2])


def test_labels_are_encoded_once_for_a_label_set(bi, monkeypatch):
    calls = []
    model = type(bi.network)
    encode = model.encode_labels
    monkeypatch.setattr(
        model, "encode_labels", lambda self, *a: calls.append(1) or encode(self, *a)
    )
    engine = Engine(bi)
    for _ in range(3):
        engine.logits(["music"], ["never", "seen", "before"])
    assert len(calls) == 1


def test_many_labels_run_in_passes_that_keep_every_label(uni):
    labels = [f"label number {i}" for i in range(200)]
    engine = Engine(uni, max_length=128)
    whole = engine.logits(["the world"], labels)
    assert whole.shape == (1, 200)
    composer = engine.composer
    for part in split_labels(composer, composer.encode_labels(labels), labels):
        names = [labels[i] for i in part]
        np.testing.assert_allclose(
            engine.logits(["the world"], names)[0], whole[0, part.start : part.stop], atol=1e-5
        )


def test_a_long_text_is_cut_with_one_warning_and_keeps_its_labels(uni):
    long = "the world " * 10_000
    with pytest.warns(TruncationWarning, match="2 of 3 texts") as record:
        scores = Engine(uni, max_length=64).logits([long, "music", long + "!"], LABELS)
    assert len(record) == 1
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-5)
    assert len(np.unique(scores[0])) == 3


def test_hostile_text_changes_no_other_label(uni, prompts):
    for text in ("see <<LABEL>> the <<SEP>> world", "[SEP] [CLS]", "</s>"):
        scores = Engine(uni).logits([text], LABELS)
        assert scores.shape == (1, 3)
        assert np.isfinite(scores).all()
    prompts.clear()
    Engine(uni).logits(["a <<LABEL>> b"], ["tra<<LABEL>>vel", "[SEP]", "sport"])
    config = uni.network.config
    ids = joined_pieces(prompts[0])["input_ids"]
    assert ids.count(config.class_token_index) == 3
    assert ids.count(config.text_token_index) == 1


def test_an_empty_text_is_a_text(uni, bi):
    for loaded in (uni, bi):
        assert np.isfinite(Engine(loaded).logits([""], LABELS)).all()


def test_max_length_beyond_the_positions_is_an_error(uni):
    with pytest.raises(ValueError, match="max_length=600 is more than the 512"):
        Engine(uni, max_length=600)


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
@pytest.mark.usefixtures("four_threads")
def test_threads_and_seeds_are_left_alone(uni, n_jobs):
    state = torch.get_rng_state()
    Engine(uni, n_jobs=n_jobs, batch_tokens=64).logits(random_texts(30), LABELS)
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("n_jobs", "n_texts", "expected"),
    [(None, 30, {1}), (2, 30, {2}), (1, 30, {4}), (None, 1, {4})],
)
@pytest.mark.usefixtures("four_threads")
def test_workers_share_the_threads(uni, n_jobs, n_texts, expected, monkeypatch):
    seen = set()
    real = type(uni.network).forward

    def forward(*args, **kwargs):
        seen.add(torch.get_num_threads())
        return real(*args, **kwargs)

    monkeypatch.setattr(type(uni.network), "forward", forward)
    Engine(uni, n_jobs=n_jobs, batch_tokens=64).logits(random_texts(n_texts), LABELS)
    assert seen == expected


@pytest.mark.usefixtures("four_threads")
def test_an_error_in_a_worker_is_the_callers(uni, monkeypatch):
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise RuntimeError("no memory")

    monkeypatch.setattr(type(uni.network), "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        Engine(uni, batch_tokens=64).logits(random_texts(500), LABELS)
    # What had not begun was not begun any more.
    assert len(calls) <= 4
    assert torch.get_num_threads() == threads_of_a_new_thread() == 4


@pytest.mark.usefixtures("four_threads")
def test_progress_is_told_in_the_callers_thread(uni):
    told = []
    Engine(uni, batch_tokens=64).logits(
        random_texts(30), LABELS, on_progress=lambda n: told.append((n, threading.get_ident()))
    )
    assert sum(n for n, _ in told) == pytest.approx(30)
    assert {thread for _, thread in told} == {threading.get_ident()}


def test_engines_may_be_used_from_several_threads(bi):
    engine, results = Engine(bi), {}
    expected = engine.logits(["music"], LABELS)

    def score(i):
        results[i] = engine.logits(["music"], LABELS)

    workers = [threading.Thread(target=score, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results.values():
        np.testing.assert_allclose(result, expected, atol=1e-6)
    assert len(results) == 4


def test_memory_is_bounded_by_the_window(bi, monkeypatch):
    monkeypatch.setattr("skgliclass.engine.engine.WINDOW", 256)
    monkeypatch.setattr(
        type(bi.network),
        "forward",
        lambda self, input_ids, attention_mask, label_vectors: Scores(
            torch.zeros(len(input_ids), len(label_vectors)), None, None, None
        ),
    )
    engine = Engine(bi)

    def peak(n):
        texts = [f"text number {i} of many" for i in range(n)]
        engine.logits(texts[:10], LABELS)
        tracemalloc.start()
        engine.logits(texts, LABELS)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(1_000), peak(5_000)
    result = 4_000 * len(LABELS) * 4
    assert many - few < result + 500_000


def test_progress_adds_up_to_the_texts(uni):
    done = []
    texts = ["music", "music", *random_texts(40)]
    Engine(uni, max_length=512).logits(texts, LABELS, on_progress=done.append)
    assert sum(done) == pytest.approx(len(texts))


def test_batches_cover_all_rows_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 300, size=500)
    batches = list(plan_batches(lengths, 1000))
    assert sorted(np.concatenate(batches)) == list(range(500))
    for rows in batches:
        assert len(rows) * lengths[rows].max() <= 1000


@pytest.mark.parametrize("architecture", ["uni-encoder", "bi-encoder"])
def test_task_description_reaches_the_model(tmp_path, architecture):
    reference_checkpoint(tmp_path, architecture_type=architecture, pooling_strategy="avg")
    engine = Engine(load_model(str(tmp_path)))
    plain = engine.logits(["music"], LABELS)
    described = engine.logits(
        ["music"], LABELS, ScoringOptions(task_description="very positive world:")
    )
    assert np.abs(plain - described).max() > 1e-4


def test_a_plain_encoder_has_untrained_heads(tmp_path):
    assert not load_model(str(encoder_checkpoint(tmp_path))).zero_shot
