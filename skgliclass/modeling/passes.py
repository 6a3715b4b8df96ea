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
    """

    suits: Callable[[Any], bool]
    run: Callable[[Any, Tensor, Tensor, Tensor | None], Tensor]


# These differ in how they count positions, which is up to their own module for embeddings; their
# layers are the same.
_LIKE_BERT = FastPass(has_plain_layers, bert_forward)

FAST_PASSES: dict[str, FastPass] = {
    "transformers.models.bert.modeling_bert.BertModel": _LIKE_BERT,
    "transformers.models.roberta.modeling_roberta.RobertaModel": _LIKE_BERT,
    "transformers.models.xlm_roberta.modeling_xlm_roberta.XLMRobertaModel": _LIKE_BERT,
    "transformers.models.modernbert.modeling_modernbert.ModernBertModel": FastPass(
        has_modern_layers, modernbert_forward
    ),
    "transformers.models.deberta_v2.modeling_deberta_v2.DebertaV2Model": FastPass(
        has_relative_layers, deberta_forward
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
    return fast if fast and _is_as_made(encoder) and fast.suits(encoder) else None


def _is_as_made(encoder: Any) -> bool:
    """Tell whether all modules are those of its class, and nobody listens to them.

    A pass calls few of them, so that an adapter around one, or a hook, would be left out. All are
    looked at in every pass, as they may change between two: in one loop over what they hold, which
    takes a few thousandths of the shortest passes. Torch's own way through them takes five times
    as long.
    """
    if torch.nn.modules.module._has_any_global_hook():
        return False
    home, kinds, remaining = type(encoder).__module__, set(), [encoder]
    while remaining:
        module = remaining.pop()
        if module is None:
            continue
        kinds.add(type(module))
        state = module.__dict__
        if (
            state["_forward_hooks"]
            or state["_forward_pre_hooks"]
            or state["_backward_hooks"]
            or state["_backward_pre_hooks"]
            # What some libraries do in place of a hook.
            or "forward" in state
        ):
            return False
        if state["_modules"]:
            remaining.extend(state["_modules"].values())
    return all(_is_part_of(kind, home) for kind in kinds)


def _is_part_of(kind: type, home: str) -> bool:
    """Tell whether backbones that a Python module defines are made of modules of this class."""
    place = kind.__module__
    return place in (home, "transformers.activations") or place.startswith("torch.nn.modules.")
