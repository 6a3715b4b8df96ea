"""Count the decisions that reduced precision changes, on real texts.

    python benchmarks/precision.py --data FOLDER

Classifies rows of every set of FOLDER/eval in float32 and in ``--dtype``, and prints a Markdown
table: the share of texts whose most likely label is the same, and the largest difference of
probabilities. Most of the labels that change were about as likely as another.
"""

from __future__ import annotations

import argparse
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
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)

    table = []
    for name, path in find_sets(args.data / "eval", args.sets).items():
        rows = read_set(path, args.limit)
        labels = labels_of(rows)
        exact, reduced = (
            GLiClassClassifier(args.model, labels, dtype=dtype).predict_proba(rows["text"].tolist())
            for dtype in ("float32", args.dtype)
        )
        same = float((exact.argmax(axis=1) == reduced.argmax(axis=1)).mean())
        difference = float(np.abs(exact - reduced).max())
        table.append(
            {"set": name, "labels": len(labels), "same label": same, "difference": difference}
        )
    frame = pd.DataFrame(table).set_index("set").astype(float)
    frame.loc["average"] = frame.mean()
    print_markdown(frame)


if __name__ == "__main__":
    main()
