import copy
from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from skgliclass.modeling import passes
from skgliclass.modeling.bert import Bert
from skgliclass.modeling.passes import FAST_PASSES, run_encoder

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
                parameter.normal_(1 if "orm.weight" in name else 0, 0.3)
            elif "rel_embeddings" in name:
                parameter.normal_()
    return encoder


def sequences(*lengths):
    ids = torch.arange(len(lengths) * max(lengths)).reshape(len(lengths), -1) % 40 + 5
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask.bool(), ids, 1), mask


@pytest.fixture
def fast_passes(monkeypatch):
    """Count how often a fast pass of transformers' encoders is taken."""
    taken = []

    def counted(fast):
        return replace(fast, run=lambda *a: taken.append(a) or fast.run(*a))

    counting = {name: counted(fast) for name, fast in FAST_PASSES.items()}
    monkeypatch.setattr(passes, "FAST_PASSES", counting)
    return taken


@pytest.mark.parametrize("lengths", [(7, 7), (9, 4, 1), (1,)])
@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig, XLMRobertaConfig])
def test_the_fast_pass_gives_the_token_vectors_of_transformers(config_class, lengths, fast_passes):
    encoder = make_encoder(config_class)
    before = copy.deepcopy(encoder.state_dict())
    ids, mask = sequences(*lengths)
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask)
    assert len(fast_passes) == 1
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], rtol=0, atol=2e-6)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_positions_that_nobody_reads_change_no_other(fast_passes):
    encoder = make_encoder()
    ids, mask = sequences(9, 4, 1)
    read = torch.zeros_like(mask)
    read[0, [0, 3, 8]] = 1
    read[1, 2] = 1
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask, read)
    assert len(fast_passes) == 1
    chosen = read.bool()
    torch.testing.assert_close(got[chosen], expected[chosen], rtol=0, atol=2e-6)
    # The row that reads nothing gets one position all the same, as every row has three.
    assert not torch.allclose(got[0, 1], expected[0, 1], rtol=0, atol=1e-3)


def test_a_backbone_without_layers_gives_its_embeddings():
    encoder = make_encoder(num_hidden_layers=0)
    ids, mask = sequences(3, 2)
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask, mask)
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, expected)


def test_reduced_precision_stays_close():
    encoder = make_encoder().bfloat16()
    ids, mask = sequences(9, 4)
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], rtol=0, atol=0.1)


# Backbones whose attention knows distances.


def modern(window=6, every=2, **fields):
    special = dict.fromkeys(("bos_token_id", "cls_token_id"), 1)
    special |= dict.fromkeys(("eos_token_id", "sep_token_id", "pad_token_id"), 2)
    shape = {"local_attention": window, "global_attn_every_n_layers": every}
    return make_encoder(ModernBertConfig, **{**special, **shape, **fields})


def relative(**fields):
    # As in DeBERTa-v3, with so few buckets that the far distances of the tests share some.
    v3 = {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 6,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    }
    return make_encoder(DebertaV2Config, **{**v3, **fields})


DISTANT = {
    "ModernBERT, last layer local": modern,
    "ModernBERT, last layer global": lambda: modern(every=1),
    "ModernBERT, all local": lambda: modern(
        layer_types=["sliding_attention"] * 3,
    ),
    "ModernBERT, wide window": lambda: modern(window=128),
    "ModernBERT, with biases": lambda: modern(
        norm_bias=True, attention_bias=True, mlp_bias=True, every=3
    ),
    "DeBERTa-v3": relative,
    "DeBERTa, own projections": lambda: relative(share_att_key=False),
    "DeBERTa, one way": lambda: relative(pos_att_type=["c2p"]),
    "DeBERTa, the other way": lambda: relative(pos_att_type=["p2c"]),
    "DeBERTa, content alone": lambda: relative(pos_att_type=[]),
    "DeBERTa, no buckets": lambda: relative(position_buckets=-1, norm_rel_ebd="none"),
    "DeBERTa-v2 with a convolution": lambda: relative(
        conv_kernel_size=3, conv_act="gelu", position_biased_input=True, type_vocab_size=2
    ),
    "DeBERTa-v2, one convolved layer": lambda: relative(conv_kernel_size=3, num_hidden_layers=1),
    "DeBERTa-v2, narrow embeddings": lambda: relative(embedding_size=8),
}


@pytest.fixture(scope="module", params=DISTANT)
def distant(request):
    return DISTANT[request.param]()


@pytest.mark.parametrize("reads", ["all", "some"])
@pytest.mark.parametrize("lengths", [(7, 7), (30, 4, 1), (1,)])
def test_distances_count_as_in_transformers(distant, lengths, reads, fast_passes):
    ids, mask = sequences(*lengths)
    read = mask if reads == "all" else torch.zeros_like(mask)
    read[:, [0, -1]] = 1
    with torch.no_grad():
        expected = distant.double()(input_ids=ids, attention_mask=mask)[0].float()
    with torch.inference_mode():
        got = run_encoder(distant.float(), ids, mask, None if reads == "all" else read)
    assert len(fast_passes) == 1
    chosen = (read * mask).bool()
    # What float32 itself costs at weights this large, and less than a wrong distance would.
    atol = 2e-5 * expected[chosen].abs().max()
    torch.testing.assert_close(got[chosen], expected[chosen], rtol=0, atol=atol)


