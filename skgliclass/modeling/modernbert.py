"""A forward pass of ModernBERT: what transformers' own computes, with less moved through memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend
from .positions import ReadPositions, in_place, padding_bias

_KINDS = ("full_attention", "sliding_attention")


def modernbert_forward(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
) -> Tensor:
    """Do what :func:`~.passes.run_encoder` does, for a ModernBERT.

    Where a layer's attention is local it is computed for blocks of neighbouring positions, with
    what these can reach.
    """
    hidden = encoder.embeddings(input_ids=input_ids)
    layers = list(encoder.layers)
    batch = _Batch.of(encoder, hidden, attention_mask)
    last = layers.pop() if layers and read is not None else None
    for layer in layers:
        hidden = _run_layer(layer, hidden, batch)
    if read is None or last is None:
        normalized: Tensor = encoder.final_norm(hidden)
        return normalized
    chosen = ReadPositions.of(read)
    vectors = _run_last_layer(last, hidden, batch, chosen)
    return chosen.put(encoder.final_norm(vectors), hidden)


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


@dataclass(frozen=True)
class _Block:
    """Neighbouring positions, what they can reach, and what is added to their scores of that."""

    own: slice
    reach: slice
    bias: Tensor


@dataclass(frozen=True)
class _Batch:
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
    blocks : list of _Block
        Those of layers whose attention is local; none where all positions reach each other.
    head_width : int
        The width of an attention head.
    """

    padding: Tensor | None
    angles: dict[str, tuple[Tensor, Tensor]]
    window: int
    blocks: list[_Block]
    head_width: int

    @classmethod
    def of(cls, encoder: Any, hidden: Tensor, attention_mask: Tensor) -> _Batch:
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
        window = config.sliding_window
        # The same for all layers.
        blocks = [] if "sliding_attention" not in angles else list(_blocks(hidden, window, padding))
        return cls(padding, angles, window, blocks, head_width)

    def heads(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Give vectors as (*shape, n_heads, head width)."""
        return flat.view(*shape, -1, self.head_width)


def _run_layer(layer: Any, hidden: Tensor, batch: _Batch) -> Tensor:
    shape = hidden.shape[:2]
    flat = hidden.flatten(0, 1)
    qkv = batch.heads(layer.attn.Wqkv(layer.attn_norm(flat)), (*shape, 3))
    cosines, sines = (angle[:, None, None] for angle in batch.angles[layer.attention_type])
    # Queries and keys at once.
    rotated = _rotate(qkv[:, :, :2], cosines, sines)
    q, k = (vectors.transpose(1, 2) for vectors in rotated.unbind(2))
    v = qkv[:, :, 2].transpose(1, 2)
    context = _attend(layer, q, k, v, batch)
    attended = _add(flat, layer.attn.Wo, context.transpose(1, 2).flatten(2).flatten(0, 1))
    return _feed_forward(layer, attended).view_as(hidden)


def _run_last_layer(layer: Any, hidden: Tensor, batch: _Batch, chosen: ReadPositions) -> Tensor:
    """Give a layer's vectors of the chosen positions, which read all of `hidden`."""
    shape = hidden.shape[:2]
    width = hidden.shape[2]
    normed = layer.attn_norm(hidden.flatten(0, 1)).view_as(hidden)
    weight, bias = layer.attn.Wqkv.weight, layer.attn.Wqkv.bias
    of_query, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
    asking = F.linear(chosen.take(normed), weight[:width], of_query)
    kv = F.linear(normed.flatten(0, 1), weight[width:], of_others)
    kv = batch.heads(kv, (*shape, 2))
    cosines, sines = batch.angles[layer.attention_type]
    k = _rotate(kv[:, :, 0], cosines[:, None], sines[:, None]).transpose(1, 2)
    angles = (angle[chosen.positions][:, :, None] for angle in (cosines, sines))
    q = _rotate(batch.heads(asking, asking.shape[:2]), *angles).transpose(1, 2)
    bias = batch.padding
    if layer.attention_type == "sliding_attention":
        places = torch.arange(shape[1], device=hidden.device)
        far = (chosen.positions[:, :, None] - places).abs() > batch.window
        bias = _with_padding(_minus_infinity(far, hidden.dtype)[:, None], bias)
    context = attend(q, k, kv[:, :, 1].transpose(1, 2), bias)
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


def _attend(layer: Any, q: Tensor, k: Tensor, v: Tensor, batch: _Batch) -> Tensor:
    """Give what each position reads, of shape (batch, n_heads, length, head width)."""
    if layer.attention_type == "full_attention" or not batch.blocks:
        return attend(q, k, v, batch.padding)
    read = [
        attend(q[:, :, block.own], k[:, :, block.reach], v[:, :, block.reach], block.bias)
        for block in batch.blocks
    ]
    return torch.cat(read, dim=2)


def _blocks(hidden: Tensor, window: int, padding: Tensor | None) -> Iterator[_Block]:
    """Cut positions into blocks, unless all reach each other."""
    length, size = hidden.shape[1], max(1, window)
    if length <= 3 * size:
        # No less than a block's reach.
        size = length
    places = torch.arange(length, device=hidden.device)
    for start in range(0, length if length > window + 1 else 0, size):
        own = slice(start, min(start + size, length))
        reach = slice(max(0, start - window), min(length, own.stop + window))
        far = (places[own, None] - places[reach]).abs() > window
        bias = _minus_infinity(far, hidden.dtype)
        yield _Block(
            own, reach, _with_padding(bias, None if padding is None else padding[..., reach])
        )


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
    normed = layer.mlp_norm(attended)
    if not in_place():
        inner, gate = layer.mlp.Wi(normed).chunk(2, dim=-1)
        return _add(attended, layer.mlp.Wo, F.gelu(inner) * gate)
    # As two products: halves that lie together in memory are activated in half of the time.
    inner, gate = (F.linear(normed, *half) for half in _halves(layer.mlp.Wi))
    return _add(attended, layer.mlp.Wo, torch.ops.aten.gelu_(inner).mul_(gate))


def _halves(linear: nn.Linear) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Give the weight and the bias of each half of what a layer puts out."""
    weights = linear.weight.chunk(2)
    biases = (None, None) if linear.bias is None else linear.bias.chunk(2)
    return zip(weights, biases, strict=True)
