"""The border between numbers and tensors: nothing else in this layer knows a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..prompts.composer import Prompt
from ..prompts.label_plan import LabelPart
from ..prompts.tokens import TokenIds
from .memory import Memory, in_halves
from .work import Work

if TYPE_CHECKING:
    from ..loading.loaded import LoadedModel

Scored = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Some items and what the model gave for each of them."""

ScoredWithVectors = tuple[NDArray[np.intp], NDArray[np.float32], "NDArray[np.float32] | None"]
"""Some items, their logits and, where they are wanted, the vectors of their texts."""


class Border:
    """Takes token ids to a network, and what it gives back to numpy.

    Parameters
    ----------
    loaded : LoadedModel
        With the network.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.network: Any = loaded.network
        self._config = loaded.network.config
        self.memory = Memory()

    # To tensors.

    def inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Give the network's arguments for a micro-batch: every sequence with its mask."""
        inputs = {}
        for name in prompts[0]:
            ids, mask = self._padded([prompt[name] for prompt in prompts], self._text_pad_id)
            inputs[name] = ids
            inputs[name.replace("input_ids", "attention_mask")] = mask
        return inputs

    def label_inputs(self, sequences: Sequence[TokenIds]) -> tuple[torch.Tensor, torch.Tensor]:
        """Give a label encoder's arguments for labels whose sequences are whole."""
        return self._padded([[ids] for ids in sequences], _pad_id(self._config.label_model_config))

    @property
    def _text_pad_id(self) -> int:
        return _pad_id(self._config.encoder_config)

    def _padded(
        self, sequences: Sequence[Sequence[TokenIds]], pad_id: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put sequences, each in pieces, in one tensor, with a mask that is 1 where they are."""
        lengths = np.asarray([sum(map(len, pieces)) for pieces in sequences])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        # A mask is filled row by row, which is the order of the pieces: one copy for all of them.
        ids[mask] = np.concatenate(list(chain.from_iterable(sequences)))
        return self.tensor(ids), self.tensor(mask.astype(np.int64))

    def tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """Put an array where the network is."""
        tensor, device = torch.from_numpy(array), self.network.device
        if device.type != "cuda":
            return tensor.to(device)
        # From memory that stays where it is, the card copies while this thread goes on.
        return tensor.pin_memory().to(device, non_blocking=True)

    # And back.

    def logits(
        self,
        work: Work,
        label_vectors: torch.Tensor | None,
        items: NDArray[np.intp],
        *,
        with_vectors: bool = False,
    ) -> ScoredWithVectors:
        """Score a micro-batch.

        Parameters
        ----------
        work : Work
            Of which the items are.
        label_vectors : Tensor of shape (n_labels, width) or None
            Those of all labels of the plan, where labels are encoded by themselves.
        items : ndarray of shape (n_items,)
            What to score.
        with_vectors : bool, default=False
            Whether to give the vectors of the texts, too, which the same pass makes.

        Returns
        -------
        items : ndarray of shape (n_items,)
        logits : ndarray of shape (n_items, n_columns), float32
            A column for each label of an item's part; more columns mean nothing.
        vectors : ndarray of shape (n_items, width), float32, or None
            As :meth:`text_vectors` gives them.
        """
        if self.memory.allows(work.lengths[items]):
            try:
                with torch.inference_mode():
                    inputs = self.inputs(work.prompts(items))
                    labels = self._labels(work.parts(items), label_vectors)
                    scores = self.network(**inputs, **labels)
                    vectors = None
                    if with_vectors:
                        vectors = to_numpy(scores.text_vectors(inputs["attention_mask"]))
                    return items, to_numpy(scores.logits), vectors
            except (RuntimeError, MemoryError) as error:
                self.memory.note(error, work.lengths[items])
        # Here, where the error is gone, and with it what the failed pass held.
        halves = [
            self.logits(work, label_vectors, half, with_vectors=with_vectors)
            for half in in_halves(items)
        ]
        logits = stack_columns([half[1] for half in halves])
        of_halves = [half[2] for half in halves if half[2] is not None]
        return items, logits, np.concatenate(of_halves) if of_halves else None

    def text_vectors(
        self, work: Work, label_vectors: torch.Tensor | None, items: NDArray[np.intp]
    ) -> Scored:
        """Encode the texts of a micro-batch; the arguments are those of :meth:`logits`.

        Returns
        -------
        items : ndarray of shape (n_items,)
        vectors : ndarray of shape (n_items, width), float32
            Where the scorer attends to all tokens, so that the model has no one vector for the
            text, the mean of the tokens' projected vectors.
        """
        if self.memory.allows(work.lengths[items]):
            try:
                with torch.inference_mode():
                    return items, to_numpy(self._text_vectors(work, label_vectors, items))
            except (RuntimeError, MemoryError) as error:
                self.memory.note(error, work.lengths[items])
        halves = [self.text_vectors(work, label_vectors, half)[1] for half in in_halves(items)]
        return items, np.concatenate(halves)

    def _text_vectors(
        self, work: Work, label_vectors: torch.Tensor | None, rows: NDArray[np.intp]
    ) -> torch.Tensor:
        inputs = self.inputs(work.prompts(rows))
        if self.network.encodes_labels_apart:
            return cast("torch.Tensor", self.network.encode_texts(**inputs))
        scores = self.network(**inputs, **self._labels(work.parts(rows), label_vectors))
        return cast("torch.Tensor", scores.text_vectors(inputs["attention_mask"]))

    def class_vectors(
        self, work: Work, label_vectors: torch.Tensor | None, items: NDArray[np.intp]
    ) -> Scored:
        """Give the vectors with which the texts of a micro-batch are compared.

        The arguments are those of :meth:`logits`.

        Returns
        -------
        items : ndarray of shape (n_items,)
        vectors : ndarray of shape (n_items, n_columns, width), float32
            A column for each label of an item's part; more columns mean nothing.
        """
        with torch.inference_mode():
            labels = self._labels(work.parts(items), label_vectors)
            scores = self.network(**self.inputs(work.prompts(items)), **labels)
            return items, to_numpy(scores.class_embeddings)

    def encode_labels(
        self, sequences: Sequence[TokenIds], rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], torch.Tensor]:
        """Encode some labels; the vectors stay where the network compares them."""
        lengths = np.asarray([len(sequences[i]) for i in rows.tolist()])
        if self.memory.allows(lengths):
            try:
                with torch.inference_mode():
                    inputs = self.label_inputs([sequences[i] for i in rows.tolist()])
                    return rows, self.network.encode_labels(*inputs)
            except (RuntimeError, MemoryError) as error:
                self.memory.note(error, lengths)
        halves = [self.encode_labels(sequences, half)[1] for half in in_halves(rows)]
        with torch.inference_mode():
            return rows, torch.cat(halves)

    def empty_vectors(self) -> torch.Tensor:
        """Give the vectors of no label at all."""
        width = self._config.encoder_config.hidden_size
        return torch.empty(0, width, dtype=self.network.dtype, device=self.network.device)

    def in_order(self, batches: Sequence[tuple[NDArray[np.intp], torch.Tensor]]) -> torch.Tensor:
        """Put vectors that were computed in micro-batches in the order of their rows."""
        rows = np.concatenate([rows for rows, _ in batches])
        with torch.inference_mode():
            return torch.cat([batch for _, batch in batches])[self.tensor(np.argsort(rows))]

    def rows_of(self, vectors: torch.Tensor, positions: NDArray[np.intp]) -> torch.Tensor:
        """Give some of the vectors, or the tensor itself where these are all in order."""
        # The usual case, all labels in their order: no copy of ten thousand vectors for each batch.
        if np.array_equal(positions, np.arange(len(vectors))):
            return vectors
        with torch.inference_mode():
            return vectors[self.tensor(positions)]

    def _labels(self, parts: Sequence[LabelPart], vectors: torch.Tensor | None) -> dict[str, Any]:
        """Give the network's arguments that say which labels the items of a batch have."""
        n_columns = max(len(part.columns) for part in parts)
        if vectors is None:
            return {"max_num_classes": max(1, n_columns)}
        apart = self.network.encodes_labels_apart
        if apart and all(part is parts[0] for part in parts):
            # One product of matrices, where vectors of their own would need one for each text.
            return {"label_vectors": self.rows_of(vectors, parts[0].labels)}
        positions = np.zeros((len(parts), n_columns), dtype=np.int64)
        mask = np.arange(n_columns) < np.asarray([len(part.labels) for part in parts])[:, None]
        if n_columns:
            positions[mask] = np.concatenate([part.labels for part in parts])
        of_rows = {"label_vectors": vectors[self.tensor(positions)]}
        if apart:
            # A fused prompt tells by its markers how many labels it has; a text alone does not.
            of_rows["labels_mask"] = self.tensor(mask)
        return of_rows


def _pad_id(backbone: Any) -> int:
    # Padding is masked, so that any id does where a backbone names none.
    return int(getattr(backbone, "pad_token_id", None) or 0)


def stack_columns(batches: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put batches below each other; the columns that one has not mean nothing."""
    if len(batches) == 1:
        return batches[0]
    n_columns = max(batch.shape[1] for batch in batches)
    return np.concatenate(
        [np.pad(batch, ((0, 0), (0, n_columns - batch.shape[1]))) for batch in batches]
    )


def to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Give a tensor's values as an array."""
    # In float32, as numpy has no bfloat16.
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array
