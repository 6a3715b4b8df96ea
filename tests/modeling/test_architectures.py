"""Every architecture: the reference's logits, whatever the batch, in both directions."""

import copy
import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factorial import half_slow
from rows import batch, largest_difference, random_rows, reference_scores, scores
from safetensors.torch import load_file
from tiny import (
    WIDTH,
    backbone_config,
    encoder_checkpoint,
    reference_checkpoint,
    wrapped_tokenizer,
)
from transformers import AutoConfig, AutoTokenizer

from skgliclass import GLiClassModel
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model
from skgliclass.training.tuned_weights import TunedWeights

TOLERANCE = 1e-5
POOLINGS = ["first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg"]
ENCODER_DECODERS = ["encoder-decoder", "encoder-decoder-cls"]

# Architecture, backbone and options of one model of each kind.
KINDS = {
    "uni-encoder": ("bert", {"pooling_strategy": "avg"}),
    "uni-encoder, T5": ("t5", {"pooling_strategy": "avg"}),
    "uni-encoder, squeezed": ("bert", {"squeeze_layers": True}),
    "bi-encoder": ("bert", {"architecture_type": "bi-encoder", "pooling_strategy": "avg"}),
    "fused": ("bert", {"architecture_type": "bi-encoder-fused", "pooling_strategy": "avg"}),
    "encoder-decoder": ("t5", {"architecture_type": "encoder-decoder", "pooling_strategy": "avg"}),
    "encoder-decoder, tokens": (
        "t5",
        {
            "architecture_type": "encoder-decoder",
            "pooling_strategy": "pass",
            "scorer_type": "cross-attn",
        },
    ),
    "encoder-decoder, LSTM": (
        "t5",
        {"architecture_type": "encoder-decoder", "pooling_strategy": "avg", "use_lstm": True},
    ),
    "encoder-decoder, BART": ("bart", {"architecture_type": "encoder-decoder"}),
    "encoder-decoder-cls": ("t5", {"architecture_type": "encoder-decoder-cls"}),
    "decoder": ("qwen3", {"architecture_type": "decoder-kv"}),
}


def build(folder, kind="bert", **fields):
    """Give the reference's model and ours, read from the reference's checkpoint."""
    reference, _ = reference_checkpoint(folder, kind, **fields)
    return reference, GLiClassModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def build_kind(tmp_path_factory):
    """Give what `build` gives for one of the kinds, which is built once, and its folder."""

    @cache
    def built(kind):
        backbone, fields = KINDS[kind]
        folder = tmp_path_factory.mktemp("kind")
        return folder, build(folder, backbone, **fields)

    def copied(kind):
        folder, models = built(kind)
        return folder, *copy.deepcopy(models)

    return copied


def assert_parity(reference, ours, rows, **kwargs):
    # In double precision, in which rounding cannot hide a difference or make one up.
    reference, ours = reference.double(), ours.double()
    theirs = reference_scores(reference, rows, **kwargs)
    assert largest_difference(scores(ours, rows), theirs) < TOLERANCE
    # A constant would agree with a constant.
    assert np.ptp(np.concatenate(theirs)) > 1e-3


@half_slow(
    kind=["t5", "bart"],
    architecture=ENCODER_DECODERS,
    fields=[
        {"scorer_type": "simple"},
        {"scorer_type": "weighted-dot", "class_token_pooling": "average"},
        {"scorer_type": "mlp", "embed_class_token": False},
        {
            "scorer_type": "hopfield",
            "class_token_pooling": "average",
            "extract_text_features": True,
        },
        {"scorer_type": "simple", "normalize_features": True},
        {"scorer_type": "simple", "use_lstm": True},
    ],
)
def test_encoder_decoders(tmp_path, kind, architecture, fields):
    reference, ours = build(tmp_path, kind, architecture_type=architecture, **fields)
    assert_parity(reference, ours, random_rows(ours.config))


@half_slow(pooling=POOLINGS)
def test_encoder_decoder_poolings(tmp_path, pooling):
    reference, ours = build(
        tmp_path, "t5", architecture_type="encoder-decoder", pooling_strategy=pooling
    )
    assert_parity(reference, ours, random_rows(ours.config))


