"""The decoder architecture and its cached scoring."""

import numpy as np
import pytest
import torch
from factorial import half_slow
from rows import batch, largest_difference, pad, random_rows, reference_scores, scores
from tiny import encoder_checkpoint, reference_checkpoint

from skgliclass import GLiClassModel
from skgliclass.loading.loader import load_model
from skgliclass.modeling.encoders import CAUSAL_BACKBONES

TOLERANCE = 1e-5


def build(folder, kind="qwen3", **fields):
    reference, _ = reference_checkpoint(folder, kind, architecture_type="decoder-kv", **fields)
    return reference, GLiClassModel.from_pretrained(folder)


def new_model(folder, kind):
    loaded = load_model(str(encoder_checkpoint(folder, kind)), architecture="decoder-kv")
    return GLiClassModel.around(loaded.network)


@half_slow(
    kind=["qwen3", "qwen3_5_text"],
    fields=[
        {},
        {"normalize_features": True},
        {"scorer_encoder_num_layers": 3, "scorer_mlp_hidden_size": 64},
        {"scorer_type": "decoder-kv", "pooling_strategy": "pass"},
    ],
)
def test_logits_of_the_reference(tmp_path, kind, fields):
    reference, ours = build(tmp_path, kind, **fields)
    rows = random_rows(ours.config, text_lengths=(9, 40, 1), n_labels=(3, 5, 1))
    theirs = reference_scores(reference, rows)
    assert largest_difference(scores(ours, rows), theirs) < TOLERANCE
    assert np.ptp(np.concatenate(theirs)) > 1e-3


def test_text_ends_with_the_last_end_marker_before_the_labels(tmp_path):
    """In-context examples end with one too."""
    reference, ours = build(tmp_path)
    config = ours.config
    rows = random_rows(config)
    for row in rows:
        row.text = [8, 9, config.text_token_index, *row.text]
    theirs = reference_scores(reference, rows)
    assert largest_difference(scores(ours, rows), theirs) < TOLERANCE


def test_another_token_may_end_text_and_labels(tmp_path):
    reference, _ = reference_checkpoint(
        tmp_path, "qwen3", architecture_type="decoder-kv", sep_token_index=7
    )
    # An engine would have to be told, so that only the model is read.
    with pytest.raises(ValueError, match=r"gives <<SEP>> the id 351, but its config.json says 7"):
        load_model(str(tmp_path))
    ours = GLiClassModel.from_pretrained(tmp_path)
    assert ours.config.sep_token_index == 7
    rows = random_rows(ours.config)
    inputs = batch(ours.config, rows)
    ids = inputs["input_ids"]
    inputs["input_ids"] = ids.where(ids != ours.config.text_token_index, 7)
    with torch.no_grad():
        np.testing.assert_allclose(
            ours(**inputs).logits, reference(**inputs).logits, atol=TOLERANCE
        )


def test_columns_that_were_asked_for(tmp_path):
    _, ours = build(tmp_path)
    rows = random_rows(ours.config, n_labels=(2, 4, 1))
    with torch.no_grad():
        output = ours(**batch(ours.config, rows), max_num_classes=6)
    assert output.logits.shape == (3, 6)
    assert output.class_mask.sum(dim=1).tolist() == [2, 4, 1]


@pytest.mark.parametrize("kind", CAUSAL_BACKBONES)
def test_cached_scoring_equals_joined_sequences(tmp_path, kind):
    ours = new_model(tmp_path, kind)
    config = ours.config
    # Longer than the sliding window of the one backbone that has one.
    rows = random_rows(config, text_lengths=(30, 30, 30), n_labels=(3, 7, 1))
    for row in rows:
        row.text = rows[0].text
    joined = scores(ours, rows)
    assert np.ptp(np.concatenate(joined)) > 1e-4

    label, end = config.class_token_index, config.sep_token_index
    sets = [[token for ids in row.labels for token in (*ids, label)] + [end] for row in rows]
    with torch.no_grad():
        cache = ours.read_text(torch.tensor([[*rows[0].text, end]]))
        # Twice, and one set alone: scoring must leave the cache as it was.
        for chosen in ([0, 1, 2], [2], [1, 0]):
            output = ours.score_cached(cache, *pad([sets[i] for i in chosen], extra=2))
            cached = [output.logits[i, : len(rows[k].labels)] for i, k in enumerate(chosen)]
            expected = [joined[k] for k in chosen]
            assert largest_difference([row.numpy() for row in cached], expected) < TOLERANCE
            n_labels = [len(rows[k].labels) for k in chosen]
            assert output.class_mask.sum(dim=1).tolist() == n_labels


@pytest.mark.parametrize("kind", CAUSAL_BACKBONES)
def test_rows_depend_on_themselves_alone(tmp_path, kind):
    ours = new_model(tmp_path, kind)
    rows = random_rows(ours.config, text_lengths=(5, 33, 1), n_labels=(2, 1, 4))
    alone = [scores(ours, [row])[0] for row in rows]
    assert largest_difference(scores(ours, rows, extra=3), alone) < TOLERANCE


def test_cached_scoring_of_the_reference(tmp_path):
    reference, ours = build(tmp_path)
    label, end = ours.config.class_token_index, ours.config.sep_token_index
    text = torch.tensor([[20, 21, 22, 23, end]])
    labels = torch.tensor([[30, label, 31, 32, label, end]])
    ones = torch.ones(1, text.shape[1] + labels.shape[1], dtype=torch.long)
    with torch.no_grad():
        theirs = reference.classify_from_decoder_cache(
            input_ids=labels,
            attention_mask=ones,
            label_mask=ones[:, : labels.shape[1]],
            position_ids=torch.arange(labels.shape[1])[None] + text.shape[1],
            past_key_values=reference.update_decoder_cache(
                input_ids=text, attention_mask=ones[:, : text.shape[1]]
            ).past_key_values,
        ).logits
        logits = ours.score_cached(ours.read_text(text), labels).logits
    np.testing.assert_allclose(logits, theirs, atol=TOLERANCE)


def test_a_cache_is_of_one_text(tmp_path):
    _, ours = build(tmp_path)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); a cache is made of one text"):
        ours.read_text(torch.ones(2, 3, dtype=torch.long))


def test_other_architectures_keep_no_text(tmp_path):
    reference_checkpoint(tmp_path)
    with pytest.raises(TypeError, match="Only a decoder-kv"):
        GLiClassModel.from_pretrained(tmp_path).read_text(torch.ones(1, 3, dtype=torch.long))


def test_a_bidirectional_backbone_is_refused(tmp_path):
    folder = encoder_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="needs a causal language model; 'bert'"):
        load_model(str(folder), architecture="decoder-kv")
