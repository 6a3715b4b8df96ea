"""The same logits as the reference package, from the checkpoints that it writes."""

import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from factorial import half_slow
from tiny import reference_checkpoint

from skgliclass import GLiClassModel
from skgliclass.engine.engine import Engine
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model

gliclass = pytest.importorskip("gliclass")

TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music", "naïve café " * 9]
LABELS = ["travel", "dreams", "sport", "world news", "very positive"]
TOLERANCE = 1e-5


def assert_close(ours, theirs):
    """Compare logits within float32's rounding of the largest of them."""
    atol = TOLERANCE * max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def reference_logits(model, tokenizer, texts, labels):
    """Score each text alone, as the reference joins and tokenises it."""
    joined = "".join(f"<<LABEL>>{label}" for label in labels) + "<<SEP>>"
    rows = []
    for text in texts:
        prompt = joined + text if model.config.prompt_first else text + joined
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**inputs, max_num_classes=len(labels)).logits[0].numpy())
    return np.stack(rows)


def reference_bi_logits(model, tokenizer, texts, labels):
    """Score each text with labels of one length at a time: the reference pools over padding."""
    scores = np.empty((len(texts), len(labels)), dtype=np.float32)
    lengths = np.array([len(tokenizer(label)["input_ids"]) for label in labels])
    for i, length in itertools.product(range(len(texts)), np.unique(lengths)):
        which = np.flatnonzero(lengths == length)
        text = tokenizer(texts[i], return_tensors="pt")
        unpadded = tokenizer([labels[j] for j in which], return_tensors="pt")
        with torch.no_grad():
            scores[i, which] = (
                model(
                    input_ids=text["input_ids"],
                    attention_mask=text["attention_mask"],
                    class_input_ids=unpadded["input_ids"][None],
                    class_attention_mask=unpadded["attention_mask"][None],
                    labels_mask=torch.ones(1, len(which), dtype=torch.long),
                )
                .logits[0]
                .numpy()
            )
    return scores


def assert_same_logits(folder, model, tokenizer, reference=reference_logits):
    ours = Engine(load_model(str(folder)), batch_tokens=256).logits(TEXTS, LABELS)
    theirs = reference(model, tokenizer, TEXTS, LABELS)
    assert_close(ours, theirs)
    # A constant would agree with a constant: the texts and the labels have to matter.
    assert np.ptp(theirs, axis=1).min() > 1e-4
    assert np.ptp(theirs, axis=0).max() > 1e-4


SCORERS = ["simple", "weighted-dot", "mlp", "hopfield"]
POOLINGS = ["first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg"]


def mostly_slow(kinds, poolings, plain):
    """Pair all with all and a flag; by default one kind runs with every pooling, others with two.

    Each of these runs with one value of the flag, which changes from one to the next.
    """
    combinations = [
        (kind, pooling, flag, (i + j + flag) % 2 == 0 and (kind == plain or j in (0, 2)))
        for i, kind in enumerate(kinds)
        for j, pooling in enumerate(poolings)
        for flag in (False, True)
    ]
    return [
        pytest.param(*values, marks=[] if runs else [pytest.mark.slow])
        for *values, runs in combinations
    ]


@pytest.mark.parametrize(
    ("scorer", "pooling", "prompt_first"),
    # A scorer is given a vector of the text, whatever the pooling that made it.
    mostly_slow(SCORERS, POOLINGS, "simple"),
)
def test_scorers_and_poolings(tmp_path, scorer, pooling, prompt_first):
    parts = reference_checkpoint(
        tmp_path, scorer_type=scorer, pooling_strategy=pooling, prompt_first=prompt_first
    )
    assert_same_logits(tmp_path, *parts)


