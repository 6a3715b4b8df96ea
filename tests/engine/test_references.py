"""The logits of every architecture, against those that tests/fixtures/ holds in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
from seeded import MODELS

from skgliclass.engine.engine import Engine
from skgliclass.prompts.architectures import SUPPORTED_ARCHITECTURES

STORED = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "references.json").read_text(encoding="utf-8")
)
# One of each architecture, and of uni-encoders one of each kind of their own; parity with the
# reference itself is tested for every pooling and scorer.
QUICK = {"uni first", "uni sum", "uni last of text", "uni cross-attention", "bi avg", "fused"}
QUICK |= {"halves t5", "halves turned bart", "kv qwen3"}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_logits_are_the_stored_ones(seeded_models, name):
    expected = np.asarray(STORED["models"][name]["logits"])
    loaded = seeded_models(name, words="numbered")
    logits = Engine(loaded).logits(STORED["texts"], STORED["labels"])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)


def test_every_architecture_has_its_reference():
    architectures = {
        fields.get("architecture_type", "uni-encoder") for _, fields in MODELS.values()
    }
    assert architectures == {*SUPPORTED_ARCHITECTURES}
    assert STORED["models"].keys() == MODELS.keys()
