"""The small modules between a backbone and a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..prompts.tokens import MARKERS
from .randomness import own_randomness

if TYPE_CHECKING:
    from .architecture import Architecture


def _activation(name: str) -> nn.Module:
    # The usual one without transformers, for which the embedded model does not wait.
    if name == "gelu":
        return nn.GELU()
    from transformers.activations import ACT2FN

    activation: nn.Module = ACT2FN[name]
    return activation


class FeaturesProjector(nn.Module):
    """Two linear layers with an activation between, from `in_size` to `out_size`."""

    def __init__(
        self, in_size: int, inner_size: int, out_size: int, activation: str, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_size, inner_size)
        self.act = _activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = nn.Linear(inner_size, out_size)

    def forward(self, features: Tensor) -> Tensor:
        """Project vectors of any leading shape."""
        projected: Tensor = self.linear_2(self.dropout(self.act(self.linear_1(features))))
        return projected


class BidirectionalLSTM(nn.Module):
    """Read the token vectors once more, in both directions."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden_size, hidden_size // 2, bidirectional=True, batch_first=True)

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give new token vectors and their mask, both with the real tokens moved to the left."""
        lengths = mask.sum(dim=1)
        order = torch.argsort(mask.to(torch.int8), dim=1, descending=True, stable=True)
        moved = hidden.gather(1, order[..., None].expand_as(hidden))
        # PyTorch takes lengths from the CPU only, and none of zero.
        packed = pack_padded_sequence(
            moved, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        positions = torch.arange(output.shape[1], device=mask.device)
        return output, positions < lengths[:, None]


class LayerwiseAttention(nn.Module):
    """Weigh a backbone's layers by what each found in the sequence, and add them up.

    Squeeze and excitation (Hu et al. 2018, arXiv:1709.01507) over layers in place of channels.

    Parameters
    ----------
    n_layers : int
        How many hidden states are weighed: all, or all but the first, which is the embeddings.
    hidden_size : int
        Their width.
    """

    def __init__(self, n_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.squeeze = nn.Linear(hidden_size, 1)
        self.W1 = nn.Linear(n_layers, n_layers // 2)
        self.W2 = nn.Linear(n_layers // 2, n_layers)
        self.output_projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Combine tensors of shape (batch, length, width); padding has no influence."""
        layers = torch.stack(tuple(hidden_states)[-self.n_layers :], dim=1)
        if layers.shape[1] != self.n_layers:
            raise ValueError(
                f"squeeze_layers weighs {self.n_layers} layers, but the backbone has "
                f"{layers.shape[1]} hidden states."
            )
        real = mask.bool()[:, None]
        # The reference takes the mean over padding too, so that there a text's scores depend on
        # what else is in its batch.
        summary = self.squeeze(layers).squeeze(-1).masked_fill(~real, 0.0).sum(dim=2)
        summary = summary / real.sum(dim=2).clamp_min(1)
        share = self.W2(self.W1(summary).relu()).sigmoid()
        combined: Tensor = self.output_projection((layers * share[..., None, None]).sum(dim=1))
        return combined


@torch.no_grad()
def draw_weights(module: nn.Module, std: float) -> None:
    """Give one module of a head the random weights that training starts from.

    Parameters
    ----------
    module : nn.Module
        Its children are left alone.
    std : float
        The standard deviation of weights; biases are zero and gains one.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LSTM):
        for name, parameter in module.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=std)


@torch.no_grad()
def set_linear_map(
    projector: FeaturesProjector, matrix: Tensor, bias: Tensor | None = None
) -> None:
    """Make a projector with a GELU compute ``matrix @ x + bias`` exactly.

    ``gelu(x) - gelu(-x) = x`` holds for every x, so an inner layer of twice the width can carry
    any linear map through the activation in any precision.

    Parameters
    ----------
    projector : FeaturesProjector
        With the activation ``"gelu"`` and at least twice as many inner as linear features.
    matrix : Tensor of shape (n_features, in_size)
        The map; outputs beyond `n_features` become zero.
    bias : Tensor of shape (n_features,), optional
        Added to the result.
    """
    n = len(matrix)
    first, second = projector.linear_1, projector.linear_2
    if 2 * n > first.out_features or n > second.out_features:
        raise ValueError(
            f"A projector with {first.out_features} inner and {second.out_features} outer "
            f"features cannot carry {n}."
        )
    for parameter in projector.parameters():
        parameter.zero_()
    first.weight[:n].copy_(matrix)
    first.weight[n : 2 * n].copy_(-matrix)
    if bias is not None:
        first.bias[:n].copy_(bias)
        first.bias[n : 2 * n].copy_(-bias)
    second.weight[:n, :n].copy_(torch.eye(n))
    second.weight[:n, n : 2 * n].copy_(-torch.eye(n))


def set_identity_heads(network: nn.Module) -> None:
    """Make all projectors with a GELU pass their input through unchanged."""
    for module in network.modules():
        if isinstance(module, FeaturesProjector) and isinstance(module.act, nn.GELU):
            set_linear_map(module, torch.eye(module.linear_1.in_features))


def draw_scorer(network: Architecture, seed: int = 0) -> None:
    """Give a scorer that has to be trained the same random weights each time."""
    with own_randomness(seed, network.device):
        for module in cast("nn.Module", network.scorer).modules():
            draw_weights(module, network.config.initializer_range)


@torch.no_grad()
def marker_vectors(words: Tensor) -> Tensor:
    """Give embeddings for the markers, near the mean of the words' and different from each other.

    Parameters
    ----------
    words : Tensor of shape (n_words, width)
        The embeddings of all words.

    Returns
    -------
    Tensor of shape (n_markers, width)
        In the order of their ids.
    """
    mean, spread = words.float().mean(dim=0), words.float().std(dim=0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(MARKERS), len(mean), generator=generator)
    return (mean + 0.1 * spread * noise).to(words.dtype)
