"""Measure what the nearest labelled texts do to quality, with no training.

    python benchmarks/retrieval.py --data FOLDER

Reads FOLDER/eval/*.jsonl.gz and, for the labelled texts to retrieve from, FOLDER/tune/*.jsonl.gz in
the GLiClass format, of sets where every text has one label. Prints a Markdown table: macro-F1 with
0, 1, 3 and 10 retrieved texts, which vote where the model compares vectors, as the embedded model
does, and stand in the prompt of others, where those that leave no room for all show fewer. A line
goes to stderr as soon as a set is done.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from zero_shot import find_sets, print_markdown, read_set

from skgliclass import GLiClassClassifier, TruncationWarning


def read_labelled(path: Path, limit: int) -> tuple[pd.DataFrame, set[str]] | None:
    """Give texts with their label, and the labels there are; None where a text has several."""
    rows = read_set(path, None)
    if (rows["true_labels"].str.len() != 1).any():
        return None
    labels = {label for names in rows["all_labels"] for label in names}
    rows = rows.sample(min(limit, len(rows)), random_state=0)
    return rows.assign(label=[names[0] for names in rows["true_labels"]]), labels


def measure(classifier: GLiClassClassifier, rows: pd.DataFrame, n_retrieved: int) -> float:
    """Give the macro-F1 over all labels that occur in the test texts."""
    predicted = classifier.set_params(n_retrieved=n_retrieved).predict(rows["text"].tolist())
    present = np.unique(rows["label"])
    return f1_score(rows["label"], predicted, average="macro", labels=present, zero_division=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--example-format", choices=["marker", "tags"], default="marker")
    parser.add_argument("--max-length", type=int, help="the longest prompt in tokens")
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, default=1000, help="so many test rows a set")
    parser.add_argument("--store", type=int, default=200, help="so many labelled texts a set")
    parser.add_argument("--n-retrieved", type=int, nargs="+", default=[0, 1, 3, 10])
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)

    table = []
    for name, path in find_sets(args.data / "eval", args.sets).items():
        test = read_labelled(path, args.limit)
        kept = read_labelled(args.data / "tune" / path.name, args.store)
        if test is None or kept is None:
            continue
        labels = sorted(test[1] | kept[1])
        classifier = GLiClassClassifier(
            args.model,
            labels,
            example_format=args.example_format,
            max_length=args.max_length,
            n_retrieved=max(args.n_retrieved),
            max_epochs=0,
        )
        # The texts that are kept serve any number of neighbours.
        classifier.fit(kept[0]["text"].tolist(), kept[0]["label"])
        scores = {str(k): measure(classifier, test[0], k) for k in args.n_retrieved}
        table.append({"set": name, "labels": len(labels), **scores})
        print(table[-1], file=sys.stderr, flush=True)

    frame = pd.DataFrame(table).set_index("set").astype(float)
    frame.loc["average"] = frame.mean()
    print_markdown(frame)


if __name__ == "__main__":
    main()
