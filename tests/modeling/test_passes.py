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

from skgliclass.modeling import deberta, passes
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


def with_holes(mask):
    """Make holes in a mask, and pad its last row on the left."""
    mask = mask.clone()
    mask[0, 1::3] = 0
    mask[-1] = mask[-1].flip(0)
    return mask


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
    "DeBERTa, few distances": lambda: relative(position_buckets=-1, max_relative_positions=8),
    "DeBERTa, distances beyond all buckets": lambda: relative(
        position_buckets=4, max_relative_positions=8, share_att_key=False
    ),
    "DeBERTa, more buckets than positions": lambda: relative(position_buckets=64),
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


@pytest.mark.parametrize("reads", ["all", "some"])
@pytest.mark.parametrize("fields", [{}, {"share_att_key": False, "conv_kernel_size": 3}])
def test_deberta_reads_long_texts_in_blocks_and_over_holes(fields, reads, fast_passes, monkeypatch):
    monkeypatch.setattr(deberta, "_BLOCK", 4)
    monkeypatch.setattr(deberta, "_MOST_SCORES", 4 * 34 * 3)
    encoder = relative(**fields)
    ids, mask = sequences(30, 17, 4)
    mask = with_holes(mask)
    read = torch.zeros_like(mask)
    read[:, [0, 2, -1]] = 1
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask, None if reads == "all" else read)
    assert len(fast_passes) == 1
    chosen = (mask if reads == "all" else read * mask).bool()
    atol = 1e-5 * expected[chosen].abs().max()
    torch.testing.assert_close(got[chosen], expected[chosen], rtol=0, atol=atol)


WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TRAINED = {
    "ModernBERT": modern,
    "ModernBERT, wide window": lambda: modern(window=128, norm_bias=True),
    "DeBERTa-v3": lambda: relative(**WITHOUT_DROPOUT),
    "DeBERTa, own projections": lambda: relative(share_att_key=False, **WITHOUT_DROPOUT),
    "DeBERTa-v2 with a convolution": lambda: relative(
        pos_att_type=["p2c"], conv_kernel_size=3, conv_act="gelu", **WITHOUT_DROPOUT
    ),
}


@pytest.mark.parametrize("make", TRAINED.values(), ids=TRAINED)
def test_gradients_are_those_of_transformers(make, fast_passes):
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
    # Some are none but for rounding: what is added to all scores of a position changes nothing.
    rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        close = {"rtol": 1e-3, "atol": max(rounding, 1e-4 * float(gradient.abs().max()))}
        torch.testing.assert_close(found[name], gradient, **close, msg=name)


@pytest.mark.parametrize("fields", [{}, {"conv_kernel_size": 3, "share_att_key": False}])
def test_dropout_of_deberta_is_where_transformers_has_it(fields, fast_passes, monkeypatch):
    def drop_columns(dropout, x):
        kept = torch.arange(x.shape[-1]) % 3 > 0
        return x * kept / (1 - dropout.p) if dropout.training and dropout.p else x

    # The same whatever the order of the vectors.
    monkeypatch.setattr(torch.nn.Dropout, "forward", drop_columns)
    encoder = relative(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.0, **fields).train()
    ids, mask = sequences(9, 4)
    expected = encoder(input_ids=ids, attention_mask=mask)[0]
    got = run_encoder(encoder, ids, mask)
    assert len(fast_passes) == 1
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-4)
    assert not torch.allclose(got, run_encoder(encoder.eval(), ids, mask), atol=0.1)


@pytest.mark.parametrize("reads", ["all", "some"])
def test_attention_of_deberta_drops_as_often_as_in_transformers(reads, fast_passes):
    encoder = relative(
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.3, num_hidden_layers=1
    ).train()
    ids, mask = (tensor.repeat(1000, 1) for tensor in sequences(7))
    read = None if reads == "all" else torch.arange(7).expand_as(mask) < 3
    torch.manual_seed(1)
    with torch.no_grad():
        draws = [run_encoder(encoder, ids, mask, read), encoder(ids, attention_mask=mask)[0]]
        plain = run_encoder(encoder.eval(), ids[:1], mask[:1])[0, :3]
    got, expected = (torch.stack((d.mean(0), d.std(0)))[:, :3] for d in draws)
    assert len(fast_passes) == 2
    torch.testing.assert_close(got, expected, rtol=0, atol=0.1)
    assert (got[0] - plain).abs().max() > 0.3


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


def without_distances():
    return make_encoder(DebertaV2Config, relative_attention=False)


@pytest.mark.parametrize("make", [lambda: make_encoder(hidden_act="relu"), without_distances])
def test_other_encoders_run_as_they_are(make, fast_passes):
    check_that_transformers_runs(make(), fast_passes)


def check_that_transformers_runs(encoder, fast_passes):
    ids, mask = sequences(9, 4)
    with torch.inference_mode():
        got = run_encoder(encoder, ids, mask)
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert not fast_passes


def first_linear(encoder):
    names = [n for n, module in encoder.named_modules() if type(module) is torch.nn.Linear]
    parent, _, name = names[0].rpartition(".")
    return encoder.get_submodule(parent), name


