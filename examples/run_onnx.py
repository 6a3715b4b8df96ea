"""Classify with an exported model; needs onnxruntime, tokenizers and numpy, nothing else.

python examples/run_onnx.py FOLDER "One day I will see the world!" --labels travel dreams sport
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


def main() -> None:
    """Print the logits of texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--task-description", default="")
    args = parser.parse_args()
    scores = open_model(args.folder).logits(args.texts, args.labels, args.task_description)
    for text, row in zip(args.texts, scores, strict=True):
        print(text)
        for i in np.argsort(-row, kind="stable"):
            print(f"  {row[i]:8.3f}  {args.labels[i]}")


if __name__ == "__main__":
    main()
