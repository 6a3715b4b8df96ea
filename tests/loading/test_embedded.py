"""The embedded model: what training changed in a backbone, packed in few bytes."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import sentence_transformer
from tokenizers import Tokenizer

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.engine.engine import Engine
from skgliclass.loading import embedded
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.embedded import build_embedded, pack
from skgliclass.loading.loaded import LoadedModel
from skgliclass.loading.loader import load_model
from skgliclass.loading.sources import EMBEDDED_HUB_ID, find_source
from skgliclass.modeling.bert import Bert
from skgliclass.pretraining.config import ModelConfig
from skgliclass.pretraining.initial import initial_model

TEXTS = ["One day I will see the world!", "the lazy dog", "music"]
LABELS = ["travel", "dreams", "sport"]


def tokenizer_of(source):
    return Tokenizer.from_file(str(source.folder / "tokenizer.json"))


def logits_of(loaded, texts=TEXTS):
    return Engine(loaded, max_length=64).logits(texts, LABELS)


@pytest.mark.parametrize("architecture", ["bi-encoder", "uni-encoder"])
def test_what_was_packed_comes_back(tmp_path, architecture):
    source = find_source(str(sentence_transformer(tmp_path / "backbone")))
    start = initial_model(ModelConfig(source.name, architecture), 0, "cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        changes = {
            name: 0.02 * torch.randn_like(value)
            for name, value in start.network.named_parameters()
            if "embeddings" not in name
        }
        trained = {
            name: value + changes.get(name, torch.zeros(()))
            for name, value in start.network.named_parameters()
        }
    config = start.network.config
    if config.label_model_name is not None:
        # As that of a checkpoint that was saved and loaded again.
        config.label_model_name = str(tmp_path / "checkpoint")
    pack(trained, config, source, tokenizer_of(source), tmp_path / "packed")
    assert "checkpoint" not in (tmp_path / "packed" / "config.json").read_text()
    tokenizer = tokenizer_of(source)
    model = build_embedded(source, tokenizer, torch.float32, tmp_path / "packed")
    for name, value in model.named_parameters():
        # Half a step of the row's 127, and what is not trained is the same to the bit.
        change = changes.get(name)
        if change is None:
            assert torch.equal(value, trained[name])
        elif change.ndim == 1:
            assert ((value - trained[name]).abs() <= change.abs() * 2**-8 + 1e-6).all()
        else:
            allowed = change.abs().amax(dim=-1, keepdim=True) / 254 + 1e-7
            assert ((value - trained[name]).abs() <= allowed).all()
    loaded = LoadedModel.of(
        model, tokenizer, tokenizer, zero_shot=True, name="packed", tokenizer_config={}
    )
    start.network.load_state_dict(trained, strict=False)
    expected = logits_of(start)
    assert start.network is not model
    np.testing.assert_allclose(logits_of(loaded), expected, atol=0.05)
    with torch.no_grad():
        for name, value in start.network.named_parameters():
            value.sub_(changes.get(name, torch.zeros(())))
    assert np.abs(logits_of(start) - expected).max() > 0.2


def test_weights_of_another_shape_are_refused(tmp_path):
    source = find_source(str(sentence_transformer(tmp_path / "backbone")))
    start = initial_model(ModelConfig(source.name, "bi-encoder"), 0, "cpu")
    name = "text_projector.linear_1.weight"
    with pytest.raises(ValueError, match=rf"{name} has the shape \(2, 3\), but"):
        pack(
            {name: torch.zeros(2, 3)},
            start.network.config,
            source,
            tokenizer_of(source),
            tmp_path / "packed",
        )


# The model in the package.


def test_mini_is_small_and_tells_no_paths():
    files = {path.name: path for path in embedded.FOLDER.iterdir()}
    assert set(files) == {"config.json", "changes.safetensors", "README.md"}
    assert files["changes.safetensors"].stat().st_size <= 12e6
    config = json.loads(files["config.json"].read_text())
    assert config["encoder_config"]["_name_or_path"] == ""
    assert {config["encoder_model_name"], config["label_model_name"]} == {EMBEDDED_HUB_ID}


def test_mini_is_the_backbone_with_the_changes():
    source = find_source("mini")
    base = load_file(source.folder / "model.safetensors")
    changes = load_file(embedded.FOLDER / "changes.safetensors")
    name = "encoder.layer.3.intermediate.dense.weight"
    stored = changes[f"model.encoder_model.{name}"]
    assert stored.dtype == torch.int8
    expected = base[name] + stored.float() * changes[f"model.encoder_model.{name}.step"]
    found = load_model("mini").network.state_dict()[f"encoder_model.{name}"]
    assert torch.equal(found, expected)
    assert not torch.equal(found, base[name])


def test_the_backbone_alone_is_found_by_its_own_name():
    raw, mini = load_model(EMBEDDED_HUB_ID), load_model("mini")
    assert np.abs(logits_of(raw) - logits_of(mini)).max() > 0.1
    other = load_model("mini", architecture="uni-encoder")
    assert not other.zero_shot
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(
        raw.network.encoder_model.state_dict()[words][:1000],
        other.network.encoder_model.state_dict()[words][:1000],
    )


@pytest.fixture(scope="module")
def saved_mini(tmp_path_factory):
    """The checkpoint that the embedded model is saved as."""
    folder = tmp_path_factory.mktemp("mini")
    save_checkpoint(folder, load_model("mini", device="cpu", dtype="float32"))
    return folder


def test_mini_saves_a_checkpoint_that_stands_alone(saved_mini):
    again = load_model(str(saved_mini))
    np.testing.assert_allclose(logits_of(again), logits_of(load_model("mini")), atol=1e-5)
    assert "/" not in json.loads((saved_mini / "config.json").read_text())["encoder_config"].get(
        "_name_or_path", ""
    )


def test_mini_tells_opinions_topics_and_intents():
    reviews = [
        "A gripping story with superb acting.",
        "Dull, far too long and badly written.",
        "I loved every minute of it.",
        "Don't waste your money on this.",
    ]
    clf = GLiClassClassifier(labels=["negative review", "positive review"])
    expected = ["positive review", "negative review"] * 2
    assert clf.predict(reviews).tolist() == expected
    requests = {
        "wake me up at seven": "set an alarm",
        "how many dollars is fifty euros": "convert currency",
        "is it going to rain on sunday": "weather forecast",
    }
    clf = GLiClassClassifier(labels=sorted(requests.values()))
    assert clf.predict(list(requests)).tolist() == list(requests.values())


def test_mini_takes_examples_and_reads_them():
    clf = GLiClassMultiLabelClassifier(labels=["zorp", "blik"])
    text = ["My parcel never arrived."]
    plain = clf.predict_proba(text)
    clf.set_params(examples=[("Where is my delivery?", ["zorp"])])
    shown = clf.predict_proba(text)
    assert (shown - plain)[0, 0] > (shown - plain)[0, 1]


# It is put together without transformers.


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_mini_is_to_the_bit_what_transformers_makes_of_its_checkpoint(saved_mini, dtype):
    mini = load_model("mini", device="cpu", dtype=dtype)
    whole = load_model(str(saved_mini), device="cpu", dtype=dtype)
    names = {name: value.shape for name, value in mini.network.named_parameters()}
    assert names == {name: value.shape for name, value in whole.network.named_parameters()}
    texts = [*TEXTS, "the lazy dog " * 15, ""]
    np.testing.assert_array_equal(logits_of(mini, texts), logits_of(whole, texts))
    ids, mask = torch.tensor([[101, 2003, 102], [101, 102, 0]]), torch.tensor([[1] * 3, [1, 1, 0]])
    inputs = {"input_ids": ids, "attention_mask": mask, "class_input_ids": ids}
    with torch.inference_mode():
        one, other = (m.network(**inputs, class_attention_mask=mask) for m in (mini, whole))
    assert torch.equal(one.logits, other.logits)
    np.testing.assert_array_equal(
        Engine(mini).text_vectors(texts), Engine(whole).text_vectors(texts)
    )


@pytest.mark.parametrize(
    ("model", "architecture", "is_ours"),
    [("mini", "auto", True), ("mini", "uni-encoder", False), (EMBEDDED_HUB_ID, "auto", False)],
)
def test_only_the_embedded_model_itself_has_a_backbone_of_ours(model, architecture, is_ours):
    network = load_model(model, architecture=architecture).network
    assert isinstance(network.backbone, Bert) == is_ours


@pytest.mark.slow
def test_a_first_prediction_imports_torch_alone_of_what_takes_long():
    code = (
        "import sys; from skgliclass import GLiClassClassifier;"
        "clf = GLiClassClassifier(labels=['travel', 'sport'], examples=[('a ball', 'sport')]);"
        "clf.predict(['The match was lost in the last minute.']); clf.embed(['text']);"
        "heavy = {'transformers', 'torch', 'torch._dynamo', 'sympy', 'sklearn.metrics'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert run.stdout.strip() == "['torch']"


@pytest.mark.slow
def test_what_predicted_can_be_fitted_pickled_and_saved(tmp_path):
    texts = ["the match was lost", "a goal in extra time", "the bank raised rates", "shares fell"]
    y = ["sport", "sport", "money", "money"]
    clf = GLiClassClassifier(
        labels=["money", "sport"], trainable="all", max_epochs=1, random_state=0
    )
    before = clf.predict_proba(texts)
    clf.fit(texts, y)
    after = clf.predict_proba(texts)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(clf)).predict_proba(texts), after, atol=1e-5
    )
    clf.save_pretrained(tmp_path / "saved")
    again = GLiClassClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(texts), after, atol=1e-5)
    GLiClassClassifier(labels=["money", "sport"]).save_pretrained(tmp_path / "zero")
    again = GLiClassClassifier.from_pretrained(tmp_path / "zero")
    np.testing.assert_allclose(again.predict_proba(texts), before, atol=1e-5)
