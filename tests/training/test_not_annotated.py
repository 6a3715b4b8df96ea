"""Text-label pairs that nobody annotated stay out of the loss and its gradient."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from test_training import LABELS, options, toy
from tiny import reference_checkpoint, sentence_transformer

from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import Run, train

AVERAGED = {"pooling_strategy": "avg"}
ARCHITECTURES = {
    "uni-encoder": ("bert", {}),
    "bi-encoder": ("bert", AVERAGED),
    "bi-encoder-fused": ("bert", AVERAGED),
    "encoder-decoder": ("t5", AVERAGED),
    "encoder-decoder-cls": ("t5", {}),
    "decoder-kv": ("qwen3", {}),
}
ROWS = np.arange(6)
NOT_ANNOTATED = np.zeros((6, 3), dtype=bool)
NOT_ANNOTATED[[0, 0, 1, 3, 3, 3], [0, 2, 1, 0, 1, 2]] = True


@pytest.fixture(scope="module", params=ARCHITECTURES)
def engine(request, tmp_path_factory):
    kind, fields = ARCHITECTURES[request.param]
    folder = tmp_path_factory.mktemp("model")
    fields = {"architecture_type": request.param, "dropout": 0.0, **fields}
    reference_checkpoint(folder, kind, n_layers=1, **fields)
    return Engine(load_model(str(folder)))


def training_on(engine, matrix, **changes):
    texts, _ = toy(len(matrix))
    label_weights = changes.pop("label_weights", None)
    weights = changes.pop("weights", None)
    rows = changes.pop("rows", None) or LabelledRows.shared(matrix)
    data = make_training_set(
        engine, texts, LABELS, rows, weights=weights, label_weights=label_weights
    )
    values = {"multi_label": True, "shuffle_labels": False, "max_grad_norm": 1e9, **changes}
    training = Run(engine, data, options(**values))
    training.trainable.train = training.model.eval
    training.optimizer.step = training.scheduler.step = lambda: None
    return training


def gradients(training):
    return {n: p.grad.clone() for n, p in training.model.named_parameters() if p.grad is not None}


def reference(training, matrix, weights):
    """Give the loss without the cells by numpy, and send its gradient through the network."""
    training.optimizer.zero_grad(set_to_none=True)
    known = ~np.isnan(matrix)
    weights = weights * known
    loss = 0.0
    for part in list(training.steps.prepare(ROWS)):
        (scores,) = training.steps.scores(part)
        z = scores.logits.detach().numpy().astype(np.float64)
        y, w = np.nan_to_num(matrix[part.rows]), weights[part.rows] / weights.sum()
        loss += (w * (np.logaddexp(0, z) - y * z)).sum()
        scores.logits.backward(torch.from_numpy((w * (expit(z) - y)).astype(np.float32)))
        training.steps.finish()
    return loss, gradients(training)


def half_known():
    matrix = np.random.default_rng(0).choice([0, 1, 0.3], size=(6, 3)).astype(np.float32)
    matrix[NOT_ANNOTATED] = np.nan
    return matrix


@pytest.mark.parametrize(
    ("trainable", "label_weights"),
    [("all", None), ("head", np.array([1, 2, 0.5], dtype=np.float32))],
)
def test_loss_and_gradient_are_those_without_the_cells(engine, trainable, label_weights):
    matrix, weights = half_known(), np.array([1, 2, 1, 1, 0.5, 3], dtype=np.float32)
    training = training_on(
        engine, matrix, weights=weights, label_weights=label_weights, trainable=trainable
    )
    loss = training.step(ROWS)
    found = gradients(training)
    of_pairs = weights[:, None] * (np.ones(3) if label_weights is None else label_weights)
    expected_loss, expected = reference(training, matrix, of_pairs)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)


def test_rows_with_labels_of_their_own_may_be_annotated_in_part(engine):
    matrix = half_known()
    rows = LabelledRows.ragged([[0, 1, 2]] * 6, matrix.tolist())
    ragged, shared = training_on(engine, matrix, rows=rows), training_on(engine, matrix)
    assert ragged.step(ROWS) == pytest.approx(shared.step(ROWS), rel=1e-6)


def test_a_batch_without_an_annotation_changes_nothing(engine):
    matrix = np.full((6, 3), np.nan, dtype=np.float32)
    training = training_on(engine, matrix)
    assert training.step(ROWS) == 0
    assert not gradients(training)


def test_focal_loss_and_smoothing_keep_the_cells_out(engine):
    changes = {"focal_gamma": 2.0, "focal_alpha": 0.3, "label_smoothing": 0.1}
    matrix = half_known()
    texts, _ = toy(6)
    rows = LabelledRows.shared(matrix)
    data = make_training_set(engine, texts, LABELS, rows)
    loss = type(options().loss)(**changes)
    result = train(engine, data, options(multi_label=True, max_epochs=2, loss=loss))
    assert np.isfinite(result.loss_curve).all()


def test_of_many_labels_the_annotated_ones_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("skgliclass.training.apart.MAX_LABELS_A_STEP", 6)
    engine = Engine(load_model(str(sentence_transformer(tmp_path, n_layers=1))))
    labels = [*LABELS, *(f"label number {i}" for i in range(40))]
    texts, targets = toy(6)
    matrix = np.full((6, 43), np.nan, dtype=np.float32)
    matrix[:, :3], matrix[:, 10:13] = targets, 0
    data = make_training_set(engine, texts, labels, LabelledRows.shared(matrix))
    training = Run(engine, data, options(multi_label=True))
    for part in training.steps.prepare(ROWS):
        assert part.labels.tolist() == [0, 1, 2, 10, 11, 12]
        assert part.annotated.all()


def test_labels_that_do_not_fit_are_left_out_the_unknown_ones_first():
    from skgliclass.training.data import choose_labels

    targets = np.array([np.nan, 0, 1, np.nan, 0.2], dtype=np.float32)
    rng, lengths = np.random.default_rng(0), np.full(5, 2)
    assert choose_labels(targets, lengths, 6, rng, False).tolist() == [1, 2, 4]
