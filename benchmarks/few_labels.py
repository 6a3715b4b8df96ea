"""Measure learning from few labels or none, on a folder of labelled sets.

    python benchmarks/few_labels.py --data FOLDER [--tables labels never-worse choice auto many]

Reads FOLDER/eval/*.jsonl.gz (to test on) and FOLDER/tune/*.jsonl.gz (labelled rows and texts
without labels) in the GLiClass format. All methods are used as a user would, so that texts are
encoded anew for each fit: all of it takes many hours, and a part of the sets, seeds or numbers of
rows is a good beginning. With ``--remember`` each text is encoded once, for fits that leave the
weights as they are: the same figures, but for the seconds, in an hour. Finished measurements are
appended to ``--results``, and a repeated run goes on from there.

- ``labels``: labelled rows a class against methods; macro-F1, or label ranking average precision
  where texts have any number of labels; the expected calibration error; the seconds of the fit; and
  how far the worst set ends below zero-shot.
- ``never-worse``: what texts alone change against zero-shot: 30 to 1,500 of them, skewed (one class
  is nine times as frequent as the others, or nine in ten) and foreign (of another set).
- ``choice``: rows that ``suggest_rows`` chose against random ones, by labels a class on average.
- ``auto``: what is trained (``--trainable``), at 8, 32 and 128 rows a class and with all rows of
  ``tune`` (a number that no class reaches), with the seconds. Its sets are ``--auto-sets``.
- ``many``: seconds and memory of a fit beyond encoding, of 1,000,000 made-up text vectors
  (``--many-rows``) and 100 labels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from few_shot import Task, embeddings, tf_idf
from sklearn.metrics import f1_score, label_ranking_average_precision_score
from zero_shot import find_sets, print_markdown

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.estimators.label_fit import LabelOptions, learn
from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.learnt_rows import LearntRows
from skgliclass.estimators.state import FitState
from skgliclass.estimators.tuning import Tunes, tuned
from skgliclass.modeling import bi_encoder
from skgliclass.modeling.losses import LossOptions
from skgliclass.modeling.passes import run_encoder
from skgliclass.modeling.pooling import pool

LONGEST = 1500
SHOTS = [0, 1, 4, 8, 32]
POOLS = {
    "30": 30,
    "100": 100,
    "300": 300,
    "1500": 1500,
    "nine times": 1500,
    "nine in ten": 1500,
    "foreign": 1500,
}
AUTO_SETS = ["ag_news", "atis", "sst2", "tweet_emotion"]
AUTO_SHOTS = [8, 32, 128, 100_000]


class Pool(Task):
    """One data set with texts of which nobody sees the labels."""

    def __init__(self, data: Path, name: str, test_rows: int, n_texts: int) -> None:
        super().__init__(data, name, test_rows)
        for frame in (self.train, self.test):
            frame["text"] = frame["text"].str[:LONGEST]
        self.train = self.train.sample(min(n_texts, len(self.train)), random_state=1)

    def classifier(self, trainable: str, seed: int) -> Any:
        """Make one for the labels, without any fit."""
        kind = GLiClassMultiLabelClassifier if self.multi_label else GLiClassClassifier
        return kind(labels=self.labels, trainable=trainable, random_state=seed)

    def score(self, predicted: np.ndarray) -> float:
        """Macro-F1 over the classes that any test row has."""
        target = self.target(self.test)
        # By default a class that no test row has would count 0 once it is predicted.
        classes = {} if self.multi_label else {"labels": np.unique(target)}
        return float(f1_score(target, predicted, average="macro", **classes))

    def judge(self, classifier: Any) -> dict[str, float]:
        """Macro-F1 with the calibration error, or label ranking average precision."""
        scores = classifier.predict_proba(self.test["text"].tolist())
        target = self.target(self.test)
        if self.multi_label:
            return {"value": float(label_ranking_average_precision_score(target, scores))}
        predicted = classifier.classes_[scores.argmax(axis=1)]
        error = calibration_error(scores.max(axis=1), predicted == target)
        return {"value": self.score(predicted), "ece": error}


def calibration_error(confidence: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    """Give how far, on average, the share that is right lies from what was said."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    sums = [abs((right - confidence)[bins == k].sum()) for k in range(n_bins)]
    return float(sum(sums) / len(right))


