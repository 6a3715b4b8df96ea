"""The names of the architectures, for all layers: importing them needs no torch."""

SUPPORTED_ARCHITECTURES = (
    "uni-encoder",
    "bi-encoder",
    "bi-encoder-fused",
    "encoder-decoder",
    "encoder-decoder-cls",
    "decoder-kv",
)
