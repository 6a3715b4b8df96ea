"""The attention of all passes of this package."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Let every query read the values.

    Parameters
    ----------
    query, key, value : Tensor of shape (batch, n_heads, length, head width)
        What asks, what is compared with it and what is read.
    bias : Tensor, optional
        Added to the scores, to whose shape it broadcasts.
    dropout : float, default=0.0
        Of the weights.
    scale : float, optional
        What scores are multiplied by; by default one over the square root of the head width.

    Returns
    -------
    Tensor of the shape and the type of `query`
    """
    if not _goes_back_slowly(query):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, scale=scale
        )
    wide = None if bias is None else bias.float()
    # Autocast would make bfloat16 of them again.
    with torch.autocast("cpu", enabled=False):
        context = F.scaled_dot_product_attention(
            query.float(),
            key.float(),
            value.float(),
            attn_mask=wide,
            dropout_p=dropout,
            scale=scale,
        )
    return context.to(query.dtype)


def _goes_back_slowly(query: Tensor) -> bool:
    """Tell whether float32 is faster: torch's gradient of attention in bfloat16 on a processor.

    At 32 positions it takes seven times as long as in float32, at 256 a quarter more; the forward
    pass alone is no slower than in float32.
    """
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.requires_grad