class RememberedTexts:
    """Runs the embedded model's encoder once for each sequence of tokens.

    In the place of hidden states it gives the pooled vector at every position, since the model
    pools by their mean.
    """

    def __init__(self) -> None:
        self._pooled: dict[bytes, torch.Tensor] = {}

    def __call__(
        self, encoder: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, read: Any
    ) -> torch.Tensor:
        """Give the vectors in the shape of hidden states."""
        assert not torch.is_grad_enabled(), "only weights that stay as they are can be remembered"
        pairs = zip(input_ids, attention_mask.sum(dim=1).tolist(), strict=True)
        keys = [row[:length].numpy().tobytes() for row, length in pairs]
        new = [i for i, key in enumerate(keys) if key not in self._pooled]
        if new:
            mask = attention_mask[new]
            vectors = pool(run_encoder(encoder, input_ids[new], mask), mask, "avg")
            self._pooled.update(zip([keys[i] for i in new], vectors, strict=True))
        pooled = torch.stack([self._pooled[key] for key in keys])
        return pooled[:, None].expand(-1, input_ids.shape[1], -1)


def linear(task: Pool, rows: pd.DataFrame, seed: int) -> Any:
    """Fit logistic regression to the texts' vectors."""
    return embeddings(task, rows, seed, argparse.Namespace(model="mini")).__self__


def words(task: Pool, rows: pd.DataFrame, seed: int) -> Any:
    """Fit logistic regression to the texts' words."""
    return tf_idf(task, rows, seed, argparse.Namespace()).__self__


def fitted(trainable: str, with_texts: bool) -> Callable[..., Any]:
    """Give what fits our classifier to labelled rows, with the other texts or without."""

    def fit(task: Pool, rows: pd.DataFrame, seed: int) -> Any:
        classifier = task.classifier(trainable, seed)
        others = task.train.drop(rows.index)["text"].tolist()
        if not len(rows):
            return classifier.fit(others) if with_texts else classifier
        texts, target = rows["text"].tolist(), task.target(rows)
        return classifier.fit(
            texts, target, **({"unlabelled": others} if with_texts and others else {})
        )

    return fit


METHODS: dict[str, Callable[..., Any]] = {
    "LogisticRegression": linear,
    "TF-IDF": words,
    "labels alone": fitted("labels", with_texts=False),
    "with texts": fitted("labels", with_texts=True),
    "all": fitted("all", with_texts=False),
}
WITHOUT_ROWS = ["labels alone", "with texts"]


