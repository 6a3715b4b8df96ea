"""Run a backbone for inference: the same arithmetic with less around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# By name, so that it works without transformers where the encoder is none of its.
_LEAN = {
    "transformers.models.bert.modeling_bert.BertModel",
    "transformers.models.roberta.modeling_roberta.RobertaModel",
    "transformers.models.xlm_roberta.modeling_xlm_roberta.XLMRobertaModel",
}


def run_encoder(
    encoder: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    read: Tensor | None = None,
) -> Tensor:
    """Give the token vectors of a backbone's last layer.

    Parameters
    ----------
    encoder : PreTrainedModel
        The backbone.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Sequences, padded on the right.
    read : Tensor of shape (batch, length), optional
        Nonzero at the positions whose vectors will be looked at; by default all that are no
        padding. The last layer then need not compute the others.

    Returns
    -------
    Tensor of shape (batch, length, width)
        In inference mode on a CPU, a BERT, RoBERTa or XLM-RoBERTa goes through the module's own
        weights in the same order, but in place and without what serves training only. Vectors at
        padded positions, and at those that will not be looked at, have no meaning.
    """
    if _can_be_lean(encoder, input_ids):
        return lean_forward(encoder, input_ids, attention_mask, read)
    hidden: Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
    return hidden


def _can_be_lean(encoder: Any, input_ids: Tensor) -> bool:
    return (
        # Asked first: what is traced does not know the inference mode.
        not torch.compiler.is_compiling()
        and torch.is_inference_mode_enabled()
        and input_ids.device.type == "cpu"
        # A subclass may do anything, and a module put in the place of another (an adapter) too.
        and f"{type(encoder).__module__}.{type(encoder).__name__}" in _LEAN
        and not encoder.training
        and encoder.config.hidden_act == "gelu"
        and not encoder.config.is_decoder
        and all(type(linear) is nn.Linear for layer in _layers(encoder) for linear in _of(layer))
    )


def _layers(encoder: Any) -> Any:
    return encoder.encoder.layer


def _of(layer: Any) -> tuple[nn.Linear, ...]:
    own = layer.attention.self
    return (
        own.query,
        own.key,
        own.value,
        layer.attention.output.dense,
        layer.intermediate.dense,
        layer.output.dense,
    )


def lean_forward(
    encoder: Any, input_ids: Tensor, attention_mask: Tensor, read: Tensor | None = None
) -> Tensor:
    """Run a BERT-like encoder in inference mode on a CPU; see :func:`run_encoder`."""
    hidden = encoder.embeddings(input_ids=input_ids)
    bias = _attention_bias(attention_mask, hidden.dtype)
    n_heads = encoder.config.num_attention_heads
    layers = list(_layers(encoder))
    last = layers.pop() if read is not None and layers else None
    for layer in layers:
        hidden = _run_layer(layer, hidden, hidden, bias, n_heads)
    if read is None or last is None:
        return hidden
    # Every row has the same number of positions, so that they form a tensor: where it reads fewer
    # than another it gets some that nobody reads.
    n_read = max(1, int(read.count_nonzero(dim=1).max()))
    positions = read.ne(0).int().argsort(dim=1, descending=True, stable=True)[:, :n_read]
    places = positions[:, :, None].expand(-1, -1, hidden.shape[2])
    vectors = _run_layer(last, hidden.gather(1, places), hidden, bias, n_heads)
    return hidden.scatter_(1, places, vectors)


def _run_layer(
    layer: Any, asking: Tensor, hidden: Tensor, bias: Tensor | None, n_heads: int
) -> Tensor:
    """Give a layer's vectors of the positions that are asking, which read all of `hidden`."""
    query, key, value, dense, inner, outer = _of(layer)
    # Products of matrices are faster than those of batches of them.
    flat, asked = (tensor.reshape(-1, tensor.shape[2]) for tensor in (hidden, asking))
    q, k, v = (
        module(vectors).view(len(hidden), -1, n_heads, hidden.shape[2] // n_heads).transpose(1, 2)
        for module, vectors in ((query, asked), (key, flat), (value, flat))
    )
    read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    read = dense(read.transpose(1, 2).reshape(asked.shape)).add_(asked)
    attended = layer.attention.output.LayerNorm(read)
    # The activations of the inner layer are the largest there are: no second copy of them.
    activated = torch.ops.aten.gelu_(inner(attended))
    done: Tensor = layer.output.LayerNorm(outer(activated).add_(attended))
    return done.view_as(asking)


def _attention_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Give what is added to attention scores, or nothing where all positions count."""
    if bool(attention_mask.all()):
        return None
    bias = torch.zeros(attention_mask.shape, dtype=dtype)
    bias.masked_fill_(attention_mask == 0, torch.finfo(dtype).min)
    return bias[:, None, None]
