"""What training and its result share with the model that they start from."""

import copy
import gc

import numpy as np
import pytest
import torch
from tiny import encoder_checkpoint, reference_checkpoint
from torch import nn
from toy import LABELS, toy

from skgliclass import GLiClassClassifier
from skgliclass.loading import loader
from skgliclass.loading.cache import ModelCache
from skgliclass.loading.loader import load_model
from skgliclass.training.trainable import training_copy
from skgliclass.training.tuned_weights import TunedWeights, copy_with

CHOICES = ["all", "layers", "head", "lora"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    reference_checkpoint(path, architecture_type="bi-encoder", pooling_strategy="avg")
    return str(path)


def n_bytes(tensors):
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()
    )


def bytes_in_memory():
    gc.collect()
    # Exactly these types: what other tests traced holds tensors without any memory.
    kinds = torch.Tensor, torch.nn.Parameter
    return n_bytes(o for o in gc.get_objects() if type(o) in kinds)


def places(network):
    return {name: p.data_ptr() for name, p in network.named_parameters()}


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_process_holds_what_did_not_change_once(folder, trainable, monkeypatch):
    monkeypatch.setattr(loader, "MODELS", ModelCache())
    texts, y = toy()
    before = bytes_in_memory()
    clf = GLiClassClassifier(folder, LABELS, max_epochs=1, trainable=trainable, random_state=0)
    clf.predict(texts)
    network = load_model(folder).network
    pretrained = n_bytes([*network.parameters(), *network.buffers()])
    assert bytes_in_memory() - before < pretrained + 10_000
    clf.fit(texts, y)
    clf.predict(texts)
    changed = n_bytes(clf._fit_state.weights.replaced.values())
    assert changed > 20_000
    assert bytes_in_memory() - before < pretrained + changed + 20_000


@pytest.mark.parametrize("which", CHOICES)
def test_a_training_copy_shares_what_does_not_change(folder, which):
    network = load_model(folder).network
    values = copy.deepcopy(network.state_dict())
    training = training_copy(network, which, lora_rank=2)
    changing = {id(p) for p in training.parameters()}
    shared = set(places(network).values())
    for name, parameter in training.network.named_parameters():
        assert (parameter.data_ptr() in shared) == (id(parameter) not in changing), name
        assert parameter.requires_grad == (id(parameter) in changing), name
    training.train()
    with torch.no_grad():
        for parameter in training.parameters():
            parameter.add_(1.0)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, values[name]) for name, value in network.state_dict().items())


def test_a_training_copy_is_in_float32(folder):
    network = load_model(folder, dtype="bfloat16").network
    training = training_copy(network, "head", lora_rank=2)
    assert {p.dtype for p in training.network.parameters()} == {torch.float32}
    assert network.dtype == torch.bfloat16


def test_an_adapter_stays_out_of_the_shared_modules(folder):
    network = load_model(folder).network
    names = [name for name, _ in network.named_modules()]
    training_copy(network, "lora", lora_rank=2)
    assert [name for name, _ in network.named_modules()] == names


def test_tuned_weights_become_the_parameters(folder):
    loaded = load_model(folder)
    name = "text_projector.linear_1.weight"
    value = torch.ones_like(loaded.network.get_parameter(name))
    tuned = TunedWeights({name: value})
    applied = tuned.apply(loaded)
    expected = places(loaded.network) | {name: value.data_ptr()}
    assert places(applied.network) == expected
    assert tuned.apply(loaded) is applied
    assert applied.prepared is not loaded.prepared
    other = load_model(folder, dtype="bfloat16")
    assert tuned.apply(other).network.dtype == torch.bfloat16


def test_tied_weights_stay_tied(tmp_path):
    folder = encoder_checkpoint(tmp_path, "t5")
    network = load_model(str(folder), architecture="encoder-decoder").network
    training = training_copy(network, "all", lora_rank=2)
    backbone = training.network.backbone
    assert backbone.shared.weight is backbone.encoder.embed_tokens.weight
    assert backbone.shared.weight.data_ptr() != network.backbone.shared.weight.data_ptr()


def test_repeated_low_rank_updates_add_up_and_do_not_grow():
    rng = torch.Generator().manual_seed(0)
    total, weights = torch.zeros(6, 4), TunedWeights()
    for _ in range(5):
        left, right = torch.randn(6, 2, generator=rng), torch.randn(2, 4, generator=rng)
        total += left @ right
        weights = weights.then(TunedWeights(low_rank={"a": (left, right)}))
    left, right = weights.low_rank["a"]
    assert left.shape[1] <= 4
    np.testing.assert_allclose(left @ right, total, atol=1e-5)


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_weights_of_another_model_are_refused(tmp_path, trainable):
    if trainable == "lora":
        pytest.importorskip("peft")
    for name, kind in (("first", "bert"), ("second", "deberta-v2")):
        reference_checkpoint(tmp_path / name, kind)
    texts, y = toy(3)
    clf = GLiClassClassifier(str(tmp_path / "first"), trainable=trainable, max_epochs=1)
    clf.fit(texts, y).set_params(model=str(tmp_path / "second"))
    with pytest.raises(ValueError, match=r"another model than '.*second'"):
        clf.predict(texts)
    clf.set_params(warm_start=True)
    with pytest.raises(ValueError, match="another model"):
        clf.fit(texts, y)
    clf.set_params(warm_start=False).fit(texts, y).predict(texts)


def test_a_copy_is_what_a_deep_copy_is_but_for_its_parameters():
    shared, table = nn.Linear(3, 3), {}
    module = nn.ModuleDict({"a": nn.Sequential(shared, nn.LSTM(3, 3)), "b": shared})
    module.register_buffer("steps", torch.arange(3))
    module.first, module["a"].second, module.elsewhere = table, table, [shared]
    module["a"].register_forward_hook(lambda _, inputs, output: (output[0] + 1, output[1]))
    copied = copy_with(module, lambda _, p: nn.Parameter(2 * p))
    names = [name for name, _ in module.named_modules(remove_duplicate=False)]
    assert [name for name, _ in copied.named_modules(remove_duplicate=False)] == names
    assert not {id(m) for m in module.modules()} & {id(m) for m in copied.modules()}
    assert copied["a"][0] is copied["b"] is copied.elsewhere[0]
    # Changed in one, the others stay as they are.
    assert copied.first is copied["a"].second is not table
    copied["b"].register_forward_hook(lambda *_: None)
    assert not shared._forward_hooks
    assert copied.steps is module.steps
    for before, after in zip(module.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(after, 2 * before)
    expected = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter *= 2
        x = torch.ones(2, 3)
        torch.testing.assert_close(copied["a"](x)[0], expected["a"](x)[0])
