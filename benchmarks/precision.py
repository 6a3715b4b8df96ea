"""Count the decisions that reduced precision changes, and what it saves, on real texts.

    python benchmarks/precision.py --data FOLDER

Classifies rows of every set of FOLDER/eval in float32 and in ``--dtype``, in turns, and prints a
Markdown table: the share of texts whose most likely label is the same, the largest difference of
probabilities, and how many times as fast it is by the median over the turns, in seconds of the
processor. On a processor texts of which rounding might decide are read again in float32, which is
a part of what is counted.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from zero_shot import find_sets, labels_of, print_markdown, read_set

from skgliclass import GLiClassClassifier, TruncationWarning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, default=200, help="so many rows a set")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)

    table = []
    for name, path in find_sets(args.data / "eval", args.sets).items():
        rows = read_set(path, args.limit)
        labels, texts = labels_of(rows), rows["text"].tolist()
        classifiers = [
            GLiClassClassifier(args.model, labels, dtype=d) for d in ("float32", args.dtype)
        ]
        for clf in classifiers:
            clf.predict(texts[:8])
        seconds = np.empty((args.turns, 2))
        for turn in seconds:
            probabilities = []
            for i, clf in enumerate(classifiers):
                start = time.process_time()
                probabilities.append(clf.predict_proba(texts))
                turn[i] = time.process_time() - start
        exact, reduced = probabilities
        table.append(
            {
                "set": name,
                "labels": len(labels),
                "same label": float((exact.argmax(axis=1) == reduced.argmax(axis=1)).mean()),
                "difference": float(np.abs(exact - reduced).max()),
                "times as fast": float(np.median(seconds[:, 0] / seconds[:, 1])),
            }
        )
    frame = pd.DataFrame(table).set_index("set").astype(float)
    frame.loc["average"] = frame.mean()
    print_markdown(frame)


if __name__ == "__main__":
    main()
