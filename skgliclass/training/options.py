"""How to train: a leaf that the loop and the steps of every architecture read."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..modeling.losses import LossOptions


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the names are those of the classifiers' parameters.

    `loss` holds those of the loss. `n_steps` is the length of the learning-rate schedule where it
    is not that of `max_epochs` over one training set, and `multi_label` counts only where a
    training set does not say it for each row. `max_batch_tokens` of None is what suits the device.
    """

    multi_label: bool
    max_epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    decay: bool = True
    max_grad_norm: float = 1.0
    loss: LossOptions = field(default_factory=LossOptions)
    trainable: str = "all"
    lora_rank: int = 16
    max_batch_tokens: int | None = None
    precision: str = "auto"
    gradient_checkpointing: bool = False
    shuffle_labels: bool = True
    n_iter_no_change: int | None = None
    tol: float = 1e-4
    seed: int = 0
    n_steps: int | None = None
