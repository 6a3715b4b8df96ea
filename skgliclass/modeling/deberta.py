"""A forward pass of DeBERTa-v2 and v3, with relative positions as constants of the model."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bert import add_and_normalize, feed_forward
from .positions import ReadPositions, padding_bias


def deberta_forward(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
) -> Tensor:
    """Do what :func:`~.passes.run_encoder` does, for a DeBERTa-v2 or v3; it keeps no gradients.

    Attention scores have three parts: content with content, content with the distance to the
    other position, and the other's content with that distance. The vectors of the distances do
    not depend on the text, and each position's scores of all distances, laid out row by row, hold
    those of its neighbours at the same steps in memory, so that nothing needs to be gathered.
    """
    embedded = encoder.embeddings(input_ids=input_ids, mask=attention_mask)
    hidden: Tensor = embedded
    layers = list(encoder.encoder.layer)
    padding = padding_bias(attention_mask, hidden.dtype)
    distances = _distances(encoder.encoder, hidden)
    for number, (layer, table) in enumerate(zip(layers, _tables_of(encoder), strict=True)):
        convolve = encoder.encoder.conv if number == 0 else None
        # A convolution looks at neighbours.
        if read is not None and convolve is None and number == len(layers) - 1:
            chosen = ReadPositions.of(read)
            vectors = _run_layer(layer, hidden, padding, table.rows(distances), chosen)
            return chosen.put(vectors, hidden)
        hidden = _run_layer(layer, hidden, padding, table.rows(distances))
        if convolve is not None:
            hidden = convolve(embedded, hidden, attention_mask)
    return hidden


def has_relative_layers(encoder: Any) -> bool:
    """Tell whether an encoder of transformers computes what :func:`deberta_forward` does."""
    config = encoder.config
    return (
        not encoder.training
        and config.hidden_act == "gelu"
        and getattr(config, "relative_attention", False)
        and set(config.pos_att_type or ()) <= {"c2p", "p2c"}
        # A module put in the place of another (an adapter) may do anything.
        and all(
            type(module) is nn.Linear
            for layer in encoder.encoder.layer
            for module in _linears(layer)
        )
    )


def _linears(layer: Any) -> list[nn.Module]:
    attention = layer.attention.self
    names = ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj")
    own = [getattr(attention, name) for name in names if hasattr(attention, name)]
    return [*own, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense]


# The vectors of distances.


@dataclass(frozen=True)
class _Table:
    """A layer's vectors of relative positions, as keys and as queries.

    Attributes
    ----------
    keys, queries : Tensor of shape (n_heads, n_positions, head width) or None
        None where scores have no such part.
    """

    keys: Tensor | None
    queries: Tensor | None

    def rows(self, distances: Tensor) -> _Table:
        """Give the vectors of these rows."""
        return _Table(
            None if self.keys is None else self.keys[:, distances],
            # Backwards: they are looked up from the other position's point of view.
            None if self.queries is None else self.queries[:, distances.flip(0)],
        )


_N_SAMPLED = 64
_TABLES: weakref.WeakKeyDictionary[Any, tuple[Tensor, list[_Table]]] = weakref.WeakKeyDictionary()


def _tables_of(encoder: Any) -> list[_Table]:
    """Give the tables of all layers, computed again where weights behind them have changed."""
    state = _sample(_weights_behind_tables(encoder))
    kept = _TABLES.get(encoder)
    if kept is None or not _is_same(kept[0], state):
        embeddings = encoder.encoder.get_rel_embedding()
        kept = state, [_table(layer.attention.self, embeddings) for layer in encoder.encoder.layer]
        _TABLES[encoder] = kept
    return kept[1]


def _weights_behind_tables(encoder: Any) -> list[Tensor]:
    inner = encoder.encoder
    modules = [inner.rel_embeddings, *([inner.LayerNorm] if hasattr(inner, "LayerNorm") else [])]
    for layer in inner.layer:
        own = layer.attention.self
        modules += [_position_projection(own, "key"), _position_projection(own, "query")]
    found = (module for module in modules if module is not None)
    return [weight for module in found for weight in module.parameters()]


def _sample(weights: list[Tensor]) -> Tensor:
    """Give some values of each weight.

    torch counts how often a weight was changed, but not through its ``data``, which is how
    adapters are merged into it. A step of training or an adapter changes all of a weight.
    """
    flat = [weight.detach().flatten() for weight in weights]
    return torch.cat([values[:: max(1, len(values) // _N_SAMPLED)] for values in flat])


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)


def _table(attention: Any, embeddings: Tensor) -> _Table:
    n_used = 2 * attention.pos_ebd_size
    parts = []
    for name, kind in (("key", "c2p"), ("query", "p2c")):
        project = _position_projection(attention, name) if kind in attention.pos_att_type else None
        heads = None
        if project is not None:
            heads = project(embeddings[:n_used]).view(n_used, attention.num_attention_heads, -1)
            heads = heads.transpose(0, 1).contiguous()
        parts.append(heads)
    return _Table(*parts)


def _position_projection(attention: Any, name: str) -> Any:
    suffix = f"{name}_proj" if attention.share_att_key else f"pos_{name}_proj"
    return getattr(attention, suffix, None)


def _distances(inner: Any, hidden: Tensor) -> Tensor:
    """Give the row of the tables for each distance, from 1 - length to length - 1.

    A distance is the place of the other position minus the own.
    """
    relative = inner.get_rel_pos(hidden)[0]
    size = inner.layer[0].attention.self.pos_ebd_size if len(inner.layer) else 0
    # The first position's distances are all that are not negative, the last one's the others.
    of_first, of_last = relative[0], relative[-1, :-1]
    rows = torch.cat((of_last, of_first)) + size
    return rows.clamp(0, max(0, 2 * size - 1))


# Layers.


def _run_layer(
    layer: Any,
    hidden: Tensor,
    padding: Tensor | None,
    table: _Table,
    chosen: ReadPositions | None = None,
) -> Tensor:
    """Give a layer's vectors of the chosen positions, by default of all, which read `hidden`."""
    attention = layer.attention.self
    asking = hidden if chosen is None else chosen.take(hidden)
    shape = hidden.shape[0], -1, attention.num_attention_heads, attention.attention_head_size
    flat, asked = hidden.flatten(0, 1), asking.flatten(0, 1)
    q, k, v = (
        project(vectors).view(shape).transpose(1, 2)
        for project, vectors in (
            (attention.query_proj, asked),
            (attention.key_proj, flat),
            (attention.value_proj, flat),
        )
    )
    scale = (attention.attention_head_size * (1 + len(set(attention.pos_att_type)))) ** -0.5
    scores = _position_scores(q, k, table, chosen)
    bias = padding if scores is None else scores.mul_(scale)
    if scores is not None and padding is not None:
        bias = scores.add_(padding)
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    context = context.transpose(1, 2).reshape(len(asked), -1)
    context = layer.attention.output.dense(context)
    attended = add_and_normalize(layer.attention.output, context, asked)
    return feed_forward(layer, attended).view_as(asking)