def test_encoder_decoder_that_attends_to_tokens(tmp_path):
    backbone, fields = KINDS["encoder-decoder, tokens"]
    reference, ours = build(tmp_path, backbone, **fields)
    assert_parity(reference, ours, random_rows(ours.config))


def test_encoder_decoder_takes_more_labels_than_slots(tmp_path):
    """The reference gives 25 columns, whatever was asked for."""
    reference, ours = build(tmp_path, "t5", architecture_type="encoder-decoder", max_num_classes=4)
    rows = random_rows(ours.config, text_lengths=(9,), n_labels=(30,))
    with torch.no_grad():
        cut = reference(**batch(reference.config, rows), max_num_classes=30).logits
    assert cut.shape == (1, 4)
    assert_parity(reference, ours, rows)
    with torch.no_grad():
        assert ours(**batch(ours.config, rows), max_num_classes=32).logits.shape == (1, 32)


@pytest.mark.parametrize("pooling", ["first", "avg", "last"])
def test_encoder_decoder_cls_always_takes_the_last_token(tmp_path, pooling):
    reference, ours = build(
        tmp_path, "t5", architecture_type="encoder-decoder-cls", pooling_strategy=pooling
    )
    assert_parity(reference, ours, random_rows(ours.config))


def test_encoder_decoder_cls_has_no_tokens_to_attend_to(tmp_path):
    fields = {"scorer_type": "cross-attn", "pooling_strategy": "pass"}
    with pytest.raises(ValueError, match="has one vector for the text"):
        build(tmp_path, "t5", architecture_type="encoder-decoder-cls", **fields)


@half_slow(
    kind=["bert", "roberta", "deberta-v2", "modernbert"],
    prompt_first=[True, False],
    normalise=[True, False],
)
def test_fused(tmp_path, kind, prompt_first, normalise):
    reference, ours = build(
        tmp_path,
        kind,
        architecture_type="bi-encoder-fused",
        prompt_first=prompt_first,
        normalize_features=normalise,
        pooling_strategy="avg",
    )
    assert_parity(reference, ours, random_rows(ours.config, same_length=True))


@half_slow(scorer=["weighted-dot", "mlp", "hopfield"], pooling=["first", "avg", "max"])
def test_fused_scorers_and_poolings(tmp_path, scorer, pooling):
    reference, ours = build(
        tmp_path,
        architecture_type="bi-encoder-fused",
        scorer_type=scorer,
        pooling_strategy=pooling,
    )
    assert_parity(reference, ours, random_rows(ours.config, same_length=True))


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
@pytest.mark.parametrize("width", [16, 48])
def test_label_encoder_of_another_width(tmp_path, architecture, width):
    label_config = backbone_config("deberta-v2", 90)
    label_config.hidden_size, label_config.intermediate_size = width, 24
    reference, _ = reference_checkpoint(
        tmp_path,
        architecture_type=architecture,
        label_model_config=label_config.to_dict(),
        label_model_name="somebody/labels",
        pooling_strategy="avg",
    )
    ours = GLiClassModel.from_pretrained(tmp_path).eval()
    assert ours.model.biencoder_projector.linear_1.in_features == width
    rows = random_rows(ours.config, same_length=True)
    for row in rows:
        row.labels = [[token % 80 + 5 for token in ids] for ids in row.labels]
    assert_parity(reference, ours, rows)


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_labels_have_their_own_tokenizer(tmp_path, architecture):
    labels = encoder_checkpoint(tmp_path / "labels", "roberta")
    config = AutoConfig.from_pretrained(labels)
    _, tokenizer = reference_checkpoint(
        tmp_path / "written",
        architecture_type=architecture,
        label_model_config=config.to_dict(),
        label_model_name=str(labels),
    )
    # A folder elsewhere, which the configuration names, is not looked at.
    with pytest.raises(OSError, match=r"tokenizer of its labels.*'label_tokenizer'"):
        load_model(str(tmp_path / "written"))
    shutil.copytree(labels, tmp_path / "written" / "label_tokenizer")
    loaded = load_model(str(tmp_path / "written"))
    expected = AutoTokenizer.from_pretrained(labels)("world news").input_ids
    assert loaded.raw_label_tokenizer.encode("world news").ids == expected
    assert loaded.raw_text_tokenizer.encode("world news").ids == tokenizer("world news").input_ids
    assert expected != tokenizer("world news").input_ids
    assert (loaded.position_limit, loaded.label_position_limit) == (512, 512)

    save_checkpoint(tmp_path / "saved", loaded)
    shutil.rmtree(labels)
    again = load_model(str(tmp_path / "saved"))
    assert again.raw_label_tokenizer.encode("world news").ids == expected


