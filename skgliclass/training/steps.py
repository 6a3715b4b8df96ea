"""From the rows of a batch to their loss: what all architectures share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..engine.batching import group_by_length
from ..engine.change import LogitChange
from ..engine.engine import Engine
from ..engine.memory import in_halves
from ..modeling.features import Scores
from ..modeling.losses import loss_weight, total_loss
from ..prompts.composer import Prompt
from ..prompts.label_plan import prompt_rooms
from ..prompts.packing import PackedTexts, pack_texts
from ..prompts.tokens import TokenIds, count_tokens
from .data import TrainingSet
from .options import TrainingOptions

T = TypeVar("T")

# What a pass costs besides its tokens, counted in tokens: little on a CPU, where a token is slow,
# and much on a GPU, which computes thousands of them while one pass's kernels are launched.
_FIXED_COST = {"cpu": 64}
_FIXED_COST_ELSEWHERE = 1 << 14

# How many tokens a pass may have unless the options say so; where memory does not suffice, halved.
_MAX_TOKENS = {"cpu": 1 << 12}
_MAX_TOKENS_ELSEWHERE = 1 << 15


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
    annotated : Tensor of shape (n_rows, n_labels)
        Whether anybody knows how far the label holds; the loss is over these pairs alone.
    weight : Tensor of shape (n_rows,) or (n_rows, n_labels)
        Of the rows, or of the pairs.
    labels : Tensor of shape (n_labels,) or (n_rows, n_labels), int
        Which label of the training set each column is, for all rows or for each.
    multi_label : bool or Tensor of shape (n_rows,)
        Whether labels hold independently; for each row where a batch mixes both.
    """

    rows: NDArray[np.intp]
    inputs: dict[str, Tensor]
    targets: Tensor
    mask: Tensor
    annotated: Tensor
    weight: Tensor
    labels: Tensor
    multi_label: bool | Tensor

    def total_weight(self) -> Tensor:
        """Give what the loss is a mean over."""
        # Where both kinds are mixed every text counts the same, as texts with one label do.
        pairs_count = self.multi_label if isinstance(self.multi_label, bool) else False
        return loss_weight(self.annotated, multi_label=pairs_count, weight=self.weight)

    def has_weight(self) -> bool:
        """Whether anything in it counts; an example of weight zero is left out of the pass."""
        weight = self.weight if self.weight.dim() == 2 else self.weight[:, None]
        return bool(((weight > 0) & self.annotated).any())


