"""The reference's pipelines, and what their prompts are compared on."""

from gliclass import pipeline as reference

from skgliclass.datasets import PromptExample

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
