"""Training reads the prompts that prediction reads: whatever is shown, cut, or stands apart."""

import numpy as np
import pytest
from factorial import half_slow
from pipelines import EXAMPLES, TASK
from tiny import joined_pieces, reference_checkpoint

from skgliclass.engine.border import Border
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.loading.loader import load_model
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import make_steps
from skgliclass.training.options import TrainingOptions

LABELS = ["travel", "dreams", "it's"]
LAYOUTS = {
    "labels first": {"prompt_first": True},
    "text first": {"prompt_first": False},
    "apart": {"architecture_type": "bi-encoder", "pooling_strategy": "avg"},
    "fused": {"architecture_type": "bi-encoder-fused", "prompt_first": True},
    "fused, text first": {"architecture_type": "bi-encoder-fused", "prompt_first": False},
    "two halves": {"architecture_type": "encoder-decoder", "kind": "t5"},
    "decoder": {
        "architecture_type": "decoder-kv",
        "kind": "qwen3",
        "scorer_type": "decoder-kv",
        "normalize_features": False,
    },
}
TEXTS = ["One day I will see the world!", "", "the fox is here " * 12, "the world " * 300]


@pytest.fixture(scope="module", params=LAYOUTS)
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    fields = dict(LAYOUTS[request.param])
    reference_checkpoint(folder, fields.pop("kind", "bert"), **fields)
    return Engine(load_model(str(folder)), max_length=128, n_jobs=1)


@pytest.fixture
def read(monkeypatch):
    """Collect the prompts that go through models."""
    collected = []
    inputs = Border.inputs

    def collect(self, prompts):
        collected.extend(joined_pieces(prompt) for prompt in prompts)
        return inputs(self, prompts)

    monkeypatch.setattr(Border, "inputs", collect)
    return collected


def train_a_step(engine, texts, task, examples, example_format):
    rows = LabelledRows.shared(np.eye(3, dtype=np.float32)[[0] * len(texts)])
    data = make_training_set(
        engine,
        texts,
        LABELS,
        rows,
        task_description=task,
        examples=examples and [examples] * len(texts),
        example_format=example_format,
    )
    # With a frozen backbone all examples are shown, and the labels stay in order.
    options = TrainingOptions(multi_label=False, trainable="head")
    steps = make_steps(engine, data, options, np.random.default_rng(0))
    for part in steps.prepare(np.arange(len(texts))):
        steps.scores(part)


def in_any_order(prompts):
    return sorted(prompts, key=repr)


@pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")
@half_slow(task=["", TASK], examples=[None, "marker", "tags"])
def test_training_reads_what_prediction_reads(engine, read, task, examples):
    shown = EXAMPLES if examples else None
    example_format = examples or "marker"
    options = ScoringOptions(task_description=task, example_format=example_format)
    engine.logits(TEXTS, LABELS, options, examples=shown)
    predicted = in_any_order(read)
    read.clear()
    train_a_step(engine, TEXTS, task, shown, example_format)
    assert in_any_order(read) == predicted


def test_rows_may_have_task_descriptions_of_their_own(engine, read):
    texts, tasks = ["the world", "the fox", "music"], ["Say:", "", "Tell me what it is:"]
    for text, task in zip(texts, tasks, strict=True):
        engine.logits([text], LABELS, ScoringOptions(task_description=task))
    predicted = in_any_order(read)
    read.clear()
    train_a_step(engine, texts, tasks, None, "marker")
    assert in_any_order(read) == predicted


def test_a_task_description_after_the_text_is_not_cut_off(tmp_path, read):
    fields = {"architecture_type": "bi-encoder-fused", "prompt_first": False}
    reference_checkpoint(tmp_path, **fields)
    engine = Engine(load_model(str(tmp_path)), max_length=64, n_jobs=1)
    train_a_step(engine, ["the world " * 100], "Classify this:", None, "marker")
    ids = read[0]["input_ids"]
    task = engine.composer.encode_task_apart("Classify this:").tolist()
    start = ids.index(task[0])
    assert ids[start : start + len(task)] == task