@pytest.mark.parametrize("make", [modern, lambda: modern(window=128, norm_bias=True)])
def test_gradients_of_modernbert_are_those_of_transformers(make, fast_passes):
    encoder, other = make().train(), make().train()
    ids, mask = sequences(30, 4)
    read = torch.zeros_like(mask)
    read[:, [0, 3]] = 1
    chosen = read.bool()
    expected = other(input_ids=ids, attention_mask=mask)[0]
    got = run_encoder(encoder, ids, mask, read)
    assert len(fast_passes) == 1
    found, wanted = gradients(encoder, got[chosen]), gradients(other, expected[chosen])
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        close = {"rtol": 1e-3, "atol": 1e-4 * float(gradient.abs().max())}
        torch.testing.assert_close(found[name], gradient, **close, msg=name)


@pytest.mark.parametrize("fields", [{"mlp_dropout": 0.5}, {"attention_dropout": 0.5}])
def test_dropout_of_modernbert_is_left_to_transformers(fields, fast_passes):
    encoder = modern(**fields).train()
    ids, mask = sequences(9, 4)
    torch.manual_seed(1)
    expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.manual_seed(1)
    assert torch.equal(run_encoder(encoder, ids, mask), expected)
    assert not fast_passes


def test_tables_of_distances_follow_the_weights():
    encoder = relative()
    ids, mask = sequences(9, 4)
    with torch.inference_mode():
        before = run_encoder(encoder, ids, mask)
    with torch.no_grad():
        # As adapters are merged, which torch does not count as a change.
        encoder.encoder.layer[1].attention.self.key_proj.weight.data += 0.5
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask)
    real = mask.bool()
    torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-5)
    assert (got - before)[real].abs().max() > 0.01


def with_other_activation():
    return make_encoder(hidden_act="relu")


def with_other_attention():
    return make_encoder(DebertaV2Config, relative_attention=False)


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
def test_other_encoders_run_as_they_are(make, fast_passes):
    encoder = make()
    ids, mask = sequences(9, 4)
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask)
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert not fast_passes


def test_gradients_and_dropout_of_transformers_are_left_to_it(fast_passes):
    encoder = make_encoder(hidden_dropout_prob=0.5).train()
    ids, mask = sequences(9, 4)
    torch.manual_seed(1)
    expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.manual_seed(1)
    got = run_encoder(encoder, ids, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    got.sum().backward()
    assert encoder.encoder.layer[0].attention.self.query.weight.grad is not None
    assert not fast_passes


# Our own BERT.


def twins(**fields):
    """A BERT of transformers and ours with the same weights."""
    theirs = make_encoder(pad_token_id=1, **fields)
    ours = Bert(theirs.config)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.requires_grad_(True).eval()


def gradients(encoder, vectors):
    vectors.square().sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("lengths", [(7, 7), (9, 4, 1)])
def test_our_bert_trains_as_that_of_transformers(dropout, lengths):
    theirs, ours = twins(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    ids, mask = sequences(*lengths)
    torch.manual_seed(1)
    expected = theirs.train()(input_ids=ids, attention_mask=mask)[0] * mask[..., None]
    torch.manual_seed(1)
    got = run_encoder(ours.train(), ids, mask) * mask[..., None]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    found, wanted = gradients(ours, got), gradients(theirs, expected)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_recomputed_activations_give_the_same_gradients():
    _, ours = twins(hidden_dropout_prob=0.3)
    ids, mask = sequences(9, 4)
    other = copy.deepcopy(ours)
    other.gradient_checkpointing_enable()
    results = []
    for encoder in (ours.train(), other.train()):
        torch.manual_seed(1)
        results.append(gradients(encoder, run_encoder(encoder, ids, mask)))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=0, atol=1e-6, msg=name)


def test_our_bert_keeps_gradients_of_what_is_read():
    _, ours = twins()
    ids, mask = sequences(9, 4)
    read = torch.zeros_like(mask)
    read[:, 0] = 1
    found = gradients(ours, run_encoder(ours, ids, mask, read)[:, 0])
    ours.zero_grad()
    wanted = gradients(ours, run_encoder(ours, ids, mask)[:, 0])
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_our_bert_predicts_to_the_bit_as_a_fast_pass_of_transformers_bert(fast_passes):
    theirs, ours = twins()
    ids, mask = sequences(9, 4, 1)
    with torch.inference_mode():
        assert torch.equal(run_encoder(ours, ids, mask), run_encoder(theirs, ids, mask))
    assert len(fast_passes) == 1


def test_our_bert_refuses_another_activation():
    with pytest.raises(ValueError, match="hidden_act='relu'"):
        Bert(make_encoder(hidden_act="relu").config)


@pytest.mark.slow
def test_our_bert_can_be_traced_for_any_batch():
    _, ours = twins()
    ids, mask = sequences(9, 4)
    axes = dict.fromkeys(range(2), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        traced = torch.export.export(
            ours, (ids, mask), dynamic_shapes=(axes, axes), strict=False
        ).module()
        for lengths in [(5, 2, 7), (6, 6, 6, 6)]:
            ids, mask = sequences(*lengths)
            real = mask.bool()
            torch.testing.assert_close(
                traced(ids, mask)[real], run_encoder(ours, ids, mask)[real], rtol=0, atol=1e-5
            )
