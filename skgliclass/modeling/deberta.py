"""A forward pass of DeBERTa-v2 and v3, with relative positions as constants of the model."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import attend
from .bert import add_and_normalize, feed_forward, has_own_parts
from .positions import ReadPositions, Sequences, in_place, padding_bias

_BLOCK = 256
"""How many positions are compared with their distances at a time: each block computes distances
that its other positions have alone."""

_MOST_SCORES = 1 << 18
"""How many of these scores are held at a time, so that they stay in the cache of a core."""


def deberta_forward(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
) -> Tensor:
    """Do what :func:`~.passes.run_encoder` does, for a DeBERTa-v2 or v3.

    Attention scores have three parts: content with content, content with the distance to the
    other position, and the other's content with that distance. The vectors of the distances do
    not depend on the text, and each position's scores of all distances, laid out row by row, hold
    those of its neighbours at the same steps in memory, so that nothing needs to be gathered.
    Padding is left out, text by text.

    Dropout is drawn from the same distributions as in transformers, but not in the same order.
    """
    embedded: Tensor = encoder.embeddings(input_ids=input_ids, mask=attention_mask)
    sequences = Sequences.of(attention_mask)
    hidden = sequences.join(embedded)
    inner = encoder.encoder
    last = len(inner.layer) - 1
    tables = _tables_of(encoder, int(input_ids.shape[1]))
    for number, (layer, table) in enumerate(zip(inner.layer, tables, strict=True)):
        convolve = inner.conv if number == 0 else None
        # A convolution looks at neighbours.
        if read is not None and convolve is None and number == last:
            chosen = ReadPositions.of(read)
            padded = sequences.pad(hidden)
            vectors = _run_last_layer(layer, padded, attention_mask, table, chosen)
            return chosen.put(vectors, padded)
        hidden = _run_layer(layer, hidden, sequences, table)
        if convolve is not None:
            hidden = sequences.join(convolve(embedded, sequences.pad(hidden), attention_mask))
    return sequences.pad(hidden)


def has_relative_layers(encoder: Any) -> bool:
    """Tell whether an encoder of transformers computes what :func:`deberta_forward` does."""
    config = encoder.config
    return (
        config.hidden_act == "gelu"
        and getattr(config, "relative_attention", False)
        and set(config.pos_att_type or ()) <= {"c2p", "p2c"}
        and not (encoder.training and encoder.encoder.gradient_checkpointing)
        and all(has_own_parts(layer, _linears(layer)) for layer in encoder.encoder.layer)
    )


def _linears(layer: Any) -> list[nn.Module]:
    attention = layer.attention.self
    names = ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj")
    own = [getattr(attention, name) for name in names if hasattr(attention, name)]
    return [*own, layer.attention.output.dense, layer.intermediate.dense, layer.output.dense]


# The vectors of distances. A distance is the place of the other position minus the own.


@dataclass(frozen=True)
class _Table:
    """A layer's vectors of distances, as keys and as queries, times the scale of scores.

    Attributes
    ----------
    keys, queries : Tensor of shape (n_heads, n_distances, head width) or None
        None where scores have no such part.
    """

    keys: Tensor | None
    queries: Tensor | None

    def at(self, of_keys: Tensor, of_queries: Tensor) -> _Table:
        """Give the vectors of some rows."""
        return _Table(
            None if self.keys is None else self.keys[:, of_keys],
            None if self.queries is None else self.queries[:, of_queries],
        )


@dataclass(frozen=True)
class _Rows:
    """Which row of a layer's table of positions each distance has, from 1 - length to length - 1.

    Attributes
    ----------
    keys, queries : Tensor of shape (2 length - 1,)
    """

    keys: Tensor
    queries: Tensor

    @classmethod
    def of(cls, inner: Any, length: int, device: torch.device) -> _Rows:
        """Find them as transformers does, for the first position and the last."""
        size = inner.layer[0].attention.self.pos_ebd_size
        all_, one = (torch.empty(n, 0, device=device) for n in (length, 1))
        # The own place minus the other.
        of_first, of_last = (
            inner.get_rel_pos(all_, one)[0, 0],
            inner.get_rel_pos(one, all_)[0, :, 0],
        )
        relative = torch.cat((of_last.flip(0), of_first[1:]))
        places = relative.clamp(-size, size - 1) + size
        # From the other position's point of view the same distances run backwards.
        return cls(places, places.flip(0))


def _tables_of(encoder: Any, length: int) -> Iterator[_Table]:
    """Give each layer's table of the distances in sequences of up to this length."""
    inner = encoder.encoder
    if not len(inner.layer):
        return
    rows = _Rows.of(inner, length, inner.rel_embeddings.weight.device)
    if in_place() and not encoder.training:
        for whole in _kept_tables(encoder):
            yield whole.at(rows.keys, rows.queries)
        return
    used, places = torch.cat((rows.keys, rows.queries)).unique(return_inverse=True)
    of_keys, of_queries = places.chunk(2)
    embeddings = inner.get_rel_embedding()[used]
    for layer in inner.layer:
        attention = layer.attention.self
        yield _table(attention, attention.pos_dropout(embeddings)).at(of_keys, of_queries)


