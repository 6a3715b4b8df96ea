"""The fused bi-encoder: labels are encoded apart, then read together with the text."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .bi_encoder import BiEncoder
from .features import MASKED_LOGIT, Features, Scores
from .pooling import pool


class BiEncoderFused(BiEncoder):
    """A bi-encoder whose label vectors stand for words in the text encoder's prompt.

    The prompt holds a bare marker for each label; its word embedding is replaced by the label's
    vector. So a label costs one token, however long it is, and can still be encoded once for many
    texts.
    """

    name: ClassVar[str] = "bi-encoder-fused"
    encodes_labels_apart: ClassVar[bool] = False

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind."""
        return {"prompt_first": True}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        labels_mask: Tensor | None = None,
        label_vectors: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> Scores:
        """Score labels against texts.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Prompts with one marker for each label of the row, padded on the right.
        class_input_ids, class_attention_mask : Tensor, optional
            The labels: (n_labels, length) for labels that all texts share, or
            (batch, n_labels, length).
        labels_mask : Tensor of shape (batch, n_labels), optional
            Which labels a row has, in the order of its markers; by default as many of the first
            as it has markers. The other logits are -1000.
        label_vectors : Tensor of shape (n_labels, width) or (batch, n_labels, width), optional
            What :meth:`encode_labels` gave, in place of the labels' tokens.
        max_num_classes : int, optional
            No influence: there are as many columns as labels.
        """
        return self.score(
            self.features(
                input_ids,
                attention_mask,
                class_input_ids,
                class_attention_mask,
                labels_mask,
                label_vectors,
            )
        )

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        labels_mask: Tensor | None = None,
        label_vectors: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> Features:
        """Encode the labels, run the text encoder over the prompts, and pool.

        The arguments are those of :meth:`forward`. The projections of the labels come before the
        text encoder, so what is given here depends on them.
        """
        vectors = label_vectors
        if vectors is None:
            vectors = self._encode_shaped(class_input_ids, class_attention_mask)
        markers = input_ids.eq(self.config.class_token_index) & attention_mask.bool()
        class_mask = _checked_mask(markers, labels_mask, vectors.shape[-2])
        # Both masks are gone through row by row, and each row has as many labels as markers: so the
        # k-th marker of a row meets its k-th label.
        rows, positions = markers.nonzero(as_tuple=True)
        columns = class_mask.nonzero(as_tuple=True)[1]
        chosen = vectors[columns] if vectors.dim() == 2 else vectors[rows, columns]
        words = self.encoder_model.get_input_embeddings()(input_ids)
        # Vectors of length one are float32, whatever the backbone computes in.
        words = words.index_put((rows, positions), chosen.to(words.dtype))
        # Not by `run_encoder`: its fast passes begin with ids.
        hidden = self.encoder_model(inputs_embeds=words, attention_mask=attention_mask)[0]
        classes = hidden.new_zeros(*class_mask.shape, hidden.shape[-1])
        classes = classes.index_put((rows, columns), hidden[rows, positions])
        text = pool(hidden, attention_mask, self.config.pooling_strategy)
        return Features(text, attention_mask, classes, class_mask)

    def score(self, features: Features) -> Scores:
        """Project the text and compare what :meth:`features` gives."""
        # Labels were projected before the backbone read them; the reference does not do so again.
        text = self.project_texts(features.text)
        logits = self.score_vectors(text, features.classes, features.class_mask)
        logits = logits.masked_fill(~features.class_mask, MASKED_LOGIT)
        return Scores(logits, text, features.classes, features.class_mask)


def _checked_mask(markers: Tensor, labels_mask: Tensor | None, n_labels: int) -> Tensor:
    """Give the labels of each row, of which there must be as many as markers."""
    n_markers = markers.sum(dim=1)
    if labels_mask is None:
        mask = torch.arange(n_labels, device=markers.device) < n_markers[:, None]
    else:
        mask = labels_mask.bool()
    wrong = (mask.sum(dim=1) != n_markers).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"Row {row} has {int(n_markers[row])} label markers in its prompt, but "
            f"{int(mask[row].sum())} labels. Put one marker for each label, and do not cut it off."
        )
    return mask
