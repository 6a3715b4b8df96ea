import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skgliclass.modeling.features import Scores
from skgliclass.modeling.losses import (
    LossOptions,
    contrastive_loss,
    focal_loss,
    loss_weight,
    mixed_loss,
    total_loss,
)

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


# Batches that mix both kinds of targets.

KINDS = torch.tensor([True, False, True, False, True, False])
MASK = torch.arange(5) < torch.tensor([5, 3, 4, 2, 1, 5])[:, None]
ROW_WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.25, 3.0])


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_mixed_loss_is_the_mean_of_each_rows_own_loss(alpha):
    targets = ONE_HOT * MASK
    options = {"gamma": 1.0, "alpha": alpha, "label_smoothing": 0.1}
    rows = torch.stack(
        [
            focal_loss(
                LOGITS[i : i + 1, MASK[i]],
                targets[i : i + 1, MASK[i]],
                multi_label=bool(KINDS[i]),
                **options,
            )
            for i in range(6)
        ]
    )
    weighted = mixed_loss(LOGITS, targets, KINDS, mask=MASK, weight=ROW_WEIGHTS, **options)
    torch.testing.assert_close(weighted, (rows * ROW_WEIGHTS).sum() / ROW_WEIGHTS.sum())
    torch.testing.assert_close(
        mixed_loss(LOGITS, targets, KINDS, mask=MASK, normalizer=4.0, **options), rows.sum() / 4
    )


def test_mixed_loss_by_default_is_cross_entropy():
    every_label = mixed_loss(LOGITS, ONE_HOT, KINDS)
    expected = torch.where(
        KINDS,
        F.binary_cross_entropy_with_logits(LOGITS, ONE_HOT, reduction="none").mean(dim=1),
        F.cross_entropy(LOGITS, ONE_HOT, reduction="none"),
    )
    torch.testing.assert_close(every_label, expected.mean())


def test_a_text_without_labels_has_no_influence_on_mixed_loss():
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[[0, 1]] = False
    found = mixed_loss(LOGITS, ONE_HOT, KINDS, mask=mask)
    torch.testing.assert_close(found, mixed_loss(LOGITS[2:], ONE_HOT[2:], KINDS[2:]))


@pytest.mark.parametrize("loss", ["focal", "mixed"])
def test_half_precision_is_not_rounded_again(loss):
    logits, targets = LOGITS.bfloat16(), SOFT.bfloat16()
    if loss == "focal":
        half = focal_loss(logits, targets, multi_label=True)
        full = focal_loss(logits.float(), targets.float(), multi_label=True)
    else:
        half = mixed_loss(logits, targets, KINDS)
        full = mixed_loss(logits.float(), targets.float(), KINDS)
    assert half.dtype == torch.float32
    assert half.item() == full.item()


# Label vectors that are kept apart.


def test_contrastive_loss_does_not_depend_on_neighbours():
    vectors = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    cosines = [F.normalize(v[m.bool()], dim=-1) for v, m in zip(vectors, mask, strict=True)]
    rows = [F.cross_entropy(c @ c.T, torch.arange(len(c)), reduction="sum") for c in cosines]
    expected = (rows[0] + rows[1]) / 6
    torch.testing.assert_close(contrastive_loss(vectors, mask), expected)
    # Of no label there is nothing to divide by.
    assert contrastive_loss(vectors, torch.zeros(2, 4)).item() == 0
    torch.testing.assert_close(
        contrastive_loss(vectors.bfloat16(), mask),
        contrastive_loss(vectors.bfloat16().float(), mask),
        rtol=0,
        atol=0,
    )


# What training minimises.


def scores_of(logits, seed):
    vectors = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(seed))
    return Scores(logits, torch.zeros(6, 8), vectors, MASK)


