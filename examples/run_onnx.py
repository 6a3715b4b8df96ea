"""Classify with an exported model; needs onnxruntime, tokenizers and numpy, nothing else.

python examples/run_onnx.py FOLDER "One day I will see the world!" --labels travel dreams sport

The folder of an exported classifier has classes of its own, so that it needs no ``--labels``; its
temperature, thresholds and `other` then decide, as in the ``predict`` of the classifier. Where the
graphs hold what was learnt for these classes alone, they take no others.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Pieces:
    """Tokenises texts and labels so that no character in them becomes a special token."""

    def __init__(self, file: Path, rules: dict[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        self.rules = rules
        spelled = "|".join(map(re.escape, rules["special_tokens"]))
        self.special = re.compile(f"(?={spelled})" if spelled else "(?!)")

    def encode(self, piece: str, after_marker: bool = False) -> list[int]:
        """Give the token ids of a piece of the prompt."""
        anchor = (self.rules["anchor"] or "") if after_marker else ""
        cuts = [match.start() + 1 for match in self.special.finditer(piece)]
        ids: list[int] = []
        for start, stop in zip([0, *cuts], [*cuts, None], strict=True):
            part = self.tokenizer.encode(anchor + piece[start:stop], add_special_tokens=False).ids
            ids += part[1:] if anchor else part
        special, substitute = set(self.rules["special_ids"]), self.rules["substitute_ids"]
        return [token for i in ids for token in (substitute if i in special else [i])]

    def framed(self, ids: list[int], max_length: int) -> list[int]:
        """Cut a sequence to fit, and put the tokenizer's special tokens around it."""
        prefix, suffix = self.rules["prefix_ids"], self.rules["suffix_ids"]
        return [*prefix, *ids[: max_length - len(prefix) - len(suffix)], *suffix]

    def padded(self, rows: list[list[int]]) -> dict[str, np.ndarray]:
        """Make the model's inputs of rows of different lengths."""
        mask = pad([[1] * len(row) for row in rows], 0)
        return {"input_ids": pad(rows, self.rules["pad_id"]), "attention_mask": mask}


def pad(rows: list[list[int]], value: int) -> np.ndarray:
    """Put rows of different lengths in one array."""
    array = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array


class UniEncoder:
    """One graph, which reads the labels together with the text."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.prompt, self.max_length = settings["prompt"], settings["max_length"]
        self.pieces = Pieces(folder / "tokenizer.json", settings["text"])
        self.model = load(folder / "model.onnx")

    def logits(
        self, texts: Sequence[str], labels: Sequence[str], task_description: str = ""
    ) -> np.ndarray:
        """Score every text against every label."""
        own = [[self.prompt["label_id"], *self.pieces.encode(label, True)] for label in labels]
        label_ids = [token for ids in own for token in ids]
        task, joiner = task_description, self.prompt["task_joiner"]
        parts = {"labels": label_ids, "separator": [self.prompt["separator_id"]], "task": []}
        if task and joiner is None:
            parts["task"] = self.pieces.encode(task, True)
        elif task:
            texts = [task + joiner + text for text in texts]
        rows = [self._row(parts, text) for text in texts]
        places = [[i for i, t in enumerate(r) if t == self.prompt["label_id"]] for r in rows]
        inputs = {**self.pieces.padded(rows), "label_positions": np.asarray(places, dtype=np.int64)}
        return self.model.run(["logits"], inputs)[0]

    def _row(self, parts: dict[str, list[int]], text: str) -> list[int]:
        ids = self.pieces.encode(text, self.prompt["text_after_marker"])
        used = len(self.pieces.framed([], self.max_length)) + sum(map(len, parts.values()))
        if used >= self.max_length:
            raise ValueError(
                f"The labels take {used} of {self.max_length} tokens, so that no text fits beside "
                "them. Score them in several parts."
            )
        found = {**parts, "text": ids[: self.max_length - used]}
        ordered = [token for name in self.prompt["order"] for token in found[name]]
        return self.pieces.framed(ordered, self.max_length)


class BiEncoder:
    """Three graphs: text vectors, label vectors, and what compares them."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        own = folder / "label_tokenizer.json"
        self.text_pieces = Pieces(folder / "tokenizer.json", settings["text"])
        self.label_pieces = Pieces(
            own if own.exists() else folder / "tokenizer.json", settings["label"]
        )
        self.texts, self.labels = load(folder / "texts.onnx"), load(folder / "labels.onnx")
        self.scorer = load(folder / "scorer.onnx")

    def logits(
        self, texts: Sequence[str], labels: Sequence[str], task_description: str = ""
    ) -> np.ndarray:
        """Score every text against every label."""
        if task_description:
            joiner = self.settings["prompt"]["task_joiner"]
            texts = [task_description + joiner + text for text in texts]
        text_rows = [
            self.text_pieces.framed(self.text_pieces.encode(text), self.settings["max_length"])
            for text in texts
        ]
        vectors = {
            "text_vectors": self.texts.run(None, self.text_pieces.padded(text_rows))[0],
            "label_vectors": self.label_vectors(labels),
        }
        return self.scorer.run(["logits"], vectors)[0]

    def label_vectors(self, labels: Sequence[str]) -> np.ndarray:
        """Encode labels; worth keeping where many texts are scored against the same ones."""
        longest = self.settings["label"]["max_length"]
        rows = [self.label_pieces.framed(self.label_pieces.encode(x), longest) for x in labels]
        return self.labels.run(["label_vectors"], self.label_pieces.padded(rows))[0]


