"""Training where labels are encoded apart from the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..engine.batching import plan_batches
from ..modeling.bi_encoder import BiEncoder
from ..modeling.features import Scores
from ..prompts.composer import Prompt
from .steps import MicroBatch, SharedVectors, Steps, label_tensors, lengths_of

MAX_LABELS_A_STEP = 512
"""How many labels a bi-encoder compares in one step; of more, a random part with the true ones."""


class ApartSteps(Steps):
    """A bi-encoder: the labels of a batch are encoded once and compared with all of its texts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = cast("BiEncoder", self.engine.loaded.network)
        self.composer = self.engine.composer()
        self.room = self.composer.text_budget([], len(self.data.task))
        self._shared: SharedVectors | None = None
        self._pooled: tuple[Tensor, Tensor] | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Choose the labels of a batch, encode them, and group the texts by length."""
        own, wanted = zip(*(self.data.rows.row(int(i)) for i in rows), strict=True)
        labels = self._labels_of_step(own, wanted)
        if not self.frozen:
            self._shared = SharedVectors(self._encode_labels(labels))
        column = np.full(len(self.data.labels), -1, dtype=np.int64)
        column[labels] = np.arange(len(labels))
        prompts = [] if self.frozen else [self._prompt(int(i)) for i in rows]
        lengths = lengths_of(prompts) if prompts else self.data.texts.lengths[rows]
        for part in self._groups(lengths):
            targets = np.zeros((len(part), len(labels)), dtype=np.float32)
            mask = np.zeros((len(part), len(labels)), dtype=np.bool_)
            for i, j in enumerate(part):
                columns = column[own[j]]
                kept = columns >= 0
                targets[i, columns[kept]] = wanted[j][kept]
                mask[i, columns[kept]] = True
            shown = [prompts[i] for i in part] if prompts else []
            yield self._micro_batch(rows[part], labels, targets, mask, shown)

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Encode the texts and compare them with the labels."""
        if self.frozen:
            texts, all_labels = self._all_pooled()
            text = self.model.project_texts(texts[torch.from_numpy(part.rows)])
            labels = self.model.project_labels(all_labels[part.inputs["labels"]])
        else:
            assert self._shared is not None
            inputs = part.inputs["input_ids"], part.inputs["attention_mask"]
            text = self.model.encode_texts(*inputs)
            labels = self._shared.leaf
        logits = self.model.score_vectors(text, labels, part.mask)
        return [Scores(logits, text, labels, part.mask)]

    def finish(self) -> None:
        """Send the micro-batches' gradients back through the label encoder."""
        if self._shared is not None:
            self._shared.backward()

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
        prompts: Sequence[Prompt],
    ) -> MicroBatch:
        device = self.engine.loaded.network.device
        weight = torch.from_numpy(self.data.weights[rows]).to(device)
        if self.data.label_weights is not None:
            own = torch.from_numpy(self.data.label_weights[labels]).to(device)
            weight = weight[:, None] * own
        return MicroBatch(
            rows,
            {
                "labels": torch.from_numpy(labels),
                **(self.engine.to_inputs(prompts) if prompts else {}),
            },
            torch.from_numpy(targets).to(device),
            torch.from_numpy(mask).to(device),
            weight,
            self._kind(rows),
        )

    def _encode_labels(self, labels: NDArray[np.int64]) -> Tensor:
        """Encode labels of similar length together, with the graph for their gradients."""
        groups = self._groups(self.label_lengths[labels])
        vectors = [
            self.model.encode_labels(*label_tensors(self.engine, self.data, labels[group]))
            for group in groups
        ]
        order = torch.from_numpy(np.concatenate(groups))
        return torch.cat(vectors)[order.argsort()]

    def _prompt(self, i: int) -> Prompt:
        text = self.data.texts[i][: self.room]
        examples = self._examples(i, self.room - len(text))
        return self.composer.compose([], text, self.data.task, examples)

    @torch.no_grad()
    def _all_pooled(self) -> tuple[Tensor, Tensor]:
        """Encode everything once, since the backbone does not change."""
        if self._pooled is None:
            was_training, _ = self.model.training, self.model.eval()
            self._pooled = (
                self._encode(
                    [len(self._prompt(i)["input_ids"]) for i in range(len(self.data))],
                    lambda rows: self.model.pool_texts(
                        **self.engine.to_inputs([self._prompt(int(i)) for i in rows])
                    ),
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

    def _encode(self, lengths: ArrayLike, encode: Callable[[NDArray[np.intp]], Tensor]) -> Tensor:
        known = np.asarray(lengths, dtype=np.int64)
        vectors: Tensor | None = None
        for rows in plan_batches(known, self.engine.batch_tokens):
            batch = encode(rows)
            if vectors is None:
                vectors = batch.new_empty(len(known), batch.shape[1])
            vectors[torch.from_numpy(rows)] = batch
        assert vectors is not None
        return vectors
