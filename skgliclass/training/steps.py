"""From the rows of a batch to their loss: what all architectures share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine.batching import group_by_length
from ..engine.engine import Engine
from ..modeling.features import Scores
from ..modeling.losses import focal_loss, loss_weight, mixed_loss
from ..prompts.composer import Prompt
from ..prompts.tokens import TokenIds
from .data import TrainingSet
from .options import TrainingOptions

_FIXED_COST = {"cpu": 64}
_FIXED_COST_ELSEWHERE = 4096


@dataclass
class MicroBatch:
    """Rows that go through the model together.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Their positions in the training set.
    inputs : dict of str to Tensor
        The model's arguments.
    targets, mask : Tensor of shape (n_rows, n_labels)
        How far each label holds, and whether it is a label of the row.
    weight : Tensor of shape (n_rows,) or (n_rows, n_labels)
        Of the rows, or of the pairs.
    multi_label : bool or Tensor of shape (n_rows,)
        Whether labels hold independently; for each row where a batch mixes both.
    """

    rows: NDArray[np.intp]
    inputs: dict[str, Tensor]
    targets: Tensor
    mask: Tensor
    weight: Tensor
    multi_label: bool | Tensor

    def total_weight(self) -> Tensor:
        """Give what the loss is a mean over."""
        # Where both kinds are mixed every text counts the same, as texts with one label do.
        pairs_count = self.multi_label if isinstance(self.multi_label, bool) else False
        return loss_weight(self.mask, multi_label=pairs_count, weight=self.weight)

    def has_weight(self) -> bool:
        """Whether anything in it counts; an example of weight zero is left out of the pass."""
        return bool((self.weight > 0).any())

    def loss(self, logits: Tensor, options: TrainingOptions, normalizer: Tensor) -> Tensor:
        """Give its part of the batch's mean loss."""
        how: dict[str, Any] = {
            "gamma": options.loss.focal_gamma,
            "alpha": options.loss.focal_alpha,
            "label_smoothing": options.loss.label_smoothing,
            "mask": self.mask,
            "weight": self.weight,
            "normalizer": normalizer,
        }
        if isinstance(self.multi_label, bool):
            return focal_loss(logits, self.targets, multi_label=self.multi_label, **how)
        return mixed_loss(logits, self.targets, self.multi_label, **how)


class Steps:
    """What differs between architectures: preparing a batch and scoring it."""

    def __init__(
        self,
        engine: Engine,
        data: TrainingSet,
        options: TrainingOptions,
        rng: np.random.Generator,
    ) -> None:
        self.engine = engine
        self.data = data
        self.options = options
        self.rng = rng
        self.label_lengths = data.labels.lengths
        self.frozen = options.trainable == "head"

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Divide a batch into micro-batches."""
        raise NotImplementedError

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Score a micro-batch; the loss is summed over what is given."""
        raise NotImplementedError

    def finish(self) -> None:
        """Send gradients back through what the micro-batches of a batch share."""

    def loss(self, part: MicroBatch, normalizer: Tensor) -> Tensor:
        """Give a micro-batch's part of the batch's loss."""
        losses = [part.loss(s.logits, self.options, normalizer) for s in self.scores(part)]
        return torch.stack(losses).sum()

    def n_tokens(self, part: MicroBatch) -> int:
        """Count the tokens that the backbone reads, without padding."""
        masks = (m for name, m in part.inputs.items() if name.endswith("attention_mask"))
        return sum(int(mask.sum()) for mask in masks)

    def _examples(self, i: int, room: int) -> TokenIds:
        """Show a random number of the row's examples, as many as the text leaves room for."""
        if self.data.examples is None:
            return []
        n_shown = None
        if not self.frozen:
            n_shown = int(self.rng.integers(self.data.examples.count(i) + 1))
        return self.data.examples.fitting(i, room, n_shown)

    def _kind(self, rows: NDArray[np.intp]) -> bool | Tensor:
        """Tell whether the rows' labels hold independently."""
        if self.data.multi_label is None:
            return self.options.multi_label
        kinds = torch.from_numpy(self.data.multi_label[rows])
        return kinds.to(self.engine.loaded.network.device)

    def _groups(self, lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        kind = self.engine.loaded.network.device.type
        fixed_cost = _FIXED_COST.get(kind, _FIXED_COST_ELSEWHERE)
        return group_by_length(lengths, self.options.max_batch_tokens, fixed_cost)


class SharedVectors:
    """Vectors that all micro-batches of a batch use, but whose encoder is run only once.

    Each micro-batch's gradient ends at a copy; their sum then goes back through the encoder, which
    gives the same gradient as one pass over the whole batch (Gao et al. 2021, arXiv:2101.06983).

    Parameters
    ----------
    vectors : Tensor
        What the encoder gave.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors
        self.leaf = vectors.detach().requires_grad_(vectors.requires_grad)

    def backward(self) -> None:
        """Send the gradients that the copy has gathered back through the encoder."""
        if self.leaf.grad is not None:
            self._vectors.backward(self.leaf.grad)
            self.leaf.grad = None


def lengths_of(prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    """Count the tokens of each prompt, over all of its sequences."""
    lengths = (sum(map(len, prompt.values())) for prompt in prompts)
    return np.fromiter(lengths, dtype=np.int64, count=len(prompts))


def label_tensors(
    engine: Engine, data: TrainingSet, labels: NDArray[np.integer[Any]]
) -> tuple[Tensor, Tensor]:
    """Give the label encoder's arguments for some labels."""
    tokenizer = engine.label_tokenizer
    return engine.to_tensors(
        [[*tokenizer.prefix, *data.labels[int(k)], *tokenizer.suffix] for k in labels],
        label_side=True,
    )
