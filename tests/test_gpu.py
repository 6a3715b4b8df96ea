"""What a GPU gives beside what the CPU gives; run by ``pytest --device cuda tests/test_gpu.py``."""

import pickle

import numpy as np
import pytest
import torch
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier

TEXTS, Y = toy(24)


@pytest.fixture(scope="module")
def device(request):
    name = request.config.getoption("--device")
    if not name:
        pytest.skip("needs --device")
    return name


@pytest.fixture(scope="module", params=["bert", "modernbert", "deberta-v2", "bi-encoder"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "bi-encoder":
        return str(sentence_transformer(folder))
    reference_checkpoint(folder, request.param)
    return str(folder)


def on(device, model, dtype="float32", **options):
    return GLiClassClassifier(model, LABELS, device=device, dtype=dtype, random_state=0, **options)


def largest_difference(got, expected):
    return np.abs(got - expected).max() / max(1.0, np.abs(expected).max())


def test_float32_gives_the_logits_of_the_cpu(model, device):
    expected = on("cpu", model).decision_function(TEXTS)
    assert largest_difference(on(device, model).decision_function(TEXTS), expected) < 1e-4


def test_bfloat16_stays_close(model, device):
    expected = on("cpu", model).decision_function(TEXTS)
    got = on(device, model, "bfloat16").decision_function(TEXTS)
    assert largest_difference(got, expected) < 0.1


def test_a_row_does_not_depend_on_its_neighbours(model, device):
    clf = on(device, model)
    together = clf.decision_function([*TEXTS, "a longer text " * 3])
    assert largest_difference(clf.decision_function(TEXTS[:1])[0], together[0]) < 1e-4


def test_training_learns_and_what_it_learnt_moves_to_a_cpu(model, device):
    options = {"trainable": "all", "max_epochs": 6, "learning_rate": 3e-3, "batch_size": 8}
    clf = on(device, model, **options).fit(TEXTS, Y)
    assert min(clf.loss_curve_) < clf.loss_curve_[0]
    expected = clf.decision_function(TEXTS)
    moved = pickle.loads(pickle.dumps(clf)).set_params(device="cpu")
    assert largest_difference(moved.decision_function(TEXTS), expected) < 1e-4


def test_label_vectors_alone_are_learnt_as_on_a_cpu(model, device):
    got, expected = (
        on(name, model, trainable="labels").fit(TEXTS, Y).decision_function(TEXTS)
        for name in (device, "cpu")
    )
    assert largest_difference(got, expected) < 1e-2


def test_memory_that_does_not_suffice_is_survived(model, device):
    if device == "cpu":
        pytest.skip("needs memory that can be limited")
    clf = on(device, model)
    texts = [f"{number} {text} " * 20 for number in range(100) for text in TEXTS]
    expected = clf.decision_function(texts)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_allocated(device) + (30 << 20)
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        got = clf.decision_function(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert largest_difference(got, expected) < 1e-4