def test_label_tokenizer_of_another_model_is_refused(tmp_path):
    config = backbone_config("bert", 20).to_dict()
    reference_checkpoint(tmp_path, architecture_type="bi-encoder", label_model_config=config)
    with pytest.raises(ValueError, match=r"label encoder only 20 words.*'label_tokenizer'"):
        load_model(str(tmp_path))


def test_one_tokenizer_where_both_encoders_are_one_model(tmp_path):
    # Without the three markers, as the label encoder was never given them.
    config = backbone_config("bert", len(wrapped_tokenizer("bert")) - 3).to_dict()
    reference_checkpoint(
        tmp_path,
        architecture_type="bi-encoder-fused",
        label_model_config=config,
        label_model_name="somebody/labels",
    )
    with pytest.raises(OSError, match="somebody/labels"):
        load_model(str(tmp_path))
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text()) | {"encoder_model_name": "somebody/labels"}
    path.write_text(json.dumps(fields))
    loaded = load_model(str(tmp_path))
    assert loaded.raw_label_tokenizer is loaded.raw_text_tokenizer


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_labels_are_encoded_once_for_many_texts(tmp_path, architecture):
    _, ours = build(tmp_path, architecture_type=architecture, pooling_strategy="avg")
    rows = random_rows(ours.config)
    for row in rows:
        row.labels = rows[0].labels
    inputs = batch(ours.config, rows)
    with torch.no_grad():
        vectors = ours.encode_labels(
            inputs["class_input_ids"][0], inputs["class_attention_mask"][0]
        )
        assert vectors.shape == (3, WIDTH)
        logits = ours(inputs["input_ids"], inputs["attention_mask"], label_vectors=vectors).logits
    np.testing.assert_allclose(logits, np.stack(scores(ours, rows)), atol=TOLERANCE)


def test_fused_has_no_text_vectors_apart(tmp_path):
    _, ours = build(tmp_path, architecture_type="bi-encoder-fused")
    with pytest.raises(TypeError, match=r"has no text vectors apart.*label_vectors"):
        ours.encode_texts(torch.tensor([[5, 6]]), torch.ones(1, 2))


