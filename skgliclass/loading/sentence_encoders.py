"""Read what a sentence-transformers model is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..modeling.bi_encoder import BiEncoder
from ..modeling.heads import FeaturesProjector, set_linear_map
from .sources import Source, join, module_path, read_modules
from .weights import read_headers, read_tensors

_POOLINGS = {"cls": "first", "mean": "avg", "max": "max", "lasttoken": "last"}
_MODULES = {"Transformer", "Pooling", "Dense", "Normalize"}
_SMALL = 1e-3


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """A layer after the pooling.

    Attributes
    ----------
    activation : str
        In small letters, without a package's name.
    weight : Tensor of shape (n_out, n_in)
    bias : Tensor of shape (n_out,) or None
    """

    activation: str
    weight: Tensor
    bias: Tensor | None


def read_pooling(source: Source) -> str:
    """Give the pooling by its name in a GLiClass configuration.

    Raises
    ------
    ValueError
        If it, or another module of the model, cannot be expressed there.
    """
    unknown = {module["kind"] for module in read_modules(source)} - _MODULES
    if unknown:
        raise ValueError(
            f"model={source.name!r} has the sentence-transformers module(s) "
            f"{', '.join(sorted(unknown))}, which a GLiClass model cannot express."
        )
    settings = source.read_json(join(module_path(source, "Pooling"), "config.json")) or {}
    # Newer versions of sentence-transformers name it, older ones have a flag for each mode.
    modes = settings.get("pooling_mode")
    if not modes:
        modes = [
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key, value in settings.items()
            if key.startswith("pooling_mode_") and value
        ]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(
            f"model={source.name!r} pools by {' and '.join(map(str, modes)) or 'nothing'}; "
            f"supported are {', '.join(_POOLINGS)}, one at a time."
        )
    return _POOLINGS[modes[0]]


def read_dense_layers(source: Source) -> list[DenseLayer]:
    """Read the layers after the pooling."""
    paths = [module["path"] for module in read_modules(source) if module["kind"] == "Dense"]
    return [_dense_layer(source, path) for path in paths]


def _dense_layer(source: Source, path: str) -> DenseLayer:
    settings = source.read_json(join(path, "config.json")) or {}
    activation = str(settings.get("activation_function", "Identity"))
    weights = read_tensors(read_headers(source.weight_files(path)))
    matrix, bias = weights.get("linear.weight"), weights.get("linear.bias")
    if matrix is None or matrix.dim() != 2 or (bias is not None and bias.shape != matrix.shape[:1]):
        raise ValueError(
            f"model={source.name!r}: the module {path!r} has no linear.weight with two dimensions "
            "and a linear.bias that fits."
        )
    return DenseLayer(
        activation.rsplit(".", 1)[-1].lower(),
        matrix.float(),
        None if bias is None else bias.float(),
    )


def fold_dense_layers(network: BiEncoder, layers: list[DenseLayer], source: Source) -> None:
    """Let the projections of a bi-encoder compute what dense layers do.

    Raises
    ------
    ValueError
        If they cannot.
    """
    activations = [layer.activation for layer in layers]
    n_features = len(layers[-1].weight)
    if n_features > network.config.encoder_config.hidden_size:
        raise ValueError(
            f"model={source.name!r} ends with {n_features} features, more than its encoder's "
            f"{network.config.encoder_config.hidden_size}; a GLiClass model cannot express that."
        )
    if set(activations) == {"identity"}:
        matrix, bias = _compose_linear(layers)
        for projector in (network.text_projector, network.classes_projector):
            set_linear_map(projector, matrix, bias)
    elif activations == ["tanh"]:
        _set_tanh(network.text_projector, layers[0])
        _set_tanh(network.classes_projector, layers[0])
        _set_tanh_identity(network.biencoder_projector)
    else:
        raise ValueError(
            f"model={source.name!r} has dense layers with the activations "
            f"{', '.join(activations)}, which a GLiClass model cannot express."
        )


def _compose_linear(layers: list[DenseLayer]) -> tuple[Tensor, Tensor]:
    matrix = torch.eye(layers[0].weight.shape[1])
    bias = torch.zeros(len(matrix))
    for layer in layers:
        matrix, bias = layer.weight @ matrix, layer.weight @ bias
        if layer.bias is not None:
            bias = bias + layer.bias
    return matrix, bias


@torch.no_grad()
def _set_tanh(projector: FeaturesProjector, layer: DenseLayer) -> None:
    n = len(layer.weight)
    for parameter in projector.parameters():
        parameter.zero_()
    projector.linear_1.weight[:n].copy_(layer.weight)
    if layer.bias is not None:
        projector.linear_1.bias[:n].copy_(layer.bias)
    projector.linear_2.weight[:n, :n].copy_(torch.eye(n))


@torch.no_grad()
def _set_tanh_identity(projector: FeaturesProjector) -> None:
    """Pass the input through where a tanh is nearly linear, around zero."""
    n = projector.linear_1.in_features
    for parameter in projector.parameters():
        parameter.zero_()
    projector.linear_1.weight[:n].copy_(_SMALL * torch.eye(n))
    projector.linear_2.weight[:n, :n].copy_(torch.eye(n) / _SMALL)
