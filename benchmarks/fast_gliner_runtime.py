"""Compare single texts and many with ``fast-gliner``, which runs GLiClass in Rust by ONNX Runtime.

    pip install -c constraints.txt ".[mini,onnx]" && pip install --no-deps fast-gliner
    python benchmarks/fast_gliner_runtime.py --data FOLDER

(``--no-deps``, as it asks for an older ``huggingface-hub``, which it needs for downloads alone.)
Both read the same uni-encoder (see `inference.py`) with the same labels in float32, in turns
(A B A B ...). ``fast-gliner`` takes one text a call and as many threads as there are cores. It
accepts graphs whose inputs are ``input_ids`` and ``attention_mask`` alone, so that the graph that
this package writes gets three nodes before it, which find the labels in the prompt.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from fast_gliner import FastGLiClass
from inference import SETS, make_checkpoint, make_engine, read_labels, read_texts, with_range
from onnx import TensorProto, helper

from skgliclass import GLiClassMultiLabelClassifier
from skgliclass.export import export_onnx


def write_for_fast_gliner(checkpoint: Path, folder: Path) -> None:
    """Write a checkpoint in the layout and with the inputs that ``fast-gliner`` expects."""
    engine = make_engine(checkpoint)
    graph_folder = export_onnx(engine.loaded, folder / "onnx")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(checkpoint / name, folder)
    model = onnx.load(graph_folder / "model.onnx")
    graph = model.graph
    (positions,) = (given for given in graph.input if given.name == "label_positions")
    graph.input.remove(positions)
    numbers = {"label_id": ([], engine.composer.label_id), "axis": ([1], 1)}
    graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, shape, [value])
        for name, (shape, value) in numbers.items()
    )
    found = [
        helper.make_node("Equal", ["input_ids", "label_id"], ["is_label"]),
        helper.make_node("NonZero", ["is_label"], ["places"]),
        # Of a batch of one the places in the row are those of all labels.
        helper.make_node("Gather", ["places", "axis"], ["label_positions"], axis=0),
    ]
    nodes = [*found, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, graph_folder / "model.onnx")


def probabilities(theirs: Any, text: str, labels: list[str]) -> list[float]:
    by_label = dict(theirs.classify(text, labels))
    return [by_label[label] for label in labels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--single-texts", type=int, default=60)
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()

    texts = read_texts(args.data, SETS, args.texts, 0)
    labels = read_labels(args.data, "clinc150")[: args.labels]
    with tempfile.TemporaryDirectory() as name:
        checkpoint, folder = Path(name) / "checkpoint", Path(name) / "exported"
        checkpoint.mkdir()
        folder.mkdir()
        make_checkpoint(checkpoint)
        write_for_fast_gliner(checkpoint, folder)
        ours = GLiClassMultiLabelClassifier(str(checkpoint), labels)
        theirs = FastGLiClass.from_pretrained(str(folder))
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(labels)} labels")
        # Texts that fit into the prompt; longer ones are cut at other places.
        short = [text for text in texts if len(text) < 400][: args.single_texts]
        difference = np.abs(
            ours.predict_proba(short) - [probabilities(theirs, text, labels) for text in short]
        ).max()
        print(f"largest difference of probabilities: {difference:.1e}\n")
        print_single(ours, theirs, short, labels)
        if args.turns:
            print_many(ours, theirs, texts, labels, args.turns)


def print_single(ours: Any, theirs: Any, texts: list[str], labels: list[str]) -> None:
    """Time single texts in turns; for each how many times as long theirs takes."""
    calls = (lambda text: ours.predict_proba([text]), lambda text: theirs.classify(text, labels))
    seconds = np.empty((len(texts), 2))
    for i, text in enumerate(texts):
        # Which comes first changes, since the second may find something in the cache.
        for j in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            calls[j](text)
            seconds[i, j] = time.perf_counter() - start
    print("| one text | p50, ms | p99, ms |\n|---|---|---|")
    for name, own in zip(("this package", "fast-gliner"), seconds.T, strict=True):
        print("| {} | {:.1f} | {:.1f} |".format(name, *np.percentile(own * 1e3, [50, 99])))
    print(f"\nfast-gliner takes {np.median(seconds[:, 1] / seconds[:, 0]):.2f} times as long\n")


def print_many(ours: Any, theirs: Any, texts: list[str], labels: list[str], n_turns: int) -> None:
    seconds = np.empty((n_turns, 2))
    for turn in range(n_turns):
        start = time.perf_counter()
        ours.predict_proba(texts)
        middle = time.perf_counter()
        for text in texts:
            theirs.classify(text, labels)
        seconds[turn] = middle - start, time.perf_counter() - middle
    rates = len(texts) / np.median(seconds, axis=0)
    print(f"{len(texts)} texts: {rates[0]:.0f} a second, fast-gliner {rates[1]:.0f}; ", end="")
    print(f"{with_range(seconds[:, 1] / seconds[:, 0])} times as fast")


if __name__ == "__main__":
    main()
