"""Measure how the cost of a text grows with the number of labels and with its length.

    pip install -c constraints.txt ".[mini]"
    python benchmarks/scaling.py --data FOLDER

Scores real texts with a MiniLM uni-encoder and with MiniLM as a bi-encoder, once against more and
more labels, once at more and more words a text (cut from long ones). All sizes take turns. Prints
milliseconds a text, and the exponent p of the power law cost ~ size^p between neighbouring sizes
and over all of them, fitted by least squares to the logarithms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from inference import make_checkpoint, make_engine, read_labels, read_texts

LABELS = [2, 4, 10, 25, 77, 150]
WORDS = [10, 20, 40, 80, 160, 300]
LABELS_BESIDE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")

    short = read_texts(args.data, ["ag_news"], args.texts, 0)
    many = read_texts(args.data, ["imdb"], 1900, 0)
    long = [t for t in many if len(t.split()) >= max(WORDS)][: args.texts]
    labels = read_labels(args.data, "clinc150")
    print(f"torch {torch.__version__}, {args.threads} threads, {args.texts} texts, float32")
    for architecture in ("uni-encoder", "bi-encoder"):
        with tempfile.TemporaryDirectory() as name:
            make_checkpoint(Path(name), architecture)
            logits = make_engine(Path(name)).logits
        of_labels = {k: _call(logits, short, labels[:k]) for k in LABELS}
        cut = {n: [" ".join(text.split()[:n]) for text in long] for n in WORDS}
        of_words = {n: _call(logits, own, labels[:LABELS_BESIDE]) for n, own in cut.items()}
        print_table(f"{architecture}, labels", measure(of_labels, args.turns), args.texts)
        print_table(f"{architecture}, words a text", measure(of_words, args.turns), args.texts)


def _call(
    logits: Callable[..., object], texts: list[str], labels: list[str]
) -> Callable[[], object]:
    return lambda: logits(texts, labels)


def measure(calls: dict[int, Callable[[], object]], turns: int) -> dict[int, float]:
    """Give the median of the seconds of each call, after one that warms it up."""
    seconds: dict[int, list[float]] = {size: [] for size in calls}
    for turn in range(turns + 1):
        for size, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[size].append(time.perf_counter() - start)
    return {size: float(np.median(own)) for size, own in seconds.items()}


def print_table(title: str, seconds: dict[int, float], n_texts: int) -> None:
    sizes = np.log(list(seconds))
    costs = np.log(list(seconds.values()))
    slopes = np.diff(costs) / np.diff(sizes)
    print(f"\n| {title} | ms a text | exponent from the size before |\n|---|---|---|")
    for i, (size, own) in enumerate(seconds.items()):
        print(f"| {size} | {1e3 * own / n_texts:.2f} | {f'{slopes[i - 1]:.2f}' if i else ''} |")
    print(f"\nExponent over all sizes: {np.polyfit(sizes, costs, 1)[0]:.2f}")


if __name__ == "__main__":
    main()
