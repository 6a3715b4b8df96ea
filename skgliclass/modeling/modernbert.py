"""A forward pass of ModernBERT: what transformers' own computes, with less moved through memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .positions import ReadPositions, in_place, padding_bias

_KINDS = ("full_attention", "sliding_attention")


def modernbert_forward(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
) -> Tensor:
    """Run a ModernBERT encoder.

    Where a layer's attention is local it is computed for blocks of neighbouring positions, with
    what these can reach.

    Parameters
    ----------
    encoder : transformers' ModernBertModel
        Whose weights are used.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Sequences, padded on the right.
    read : Tensor of shape (batch, length), optional
        Nonzero at the positions whose vectors will be looked at; by default all that are no
        padding. The last layer then need not compute the others.

    Returns
    -------
    Tensor of shape (batch, length, width)
        Vectors at padded positions, and at those that nobody looks at, have no meaning.
    """
    hidden = encoder.embeddings(input_ids=input_ids)
    layers = list(encoder.layers)
    if not layers:
        normalized: Tensor = encoder.final_norm(hidden)
        return normalized
    chosen = None if read is None else ReadPositions.of(read)
    sequences = _Sequences.of(encoder, hidden, attention_mask)
    for layer in layers[:-1]:
        hidden = _run_layer(layer, hidden, sequences)
    if chosen is None:
        return _normalized(encoder.final_norm, _run_layer(layers[-1], hidden, sequences))
    vectors = _run_last_layer(layers[-1], hidden, sequences, chosen)
    return chosen.put(_normalized(encoder.final_norm, vectors), hidden)


def has_modern_layers(encoder: Any) -> bool:
    """Tell whether an encoder of transformers computes what :func:`modernbert_forward` does."""
    config = encoder.config
    return (
        config.hidden_activation == "gelu"
        and set(config.layer_types) <= set(_KINDS)
        # Dropout would have to be drawn in the same order.
        and not (encoder.training and (_drops(config) or encoder.gradient_checkpointing))
        # A module put in the place of another (an adapter) may do anything.
        and all(
            type(linear) is nn.Linear
            for layer in encoder.layers
            for linear in (layer.attn.Wqkv, layer.attn.Wo, layer.mlp.Wi, layer.mlp.Wo)
        )
    )


def _drops(config: Any) -> bool:
    return any((config.embedding_dropout, config.attention_dropout, config.mlp_dropout))


def _normalized(norm: nn.Module, vectors: Tensor) -> Tensor:
    normalized: Tensor = norm(vectors)
    return normalized


@dataclass(frozen=True)
class _Sequences:
    """What all layers need to know of a batch.

    Attributes
    ----------
    padding : Tensor of shape (batch, 1, 1, length) or None
        What is added to attention scores.
    angles : dict
        For each kind of layer the cosines and sines of its rotation, of shape
        (length, head width / 2).
    window : int
        How far a position reaches in layers whose attention is local.
    head_width : int
        The width of an attention head.
    """

    padding: Tensor | None
    angles: dict[str, tuple[Tensor, Tensor]]
    window: int
    head_width: int

    @classmethod
    def of(cls, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> _Sequences:
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        angles = {}
        for kind in set(encoder.config.layer_types):
            cosines, sines = encoder.rotary_emb(hidden, positions, kind)
            # The second half repeats the first.
            half = cosines.shape[2] // 2
            angles[kind] = cosines[0, :, :half], sines[0, :, :half]
        padding = padding_bias(attention_mask, hidden.dtype)
        config = encoder.config
        head_width = config.hidden_size // config.num_attention_heads
        return cls(padding, angles, config.sliding_window, head_width)

    def heads(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Give vectors as (*shape, n_heads, head width)."""
        return flat.view(*shape, -1, self.head_width)


def _run_layer(layer: Any, hidden: Tensor, sequences: _Sequences) -> Tensor:
    shape = hidden.shape[:2]
    flat = hidden.flatten(0, 1)
    qkv = sequences.heads(layer.attn.Wqkv(layer.attn_norm(flat)), (*shape, 3))
    cosines, sines = (angle[:, None, None] for angle in sequences.angles[layer.attention_type])
    # Queries and keys at once.
    rotated = _rotate(qkv[:, :, :2], cosines, sines)
    q, k = (vectors.transpose(1, 2) for vectors in rotated.unbind(2))
    v = qkv[:, :, 2].transpose(1, 2)
    context = _attend(layer, q, k, v, sequences)
    attended = _add(flat, layer.attn.Wo, context.transpose(1, 2).flatten(2).flatten(0, 1))
    return _feed_forward(layer, attended).view_as(hidden)