class Steps(ABC):
    """What differs between architectures: preparing a batch and scoring it.

    Parameters
    ----------
    engine : Engine
        Of the model that is trained.
    data : TrainingSet
        What to learn from.
    options : TrainingOptions
        How.
    rng : Generator
        Orders labels and chooses examples.
    """

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
        self.network: Any = engine.loaded.network
        self.device: torch.device = self.network.device
        self.frozen = options.trainable == "head"
        # The vectors of a batch's labels, where they are encoded once for all its micro-batches.
        self._shared: SharedVectors | None = None
        suited = _MAX_TOKENS.get(self.device.type, _MAX_TOKENS_ELSEWHERE)
        self._max_tokens = options.max_batch_tokens or suited
        self._change = None if data.change is None else TensorChange(data.change, self.device)
        self._most_tokens = 0

    def begin(self, rng: np.random.Generator) -> None:
        """Begin a step, or begin it anew."""
        self.rng = rng
        self._shared = None
        self._most_tokens = 0

    def check_divisible(self, error: BaseException) -> None:
        """Tell that memory does not suffice, unless the last batch can be divided further.

        Raises
        ------
        MemoryError
            If it had a row in every micro-batch, or had to stay whole.
        """
        if not self._most_tokens:
            raise MemoryError(
                f"Memory does not suffice for training with one text at a time ({error}). Set "
                "max_length or batch_size, whose labels are kept together, to less, or save "
                'memory by gradient_checkpointing=True, trainable="lora" or trainable="head".'
            ) from error

    def halve_micro_batches(self) -> None:
        """Divide this batch and all later ones into smaller micro-batches."""
        # From what the last batch took, as the limit may have been much more.
        self._max_tokens = self._most_tokens // 2
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @abstractmethod
    def prepare(self, rows: NDArray[np.intp]) -> Iterator[MicroBatch]:
        """Divide a batch into micro-batches."""

    @abstractmethod
    def scores(self, part: MicroBatch) -> list[Scores]:
        """Score a micro-batch; the loss is summed over what is given."""

    def finish(self) -> None:
        """Send gradients back through what the micro-batches of a batch share."""
        if self._shared is not None:
            self._shared.backward()

    def loss(self, part: MicroBatch, normalizer: Tensor) -> Tensor:
        """Give a micro-batch's part of the batch's loss."""
        coef = self.network.config.contrastive_loss_coef
        scores = self.scores(part)
        if self._change is not None:
            # Predictions are of the last, to which the change belongs; others are of lower layers.
            scores[-1] = self._change.added_to(scores[-1], part)
        return total_loss(
            scores,
            part.targets,
            self.options.loss,
            multi_label=part.multi_label,
            mask=part.annotated,
            weight=part.weight,
            normalizer=normalizer,
            contrastive_coef=coef if self.network.has_contrastive_loss else 0.0,
        )

    def micro_batch(
        self,
        rows: NDArray[np.intp],
        inputs: dict[str, Tensor],
        targets: NDArray[np.float32],
        mask: NDArray[np.bool_],
        weight: Tensor,
        labels: NDArray[np.int64],
    ) -> MicroBatch:
        """Put rows together with their targets, of which NaN says that nobody knows."""
        annotated = mask & ~np.isnan(targets)
        return MicroBatch(
            rows,
            inputs,
            # A NaN reaches the gradient even where its loss is masked out.
            self.tensor(np.where(annotated, targets, np.float32(0))),
            # The model reads such a label as it does in prediction.
            self.tensor(mask),
            self.tensor(annotated),
            weight,
            torch.from_numpy(labels),
            self.multi_label(rows),
        )

    def n_tokens(self, part: MicroBatch) -> int:
        """Count the tokens that the backbone reads, without padding."""
        masks = (m for name, m in part.inputs.items() if name.endswith("attention_mask"))
        return sum(int(mask.sum()) for mask in masks)

    def pack(self, rows: NDArray[np.intp], n_label_tokens: NDArray[np.int64]) -> PackedTexts:
        """Fit texts and examples beside their labels, as prediction does."""
        texts, table = self.data.texts.take(rows), self.data.examples
        return pack_texts(
            self.data.composer,
            texts,
            prompt_rooms(self.data.composer, n_label_tokens, texts.task_lengths),
            examples=None if table is None else [self._examples(i) for i in rows.tolist()],
            encoder=None if table is None else table.encoder,
        )

    def _examples(self, i: int) -> list[TokenIds]:
        """Give a random number of a row's examples, so that the model learns to do without."""
        assert self.data.examples is not None
        n_most = self.data.examples.count(i)
        # What is computed once for all epochs shows all that fit.
        n_shown = n_most if self.frozen else int(self.rng.integers(n_most + 1))
        return self.data.examples.first(i, n_shown)

    def multi_label(self, rows: NDArray[np.intp]) -> bool | Tensor:
        """Tell whether the rows' labels hold independently."""
        if self.data.multi_label is None:
            return self.options.multi_label
        return self.tensor(self.data.multi_label[rows])

    def groups(self, lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        """Divide sequences over passes so that padding and the passes cost least together."""
        fixed_cost = _FIXED_COST.get(self.device.type, _FIXED_COST_ELSEWHERE)
        groups = group_by_length(lengths, self._max_tokens, fixed_cost)
        padded = [len(rows) * int(lengths[rows].max()) for rows in groups if len(rows) > 1]
        self._most_tokens = max(self._most_tokens, *padded, 0)
        return groups

    def in_batches(
        self, run: Callable[[NDArray[np.intp]], T], lengths: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.intp], T]]:
        """Run a frozen backbone over rows of such lengths, in batches that memory suffices for."""
        memory = self.engine.border.memory
        waiting = deque(self.engine.batches(lengths))
        while waiting:
            rows = waiting.popleft()
            if memory.allows(lengths[rows]):
                try:
                    result = run(rows)
                except (RuntimeError, MemoryError) as error:
                    memory.note(error, lengths[rows])
                else:
                    yield rows, result
                    continue
            waiting.extendleft(reversed(in_halves(rows)))

    def label_inputs(self, labels: NDArray[np.integer[Any]]) -> tuple[Tensor, Tensor]:
        """Give the label encoder's arguments for some labels."""
        assert self.data.label_sequences is not None
        sequences = self.data.label_sequences
        return self.engine.border.label_inputs([sequences[k] for k in labels.tolist()])

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Put an array where the model is."""
        return self.engine.border.tensor(array)


class TensorChange:
    """What is added to logits, in training as in prediction: ``x @ vectors.T + biases``.

    Parameters
    ----------
    change : LogitChange
        Of all labels of the training set, in their order.
    device : torch.device
        Where the model is.
    """

    def __init__(self, change: LogitChange, device: torch.device) -> None:
        self._vectors = torch.from_numpy(change.vectors).to(device)
        self._biases = torch.from_numpy(change.biases).to(device)

    def added_to(self, scores: Scores, part: MicroBatch) -> Scores:
        """Give the scores of a micro-batch after the change; it is no weight and stays as it is."""
        x = F.normalize(scores.text_vectors(part.inputs.get("attention_mask")).float(), dim=-1)
        labels = part.labels.to(x.device)
        if labels.dim() == 1:
            added = x @ self._vectors[labels].T + self._biases[labels]
        else:
            added = (x @ self._vectors.T + self._biases).gather(1, labels)
        return replace(scores, logits=scores.logits + added)


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
        # Vectors of a frozen encoder need no gradients, and neither does their copy.
        self.leaf = vectors.detach().requires_grad_(vectors.requires_grad)

    def backward(self) -> None:
        """Send the gradients that the copy has gathered back through the encoder."""
        if self.leaf.grad is not None:
            self._vectors.backward(self.leaf.grad)
            self.leaf.grad = None


def prompt_lengths(prompts: Sequence[Prompt]) -> NDArray[np.int64]:
    """Count the tokens of each prompt, over all of its sequences."""
    lengths = (
        sum(int(count_tokens(pieces).sum()) for pieces in prompt.values()) for prompt in prompts
    )
    return np.fromiter(lengths, dtype=np.int64, count=len(prompts))