_N_SAMPLED = 64
_TABLES: weakref.WeakKeyDictionary[Any, tuple[Tensor, list[_Table]]] = weakref.WeakKeyDictionary()


def _kept_tables(encoder: Any) -> list[_Table]:
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
    """Give a layer's table of these embeddings of positions, by default those that it knows."""
    rows = embeddings[: 2 * attention.pos_ebd_size]
    parts = []
    for name, kind in (("key", "c2p"), ("query", "p2c")):
        project = _position_projection(attention, name) if kind in attention.pos_att_type else None
        heads = None
        if project is not None:
            scaled = project(rows) * _scale(attention)
            heads = scaled.view(len(rows), attention.num_attention_heads, -1)
            heads = heads.transpose(0, 1).contiguous()
        parts.append(heads)
    return _Table(*parts)


def _position_projection(attention: Any, name: str) -> Any:
    suffix = f"{name}_proj" if attention.share_att_key else f"pos_{name}_proj"
    return getattr(attention, suffix, None)


def _scale(attention: Any) -> float:
    """Give what a product of two vectors is multiplied by, which keeps all three parts as one."""
    width: int = attention.attention_head_size
    return float((width * (1 + len(set(attention.pos_att_type)))) ** -0.5)


# Layers.


def _run_layer(layer: Any, hidden: Tensor, sequences: Sequences, table: _Table) -> Tensor:
    """Give a layer's vectors of all positions of the sequences."""
    attention = layer.attention.self
    shape = len(hidden), attention.num_attention_heads, -1
    projections = attention.query_proj, attention.key_proj, attention.value_proj
    q, k, v = (project(hidden).view(shape).transpose(0, 1) for project in projections)
    read = [
        _attend(attention, q[:, own], k[:, own], v[:, own], table, bias)
        for own, bias in sequences.parts(hidden.dtype)
    ]
    context = layer.attention.output.dense(torch.cat(read))
    return feed_forward(layer, add_and_normalize(layer.attention.output, context, hidden))