def load(file: Path) -> onnxruntime.InferenceSession:
    """Open a graph to run it on the processor."""
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def open_model(folder: str | Path) -> UniEncoder | BiEncoder:
    """Open an exported folder."""
    folder = Path(folder)
    settings = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    kinds: dict[str, type[UniEncoder | BiEncoder]]
    kinds = {"uni-encoder": UniEncoder, "bi-encoder": BiEncoder}
    return kinds[settings["architecture"]](folder, settings)


class Decision:
    """How a saved classifier turns logits into an answer."""

    def __init__(self, saved: dict[str, Any]) -> None:
        self.saved, self.parameters = saved, plain(saved["parameters"])
        self.classes = plain(saved["classes"])
        # Those of branches, too, where the scores of classes are made along a hierarchy.
        self.nodes = saved.get("nodes")
        self.label_texts = (self.nodes or saved)["label_texts"]
        self.multi_label = "MultiLabel" in saved["estimator"]

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """Make logits of the classes for one text: of those of all nodes, if there are branches."""
        if self.nodes is None:
            return logits
        parents = np.asarray(self.nodes["parents"])
        log_p = -np.logaddexp(0, -logits)
        if not self.multi_label:
            # The softmax over the children of each branch.
            log_p = logits - [np.logaddexp.reduce(logits[parents == p]) for p in parents]
        # A branch comes before what is below it.
        for node, parent in enumerate(parents):
            log_p[node] += log_p[parent] if parent >= 0 else 0
        joint = log_p[self.nodes["classes"]]
        return joint - np.log(np.maximum(-np.expm1(joint), 1e-300)) if self.multi_label else joint

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Give the probability of every class for one text."""
        scaled = self.class_logits(logits.astype(np.float64)) / self.saved["temperature"]
        if self.multi_label:
            return np.exp(-np.logaddexp(0, -scaled))
        powers = np.exp(scaled - scaled.max())
        return powers / powers.sum()

    def answer(self, logits: np.ndarray) -> Any:
        """Give the class of one text, or the list of its classes."""
        found = self.probabilities(logits)
        if self.multi_label:
            return [self.classes[i] for i in np.flatnonzero(found >= self.thresholds())]
        other = self.parameters.get("other")
        if other is not None and found.max() < self.min_probability():
            return other
        return self.classes[int(found.argmax())]

    def thresholds(self) -> np.ndarray:
        """Give the threshold of every class."""
        chosen = self.parameters["threshold"]
        if chosen == "auto":
            chosen = 0.5 if self.saved["thresholds"] is None else self.saved["thresholds"]
        elif isinstance(chosen, dict):
            of_class = {spelled(name): value for name, value in chosen.items()}
            chosen = [of_class[spelled(name)] for name in self.classes]
        return np.broadcast_to(np.asarray(chosen, dtype=np.float64), len(self.classes))

    def min_probability(self) -> float:
        """Give the probability that a class needs, where `other` is an answer."""
        chosen = self.parameters["min_probability"]
        tuned = self.saved.get("min_probability")
        return (0.5 if tuned is None else tuned) if chosen == "auto" else chosen


def plain(written: Any) -> Any:
    """Give the value of what JSON has no type for, which stands there as `$type` and `value`."""
    if isinstance(written, list):
        return [plain(part) for part in written]
    if not isinstance(written, dict):
        return written
    if "$type" not in written:
        return {key: plain(value) for key, value in written.items()}
    kind, value = written["$type"], plain(written["value"])
    if kind in ("dict", "ordered dict"):
        return dict(value)
    if kind in ("numpy array", "numpy scalar"):
        _, shape, values = value
        return np.reshape(values, shape).tolist()
    return value[0] if kind == "pandas series" else value


def spelled(name: Any) -> str:
    """Give a class as a key of JSON, which are all strings."""
    return name if isinstance(name, str) else json.dumps(name)


def open_decision(folder: str | Path) -> Decision | None:
    """Open what an exported classifier knows; None where a bare model was exported."""
    file = Path(folder) / "skgliclass.json"
    saved = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return Decision(saved) if saved and saved["classes"] else None


def main() -> None:
    """Print the answer for each text, and the logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--labels", nargs="+", help="instead of those of an exported classifier")
    parser.add_argument("--task-description", help="by default that of an exported classifier")
    args = parser.parse_args()
    decision = open_decision(args.folder)
    if args.labels and decision is not None and decision.saved.get("keeps_change"):
        parser.error("the graphs hold what was learnt for the classes: leave --labels out")
    decision = None if args.labels else decision
    if decision is None and not args.labels:
        parser.error("the folder holds no classes: --labels is needed")
    labels, task = args.labels, args.task_description or ""
    if decision is not None:
        labels = decision.label_texts
        if args.task_description is None:
            task = decision.parameters.get("task_description") or ""
    scores = open_model(args.folder).logits(args.texts, labels, task)
    for text, row in zip(args.texts, scores, strict=True):
        print(text if decision is None else f"{text}\n  -> {decision.answer(row)}")
        for i in np.argsort(-row, kind="stable"):
            print(f"  {row[i]:8.3f}  {labels[i]}")


if __name__ == "__main__":
    main()
