"""Training where the prompt holds the labels together with the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine.batching import plan_batches
from ..modeling.features import Scores
from ..modeling.losses import contrastive_loss
from ..prompts.composer import Prompt
from ..prompts.tokens import TokenIds
from .data import choose_labels
from .features import FeatureStore
from .steps import MicroBatch, SharedVectors, Steps, label_tensors, lengths_of

_WINDOW = 4096


class JointSteps(Steps):
    """Labels and text go through the backbone together, in prompts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.model = cast("Any", self.engine.loaded.network)
        self.composer = self.engine.composer()
        self.label_room = self.composer.label_room(len(self.data.task))
        self._store: FeatureStore | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Order each row's labels at random, write the prompts and group them by length."""
        chosen = [self._choose(int(i)) for i in rows]
        if self.frozen:
            yield self._micro_batch(rows, [{}] * len(rows), chosen)
            return
        prompts = [self._prompt(int(i), own) for i, (own, _) in zip(rows, chosen, strict=True)]
        for part in self._groups(lengths_of(prompts)):
            yield self._micro_batch(
                rows[part], [prompts[i] for i in part], [chosen[i] for i in part]
            )

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Run the model, or the heads alone on what a frozen backbone gave before."""
        if self.frozen:
            return [self.model.score(self._features(part.rows))]
        inputs: dict[str, Any] = {**part.inputs, "max_num_classes": part.mask.shape[1]}
        return cast("list[Scores]", self.model.training_scores(**inputs))

    def loss(self, part: MicroBatch, normalizer: Tensor) -> Tensor:
        """Add the contrastive term where the model's configuration asks for it."""
        coefficient = self.engine.loaded.network.config.contrastive_loss_coef
        if coefficient <= 0:
            return super().loss(part, normalizer)
        share = part.total_weight() / normalizer
        losses = [
            part.loss(s.logits, self.options, normalizer)
            + coefficient * share * contrastive_loss(s.class_embeddings, s.class_mask)
            for s in self.scores(part)
        ]
        return torch.stack(losses).sum()

    def _choose(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        own, wanted = self.data.rows.row(i)
        # What is computed once needs an order that stays.
        shuffle = self.options.shuffle_labels and not self.frozen
        chosen = choose_labels(
            own, wanted, self.label_lengths, self.label_room, self.rng, shuffle=shuffle
        )
        return own[chosen], wanted[chosen]

    def _prompt(self, i: int, labels: NDArray[np.int32]) -> Prompt:
        label_ids = [self._label_ids(k) for k in labels]
        task = self.data.task
        room = self.composer.text_budget(label_ids, len(task))
        text = self.data.texts[i][:room]
        examples = self._examples(i, room - len(text))
        if self.data.examples is not None and self.data.examples.follow_text:
            return self.composer.compose(label_ids, [*text, *examples], task)
        return self.composer.compose(label_ids, text, task, examples)

    def _label_ids(self, label: int) -> TokenIds:
        return self.data.labels[label]

    def _inputs(
        self, prompts: Sequence[Prompt], labels: Sequence[NDArray[np.int32]]
    ) -> dict[str, Tensor]:
        return self.engine.to_inputs(prompts)

    def _micro_batch(
        self,
        rows: NDArray[np.intp],
        prompts: Sequence[Prompt],
        chosen: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]],
    ) -> MicroBatch:
        """Put ragged targets in a matrix, with a mask and weights of its shape."""
        width = max(len(own) for own, _ in chosen)
        targets = np.zeros((len(rows), width), dtype=np.float32)
        mask = np.zeros((len(rows), width), dtype=np.bool_)
        weight = np.repeat(self.data.weights[rows, None], width, axis=1)
        for i, (own, wanted) in enumerate(chosen):
            targets[i, : len(own)], mask[i, : len(own)] = wanted, True
            if self.data.label_weights is not None:
                weight[i, : len(own)] *= self.data.label_weights[own]
        device = self.engine.loaded.network.device
        pair_weight = torch.from_numpy(weight).to(device)
        return MicroBatch(
            rows,
            self._inputs(prompts, [own for own, _ in chosen]) if prompts[0] else {},
            torch.from_numpy(targets).to(device),
            torch.from_numpy(mask).to(device),
            pair_weight[:, 0] if self.data.label_weights is None else pair_weight,
            self._kind(rows),
        )

    def _features(self, rows: NDArray[np.intp]) -> Any:
        if self._store is None:
            was_training = self.engine.loaded.network.training
            self._store = FeatureStore(self._all_features())
            self.engine.loaded.network.train(was_training)
        return self._store.take(rows)

    def _all_features(self) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Run the backbone over every row once."""
        model = cast("Any", self.engine.loaded.network.eval())
        for start in range(0, len(self.data), _WINDOW):
            rows = np.arange(start, min(start + _WINDOW, len(self.data)))
            chosen = {i: self._choose(i) for i in rows.tolist()}
            prompts = [self._prompt(i, own) for i, (own, _) in chosen.items()]
            for part in plan_batches(lengths_of(prompts), self.engine.batch_tokens):
                labels = [chosen[int(i)][0] for i in rows[part]]
                inputs = self._inputs([prompts[i] for i in part], labels)
                n_columns = max(map(len, labels))
                with torch.no_grad():
                    yield rows[part], model.features(**inputs, max_num_classes=n_columns)


class FusedSteps(JointSteps):
    """The prompt holds markers, whose vectors a label encoder gives."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.label_lengths = np.ones_like(self.label_lengths)
        self._shared: SharedVectors | None = None
        self._column = np.zeros(len(self.data.labels), dtype=np.int64)

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Encode the batch's labels once, then go on as for other prompts."""
        if not self.frozen:
            self._shared = self._encode(np.unique(np.concatenate(self._labels_of(rows))))
        yield from super().prepare(rows)

    def finish(self) -> None:
        """Send the micro-batches' gradients back through the label encoder."""
        if self._shared is not None:
            self._shared.backward()

    def _labels_of(self, rows: NDArray[np.intp]) -> list[NDArray[np.int32]]:
        return [self.data.rows.row(int(i))[0] for i in rows]

    def _encode(self, labels: NDArray[np.int32]) -> SharedVectors:
        self._column[labels] = np.arange(len(labels))
        inputs = label_tensors(self.engine, self.data, labels)
        return SharedVectors(self.model.encode_labels(*inputs))

    def _label_ids(self, label: int) -> TokenIds:
        return [self.composer.label_id]

    def _inputs(
        self, prompts: Sequence[Prompt], labels: Sequence[NDArray[np.int32]]
    ) -> dict[str, Tensor]:
        inputs = super()._inputs(prompts, labels)
        if self._shared is None:
            vectors = self._encode(np.unique(np.concatenate(labels))).leaf
        else:
            vectors = self._shared.leaf
        width = max(map(len, labels))
        positions = np.zeros((len(labels), width), dtype=np.int64)
        for i, own in enumerate(labels):
            positions[i, : len(own)] = self._column[own]
        return {**inputs, "label_vectors": vectors[torch.from_numpy(positions)]}