def _attend(
    attention: Any, q: Tensor, k: Tensor, v: Tensor, table: _Table, padding: Tensor | None
) -> Tensor:
    """Give what each position of one sequence reads.

    Parameters
    ----------
    attention : module
        Of which the vectors are.
    q, k, v : Tensor of shape (n_heads, length, head width)
    table : _Table
        Of sequences at least as long.
    padding : Tensor of shape (length,), or None
        What is added to the scores of each position.

    Returns
    -------
    Tensor of shape (length, n_heads * head width)
    """
    length, dropout = q.shape[1], _dropout(attention)
    block = min(length, _BLOCK)
    n_heads = max(1, _MOST_SCORES // (block * (length + block)))
    read = []
    for start in range(0, len(q), n_heads):
        heads = slice(start, start + n_heads)
        bias = _position_bias(q[heads], k[heads], table, heads)
        if padding is not None:
            bias = padding if bias is None else bias + padding
        read.append(
            attend(
                q[None, heads],
                k[None, heads],
                v[None, heads],
                None if bias is None else bias.contiguous()[None],
                dropout=dropout,
                scale=_scale(attention),
            )
        )
    return torch.cat(read, dim=1)[0].transpose(0, 1).flatten(1)


def _dropout(attention: Any) -> float:
    return float(attention.dropout.p) if attention.dropout.training else 0.0


def _position_bias(q: Tensor, k: Tensor, table: _Table, heads: slice) -> Tensor | None:
    """Give the scores of distances, of shape (n_heads, length, length)."""
    of_keys = None if table.keys is None else _scores_of_distances(q, table.keys[heads])
    if table.queries is None:
        return of_keys
    of_queries = _scores_of_distances(k, table.queries[heads]).transpose(1, 2)
    return of_queries if of_keys is None else of_keys + of_queries


def _scores_of_distances(vectors: Tensor, table: Tensor) -> Tensor:
    """Give each position's scores of the distances to all positions.

    Parameters
    ----------
    vectors : Tensor of shape (n_heads, length, head width)
    table : Tensor of shape (n_heads, n_distances, head width)
        The vector of distance 0 is in the middle.

    Returns
    -------
    Tensor of shape (n_heads, length, length)
    """
    length, middle = vectors.shape[1], table.shape[1] // 2
    blocks = []
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        met = table[:, middle + 1 - stop : middle + length - start]
        scores = vectors[:, start:stop] @ met.transpose(1, 2)
        blocks.append(_along_rows(scores, length))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _along_rows(scores: Tensor, length: int) -> Tensor:
    """Turn each position's scores of all distances into those of all positions, as a view.

    The last position's scores begin with position 0. One position earlier, position 0 stands one
    step later.
    """
    n_heads, n_rows, _ = scores.shape
    of_head, of_row, _ = scores.stride()
    offset = scores.storage_offset() + n_rows - 1
    return scores.as_strided((n_heads, n_rows, length), (of_head, of_row - 1, 1), offset)


# The last layer, of which only some positions are read.


def _run_last_layer(
    layer: Any, hidden: Tensor, attention_mask: Tensor, table: _Table, chosen: ReadPositions
) -> Tensor:
    """Give a layer's vectors of the chosen positions, which read all of `hidden`."""
    attention = layer.attention.self
    asking = chosen.take(hidden)
    shape = len(hidden), -1, attention.num_attention_heads, attention.attention_head_size
    flat, asked = hidden.flatten(0, 1), asking.flatten(0, 1)
    q, k, v = (
        project(vectors).view(shape).transpose(1, 2)
        for project, vectors in (
            (attention.query_proj, asked),
            (attention.key_proj, flat),
            (attention.value_proj, flat),
        )
    )
    bias = padding_bias(attention_mask, hidden.dtype)
    for scores in _chosen_scores(q, k, table, chosen):
        bias = scores if bias is None else bias + scores
    context = attend(q, k, v, bias, dropout=_dropout(attention), scale=_scale(attention))
    context = layer.attention.output.dense(context.transpose(1, 2).reshape(len(asked), -1))
    attended = add_and_normalize(layer.attention.output, context, asked)
    return feed_forward(layer, attended).view_as(asking)


def _chosen_scores(q: Tensor, k: Tensor, table: _Table, chosen: ReadPositions) -> Iterator[Tensor]:
    """Give parts of the chosen positions' scores, of shape (batch, n_heads, n_read, length)."""
    length = k.shape[2]
    ahead = torch.arange(length, device=q.device) - chosen.positions[:, :, None]
    if table.keys is not None:
        rows = (ahead + (length - 1))[:, None].expand(-1, q.shape[1], -1, -1)
        yield (q @ table.keys.transpose(1, 2)).gather(3, rows)
    if table.queries is not None:
        rows = ((length - 1) - ahead).transpose(1, 2)[:, None].expand(-1, q.shape[1], -1, -1)
        scores = k @ table.queries.transpose(1, 2)
        yield scores.gather(3, rows).transpose(2, 3)
