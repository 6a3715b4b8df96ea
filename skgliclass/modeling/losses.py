"""The losses that a GLiClass model is trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import Scores
from .scorers import precise


@dataclass(frozen=True)
class LossOptions:
    """What the loss is like; the names are those of the classifiers' parameters.

    Parameters
    ----------
    focal_gamma : float, default=0.0
        How much less examples count that are already right; 0 is cross-entropy.
    focal_alpha : float, optional
        The weight of true text-label pairs against one minus it of false ones, where labels hold
        independently.
    label_smoothing : float, default=0.0
        The share of a target that is spread over the other outcomes.
    """

    focal_gamma: float = 0.0
    focal_alpha: float | None = None
    label_smoothing: float = 0.0


def total_loss(
    scores: Sequence[Scores],
    targets: Tensor,
    options: LossOptions,
    *,
    multi_label: bool | Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    normalizer: Tensor | float | None = None,
    contrastive_coef: float = 0.0,
) -> Tensor:
    """Give what training minimises: the loss of the scores, and that of the label vectors.

    Parameters
    ----------
    scores : sequence of Scores
        The loss is summed over them: one, or one for each layer.
    targets : Tensor of shape (batch, n_labels)
        Between 0 and 1.
    options : LossOptions
        What the loss is like.
    multi_label : bool or Tensor of shape (batch,), bool
        Whether labels hold independently; for each text where a batch mixes both.
    mask, weight, normalizer
        As in :func:`focal_loss`, or in :func:`mixed_loss` where a batch mixes both.
    contrastive_coef : float, default=0.0
        How much :func:`contrastive_loss` counts. It is a mean over the labels of these texts, and
        counts by their share of `normalizer`.

    Returns
    -------
    Tensor of shape ()
    """
    how: dict[str, Any] = {
        "gamma": options.focal_gamma,
        "alpha": options.focal_alpha,
        "label_smoothing": options.label_smoothing,
        "mask": mask,
        "weight": weight,
        "normalizer": normalizer,
    }
    if isinstance(multi_label, bool):
        losses = [focal_loss(s.logits, targets, multi_label=multi_label, **how) for s in scores]
    else:
        losses = [mixed_loss(s.logits, targets, multi_label, **how) for s in scores]
    if contrastive_coef > 0:
        share: Tensor | float = contrastive_coef
        if normalizer is not None:
            # Where both kinds are mixed every text counts the same, as those with one label do.
            pairs_count = multi_label if isinstance(multi_label, bool) else False
            share = share * loss_weight(mask, multi_label=pairs_count, weight=weight) / normalizer
        losses += [share * contrastive_loss(s.class_embeddings, s.class_mask) for s in scores]
    return torch.stack(losses).sum()


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    multi_label: bool,
    gamma: float = 0.0,
    alpha: float | None = None,
    label_smoothing: float = 0.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    normalizer: Tensor | float | None = None,
) -> Tensor:
    """Give the focal loss (Lin et al. 2017, arXiv:1708.02002).

    For multi-label targets each text-label pair contributes its binary cross-entropy times
    ``(1 - p_t) ** gamma`` and, with `alpha`, ``alpha * y + (1 - alpha) * (1 - y)``, where ``p_t``
    is the probability given to the target. For one label a text, each text contributes
    ``-sum_k y_k (1 - p_k) ** gamma log(p_k)`` over the softmax of its labels. With ``gamma=0``
    these are the (binary) cross-entropy.

    Parameters
    ----------
    logits : Tensor of shape (batch, n_labels)
        The scores.
    targets : Tensor of shape (batch, n_labels)
        Between 0 and 1.
    multi_label : bool
        Whether labels hold independently (sigmoid) or compete (softmax).
    gamma : float, default=0.0
        How much less pairs count that are already right.
    alpha : float, optional
        The weight of true pairs against ``1 - alpha`` of false ones; multi-label only.
    label_smoothing : float, default=0.0
        The share of the target that is spread over both outcomes, or over all labels of a row.
    mask : Tensor of shape (batch, n_labels), optional
        Zero where there is no label, or none that is annotated; such cells have no influence.
    weight : Tensor of shape (batch,) or (batch, n_labels), optional
        The weight of each example or pair.
    normalizer : Tensor or float, optional
        What the weighted sum is divided by; by default :func:`loss_weight` of these arguments.
        Micro-batches of one batch share that of the whole batch.

    Returns
    -------
    Tensor of shape ()
        The weighted mean over real pairs (multi-label) or texts.
    """
    logits, targets = precise(logits), precise(targets)
    real = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask.bool()
    per_cell = (
        _sigmoid_focal(logits, targets, gamma, alpha, label_smoothing)
        if multi_label
        else _softmax_focal(logits, targets, real, gamma, label_smoothing)
    )
    per_cell = per_cell.masked_fill(~real, 0.0)
    if weight is not None:
        per_cell = per_cell * (weight if weight.dim() == 2 else weight[:, None])
    if normalizer is None:
        normalizer = loss_weight(real, multi_label=multi_label, weight=weight)
    return per_cell.sum() / normalizer


def cross_entropy_curvature(
    logits: Tensor,
    targets: Tensor,
    *,
    multi_label: bool,
    alpha: float | None = None,
    label_smoothing: float = 0.0,
    mask: Tensor,
    weight: Tensor,
) -> Callable[[Tensor], Tensor]:
    """Give what a step of the logits changes of the slope of :func:`focal_loss` at ``gamma=0``.

    Parameters
    ----------
    logits, targets, multi_label, alpha, label_smoothing, mask
        As in :func:`focal_loss`.
    weight : Tensor of shape (batch, n_labels)
        The weight of each pair.

    Returns
    -------
    callable
        From a step of shape (batch, n_labels) to a change of the same shape.
    """
    real = mask.bool()
    if multi_label:
        targets = _smoothed_pairs(targets, label_smoothing)
        p, counts = logits.sigmoid(), weight * real
        if alpha is not None:
            counts = counts * (alpha * targets + (1 - alpha) * (1 - targets))
        of_pairs = counts * p * (1 - p)
        return lambda step: of_pairs * step
    p = logits.masked_fill(~real, -torch.inf).softmax(dim=1).nan_to_num()
    targets = _smoothed_shares(targets, real, label_smoothing)
    counted = (weight * targets * real).sum(dim=1, keepdim=True) * p
    return lambda step: counted * (step - (p * step).sum(dim=1, keepdim=True))


def mixed_loss(
    logits: Tensor,
    targets: Tensor,
    multi_label: Tensor,
    *,
    gamma: float = 0.0,
    alpha: float | None = None,
    label_smoothing: float = 0.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    normalizer: Tensor | float | None = None,
) -> Tensor:
    """Give the focal loss of texts of which some have one label and others any number.

    Every text counts the same: one with any number of labels with the mean over its pairs.

    Parameters
    ----------
    logits, targets, gamma, alpha, label_smoothing, mask
        As in :func:`focal_loss`.
    multi_label : Tensor of shape (batch,), bool
        Whether the labels of a text hold independently.
    weight : Tensor of shape (batch,), optional
        The weight of each text.
    normalizer : Tensor or float, optional
        What the weighted sum is divided by; by default the sum of the weights.

    Returns
    -------
    Tensor of shape ()
        The weighted mean over texts.
    """
    logits, targets = precise(logits), precise(targets)
    real = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask.bool()
    pairs = _sigmoid_focal(logits, targets, gamma, alpha, label_smoothing).masked_fill(~real, 0.0)
    shares = _softmax_focal(logits, targets, real, gamma, label_smoothing).masked_fill(~real, 0.0)
    n_labels = real.sum(dim=1).clamp_min(1)
    per_text = torch.where(multi_label, pairs.sum(dim=1) / n_labels, shares.sum(dim=1))
    if weight is not None:
        per_text = per_text * weight
    if normalizer is None:
        normalizer = loss_weight(real, multi_label=False, weight=weight)
    return per_text.sum() / normalizer


def contrastive_loss(class_embeddings: Tensor, mask: Tensor) -> Tensor:
    """Give the loss that keeps the label vectors of a text apart.

    The cross-entropy of picking each label among those of its text by their cosines. The
    ``gliclass`` package lets columns that only fill up the batch compete too, so that there a
    text's loss depends on its neighbours.

    Parameters
    ----------
    class_embeddings : Tensor of shape (batch, n_labels, width)
        The label vectors.
    mask : Tensor of shape (batch, n_labels)
        Zero where there is no label.

    Returns
    -------
    Tensor of shape ()
        The mean over the labels.
    """
    real = mask.bool()
    vectors = F.normalize(class_embeddings.float(), dim=-1)
    cosines = vectors @ vectors.transpose(1, 2)
    log_p = cosines.masked_fill(~real[:, None], torch.finfo(cosines.dtype).min).log_softmax(dim=-1)
    of_itself = log_p.diagonal(dim1=1, dim2=2).masked_fill(~real, 0.0)
    return -of_itself.sum() / real.sum().clamp_min(1)


def loss_weight(mask: Tensor, *, multi_label: bool, weight: Tensor | None = None) -> Tensor:
    """Give the total weight of what :func:`focal_loss` averages over.

    Parameters
    ----------
    mask : Tensor of shape (batch, n_labels)
        Nonzero for real labels.
    multi_label : bool
        Whether pairs or texts are counted.
    weight : Tensor of shape (batch,) or (batch, n_labels), optional
        As in :func:`focal_loss`.

    Returns
    -------
    Tensor of shape ()
        At least a tiny positive number, so that it can divide.
    """
    real = mask.bool().float()
    if weight is not None and weight.dim() == 2:
        weighted = (real * weight).sum(dim=1)
        # A text counts with the mean weight of its own labels, however many others have.
        total = (weighted if multi_label else weighted / real.sum(dim=1).clamp_min(1)).sum()
    else:
        counts = real.sum(dim=1) if multi_label else real.amax(dim=1)
        total = counts.sum() if weight is None else (counts * weight).sum()
    return total.clamp_min(torch.finfo(torch.float32).tiny)


def _sigmoid_focal(
    logits: Tensor, targets: Tensor, gamma: float, alpha: float | None, smoothing: float
) -> Tensor:
    targets = _smoothed_pairs(targets, smoothing)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:
        p = logits.sigmoid()
        # 1 - p_t, written so that it cannot round below zero, where a power has no gradient.
        wrong = p * (1 - targets) + (1 - p) * targets
        loss = loss * _power(wrong, gamma)
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss


def _softmax_focal(
    logits: Tensor, targets: Tensor, real: Tensor, gamma: float, smoothing: float
) -> Tensor:
    log_p = logits.masked_fill(~real, torch.finfo(logits.dtype).min).log_softmax(dim=1)
    # Masked cells have a log-probability whose product with a target of zero is not a number.
    log_p = log_p.masked_fill(~real, 0.0)
    targets = _smoothed_shares(targets, real, smoothing)
    loss = -targets * log_p
    if gamma:
        # 1 - p, but not rounded to zero where p is close to one.
        loss = loss * _power(-torch.expm1(log_p), gamma)
    return loss


def _smoothed_pairs(targets: Tensor, smoothing: float) -> Tensor:
    """Spread a share of each target over both outcomes."""
    return targets * (1 - smoothing) + 0.5 * smoothing if smoothing else targets


def _smoothed_shares(targets: Tensor, real: Tensor, smoothing: float) -> Tensor:
    """Spread a share of the targets over all labels of a row."""
    if not smoothing:
        return targets
    n_labels = real.sum(dim=1, keepdim=True).clamp_min(1)
    return targets * (1 - smoothing) + smoothing / n_labels


def _power(base: Tensor, gamma: float) -> Tensor:
    """Raise to a power whose gradient stays finite where the base is zero and gamma below one."""
    return base.clamp_min(torch.finfo(base.dtype).tiny) ** gamma