@pytest.mark.parametrize("multi_label", [True, False, KINDS], ids=["multi", "single", "mixed"])
def test_total_loss_adds_layers_and_label_vectors(multi_label):
    layers = [scores_of(LOGITS, 0), scores_of(LOGITS.flip(0), 1)]
    how = {"mask": MASK, "weight": ROW_WEIGHTS}
    options = LossOptions(focal_gamma=1.5, focal_alpha=0.3, label_smoothing=0.2)
    values = {"gamma": 1.5, "alpha": 0.3, "label_smoothing": 0.2}
    if isinstance(multi_label, bool):
        kind = {"multi_label": multi_label}
        parts = [focal_loss(s.logits, ONE_HOT, **kind, **values, **how) for s in layers]
    else:
        kind = {"multi_label": False}
        parts = [mixed_loss(s.logits, ONE_HOT, multi_label, **values, **how) for s in layers]
    apart = sum(contrastive_loss(s.class_embeddings, s.class_mask) for s in layers)
    for coef in (0.0, 0.1, 2.0):
        found = total_loss(
            layers, ONE_HOT, options, multi_label=multi_label, contrastive_coef=coef, **how
        )
        torch.testing.assert_close(found, sum(parts) + coef * apart)
    # A micro-batch counts by its share of the batch, its label vectors too.
    weight = loss_weight(MASK, **kind, weight=ROW_WEIGHTS)
    part_of_batch = total_loss(
        layers,
        ONE_HOT,
        options,
        multi_label=multi_label,
        contrastive_coef=0.1,
        normalizer=4 * weight,
        **how,
    )
    torch.testing.assert_close(part_of_batch, (sum(parts) + 0.1 * apart) / 4)


def test_total_loss_leaves_label_vectors_alone_by_default():
    (layer,) = [scores_of(LOGITS, 0)]
    found = total_loss([layer], ONE_HOT, LossOptions(), multi_label=True, mask=MASK)
    torch.testing.assert_close(found, focal_loss(LOGITS, ONE_HOT, multi_label=True, mask=MASK))


@pytest.mark.parametrize("multi_label", [True, False])
def test_weights_of_pairs(multi_label):
    pairs = torch.rand(6, 5, generator=torch.Generator().manual_seed(2))
    found = focal_loss(LOGITS, ONE_HOT, multi_label=multi_label, weight=pairs, mask=MASK)
    if multi_label:
        cells = F.binary_cross_entropy_with_logits(LOGITS, ONE_HOT, reduction="none")
        expected = (cells * pairs * MASK).sum() / (pairs * MASK).sum()
    else:
        log_p = LOGITS.masked_fill(~MASK, -torch.inf).log_softmax(dim=1).masked_fill(~MASK, 0)
        of_texts = (pairs * MASK).sum(dim=1) / MASK.sum(dim=1)
        expected = -(ONE_HOT * log_p * pairs).sum() / of_texts.sum()
    torch.testing.assert_close(found, expected)


def test_what_weighs_nothing_divides_by_little():
    assert loss_weight(torch.zeros(2, 3), multi_label=True).item() > 0
    assert focal_loss(LOGITS, ONE_HOT, multi_label=True, mask=torch.zeros(6, 5)).item() == 0


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_form_with_smoothing(gamma):
    targets = (ONE_HOT * 0.8 + 0.2 / MASK.sum(dim=1, keepdim=True)) * MASK
    log_p = LOGITS.masked_fill(~MASK, -torch.inf).log_softmax(dim=1).masked_fill(~MASK, 0)
    expected = -(targets * (1 - log_p.exp()) ** gamma * log_p)[MASK].sum() / 6
    found = focal_loss(
        LOGITS, ONE_HOT, multi_label=False, gamma=gamma, label_smoothing=0.2, mask=MASK
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_columns_that_fill_up_a_batch_change_no_loss_with_weights_of_pairs(multi_label):
    logits, targets = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.eye(2)
    weight = torch.tensor([[1.0, 2.0], [3.0, 0.5]])
    alone = focal_loss(logits, targets, multi_label=multi_label, weight=weight)
    wider = [F.pad(values, (0, 3), value=1.0) for values in (logits, targets, weight)]
    mask = F.pad(torch.ones(2, 2), (0, 3))
    filled = focal_loss(*wider[:2], multi_label=multi_label, mask=mask, weight=wider[2])
    torch.testing.assert_close(filled, alone)