def _position_scores(
    q: Tensor, k: Tensor, table: _Table, chosen: ReadPositions | None
) -> Tensor | None:
    """Give the scores of distances, of shape (batch, n_heads, length of q, length of k)."""
    parts = []
    if table.keys is not None:
        scores = q @ table.keys.transpose(1, 2)
        parts.append(_along_rows(scores) if chosen is None else _at(scores, chosen, k.shape[2]))
    if table.queries is not None:
        scores = k @ table.queries.transpose(1, 2)
        turned = _along_rows(scores) if chosen is None else _at_others(scores, chosen)
        parts.append(turned.transpose(2, 3))
    if len(parts) == 2:
        return parts[0] + parts[1]
    # Never a view, whose rows overlap.
    return parts[0].clone(memory_format=torch.contiguous_format) if parts else None


def _along_rows(scores: Tensor) -> Tensor:
    """Turn each position's scores of all distances into those of all positions, as a view.

    The scores of position i begin at distance 1 - length, which is position 0 where i is the last;
    one position earlier, position 0 stands one step later.
    """
    batch, n_heads, length, _ = scores.shape
    of_batch, of_head, of_row, _ = scores.stride()
    strides = of_batch, of_head, of_row - 1, 1
    offset = scores.storage_offset() + length - 1
    return scores.as_strided((batch, n_heads, length, length), strides, offset)


def _at(scores: Tensor, chosen: ReadPositions, length: int) -> Tensor:
    """Give the chosen positions' scores of all positions."""
    steps = torch.arange(length, device=scores.device) + (length - 1)
    rows = steps - chosen.positions[:, :, None]
    return scores.gather(3, rows[:, None].expand(-1, scores.shape[1], -1, -1))


def _at_others(scores: Tensor, chosen: ReadPositions) -> Tensor:
    """Give all positions' scores of the chosen."""
    length = scores.shape[2]
    steps = torch.arange(length, device=scores.device)
    rows = chosen.positions[:, None] - steps[:, None] + (length - 1)
    return scores.gather(3, rows[:, None].expand(-1, scores.shape[1], -1, -1))
