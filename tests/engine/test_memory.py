"""Where memory does not suffice for a batch, less is run at a time, with the same result."""

import numpy as np
import pytest
import torch
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier
from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.modeling.losses import LossOptions
from skgliclass.modeling.memory import is_out_of_memory
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import Run
from skgliclass.training.options import TrainingOptions

TEXTS, Y = toy(21)
ERRORS = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "python": MemoryError(),
}


@pytest.fixture(scope="module", params=["uni", "bi", "fused"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bi":
        return str(sentence_transformer(folder))
    architecture = "bi-encoder-fused" if request.param == "fused" else "uni-encoder"
    reference_checkpoint(folder, architecture_type=architecture)
    return str(folder)


def limit_memory(monkeypatch, n_rows, error=ERRORS["cpu"]):
    """Let memory suffice for so many sequences at a time; note how many were run."""
    embed, seen = torch.nn.functional.embedding, []

    def limited(ids, *args, **kwargs):
        # Those of sequences: positions and kinds of tokens have one row for all.
        if ids.dim() == 2:
            seen.append(len(ids))
            if len(ids) > n_rows:
                raise error
        return embed(ids, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "embedding", limited)
    return seen


@pytest.mark.parametrize("kind", ERRORS)
def test_what_says_that_memory_is_short(kind):
    assert is_out_of_memory(ERRORS[kind])


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyboardInterrupt()]
)
def test_what_does_not(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("n_rows", [1, pytest.param(2, marks=pytest.mark.slow), 5])
def test_a_prediction_halves_its_batches(model, monkeypatch, n_rows):
    engine = Engine(load_model(model, device="cpu"), n_jobs=1)
    expected = engine.logits(TEXTS, LABELS), engine.text_vectors(TEXTS)
    fresh = Engine(load_model(model, device="cpu"), n_jobs=1)
    fresh.loaded.prepared.keep(("vectors", fresh.max_length, tuple(LABELS)), None)
    seen = limit_memory(monkeypatch, n_rows)
    np.testing.assert_allclose(fresh.logits(TEXTS, LABELS), expected[0], atol=1e-5)
    np.testing.assert_allclose(fresh.text_vectors(TEXTS), expected[1], atol=1e-5)
    assert max(seen) > n_rows
    # What was too much once is not tried again.
    seen.clear()
    fresh.logits(TEXTS, LABELS)
    assert max(seen) <= n_rows


@pytest.mark.parametrize(("kind", "n_jobs"), [("cuda", 1), ("cpu", 2), ("python", 1)])
def test_one_row_that_is_too_much_names_max_length(model, monkeypatch, kind, n_jobs):
    clf = GLiClassClassifier(model, LABELS, n_jobs=n_jobs)
    limit_memory(monkeypatch, 0, ERRORS[kind])
    with pytest.raises(MemoryError, match="max_length"):
        clf.predict(["another text", "and another"])


def test_other_errors_pass(model, monkeypatch):
    clf = GLiClassClassifier(model, LABELS, trainable="all", max_epochs=0).fit(TEXTS, Y)
    seen = limit_memory(monkeypatch, 0, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        clf.predict(TEXTS)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        clf.set_params(max_epochs=1).fit(TEXTS, Y)
    assert len(seen) < 5


# Training.


def gradients(model, trainable):
    """Give the gradients of one batch, without the noise of dropout."""
    engine = Engine(load_model(model, device="cpu"))
    matrix = np.eye(3, dtype=np.float32)[np.arange(21) % 3]
    data = make_training_set(engine, TEXTS, LABELS, LabelledRows.shared(matrix))
    options = TrainingOptions(multi_label=False, trainable=trainable, loss=LossOptions())
    run = Run(engine, data, options)
    run.trainable.train = lambda: run.model.eval()
    run.optimizer.step = run.scheduler.step = lambda: None
    loss = run.step(np.arange(21))
    return loss, [p.grad for p in run.trainable.parameters() if p.grad is not None]


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_step_in_smaller_micro_batches_is_the_same(model, monkeypatch, trainable):
    loss, expected = gradients(model, trainable)
    seen = limit_memory(monkeypatch, 3)
    less_loss, less = gradients(model, trainable)
    assert max(seen) > 3
    assert less_loss == pytest.approx(loss, rel=1e-5)
    assert len(less) == len(expected)
    for a, b in zip(less, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_backward_pass_that_fails_is_begun_anew(model, monkeypatch):
    """What it left in the gradients before it failed must not count twice."""
    _, expected = gradients(model, "all")
    backward, calls = torch.Tensor.backward, []

    def fail_after(self, *args, **kwargs):
        backward(self, *args, **kwargs)
        calls.append(self)
        if len(calls) == 1:
            raise ERRORS["cuda"]

    monkeypatch.setattr(torch.Tensor, "backward", fail_after)
    _, again = gradients(model, "all")
    assert len(calls) > 2
    for a, b in zip(again, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_one_row_that_is_too_much_for_training_names_what_to_lower(model, monkeypatch, trainable):
    clf = GLiClassClassifier(model, LABELS, trainable=trainable, max_epochs=1, random_state=0)
    clf.fit(TEXTS, Y)
    state = clf._fit_state
    limit_memory(monkeypatch, 0)
    with pytest.raises(MemoryError, match="max_length or batch_size"):
        clf.fit(TEXTS, Y)
    assert clf._fit_state is state
