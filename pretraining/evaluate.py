"""Judge trained models, averages of them, and what lies between these and the backbone.

    python pretraining/evaluate.py --data FOLDER mini run-a/model+run-b/model --strength 0.8 1.0

Each positional argument is a model, or several whose weights are averaged: ``a+b``, or with weights
``a*2+b``. Each is judged at every strength, which says how far from the backbone it lies, on the
sets of FOLDER/eval: macro-F1 where every text has one label, label-ranking average precision where
texts have any number. The backbone's plain cosines come first, and are what `worst` compares with.
With ``--log FILE`` every result is added to it as a line of JSON, and what it holds already is not
computed again, so weights must not change behind a name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, label_ranking_average_precision_score
from torch import Tensor

from skgliclass.datasets.examples import Example
from skgliclass.datasets.files import is_single_label
from skgliclass.engine.engine import Engine
from skgliclass.loading.loaded import LoadedModel
from skgliclass.loading.loader import load_model
from skgliclass.loading.sources import EMBEDDED_HUB_ID
from skgliclass.pretraining.mixture import read_sets
from skgliclass.training.tuned_weights import TunedWeights

PUBLISHED = (
    "ag_news",
    "banking77",
    "enron_spam",
    "financial_phrasebank",
    "imdb",
    "rotten_tomatoes",
    "sst2",
    "sst5",
)
"""The sets of the published comparison."""


@dataclass(frozen=True)
class EvaluationSet:
    """Some rows of a set that share their labels."""

    texts: list[str]
    labels: list[str]
    truth: NDArray[np.bool_]
    single_label: bool

    @classmethod
    def of(cls, rows: list[Example], n_rows: int) -> EvaluationSet:
        """Take the same rows at every call."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:n_rows])
        some = [rows[i] for i in chosen]
        labels = sorted({label for row in rows for label in row.all_labels})
        truth = np.array([[label in row.true_labels for label in labels] for row in some])
        return cls([row.text for row in some], labels, truth, is_single_label(rows))

    def score(self, engine: Engine) -> float:
        """Give macro-F1 over the labels that these rows have, or the average precision."""
        logits = engine.without_warnings().logits(self.texts, self.labels)
        if not self.single_label:
            return float(label_ranking_average_precision_score(self.truth, logits))
        true, predicted = self.truth.argmax(axis=1), logits.argmax(axis=1)
        present = np.unique(true)
        return float(f1_score(true, predicted, labels=present, average="macro", zero_division=0))


@dataclass
class Judge:
    """Scores weights on all sets; what the log holds is not scored again.

    Parameters
    ----------
    sets : dict of str to EvaluationSet
        What is scored on.
    max_length : int
        The longest text in tokens.
    settings : dict
        What makes scores comparable; a part of each line of the log.
    log : Path or None
        Where scores are kept.
    """

    sets: dict[str, EvaluationSet]
    max_length: int
    settings: dict[str, Any]
    log: Path | None
    _backbone: LoadedModel = field(init=False)
    _models: dict[str, dict[str, Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._backbone = load_model(
            EMBEDDED_HUB_ID, architecture="bi-encoder", device="cpu", dtype="float32"
        )

    def scores(self, models: str, strength: float) -> dict[str, float]:
        """Give the score of every set."""
        entry = {"models": models, "strength": strength, **self.settings}
        if (known := self._read(entry)) is not None:
            return known
        engine = Engine(self._between(models, strength), max_length=self.max_length)
        scores = {name: one.score(engine) for name, one in self.sets.items()}
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                rounded = {name: round(value, 5) for name, value in scores.items()}
                file.write(json.dumps({**entry, "scores": rounded}) + "\n")
        return scores

    def _read(self, entry: dict[str, Any]) -> dict[str, float] | None:
        lines = self.log.read_text("utf-8").splitlines() if self.log and self.log.exists() else []
        for kept in map(json.loads, lines):
            scores: dict[str, float] = kept.pop("scores")
            if kept == entry:
                return scores
        return None

    def _between(self, models: str, strength: float) -> LoadedModel:
        """Give the average of some models, drawn back towards the backbone."""
        if models == EMBEDDED_HUB_ID:
            return self._backbone
        shares = list(_shares(models))
        total = sum(share for _, share in shares)
        start = dict(self._backbone.network.named_parameters())
        values = {}
        for name, before in start.items():
            states = [(self._state(model), share / total) for model, share in shares]
            # Only the markers' vectors have no counterpart in the backbone, and nobody reads them.
            changed = [s for s, _ in states if name in s and s[name].shape == before.shape]
            if changed:
                mean = sum((s[name] * share for s, share in states), torch.zeros_like(before))
                values[name] = before.detach() + strength * (mean - before.detach())
        return TunedWeights(values).apply(self._backbone)

    def _state(self, model: str) -> dict[str, Tensor]:
        if model not in self._models:
            loaded = load_model(model, device="cpu", dtype="float32")
            named = loaded.network.named_parameters()
            self._models[model] = {name: value.detach() for name, value in named}
        return self._models[model]


def _shares(models: str) -> Iterable[tuple[str, float]]:
    for part in models.split("+"):
        name, _, share = part.partition("*")
        yield name, float(share or 1)


def summary(scores: dict[str, float], cosine: dict[str, float], single: list[str]) -> str:
    """Give means, the multi-label sets and the set that is worst against the cosine, as cells."""
    known = [name for name in single if name in PUBLISHED]
    others = [name for name in scores if name not in single]
    worst = min(scores, key=lambda name: scores[name] - cosine[name])
    cells = [
        f"{np.mean([scores[name] for name in single]):.4f}",
        f"{np.mean([scores[name] for name in known]):.4f}" if known else "",
        " ".join(f"{scores[name]:.3f}" for name in others),
        f"{worst} {scores[worst] - cosine[worst]:+.3f}",
    ]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="MODEL, or MODEL+MODEL*SHARE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--strength", type=float, nargs="+", default=[1.0])
    parser.add_argument("--rows", type=int, default=300, help="of each set")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()

    rows = read_sets(args.data / "eval")
    sets = {name: EvaluationSet.of(list(some), args.rows) for name, some in rows.items()}
    single = [name for name, one in sets.items() if one.single_label]
    settings = {"rows": args.rows, "max_length": args.max_length}
    judge = Judge(sets, args.max_length, settings, args.log)
    cosine = judge.scores(EMBEDDED_HUB_ID, 1.0)
    judged = {"backbone": cosine}
    print("| weights | strength | mean | published | LRAP | worst against cosine |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| backbone | | {summary(cosine, cosine, single)} |", flush=True)
    for models in args.models:
        for strength in args.strength:
            scores = judged[f"{models} at {strength:g}"] = judge.scores(models, strength)
            line = summary(scores, cosine, single)
            print(f"| {models} | {strength:g} | {line} |", flush=True)
    print(f"\n| set | {' | '.join(judged)} |\n|{' --- |' * (len(judged) + 1)}")
    for name in sets:
        print(f"| {name} | {' | '.join(f'{s[name]:.3f}' for s in judged.values())} |")


if __name__ == "__main__":
    main()
