"""Training where labels are encoded apart from the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batching import plan_batches
from .modeling.bi_encoder import BiEncoder
from .modeling.features import Scores
from .training_steps import MicroBatch, SharedVectors, Steps, label_tensors

MAX_LABELS_A_STEP = 512
"""How many labels a bi-encoder compares in one step; of more, a random part with the true ones."""


class ApartSteps(Steps):
    """A bi-encoder: the labels of a batch are encoded once and compared with all of its texts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = cast("BiEncoder", self.engine.loaded.model.model)
        tokenizer = self.engine.text_tokenizer
        self.frame = len(tokenizer.prefix) + len(tokenizer.suffix)
        self.room = self.engine.max_length - self.frame - len(self.data.task)
        self._shared: SharedVectors | None = None
        self._pooled: tuple[Tensor, Tensor] | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Choose the labels of a batch, encode them, and group the texts by length."""
        own, wanted = zip(*(self.data.rows.row(int(i)) for i in rows), strict=True)
        labels = self._labels_of_step(own, wanted)
        if not self.frozen:
            inputs = label_tensors(self.engine, self.data, labels)
            self._shared = SharedVectors(self.model.encode_labels(*inputs))
        column = np.full(len(self.data.labels), -1, dtype=np.int64)
        column[labels] = np.arange(len(labels))
        lengths = np.minimum(self.data.texts.lengths[rows], self.room) + self.frame
        for part in self._groups(lengths):
            targets = np.zeros((len(part), len(labels)), dtype=np.float32)
            mask = np.zeros((len(part), len(labels)), dtype=np.bool_)
            for i, j in enumerate(part):
                columns = column[own[j]]
                kept = columns >= 0
                targets[i, columns[kept]] = wanted[j][kept]
                mask[i, columns[kept]] = True
            yield self._micro_batch(rows[part], labels, targets, mask)

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Encode the texts and compare them with the labels."""
        if self.frozen:
            texts, all_labels = self._all_pooled()
            text = self.model.project_texts(texts[torch.from_numpy(part.rows)])
            labels = self.model.project_labels(all_labels[part.inputs["labels"]])
        else:
            assert self._shared is not None
            text = self.model.encode_texts(*self._text_tensors(part.rows))
            labels = self._shared.leaf
        logits = self.model.score_vectors(text, labels, part.mask)
        return [Scores(logits, text, labels, part.mask)]

    def finish(self) -> None:
        """Send the micro-batches' gradients back through the label encoder."""
        if self._shared is not None:
            self._shared.backward()

    def n_tokens(self, part: MicroBatch) -> int:
        """Count the texts' tokens; the labels are read once for all of a batch."""
        lengths = np.minimum(self.data.texts.lengths[part.rows], self.room) + self.frame
        return int(lengths.sum())

    def _labels_of_step(
        self, own: Sequence[NDArray[np.int32]], wanted: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.int64]:
        labels = np.unique(np.concatenate(own))
        if len(labels) > MAX_LABELS_A_STEP:
            true = np.unique(np.concatenate([k[t > 0] for k, t in zip(own, wanted, strict=True)]))
            others = np.setdiff1d(labels, true)
            n_others = max(0, MAX_LABELS_A_STEP - len(true))
            labels = np.union1d(true, self.rng.choice(others, min(n_others, len(others)), False))
        return labels.astype(np.int64)

    def _micro_batch(
        self,
        rows: NDArray[np.intp],
        labels: NDArray[np.int64],
        targets: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> MicroBatch:
        device = self.engine.loaded.model.device
        weight = torch.from_numpy(self.data.weights[rows]).to(device)
        if self.data.label_weights is not None:
            own = torch.from_numpy(self.data.label_weights[labels]).to(device)
            weight = weight[:, None] * own
        return MicroBatch(
            rows,
            {"labels": torch.from_numpy(labels)},
            torch.from_numpy(targets).to(device),
            torch.from_numpy(mask).to(device),
            weight,
            self._kind(rows),
        )

    def _text_tensors(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        tokenizer, task = self.engine.text_tokenizer, self.data.task
        return self.engine.to_tensors(
            [
                [*tokenizer.prefix, *task, *self.data.texts[i][: self.room], *tokenizer.suffix]
                for i in rows
            ]
        )

    @torch.no_grad()
    def _all_pooled(self) -> tuple[Tensor, Tensor]:
        """Encode everything once, since the backbone does not change."""
        if self._pooled is None:
            was_training, _ = self.model.training, self.model.eval()
            self._pooled = (
                self._encode(
                    self.data.texts.lengths,
                    lambda rows: self.model.pool_texts(*self._text_tensors(rows)),
                ),
                self._encode(
                    self.label_lengths,
                    lambda rows: self.model.pool_labels(
                        *label_tensors(self.engine, self.data, rows)
                    ),
                ),
            )
            self.model.train(was_training)
        return self._pooled

    def _encode(
        self, lengths: NDArray[np.int64], encode: Callable[[NDArray[np.intp]], Tensor]
    ) -> Tensor:
        vectors: Tensor | None = None
        bounded = np.minimum(lengths, self.room) + self.frame
        for rows in plan_batches(bounded, self.engine.batch_tokens):
            batch = encode(rows)
            if vectors is None:
                vectors = batch.new_empty(len(lengths), batch.shape[1])
            vectors[torch.from_numpy(rows)] = batch
        assert vectors is not None
        return vectors