@half_slow(
    prompt_first=[True, False],
    class_pooling=["first", "average"],
    embed=[True, False],
    segments=[True, False],
    extract=[True, False],
)
def test_class_pooling_and_segments(
    tmp_path, prompt_first, class_pooling, embed, segments, extract
):
    parts = reference_checkpoint(
        tmp_path,
        scorer_type="mlp",
        prompt_first=prompt_first,
        class_token_pooling=class_pooling,
        embed_class_token=embed,
        use_segment_embeddings=segments,
        extract_text_features=extract,
    )
    assert_same_logits(tmp_path, *parts)


@half_slow(
    kind=["bert", "roberta", "deberta-v2", "modernbert"],
    prompt_first=[True, False],
    fields=[
        {"scorer_type": "simple"},
        {"scorer_type": "mlp", "class_token_pooling": "average", "use_segment_embeddings": True},
        {
            "scorer_type": "cross-attn",
            "pooling_strategy": "pass",
            "class_token_pooling": "average",
            "extract_text_features": True,
        },
        {"scorer_type": "simple", "normalize_features": True, "pooling_strategy": "avg"},
    ],
)
def test_backbones(tmp_path, kind, prompt_first, fields):
    parts = reference_checkpoint(tmp_path, kind, prompt_first=prompt_first, **fields)
    assert_same_logits(tmp_path, *parts)


@half_slow(
    extract=[True, False],
    embed=[True, False],
    class_pooling=["first", "average"],
    prompt_first=[True, False],
)
def test_cross_attention(tmp_path, prompt_first, class_pooling, embed, extract):
    parts = reference_checkpoint(
        tmp_path,
        scorer_type="cross-attn",
        pooling_strategy="pass",
        prompt_first=prompt_first,
        class_token_pooling=class_pooling,
        embed_class_token=embed,
        extract_text_features=extract,
        use_segment_embeddings=True,
    )
    assert_same_logits(tmp_path, *parts)


@half_slow(pooling=[p for p in POOLINGS if p != "last"], prompt_first=[True, False])
def test_pooling_of_the_text_part(tmp_path, pooling, prompt_first):
    parts = reference_checkpoint(
        tmp_path, pooling_strategy=pooling, prompt_first=prompt_first, extract_text_features=True
    )
    assert_same_logits(tmp_path, *parts)


def test_last_token_of_the_text_part_differs_on_purpose(tmp_path):
    """The reference takes a zero-filled slot, so that every text gets the same scores."""
    model, tokenizer = reference_checkpoint(
        tmp_path, pooling_strategy="last", prompt_first=True, extract_text_features=True
    )
    inputs = tokenizer("<<LABEL>>travel<<SEP>>music", return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs, max_num_classes=1, output_text_embeddings=True).text_embeddings
        zeros = model.model.text_projector(torch.zeros(1, theirs.shape[1]))
    torch.testing.assert_close(theirs, zeros)

    loaded = load_model(str(tmp_path))
    ours = loaded.network(inputs["input_ids"], inputs["attention_mask"]).text_embeddings
    assert (ours - zeros).abs().max() > 1e-2


@pytest.mark.parametrize("prompt_first", [True, False])
def test_lstm(tmp_path, prompt_first):
    parts = reference_checkpoint(
        tmp_path, pooling_strategy="avg", prompt_first=prompt_first, use_lstm=True
    )
    assert_same_logits(tmp_path, *parts)


@pytest.mark.parametrize(
    ("kind", "pooling", "normalise"),
    # What a backbone gives is pooled in the same way whatever it is.
    mostly_slow(["bert", "deberta-v2", "modernbert"], POOLINGS, "bert"),
)
def test_bi_encoder_poolings(tmp_path, kind, pooling, normalise):
    parts = reference_checkpoint(
        tmp_path,
        kind,
        architecture_type="bi-encoder",
        pooling_strategy=pooling,
        normalize_features=normalise,
    )
    assert_same_logits(tmp_path, *parts, reference=reference_bi_logits)


@pytest.mark.parametrize("scorer", ["weighted-dot", "mlp"])
def test_bi_encoder_scorers(tmp_path, scorer):
    parts = reference_checkpoint(
        tmp_path, architecture_type="bi-encoder", scorer_type=scorer, pooling_strategy="avg"
    )
    assert_same_logits(tmp_path, *parts, reference=reference_bi_logits)