def test_fused_needs_a_marker_for_each_label(tmp_path):
    """The reference fails with a shape mismatch, or gives one row's labels to another."""
    _, ours = build(tmp_path, architecture_type="bi-encoder-fused", prompt_first=True)
    inputs = batch(ours.config, random_rows(ours.config))
    inputs["input_ids"][1, 1] = ours.config.text_token_index
    with pytest.raises(ValueError, match="Row 1 has 2 label markers in its prompt, but 3 labels"):
        ours(**inputs)


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_masked_labels_score_minus_a_thousand(tmp_path, architecture):
    reference, ours = build(tmp_path, architecture_type=architecture)
    rows = random_rows(ours.config, n_labels=(2, 4, 1), same_length=True)
    inputs = batch(ours.config, rows)
    with torch.no_grad():
        output, theirs = ours(**inputs), reference(**inputs)
    np.testing.assert_allclose(output.logits, theirs.logits, atol=TOLERANCE)
    np.testing.assert_array_equal(output.logits[~output.class_mask], -1000.0)
    assert output.class_mask.sum(dim=1).tolist() == [2, 4, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_depend_on_themselves_alone(build_kind, kind):
    _, _, ours = build_kind(kind)
    rows = random_rows(ours.config, text_lengths=(6, 21, 1, 11), n_labels=(3, 1, 5, 2))
    alone = [scores(ours, [row])[0] for row in rows]
    for order in ([0, 1, 2, 3], [3, 1, 2, 0], [2, 0]):
        together = scores(ours, [rows[i] for i in order], extra=3)
        assert largest_difference(together, [alone[i] for i in order]) < TOLERANCE


@half_slow(kind=list(KINDS))
def test_checkpoints_go_both_ways(tmp_path, build_kind, kind):
    if KINDS[kind][1].get("squeeze_layers"):
        pytest.skip("the reference cannot run it")
    saved = tmp_path / "saved"
    written, reference, ours = build_kind(kind)
    save_checkpoint(saved, load_model(str(written)))
    again = pytest.importorskip("gliclass").GLiClassModel.from_pretrained(saved).eval()
    rows = random_rows(ours.config, same_length=True)
    theirs = reference_scores(reference, rows)
    assert largest_difference(reference_scores(again, rows), theirs) < TOLERANCE
    assert largest_difference(scores(GLiClassModel.from_pretrained(saved), rows), theirs) < 1e-5
    names, own = (set(load_file(f / "model.safetensors")) for f in (written, saved))
    # What is added are the embeddings that the reference's encoder-decoders fail to tie.
    assert names <= own
    assert all(name.endswith("embed_tokens.weight") for name in own - names)


@pytest.mark.parametrize("kind", ["encoder-decoder", "encoder-decoder, BART"])
def test_new_word_embeddings_are_saved_wherever_they_are_shared(tmp_path, kind):
    backbone, fields = KINDS[kind]
    reference_checkpoint(tmp_path / "written", backbone, **fields)
    loaded = load_model(str(tmp_path / "written"))
    name = "encoder_decoder_model.shared.weight"
    before = loaded.network.state_dict()[name].clone()
    tuned = TunedWeights({name: before * 1.5}).apply(loaded)
    rows = random_rows(loaded.network.config)
    expected = scores(tuned.network, rows)
    assert largest_difference(scores(loaded.network, rows), expected) > 1e-3
    save_checkpoint(tmp_path / "model", tuned)
    again = GLiClassModel.from_pretrained(tmp_path / "model")
    assert largest_difference(scores(again, rows), expected) < TOLERANCE
    reference = pytest.importorskip("gliclass").GLiClassModel.from_pretrained(tmp_path / "model")
    reference = reference.eval()
    assert largest_difference(reference_scores(reference, rows), expected) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_told_from_backbones(build_kind, kind):
    _, _, ours = build_kind(kind)
    encoders = [ours.backbone]
    if hasattr(ours.model, "label_encoder"):
        encoders.append(ours.model.label_encoder)
    frozen = {id(p) for encoder in encoders for p in encoder.parameters()}
    heads = {
        id(p)
        for name, p in ours.named_parameters()
        if ours.model.is_head(name.removeprefix("model."))
    }
    assert not heads & frozen
    assert heads | frozen == {id(p) for p in ours.parameters()}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bi-encoder"])
def test_frozen_features_train_the_heads_after_them(build_kind, kind):
    _, _, ours = build_kind(kind)
    rows = random_rows(ours.config, n_labels=(2, 3, 1))
    inputs = batch(ours.config, rows)
    with torch.no_grad():
        features = ours.model.features(**inputs, max_num_classes=3)
        expected = ours(**inputs, max_num_classes=3).logits
    logits = ours.model.score(features).logits
    torch.testing.assert_close(logits, expected)
    logits.sum().backward()
    trained = {name for name, p in ours.model.named_parameters() if p.grad is not None}
    assert trained
    assert all(ours.model.is_head(name) for name in trained)


@half_slow(kind=list(KINDS))
def test_mixed_precision(build_kind, kind):
    folder, _, ours = build_kind(kind)
    inputs = batch(ours.config, random_rows(ours.config))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = ours(**inputs, labels=torch.ones(3, 3))
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)
    half = GLiClassModel.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.no_grad():
        assert half(**inputs).logits.isfinite().all()


