"""A BERT whose one forward pass predicts and trains, and which transformers' own can use too."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import attend
from .positions import ReadPositions, in_place, padding_bias


class Bert(nn.Module):
    """A BERT encoder whose weights have the names of transformers' checkpoints.

    It needs no transformers, whose import takes longer than all else before a first prediction.
    The same dropout is drawn in the same order as there, so that a seed trains alike.

    Parameters
    ----------
    config : object
        With the fields of a :class:`transformers.BertConfig`.

    Raises
    ------
    ValueError
        If the activation is another than an exact GELU.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        if config.hidden_act != "gelu":
            raise ValueError(f"hidden_act={config.hidden_act!r} is not supported here, only gelu.")
        self.config = config
        self.embeddings = _Embeddings(config)
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = _parent(layer=nn.ModuleList(layers))
        # Nothing here reads it, but checkpoints hold it and training "all" weights counts it in.
        self.pooler = _parent(dense=nn.Linear(config.hidden_size, config.hidden_size))
        self.recomputes = False

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
    ) -> Tensor:
        """Give the token vectors of the last layer; see :func:`bert_forward`."""
        recompute = self.recomputes and self.training
        run_layer = partial(checkpoint, _run_layer, use_reentrant=False) if recompute else None
        return bert_forward(self, input_ids, attention_mask, read, run_layer)

    def get_input_embeddings(self) -> nn.Embedding:
        """Give the table of word vectors, by the name that transformers gives this method."""
        return self.embeddings.word_embeddings

    def gradient_checkpointing_enable(self) -> None:
        """Compute activations again when gradients need them, instead of keeping them."""
        self.recomputes = True


def bert_forward(
    encoder: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    read: Tensor | None = None,
    run_layer: Any = None,
) -> Tensor:
    """Run a BERT-like encoder.

    Parameters
    ----------
    encoder : Bert, or transformers' BertModel or another of the same layers
        Whose modules are called.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Sequences, padded on the right.
    read : Tensor of shape (batch, length), optional
        Nonzero at the positions whose vectors will be looked at; by default all that are no
        padding. The last layer then need not compute the others.
    run_layer : callable, optional
        What runs a layer in place of the plain function.

    Returns
    -------
    Tensor of shape (batch, length, width)
        Vectors at padded positions, and at those that nobody looks at, have no meaning.
    """
    run_layer = run_layer or _run_layer
    hidden = encoder.embeddings(input_ids=input_ids)
    bias = padding_bias(attention_mask, hidden.dtype)
    n_heads = encoder.config.num_attention_heads
    layers = list(encoder.encoder.layer)
    # In training a shorter last layer would draw other numbers for its dropout, so that a seed
    # would no longer train as with transformers; and a graph cannot depend on what is read.
    if read is None or encoder.training or torch.compiler.is_compiling() or not layers:
        for layer in layers:
            hidden = run_layer(layer, hidden, hidden, bias, n_heads)
        return hidden
    for layer in layers[:-1]:
        hidden = run_layer(layer, hidden, hidden, bias, n_heads)
    chosen = ReadPositions.of(read)
    vectors = run_layer(layers[-1], chosen.take(hidden), hidden, bias, n_heads)
    return chosen.put(vectors, hidden)


def has_plain_layers(encoder: Any) -> bool:
    """Tell whether an encoder of transformers computes what :func:`bert_forward` does."""
    return (
        encoder.config.hidden_act == "gelu"
        and not encoder.config.is_decoder
        and not (encoder.training and encoder.gradient_checkpointing)
        and all(has_own_parts(layer, _linears(layer)) for layer in encoder.encoder.layer)
    )


def has_own_parts(layer: Any, linears: Iterable[nn.Module]) -> bool:
    """Tell whether modules whose work is done without calling them are those of a BERT."""
    return (
        # A module put in the place of another (an adapter) may do anything.
        all(type(linear) is nn.Linear for linear in linears)
        and type(layer.attention.self.dropout) is nn.Dropout
        and type(layer.intermediate.intermediate_act_fn).__name__ == "GELUActivation"
    )


def _linears(layer: Any) -> tuple[nn.Linear, ...]:
    attention = layer.attention.self
    return (
        attention.query,
        attention.key,
        attention.value,
        layer.attention.output.dense,
        layer.intermediate.dense,
        layer.output.dense,
    )


def _run_layer(
    layer: Any, asking: Tensor, hidden: Tensor, bias: Tensor | None, n_heads: int
) -> Tensor:
    """Give a layer's vectors of the positions that are asking, which read all of `hidden`."""
    query, key, value, dense, _, _ = _linears(layer)
    # Products of matrices are faster than those of batches of them.
    flat, asked = (tensor.reshape(-1, tensor.shape[2]) for tensor in (hidden, asking))
    # Not `len(hidden)`: a tracer would take it for a constant.
    shape = hidden.shape[0], -1, n_heads, hidden.shape[2] // n_heads
    q, k, v = (
        module(vectors).view(shape).transpose(1, 2)
        for module, vectors in ((query, asked), (key, flat), (value, flat))
    )
    dropout = layer.attention.self.dropout.p if layer.training else 0.0
    context = attend(q, k, v, bias, dropout=dropout)
    context = dense(context.transpose(1, 2).reshape(asked.shape))
    attended = add_and_normalize(layer.attention.output, context, asked)
    return feed_forward(layer, attended).view_as(asking)


def feed_forward(layer: Any, attended: Tensor) -> Tensor:
    """Run the second half of a layer, which looks at each position by itself."""
    activated = layer.intermediate.dense(attended)
    # The activations of the inner layer are the largest there are: no second copy of them.
    activated = torch.ops.aten.gelu_(activated) if in_place() else F.gelu(activated)
    return add_and_normalize(layer.output, layer.output.dense(activated), attended)


def add_and_normalize(output: Any, change: Tensor, before: Tensor) -> Tensor:
    """Add what a half of a layer changes, and normalize; `change` may be overwritten."""
    if output.training:
        change = output.dropout(change)
    summed = change.add_(before) if in_place() else change + before
    normalized: Tensor = output.LayerNorm(summed)
    return normalized


# The modules, with the names that checkpoints give them.


class _Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = _table(config.vocab_size, width, config.pad_token_id)
        self.position_embeddings = _table(config.max_position_embeddings, width)
        self.token_type_embeddings = _table(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Add up the vectors of words, kinds and positions, in this order as transformers does."""
        summed = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        summed = summed + self.position_embeddings.weight[: input_ids.shape[1]]
        normalized: Tensor = self.dropout(self.LayerNorm(summed))
        return normalized


def _table(n_rows: int, width: int, padding: int | None = None) -> nn.Embedding:
    # A table with random values, on the device that stands for none, would import torch's compiler.
    return nn.Embedding.from_pretrained(torch.empty(n_rows, width), padding_idx=padding)


class _Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        attention = _parent(
            **{name: nn.Linear(width, width) for name in ("query", "key", "value")},
            dropout=nn.Dropout(config.attention_probs_dropout_prob),
        )
        self.attention = _parent(self=attention, output=_output(config, width))
        self.intermediate = _parent(dense=nn.Linear(width, inner))
        self.output = _output(config, inner)


def _output(config: Any, in_size: int) -> nn.Module:
    return _parent(
        dense=nn.Linear(in_size, config.hidden_size),
        LayerNorm=nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
        dropout=nn.Dropout(config.hidden_dropout_prob),
    )


def _parent(**children: nn.Module) -> nn.Module:
    parent = nn.Module()
    for name, child in children.items():
        parent.add_module(name, child)
    return parent
