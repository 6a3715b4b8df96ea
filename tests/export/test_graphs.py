"""What is exported computes what the model computes."""

import pytest
import torch
from tiny import MARKERS, reference_checkpoint

from skgliclass.export.graphs import make_graphs
from skgliclass.loading.loader import load_model

UNI = [
    {"pooling_strategy": "avg", "scorer_type": "mlp"},
    {"pooling_strategy": "first", "scorer_type": "hopfield", "normalize_features": True},
    {"pooling_strategy": "last", "scorer_type": "simple", "extract_text_features": True},
    {"pooling_strategy": "avg", "scorer_type": "weighted-dot", "class_token_pooling": "average"},
    {"pooling_strategy": "max", "class_token_pooling": "average", "embed_class_token": False},
    {"pooling_strategy": "pass", "scorer_type": "cross-attn", "embed_class_token": False},
    {"pooling_strategy": "rms", "use_segment_embeddings": True, "squeeze_layers": True},
]


def prompts(tokenizer):
    """Two prompts of different lengths with 3 and 2 labels, and where their markers are."""
    label, separator = tokenizer.convert_tokens_to_ids(MARKERS[:2])
    ids = torch.tensor(
        [
            [2, label, 20, label, 21, 22, label, 23, separator, 30, 31, 32, 33, 34, 3],
            [2, label, 24, 25, label, 26, separator, 35, 36, 37, 3, 0, 0, 0, 0],
        ]
    )
    return ids, ids.ne(0).long(), torch.tensor([[1, 3, 6], [1, 4, -1]])


@pytest.mark.parametrize("fields", UNI, ids=lambda fields: "-".join(map(str, fields.values())))
def test_a_uni_encoder_told_its_markers_gives_the_same_logits(tmp_path, fields):
    _, tokenizer = reference_checkpoint(tmp_path, **fields)
    model = load_model(str(tmp_path)).network
    ids, mask, positions = prompts(tokenizer)
    with torch.inference_mode():
        expected = model(ids, mask).logits
        got = make_graphs(model)["model"].module(ids, mask, positions)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(got[1, :2], expected[1, :2], rtol=0, atol=1e-5)
    assert got[1, 2] == -torch.inf


def test_more_columns_than_any_row_has_labels_change_nothing(tmp_path):
    _, tokenizer = reference_checkpoint(tmp_path, scorer_type="hopfield")
    graph = make_graphs(load_model(str(tmp_path)).network)["model"].module
    ids, mask, positions = prompts(tokenizer)
    wider = torch.nn.functional.pad(positions, (0, 2), value=-1)
    with torch.inference_mode():
        got, expected = graph(ids, mask, wider), graph(ids, mask, positions)
    torch.testing.assert_close(got[:, :3], expected, rtol=0, atol=1e-6)
    assert got[:, 3:].eq(-torch.inf).all()


@pytest.mark.parametrize("fields", [{"use_lstm": True}, {"architecture_type": "encoder-decoder"}])
def test_what_cannot_be_exported_is_refused_by_name(tmp_path, fields):
    kind = "t5" if "architecture_type" in fields else "bert"
    reference_checkpoint(tmp_path, kind, **fields)
    with pytest.raises(NotImplementedError, match=r"use_lstm=True|encoder-decoder cannot"):
        make_graphs(load_model(str(tmp_path)).network)
