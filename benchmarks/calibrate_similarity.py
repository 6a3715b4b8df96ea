"""Find the scale and bias that turn a sentence encoder's cosines into logits.

    python benchmarks/calibrate_similarity.py --data FOLDER

Reads the sets of FOLDER/pretrain, none of which is used to measure zero-shot quality, or with
``--folder eval`` those that are: a model that was trained on the former is too sure of itself
there. The scale is the one for which the softmax over labels has the lowest calibration error on
the single-label sets; the bias puts a probability of one half at the cosine that, as a threshold,
gives the highest mean micro-F1 on the multi-label sets.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from zero_shot import find_sets

SCALES = np.arange(5.0, 31.0, 1.0)
THRESHOLDS = np.arange(0.10, 0.60, 0.01)


def read_rows(path: Path, n_rows: int, seed: int) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    order = np.random.default_rng(seed).permutation(len(rows))[:n_rows]
    return [rows[i] for i in order]


def cosines_and_truth(
    rows: list[dict[str, Any]], model: str
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Give each row's cosines with its own labels and which of these are true."""
    from skgliclass.engine.engine import Engine
    from skgliclass.loading.loader import load_model

    engine = Engine(load_model(model, architecture="bi-encoder"))
    labels = sorted({label for row in rows for label in row["all_labels"]})
    column = {label: j for j, label in enumerate(labels)}
    config = engine.loaded.network.config
    logits = engine.logits([row["text"] for row in rows], labels)
    scale = engine.loaded.network.get_parameter("logit_scale").item()
    cosines = (logits - (config.logit_bias or 0.0)) / scale
    pairs = []
    for i, row in enumerate(rows):
        columns = [column[label] for label in row["all_labels"]]
        truth = np.isin(row["all_labels"], row["true_labels"])
        pairs.append((cosines[i, columns], truth))
    return pairs


def calibration_error(
    pairs: list[tuple[NDArray[Any], NDArray[Any]]], scale: float, n_bins: int = 15
) -> float:
    probabilities = [softmax(scale * cosine) for cosine, _ in pairs]
    confidence = np.array([p.max() for p in probabilities])
    right = np.array(
        [truth[p.argmax()] for p, (_, truth) in zip(probabilities, pairs, strict=True)]
    )
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def micro_f1(pairs: list[tuple[NDArray[Any], NDArray[Any]]], threshold: float) -> float:
    chosen = np.concatenate([cosine for cosine, _ in pairs]) >= threshold
    truth = np.concatenate([truth for _, truth in pairs])
    return float(2 * (chosen & truth).sum() / max(1, chosen.sum() + truth.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--folder", default="pretrain")
    parser.add_argument("--rows", type=int, default=300, help="rows of each set")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    single: dict[str, Any] = {}
    multi: dict[str, Any] = {}
    for name, path in find_sets(args.data / args.folder, None).items():
        pairs = cosines_and_truth(read_rows(path, args.rows, args.seed), args.model)
        one_each = all(truth.sum() == 1 for _, truth in pairs)
        (single if one_each else multi)[name] = pairs
        print(f"read {path.name}", flush=True)

    errors = [np.mean([calibration_error(p, scale) for p in single.values()]) for scale in SCALES]
    f1 = [np.mean([micro_f1(p, t) for p in multi.values()]) for t in THRESHOLDS]
    scale, threshold = SCALES[int(np.argmin(errors))], THRESHOLDS[int(np.argmax(f1))]
    print(f"scale {scale:.0f}: calibration error {min(errors):.3f} on {len(single)} sets")
    print(f"threshold {threshold:.2f}: micro-F1 {max(f1):.3f} on {len(multi)} sets")
    print(f"bias {-scale * threshold:.2f}")


if __name__ == "__main__":
    main()
