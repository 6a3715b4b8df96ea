"""The one way from token ids to a backbone's token vectors: a fast pass where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .bert import Bert, bert_forward, has_plain_layers
from .deberta import deberta_forward, has_relative_layers
from .modernbert import has_modern_layers, modernbert_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class FastPass:
    """How backbones of one class are run on a CPU.

    Attributes
    ----------
    suits : callable
        Tells whether a backbone of the class computes just what `run` does.
    run : callable
        Takes the backbone and the other arguments of :func:`run_encoder`.
    keeps_gradients : bool
        Whether it serves training too.
    """

    suits: Callable[[Any], bool]
    run: Callable[[Any, Tensor, Tensor, Tensor | None], Tensor]
    keeps_gradients: bool = False


# These differ in how they count positions, which is up to their own module for embeddings; their
# layers are the same.
_LIKE_BERT = FastPass(has_plain_layers, bert_forward)

FAST_PASSES: dict[str, FastPass] = {
    "transformers.models.bert.modeling_bert.BertModel": _LIKE_BERT,
    "transformers.models.roberta.modeling_roberta.RobertaModel": _LIKE_BERT,
    "transformers.models.xlm_roberta.modeling_xlm_roberta.XLMRobertaModel": _LIKE_BERT,
    "transformers.models.modernbert.modeling_modernbert.ModernBertModel": FastPass(
        has_modern_layers, modernbert_forward, keeps_gradients=True
    ),
    "transformers.models.deberta_v2.modeling_deberta_v2.DebertaV2Model": FastPass(
        has_relative_layers, deberta_forward, keeps_gradients=True
    ),
}
"""By the full name of the class, so that nobody waits for transformers who does not use it."""


def run_encoder(
    encoder: PreTrainedModel | Bert,
    input_ids: Tensor,
    attention_mask: Tensor,
    read: Tensor | None = None,
) -> Tensor:
    """Give the token vectors of a backbone's last layer.

    Parameters
    ----------
    encoder : Bert or PreTrainedModel
        The backbone.
    input_ids, attention_mask : Tensor of shape (batch, length)
        Sequences, padded on the right.
    read : Tensor of shape (batch, length), optional
        Nonzero at the positions whose vectors will be looked at; by default all that are no
        padding. The last layer then need not compute the others.

    Returns
    -------
    Tensor of shape (batch, length, width)
        On a CPU a backbone with a fast pass goes through the module's own weights; in inference
        mode in place, and without what serves training only. Vectors at padded positions, and at
        those that will not be looked at, have no meaning.
    """
    if isinstance(encoder, Bert):
        vectors: Tensor = encoder(input_ids, attention_mask, read)
        return vectors
    fast = _fast_pass(encoder, input_ids)
    if fast is not None:
        return fast.run(encoder, input_ids, attention_mask, read)
    hidden: Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
    return hidden


def _fast_pass(encoder: Any, input_ids: Tensor) -> FastPass | None:
    # On a GPU transformers' own attention kernels are as good.
    if torch.compiler.is_compiling() or input_ids.device.type != "cpu":
        return None
    # By its exact class: a subclass may do anything.
    fast = FAST_PASSES.get(f"{type(encoder).__module__}.{type(encoder).__name__}")
    if fast is None or not (fast.keeps_gradients or torch.is_inference_mode_enabled()):
        return None
    return fast if _is_as_made(encoder) and fast.suits(encoder) else None


def _is_as_made(encoder: Any) -> bool:
    """Tell whether all modules are those of its class, and nobody listens to them.

    A pass calls few of them, so that an adapter around one, or a hook, would be left out.
    """
    known = type(encoder).__module__, "transformers.activations"
    return not torch.nn.modules.module._has_any_global_hook() and all(
        (
            type(module).__module__ in known
            or type(module).__module__.startswith("torch.nn.modules.")
        )
        and not _is_changed(module)
        for module in encoder.modules()
    )


def _is_changed(module: Any) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        # What some libraries do in place of a hook.
        or "forward" in vars(module)
    )
