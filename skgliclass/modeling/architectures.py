"""The architectures by their names: the one place that chooses a class by a name."""

from __future__ import annotations

from typing import Any

from .architecture import Architecture
from .bi_encoder import BiEncoder
from .bi_encoder_fused import BiEncoderFused
from .decoder_kv import DecoderKV
from .encoder_decoder import EncoderDecoder, EncoderDecoderCLS
from .uni_encoder import UniEncoder

ARCHITECTURES: dict[str, type[Architecture]] = {
    kind.name: kind
    for kind in (
        UniEncoder,
        BiEncoder,
        BiEncoderFused,
        EncoderDecoder,
        EncoderDecoderCLS,
        DecoderKV,
    )
}


def make_network(config: Any, backbone: Any = None) -> Architecture:
    """Build the network of a configuration.

    Parameters
    ----------
    config : GLiClassConfig
        What it is like.
    backbone : nn.Module, optional
        The pretrained model that reads the texts; by default one without weights.
    """
    return ARCHITECTURES[config.architecture_type](config, backbone)