@pytest.mark.parametrize("architecture", ["bi-encoder", "uni-encoder"])
def test_cosines_are_not_rounded_to_reduced_precision(tmp_path, architecture):
    reference_checkpoint(
        tmp_path, architecture_type=architecture, prompt_first=True, normalize_features=True
    )
    model = GLiClassModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    inputs = batch(model.config, random_rows(model.config))
    with torch.no_grad():
        output = model(**inputs, output_text_embeddings=True, output_class_embeddings=True)
    text, labels = output.text_embeddings, output.class_embeddings
    assert text.dtype == labels.dtype == output.logits.dtype == torch.float32
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(len(text)))
    labels = labels.expand(len(text), *labels.shape[-2:])
    cosines = torch.einsum("bd,bkd->bk", text, labels)
    scaled = cosines * model.model.logit_scale.float()
    kept = output.class_mask.bool()
    torch.testing.assert_close(output.logits[kept], scaled[kept], rtol=1e-5, atol=1e-5)


# What only a uni-encoder has.


@half_slow(kind=["bert", "modernbert", "t5"], layer=[0, 1, 2])
def test_heads_on_another_layer(tmp_path, kind, layer):
    reference, ours = build(tmp_path, kind, encoder_layer_id=layer, pooling_strategy="avg")
    # On its own the reference does not ask the backbone for its layers, and fails.
    assert_parity(reference, ours, random_rows(ours.config), output_hidden_states=True)
    with pytest.raises(TypeError):
        reference_scores(reference, random_rows(ours.config))


def test_uni_encoder_with_half_a_t5(tmp_path):
    reference, ours = build(tmp_path, "t5", pooling_strategy="avg", scorer_type="mlp")
    assert_parity(reference, ours, random_rows(ours.config))


@pytest.mark.parametrize("n_layers", [2, 3])
def test_squeezed_layers(tmp_path, n_layers):
    """The reference expects two layers and is given three, so that it fails; ours reads both."""
    reference, _ = reference_checkpoint(tmp_path, "bert", squeeze_layers=True)
    layers = type(reference.model.layer_wise_attention)(n_layers, WIDTH)
    reference.model.layer_wise_attention = layers
    reference.save_pretrained(tmp_path)
    ours = GLiClassModel.from_pretrained(tmp_path)
    assert ours.config.n_squeezed_layers == n_layers
    # The embeddings are the first hidden state, which the smaller one leaves out.
    layers.register_forward_pre_hook(lambda _, args: (args[0][-n_layers:],))
    assert_parity(reference, ours, random_rows(ours.config))
    ours.save_pretrained(tmp_path / "again")
    again = GLiClassModel.from_pretrained(tmp_path / "again")
    rows = random_rows(ours.config)
    np.testing.assert_array_equal(scores(again, rows), scores(ours, rows))


def test_squeezed_layers_cannot_be_run_by_the_reference(tmp_path):
    reference, ours = build(tmp_path, squeeze_layers=True)
    with pytest.raises(RuntimeError, match="shape"):
        reference_scores(reference, random_rows(ours.config))


# Losses.


def with_targets(config, rows, seed=0):
    inputs = batch(config, rows)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(len(rows), max(len(row.labels) for row in rows), generator=generator)
    return inputs, labels.round()


