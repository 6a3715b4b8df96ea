"""Random token sequences arranged for each architecture, and the reference's scores of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

START = 3  # any ordinary token


@dataclass
class Row:
    """One text and its labels as token ids, without markers."""

    text: list[int]
    labels: list[list[int]]


def random_rows(
    config, text_lengths=(9, 4, 17), n_labels=(3, 3, 3), same_length=False, seed=0
) -> list[Row]:
    """Make rows; labels are of one length where the reference would pool over their padding."""
    draw = random.Random(seed)
    words = range(10, config.class_token_index - 5)
    return [
        Row(
            draw.choices(words, k=length),
            [draw.choices(words, k=2 if same_length else draw.randint(1, 4)) for _ in range(n)],
        )
        for length, n in zip(text_lengths, n_labels, strict=True)
    ]


def sequences(config, row: Row) -> dict[str, list]:
    """Arrange a row; what belongs to the labels' side has names with ``class_``."""
    label, end = config.class_token_index, config.text_token_index
    before = [token for ids in row.labels for token in (label, *ids)] + [end]
    kind = config.architecture_type
    if kind == "uni-encoder":
        parts = (before, row.text) if config.prompt_first else (row.text, before)
        return {"input_ids": [START, *parts[0], *parts[1]]}
    if kind == "decoder-kv":
        after = [token for ids in row.labels for token in (*ids, label)] + [end]
        return {"input_ids": [*row.text, end, *after]}
    if kind == "bi-encoder":
        return {"input_ids": [START, *row.text], "class_input_ids": row.labels}
    if kind == "bi-encoder-fused":
        markers = [label] * len(row.labels) + [end]
        parts = (markers, row.text) if config.prompt_first else (row.text, markers)
        return {"input_ids": [START, *parts[0], *parts[1]], "class_input_ids": row.labels}
    return {"input_ids": [START, *row.text], "class_input_ids": [START, *before]}


def pad(sequences_: list[list[int]], extra: int = 0, pad_id: int = 0):
    """Pad on the right, with `extra` columns of padding more than needed."""
    ids = pad_sequence(
        [torch.tensor(s) for s in sequences_], batch_first=True, padding_value=pad_id
    )
    mask = pad_sequence([torch.ones(len(s), dtype=torch.long) for s in sequences_], True)
    width = (0, extra)
    return torch.nn.functional.pad(ids, width, value=pad_id), torch.nn.functional.pad(mask, width)


def batch(config, rows: list[Row], extra: int = 0) -> dict[str, torch.Tensor]:
    """Put rows in one padded batch."""
    pad_id = config.encoder_config.pad_token_id or 0
    arranged = [sequences(config, row) for row in rows]
    ids, mask = pad([a["input_ids"] for a in arranged], extra, pad_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if config.architecture_type.startswith("bi-encoder"):
        most = max(len(row.labels) for row in rows)
        flat = [ids for row in rows for ids in (row.labels + [[START]] * most)[:most]]
        ids, mask = pad(flat, extra, pad_id)
        inputs["class_input_ids"] = ids.unflatten(0, (len(rows), most))
        inputs["class_attention_mask"] = mask.unflatten(0, (len(rows), most))
        counts = torch.tensor([len(row.labels) for row in rows])
        inputs["labels_mask"] = (torch.arange(most) < counts[:, None]).long()
    elif "class_input_ids" in arranged[0]:
        ids, mask = pad([a["class_input_ids"] for a in arranged], extra, pad_id)
        inputs |= {"class_input_ids": ids, "class_attention_mask": mask}
    return inputs


@torch.no_grad()
def scores(model, rows: list[Row], extra: int = 0, **kwargs) -> list[np.ndarray]:
    """Score rows in one padded batch; give each row's real columns."""
    logits = model(**batch(model.config, rows, extra), **kwargs).logits
    return [logits[i, : len(row.labels)].numpy() for i, row in enumerate(rows)]


@torch.no_grad()
def reference_scores(reference, rows: list[Row], **kwargs) -> list[np.ndarray]:
    """Score each row alone and unpadded, since the reference's results depend on padding."""
    results = []
    for row in rows:
        # Its encoder-decoders always give this many columns, and a Hopfield scorer mixes them.
        reference.config.max_num_classes = len(row.labels)
        kwargs["max_num_classes"] = len(row.labels)
        inputs = batch(reference.config, [row])
        results.append(reference(**inputs, **kwargs).logits[0].numpy())
    return results


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Give the largest difference relative to the largest logit, if that is above one."""
    scale = max(1.0, *(float(np.abs(row).max()) for row in theirs))
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) / scale
