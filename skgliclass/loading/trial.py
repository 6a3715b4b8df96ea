"""Let a model that was just loaded score one short text."""

from __future__ import annotations

import numpy as np
import torch

from ..modeling.memory import is_out_of_memory
from .loaded import LoadedModel

_SHORTEST = 16
_WORD = "a"


def check_runs(loaded: LoadedModel) -> None:
    """Refuse a model that cannot score, rather than let every later prediction fail.

    What a configuration may say is checked by nobody as a whole: a backbone may be built and take
    its weights, and only stumble over a number of heads or an epsilon when it runs.

    Raises
    ------
    ValueError
        If it has no room for a prompt, or gives scores that are no numbers.
    """
    if loaded.max_length < _SHORTEST:
        raise ValueError(
            f"model={loaded.name!r} reads prompts of {loaded.max_length} tokens; at least "
            f"{_SHORTEST} are needed. Its config.json is damaged."
        )
    try:
        with torch.inference_mode():
            logits = loaded.network(**_inputs(loaded)).logits.float()
    except (RuntimeError, MemoryError) as error:
        # Says nothing about the model; predicting knows what to do about it.
        if is_out_of_memory(error):
            return
        raise
    if not torch.isfinite(logits).all():
        raise ValueError(
            f"model={loaded.name!r} gives scores that are NaN or infinite in "
            f"{loaded.network.dtype}. Its config.json or its weights are damaged, or the model "
            'needs dtype="float32".'
        )


def _inputs(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    composer = loaded.composer(loaded.max_length)
    text = composer.encode_texts([_WORD])[0]
    prompt = composer.compose(composer.encode_labels([_WORD]), text)
    if loaded.network.has_label_encoder:
        tokenizer = loaded.label_tokenizer
        word = tokenizer.encode([_WORD], after_marker=False)[0]
        prompt["class_input_ids"] = [tokenizer.prefix, word, tokenizer.suffix]
    inputs = {}
    for name, pieces in prompt.items():
        ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64)[None])
        inputs[name] = ids.to(loaded.network.device)
        inputs[name.replace("input_ids", "attention_mask")] = torch.ones_like(inputs[name])
    return inputs