@pytest.mark.parametrize(
    ("backbone", "fields"),
    [
        ("bert", {}),
        ("bert", {"layer_wise": True}),
        ("bert", {"contrastive_loss_coef": 0.5}),
        ("bert", {"layer_wise": True, "contrastive_loss_coef": 0.5, "scorer_type": "mlp"}),
        ("bert", {"architecture_type": "bi-encoder", "contrastive_loss_coef": 0.5}),
        ("bert", {"architecture_type": "bi-encoder-fused"}),
        ("t5", {"architecture_type": "encoder-decoder", "contrastive_loss_coef": 0.5}),
        ("t5", {"architecture_type": "encoder-decoder-cls", "contrastive_loss_coef": 0.5}),
        ("qwen3", {"architecture_type": "decoder-kv"}),
    ],
    ids=str,
)
def test_losses_and_gradients(tmp_path, backbone, fields):
    # With as many labels in every row and no padding, the reference's losses are right.
    reference, ours = build(tmp_path, backbone, max_num_classes=3, **fields)
    rows = random_rows(ours.config, text_lengths=(9, 9), n_labels=(3, 3), same_length=True)
    inputs, labels = with_targets(ours.config, rows)
    theirs = reference(**inputs, labels=labels, max_num_classes=3)
    output = ours(**inputs, labels=labels)
    assert output.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    np.testing.assert_allclose(output.logits.detach(), theirs.logits.detach(), atol=TOLERANCE)
    output.loss.backward()
    theirs.loss.backward()
    gradients = {n: p.grad for n, p in reference.named_parameters() if p.grad is not None}
    found = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    assert found.keys() == gradients.keys()
    largest = max(g.abs().max().item() for g in gradients.values())
    for name, gradient in gradients.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-4 * largest, err_msg=name)


def test_layer_wise_loss_is_for_training_only(tmp_path):
    reference, ours = build(tmp_path, layer_wise=True, pooling_strategy="avg")
    assert_parity(reference, ours, random_rows(ours.config))


def test_classes_by_number_are_targets_too(tmp_path):
    _, ours = build(tmp_path)
    ours.config.problem_type = "single_label_classification"
    ours.config.focal_loss_gamma = 0
    rows = random_rows(ours.config)
    inputs = batch(ours.config, rows)
    with torch.no_grad():
        output = ours(**inputs, labels=torch.tensor([2, -100, 0]))
    expected = F.cross_entropy(output.logits[[0, 2]], torch.tensor([2, 0]))
    torch.testing.assert_close(output.loss, expected)


# Inputs and surroundings.


def test_missing_label_tokens_are_named(tmp_path):
    _, ours = build(tmp_path / "t5", "t5", architecture_type="encoder-decoder")
    with pytest.raises(ValueError, match="needs class_input_ids"):
        ours(torch.tensor([[5, 6]]))
    _, ours = build(tmp_path / "fused", architecture_type="bi-encoder-fused")
    with pytest.raises(ValueError, match="needs class_input_ids"):
        ours(torch.tensor([[5, 6]]))


@pytest.mark.parametrize("architecture", ENCODER_DECODERS)
def test_encoder_decoders_need_a_decoder(tmp_path, architecture):
    folder = encoder_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=f"'{architecture}' needs an encoder-decoder.*'bert'"):
        load_model(str(folder), architecture=architecture)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("bert", "bi-encoder"),
        ("bert", "bi-encoder-fused"),
        ("t5", "uni-encoder"),
        ("t5", "encoder-decoder"),
        ("t5", "encoder-decoder-cls"),
        ("bart", "encoder-decoder"),
        ("qwen3", "decoder-kv"),
    ],
)
def test_new_models_around_plain_backbones(tmp_path, kind, architecture):
    folder = encoder_checkpoint(tmp_path / "plain", kind)
    loaded = load_model(str(folder), architecture=architecture)
    assert not loaded.zero_shot
    config = loaded.network.config
    assert config.architecture_type == architecture
    if architecture == "bi-encoder":
        config.class_token_index = 100  # it has no markers; the rows only need some number
    rows = random_rows(config, same_length=True)
    before = scores(loaded.network, rows)
    assert np.ptp(np.concatenate(before)) > 1e-4
    state = torch.get_rng_state()
    save_checkpoint(tmp_path / "saved", loaded)
    again = load_model(str(tmp_path / "saved")).network
    assert torch.equal(torch.get_rng_state(), state)
    again.config.class_token_index = config.class_token_index
    assert largest_difference(scores(again, rows), before) < 1e-6
    reference = (
        pytest.importorskip("gliclass").GLiClassModel.from_pretrained(tmp_path / "saved").eval()
    )
    theirs = reference_scores(reference, rows)
    bias = config.logit_bias or 0.0
    assert largest_difference([row - bias for row in before], theirs) < TOLERANCE