class Doubled(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return 2 * self.module(*args, **kwargs)


def put_an_adapter_around_a_linear(encoder):
    parent, name = first_linear(encoder)
    setattr(parent, name, Doubled(getattr(parent, name)))


def put_more_behind_a_linear(encoder):
    parent, name = first_linear(encoder)
    linear = getattr(parent, name)
    more = torch.nn.Linear(linear.out_features, linear.out_features)
    setattr(parent, name, torch.nn.Sequential(linear, more))


def replace_the_forward_of_a_layer(encoder):
    layer = layers_of(encoder)[1]
    before = layer.forward
    layer.forward = lambda hidden, *args, **kwargs: before(2 * hidden, *args, **kwargs)


def layers_of(encoder):
    return encoder.layers if hasattr(encoder, "layers") else encoder.encoder.layer


CHANGES = {
    "an adapter": put_an_adapter_around_a_linear,
    "more modules": put_more_behind_a_linear,
    "another forward": replace_the_forward_of_a_layer,
    "a hook": lambda encoder: layers_of(encoder)[1].register_forward_pre_hook(
        lambda module, args: (2 * args[0], *args[1:])
    ),
    "a hook of the backbone": lambda encoder: encoder.register_forward_hook(
        lambda module, args, output: (2 * output[0],)
    ),
}


@pytest.mark.parametrize("make", [make_encoder, modern, relative])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_backbone_runs_as_it_is(change, make, fast_passes):
    encoder = make()
    change(encoder)
    check_that_transformers_runs(encoder, fast_passes)


@pytest.mark.parametrize("make", [make_encoder, relative])
@pytest.mark.parametrize("place", ["intermediate.intermediate_act_fn", "attention.self.dropout"])
def test_parts_that_no_pass_calls_are_looked_at(place, make, fast_passes):
    encoder = make()
    encoder.encoder.layer[1].set_submodule(place, torch.nn.ReLU())
    check_that_transformers_runs(encoder, fast_passes)


@pytest.mark.parametrize("make", [modern, relative])
def test_recomputed_activations_are_left_to_transformers(make, fast_passes):
    encoder = make(**(WITHOUT_DROPOUT if make is relative else {})).train()
    # Newer versions of transformers have renamed it.
    new = getattr(encoder, "activation_checkpointing_enable", None)
    (new or encoder.gradient_checkpointing_enable)()
    ids, mask = sequences(9, 4)
    run_encoder(encoder, ids, mask).sum().backward()
    assert not fast_passes
    assert layers_of(encoder)[0].gradient_checkpointing


# Published sizes but for the depth and the widths: the vocabularies of mDeBERTa and mmBERT.
PUBLISHED = {
    "BERT": lambda: make_encoder(BertConfig, vocab_size=30522),
    "XLM-RoBERTa": lambda: make_encoder(XLMRobertaConfig, vocab_size=250002),
    "ModernBERT": lambda: modern(window=128, every=3, vocab_size=50368),
    "mmBERT": lambda: modern(
        window=128,
        every=3,
        vocab_size=256000,
        pad_token_id=0,
        rope_parameters={
            kind: {"rope_type": "default", "rope_theta": 160000.0}
            for kind in ("full_attention", "sliding_attention")
        },
    ),
    "DeBERTa-v3": lambda: relative(vocab_size=128100, position_buckets=256),
    "mDeBERTa": lambda: relative(vocab_size=251000, position_buckets=256),
}


@pytest.mark.parametrize("make", PUBLISHED.values(), ids=PUBLISHED)
def test_published_backbones_take_a_fast_pass(make, fast_passes):
    ids, mask = sequences(9, 4)
    with torch.inference_mode():
        run_encoder(make(), ids, mask)
    # Where a new release of transformers has other classes or fields, this says so.
    assert len(fast_passes) == 1


LIKE_BERT = [BertConfig, RobertaConfig, XLMRobertaConfig]


@pytest.mark.parametrize("config", LIKE_BERT)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_transformers_bert_trains_as_by_itself(config, checkpointing, fast_passes):
    encoder = make_encoder(config, hidden_dropout_prob=0.5).train()
    if checkpointing:
        # Newer versions of transformers have renamed it and warn of the old name.
        new = getattr(encoder, "activation_checkpointing_enable", None)
        (new or encoder.gradient_checkpointing_enable)()
    ids, mask = sequences(9, 4)
    found = []
    for run in (
        lambda: encoder(input_ids=ids, attention_mask=mask)[0],
        lambda: run_encoder(encoder, ids, mask),
    ):
        torch.manual_seed(1)
        vectors = run()
        encoder.zero_grad()
        (vectors * mask[:, :, None]).pow(2).sum().backward()
        found.append((vectors, [p.grad for p in encoder.parameters() if p.grad is not None]))
    (theirs, their_gradients), (ours, our_gradients) = found
    # The same dropout: a seed trains alike.
    torch.testing.assert_close(ours[mask != 0], theirs[mask != 0])
    assert len(our_gradients) == len(their_gradients)
    largest = max(gradient.abs().max().item() for gradient in their_gradients)
    for mine, wanted in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6 * largest)
    # What is computed again, transformers computes.
    assert len(fast_passes) == (not checkpointing)


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
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * largest)


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
