"""Measure what many labels cost a bi-encoder, whose label vectors are computed once.

    python benchmarks/label_count.py --data FOLDER

Scores the same real texts against 10 and against 10,000 labels, in turns (A B A B ...), after the
label vectors were computed, and prints texts a second and the ratio of each pair.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch

from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model


def read_texts(path: Path, n: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in itertools.islice(file, n)]


def label_texts(n: int) -> list[str]:
    """Give distinct labels of one to three words."""
    words = [
        "sport",
        "music",
        "travel",
        "food",
        "health",
        "money",
        "law",
        "school",
        "work",
        "home",
        "nature",
        "science",
    ]
    pairs = itertools.product(range(n), words, words)
    return [f"{a} {b} {i}" for i, a, b in itertools.islice(pairs, n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="ag_news")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--labels", nargs=2, type=int, default=[10, 10_000])
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()

    texts = read_texts(args.data / "eval" / f"{args.set}.jsonl.gz", args.texts)
    engine = Engine(load_model(args.model))
    if not engine.loaded.network.encodes_labels_apart:
        parser.error(f"{args.model} is no bi-encoder")
    label_sets = {n: label_texts(n) for n in args.labels}
    for labels in label_sets.values():
        engine.logits(texts[:50], labels)
    seconds: dict[int, list[float]] = {n: [] for n in args.labels}
    for _ in range(args.turns):
        for n, labels in label_sets.items():
            start = time.perf_counter()
            engine.logits(texts, labels)
            seconds[n].append(time.perf_counter() - start)
    few, many = (np.asarray(seconds[n]) for n in args.labels)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(texts)} texts")
    print("\n| labels | texts a second |\n|---|---|")
    for n, own in seconds.items():
        print(f"| {n:,} | {len(texts) / np.median(own):.0f} |")
    ratios = few / many
    print(
        f"\nWith {args.labels[1]:,} labels {np.median(ratios):.2f} of the speed with "
        f"{args.labels[0]:,} (pairs from {ratios.min():.2f} to {ratios.max():.2f})."
    )


if __name__ == "__main__":
    main()
