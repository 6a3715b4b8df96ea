"""The models as functions of tensors whose shapes depend on no value, which can be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..modeling.architecture import Architecture
from ..modeling.bi_encoder import BiEncoder
from ..modeling.features import Features, Markers, class_features
from ..modeling.uni_encoder import UniEncoder

Axes: TypeAlias = Mapping[int, str]

_SEQUENCES: dict[str, Axes] = {
    "input_ids": {0: "batch", 1: "length"},
    "attention_mask": {0: "batch", 1: "length"},
}
_LABELS: dict[str, Axes] = {
    "input_ids": {0: "n_labels", 1: "length"},
    "attention_mask": {0: "n_labels", 1: "length"},
}


@dataclass(frozen=True)
class Graph:
    """One function to export.

    Attributes
    ----------
    module : nn.Module
        Takes the inputs by position and gives one tensor.
    inputs : dict of str to Tensor
        An example of each input, of sizes that differ from each other.
    axes : dict of str to dict of int to str
        For each input the names of the axes that may have any size.
    output : str
        The name of the result.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    axes: Mapping[str, Axes]
    output: str


class AddedChange(nn.Module):
    """What was learnt for some classes, which logits of these, in their order, get.

    Parameters
    ----------
    vectors : Tensor of shape (n_classes, width)
    biases : Tensor of shape (n_classes,)
    """

    vectors: Tensor
    biases: Tensor

    def __init__(self, vectors: Tensor, biases: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("biases", biases)

    def forward(self, logits: Tensor, text: Tensor) -> Tensor:
        """Add it, by the texts' vectors."""
        x = nn.functional.normalize(text, dim=-1)
        return logits + x @ self.vectors.T + self.biases

    def __len__(self) -> int:
        return len(self.biases)


def make_graphs(network: Architecture, change: AddedChange | None = None) -> dict[str, Graph]:
    """Give what computes a model's logits, without control flow that depends on the data.

    Parameters
    ----------
    network : Architecture
        A uni-encoder or a bi-encoder.
    change : AddedChange, optional
        What was learnt for some classes: the graphs then take just these, in their order.

    Returns
    -------
    dict of str to Graph
        ``"model"``: logits from prompts and the positions of their label markers. Of a bi-encoder
        ``"texts"`` and ``"labels"``: vectors from tokens; ``"scorer"``: logits from vectors.

    Raises
    ------
    NotImplementedError
        If the model is of another architecture, or reads the text with an LSTM.
    """
    # Its packed sequences have shapes that depend on the lengths of the texts.
    if network.config.use_lstm:
        raise NotImplementedError("A model with use_lstm=True cannot be exported.")
    make = GRAPHS[network.name]
    if make is None:
        able = " or ".join(name for name, function in GRAPHS.items() if function is not None)
        raise NotImplementedError(f"A {network.name} cannot be exported, only a {able}.")
    return make(network, change)


@dataclass(frozen=True)
class PlacedMarkers(Markers):
    """Markers whose positions are known, so that no shape depends on what a sequence holds.

    Attributes
    ----------
    positions : Tensor of shape (batch, n_columns)
        Where each row's markers are, in ascending order; -1 where it has no more.
    """

    positions: Tensor

    @property
    def class_mask(self) -> Tensor:
        """Whether a column is a label of the row: bool, of shape (batch, n_columns)."""
        return self.positions >= 0

    def pick(self, hidden: Tensor, offset: int = 0) -> Tensor:
        """Give each marker's vector, or that of a token after it; zeros where there is none."""
        chosen = self.positions + offset
        fits = self.class_mask & (chosen < hidden.shape[1])
        # gather needs a place within the sequence even where its result is masked.
        index = torch.where(fits, chosen, 0)[..., None].expand(-1, -1, hidden.shape[2])
        return hidden.gather(1, index).masked_fill(~fits[..., None], 0)


class PlacedUniEncoder(nn.Module):
    """A uni-encoder that is told where the label markers are.

    Parameters
    ----------
    model : UniEncoder
        Its modules are shared.
    change : AddedChange, optional
        What its logits get.
    """

    def __init__(self, model: UniEncoder, change: AddedChange | None = None) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, input_ids: Tensor, attention_mask: Tensor, label_positions: Tensor) -> Tensor:
        """Give logits of shape (batch, n_labels); minus infinity where a row has fewer labels."""
        model, config = self.model, self.model.config
        hidden = model.encode(input_ids, attention_mask)
        at = input_ids.eq(config.class_token_index) & attention_mask.bool()
        markers = PlacedMarkers(at, label_positions.shape[1], label_positions)
        text, text_mask = model.pooled_text(hidden, input_ids, attention_mask)
        classes = class_features(hidden, input_ids, attention_mask, markers, config)
        scores = model.score(Features(text, text_mask, classes, markers.class_mask))
        logits = scores.logits
        if self.change is not None:
            logits = self.change(logits, scores.text_vectors(attention_mask))
        return logits.masked_fill(~markers.class_mask, float("-inf"))