def skewed(task: Pool, kind: str, n_texts: int, seed: int) -> list[str]:
    """Give texts of which one class has too many."""
    rng = np.random.default_rng(seed)
    target = task.target(task.train)
    has = target == rng.choice(np.unique(target))
    n_others = has.sum() if kind == "nine in ten" else (~has).sum()
    others = rng.permutation(np.flatnonzero(~has))[: max(1, int(n_others) // 9)]
    rows = rng.permutation(np.concatenate([np.flatnonzero(has), others]))[:n_texts]
    return task.train["text"].iloc[rows].tolist()


def texts_of(task: Pool, tasks: list[Pool], kind: str, seed: int) -> list[str]:
    if kind.startswith("nine"):
        return skewed(task, kind, POOLS[kind], seed)
    if kind == "foreign":
        task = tasks[(tasks.index(task) + 1 + 4 * seed) % len(tasks)]
    n_texts = min(POOLS[kind], len(task.train))
    return task.train["text"].sample(n_texts, random_state=seed).tolist()


def timed(task: Pool, fit: Callable[[], Any]) -> dict[str, float]:
    """Fit and judge."""
    start = time.perf_counter()
    classifier = fit()
    seconds = time.perf_counter() - start
    return {**task.judge(classifier), "seconds": seconds}


def measured_labels(tasks: list[Pool], args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    for task, n, method in itertools.product(tasks, args.shots, args.methods):
        if n or method in WITHOUT_ROWS:
            for seed in args.seeds if n else args.seeds[:1]:
                fit = METHODS[method]
                key = ("labels", task.name, str(n), method, seed)
                rows = task.draw(n, seed)
                yield key, lambda t=task, r=rows, s=seed, f=fit: timed(t, lambda: f(t, r, s))


def measured_never_worse(tasks: list[Pool], args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    singles = [task for task in tasks if not task.multi_label]
    for task, kind, seed in itertools.product(singles, POOLS, args.seeds):

        def change(task: Pool = task, kind: str = kind, seed: int = seed) -> Any:
            classifier = task.classifier("labels", seed)
            before = task.judge(classifier)["value"]
            after = task.judge(classifier.fit(texts_of(task, singles, kind, seed)))["value"]
            return {"value": after - before}

        yield ("never-worse", task.name, kind, "change", seed), change


def measured_choice(tasks: list[Pool], args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    small = [task for task in tasks if not task.multi_label and len(task.labels) <= 20]
    options = itertools.product(small, [1, 2, 4, 8], ["suggested", "random"], args.seeds)
    for task, n, way, seed in options:

        def score(task: Pool = task, n: int = n, way: str = way, seed: int = seed) -> Any:
            classifier = task.classifier("labels", seed)
            n_rows = min(n * len(task.labels), len(task.train))
            if way == "random":
                rows = np.random.default_rng(seed).permutation(len(task.train))[:n_rows]
            else:
                rows = classifier.suggest_rows(task.train["text"].tolist(), n_rows)
            return task.judge(fitted("labels", with_texts=True)(task, task.train.iloc[rows], seed))

        yield ("choice", task.name, str(n), way, seed), score


def measured_auto(tasks: list[Pool], args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    names = [task.name for task in tasks if task.name in args.auto_sets]
    tasks = [Pool(args.data, name, args.test_rows, n_texts=10**6) for name in names]
    for task, n, trainable in itertools.product(tasks, args.auto_shots, args.trainable):
        for seed in args.seeds:
            fit, rows = fitted(trainable, with_texts=False), task.draw(n, seed)
            key = ("auto", task.name, str(n), trainable, seed)
            yield key, lambda t=task, r=rows, s=seed, f=fit: timed(t, lambda: f(t, r, s))


TABLES = {
    "labels": measured_labels,
    "never-worse": measured_never_worse,
    "choice": measured_choice,
    "auto": measured_auto,
}


def many_rows(n_rows: int, n_labels: int = 100, width: int = 384) -> None:
    """Print what a fit of many rows takes beyond encoding them.

    It is the whole of what ``fit`` does with their vectors, a temperature on rows that are held out
    included.
    """
    rows = made_up_rows(n_rows, n_labels, width)
    names = [f"label {k}" for k in range(n_labels)]
    options = LabelOptions(multi_label=False, penalty=None, loss=LossOptions(focal_gamma=0.0))
    before, start = peak(), time.perf_counter()
    learnt = learn(rows, rows.merged(), names, None, options, holds_out=True)
    assert learnt.evidence is not None
    state = FitState(LabelSet.from_labels(names, sort=False), change=learnt.change)
    temperature = tuned(state, Tunes(temperature=True), learnt.evidence, False).temperature
    seconds = time.perf_counter() - start
    print(f"{n_rows:,} rows, {n_labels} labels: {seconds:.0f} s, {learnt.n_iter} steps, ", end="")
    print(
        f"{peak() - before:.0f} MiB beyond the {before:.0f} MiB of vectors, logits and targets ",
        end="",
    )
    print(f"(temperature {temperature:.2f})")


def made_up_rows(n_rows: int, n_labels: int, width: int) -> LearntRows:
    """Give rows around as many directions as there are labels, as a fit keeps them."""
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(n_labels, width)).astype(np.float32)
    rows = LearntRows.blank(n_rows, n_labels, width)
    for i in range(0, n_rows, 1 << 16):
        part = slice(i, min(n_rows, i + (1 << 16)))
        classes = rng.integers(n_labels, size=part.stop - i)
        x = labels[classes] + 4 * rng.standard_normal((len(classes), width), dtype=np.float32)
        rows.x[part] = x / np.linalg.norm(x, axis=1, keepdims=True)
        rows.logits[part] = 17 * rows.x[part] @ (labels / np.linalg.norm(labels, axis=1)[:, None]).T
        rows.targets[part][np.arange(len(classes)), classes] = 1
    return rows


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(results: pd.DataFrame) -> None:
    """Print a table for each figure; of those against zero-shot, the worst set as well."""
    for table, rows in results.groupby("table", sort=False):
        for figure in ("value", "ece", "seconds"):
            if figure in rows and rows[figure].notna().any():
                frame = of_sets(rows, figure)
                frame.loc["average"] = frame.mean()
                print(f"\n{table}: {figure}\n")
                print_markdown(frame.astype(float))
        change = of_sets(rows, "value")
        if table == "labels" and "0 labels alone" in change:
            change = change.sub(change["0 labels alone"], axis=0)
        if table in ("labels", "never-worse"):
            print("\nThe worst set against zero-shot:\n")
            for column in change:
                least = change[column].sort_values().head(1)
                print("-", column, *least.index, *least.map("{:+.3f}".format))


def of_sets(rows: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Give means over seeds, a row for each set."""
    means = rows.groupby(["set", "rows", "method"], sort=False)[figure].mean()
    frame = means.unstack(["rows", "method"])
    frame.columns = [" ".join(column) for column in frame.columns]
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="needed for all tables but many")
    parser.add_argument("--tables", nargs="*", default=[*TABLES, "many"], choices=[*TABLES, "many"])
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--shots", nargs="*", type=int, default=SHOTS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--trainable", nargs="*", default=["labels", "all", "auto"])
    parser.add_argument("--auto-sets", nargs="*", default=AUTO_SETS)
    parser.add_argument("--auto-shots", nargs="*", type=int, default=AUTO_SHOTS)
    parser.add_argument("--test-rows", type=int, default=2000, help="of each set, at most")
    parser.add_argument("--unlabelled", type=int, default=1500, help="of each set, at most")
    parser.add_argument("--many-rows", type=int, default=1_000_000)
    parser.add_argument("--remember", action="store_true", help="encode each text once")
    parser.add_argument("--results", type=Path, default=Path("few_labels.jsonl"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.remember:
        mock.patch.object(bi_encoder, "run_encoder", RememberedTexts()).start()

    if args.tables != ["many"]:
        if args.data is None:
            parser.error("--data is needed for these tables")
        tune = find_sets(args.data / "tune", args.sets)
        names = [name for name in find_sets(args.data / "eval", args.sets) if name in tune]
        tasks = [Pool(args.data, name, args.test_rows, args.unlabelled) for name in names]
    done = [json.loads(line) for line in args.results.open()] if args.results.exists() else []
    known = {(r["table"], r["set"], r["rows"], r["method"], r["seed"]) for r in done}
    for key, measure in itertools.chain(
        *(TABLES[table](tasks, args) for table in args.tables if table in TABLES)
    ):
        if key not in known:
            row = dict(zip(["table", "set", "rows", "method", "seed"], key, strict=True))
            done.append({**row, **measure()})
            with args.results.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    if done:
        show(pd.DataFrame(done))
    if "many" in args.tables:
        many_rows(args.many_rows)


if __name__ == "__main__":
    main()
