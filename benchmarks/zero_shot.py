"""Measure zero-shot quality, with no training, on a folder of labelled sets.

    python benchmarks/zero_shot.py --data FOLDER

Reads FOLDER/eval/*.jsonl.gz in the GLiClass format. Prints Markdown tables, for a model and for
the cosine of plain MiniLM: macro-F1 and expected calibration error where every text has one label;
micro- and macro-F1 at a threshold of one half, micro-F1 at the best single threshold, and
label-ranking average precision where texts have any number.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, label_ranking_average_precision_score

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.loading.sources import EMBEDDED_HUB_ID

# Sets of the published comparison (Stepanov et al. 2025, Table 3); wording and splits differ.
PUBLISHED = {
    "ag_news": 0.6663,
    "banking77": 0.3561,
    "enron_spam": 0.6398,
    "financial_phrasebank": 0.4200,
    "imdb": 0.9158,
    "rotten_tomatoes": 0.7070,
    "sst2": 0.8959,
    "sst5": 0.2756,
}


_ENDING = ".jsonl.gz"


def find_sets(folder: Path, only: list[str] | None) -> dict[str, Path]:
    """Give the files of a folder's sets, or of some of them, by the sets' names."""
    paths = {path.name.removesuffix(_ENDING): path for path in sorted(folder.glob(f"*{_ENDING}"))}
    return {name: path for name, path in paths.items() if not only or name in only}


def labels_of(rows: pd.DataFrame) -> list[str]:
    return sorted({label for names in rows["all_labels"] for label in names})


def read_set(path: Path, limit: int | None) -> pd.DataFrame:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = pd.DataFrame([json.loads(line) for line in file])
    return rows if limit is None else rows.sample(min(limit, len(rows)), random_state=0)


def calibration_error(scores: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    confidence = scores.max(axis=1)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def measure_single(rows: pd.DataFrame, labels: list[str], model: str) -> dict[str, float]:
    classifier = GLiClassClassifier(model=model, labels=labels)
    scores = classifier.predict_proba(rows["text"].tolist())
    predicted = classifier.classes_[scores.argmax(axis=1)]
    truth = np.array([names[0] for names in rows["true_labels"]])
    return {
        "macro-F1": f1_score(truth, predicted, average="macro", labels=labels, zero_division=0),
        "ECE": calibration_error(scores, truth == predicted),
    }


def measure_multi(rows: pd.DataFrame, labels: list[str], model: str) -> dict[str, float]:
    classifier = GLiClassMultiLabelClassifier(model=model, labels=labels)
    scores = classifier.predict_proba(rows["text"].tolist())
    truth = np.array([[label in names for label in labels] for names in rows["true_labels"]])
    thresholds = np.linspace(0.05, 0.95, 37)
    at = [f1_score(truth, scores >= t, average="micro", zero_division=0) for t in thresholds]
    return {
        "micro-F1": f1_score(truth, scores >= 0.5, average="micro", zero_division=0),
        "macro-F1": f1_score(truth, scores >= 0.5, average="macro", zero_division=0),
        "best micro-F1": max(at),
        "LRAP": label_ranking_average_precision_score(truth, scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--baseline", default=EMBEDDED_HUB_ID, help="'' leaves it out")
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, help="only so many rows a set")
    args = parser.parse_args()

    single: list[dict[str, Any]] = []
    multi: list[dict[str, Any]] = []
    for name, path in find_sets(args.data / "eval", args.sets).items():
        rows = read_set(path, args.limit)
        labels = labels_of(rows)
        one_each = (rows["true_labels"].str.len() == 1).all()
        measure = measure_single if one_each else measure_multi
        row = {"set": name, "labels": len(labels), **measure(rows, labels, args.model)}
        if args.baseline:
            baseline = measure(rows, labels, args.baseline)
            row |= {f"cosine: {measured}": value for measured, value in baseline.items()}
        if one_each:
            row["published*"] = PUBLISHED.get(name, float("nan"))
        (single if one_each else multi).append(row)

    for table in (single, multi):
        if table:
            frame = pd.DataFrame(table).set_index("set")
            means = {"average": frame.drop(columns="published*", errors="ignore").mean()}
            if "published*" in frame:
                known = frame["published*"].notna()
                means["average of the published"] = frame[known].mean()
                means["average of the others"] = frame[~known].mean()
            print_markdown(pd.concat([frame, pd.DataFrame(means).T.drop(columns="labels")]))
    print("\\* macro-F1 of gliclass-modern-base-v3.0 (151M parameters), where published.")


def print_markdown(frame: pd.DataFrame) -> None:
    print(f"\n| {' | '.join(['set', *frame.columns])} |\n|{'---|' * (len(frame.columns) + 1)}")
    for name, row in frame.iterrows():
        cells = [
            "" if pd.isna(value) else f"{value:.0f}" if column == "labels" else f"{value:.3f}"
            for column, value in row.items()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
