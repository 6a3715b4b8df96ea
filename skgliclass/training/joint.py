"""Training where the prompt holds the labels together with the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..modeling.features import Scores
from ..prompts.composer import Prompt
from .data import choose_labels
from .features import FeatureStore
from .steps import MicroBatch, SharedVectors, Steps, prompt_lengths

_WINDOW = 4096

Labels = NDArray[np.int32]


class JointSteps(Steps):
    """Labels and text go through the backbone together, in prompts."""

    _store: FeatureStore | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Order each row's labels at random, write the prompts and group them by length."""
        labels, targets = self._choose(rows)
        if self.frozen:
            yield self._micro_batch(rows, labels, targets, {})
            return
        prompts = self._prompts(rows, labels)
        for part in self.groups(prompt_lengths(prompts)):
            of_part = [labels[i] for i in part]
            inputs = self._inputs([prompts[i] for i in part], of_part)
            yield self._micro_batch(rows[part], of_part, [targets[i] for i in part], inputs)

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Run the model, or the heads alone on what a frozen backbone gave before."""
        if self.frozen:
            return [self.network.score(self._features(part.rows))]
        inputs: dict[str, Any] = {**part.inputs, "max_num_classes": part.mask.shape[1]}
        scores: list[Scores] = self.network.training_scores(**inputs)
        return scores

    def _choose(self, rows: NDArray[np.intp]) -> tuple[list[Labels], list[NDArray[np.float32]]]:
        """Give the labels that each row's prompt holds, in their order, and the targets."""
        # What is computed once needs an order that stays.
        shuffle = self.options.shuffle_labels and not self.frozen
        rooms = self.data.composer.label_room(self.data.texts.take(rows).task_lengths)
        lengths = self.data.labels.lengths
        labels, targets = [], []
        for i, room in zip(rows.tolist(), rooms.tolist(), strict=True):
            all_labels, all_targets = self.data.rows.row(i)
            order = choose_labels(all_targets, lengths[all_labels], room, self.rng, shuffle)
            labels.append(all_labels[order])
            targets.append(all_targets[order])
        return labels, targets

    def _prompts(self, rows: NDArray[np.intp], labels: Sequence[Labels]) -> list[Prompt]:
        lengths, table = self.data.labels.lengths, self.data.labels
        n_label_tokens = np.asarray([int(lengths[of_row].sum()) for of_row in labels])
        packed = self.pack(rows, n_label_tokens)
        return [
            packed.prompt(k, [table[label] for label in of_row]) for k, of_row in enumerate(labels)
        ]

    def _inputs(self, prompts: Sequence[Prompt], labels: Sequence[Labels]) -> dict[str, Tensor]:
        return self.engine.border.inputs(prompts)

    def _micro_batch(
        self,
        rows: NDArray[np.intp],
        labels: Sequence[Labels],
        targets: Sequence[NDArray[np.float32]],
        inputs: dict[str, Tensor],
    ) -> MicroBatch:
        """Put the rows' targets in a matrix, with a mask and weights of its shape."""
        shape = len(rows), max(map(len, labels))
        matrix, mask = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
        weight = np.repeat(self.data.weights[rows, None], shape[1], axis=1)
        columns = np.zeros(shape, dtype=np.int64)
        for i, (of_row, values) in enumerate(zip(labels, targets, strict=True)):
            matrix[i, : len(of_row)], mask[i, : len(of_row)] = values, True
            columns[i, : len(of_row)] = of_row
            if self.data.label_weights is not None:
                weight[i, : len(of_row)] *= self.data.label_weights[of_row]
        pair_weight = self.tensor(weight)
        return self.micro_batch(
            rows,
            inputs,
            matrix,
            mask,
            # Of the rows alone where it can be: `mixed_loss` has no weights of pairs, and with them
            # a text with one label would be averaged over its labels.
            pair_weight[:, 0] if self.data.label_weights is None else pair_weight,
            columns,
        )

    def _features(self, rows: NDArray[np.intp]) -> Any:
        if self._store is None:
            was_training = self.network.training
            self._store = FeatureStore(self._all_features())
            self.network.train(was_training)
        return self._store.take(rows)

    def _all_features(self) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Run the backbone over every row once."""
        self.network.eval()
        # In windows, so that the prompts of the whole training set are never held at a time.
        for start in range(0, len(self.data), _WINDOW):
            rows = np.arange(start, min(start + _WINDOW, len(self.data)))
            labels, _ = self._choose(rows)
            prompts = self._prompts(rows, labels)
            run = partial(self._features_of, prompts, labels)
            for part, features in self.in_batches(run, prompt_lengths(prompts)):
                yield rows[part], features

    @torch.no_grad()
    def _features_of(
        self, prompts: Sequence[Prompt], labels: Sequence[Labels], part: NDArray[np.intp]
    ) -> Any:
        of_part = [labels[i] for i in part]
        inputs = self._inputs([prompts[i] for i in part], of_part)
        return self.network.features(**inputs, max_num_classes=max(map(len, of_part)))


class FusedSteps(JointSteps):
    """The prompt holds markers, whose vectors a label encoder gives."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Where each label's vector is among those that were encoded for the batch.
        self._column = np.zeros(len(self.data.labels), dtype=np.int64)

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Encode the batch's labels once, then go on as for other prompts."""
        if not self.frozen:
            self._shared = self._encode(self.data.rows.labels(rows))
        yield from super().prepare(rows)

    def _encode(self, labels: Labels) -> SharedVectors:
        # Of other labels the positions of earlier batches stay behind; no row of this one asks for
        # them.
        self._column[labels] = np.arange(len(labels))
        return SharedVectors(self.network.encode_labels(*self.label_inputs(labels)))

    def _inputs(self, prompts: Sequence[Prompt], labels: Sequence[Labels]) -> dict[str, Tensor]:
        # Where the backbone is frozen nothing is shared by a step: features are computed once, and
        # each of their micro-batches brings labels of its own.
        shared = self._shared or self._encode(np.unique(np.concatenate(labels)))
        positions = np.zeros((len(labels), max(map(len, labels))), dtype=np.int64)
        for i, of_row in enumerate(labels):
            positions[i, : len(of_row)] = self._column[of_row]
        inputs = super()._inputs(prompts, labels)
        return {**inputs, "label_vectors": shared.leaf[self.tensor(positions)]}
