"""What passes between a backbone and the heads, and how labels are found among the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .config import GLiClassConfig

MASKED_LOGIT = -1e3
"""What stands in the column of a label that a row does not have."""


@dataclass
class Features:
    """What the heads work on, before any projection.

    Attributes
    ----------
    text : Tensor of shape (batch, width), or (batch, length, width) where tokens are not pooled
    text_mask : Tensor of shape (batch, length)
        Nonzero at the tokens that `text` was made of.
    classes : Tensor of shape (batch, n_labels, width)
    class_mask : Tensor of shape (batch, n_labels)
        Whether a column is a label of the row.
    """

    text: Tensor
    text_mask: Tensor
    classes: Tensor
    class_mask: Tensor


@dataclass
class Scores:
    """What an architecture gives back for one micro-batch.

    Attributes
    ----------
    logits : Tensor of shape (batch, n_labels)
    text_embeddings : Tensor of shape (batch, width), or (batch, length, width) without pooling
        The projected text vectors.
    class_embeddings : Tensor of shape (batch, n_labels, width) or, shared, (n_labels, width)
        The projected label vectors.
    class_mask : Tensor of shape (batch, n_labels)
        Whether a column is a label of the row.
    text_mask : Tensor of shape (batch, length), optional
        Which positions of text vectors without pooling count.
    """

    logits: Tensor
    text_embeddings: Tensor
    class_embeddings: Tensor
    class_mask: Tensor
    text_mask: Tensor | None = None

    def text_vectors(self, attention_mask: Tensor | None) -> Tensor:
        """Give one vector a text: where the scorer attends to all tokens, the mean of theirs."""
        vectors = self.text_embeddings
        if vectors.dim() == 2:
            return vectors
        mask = attention_mask if self.text_mask is None else self.text_mask
        assert mask is not None
        weights = mask.to(vectors.dtype)[..., None]
        return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


@dataclass(frozen=True)
class Markers:
    """Where a batch of token sequences has its label markers.

    Attributes
    ----------
    at : Tensor of shape (batch, length)
        Whether a position holds a marker.
    n_columns : int
        How many labels each row is given; where it has fewer markers, the rest is masked.
    """

    at: Tensor
    n_columns: int

    @classmethod
    def of(
        cls, input_ids: Tensor, attention_mask: Tensor, marker: int, n_columns: int | None = None
    ) -> Markers:
        """Find the markers; by default there are as many columns as the fullest row has."""
        at = input_ids.eq(marker) & attention_mask.bool()
        # Asking a tensor for a number makes a GPU wait, so whoever knows it says so.
        return cls(at, int(at.sum(dim=1).max()) if n_columns is None else n_columns)

    @property
    def class_mask(self) -> Tensor:
        """Whether a column is a label of the row: bool, of shape (batch, n_columns)."""
        columns = torch.arange(self.n_columns, device=self.at.device)
        return columns < self.at.sum(dim=1, keepdim=True)

    def pick(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Give each marker's vector, or that of a token after it; zeros where there is none.

        Parameters
        ----------
        hidden : Tensor of shape (batch, length, width)
            Token vectors.
        offset : int, default=0
            How far after the marker.

        Returns
        -------
        Tensor of shape (batch, n_columns, width)
        """
        rows, positions = self.at.nonzero(as_tuple=True)
        columns = self.at.long().cumsum(dim=1)[rows, positions] - 1
        positions = positions + offset
        fits = (columns < self.n_columns) & (positions < hidden.shape[1])
        rows, columns, positions = rows[fits], columns[fits], positions[fits]
        # The reference multiplies by a matrix of labels by tokens, of which nearly all is zero.
        picked = hidden.new_zeros(len(hidden), self.n_columns, hidden.shape[2])
        return picked.index_put((rows, columns), hidden[rows, positions])

    def average(self, hidden: Tensor, counted: Tensor) -> Tensor:
        """Give the mean over the tokens from each marker to the next; zeros if there is none.

        Parameters
        ----------
        hidden : Tensor of shape (batch, length, width)
            Token vectors.
        counted : Tensor of shape (batch, length)
            Which tokens take part.

        Returns
        -------
        Tensor of shape (batch, n_columns, width)
        """
        rank = self.at.long().cumsum(dim=1)
        columns = torch.arange(1, self.n_columns + 1, device=hidden.device)
        spans = (rank[:, None] == columns[:, None]) & counted[:, None]
        weights = spans.to(hidden.dtype)
        return weights @ hidden / weights.sum(dim=2, keepdim=True).clamp_min(1)


def class_features(
    hidden: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    markers: Markers,
    config: GLiClassConfig,
) -> Tensor:
    """Give one vector for each label that a sequence holds, as the configuration says.

    Parameters
    ----------
    hidden : Tensor of shape (batch, length, width)
        The token vectors of the sequences that hold the labels.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Those sequences.
    markers : Markers
        Where the labels are.
    config : GLiClassConfig
        Whether to take markers or means.

    Returns
    -------
    Tensor of shape (batch, n_columns, width)
    """
    if config.class_token_pooling != "average":
        return markers.pick(hidden, offset=0 if config.embed_class_token else 1)
    # The last label's span runs on over the text marker and what follows unless these are told
    # apart; the published checkpoints with averaged labels were trained so.
    counted = attention_mask.bool()
    if config.extract_text_features:
        is_text = input_ids.eq(config.text_token_index)
        counted = counted & is_text.long().cumsum(dim=1).eq(0)
    if not config.embed_class_token:
        counted = counted & ~markers.at
    return markers.average(hidden, counted)
