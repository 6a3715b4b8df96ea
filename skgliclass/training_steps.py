"""From the rows of a batch to their loss, for each kind of architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .batching import group_by_length, plan_batches
from .feature_store import FeatureStore
from .inference import Engine
from .modeling.bi_encoder import BiEncoder
from .modeling.features import Scores
from .modeling.joint import JointModel
from .modeling.losses import contrastive_loss, focal_loss, loss_weight, mixed_loss
from .modeling.uni_encoder import UniEncoder
from .pieces import TokenIds
from .prompts import Prompt
from .training_data import TrainingSet, choose_labels

if TYPE_CHECKING:
    from .training import TrainingOptions

MAX_LABELS_A_STEP = 512
"""How many labels a bi-encoder compares in one step; of more, a random part with the true ones."""

_FIXED_COST = {"cpu": 64}
_FIXED_COST_ELSEWHERE = 4096
_WINDOW = 4096


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
            "gamma": options.focal_gamma,
            "alpha": options.focal_alpha,
            "label_smoothing": options.label_smoothing,
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

    def _kind(self, rows: NDArray[np.intp]) -> bool | Tensor:
        """Tell whether the rows' labels hold independently."""
        if self.data.multi_label is None:
            return self.options.multi_label
        kinds = torch.from_numpy(self.data.multi_label[rows])
        return kinds.to(self.engine.loaded.model.device)

    def _groups(self, lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        kind = self.engine.loaded.model.device.type
        fixed_cost = _FIXED_COST.get(kind, _FIXED_COST_ELSEWHERE)
        return group_by_length(lengths, self.options.max_batch_tokens, fixed_cost)


class JointSteps(Steps):
    """Labels and text go through the backbone together, in prompts."""

    def __init__(
        self,
        engine: Engine,
        data: TrainingSet,
        options: TrainingOptions,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(engine, data, options, rng)
        self.model = cast("JointModel", engine.loaded.model.model)
        self.composer = engine.composer()
        self.label_room = self.composer.label_room(len(data.task))
        self._store: FeatureStore | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Order each row's labels at random, write the prompts and group them by length."""
        chosen = [self._choose(int(i)) for i in rows]
        if self.frozen:
            yield self._micro_batch(rows, [{}] * len(rows), chosen)
            return
        prompts = [self._prompt(int(i), own) for i, (own, _) in zip(rows, chosen, strict=True)]
        for part in self._groups(_lengths_of(prompts)):
            yield self._micro_batch(
                rows[part], [prompts[i] for i in part], [chosen[i] for i in part]
            )

    def scores(self, part: MicroBatch) -> list[Scores]:
        """Run the model, or the heads alone on what a frozen backbone gave before."""
        if self.frozen:
            return [self.model.score(self._features(part.rows))]
        inputs: dict[str, Any] = {**part.inputs, "max_num_classes": part.mask.shape[1]}
        if self.model.config.layer_wise and isinstance(self.model, UniEncoder):
            return [self.model.score(f) for f in self.model.layer_features(**inputs)]
        return [self.model(**inputs)]

    def loss(self, part: MicroBatch, normalizer: Tensor) -> Tensor:
        """Add the contrastive term where the model's configuration asks for it."""
        coefficient = self.engine.loaded.model.config.contrastive_loss_coef
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

    def _examples(self, i: int, room: int) -> TokenIds:
        """Show a random number of the row's examples, as many as the text leaves room for."""
        if self.data.examples is None:
            return []
        n_shown = None
        if not self.frozen:
            n_shown = int(self.rng.integers(self.data.examples.count(i) + 1))
        return self.data.examples.fitting(i, room, n_shown)

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
        device = self.engine.loaded.model.device
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
            was_training = self.engine.loaded.model.training
            self._store = FeatureStore(self._all_features())
            self.engine.loaded.model.train(was_training)
        return self._store.take(rows)

    def _all_features(self) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Run the backbone over every row once."""
        model = self.engine.loaded.model.eval()
        for start in range(0, len(self.data), _WINDOW):
            rows = np.arange(start, min(start + _WINDOW, len(self.data)))
            chosen = {i: self._choose(i) for i in rows.tolist()}
            prompts = [self._prompt(i, own) for i, (own, _) in chosen.items()]
            for part in plan_batches(_lengths_of(prompts), self.engine.batch_tokens):
                labels = [chosen[int(i)][0] for i in rows[part]]
                inputs = self._inputs([prompts[i] for i in part], labels)
                n_columns = max(map(len, labels))
                with torch.no_grad():
                    yield rows[part], model.model.features(**inputs, max_num_classes=n_columns)


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
        return SharedVectors(self.engine.loaded.model.encode_labels(*inputs))

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


def make_steps(
    engine: Engine, data: TrainingSet, options: TrainingOptions, rng: np.random.Generator
) -> Steps:
    """Give what trains the engine's architecture."""
    kinds: dict[str, type[Steps]] = {"bi-encoder": ApartSteps, "bi-encoder-fused": FusedSteps}
    return kinds.get(engine.architecture, JointSteps)(engine, data, options, rng)


def label_tensors(
    engine: Engine, data: TrainingSet, labels: NDArray[np.integer[Any]]
) -> tuple[Tensor, Tensor]:
    """Give the label encoder's arguments for some labels."""
    tokenizer = engine.label_tokenizer
    return engine.to_tensors(
        [[*tokenizer.prefix, *data.labels[int(k)], *tokenizer.suffix] for k in labels],
        label_side=True,
    )


def _lengths_of(prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    lengths = (sum(map(len, prompt.values())) for prompt in prompts)
    return np.fromiter(lengths, dtype=np.int64, count=len(prompts))