def test_bi_encoder_hopfield_lets_all_labels_compete(tmp_path):
    labels = ["travel", "sport", "music"]  # of the same length, so that none is padded
    model, tokenizer = reference_checkpoint(
        tmp_path, architecture_type="bi-encoder", scorer_type="hopfield", pooling_strategy="avg"
    )
    encoded = tokenizer(labels, return_tensors="pt", padding=True)
    assert encoded["attention_mask"].all()
    text = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        theirs = model(
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
            class_input_ids=encoded["input_ids"][None],
            class_attention_mask=encoded["attention_mask"][None],
            labels_mask=torch.ones(1, 3, dtype=torch.long),
        ).logits.numpy()
    ours = Engine(load_model(str(tmp_path))).logits(TEXTS[:1], labels)
    assert_close(ours, theirs)


@pytest.mark.parametrize("architecture", ["uni-encoder", "bi-encoder"])
@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "modernbert"])
def test_the_reference_loads_what_we_save(tmp_path, kind, architecture):
    written, resaved = tmp_path / "written", tmp_path / "resaved"
    model, tokenizer = reference_checkpoint(
        written, kind, architecture_type=architecture, prompt_first=True, pooling_strategy="avg"
    )
    save_checkpoint(resaved, load_model(str(written)))
    again = gliclass.GLiClassModel.from_pretrained(resaved).eval()
    tokenizer_again = type(tokenizer).from_pretrained(resaved)
    score = reference_logits if architecture == "uni-encoder" else reference_bi_logits
    assert_close(
        score(again, tokenizer_again, TEXTS, LABELS), score(model, tokenizer, TEXTS, LABELS)
    )


def test_configuration_round_trip_keeps_every_field_of_the_reference(tmp_path):
    written, resaved = tmp_path / "written", tmp_path / "resaved"
    model, _ = reference_checkpoint(written, dropout=0.25, prompt_first=True)
    GLiClassModel.from_pretrained(written).save_pretrained(resaved)
    again = gliclass.GLiClassModel.from_pretrained(resaved)
    named = inspect.signature(gliclass.GLiClassModelConfig.__init__).parameters.keys()
    names = (named | {"encoder_model_name"}) - {"self", "kwargs", "encoder_config"}
    before, after = ({n: getattr(c, n, None) for n in names} for c in (model.config, again.config))
    assert after == before
    fields = model.config.encoder_config.to_diff_dict()
    assert fields.items() <= (again.config.encoder_config.to_diff_dict() | {"dtype": None}).items()


@half_slow(
    fields=[
        {"pooling_strategy": "avg"},
        {"pooling_strategy": "sum", "scorer_type": "hopfield"},
        {"pooling_strategy": "max", "extract_text_features": True},
        {"scorer_type": "cross-attn", "pooling_strategy": "pass", "extract_text_features": True},
        {"architecture_type": "bi-encoder", "pooling_strategy": "avg"},
    ],
    kind=["bert", "deberta-v2", "modernbert"],
)
def test_a_row_depends_on_itself_alone(tmp_path, kind, fields):
    reference_checkpoint(tmp_path, kind, prompt_first=True, **fields)
    loaded = load_model(str(tmp_path))
    alone = np.concatenate([Engine(loaded).logits([text], LABELS) for text in TEXTS])
    for batch_tokens in (1, 100, 10_000):
        together = Engine(loaded, batch_tokens=batch_tokens).logits(TEXTS, LABELS)
        assert_close(together, alone)
    backwards = Engine(loaded, n_jobs=2, batch_tokens=64).logits(TEXTS[::-1], LABELS)[::-1]
    assert_close(backwards, alone)


@pytest.mark.slow
def test_the_parity_table_has_no_large_difference():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "parity.py"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " cells, 0 of them at or above 1e-05." in done.stdout
    assert "**" not in done.stdout
