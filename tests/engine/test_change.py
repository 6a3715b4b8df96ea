"""What is added to logits by the vectors of the texts, whatever the passes."""

import numpy as np
import pytest
import torch
from factorial import half_slow
from pipelines import TASK
from scipy.special import log_softmax
from tiny import BACKBONES, reference_checkpoint

from skgliclass.engine.change import LogitChange
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.export.graphs import AddedChange, make_graphs
from skgliclass.loading.loader import load_model
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import make_steps
from skgliclass.training.options import TrainingOptions

TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music", "music"]
LABELS = ["travel", "dreams", "sport", "it's"]
LONG = ["naïve café " * 40, "a day in the mountains " * 30]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    made = {}

    def get(architecture, **fields):
        key = architecture, *fields.items()
        if key not in made:
            folder = tmp_path_factory.mktemp("model")
            kind = BACKBONES[architecture]
            reference_checkpoint(folder, kind, architecture_type=architecture, **fields)
            made[key] = Engine(load_model(str(folder), device="cpu"), n_jobs=1)
        return made[key]

    return get


def random_change(width, texts=LABELS):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(texts), width)).astype(np.float32)
    return LogitChange(tuple(texts), vectors, random.normal(size=len(texts)).astype(np.float32))


def logits_and_vectors(engine, texts, labels, options=None):
    x = np.full((len(texts), engine.width), np.nan, dtype=np.float32)
    options = options or ScoringOptions()
    logits = engine.logits(texts, labels, options, on_vectors=lambda at, v: x.__setitem__(at, v))
    return logits, x


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_training_adds_what_prediction_adds(engines, architecture, trainable):
    engine, change = engines(architecture), random_change(32)
    # The last two labels are ones that the change has no part in.
    labels = [*LABELS[1:], "music", "chess"]
    targets = np.eye(5, dtype=np.float32)[[0, 1, 2, 4]]
    rows = LabelledRows.shared(targets)
    data = make_training_set(engine, TEXTS, labels, rows, change=change)
    options = TrainingOptions(False, trainable=trainable, shuffle_labels=False)
    steps = make_steps(engine, data, options, np.random.default_rng(0))
    with torch.no_grad():
        parts = steps.prepare(np.arange(4))
        found = sum(float(steps.loss(part, torch.tensor(1.0))) for part in parts)
    logits = engine.logits(TEXTS, labels, change=change)
    expected = -(log_softmax(logits, axis=1) * targets).sum()
    assert found == pytest.approx(expected, rel=1e-4)


OPTIONS = {
    "plain": ScoringOptions(),
    "orders and a task": ScoringOptions(n_permutations=3, task_description=TASK),
    "chunks": ScoringOptions(long_texts="chunk", chunk_overlap=4, chunk_pooling="max"),
}


@half_slow(architecture=list(BACKBONES), name=list(OPTIONS))
def test_a_change_is_added_to_the_pooled_logits(engines, architecture, name):
    engine = engines(architecture)
    texts = [*TEXTS, *LONG] if name == "chunks" else TEXTS
    change = random_change(engine.width)
    before, x = logits_and_vectors(engine, texts, LABELS, OPTIONS[name])
    after = engine.logits(texts, LABELS, OPTIONS[name], change=change)
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert np.allclose(after, before + x @ change.vectors.T + change.biases, atol=1e-4)
    assert np.array_equal(before, engine.logits(texts, LABELS, OPTIONS[name]))


def test_a_row_depends_on_itself_alone(engines):
    engine = engines("uni-encoder")
    change = random_change(engine.width)
    together = engine.logits([*TEXTS, *LONG], LABELS, OPTIONS["chunks"], change=change)
    for text, row in zip([*TEXTS, *LONG], together, strict=True):
        alone = engine.logits([text], LABELS, OPTIONS["chunks"], change=change)
        assert np.allclose(alone[0], row, atol=1e-4)


def test_many_labels_share_the_mean_of_their_passes(engines):
    engine = engines("uni-encoder")
    many = [f"{label} {i}" for label in LABELS for i in range(12)]
    short = Engine(engine.loaded, max_length=48, n_jobs=1)
    change = random_change(engine.width, many)
    before, x = logits_and_vectors(short, TEXTS, many)
    after = short.logits(TEXTS, many, change=change)
    assert np.allclose(after, before + x @ change.vectors.T + change.biases, atol=1e-4)


def test_a_change_follows_its_label(engines):
    engine = engines("bi-encoder")
    change = random_change(engine.width)
    sets = [["sport", "new"], ["travel"], ["it's", "dreams", "travel"], ["new"]]
    before, after = engine.logits(TEXTS, sets), engine.logits(TEXTS, sets, change=change)
    whole = engine.logits(TEXTS, [*LABELS, "new"], change=change)
    for row, labels in enumerate(sets):
        columns = [[*LABELS, "new"].index(label) for label in labels]
        assert np.allclose(after[row, : len(labels)], whole[row, columns], atol=1e-4)
    assert np.allclose(after[3, 0], before[3, 0], atol=1e-5)


def test_of_a_shortlist_what_is_read_is_changed(engines):
    engine = engines("bi-encoder")
    change = random_change(engine.width)
    whole = engine.logits(TEXTS, LABELS, change=change)
    short = engine.logits(TEXTS, LABELS, ScoringOptions(shortlist=2), change=change)
    is_read = np.isclose(whole, short, atol=1e-4)
    assert (is_read.sum(axis=1) == 2).all()
    lowest = np.where(is_read, short, np.inf).min(axis=1)
    assert (np.where(is_read, -np.inf, short).max(axis=1) < lowest).all()


@pytest.mark.parametrize(
    "fields", [{}, {"pooling_strategy": "pass", "scorer_type": "cross-attn"}], ids=["one", "all"]
)
def test_an_exported_uni_encoder_adds_it(engines, fields):
    engine = engines("uni-encoder", **fields)
    change = random_change(engine.width, LABELS[:2])
    added = AddedChange(torch.from_numpy(change.vectors), torch.from_numpy(change.biases))
    graph = make_graphs(engine.loaded.network, added)["model"]
    with torch.inference_mode():
        after = graph.module(*graph.inputs.values())
        before = make_graphs(engine.loaded.network)["model"].module(*graph.inputs.values())
        scores = engine.loaded.network(graph.inputs["input_ids"], graph.inputs["attention_mask"])
        x = scores.text_vectors(graph.inputs["attention_mask"])
    x = torch.nn.functional.normalize(x, dim=-1).numpy()
    expected = before.numpy() + x @ change.vectors.T + change.biases
    assert np.allclose(after.numpy(), expected, atol=1e-4)


def test_an_exported_scorer_adds_it(engines):
    engine = engines("bi-encoder", normalize_features=True)
    change = random_change(engine.width)
    added = AddedChange(torch.from_numpy(change.vectors), torch.from_numpy(change.biases))
    scorer = make_graphs(engine.loaded.network, added)["scorer"].module
    text = torch.from_numpy(engine.text_vectors(TEXTS))
    labels = torch.from_numpy(engine.label_vectors(LABELS))
    with torch.inference_mode():
        got = scorer(text, labels).numpy()
    assert np.allclose(got, engine.logits(TEXTS, LABELS, change=change), atol=1e-4)
