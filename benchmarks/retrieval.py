"""Measure what the nearest labelled texts do to quality, with no training or beside learnt labels.

    python benchmarks/retrieval.py --data FOLDER [--store 30 200 2000 | --shots 1 8 32]

Reads FOLDER/eval/*.jsonl.gz and, for the labelled texts, FOLDER/tune/*.jsonl.gz in the GLiClass
format. Without ``--shots`` nothing is trained, and ``--store`` texts are kept at random. Otherwise
so many texts a class are learnt from by ``trainable="labels"``, and kept. Prints Markdown tables:
macro-F1, or label ranking average precision where texts have any number of labels, with 0, 1, 3
and 10 retrieved texts. These vote where the model compares vectors, as the embedded model does,
and stand in the prompt of others, where those that leave no room for all show fewer. Then the
share that votes were found to deserve, and the worst set against none. A line goes to stderr as
soon as a set is done. With ``--remember`` the embedded model encodes each text once: the same
figures, sooner.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
from few_labels import Pool, RememberedTexts
from zero_shot import find_sets, print_markdown

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, TruncationWarning
from skgliclass.modeling import bi_encoder


def fitted(
    task: Pool, n_rows: int, n_retrieved: int, seed: int, args: argparse.Namespace
) -> GLiClassClassifier | GLiClassMultiLabelClassifier:
    """Give a classifier with labelled texts to retrieve from: in all, or so many of each class."""
    if args.shots:
        rows = task.draw(n_rows, seed)
    else:
        rows = task.train.sample(min(n_rows, len(task.train)), random_state=seed)
    kind: Any = GLiClassMultiLabelClassifier if task.multi_label else GLiClassClassifier
    classifier = kind(
        args.model,
        task.labels,
        trainable="labels",
        example_format=args.example_format,
        max_length=args.max_length,
        n_retrieved=n_retrieved,
        max_epochs=5 if args.shots else 0,
    )
    # How much votes count is told for so many of them.
    return classifier.fit(rows["text"].tolist(), task.target(rows))


def measured(task: Pool, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Judge a set with each number of labelled and of retrieved texts."""
    rows = []
    for n, k, seed in itertools.product(args.shots or args.store, args.n_retrieved, args.seeds):
        classifier = fitted(task, n, k, seed, args)
        value = task.judge(classifier)["value"]
        share = classifier.vote_share_
        rows.append({"set": task.name, "labels": len(task.labels), "rows": n, "k": k})
        rows[-1] |= {"value": value, "share": share}
    means = pd.DataFrame(rows).groupby(["rows", "k"])["value"].mean().round(3)
    print(task.name, means.to_dict(), file=sys.stderr, flush=True)
    return rows


def show(results: pd.DataFrame, what: str) -> None:
    """Print tables of the scores and of the shares, and the worst set against no retrieved text."""
    for n in results["rows"].unique().tolist():
        rows = results[results["rows"] == n]
        print(f"\n{n} {what}\n")
        for figure in ("value", "share"):
            table = rows.pivot_table(figure, ["set", "labels"], "k").reset_index("labels")
            table.columns = table.columns.astype(str)
            table.loc["average"] = table.drop(columns="labels").mean()
            print_markdown(table.astype(float))
        values = rows.pivot_table("value", "set", "k")
        for k in filter(None, values.columns.tolist()):
            change = (values[k] - values[0]).sort_values()
            print(f"- worst with {k}: {change.index[0]} {change.iloc[0]:+.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--example-format", choices=["marker", "tags"], default="marker")
    parser.add_argument("--max-length", type=int, help="the longest prompt in tokens")
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, default=1000, help="so many test rows a set")
    parser.add_argument("--store", type=int, nargs="+", default=[200], help="labelled texts a set")
    parser.add_argument("--shots", type=int, nargs="*", help="texts a class to learn from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n-retrieved", type=int, nargs="+", default=[0, 1, 3, 10])
    parser.add_argument("--pool", type=int, default=5000, help="draw from so many rows of tune")
    parser.add_argument("--remember", action="store_true", help="encode each text once")
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    if args.remember:
        mock.patch.object(bi_encoder, "run_encoder", RememberedTexts()).start()

    rows = []
    for name in find_sets(args.data / "eval", args.sets):
        rows.extend(measured(Pool(args.data, name, args.limit, args.pool), args))
    show(pd.DataFrame(rows), "texts a class" if args.shots else "texts, without training")


if __name__ == "__main__":
    main()
