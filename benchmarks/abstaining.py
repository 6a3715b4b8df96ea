"""Measure how well texts about none of the labels are told, with no training.

    python benchmarks/abstaining.py --data FOLDER

Reads FOLDER/eval/clinc150.jsonl.gz and FOLDER/tune/clinc150.jsonl.gz in the GLiClass format. For
each seed 30 of the 150 intents are held out: their texts are out of scope, and the other 120
intents are the labels. A text is in scope the more, the higher the probability of its most probable
label. Prints a Markdown table, means over the seeds with their standard errors, of this package
and of the pipeline of the ``gliclass`` package with the same weights on the same texts:

- AUROC of that probability, in scope against out of scope;
- accuracy over all texts at the limit that keeps 95 % of those in scope, where a text out of scope
  is right if it is below the limit;
- accuracy with ``min_probability="auto"``, tuned on texts of the tune split.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, roc_auc_score
from zero_shot import labels_of, print_markdown, read_set

from skgliclass import GLiClassClassifier

OTHER = "(out of scope)"
N_HELD_OUT = 30
RECALL = 0.95

Best = Callable[[list[str], Sequence[str]], tuple[NDArray[np.object_], NDArray[np.float64]]]
"""From texts and labels to the most probable label of each text and its probability."""


def read_intents(path: Path, limit: int) -> pd.DataFrame:
    rows = read_set(path, limit)
    return rows.assign(intent=[names[0] for names in rows["true_labels"]])


def make_best(classifier: GLiClassClassifier) -> Best:
    def best(
        texts: list[str], labels: Sequence[str]
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        top = classifier.set_params(labels=list(labels)).predict_top(texts, k=1)
        return top["label"].to_numpy(dtype=object), top["probability"].to_numpy(dtype=float)

    return best


def make_gliclass_best(classifier: GLiClassClassifier, folder: str, batch_size: int) -> Best:
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    classifier.save_pretrained(folder)
    model = GLiClassModel.from_pretrained(folder)
    # It loads the tokenizer of labels by this name, which is that of a hub repository.
    model.config.label_model_name = folder
    pipeline = ZeroShotClassificationPipeline(
        model.eval(),
        AutoTokenizer.from_pretrained(folder),
        classification_type="single-label",
        device="cpu",
        progress_bar=False,
        max_length=256,
    )

    def best(
        texts: list[str], labels: Sequence[str]
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        top = [found[0] for found in pipeline(texts, list(labels), batch_size=batch_size)]
        names = np.asarray([item["label"] for item in top], dtype=object)
        return names, np.asarray([item["score"] for item in top], dtype=float)

    return best


def measure(best: Best, rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, float]:
    predicted, probability = best(rows["text"].tolist(), labels)
    in_scope = rows["intent"].isin(labels).to_numpy()
    limit = np.quantile(probability[in_scope], 1 - RECALL)
    truth = np.where(in_scope, rows["intent"], OTHER)
    kept = np.where(probability >= limit, predicted, OTHER)
    return {
        "AUROC": float(roc_auc_score(in_scope, probability)),
        "accuracy at 95 % recall": float(accuracy_score(truth, kept)),
        "out of scope told": float((probability[~in_scope] < limit).mean()),
        "accuracy in scope": float((predicted == truth)[in_scope].mean()),
    }


def measure_tuned(
    model: str, tune: pd.DataFrame, rows: pd.DataFrame, labels: Sequence[str]
) -> dict[str, float]:
    """Tune the limit on texts of half of the intents out of scope, and judge it on all of them."""
    held_out = sorted(set(tune["intent"]) - set(labels))
    tune = tune[~tune["intent"].isin(held_out[::2])]
    y = np.where(tune["intent"].isin(labels), tune["intent"], OTHER)
    texts = tune["text"].to_numpy()
    classifier = GLiClassClassifier(model, list(labels), other=OTHER, max_epochs=0)
    is_other = y == OTHER
    # Nothing is trained, so that the texts of the labels may be held out as well.
    classifier.fit(texts, y, X_val=texts[~is_other], y_val=y[~is_other])
    truth = np.where(rows["intent"].isin(labels), rows["intent"], OTHER)
    predicted = classifier.predict(rows["text"].tolist())
    return {
        "tuned limit": classifier.min_probability_,
        "accuracy, tuned": float(accuracy_score(truth, predicted)),
        "in scope kept, tuned": float((predicted != OTHER)[truth != OTHER].mean()),
        "out of scope told, tuned": float((predicted == OTHER)[truth == OTHER].mean()),
    }


def with_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Give means over the seeds, and the standard errors of the means, by method."""
    groups = table.groupby("method", sort=False)
    parts = {"mean": groups.mean().T, "error": groups.sem().T}
    columns = {
        f"{'' if kind == 'mean' else '± '}{name}": part[name]
        for name in parts["mean"]
        for kind, part in parts.items()
    }
    return pd.DataFrame(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--limit", type=int, default=1000, help="so many test rows")
    parser.add_argument("--tune", type=int, default=1000, help="so many rows to tune the limit on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="of the gliclass pipeline")
    parser.add_argument("--without-gliclass", action="store_true")
    args = parser.parse_args()

    rows = read_intents(args.data / "eval" / "clinc150.jsonl.gz", args.limit)
    tune = read_intents(args.data / "tune" / "clinc150.jsonl.gz", args.tune)
    intents = labels_of(rows)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        classifier = GLiClassClassifier(args.model, intents)
        methods = {"skgliclass": make_best(classifier)}
        if not args.without_gliclass:
            methods["gliclass"] = make_gliclass_best(classifier, folder, args.batch_size)
        for seed in range(args.seeds):
            chosen = np.random.default_rng(seed).choice(len(intents), N_HELD_OUT, replace=False)
            labels = [name for i, name in enumerate(intents) if i not in set(chosen.tolist())]
            for name, best in methods.items():
                values = measure(best, rows, labels)
                if name == "skgliclass":
                    values |= measure_tuned(args.model, tune, rows, labels)
                results.append({"method": name, **values})
    print_markdown(with_errors(pd.DataFrame(results)))


if __name__ == "__main__":
    main()
