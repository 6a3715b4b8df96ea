"""The reference's pipelines, and what their prompts are compared on."""

import pytest

from skgliclass.datasets import PromptExample

reference = pytest.importorskip("gliclass.pipeline")

TASK = "Classify this:"
EXAMPLES = (
    PromptExample("the quick brown fox", ["travel"]),
    PromptExample("very positive, twice", ["it's", "dreams"]),
)
PIPELINES = {
    "uni-encoder": reference.UniEncoderZeroShotClassificationPipeline,
    "encoder-decoder": reference.EncoderDecoderZeroShotClassificationPipeline,
    "encoder-decoder-cls": reference.EncoderDecoderZeroShotClassificationPipeline,
    "bi-encoder": reference.BiEncoderZeroShotClassificationPipeline,
    "bi-encoder-fused": reference.BiEncoderZeroShotClassificationPipeline,
    "decoder-kv": reference.DecoderKVZeroShotClassificationPipeline,
}
