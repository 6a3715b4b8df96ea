"""The names of the architectures, for all layers: importing them needs no torch."""

SUPPORTED_ARCHITECTURES = (
    "uni-encoder",
    "bi-encoder",
    "bi-encoder-fused",
    "encoder-decoder",
    "encoder-decoder-cls",
    "decoder-kv",
)

DECODERS = ("decoder-kv",)
"""Those whose backbone is a causal language model, which a ``<<SEP>>`` tells where a text ends."""
