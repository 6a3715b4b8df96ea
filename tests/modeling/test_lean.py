import copy

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from skgliclass.modeling import lean

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    # As wide as trained weights are, so that every part of a layer matters.
    "initializer_range": 0.5,
}


def make_encoder(config_class=BertConfig, **fields):
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config_class(**{**SIZES, **fields})).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1 if "LayerNorm.weight" in name else 0, 0.3)
    return encoder


def sequences(*lengths):
    ids = torch.arange(len(lengths) * max(lengths)).reshape(len(lengths), -1) % 40 + 5
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask.bool(), ids, 1), mask


@pytest.fixture
def lean_passes(monkeypatch):
    passes = []
    real = lean.lean_forward
    monkeypatch.setattr(lean, "lean_forward", lambda *a: passes.append(a) or real(*a))
    return passes


@pytest.mark.parametrize("lengths", [(7, 7), (9, 4, 1), (1,)])
@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig, XLMRobertaConfig])
def test_the_lean_pass_gives_the_token_vectors_of_transformers(config_class, lengths, lean_passes):
    encoder = make_encoder(config_class)
    before = copy.deepcopy(encoder.state_dict())
    ids, mask = sequences(*lengths)
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = lean.run_encoder(encoder, ids, mask)
    assert len(lean_passes) == 1
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], rtol=0, atol=2e-6)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_positions_that_nobody_reads_change_no_other(lean_passes):
    encoder = make_encoder()
    ids, mask = sequences(9, 4, 1)
    read = torch.zeros_like(mask)
    read[0, [0, 3, 8]] = 1
    read[1, 2] = 1
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = lean.run_encoder(encoder, ids, mask, read)
    assert len(lean_passes) == 1
    chosen = read.bool()
    torch.testing.assert_close(got[chosen], expected[chosen], rtol=0, atol=2e-6)
    # The row that reads nothing gets one position all the same, as every row has three.
    assert not torch.allclose(got[0, 1], expected[0, 1], rtol=0, atol=1e-3)


def test_a_backbone_without_layers_gives_its_embeddings():
    encoder = make_encoder(num_hidden_layers=0)
    ids, mask = sequences(3, 2)
    with torch.inference_mode():
        got = lean.run_encoder(encoder, ids, mask, mask)
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, expected)


def test_reduced_precision_stays_close():
    encoder = make_encoder().bfloat16()
    ids, mask = sequences(9, 4)
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = lean.run_encoder(encoder, ids, mask)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], rtol=0, atol=0.1)


def with_other_activation():
    return make_encoder(hidden_act="relu")


def with_other_attention():
    return make_encoder(DebertaV2Config, relative_attention=True, pos_att_type=["c2p"])


def with_an_adapter():
    encoder = make_encoder()

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    own = encoder.encoder.layer[1].attention.self
    doubled = Doubled(16, 16)
    doubled.load_state_dict(own.value.state_dict())
    own.value = doubled
    return encoder


@pytest.mark.parametrize("make", [with_other_activation, with_other_attention, with_an_adapter])
def test_other_encoders_run_as_they_are(make, lean_passes):
    encoder = make()
    ids, mask = sequences(9, 4)
    with torch.inference_mode():
        got = lean.run_encoder(encoder, ids, mask)
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert not lean_passes


def test_gradients_and_dropout_are_as_in_transformers(lean_passes):
    encoder = make_encoder(hidden_dropout_prob=0.5).train()
    ids, mask = sequences(9, 4)
    torch.manual_seed(1)
    expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.manual_seed(1)
    got = lean.run_encoder(encoder, ids, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    got.sum().backward()
    assert encoder.encoder.layer[0].attention.self.query.weight.grad is not None
    assert not lean_passes