# The exporter calls a module, so a method that is a graph needs one around it.
class _Method(nn.Module):
    def __init__(self, model: BiEncoder, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        result: Tensor = getattr(self.model, self.name)(first, second)
        return result


class _ChangedScorer(nn.Module):
    def __init__(self, model: BiEncoder, change: AddedChange) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, text: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = self.change(self.model.score_vectors(text, labels), text)
        return logits


def _uni_encoder_graphs(model: Any, change: AddedChange | None) -> dict[str, Graph]:
    n_labels = 3 if change is None else len(change)
    # Two rows and not one: the exporter takes a size of one for a constant.
    length = 2 * n_labels + 6
    ids, mask = _sequences(model.config.encoder_config.vocab_size, n_rows=2, length=length)
    places = torch.arange(n_labels) * 2 + 1
    ids[:, places] = model.config.class_token_index
    ids[:, 2 * n_labels + 1] = model.config.text_token_index
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "label_positions": places.expand(2, -1).contiguous(),
    }
    of_labels = {0: "batch", 1: "n_labels"} if change is None else {0: "batch"}
    axes = {**_SEQUENCES, "label_positions": of_labels}
    return {"model": Graph(PlacedUniEncoder(model, change), inputs, axes, "logits")}


def _bi_encoder_graphs(model: Any, change: AddedChange | None) -> dict[str, Graph]:
    n_labels = 3 if change is None else len(change)
    config = model.config
    texts = _sequences(config.encoder_config.vocab_size, n_rows=2, length=12)
    labels = _sequences(config.label_model_config.vocab_size, n_rows=3, length=7)
    width = config.encoder_config.hidden_size
    vectors = {"text_vectors": torch.ones(2, width), "label_vectors": torch.ones(n_labels, width)}
    of_labels = {0: "n_labels"} if change is None else {}
    vector_axes: dict[str, Axes] = {"text_vectors": {0: "batch"}, "label_vectors": of_labels}
    scorer = _Method(model, "score_vectors") if change is None else _ChangedScorer(model, change)
    names = "input_ids", "attention_mask"
    return {
        "texts": Graph(
            _Method(model, "encode_texts"),
            dict(zip(names, texts, strict=True)),
            _SEQUENCES,
            "text_vectors",
        ),
        "labels": Graph(
            _Method(model, "encode_labels"),
            dict(zip(names, labels, strict=True)),
            _LABELS,
            "label_vectors",
        ),
        "scorer": Graph(scorer, vectors, vector_axes, "logits"),
    }


def _sequences(vocab_size: int, n_rows: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.arange(n_rows * length).reshape(n_rows, length) % vocab_size
    mask = torch.ones_like(ids)
    # A tracer must see that there is padding.
    mask[-1, -2:] = 0
    return ids, mask


GRAPHS: dict[str, Callable[[Any, AddedChange | None], dict[str, Graph]] | None] = {
    "uni-encoder": _uni_encoder_graphs,
    "bi-encoder": _bi_encoder_graphs,
    "bi-encoder-fused": None,
    "encoder-decoder": None,
    "encoder-decoder-cls": None,
    "decoder-kv": None,
}
"""What makes the graphs of each architecture; None where there are none."""
