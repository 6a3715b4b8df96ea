import numpy as np
import pytest
import torch
from tiny import encoder_checkpoint

from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.training import loop as training
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import TrainingOptions, train
from skgliclass.training.optimizer import RowwiseAdamW, clip_gradients

SHAPE = 40, 3


def gradients(seed, n_steps=12, n_used=8, n_rows=4):
    """Give for every step the rows that have a gradient, and the gradient."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(n_steps):
        rows = torch.randint(n_used, (n_rows,), generator=draw)
        yield rows, torch.randn(n_rows, SHAPE[1], generator=draw)


def as_sparse(rows, values):
    return torch.sparse_coo_tensor(rows[None], values, SHAPE, check_invariants=True).coalesce()


def make(kind, **more):
    torch.manual_seed(3)
    parameter = torch.nn.Parameter(torch.randn(SHAPE))
    groups = [{"params": [parameter], "weight_decay": 0.0, "lr": 0.1}]
    return parameter, kind(groups, fused=True, **more)


@pytest.mark.parametrize("n_used", [2, 8, 40])
def test_sparse_gradients_have_the_result_of_dense_ones(n_used):
    ours, rowwise = make(RowwiseAdamW)
    theirs, reference = make(torch.optim.AdamW)
    before = ours.detach().clone()
    for step, gradient in enumerate(gradients(0, n_used=n_used)):
        for group in (rowwise.param_groups[0], reference.param_groups[0]):
            group["lr"] = 0.1 / (step + 1)
        ours.grad, theirs.grad = as_sparse(*gradient), as_sparse(*gradient).to_dense()
        rowwise.step()
        reference.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert torch.equal(ours[n_used:], before[n_used:])
    # Few rows stay few; many are updated as a whole.
    assert ("row_avg" in rowwise.state[ours]) == (n_used <= 8)


def test_dense_and_sparse_gradients_may_alternate():
    ours, rowwise = make(RowwiseAdamW)
    theirs, reference = make(torch.optim.AdamW)
    for step, gradient in enumerate(gradients(0)):
        dense = as_sparse(*gradient).to_dense()
        ours.grad, theirs.grad = dense.clone() if step % 3 == 2 else as_sparse(*gradient), dense
        rowwise.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_step_without_a_gradient_changes_nothing():
    parameter, rowwise = make(RowwiseAdamW)
    parameter.grad = as_sparse(*next(gradients(0)))
    rowwise.step()
    before = parameter.detach().clone()
    rowwise.step()
    assert torch.equal(parameter, before)


def test_a_stored_state_goes_on_to_the_bit():
    steps = list(gradients(0))
    whole, rowwise = make(RowwiseAdamW)
    for gradient in steps:
        whole.grad = as_sparse(*gradient)
        rowwise.step()
    first, one = make(RowwiseAdamW)
    for gradient in steps[:5]:
        first.grad = as_sparse(*gradient)
        one.step()
    second, two = make(RowwiseAdamW)
    second.data.copy_(first.data)
    two.load_state_dict(one.state_dict())
    for gradient in steps[5:]:
        second.grad = as_sparse(*gradient)
        two.step()
    assert torch.equal(second, whole)


def test_weight_decay_of_sparse_gradients_is_an_error():
    parameter = torch.nn.Parameter(torch.zeros(SHAPE))
    parameter.grad = as_sparse(*next(gradients(0)))
    with pytest.raises(ValueError, match="weight decay"):
        RowwiseAdamW([parameter], weight_decay=0.1).step()


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_gradients_are_clipped_as_by_torch(max_norm):
    pairs = []
    for sparse in (True, False):
        table, other = torch.nn.Parameter(torch.zeros(SHAPE)), torch.nn.Parameter(torch.zeros(5))
        gradient = as_sparse(*next(gradients(1)))
        table.grad = gradient if sparse else gradient.to_dense()
        other.grad = torch.arange(5.0)
        unused = torch.nn.Parameter(torch.zeros(2))
        pairs.append((table, other, unused))
    ours, theirs = pairs
    clip_gradients(ours, max_norm)
    torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    torch.testing.assert_close(ours[0].grad.to_dense(), theirs[0].grad)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad)


def test_training_keeps_the_vectors_of_words_that_no_text_has(tmp_path, monkeypatch):
    engine = Engine(load_model(str(encoder_checkpoint(tmp_path))))
    texts, labels = ["one day the world", "the quick fox"] * 4, ["travel", "sport"]
    found = []
    for many_rows in (1, 10**9):
        monkeypatch.setattr(training, "MANY_ROWS", many_rows)
        data = make_training_set(
            engine, texts, labels, LabelledRows.shared(np.eye(2, dtype=np.float32)[[0, 1] * 4])
        )
        options = TrainingOptions(
            multi_label=False, max_epochs=3, batch_size=4, precision="float32"
        )
        found.append(train(engine, data, options).weights.replaced)
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=2e-5)
    (name,) = (n for n in found[0] if n.endswith("word_embeddings.weight"))
    before = dict(engine.loaded.network.named_parameters())[name]
    vocabulary = engine.loaded.raw_text_tokenizer.get_vocab()
    for result in found:
        assert torch.equal(result[name][vocabulary["music"]], before[vocabulary["music"]])
        assert not torch.equal(result[name][vocabulary["fox"]], before[vocabulary["fox"]])
