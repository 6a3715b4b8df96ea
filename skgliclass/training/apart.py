"""Training where labels are encoded apart from the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..modeling.features import Scores
from ..prompts.composer import Prompt
from .steps import MicroBatch, SharedVectors, Steps, prompt_lengths

MAX_LABELS_A_STEP = 512
"""How many labels a bi-encoder compares in one step; of more, a random part with the true ones."""


class ApartSteps(Steps):
    """A bi-encoder: the labels of a batch are encoded once and compared with all of its texts.

    Where the backbone changes, the labels' vectors belong to the step: every micro-batch compares
    its texts with the same ones, and the gradients of all go back through the label encoder once.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._pooled: tuple[Tensor, Tensor] | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Choose the labels of a batch, encode them, and group the texts by length."""
        labels = self._labels_of_step(rows)
        if self.frozen:
            prompts, lengths = [], self.data.texts.lengths[rows]
        else:
            # Not in each micro-batch: every one of them compares its texts with all labels.
            self._shared = SharedVectors(self._encode_labels(labels))
            prompts = self._prompts(rows)
            lengths = prompt_lengths(prompts)
        for part in self.groups(lengths):
            inputs = self.engine.border.inputs([prompts[i] for i in part]) if prompts else {}
            yield self._micro_batch(rows[part], labels, inputs)

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Encode the texts and compare them with the labels."""
        network = self.network
        if self.frozen:
            pooled_texts, pooled_labels = self._all_pooled()
            text = network.project_texts(pooled_texts[self.tensor(part.rows)])
            labels = network.project_labels(pooled_labels[part.labels.to(self.device)])
        else:
            assert self._shared is not None
            text = network.encode_texts(part.inputs["input_ids"], part.inputs["attention_mask"])
            # The leaf keeps the graphs of the micro-batches apart: each is freed with its own
            # backward pass, and that of the labels is gone through once, in `finish`.
            labels = self._shared.leaf
        return [Scores(network.score_vectors(text, labels, part.mask), text, labels, part.mask)]

    def _labels_of_step(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        labels = self.data.rows.labels(rows)
        if len(labels) > MAX_LABELS_A_STEP:
            pairs = [self.data.rows.row(i) for i in rows.tolist()]
            true = np.unique(np.concatenate([label[target > 0] for label, target in pairs]))
            # Nothing is learnt from a label that is annotated for none of these texts.
            known = [label[~np.isnan(target)] for label, target in pairs]
            others = np.setdiff1d(np.concatenate(known), true)
            n_others = max(0, MAX_LABELS_A_STEP - len(true))
            # The true ones always: without them a text would be taught that nothing holds. Sorted,
            # as `LabelledRows.dense` searches the labels by halving.
            labels = np.union1d(true, self.rng.choice(others, min(n_others, len(others)), False))
        return labels.astype(np.int64)

    def _micro_batch(
        self, rows: NDArray[np.intp], labels: NDArray[np.int64], inputs: dict[str, Tensor]
    ) -> MicroBatch:
        targets, mask = self.data.rows.dense(rows, labels)
        weight = self.tensor(self.data.weights[rows])
        if self.data.label_weights is not None:
            weight = weight[:, None] * self.tensor(self.data.label_weights[labels])
        return self.micro_batch(rows, inputs, targets, mask, weight, labels)

    def _encode_labels(self, labels: NDArray[np.int64]) -> Tensor:
        """Encode labels of similar length together, with the graph for their gradients."""
        assert self.data.label_sequences is not None
        groups = self.groups(self.data.label_sequences.lengths[labels])
        vectors = [self.network.encode_labels(*self.label_inputs(labels[g])) for g in groups]
        order = self.tensor(np.concatenate(groups))
        return torch.cat(vectors)[order.argsort()]

    def _prompts(self, rows: NDArray[np.intp]) -> list[Prompt]:
        # The labels are no part of the prompt and take no room in it.
        packed = self.pack(rows, np.zeros(len(rows), dtype=np.int64))
        return [packed.prompt(k, []) for k in range(len(rows))]

    # What a frozen backbone gives.

    @torch.no_grad()
    def _all_pooled(self) -> tuple[Tensor, Tensor]:
        """Encode everything once, since the backbone does not change."""
        if self._pooled is None:
            assert self.data.label_sequences is not None
            # Without dropout: its noise would otherwise be the same in every epoch.
            was_training, _ = self.network.training, self.network.eval()
            texts = self.data.texts.lengths
            labels = self.data.label_sequences.lengths
            self._pooled = (
                self._encode(texts, self._pool_texts),
                self._encode(labels, self._pool_labels),
            )
            self.network.train(was_training)
        return self._pooled

    def _pool_texts(self, rows: NDArray[np.intp]) -> Tensor:
        # Composed again for each micro-batch, so that not all prompts are held at a time.
        pooled: Tensor = self.network.pool_texts(**self.engine.border.inputs(self._prompts(rows)))
        return pooled

    def _pool_labels(self, rows: NDArray[np.intp]) -> Tensor:
        pooled: Tensor = self.network.pool_labels(*self.label_inputs(rows))
        return pooled

    def _encode(
        self, lengths: NDArray[np.int64], encode: Callable[[NDArray[np.intp]], Tensor]
    ) -> Tensor:
        return self.engine.border.in_order(list(self.in_batches(encode, lengths)))
