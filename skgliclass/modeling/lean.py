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


def run_encoder(encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Give the token vectors of a backbone's last layer.

    Parameters
    ----------
    encoder : PreTrainedModel
        The backbone.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Sequences, padded on the right.

    Returns
    -------
    Tensor of shape (batch, length, width)
        In inference mode on a CPU, a BERT, RoBERTa or XLM-RoBERTa goes through the module's own
        weights in the same order, but in place and without what serves training only. Vectors at
        padded positions have no meaning.
    """
    if _can_be_lean(encoder, input_ids):
        return lean_forward(encoder, input_ids, attention_mask)
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


def lean_forward(encoder: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Run a BERT-like encoder in inference mode on a CPU; see :func:`run_encoder`."""
    n_rows, length = input_ids.shape
    embedded = encoder.embeddings(input_ids=input_ids)
    heads = n_rows, length, encoder.config.num_attention_heads, -1
    hidden = embedded.view(n_rows * length, -1)
    bias = _attention_bias(attention_mask, hidden.dtype)
    for layer in _layers(encoder):
        query, key, value, dense, inner, outer = _of(layer)
        q, k, v = (m(hidden).view(heads).transpose(1, 2) for m in (query, key, value))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
        read = dense(read.reshape(hidden.shape)).add_(hidden)
        hidden = layer.attention.output.LayerNorm(read)
        # The activations of the inner layer are the largest there are: no second copy of them.
        activated = torch.ops.aten.gelu_(inner(hidden))
        hidden = layer.output.LayerNorm(outer(activated).add_(hidden))
    return hidden.view_as(embedded)


def _attention_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Give what is added to attention scores, or nothing where all positions count."""
    if bool(attention_mask.all()):
        return None
    bias = torch.zeros(attention_mask.shape, dtype=dtype)
    bias.masked_fill_(attention_mask == 0, torch.finfo(dtype).min)
    return bias[:, None, None]
