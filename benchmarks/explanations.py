"""Measure whether the words that an explanation names are those that decide.

    python benchmarks/explanations.py --data FOLDER

Reads FOLDER/eval/NAME.jsonl.gz in the GLiClass format. Of each text the words are left out that
speak most for its predicted class, by ``skgliclass.inspection.explain``, one at a time, and, for
comparison, as many random words of the same text. Prints a Markdown table: the mean probability of
the predicted class with all words, and how far it falls without a tenth, a fifth and half of them;
with the standard error of the paired difference at a fifth, and the passes and the processor's time
that explaining a text took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from zero_shot import labels_of, print_markdown, read_set

from skgliclass import GLiClassClassifier
from skgliclass.inspection import Explanation, explain
from skgliclass.inspection.words import without_words

SETS = ["ag_news", "banking77", "rotten_tomatoes"]
SHARES = [0.1, 0.2, 0.5]
N_RANDOM = 3


def texts_of(rows: pd.DataFrame, n_texts: int, n_words: int) -> list[str]:
    """Draw texts of a few words, enough to leave some of them out."""
    texts: list[str] = rows["text"].sample(frac=1, random_state=0).tolist()
    return [text for text in texts if 6 <= len(text.split()) <= n_words][:n_texts]


def left(explanation: Explanation, orders: list[NDArray[Any]], share: float) -> list[str]:
    """Give the texts without the first words of an order each."""
    kept = []
    for text, spans, order in zip(explanation.texts, explanation.spans, orders, strict=True):
        n = max(1, round(share * len(spans)))
        kept.append(without_words(text, spans[order[:n]]))
    return kept


def measure(name: str, rows: pd.DataFrame, args: argparse.Namespace) -> list[dict[str, Any]]:
    texts = texts_of(rows, args.texts, args.words)
    classifier = GLiClassClassifier(args.model, labels_of(rows))
    classifier.predict(texts[:1])
    start = time.process_time()
    explanation = explain(classifier, texts)
    seconds = (time.process_time() - start) / len(texts)
    best = explanation.log_odds.argmax(axis=1)

    def probability(variants: list[str]) -> NDArray[Any]:
        return classifier.predict_proba(variants)[np.arange(len(texts)), best]

    whole = probability(texts)
    by_effect = [
        np.argsort(-effects[:, k]) for effects, k in zip(explanation.effects, best, strict=True)
    ]
    rng = np.random.default_rng(0)
    random = [[rng.permutation(len(order)) for order in by_effect] for _ in range(N_RANDOM)]
    falls: dict[str, list[NDArray[Any]]] = {"explained": [], "random": []}
    for share in SHARES:
        falls["explained"].append(whole - probability(left(explanation, by_effect, share)))
        of_random = [whole - probability(left(explanation, orders, share)) for orders in random]
        falls["random"].append(np.mean(of_random, axis=0))
    difference = falls["explained"][1] - falls["random"][1]
    about = {
        "set": name,
        "texts": len(texts),
        "probability": whole.mean(),
        "passes a text": np.mean([len(spans) + 1 for spans in explanation.spans]),
        "CPU s a text": seconds,
        "± at 20 %": difference.std(ddof=1) / np.sqrt(len(texts)),
    }
    columns = {
        f"{kind}, {share:.0%}": of_share.mean()
        for kind, of_shares in falls.items()
        for share, of_share in zip(SHARES, of_shares, strict=True)
    }
    return [{**about, **columns}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--texts", type=int, default=20, help="of each set")
    parser.add_argument("--words", type=int, default=60, help="so many words a text at most")
    args = parser.parse_args()
    results = []
    for name in args.sets:
        rows = read_set(args.data / "eval" / f"{name}.jsonl.gz", 2000)
        results += measure(name, rows, args)
    print_markdown(pd.DataFrame(results).set_index("set"))


if __name__ == "__main__":
    main()
