"""Compare fitting a few examples a class with SetFit, embeddings and TF-IDF, on the same splits.

    pip install -c constraints.txt ".[mini,benchmarks]"
    python benchmarks/few_shot.py --data FOLDER

Reads FOLDER/tune/*.jsonl.gz (to draw training examples from) and FOLDER/eval/*.jsonl.gz (to test
on) in the GLiClass format. For each set, number of examples a class and seed it draws one training
set and gives it to these methods, with their defaults besides what is named:

- ours: ``GLiClassClassifier(labels=...)`` or its multi-label sibling, which by default learns label
  vectors alone from so few rows;
- all weights: the same with ``trainable="all"``;
- embeddings: logistic regression on the vectors that ``GLiClassTransformer`` gives;
- SetFit (Tunstall et al. 2022) on the same MiniLM weights: one pass over all pairs, as is its
  default, but no more texts than 3,200 or, if that is more, three passes over the examples, and
  never less than ``--setfit-steps`` steps (32 examples of each of 77 classes make six million
  pairs); this is at least as many as ours reads;
- TF-IDF with logistic regression.

Prints macro-F1 as mean and standard deviation over the seeds, and the seconds of fitting. Finished
fits are appended to ``--results``, and a repeated run goes on from there.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

SETS = [
    "ag_news",
    "atis",
    "banking77",
    "financial_phrasebank",
    "situation",
    "sst2",
    "sst5",
    "tweet_emotion",
]
SHOTS = [0, 8, 32]
BATCH_SIZE = 16


class Task:
    """One data set: texts and label names for training and testing."""

    def __init__(self, data: Path, name: str, test_rows: int) -> None:
        self.name = name
        self.train = read_set(data / "tune" / f"{name}.jsonl.gz")
        test = read_set(data / "eval" / f"{name}.jsonl.gz")
        self.test = test.sample(min(test_rows, len(test)), random_state=0)
        self.labels = sorted({label for names in test["all_labels"] for label in names})
        self.multi_label = bool((test["true_labels"].str.len() != 1).any())

    def draw(self, n: int, seed: int) -> pd.DataFrame:
        """Draw `n` rows that have each class, or all there are if fewer."""
        rows = self.train.sample(frac=1, random_state=seed)
        chosen: dict[int, None] = {}
        for label in self.labels:
            has = rows["true_labels"].map(lambda names, label=label: label in names)
            already = sum(has[i] for i in chosen) if self.multi_label else 0
            new = [i for i in rows.index[has] if i not in chosen][: max(0, n - already)]
            chosen.update(dict.fromkeys(new))
        return rows.loc[list(chosen)].sample(frac=1, random_state=seed)

    def target(self, rows: pd.DataFrame) -> np.ndarray:
        """One class a text, or a 0/1 matrix."""
        if self.multi_label:
            names = rows["true_labels"].map(set)
            return np.array([[label in own for label in self.labels] for own in names], dtype=int)
        return rows["true_labels"].str[0].to_numpy(dtype=str)

    def score(self, predicted: np.ndarray) -> float:
        """Macro-F1 on the test rows."""
        labels = None if self.multi_label else self.labels
        return float(
            f1_score(
                self.target(self.test), predicted, average="macro", labels=labels, zero_division=0
            )
        )


def read_set(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return pd.DataFrame([json.loads(line) for line in file])


def ours(
    task: Task,
    train: pd.DataFrame,
    seed: int,
    args: argparse.Namespace,
    trainable: str = "auto",
) -> Any:
    from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

    kind = GLiClassMultiLabelClassifier if task.multi_label else GLiClassClassifier
    classifier = kind(model=args.model, labels=task.labels, trainable=trainable, random_state=seed)
    if len(train):
        classifier.fit(train["text"].tolist(), task.target(train))
    return classifier.predict


def all_weights(task: Task, train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Any:
    return ours(task, train, seed, args, trainable="all")


def embeddings(task: Task, train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    from skgliclass import GLiClassTransformer

    # Vectors of length one need a weaker penalty than the default's.
    classifier: Any = LogisticRegression(C=30, max_iter=1000)
    if task.multi_label:
        classifier = OneVsRestClassifier(classifier)
    encoder = GLiClassTransformer(model=args.model, output="embeddings")
    pipeline = make_pipeline(encoder, classifier)
    return pipeline.fit(train["text"].tolist(), task.target(train)).predict


def tf_idf(task: Task, train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    classifier: Any = LogisticRegression(max_iter=1000, class_weight="balanced")
    if task.multi_label:
        classifier = OneVsRestClassifier(classifier)
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), classifier)
    return pipeline.fit(train["text"], task.target(train)).predict


def setfit(task: Task, train: pd.DataFrame, seed: int, args: argparse.Namespace) -> Any:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from skgliclass.loading.sources import find_source

    column = {label: j for j, label in enumerate(task.labels)}
    target = task.target(train)
    model = SetFitModel.from_pretrained(
        str(find_source("mini").folder),
        multi_target_strategy="one-vs-rest" if task.multi_label else None,
        # As for TF-IDF: without it, a rare label of many is never predicted.
        head_params={"class_weight": "balanced"} if task.multi_label else {},
        device="cpu",
    )
    values = target.tolist() if task.multi_label else [column[label] for label in target]
    own = target @ target.T if task.multi_label else target[:, None] == target
    n_positive = int(np.triu(own > 0, 1).sum())
    n_pairs = 2 * max(n_positive, len(train) * (len(train) - 1) // 2 - n_positive)
    n_passes = np.clip(round(3200 / len(train)), 3, 20)
    limit = max(args.setfit_steps, int(n_passes * len(train)) // (2 * BATCH_SIZE))
    arguments = TrainingArguments(
        batch_size=BATCH_SIZE,
        max_steps=min(-(-n_pairs // BATCH_SIZE), limit),
        seed=seed,
        save_strategy="no",
        report_to="none",
        show_progress_bar=False,
        use_amp=False,
        output_dir=str(Path(args.results).parent / "setfit"),
    )
    data = Dataset.from_dict({"text": train["text"].tolist(), "label": values})
    Trainer(model=model, args=arguments, train_dataset=data).train()

    def predict(texts: list[str]) -> np.ndarray:
        predicted = np.asarray(model.predict(texts, show_progress_bar=False))
        return predicted if task.multi_label else np.asarray(task.labels)[predicted]

    return predict


METHODS: dict[str, Callable[..., Any]] = {
    "ours": ours,
    "all weights": all_weights,
    "SetFit": setfit,
    "embeddings": embeddings,
    "TF-IDF": tf_idf,
}


def measure(task: Task, method: str, n: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    train = task.draw(n, seed)
    start = time.perf_counter()
    predict = METHODS[method](task, train, seed, args)
    seconds = time.perf_counter() - start
    score = task.score(predict(task.test["text"].tolist()))
    return {
        "set": task.name,
        "method": method,
        "examples": n,
        "seed": seed,
        "rows": len(train),
        "macro-F1": score,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini", help="of ours")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--shots", nargs="*", type=int, default=SHOTS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--test-rows", type=int, default=1000, help="of each set, at most")
    parser.add_argument("--setfit-steps", type=int, default=50)
    parser.add_argument("--results", type=Path, default=Path("few_shot.jsonl"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")

    done = [json.loads(line) for line in args.results.open()] if args.results.exists() else []
    known = {(r["set"], r["method"], r["examples"], r["seed"]) for r in done}
    tasks = [Task(args.data, name, args.test_rows) for name in args.sets]
    for n in args.shots:
        for seed in args.seeds if n else args.seeds[:1]:
            for task, method in itertools.product(tasks, args.methods if n else ["ours"]):
                if (task.name, method, n, seed) in known:
                    continue
                row = measure(task, method, n, seed, args)
                print(row, flush=True)
                done.append(row)
                with args.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print_table(pd.DataFrame(done), args)


def print_table(results: pd.DataFrame, args: argparse.Namespace) -> None:
    """Print a row for each set, a column for each method and number of examples."""
    results = results[results["set"].isin(args.sets) & results["examples"].isin(args.shots)]
    columns = [(m, n) for n in args.shots for m in (args.methods if n else ["ours"])]
    titles = [f"{m}, {n}" if n else "zero-shot" for m, n in columns]
    print(f"\n| set | {' | '.join(titles)} |\n|{'---|' * (len(columns) + 1)}")
    means = []
    for name in args.sets:
        cells = []
        for method, n in columns:
            own = results["method"].eq(method) & results["examples"].eq(n)
            scores = results.loc[own & results["set"].eq(name), "macro-F1"]
            cells.append((scores.mean(), scores.std(ddof=0)))
        means.append([mean for mean, _ in cells])
        shown = [f"{m:.3f} ± {s:.3f}" if s else f"{m:.3f}" for m, s in cells]
        print(f"| {name} | {' | '.join(shown)} |")
    print(f"| average | {' | '.join(f'{m:.3f}' for m in np.mean(means, axis=0))} |")
    seconds = results.groupby(["examples", "method"])["seconds"].mean()
    print("\nSeconds of fitting, mean:\n" + seconds.round(1).to_string())


if __name__ == "__main__":
    main()