def _run_last_layer(
    layer: Any, hidden: Tensor, sequences: _Sequences, chosen: ReadPositions
) -> Tensor:
    """Give a layer's vectors of the chosen positions, which read all of `hidden`."""
    shape = hidden.shape[:2]
    width = hidden.shape[2]
    normed = layer.attn_norm(hidden.flatten(0, 1)).view_as(hidden)
    weight, bias = layer.attn.Wqkv.weight, layer.attn.Wqkv.bias
    of_query, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
    asking = F.linear(chosen.take(normed), weight[:width], of_query)
    kv = F.linear(normed.flatten(0, 1), weight[width:], of_others)
    kv = sequences.heads(kv, (*shape, 2))
    cosines, sines = sequences.angles[layer.attention_type]
    k = _rotate(kv[:, :, 0], cosines[:, None], sines[:, None]).transpose(1, 2)
    angles = (angle[chosen.positions][:, :, None] for angle in (cosines, sines))
    q = _rotate(sequences.heads(asking, asking.shape[:2]), *angles).transpose(1, 2)
    bias = sequences.padding
    if layer.attention_type == "sliding_attention":
        places = torch.arange(shape[1], device=hidden.device)
        far = (chosen.positions[:, :, None] - places).abs() > sequences.window
        bias = _with_padding(_minus_infinity(far, hidden.dtype)[:, None], bias)
    context = F.scaled_dot_product_attention(q, k, kv[:, :, 1].transpose(1, 2), attn_mask=bias)
    before = chosen.take(hidden).flatten(0, 1)
    attended = _add(before, layer.attn.Wo, context.transpose(1, 2).flatten(2).flatten(0, 1))
    return _feed_forward(layer, attended).view(*chosen.positions.shape, width)


def _rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate pairs of a vector's halves by the angles of its position."""
    first, second = vectors.chunk(2, dim=-1)
    if not in_place():
        return torch.cat(
            (first * cosines - second * sines, second * cosines + first * sines), dim=-1
        )
    before = first.clone()
    first.mul_(cosines).addcmul_(second, sines, value=-1)
    second.mul_(cosines).addcmul_(before, sines)
    return vectors


def _attend(layer: Any, q: Tensor, k: Tensor, v: Tensor, sequences: _Sequences) -> Tensor:
    """Give what each position reads, of shape (batch, n_heads, length, head width)."""
    window = sequences.window
    if layer.attention_type == "full_attention" or q.shape[2] <= window + 1:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=sequences.padding)
    read = []
    for block, reach in _blocks(q.shape[2], window):
        places = (torch.arange(part.start, part.stop, device=q.device) for part in (block, reach))
        own, others = places
        far = _minus_infinity((own[:, None] - others).abs() > window, q.dtype)
        padding = None if sequences.padding is None else sequences.padding[..., reach]
        bias = _with_padding(far, padding)
        read.append(
            F.scaled_dot_product_attention(
                q[:, :, block], k[:, :, reach], v[:, :, reach], attn_mask=bias
            )
        )
    return torch.cat(read, dim=2)


def _blocks(length: int, window: int) -> Iterator[tuple[slice, slice]]:
    """Cut positions into blocks; give with each what its positions can reach."""
    size = max(1, 2 * window)
    for start in range(0, length, size):
        stop = min(start + size, length)
        yield slice(start, stop), slice(max(0, start - window), min(length, stop + window))


def _minus_infinity(where: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(where.shape, dtype=dtype, device=where.device).masked_fill_(
        where, -torch.inf
    )


def _with_padding(bias: Tensor, padding: Tensor | None) -> Tensor:
    return bias if padding is None else bias + padding


def _add(before: Tensor, linear: nn.Linear, vectors: Tensor) -> Tensor:
    """Add what a half of a layer changes."""
    if not in_place():
        changed: Tensor = before + linear(vectors)
        return changed
    # The product is added where it is computed.
    before.addmm_(vectors, linear.weight.t())
    bias: Tensor | None = linear.bias
    return before if bias is None else before.add_(bias)


def _feed_forward(layer: Any, attended: Tensor) -> Tensor:
    """Run the second half of a layer, which looks at each position by itself."""
    inner, gate = layer.mlp.Wi(layer.mlp_norm(attended)).chunk(2, dim=-1)
    gated = torch.ops.aten.gelu_(inner).mul_(gate) if in_place() else F.gelu(inner) * gate
    return _add(attended, layer.mlp.Wo, gated)
