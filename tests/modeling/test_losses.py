import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skgliclass.modeling.losses import focal_loss, loss_weight

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(6, 5, generator=GENERATOR)
BINARY = (torch.rand(6, 5, generator=GENERATOR) < 0.4).float()
SOFT = torch.rand(6, 5, generator=GENERATOR)
ONE_HOT = F.one_hot(torch.tensor([0, 4, 2, 1, 3, 3]), 5).float()


def torchvision_focal(logits, targets, alpha, gamma):
    """The formula of torchvision.ops.sigmoid_focal_loss, written in numpy from its definition."""
    z, y = logits.double().numpy(), targets.double().numpy()
    p = 1 / (1 + np.exp(-z))
    cross_entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    p_t = p * y + (1 - p) * (1 - y)
    loss = cross_entropy * (1 - p_t) ** gamma
    if alpha is not None:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return loss.mean()


@pytest.mark.parametrize("targets", [BINARY, SOFT], ids=["binary", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.7])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
def test_sigmoid_form_equals_the_references(gamma, alpha, smoothing, targets):
    ours = focal_loss(
        LOGITS, targets, multi_label=True, gamma=gamma, alpha=alpha, label_smoothing=smoothing
    )
    theirs = pytest.importorskip("gliclass.loss_functions").focal_loss_with_logits(
        LOGITS, targets, -1 if alpha is None else alpha, gamma, "mean", smoothing
    )
    torch.testing.assert_close(ours, theirs)
    smoothed = targets * (1 - smoothing) + 0.5 * smoothing
    assert ours.item() == pytest.approx(torchvision_focal(LOGITS, smoothed, alpha, gamma), rel=1e-5)


def test_gamma_zero_is_cross_entropy():
    torch.testing.assert_close(
        focal_loss(LOGITS, BINARY, multi_label=True),
        F.binary_cross_entropy_with_logits(LOGITS, BINARY),
    )
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            focal_loss(LOGITS, ONE_HOT, multi_label=False, label_smoothing=smoothing),
            F.cross_entropy(LOGITS, ONE_HOT.argmax(dim=1), label_smoothing=smoothing),
        )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_softmax_form(gamma):
    p = LOGITS.double().softmax(dim=1)
    p_y = p[ONE_HOT.bool()]
    expected = (-((1 - p_y) ** gamma) * p_y.log()).mean()
    ours = focal_loss(LOGITS, ONE_HOT, multi_label=False, gamma=gamma)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_masked_labels_have_no_influence(multi_label, gamma):
    """An example counts the same whatever its batch mates' numbers of labels are."""
    rows = [(LOGITS[0, :2], ONE_HOT[0, :2]), (LOGITS[2], ONE_HOT[2])]
    logits, targets, mask = torch.full((2, 5), 99.0), torch.zeros(2, 5), torch.zeros(2, 5)
    for i, (z, y) in enumerate(rows):
        logits[i, : len(z)], targets[i, : len(z)], mask[i, : len(z)] = z, y, 1
    together = focal_loss(
        logits, targets, multi_label=multi_label, gamma=gamma, label_smoothing=0.1, mask=mask
    )
    alone = [
        focal_loss(z[None], y[None], multi_label=multi_label, gamma=gamma, label_smoothing=0.1)
        for z, y in rows
    ]
    sizes = torch.tensor([2.0, 5.0]) if multi_label else torch.ones(2)
    torch.testing.assert_close(together, (torch.stack(alone) * sizes).sum() / sizes.sum())


@pytest.mark.parametrize("multi_label", [True, False])
def test_weights(multi_label):
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 1.0])
    weighted = focal_loss(LOGITS, ONE_HOT, multi_label=multi_label, gamma=1.0, weight=weight)
    rows = [0, 2, 2, 5]
    repeated = focal_loss(LOGITS[rows], ONE_HOT[rows], multi_label=multi_label, gamma=1.0)
    torch.testing.assert_close(weighted, repeated)


@pytest.mark.parametrize("multi_label", [True, False])
def test_micro_batches_add_up_to_the_batch(multi_label):
    weight = torch.rand(6, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(6, 5)
    whole = focal_loss(LOGITS, ONE_HOT, multi_label=multi_label, weight=weight)
    total = loss_weight(mask, multi_label=multi_label, weight=weight)
    parts = sum(
        focal_loss(
            LOGITS[part],
            ONE_HOT[part],
            multi_label=multi_label,
            weight=weight[part],
            normalizer=total,
        )
        for part in (slice(0, 1), slice(1, 4), slice(4, 6))
    )
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_stay_finite(multi_label, gamma):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    loss = focal_loss(
        logits, targets, multi_label=multi_label, gamma=gamma, mask=torch.tensor([[1, 1, 0]] * 2)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 2] == 0).all()
